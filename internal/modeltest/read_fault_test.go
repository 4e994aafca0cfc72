package modeltest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
)

// A Pebble iterator that fails looks like one that has reached its end, so a loop that does not
// check its error silently returns too little. Here each operation that reads a file fails once,
// during the open of a database and during each way of reading all of it. Each way returns
// everything, or the disk's error. A failed read is not cached: the next one returns everything.
func TestReadFaults(t *testing.T) {
	mem, want := readFaultContent(t)
	t.Run("open", func(t *testing.T) {
		refused := sweepReads(t, mem, want, func(disk *testdisk.Disk, opts *braid.Options, arm func()) (*braid.DB, error) {
			arm()
			return open("/db", opts, companion.Environment{FS: disk})
		})
		require.Positive(t, refused)
	})
	for way, read := range readFaultWays {
		t.Run(way, func(t *testing.T) {
			failed := sweepReads(t, mem, want, func(disk *testdisk.Disk, opts *braid.Options, arm func()) (*braid.DB, error) {
				db, err := open("/db", opts, companion.Environment{FS: disk})
				require.NoError(t, err)
				arm()
				got, err := read(t.Context(), db)
				if err == nil {
					require.Equal(t, want[way], got, "a read failed, but %s reports no error", way)
				}
				return db, err
			})
			require.Positive(t, failed)
		})
	}
}

// sweepReads calls run, which arms a disk and reads from it, until run no longer reaches the
// operation that is to fail. It returns how often run failed.
func sweepReads(t *testing.T, mem *vfs.MemFS, want map[string][]string, run func(*testdisk.Disk, *braid.Options, func()) (*braid.DB, error)) (failed int) {
	step := 1
	if testing.Short() {
		step = 3 // odd, since every other one is read-only
	}
	for index := 0; ; index += step {
		disk := testdisk.On(mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))}))
		var n, fired atomic.Int64
		opts := readFaultOptions
		opts.ReadOnly = index%2 == 0
		db, err := run(disk, &opts, func() {
			disk.Before(func(op testdisk.Op) error {
				if op.Kind != errorfs.OpFileRead && op.Kind != errorfs.OpFileReadAt || n.Add(1)-1 != int64(index) {
					return nil
				}
				fired.Add(1)
				return syscall.EIO
			})
		})
		disk.Before(nil)
		if err != nil {
			require.ErrorIs(t, err, syscall.EIO, "read %d", index)
			failed++
		}
		if db != nil {
			for way, read := range readFaultWays {
				got, err := read(t.Context(), db)
				if errors.Is(err, syscall.EIO) { // Pebble was opening the table, and returns the error to all waiters
					got, err = read(t.Context(), db)
				}
				require.NoError(t, err, "after a failure of read %d: %s", index, way)
				require.Equal(t, want[way], got, "after a failure of read %d: %s", index, way)
			}
			require.NoError(t, db.Close())
		}
		if fired.Load() == 0 {
			t.Logf("%d operations read, %d errors", index, failed)
			return failed
		}
	}
}

var readFaultOptions = braid.Options{MemtableBytes: 1 << 20, TailBytes: -1, CacheBytes: -1, KeyProvider: twoKeys, ReserveBytes: -1, Logger: slog.New(slog.DiscardHandler)}

// readFaultWays are the ways to read a database. Each returns everything that it sees, one text per
// item.
var readFaultWays = map[string]func(context.Context, *braid.DB) ([]string, error){
	"stream": func(ctx context.Context, db *braid.DB) (all []string, err error) {
		for _, s := range db.Streams() {
			for r, err := range s.Records(ctx, braid.TrimHorizon()) {
				if err != nil {
					return nil, err
				}
				all = append(all, s.Name()+string(r.Data))
			}
		}
		return all, nil
	},
	"pages": func(ctx context.Context, db *braid.DB) (all []string, err error) {
		for _, s := range db.Streams() {
			for _, sh := range s.Shards() {
				for from, more := braid.TrimHorizon(), true; more; {
					page, err := sh.GetRecords(ctx, from, &braid.GetRecordsOptions{Limit: 7})
					if err != nil {
						return nil, err
					}
					for _, r := range page.Records {
						all = append(all, s.Name()+string(r.Data))
					}
					from, more = page.Next, page.BehindLatest > 0
				}
			}
		}
		return all, nil
	},
	"keys": func(ctx context.Context, db *braid.DB) (all []string, err error) {
		err = db.View(ctx, func(tx *braid.Tx) error {
			for item, err := range tx.Scan(nil, nil) {
				if err != nil {
					return err
				}
				all = append(all, string(item.Key)+string(item.Value))
			}
			return nil
		})
		return all, err
	},
	"key by key": func(ctx context.Context, db *braid.DB) (all []string, err error) {
		err = db.View(ctx, func(tx *braid.Tx) error {
			for i := range readFaultKeys {
				value, err := tx.Get(readFaultKey(i))
				if err != nil {
					return fmt.Errorf("key %d: %w", i, err)
				}
				all = append(all, string(value))
			}
			return nil
		})
		return all, err
	},
}

const readFaultKeys = 60

func readFaultKey(i int) []byte { return fmt.Appendf(nil, "key %03d", i) }

// readFaultContent makes a database that has a part of everything in tables and a part in its log,
// and reads it without a fault.
func readFaultContent(t *testing.T) (*vfs.MemFS, map[string][]string) {
	disk := testdisk.New()
	db, err := openOn(disk, &readFaultOptions)
	require.NoError(t, err)
	random := rand.New(rand.NewPCG(7, 7))
	plain, err := db.OpenStream(t.Context(), "plain", &braid.StreamOptions{Shards: 2})
	require.NoError(t, err)
	sealed, err := db.OpenStream(t.Context(), "sealed", nil)
	require.NoError(t, err)
	require.NoError(t, sealed.StartEncryption(t.Context(), "a"))
	for i := range readFaultKeys {
		require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error {
			return errors.Join(
				tx.Set(readFaultKey(i), randomBytes(random, 6000)),
				tx.PutRecord("plain", fmt.Sprint(i), randomBytes(random, 30_000)),
				tx.PutRecord("sealed", fmt.Sprint(i), randomBytes(random, 3000)))
		}))
		for range 3 {
			_, err := plain.PutRecord(t.Context(), fmt.Sprint(i), []byte{byte(i)})
			require.NoError(t, err)
		}
	}
	require.Greater(t, db.Metrics().Epochs, 2)
	require.NoError(t, db.Close())
	want := make(map[string][]string)
	db, err = openOn(disk, &readFaultOptions)
	require.NoError(t, err)
	for way, read := range readFaultWays {
		want[way], err = read(t.Context(), db)
		require.NoError(t, err)
		require.NotEmpty(t, want[way])
	}
	require.NoError(t, db.Close())
	require.ElementsMatch(t, want["stream"], want["pages"])
	return disk.Mem, want
}

package modeltest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
)

// These tests prove that a call ends with its context while the disk holds every operation, and
// that nothing is lost or stuck when the disk continues. They wait for signals only: Pebble holds
// mutexes while it waits for the disk, which would stop a bubble's clock.

func everything(testdisk.Op) bool { return true }

// askedContext signals when somebody waits for its end.
type askedContext struct {
	context.Context
	once  sync.Once
	asked chan struct{}
}

func (c *askedContext) Done() <-chan struct{} {
	c.once.Do(func() { close(c.asked) })
	return c.Context.Done()
}

// endWhileWaiting makes a call, ends its context when the call waits for it or for the disk, and
// returns the call's error.
func endWhileWaiting(t *testing.T, d *testdisk.Disk, call func(context.Context) error) error {
	t.Helper()
	inner, cancel := context.WithCancel(t.Context())
	defer cancel()
	ctx := &askedContext{Context: inner, asked: make(chan struct{})}
	result := make(chan error, 1)
	go func() { result <- call(ctx) }()
	select {
	case err := <-result:
		return err
	case <-ctx.asked:
	case <-d.Held():
	}
	cancel()
	return <-result
}

// stalledCalls are all methods that take a context.
func stalledCalls(target string) map[string]func(context.Context, *braid.DB, *braid.Stream, *braid.Shard) error {
	type call = func(ctx context.Context, db *braid.DB, s *braid.Stream, sh *braid.Shard) error
	all := func(records func(func(braid.Record, error) bool)) (err error) {
		for _, err = range records {
			if err != nil {
				break
			}
		}
		return err
	}
	return map[string]call{
		"CreateStream": func(ctx context.Context, db *braid.DB, _ *braid.Stream, _ *braid.Shard) error {
			_, err := db.CreateStream(ctx, "new", nil)
			return err
		},
		"OpenStream": func(ctx context.Context, db *braid.DB, _ *braid.Stream, _ *braid.Shard) error {
			_, err := db.OpenStream(ctx, "new", nil)
			return err
		},
		"DeleteStream": func(ctx context.Context, db *braid.DB, _ *braid.Stream, _ *braid.Shard) error {
			return db.DeleteStream(ctx, "victim")
		},
		"View, Get": func(ctx context.Context, db *braid.DB, _ *braid.Stream, _ *braid.Shard) error {
			return db.View(ctx, func(tx *braid.Tx) error { _, err := tx.Get([]byte("key")); return err })
		},
		"View, Scan": func(ctx context.Context, db *braid.DB, _ *braid.Stream, _ *braid.Shard) error {
			return db.View(ctx, func(tx *braid.Tx) (err error) {
				for _, err = range tx.Scan(nil, nil) {
					if err != nil {
						break
					}
				}
				return err
			})
		},
		"Update": func(ctx context.Context, db *braid.DB, _ *braid.Stream, _ *braid.Shard) error {
			return db.Update(ctx, func(tx *braid.Tx) error { return tx.Set([]byte("key"), []byte("new")) })
		},
		"Update, PutRecord": func(ctx context.Context, db *braid.DB, _ *braid.Stream, _ *braid.Shard) error {
			return db.Update(ctx, func(tx *braid.Tx) error { return tx.PutRecord("victim", "k", nil) })
		},
		"PutRecord": func(ctx context.Context, db *braid.DB, s *braid.Stream, _ *braid.Shard) error {
			_, err := s.PutRecord(ctx, "k", nil)
			return err
		},
		"PutRecords": func(ctx context.Context, db *braid.DB, s *braid.Stream, _ *braid.Shard) error {
			_, err := s.PutRecords(ctx, []braid.Entry{{PartitionKey: "k"}})
			return err
		},
		"PutRecordWait": func(ctx context.Context, db *braid.DB, s *braid.Stream, _ *braid.Shard) error {
			_, err := s.PutRecordWait(ctx, "k", nil)
			return err
		},
		"PutRecordsWait": func(ctx context.Context, db *braid.DB, s *braid.Stream, _ *braid.Shard) error {
			_, err := s.PutRecordsWait(ctx, []braid.Entry{{PartitionKey: "k"}})
			return err
		},
		"GetRecords": func(ctx context.Context, _ *braid.DB, _ *braid.Stream, sh *braid.Shard) error {
			_, err := sh.GetRecords(ctx, braid.TrimHorizon(), nil)
			return err
		},
		"GetRecords, Wait": func(ctx context.Context, _ *braid.DB, _ *braid.Stream, sh *braid.Shard) error {
			_, err := sh.GetRecords(ctx, braid.Latest(), &braid.GetRecordsOptions{Wait: true})
			return err
		},
		"Shard.Records": func(ctx context.Context, _ *braid.DB, _ *braid.Stream, sh *braid.Shard) error {
			return all(sh.Records(ctx, braid.TrimHorizon()))
		},
		"Shard.Follow": func(ctx context.Context, _ *braid.DB, _ *braid.Stream, sh *braid.Shard) error {
			return all(sh.Follow(ctx, braid.TrimHorizon()))
		},
		"Stream.Records": func(ctx context.Context, _ *braid.DB, s *braid.Stream, _ *braid.Shard) error {
			return all(s.Records(ctx, braid.TrimHorizon()))
		},
		"Stream.Follow": func(ctx context.Context, _ *braid.DB, s *braid.Stream, _ *braid.Shard) error {
			return all(s.Follow(ctx, braid.TrimHorizon()))
		},
		"Trim": func(ctx context.Context, _ *braid.DB, s *braid.Stream, sh *braid.Shard) error {
			return s.Trim(ctx, braid.AtTime(time.Unix(1<<32, 0)))
		},
		"Trim, in the middle": func(ctx context.Context, _ *braid.DB, s *braid.Stream, sh *braid.Shard) error {
			return s.Trim(ctx, braid.AtSequence(sh.Describe().Last))
		},
		"SplitShard": func(ctx context.Context, _ *braid.DB, s *braid.Stream, sh *braid.Shard) error {
			_, _, err := s.SplitShard(ctx, sh.ID(), nil)
			return err
		},
		"MergeShards": func(ctx context.Context, _ *braid.DB, s *braid.Stream, sh *braid.Shard) error {
			shards := s.Shards()
			_, err := s.MergeShards(ctx, shards[0].ID(), shards[1].ID())
			return err
		},
		"UpdateShardCount": func(ctx context.Context, _ *braid.DB, s *braid.Stream, _ *braid.Shard) error {
			return s.UpdateShardCount(ctx, 3)
		},
		"UpdateCapacity": func(ctx context.Context, _ *braid.DB, s *braid.Stream, _ *braid.Shard) error {
			return s.UpdateCapacity(ctx, braid.Capacity{Mode: braid.Provisioned})
		},
		"IncreaseRetention": func(ctx context.Context, _ *braid.DB, s *braid.Stream, _ *braid.Shard) error {
			return s.IncreaseRetention(ctx, 48*time.Hour)
		},
		"DecreaseRetention": func(ctx context.Context, _ *braid.DB, s *braid.Stream, _ *braid.Shard) error {
			return s.DecreaseRetention(ctx, 24*time.Hour)
		},
		"UpdateRetentionBytes": func(ctx context.Context, _ *braid.DB, s *braid.Stream, _ *braid.Shard) error {
			return s.UpdateRetentionBytes(ctx, 1<<40)
		},
		"UpdateMaxRecordBytes": func(ctx context.Context, _ *braid.DB, s *braid.Stream, _ *braid.Shard) error {
			return s.UpdateMaxRecordBytes(ctx, 2<<20)
		},
		"AddTags": func(ctx context.Context, _ *braid.DB, s *braid.Stream, _ *braid.Shard) error {
			return s.AddTags(ctx, map[string]string{"a": "b"})
		},
		"RemoveTags": func(ctx context.Context, _ *braid.DB, s *braid.Stream, _ *braid.Shard) error {
			return s.RemoveTags(ctx, "tag")
		},
		"StartEncryption": func(ctx context.Context, _ *braid.DB, s *braid.Stream, _ *braid.Shard) error {
			return s.StartEncryption(ctx, "key")
		},
		"StopEncryption": func(ctx context.Context, _ *braid.DB, s *braid.Stream, _ *braid.Shard) error {
			return s.StopEncryption(ctx)
		},
		"Verify": func(ctx context.Context, db *braid.DB, _ *braid.Stream, _ *braid.Shard) error {
			_, err := db.Verify(ctx, nil)
			return err
		},
		"Backup": func(ctx context.Context, db *braid.DB, _ *braid.Stream, _ *braid.Shard) error {
			return db.Backup(ctx, target, nil)
		},
	}
}

// newStallDB makes a database whose records are in tables that are not cached.
func newStallDB(t *testing.T, d *testdisk.Disk, dir string, durability braid.Durability) (*braid.DB, *braid.Stream, *braid.Shard) {
	t.Helper()
	ring, err := braid.NewKeyRing(map[string][]byte{"key": make([]byte, 32)})
	require.NoError(t, err)
	opts := &braid.Options{MemtableBytes: 1 << 20, TailBytes: -1, CacheBytes: -1, ReserveBytes: -1, KeyProvider: ring, Durability: durability}
	db, err := open(dir, opts, companion.Environment{FS: d})
	require.NoError(t, err)
	_, err = db.CreateStream(t.Context(), "victim", nil)
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "s", &braid.StreamOptions{Shards: 2, Tags: map[string]string{"tag": ""}})
	require.NoError(t, err)
	for i := range 20 {
		_, err := s.PutRecord(t.Context(), fmt.Sprint(i), []byte("data"))
		require.NoError(t, err)
	}
	require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error { return tx.Set([]byte("key"), []byte("value")) }))
	require.NoError(t, db.Close())
	db, err = open(dir, opts, companion.Environment{FS: d})
	require.NoError(t, err)
	s, err = db.Stream("s")
	require.NoError(t, err)
	return db, s, s.Shards()[0]
}

func TestEveryCallEndsWithItsContextOnAStalledDisk(t *testing.T) {
	for name, call := range stalledCalls("/backup") {
		for _, durability := range []braid.Durability{braid.Sync, braid.NoSync} {
			for _, behind := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, behind a put %v", name, durability, behind), func(t *testing.T) {
					endsWithItsContext(t, durability, behind, call)
				})
			}
		}
	}
}

func endsWithItsContext(
	t *testing.T, durability braid.Durability, behind bool, call func(context.Context, *braid.DB, *braid.Stream, *braid.Shard) error,
) {
	d := testdisk.On(vfs.NewMem())
	db, s, sh := newStallDB(t, d, "/db", durability)
	last := sh.Describe() // some calls need it; it may be cached or not
	require.Positive(t, last.Records)
	release := d.Hold(everything)
	put := make(chan error, 1)
	if behind {
		go func() { _, err := s.PutRecord(t.Context(), "k", []byte("held")); put <- err }()
		<-d.Held() // even without fsync: the first put reserves counters
	}
	err := endWhileWaiting(t, d, func(ctx context.Context) error { return call(ctx, db, s, sh) })
	if err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
	// Methods without a context never wait.
	require.NotNil(t, db.Streams())
	require.NotEmpty(t, s.Shards())
	require.NoError(t, db.Metrics().Failed)

	release()
	if behind {
		require.NoError(t, <-put)
	}
	_, err = s.PutRecord(t.Context(), "k", []byte("after"))
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

// A loop over records that is left while the disk holds the page ahead of it returns at once,
// though no context ends; Close waits for that read.
func TestALoopIsLeftAtOnceOnAStalledDisk(t *testing.T) {
	for _, ofStream := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			mem := vfs.NewMem()
			d := testdisk.On(mem)
			db := openDamaged(t, d)
			s, err := db.CreateStream(t.Context(), "long", nil)
			require.NoError(t, err)
			random := rand.New(rand.NewPCG(1, 1))
			var middle []byte
			for i := range 200 {
				data := randomBytes(random, 2000)
				if i == 100 {
					middle = data
				}
				_, err := s.PutRecord(t.Context(), "key", data)
				require.NoError(t, err)
			}
			require.NoError(t, db.Close())
			db = openDamaged(t, d)
			s, err = db.Stream("long")
			require.NoError(t, err)
			table, _, at := placeOf(t, mem, middle)
			release := d.Hold(func(op testdisk.Op) bool { // of records, not of the table's footer and index
				behind := op.Offset - int64(at)
				return op.Path == table && op.Kind == errorfs.OpFileReadAt && 0 < behind && behind < 100_000
			})
			loop := s.Shards()[0].Records(context.Background(), braid.TrimHorizon())
			if ofStream {
				loop = s.Records(context.Background(), braid.TrimHorizon())
			}
			n, held := 0, false
			for _, err := range loop {
				require.NoError(t, err)
				n++
				synctest.Wait() // pages are read ahead, or held
				select {
				case <-d.Held():
					held = true
				default:
				}
				if held {
					break
				}
			}
			require.True(t, held)
			require.Greater(t, n, 50)
			closed := make(chan error, 1)
			go func() { closed <- db.Close() }()
			synctest.Wait()
			require.Empty(t, closed)
			release()
			require.NoError(t, <-closed)
		})
	}
}

// Close of a database on a stalled disk gives up when its context ends, at each kind of operation.
func TestCloseContextOnAStalledDisk(t *testing.T) {
	kinds := map[string]func(testdisk.Op) bool{
		"everything": everything,
		"log":        testdisk.Op.OnLog,
		"table":      testdisk.Op.OnTable,
		"manifest":   func(op testdisk.Op) bool { return strings.Contains(op.Path, "MANIFEST") },
	}
	for name, holds := range kinds {
		for _, busy := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, with a put %v", name, busy), func(t *testing.T) {
				dir := t.TempDir()
				childtest.Run(t, func(t *testing.T) {
					d := testdisk.Over(vfs.Default)
					vfs.Default = d // only on the default file system is the directory locked
					opts := &braid.Options{MemtableBytes: 1 << 20}
					db, err := braid.Open(dir, opts)
					require.NoError(t, err)
					s, err := db.CreateStream(t.Context(), "s", nil)
					require.NoError(t, err)
					for range 10 {
						_, err = s.PutRecord(t.Context(), "k", []byte("acked"))
						require.NoError(t, err)
					}
					release := d.Hold(holds)
					put := make(chan error, 1)
					if busy && (name == "everything" || name == "log") {
						go func() { _, err := s.PutRecord(t.Context(), "k", []byte("held")); put <- err }()
						<-d.Held()
					} else {
						put <- braid.ErrFailed
					}
					err = endWhileWaiting(t, d, db.CloseContext)
					require.ErrorIs(t, err, context.Canceled)
					require.ErrorIs(t, err, braid.ErrFailed)
					require.Empty(t, repetition(err.Error()), err.Error())
					require.ErrorIs(t, <-put, braid.ErrFailed)
					require.ErrorIs(t, db.Close(), braid.ErrClosed)
					_, err = s.PutRecord(t.Context(), "k", nil)
					require.ErrorIs(t, err, braid.ErrClosed)
					if busy && name == "everything" {
						_, err = lockedStill(dir, opts)
						require.ErrorIs(t, err, braid.ErrLocked)
					}

					release()
					for { // until the operation has returned
						if db, err = braid.Open(dir, opts); !errors.Is(err, braid.ErrLocked) {
							break
						}
					}
					require.NoError(t, err)
					s, err = db.Stream("s")
					require.NoError(t, err)
					records, err := readShards(t.Context(), s)
					require.NoError(t, err)
					require.GreaterOrEqual(t, len(records), 10)
					require.NoError(t, db.Close())
				})
			})
		}
	}
}

// lockedStill opens the directory while the file system is held, except for the check whether it
// contains a database.
func lockedStill(dir string, opts *braid.Options) (*braid.DB, error) {
	held := vfs.Default
	defer func() { vfs.Default = held }()
	vfs.Default = held.(*testdisk.Disk).FS.Unwrap()
	return braid.Open(dir, opts)
}

// A backup whose context ends while any one of its operations is held returns, and can be repeated
// to the same directory.
func TestBackupOnAStalledDisk(t *testing.T) { synctest.Test(t, backupOnAStalledDisk) }

func backupOnAStalledDisk(t *testing.T) {
	d := testdisk.On(vfs.NewMem())
	db, _, _ := newStallDB(t, d, "/db", braid.Sync)
	for index := 0; ; index++ {
		seen := 0
		release := d.Hold(func(op testdisk.Op) bool {
			if !strings.HasPrefix(op.Path, "/backup") && !strings.HasPrefix(op.Path, "/db/backup-") {
				return false
			}
			seen++
			return seen > index
		})
		err := endWhenHeld(t, d, func(ctx context.Context) error { return db.Backup(ctx, "/backup", nil) })
		if err == nil {
			release()
			require.Greater(t, index, 20, "the sweep reached too few operations")
			break
		}
		require.ErrorIs(t, err, context.Canceled)
		release()
		require.NoError(t, db.Backup(t.Context(), "/backup", nil), "operation %d", index)
		restored, err := open("/backup", nil, companion.Environment{FS: d})
		require.NoError(t, err)
		require.Len(t, restored.Streams(), 2)
		require.NoError(t, restored.Close())
		require.NoError(t, d.RemoveAll("/backup"))
	}
	require.NoError(t, db.Close())
}

// endWhenHeld makes a call, and ends its context when the disk holds an operation.
func endWhenHeld(t *testing.T, d *testdisk.Disk, call func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- call(ctx) }()
	select {
	case err := <-result:
		return err
	case <-d.Held():
		cancel()
	}
	return <-result
}

// A reader that looks for the end of damage returns when its context ends, whichever of its reads
// the disk stalls.
func TestAReaderOfDamageEndsWithItsContextOnAStalledDisk(t *testing.T) {
	random := rand.New(rand.NewPCG(8, 8))
	mem := vfs.NewMem()
	d := testdisk.On(mem)
	db := openDamaged(t, d)
	s, err := db.CreateStream(t.Context(), "damaged", nil)
	require.NoError(t, err)
	var first []byte
	for range 100 {
		data := randomBytes(random, 2000)
		_, err := s.PutRecord(t.Context(), "key", data)
		require.NoError(t, err)
		if first == nil {
			first = data
		}
	}
	require.NoError(t, db.Close())
	flipRecord(t, mem, first)
	for index := 0; ; index++ {
		db = openDamaged(t, d)
		s, err = db.Stream("damaged")
		require.NoError(t, err)
		seen := 0
		release := d.Hold(func(op testdisk.Op) bool {
			if !op.OnTable() {
				return false
			}
			seen++
			return seen > index
		})
		err := endWhenHeld(t, d, func(ctx context.Context) error {
			_, err := s.Shards()[0].GetRecords(ctx, braid.TrimHorizon(), nil)
			return err
		})
		release()
		require.NoError(t, db.Close())
		if !errors.Is(err, context.Canceled) {
			require.ErrorIs(t, err, braid.ErrCorrupt)
			require.Greater(t, index, 3, "the sweep reached too few reads")
			return
		}
	}
}

// A read that the disk holds, and whose caller has left, blocks no commit, even though it shares
// its snapshot with the commit.
func TestAHeldReadKeepsNoCommitWaiting(t *testing.T) {
	ctx := t.Context()
	d := testdisk.On(vfs.NewMem())
	db, s, _ := newStallDB(t, d, "/db", braid.Sync)
	set := func() error { return db.Update(ctx, func(tx *braid.Tx) error { return tx.Set([]byte("other"), nil) }) }
	releaseLog := d.Hold(testdisk.Op.OnLog)
	committed := make(chan error, 1)
	go func() { committed <- set() }()
	<-d.Held()
	release := d.Hold(testdisk.Op.OnTable)
	err := endWhenHeld(t, d, func(ctx context.Context) error {
		return db.View(ctx, func(tx *braid.Tx) error { _, err := tx.Get([]byte("key")); return err })
	})
	require.ErrorIs(t, err, context.Canceled)
	releaseLog()
	require.NoError(t, <-committed)
	for range 3 {
		require.NoError(t, set())
		_, err = s.PutRecord(ctx, "k", nil)
		require.NoError(t, err)
	}
	release()
	require.NoError(t, db.Close())
}

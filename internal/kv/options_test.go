package kv_test

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/testdisk"
)

// byFirstByte divides the keys into regions by their first byte.
func byFirstByte(key []byte) []byte {
	if len(key) == 0 {
		return []byte{1}
	}
	if key[0] == 0xff {
		return nil
	}
	return []byte{key[0] + 1}
}

// toTest is a logger of Pebble's.
type toTest struct{ t *testing.T }

func (l toTest) Infof(format string, args ...any)  { l.t.Logf(format, args...) }
func (l toTest) Errorf(format string, args ...any) { l.t.Logf(format, args...) }
func (l toTest) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// tables lists the bounds of all tables of a closed database.
func tables(t *testing.T, d *testdisk.Disk) (bounds [][2]string) {
	t.Helper()
	db, err := pebble.Open(memDir+"/store", &pebble.Options{FS: d.Mem, ReadOnly: true, FormatMajorVersion: pebble.FormatNewest, Logger: toTest{t}})
	require.NoError(t, err)
	levels, err := db.SSTables()
	require.NoError(t, err)
	for _, level := range levels {
		for _, table := range level {
			bounds = append(bounds, [2]string{string(table.Smallest.UserKey), string(table.Largest.UserKey)})
		}
	}
	require.NoError(t, db.Close())
	require.NotEmpty(t, bounds)
	return bounds
}

// TestTablesAreSplitAtBorders writes keys of many regions into each memtable, and flushes and
// compacts them.
func TestTablesAreSplitAtBorders(t *testing.T) {
	load := func(t *testing.T, border func([]byte) []byte) [][2]string {
		d := testdisk.New()
		cfg := configOn(d)
		cfg.TableBoundary = border
		s := open(t, cfg)
		for round := range 10 {
			for region := range 12 {
				for i := range 5 {
					require.NoError(t, put(s, fmt.Sprintf("%c-%02d-%d", 'a'+region, round, i), string(noise(uint64(i), 2000)), false))
				}
			}
			require.NoError(t, s.Flush())
		}
		require.NoError(t, s.Close())
		return tables(t, d)
	}
	for _, bounds := range load(t, byFirstByte) {
		require.Equal(t, bounds[0][0], bounds[1][0], "a table from %s to %s", bounds[0], bounds[1])
	}
	crossing := 0
	for _, bounds := range load(t, nil) {
		if bounds[0][0] != bounds[1][0] {
			crossing++
		}
	}
	require.Positive(t, crossing, "without borders there are tables that would cross them")
}

// TestCompactionsAreGranted: no compaction waits forever, although nothing polls for one. When
// the test checks the level, nothing else happens in the bubble that could start a forgotten
// compaction.
func TestCompactionsAreGranted(t *testing.T) {
	for range 3 {
		synctest.Test(t, func(t *testing.T) {
			s := open(t, configInMemory())
			var writers sync.WaitGroup
			for w := range 3 {
				writers.Go(func() {
					for i := range 40 {
						for k := range 10 { // each table overlaps every other
							if err := put(s, fmt.Sprintf("%02d", k), string(noise(uint64(i*100+w), 1000)), false); err != nil {
								panic(err)
							}
						}
						if err := s.Flush(); err != nil {
							panic(err)
						}
					}
				})
			}
			writers.Wait()
			synctest.Wait()
			m := s.Metrics()
			require.Less(t, m.L0Tables, int64(32), "compactions are due") // of 120 flushes
			require.Greater(t, m.Compactions, int64(3))
			require.Positive(t, m.CompactedBytes)
			require.NoError(t, s.Close())
		})
	}
}

// rotate fills some logs.
func rotate(t *testing.T, s *kv.Store) {
	t.Helper()
	for i := range 6 {
		require.NoError(t, put(s, fmt.Sprint(i), string(noise(uint64(i), 100_000)), false))
		require.NoError(t, s.Flush())
	}
}

func TestThereIsNoLogInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, configInMemory())
		rotate(t, s)
		mustPut(t, s, "durable", "as long as the process lives")
		require.NoError(t, s.Sync())
		require.Zero(t, s.Metrics().WALBytes)
		require.NoError(t, s.Close())
	})
}

func TestLogsAreReusedOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testdisk.New()
		var reused atomic.Int64
		d.Before(func(op testdisk.Op) error {
			if op.Kind == errorfs.OpReuseForWrite {
				reused.Add(1)
			}
			return nil
		})
		s := open(t, configOn(d))
		rotate(t, s)
		require.Positive(t, reused.Load())
		require.NoError(t, s.Close())
	})
}

// TestFormatIsPinned: the constant is Pebble's newest format, and the one that is written.
func TestFormatIsPinned(t *testing.T) {
	require.Equal(t, pebble.FormatNewest, kv.PebbleFormat)
	d := testdisk.New()
	require.NoError(t, open(t, configOn(d)).Close())
	desc, err := pebble.Peek(memDir+"/store", d.Mem)
	require.NoError(t, err)
	require.True(t, desc.Exists)
	require.Equal(t, kv.PebbleFormat, desc.FormatMajorVersion)
}

// TestBubbles opens, uses and closes stores in one bubble after the other. Each must end, and
// the next must be able to use objects that it left in a pool.
func TestBubbles(t *testing.T) {
	for i := range 50 {
		synctest.Test(t, func(t *testing.T) {
			cfg := configInMemory()
			switch {
			case i%10 == 0: // with real files
				cfg = config(t.TempDir())
			case i%2 == 0:
				cfg = configOn(testdisk.New())
			}
			s := open(t, cfg)
			for round := range 3 {
				mustPut(t, s, fmt.Sprint(round), string(noise(uint64(i), 5000)))
				require.NoError(t, s.Flush())
			}
			require.Len(t, pairs(t, s, nil, nil), 3)
			snap, err := s.NewSnapshot()
			require.NoError(t, err)
			require.NoError(t, s.Excise(t.Context(), []byte("0"), []byte("1")))
			require.NoError(t, snap.Close(t.Context()))
			<-time.After(time.Hour)
			require.NoError(t, s.Close())
			if !cfg.InMemory {
				s = open(t, cfg)
				require.Len(t, pairs(t, s, nil, nil), 2)
				require.NoError(t, s.Close())
			}
		})
	}
}

// TestIdleYear: an idle store costs nothing. A ticker with ten ticks a second would make this
// test take hours.
func TestIdleYear(t *testing.T) {
	begin := time.Now() // real time, outside the bubble
	for _, cfg := range []kv.Config{configInMemory(), configOn(testdisk.New())} {
		synctest.Test(t, func(t *testing.T) {
			if cfg.FS != nil {
				cfg.FS = testdisk.New()
			}
			s := open(t, cfg)
			mustPut(t, s, "a", "1")
			require.NoError(t, s.Flush())
			for range 365 {
				<-time.After(24 * time.Hour)
			}
			requireValue(t, s, "a", "1")
			mustPut(t, s, "b", "2")
			require.NoError(t, s.Close())
		})
	}
	require.Less(t, time.Since(begin), 20*time.Second)
}

// TestCloseLeavesNoFilesOpen counts descriptors on systems that list them.
func TestCloseLeavesNoFilesOpen(t *testing.T) {
	const list = "/proc/self/fd"
	count := func() int {
		entries, err := os.ReadDir(list)
		if os.IsNotExist(err) {
			return 0 // not on this system
		}
		require.NoError(t, err)
		return len(entries)
	}
	dir := t.TempDir()
	require.NoError(t, open(t, config(dir)).Close())
	before := count()
	for range 5 {
		s := open(t, config(dir))
		mustPut(t, s, "a", "1")
		require.NoError(t, s.Close())
		cfg := config(dir)
		cfg.Verify = func(kv.Reader) error { return os.ErrInvalid }
		_, err := kv.Open(cfg)
		require.ErrorIs(t, err, os.ErrInvalid)
	}
	require.Equal(t, before, count())
}

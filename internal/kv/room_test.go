package kv_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/testdisk"
)

// beginsLog matches Pebble's first operation when it begins a memtable.
func beginsLog(op testdisk.Op) bool {
	return op.OnLog() && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite)
}

// A commit that must not wait never begins a memtable, and with it a log, whatever was
// committed before; and it is rarely refused.
func TestTryCommitReplacesNoMemTable(t *testing.T) {
	for name, load := range map[string]struct {
		rows, value int     // the largest number of rows in a batch, and size of a value
		others      bool    // other calls begin memtables as well
		syncs       int     // goroutines that sync all the time
		fit         float64 // the minimal share of commits that fit
	}{
		"records":         {rows: 1, value: 2000, fit: 0.9},
		"blocks":          {rows: 3, value: 20_000, fit: 0.9},
		"large batches":   {rows: 1, value: 600 << 10, fit: 0.2},
		"short rows":      {rows: 40, value: 20, fit: 0.9},
		"beside all else": {rows: 20, value: 3000, others: true, fit: 0.4},
		"beside syncs":    {rows: 300, value: 20, syncs: 64, fit: -1}, // it is nearly always their turn
	} {
		t.Run(name, func(t *testing.T) {
			d := testdisk.On(vfs.NewMem())
			cfg := configOn(d)
			cfg.MemTableBytes = 700 << 10 // not the first size times a power of two
			s := open(t, cfg)
			var begun atomic.Int64
			d.Before(func(op testdisk.Op) error {
				if beginsLog(op) {
					begun.Add(1)
				}
				return nil
			})
			var syncs sync.WaitGroup
			ended := make(chan struct{})
			for range load.syncs {
				syncs.Go(func() {
					for {
						select {
						case <-ended:
							return
						default:
							_ = s.Sync() // if it fails, so does the next commit
						}
					}
				})
			}
			random := rand.New(rand.NewPCG(1, 2))
			b := s.NewBatch()
			tried, done := 0, 0
			for begun.Load() < 15 {
				if load.others && random.IntN(30) == 0 {
					callOther(t, s, random)
				}
				b.Reset()
				for range 1 + random.IntN(load.rows) {
					key := binaryKey(random)
					switch random.IntN(10) {
					case 0:
						b.Delete(key)
					case 1:
						b.DeleteRange(key, append(bytes.Clone(key), 0))
					default:
						b.Set(key, make([]byte, random.IntN(load.value)))
					}
				}
				before := begun.Load()
				ok, err := b.TryCommit(false)
				require.NoError(t, err)
				require.Equal(t, before, begun.Load(), "it has begun a memtable")
				tried++
				if ok {
					done++
				} else {
					require.NoError(t, b.Commit(false))
				}
			}
			close(ended)
			syncs.Wait()
			require.Greater(t, float64(done)/float64(tried), load.fit)
			b.Close()
			require.NoError(t, s.Close())
		})
	}
}

func binaryKey(random *rand.Rand) []byte {
	return fmt.Appendf(nil, "%0*d", 1+random.IntN(40), random.Uint32())
}

// callOther changes the store in a way that may begin a memtable.
func callOther(t *testing.T, s *kv.Store, random *rand.Rand) {
	t.Helper()
	switch random.IntN(5) {
	case 0:
		require.NoError(t, s.Flush())
	case 1:
		require.NoError(t, beginMemTable(s, "begun", "1"))
	case 2:
		key := binaryKey(random)
		require.NoError(t, s.Excise(t.Context(), key, append(bytes.Clone(key), 0xff)))
	case 3:
		require.NoError(t, put(s, "large", string(make([]byte, 1<<20+random.IntN(2<<20))), false))
	case 4:
		require.NoError(t, s.Compact(t.Context(), []byte("0"), []byte("1")))
	}
}

// A commit that must not wait returns even while the disk blocks another call or a goroutine of
// Pebble.
func TestTryCommitDoesNotWait(t *testing.T) {
	onLog := func(op testdisk.Op) bool { return op.OnLog() && op.Changes() }
	for name, other := range map[string]struct {
		holds func(testdisk.Op) bool
		call  func(s *kv.Store) error
		done  bool // the commit succeeds meanwhile
	}{
		"nothing else":                  {holds: onLog, done: true},
		"Sync":                          {onLog, (*kv.Store).Sync, true},
		"Commit":                        {onLog, func(s *kv.Store) error { return put(s, "other", "1", true) }, false},
		"BeginMemTable, end of the log": {onLog, func(s *kv.Store) error { return beginMemTable(s, "other", "1") }, false},
		"BeginMemTable, next log":       {beginsLog, func(s *kv.Store) error { return beginMemTable(s, "other", "1") }, false},
		"Flush":                         {testdisk.Op.Syncs, (*kv.Store).Flush, false},
		"Compact":                       {testdisk.Op.Syncs, func(s *kv.Store) error { return s.Compact(t.Context(), []byte("a"), []byte("z")) }, false},
		"Excise":                        {testdisk.Op.Syncs, func(s *kv.Store) error { return s.Excise(t.Context(), []byte("a"), []byte("c")) }, false},
		"Backup":                        {func(op testdisk.Op) bool { return op.Kind == errorfs.OpLink || op.Kind == errorfs.OpMkdirAll }, func(s *kv.Store) error { return s.Backup(t.Context(), "/copy", nil, nil) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := testdisk.On(vfs.NewMem())
			s := open(t, configOn(d))
			mustPut(t, s, "a", "1")
			mustPut(t, s, "b", "1")
			release := d.Hold(other.holds)
			result := make(chan error, 1)
			if other.call == nil {
				result <- nil
			} else {
				go func() { result <- other.call(s) }()
				<-d.Held()
			}
			b := s.NewBatch()
			b.Set([]byte("k"), make([]byte, 100<<10)) // more than Pebble buffers
			done, err := b.TryCommit(false)
			require.NoError(t, err)
			for other.done && !done { // the other may still be on its way to the disk
				runtime.Gosched()
				done, err = b.TryCommit(false)
				require.NoError(t, err)
			}
			require.Equal(t, other.done, done)
			release()
			require.NoError(t, <-result)
			if !done {
				done, err = b.TryCommit(false)
				require.NoError(t, err)
				require.True(t, done)
			}
			b.Close()
			requireValue(t, s, "k", string(make([]byte, 100<<10)))
			require.NoError(t, s.Close())
		})
	}
}

// TryCommit refuses every commit that may wait.
func TestTryCommitLeavesWhatWaits(t *testing.T) {
	for _, cfg := range []kv.Config{config(t.TempDir()), configInMemory()} {
		s := open(t, cfg)
		try := func(sync, begin bool) bool {
			b := s.NewBatch()
			defer b.Close()
			b.Set([]byte("k"), nil)
			if begin {
				b.BeginMemTable()
			}
			done, err := b.TryCommit(sync)
			require.NoError(t, err)
			return done
		}
		require.False(t, try(true, false))
		require.False(t, try(false, true))
		require.Empty(t, pairs(t, s, nil, nil))
		require.Equal(t, !cfg.InMemory, try(false, false))
		require.NoError(t, s.Close())
	}
}

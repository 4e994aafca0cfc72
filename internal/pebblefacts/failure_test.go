package pebblefacts_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/testdisk"
)

// Fact 2. If Fatalf returns, a failed sync counts as a success: that commit and all later ones
// return nil, and are lost in a crash. So kv's Fatalf never returns.
func TestFatalCallThatReturnsLosesCommits(t *testing.T) {
	childtest.Run(t, func(t *testing.T) {
		f := testdisk.New()
		var fatal atomic.Int64
		o := options(t, f)
		o.Logger = logger{t: t, fatalf: func(string, ...any) { fatal.Add(1) }}
		db := open(t, o)
		set(t, db, "good")
		f.Before(func(op testdisk.Op) error {
			if op.OnLog() && op.Syncs() {
				return syscall.EIO
			}
			return nil
		})
		set(t, db, "lost 1") // no error
		f.Before(nil)
		set(t, db, "lost 2") // no error either, though the disk works again
		require.Positive(t, fatal.Load())
		require.Equal(t, []string{"good", "lost 1", "lost 2"}, keys(t, db))

		db = open(t, options(t, image(f.Mem, false)))
		require.Equal(t, []string{"good"}, keys(t, db))
	})
}

// Fact 4. Not every failure reaches the logger: if Pebble cannot create the next log, it panics
// in a goroutine of its own, which nothing can recover. So guardfs keeps errors of critical
// files from Pebble.
func TestFailedLogCreationEndsTheProcess(t *testing.T) {
	result := childtest.Output(t, func(t *testing.T) {
		f := testdisk.New()
		db := open(t, options(t, f))
		set(t, db, "a")
		f.Before(func(op testdisk.Op) error {
			if op.OnLog() && op.Kind == errorfs.OpCreate {
				return syscall.EIO
			}
			return nil
		})
		defer func() { _ = recover() }() // in vain
		_, _ = db.AsyncFlush()
	})
	require.Error(t, result.Err)
	require.False(t, result.Passed)
	require.Contains(t, result.Output, "sync: unlock of unlocked mutex")
}

// Fact 5. Logs and tables are synced with SyncData, manifests and directories
// with Sync. So guardfs judges both, and faults must be injected into both.
func TestWhichSyncIsUsedForWhat(t *testing.T) {
	f := testdisk.New()
	var mu sync.Mutex // guards used
	used := map[string]map[errorfs.OpKind]bool{}
	f.Before(func(op testdisk.Op) error {
		if !op.Syncs() {
			return nil
		}
		kind := "directory"
		for _, k := range []string{".log", ".sst", "MANIFEST"} {
			if strings.Contains(op.Path, k) {
				kind = k
			}
		}
		if strings.Contains(op.Path, "OPTIONS") || strings.Contains(op.Path, "marker") {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if used[kind] == nil {
			used[kind] = map[errorfs.OpKind]bool{}
		}
		used[kind][op.Kind] = true
		return nil
	})
	db := open(t, options(t, f))
	set(t, db, "a")
	require.NoError(t, db.Flush())
	require.NoError(t, db.Close())
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, map[string]map[errorfs.OpKind]bool{
		".log":      {errorfs.OpFileSyncData: true},
		".sst":      {errorfs.OpFileSyncData: true},
		"MANIFEST":  {errorfs.OpFileSync: true},
		"directory": {errorfs.OpFileSync: true},
	}, used)
}

// Fact 6. A flush that finds no space is retried at once, forever, and only the event listener
// gets the error. Commits go on meanwhile, and nothing is lost when there is space again. So
// guardfs waits below Pebble.
func TestFlushWithoutSpaceIsTriedAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := testdisk.New()
		enough := make(chan struct{})
		errors := 0 // under Pebble's mutex
		o := options(t, f)
		o.EventListener = &pebble.EventListener{BackgroundError: func(err error) {
			require.ErrorIs(t, err, syscall.ENOSPC)
			if errors++; errors == 1000 {
				close(enough)
			}
		}}
		o.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()
		db := open(t, o)
		set(t, db, "a")
		f.Before(func(op testdisk.Op) error {
			if op.OnTable() && op.Kind == errorfs.OpCreate {
				return syscall.ENOSPC
			}
			return nil
		})
		begin := time.Now()
		flushed := make(chan error, 1)
		go func() { flushed <- db.Flush() }()
		<-enough
		require.Zero(t, time.Since(begin), "it waits now between two attempts")
		set(t, db, "b")
		require.Empty(t, flushed)
		f.Before(nil)
		require.NoError(t, <-flushed)
		require.Equal(t, []string{"a", "b"}, keys(t, db))
		require.NoError(t, db.Close())
	})
}

// Fact 13. A batch can be read before it is durable. The option against this shows only rows in
// tables. So braid has a watermark of its own.
func TestCommitsAreReadableBeforeTheyAreDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := testdisk.New()
		o := options(t, f)
		o.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()
		db := open(t, o)
		set(t, db, "in a table")
		require.NoError(t, db.Flush())
		set(t, db, "durable")
		hold := make(chan struct{})
		f.Before(func(op testdisk.Op) error {
			if op.OnLog() && op.Syncs() {
				<-hold
			}
			return nil
		})
		committed := make(chan error, 1)
		go func() { committed <- db.Set([]byte("early"), nil, pebble.Sync) }()
		synctest.Wait()
		require.Empty(t, committed)
		require.True(t, has(t, db, "early"))
		lost := image(f.Mem, false)

		iter, err := db.NewIter(&pebble.IterOptions{OnlyReadGuaranteedDurable: true})
		require.NoError(t, err)
		require.True(t, iter.First())
		require.Equal(t, "in a table", string(iter.Key()))
		require.False(t, iter.Next(), "not even what is durable in the log")
		require.NoError(t, iter.Close())
		close(hold)
		require.NoError(t, <-committed)
		require.NoError(t, db.Close())

		o = options(t, lost)
		o.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()
		db = open(t, o)
		require.Equal(t, []string{"durable", "in a table"}, keys(t, db))
		require.NoError(t, db.Close())
	})
}

// Fact 18. A closed database panics, even when it is closed again, and Close fails while
// iterators are open. So kv has a gate.
func TestUseAfterClosePanics(t *testing.T) {
	db := open(t, options(t, vfs.NewMem()))
	set(t, db, "a")
	iter, err := db.NewIter(nil)
	require.NoError(t, err)
	require.True(t, iter.First())
	require.ErrorContains(t, db.Close(), "leaked iterators")
	for name, use := range map[string]func(){
		"Get":         func() { _, _, _ = db.Get([]byte("a")) },
		"Set":         func() { _ = db.Set([]byte("a"), nil, pebble.Sync) },
		"NewIter":     func() { _, _ = db.NewIter(nil) },
		"NewSnapshot": func() { db.NewSnapshot() },
		"Flush":       func() { _ = db.Flush() },
		"Close":       func() { _ = db.Close() },
	} {
		require.Panics(t, use, name)
	}

	db = open(t, options(t, vfs.NewMem()))
	snap := db.NewSnapshot()
	require.ErrorContains(t, db.Close(), "leaked snapshots")
	require.NotNil(t, snap)
}

// errorfs injects no errors into a reused log: it returns the bare file. So tests that inject
// faults, or take crash images, wrap the file again.
func TestErrorfsForgetsReusedFiles(t *testing.T) {
	asked := 0
	mem := vfs.NewMem()
	files := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite {
			asked++
		}
		return nil
	}))
	f, err := files.Create("old", vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.Write([]byte("text"))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Equal(t, 1, asked)
	f, err = files.ReuseForWrite("old", "new", vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.Write([]byte("text"))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Equal(t, 1, asked)
}

// A wrong checksum of a block is reported only to its reader, once for each read, outside
// Pebble's locks. Goroutines that Pebble starts begin in one of Pebble's functions, which
// distinguishes them from readers in kv.
func TestDamageOfATableIsTheReaders(t *testing.T) {
	mem := vfs.NewMem()
	db := open(t, options(t, mem))
	set(t, db, "a")
	require.NoError(t, db.Flush())
	require.NoError(t, db.Close())
	data := content(t, mem, newest(t, mem, ".sst"))
	data[500] ^= 1

	o := options(t, mem)
	found := 0
	o.EventListener = &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) { found++ }}
	db = open(t, o)
	for i := range 3 {
		_, _, err := db.Get([]byte("a"))
		require.True(t, pebble.IsCorruptionError(err), "%v", err)
		require.Equal(t, i+1, found)
	}
	set(t, db, "b")
	require.NoError(t, db.Flush())
	require.NoError(t, db.Close())
}

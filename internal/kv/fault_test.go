package kv_test

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/testdisk"
)

// patience is the timeout, in real time, for events that come at once.
const patience = 30 * time.Second

// fault is a kind of operation that fails.
type fault struct {
	name  string
	match func(op testdisk.Op) bool
	// provoke makes Pebble do such an operation.
	provoke func(s *kv.Store)
}

func isStoreDir(op testdisk.Op) bool { return path.Clean(op.Path) == memDir+"/store" }

// criticalFaults are the faults after which nothing may be written.
func criticalFaults() []fault {
	commit := func(s *kv.Store) { _ = put(s, "unknown", "outcome", true) }
	flush := func(s *kv.Store) { _ = s.Flush() }
	rotate := func(s *kv.Store) { // until there is no log to reuse
		for s.Err() == nil {
			_ = beginMemTable(s, "rotated", "1")
		}
	}
	return []fault{
		{"log write", func(op testdisk.Op) bool { return op.OnLog() && op.Kind == errorfs.OpFileWrite }, commit},
		{"log sync", func(op testdisk.Op) bool { return op.OnLog() && op.Syncs() }, commit},
		{"log create", func(op testdisk.Op) bool { return op.OnLog() && op.Kind == errorfs.OpCreate }, rotate},
		{"log reuse", func(op testdisk.Op) bool { return op.Kind == errorfs.OpReuseForWrite }, flush},
		{"manifest write", func(op testdisk.Op) bool { return op.OnManifest() && op.Kind == errorfs.OpFileWrite }, flush},
		{"manifest sync", func(op testdisk.Op) bool { return op.OnManifest() && op.Syncs() }, flush},
		{"directory sync", func(op testdisk.Op) bool { return isStoreDir(op) && op.Syncs() }, flush},
	}
}

// requireWithin fails the test if the channel is not closed, or has nothing, soon.
func requireWithin[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		require.FailNow(t, "waited in vain for "+what)
		panic("unreachable")
	}
}

// inBackground runs a call that may never return.
func inBackground(call func() error) <-chan error {
	result := make(chan error, 1)
	go func() { result <- call() }()
	return result
}

// TestCriticalFaults: the disk fails once, at an operation that durability depends on. The
// process survives, the store reports the failure and refuses writes, and reading goes on. The
// same process opens the database again and finds everything acknowledged. Each fault runs in a
// process of its own.
func TestCriticalFaults(t *testing.T) {
	for _, f := range criticalFaults() {
		t.Run(f.name, func(t *testing.T) {
			childtest.Run(t, func(t *testing.T) { criticalFault(t, f) })
		})
	}
}

func criticalFault(t *testing.T, f fault) {
	d := testdisk.New()
	s := open(t, configOn(d))
	want := []string{}
	for i := range 4 { // the later ones reuse the logs of the earlier
		mustPut(t, s, fmt.Sprintf("k%d", i), "v")
		require.NoError(t, s.Flush())
		want = append(want, fmt.Sprintf("k%d=v", i))
	}
	mustPut(t, s, "k4", "v")
	want = append(want, "k4=v")
	struck := d.FailOnce(f.match, syscall.EIO)
	go f.provoke(s) // it may never return
	requireWithin(t, s.Failed(), "the failure")
	require.Positive(t, struck.Load())

	// Every write returns the cause.
	for _, err := range []error{s.Err(), put(s, "later", "1", true), put(s, "later", "1", false), s.Sync(), s.Flush()} {
		require.ErrorIs(t, err, kv.ErrFailed)
		require.ErrorIs(t, err, syscall.EIO)
	}

	// Iterators and snapshots work as well.
	for range 3 {
		requireValue(t, s, "k0", "v")
		require.Equal(t, want, pairs(t, s, []byte("k"), []byte("l")))
		snap, err := s.NewSnapshot()
		require.NoError(t, err)
		requireValue(t, snap, "k4", "v")
		require.NoError(t, snap.Close(t.Context()))
		s.Metrics()
	}
	err := s.Close()
	require.ErrorIs(t, err, kv.ErrFailed)
	require.ErrorIs(t, err, syscall.EIO)

	// The disk works again. Unacknowledged rows may be there or not.
	d.Before(nil)
	for range 2 {
		s = open(t, configOn(d))
		require.Equal(t, want, pairs(t, s, []byte("k"), []byte("l")))
		mustPut(t, s, "m", "more")
		require.NoError(t, s.Close())
	}
}

// TestCriticalFaultsWhileOpening: the same, forever, while the database is opened.
func TestCriticalFaultsWhileOpening(t *testing.T) {
	childtest.Run(t, func(t *testing.T) {
		d := testdisk.New()
		s := open(t, configOn(d))
		mustPut(t, s, "k", "v")
		require.NoError(t, s.Close())
		for _, f := range criticalFaults() {
			if f.name == "log write" || f.name == "log sync" || f.name == "log reuse" {
				continue // opening never does this
			}
			struck := d.FailAlways(f.match, syscall.EIO)
			_, err := kv.Open(configOn(d))
			require.ErrorIs(t, err, kv.ErrFailed, f.name)
			require.ErrorIs(t, err, syscall.EIO, f.name)
			require.EqualValues(t, 1, struck.Load(), "%s: a failed operation was tried again", f.name)
			d.Before(nil)
			s := open(t, configOn(d))
			requireValue(t, s, "k", "v")
			require.NoError(t, s.Close())
		}
	})
}

// TestErrorsWhileOpening: an open fails even if the failed operation does not matter for
// durability, and leaves nothing abandoned or locked.
func TestErrorsWhileOpening(t *testing.T) {
	for name, match := range map[string]func(op testdisk.Op) bool{
		"read identity":          func(op testdisk.Op) bool { return path.Base(op.Path) == "BRAID" },
		"write identity":         func(op testdisk.Op) bool { return op.Kind == errorfs.OpCreate && path.Base(op.Path) == "BRAID.new" },
		"sync a directory above": func(op testdisk.Op) bool { return op.Syncs() && path.Clean(op.Path) == path.Dir(memDir) },
	} {
		t.Run(name, func(t *testing.T) {
			d := testdisk.New()
			struck := d.FailAlways(match, syscall.EIO)
			_, err := kv.Open(configOn(d))
			require.ErrorIs(t, err, kv.ErrFailed)
			require.ErrorIs(t, err, syscall.EIO)
			require.Positive(t, struck.Load())
			d.Before(nil)
			s := open(t, configOn(d))
			require.True(t, s.Created())
			require.NoError(t, s.Close())
		})
	}
}

// TestTableErrorsAreTriedAgain: Pebble retries the writing of a table.
func TestTableErrorsAreTriedAgain(t *testing.T) {
	for name, match := range map[string]func(op testdisk.Op) bool{
		"create": func(op testdisk.Op) bool { return op.Kind == errorfs.OpCreate },
		"write":  func(op testdisk.Op) bool { return op.Kind == errorfs.OpFileWrite },
		"sync":   testdisk.Op.Syncs,
	} {
		t.Run(name, func(t *testing.T) {
			d := testdisk.New()
			s := open(t, configOn(d))
			mustPut(t, s, "k", "v")
			struck := d.FailOnce(func(op testdisk.Op) bool { return op.OnTable() && match(op) }, syscall.EIO)
			require.NoError(t, s.Flush())
			require.Greater(t, struck.Load(), int64(1))
			require.Positive(t, s.Metrics().BackgroundErrors)
			require.NoError(t, s.Err())
			mustPut(t, s, "l", "w")
			require.NoError(t, s.Close())
			s = open(t, configOn(d))
			require.Equal(t, []string{"k=v", "l=w"}, pairs(t, s, nil, nil))
			require.NoError(t, s.Close())
		})
	}
}

// TestTableErrorsForEverFail: a disk on which no table can be written is broken. The store
// decides that after many retries, which must not follow each other at once.
func TestTableErrorsForEverFail(t *testing.T) {
	childtest.RunBubble(t, func(t *testing.T) {
		d := testdisk.New()
		s := open(t, configOn(d))
		mustPut(t, s, "k", "v")
		struck := d.FailAlways(func(op testdisk.Op) bool { return op.OnTable() && op.Kind == errorfs.OpFileWrite }, syscall.EIO)
		begin := time.Now()
		require.ErrorIs(t, s.Flush(), kv.ErrFailed)
		require.ErrorIs(t, s.Err(), syscall.EIO)
		require.GreaterOrEqual(t, time.Since(begin), 2*time.Second, "hiccups are ridden out")
		require.Less(t, time.Since(begin), 3*time.Second, "puts wait for this once the memtables are full")
		require.Less(t, struck.Load(), int64(100))
		requireValue(t, s, "k", "v")
		require.ErrorIs(t, s.Close(), kv.ErrFailed)
		d.Before(nil)
		s = open(t, configOn(d))
		requireValue(t, s, "k", "v")
		require.NoError(t, s.Close())
	})
}

// TestReadErrorsPass: an error of a read concerns only that call, and never looks like the end
// of the keys.
func TestReadErrorsPass(t *testing.T) { synctest.Test(t, readErrorsPass) }

func readErrorsPass(t *testing.T) {
	d := testdisk.New()
	s := open(t, configOn(d))
	mustPut(t, s, "k", "v")
	require.NoError(t, s.Close())
	s = open(t, configOn(d)) // with nothing cached
	d.FailAlways(func(op testdisk.Op) bool { return op.OnTable() && op.Kind.ReadOrWrite() == errorfs.OpIsRead }, syscall.EIO)
	_, err := s.Get([]byte("k"))
	require.ErrorIs(t, err, syscall.EIO)
	require.NotErrorIs(t, err, kv.ErrNotFound)
	require.NotErrorIs(t, err, kv.ErrCorrupt)
	if iter, err := s.NewIter(nil, nil); err == nil {
		require.False(t, iter.First())
		require.ErrorIs(t, iter.Error(), syscall.EIO)
		require.NoError(t, iter.Close(), "Error has told it")
	} else {
		require.ErrorIs(t, err, syscall.EIO)
	}
	if iter, err := s.NewIter(nil, nil); err == nil {
		require.False(t, iter.First())
		require.ErrorIs(t, iter.Close(), syscall.EIO)
	}
	require.NoError(t, s.Err())
	d.Before(nil)
	<-time.After(time.Second) // for reading by Pebble itself that has begun, whose error a reader shares
	requireValue(t, s, "k", "v")
	require.Equal(t, []string{"k=v"}, pairs(t, s, nil, nil))
	require.NoError(t, s.Close())
}

// TestShortageOfReaderHasAClass: a table that cannot be opened for lack of a
// descriptor is neither damaged nor missing.
func TestShortageOfReaderHasAClass(t *testing.T) {
	for _, shortage := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		t.Run(shortage.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := testdisk.New()
				s := open(t, configOn(d))
				mustPut(t, s, "k", "v")
				require.NoError(t, s.Close())
				s = open(t, configOn(d)) // with nothing cached
				d.FailAlways(func(op testdisk.Op) bool { return op.OnTable() && op.Kind.ReadOrWrite() == errorfs.OpIsRead }, shortage)
				_, err := s.Get([]byte("k"))
				require.ErrorIs(t, err, kv.ErrOutOfResources)
				require.ErrorIs(t, err, shortage)
				require.NoError(t, s.Err())
				d.Before(nil)
				<-time.After(time.Second) // for reading by Pebble itself that has begun, whose error a reader shares
				requireValue(t, s, "k", "v")
				require.NoError(t, s.Close())
			})
		})
	}
}

// TestUnreadableTableKeepsNobodyBusy: Pebble reads every table when a database is opened, and
// retries at once if that fails. For an hour a table cannot be read, or is damaged where Pebble
// notices at once: there is about one read a minute.
func TestUnreadableTableKeepsNobodyBusy(t *testing.T) {
	for name, damaged := range map[string]bool{"unreadable": false, "damaged": true} {
		t.Run(name, func(t *testing.T) {
			childtest.RunBubble(t, func(t *testing.T) { unreadableTable(t, damaged) })
		})
	}
}

func unreadableTable(t *testing.T, damaged bool) {
	d := testdisk.New()
	s := open(t, configOn(d))
	mustPut(t, s, "k", "v")
	require.NoError(t, s.Close())
	var tried atomic.Int64
	d.Before(func(op testdisk.Op) error {
		if !op.OnTable() || op.Kind != errorfs.OpOpen {
			return nil
		}
		tried.Add(1)
		if damaged {
			return nil
		}
		return syscall.EIO
	})
	if damaged {
		for _, name := range tableNames(t, d) {
			data, err := d.Mem.UnsafeGetFileDataBuffer(name)
			require.NoError(t, err)
			data[len(data)-1] ^= 1 // in the magic number
		}
	}
	s = open(t, configOn(d))
	<-time.After(time.Hour)
	require.Less(t, tried.Load(), int64(200), "a pause that grows to a minute")
	require.NoError(t, s.Err())
	if damaged {
		_, err := s.Get([]byte("k"))
		require.ErrorIs(t, err, kv.ErrCorrupt)
		require.NoError(t, s.Close())
		return
	}
	d.Before(nil)
	<-time.After(time.Second)
	requireValue(t, s, "k", "v")
	require.NoError(t, s.Close())
}

func tableNames(t *testing.T, d *testdisk.Disk) (names []string) {
	t.Helper()
	all, err := d.List(memDir + "/store")
	require.NoError(t, err)
	for _, name := range all {
		if strings.HasSuffix(name, ".sst") {
			names = append(names, memDir+"/store/"+name)
		}
	}
	require.NotEmpty(t, names)
	return names
}

// TestFatalCallParks: Pebble's fatal call fails the store, and never returns.
func TestFatalCallParks(t *testing.T) {
	childtest.RunBubble(t, func(t *testing.T) {
		s := open(t, configInMemory())
		mustPut(t, s, "a", "1")
		back := inBackground(func() error {
			kv.Fatalf(s, "something broke: %v", fmt.Errorf("at the bottom: %w", syscall.EIO))
			return nil
		})
		<-s.Failed()
		require.ErrorIs(t, s.Err(), syscall.EIO)
		require.ErrorContains(t, s.Err(), "something broke: at the bottom")
		<-time.After(24 * time.Hour)
		require.Empty(t, back)
		requireValue(t, s, "a", "1")
		require.ErrorIs(t, s.Close(), kv.ErrFailed)

		s = open(t, configInMemory())
		go kv.Fatalf(s, "number %d", 7)
		<-s.Failed()
		require.ErrorContains(t, s.Err(), "number 7")
		require.ErrorIs(t, s.Close(), kv.ErrFailed)
	})
}

// TestAbandonedStoresAreBounded: a store that cannot be closed stays in memory, so their number
// is limited.
func TestAbandonedStoresAreBounded(t *testing.T) {
	childtest.Run(t, func(t *testing.T) {
		opened := 0
		for ; opened < 100; opened++ {
			s, err := kv.Open(configInMemory())
			if err != nil {
				require.ErrorIs(t, err, kv.ErrFailed)
				require.ErrorContains(t, err, "restart it")
				break
			}
			kv.Fail(s, errors.New("broken"))
			require.ErrorIs(t, s.Close(), kv.ErrFailed)
		}
		require.Equal(t, 8, opened)
	})
}

package kv_test

import (
	"strings"
	"sync"
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

// fullness records the calls of OnFull.
type fullness struct {
	mu   sync.Mutex // guards the field below
	told []bool
}

func (f *fullness) tell(full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, full)
}

func (f *fullness) all() []bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.told
}

// TestFullDiskHeals: the disk is full, for each kind of file. Writing waits without spinning,
// reading goes on, and writing continues when there is space again.
func TestFullDiskHeals(t *testing.T) {
	kinds := map[string]func(testdisk.Op) bool{
		"for everything": func(testdisk.Op) bool { return true },
		"for logs":       testdisk.Op.OnLog,
		"for tables":     testdisk.Op.OnTable,
		"for manifests":  testdisk.Op.OnManifest,
	}
	for name, kind := range kinds {
		for _, noSpace := range []error{syscall.ENOSPC, syscall.EDQUOT} {
			t.Run(name+" "+noSpace.Error(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { fullDiskHeals(t, kind, noSpace) })
			})
		}
	}
}

func fullDiskHeals(t *testing.T, kind func(testdisk.Op) bool, noSpace error) {
	d := testdisk.New()
	var full fullness
	cfg := configOn(d)
	cfg.OnFull = full.tell
	s := open(t, cfg)
	mustPut(t, s, "a", "1")
	s.Metrics()
	struck := d.FailAlways(func(op testdisk.Op) bool { return op.TakesSpace() && kind(op) }, noSpace)
	begin := time.Now()

	// Write until a write blocks: a rotation needs all kinds of files.
	written := inBackground(func() error {
		if err := put(s, "b", "2", true); err != nil {
			return err
		}
		return s.Flush()
	})
	<-time.After(time.Hour)
	require.Empty(t, written)
	require.NoError(t, s.Err())
	require.True(t, s.Full())
	require.Equal(t, []bool{true}, full.all())
	require.Less(t, struck.Load(), int64(4*3700), "an hour of looking for space, once a second")

	requireValue(t, s, "a", "1")
	require.Equal(t, []string{"a=1"}, pairs(t, s, nil, []byte("b")))
	snap, err := s.NewSnapshot()
	require.NoError(t, err)
	requireValue(t, snap, "a", "1")
	require.NoError(t, snap.Close(t.Context()))
	require.Positive(t, s.Metrics().DiskBytes)
	require.Equal(t, time.Hour, time.Since(begin), "none of this waited")

	d.Before(nil)
	healed := time.Now()
	require.NoError(t, <-written)
	require.Less(t, time.Since(healed), 5*time.Second)
	require.False(t, s.Full())
	require.Equal(t, []bool{true, false}, full.all())
	mustPut(t, s, "c", "3")
	require.NoError(t, s.Close())
	s = open(t, configOn(d))
	require.Equal(t, []string{"a=1", "b=2", "c=3"}, pairs(t, s, nil, nil))
	require.NoError(t, s.Close())
}

// TestCloseWhileFull: Close cannot wait for space, and still no acknowledged row is lost.
func TestCloseWhileFull(t *testing.T) {
	childtest.RunBubble(t, func(t *testing.T) {
		d := testdisk.New()
		s := open(t, configOn(d))
		mustPut(t, s, "a", "1")
		d.FailAlways(testdisk.Op.TakesSpace, syscall.ENOSPC)
		begin := time.Now()
		err := s.Close() // the first to meet the full disk
		require.ErrorIs(t, err, kv.ErrDiskFull)
		require.Less(t, time.Since(begin), 5*time.Second)
		requireClosed(t, s)

		d.Before(nil)
		s = open(t, configOn(d))
		requireValue(t, s, "a", "1")
		mustPut(t, s, "b", "2")
		d.FailAlways(testdisk.Op.TakesSpace, syscall.ENOSPC)
		written := inBackground(func() error { return put(s, "c", "3", true) })
		<-time.After(time.Minute)
		require.Empty(t, written)
		begin = time.Now()
		require.ErrorIs(t, s.Close(), kv.ErrDiskFull)
		require.Less(t, time.Since(begin), 5*time.Second)
		<-time.After(time.Hour)
		require.Empty(t, written, "what was held up is never told a result that it does not have")

		d.Before(nil)
		s = open(t, configOn(d))
		require.Equal(t, []string{"a=1", "b=2"}, pairs(t, s, nil, []byte("c")))
		require.NoError(t, s.Close())
	})
}

// TestCloseWaitsAWhileForSpace: a disk that is full for a moment only.
func TestCloseWaitsAWhileForSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testdisk.New()
		s := open(t, configOn(d))
		mustPut(t, s, "a", "1")
		d.FailAlways(testdisk.Op.TakesSpace, syscall.ENOSPC)
		time.AfterFunc(500*time.Millisecond, func() { d.Before(nil) })
		require.NoError(t, s.Close())
	})
}

// TestOpenOnFullDisk opens databases that cannot be opened without writing, one
// with a log to be replayed and one that is new.
func TestOpenOnFullDisk(t *testing.T) {
	childtest.RunBubble(t, func(t *testing.T) {
		d := testdisk.New()
		s := open(t, configOn(d))
		mustPut(t, s, "a", "1")
		image := d.Mem.CrashClone(crashWithAll()) // with the row only in a log
		require.NoError(t, s.Close())
		replay, fresh := testdisk.On(image), testdisk.New()
		for _, d := range []*testdisk.Disk{replay, fresh} {
			d.FailAlways(testdisk.Op.TakesSpace, syscall.ENOSPC)
			begin := time.Now()
			_, err := kv.Open(configOn(d))
			require.ErrorIs(t, err, kv.ErrDiskFull)
			require.LessOrEqual(t, time.Since(begin), 12*time.Second)

			// An open survives a moment without space.
			time.AfterFunc(5*time.Second, func() { d.Before(nil) })
			s := open(t, configOn(d))
			require.Equal(t, d == fresh, s.Created())
			if d == replay {
				requireValue(t, s, "a", "1")
			}
			require.NoError(t, s.Close())
		}
	})
}

// TestOpenLooksAtFreeSpace: if the free space is known, Open refuses without waiting.
func TestOpenLooksAtFreeSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testdisk.New()
		setFree(d, 1<<20)
		begin := time.Now()
		touched := d.FailAlways(testdisk.Op.TakesSpace, syscall.ENOSPC)
		for range 20 { // more than may be abandoned
			_, err := kv.Open(configOn(d))
			require.ErrorIs(t, err, kv.ErrDiskFull)
			require.ErrorContains(t, err, "1048576 bytes are free")
		}
		require.Zero(t, time.Since(begin))
		require.Zero(t, touched.Load())
		d.Before(nil)
		setFree(d, 1<<30)
		require.NoError(t, open(t, configOn(d)).Close())
	})
}

// TestReserve: below the reserve the store counts as full while there is still space for
// removing things.
func TestReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testdisk.New()
		setFree(d, 1<<30)
		var full fullness
		cfg := configOn(d)
		cfg.ReserveBytes = 100 << 20
		cfg.OnFull = full.tell
		s := open(t, cfg)
		mustPut(t, s, "a", "1")
		require.False(t, s.Full())

		setFree(d, 50<<20)
		require.NoError(t, s.Flush()) // makes files, which checks the free space
		require.True(t, s.Full())
		mustPut(t, s, "b", "2")
		require.NoError(t, s.Excise(t.Context(), []byte("a"), []byte("b")))
		require.NoError(t, s.Flush())
		require.Positive(t, s.Metrics().DiskBytes, "numbers are fresh, for nothing is stuck")

		setFree(d, 1<<30)
		<-time.After(2 * time.Second)
		require.False(t, s.Full())
		require.Equal(t, []bool{true, false}, full.all())

		// Close also ends the wait for space.
		setFree(d, 50<<20)
		require.NoError(t, s.Flush())
		require.True(t, s.Full())
		require.NoError(t, s.Close())
	})
}

// TestCreationWithoutSpaceForDirectory waits for space for the directory itself, in vain.
func TestCreationWithoutSpaceForDirectory(t *testing.T) {
	childtest.RunBubble(t, func(t *testing.T) {
		d := testdisk.New()
		d.FailAlways(func(op testdisk.Op) bool { return op.Kind == errorfs.OpMkdirAll }, syscall.EDQUOT)
		_, err := kv.Open(configOn(d))
		require.ErrorIs(t, err, kv.ErrDiskFull)
		names, err := d.List("/")
		require.NoError(t, err)
		require.NotContains(t, strings.Join(names, " "), "data")
	})
}

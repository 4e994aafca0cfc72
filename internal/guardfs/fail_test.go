package guardfs_test

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/guardfs"
	"github.com/braidstream/braid/internal/testdisk"
)

// requireParked requires, in a bubble, that an operation has not returned and that the guard has
// failed.
func requireParked(t *testing.T, g *guardfs.FS, result <-chan error) {
	t.Helper()
	<-time.After(time.Hour)
	synctest.Wait()
	select {
	case err := <-result:
		require.Fail(t, "the operation came back", "error: %v", err)
	default:
	}
	select {
	case <-g.Failed():
	default:
		require.Fail(t, "the guard has not failed")
	}
}

func TestFirstErrorOnCriticalFileParks(t *testing.T) {
	childtest.RunBubble(t, func(t *testing.T) {
		for _, op := range criticalOperations() {
			t.Log(op.name)
			d := newDisk(t)
			require.NoError(t, d.MkdirAll("/db/store", 0o755))
			g := guardfs.New(d, guardfs.Config{Dir: dir})
			run := op.prepare(t, g)
			table := create(t, g, "/db/000009.sst")
			d.failWrites(syscall.EIO)
			require.NoError(t, g.Err())

			result := inBackground(run)
			requireParked(t, g, result)
			require.ErrorIs(t, g.Err(), syscall.EIO)
			require.Equal(t, 1, d.Count(op.kind), "it was tried again")
			require.True(t, g.Quiesce(time.Second))

			// The disk works again, but this guard never changes it again.
			d.Before(nil)
			requireParked(t, g, inBackground(func() error { return writeOne(table) }))
			requireParked(t, g, inBackground(func() error { return createAs("/db/other")(g) }))
			requireParked(t, g, inBackground(func() error { return g.Remove("/db/000009.sst") }))
			require.Zero(t, d.Count(errorfs.OpFileWrite)+d.Count(errorfs.OpCreate)+d.Count(errorfs.OpRemove))
			require.True(t, g.Quiesce(time.Second))

			// Reads still work, and so do operations outside the directory.
			require.Equal(t, "", content(t, g, "/db/000009.sst"))
			write(t, create(t, g, "/000001.log"), "text")
			g.Close()
		}
	})
}

func TestNoSpaceFromSyncOfCriticalFileParks(t *testing.T) {
	childtest.RunBubble(t, func(t *testing.T) {
		for _, noSpace := range shortages() {
			for _, op := range criticalOperations() {
				if op.kind != errorfs.OpFileSync && op.kind != errorfs.OpFileSyncData && op.kind != errorfs.OpFileSyncTo {
					continue
				}
				d := newDisk(t)
				require.NoError(t, d.MkdirAll("/db/store", 0o755))
				g := guardfs.New(d, guardfs.Config{Dir: dir})
				run := op.prepare(t, g)
				d.failWrites(noSpace)
				requireParked(t, g, inBackground(run))
				require.ErrorIs(t, g.Err(), noSpace, op.name)
				require.Equal(t, 1, d.Count(op.kind), op.name)
			}
		}
	})
}

func TestFailWakesAndParksThoseThatWaitForSpace(t *testing.T) {
	childtest.RunBubble(t, func(t *testing.T) {
		d := newDisk(t)
		g := guardfs.New(d, guardfs.Config{Dir: dir})
		f := create(t, g, "/db/000002.log")
		d.failWrites(syscall.ENOSPC)
		result := inBackground(func() error { return writeOne(f) })
		<-time.After(time.Minute)
		require.True(t, g.Quiesce(0), "one that waits counts as in flight")
		cause := errors.New("given up")
		g.Abandon(cause)
		d.Before(nil)
		requireParked(t, g, result)
		require.Zero(t, d.Count(errorfs.OpFileWrite))
		g.Abandon(errors.New("a later one"))
		require.Equal(t, cause, g.Err())
	})
}

func TestTooManyErrorsOnOrdinaryFilesPark(t *testing.T) {
	childtest.RunBubble(t, func(t *testing.T) {
		d := newDisk(t)
		g := guardfs.New(d, guardfs.Config{Dir: dir})
		d.failWrites(syscall.EIO)
		start := time.Now()
		failed := make(chan time.Duration, 1)
		go func() {
			<-g.Failed()
			failed <- time.Since(start)
		}()
		n := 0
		result := inBackground(func() error {
			for {
				if err := createAs("/db/000002.sst")(g); !errors.Is(err, syscall.EIO) {
					return err
				}
				n++
			}
		})
		requireParked(t, g, result)
		require.Equal(t, 9, n)
		require.Equal(t, 2130*time.Millisecond, <-failed, "it rides out hiccups, and keeps nobody waiting for long")
		require.ErrorIs(t, g.Err(), syscall.EIO)
	})
}

// TestSlowErrorsOnOrdinaryFilesPark: a disk that takes ten seconds to report an error is not given
// up for one disturbance that hits a flush and two compactions.
func TestSlowErrorsOnOrdinaryFilesPark(t *testing.T) {
	childtest.RunBubble(t, func(t *testing.T) {
		d := newDisk(t)
		g := guardfs.New(d, guardfs.Config{Dir: dir})
		d.Before(func(testdisk.Op) error {
			<-time.After(10 * time.Second)
			return syscall.EIO
		})
		for range 3 {
			require.ErrorIs(t, createAs("/db/000002.sst")(g), syscall.EIO)
		}
		requireParked(t, g, inBackground(func() error { return createAs("/db/000002.sst")(g) }))
	})
}

func TestParkNeverReturns(t *testing.T) {
	childtest.RunBubble(t, func(t *testing.T) {
		g := guardfs.New(vfs.NewMem(), guardfs.Config{Dir: dir})
		result := inBackground(func() error { g.Park(nil); return nil })
		requireParked(t, g, result)
		require.ErrorIs(t, g.Err(), guardfs.ErrUnknown)
	})
}

func TestQuiesceWaitsForOperationsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		g := guardfs.New(d, guardfs.Config{Dir: dir})
		f := create(t, g, "/db/000002.log")
		release := d.Hold(testdisk.Op.Syncs)
		result := inBackground(f.Sync)
		<-d.Held()
		g.Abandon(errors.New("given up"))
		start := time.Now()
		require.False(t, g.Quiesce(10*time.Second))
		require.Equal(t, 10*time.Second, time.Since(start))
		quiet := make(chan bool)
		go func() { quiet <- g.Quiesce(10 * time.Second) }()
		synctest.Wait()
		release()
		require.True(t, <-quiet)
		require.NoError(t, <-result, "an operation that succeeds after the failure says so")
	})
}

func TestOrdinaryErrorsAreSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		g := guardfs.New(d, guardfs.Config{Dir: dir})
		f := create(t, g, "/db/000002.sst")
		d.failWrites(syscall.EIO)
		took := func() time.Duration {
			start := time.Now()
			require.ErrorIs(t, writeOne(f), syscall.EIO)
			return time.Since(start)
		}
		want := []time.Duration{10, 20, 40, 80, 160, 320, 500}
		for _, w := range want {
			require.Equal(t, w*time.Millisecond, took())
		}
		// Creating a file is not a success; making one durable is.
		d.Before(nil)
		f2 := create(t, g, "/db/000004.sst")
		d.failWrites(syscall.EIO)
		require.Equal(t, 500*time.Millisecond, took())
		d.Before(nil)
		require.NoError(t, f.Sync(), "of a file that is incomplete, which is no success either")
		d.failWrites(syscall.EIO)
		require.Equal(t, 500*time.Millisecond, took())
		d.Before(nil)
		require.NoError(t, f2.Sync())
		d.failWrites(syscall.EIO)
		require.Equal(t, 10*time.Millisecond, took())
		require.NoError(t, g.Err())
	})
}

func TestErrorsThatAreResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		g := guardfs.New(d, guardfs.Config{Dir: dir})
		start := time.Now()
		create(t, g, "/db/000002.log")
		create(t, g, "/db/000002.sst")
		d.failWrites(fs.ErrNotExist)
		require.ErrorIs(t, g.Remove("/db/000002.log"), fs.ErrNotExist)
		require.ErrorIs(t, g.Remove("/db/000002.sst"), fs.ErrNotExist)
		d.Before(nil)
		f := create(t, g, "/db/000004.sst")
		d.failWrites(syscall.EIO)
		// Nobody retries these, so they are not slowed down.
		require.ErrorIs(t, g.Remove("/db/000004.sst"), syscall.EIO)
		require.ErrorIs(t, g.Link("/db/000004.sst", "/db/000005.sst"), syscall.EIO)
		require.NoError(t, f.Preallocate(0, 1))
		require.Zero(t, time.Since(start))
		require.NoError(t, g.Err())
	})
}

func TestForeignFilesPassThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(t)
		g := guardfs.New(d, guardfs.Config{Dir: dir})
		for _, name := range []string{"/elsewhere", "/db2", "/"} {
			require.NoError(t, g.MkdirAll(name, 0o755))
			f := create(t, g, d.PathJoin(name, "000002.log"))
			for _, err := range []error{syscall.EIO, syscall.ENOSPC} {
				start := time.Now()
				d.failWrites(err)
				require.ErrorIs(t, writeOne(f), err)
				require.ErrorIs(t, f.Sync(), err)
				require.ErrorIs(t, createAs(d.PathJoin(name, "MANIFEST-000001"))(g), err)
				parent, openErr := g.OpenDir(name)
				require.NoError(t, openErr)
				require.ErrorIs(t, parent.Sync(), err)
				require.Zero(t, time.Since(start))
				d.Before(nil)
			}
		}
		require.NoError(t, g.Err())
		require.Equal(t, guardfs.Enough, g.Space())
	})
}

func TestLockIsAlwaysGranted(t *testing.T) {
	g := guardfs.New(vfs.NewMem(), guardfs.Config{Dir: dir})
	for range 2 {
		lock, err := g.Lock("/db/LOCK")
		require.NoError(t, err)
		require.NoError(t, lock.Close())
	}
	_, err := g.Stat("/db/LOCK")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

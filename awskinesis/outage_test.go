package awskinesis_test

import (
	"context"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
)

// inOutage is inBubble with a disk that a test can break.
func inOutage(t *testing.T, opts awskinesis.ForwarderOptions, test func(o *outbox, disk *testdisk.Disk)) {
	t.Helper()
	inBubble(t, 1, 1, opts, func(o *outbox) {
		require.NoError(o, o.db.Close())
		disk := testdisk.New()
		opened, err := companion.Open("/db", &braid.Options{ReserveBytes: -1, Logger: quiet()}, companion.Environment{FS: disk})
		require.NoError(o, err)
		o.db = opened.(*braid.DB)
		_, err = o.db.CreateStream(o.Context(), "out", nil)
		require.NoError(o, err)
		test(o, disk)
	})
}

// fill makes the disk full, as far as the database knows.
func (o *outbox) fill(disk *testdisk.Disk) {
	disk.FailAlways(testdisk.Op.TakesSpace, syscall.ENOSPC)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := o.db.CreateStream(ctx, "meets-the-full-disk", nil)
	require.Error(o, err)
}

// While the disk is full, puts are refused, by the disk or by the bounds, and earlier records reach
// Kinesis, once. Their checkpoint is stored when there is space again.
func TestForwarderOnAFullDisk(t *testing.T) {
	for name, opts := range map[string]awskinesis.ForwarderOptions{
		"unbounded": {},
		"fast":      {Fast: true},
		"reject":    {MaxBytes: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			inOutage(t, opts, func(o *outbox, disk *testdisk.Disk) {
				o.link.set(true, 0)
				o.start()
				synctest.Wait()
				put, err := o.tryPut(50)
				require.NoError(o, err)
				require.Equal(o, 50, put)
				o.fill(disk)
				_, err = o.tryPut(1)
				require.ErrorIs(o, err, braid.ErrDiskFull)
				if opts.MaxBytes > 0 {
					time.Sleep(time.Second)
					require.NoError(o, o.forwarder.Admit(o.Context(), 500), "the backlog can be measured")
					require.ErrorIs(o, o.forwarder.Admit(o.Context(), 1), awskinesis.ErrOutboxFull)
				}
				o.link.set(false, 0)
				time.Sleep(17 * time.Minute)
				require.Len(o, o.stored()["a"], 50, "a full disk does not delay earlier records")
				disk.Before(nil)
				time.Sleep(time.Minute)
				o.caughtUp()
				put, err = o.tryPut(50)
				require.NoError(o, err)
				require.Equal(o, 50, put)
				o.caughtUp()
				require.Equal(o, int64(100), o.status().Forwarded)
				require.NoError(o, o.stop())
				o.start() // continues after all of them
				synctest.Wait()
				o.caughtUp()
				require.NoError(o, o.stop())
				require.Len(o, o.stored()["a"], 100, "nothing is lost or duplicated")
			})
		})
	}
}

// Calls that ask for room on a stalled disk end with their context, even those that wait for
// another call that reads the disk.
func TestForwarderAdmitsOnAStalledDisk(t *testing.T) {
	inOutage(t, awskinesis.ForwarderOptions{MaxBytes: 1000}, func(o *outbox, disk *testdisk.Disk) {
		o.make()
		o.putTen(0, 10)
		require.NoError(o, o.db.Close()) // so that it has to read the disk
		opened, err := companion.Open("/db", &braid.Options{ReserveBytes: -1, Logger: quiet()}, companion.Environment{FS: disk})
		require.NoError(o, err)
		o.db = opened.(*braid.DB)
		o.make()
		goOn := disk.Hold(func(op testdisk.Op) bool { return true })
		admitted := make(chan error, 2)
		go func() { admitted <- o.forwarder.Admit(o.Context(), 1) }()
		synctest.Wait()
		require.Empty(o, admitted, "it waits for the disk")
		ctx, cancel := context.WithTimeout(o.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err = o.forwarder.PutRecord(ctx, "a", []byte(ten))
		require.ErrorIs(o, err, context.DeadlineExceeded)
		require.Equal(o, time.Second, time.Since(start))
		goOn()
		require.NoError(o, <-admitted)
	})
}

// DropOldest works on a full disk, when it is needed most.
func TestForwarderDropsOnAFullDisk(t *testing.T) {
	inOutage(t, awskinesis.ForwarderOptions{MaxAge: time.Minute, DropOldest: true}, func(o *outbox, disk *testdisk.Disk) {
		o.make()
		for range 50 { // none in flight: Run has not begun
			_, err := o.stream().PutRecord(o.Context(), "a", []byte(ten))
			require.NoError(o, err)
		}
		o.fill(disk)
		time.Sleep(2 * time.Minute)
		o.start()
		time.Sleep(time.Minute)
		disk.Before(nil)
		time.Sleep(17 * time.Minute)
		o.caughtUp()
		status := o.status()
		require.Equal(o, int64(50), status.Dropped)
		require.Equal(o, int64(500), status.DroppedBytes)
		require.Zero(o, status.Forwarded)
		require.Empty(o, o.stored())
		require.NoError(o, o.stop())
	})
}

// Records are counted as dropped when they are trimmed, not when they are chosen: a trim may fail.
func TestForwarderCountsWhatItHasDropped(t *testing.T) {
	inOutage(t, awskinesis.ForwarderOptions{MaxBytes: 100, DropOldest: true}, func(o *outbox, disk *testdisk.Disk) {
		o.link.set(true, 0)
		o.start()
		synctest.Wait()
		o.putTen(0, 1)
		synctest.Wait()
		o.putTen(1, 31) // the first is in flight
		goOn := disk.Hold(func(op testdisk.Op) bool { return op.OnLog() && op.Changes() })
		time.Sleep(2 * time.Second)
		require.Zero(o, o.status().Dropped, "the trim has not returned")
		goOn()
		time.Sleep(2 * time.Second)
		status := o.status()
		require.Equal(o, int64(20), status.Dropped)
		require.Equal(o, int64(200), status.DroppedBytes)
		o.link.set(false, 0)
		o.caughtUp()
		require.Equal(o, int64(11), o.status().Forwarded)
		require.NoError(o, o.stop())
	})
}

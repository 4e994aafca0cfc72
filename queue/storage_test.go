package queue_test

import (
	"bytes"
	"context"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/braidtest"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
	"github.com/braidstream/braid/queue"
)

// Without its key a record is not received, and no attempt is counted.
func TestRecordsWhoseKeyIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, err := braid.NewKeyRing(map[string][]byte{"main": bytes.Repeat([]byte{1}, 32)})
		require.NoError(t, err)
		disk := braidtest.NewDisk()
		db, err := disk.Open(&braid.Options{KeyProvider: ring})
		require.NoError(t, err)
		s, err := db.CreateStream(ctx, "s", nil)
		require.NoError(t, err)
		require.NoError(t, s.StartEncryption(ctx, "main"))
		k := &kit{t, db, s}
		q := k.open("q", queue.Options{})
		k.put(2)
		first := k.receive(q, 1)
		require.Equal(t, []string{"0"}, texts(first))
		require.True(t, first[0].Encrypted)
		require.NoError(t, q.Extend(ctx, 0, first[0].Receipt))
		require.NoError(t, db.Close())

		db, err = disk.Open(nil)
		require.NoError(t, err)
		q, err = queue.Get(ctx, db, "q")
		require.NoError(t, err)
		for range 10 {
			_, err = q.Receive(ctx, 1, noWait)
			require.ErrorIs(t, err, braid.ErrKeyUnavailable)
			synctest.Wait()
		}
		d, err := q.Describe(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 2, d.Visible)
		require.NoError(t, db.Close())

		db, err = disk.Open(&braid.Options{KeyProvider: ring})
		require.NoError(t, err)
		q, err = queue.Get(ctx, db, "q")
		require.NoError(t, err)
		records, err := q.Receive(ctx, 2, noWait)
		require.NoError(t, err)
		require.Len(t, records, 2)
		for _, r := range records {
			require.LessOrEqual(t, r.Receives, 2)
		}
		require.NoError(t, db.Close())
	})
}

// A full disk refuses receives, but not acknowledgements. A worker waits until there is
// space.
func TestAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := testdisk.New()
		opened, err := companion.Open("/db", &braid.Options{ReserveBytes: -1}, companion.Environment{FS: disk})
		require.NoError(t, err)
		db := opened.(*braid.DB)
		s, err := db.CreateStream(ctx, "s", nil)
		require.NoError(t, err)
		k := &kit{t, db, s}
		q := k.open("q", queue.Options{})
		k.put(20)
		begin := make(chan struct{})
		stop := k.work(q, func(context.Context, queue.Record) error {
			<-begin
			return nil
		}, &queue.WorkOptions{Concurrency: 3, VisibilityTimeout: 12 * time.Hour})
		synctest.Wait()

		disk.FailAlways(testdisk.Op.TakesSpace, syscall.ENOSPC)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err = s.PutRecord(short, "k", nil) // it finds the disk full
		require.ErrorIs(t, err, braid.ErrOutcomeUnknown)
		_, err = q.Receive(ctx, 1, noWait)
		require.ErrorIs(t, err, braid.ErrDiskFull)
		close(begin)
		time.Sleep(17 * time.Minute)
		disk.Before(nil)
		time.Sleep(time.Minute)
		require.NoError(t, stop())
		d := k.describe(q)
		require.Zero(t, d.Visible+d.InFlight)
		require.NoError(t, db.Close())
	})
}

// A commit of WorkTx that is refused, by a full disk or for want of a key, is no failed
// attempt: the record is given back, with those after it in the batch, until it can be done.
func TestACommitOfWorkTxThatIsRefusedIsNoAttempt(t *testing.T) {
	for _, how := range []string{"full", "key"} {
		synctest.Test(t, func(t *testing.T) {
			disk := testdisk.New()
			secret := bytes.Repeat([]byte{1}, 32)
			open := func(o *braid.Options) *braid.DB {
				o.ReserveBytes = -1
				return openOn(t, disk, o)
			}
			ring, err := braid.NewKeyRing(map[string][]byte{"main": secret})
			require.NoError(t, err)
			db := open(&braid.Options{KeyProvider: ring})
			s, err := db.CreateStream(ctx, "s", nil)
			require.NoError(t, err)
			out, err := db.CreateStream(ctx, "out", nil)
			require.NoError(t, err)
			k := &kit{t, db, s}
			q := k.open("q", queue.Options{MaxReceives: 1})
			k.put(5)
			if how == "key" {
				require.NoError(t, out.StartEncryption(ctx, "main"))
				require.NoError(t, db.Close())
				ring, err = braid.NewKeyRing(map[string][]byte{"other": secret})
				require.NoError(t, err)
				k.db = open(&braid.Options{KeyProvider: ring})
				q, err = queue.Get(ctx, k.db, "q")
				require.NoError(t, err)
			}
			begin := make(chan struct{})
			var calls atomic.Int64
			work, stop := context.WithCancel(ctx)
			done := make(chan error, 1)
			go func() {
				done <- q.WorkTx(work, func(_ context.Context, tx *braid.Tx, r queue.Record) error {
					calls.Add(1)
					<-begin
					return tx.PutRecord("out", "k", r.Data)
				}, &queue.WorkOptions{Batch: 5, VisibilityTimeout: 12 * time.Hour})
			}()
			synctest.Wait()
			if how == "full" {
				disk.FailAlways(testdisk.Op.TakesSpace, syscall.ENOSPC)
				short, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				_, err := out.PutRecord(short, "k", nil) // which meets the full disk
				require.ErrorIs(t, err, braid.ErrOutcomeUnknown)
			}
			close(begin)
			time.Sleep(time.Minute)
			require.Less(t, calls.Load(), int64(100), "each has paused")
			if how == "full" {
				disk.Before(nil)
			} else {
				out, err := k.db.Stream("out")
				require.NoError(t, err)
				require.NoError(t, out.StopEncryption(ctx))
			}
			time.Sleep(time.Minute)
			stop()
			require.NoError(t, <-done)
			d := k.describe(q)
			require.Equal(t, []int64{5, 0}, []int64{d.Acknowledged, d.Dead})
			require.NoError(t, k.db.Close())
		})
	}
}

// A worker that could not extend the records of its batch in time calls the function for none
// of those that it knows it no longer holds: another receiver may work on them.
func TestAWorkerLeavesRecordsThatItNoLongerHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk := onTestDisk(t)
		q := k.open("q", queue.Options{})
		k.put(3)
		calls, ended := make(chan string, 9), make(chan error, 9)
		stop := k.work(q, func(c context.Context, r queue.Record) error {
			calls <- string(r.Data)
			<-c.Done()
			ended <- context.Cause(c)
			return nil
		}, &queue.WorkOptions{Batch: 3})
		synctest.Wait()
		disk.FailAlways(testdisk.Op.TakesSpace, syscall.ENOSPC)
		short, cancel := context.WithTimeout(ctx, second)
		defer cancel()
		require.ErrorIs(t, q.Update(short, func(*queue.Options) {}), braid.ErrOutcomeUnknown) // which meets the full disk
		time.Sleep(q30)
		disk.Before(nil)
		time.Sleep(5 * second)
		other, err := q.Receive(ctx, 3, &queue.ReceiveOptions{Wait: -1, VisibilityTimeout: time.Hour})
		require.NoError(t, err)
		require.Len(t, other, 3)
		require.ErrorIs(t, <-ended, queue.ErrReceiptExpired)
		time.Sleep(time.Minute)
		require.Len(t, calls, 1)
		require.NoError(t, q.Ack(ctx, receipts(other)...))
		require.NoError(t, stop())
		require.NoError(t, k.db.Close())
	})
}

// On a database that is only read nothing can ever be received, and nobody waits for it.
func TestAReadOnlyDatabaseHasNoReceivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk := onTestDisk(t)
		q := k.open("q", queue.Options{})
		k.put(1)
		require.NoError(t, q.Ack(ctx, receipts(k.receive(q, 1))...))
		require.NoError(t, k.db.Close())
		db := openOn(t, disk, &braid.Options{ReadOnly: true})
		q, err := queue.Get(ctx, db, "q")
		require.NoError(t, err)
		_, err = q.Receive(ctx, 1, nil)
		require.ErrorIs(t, err, braid.ErrReadOnly)
		_, err = q.DeadLetters().Receive(ctx, 1, nil)
		require.ErrorIs(t, err, braid.ErrReadOnly)
		for _, err := range q.Follow(ctx, nil) {
			require.ErrorIs(t, err, braid.ErrReadOnly)
		}
		require.ErrorIs(t, q.Work(ctx, func(context.Context, queue.Record) error { return nil }, nil), braid.ErrReadOnly)
		d, err := q.Describe(ctx)
		require.NoError(t, err)
		require.Zero(t, d.Visible)
		require.NoError(t, db.Close())
	})
}

// Calls end with their context on a disk that does not answer.
func TestAStalledDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := testdisk.New()
		opened, err := companion.Open("/db", &braid.Options{ReserveBytes: -1}, companion.Environment{FS: disk})
		require.NoError(t, err)
		db := opened.(*braid.DB)
		s, err := db.CreateStream(ctx, "s", nil)
		require.NoError(t, err)
		k := &kit{t, db, s}
		q := k.open("q", queue.Options{})
		k.put(2)
		r := k.receive(q, 1)[0]
		goOn := disk.Hold(func(op testdisk.Op) bool { return op.Changes() })
		for _, call := range []func(context.Context) error{
			func(ctx context.Context) error { _, err := q.Receive(ctx, 1, nil); return err },
			func(ctx context.Context) error { return q.Ack(ctx, r.Receipt) },
			func(ctx context.Context) error { return q.Extend(ctx, 0, r.Receipt) },
			func(ctx context.Context) error { return q.Update(ctx, func(o *queue.Options) { o.MaxReceives = 3 }) },
			func(ctx context.Context) error { _, err := q.DeadLetters().RestoreAll(ctx); return err },
			func(ctx context.Context) error {
				_, err := queue.Create(ctx, db, "other", &queue.Options{Stream: "s"})
				return err
			},
		} {
			short, cancel := context.WithTimeout(ctx, time.Second)
			require.ErrorIs(t, call(short), context.DeadlineExceeded)
			cancel()
		}
		goOn()
		synctest.Wait()
		d := k.describe(q)
		require.EqualValues(t, 1, d.Visible) // the abandoned receive has given it back
		require.NoError(t, db.Close())
	})
}

// While nothing can be received because a key is missing, records that workers have
// processed are still acknowledged, and nobody gets them again.
func TestWorkersAcknowledgeWhileTheyCannotReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, err := braid.NewKeyRing(map[string][]byte{"main": bytes.Repeat([]byte{1}, 32)})
		require.NoError(t, err)
		disk := braidtest.NewDisk()
		db, err := disk.Open(&braid.Options{KeyProvider: ring})
		require.NoError(t, err)
		s, err := db.CreateStream(ctx, "s", nil)
		require.NoError(t, err)
		k := &kit{t, db, s}
		k.open("q", queue.Options{})
		k.put(20)
		require.NoError(t, s.StartEncryption(ctx, "main"))
		k.put(1)
		require.NoError(t, db.Close())

		k, q := reopened(t, disk) // without the key
		var calls atomic.Int64
		stop := k.work(q, func(context.Context, queue.Record) error {
			calls.Add(1)
			return nil
		}, &queue.WorkOptions{Concurrency: 4, Batch: 5})
		time.Sleep(2 * time.Second)
		require.Zero(t, k.describe(q).InFlight)
		time.Sleep(10 * time.Minute)
		require.EqualValues(t, 20, calls.Load())
		require.NoError(t, stop())
		require.NoError(t, k.db.Close())
	})
}

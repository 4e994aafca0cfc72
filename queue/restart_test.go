package queue_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/braidtest"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
	"github.com/braidstream/braid/queue"
)

// reopened opens a database and its queue again.
func reopened(t *testing.T, disk *braidtest.Disk) (*kit, *queue.Queue) {
	t.Helper()
	db, err := disk.Open(nil)
	require.NoError(t, err)
	s, err := db.Stream("s")
	require.NoError(t, err)
	q, err := queue.Get(ctx, db, "q")
	require.NoError(t, err)
	return &kit{t, db, s}, q
}

// onDisk creates a database with a stream.
func onDisk(t *testing.T) (*kit, *braidtest.Disk) {
	t.Helper()
	disk := braidtest.NewDisk()
	db, err := disk.Open(nil)
	require.NoError(t, err)
	s, err := db.CreateStream(ctx, "s", &braid.StreamOptions{Shards: 2})
	require.NoError(t, err)
	return &kit{t, db, s}, disk
}

// A record whose attempt has failed waits for its backoff, whether or not the database is
// opened again in the meantime.
func TestTheBackoffOfAWorkerOutlastsTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk := onDisk(t)
		q := k.open("q", queue.Options{})
		k.put(1)
		stop := k.work(q, func(context.Context, queue.Record) error { return errors.New("not now") },
			&queue.WorkOptions{Backoff: func(int) time.Duration { return time.Hour }})
		time.Sleep(second)
		require.NoError(t, stop())
		require.EqualValues(t, 1, k.describe(q).Delayed)
		require.NoError(t, k.db.Close())

		k, q = reopened(t, disk)
		require.EqualValues(t, 1, k.describe(q).Delayed)
		require.Empty(t, k.receive(q, 1))
		time.Sleep(time.Hour)
		require.Len(t, k.receive(q, 1), 1)
		require.NoError(t, k.db.Close())
	})
}

// What expires is stored shard by shard. If the power is cut in between, and the clock is set back,
// records of one shard are gone while older ones of another shard can be read again. A queue has what
// can be read.
func TestNoRecordIsInFlightThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := testdisk.New()
		open := func(disk *testdisk.Disk, clock func() time.Time) *braid.DB {
			db, err := companion.Open("/db", &braid.Options{ReserveBytes: -1}, companion.Environment{FS: disk, Clock: clock})
			require.NoError(t, err)
			return db.(*braid.DB)
		}
		db := open(disk, nil)
		s, err := db.CreateStream(ctx, "s", &braid.StreamOptions{Shards: 2})
		require.NoError(t, err)
		k := &kit{t, db, s}
		q := k.open("q", queue.Options{VisibilityTimeout: 12 * time.Hour, MaxReceives: -1})
		begun := time.Now()
		for _, shard := range []int{0, 1, 1, 0} { // both have a record older than one of the other's
			require.NoError(t, k.putOne("x", s.Shards()[shard].HashKeyRange().Start))
		}
		require.Len(t, k.receive(q, 10), 4)

		var images []*testdisk.Disk
		disk.Before(func(op testdisk.Op) error {
			if op.Changes() {
				images = append(images, testdisk.On(disk.Mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})))
			}
			return nil
		})
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		disk.Before(nil)
		require.NoError(t, db.Close())

		halves := 0
		for _, image := range images {
			db := open(image, func() time.Time { return begun.Add(time.Minute) })
			s, err := db.Stream("s")
			require.NoError(t, err)
			q, err := queue.Get(ctx, db, "q")
			require.NoError(t, err)
			d, err := q.Describe(ctx)
			require.NoError(t, err)
			there := s.Describe().Records
			if there == 2 {
				halves++
			}
			require.Equal(t, there, d.Visible+d.InFlight)
			require.NoError(t, db.Close())
		}
		require.Positive(t, halves, "of %d images", len(images))
	})
}

// A record that may have ended the process stays alone in its last attempt even when that
// is extended.
func TestALastAttemptStaysAloneWhenItIsExtended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk := onDisk(t)
		q := k.open("q", queue.Options{MaxReceives: 2})
		k.put(1)
		k.receive(q, 1)
		image := disk.PowerCut()
		require.NoError(t, k.db.Close())

		k, q = reopened(t, image)
		time.Sleep(time.Minute)
		k.put(1)
		last := k.receive(q, 10)
		require.Len(t, last, 1)
		require.Equal(t, 2, last[0].Receives)
		require.NoError(t, q.Extend(ctx, time.Minute, last[0].Receipt))
		require.Empty(t, k.receive(q, 10))
		require.NoError(t, q.Ack(ctx, last[0].Receipt))
		require.Len(t, k.receive(q, 10), 1)
		require.NoError(t, k.db.Close())
	})
}

// Deliveries that have lapsed, and records that have died, before the database was opened
// are not counted again.
func TestWhatHasDiedIsNotCountedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk := onDisk(t)
		q := k.open("q", queue.Options{MaxReceives: 1})
		k.put(3)
		k.receive(q, 3)
		time.Sleep(time.Minute)
		d := k.describe(q)
		require.EqualValues(t, 3, d.Died)
		require.NoError(t, k.db.Close())
		k, q = reopened(t, disk)
		d = k.describe(q)
		require.EqualValues(t, 3, d.Dead)
		require.Zero(t, d.Died+d.Lapsed)
		require.NoError(t, k.db.Close())
	})
}

// A crash takes a delivery back that was not durable. The next delivery of the record has
// another receipt, and the one that is lost is refused.
func TestTheReceiptOfADeliveryThatACrashTookBack(t *testing.T) {
	for _, again := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			disk := testdisk.New()
			options := &braid.Options{Durability: braid.NoSync, ReserveBytes: -1}
			k := &kit{T: t, db: openOn(t, disk, options)}
			var err error
			k.stream, err = k.db.CreateStream(ctx, "s", nil)
			require.NoError(t, err)
			q := k.open("q", queue.Options{VisibilityTimeout: second})
			k.put(1)
			if again {
				k.receive(q, 1)
				time.Sleep(second)
			}
			_, err = k.db.CreateStream(ctx, "durable", nil)
			require.NoError(t, err)
			lost := k.receive(q, 1)
			require.Len(t, lost, 1)
			cut := disk.PowerCut()
			require.NoError(t, k.db.Close())

			k.db = openOn(t, cut, options)
			q, err = queue.Get(ctx, k.db, "q")
			require.NoError(t, err)
			now := k.receive(q, 1)
			require.Len(t, now, 1)
			require.Equal(t, lost[0].Receives, now[0].Receives)
			require.ErrorIs(t, q.Ack(ctx, lost[0].Receipt), queue.ErrReceiptExpired)
			require.NoError(t, q.Ack(ctx, now[0].Receipt))
			require.NoError(t, k.db.Close())
		})
	}
}

// A record that others of its key held back when the process ended cannot be what has ended
// it, and its last attempt comes beside others.
func TestARecordThatWasHeldBackIsNoSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk := onDisk(t)
		q := k.open("q", queue.Options{OrderByKey: true, MaxReceives: 2})
		k.putKeys("A1", "A2", "B1")
		require.NoError(t, q.Reject(ctx, "", receipts(k.receive(q, 1))...))
		a2 := k.receive(q, 1)
		require.Equal(t, []string{"A2"}, texts(a2))
		_, err := q.DeadLetters().RestoreAll(ctx)
		require.NoError(t, err)
		require.NoError(t, q.Release(ctx, 0, a2[0].Receipt)) // behind A1
		cut := disk.PowerCut()
		require.NoError(t, k.db.Close())

		k, q = reopened(t, cut)
		first := k.receive(q, 9)
		require.Equal(t, []string{"A1", "B1"}, texts(first))
		require.NoError(t, q.Ack(ctx, first[0].Receipt))
		require.Equal(t, []string{"A2"}, texts(k.receive(q, 9)))
		require.NoError(t, k.db.Close())
	})
}

// A record that may have ended the process is alone in its last attempt even if the database was
// opened and closed in between without a look at the queue.
func TestACloseInBetweenClearsNoSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk := onDisk(t)
		q := k.open("q", queue.Options{MaxReceives: 2})
		k.put(2)
		goOn := make(chan struct{})
		stop := k.work(q, func(context.Context, queue.Record) error {
			<-goOn
			return nil
		}, &queue.WorkOptions{Concurrency: 2})
		synctest.Wait()
		require.EqualValues(t, 2, k.describe(q).InFlight)
		image := disk.PowerCut()
		close(goOn)
		require.NoError(t, stop())
		require.NoError(t, k.db.Close())

		k, _ = reopened(t, image)
		require.NoError(t, k.db.Close())

		k, q = reopened(t, image)
		var running, most atomic.Int64
		stop = k.work(q, func(_ context.Context, r queue.Record) error {
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer running.Add(-1)
			time.Sleep(second)
			return nil
		}, &queue.WorkOptions{Concurrency: 2})
		time.Sleep(time.Minute)
		require.NoError(t, stop())
		require.EqualValues(t, 1, most.Load(), "attempts at the same time")
		require.EqualValues(t, 2, k.describe(q).Acknowledged)
		require.NoError(t, k.db.Close())
	})
}

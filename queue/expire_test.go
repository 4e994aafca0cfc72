package queue_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/braidtest"
	"github.com/braidstream/braid/queue"
)

func TestExpiredRecordsLeaveAndAreCounted(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: 1, VisibilityTimeout: 12 * time.Hour})
		k.put(3)
		dying := k.receive(q, 1)[0]
		require.NoError(t, q.Reject(ctx, "", dying.Receipt))
		dead, err := q.DeadLetters().Receive(ctx, 1, &queue.ReceiveOptions{VisibilityTimeout: time.Hour})
		require.NoError(t, err)
		time.Sleep(23 * time.Hour)
		flying := k.receive(q, 1)[0]
		d := k.describe(q)
		require.InDelta(t, 23*time.Hour, d.OldestAge, 10) // counters of one moment follow each other
		require.InDelta(t, 23*time.Hour, d.OldestDeadAge, 10)
		time.Sleep(time.Hour + time.Second)
		d = k.describe(q)
		require.Equal(t, []int64{0, 0, 0}, []int64{d.Visible, d.InFlight, d.Dead})
		require.Equal(t, []int64{1, 1, 1}, []int64{d.ExpiredUnreceived, d.ExpiredReceived, d.ExpiredDead})
		require.Zero(t, d.OldestAge)
		require.NoError(t, q.Ack(ctx, flying.Receipt))
		require.ErrorIs(t, q.Extend(ctx, time.Second, flying.Receipt), queue.ErrRecordSettled)
		require.ErrorIs(t, q.DeadLetters().Restore(ctx, dead[0].Receipt), queue.ErrRecordSettled)
		require.Empty(t, k.receive(q, 3))
		k.put(1)
		require.Len(t, k.receive(q, 3), 1)
	})
}

// What has expired counts as received if it was, and not by whether others of its key held it
// back when it expired.
func TestExpiredRecordsThatWereHeldBack(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{OrderByKey: true})
		k.putKeys("A1", "A2", "A3", "B1", "B2")
		first := k.receive(q, 9)
		require.Equal(t, []string{"A1", "B1"}, texts(first))
		require.NoError(t, q.Reject(ctx, "", first[0].Receipt))
		require.NoError(t, q.Ack(ctx, first[1].Receipt)) // so B2 is visible, and was never received
		a2 := k.receive(q, 1)
		require.Equal(t, []string{"A2"}, texts(a2))
		_, err := q.DeadLetters().RestoreAll(ctx)
		require.NoError(t, err)
		require.NoError(t, q.Release(ctx, 0, a2[0].Receipt)) // behind A1
		d := k.describe(q)
		require.Equal(t, []int64{2, 2}, []int64{d.Visible, d.Held})
		require.NoError(t, k.stream.Trim(ctx, braid.Latest()))
		d = k.describe(q)
		require.Equal(t, []int64{2, 2}, []int64{d.ExpiredReceived, d.ExpiredUnreceived})
	})
}

func TestTrimmedRecordsLeave(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		k.put(10)
		records := k.receive(q, 3)
		require.Equal(t, []string{"0", "1", "2"}, texts(records))
		require.NoError(t, k.stream.Trim(ctx, braid.AtTime(records[1].ArrivalTime)))
		require.NoError(t, q.Ack(ctx, records[0].Receipt))
		require.ErrorIs(t, q.Extend(ctx, 0, records[0].Receipt), queue.ErrRecordSettled)
		require.NoError(t, q.Extend(ctx, 0, records[1].Receipt))
		require.NoError(t, k.stream.Trim(ctx, braid.Latest()))
		require.Empty(t, k.receive(q, 10))
		d := k.describe(q)
		require.EqualValues(t, 3, d.ExpiredReceived)
		require.EqualValues(t, 7, d.ExpiredUnreceived)
	})
}

func TestAStreamWithQueuesIsNotDeleted(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		require.ErrorIs(t, k.db.DeleteStream(ctx, "s"), braid.ErrStreamInUse)
		require.Equal(t, []int{1, 1}, []int{k.stream.Describe().Queues, k.db.Metrics().Queues})
		_, err := queue.Create(ctx, k.db, "q", &queue.Options{Stream: "s"})
		require.ErrorIs(t, err, queue.ErrQueueExists)
		require.Equal(t, []int{1, 1}, []int{k.stream.Describe().Queues, k.db.Metrics().Queues})
		require.NoError(t, q.Delete(ctx))
		require.Equal(t, []int{0, 0}, []int{k.stream.Describe().Queues, k.db.Metrics().Queues})
		require.NoError(t, k.db.DeleteStream(ctx, "s"))
		_, err = queue.Create(ctx, k.db, "q", &queue.Options{Stream: "s"})
		require.ErrorIs(t, err, braid.ErrStreamNotFound)
		_, err = k.db.CreateStream(ctx, "s", nil)
		require.NoError(t, err)
		again := k.open("q", queue.Options{})
		require.NotEqual(t, q.ID(), again.ID())
		require.Len(t, again.ID(), 26)
		require.Regexp(t, "^[a-z0-9]{26}$", again.ID())
	})
}

func TestDelete(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		k.put(1)
		r := k.receive(q, 1)[0]
		ended := make(chan error)
		go func() {
			_, err := q.Receive(ctx, 1, nil)
			ended <- err
		}()
		synctest.Wait()
		require.NoError(t, q.Delete(ctx))
		require.ErrorIs(t, <-ended, queue.ErrQueueNotFound)
		_, err := q.Describe(ctx)
		for _, err := range []error{err, q.Ack(ctx, r.Receipt), q.Delete(ctx), q.Update(ctx, func(*queue.Options) {})} {
			require.ErrorIs(t, err, queue.ErrQueueNotFound)
		}
		require.ErrorIs(t, k.db.Update(ctx, func(tx *braid.Tx) error { return q.AckTx(tx, r.Receipt) }), queue.ErrQueueNotFound)
		_, err = queue.Get(ctx, k.db, "q")
		require.ErrorIs(t, err, queue.ErrQueueNotFound)
		again := k.open("q", queue.Options{})
		require.ErrorIs(t, again.Ack(ctx, r.Receipt), queue.ErrReceiptInvalid)
		require.Len(t, k.receive(again, 1), 1)
	})
}

func TestOpenCreateGetAndList(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: 3})
		_, err := k.db.CreateStream(ctx, "t", nil)
		require.NoError(t, err)
		_, err = queue.Create(ctx, k.db, "q", &queue.Options{Stream: "s"})
		require.ErrorIs(t, err, queue.ErrQueueExists)
		_, err = queue.Open(ctx, k.db, "q", &queue.Options{Stream: "t"})
		require.ErrorIs(t, err, queue.ErrQueueExists)
		again, err := queue.Open(ctx, k.db, "q", nil)
		require.NoError(t, err)
		require.True(t, q == again)
		require.Equal(t, 3, k.describe(again).Options.MaxReceives)
		byID, err := queue.Get(ctx, k.db, q.ID())
		require.NoError(t, err)
		require.True(t, q == byID)
		time.Sleep(second)
		other, err := queue.Open(ctx, k.db, "a", &queue.Options{Stream: "t"})
		require.NoError(t, err)
		require.Equal(t, "t", other.Stream().Name())
		for stream, want := range map[string][]string{"": {"q", "a"}, "s": {"q"}, "t": {"a"}, "none": nil} {
			found, err := queue.List(ctx, k.db, stream)
			require.NoError(t, err)
			var names []string
			for _, q := range found {
				names = append(names, q.Name())
			}
			require.Equal(t, want, names)
		}
		for _, o := range []*queue.Options{
			nil,
			{Stream: "none"},
			{Stream: "s", MaxReceives: 1001},
			{Stream: "s", VisibilityTimeout: 1},
			{Stream: "s", MaxInFlight: -1},
			{Stream: "s", MaxWaiting: -1},
			{Stream: "s", BlockAtDead: true},
			{Stream: "s", Start: braid.AtTime(time.Now().Add(time.Hour))},
		} {
			_, err := queue.Create(ctx, k.db, "b", o)
			require.True(t, errors.Is(err, braid.ErrInvalidArgument) || errors.Is(err, braid.ErrStreamNotFound), "%v", err)
		}
		_, err = queue.Open(ctx, k.db, "b/c", &queue.Options{Stream: "s"})
		require.ErrorIs(t, err, braid.ErrInvalidArgument)
		for _, n := range []int{0, -1, 10_001} {
			_, err := q.Receive(ctx, n, noWait)
			require.ErrorIs(t, err, braid.ErrInvalidArgument)
		}
	})
}

func TestStart(t *testing.T) {
	bubble(t, func(k *kit) {
		created := time.Now()
		time.Sleep(second)
		k.put(2)
		first := time.Now()
		time.Sleep(time.Minute)
		k.put(1)
		middle := time.Now()
		time.Sleep(time.Minute)
		latest := k.open("latest", queue.Options{Start: braid.Latest()})
		all := k.open("all", queue.Options{})
		at := k.open("at", queue.Options{Start: braid.AtTime(middle)})
		before := k.open("before", queue.Options{Start: braid.AtTime(created.Add(-time.Hour))})
		require.Equal(t, time.Now(), latest.StartedAt())
		require.WithinDuration(t, first, all.StartedAt(), 10)
		require.Equal(t, middle, at.StartedAt())
		require.False(t, before.StartedAt().Before(created))
		k.put(1)
		for q, want := range map[*queue.Queue]int{latest: 1, all: 4, at: 2, before: 4} {
			d := k.describe(q)
			require.EqualValues(t, want, d.Visible, q.Name())
			require.Zero(t, d.ExpiredUnreceived)
			require.Len(t, k.receive(q, 10), want)
			require.Zero(t, k.describe(q).Visible)
		}
	})
}

// A queue that is to begin before what its stream keeps begins where that does.
func TestAStartBeforeTheRetentionPeriod(t *testing.T) {
	bubble(t, func(k *kit) {
		time.Sleep(100 * time.Hour)
		k.put(1)
		before := k.open("before", queue.Options{Start: braid.AtTime(time.Now().Add(-50 * time.Hour))})
		within := k.open("within", queue.Options{Start: braid.AtTime(time.Now().Add(-10 * time.Hour))})
		require.Equal(t, time.Now().Add(-24*time.Hour), before.StartedAt())
		require.Equal(t, time.Now().Add(-10*time.Hour), within.StartedAt())
		require.NoError(t, k.stream.IncreaseRetention(ctx, -1))
		forever := k.open("forever", queue.Options{Start: braid.AtTime(time.Now().Add(-50 * time.Hour))})
		require.Equal(t, time.Now().Add(-50*time.Hour), forever.StartedAt())
	})
}

func TestReshardsAreFollowed(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{Start: braid.Latest()})
		seen := make(map[string]int)
		work, stop := context.WithCancel(ctx)
		done := make(chan error)
		var n atomic.Int64
		go func() {
			done <- q.Work(work, func(_ context.Context, r queue.Record) error {
				seen[string(r.Data)]++
				n.Add(1)
				return nil
			}, nil)
		}()
		put := 0
		for _, shards := range []int{2, 4, 8, 3, 1, 2} {
			require.NoError(t, k.stream.UpdateShardCount(ctx, shards))
			for range 20 {
				_, err := k.stream.PutRecord(ctx, fmt.Sprint(put), []byte(fmt.Sprint(put)))
				require.NoError(t, err)
				put++
			}
		}
		synctest.Wait()
		stop()
		require.NoError(t, <-done)
		require.EqualValues(t, put, n.Load())
		require.Len(t, seen, put)
		d := k.describe(q)
		require.EqualValues(t, put, d.Acknowledged)
		require.Zero(t, d.ExpiredUnreceived)
		time.Sleep(48 * time.Hour) // the parents expire
		require.Zero(t, k.describe(q).ExpiredUnreceived)
	})
}

func TestTheLimitInFlight(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxInFlight: 5})
		k.put(10)
		records := k.receive(q, 10)
		require.Len(t, records, 5)
		require.Empty(t, k.receive(q, 1))
		got := make(chan int)
		go func() {
			more, err := q.Receive(ctx, 10, &queue.ReceiveOptions{Wait: 20 * second})
			require.NoError(t, err)
			got <- len(more)
		}()
		time.Sleep(second)
		start := time.Now()
		require.NoError(t, q.Ack(ctx, records[0].Receipt))
		require.Equal(t, 1, <-got)
		require.Equal(t, start, time.Now())
	})
}

func TestTheLimitOfRecordsThatWait(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxWaiting: 2})
		k.put(10)
		require.NoError(t, q.Release(ctx, time.Minute, receipts(k.receive(q, 2))...))
		require.Empty(t, k.receive(q, 10))
		time.Sleep(time.Minute)
		again := k.receive(q, 1)
		require.Len(t, again, 1)
		require.NoError(t, q.Ack(ctx, again[0].Receipt))
		require.NotEmpty(t, k.receive(q, 10))
	})
}

func TestRetriesAndNewRecordsTakeTurns(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: -1})
		k.put(200)
		fresh := 0
		for range 200 {
			r := k.receive(q, 1)[0]
			if r.Receives == 1 {
				fresh++
			}
			if r.Receives == 1 && fresh%10 != 0 {
				require.NoError(t, q.Ack(ctx, r.Receipt))
			} else {
				require.NoError(t, q.Release(ctx, 0, r.Receipt))
			}
		}
		require.InDelta(t, 100, fresh, 12)
	})
}

func TestBytesBoundAReceive(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		for range 4 {
			_, err := k.stream.PutRecord(ctx, "k", make([]byte, 1000))
			require.NoError(t, err)
		}
		records, err := q.Receive(ctx, 10, &queue.ReceiveOptions{Bytes: 2500, Wait: -1})
		require.NoError(t, err)
		require.Len(t, records, 2)
		require.NoError(t, q.Release(ctx, 0, receipts(records)...))
		records, err = q.Receive(ctx, 10, &queue.ReceiveOptions{Bytes: 1, Wait: -1})
		require.NoError(t, err)
		require.Len(t, records, 1)
	})
}

// The state of every record, whether in flight, waiting, dead or settled, survives an
// orderly restart.
func TestARestartChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := braidtest.NewDisk()
		db, err := disk.Open(nil)
		require.NoError(t, err)
		s, err := db.CreateStream(ctx, "s", &braid.StreamOptions{Shards: 2})
		require.NoError(t, err)
		k := &kit{t, db, s}
		q := k.open("q", queue.Options{Start: braid.Latest(), MaxReceives: 9})
		id, started := q.ID(), q.StartedAt()
		k.put(10)
		all := k.receive(q, 8)
		require.NoError(t, q.Ack(ctx, receipts(all[:3])...))
		require.NoError(t, q.Release(ctx, time.Minute, all[3].Receipt))
		require.NoError(t, q.Reject(ctx, "bad", all[4].Receipt))
		require.NoError(t, q.Return(ctx, all[5].Receipt))
		before := k.describe(q)
		require.NoError(t, db.Close())
		_, err = q.Receive(ctx, 1, nil)
		require.ErrorIs(t, err, braid.ErrClosed)

		if db, err = disk.Open(nil); err != nil {
			t.Fatal(err)
		}
		s, err = db.Stream("s")
		require.NoError(t, err)
		k = &kit{t, db, s}
		q, err = queue.Get(ctx, db, "q")
		require.NoError(t, err)
		require.Equal(t, id, q.ID())
		require.Equal(t, started, q.StartedAt())
		after := k.describe(q)
		require.Equal(t, before.Options, after.Options)
		require.Equal(t, before.Options, q.Options())
		require.Equal(t, []int{1, 1}, []int{s.Describe().Queues, db.Metrics().Queues})
		require.Equal(t, []int64{3, 2, 1, 1}, []int64{after.Visible, after.InFlight, after.Delayed, after.Dead})
		require.Equal(t, before.ExpiredUnreceived, after.ExpiredUnreceived)
		require.NoError(t, q.Ack(ctx, receipts(all)...)) // receipts stay valid in the next process
		require.Zero(t, k.describe(q).InFlight)
		require.Equal(t, []string{"8", "9"}, texts(k.receive(q, 10)))
		require.ErrorIs(t, db.DeleteStream(ctx, "s"), braid.ErrStreamInUse)
		require.NoError(t, db.Close())
	})
}

// Waiting receivers are woken for available records, and a limit holds for all of them
// together.
func TestHundredsOfReceivers(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxInFlight: 50})
		const receivers, records = 300, 2000
		var total, inFlight, most atomic.Int64
		work, stop := context.WithCancel(ctx)
		done := make(chan error, receivers)
		for range receivers {
			go func() {
				for {
					got, err := q.Receive(work, 3, nil)
					if err != nil {
						done <- err
						return
					}
					for now := inFlight.Add(int64(len(got))); ; {
						if was := most.Load(); now <= was || most.CompareAndSwap(was, now) {
							break
						}
					}
					time.Sleep(time.Millisecond)
					inFlight.Add(-int64(len(got)))
					if err := q.Ack(ctx, receipts(got)...); err != nil {
						done <- err
						return
					}
					total.Add(int64(len(got)))
				}
			}()
		}
		for i := range records {
			_, err := k.stream.PutRecord(ctx, fmt.Sprint(i), nil)
			require.NoError(t, err)
		}
		time.Sleep(29 * second) // before any timeout could have passed
		require.EqualValues(t, records, total.Load())
		require.LessOrEqual(t, most.Load(), int64(50))
		stop()
		for range receivers {
			require.ErrorIs(t, <-done, context.Canceled)
		}
		d := k.describe(q)
		require.EqualValues(t, records, d.Received)
		require.Zero(t, d.Visible+d.InFlight)
	})
}

// Unread records expire, and the queue finds nothing. The records that come then are not
// those that it knew would follow.
func TestRecordsAfterOnesThatWereTrimmedUnread(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		k.put(20)
		require.Len(t, k.receive(q, 100), 20)
		k.put(20)
		require.NoError(t, k.stream.Trim(ctx, braid.Latest()))
		require.Empty(t, k.receive(q, 100))
		k.put(20)
		require.Len(t, k.receive(q, 100), 20)
	})
}

// A record that was dead when it expired counts as a dead one, even if nobody has looked since
// it was received, and one whose timeout had not passed as one that was received.
func TestWhatDiedBeforeItExpired(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: 1})
		k.put(2)
		time.Sleep(24*time.Hour - time.Minute)
		k.receive(q, 1) // for 30 seconds
		_, err := q.Receive(ctx, 1, &queue.ReceiveOptions{Wait: -1, VisibilityTimeout: 12 * time.Hour})
		require.NoError(t, err)
		time.Sleep(24 * time.Hour)
		d := k.describe(q)
		require.Equal(t, []int64{0, 1, 1}, []int64{d.ExpiredUnreceived, d.ExpiredReceived, d.ExpiredDead})
	})
}

package queue_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// exhaust receives a record until it is dead.
func (k *kit) exhaust(q *queue.Queue, times int) (last queue.Record) {
	k.Helper()
	for i := range times {
		records := k.receive(q, 1)
		require.Len(k, records, 1)
		require.Equal(k, i+1, records[0].Receives)
		last = records[0]
		time.Sleep(q30)
	}
	return last
}

const q30 = 30 * second

func TestARecordDiesAfterItsLastAttempt(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: 3})
		k.put(1)
		for range 2 {
			k.receive(q, 1)
			time.Sleep(q30)
		}
		last := k.receive(q, 1)
		require.Equal(t, 3, last[0].Receives)
		require.Zero(t, k.describe(q).Dead) // the last delivery has its full timeout
		got := make(chan []queue.Record)
		go func() {
			records, err := q.DeadLetters().Receive(ctx, 10, nil)
			require.NoError(t, err)
			got <- records
		}()
		start := time.Now()
		dead := <-got
		require.Equal(t, q30, time.Since(start))
		require.Empty(t, k.receive(q, 1))
		require.Len(t, dead, 1)
		require.Equal(t, last[0].ID, dead[0].ID)
		require.Equal(t, last[0].Data, dead[0].Data)
		require.Equal(t, last[0].PartitionKey, dead[0].PartitionKey)
		require.Equal(t, last[0].FirstReceived, dead[0].FirstReceived)
		require.Equal(t, 4, dead[0].Receives)

		require.ErrorIs(t, q.Ack(ctx, last[0].Receipt), queue.ErrReceiptExpired)
		require.ErrorIs(t, q.Ack(ctx, dead[0].Receipt), queue.ErrReceiptInvalid)
		d := q.DeadLetters()
		require.ErrorIs(t, d.Discard(ctx, last[0].Receipt), queue.ErrReceiptInvalid)
		require.NoError(t, d.Extend(ctx, time.Minute, dead[0].Receipt))
		time.Sleep(59 * second)
		none, err := d.Receive(ctx, 1, noWait)
		require.NoError(t, err)
		require.Empty(t, none)
		time.Sleep(second)
		again, err := d.Receive(ctx, 1, noWait)
		require.NoError(t, err)
		require.Equal(t, 5, again[0].Receives)
		require.ErrorIs(t, d.Discard(ctx, dead[0].Receipt), queue.ErrReceiptExpired)
		require.NoError(t, d.Discard(ctx, again[0].Receipt))
		require.NoError(t, d.Discard(ctx, again[0].Receipt))
		require.Zero(t, k.describe(q).Dead)
	})
}

func TestMaxReceives(t *testing.T) {
	bubble(t, func(k *kit) {
		once, never := k.open("once", queue.Options{MaxReceives: 1}), k.open("never", queue.Options{MaxReceives: -1})
		k.put(1)
		k.exhaust(once, 1)
		require.Empty(t, k.receive(once, 1))
		require.EqualValues(t, 1, k.describe(once).Dead)
		k.exhaust(never, 50)
		require.Len(t, k.receive(never, 1), 1)
	})
}

func TestAckInTimeAndTooLate(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: 1})
		k.put(2)
		first := k.receive(q, 1)
		time.Sleep(q30 - time.Millisecond)
		require.NoError(t, q.Ack(ctx, first[0].Receipt))
		second := k.receive(q, 1)
		time.Sleep(q30)
		require.EqualValues(t, 1, k.describe(q).Dead)
		require.ErrorIs(t, q.Extend(ctx, time.Second, second[0].Receipt), queue.ErrReceiptExpired)
		require.NoError(t, q.Ack(ctx, second[0].Receipt)) // dead, and not received as such
		require.Zero(t, k.describe(q).Dead)
	})
}

func TestRestore(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: 2})
		d := q.DeadLetters()
		k.put(1)
		last := k.exhaust(q, 2)
		dead, err := d.Receive(ctx, 1, noWait)
		require.NoError(t, err)
		waiting := make(chan queue.Record)
		go func() {
			records, err := q.Receive(ctx, 1, nil)
			require.NoError(t, err)
			waiting <- records[0]
		}()
		time.Sleep(second)
		require.NoError(t, d.Restore(ctx, dead[0].Receipt))
		r := <-waiting // the restore has woken it
		require.Equal(t, 1, r.Receives)
		require.Equal(t, last.FirstReceived, r.FirstReceived)
		for _, old := range []error{q.Ack(ctx, last.Receipt), d.Discard(ctx, dead[0].Receipt), d.Restore(ctx, dead[0].Receipt)} {
			require.ErrorIs(t, old, queue.ErrReceiptExpired)
		}
		time.Sleep(q30)
		require.Equal(t, 2, k.receive(q, 1)[0].Receives)
		time.Sleep(q30)
		require.EqualValues(t, 1, k.describe(q).Dead)
		n, err := d.RestoreAll(ctx)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, 1, k.receive(q, 1)[0].Receives)
	})
}

func TestRejectKeepsTheReason(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		k.put(3)
		require.NoError(t, q.Reject(ctx, "no such customer", receipts(k.receive(q, 2))...))
		var all []queue.Record
		for r, err := range q.DeadLetters().All(ctx) {
			require.NoError(t, err)
			all = append(all, r)
		}
		require.Equal(t, []string{"0", "1"}, texts(all))
		require.Equal(t, "no such customer", all[0].Reason)
		require.NotEmpty(t, all[0].Receipt)
		require.Len(t, k.receive(q, 3), 1)
		require.EqualValues(t, 2, k.describe(q).Dead)
	})
}

// All lists dead letters, and some of them are settled, without receiving them.
func TestDeadLettersAreSettledByLooking(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		d := q.DeadLetters()
		look := func() (all []queue.Record) {
			t.Helper()
			for r, err := range d.All(ctx) {
				require.NoError(t, err)
				all = append(all, r)
			}
			return all
		}
		k.put(4)
		require.NoError(t, q.Reject(ctx, "", receipts(k.receive(q, 4))...))
		all := look()
		require.Equal(t, all, look(), "looking changes nothing")
		require.ErrorIs(t, q.Ack(ctx, all[0].Receipt), queue.ErrReceiptInvalid)
		require.ErrorIs(t, d.Extend(ctx, time.Minute, all[0].Receipt), queue.ErrReceiptExpired, "nobody holds it")

		require.NoError(t, d.Restore(ctx, all[0].Receipt))
		require.ErrorIs(t, d.Restore(ctx, all[0].Receipt), queue.ErrReceiptExpired)
		require.ErrorIs(t, d.Discard(ctx, all[0].Receipt), queue.ErrReceiptExpired)
		again := k.receive(q, 4)
		require.Equal(t, []string{"0"}, texts(again))
		require.Equal(t, 1, again[0].Receives)

		require.NoError(t, d.Discard(ctx, all[1].Receipt))
		require.NoError(t, d.Discard(ctx, all[1].Receipt))
		require.ErrorIs(t, d.Restore(ctx, all[1].Receipt), queue.ErrRecordSettled)

		// A received letter belongs to its receiver: neither an earlier nor a later listing
		// settles it.
		held, err := d.Receive(ctx, 1, noWait)
		require.NoError(t, err)
		require.Equal(t, all[2].ID, held[0].ID)
		for _, err := range []error{d.Restore(ctx, all[2].Receipt), d.Discard(ctx, all[2].Receipt)} {
			require.ErrorIs(t, err, queue.ErrReceiptExpired)
		}
		left := look()
		require.Equal(t, []string{"2", "3"}, texts(left))
		require.Empty(t, left[0].Receipt)
		require.NoError(t, d.Discard(ctx, held[0].Receipt))
		require.NoError(t, d.Discard(ctx, left[1].Receipt))
		require.Empty(t, look())
		require.Zero(t, k.describe(q).Dead)
	})
}

func TestUpdateOfMaxReceives(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		set := func(n int) {
			t.Helper()
			require.NoError(t, q.Update(ctx, func(o *queue.Options) { o.MaxReceives = n }))
		}
		k.put(3)
		a := k.receive(q, 1)[0] // received once, and in flight
		require.NoError(t, q.Extend(ctx, time.Hour, a.Receipt))
		b, c := k.receive(q, 1)[0], k.receive(q, 1)[0]
		require.NoError(t, q.Extend(ctx, 0, b.Receipt, c.Receipt))
		twice := k.receive(q, 2)
		require.Len(t, twice, 2)
		require.NoError(t, q.Extend(ctx, 0, receipts(twice)...)) // b is visible
		whole, err := q.Receive(ctx, 2, &queue.ReceiveOptions{Wait: -1, Whole: true})
		require.NoError(t, err)
		require.Len(t, whole, 2)
		for _, r := range whole {
			if r.ID == b.ID {
				require.NoError(t, q.Return(ctx, r.Receipt))
			} else {
				c = r // three times, and in flight
			}
		}
		set(2)
		require.EqualValues(t, 1, k.describe(q).Dead)
		require.EqualValues(t, 2, k.describe(q).InFlight)
		require.Empty(t, k.receive(q, 3))
		require.NoError(t, q.Ack(ctx, c.Receipt))
		set(6)
		require.EqualValues(t, 1, k.describe(q).Dead)
		set(-1)
		require.EqualValues(t, 1, k.describe(q).Dead)
		dead, err := q.DeadLetters().Receive(ctx, 3, noWait)
		require.NoError(t, err)
		require.Len(t, dead, 1)
		require.Equal(t, b.ID, dead[0].ID)
	})
}

func TestUpdateOfTheTimeoutIsForLaterReceives(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		k.put(2)
		k.receive(q, 1)
		require.NoError(t, q.Update(ctx, func(o *queue.Options) { o.VisibilityTimeout = 5 * second }))
		k.receive(q, 1)
		time.Sleep(5 * second)
		require.Len(t, k.receive(q, 2), 1)
		for _, change := range []func(*queue.Options){
			func(o *queue.Options) { o.Stream = "t" },
			func(o *queue.Options) { o.Start = braid.Latest() },
			func(o *queue.Options) { o.OrderByKey = true },
			func(o *queue.Options) { o.MaxReceives = 1001 },
			func(o *queue.Options) { o.MaxInFlight = -1 },
			func(o *queue.Options) { o.VisibilityTimeout = 13 * time.Hour },
		} {
			require.ErrorIs(t, q.Update(ctx, change), braid.ErrInvalidArgument)
		}
	})
}

// The cost of a call for many letters depends on the letters, not on the other records of
// the queue.
func TestWhatIsDoneToDeadLettersCostsNothingForOthers(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: -1})
		const n, some = 5000, 10
		k.put(n)
		cost := func(most int, do func()) {
			k.Helper()
			before := queue.Looks(q)
			do()
			require.LessOrEqual(k, queue.Looks(q)-before, most)
		}
		records, err := q.Receive(ctx, n, noWait)
		require.NoError(k, err)
		require.Len(k, records, n)
		require.NoError(k, q.Release(ctx, 0, receipts(records[some:n/2])...)) // ready; half of the rest are in flight
		require.NoError(k, q.Release(ctx, 0, receipts(records[:some])...))
		again := k.receive(q, some) // the first, for the second time
		require.NoError(k, q.Release(ctx, 0, receipts(again)...))

		most := func(n int) { require.NoError(k, q.Update(ctx, func(o *queue.Options) { o.MaxReceives = n })) }
		cost(0, func() { most(3) })
		cost(some, func() { most(2) })
		require.EqualValues(k, some, k.describe(q).Dead)
		cost(some, func() { most(3) }) // this stores which of them are dead
		cost(0, func() { most(4) })
		require.EqualValues(k, some, k.describe(q).Dead)
		seen := 0
		cost(2*some, func() {
			for _, err := range q.DeadLetters().All(ctx) {
				require.NoError(k, err)
				seen++
			}
		})
		require.Equal(k, some, seen)
		cost(2*some, func() {
			restored, err := q.DeadLetters().RestoreAll(ctx)
			require.NoError(k, err)
			require.Equal(k, some, restored)
		})
	})
}

// A loop over thousands of letters holds few of them in memory, and costs about as much
// as it iterates.
func TestManyDeadLetters(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		const n = 3333
		k.put(n)
		records := k.receive(q, n)
		require.NoError(k, q.Reject(ctx, "why", receipts(records)...))
		before, i := queue.Looks(q), 0
		for r, err := range q.DeadLetters().All(ctx) {
			require.NoError(k, err)
			require.Equal(k, records[i].ID, r.ID)
			if i++; i == 50 {
				break
			}
		}
		require.LessOrEqual(k, queue.Looks(q)-before, 101, "letters that were not reached")
		before, i = queue.Looks(q), 0
		for r, err := range q.DeadLetters().All(ctx) {
			require.NoError(k, err)
			require.Equal(k, records[i].ID, r.ID)
			i++
		}
		require.Equal(k, n, i)
		require.LessOrEqual(k, queue.Looks(q)-before, 4*n)
		before = queue.Looks(q)
		restored, err := q.DeadLetters().RestoreAll(ctx)
		require.NoError(k, err)
		require.Equal(k, n, restored)
		require.LessOrEqual(k, queue.Looks(q)-before, 2*n)
		require.EqualValues(k, n, k.describe(q).Visible)
	})
}

// A change of the limit writes the dead letters in several commits, because others wait for
// each.
func TestALimitIsChangedInSmallCommits(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: 1})
		const n = 3500
		k.put(n)
		require.Len(t, k.receive(q, n), n)
		time.Sleep(q30)
		before := k.db.Metrics().Commits
		require.NoError(t, q.Update(ctx, func(o *queue.Options) { o.MaxReceives = 9 }))
		require.EqualValues(t, 4, k.db.Metrics().Commits-before)
		require.EqualValues(t, n, k.describe(q).Dead)
	})
}

// A listed letter can be restored or discarded by its receipt, unless it was received in
// the meantime.
func TestALetterIsRestoredByItsReceipt(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		k.put(4)
		require.NoError(k, q.Reject(ctx, "why", receipts(k.receive(q, 4))...))
		letters := q.DeadLetters()
		var seen []queue.Record
		for r, err := range letters.All(ctx) {
			require.NoError(k, err)
			seen = append(seen, r)
		}
		requireFailed(k, q.Ack(ctx, seen[0].Receipt), map[int]error{0: queue.ErrReceiptInvalid})
		require.NoError(k, letters.Restore(ctx, seen[0].Receipt))
		require.NoError(k, letters.Discard(ctx, seen[1].Receipt))
		requireFailed(k, letters.Restore(ctx, seen[0].Receipt, seen[1].Receipt), map[int]error{0: queue.ErrReceiptExpired, 1: queue.ErrRecordSettled})
		received, err := letters.Receive(ctx, 1, noWait)
		require.NoError(k, err)
		require.Equal(k, seen[2].ID, received[0].ID)
		requireFailed(k, letters.Restore(ctx, seen[2].Receipt, seen[3].Receipt), map[int]error{0: queue.ErrReceiptExpired})
		for r, err := range letters.All(ctx) {
			require.NoError(k, err)
			require.Empty(k, r.Receipt, "somebody holds it")
		}
		d := k.describe(q)
		require.Equal(k, [2]int64{2, 1}, [2]int64{d.Visible, d.Dead})
	})
}

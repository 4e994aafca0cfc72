package queue

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
)

// DeadLetters are the records of a queue that were received as often as Options.MaxReceives
// allows, or rejected. They come from [Queue.DeadLetters]. They stay in the queue until they
// are discarded, restored, or removed from the stream by retention. Their receipts are of
// their own kind: those of normal deliveries are [ErrReceiptInvalid] here.
type DeadLetters struct{ q *Queue }

// DeadLetters returns the queue's dead letters. It reads nothing.
func (q *Queue) DeadLetters() DeadLetters { return DeadLetters{q} }

// Receive is [Queue.Receive] for dead letters. They are hidden from other receivers of dead
// letters, and Record.Receives counts on, without a limit. Kinesis:
// ReceiveDeadLetterQueueRecords.
func (d DeadLetters) Receive(ctx context.Context, n int, options *ReceiveOptions) ([]Record, error) {
	records, err := d.q.receiveWith(ctx, n, options, true)
	return records, wrap("receive dead letters of", d.q.name, err)
}

// All returns the dead letters as they are when the loop begins, oldest first, without
// receiving them: for people who look, and decide. The Receipt of one restores or discards it
// for as long as nobody receives it; then it is [ErrReceiptExpired]. One that somebody has
// received, and may be working on, has an empty Receipt.
//
// An error is yielded once, last, with a zero Record: those of [Queue.Receive].
func (d DeadLetters) All(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := d.all(ctx, yield); err != nil {
			yield(Record{}, wrap("read dead letters of", d.q.name, err))
		}
	}
}

func (d DeadLetters) all(ctx context.Context, yield func(Record, error) bool) error {
	found, err := d.list(ctx)
	if err != nil {
		return err
	}
	for i := range found {
		t := &found[i]
		there, err := d.q.readOne(ctx, t)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		rec := Record{Record: *t.record, ID: t.id(), Receives: t.receives, FirstReceived: timeOf(t.first), Reason: t.reason}
		if inFlight := t.dead; !inFlight {
			rec.Receipt = d.q.receipt(ticket{place: t.place, generation: t.generation, dead: true})
		}
		if !yield(rec, nil) {
			return nil
		}
	}
	return nil
}

// list returns all dead letters, oldest first.
func (d DeadLetters) list(ctx context.Context) ([]taken, error) {
	q := d.q
	if err := q.load(ctx); err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.passed(q.door.Now())
	var found []taken
	for _, e := range q.entries {
		if e.phase == dead || e.phase == deadInFlight {
			found = append(found, e.taken())
		}
	}
	slices.SortFunc(found, func(a, b taken) int { return cmp.Compare(a.counter, b.counter) })
	return found, nil
}

// Discard removes dead letters from the queue, as [Queue.Ack] does records. Kinesis:
// AcknowledgeDeadLetterQueueRecords.
func (d DeadLetters) Discard(ctx context.Context, receipts ...Receipt) error {
	return wrap("discard dead letters of", d.q.name, d.q.settleAll(ctx, step{verb: acknowledge}, true, receipts))
}

// DiscardTx is [Queue.AckTx] for dead letters: it discards them together with what the
// transaction does about them.
func (d DeadLetters) DiscardTx(tx *braid.Tx, receipts ...Receipt) error {
	return wrap("discard dead letters of", d.q.name, d.q.ackTx(tx, true, receipts))
}

// Extend is [Queue.Extend] for dead letters. Kinesis: UpdateDeadLetterQueueRecordsVisibility.
func (d DeadLetters) Extend(ctx context.Context, timeout time.Duration, receipts ...Receipt) error {
	err := checkDelay("timeout", timeout)
	if err == nil {
		err = d.q.settleAll(ctx, step{verb: extend, delay: timeout}, true, receipts)
	}
	return wrap("extend dead letters of", d.q.name, err)
}

// Restore makes dead letters records of the queue again: visible, with Options.MaxReceives
// attempts before them, and Record.Receives counting from 1. With Options.OrderByKey they come
// before what is left of their keys, but after what was received meanwhile. Errors: as
// [Queue.Extend]. Kinesis: RestoreDeadLetterQueueRecords.
func (d DeadLetters) Restore(ctx context.Context, receipts ...Receipt) error {
	return wrap("restore dead letters of", d.q.name, d.q.settleAll(ctx, step{verb: restore}, true, receipts))
}

// RestoreAll restores all dead letters, those in flight too, and returns how many there were.
func (d DeadLetters) RestoreAll(ctx context.Context) (int, error) {
	n, err := d.restoreAll(ctx)
	return n, wrap("restore dead letters of", d.q.name, err)
}

func (d DeadLetters) restoreAll(ctx context.Context) (n int, err error) {
	q := d.q
	if err := q.load(ctx); err != nil {
		return 0, err
	}
	count := 0 // belongs to the commit until that has ended
	err = q.door.Commit(ctx, false, 1000, func(rows companion.Rows) (func(), error) {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.gone {
			return nil, ErrQueueNotFound
		}
		now := q.door.Now()
		q.passed(now)
		q.flush(rows)
		for _, e := range q.entries {
			if e.phase == dead || e.phase == deadInFlight {
				q.revive(e, now)
				q.put(rows, e)
				count++
			}
		}
		q.stats.restored += uint64(count)
		return q.alert, nil
	})
	if err != nil {
		return 0, err
	}
	return count, nil
}

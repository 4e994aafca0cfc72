package queue

import (
	"context"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
)

// DeadLetters are the records of a queue that were rejected, or were received as often as
// Options.MaxReceives allows and not acknowledged. It comes from [Queue.DeadLetters]. Dead letters
// stay in the queue until they are discarded, restored, or removed from the stream by retention.
// They have receipts of their own: for the receipt of a normal delivery, the methods return
// [ErrReceiptInvalid].
type DeadLetters struct{ q *Queue }

// DeadLetters returns the queue's dead letters. It reads nothing.
func (q *Queue) DeadLetters() DeadLetters { return DeadLetters{q} }

// Receive is [Queue.Receive] for dead letters. They are hidden from other receivers of
// dead letters. Record.Receives continues to count, without a limit. Kinesis:
// ReceiveDeadLetterQueueRecords.
func (d DeadLetters) Receive(ctx context.Context, n int, options *ReceiveOptions) ([]Record, error) {
	records, err := d.q.receiveWith(ctx, n, options, true)
	return records, wrap("receive dead letters of", d.q.name, err)
}

// All returns the dead letters, oldest first, without receiving them. It returns those that exist
// when the loop begins and are still dead when the loop reaches them. Record.Receipt can restore or
// discard a letter until the letter is received; after that, the receipt is [ErrReceiptExpired].
// The Receipt of a letter in flight is empty. All is meant for inspection by people.
//
// The cost grows with the number of letters that the loop reads, and commits are held up only
// briefly at a time. A loop over more than 1,500 letters keeps 8 bytes for each in memory. An
// error, one of those of [Queue.Receive], is yielded once, last, with a zero Record.
func (d DeadLetters) All(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := d.all(ctx, yield); err != nil {
			yield(Record{}, wrap("read dead letters of", d.q.name, err))
		}
	}
}

func (d DeadLetters) all(ctx context.Context, yield func(Record, error) bool) error {
	q := d.q
	if err := q.load(ctx); err != nil {
		return err
	}
	if _, _, err := q.lockPresent(ctx); err != nil {
		return err
	}
	end := q.next // records from there on were not received yet, so they are not dead
	q.mu.Unlock()
	from := uint64(0)
	for n := fewLetters; n <= manyLetters; n *= 2 { // so that all of these together cost about twice the last ones
		letters, err := d.page(ctx, from, end, n)
		if err != nil || len(letters) == 0 {
			return err
		}
		if more, err := d.each(ctx, letters, yield); !more {
			return err
		}
		from = letters[len(letters)-1].counter + 1
	}
	counters, err := d.counters(ctx, from, end)
	if err != nil {
		return err
	}
	for these := range slices.Chunk(counters, manyLetters) {
		letters, err := d.lookUp(ctx, these)
		if err != nil {
			return err
		}
		if more, err := d.each(ctx, letters, yield); !more {
			return err
		}
	}
	return nil
}

// each reads letters and yields them. It reports whether the loop continues.
func (d DeadLetters) each(ctx context.Context, letters []letter, yield func(Record, error) bool) (more bool, err error) {
	q := d.q
	for i := range letters {
		t := &letters[i]
		there, err := q.readOne(ctx, &t.taken)
		if err != nil {
			return false, err
		}
		if !there {
			continue
		}
		r := Record{Record: *t.record, ID: t.id(), Receives: t.receives, FirstReceived: timeOf(t.first), Reason: t.reason}
		if !t.inFlight {
			r.Receipt = q.receipt(t.ticket)
		}
		t.record = nil
		if !yield(r, nil) {
			return false, nil
		}
	}
	return true, nil
}

// Letters are looked up under the queue's mutex, for which commits wait, so only a few are looked
// up at a time. The first pages are found by walking the list, at a cost that does not depend on
// the other letters. A loop that goes further first notes the counters of all letters.
const (
	fewLetters  = 100 // at first
	manyLetters = 800 // at most
)

// letter is a dead letter that All returns.
type letter struct {
	taken
	inFlight bool
}

// page returns up to n dead letters whose counters are at least from and less than end.
func (d DeadLetters) page(ctx context.Context, from, end uint64, n int) (letters []letter, err error) {
	q := d.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.overLocked(ctx); err != nil {
		return nil, err
	}
	now := q.door.Now()
	q.passed(now, passedAtOnce)
	for it := range q.ages.dying.Ascending() {
		q.looks++
		switch e := it.Value; {
		case e.counter >= end || len(letters) == n:
			return letters, nil
		case e.counter >= from:
			letters = append(letters, e.letter(now))
		}
	}
	return letters, nil
}

// counters returns the counters of all dead letters that are at least from and less than end, in
// order.
func (d DeadLetters) counters(ctx context.Context, from, end uint64) (all []uint64, err error) {
	q := d.q
	q.mu.Lock()
	err = q.overLocked(ctx)
	for e := range q.letters { // those that stay in the map are all visited, even if others come and go
		if err != nil {
			break
		}
		q.looks++
		if e.counter >= from && e.counter < end {
			all = append(all, e.counter)
		}
		if q.looks%passedAtOnce == 0 {
			q.mu.Unlock()
			q.mu.Lock()
			err = q.overLocked(ctx)
		}
	}
	q.mu.Unlock()
	slices.Sort(all)
	return slices.Compact(all), err // one that was restored and has died again may be visited twice
}

// lookUp returns the letters with these counters that are still dead.
func (d DeadLetters) lookUp(ctx context.Context, counters []uint64) (letters []letter, err error) {
	q := d.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.overLocked(ctx); err != nil {
		return nil, err
	}
	now := q.door.Now()
	q.passed(now, passedAtOnce)
	for _, counter := range counters {
		q.looks++
		if e := q.entries[counter]; e != nil && e.phase.isLetter() {
			letters = append(letters, e.letter(now))
		}
	}
	return letters, nil
}

func (e *entry) letter(now uint64) letter {
	l := letter{e.taken(), e.phase == deadInFlight && e.visible > now} // its timeout may have passed, but not in pass
	l.dead = true
	return l
}

// Discard removes dead letters from the queue, as [Queue.Ack] does with records. Kinesis:
// AcknowledgeDeadLetterQueueRecords.
func (d DeadLetters) Discard(ctx context.Context, receipts ...Receipt) error {
	return wrap("discard dead letters of", d.q.name, d.q.settleAll(ctx, step{verb: acknowledge}, true, receipts))
}

// DiscardTx is [Queue.AckTx] for dead letters: it discards them together with the other
// writes of the transaction.
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

// Restore makes dead letters normal records of the queue again: visible, with
// Options.MaxReceives attempts, and with Record.Receives counting from 1. With
// Options.OrderByKey they come before the remaining records of their keys, but after
// those received in the meantime. Errors: as [Queue.Extend]. Kinesis:
// RestoreDeadLetterQueueRecords.
func (d DeadLetters) Restore(ctx context.Context, receipts ...Receipt) error {
	return wrap("restore dead letters of", d.q.name, d.q.settleAll(ctx, step{verb: restore}, true, receipts))
}

// RestoreAll restores all dead letters, including those in flight, and returns their
// number. It makes a commit for each thousand, and keeps 8 bytes for each letter in memory. If it
// fails, the returned number of letters was restored; after braid.ErrOutcomeUnknown, another
// thousand may have been.
func (d DeadLetters) RestoreAll(ctx context.Context) (int, error) {
	n, err := d.restoreAll(ctx)
	return n, wrap("restore dead letters of", d.q.name, err)
}

func (d DeadLetters) restoreAll(ctx context.Context) (n int, err error) {
	q := d.q
	if err := q.load(ctx); err != nil {
		return 0, err
	}
	if _, _, err := q.lockPresent(ctx); err != nil {
		return 0, err
	}
	q.mu.Unlock()
	counters, err := d.counters(ctx, 0, math.MaxUint64)
	if err != nil {
		return 0, err
	}
	for {
		these := counters[:min(len(counters), maxRestored)]
		counters = counters[len(these):]
		// A commit without letters waits until those are durable that others have restored.
		r := &restoring{q: q, counters: these}
		if err := q.door.Commit(ctx, false, 100*len(these), r.apply); err != nil {
			return n, err
		}
		if n += r.count; len(counters) == 0 {
			return n, nil
		}
	}
}

// maxRestored is the maximum number of dead letters that one commit restores.
const maxRestored = 1000

// restoring is a commit of RestoreAll. It belongs to the commit until that has ended.
type restoring struct {
	q        *Queue
	counters []uint64 // of the dead letters to restore
	count    int      // number restored
}

// apply is called by the goroutine that commits.
func (r *restoring) apply(rows companion.Rows) (publish func(), err error) {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone {
		return nil, ErrQueueNotFound
	}
	now := q.door.Now()
	q.passed(now, passedInCommit)
	q.flush(rows)
	for _, counter := range r.counters {
		e := q.entries[counter]
		if e == nil || !q.catchUp(e, now) || !e.phase.isLetter() {
			continue // it has expired, or was settled or restored in the meantime
		}
		q.looks++
		q.revive(e, now)
		q.put(rows, e)
		r.count++
	}
	q.stats.restored += uint64(r.count)
	return q.alert, nil
}

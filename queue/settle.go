package queue

import (
	"context"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/layout"
)

// Ack acknowledges received records: they leave the queue, and are not received again.
// The stream keeps them. When Ack returns nil, that is durable, in the database's mode.
//
// The newest receipt of a record can acknowledge it even after its visibility timeout has
// passed. A receipt of an earlier delivery is refused with [ErrReceiptExpired], so that
// no record is lost that another receiver holds. Acknowledging a record again succeeds.
//
// Errors: [ReceiptsError] for receipts that were refused; the others are acknowledged.
// After [ErrQueueNotFound], braid.ErrFailed, braid.ErrReadOnly, braid.ErrClosed and the
// cause of ctx, none is acknowledged. After braid.ErrOutcomeUnknown, acknowledge them
// again. Ack works even while the disk is full, within braid.Options.ReserveBytes; beyond that it
// waits until ctx ends. Kinesis: AcknowledgeQueueRecords.
func (q *Queue) Ack(ctx context.Context, receipts ...Receipt) error {
	return wrap("acknowledge", q.name, q.settleAll(ctx, step{verb: acknowledge}, false, receipts))
}

// Extend sets the visibility timeout of received records anew: they are hidden for the
// given time from now on, 0 to 12 hours; 0 makes them visible now. A receipt whose
// timeout has passed is [ErrReceiptExpired], and one whose record has left the queue is
// [ErrRecordSettled]. Errors: [ReceiptsError], and as [Queue.Receive]. Kinesis:
// UpdateQueueRecordsVisibility.
func (q *Queue) Extend(ctx context.Context, timeout time.Duration, receipts ...Receipt) error {
	err := checkDelay("timeout", timeout)
	if err == nil {
		err = q.settleAll(ctx, step{verb: extend, delay: timeout}, false, receipts)
	}
	return wrap("extend", q.name, err)
}

// Release gives back records whose attempt has failed. They are visible again after the
// delay, 0 to 12 hours, or dead if this was the last of Options.MaxReceives attempts.
// Errors: as [Queue.Extend].
func (q *Queue) Release(ctx context.Context, delay time.Duration, receipts ...Receipt) error {
	err := checkDelay("delay", delay)
	if err == nil {
		err = q.settleAll(ctx, step{verb: release, delay: delay}, false, receipts)
	}
	return wrap("release", q.name, err)
}

// Return gives back records that were not attempted. They are visible again at once, and
// the delivery does not count. Return works even while the disk is full. Errors: as
// [Queue.Extend].
func (q *Queue) Return(ctx context.Context, receipts ...Receipt) error {
	return wrap("return", q.name, q.settleAll(ctx, step{verb: giveBack}, false, receipts))
}

// Reject makes records dead letters, regardless of how often they were received. The
// first 256 bytes of the reason are stored with them. Errors: as [Queue.Extend].
func (q *Queue) Reject(ctx context.Context, reason string, receipts ...Receipt) error {
	return wrap("reject", q.name, q.settleAll(ctx, step{verb: reject, reason: shortened(reason)}, false, receipts))
}

// settleAll does the same step for all receipts.
func (q *Queue) settleAll(ctx context.Context, what step, dead bool, receipts []Receipt) error {
	if err := q.load(ctx); err != nil || len(receipts) == 0 {
		return err
	}
	steps := q.steps(what, dead, receipts)
	if _, err := q.commit(ctx, nil, steps); err != nil {
		return err
	}
	return failures(steps, receipts)
}

// steps makes the same step for all receipts. An invalid receipt becomes a step with an
// error.
func (q *Queue) steps(what step, dead bool, receipts []Receipt) []step {
	steps := make([]step, len(receipts))
	for i, r := range receipts {
		steps[i] = what
		t, err := q.ticket(r)
		if err == nil && t.dead != dead {
			err = ErrReceiptInvalid
		}
		steps[i].ticket, steps[i].err = t, err
	}
	return steps
}

// failures returns the error for the steps that were refused.
func failures(steps []step, receipts []Receipt) error {
	var failed []ReceiptError
	for i := range steps {
		if err := steps[i].err; err != nil {
			failed = append(failed, ReceiptError{Index: i, Receipt: receipts[i], Err: err})
		}
	}
	if failed == nil {
		return nil
	}
	return &ReceiptsError{failed}
}

// AckTx acknowledges records as part of a transaction of the queue's database: together
// with the writes and puts of the transaction, or not at all. So effects in the database
// happen exactly once for each record, even if it is received again.
//
//	err := db.Update(ctx, func(tx *braid.Tx) error {
//		… tx.Set, tx.PutRecord …
//		return q.AckTx(tx, record.Receipt)
//	})
//
// AckTx checks that the receipts still hold their records, and the commit checks it
// again. If another receiver has got one of them since, or it has left the queue (even by
// an earlier acknowledgement), braid.DB.Update returns the error and nothing is written.
//
// Errors: [ReceiptsError]; [ErrQueueNotFound]; braid.ErrInvalidArgument for a transaction of
// another database or one that cannot write; braid.ErrTxTooLarge; the cause of the transaction's
// context.
func (q *Queue) AckTx(tx *braid.Tx, receipts ...Receipt) error {
	return wrap("acknowledge", q.name, q.ackTx(tx, false, receipts))
}

func (q *Queue) ackTx(tx *braid.Tx, dead bool, receipts []Receipt) error {
	if tx == nil {
		return invalid("tx", nil, "must not be nil")
	}
	inner := companion.TxOf(tx)
	if inner.DB() != any(q.db) {
		return invalid("tx", "of another database", "must be a transaction of the queue's database")
	}
	if err := q.load(inner.Context()); err != nil {
		return err
	}
	steps := q.steps(step{verb: acknowledge}, dead, receipts)
	check := func() error {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.gone {
			return ErrQueueNotFound
		}
		now := q.door.Now()
		q.passed(now, passedInCommit)
		for i := range steps {
			if st := &steps[i]; st.err == nil {
				_, st.err = q.find(st.ticket, now)
			}
		}
		return failures(steps, receipts)
	}
	if err := check(); err != nil {
		return err
	}
	return inner.Join(check, func(rows companion.Rows) func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.flush(rows)
		now := q.door.Now()
		for i := range steps {
			e, err := q.find(steps[i].ticket, now)
			if err != nil { // the record has expired since the check, or is named twice
				rows.Delete(layout.DeliveryKey(q.id, steps[i].ticket.shard, steps[i].ticket.counter))
				continue
			}
			q.state.settle(rows, e)
		}
		return func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.alertLocked()
		}
	})
}

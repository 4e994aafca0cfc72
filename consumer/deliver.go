package consumer

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/braidstream/braid"
)

// deliverPage gives the records of a page to the processor, except those up to from, and
// moves from to the end of the page. If the page ends with something that is not for the
// processor, that counts as done.
func (r *runner) deliverPage(page *fetched, from *Checkpoint) error {
	records, end := r.take(page, *from)
	if err := r.deliverRecords(page, records); err != nil {
		return err
	}
	if !from.before(end) {
		return nil
	}
	*from = end
	if n := len(records); n == 0 || records[n-1].SequenceNumber != end.SequenceNumber {
		return r.skipTo(end)
	}
	return nil
}

func (r *runner) deliverRecords(page *fetched, records []Record) error {
	if len(records) == 0 {
		r.worker.budget.give(page.bytes)
		return nil
	}
	if r.tracker != nil {
		r.noteDelivered(records)
		r.tracker.add(records, page.bytes)
		r.feedLanes(records)
		return nil
	}
	defer r.worker.budget.give(page.bytes)
	rest := page.Page // BehindRecords and BehindBytes of a batch include the batches after it
	if len(records) > r.cfg.BatchRecords {
		rest.BehindRecords += int64(len(records))
		rest.BehindBytes += sizeOf(records)
	}
	for batch := range slices.Chunk(records, r.cfg.BatchRecords) {
		if len(batch) < len(records) {
			rest.BehindRecords -= int64(len(batch))
			rest.BehindBytes -= sizeOf(batch)
		}
		if err := r.waitForCommitter(); err != nil {
			return err
		}
		r.noteDelivered(batch)
		if err := r.deliver(&r.w.trying, batch, &rest); err != nil {
			return err
		}
	}
	return nil
}

// noteDelivered notes which records the processor may checkpoint.
func (r *runner) noteDelivered(records []Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delivered = records[len(records)-1].checkpoint()
}

// sizeOf returns the bytes of the partition keys and data of records.
func sizeOf(records []Record) (bytes int64) {
	for i := range records {
		bytes += int64(records[i].Size())
	}
	return bytes
}

// deliver gives records to the processor until they are done: again and again, then one
// by one, and then as the Config says. trying holds what this goroutine retries. If
// deliver returns an error, the records that were not done are withdrawn: nobody will
// acknowledge them.
func (r *runner) deliver(trying *retry, records []Record, page *Page) (err error) {
	err = errGoexit // unless a call returns
	defer func() {
		if err != nil {
			r.withdraw(records)
		}
	}()
	commits := 0 // consecutive failed commits
	for attempt := 1; len(records) > 0; attempt++ {
		if cause := r.cause(); cause != nil {
			return cause
		}
		err := r.processOnce(records, page, attempt)
		if err == nil {
			r.noteRecovered(trying)
			return nil
		}
		if cause := context.Cause(r.ctx); cause != nil {
			return cause
		}
		var fatal *fatalError
		if errors.As(err, &fatal) {
			return err
		}
		var commit *commitError
		if errors.As(err, &commit) && !errors.Is(err, braid.ErrTxTooLarge) {
			if isFatal(err) {
				return &fatalError{err}
			}
			commits++
			r.log.Warn("the transaction could not be committed; retrying", "error", commit.error)
			r.noteRetry(trying, commits, commit.error)
			if err := r.cfg.pause(r.flow, commits, commit.error); err != nil {
				return err
			}
			attempt--
			continue
		}
		commits = 0
		if n := doneBefore(records, err); n > 0 {
			if err := r.finishFirst(trying, records[:n], page); err != nil {
				return err
			}
			records, attempt = records[n:], 1
		}
		if errors.Is(err, braid.ErrTxTooLarge) && len(records) > 1 {
			half := records[:len(records)/2]
			records, attempt = records[len(half):], 0
			if err := r.deliver(trying, half, page); err != nil {
				return err
			}
			continue
		}
		r.worker.counts.failures.Add(1)
		r.log.Warn("the processor has failed", "attempt", attempt, "records", len(records), "first", records[0].SequenceNumber, "error", err)
		r.noteRetry(trying, attempt, err)
		if r.cfg.MaxAttempts > 0 && attempt >= r.cfg.MaxAttempts {
			if len(records) == 1 {
				return r.handleFailed(trying, &records[0], attempt, err)
			}
			for len(records) > 0 { // to find the record that fails
				one := records[:1]
				records = records[1:]
				if err := r.deliver(trying, one, page); err != nil {
					return err
				}
			}
			return nil
		}
		if err := r.cfg.pause(r.flow, attempt, err); err != nil {
			return err
		}
	}
	return nil
}

// doneBefore returns how many records are done according to the processor's RecordErrors:
// those before the earliest that one of them names. A processor that works on several
// records at once may join their errors, in any order.
func doneBefore(records []Record, err error) int {
	done := -1 // no RecordError was found
	var visit func(error)
	visit = func(err error) {
		var at *RecordError
		if named, is := err.(*RecordError); is {
			at = named
		} else if as, can := err.(interface{ As(any) bool }); can {
			as.As(&at)
		}
		if at != nil {
			n := max(0, slices.IndexFunc(records, func(rec Record) bool {
				return rec.ShardID == at.Record.ShardID && rec.checkpoint() == at.Record.checkpoint()
			}))
			if done < 0 || n < done {
				done = n
			}
		}
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			if inner := e.Unwrap(); inner != nil {
				visit(inner)
			}
		case interface{ Unwrap() []error }:
			for _, inner := range e.Unwrap() {
				visit(inner)
			}
		}
	}
	visit(err)
	return max(0, done)
}

// finishFirst marks records as done that the processor reported as done. In a transaction
// its writes for them were rolled back, so a TxProcessor is given them again, without the
// rest.
func (r *runner) finishFirst(trying *retry, records []Record, page *Page) error {
	if r.tx != nil {
		return r.deliver(trying, records, page)
	}
	return r.markDone(records)
}

// withdraw notes that the processor does not have the records, or has refused them, and
// will not get them again under this lease.
func (r *runner) withdraw(records []Record) {
	if r.tracker != nil {
		r.tracker.withdraw(records)
	}
}

// processOnce gives records to the processor once. A nil error means that they are done.
func (r *runner) processOnce(records []Record, page *Page, attempt int) error {
	call := Call{Method: "ProcessRecords", Attempt: attempt, Records: len(records), First: records[0].SequenceNumber, Last: records[len(records)-1].SequenceNumber}
	began := time.Now()
	defer func() { r.worker.counts.noteCall(time.Since(began)) }()
	if r.tx == nil {
		batch := r.batch(records, page, attempt)
		if err := r.call(call, func() error { return r.plain.ProcessRecords(r.ctx, batch) }); err != nil {
			return err
		}
		return r.markDone(records)
	}
	batch := r.txBatch(records, page, attempt)
	last := records[len(records)-1].checkpoint()
	var failed error // the processor's error
	err := r.updateTx(r.ctx, func(tx *braid.Tx, lease *Lease) error {
		if failed = nil; !lease.Checkpoint.before(last) {
			return nil // a commit of unknown outcome has succeeded
		}
		failed = r.call(call, func() error { return r.tx.ProcessRecords(r.ctx, tx, batch) })
		lease.advance(last)
		return failed
	})
	switch {
	case failed != nil:
		return failed
	case err != nil:
		return &commitError{err}
	}
	r.countProcessed(records)
	r.worker.counts.noteCheckpoint()
	return nil
}

// countProcessed counts processed records.
func (r *runner) countProcessed(records []Record) {
	r.worker.counts.batches.Add(1)
	r.worker.counts.records.Add(int64(len(records)))
	bytes := sizeOf(records)
	r.worker.counts.bytes.Add(bytes)
	r.given.Add(bytes)
	r.worker.counts.latencies.Observe(time.Since(records[0].ArrivalTime))
}

// markDone moves the checkpoint past processed records, unless the processor checkpoints
// them itself.
func (r *runner) markDone(records []Record) error {
	r.countProcessed(records)
	last := records[len(records)-1].checkpoint()
	switch {
	case r.cfg.Checkpoints == Acks:
		return nil
	case r.tracker != nil:
		r.tracker.markDone(records)
		return nil
	}
	return r.advanceTo(last)
}

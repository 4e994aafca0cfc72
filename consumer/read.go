package consumer

import (
	"errors"
	"math"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kpl"
)

const (
	// maxTrackedPages and BatchBytes bound what a shard with lanes reads ahead.
	maxTrackedPages = 64

	// minPageRecords is how many records are read at once, even if batches are
	// smaller: a page costs more than its records.
	minPageRecords = 500
)

// read walks through the shard page by page.
func (r *runner) read() error {
	source, budget := r.hold.group.records(), r.worker.budget
	from := r.current().Checkpoint
	at := from.position()
	lingered := false
	for attempt := 1; ; {
		if r.tracker != nil {
			pages := maxTrackedPages - 1
			if r.cfg.Checkpoints == Acks {
				pages = math.MaxInt // they may be small, and acknowledged by the hundred
			}
			r.noteWait(WaitAcknowledgements)
			if err := r.tracker.waitForRoom(r.flow, pages, r.cfg.BatchBytes); err != nil {
				return err
			}
		}
		r.noteWait(WaitSource)
		taken := budget.take()
		page, err := source.Read(r.flow, r.key.Stream, r.key.Shard, at, max(r.cfg.BatchRecords, minPageRecords), taken)
		if err != nil {
			page = Page{}
		}
		bytes := bytesOf(page.Records)
		budget.give(taken - bytes)
		if err == nil && attempt > 1 {
			r.noteRecovered(&r.w.trying)
		}
		switch {
		case err != nil:
		case len(page.Records) == 0 && !page.EndOfShard:
			at = page.Next
			r.noteWait(WaitRecords)
			err = r.waitAtTip(at)
			lingered = false
		case r.cfg.Linger > 0 && !lingered && page.AtTip && !page.EndOfShard && len(page.Records) < r.cfg.BatchRecords && bytes < r.cfg.BatchBytes:
			budget.give(bytes)
			page, lingered = Page{}, true
			r.noteWait(WaitRecords)
			err = sleep(r.flow, r.cfg.Linger)
		default:
			at, lingered = page.Next, false
			r.w.behind = r.w.behind || !page.AtTip
			if err := r.deliverPage(&page, bytes, from); err != nil {
				return err
			}
			if page.EndOfShard {
				return r.finishShard()
			}
		}
		if err == nil {
			attempt = 1
			continue
		}
		if at, err = r.readError(at, err, attempt); err != nil {
			return err
		}
		attempt++
	}
}

// bytesOf counts the partition keys and data of a page.
func bytesOf(page []braid.Record) (bytes int) {
	for i := range page {
		bytes += page[i].Size()
	}
	return bytes
}

// readError says where to go on after an error of the source, or returns why not
// to.
func (r *runner) readError(at braid.Position, err error, attempt int) (braid.Position, error) {
	if cause := r.cause(); cause != nil {
		return at, cause
	}
	var gap *braid.TrimmedError
	switch {
	case errors.As(err, &gap):
		if err := r.reportGap(gap); err != nil {
			return at, err
		}
		return braid.AtSequence(gap.FirstAvailable), r.skipTo(Checkpoint{SequenceNumber: gap.LastLost})
	case isGone(err):
		return at, &goneError{err}
	case isFatal(err):
		return at, &fatalError{err}
	case errors.Is(err, braid.ErrBeyondTip):
		return at, err // the leases are of a newer copy: somebody has to decide, by Seek
	}
	r.log.Warn("the shard cannot be read; it is tried again", "attempt", attempt, "error", err)
	r.noteRetry(&r.w.trying, attempt, err)
	return at, r.cfg.pause(r.flow, attempt, err)
}

// reportGap reports records that were removed before they were processed. The error
// is that of the user, who wants the shard to stop.
func (r *runner) reportGap(gap *braid.TrimmedError) error {
	r.worker.counts.gaps.Add(1)
	r.log.Warn("records were removed before they were processed", "of", gap.Shard, "firstLost", gap.FirstLost, "lastLost", gap.LastLost)
	if r.cfg.OnGap == nil {
		return nil
	}
	return r.call(Call{Method: "OnGap", Attempt: 1}, func() error { return r.cfg.OnGap(r.ctx, r.key.Stream, gap) })
}

// skipTo makes a place done at which there is no record for the processor.
func (r *runner) skipTo(place Checkpoint) error {
	if r.tracker != nil {
		r.tracker.skipTo(place)
		return nil
	}
	return r.advanceTo(place)
}

// unpack takes a page apart, and returns the place after it. What the first
// checkpoint says was processed is left out: of an aggregate, or by a source that
// begins at the last record.
func (r *runner) unpack(page *Page, from Checkpoint) (records []Record, end Checkpoint) {
	records = make([]Record, 0, len(page.Records))
	for i := range page.Records {
		carrier := &page.Records[i]
		end = Checkpoint{SequenceNumber: carrier.SequenceNumber}
		var users []braid.Entry
		aggregated := false
		if r.cfg.Deaggregate {
			users, aggregated = kpl.Split(carrier.Data)
		}
		if !aggregated {
			records = append(records, Record{Record: *carrier})
			continue
		}
		first := len(records)
		for sub, user := range users {
			end.SubSequenceNumber = sub
			rec := Record{Record: *carrier, SubSequenceNumber: sub, Aggregated: true, Partial: true}
			rec.PartitionKey, rec.Data, rec.ExplicitHashKey = user.PartitionKey, user.Data, user.ExplicitHashKey
			if r.cfg.KeepForeign || r.shard.HashKeyRange.Contains(user.HashKey()) {
				records = append(records, rec)
			}
		}
		if len(records) > first {
			records[len(records)-1].Partial = false
		}
	}
	for len(records) > 0 && !from.SequenceNumber.IsZero() && !from.before(records[0].checkpoint()) {
		if from.Partial && !records[0].Aggregated {
			break // it is no longer taken apart, so all of it comes again
		}
		records = records[1:]
	}
	return records, end
}

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
		page, err := r.fetch(source, at, taken)
		if err != nil {
			page = fetched{}
		}
		budget.give(taken - page.bytes)
		if err == nil && attempt > 1 {
			r.noteRecovered(&r.w.trying)
		}
		switch {
		case err != nil:
		case page.count() == 0 && !page.EndOfShard:
			at = page.Next
			r.noteWait(WaitRecords)
			err = r.waitAtTip(at)
			lingered = false
		case r.cfg.Linger > 0 && !lingered && page.AtTip && !page.EndOfShard && page.count() < r.cfg.BatchRecords && page.bytes < r.cfg.BatchBytes:
			budget.give(page.bytes)
			page, lingered = fetched{}, true
			r.noteWait(WaitRecords)
			err = sleep(r.flow, r.cfg.Linger)
		default:
			at, lingered = page.Next, false
			r.w.behind = r.w.behind || !page.AtTip
			if err := r.deliverPage(&page, from); err != nil {
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

// fetched is a page with its records in one of two forms: as they were stored, if they are
// to be taken apart, or else as the processor gets them.
type fetched struct {
	Page
	whole []Record
	bytes int // of the partition keys and data
}

func (p *fetched) count() int { return len(p.Records) + len(p.whole) }

// fetch reads a page of so many bytes. The database puts records where processors get
// them; those of another source are copied.
func (r *runner) fetch(source Source, at braid.Position, bytes int) (p fetched, err error) {
	records := max(r.cfg.BatchRecords, minPageRecords)
	if db, is := source.(dbSource); is && !r.cfg.Deaggregate {
		p.Page, p.whole, p.bytes, err = db.readWhole(r.flow, r.key, at, records, bytes)
		return p, err
	}
	if p.Page, err = source.Read(r.flow, r.key.Stream, r.key.Shard, at, records, bytes); err != nil {
		return p, err
	}
	p.bytes = bytesOf(p.Records)
	if !r.cfg.Deaggregate {
		p.whole = make([]Record, len(p.Records))
		for i := range p.Records {
			p.whole[i].Record = p.Records[i]
		}
		p.Records = nil
	}
	return p, nil
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

// take returns the records of a page that the processor gets, and the place after the
// page. What the first checkpoint says was processed is left out: of an aggregate, or by a
// source that begins at the last record.
func (r *runner) take(page *fetched, from Checkpoint) (records []Record, end Checkpoint) {
	if records = page.whole; len(records) > 0 {
		end = records[len(records)-1].checkpoint()
	} else if len(page.Records) > 0 {
		records, end = r.unpack(page.Records)
	}
	for len(records) > 0 && !from.SequenceNumber.IsZero() && !from.before(records[0].checkpoint()) {
		if from.Partial && !records[0].Aggregated {
			break // it is no longer taken apart, so all of it comes again
		}
		records = records[1:]
	}
	return records, end
}

// unpack takes records apart, of which there are some, and returns the place after them.
func (r *runner) unpack(carriers []braid.Record) (records []Record, end Checkpoint) {
	records = make([]Record, 0, len(carriers))
	for i := range carriers {
		carrier := &carriers[i]
		end = Checkpoint{SequenceNumber: carrier.SequenceNumber}
		users, aggregated := kpl.Split(carrier.Data)
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
	return records, end
}

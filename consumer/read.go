package consumer

import (
	"errors"
	"math"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kpl"
)

const (
	// maxTrackedPages and BatchBytes limit how far a shard with lanes reads ahead.
	maxTrackedPages = 64

	// minPageRecords is how many records are read at once, even if batches are smaller: a
	// page costs more than its records.
	minPageRecords = 500
)

// read reads the shard page by page.
func (r *runner) read() error {
	from := r.current().Checkpoint
	feed := &feed{source: r.hold.group.records(), key: r.key, at: from.position(), apart: r.cfg.Deaggregate, reuse: r.cfg.ReuseRecords}
	defer feed.close()
	atTip := false // the last page was at the tip, without a record
	for attempt := 1; ; {
		if err := r.waitForRoom(); err != nil {
			return err
		}
		page, err := r.nextPage(feed, atTip)
		if err != nil {
			if err := r.readError(err, attempt); err != nil {
				return err
			}
			attempt, atTip = attempt+1, false
			continue
		}
		if attempt > 1 {
			r.noteRecovered(&r.w.trying)
			attempt = 1
		}
		atTip = page.AtTip && page.count() == 0
		if r.cfg.Linger > 0 {
			atTip = r.linger(feed, &page) || atTip
		}
		if err := r.takePage(&page, &from); err != nil {
			return err // and the processor may still have the records
		}
		feed.done(&page)
		if page.EndOfShard {
			feed.close()
			r.noteChildren(page.Children)
			return r.finishShard()
		}
	}
}

// noteChildren publishes the children of this shard.
func (r *runner) noteChildren(children []ShardInfo) {
	g := r.hold.group
	g.noteEndOfShard(r.key.Stream, r.incarnation, children)
	if _, is := g.leases.(dbLeases); is {
		return
	}
	for _, child := range children {
		r.children = append(r.children, child.ID)
	}
}

// waitForRoom waits until more of the shard may be read. Without a tracker, there is
// nothing to wait for.
func (r *runner) waitForRoom() error {
	if r.tracker == nil {
		return nil
	}
	pages := maxTrackedPages - 1
	if r.cfg.Checkpoints == Acks {
		pages = math.MaxInt // pages may be small, and their records acknowledged by the hundred
	}
	r.noteWait(WaitAcknowledgements)
	return r.tracker.waitForRoom(r.flow, pages, r.cfg.BatchBytes)
}

// nextPage reads a page, whose bytes it reserves in the budget. While it waits at the tip
// it reserves nothing, so it reads no more than the least size.
func (r *runner) nextPage(feed *feed, atTip bool) (page fetched, err error) {
	budget := r.worker.budget
	limits := Limits{Records: max(r.cfg.BatchRecords, minPageRecords)}
	taken := 0
	if atTip {
		feed.rest()
		limits.Bytes = int(budget.least)
		r.noteWait(WaitRecords)
		err = r.waitAtTip(func() (err error) {
			page, err = feed.next(r.flow, limits)
			return err
		})
		if err != nil { // or the hook has ended the work
			page = fetched{}
		}
	} else {
		taken = budget.take()
		limits.Bytes = taken
		r.noteWait(WaitSource)
		page, err = feed.next(r.flow, limits)
	}
	budget.give(taken - page.bytes)
	return page, err
}

// linger waits for more if a page is smaller than a batch, and adds the new records, as
// far as the budget allows for one read. It returns whether the tip was reached without a
// new record.
func (r *runner) linger(feed *feed, page *fetched) (atTip bool) {
	n := page.count()
	if n == 0 || n >= r.cfg.BatchRecords || page.bytes >= r.cfg.BatchBytes || !page.AtTip || page.EndOfShard {
		return false
	}
	r.noteWait(WaitRecords)
	if sleep(r.flow, r.cfg.Linger) != nil {
		return false // deliver sees the cause
	}
	r.noteWait(WaitSource)
	budget := r.worker.budget
	budget.give(page.bytes)
	taken := budget.take()
	defer func() { budget.give(taken - page.bytes) }()
	if taken <= page.bytes {
		return false
	}
	more, err := feed.next(r.flow, Limits{Records: r.cfg.BatchRecords - n, Bytes: taken - page.bytes})
	if err != nil {
		return false // the next page reports it
	}
	if more.Gap != nil { // the gap comes after these records
		feed.unread(more)
		return false
	}
	atTip = more.AtTip && more.count() == 0
	more.Gap = page.Gap
	more.Records, more.whole = append(page.Records, more.Records...), append(page.whole, more.whole...)
	more.bytes += page.bytes
	*page = more
	return atTip
}

// takePage delivers a page. from is the place up to which the processor has the records;
// takePage moves it.
func (r *runner) takePage(page *fetched, from *Checkpoint) error {
	if page.Gap != nil {
		if err := r.reportGap(page.Gap); err != nil {
			r.worker.budget.give(page.bytes)
			return err
		}
		if place := (Checkpoint{SequenceNumber: page.Gap.LastLost}); from.before(place) {
			if err := r.skipTo(place); err != nil {
				r.worker.budget.give(page.bytes)
				return err
			}
			*from = place
		}
	}
	if page.count() == 0 {
		return nil
	}
	r.w.behind = r.w.behind || !page.AtTip
	return r.deliverPage(page, from)
}

// bytesOf returns the bytes of the partition keys and data of a page.
func bytesOf(page []braid.Record) (bytes int) {
	for i := range page {
		bytes += page[i].Size()
	}
	return bytes
}

// readError handles an error of the source: it waits until reading may be retried, or
// returns why it may not.
func (r *runner) readError(err error, attempt int) error {
	if cause := r.cause(); cause != nil {
		return cause
	}
	switch {
	case isGone(err):
		r.hold.group.noteEndOfShard(r.key.Stream, r.incarnation, nil)
		return &goneError{err}
	case isPermanent(err):
		return err
	case isFatal(err):
		return &fatalError{err}
	case errors.Is(err, braid.ErrBeyondTip):
		return err // the leases are of a newer copy of the stream: an operator must decide, by Seek
	}
	r.log.Warn("the shard cannot be read; retrying", "attempt", attempt, "error", err)
	r.noteRetry(&r.w.trying, attempt, err)
	return r.cfg.pause(r.flow, attempt, err)
}

// reportGap reports records that were removed before they were processed. If OnGap
// returns an error, so does reportGap, and the shard stops.
func (r *runner) reportGap(gap *braid.TrimmedError) error {
	r.worker.counts.gaps.Add(1)
	if gap.Suspected {
		r.log.Warn("records may have been removed before they were processed", "of", gap.Shard, "firstLost", gap.FirstLost)
	} else {
		r.log.Warn("records were removed before they were processed", "of", gap.Shard, "firstLost", gap.FirstLost, "lastLost", gap.LastLost)
	}
	if r.cfg.OnGap == nil {
		return nil
	}
	return r.call(Call{Method: "OnGap", Attempt: 1}, func() error { return r.cfg.OnGap(r.ctx, r.key.Stream, gap) })
}

// reportParents reports the gaps of expired parents that were not accepted, and stores for
// each one that OnGap has accepted it. Only then does the shard begin.
func (r *runner) reportParents() error {
	for _, gap := range r.current().Gaps {
		if gap.Accepted {
			continue
		}
		if cause := r.cause(); cause != nil {
			return cause
		}
		if err := r.reportGap(gap.trimmed()); err != nil {
			return err
		}
		if err := r.acceptGap(&r.w.trying, gap.Shard); err != nil {
			return err
		}
	}
	return nil
}

// skipTo marks a place as done at which there is no record for the processor.
func (r *runner) skipTo(place Checkpoint) error {
	if r.tracker != nil {
		r.tracker.skipTo(place)
		return nil
	}
	return r.advanceTo(place)
}

// take returns the records of a page for the processor, and the place after the page. It
// leaves out records that the first checkpoint says were processed: the first ones of an
// aggregate, or the last processed record, with which some sources begin. A checkpoint of
// the KCL does not say whether its record is an aggregate, and counts as Partial.
func (r *runner) take(page *fetched, from Checkpoint) (records []Record, end Checkpoint) {
	if records = page.whole; len(records) > 0 {
		end = records[len(records)-1].checkpoint()
	} else if len(page.Records) > 0 {
		records, end = r.unpack(page.Records)
	}
	for len(records) > 0 && !from.SequenceNumber.IsZero() && !from.precedes(records[0].checkpoint()) {
		if from.Partial && !records[0].Aggregated {
			if _, aggregated := kpl.Split(records[0].Data); aggregated {
				break // it is no longer unpacked, so all of it comes again
			}
		}
		records = records[1:]
	}
	return records, end
}

// unpack unpacks at least one record, and returns the place after the last.
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

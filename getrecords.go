package braid

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/tail"
)

// Limits of a page.
const (
	maxPageRecords = 10_000   // Kinesis: GetRecords' Limit
	maxPageBytes   = 10 << 20 // Kinesis: GetRecords' result
)

// GetRecordsOptions bound a page. The zero value, and a nil pointer, mean the
// defaults.
type GetRecordsOptions struct {
	// Limit is the most records to return, 1 to 10,000. 0 means 10,000.
	Limit int

	// LimitBytes is the most bytes of partition keys and data to return, 1 to
	// 10 MiB; but the first record is returned whatever its size. 0 means 10 MiB.
	LimitBytes int

	// Wait makes the call wait, under its context, until there is a record to
	// return or the shard has ended; and, instead of ErrThroughputExceeded, until
	// it is within the shard's budget. It does not wait for records of a database
	// opened with [Options].ReadOnly, to which none can come.
	Wait bool

	// Unmetered reads outside of the shard's budget, as the iterators do.
	// Kinesis: SubscribeToShard, with a consumer's own throughput.
	Unmetered bool
}

func (o *GetRecordsOptions) withDefaults() (GetRecordsOptions, error) {
	var opts GetRecordsOptions
	if o != nil {
		opts = *o
	}
	if opts.Limit == 0 {
		opts.Limit = maxPageRecords
	}
	if opts.LimitBytes == 0 {
		opts.LimitBytes = maxPageBytes
	}
	switch {
	case opts.Limit < 1 || opts.Limit > maxPageRecords:
		return opts, &InvalidArgumentError{"Limit", opts.Limit, fmt.Sprintf("must be 1 to %d", maxPageRecords)}
	case opts.LimitBytes < 1 || opts.LimitBytes > maxPageBytes:
		return opts, &InvalidArgumentError{"LimitBytes", opts.LimitBytes, fmt.Sprintf("must be 1 to %d", maxPageBytes)}
	}
	return opts, nil
}

// RecordsPage is a stretch of a shard.
type RecordsPage struct {
	Records []Record

	// Next is where to read on: always the position after a sequence number. Asked for
	// [Latest], it is where that was; asked for a time that has not come, it waits for
	// that, with a number that no record has.
	Next Position

	// BehindLatest is the age of the next record that was not returned, or 0 if
	// there is none: if, and only if, the page reached the tip. Kinesis:
	// MillisBehindLatest.
	BehindLatest time.Duration

	// BehindRecords and BehindBytes count the records, and their partition keys
	// and data, that lie between the page and the tip. They are exact.
	BehindRecords, BehindBytes int64

	// EndOfShard reports that the shard is closed and the page reached its end:
	// Next will return nothing more. ChildShards are where its keys go on.
	EndOfShard  bool
	ChildShards []ShardID
}

// GetRecords returns the records from a position on, as many as the options
// allow; none if the position is at the tip, unless the options say to wait.
// [Shard.Records] and [Shard.Follow] are more comfortable; a page is for tools
// that keep positions themselves.
//
// It alone has a budget, if the stream's capacity is not [Unlimited]; the
// iterators read as fast as they can, like Kinesis's SubscribeToShard.
//
// Errors: [ErrInvalidArgument]; [ErrTrimmed] if records after the given sequence
// number were trimmed or have expired; [ErrBeyondTip] if that number lies beyond all
// that were ever given out; [ErrThroughputExceeded]; [ErrKeyUnavailable] if records
// are encrypted; [ErrStreamNotFound]; [CorruptError], which is an [ErrCorrupt] or
// [ErrDataLoss]; [ErrClosed]; the cause of ctx. Kinesis: GetRecords.
func (sh *Shard) GetRecords(ctx context.Context, from Position, options *GetRecordsOptions) (*RecordsPage, error) {
	page, _, err := sh.getRecords(ctx, from, options, nil)
	return page, sh.wrapError("get records", err)
}

// placing says where so many records go: it returns the place of each. nil is a slice of
// their own.
type placing func(n int) (at func(i int) *Record)

// getRecords is GetRecords with a place for the records, which take so many bytes.
func (sh *Shard) getRecords(ctx context.Context, from Position, options *GetRecordsOptions, place placing) (result *RecordsPage, bytes int, err error) {
	opts, err := options.withDefaults()
	if err != nil {
		return nil, 0, err
	}
	b, err := from.inShard(sh)
	if err != nil {
		return nil, 0, err
	}
	q := pageQuery{from: b.from, strict: b.strict, ordinal: b.ordinal, to: maxCounter, records: opts.Limit, bytes: opts.LimitBytes}
	for !opts.Unmetered {
		err := sh.admitRead()
		if err == nil {
			break
		}
		if !opts.Wait {
			return nil, 0, err
		}
		if err := wait(ctx, sh.stream.db, time.After(retryAfter(err))); err != nil {
			return nil, 0, err
		}
	}
	var waiter *tail.Waiter // made for the first wait
	scratch := pageScratch.Get().(*[]layout.Record)
	for {
		page, err := sh.page(ctx, q, (*scratch)[:0])
		if err != nil {
			return nil, 0, err // and a read that was left behind may still use the scratch
		}
		if !opts.Wait || len(page.records) > 0 || sh.endsBefore(page.from, page.tip) || sh.stream.db.opts.ReadOnly {
			bytes := bytesOf(page.records)
			sh.noteRead(page.records)
			if !opts.Unmetered {
				sh.chargeRead(bytes)
			}
			result := sh.recordsPage(q, page, place)
			clear(page.records)
			*scratch = page.records[:0]
			pageScratch.Put(scratch)
			return result, bytes, nil
		}
		if waiter == nil {
			waiter = tail.NewWaiter()
			defer sh.log.Leave(waiter)
		}
		sh.log.Wait(waiter, max(page.tip.LastCounter, page.from-1))
		if err := wait(ctx, sh.stream.db, waiter.C()); err != nil {
			return nil, 0, err
		}
	}
}

// pageScratch has memory for the records of a page until they have their public form. The
// page is cleared then, so that the pool keeps no records alive, but for those that were
// cut off before a gap, and until the collector empties it.
var pageScratch = sync.Pool{New: func() any { return new([]layout.Record) }}

// bytesOf counts the partition keys and data of records that follow each other.
func bytesOf(records []layout.Record) int {
	if len(records) == 0 {
		return 0
	}
	first, last := &records[0], &records[len(records)-1]
	return int(last.Offset-first.Offset) + last.Size()
}

// recordsPage makes the public form of a page.
func (sh *Shard) recordsPage(q pageQuery, page page, place placing) *RecordsPage {
	result := &RecordsPage{Next: sh.after(q, page)}
	if place == nil {
		result.Records = make([]Record, len(page.records))
		for i := range page.records {
			sh.fill(&result.Records[i], &page.records[i])
		}
	} else {
		at := place(len(page.records))
		for i := range page.records {
			sh.fill(at(i), &page.records[i])
		}
	}
	ordinal, offset := page.tip.Ordinal, page.tip.Offset
	if n := len(page.records); n > 0 {
		last := &page.records[n-1]
		ordinal, offset = last.Ordinal+1, last.Offset+uint64(last.Size())
	}
	result.BehindRecords = int64(page.tip.Ordinal - ordinal)
	result.BehindBytes = int64(page.tip.Offset - offset)
	if result.BehindRecords > 0 {
		arrived := time.Unix(0, int64(page.next))
		result.BehindLatest = max(sh.stream.db.clock().Sub(arrived), 1)
	} else if page.tip.Ended {
		result.EndOfShard, result.ChildShards = true, sh.children(sh.stream.topology.Load())
	}
	return result
}

// after returns the position after a page. An empty one leaves the reader where
// it was: with a sequence number that says so, even if it asked for a time, also
// one to come, or for Latest.
func (sh *Shard) after(q pageQuery, page page) Position {
	if n := len(page.records); n > 0 {
		last := &page.records[n-1]
		return Position{kind: kindAfterSequence, number: sh.number(last.Counter), detail: last.Ordinal + 2}
	}
	if page.from <= sh.stream.createdCounter { // no record is as old as that
		return Position{kind: kindAfterSequence, number: sh.starting(), detail: q.ordinal}
	}
	p := Position{kind: kindAfterSequence, number: sh.number(page.from - 1), detail: q.ordinal}
	if p.beyond(sh.stream, sh) != nil { // it is a time's, for which nothing has come
		p.number = p.number.moment()
	}
	return p
}

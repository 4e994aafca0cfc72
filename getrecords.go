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

// GetRecordsOptions are the options of [Shard.GetRecords]. The zero value, and a nil
// pointer, mean the defaults.
type GetRecordsOptions struct {
	// Limit is the maximum number of records to return, 1 to 10,000. 0 means 10,000.
	Limit int

	// LimitBytes is the maximum number of bytes of partition keys and data to return, 1
	// byte to 10 MiB. The first record is returned whatever its size. 0 means 10 MiB.
	LimitBytes int

	// Wait makes the call wait until there is a record to return, the shard has ended, or its
	// context ends. If the shard's budget is exceeded, the call waits, too, instead of returning
	// ErrThroughputExceeded. It does not wait for records in a database opened with
	// [Options].ReadOnly, where none can arrive.
	Wait bool

	// Unmetered reads outside the shard's budget, as the iterators do.
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

// RecordsPage is the result of [Shard.GetRecords]: consecutive records of a shard.
type RecordsPage struct {
	Records []Record

	// Next is the position of the next page, always one after a sequence number. If [Latest]
	// was asked for, Next stays at the tip of that time. If a future time was asked for,
	// Next stays at that time, by a number that no record has.
	Next Position

	// BehindLatest is the age of the next record after the page. It is 0 if, and only if,
	// the page reached the tip, so that there is none. Kinesis: MillisBehindLatest.
	BehindLatest time.Duration

	// BehindRecords and BehindBytes count the records between the page and the tip, and the
	// bytes of their partition keys and data. They are exact.
	BehindRecords, BehindBytes int64

	// EndOfShard reports whether the shard is closed and the page reached its end: reading
	// at Next returns nothing more. The ChildShards have the later records of its keys.
	EndOfShard  bool
	ChildShards []ShardID
}

// GetRecords returns the records from a position on, as many as the options allow. It returns
// none if the position is at the tip, unless the options say to wait. It is for tools that
// keep positions themselves; [Shard.Records] and [Shard.Follow] are easier to use.
//
// If the stream's capacity is not [Unlimited], GetRecords has a budget. The iterators have
// none: they read as fast as they can, like Kinesis's SubscribeToShard.
//
// Errors: [ErrInvalidArgument]; [ErrTrimmed] if records after the given sequence
// number were trimmed or have expired; [ErrBeyondTip] if that number lies beyond all
// numbers given out so far; [ErrThroughputExceeded]; [ErrKeyUnavailable] if records
// are encrypted; [ErrStreamNotFound]; [CorruptError], which is an [ErrCorrupt] or
// [ErrDataLoss]; [ErrClosed]; the cause of ctx. Kinesis: GetRecords.
func (sh *Shard) GetRecords(ctx context.Context, from Position, options *GetRecordsOptions) (*RecordsPage, error) {
	page, _, err := sh.getRecords(ctx, from, options, nil)
	return page, sh.wrapError("get records", err)
}

// placing provides memory for n records: it returns a function that returns the place of
// record i. A nil placing means a new slice.
type placing func(n int) (at func(i int) *Record)

// getRecords is GetRecords into the memory that place provides. It also returns the size of
// the records in bytes.
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
			return nil, 0, err // scratch is not reused: an abandoned read may still write to it
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

// pageScratch has memory for the records of a page until they are converted to their public
// form. The page is then cleared, so that the pool keeps no records alive. The exception are
// records that were cut off at a gap: they stay until the garbage collector empties the pool.
var pageScratch = sync.Pool{New: func() any { return new([]layout.Record) }}

// bytesOf returns the bytes of partition keys and data of consecutive records.
func bytesOf(records []layout.Record) int {
	if len(records) == 0 {
		return 0
	}
	first, last := &records[0], &records[len(records)-1]
	return int(last.Offset-first.Offset) + last.Size()
}

// recordsPage returns the public form of a page.
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

// after returns the position after a page. An empty page leaves the reader at its place. The
// position is always one after a sequence number, even if the reader asked for Latest or for
// a time, which may lie in the future.
func (sh *Shard) after(q pageQuery, page page) Position {
	if n := len(page.records); n > 0 {
		last := &page.records[n-1]
		return Position{kind: kindAfterSequence, number: sh.number(last.Counter), detail: last.Ordinal + 2}
	}
	if page.from <= sh.stream.createdCounter { // every record is younger
		return Position{kind: kindAfterSequence, number: sh.starting(), detail: q.ordinal}
	}
	p := Position{kind: kindAfterSequence, number: sh.number(page.from - 1), detail: q.ordinal}
	if p.beyond(sh.stream, sh) != nil { // it stands for a future time
		p.number = p.number.moment()
	}
	return p
}

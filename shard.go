package braid

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/internal/agenda"
	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/tail"
)

// Limits of a page.
const (
	maxPageRecords = 10_000   // Kinesis: GetRecords' Limit
	maxPageBytes   = 10 << 20 // Kinesis: GetRecords' result
)

// Shard is an ordered log: the records of a stream whose hash keys fall in its
// range. It comes from [Stream.Shards] or [Stream.Shard]. All methods may be
// called from any number of goroutines.
type Shard struct {
	stream         *Stream
	index          uint32
	id             ShardID
	hashKeys       HashKeyRange
	parents        []uint32
	createdSeconds uint64                  // part of its numbers, and no time: it may be ahead of the clock
	createdCounter uint64                  // when it was made: nanoseconds
	closing        atomic.Pointer[closing] // nil while it takes records; set before log ends
	log            *tail.Log               // recent records, and the tip
	reads          readBudgets

	mu      sync.Mutex // guards slices and horizon; nothing else is locked under it
	slices  epoch.Slices
	horizon layout.Horizon

	w       shardWriter   // the committer's
	history *shardHistory // belongs to the goroutine of runCapacity
}

// shardWriter is what the committer has of a shard. Its fields belong to the goroutine
// that runs a group, as those of the appender. Where Shard has a field of the same
// name, that one is what readers see: it follows when the group is durable.
type shardWriter struct {
	tip      tail.Tip        // what the next record will be
	epoch    uint32          // of the last slice, if it can take records; else 0
	slices   epoch.Slices    // becomes Shard.slices
	horizon  layout.Horizon  // becomes Shard.horizon
	closing  *closing        // becomes Shard.closing
	savedEnd layout.Horizon  // the End that the row of the last slice has
	expired  bool            // it has gone from the topology
	pending  []layout.Record // become the log's
	writes   []pendingWrite  // of pending, until they are in the batch
	budgets  writeBudgets
	charged  charge              // by the current call
	load     *shardLoad          // nil: nothing was put on demand since it was looked at
	filled   agenda.Item[*Shard] // in the stream's agenda of that name, as the next two
	emptied  agenda.Item[*Shard]
	oldest   agenda.Item[*Shard]
}

// closing is when a shard was closed. It is not changed once readers see it.
type closing struct {
	seconds uint64 // part of the number at which the shard ends, and no time
	counter uint64 // when it was: above the shard's records, and not above its children's
	aged    uint64 // the same on the retention clock, which no step of the wall clock moves

	children []uint32 // the shards that came from this one, by index
}

// ID returns the shard's id, such as "shardId-000000000003". Ids of a stream are
// never used again.
func (sh *Shard) ID() ShardID { return sh.id }

// HashKeyRange returns the range of hash keys whose records the shard holds.
func (sh *Shard) HashKeyRange() HashKeyRange { return sh.hashKeys }

// Parents returns the shards that this one came from: none for a shard its
// stream was created with, one after a split, two after a merge.
func (sh *Shard) Parents() []ShardID {
	var parents []ShardID
	for _, index := range sh.parents {
		parents = append(parents, shardID(index))
	}
	return parents
}

// children returns the shards that came from this one, of those that are there at one
// time.
func (sh *Shard) children(t *topology) (children []ShardID) {
	end := sh.closing.Load()
	if end == nil {
		return nil
	}
	for _, index := range end.children {
		if child := t.shard(index); child != nil {
			children = append(children, child.id)
		}
	}
	return children
}

// number returns the sequence number of the shard's record with that counter.
func (sh *Shard) number(counter uint64) SequenceNumber {
	return newSequenceNumber(int64(sh.createdSeconds), counter, int64(counter/uint64(time.Second)), sh.index)
}

// starting returns the number before all records of the shard.
func (sh *Shard) starting() SequenceNumber {
	return newSequenceNumber(int64(sh.createdSeconds), 0, int64(sh.createdSeconds), sh.index)
}

// ShardDescription is what is known of a shard at one time.
type ShardDescription struct {
	ID           ShardID
	HashKeyRange HashKeyRange
	Parents      []ShardID // as [Shard.Parents]
	Children     []ShardID // the shards that came from this one
	Closed       bool      // no record will follow

	// CreatedAt is when the shard was made, and ClosedAt when it was closed; that
	// is zero for an open one. A shard's records arrived at CreatedAt or later and
	// before ClosedAt. Its numbers do not tell: where reshards follow each other
	// within a second, the second of creation in them runs ahead of the clock.
	CreatedAt time.Time
	ClosedAt  time.Time `json:",omitzero"`

	// StartingSequenceNumber comes before every record of the shard;
	// EndingSequenceNumber, which an open shard does not have, comes after.
	StartingSequenceNumber, EndingSequenceNumber SequenceNumber

	// First and Last are the numbers of the first record that can be read and
	// of the last one there was; both are zero if there is none to read.
	First, Last SequenceNumber

	Records int64 // that can be read
	Bytes   int64 // partition keys and data of those records
}

// Describe returns the shard's range, lineage and content. Kinesis: ListShards.
func (sh *Shard) Describe() ShardDescription { return sh.describe(sh.stream.topology.Load()) }

// describe describes the shard as it is at one time, so that a stream's shards fit.
func (sh *Shard) describe(t *topology) ShardDescription {
	horizon, slices := sh.view()
	if above, _, err := sh.readable(context.Background(), 0, horizon, slices); err == nil {
		horizon = above
	}
	end, children := sh.closing.Load(), sh.children(t)
	if len(children) == 0 && t.shard(sh.index) == sh {
		end = nil // it was closed since
	}
	tip := sh.log.Tip()
	d := ShardDescription{
		ID:                     sh.id,
		HashKeyRange:           sh.hashKeys,
		Parents:                sh.Parents(),
		Children:               children,
		Closed:                 end != nil,
		CreatedAt:              time.Unix(0, int64(sh.createdCounter)),
		StartingSequenceNumber: sh.starting(),
		Records:                int64(tip.Ordinal - min(horizon.Ordinal, tip.Ordinal)),
		Bytes:                  int64(tip.Offset - min(horizon.Offset, tip.Offset)),
	}
	if end != nil {
		d.ClosedAt = time.Unix(0, int64(end.counter))
		d.EndingSequenceNumber = newSequenceNumber(int64(sh.createdSeconds), endingCounter, int64(end.seconds), sh.index)
	}
	if d.Records > 0 {
		d.Last = sh.number(tip.LastCounter)
		d.First = sh.first(horizon, slices, tip)
	}
	return d
}

// first returns the number of the first record at or above the horizon. Where
// the horizon cuts through a slice that takes a read; if that fails, the lowest
// number that the record can have stands in.
func (sh *Shard) first(horizon layout.Horizon, slices epoch.Slices, tip tail.Tip) SequenceNumber {
	if len(slices) > 0 && slices[0].FirstOrdinal >= horizon.Ordinal {
		return sh.number(slices[0].FirstCounter)
	}
	page, err := sh.page(context.Background(), pageQuery{from: horizon.Counter, to: tip.LastCounter, records: 1, bytes: 1, bare: true}, nil)
	if err != nil || len(page.records) == 0 {
		return sh.number(horizon.Counter)
	}
	return sh.number(page.records[0].Counter)
}

// Position is a place in a shard or a stream to read from: a value, made by
// [TrimHorizon], [Latest], [AtSequence], [AfterSequence] or [AtTime]. The zero
// value is TrimHorizon.
type Position struct {
	kind    positionKind
	number  SequenceNumber
	time    int64  // nanoseconds
	ordinal uint64 // of the next record, plus one; 0 where it is not known
}

type positionKind uint8

const (
	kindTrimHorizon positionKind = iota
	kindLatest
	kindAtSequence
	kindAfterSequence
	kindAtTime
)

// TrimHorizon is the position of the oldest record that was not trimmed.
// Kinesis: TRIM_HORIZON.
func TrimHorizon() Position { return Position{} }

// Latest is the position after the newest record. It is fixed by the call that
// it is given to: records put after that call began are read. Kinesis: LATEST.
func Latest() Position { return Position{kind: kindLatest} }

// AtSequence is the position of the record with number n, or of the first one
// after it. In a stream, it is that point in the order of arrival in all shards.
// The zero number is [TrimHorizon]. Kinesis: AT_SEQUENCE_NUMBER.
func AtSequence(n SequenceNumber) Position {
	if n.IsZero() {
		return Position{}
	}
	return Position{kind: kindAtSequence, number: n}
}

// AfterSequence is the position after the record with number n: where to go on
// once n was read. In a stream, it is that point in the order of arrival in all
// shards, so one number is enough to resume [Stream.Follow]. The zero number is
// [TrimHorizon]. Kinesis: AFTER_SEQUENCE_NUMBER.
func AfterSequence(n SequenceNumber) Position {
	if n.IsZero() {
		return Position{}
	}
	return Position{kind: kindAfterSequence, number: n}
}

// AtTime is the position of the first record that arrived at t or later, whether
// it has come already or not. If t is before the trim horizon, it is
// [TrimHorizon]. Kinesis: AT_TIMESTAMP.
func AtTime(t time.Time) Position {
	p := Position{kind: kindAtTime, time: t.UnixNano()}
	switch { // what nanoseconds cannot express lies before or after all records
	case t.Before(time.Unix(0, 0)):
		p.time = 0
	case t.After(time.Unix(0, math.MaxInt64)):
		p.time = math.MaxInt64
	}
	return p
}

// ParsePosition is the inverse of [Position.String]. Any other text is an
// [ErrInvalidArgument].
func ParsePosition(text string) (Position, error) {
	kind, at, _ := strings.Cut(text, " ")
	var p Position
	var err error
	switch kind {
	case "TRIM_HORIZON":
	case "LATEST":
		p = Latest()
	case "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER":
		var n SequenceNumber
		if n, err = ParseSequenceNumber(at); err == nil && kind[1] == 'T' {
			p = AtSequence(n)
		} else {
			p = AfterSequence(n)
		}
	case "AT_TIMESTAMP":
		var t time.Time
		t, err = time.Parse(time.RFC3339Nano, at)
		p = AtTime(t)
	}
	if err != nil || p.String() != text {
		return Position{}, &InvalidArgumentError{"Position", fmt.Sprintf("%.120q", text), "must be TRIM_HORIZON, LATEST, AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER with a number, or AT_TIMESTAMP with a time in UTC as RFC 3339 writes it"}
	}
	return p, nil
}

// MarshalText returns the text of [Position.String].
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is [ParsePosition]. After an error p is as it was.
func (p *Position) UnmarshalText(text []byte) error {
	parsed, err := ParsePosition(string(text))
	if err == nil {
		*p = parsed
	}
	return err
}

// String describes the position in the words of Kinesis.
func (p Position) String() string {
	switch p.kind {
	case kindLatest:
		return "LATEST"
	case kindAtSequence:
		return "AT_SEQUENCE_NUMBER " + p.number.String()
	case kindAfterSequence:
		return "AFTER_SEQUENCE_NUMBER " + p.number.String()
	case kindAtTime:
		return "AT_TIMESTAMP " + time.Unix(0, p.time).UTC().Format(time.RFC3339Nano)
	default:
		return "TRIM_HORIZON"
	}
}

// bound is a position made concrete: a place in the order of counters.
type bound struct {
	from uint64 // the lowest counter to be read; never 0, which no record has

	// strict says that the reader counts on every record from there on: if some
	// were trimmed it has to be told.
	strict bool

	ordinal uint64 // of the next record, plus one; 0 where it is not known
}

// inShard makes the position concrete for one shard.
func (p Position) inShard(sh *Shard) (bound, error) {
	if p.kind == kindLatest {
		return bound{from: sh.log.LastCounter() + 1, strict: true}, nil
	}
	if p.kind == kindAtSequence || p.kind == kindAfterSequence {
		if p.number.shardIndex() != sh.index || p.number.createdSeconds() != int64(sh.createdSeconds) || p.before(sh.stream) {
			return bound{}, &InvalidArgumentError{"Position", p.number, "must have a sequence number of " + string(sh.id) + " of this stream"}
		}
		ending := p.number.counter() == endingCounter && sh.closing.Load() != nil
		if !ending {
			if err := p.beyond(sh.stream, sh); err != nil {
				return bound{}, err
			}
		}
	}
	return p.concrete(), nil
}

// beyond returns an error if the position lies beyond every number that was ever
// given out, so that it is of a newer copy of the database: records may be put
// below it. sh is the shard of its number, nil if that has expired.
//
// A number whose record a crash took back, as it may in [Interval] and [NoSync],
// does not: the clock row lies above it.
func (p Position) beyond(s *Stream, sh *Shard) error {
	if p.number.isMoment() {
		return nil
	}
	given, counted := s.db.visible.Load(), true
	if sh != nil { // it shows its records before they count as visible in the database
		tip := sh.log.Tip()
		given, counted = max(given, tip.LastCounter), p.ordinal <= tip.Ordinal+1
	}
	if counted && p.concrete().from-1 <= given {
		return nil
	}
	return &BeyondTipError{Shard: p.number.ShardID(), Number: p.number, Last: p.number.withCounter(given)}
}

// inStream makes the position concrete for all shards of a stream.
func (p Position) inStream(s *Stream) (bound, error) {
	if p.kind == kindLatest {
		return bound{from: s.db.visible.Load() + 1, strict: true}, nil
	}
	if p.kind == kindAtSequence || p.kind == kindAfterSequence {
		// The shard may have expired: then nothing is left to compare with.
		t, index := s.topology.Load(), p.number.shardIndex()
		sh := t.shard(index)
		if index >= t.next || sh != nil && p.number.createdSeconds() != int64(sh.createdSeconds) || p.before(s) {
			return bound{}, &InvalidArgumentError{"Position", p.number, "must have a sequence number of this stream"}
		}
		if err := p.beyond(s, sh); err != nil {
			return bound{}, err
		}
	}
	b := p.concrete()
	b.ordinal = 0 // it counts in one shard
	return b, nil
}

// before reports whether the position is the number of a record that came before
// the stream was created: such as one of a stream of that name that was deleted in
// the same second.
func (p Position) before(s *Stream) bool {
	counter := p.number.counter()
	return counter != 0 && counter < s.createdCounter
}

func (p Position) concrete() bound {
	switch p.kind {
	case kindAtSequence:
		return bound{from: max(1, p.number.counter()), strict: true, ordinal: p.ordinal}
	case kindAfterSequence:
		return bound{from: p.number.counter() + 1, strict: true, ordinal: p.ordinal}
	case kindAtTime:
		return bound{from: uint64(max(1, p.time))}
	default:
		return bound{from: 1}
	}
}

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

	// Next is where to read on. It is concrete: asked for [Latest], it says where
	// that was; asked for a time that has not come, it waits for that, with a number
	// that no record has.
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
// that were ever given out; [ErrThroughputExceeded]; [ErrStreamNotFound];
// [CorruptError], which is an [ErrCorrupt] or [ErrDataLoss];
// [ErrClosed]; the cause of ctx. Kinesis: GetRecords.
func (sh *Shard) GetRecords(ctx context.Context, from Position, options *GetRecordsOptions) (*RecordsPage, error) {
	page, err := sh.getRecords(ctx, from, options)
	return page, sh.wrapError("get records", err)
}

func (sh *Shard) getRecords(ctx context.Context, from Position, options *GetRecordsOptions) (*RecordsPage, error) {
	opts, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	b, err := from.inShard(sh)
	if err != nil {
		return nil, err
	}
	q := pageQuery{from: b.from, strict: b.strict, ordinal: b.ordinal, to: maxCounter, records: opts.Limit, bytes: opts.LimitBytes}
	for !opts.Unmetered {
		err := sh.admitRead()
		if err == nil {
			break
		}
		if !opts.Wait {
			return nil, err
		}
		if err := wait(ctx, sh.stream.db, time.After(retryAfter(err))); err != nil {
			return nil, err
		}
	}
	for {
		page, err := sh.page(ctx, q, nil)
		if err != nil {
			return nil, err
		}
		if !opts.Wait || len(page.records) > 0 || sh.endsBefore(page.from, page.tip) || sh.stream.db.opts.ReadOnly {
			if !opts.Unmetered {
				sh.chargeRead(page.bytes())
			}
			return sh.recordsPage(q, page), nil
		}
		if err := wait(ctx, sh.stream.db, sh.log.Wait(max(page.tip.LastCounter, page.from-1))); err != nil {
			return nil, err
		}
	}
}

// bytes counts the partition keys and data of the page.
func (p *page) bytes() (n int) {
	for i := range p.records {
		n += p.records[i].Size()
	}
	return n
}

// recordsPage makes the public form of a page.
func (sh *Shard) recordsPage(q pageQuery, page page) *RecordsPage {
	result := &RecordsPage{Records: make([]Record, len(page.records)), Next: sh.after(q, page)}
	for i := range page.records {
		result.Records[i] = sh.record(&page.records[i])
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
		return Position{kind: kindAfterSequence, number: sh.number(last.Counter), ordinal: last.Ordinal + 2}
	}
	if page.from <= sh.stream.createdCounter { // no record is as old as that
		return Position{kind: kindAfterSequence, number: sh.starting(), ordinal: q.ordinal}
	}
	p := Position{kind: kindAfterSequence, number: sh.number(page.from - 1), ordinal: q.ordinal}
	if p.beyond(sh.stream, sh) != nil { // it is a time's, for which nothing has come
		p.number = p.number.moment()
	}
	return p
}

// endsBefore reports whether the shard is closed and has no record at or after
// counter.
func (sh *Shard) endsBefore(counter uint64, tip tail.Tip) bool {
	return tip.Ended && counter > tip.LastCounter
}

// record makes the public form of a record.
func (sh *Shard) record(r *layout.Record) Record {
	rec := Record{
		PartitionKey:   r.PartitionKey,
		Data:           r.Data,
		ShardID:        sh.id,
		SequenceNumber: sh.number(r.Counter),
		ArrivalTime:    time.Unix(0, int64(r.Counter)),
		Encrypted:      r.Sealed,
	}
	if r.ExplicitHash != nil {
		rec.ExplicitHashKey = &HashKey{*r.ExplicitHash}
	}
	return rec
}

// wrapError is the package's wrapError for a call on the shard.
func (sh *Shard) wrapError(op string, err error) error {
	if err == nil {
		return nil
	}
	return wrapWhat(op, string(sh.id)+" of "+quoted(sh.stream.name), err)
}

// String names the shard and its stream, for logs.
func (sh *Shard) String() string { return string(sh.id) + " of " + sh.stream.name }

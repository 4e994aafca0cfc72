package braid

import (
	"cmp"
	"context"
	"errors"
	"iter"

	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/tail"
)

// loopPages are the sizes in bytes of the pages that loops read.
type loopPages struct {
	first  int // the first page of a shard, which is not read ahead
	shard  int // each later page of a shard
	stream int // the later pages of all shards of a stream, together
}

// usualPages are so large that the fixed cost of a page does not matter, and so small that
// a loop can hold two for each shard of a stream.
var usualPages = loopPages{first: 64 << 10, shard: 512 << 10, stream: 8 << 20}

const (
	pageRecords    = 2048 // the most records of a page that is not read ahead
	restingRecords = 16   // how many records a waiting reader keeps memory for
)

// loopKind is the kind of a loop over records.
type loopKind struct {
	op     string // its name in errors
	follow bool   // it waits at the tip for more records
	borrow bool   // its body does not keep a record's data
}

// Records returns an iterator over the shard's records, in order, from a position up to the
// tip at the time when the loop begins. Ranging over the result again reads again.
//
// An error is yielded once, as the last pair, with a zero Record. The errors are those of
// [Shard.GetRecords]. The records may be kept.
//
// A slow loop costs nobody anything. Between two records it holds only memory: a page of
// records, of about 512 KiB, and in a long read also the next page, which another goroutine
// reads while the loop's body works. Records are checked against trimming and retention when
// they are taken from the shard, a page or the records of one commit at a time, and not
// again before each is yielded.
func (sh *Shard) Records(ctx context.Context, from Position) iter.Seq2[Record, error] {
	return sh.loop(ctx, from, loopKind{op: "read"})
}

// BorrowRecords is like [Shard.Records], but reuses memory. It is for loops that keep no data:
// the Data of a record is valid only until the loop's body returns, and may then hold bytes of
// other records. A body that keeps Data must copy it. Everything else of a record may be kept,
// including its partition key. Long reads are up to twice as fast, because they need hardly
// any new memory.
func (sh *Shard) BorrowRecords(ctx context.Context, from Position) iter.Seq2[Record, error] {
	return sh.loop(ctx, from, loopKind{op: "read", borrow: true})
}

// Follow is like [Shard.Records], but at the tip it waits for the next record, without
// polling. The loop ends with an error when ctx ends (its cause), when the database closes
// ([ErrClosed]) and when the database fails ([ErrFailed]). It ends without an error when the
// shard is closed and was read to its end, and at the tip of a database opened with
// [Options].ReadOnly, where no record can follow.
//
// With [Latest], it reads the records put after the call of Follow.
func (sh *Shard) Follow(ctx context.Context, from Position) iter.Seq2[Record, error] {
	if from.kind == kindLatest {
		from = Position{kind: kindAfterSequence, number: sh.number(sh.log.LastCounter())}
	}
	return sh.loop(ctx, from, loopKind{op: "follow", follow: true})
}

func (sh *Shard) loop(ctx context.Context, from Position, kind loopKind) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := sh.iterate(ctx, from, kind, yield); err != nil {
			yield(Record{}, sh.wrapError(kind.op, err))
		}
	}
}

func (sh *Shard) iterate(ctx context.Context, from Position, kind loopKind, yield func(Record, error) bool) error {
	b, err := from.inShard(sh)
	if err != nil {
		return err
	}
	ahead := readAhead{ctx: ctx, db: sh.stream.db, reuse: kind.borrow}
	defer ahead.end()
	c := cursor{sh: sh, bound: b, bytes: sh.stream.db.pages.shard, walked: walked{ahead: &ahead}}
	if !kind.follow {
		_, err := c.run(ctx, sh.log.LastCounter(), yield)
		return err
	}
	f := newFollower(ctx, sh.stream.db)
	c.waiter = f.waiter
	defer func() {
		sh.log.Leave(f.waiter)
		f.end()
	}()
	for {
		done, err := c.run(ctx, maxCounter, yield)
		if done || err != nil || sh.stream.db.opts.ReadOnly {
			return err
		}
		if !c.waiting {
			if sh.endsBefore(c.from, sh.log.Tip()) {
				return nil
			}
			sh.log.Wait(f.waiter, c.from-1)
		}
		c.rest()
		ahead.end()
		if err := f.wait(); err != nil {
			return err
		}
		c.waiting = false
	}
}

// Records returns an iterator over the records of all shards, in the order in which they
// arrived, from a position up to the tip at the time when the loop begins. So records of one
// partition key are in order, across any number of reshards.
//
// Otherwise it is like [Shard.Records]. A sequence number of any shard is a position in the
// stream: to resume, use [AfterSequence] with the number of the last record read.
func (s *Stream) Records(ctx context.Context, from Position) iter.Seq2[Record, error] {
	return s.loop(ctx, from, loopKind{op: "read"})
}

// BorrowRecords is like [Stream.Records], but reuses memory, as [Shard.BorrowRecords] does:
// the Data of a record is valid only until the loop's body returns.
func (s *Stream) BorrowRecords(ctx context.Context, from Position) iter.Seq2[Record, error] {
	return s.loop(ctx, from, loopKind{op: "read", borrow: true})
}

// Follow is like [Stream.Records], but at the tip it waits for the next record of any shard,
// without polling. It ends with an error when ctx ends (its cause), when the database closes
// ([ErrClosed]) and when the database fails ([ErrFailed]). It ends without an error at the tip
// of a database opened with [Options].ReadOnly.
//
// With [Latest], it reads the records put after the call of Follow.
func (s *Stream) Follow(ctx context.Context, from Position) iter.Seq2[Record, error] {
	if from.kind == kindLatest {
		from = Position{kind: kindAfterSequence, number: s.topology.Load().shards[0].number(s.db.visible.Load())}
	}
	return s.loop(ctx, from, loopKind{op: "follow", follow: true})
}

func (s *Stream) loop(ctx context.Context, from Position, kind loopKind) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := s.iterate(ctx, from, kind, yield); err != nil {
			yield(Record{}, wrapError(kind.op, s.name, err))
		}
	}
}

func (s *Stream) iterate(ctx context.Context, from Position, kind loopKind, yield func(Record, error) bool) error {
	b, err := from.inStream(s)
	if err != nil {
		return err
	}
	ahead := readAhead{ctx: ctx, db: s.db, reuse: kind.borrow}
	defer ahead.end()
	m := merge{stream: s, bound: b, ahead: &ahead}
	f := newFollower(ctx, s.db)
	defer func() {
		s.latest.Leave(f.waiter)
		f.end()
	}()
	for {
		// Every record up to here is visible in all shards, and none will be added
		// below. So the order of the records up to here is final.
		to := s.db.visible.Load()
		done, err := m.run(ctx, to, yield)
		if done || err != nil || !kind.follow || s.db.opts.ReadOnly {
			return err
		}
		m.countOnAll(to)
		ahead.end()
		s.latest.Wait(f.waiter, to)
		if err := f.wait(); err != nil {
			return err
		}
	}
}

// follower does the waiting of a loop that follows. It waits on one channel, which the ends of
// the context and of the database ring, too. All of it is set up once per loop.
type follower struct {
	ctx    context.Context
	db     *DB
	waiter *tail.Waiter
	stop   [2]func() bool // stop the rings at the ends of ctx and of the database; nil before the first wait
}

func newFollower(ctx context.Context, db *DB) follower {
	return follower{ctx: ctx, db: db, waiter: tail.NewWaiter()}
}

// wait waits until the registered waiter is woken. It returns an error if the context or
// the database has ended.
func (f *follower) wait() error {
	if f.stop[0] == nil {
		f.stop = [2]func() bool{context.AfterFunc(f.ctx, f.waiter.Ring), context.AfterFunc(f.db.life, f.waiter.Ring)}
	}
	// An earlier ring of one of the two may have merged with one of the log's.
	if err := f.over(); err != nil {
		return err
	}
	<-f.waiter.C()
	return f.over()
}

// over returns nil, or the reason for which the loop ends.
func (f *follower) over() error { return cmp.Or(ended(f.ctx), ended(f.db.life)) }

// end undoes the registrations of wait.
func (f *follower) end() {
	for _, stop := range f.stop {
		if stop != nil {
			stop()
		}
	}
}

// cursor reads a shard page by page or, near its tip, in the runs of records that its tail
// holds.
type cursor struct {
	sh *Shard
	bound
	bytes   int             // the most bytes of a page
	records []layout.Record // a page, or a part of the tail; records[at:] are still to be read
	at      int
	buf     []layout.Record // the page's memory, reused for the next one

	waiter  *tail.Waiter // of a loop that follows the shard; nil for other cursors
	waiting bool         // the next record after records wakes the waiter

	// broken is the damage that comes next, and brokenAt the last counter that it may
	// affect. Other shards' records up to brokenAt come before the error, so that a
	// reader that skips the damage in all shards misses none of them.
	broken   error
	brokenAt uint64

	walked walked
}

// run yields all records up to counter to. done reports whether the body has ended the loop.
func (c *cursor) run(ctx context.Context, to uint64, yield func(Record, error) bool) (done bool, err error) {
	for {
		r, err := c.peek(ctx, to)
		if r == nil || err != nil {
			return false, err
		}
		c.step()
		if !yield(c.sh.record(r), nil) {
			return true, nil
		}
	}
}

// peek returns the next record up to counter to, nil if there is none now. It is
// valid until the next call.
func (c *cursor) peek(ctx context.Context, to uint64) (*layout.Record, error) {
	if c.at == len(c.records) {
		if c.from > min(to, c.sh.log.LastCounter()) && !c.sh.stream.deleted.Load() && !c.sh.stream.db.closed.Load() {
			return nil, ended(ctx)
		}
		if c.near(ctx, to) || c.unpack(ctx, to) {
			return &c.records[0], nil
		}
		if err := c.fill(ctx, to); err != nil {
			var damage *CorruptError
			if errors.As(err, &damage) {
				c.broken, c.brokenAt = err, min(to, damage.FirstAvailable.counter()-1)
			}
			return nil, err
		}
		if len(c.records) == 0 {
			return nil, nil
		}
	}
	return &c.records[c.at], nil
}

// near takes the next records from the tail, without copying them to a page, and reports
// whether there were some. It is for a reader that keeps up and knows which record comes next.
// It leaves every other case to fill, which finds out the reason.
func (c *cursor) near(ctx context.Context, to uint64) bool {
	if !c.strict || c.ordinal == 0 {
		return false
	}
	var run []layout.Record
	run, c.waiting = c.sh.log.Next(c.waiter, c.from)
	if len(run) == 0 || run[len(run)-1].Counter > to {
		return false
	}
	for i := range run {
		if run[i].Ordinal != c.ordinal-1+uint64(i) {
			return false
		}
	}
	// If the shard still shows c.from now, it showed it when the records were taken.
	if ctx.Err() != nil || !c.sh.shows(c.from) {
		return false
	}
	c.sh.stream.db.reads.tail.Add(1)
	c.records, c.at = run, 0
	c.passed(run)
	return true
}

func (c *cursor) fill(ctx context.Context, to uint64) error {
	clear(c.buf)
	p, err := c.sh.page(ctx, pageQuery{
		from: c.from, to: to, strict: c.strict, ordinal: c.ordinal,
		records: pageRecords, bytes: min(c.bytes, c.sh.stream.db.pages.first),
	}, c.buf[:0])
	if err != nil {
		return err
	}
	c.records, c.at, c.buf = p.records, 0, p.records
	c.walked.more = p.next != 0 && p.next <= to
	if p.from > c.from { // records were trimmed: skip them, and forget the ordinal that was to follow
		c.from, c.ordinal = p.from, 0
	}
	if len(p.records) > 0 {
		c.passed(p.records)
	}
	return nil
}

// passed counts records that the cursor now holds as read, and moves its bound past them.
func (c *cursor) passed(records []layout.Record) {
	c.sh.noteRead(records)
	last := &records[len(records)-1]
	c.bound = bound{from: last.Counter + 1, strict: true, ordinal: last.Ordinal + 2}
}

// step moves on after the record that peek returned. After the last of records, the cursor
// no longer refers to the tail.
func (c *cursor) step() {
	if c.at++; c.at == len(c.records) {
		c.records, c.at = nil, 0
	}
}

// rest prepares a cursor without records for a wait of any length. From now on, a trimmed
// record that it has not read is an error. It releases the memory that it does not need.
func (c *cursor) rest() {
	c.strict = true
	clear(c.buf[:cap(c.buf)])
	if cap(c.buf) > restingRecords {
		c.buf = nil
	}
	c.forget()
	c.walked.spare = nil
}

// counter returns the key of the cursor in the heap.
func (c *cursor) counter() uint64 {
	if c.broken != nil {
		return c.brokenAt
	}
	return c.records[c.at].Counter
}

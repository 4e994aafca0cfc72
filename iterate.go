package braid

import (
	"context"
	"errors"
	"iter"
	"math"
	"slices"

	"github.com/braidstream/braid/internal/layout"
)

// Pages that iterators read behind the scenes: large enough to make the cost of
// a page vanish, small enough to be held for each shard of a stream.
const (
	iteratorRecords     = 2048
	iteratorBytes       = 512 << 10
	streamIteratorBytes = 8 << 20 // for all shards of a stream together
)

// Records returns the shard's records from a position up to the tip as it is
// when the loop begins, in order. The loop ends there; ranging over the result
// again reads again.
//
// An error is yielded once, last, with a zero Record: those of
// [Shard.GetRecords]. Between two records nothing is held, so a slow loop costs
// nobody anything; the records may be kept.
func (sh *Shard) Records(ctx context.Context, from Position) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		err := sh.iterate(ctx, from, false, yield)
		if err != nil {
			yield(Record{}, sh.wrapError("read", err))
		}
	}
}

// Follow is [Shard.Records] that goes on: at the tip it waits for the next
// record, without polling. The loop ends with an error when ctx ends (its cause),
// when the database closes ([ErrClosed]) or fails ([ErrFailed]), and without one
// when the shard is closed and was read to its end; or at the tip, if the database
// was opened with [Options].ReadOnly, so that no record can follow.
//
// With [Latest], records put after Follow was called are read.
func (sh *Shard) Follow(ctx context.Context, from Position) iter.Seq2[Record, error] {
	if from.kind == kindLatest {
		from = Position{kind: kindAfterSequence, number: sh.number(sh.log.LastCounter())}
	}
	return func(yield func(Record, error) bool) {
		err := sh.iterate(ctx, from, true, yield)
		if err != nil {
			yield(Record{}, sh.wrapError("follow", err))
		}
	}
}

func (sh *Shard) iterate(ctx context.Context, from Position, follow bool, yield func(Record, error) bool) error {
	b, err := from.inShard(sh)
	if err != nil {
		return err
	}
	c := cursor{sh: sh, bound: b, bytes: iteratorBytes}
	to := sh.log.LastCounter()
	if follow {
		to = maxCounter
	}
	for {
		for {
			r, err := c.peek(ctx, to)
			if err != nil {
				return err
			}
			if r == nil {
				break
			}
			c.step()
			if !yield(sh.record(r), nil) {
				return nil
			}
		}
		if !follow || sh.stream.db.opts.ReadOnly || sh.endsBefore(c.from, sh.log.Tip()) {
			return nil
		}
		c.strict = true // from here on it counts on every record
		if err := wait(ctx, sh.stream.db, sh.log.Wait(c.from-1)); err != nil {
			return err
		}
	}
}

// Records returns the records of all shards from a position up to the tip as it
// is when the loop begins, in the order in which they arrived. So records of one
// partition key are in order, across any number of reshards.
//
// Otherwise it is as [Shard.Records]. A sequence number of any shard is a place
// in that order: [AfterSequence] of the last record read is where to go on.
func (s *Stream) Records(ctx context.Context, from Position) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		err := s.iterate(ctx, from, false, yield)
		if err != nil {
			yield(Record{}, wrapError("read", s.name, err))
		}
	}
}

// Follow is [Stream.Records] that goes on: at the tip it waits for the next
// record of any shard, without polling. It ends with an error when ctx ends (its
// cause), when the database closes ([ErrClosed]) or fails ([ErrFailed]), and
// without one at the tip of a database opened with [Options].ReadOnly.
//
// With [Latest], records put after Follow was called are read.
func (s *Stream) Follow(ctx context.Context, from Position) iter.Seq2[Record, error] {
	if from.kind == kindLatest {
		from = Position{kind: kindAfterSequence, number: s.topology.Load().shards[0].number(s.db.visible.Load())}
	}
	return func(yield func(Record, error) bool) {
		err := s.iterate(ctx, from, true, yield)
		if err != nil {
			yield(Record{}, wrapError("follow", s.name, err))
		}
	}
}

func (s *Stream) iterate(ctx context.Context, from Position, follow bool, yield func(Record, error) bool) error {
	b, err := from.inStream(s)
	if err != nil {
		return err
	}
	m := merge{stream: s, bound: b}
	for {
		// Everything up to here is visible in all shards, and nothing will be
		// added below: so what lies below can be merged for good.
		to := s.db.visible.Load()
		done, err := m.run(ctx, to, yield)
		if done || err != nil || !follow || s.db.opts.ReadOnly {
			return err
		}
		m.countOnAll(to)
		if err := wait(ctx, s.db, s.latest.Wait(to)); err != nil {
			return err
		}
	}
}

// cursor walks a shard page by page.
type cursor struct {
	sh *Shard
	bound
	bytes   int             // the most bytes of a page
	records []layout.Record // the page; records[at:] are still to be read
	at      int
	buf     []layout.Record // the page's memory, used again for the next

	// broken is damage that comes next, and brokenAt the last counter that it may
	// concern. Other shards' records up to there come before the error, so that a
	// reader that skips it in all shards misses none of them.
	broken   error
	brokenAt uint64
}

// peek returns the next record up to counter to, nil if there is none now. It is
// valid until the next call.
func (c *cursor) peek(ctx context.Context, to uint64) (*layout.Record, error) {
	if c.at == len(c.records) {
		if c.from > min(to, c.sh.log.LastCounter()) && !c.sh.stream.deleted.Load() && !c.sh.stream.db.closed.Load() {
			return nil, context.Cause(ctx)
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

func (c *cursor) fill(ctx context.Context, to uint64) error {
	clear(c.buf)
	p, err := c.sh.page(ctx, pageQuery{
		from: c.from, to: to, strict: c.strict, ordinal: c.ordinal,
		records: iteratorRecords, bytes: c.bytes,
	}, c.buf[:0])
	if err != nil {
		return err
	}
	c.records, c.at, c.buf = p.records, 0, p.records
	c.from = max(c.from, p.from) // trimmed records are no reason to look again
	if len(p.records) > 0 {
		last := &p.records[len(p.records)-1]
		c.bound = bound{from: last.Counter + 1, strict: true, ordinal: last.Ordinal + 2}
	}
	return nil
}

// step moves on after the record that peek returned.
func (c *cursor) step() { c.at++ }

// merge reads all shards of a stream in the order of counters.
type merge struct {
	stream *Stream
	bound  bound // where shards begin that are not known yet
	shards *topology
	next   uint32    // the index of the first shard that is not known yet
	heap   []head    // those with a record at hand, the lowest counter first
	idle   []*cursor // the others, but of shards that were read to their end
}

// head is a cursor in the heap, and its place there: [cursor.counter].
type head struct {
	counter uint64
	cursor  *cursor
}

// run yields all records up to counter to. It reports whether the loop is over.
func (m *merge) run(ctx context.Context, to uint64, yield func(Record, error) bool) (done bool, err error) {
	if err := m.refresh(); err != nil {
		return false, err
	}
	if err := m.wakeIdle(ctx, to); err != nil {
		return false, err
	}
	for len(m.heap) > 0 {
		c := m.heap[0].cursor
		if c.broken != nil {
			return false, c.broken
		}
		for next := m.nextHead(); c.at < len(c.records) && c.records[c.at].Counter <= next; {
			r := &c.records[c.at]
			c.step()
			if !yield(c.sh.record(r), nil) {
				return true, nil
			}
		}
		next, err := c.peek(ctx, to)
		if err != nil && c.broken == nil {
			return false, err
		}
		if next == nil && c.broken == nil {
			last := len(m.heap) - 1
			m.heap[0], m.heap[last] = m.heap[last], head{}
			m.heap = m.heap[:last]
			m.idle = append(m.idle, c)
		} else {
			m.heap[0].counter = c.counter()
		}
		m.sink(0)
	}
	return false, nil
}

// nextHead returns the lowest counter of all cursors but the first: up to there it is the
// first one's turn.
func (m *merge) nextHead() uint64 {
	least := uint64(math.MaxUint64)
	for _, h := range m.heap[1:min(3, len(m.heap))] {
		least = min(least, h.counter)
	}
	return least
}

// countOnAll makes the reader, who has read everything up to counter to, one that
// is told of every record that is trimmed before it has read it, wherever it
// began.
func (m *merge) countOnAll(to uint64) {
	m.bound = bound{from: max(m.bound.from, to+1), strict: true}
	for _, c := range m.idle { // all of them: it waits
		c.strict = true
	}
}

// refresh adds cursors for shards that are new. Every record of theirs comes
// after all that could be read when they were not there.
func (m *merge) refresh() error {
	now := m.stream.topology.Load()
	if now == m.shards {
		return nil
	}
	if m.bound.strict {
		if err := now.lost(m.bound.from, m.next); err != nil {
			return err
		}
	}
	bytes := min(iteratorBytes, streamIteratorBytes/len(now.shards))
	for _, sh := range now.shards[now.from(m.next):] {
		m.idle = append(m.idle, &cursor{sh: sh, bound: m.bound, bytes: bytes})
	}
	m.shards, m.next = now, now.next
	return nil
}

// wakeIdle moves the cursors that have records again to the heap, and lets go of those
// that will have none: a reader that outlives its shards holds nothing for them.
func (m *merge) wakeIdle(ctx context.Context, to uint64) error {
	var failed error
	m.idle = slices.DeleteFunc(m.idle, func(c *cursor) bool {
		if failed != nil {
			return false
		}
		closed := c.sh.closing.Load() != nil // before the look: its last records show before that
		r, err := c.peek(ctx, to)
		if err != nil && c.broken == nil {
			failed = err
			return false
		}
		if r == nil && c.broken == nil {
			return closed && c.from > c.sh.log.LastCounter()
		}
		m.heap = append(m.heap, head{c.counter(), c})
		return true
	})
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		m.sink(i)
	}
	return failed
}

// sink restores the order of the heap below i.
func (m *merge) sink(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(m.heap); child++ {
			if m.heap[child].counter < m.heap[least].counter {
				least = child
			}
		}
		if least == i {
			return
		}
		m.heap[i], m.heap[least] = m.heap[least], m.heap[i]
		i = least
	}
}

// counter is the place of the cursor in the heap.
func (c *cursor) counter() uint64 {
	if c.broken != nil {
		return c.brokenAt
	}
	return c.records[c.at].Counter
}

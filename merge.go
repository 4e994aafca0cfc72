package braid

import (
	"cmp"
	"context"
	"math"
	"math/bits"
	"slices"
)

// merge reads all shards of a stream in the order of counters.
type merge struct {
	stream *Stream
	ahead  *readAhead
	bound  bound  // where reading begins in shards that have no cursor yet
	seen   uint64 // all records up to this counter were read
	bytes  int    // about the size of the pages of all shards together; 0 means loopPages.stream
	shards *topology
	next   uint32    // the index of the first shard without a cursor
	all    []*cursor // by index; without those of shards that were read to their end
	heap   []head    // the cursors that have a record, the lowest counter first; empty between runs

	ordinals map[uint32]uint64 // for bound.ordinal of the first run's shards, by index; may lack any

	restless []*cursor // the cursors that are not at rest; not valid before the first run
	changed  []*Shard  // memory for the shards that a run looks at
	looks    int       // how often it looked at a cursor between records, for tests of a run's cost
}

// head is a cursor in the heap, and its key there: [cursor.counter].
type head struct {
	counter uint64
	cursor  *cursor
}

// run yields all records up to counter to. done reports whether the body has ended the loop.
//
// It looks only at shards that got records since the last run, unless the set of shards has
// changed; then it looks at all of them.
func (m *merge) run(ctx context.Context, to uint64, yield func(Record, error) bool) (done bool, err error) {
	if err := m.wake(ctx, to); err != nil {
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
		if c.at < len(c.records) { // another cursor has the next record
			m.heap[0].counter = c.records[c.at].Counter
			m.sink(0)
			continue
		}
		more, over, err := m.look(ctx, c, to)
		if err != nil {
			return false, err
		}
		if more {
			m.heap[0].counter = c.counter()
		} else {
			last := len(m.heap) - 1
			m.heap[0], m.heap[last] = m.heap[last], head{}
			m.heap = m.heap[:last]
		}
		if over {
			i, _ := m.find(c.sh)
			m.all = slices.Delete(m.all, i, i+1)
		}
		m.sink(0)
	}
	m.seen = to
	return false, nil
}

// nextHead returns the lowest counter of all cursors but the first. The first cursor's
// records up to that counter come next.
func (m *merge) nextHead() uint64 {
	least := uint64(math.MaxUint64)
	for _, h := range m.heap[1:min(3, len(m.heap))] {
		least = min(least, h.counter)
	}
	return least
}

// countOnAll is called when the reader has read everything up to counter to. From now on,
// a record that is trimmed before the reader has read it is an error, wherever it began.
func (m *merge) countOnAll(to uint64) {
	m.bound = bound{from: max(m.bound.from, to+1), strict: true}
	for _, c := range m.restless {
		m.looks++
		c.rest()
	}
	clear(m.restless)
	m.restless = m.restless[:0]
}

// wake fills the heap with the cursors that have records up to counter to.
func (m *merge) wake(ctx context.Context, to uint64) error {
	if m.stream.deleted.Load() {
		return ErrStreamNotFound
	}
	isNew, err := m.refresh()
	if err != nil {
		return err
	}
	if isNew {
		err = m.wakeAll(ctx, to)
	} else {
		err = m.wakeChanged(ctx, to)
	}
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		m.sink(i)
	}
	return err
}

// refresh adds cursors for new shards, and reports whether the set of shards has changed.
// Every record of a new shard comes after all records that were visible before it existed.
func (m *merge) refresh() (isNew bool, err error) {
	now := m.stream.topology.Load()
	if now == m.shards {
		return false, nil
	}
	if m.bound.strict {
		if err := now.lost(m.bound.from, m.next); err != nil {
			return false, err
		}
	}
	pages := &m.stream.db.pages
	bytes := min(pages.shard, cmp.Or(m.bytes, pages.stream)/len(now.shards))
	for _, sh := range now.shards[now.from(m.next):] {
		at := m.bound
		at.ordinal = m.ordinals[sh.index]
		m.all = append(m.all, &cursor{sh: sh, bound: at, bytes: bytes, walked: walked{ahead: m.ahead}})
	}
	m.shards, m.next = now, now.next
	return true, nil
}

// wakeAll looks at all cursors.
func (m *merge) wakeAll(ctx context.Context, to uint64) error {
	var failed error
	m.all = slices.DeleteFunc(m.all, func(c *cursor) bool {
		if failed != nil {
			return false
		}
		over, err := m.push(ctx, c, to)
		failed = err
		return over
	})
	return failed
}

// wakeChanged looks at the cursors of shards that got records since the last run.
func (m *merge) wakeChanged(ctx context.Context, to uint64) error {
	m.changed = m.stream.recent.since(m.seen, m.changed[:0])
	defer func() { clear(m.changed) }()
	for _, sh := range m.changed {
		i, ok := m.find(sh)
		if !ok { // the shard is newer than the topology that refresh saw, and so are its records
			continue
		}
		over, err := m.push(ctx, m.all[i], to)
		if err != nil {
			return err
		}
		if over {
			m.all = slices.Delete(m.all, i, i+1)
		}
	}
	return nil
}

// find returns the index of a shard's cursor in all.
func (m *merge) find(sh *Shard) (i int, ok bool) {
	return slices.BinarySearchFunc(m.all, sh.index, func(c *cursor, index uint32) int { return cmp.Compare(c.sh.index, index) })
}

// push adds a cursor to the heap if it has a record. over is as in look.
func (m *merge) push(ctx context.Context, c *cursor, to uint64) (over bool, err error) {
	more, over, err := m.look(ctx, c, to)
	if more {
		m.heap = append(m.heap, head{c.counter(), c})
	}
	return over, err
}

// look reports whether a cursor has a record, or damage, up to counter to, and whether it is
// over: its shard will have no more records. The merge drops a cursor that is over, so that a
// reader that outlives the shard holds nothing for it.
func (m *merge) look(ctx context.Context, c *cursor, to uint64) (more, over bool, err error) {
	m.looks++
	closed := c.sh.closing.Load() != nil // read before the look: the last records are visible before it is set
	r, err := c.peek(ctx, to)
	switch {
	case c.broken != nil:
		return true, false, nil
	case err != nil:
		return false, false, err
	case r != nil:
		return true, false, nil
	case closed && c.from > c.sh.log.LastCounter():
		return false, true, nil
	}
	m.restless = append(m.restless, c)
	return false, false, nil
}

// sink restores the order of the heap below i. The head at i usually belongs far down, because
// records of the other shards come before its next one. So sink moves it to the bottom without
// comparing it, and then up again. Which child is lower is practically random, so no branch
// depends on it.
func (m *merge) sink(i int) {
	heap, top := m.heap, i
	if i >= len(heap) {
		return
	}
	moved := heap[i]
	child := 2*i + 1
	for ; child+1 < len(heap); child = 2*i + 1 {
		_, right := bits.Sub64(heap[child+1].counter, heap[child].counter, 0)
		child += int(right)
		heap[i] = heap[child]
		i = child
	}
	if child < len(heap) {
		heap[i] = heap[child]
		i = child
	}
	for i > top {
		parent := (i - 1) / 2
		if heap[parent].counter <= moved.counter {
			break
		}
		heap[i] = heap[parent]
		i = parent
	}
	heap[i] = moved
}

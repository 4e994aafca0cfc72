// Package tail keeps the recent records of each shard in memory, so that readers
// at the tip never touch the store, and wakes those that wait for more.
//
// It knows records and the ends of shards; it does not know streams, the store or positions.
// The committer appends, through the root package; any number of readers read.
package tail

import (
	"sort"
	"sync"
	"sync/atomic"

	"github.com/braidstream/braid/internal/layout"
)

// recordOverheadBytes is the memory that a record takes beside its key and data.
const recordOverheadBytes = 96

// slabRecords is how many records share an allocation when they come one by one, and
// slabChunkBytes is the largest chunk that does.
const (
	slabRecords    = 64
	slabChunkBytes = 16 << 10
)

// Tip is the end of a shard: the place of its next record.
type Tip struct {
	LastCounter uint64 // the counter of the last record, even if it was trimmed; 0 for none
	Ordinal     uint64 // the ordinal of the next record
	Offset      uint64 // the offset of the next record
	Ended       bool   // no record will follow
}

// Log is the tail of one shard. Only one goroutine at a time may append to it, through
// its [Cache], or end it.
//
// Invariant: the chunks hold every record above base, in order, up to the tip.
type Log struct {
	last atomic.Uint64 // tip.LastCounter, readable without the mutex

	mu     sync.Mutex // guards the fields below
	tip    Tip
	base   uint64     // records up to this counter are only in the store
	chunks [][]record // the appended chunks, which never change
	passed int        // how many were evicted since chunks was copied

	waiters waiters
}

type record = layout.Record

// NewLog returns the tail of a shard that ends at tip, with nothing in memory.
func NewLog(tip Tip) *Log {
	l := &Log{tip: tip, base: tip.LastCounter}
	l.last.Store(tip.LastCounter)
	return l
}

// Tip returns the end of the shard.
func (l *Log) Tip() Tip {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tip
}

// LastCounter returns Tip().LastCounter without taking the mutex.
func (l *Log) LastCounter() uint64 { return l.last.Load() }

// View describes the tail at the time of a read.
type View struct {
	Tip     Tip    // at that instant
	Next    uint64 // the counter of the first record that was left out, 0 for none
	Covered bool   // false: records at from and above are only in the store
}

// Read appends to dst the records with counters from from to to, inclusive, within both limits.
// It returns at least one record if there is one, whatever its size. If the tail does not reach
// back to from, it returns dst unchanged.
func (l *Log) Read(dst []layout.Record, from, to uint64, records, bytes int) ([]layout.Record, View) {
	l.mu.Lock()
	chunks, view := l.chunks, View{Tip: l.tip, Covered: from > l.base}
	l.mu.Unlock()
	if !view.Covered || from > view.Tip.LastCounter {
		return dst, view
	}
	first := sort.Search(len(chunks), func(i int) bool {
		return chunks[i][len(chunks[i])-1].Counter >= from
	})
	start := len(dst)
	for _, chunk := range chunks[first:] {
		if chunk[0].Counter < from {
			chunk = chunk[sort.Search(len(chunk), func(i int) bool { return chunk[i].Counter >= from }):]
		}
		for i := range chunk {
			r := &chunk[i]
			bytes -= r.Size()
			if n := len(dst) - start; r.Counter > to || n == records || (bytes < 0 && n > 0) {
				view.Next = r.Counter
				return dst, view
			}
			dst = append(dst, *r)
		}
	}
	return dst, view
}

// Next returns the records from counter from on that were appended together. They share the
// tail's memory, so do not change them. It returns none if the tail does not reach back to from,
// or if there is no such record yet.
//
// If it returns all records of the tail, and w is not nil, then it registers w: the next record,
// or the end of the shard, wakes w, and waiting is true. So a reader that keeps up takes the
// mutex once for each group of records. Next forgets a ring of w from before the call.
func (l *Log) Next(w *Waiter, from uint64) (run []layout.Record, waiting bool) {
	if w != nil {
		w.Forget()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if from <= l.base {
		return nil, false
	}
	all := true
	if from <= l.tip.LastCounter {
		i := l.find(from)
		run, all = l.chunks[i], i == len(l.chunks)-1
		if run[0].Counter < from {
			run = run[sort.Search(len(run), func(i int) bool { return run[i].Counter >= from }):]
		}
	}
	if w == nil || !all || l.tip.Ended {
		return run, false
	}
	l.waiters.add(w)
	return run, true
}

// find returns the index of the first chunk with a record at or above counter. There must be
// one. It is quick near the tip.
func (l *Log) find(counter uint64) int {
	reaches := func(i int) bool { return l.chunks[i][len(l.chunks[i])-1].Counter >= counter }
	high, step := len(l.chunks)-1, 1 // the chunk at high has one
	for high-step >= 0 && reaches(high-step) {
		high -= step
		step *= 2
	}
	low := max(0, high-step) // no chunk below low has one
	return low + sort.Search(high-low, func(i int) bool { return reaches(low + i) })
}

// Wait wakes w when the shard has a record above counter, or has ended; at once if that is so
// now. It registers first and then compares, so that no wake-up is lost.
func (l *Log) Wait(w *Waiter, counter uint64) {
	l.mu.Lock()
	ready := l.tip.LastCounter > counter || l.tip.Ended
	if !ready {
		l.waiters.add(w)
	}
	l.mu.Unlock()
	if ready {
		w.Ring()
	}
}

// Leave undoes a Wait or a Next, so that the log does not keep w.
func (l *Log) Leave(w *Waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiters.remove(w)
}

// Waiting returns how many waiters are registered, for tests.
func (l *Log) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiters.list)
}

// End notes that no record will follow, and wakes all waiters.
func (l *Log) End() {
	l.mu.Lock()
	l.tip.Ended = true
	l.waiters.take()
	l.mu.Unlock()
	l.waiters.wake()
}

// append adds a chunk, which is immutable from then on.
func (l *Log) append(chunk []layout.Record) {
	last := &chunk[len(chunk)-1]
	l.mu.Lock()
	l.chunks = append(l.chunks, chunk)
	l.tip = Tip{
		LastCounter: last.Counter,
		Ordinal:     last.Ordinal + 1,
		Offset:      last.Offset + uint64(last.Size()),
		Ended:       l.tip.Ended,
	}
	l.last.Store(last.Counter)
	l.waiters.take()
	l.mu.Unlock()
	l.waiters.wake()
}

// evict drops the oldest chunk. Readers may hold the list, so its elements are not changed. Now
// and then it is copied: otherwise its array would keep all evicted chunks of a shard that gets
// no more records.
func (l *Log) evict() {
	l.mu.Lock()
	defer l.mu.Unlock()
	chunk := l.chunks[0]
	l.base = chunk[len(chunk)-1].Counter
	l.chunks = l.chunks[1:]
	if l.passed++; l.passed > len(l.chunks) {
		l.chunks, l.passed = append([][]record(nil), l.chunks...), 0
	}
}

// Cache bounds the memory of all tails of a database together, and evicts the oldest chunks.
// Except for Bytes, only the committer's goroutine calls its methods.
type Cache struct {
	budget int
	queue  []entry // chunks in the order in which they came; queue[head:] are not evicted
	head   int
	slab   []record // memory for the next chunks

	bytes atomic.Int64 // the size of the chunks, for Bytes
}

type entry struct {
	log   *Log
	bytes int
}

// NewCache returns a cache that holds about budget bytes.
func NewCache(budget int) *Cache { return &Cache{budget: budget} }

// Append adds the records, which follow the log's tip, and wakes readers. It copies the slice,
// but keeps the memory that the records point to, which must not change from then on.
func (c *Cache) Append(l *Log, records []layout.Record) {
	bytes := 0
	for i := range records {
		bytes += records[i].Size() + recordOverheadBytes
	}
	l.append(c.chunk(records, bytes))
	c.queue = append(c.queue, entry{l, bytes})
	held := c.bytes.Add(int64(bytes))
	for held > int64(c.budget) {
		oldest := c.queue[c.head]
		c.queue[c.head] = entry{}
		c.head++
		oldest.log.evict()
		held = c.bytes.Add(-int64(oldest.bytes))
	}
	if c.head > len(c.queue)/2 {
		n := copy(c.queue, c.queue[c.head:])
		clear(c.queue[n:])
		c.queue, c.head = c.queue[:n], 0
	}
}

// chunk copies the records into memory that small chunks share. That memory lives as long as
// any of them, so large chunks get their own.
func (c *Cache) chunk(records []layout.Record, bytes int) []layout.Record {
	n := len(records)
	if bytes > slabChunkBytes {
		return append([]record(nil), records...)
	}
	if n > len(c.slab) {
		c.slab = make([]record, max(n, slabRecords))
	}
	chunk := c.slab[:n:n]
	c.slab = c.slab[n:]
	copy(chunk, records)
	return chunk
}

// Bytes returns how many bytes the tails hold. It may be called from any goroutine.
func (c *Cache) Bytes() int64 { return c.bytes.Load() }

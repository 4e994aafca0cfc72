package awskinesis

import (
	"container/heap"
	"slices"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kpl"
)

// item is a user record in flight. All fields except the first ones are guarded by the mutex of the
// [Producer].
type item struct {
	entry    braid.Entry // Data is the producer's own
	hash     braid.HashKey
	admitted time.Time
	call     *call
	index    int    // in the results of the call
	group    *group // nil until it is admitted

	bin      *bin // of the shard that it belongs to, by the current map; set while it is queued
	alone    bool // it is sent in its own request, to find out which of several is invalid
	inFlight bool
	settled  bool // its caller has the result, or is about to get it
	maybe    bool // an attempt may have stored it
	attempts int  // failed attempts, except by throttling
}

// cost returns the bytes of the producer's buffer that the item takes.
func (it *item) cost() int { return it.entry.Size() + itemOverhead }

const (
	// itemOverhead is approximately the size of the producer's structures for a record.
	itemOverhead = 256

	// frameBytes is an upper bound for the overhead of an aggregate of one record: its length,
	// including the carrier's own key, minus that of the record's data and partition key.
	frameBytes = 128
)

// lane has the records of one partition key, in order. It is empty only for a moment.
type lane struct {
	key   string
	queue []*item // the first ones are in flight
	sent  int     // how many of queue are in a request; the others wait for it
	dead  int     // at least how many of queue were withdrawn since it was last swept
	bin   *bin    // the bin that lists the lane; nil while it is in flight
}

// bin is the records of one open shard that can be sent now.
type bin struct {
	shard braid.ShardID
	pace  pace
	lanes fifo[*lane] // that have nothing in flight

	records, bytes int // queued for the shard, including those behind others in flight

	place place
	full  bool      // in schedule.full
	at    time.Time // until when it waits
}

// place is the list of a [schedule] that has the shard.
type place int8

const (
	nowhere place = iota
	inReady
	inWaiting
)

// schedule decides what the next request contains. It keeps the order of each partition key by one
// rule: a key has records in only one entry at a time, and later ones wait until the outcome of
// that entry is known. The reason is that the service handles the entries of a request one by one:
// it could throttle the first of a key and store the second.
//
// It takes no lock and never waits; callers pass the time. The cost of a call depends on the
// records that it moves; only remap, after a reshard, looks at all queued records.
type schedule struct {
	opts   *ProducerOptions // with defaults
	shards *shardMap

	bins    map[braid.ShardID]*bin
	lanes   map[string]*lane
	ready   fifo[*bin] // may be put to; shards without lanes are skipped
	waiting binHeap    // may be put to later
	full    fifo[*bin] // hints: shards in ready that have enough for an aggregate

	readyLanes int
	queued     int       // bytes of all that is queued
	due        time.Time // when to send ready; zero if it is empty

	paused time.Time // until then nothing is put to any shard
	fails  int       // failed requests in a row
}

func newSchedule(opts *ProducerOptions, shards *shardMap, now time.Time) *schedule {
	s := &schedule{opts: opts, lanes: make(map[string]*lane)}
	s.remap(shards, now)
	return s
}

// remap switches to a new map of the shards. Shards that stay open keep their pace.
func (s *schedule) remap(shards *shardMap, now time.Time) {
	bins := make(map[braid.ShardID]*bin, len(shards.open))
	for _, shard := range shards.open {
		b := &bin{shard: shard.id, pace: newPace(s.opts.ShardRate, now)}
		if old := s.bins[shard.id]; old != nil {
			b.pace = old.pace
		}
		bins[shard.id] = b
	}
	s.shards, s.bins = shards, bins
	s.ready, s.waiting, s.full = fifo[*bin]{}, nil, fifo[*bin]{}
	s.readyLanes, s.queued, s.due = 0, 0, time.Time{}
	for _, l := range s.lanes {
		l.bin = nil
		for _, it := range l.queue[l.sent:] {
			if !it.settled {
				s.enqueue(it)
			}
		}
		s.makeReady(l)
	}
}

func (s *schedule) binOf(it *item) *bin { return s.bins[s.shards.find(it.hash)] }

// now returns the bin of the shard after a reshard, or the same bin if the shard is closed.
func (s *schedule) now(b *bin) *bin {
	if current := s.bins[b.shard]; current != nil {
		return current
	}
	return b
}

// add queues a new record after the others of its key.
func (s *schedule) add(it *item) {
	l := s.lanes[it.entry.PartitionKey]
	if l == nil {
		l = &lane{key: it.entry.PartitionKey}
		s.lanes[l.key] = l
	}
	l.queue = append(l.queue, it)
	s.enqueue(it)
	s.makeReady(l)
	s.noteFull(it.bin)
}

// enqueue counts a record that is queued.
func (s *schedule) enqueue(it *item) {
	it.bin = s.binOf(it)
	it.bin.records++
	it.bin.bytes += it.entry.Size()
	s.queued += it.entry.Size()
}

// withdraw removes a settled record that is queued. The lane drops it at once if it is the first,
// and otherwise when it has about as many as records that are to be sent: the first may be tried
// again for hours, while others come and are withdrawn behind it.
func (s *schedule) withdraw(it *item) {
	s.dequeue(it)
	l := s.lanes[it.entry.PartitionKey]
	l.dead++
	if l.dead < minSweep || l.dead < len(l.queue)/2 {
		return
	}
	l.dead = 0
	queue := slices.Clone(l.queue[:l.sent]) // a copy, since callers range over the old one
	for _, it := range l.queue[l.sent:] {
		if !it.settled {
			queue = append(queue, it)
		}
	}
	l.queue = queue
}

const minSweep = 32 // withdrawn records that a lane may keep

// dequeue undoes enqueue, for a record that is sent or withdrawn.
func (s *schedule) dequeue(it *item) {
	it.bin.records--
	it.bin.bytes -= it.entry.Size()
	s.queued -= it.entry.Size()
	it.bin = nil
}

// trim drops settled records from the front of a lane that has nothing in flight, and the
// lane with the last one. It reports whether there is another.
func (s *schedule) trim(l *lane) bool {
	for len(l.queue) > 0 && l.queue[0].settled {
		l.queue[0] = nil
		l.queue = l.queue[1:]
	}
	if len(l.queue) == 0 {
		delete(s.lanes, l.key)
		return false
	}
	return true
}

// makeReady lists the lane at the shard of its first record, if it is not listed and has
// nothing in flight.
func (s *schedule) makeReady(l *lane) {
	if l.bin != nil || l.sent > 0 || !s.trim(l) {
		return
	}
	first := l.queue[0]
	b := first.bin
	l.bin = b
	b.lanes.push(l)
	s.readyLanes++
	if due := first.admitted.Add(s.opts.Linger); s.due.IsZero() || due.Before(s.due) {
		s.due = due
	}
	if b.place == nowhere {
		s.makePlace(b)
	}
	s.noteFull(b)
}

// makePlace lists a shard that may be put to.
func (s *schedule) makePlace(b *bin) {
	b.place = inReady
	s.ready.push(b)
}

// noteFull adds a shard that has enough for an aggregate to full.
func (s *schedule) noteFull(b *bin) {
	if s.opts.AggregateBytes > 0 && b.place == inReady && !b.full && b.bytes >= s.opts.AggregateBytes && b.lanes.len() > 0 {
		b.full = true
		s.full.push(b)
	}
}

// unlist removes the first lane from the list of its shard.
func (s *schedule) unlist(b *bin) *lane {
	l := b.lanes.pop()
	l.bin = nil
	s.readyLanes--
	return l
}

// sent is an entry of a request.
type sent struct {
	bin     *bin
	lanes   []*lane
	items   []*item
	carrier *kpl.Aggregator // of the items; nil for a single record without aggregation
}

// request is the content of one PutRecords call.
type request struct {
	entries    []sent
	bytes      int  // partition keys and data, no less than the service counts
	alone      bool // nothing else fits
	generation int  // of the map of the shards that was used
}

// take returns the next request, or nil and the time at which to ask again; the time is zero if
// nothing is queued. If hurry is set, records do not wait for others to share their request.
func (s *schedule) take(now time.Time, hurry bool) (r *request, next time.Time) {
	if now.Before(s.paused) {
		return nil, s.paused
	}
	for len(s.waiting) > 0 && !s.waiting[0].at.After(now) {
		s.makePlace(heap.Pop(&s.waiting).(*bin))
		s.due = now // they have waited long enough
	}
	r = &request{generation: s.shards.generation}
	if hurry || !now.Before(s.due) || s.enough() {
		s.fill(r, now)
	} else {
		s.fillFull(r, now)
		next = s.due
	}
	if len(r.entries) > 0 {
		return r, now
	}
	if len(s.waiting) > 0 && (next.IsZero() || s.waiting[0].at.Before(next)) {
		next = s.waiting[0].at
	}
	return nil, next
}

// enough reports whether there is enough for a request without waiting for more.
func (s *schedule) enough() bool {
	return s.opts.AggregateBytes == 0 && (s.readyLanes >= maxEntries || s.queued >= s.opts.MaxRequestBytes)
}

// fill adds entries of the ready shards, in turn, until the request is full.
func (s *schedule) fill(r *request, now time.Time) {
	for s.ready.len() > 0 {
		b := s.ready.pop()
		switch s.put(r, b, now) {
		case added:
			s.ready.push(b)
		case empty:
			b.place = nowhere
		case tooEarly:
			b.place = inWaiting
			heap.Push(&s.waiting, b)
		case noRoom:
			s.ready.push(b)
			return
		}
	}
	s.due = time.Time{}
}

// fillFull adds aggregates of the shards that have enough records for one.
func (s *schedule) fillFull(r *request, now time.Time) {
	for s.full.len() > 0 {
		b := s.full.pop()
		b.full = false
		for b.place == inReady && b.bytes >= s.opts.AggregateBytes {
			result := s.put(r, b, now)
			if result == noRoom {
				s.noteFull(b)
				return
			}
			if result != added {
				break // fill comes to the same result
			}
		}
	}
}

// putResult is the result of adding an entry to a request.
type putResult int8

const (
	added putResult = iota
	empty
	tooEarly // until bin.at
	noRoom
)

// put adds an entry of the shard to the request.
func (s *schedule) put(r *request, b *bin, now time.Time) putResult {
	first := s.first(b)
	if first == nil {
		return empty
	}
	if at := b.pace.until(now, 1, max(first.entry.Size(), min(s.opts.AggregateBytes, b.bytes))); at.After(now) {
		b.at = b.pace.slice(now, b.records, b.bytes, at)
		return tooEarly
	}
	size := first.entry.Size()
	if s.opts.AggregateBytes > 0 {
		size = max(size, s.opts.AggregateBytes) + frameBytes
	}
	if n := len(r.entries); n > 0 && (n == maxEntries || r.alone || first.alone || r.bytes+size > s.opts.MaxRequestBytes) {
		return noRoom
	}
	r.alone = first.alone
	e := s.entry(b, first)
	b.pace.charge(1, e.bytes())
	r.entries, r.bytes = append(r.entries, e), r.bytes+e.bytes()
	return added
}

// first returns the next record of the shard to send, or nil.
func (s *schedule) first(b *bin) *item {
	for b.lanes.len() > 0 {
		l := b.lanes.peek()
		if s.trim(l) && l.queue[0].bin == b {
			return l.queue[0]
		}
		s.unlist(b)
		s.makeReady(l) // at the shard of its new first record, if there is one
	}
	return nil
}

// entry dequeues the first record, and others that share its carrier.
func (s *schedule) entry(b *bin, first *item) sent {
	e := sent{bin: b}
	if s.opts.AggregateBytes == 0 || first.alone {
		l := s.unlist(b)
		s.send(&e, l, 1)
		return e
	}
	e.carrier = aggregators.Get().(*kpl.Aggregator)
	for s.first(b) != nil {
		l := b.lanes.peek()
		n, full := 0, false
		for i, it := range l.queue {
			switch {
			case it.settled:
				continue
			case it.bin != b, it.alone, e.carrier.Len() > 0 && e.carrier.SizeWith(it.entry) > s.opts.AggregateBytes:
				full = true
			default:
				_ = e.carrier.Add(it.entry) // its key was checked when it was put
				n = i + 1
			}
			if full {
				break
			}
		}
		if n == 0 {
			break
		}
		s.unlist(b)
		s.send(&e, l, n)
		if full {
			break
		}
	}
	return e
}

// send notes that the entry has the first n records of the lane.
func (s *schedule) send(e *sent, l *lane, n int) {
	l.sent = n
	e.lanes = append(e.lanes, l)
	for _, it := range l.queue[:n] {
		if !it.settled {
			s.dequeue(it)
			it.inFlight = true
			e.items = append(e.items, it)
		}
	}
}

// bytes returns how many bytes of the request's limit the entry takes, or a little more: a single
// record is sent without the frame of a carrier.
func (e *sent) bytes() int {
	if e.carrier == nil {
		return e.items[0].entry.Size()
	}
	return e.carrier.Size() + len("a")
}

// back makes the lanes of an entry ready again once its outcome is known. Records that are not
// settled are sent again, in order.
func (s *schedule) back(e *sent) {
	for _, it := range e.items {
		if !it.settled {
			s.enqueue(it)
		}
	}
	for _, l := range e.lanes {
		l.sent = 0
		s.makeReady(l)
	}
}

// succeeded ends the pause after failures of whole requests.
func (s *schedule) succeeded() { s.fails = 0 }

// failed pauses all shards after a request failed as a whole. Requests that were in flight together
// count once.
func (s *schedule) failed(now time.Time) {
	if now.Before(s.paused) {
		return
	}
	s.fails++
	s.paused = now.Add(backoff(s.fails))
}

// binHeap is ordered by when shards may be put to.
type binHeap []*bin

func (h binHeap) Len() int           { return len(h) }
func (h binHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h binHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *binHeap) Push(b any)        { *h = append(*h, b.(*bin)) }
func (h *binHeap) Pop() any {
	last := len(*h) - 1
	b := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return b
}

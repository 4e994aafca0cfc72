package modeltest

import (
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/inside"
	"github.com/braidstream/braid/internal/queuetest"
)

// A promise is an entry of a list, added right after its call has returned, or right before a call
// that may change something. An image of the disk notes the length of the list, and so which
// promises it must or may contain.

// promises is the list, and what its entries refer to.
type promises struct {
	mu      sync.Mutex // guards the fields below
	list    []promise
	puts    map[int]*promisedPut // by id
	streams map[int]*promisedStream
	queues  map[int]*promisedQueue
	ids     int
}

type promise struct {
	kind        promiseKind
	id          int    // of a record, for puts; of a queue
	incarnation int    // of a stream
	counter     uint64 // of a trim
	retention   time.Duration
	queue       *queuetest.Twin // its state; nil: it does not exist
}

type promiseKind int

const (
	putBegins promiseKind = iota
	putAcked
	putSeen // by a reader
	putLost // in a power cut, in a mode that allows it
	createBegins
	created
	deleteBegins
	deleted
	trimBegins
	trimmed
	resharded // counter is the index of the next shard
	retentionBegins
	retentionChanged
	queueBegins // a call that may change it
	queueIs
)

type promisedPut struct {
	record      twinRecord
	incarnation int
}

type promisedStream struct {
	name    string
	created uint64 // 0 while unknown
	numbers []braid.SequenceNumber
}

type promisedQueue struct {
	name string
	id   string // "" while unknown
}

func newPromises() *promises {
	return &promises{puts: make(map[int]*promisedPut), streams: make(map[int]*promisedStream), queues: make(map[int]*promisedQueue)}
}

func (p *promises) nextID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ids++
	return p.ids
}

func (p *promises) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ids
}

func (p *promises) add(list ...promise) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, list...)
}

func (p *promises) putBegins(ts *twinStream, records []twinRecord) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range records {
		p.puts[r.id] = &promisedPut{r, ts.incarnation}
		p.list = append(p.list, promise{kind: putBegins, id: r.id, incarnation: ts.incarnation})
	}
}

func (p *promises) acked(ts *twinStream, records []twinRecord) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range records {
		p.puts[r.id].record = r
		p.list = append(p.list, promise{kind: putAcked, id: r.id, incarnation: ts.incarnation})
		s := p.streams[ts.incarnation]
		s.numbers = append(s.numbers, r.number)
	}
}

func (p *promises) seen(id int) { p.add(promise{kind: putSeen, id: id}) }

func (p *promises) numbers(ts *twinStream) []braid.SequenceNumber {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.streams[ts.incarnation].numbers)
}

func (p *promises) createBegins(ts *twinStream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams[ts.incarnation] = &promisedStream{name: ts.name}
	p.list = append(p.list, promise{kind: createBegins, incarnation: ts.incarnation, retention: ts.retention})
}

func (p *promises) created(ts *twinStream, s *braid.Stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams[ts.incarnation].created = uint64(s.CreatedAt().UnixNano())
	p.list = append(p.list, promise{kind: created, incarnation: ts.incarnation})
}

func (p *promises) deleteBegins(ts *twinStream) {
	p.add(promise{kind: deleteBegins, incarnation: ts.incarnation})
}

func (p *promises) deleted(ts *twinStream) {
	p.add(promise{kind: deleted, incarnation: ts.incarnation})
}

func (p *promises) trimBegins(ts *twinStream, counter uint64) {
	p.add(promise{kind: trimBegins, incarnation: ts.incarnation, counter: counter})
}

func (p *promises) trimmed(ts *twinStream, counter uint64) {
	p.add(promise{kind: trimmed, incarnation: ts.incarnation, counter: counter})
}

func (p *promises) resharded(ts *twinStream, s *braid.Stream) {
	p.add(promise{kind: resharded, incarnation: ts.incarnation, counter: uint64(inside.StreamOf(s).Next())})
}

func (p *promises) retentionBegins(ts *twinStream, period time.Duration) {
	p.add(promise{kind: retentionBegins, incarnation: ts.incarnation, retention: period})
}

func (p *promises) retentionChanged(ts *twinStream, period time.Duration) {
	p.add(promise{kind: retentionChanged, incarnation: ts.incarnation, retention: period})
}

func (p *promises) queueBegins(mq *modelQueue) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.queues[mq.id] == nil {
		p.queues[mq.id] = &promisedQueue{name: mq.name}
	}
	p.list = append(p.list, promise{kind: queueBegins, id: mq.id})
}

func (p *promises) queueCreated(mq *modelQueue) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queues[mq.id].id = mq.q.ID()
}

func (p *promises) queueIs(mq *modelQueue) {
	p.add(promise{kind: queueIs, id: mq.id, queue: mq.twin.Clone()})
}

func (p *promises) queueGone(mq *modelQueue) { p.add(promise{kind: queueIs, id: mq.id}) }

// promisedBound is what the first n entries of the list demand of an image.
type promisedBound struct {
	durable bool // acknowledged means durable: the mode is Sync
	streams map[int]*streamBound
	begun   map[int]bool // records that may exist
	must    map[int]bool // records that must exist, unless trimmed or deleted
	highest uint64       // the highest acknowledged counter
	queues  map[int]*queueBound
}

// queueBound is the possible states of a queue; the image must match one of them as a whole. A nil
// state means that the queue does not exist.
type queueBound struct {
	states  []*queuetest.Twin
	changes bool // a call has not returned
}

type streamBound struct {
	mayExist, mustExist bool
	shards              uint32          // at least the index of the next one
	retention           []time.Duration // the possible ones
	trimBegun, trimmed  uint64          // counters: lower ones may be gone, must be gone
}

func (p *promises) bound(n int, durable bool) *promisedBound {
	b := &promisedBound{durable: durable, streams: make(map[int]*streamBound), begun: make(map[int]bool), must: make(map[int]bool), queues: make(map[int]*queueBound)}
	for _, line := range p.list[:n] {
		s := b.streams[line.incarnation]
		switch line.kind {
		case createBegins:
			b.streams[line.incarnation] = &streamBound{mayExist: true, retention: []time.Duration{line.retention}}
		case created:
			s.mustExist = true
		case deleteBegins:
			s.mustExist = false
		case deleted:
			s.mayExist = false
		case trimBegins:
			s.trimBegun = max(s.trimBegun, line.counter)
		case trimmed:
			s.trimmed = max(s.trimmed, line.counter)
		case resharded:
			s.shards = uint32(line.counter)
		case retentionBegins:
			s.retention = append(s.retention, line.retention)
		case retentionChanged:
			s.retention = []time.Duration{line.retention}
		case putBegins:
			b.begun[line.id] = true
		case putAcked:
			b.must[line.id] = true
			b.highest = max(b.highest, counter(p.puts[line.id].record.number))
		case putSeen:
			b.must[line.id] = true
		case putLost:
			delete(b.must, line.id)
			delete(b.begun, line.id)
		case queueBegins:
			if b.queues[line.id] == nil {
				b.queues[line.id] = &queueBound{states: []*queuetest.Twin{nil}}
			}
			b.queues[line.id].changes = true
		case queueIs:
			q := b.queues[line.id]
			if durable {
				q.states = nil
			}
			q.states, q.changes = append(q.states, line.queue), false
		}
	}
	for _, line := range p.list[n:] {
		if q := b.queues[line.id]; line.kind == queueIs && q != nil && q.changes {
			q.states, q.changes = append(q.states, line.queue), false
		}
	}
	return b
}

// forget removes the numbers of lost records: no reader may have one as its position.
func (p *promises) forget(t *twin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ts := range t.streams {
		s := p.streams[ts.incarnation]
		s.numbers = slices.DeleteFunc(s.numbers, func(n braid.SequenceNumber) bool {
			sh := ts.shard(n.ShardID())
			return sh != nil && counter(n) > sh.last // removed records were durable
		})
	}
}

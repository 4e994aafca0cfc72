package modeltest

import (
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/inside"
)

// A promise is a line in a list, written right after the call that made it has
// returned, or right before a call that may change something. An image of the disk
// notes how long the list was: so the list says what has to be in it, and what may be.

// promises is the list, and what it speaks of.
type promises struct {
	mu      sync.Mutex // guards the fields below
	list    []promise
	puts    map[int]*promisedPut // by id
	streams map[int]*promisedStream
	ids     int
}

type promise struct {
	kind        promiseKind
	id          int    // of a record, for puts
	incarnation int    // of a stream
	counter     uint64 // of a trim
	retention   time.Duration
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
)

type promisedPut struct {
	record      twinRecord
	incarnation int
}

type promisedStream struct {
	name    string
	created uint64 // 0 until it is known
	numbers []braid.SequenceNumber
}

func newPromises() *promises {
	return &promises{puts: make(map[int]*promisedPut), streams: make(map[int]*promisedStream)}
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

// bound is what the first n lines of the list demand of an image.
type promisedBound struct {
	durable bool // acknowledged is durable: the mode is Sync
	streams map[int]*streamBound
	begun   map[int]bool // records that may be there
	must    map[int]bool // records that have to be, unless trimmed or deleted
	highest uint64       // counter that was acknowledged
}

type streamBound struct {
	mayExist, mustExist bool
	shards              uint32          // the index of the next one, at least
	retention           []time.Duration // it is one of these
	trimBegun, trimmed  uint64          // counters: below may be gone, below has to be
}

func (p *promises) bound(n int, durable bool) *promisedBound {
	b := &promisedBound{durable: durable, streams: make(map[int]*streamBound), begun: make(map[int]bool), must: make(map[int]bool)}
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
		}
	}
	return b
}

// forget strikes the numbers of records that were lost: no reader may stand there.
func (p *promises) forget(t *twin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ts := range t.streams {
		s := p.streams[ts.incarnation]
		s.numbers = slices.DeleteFunc(s.numbers, func(n braid.SequenceNumber) bool {
			sh := ts.shard(n.ShardID())
			return sh != nil && counter(n) > sh.last // what has gone was durable
		})
	}
}

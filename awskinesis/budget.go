package awskinesis

import (
	"context"
	"sync"
	"time"

	"github.com/braidstream/braid"
)

// The read quotas of a shard, shared by all applications that poll it. The third, five reads per
// second, is kept by SourceOptions.PollInterval.
const (
	shardReadBytes   = 2 << 20                // in a second
	iteratorInterval = 250 * time.Millisecond // between two iterators; five per second are allowed

	firstReadPause = 500 * time.Millisecond // after throttling; it doubles
	lastReadPause  = 8 * time.Second

	firstRecordBytes = 4 << 10 // assumed size of a record before one was seen
)

// sourceShard is shared by the readers of a shard in this process: its budgets, and the state that
// a reader takes over from the previous one.
type sourceShard struct {
	users int // readers; guarded by the mutex of the stream

	reads, iterators, subscriptions gate

	mu          sync.Mutex // guards the fields below
	throttled   int        // reads in a row
	recordBytes int        // approximate size of a record
	left        leftPlace
	peeked      peekedPlace
}

// peekedPlace is how far a Peek got that found neither a record nor the tip. The next Peek
// continues there, because a stretch without records may be longer than one Peek can read.
type peekedPlace struct {
	from     braid.Position
	iterator *string // nil for none
}

// resumePeek returns the place where a Peek continues, or nil if it has to begin.
func (s *sourceShard) resumePeek(from braid.Position) (iterator *string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peeked.iterator != nil && s.peeked.from.Equal(from) {
		iterator, s.peeked = s.peeked.iterator, peekedPlace{}
	}
	return iterator
}

// suspendPeek stores how far a Peek got.
func (s *sourceShard) suspendPeek(from braid.Position, iterator *string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peeked = peekedPlace{from, iterator}
}

// leftPlace is where the last reader was closed. No record lies between its two positions: one is
// that of the lease, and the other is the last that the reader knew.
type leftPlace struct {
	after    braid.Position
	at       braid.Position
	complete time.Time // see shardReader
}

// use returns the shared state of a shard. The caller must call leave when it is done.
func (st *sourceStream) use(id braid.ShardID) *sourceShard {
	st.mu.Lock()
	defer st.mu.Unlock()
	shard := st.shards[id]
	if shard == nil {
		shard = &sourceShard{reads: newGate(), iterators: newGate(), subscriptions: newGate(), recordBytes: firstRecordBytes}
		st.shards[id] = shard
	}
	shard.users++
	return shard
}

func (st *sourceStream) leave(id braid.ShardID) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.shards[id].users-- // the next listing forgets a removed shard
}

// gate lets one call of a kind through at a time, and none before a given time. So the cost of a
// call is known before the next call.
type gate struct {
	turn chan struct{} // has a token while a call runs or waits for its time

	mu   sync.Mutex // guards the field below
	next time.Time
}

func newGate() gate { return gate{turn: make(chan struct{}, 1)} }

// take waits until a call is allowed. The caller calls give after the call.
func (g *gate) take(ctx context.Context) error {
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	g.mu.Lock()
	next := g.next
	g.mu.Unlock()
	if err := sleepUntil(ctx, next); err != nil {
		g.give()
		return err
	}
	return nil
}

func (g *gate) give() { <-g.turn }

// notBefore delays the next call until a time, unless it is already delayed longer.
func (g *gate) notBefore(at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at.After(g.next) {
		g.next = at
	}
}

// noteRead charges a read that has just returned that many bytes. Kinesis allows no further read
// until the byte quota is full again.
func (s *sourceShard) noteRead(records, bytes int) {
	whole := time.Duration(bytes)*time.Second/shardReadBytes + time.Millisecond
	s.reads.notBefore(time.Now().Add(whole))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.throttled = 0
	if records > 0 {
		s.recordBytes = max(1, (s.recordBytes+bytes/records)/2)
	}
}

// noteThrottled pauses the polling of the shard, because others also read it. It returns how many
// calls in a row were throttled.
func (s *sourceShard) noteThrottled() int {
	s.mu.Lock()
	s.throttled++
	fails := s.throttled
	s.mu.Unlock()
	until := time.Now().Add(backoffBetween(fails, firstReadPause, lastReadPause))
	s.reads.notBefore(until)
	s.iterators.notBefore(until)
	return fails
}

// limit returns how many records to request to get about that many bytes.
func (s *sourceShard) limit(records, bytes int) int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int32(max(1, min(records, 10_000, bytes/s.recordBytes+1)))
}

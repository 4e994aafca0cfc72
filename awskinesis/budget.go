package awskinesis

import (
	"context"
	"sync"
	"time"

	"github.com/braidstream/braid"
)

// What a shard gives, to all that poll it together. It takes five reads in a second as well,
// which SourceOptions.PollInterval keeps.
const (
	shardReadBytes   = 2 << 20                // in a second
	iteratorInterval = 250 * time.Millisecond // between two iterators; five in a second are allowed

	firstReadPause = 500 * time.Millisecond // after throttling; it doubles
	lastReadPause  = 8 * time.Second

	firstRecordBytes = 4 << 10 // how large a record is taken to be before one was seen
)

// sourceShard is what the readers of a shard in this process share: its budgets, and what one
// that is opened after another one takes over.
type sourceShard struct {
	users int // readers; guarded by the mutex of the stream

	reads, iterators, subscriptions gate

	mu          sync.Mutex // guards the fields below
	throttled   int        // reads in a row
	recordBytes int        // of a record, about
	left        leftPlace
	peeked      peekedPlace
}

// peekedPlace is how far a Peek has come that has found neither a record nor the tip. It is
// given to one that goes on: a stretch without records may be longer than what a Peek looks at.
type peekedPlace struct {
	from     braid.Position
	iterator *string // nil for none
}

// resumePeek returns where a Peek goes on, nil if it has to begin.
func (s *sourceShard) resumePeek(from braid.Position) (iterator *string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peeked.iterator != nil && s.peeked.from.Equal(from) {
		iterator, s.peeked = s.peeked.iterator, peekedPlace{}
	}
	return iterator
}

// suspendPeek keeps how far a Peek has come.
func (s *sourceShard) suspendPeek(from braid.Position, iterator *string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peeked = peekedPlace{from, iterator}
}

// leftPlace is where the last reader was closed. No record lies between both positions, of which
// one is in a lease, and the other one was known last.
type leftPlace struct {
	after    braid.Position
	at       braid.Position
	complete time.Time // see shardReader
}

// use returns what the readers of a shard share. The caller calls leave when it is done.
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
	st.shards[id].users-- // the next listing forgets a shard that is gone
}

// gate lets one call of a kind through at a time, and none before a time: so what a call has
// used up is known before the next one.
type gate struct {
	turn chan struct{} // holds a token while a call is made or waits for its time

	mu   sync.Mutex // guards the field below
	next time.Time
}

func newGate() gate { return gate{turn: make(chan struct{}, 1)} }

// take waits until a call may be made. The caller calls give after the call.
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

// notBefore sets when the next call may be made, unless that is set to be later.
func (g *gate) notBefore(at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at.After(g.next) {
		g.next = at
	}
}

// noteRead charges a read that has just brought so much. Kinesis allows no read until the
// budget of bytes is whole again, which it has used up by then.
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

// noteThrottled pauses the polling of the shard, since others read it as well. It returns how
// many calls were refused in a row.
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

// limit returns how many records to ask for, to get about so many bytes.
func (s *sourceShard) limit(records, bytes int) int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int32(max(1, min(records, 10_000, bytes/s.recordBytes+1)))
}

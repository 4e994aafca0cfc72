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

// sourceShard is what the readers of a shard in this process share: the budget of reads, and
// what one that is opened after another one takes over.
type sourceShard struct {
	users int // readers; guarded by the mutex of the stream

	// turn holds a token while one of them makes a call that counts, so what that has
	// brought is known before the next call.
	turn chan struct{}

	mu            sync.Mutex // guards the fields below
	nextRead      time.Time  // no read before
	nextIterator  time.Time  // no iterator before
	nextSubscribe time.Time  // no subscription before
	throttled     int        // reads in a row
	recordBytes   int        // of a record, about
	left          leftPlace
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
		shard = &sourceShard{turn: make(chan struct{}, 1), recordBytes: firstRecordBytes}
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

// take waits until a call may be made that counts against the shard, whose time next says.
// The caller calls give after the call.
func (s *sourceShard) take(ctx context.Context, next *time.Time) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.mu.Lock()
	at := *next
	s.mu.Unlock()
	if err := sleepUntil(ctx, at); err != nil {
		s.give()
		return err
	}
	return nil
}

func (s *sourceShard) give() { <-s.turn }

// notBefore sets when the next call of a kind may be made, unless that is set to be later.
func (s *sourceShard) notBefore(next *time.Time, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.After(*next) {
		*next = at
	}
}

// noteRead charges a read that was made at a time and has brought so much. Kinesis allows no
// read until the budget of bytes is whole again, which it has used up by then.
func (s *sourceShard) noteRead(sent time.Time, interval time.Duration, records, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.throttled = 0
	s.nextRead = sent.Add(interval)
	if whole := time.Now().Add(time.Duration(bytes)*time.Second/shardReadBytes + time.Millisecond); whole.After(s.nextRead) {
		s.nextRead = whole
	}
	if records > 0 {
		s.recordBytes = max(1, (s.recordBytes+bytes/records)/2)
	}
}

// noteThrottled pauses the reads of the shard, since others read it as well. It returns how
// many were refused in a row.
func (s *sourceShard) noteThrottled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.throttled++
	s.nextRead = time.Now().Add(backoffBetween(s.throttled, firstReadPause, lastReadPause))
	return s.throttled
}

// limit returns how many records to ask for, to get about so many bytes.
func (s *sourceShard) limit(records, bytes int) int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int32(max(1, min(records, 10_000, bytes/s.recordBytes+1)))
}

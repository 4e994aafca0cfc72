package awskinesis

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// This file keeps the outbox of a forwarder within its bounds.

// ErrOutboxFull reports that the outbox of a [Forwarder] has reached MaxBytes or MaxAge of its
// options. Nothing was put. The error is an [OutboxFullError].
var ErrOutboxFull = errors.New("outbox is full")

// OutboxFullError is an [ErrOutboxFull] with details.
type OutboxFullError struct {
	Outbox string // the name of the stream

	Bytes, MaxBytes int64         // bytes that wait, and their bound; 0 for no bound
	Age, MaxAge     time.Duration // age of the oldest record that waits, and its bound; 0 for no bound
}

// Error names the outbox and the limit.
func (e *OutboxFullError) Error() string {
	if e.MaxAge > 0 && e.Age > e.MaxAge {
		return fmt.Sprintf("outbox %q is full: its oldest record has waited for %v; the maximum is %v", e.Outbox, e.Age, e.MaxAge)
	}
	return fmt.Sprintf("outbox %q is full: %d bytes wait; the maximum is %d", e.Outbox, e.Bytes, e.MaxBytes)
}

// Is reports whether target is [ErrOutboxFull].
func (e *OutboxFullError) Is(target error) bool { return target == ErrOutboxFull }

// PutRecord puts a record into the outbox, as [braid.Stream.PutRecordWait] does, if MaxBytes and
// MaxAge allow it. It works even while Run is not running. Errors: [ErrOutboxFull], unless
// DropOldest is set; those of PutRecordWait.
func (f *Forwarder) PutRecord(ctx context.Context, partitionKey string, data []byte) (braid.PutResult, error) {
	results, err := f.put(ctx, []braid.Entry{{PartitionKey: partitionKey, Data: data}})
	if err != nil {
		return braid.PutResult{}, err
	}
	return results[0], results[0].Err
}

// PutRecords puts records into the outbox, as [braid.Stream.PutRecordsWait] does, if MaxBytes and
// MaxAge allow all of them; otherwise it puts none. Errors: [ErrOutboxFull], unless DropOldest is
// set; those of PutRecordsWait.
func (f *Forwarder) PutRecords(ctx context.Context, entries []braid.Entry) ([]braid.PutResult, error) {
	return f.put(ctx, entries)
}

func (f *Forwarder) put(ctx context.Context, entries []braid.Entry) ([]braid.PutResult, error) {
	stream, err := f.db.Stream(f.outbox)
	if err != nil {
		return nil, err
	}
	if !f.rejects() {
		return stream.PutRecordsWait(ctx, entries)
	}
	var bytes int64
	for i := range entries {
		bytes += int64(entries[i].Size())
	}
	if err := f.admit(ctx, bytes, len(entries)); err != nil {
		return nil, err
	}
	results, err := stream.PutRecordsWait(ctx, entries)
	f.room.settle(bytes)
	return results, err
}

// Admit returns nil if MaxBytes and MaxAge allow that many more bytes of partition keys and data in
// the outbox. Call it before a transaction that puts records to the outbox, because the transaction
// itself does not check the bounds. Admitted bytes count as put for a second. Errors:
// [ErrOutboxFull], unless DropOldest is set; [braid.ErrInvalidArgument] if bytes is negative; those
// of the database.
func (f *Forwarder) Admit(ctx context.Context, bytes int) error {
	if bytes < 0 {
		return f.wrap("admit", invalid("bytes", bytes, "must not be negative"))
	}
	if !f.rejects() {
		return nil
	}
	if err := f.admit(ctx, int64(bytes), 1); err != nil {
		return err
	}
	f.room.settle(int64(bytes))
	return nil
}

// rejects reports whether puts beyond the limits are refused.
func (f *Forwarder) rejects() bool { return f.isBounded() && !f.opts.DropOldest }

// turn is a mutex for long operations. A caller can stop waiting for it.
type turn chan struct{} // holds a token while it is taken

func newTurn() turn { return make(turn, 1) }

// take waits for the turn. If it returns nil, the caller has the turn, and must call end.
func (t turn) take(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t turn) end() { <-t }

// room caches how much waits in the outbox, so that not every put has to measure it.
type room struct {
	turn turn // held to measure or admit; only its holder changes backlog and at

	mu      sync.Mutex // guards the fields below
	backlog backlog
	at      time.Time // when its measurement began
	since   int64     // bytes that were, or may have been, put since then
	putting int64     // bytes that are being put
}

// backlog is the size and age of the records that wait in an outbox.
type backlog struct {
	bytes  int64
	oldest time.Time // when the first record arrived; zero if there is none
}

const (
	measureEvery = time.Second           // maximum age of a measurement that admits a put
	measureAgain = 10 * time.Millisecond // maximum age of one that refuses a put, so that a storm of puts does not measure each time
)

// admit reserves room for records that are about to be put, or refuses them.
func (f *Forwarder) admit(ctx context.Context, bytes int64, records int) error {
	r := &f.room
	if err := r.turn.take(ctx); err != nil {
		return f.wrap("admit", err)
	}
	defer r.turn.end()
	r.mu.Lock()
	defer r.mu.Unlock()
	age := time.Since(r.at)
	if r.at.IsZero() || age >= measureEvery || age >= measureAgain && f.refusalLocked(bytes) != nil {
		now, before := time.Now(), r.since
		r.mu.Unlock()
		b, err := f.measure(ctx, false)
		r.mu.Lock()
		if err != nil {
			return f.wrap("measure", err)
		}
		r.backlog, r.at = b.sum(), now
		r.since -= before // records put meanwhile may be in a shard that was already measured
	}
	if err := f.refusalLocked(bytes); err != nil {
		f.counts.rejected.Add(int64(records))
		return err
	}
	r.putting += bytes
	return nil
}

// refusalLocked returns the error if that many more bytes cannot be put, or nil.
func (f *Forwarder) refusalLocked(bytes int64) error {
	r := &f.room
	full := &OutboxFullError{Outbox: f.outbox, Bytes: r.backlog.bytes + r.since + r.putting, MaxBytes: f.opts.MaxBytes, MaxAge: f.opts.MaxAge}
	if !r.backlog.oldest.IsZero() {
		full.Age = time.Since(r.backlog.oldest)
	}
	if full.MaxBytes > 0 && full.Bytes+bytes > full.MaxBytes || full.MaxAge > 0 && full.Age > full.MaxAge {
		return full
	}
	return nil
}

// settle notes that records were, or may have been, put.
func (r *room) settle(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.putting -= bytes
	r.since += bytes
}

// shardBacklog describes the records that wait in a shard of the outbox.
type shardBacklog struct {
	shard *braid.Shard
	from  braid.Position
	backlog
}

type backlogs []shardBacklog

func (b backlogs) sum() (all backlog) {
	for i := range b {
		all.bytes += b[i].bytes
		if o := b[i].oldest; !o.IsZero() && (all.oldest.IsZero() || o.Before(all.oldest)) {
			all.oldest = o
		}
	}
	return all
}

// measure returns the backlog of each shard of the outbox that has one: the records after the
// checkpoint, or, if untaken is set, those that were not given to the forwarder. It costs a read of
// each shard.
func (f *Forwarder) measure(ctx context.Context, untaken bool) (backlogs, error) {
	stream, err := f.db.Stream(f.outbox)
	if errors.Is(err, braid.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	status, err := f.App().Status(ctx)
	if err != nil && !errors.Is(err, consumer.ErrAppNotFound) {
		return nil, err
	}
	leases := make(map[braid.ShardID]consumer.Checkpoint, len(status.Shards))
	for i := range status.Shards {
		leases[status.Shards[i].Shard] = status.Shards[i].Checkpoint
	}
	var all backlogs
	for _, shard := range stream.Shards() {
		at := leases[shard.ID()] // a shard that is new to the application is forwarded from its beginning
		if at.ShardEnd {
			continue
		}
		b := shardBacklog{shard: shard, from: positionOf(at)}
		f.mu.Lock()
		if sh := f.shards[shard.ID()]; untaken && sh != nil && !sh.waiting.Equal(braid.TrimHorizon()) {
			b.from = sh.waiting
		}
		f.mu.Unlock()
		if err := b.look(ctx); err != nil {
			return nil, err
		}
		if b.bytes > 0 {
			all = append(all, b)
		}
	}
	return all, nil
}

// look reads the first record, and returns how much follows it.
func (b *shardBacklog) look(ctx context.Context) error {
	for {
		page, err := b.shard.GetRecords(ctx, b.from, &braid.GetRecordsOptions{Limit: 1, LimitBytes: 1, Unmetered: true})
		var gone *braid.TrimmedError
		if errors.As(err, &gone) {
			b.from = braid.AtSequence(gone.FirstAvailable)
			continue
		}
		if err != nil {
			return err
		}
		b.bytes, b.oldest = page.BehindBytes, time.Time{}
		if len(page.Records) > 0 {
			b.bytes += int64(page.Records[0].Size())
			b.oldest = page.Records[0].ArrivalTime
		}
		return nil
	}
}

// keepBounds drops the records beyond the bounds, once a second.
func (f *Forwarder) keepBounds(ctx context.Context) {
	ticker := time.NewTicker(measureEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			f.keepWithinBounds(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (f *Forwarder) keepWithinBounds(ctx context.Context) {
	if err := f.dropOldest(ctx); err != nil && ctx.Err() == nil {
		f.log.Warn("outbox cannot be kept within its bounds; retrying", "error", err)
	}
}

// dropOldest drops the records beyond the bounds.
func (f *Forwarder) dropOldest(ctx context.Context) error {
	for {
		d, err := f.dropOnce(ctx)
		if err != nil || d.records == 0 {
			return err
		}
		f.log.Warn("records were dropped, because the outbox exceeded its bounds",
			"records", d.records, "bytes", d.bytes, "before", d.floor, "maxBytes", f.opts.MaxBytes, "maxAge", f.opts.MaxAge)
		if !d.more {
			return nil
		}
	}
}

// dropped describes the records to drop: those that wait and arrived before the floor.
type dropped struct {
	records, bytes int64
	floor          time.Time
	more           bool // records lie beyond the bounds
}

// maxDrop is how many records are dropped at once. Meanwhile the forwarder gets no records.
const maxDrop = 10_000

// dropOnce drops some of the records beyond the bounds. If it returns an error, it has dropped and
// counted none.
func (f *Forwarder) dropOnce(ctx context.Context) (d dropped, err error) {
	if err := f.dropping.take(ctx); err != nil {
		return d, err
	}
	defer f.dropping.end()
	if d, err = f.chooseOldest(ctx); err != nil || d.records == 0 {
		return d, err
	}
	stream, err := f.db.Stream(f.outbox)
	if err != nil {
		return dropped{}, err
	}
	// It is completed even if ctx ends, so that the counts match the dropped records.
	if err := stream.Trim(context.WithoutCancel(ctx), braid.AtTime(d.floor)); err != nil {
		return dropped{}, err
	}
	f.mu.Lock()
	f.floor = d.floor
	f.mu.Unlock()
	f.countDropped(d.records, int(d.bytes))
	return d, nil
}

// chooseOldest chooses the records beyond the bounds: the oldest ones that wait, by arrival, over
// all shards.
func (f *Forwarder) chooseOldest(ctx context.Context) (d dropped, err error) {
	all, err := f.measure(ctx, true)
	if err != nil {
		return d, err
	}
	over, cutoff := int64(0), time.Time{}
	if f.opts.MaxBytes > 0 {
		over = all.sum().bytes - f.opts.MaxBytes
	}
	if f.opts.MaxAge > 0 {
		cutoff = time.Now().Add(-f.opts.MaxAge)
	}
	for rec, err := range all.merge(ctx) {
		if err != nil {
			return dropped{}, err
		}
		if over <= d.bytes && !rec.ArrivalTime.Before(cutoff) {
			break
		}
		if d.records == maxDrop {
			d.more = true
			break
		}
		d.records++
		d.bytes += int64(rec.Size())
		d.floor = rec.ArrivalTime.Add(1) // no two records of a database arrive in one nanosecond
	}
	return d, nil
}

func (f *Forwarder) countDropped(records int64, bytes int) {
	f.counts.dropped.Add(records)
	f.counts.droppedBytes.Add(int64(bytes))
}

// merge yields the records that wait, of all shards, in the order of their arrival.
func (b backlogs) merge(ctx context.Context) iter.Seq2[braid.Record, error] {
	return func(yield func(braid.Record, error) bool) {
		var heads heads
		defer func() {
			for _, h := range heads {
				h.stop()
			}
		}()
		for i := range b {
			h := &head{}
			h.next, h.stop = iter.Pull2(b[i].shard.BorrowRecords(ctx, b[i].from))
			heads = append(heads, h)
			if !h.advance() {
				h.stop()
				heads = heads[:len(heads)-1]
			}
		}
		heap.Init(&heads)
		for len(heads) > 0 {
			h := heads[0]
			if !yield(h.rec, h.err) || h.err != nil {
				return
			}
			if h.advance() {
				heap.Fix(&heads, 0)
			} else {
				h.stop()
				heap.Pop(&heads)
			}
		}
	}
}

// head is the next record of a shard.
type head struct {
	rec  braid.Record
	err  error
	next func() (braid.Record, error, bool)
	stop func()
}

func (h *head) advance() (ok bool) {
	h.rec, h.err, ok = h.next()
	return ok
}

// heads are ordered by arrival; an error comes first.
type heads []*head

func (h heads) Len() int { return len(h) }
func (h heads) Less(i, j int) bool {
	return h[i].err != nil || h[j].err == nil && h[i].rec.ArrivalTime.Before(h[j].rec.ArrivalTime)
}
func (h heads) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *heads) Push(x any)   { *h = append(*h, x.(*head)) }
func (h *heads) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return x
}

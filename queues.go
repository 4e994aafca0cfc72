package braid

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/tail"
)

// This file is what the database does for package queue: it commits the rows of queues, lets
// transactions acknowledge records, reads streams in the order of arrival, and refuses to
// delete a stream that has queues.

// rowsOp is a request that adds rows of a companion package. It runs as a [controlOp] does,
// but is only as durable as the database's mode.
type rowsOp func(companion.Rows) (publish func(), err error)

// txStep is what a transaction does to a companion's rows: see [companion.Tx.Join].
type txStep struct {
	check func() error
	apply func(companion.Rows) (publish func())
}

func (a *appender) applyRows(op rowsOp, batch *kv.Batch) error {
	publish, err := op(batch)
	if publish != nil {
		a.publish = append(a.publish, publish)
	}
	return err
}

// applySteps adds a transaction's changes of companions' rows, which checkSteps has
// accepted.
func (a *appender) applySteps(steps []txStep, batch *kv.Batch) {
	for _, step := range steps {
		if publish := step.apply(batch); publish != nil {
			a.publish = append(a.publish, publish)
		}
	}
}

func checkSteps(steps []txStep) error {
	for _, step := range steps {
		if err := step.check(); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) loadQueues(r kv.Reader) error {
	lower, upper := layout.QueueSpan()
	return scan(r, lower, upper, func(key, value []byte) error {
		id, err := layout.DecodeQueueKey(key)
		if err != nil {
			return corrupt(err)
		}
		row, err := layout.DecodeQueueRow(id, value)
		if err != nil {
			return corrupt(err)
		}
		s := l.stream(row.Stream)
		if s == nil {
			return fmt.Errorf("%w: queue %q of stream %d, which does not exist", ErrCorrupt, row.Name, row.Stream)
		}
		s.queues.Add(1)
		l.queues++
		return nil
	})
}

func (c companionDB) Commit(ctx context.Context, essential bool, bytes int, fn func(companion.Rows) (func(), error)) error {
	return c.db.committer.Do(ctx, &commit.Request{Op: rowsOp(fn), Bytes: bytes, Essential: essential, Prompt: true})
}

// maxDeliveries is about how many records one group gives to waiting receivers, over all
// queues. Each delivery adds a row, and the puts of the group wait for those rows.
const maxDeliveries = 1000

func (c companionDB) Deliveries() *int { return &c.db.appender.deliveries }

func (c companionDB) Full() bool             { return c.db.store.Full() }
func (c companionDB) Ended() <-chan struct{} { return c.db.committer.Ended() }

func (c companionDB) ReadOnly() bool        { return c.db.opts.ReadOnly }
func (c companionDB) Now() uint64           { return c.db.aging.now() }
func (c companionDB) Life() context.Context { return c.db.life }
func (c companionDB) ClosedWell() bool      { return c.db.closedWell }
func (c companionDB) Log() any              { return c.db.opts.Logger }

func (c companionTx) Join(check func() error, apply func(companion.Rows) func()) error {
	if err := c.tx.checkWritable(); err != nil {
		return err
	}
	if err := c.tx.grow(txReadBytes); err != nil {
		return err
	}
	c.tx.steps = append(c.tx.steps, txStep{check, apply})
	return nil
}

func (c companionTx) DB() any                  { return c.tx.db }
func (c companionTx) Context() context.Context { return c.tx.ctx }

func (c companionStream) Number() uint32        { return c.stream.number }
func (c companionStream) Latest() *tail.Counter { return &c.stream.latest }

func (c companionStream) Retention() time.Duration { return c.stream.settings.Load().retention }

func (c companionStream) AddQueues(n int) error {
	if c.stream.w.deleted {
		return ErrStreamNotFound
	}
	c.stream.queues.Add(int32(n))
	c.stream.db.appender.counts.queues.Add(int64(n))
	return nil
}

func (c companionStream) Resolve(position any) (uint64, error) {
	b, err := position.(Position).inStream(c.stream)
	return b.from, err
}

func (c companionStream) Read(ctx context.Context, from uint64, records, bytes int, place *companion.Place) (any, uint64, error) {
	read, next, err := c.stream.readMerged(ctx, from, records, bytes, place)
	return read, next, err
}

// readMerged returns records of all shards from a counter on, in the order of arrival, and the
// counter at which the next call resumes. It returns up to about the given numbers of records
// and bytes, and at least one record if there is one. It skips trimmed records. If records are
// damaged, it returns those before them with the error, and the counter after the damage. That is
// from itself if the damage is below from; the next call does not report it again. It returns any
// other error only when it has no record to return.
func (s *Stream) readMerged(ctx context.Context, from uint64, records, bytes int, place *companion.Place) (read []Record, next uint64, err error) {
	to := s.db.visible.Load()
	if from > to {
		return nil, from, ended(ctx)
	}
	ahead := readAhead{ctx: ctx, db: s.db}
	defer ahead.end()
	m := merge{stream: s, ahead: &ahead, bound: bound{from: from}, ordinals: place.At(from), bytes: bytes}
	done, err := m.run(ctx, to, func(rec Record, _ error) bool {
		if len(read) == cap(read) { // larger steps than append's: each outgrown slice is garbage
			read = slices.Grow(read, min(records, max(16, 4*len(read)))-len(read))
		}
		read = append(read, rec)
		bytes -= len(rec.Data) + len(rec.PartitionKey)
		return len(read) < records && bytes > 0
	})
	var damage *CorruptError
	switch n := len(read); {
	case errors.As(err, &damage):
		// Everything below the damage was read, but nothing above to.
		next = min(damage.FirstAvailable.counter(), to+1)
		m.leave(place, next, err)
		return read, next, err
	case n > 0 && (done || err != nil):
		next = read[n-1].SequenceNumber.counter() + 1
		m.leave(place, next, nil)
		return read, next, nil
	case err != nil:
		return nil, from, err
	}
	m.leave(place, to+1, nil)
	return read, to + 1, nil
}

// leave stores in place what is known where the merge stopped: the ordinal that comes next in
// each shard, given that all records below the counter next were yielded. The reader knows of
// the damage that the error told reports, so the next record of that shard may have any
// ordinal. Other damage was not reported yet: the merge may have stopped at records of other
// shards that lie above the first lost record, so leave keeps that record's ordinal, and the
// next read finds the gap.
func (m *merge) leave(place *companion.Place, next uint64, told error) {
	if place.Ordinals == nil {
		place.Ordinals = make(map[uint32]uint64)
	}
	clear(place.Ordinals)
	place.Counter = next
	for _, c := range m.all {
		if c.broken != nil && c.broken == told {
			continue
		}
		ordinal := c.ordinal
		if c.at < len(c.records) {
			ordinal = c.records[c.at].Ordinal + 1
		}
		if ordinal > 0 {
			place.Ordinals[c.sh.index] = ordinal
		}
	}
}

func (c companionShard) Index() uint32             { return c.shard.index }
func (c companionShard) Shows(counter uint64) bool { return c.shard.keeps(counter) }
func (c companionShard) Count() uint64             { return c.shard.log.Tip().Ordinal }

func (c companionShard) Ahead(ctx context.Context, from uint64) (first, ordinal uint64, err error) {
	sh := c.shard
	for {
		if tip := sh.log.Tip(); from > tip.LastCounter {
			return 0, tip.Ordinal, ended(ctx)
		}
		p, err := sh.page(ctx, pageQuery{from: from, to: maxCounter, records: 1, bytes: 1, bare: true, anyOrdinal: true}, nil)
		var damage *CorruptError
		switch {
		case errors.As(err, &damage):
			from = damage.FirstAvailable.counter() // the first counter after the damage
			continue
		case err != nil:
			return 0, 0, err
		case len(p.records) == 0:
			return 0, p.tip.Ordinal, nil
		}
		return p.records[0].Counter, p.records[0].Ordinal, nil
	}
}

func (c companionShard) CountTo(ctx context.Context, counter uint64) (uint64, error) {
	if tip := c.shard.log.Tip(); tip.LastCounter <= counter {
		return tip.Ordinal, nil
	}
	_, ordinal, err := c.Ahead(ctx, counter+1)
	return ordinal, err
}

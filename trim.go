package braid

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

// Trim removes all records before the position from the stream, for good. Once it has
// returned, they cannot be read; their space is reclaimed in the background. Trim(ctx,
// [Latest]()) empties the stream. Sequence numbers are not reused. Trim works even while the
// disk is full.
//
// Errors: [ErrStreamNotFound], [ErrInvalidArgument] for a number of another stream,
// [ErrBeyondTip] for a number that was never given out, [ErrFailed], [ErrClosed],
// [ErrOutcomeUnknown], and the errors of reads.
func (s *Stream) Trim(ctx context.Context, before Position) error {
	return wrapError("trim", s.name, s.trim(ctx, before))
}

func (s *Stream) trim(ctx context.Context, position Position) error {
	// Resolve the position once for all shards, so that records put from now on are not
	// trimmed. Resolve it before looking the shards up: then every record below it is in one
	// of them.
	bound, err := position.inStream(s)
	if err != nil {
		return err
	}
	before, err := s.filledBefore(ctx, bound.from)
	if err != nil {
		return err
	}
	shards, horizons, err := horizonsAt(ctx, before, bound)
	if err != nil || len(shards) == 0 {
		return err
	}
	return s.db.control(ctx, func(a *appender, batch *kv.Batch) (func(), error) {
		if s.w.deleted {
			return nil, ErrStreamNotFound
		}
		return a.trim(shards, horizons, batch), nil
	})
}

// filledBefore returns the shards that may hold a record below the counter, in the order of
// their indexes. Its cost does not depend on the other shards.
func (s *Stream) filledBefore(ctx context.Context, counter uint64) ([]*Shard, error) {
	var found []*Shard // belongs to the operation until it has ended
	err := s.db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
		if s.w.deleted {
			return nil, ErrStreamNotFound
		}
		for it := range s.w.oldest.Before(counter) {
			a.counts.looks.Add(1)
			found = append(found, it.Value)
		}
		return nil, nil
	})
	if errors.Is(err, commit.ErrUnknown) { // it changes nothing
		err = cmp.Or(context.Cause(ctx), s.db.store.Err())
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(x, y *Shard) int { return cmp.Compare(x.index, y.index) })
	return found, nil
}

// horizonsAt returns the shards that have records before the bound, and for each the horizon
// that trims them.
func horizonsAt(ctx context.Context, all []*Shard, before bound) (shards []*Shard, horizons []layout.Horizon, err error) {
	for _, sh := range all {
		sh.stream.db.appender.counts.looks.Add(1)
		now, _ := sh.view()
		horizon, err := sh.horizonAt(ctx, before)
		if isDamage(err) { // damaged records are trimmed with the rest of their extent
			stored, extents := sh.view()
			horizon, err = extentBefore(before.from, stored, extents), nil
		}
		if err != nil {
			return nil, nil, err
		}
		if horizon.Counter > now.Counter {
			shards, horizons = append(shards, sh), append(horizons, horizon)
		}
	}
	return shards, horizons, nil
}

// trim raises the horizons of shards of one stream, in the batch. It returns the function
// that shows the trim to readers, nil if there is nothing to trim.
func (a *appender) trim(shards []*Shard, horizons []layout.Horizon, batch *kv.Batch) (publish func()) {
	var trimmed []*Shard
	for i, sh := range shards {
		a.counts.looks.Add(1)
		if horizons[i].Counter <= sh.w.horizon.Counter || sh.w.expired {
			continue // its horizon is already higher, or it has expired
		}
		a.trimShard(sh, horizons[i], batch)
		batch.Set(layout.ShardKey(sh.stream.number, sh.index), sh.row().Encode(sh.stream.number, sh.index))
		trimmed = append(trimmed, sh)
	}
	if len(trimmed) == 0 {
		return nil
	}
	a.boundCounters(batch)
	stream := shards[0].stream
	pruned := stream.pruneDataKeys(batch)
	a.schedule(stream)
	return func() {
		for _, sh := range trimmed {
			sh.publishMap()
		}
		stream.listeners.changed() // trimmed records make room in queues, and no longer hold others back
		stream.keys.forget(pruned)
		a.db.reclaiming.Ring()
	}
}

// trimShard raises the shard's horizon, and removes the extents that lie wholly below it.
func (a *appender) trimShard(sh *Shard, horizon layout.Horizon, batch *kv.Batch) {
	s, was := sh.stream, sh.w.horizon
	sh.w.horizon = horizon
	before, rest := sh.w.extents.SplitAt(horizon.Ordinal, sh.w.tip.Ordinal)
	for i, extent := range before {
		a.counts.looks.Add(1)
		batch.Delete(layout.ExtentKey(s.number, sh.index, extent.Epoch))
		bytes := sh.extentBytes(i)
		a.dropExtents(extent.Epoch, 1, bytes)
		if s.w.ledger.DropExtent(extent.Epoch, bytes, sh.trimmedOf(i, was)) {
			a.desert(s, extent.Epoch, batch)
		}
		if extent.Epoch == sh.w.epoch {
			sh.w.epoch = 0 // the next record begins a new extent
		}
	}
	if i := len(before); len(rest) > 0 {
		s.w.ledger.Trim(rest[0].Epoch, sh.trimmedOf(i, horizon)-sh.trimmedOf(i, was))
		s.w.oldest.Set(&sh.w.oldest, max(horizon.Counter, rest[0].FirstCounter))
	}
	sh.w.extents = rest
	a.file(sh)
}

// dropExtents notes that n extents of an epoch, with so many bytes, are gone.
func (a *appender) dropExtents(id uint32, n int, bytes uint64) {
	a.epochs.DropExtents(id, n, bytes)
	a.loose[id] = struct{}{}
}

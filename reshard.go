package braid

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/uint128"
)

// A reshard closes shards and creates others that take over their ranges. It is one commit,
// made by the committer, which also gives out the numbers: records before it are in the
// parents, records after it in the children. There is no state in between, neither for
// producers nor after a crash.

// SplitShard divides an open shard's range between two new shards. The upper one begins at
// newStartingHashKey; nil means the middle of the range. The old shard is closed: it keeps its
// records, and accepts no more. Puts that are on their way go to the new shards without an
// error, and records of one partition key stay in order.
//
// The hash key must be greater than the range's start plus one and less than its end, as in
// Kinesis. Errors: [ErrShardNotFound]; [ErrInvalidArgument] for the hash key, for a closed
// shard, and for a stream that is [OnDemand]; [ErrLimitExceeded] above 10,000 open shards;
// [ErrStreamNotFound], [ErrDiskFull], [ErrFailed], [ErrClosed], [ErrOutcomeUnknown]. Kinesis:
// SplitShard.
func (s *Stream) SplitShard(ctx context.Context, shard ShardID, newStartingHashKey *HashKey) (lower, upper *Shard, err error) {
	var at *uint128.Uint128
	if newStartingHashKey != nil {
		key := newStartingHashKey.n // a copy: the caller may change its own
		at = &key
	}
	var halves [2]*Shard
	err = s.reshard(ctx, func(r *reshard) error {
		if err := r.byHand(); err != nil {
			return err
		}
		sh, err := r.open(shard)
		if err != nil {
			return err
		}
		if len(r.shards) >= maxShards {
			return fmt.Errorf("%w: a stream may have at most %d open shards", ErrLimitExceeded, maxShards)
		}
		start := sh.hashKeys.middle()
		if at != nil {
			start = *at
		}
		if !splits(sh, start) {
			return &InvalidArgumentError{
				"NewStartingHashKey",
				HashKey{start},
				fmt.Sprintf("must be greater than %s plus one and less than %s to split %s", sh.hashKeys.Start, sh.hashKeys.End, sh.id),
			}
		}
		halves[0], halves[1] = r.split(sh, start)
		return nil
	})
	if err != nil {
		return nil, nil, wrapWhat("split shard", quoted(string(shard))+" of "+quoted(s.name), err)
	}
	return halves[0], halves[1], nil
}

// MergeShards replaces two open shards, whose ranges must be adjacent, with one new shard.
// Otherwise it works as [Stream.SplitShard] does. Errors: [ErrShardNotFound];
// [ErrInvalidArgument] for shards that are closed or not adjacent; the others of SplitShard.
// Kinesis: MergeShards.
func (s *Stream) MergeShards(ctx context.Context, shard, adjacent ShardID) (*Shard, error) {
	var merged *Shard
	err := s.reshard(ctx, func(r *reshard) error {
		if err := r.byHand(); err != nil {
			return err
		}
		a, err := r.open(shard)
		if err != nil {
			return err
		}
		b, err := r.open(adjacent)
		if err != nil {
			return err
		}
		low, high := a, b
		if a.hashKeys.Start.Compare(b.hashKeys.Start) > 0 {
			low, high = b, a
		}
		if a == b || low.hashKeys.End.n.AddOne() != high.hashKeys.Start.n {
			return &InvalidArgumentError{"AdjacentShard", b.id, fmt.Sprintf("must be adjacent to %s: one range must begin where the other ends", a.id)}
		}
		merged = r.merge(low, high)
		return nil
	})
	if err != nil {
		return nil, wrapWhat("merge shards", quoted(string(shard))+" and "+quoted(string(adjacent))+" of "+quoted(s.name), err)
	}
	return merged, nil
}

// UpdateShardCount changes the number of open shards to target, 1 to 10,000, in one commit. It
// works as in Kinesis: to grow, it splits every shard in the middle, as often as needed. Then
// it merges neighbors, the smallest first, until target shards are left. If the shards were of
// equal size before, and target is the old number multiplied or divided by a power of two,
// they are of equal size again; with any other target, none is more than twice as large as
// another. The shards in between appear in the lineage, closed and empty.
//
// Errors: [ErrInvalidArgument]; the others of [Stream.SplitShard]. Kinesis: UpdateShardCount,
// which can at most double or halve the number at a time.
func (s *Stream) UpdateShardCount(ctx context.Context, target int) error {
	if target < 1 || target > maxShards {
		return wrapError("update shard count", s.name, &InvalidArgumentError{"TargetShardCount", target, fmt.Sprintf("must be 1 to %d", maxShards)})
	}
	err := s.reshard(ctx, func(r *reshard) error {
		if err := r.byHand(); err != nil {
			return err
		}
		for len(r.shards) < target {
			if err := r.splitAll(); err != nil {
				return err
			}
		}
		for len(r.shards) > target {
			r.mergeNarrowest(len(r.shards) - target)
		}
		return nil
	})
	return wrapError("update shard count", s.name, err)
}

// reshard changes the stream's topology by fn.
func (s *Stream) reshard(ctx context.Context, fn func(*reshard) error) error {
	return s.db.control(ctx, func(a *appender, batch *kv.Batch) (func(), error) {
		if s.w.deleted {
			return nil, ErrStreamNotFound
		}
		r := &reshard{
			appender: a,
			stream:   s,
			now:      a.now / uint64(time.Second),
			shards:   slices.Clone(s.w.topology.open),
			closed:   make(map[*Shard]uint64),
		}
		if err := fn(r); err != nil {
			return nil, err
		}
		return r.finish(batch), nil
	})
}

// reshard builds a change of a stream's topology, on the committer's goroutine. It changes
// nothing of the stream before finish.
type reshard struct {
	appender *appender
	stream   *Stream
	now      uint64            // Unix time in seconds
	shards   []*Shard          // the shards that will be open, by their ranges
	closed   map[*Shard]uint64 // closed shards, with the second in their ending number; may include some of made
	made     []*Shard          // the new shards
}

// byHand refuses a caller's reshard of a stream on demand.
func (r *reshard) byHand() error {
	if mode := r.stream.w.settings.capacity.Mode; mode == OnDemand {
		return &InvalidArgumentError{"Capacity.Mode", mode, "must not be OnDemand: such a stream splits and merges its shards by itself"}
	}
	return nil
}

// open returns the open shard with that id.
func (r *reshard) open(id ShardID) (*Shard, error) {
	index, ok := parseShardID(string(id))
	sh := r.stream.w.topology.shard(index)
	switch {
	case !ok || sh == nil:
		return nil, fmt.Errorf("%w: %.128q", ErrShardNotFound, string(id))
	case sh.w.closing != nil:
		return nil, &InvalidArgumentError{"ShardID", sh.id, "must be an open shard: this one was already split or merged"}
	}
	return sh, nil
}

// splits reports whether the shard can be split there. Kinesis's rule is that both parts must
// have at least two hash keys.
func splits(sh *Shard, at uint128.Uint128) bool {
	start, end := sh.hashKeys.Start.n, sh.hashKeys.End.n
	return end.Sub(start).Compare(uint128.Uint128{Lo: 3}) >= 0 && start.AddOne().Less(at) && at.Less(end)
}

func (r *reshard) split(sh *Shard, at uint128.Uint128) (lower, upper *Shard) {
	lower = r.child(sh.hashKeys.Start.n, at.SubOne(), sh)
	upper = r.child(at, sh.hashKeys.End.n, sh)
	i := (&topology{open: r.shards}).position(sh.hashKeys.Start.n)
	r.shards = slices.Replace(r.shards, i, i+1, lower, upper)
	return lower, upper
}

func (r *reshard) merge(a, b *Shard) *Shard {
	child := r.child(a.hashKeys.Start.n, b.hashKeys.End.n, a, b)
	i := (&topology{open: r.shards}).position(a.hashKeys.Start.n)
	r.shards = slices.Replace(r.shards, i, i+2, child)
	return child
}

// splitAll splits every open shard in the middle.
func (r *reshard) splitAll() error {
	halves := make([]*Shard, 0, 2*len(r.shards))
	for _, sh := range r.shards {
		at := sh.hashKeys.middle()
		if !splits(sh, at) {
			return &InvalidArgumentError{"TargetShardCount", "too many", fmt.Sprintf("must leave two hash keys to each shard; %s is too narrow to be split", sh.id)}
		}
		halves = append(halves, r.child(sh.hashKeys.Start.n, at.SubOne(), sh), r.child(at, sh.hashKeys.End.n, sh))
	}
	r.shards = halves
	return nil
}

// mergeNarrowest merges the pairs of neighbors that make the narrowest shards, from the
// lowest range on, at most limit of them.
func (r *reshard) mergeNarrowest(limit int) {
	width := func(i int) uint128.Uint128 {
		return r.shards[i+1].hashKeys.End.n.Sub(r.shards[i].hashKeys.Start.n)
	}
	least := width(0)
	for i := range len(r.shards) - 1 {
		if w := width(i); w.Less(least) {
			least = w
		}
	}
	merged := make([]*Shard, 0, len(r.shards))
	for i := 0; i < len(r.shards); i++ {
		if sh := r.shards[i]; limit > 0 && i+1 < len(r.shards) && width(i) == least {
			merged = append(merged, r.child(sh.hashKeys.Start.n, r.shards[i+1].hashKeys.End.n, sh, r.shards[i+1]))
			limit--
			i++
		} else {
			merged = append(merged, sh)
		}
	}
	r.shards = merged
}

// child creates an open shard that takes over from its parents, and closes them.
//
// Invariant: a shard's second of creation, which is the first part of its numbers, is later
// than the second at which its parents were closed. So the numbers of children are greater
// than those of their parents, as in Kinesis. If reshards follow each other within a second,
// these seconds run ahead of the clock, so nothing uses them as a time.
func (r *reshard) child(start, end uint128.Uint128, parents ...*Shard) *Shard {
	row := layout.ShardRow{Start: start, End: end}
	for _, parent := range parents {
		row.Parents = append(row.Parents, parent.index)
		row.CreatedSeconds = max(row.CreatedSeconds, r.close(parent)+1)
	}
	sh := newShard(r.stream, r.stream.w.topology.next+uint32(len(r.made)), row)
	sh.setTip(layout.Horizon{})
	r.made = append(r.made, sh)
	return sh
}

// close marks the shard as closed, and returns the second in its ending number.
func (r *reshard) close(sh *Shard) uint64 {
	if r.closed[sh] == 0 {
		r.closed[sh] = max(r.now, sh.createdSeconds, sh.w.tip.LastCounter/uint64(time.Second), 1)
	}
	return r.closed[sh]
}

// finish adds the rows, lets the appender route by the new topology, and returns the function
// that shows the topology to readers.
func (r *reshard) finish(batch *kv.Batch) (publish func()) {
	if len(r.made) == 0 {
		return nil
	}
	a, s := r.appender, r.stream
	moment := a.nextCounter() // above all records of the parents, below the children's
	changed := slices.Clone(r.made)
	for sh, second := range r.closed {
		sh.w.closing = &closing{seconds: second, counter: moment, aged: a.db.aging.at(a.moment)}
		if sh.index < s.w.topology.next {
			changed = append(changed, sh)
		}
	}
	children := make(map[uint32]*closing, len(r.closed))
	for sh := range r.closed {
		children[sh.index] = sh.w.closing
	}
	for _, sh := range r.made {
		sh.createdCounter = moment
		for _, parent := range sh.parents {
			children[parent].children = append(children[parent].children, sh.index)
		}
	}
	for _, sh := range changed {
		batch.Set(layout.ShardKey(s.number, sh.index), sh.row().Encode(s.number, sh.index))
	}
	s.w.topology = &topology{
		shards: slices.Concat(s.w.topology.shards, r.made),
		open:   r.shards,
		next:   s.w.topology.next + uint32(len(r.made)),

		expired: s.w.topology.expired,
		gone:    s.w.topology.gone,
	}
	s.save(batch)
	next := s.w.topology
	for sh := range r.closed {
		a.file(sh)
	}
	a.schedule(s)
	return func() {
		// The order matters: a description regards a shard as closed if it has children in
		// the topology, and a reader that sees the end of a parent must find its children.
		for sh := range r.closed {
			sh.closing.Store(sh.w.closing)
		}
		s.topology.Store(next)
		a.counts.shards.Add(int64(len(r.made)))
		for sh := range r.closed {
			sh.log.End()
		}
		s.db.noteChange(s.name)
	}
}

package consumer

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/braidstream/braid"
)

// pinLatest turns braid.Latest into a place that is the same for all shards, so that no
// record is skipped that is put while the shards are looked at one by one. Only the
// database can do that. For another source, Latest is the end of each shard when it is
// looked at.
func (g *group) pinLatest(p braid.Position) braid.Position {
	if source, ok := g.records().(interface{ latest() braid.Position }); ok && p.Equal(braid.Latest()) {
		return source.latest()
	}
	return p
}

// createApp creates the application, or checks that it matches the config.
func (g *group) createApp(ctx context.Context, cfg *Config) error {
	for {
		lease, found, err := g.leases.Get(ctx, LeaseKey{})
		if err != nil {
			return err
		}
		if found {
			if was := lease.Checkpoint.Start; !was.Equal(cfg.Start) {
				return &braid.InvalidArgumentError{Field: "Start", Value: cfg.Start, Rule: fmt.Sprintf("must be that of the application, %s; App.Seek moves it", was)}
			}
			return nil
		}
		stored, err := g.leases.CompareAndSet(ctx, Lease{Checkpoint: Checkpoint{Start: cfg.Start}})
		if err != nil || stored {
			return err
		}
	}
}

// registerStreams stores where the application begins in streams that it sees for the
// first time. A stream that already exists begins at the application's Start, as a
// concrete place in each shard. A stream that comes later begins at its beginning, even
// if a deleted stream had its name.
func (g *group) registerStreams(ctx context.Context, s *survey) error {
	var streams, shards []Lease
	for name, view := range s.streams {
		key := LeaseKey{Stream: name}
		row := s.rows[key]
		if view.met || view.err != nil || !view.found && row != nil {
			continue
		}
		stream := Lease{LeaseKey: key, Incarnation: view.info.Incarnation}
		if row != nil {
			stream.Version, stream.Paused = row.Version, row.Paused
			if row.Incarnation != 0 {
				shards = append(shards, g.replaceForeign(s, name, view)...)
			}
		} else if view.found {
			starts, err := g.starts(ctx, s, name, view)
			switch {
			case err != nil && isFatal(err) && !isPermanent(err):
				return err
			case err != nil:
				view.err = err
				g.failStream(name, err)
				continue
			}
			shards = append(shards, starts...)
		}
		streams = append(streams, stream)
	}
	if len(streams) == 0 {
		return nil
	}
	if err := g.storeMissing(ctx, shards); err != nil {
		return err
	}
	if err := g.storeMissing(ctx, streams); err != nil { // last: these leases mean that the others exist
		return err
	}
	g.table.outdate()
	again, err := g.survey(ctx, s.names())
	if err != nil {
		return err
	}
	for name, view := range s.streams {
		again.streams[name].err = cmp.Or(again.streams[name].err, view.err)
	}
	*s = *again
	return nil
}

func (s *survey) names() (names []string) {
	for name := range s.streams {
		names = append(names, name)
	}
	return names
}

// starts returns leases with the places where processing of a stream's shards begins: the
// application's start, or where another engine has stopped.
func (g *group) starts(ctx context.Context, s *survey, name string, view *streamView) ([]Lease, error) {
	start := g.pinLatest(s.app().Checkpoint.Start)
	if s.isAdopted(name, view) {
		return g.adopt(ctx, s, name, view, start)
	}
	leases := make([]Lease, 0, len(view.info.Shards))
	for _, shard := range view.info.Shards {
		lease := Lease{LeaseKey: LeaseKey{name, shard.ID}, Incarnation: view.info.Incarnation}
		g.describeLease(&lease, &shard)
		if row := s.rows[lease.LeaseKey]; row != nil && !row.isOf(lease.Incarnation) { // left over after a crash
			lease.Version, lease.Epoch = row.Version, row.Epoch
		}
		leases = append(leases, lease)
	}
	return leases, g.resolve(ctx, leases, view.info.Shards, start, nil)
}

// storeMissing stores leases, in few steps. It leaves out those that exist: another
// worker has placed them, or this one before a crash.
func (g *group) storeMissing(ctx context.Context, leases []Lease) error {
	slices.SortFunc(leases, func(a, b Lease) int { return compareKeys(a.LeaseKey, b.LeaseKey) })
	for chunk := range slices.Chunk(leases, batchLeases) {
		if _, err := g.store(ctx, chunk); err != nil {
			return err
		}
	}
	return nil
}

// resolve sets the checkpoints of leases of one stream to a position, made concrete.
// shards are the shards of the leases, parents before children. A shard without records
// at the position is done only if its parents are; otherwise its children would not wait
// for them. done reports that for parents that are not among the leases.
func (g *group) resolve(ctx context.Context, leases []Lease, shards []ShardInfo, to braid.Position, done func(braid.ShardID) bool) (err error) {
	open := make(map[braid.ShardID]bool) // to be processed
	for i := range leases {
		l, shard := &leases[i], &shards[i]
		l.Checkpoint, err = g.records().Resolve(ctx, l.Stream, l.Shard, to)
		if isGone(err) {
			l.Checkpoint, err = Checkpoint{Start: shard.Start}, nil // it has just expired
		}
		if err != nil {
			return err
		}
		for _, parent := range shard.Parents {
			if open[parent] || done != nil && !done(parent) {
				l.Checkpoint.ShardEnd = false
			}
		}
		open[shard.ID] = !l.Checkpoint.ShardEnd
	}
	return nil
}

// isNeeded reports whether a row belongs to an expired parent with a child that has no
// lease yet, or whose lease lacks the gap that the parent has left. If children have expired
// as well, shards that may descend from them count as children.
func (s *survey) isNeeded(row *Lease) bool {
	view := s.streams[row.Stream]
	if view.lost[row.LeaseKey] {
		for key, it := range view.orphans {
			if it.lease.hasGap(row.Shard) && !(s.isStored(key) && s.rows[key].hasGap(row.Shard)) {
				return true
			}
		}
	}
	return slices.ContainsFunc(s.children[row.LeaseKey], func(child *item) bool {
		switch {
		case !row.isOf(child.lease.Incarnation):
			return false
		case !s.isStored(child.lease.LeaseKey):
			return true
		}
		stored := s.rows[child.lease.LeaseKey]
		return !row.Checkpoint.ShardEnd && !stored.Checkpoint.ShardEnd && !stored.hasGap(row.Shard)
	})
}

// lineage is what the group remembers of a shard that a custom source has listed.
type lineage struct {
	incarnation uint64
	parents     []braid.ShardID
}

// noteLineage remembers the parents of listed shards, for stores that do not keep
// [Lease].Parents. It forgets shards that neither the source lists nor a lease names.
func (g *group) noteLineage(s *survey) {
	if !g.custom {
		return // the database lists every shard
	}
	for key := range s.touched {
		if it := s.items[key]; it != nil {
			g.lineages[key] = lineage{it.lease.Incarnation, it.shard.Parents}
		} else if s.rows[key] == nil {
			delete(g.lineages, key)
		}
	}
}

// isNewer reports whether a row may belong to a shard that has not expired, but is newer
// than the listing: its parents still exist, or are newer themselves, or are unknown; or
// the stream itself may be newer. A source may show a stream or a shard to one worker
// before another, whose lease must not be deleted.
func (g *group) isNewer(s *survey, row *Lease) bool {
	view := s.streams[row.Stream]
	line, listed := g.lineages[row.LeaseKey]
	listed = listed && row.isOf(line.incarnation)
	switch {
	case !g.custom:
		return false
	case !view.found:
		return !listed
	case !row.isOf(view.info.Incarnation):
		return false
	}
	parents := row.Parents
	if len(parents) == 0 && row.HashKeyRange == (braid.HashKeyRange{}) { // the store does not keep them
		if !listed {
			return true
		}
		parents = line.parents
	}
	return slices.ContainsFunc(parents, func(id braid.ShardID) bool {
		key := LeaseKey{row.Stream, id}
		parent := s.rows[key]
		return s.items[key] != nil || parent != nil && g.isNewer(s, parent)
	})
}

// deleteStaleLeases removes the leases of shards and streams that no longer exist. The
// lease of a parent stays as long as it alone shows whether the parent was done: until its
// children have leases, and, if it was not done, until these have the gap. In a fleet, the
// lease of the parent from which isNewer concludes may be deleted earlier, so the source
// must have been asked since the lease was seen.
func (g *group) deleteStaleLeases(ctx context.Context, s *survey) error {
	g.noteLineage(s)
	for key := range s.touched {
		row, view := s.rows[key], s.streams[key.Stream]
		if row == nil || key.Shard == "" || view == nil || view.err != nil || s.items[key] != nil || s.isNeeded(row) || g.isNewer(s, row) {
			continue
		}
		if g.fleet != nil && !s.settled[key] {
			continue
		}
		g.mu.Lock()
		held := g.holds[key] != nil
		g.mu.Unlock()
		if held {
			continue
		}
		deleted, err := g.leases.Delete(ctx, *row)
		if err != nil {
			return err
		}
		if deleted {
			delete(s.rows, key)
			s.noteLost(key)
			g.table.forget(key)
		} else {
			g.noteStale(s)
		}
	}
	return nil
}

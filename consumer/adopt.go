package consumer

import (
	"context"
	"slices"

	"github.com/braidstream/braid"
)

// Another engine, such as the KCL, may have begun a stream in a store that it shares with
// the application. Its leases have no Incarnation, and the stream has no lease. Nothing
// that it has processed is processed again, and nothing else is skipped.

// isAdopted reports whether another engine has begun the stream. It may have stopped in a
// shard that has expired since and that only its children still name.
func (s *survey) isAdopted(name string, view *streamView) bool {
	isForeign := func(id braid.ShardID) bool {
		row := s.rows[LeaseKey{name, id}]
		return row != nil && row.Incarnation == 0
	}
	return slices.ContainsFunc(view.info.Shards, func(shard ShardInfo) bool {
		return isForeign(shard.ID) || slices.ContainsFunc(shard.Parents, isForeign)
	})
}

// replaceForeign returns leases of all shards if another engine has left leases of a deleted
// stream. Those do not say which stream they belong to, so they would pass for progress in
// the new stream of that name, whose records would be skipped. Shards without a lease get
// one as well: beside a lease of their child, they would pass for done. A parent that has
// already expired is a gap, whatever the old lease of its name shows.
func (g *group) replaceForeign(s *survey, name string, view *streamView) (leases []Lease) {
	if !s.isAdopted(name, view) {
		return nil
	}
	listed := make(map[braid.ShardID]bool)
	for _, shard := range view.info.Shards { // parents before children
		listed[shard.ID] = true
		key := LeaseKey{name, shard.ID}
		lease := Lease{LeaseKey: key, Incarnation: view.info.Incarnation, Checkpoint: Checkpoint{Start: shard.Start}}
		if row := s.rows[key]; row != nil {
			if row.Incarnation == view.info.Incarnation {
				continue // replaced before a crash
			}
			lease.Version, lease.Epoch = row.Version, row.Epoch
		}
		for _, parent := range shard.Parents {
			if !listed[parent] {
				lease.Gaps = append(lease.Gaps, LeaseGap{Shard: parent})
			}
		}
		g.describeLease(&lease, &shard)
		leases = append(leases, lease)
	}
	return leases
}

// adopt returns the leases that must be stored before workers continue where another engine has
// stopped. To that engine, a shard without a lease is
//
//   - done, or not wanted, if one of its descendants has a lease
//   - still to come, from its beginning, if one of its ancestors has a lease
//   - unknown otherwise: it begins where the application does
//
// A lease that is still at LATEST becomes a place, so that no restart skips records. It
// keeps the Incarnation 0: if a worker dies meanwhile, the next one still sees that the
// stream is adopted. In a fleet, the other engine may still work: what it has is left alone.
func (g *group) adopt(ctx context.Context, s *survey, name string, view *streamView, start braid.Position) ([]Lease, error) {
	shards := view.info.Shards // parents before children
	rowOf := func(id braid.ShardID) *Lease { return s.rows[LeaseKey{name, id}] }
	over, under := make(map[braid.ShardID]bool), make(map[braid.ShardID]bool) // shards above and below that have a lease
	for _, shard := range slices.Backward(shards) {
		if over[shard.ID] || rowOf(shard.ID) != nil {
			for _, parent := range shard.Parents {
				over[parent] = true
			}
		}
	}
	var leases, unknown []Lease
	var unknownShards []ShardInfo
	for _, shard := range shards {
		under[shard.ID] = slices.ContainsFunc(shard.Parents, func(parent braid.ShardID) bool {
			return under[parent] || rowOf(parent) != nil
		})
		lease := Lease{LeaseKey: LeaseKey{name, shard.ID}, Incarnation: view.info.Incarnation}
		g.describeLease(&lease, &shard)
		switch row := rowOf(shard.ID); {
		case row != nil:
			if c := row.Checkpoint; c.ShardEnd || !c.SequenceNumber.IsZero() || !c.Start.Equal(braid.Latest()) {
				continue
			}
			if g.fleet != nil && row.Owner != "" {
				continue // the owner may process records before that place, so the next owner replaces LATEST
			}
			latest := []Lease{*row}
			if err := g.resolve(ctx, latest, []ShardInfo{shard}, braid.Latest(), nil); err != nil {
				return nil, err
			}
			leases = append(leases, latest...)
		case over[shard.ID]:
			lease.Checkpoint = Checkpoint{Start: shard.Start, ShardEnd: true}
			leases = append(leases, lease)
		case !under[shard.ID]:
			unknown, unknownShards = append(unknown, lease), append(unknownShards, shard)
		}
	}
	err := g.resolve(ctx, unknown, unknownShards, start, func(parent braid.ShardID) bool {
		row := rowOf(parent)
		return row == nil || row.Checkpoint.ShardEnd
	})
	return append(leases, unknown...), err
}

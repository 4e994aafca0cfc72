package consumer

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// table is a group's copy of the leases in a shared store that is an OwnerLeaseStore. All
// leases are listed once in a LeaseDuration. The passes in between read only leases that
// may have changed hands; the holds, which renew the others, find out what has changed in
// those. So a lease of another owner may be out of date. It is not taken as free because of
// a listing that did not include it: see observe.
type table struct {
	rows     map[LeaseKey]Lease
	listed   time.Time   // when all leases were listed
	indexed  time.Time   // when the leases that a fleet's leader assigned were last read
	outdated atomic.Bool // all leases must be listed again; any goroutine may set it
}

// outdate makes the next pass list all leases: another worker or a tool has written one.
func (t *table) outdate() { t.outdated.Store(true) }

// reset empties the table when the group's goroutine begins.
func (t *table) reset() {
	t.rows = nil
	t.outdate()
}

// note takes over a lease that this process has stored.
func (t *table) note(lease Lease) {
	if t.rows != nil {
		t.rows[lease.LeaseKey] = lease
	}
}

func (t *table) forget(key LeaseKey) { delete(t.rows, key) }

// listLeases returns all leases for a pass. full reports whether all of them are current.
func (g *group) listLeases(ctx context.Context, now time.Time) (leases []Lease, full bool, err error) {
	store, can := g.leases.(OwnerLeaseStore)
	t := &g.table
	// A LeaseDuration is three passes, each of which may be a moment early.
	if can && !t.outdated.Swap(false) && now.Sub(t.listed) < 3*(g.leases.LeaseDuration()/3) {
		known, err := g.refreshTable(ctx, store, now)
		if err != nil {
			t.outdate()
			return nil, false, err
		}
		if known {
			return slices.Collect(maps.Values(t.rows)), false, nil
		}
	}
	if leases, err = g.leases.List(ctx); err != nil || !can {
		t.outdate()
		return leases, true, err
	}
	t.rows, t.listed, t.indexed = make(map[LeaseKey]Lease, len(leases)), now, now
	for i := range leases {
		t.rows[leases[i].LeaseKey] = leases[i]
	}
	return leases, true, nil
}

// refreshTable updates the rows that may have changed in a way that concerns the workers
// here. It returns false if that takes more reads than a listing.
func (g *group) refreshTable(ctx context.Context, store OwnerLeaseStore, now time.Time) (known bool, err error) {
	t := &g.table
	doubtful := make(map[LeaseKey]bool)
	g.mu.Lock()
	for key, row := range t.rows {
		switch h := g.holds[key]; {
		case row.NextOwner != "" && (g.ownNames[row.Owner] || g.ownNames[row.NextOwner]): // it is being handed over
			doubtful[key] = true
		case g.ownNames[row.Owner] && h == nil: // its hold has ended and may have lost it
			if !row.Checkpoint.ShardEnd {
				doubtful[key] = true
			}
		case h != nil:
			if lease := h.current(); lease.Version > row.Version {
				t.rows[key] = lease
			}
		}
	}
	owners := slices.Collect(maps.Keys(g.workers))
	g.mu.Unlock()
	if g.fleet != nil && now.Sub(t.indexed) >= g.leases.LeaseDuration()/2 { // in the second pass after a listing
		for _, owner := range owners {
			keys, err := store.ListOwned(ctx, owner)
			if err != nil {
				return false, err
			}
			for _, key := range keys {
				if t.rows[key].Owner != owner {
					doubtful[key] = true
				}
			}
		}
		t.indexed = now
	}
	if len(doubtful) > fewLeases {
		return false, nil
	}
	keys := slices.Collect(maps.Keys(doubtful))
	leases, err := g.getLeases(ctx, keys)
	if err != nil {
		return false, err
	}
	for i, key := range keys {
		if leases[i] != nil {
			t.rows[key] = *leases[i]
		} else {
			t.forget(key)
		}
	}
	return true, nil
}

// noteStale makes the next pass look at everything again: another worker or a tool has
// written a lease.
func (g *group) noteStale(s *survey) {
	s.stale = true
	g.table.outdate()
}

// describeLease sets the fields of a lease that describe its shard to tools and other
// engines.
func (g *group) describeLease(lease *Lease, shard *ShardInfo) {
	if _, is := g.leases.(dbLeases); !is {
		lease.Parents, lease.HashKeyRange = shard.Parents, shard.HashKeyRange
	}
}

package consumer

import (
	"context"
	"sync/atomic"
	"time"
)

// table is a group's copy of the leases in a shared store that can list the leases of an
// owner. All leases are listed once in a LeaseDuration. The passes in between read only
// the leases of the workers here, and those of the streams and the application. So a
// lease of another owner may be out of date. It is not taken as free because of a listing
// that did not include it: see observe.
type table struct {
	rows     map[LeaseKey]Lease
	listed   time.Time   // when all leases were listed
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
	if !can || t.outdated.Swap(false) || now.Sub(t.listed) >= g.leases.LeaseDuration() {
		if leases, err = g.leases.List(ctx); err != nil || !can {
			t.outdate()
			return leases, true, err
		}
		t.rows, t.listed = make(map[LeaseKey]Lease, len(leases)), now
		for i := range leases {
			t.rows[leases[i].LeaseKey] = leases[i]
		}
		return leases, true, nil
	}
	if err := g.refreshTable(ctx, store); err != nil {
		t.outdate()
		return nil, false, err
	}
	leases = make([]Lease, 0, len(t.rows))
	for _, lease := range t.rows {
		leases = append(leases, lease)
	}
	return leases, false, nil
}

// refreshTable reads the leases that the workers here have or had, and those of the
// streams and the application.
func (g *group) refreshTable(ctx context.Context, store OwnerLeaseStore) error {
	g.mu.Lock()
	owners := make([]string, 0, len(g.workers))
	for id := range g.workers {
		owners = append(owners, id)
	}
	g.mu.Unlock()
	owned := make(map[LeaseKey]bool)
	for _, owner := range owners {
		leases, err := store.ListOwned(ctx, owner)
		if err != nil {
			return err
		}
		for _, lease := range leases {
			owned[lease.LeaseKey] = true
			if lease.Version >= g.table.rows[lease.LeaseKey].Version { // an index may lag behind
				g.table.rows[lease.LeaseKey] = lease
			}
		}
	}
	var others []LeaseKey
	for key, row := range g.table.rows {
		if key.Shard == "" || !owned[key] && g.ownNames[row.Owner] && !row.Checkpoint.ShardEnd {
			others = append(others, key)
		}
	}
	for _, key := range others {
		lease, found, err := g.leases.Get(ctx, key)
		if err != nil {
			return err
		}
		if found {
			g.table.rows[key] = lease
		} else {
			g.table.forget(key)
		}
	}
	return nil
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

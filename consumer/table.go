package consumer

import (
	"context"
	"sync/atomic"
	"time"
)

// table is what the goroutine of a group remembers of a store that is shared with other
// processes, if the store can list the leases of an owner: then all are listed once in a
// LeaseDuration, and the passes in between read those of the workers here, the leases of
// the streams and of the application. A lease of another owner may be older, so no such is
// taken for free by what was not listed since: see observe.
type table struct {
	rows     map[LeaseKey]Lease
	listed   time.Time   // when all were
	outdated atomic.Bool // they have to be again; any goroutine may set it
}

// outdate has all leases listed by the next pass: somebody else has written one.
func (t *table) outdate() { t.outdated.Store(true) }

// reset is for a goroutine that begins.
func (t *table) reset() {
	t.rows = nil
	t.outdate()
}

// note takes over a lease that was written here, as it is stored.
func (t *table) note(lease Lease) {
	if t.rows != nil {
		t.rows[lease.LeaseKey] = lease
	}
}

func (t *table) forget(key LeaseKey) { delete(t.rows, key) }

// listLeases returns all leases for a pass. full reports whether they are those of now.
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

// refreshTable reads what is of the workers here, or was, and what concerns all shards.
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

// noteStale has the next pass look again at everything: somebody else has written a lease.
func (g *group) noteStale(s *survey) {
	s.stale = true
	g.table.outdate()
}

// describeLease sets what a shared store shows to other engines of a shard.
func (g *group) describeLease(lease *Lease, shard *ShardInfo) {
	if _, is := g.leases.(dbLeases); !is {
		lease.Parents, lease.HashKeyRange = shard.Parents, shard.HashKeyRange
	}
}

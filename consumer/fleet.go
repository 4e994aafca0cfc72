package consumer

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer/internal/plan"
)

// A Fleet is a group of workers of one application with a leader, which assigns the leases to all
// of them. Without a fleet, each worker decides for itself which leases it takes. With it, workers
// of another engine, such as the KCL, can share an application with workers of this package. A
// [LeaseStore] has a fleet if it has the method
//
//	Fleet() consumer.Fleet
//
// and the method does not return nil. It must always return the same value, and LeaseDuration of
// the store must not be 0. Package leasetest tests stores with and without a fleet.
//
// A worker takes only leases that have its name as Owner and no NextOwner. It hands a lease over
// when the lease gets a NextOwner. To assign a lease without an owner, the leader writes the Owner;
// to assign a lease with an owner, it calls RequestHandOver. All other writes go through the
// methods of the LeaseStore. The methods of a Fleet may be called from any number of goroutines.
type Fleet interface {
	// Report notes that a worker is alive and takes leases. It returns whether that worker leads,
	// and the names of the live workers, in any order; only the leader uses them. The worker itself
	// counts as alive even if it is not among them. Report is called at least three times per
	// LeaseDuration, and need not write each time. An error is temporary unless it is a
	// [PermanentError].
	Report(ctx context.Context, worker string) (leads bool, workers []string, err error)

	// RequestHandOver sets the NextOwner of a lease, and nothing else, if the stored lease has the
	// same Owner and no NextOwner. Otherwise stored is false. It does not change the Version, so
	// that the owner, which may be a worker of another engine, can still renew the lease. A
	// CompareAndSet by an owner that has not seen the request is refused.
	RequestHandOver(ctx context.Context, lease Lease, to string) (stored bool, err error)

	// Leave notes that a worker takes no more leases. If it leads, it stops leading. After an
	// error it is called again while the worker still has leases.
	Leave(ctx context.Context, worker string) error
}

// fleetOf returns the fleet of a store, or nil if it has none.
func fleetOf(store LeaseStore) Fleet {
	if store, can := store.(interface{ Fleet() Fleet }); can {
		return store.Fleet()
	}
	return nil
}

// isAssignedLocked reports whether the fleet's leader assigned the lease to a worker of this group
// that takes leases.
func (g *group) isAssignedLocked(lease *Lease) bool {
	w := g.workers[lease.Owner]
	return g.fleet != nil && lease.NextOwner == "" && w != nil && !w.isLeavingLocked()
}

// leaveFleet reports each leaving worker to the fleet before the worker gives its leases back.
// Otherwise the leader would assign them to it again. A failure of the store does not keep the
// worker from leaving.
func (g *group) leaveFleet(ctx context.Context) {
	if g.fleet == nil {
		return
	}
	g.mu.Lock()
	var leaving []string
	for id, w := range g.workers {
		if w.isLeavingLocked() && !g.departed[id] {
			leaving = append(leaving, id)
		}
	}
	g.mu.Unlock()
	slices.Sort(leaving)
	for _, id := range leaving {
		if err := g.fleet.Leave(ctx, id); err != nil {
			g.log().Warn("the worker could not leave the fleet; others find out later", "worker", id, "error", err)
			continue
		}
		g.departed[id] = true
	}
}

// assignInFleet takes the leases that are assigned to workers of this group. If one of these
// workers leads, it also assigns the leases of the whole fleet.
func (g *group) assignInFleet(ctx context.Context, s *survey, workers map[string]*Worker, timeout time.Duration, now time.Time) error {
	leads, names := false, []string(nil)
	for id := range workers {
		leader, others, err := g.fleet.Report(ctx, id)
		if err != nil {
			return err
		}
		leads = leads || leader
		names = append(names, others...)
	}
	g.compareListing(s, workers)
	var taken []*item
	for _, it := range s.sorted() {
		w := workers[it.lease.Owner]
		switch {
		case w == nil || it.lease.NextOwner != "" || g.holdOf(it.lease.LeaseKey) != nil:
		case it.lease.Checkpoint.ShardEnd || len(it.waiting) > 0 || it.paused:
			if err := g.keepAssigned(ctx, s, it, now); err != nil {
				return err
			}
		default:
			it.assignee = it.lease.Owner
			taken = append(taken, it)
		}
	}
	if err := g.takeLeases(ctx, s, workers, taken); err != nil {
		return err
	}
	if leads {
		return g.lead(ctx, s, names, workers, timeout, now)
	}
	return g.offerLeases(ctx, s)
}

// lead assigns free leases to the workers of the fleet, and requests hand-overs for balance.
func (g *group) lead(ctx context.Context, s *survey, names []string, workers map[string]*Worker, timeout time.Duration, now time.Time) error {
	g.mu.Lock()
	var items []*item
	for _, it := range s.sorted() {
		s.setStanding(it, g.standingLocked(it, timeout, now))
		if it.standing != nil && (!s.isMissing(it) || s.settled[it.lease.LeaseKey]) {
			items = append(items, it)
		}
	}
	g.mu.Unlock()
	leases := standings(items)
	names = g.trusted(items, names, now)
	for id := range workers {
		names = append(names, id)
	}
	slices.Sort(names)
	for _, it := range s.sorted() { // live workers delete their own leases
		if _, lives := slices.BinarySearch(names, it.lease.Owner); !lives && s.isStored(it.lease.LeaseKey) {
			if _, err := g.deleteFinished(ctx, s, it, now); err != nil {
				return err
			}
		}
	}
	var all []plan.Worker
	for _, id := range slices.Compact(names) {
		if workers[id] != nil || !g.ownNames[id] { // not one that is leaving
			all = append(all, plan.Worker{Name: id, Local: true})
		}
	}
	var taken []*item
	for _, move := range plan.Assign(leases, all) {
		it := items[move.Lease]
		if leases[move.Lease].Free {
			it.assignee = move.To
			taken = append(taken, it)
			continue
		}
		stored, err := g.fleet.RequestHandOver(ctx, it.lease, move.To)
		if err != nil {
			return err
		}
		if !stored { // the lease has changed: the next pass reads it
			g.table.outdate()
			continue
		}
		it.lease.NextOwner = move.To
		g.table.note(it.lease)
		if g.holdOf(it.lease.LeaseKey) != nil {
			g.requestReconcile() // which ends the hold
		}
	}
	return g.takeLeases(ctx, s, workers, taken)
}

// distrustLasts is how long a worker gets no leases after it let a lease expire, or did not hand it
// over. By the end of that time, a dead worker no longer counts as alive, because it no longer
// reports.
const distrustLasts = 2 * time.Minute

// trusted returns the workers that recently renewed their leases and handed them over. Reports
// alone are not enough, because the last report of a worker that has just died is still recent.
func (g *group) trusted(items []*item, names []string, now time.Time) []string {
	for _, it := range items {
		if owner := it.lease.Owner; it.standing.Free && owner != "" && !g.ownNames[owner] {
			g.distrusted[owner] = now
		}
	}
	maps.DeleteFunc(g.distrusted, func(_ string, since time.Time) bool { return now.Sub(since) >= distrustLasts })
	return slices.DeleteFunc(slices.Clone(names), func(id string) bool {
		_, is := g.distrusted[id]
		return is
	})
}

// offerLeases stores a lease without an owner for each shard that can begin and has none, so that
// the leader finds it. If the parents ended in this process, no other worker may create these
// leases.
func (g *group) offerLeases(ctx context.Context, s *survey) error {
	var offered []*item
	for _, it := range s.sorted() {
		if s.isMissing(it) && s.settled[it.lease.LeaseKey] {
			offered = append(offered, it)
		}
	}
	for _, it := range offered {
		lease := it.lease
		g.describeLease(&lease, &it.shard)
		stored, err := g.leases.CompareAndSet(ctx, lease)
		if err != nil {
			return err
		}
		if !stored { // another worker was faster
			g.noteStale(s)
			continue
		}
		lease.Version++
		g.table.note(lease)
	}
	return nil
}

// finishedLasts is how long a lease is kept after it is no longer needed. It is longer than any
// survey takes. Otherwise a survey might miss both the lease and the younger ones of the children,
// and process the shard again.
const finishedLasts = 5 * time.Minute

// deleteFinished deletes a lease that is no longer needed. It reports whether it has tried.
func (g *group) deleteFinished(ctx context.Context, s *survey, it *item, now time.Time) (tried bool, err error) {
	key := it.lease.LeaseKey
	switch since, noted := g.finished[key]; {
	case !s.isFinished(it):
		delete(g.finished, key)
		return false, nil
	case !noted:
		g.finished[key] = now
		return false, nil
	case now.Sub(since) < finishedLasts:
		return false, nil
	}
	delete(g.finished, key)
	_, err = g.leases.Delete(ctx, it.lease) // if it has changed, the next pass reads it
	g.noteStale(s)
	return true, err
}

// keepAssigned renews a lease that is assigned to a worker of this group while its shard has
// nothing to do. Otherwise the leader would consider the worker dead, and assign the lease to one
// worker after another.
func (g *group) keepAssigned(ctx context.Context, s *survey, it *item, now time.Time) error {
	if tried, err := g.deleteFinished(ctx, s, it, now); tried || err != nil {
		return err
	}
	if now.Sub(g.observed[it.lease.LeaseKey].changed) < g.leases.LeaseDuration()/3 {
		return nil
	}
	stored, err := g.leases.CompareAndSet(ctx, it.lease)
	if err != nil {
		return err
	}
	if !stored {
		g.noteStale(s)
		return nil
	}
	it.lease.Version++
	g.table.note(it.lease)
	return nil
}

// isFinished reports whether the lease of a shard is no longer needed: the shard has ended, all of
// its children have leases and have processed records, and its parents have no leases. The
// children's leases then show that the shard is done. The KCL deletes leases by the same rule.
func (s *survey) isFinished(it *item) bool {
	children := s.children[it.lease.LeaseKey]
	return it.lease.Checkpoint.ShardEnd && len(children) > 0 && !slices.ContainsFunc(children, func(child *item) bool {
		l := &child.lease
		return !s.isStored(l.LeaseKey) || !l.Checkpoint.ShardEnd && l.Checkpoint.SequenceNumber.IsZero()
	}) && !slices.ContainsFunc(it.shard.Parents, func(id braid.ShardID) bool {
		return s.rows[LeaseKey{it.lease.Stream, id}] != nil
	})
}

// compareListing makes the source list a stream again if its leases and shards do not agree: a
// lease has no shard, or a shard that can begin has no lease. The listing may be older than the
// leases; then the shard is new, or it is done and its lease was deleted. A disagreement that
// remains after the source was asked is settled, and the group may act on it. The source is asked
// once for each lease, and again each time the lease is assigned to a worker of this process.
func (g *group) compareListing(s *survey, workers map[string]*Worker) {
	s.settled = make(map[LeaseKey]bool)
	sought := make(map[LeaseKey]uint64)
	seek := func(key LeaseKey, assigned uint64) {
		before, asked := g.sought[key]
		s.settled[key], sought[key] = asked, max(before, assigned)
		if !asked || assigned > before {
			g.discovery.forget(LeaseKey{Stream: key.Stream})
			g.requestReconcile()
		}
	}
	for key, row := range s.rows {
		view := s.streams[key.Stream]
		switch {
		case view == nil || !view.found || !view.met || key.Shard == "" || s.items[key] != nil:
		case workers[row.Owner] != nil:
			seek(key, row.Version)
		default:
			seek(key, 0)
		}
	}
	for key, it := range s.items {
		if s.isMissing(it) {
			seek(key, 0)
		}
	}
	g.sought = sought
	maps.DeleteFunc(g.finished, func(key LeaseKey, _ time.Time) bool { return s.rows[key] == nil })
}

// isMissing reports whether a shard that can begin has no lease.
func (s *survey) isMissing(it *item) bool {
	return !s.isStored(it.lease.LeaseKey) && !it.lease.Checkpoint.ShardEnd && len(it.waiting) == 0
}

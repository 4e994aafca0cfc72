package consumer

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer/internal/plan"
)

// A Fleet is the workers of an application that have a leader, which decides for all who gets
// which lease, instead of each for itself. So workers of another engine, such as the KCL, can
// share an application with those of this package. A [LeaseStore] has one if it has the method
//
//	Fleet() consumer.Fleet
//
// and that does not return nil. It always returns the same, and LeaseDuration is not 0. Package
// leasetest tests both kinds.
//
// A worker takes those leases that have its name as the Owner and no NextOwner, and no others;
// it hands a lease over when another worker is the NextOwner. The leader assigns a lease that
// nobody has by writing its Owner, and asks for one that somebody has by RequestHandOver.
// All else is written by the methods of the LeaseStore. All methods may be called by any number
// of goroutines.
type Fleet interface {
	// Report notes that a worker lives and takes leases. It reports whether that worker
	// leads, and which workers live, in any order, which only the leader needs; the worker
	// itself is one of them even if it is left out. Report is called three times in each
	// LeaseDuration or more often, and need not write each time. An error is temporary unless
	// it is a [PermanentError].
	Report(ctx context.Context, worker string) (leads bool, workers []string, err error)

	// RequestHandOver sets the NextOwner of a lease, and nothing else, if the stored one has
	// the same Owner, and no NextOwner. Its Version stays as it is, so that the
	// owner, which may be another engine's worker, can still renew the lease. A
	// CompareAndSet by the owner which does not know of the request is refused.
	RequestHandOver(ctx context.Context, lease Lease, to string) (stored bool, err error)

	// Leave notes that a worker takes no more leases. If it leads, it no longer does. After an
	// error it is called again as long as the worker still has leases.
	Leave(ctx context.Context, worker string) error
}

// fleetOf returns the fleet of a store, nil for none.
func fleetOf(store LeaseStore) Fleet {
	if store, can := store.(interface{ Fleet() Fleet }); can {
		return store.Fleet()
	}
	return nil
}

// isAssignedLocked reports whether a worker here that takes leases was assigned one by the
// fleet's leader.
func (g *group) isAssignedLocked(lease *Lease) bool {
	w := g.workers[lease.Owner]
	return g.fleet != nil && lease.NextOwner == "" && w != nil && !w.isLeavingLocked()
}

// leaveFleet has a fleet know which workers leave, before they give their leases back: or it would
// assign them again. That a store fails does not keep a worker.
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

// assignInFleet takes the leases that are assigned to workers here, and assigns those of all
// if one of these leads.
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

// lead assigns what is free to the workers of the fleet, and has leases handed over for
// balance.
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
	for _, it := range s.sorted() { // the others delete their own
		if _, lives := slices.BinarySearch(names, it.lease.Owner); !lives && s.isStored(it.lease.LeaseKey) {
			if _, err := g.deleteFinished(ctx, s, it, now); err != nil {
				return err
			}
		}
	}
	var all []plan.Worker
	for _, id := range slices.Compact(names) {
		if workers[id] != nil || !g.ownNames[id] { // not one that leaves
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
		if !stored { // it has changed: the next pass sees how
			g.table.outdate()
			continue
		}
		it.lease.NextOwner = move.To
		g.table.note(it.lease)
		if g.holdOf(it.lease.LeaseKey) != nil {
			g.requestReconcile() // which ends it
		}
	}
	return g.takeLeases(ctx, s, workers, taken)
}

// distrustLasts is for how long a worker is assigned nothing that has let a lease expire, or has
// not handed it over. If it is dead, it is known by then that it does not report any more.
const distrustLasts = 2 * time.Minute

// trusted returns the workers that do with leases what they are to do: that they report is not
// enough, as the report of one that has just died is still new.
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

// offerLeases stores leases of shards that can begin and have none, without an owner, so that
// the leader finds them: when their parents have ended here, nobody else may make them.
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
		if !stored { // somebody was faster
			g.noteStale(s)
			continue
		}
		lease.Version++
		g.table.note(lease)
	}
	return nil
}

// finishedLasts is for how long a lease is kept that nobody needs any more. No survey takes so
// long: or one might miss the lease and those of the children, which are younger, and begin anew.
const finishedLasts = 5 * time.Minute

// deleteFinished deletes a lease that nobody needs any more. It reports whether it has tried.
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
	_, err = g.leases.Delete(ctx, it.lease) // unless it has changed: then the next pass sees how
	g.noteStale(s)
	return true, err
}

// keepAssigned renews a lease that is assigned to a worker here, but has nothing to be done now:
// or the leader would take the worker for dead, and give the lease to one after the other.
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

// isFinished reports whether a shard has ended whose children all have leases and have processed
// something, and whose parents have none any more: then the children say that it is done. The
// KCL deletes leases by the same rule.
func (s *survey) isFinished(it *item) bool {
	children := s.children[it.lease.LeaseKey]
	return it.lease.Checkpoint.ShardEnd && len(children) > 0 && !slices.ContainsFunc(children, func(child *item) bool {
		l := &child.lease
		return !s.isStored(l.LeaseKey) || !l.Checkpoint.ShardEnd && l.Checkpoint.SequenceNumber.IsZero()
	}) && !slices.ContainsFunc(it.shard.Parents, func(id braid.ShardID) bool {
		return s.rows[LeaseKey{it.lease.Stream, id}] != nil
	})
}

// compareListing has the source asked for a stream whose leases and shards do not agree: a lease has
// no shard, or a shard that can begin has no lease. The listing may be older than the leases: then
// the shard is new, or done, and its lease deleted. What still is so after the source was asked
// is settled, and may be acted upon. The source is asked once for each lease, and each time that it
// is assigned to a worker here.
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

package consumer

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer/internal/plan"
)

// observation is when a lease was last seen to change, by this process's clock.
type observation struct {
	version   uint64
	changed   time.Time
	seen      time.Time // when it was last looked at
	nextOwner string
	asked     time.Time // when nextOwner was first seen
}

// observe notes when leases of other workers were last seen to change.
func (g *group) observe(s *survey, now time.Time) {
	if g.leases.LeaseDuration() == 0 {
		return
	}
	for key := range g.observed {
		if s.rows[key] == nil {
			delete(g.observed, key)
		}
	}
	for key, lease := range s.rows {
		o := g.observed[key]
		if o == nil {
			o = &observation{}
			g.observed[key] = o
		}
		if !s.partial || o.version != lease.Version {
			if g.fleet != nil && now.Sub(o.seen) >= 2*g.leases.LeaseDuration() {
				// Nobody may have reached the store: the owner has not failed, and must not be
				// distrusted. TestOutageOfTheStoreMovesNothing goes red without it.
				o.changed = now
			}
			o.seen = now
		}
		if o.version != lease.Version {
			o.version, o.changed = lease.Version, now
		}
		if o.nextOwner != lease.NextOwner {
			o.nextOwner, o.asked = lease.NextOwner, now
		}
	}
}

// isFree reports whether a lease without a hold has no owner. A request to the owner
// expires after the owner's timeout plus the time that the request may take to reach it.
func (g *group) isFree(lease *Lease, timeout time.Duration, now time.Time) bool {
	duration := g.leases.LeaseDuration()
	if duration == 0 || lease.Owner == "" || g.ownNames[lease.Owner] {
		return true
	}
	o := g.observed[lease.LeaseKey]
	if g.fleet != nil { // the owner may learn of its assignment up to a duration late
		return o.seen.Sub(o.changed) >= 2*duration || o.nextOwner != "" && now.Sub(o.asked) >= timeout+2*duration
	}
	return o.seen.Sub(o.changed) >= duration || g.ownNames[o.nextOwner] && now.Sub(o.asked) >= timeout+duration
}

// assign gives out free leases, and requests hand-overs for balance.
func (g *group) assign(ctx context.Context, s *survey, workers map[string]*Worker, now time.Time) error {
	var timeout time.Duration
	for _, w := range workers {
		timeout = w.cfg.HandOverTimeout
	}
	g.mu.Lock()
	for key := range s.touched {
		if it := s.items[key]; it != nil {
			it.assignee, it.taken = "", false
			s.setStanding(it, g.standingLocked(it, timeout, now))
		}
	}
	g.mu.Unlock()
	if len(workers) == 0 {
		return nil
	}
	if g.fleet != nil {
		return g.assignInFleet(ctx, s, workers, timeout, now)
	}
	all := make([]plan.Worker, 0, len(workers))
	for id := range workers {
		all = append(all, plan.Worker{Name: id, Local: true, Has: s.counts[id]})
	}
	for id, count := range s.counts {
		if id != "" && !g.ownNames[id] { // another worker, which is alive
			all = append(all, plan.Worker{Name: id, Has: count})
		}
	}
	items := slices.SortedFunc(maps.Values(s.free), func(a, b *item) int { return compareKeys(a.lease.LeaseKey, b.lease.LeaseKey) })
	leases := standings(items)
	moves, even := plan.AssignFree(leases, all, s.planned)
	if !even {
		g.mu.Lock()
		items = items[:0]
		for _, it := range s.sorted() {
			if s.setStanding(it, g.standingLocked(it, timeout, now)); it.standing != nil {
				items = append(items, it)
			}
		}
		g.mu.Unlock()
		g.steps.Add(int64(len(items)))
		leases = standings(items)
		for i := range all {
			all[i].Has = 0
		}
		moves = plan.Assign(leases, all)
	}
	var taken []*item
	for _, move := range moves {
		it := items[move.Lease]
		if leases[move.Lease].Free {
			it.assignee = move.To
			taken = append(taken, it)
		} else if err := g.requestHandOver(ctx, it, move.To, now); err != nil {
			return err
		}
	}
	if err := g.takeLeases(ctx, s, workers, taken); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, move := range moves {
		s.setStanding(items[move.Lease], g.standingLocked(items[move.Lease], timeout, now))
	}
	return nil
}

func standings(items []*item) []plan.Lease {
	leases := make([]plan.Lease, len(items))
	for i, it := range items {
		leases[i] = *it.standing
	}
	return leases
}

// standingLocked returns an item as plan sees it, or nil if nothing can be done in its
// shard.
func (g *group) standingLocked(it *item, timeout time.Duration, now time.Time) *plan.Lease {
	key := it.lease.LeaseKey
	h, next := g.holds[key], g.heirs[key]
	if it.lease.Checkpoint.ShardEnd || len(it.waiting) > 0 || it.paused && h == nil {
		return nil
	}
	l := &plan.Lease{Owner: it.lease.Owner}
	switch {
	case it.lease.NextOwner != "" && !g.ownNames[it.lease.NextOwner] && (h != nil || g.ownNames[it.lease.Owner]):
		l.Owner, l.Moving = it.lease.NextOwner, true // releaseLeases hands it over when the hold has ended
	case h != nil && h.currentState() >= holdEnding:
		l.Owner, l.Moving = next, true
	case h != nil:
		l.Owner, l.Moving = h.worker.cfg.WorkerID, h.hasFailed() // a failed hold keeps its shard
	case g.isAssignedLocked(&it.lease): // and about to be taken
	case g.isFree(&it.lease, timeout, now):
		l.Free = true
		if next != "" {
			l.Owner = next
		}
	case it.lease.NextOwner != "":
		l.Owner, l.Moving = it.lease.NextOwner, true
	}
	return l
}

// requestHandOver requests that a lease is handed over to a worker here: from its hold,
// or from its owner in another process.
func (g *group) requestHandOver(ctx context.Context, it *item, to string, now time.Time) error {
	g.mu.Lock()
	h := g.holds[it.lease.LeaseKey]
	g.mu.Unlock()
	if h != nil {
		h.startEnding(now, h.drain, errAskedBy)
		g.heirs[it.lease.LeaseKey] = to
		return nil
	}
	next := it.lease
	next.NextOwner = to
	stored, err := g.leases.CompareAndSet(ctx, next)
	switch {
	case err != nil:
		return err
	case stored:
		next.Version++
		g.table.note(next)
	default: // it has changed: the next pass looks again
		g.table.outdate()
	}
	return nil
}

// takeLeases makes workers the owners of free leases, under a new epoch, and starts the holds
// of those in this process.
func (g *group) takeLeases(ctx context.Context, s *survey, workers map[string]*Worker, items []*item) error {
	items, err := g.placeLatest(ctx, s, workers, items)
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(items, batchLeases) {
		leases, from := make([]Lease, len(chunk)), make([]string, len(chunk))
		for i, it := range chunk {
			leases[i], from[i] = it.lease, it.lease.Owner
			leases[i].Owner, leases[i].NextOwner = it.assignee, ""
			leases[i].Epoch++
			g.describeLease(&leases[i], &it.shard)
		}
		stored, err := g.store(ctx, leases)
		for i, it := range chunk {
			if !stored[i] {
				g.requestReconcile() // another worker was faster
				g.noteStale(s)
				continue
			}
			it.lease = leases[i]
			it.lease.Version++
			g.table.note(it.lease)
			it.taken = true
			delete(g.heirs, it.lease.LeaseKey)
			w := workers[it.assignee]
			if w == nil {
				continue // it is elsewhere
			}
			h := newHold(w, it.lease, from[i], it.shard)
			g.mu.Lock()
			g.holds[h.key] = h
			h.worker.held++
			g.mu.Unlock()
			go h.run()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// placeLatest replaces LATEST by a place. Another engine leaves LATEST in the lease of a
// shard whose records it has not seen yet; while it stays there, each restart skips
// records. It returns the items that can be taken, without those whose place the source
// cannot resolve now. Leases for workers in other processes are left to those workers.
func (g *group) placeLatest(ctx context.Context, s *survey, workers map[string]*Worker, items []*item) (placed []*item, err error) {
	for _, it := range items {
		if c := &it.lease.Checkpoint; workers[it.assignee] != nil && c.SequenceNumber.IsZero() && c.Start.Equal(braid.Latest()) {
			latest := []Lease{it.lease}
			err := g.resolve(ctx, latest, []ShardInfo{it.shard}, braid.Latest(), nil)
			switch {
			case err != nil && isFatal(err) && !isPermanent(err):
				return nil, err
			case err != nil:
				g.failStream(it.lease.Stream, err)
				g.noteStale(s)
				continue
			}
			c.Start = latest[0].Checkpoint.Start // if the shard stays empty, the reader finds that out
		}
		placed = append(placed, it)
	}
	return placed, nil
}

// storeInOrder writes leases: all or none, in one step, if the store can; otherwise one
// after the other up to the first that has changed. It returns how many were stored, even
// with an error.
func (g *group) storeInOrder(ctx context.Context, leases []Lease) (n int, err error) {
	if batch, can := g.leases.(BatchLeaseStore); can && len(leases) > 1 {
		stored, err := batch.CompareAndSetAll(ctx, leases)
		if stored {
			n = len(leases)
		}
		return n, err
	}
	for i, lease := range leases {
		if stored, err := g.leases.CompareAndSet(ctx, lease); err != nil || !stored {
			return i, err
		}
	}
	return len(leases), nil
}

// store writes leases, in one step if the store can. It reports which were stored, even
// with an error. A lease that has changed does not keep the others from being stored.
func (g *group) store(ctx context.Context, leases []Lease) (stored []bool, err error) {
	stored = make([]bool, len(leases))
	if batch, can := g.leases.(BatchLeaseStore); can && len(leases) > 1 {
		all, err := batch.CompareAndSetAll(ctx, leases)
		if all || err != nil {
			for i := range stored {
				stored[i] = all
			}
			return stored, err
		}
	}
	for i, lease := range leases {
		if stored[i], err = g.leases.CompareAndSet(ctx, lease); err != nil {
			return stored, err
		}
	}
	return stored, nil
}

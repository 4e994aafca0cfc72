package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/wake"
)

// startLeaving makes a worker give its leases back. Its left channel is closed when it
// has.
func (g *group) startLeaving(w *Worker) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.enterLocked(workerLeaving)
	g.crewChanged = true
	g.requestReconcile()
}

// abandon ends the contexts of a worker's processors, and leaves those behind that still
// do not return.
func (g *group) abandon(w *Worker) (stuck []LeaseKey) {
	var holds []*hold
	g.mu.Lock()
	if w.state == workerLeft { // it has left just now
		g.mu.Unlock()
		return nil
	}
	w.enterLocked(workerAbandoning)
	g.crewChanged = true
	for _, h := range g.holds {
		if h.worker == w {
			holds = append(holds, h)
			h.lose(ErrLeaseLost)
		}
	}
	for h := range g.leftBehind {
		if h.worker == w {
			holds = append(holds, h)
		}
	}
	g.mu.Unlock()
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-w.left:
		return nil
	case <-grace.C:
	}
	for _, h := range holds {
		if h.abandon() {
			stuck = append(stuck, h.key)
		}
	}
	slices.SortFunc(stuck, compareKeys)
	g.mu.Lock()
	g.crewChanged = true // the next pass drops the abandoned holds
	g.mu.Unlock()
	g.requestReconcile()
	grace.Reset(stopGrace)
	select {
	case <-w.left:
	case <-grace.C: // the store does not answer, and nobody has to wait for it
	}
	return stuck
}

// endHolds ends the holds that have lost their lease or must give it back.
func (g *group) endHolds(s *survey, now time.Time) {
	var overdue []*hold
	defer func() {
		for _, h := range overdue { // after the mutex is released
			h.log.Error("the processor has not returned in time; its lease is taken away")
		}
	}()
	g.mu.Lock()
	defer g.mu.Unlock()
	for key := range s.touched {
		h := g.holds[key]
		if h == nil {
			continue
		}
		it := s.items[key]
		switch {
		case s.streams[key.Stream] != nil && s.streams[key.Stream].err != nil: // the stream cannot be looked at now
			if h.worker.isLeavingLocked() {
				h.drain(errLeaving)
				h.noteEnding()
			}
		case it == nil || it.lease.Incarnation != h.incarnation:
			h.startEnding(now, h.lose, fmt.Errorf("%w: %q", braid.ErrShardNotFound, key))
		case !h.isOwn(it.lease, it.lease.Version > 0):
			h.startEnding(now, h.lose, ErrLeaseLost)
		case h.worker.isLeavingLocked():
			h.drain(errLeaving) // Run decides how long it may take
			h.noteEnding()
		case it.paused:
			h.startEnding(now, h.drain, errPaused)
		case len(it.waiting) > 0:
			h.startEnding(now, h.drain, errParents)
		case it.lease.NextOwner != "" && !g.ownNames[it.lease.NextOwner]:
			h.startEnding(now, h.drain, errAskedBy)
		}
	}
	for h := range g.withDeadline {
		if now.Before(h.end.deadline) || h.isEnded() {
			continue
		}
		overdue = append(overdue, h)
		h.lose(ErrLeaseLost)
		delete(g.withDeadline, h)
		if g.holds[h.key] == h {
			delete(g.holds, h.key)
			g.leftBehind[h] = true
			s.touched[h.key] = true
		}
	}
}

// startEnding begins the end of a hold, and sets its deadline. Only the group's goroutine
// calls it.
func (h *hold) startEnding(now time.Time, how context.CancelCauseFunc, cause error) {
	how(cause)
	h.noteEnding()
	if h.end.deadline.IsZero() {
		h.end.deadline = now.Add(h.worker.cfg.HandOverTimeout)
		h.group.withDeadline[h] = true
	}
}

// noteEnded is the last act of a hold's goroutine.
func (g *group) noteEnded(h *hold) {
	g.mu.Lock()
	g.endedHolds = append(g.endedHolds, h)
	if g.leftBehind[h] {
		delete(g.leftBehind, h)
		h.worker.held--
	}
	if err := h.stopped(); err != nil && (h.worker.isLeavingLocked() || wake.IsClosed(h.worker.failing)) {
		h.worker.stopped = append(h.worker.stopped, ShardError{h.key, err})
	}
	h.noteEnded()
	g.mu.Unlock()
	g.requestReconcile()
}

// dropEndedLocked removes the holds that have ended, and, if givenUp is true, those that
// were given up. It returns their keys.
func (g *group) dropEndedLocked(givenUp bool) (keys []LeaseKey) {
	drop := func(h *hold) {
		delete(g.withDeadline, h)
		if g.holds[h.key] == h {
			delete(g.holds, h.key)
			h.worker.held--
		}
		keys = append(keys, h.key)
	}
	for _, h := range g.endedHolds {
		drop(h)
	}
	g.endedHolds = nil
	if givenUp {
		for _, h := range g.holds {
			if h.currentState() == holdAbandoned {
				drop(h)
			}
		}
		for h := range g.leftBehind {
			if h.currentState() == holdAbandoned {
				delete(g.leftBehind, h)
				h.worker.held--
			}
		}
	}
	return keys
}

// releaseLeases stores a lease that a worker of this process has given back: without an
// owner, or for the worker that requested it.
func (g *group) releaseLeases(ctx context.Context, s *survey) error {
	var released []Lease
	g.mu.Lock()
	for key := range s.touched {
		it := s.items[key]
		if it == nil || it.taken || !g.ownNames[it.lease.Owner] || g.holds[key] != nil || !g.isReleasableLocked(&it.lease) {
			continue
		}
		lease := it.lease
		lease.Owner = lease.NextOwner
		lease.NextOwner = ""
		if lease.Owner != "" {
			lease.Epoch++
		}
		released = append(released, lease)
	}
	g.mu.Unlock()
	slices.SortFunc(released, func(a, b Lease) int { return compareKeys(a.LeaseKey, b.LeaseKey) })
	for chunk := range slices.Chunk(released, batchLeases) {
		stored, err := g.store(ctx, chunk)
		if err != nil {
			return err
		}
		for i, lease := range chunk {
			if !stored[i] {
				g.noteStale(s)
				continue
			}
			lease.Version++
			g.table.note(lease)
		}
	}
	return nil
}

// isReleasableLocked reports whether a lease that a worker of this process owns and does not
// process is to be given back. In a fleet, the worker keeps the leases that it was assigned
// until the leader asks for them.
func (g *group) isReleasableLocked(lease *Lease) bool {
	if g.fleet != nil && lease.NextOwner != "" {
		return true
	}
	return !lease.Checkpoint.ShardEnd && !g.isAssignedLocked(lease)
}

// dismissWorkers lets workers go that are leaving and have no leases left. It reports
// whether the last one has gone, so that the goroutine ends. After an error, the pass may
// not have stored that leases were given back; then only abandoned workers, which no
// longer wait for that, may go. After a fatal error, all workers fail.
func (g *group) dismissWorkers(failed error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	fatal := isFatal(failed)
	if fatal {
		for key, h := range g.holds {
			h.lose(failed)
			if h.isEnded() { // perhaps by the same error, before this pass saw it
				delete(g.holds, key)
				h.worker.held--
			}
		}
	}
	for id, w := range g.workers {
		if fatal {
			w.fail(failed)
		}
		if w.isLeavingLocked() && w.held == 0 && (failed == nil || fatal || w.state == workerAbandoning) {
			delete(g.workers, id)
			g.crewChanged = true
			w.enterLocked(workerLeft)
			close(w.left)
		}
	}
	g.running = len(g.workers) > 0
	if !g.running {
		g.written.end()
		g.changed.end()
		for _, stop := range g.watching {
			stop()
		}
		clear(g.watching)
	}
	return !g.running
}

// outcome returns the result of Run of a worker that has left: the failure that ended it,
// the shards whose processors hang, and the shards that are stopped.
func (g *group) outcome(w *Worker, failure error, stuck []LeaseKey) error {
	var all []error
	if failure != nil {
		all = append(all, failure)
	}
	if len(stuck) > 0 {
		all = append(all, &HungShardsError{stuck})
	}
	g.mu.Lock()
	stopped := slices.Clone(w.stopped)
	g.mu.Unlock()
	stopped = append(stopped, g.discovery.stopped()...) // all workers of this process have the same streams
	if len(stopped) > 0 {
		slices.SortFunc(stopped, func(a, b ShardError) int { return compareKeys(a.LeaseKey, b.LeaseKey) })
		all = append(all, &StoppedShardsError{stopped})
	}
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...) // nil if there are none
}

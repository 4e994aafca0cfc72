package consumer

import (
	"context"
	"time"

	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/wake"
)

const (
	// storePause is the pause after an error of the lease store.
	storePause = time.Second

	// stopGrace is how long Stop waits for processors whose contexts it has ended.
	stopGrace = 50 * time.Millisecond

	// batchLeases is the maximum number of leases that are stored in one step.
	batchLeases = 1000
)

// run is the group's goroutine. It ends when the last worker has left.
func (g *group) run() {
	g.idle = nil
	timer := time.NewTimer(0)
	defer timer.Stop()
	g.view = nil
	g.table.reset()
	var changed <-chan struct{}
	for {
		was := changed
		changed = g.sourceChanged()           // before the pass, which will then see the change
		if was != nil && wake.IsClosed(was) { // checked after that, so that no change falls in between
			g.discovery.forget(LeaseKey{})
		}
		wait, err := g.reconcileInTime()
		if err != nil && !isFatal(err) {
			g.log().Warn("leases cannot be assigned; retrying", "error", err)
			wait = storePause
		}
		last := g.dismissWorkers(err)
		g.progress.Raise()
		if last {
			return
		}
		timer.Reset(wait)
		if wait == 0 {
			timer.Stop()
		}
		select {
		case <-g.bell.C():
		case <-changed:
		case <-timer.C:
		}
	}
}

// reconcileInTime is reconcile with a time limit, if leases expire: the store may hang.
func (g *group) reconcileInTime() (wait time.Duration, err error) {
	ctx := context.Background()
	if d := g.leases.LeaseDuration(); d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	return g.reconcile(ctx)
}

// reconcile is one pass: it does everything that is due. It returns the time until the
// next pass is due, or 0 for never.
func (g *group) reconcile(ctx context.Context) (wait time.Duration, err error) {
	g.mu.Lock()
	var someone *Worker
	workers := make(map[string]*Worker)
	for id, w := range g.workers {
		someone = w
		g.ownNames[id] = true
		if !w.isLeavingLocked() {
			workers[id] = w
		}
	}
	crew := g.crewChanged
	g.crewChanged = false
	all := crew || g.custom // another source does not announce changes of dead-letter streams
	if crew && !g.custom {
		g.watchStreamsLocked() // before the survey, which will then see the changes
	}
	ended := g.dropEndedLocked(crew)
	g.mu.Unlock()

	g.leaveFleet(ctx)
	before := g.view
	s, err := g.updateSurvey(ctx, someone.cfg.Streams, ended)
	g.view = nil // set again when this pass has succeeded
	if err != nil {
		return 0, err
	}
	if crew {
		g.touchAll(s)
	}
	g.logIdle(s, all || s != before)
	g.steps.Add(int64(len(s.touched)))
	now := time.Now()
	g.observe(s, now)
	g.endHolds(s, now)
	if err := g.assign(ctx, s, workers, now); err != nil {
		return 0, err
	}
	if err := g.releaseLeases(ctx, s); err != nil {
		return 0, err
	}
	if err := g.deleteStaleLeases(ctx, s); err != nil {
		return 0, err
	}
	wait = g.nextReconcile(now)
	if s != before { // a survey that was kept has all its streams
		for name, view := range s.streams {
			if view.err != nil && !g.custom { // for another source, discovery schedules that
				g.noteStreamError(name, view.err)
				wait, s.stale = storePause, true
			}
		}
	}
	if !s.stale {
		clear(s.touched)
		g.view = s
	}
	return wait, nil
}

// sourceChanged returns a channel that is closed when streams of a custom source have
// changed. It is nil for the database, whose streams are watched instead.
func (g *group) sourceChanged() <-chan struct{} {
	g.mu.Lock()
	source, custom := g.source, g.custom
	g.mu.Unlock()
	if !custom {
		return nil
	}
	return source.Changed()
}

// watchStreamsLocked watches the streams that workers name. Changes of other streams cost
// the group nothing.
func (g *group) watchStreamsLocked() {
	watch := func(name string) {
		if name != "" && g.watching[name] == nil {
			g.watching[name] = companion.DBOf(g.db).WatchStream(name, func() {
				g.changed.note([]byte(name))
				g.requestReconcile()
			})
		}
	}
	for _, w := range g.workers {
		for _, name := range w.cfg.Streams {
			watch(name)
		}
		watch(w.cfg.DeadLetterStream)
	}
}

// nextReconcile returns the time until the next pass is due without a request, or 0 for
// never.
func (g *group) nextReconcile(now time.Time) time.Duration {
	wait := g.leases.LeaseDuration() / 3
	if due := g.discovery.next(now); due > 0 && (wait == 0 || due < wait) {
		wait = due
	}
	for h := range g.withDeadline {
		if left := h.end.deadline.Sub(now); !h.isEnded() && (wait == 0 || left < wait) {
			wait = max(left, 1)
		}
	}
	return wait
}

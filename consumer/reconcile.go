package consumer

import (
	"context"
	"time"

	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/wake"
)

const (
	// storePause is the pause after the store of leases has failed.
	storePause = time.Second

	// stopGrace is how long Stop waits for processors whose context has just ended.
	stopGrace = 50 * time.Millisecond

	// batchLeases is how many leases are stored in one step.
	batchLeases = 1000
)

// run is the goroutine. It ends when the last worker has left.
func (g *group) run() {
	g.idle = nil
	timer := time.NewTimer(0)
	defer timer.Stop()
	g.view = nil
	g.table.reset()
	var changed <-chan struct{}
	for {
		was := changed
		changed = g.sourceChanged()           // before the pass, which will see what it tells of
		if was != nil && wake.IsClosed(was) { // after that, so that no change comes in between
			g.discovery.forget(LeaseKey{})
		}
		wait, err := g.reconcileInTime()
		if err != nil && !isFatal(err) {
			g.log().Warn("leases cannot be given out; it is tried again", "error", err)
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

// reconcileInTime is reconcile with a time limit if leases expire, as the store may hang.
func (g *group) reconcileInTime() (wait time.Duration, err error) {
	ctx := context.Background()
	if d := g.leases.LeaseDuration(); d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	return g.reconcile(ctx)
}

// reconcile is one pass: it does everything that is to be done now. It returns the time
// until there is something to do again, 0 for never.
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
	all := crew || g.custom // another source does not tell of dead-letter streams
	if crew && !g.custom {
		g.watchStreamsLocked() // before the survey, which will see what they tell of
	}
	ended := g.dropEndedLocked(crew)
	g.mu.Unlock()

	g.leaveFleet(ctx)
	before := g.view
	s, err := g.updateSurvey(ctx, someone.cfg.Streams, ended)
	g.view = nil // until this pass has done its work
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
	if s != before { // one that is kept knows all its streams
		for name, view := range s.streams {
			if view.err != nil && !g.custom { // of another source, discovery knows when
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

// sourceChanged returns the channel that is closed when streams of a custom source have
// changed. Those of the database are watched.
func (g *group) sourceChanged() <-chan struct{} {
	g.mu.Lock()
	source, custom := g.source, g.custom
	g.mu.Unlock()
	if !custom {
		return nil
	}
	return source.Changed()
}

// watchStreamsLocked watches the streams that workers name. What happens to others costs
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

// nextReconcile returns the time until the next pass if nobody requests one, 0 for never.
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

package consumer

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer/internal/plan"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/wake"
)

// group is the workers of an application that are in this process: those that use
// the leases of a database are all there are, others know of each other by the
// leases alone.
//
// One goroutine gives out leases. It looks at what has changed whenever something
// may have (a worker comes or goes, a hold ends, the streams change, a deadline passes),
// and does what plan.Assign says. A look goes by what there is and not by what it was
// told, so no event can be missed, and what two events lead to does not depend on their
// order.
type group struct {
	app    string
	db     *braid.DB // nil if neither source nor leases are in one
	leases LeaseStore
	wake   chan struct{} // holds a token while there is something to look at

	progress wake.Signal // raised when Status has changed, but for records that came

	mu      sync.Mutex // guards the fields below
	made    int        // workers of New whose Run has not ended
	workers map[string]*Worker
	holds   map[LeaseKey]*hold // changed by the goroutine alone
	left    map[*hold]bool     // taken away, but their goroutine has not ended
	over    []*hold            // whose goroutine has ended since the last look
	running bool               // the goroutine is
	crew    bool               // workers came, went or gave up since the last look
	source  Source             // of the workers
	custom  bool               // it is that of a Config

	// What follows belongs to the goroutine.
	names map[string]bool           // of workers that were ever here
	next  map[LeaseKey]string       // who is to get the lease of a hold that ends
	seen  map[LeaseKey]*observation // of other workers' leases
	idle  map[idleness]bool         // reasons that were logged and still hold; nil before the first look
	view  *survey                   // as the last look has left it; nil if it has to be made anew
	moved bool                      // the streams have changed since the last look
	dated map[*hold]bool            // that have a deadline

	written rowLog
	steps   atomic.Int64 // rows and shards that looks have visited; for tests
}

// observation is when a lease was last seen to change, by the own clock.
type observation struct {
	version   uint64
	changed   time.Time
	nextOwner string
	asked     time.Time // when nextOwner was first seen
}

const (
	// pollInterval is how often a source is asked that cannot tell of changes.
	pollInterval = 10 * time.Second

	// storePause is the pause after the store of leases has failed.
	storePause = time.Second

	// stopGrace is how long Stop waits for processors whose context has just ended.
	stopGrace = 50 * time.Millisecond

	// batchLeases is how many leases are stored in one step.
	batchLeases = 1000
)

// groupOf returns the group of an application: with the leases of a database there
// is one for all its workers.
func groupOf(db *braid.DB, cfg *Config) *group {
	make := func() any {
		g := &group{
			app:     cfg.App,
			db:      db,
			leases:  cfg.Leases,
			wake:    make(chan struct{}, 1),
			workers: make(map[string]*Worker),
			holds:   make(map[LeaseKey]*hold),
			left:    make(map[*hold]bool),
			names:   make(map[string]bool),
			next:    make(map[LeaseKey]string),
			seen:    make(map[LeaseKey]*observation),
			dated:   make(map[*hold]bool),
		}
		g.setSource(cfg.Source)
		if g.leases == nil {
			g.leases = dbLeases{db, cfg.App}
			companion.DBOf(db).WatchLeases(cfg.App, g.written.note)
		}
		return g
	}
	if cfg.Leases != nil {
		return make().(*group)
	}
	return companion.DBOf(db).Attach("consumer/"+cfg.App, make).(*group)
}

// setSource sets where records come from: the database, if given is nil.
func (g *group) setSource(given Source) {
	g.source, g.custom = given, given != nil
	if !g.custom {
		g.source = dbSource{g.db}
	}
}

// expect notes that workers were made, or, with a negative number, that they have
// ended.
func (g *group) expect(n int) {
	g.mu.Lock()
	g.made += n
	g.mu.Unlock()
	g.progress.Raise()
}

// isExpected reports whether a worker may begin with the application.
func (g *group) isExpected() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.made > 0
}

// records returns where records come from. It is the same for as long as there are
// workers.
func (g *group) records() Source {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.source
}

// fix makes braid.Latest a place that is the same in all shards, so that no record that
// is put while one after the other is looked at is left out. Only the database can; in
// another source Latest is where each shard ends when it is looked at.
func (g *group) fix(p braid.Position) braid.Position {
	if source, ok := g.records().(interface{ latest() braid.Position }); ok && p.Equal(braid.Latest()) {
		return source.latest()
	}
	return p
}

// begin makes the application, or checks that it is what the config says.
func (g *group) begin(ctx context.Context, cfg *Config) error {
	for {
		lease, found, err := g.leases.Get(ctx, LeaseKey{})
		if err != nil {
			return err
		}
		if found {
			if was := lease.Checkpoint.Start; !was.Equal(cfg.Start) {
				return &braid.InvalidArgumentError{Field: "Start", Value: cfg.Start, Rule: fmt.Sprintf("must be that of the application, %s; App.Seek moves it", was)}
			}
			return nil
		}
		stored, err := g.leases.CompareAndSet(ctx, Lease{Checkpoint: Checkpoint{Start: cfg.Start}})
		if err != nil || stored {
			return err
		}
	}
}

// join adds a worker, and starts the goroutine for the first one.
func (g *group) join(w *Worker) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.workers[w.cfg.WorkerID] != nil {
		return &braid.InvalidArgumentError{Field: "WorkerID", Value: fmt.Sprintf("%.140q", w.cfg.WorkerID), Rule: "must not be that of another worker that runs"}
	}
	for _, other := range g.workers {
		if !sameStreams(other.cfg.Streams, w.cfg.Streams) {
			return &braid.InvalidArgumentError{Field: "Streams", Value: fmt.Sprintf("%q", w.cfg.Streams), Rule: fmt.Sprintf("must be those of the application's other workers, %q", other.cfg.Streams)}
		}
	}
	switch {
	case len(g.workers) == 0:
		g.setSource(w.cfg.Source)
	case g.custom != (w.cfg.Source != nil):
		return &braid.InvalidArgumentError{Field: "Source", Value: fmt.Sprintf("%T", w.cfg.Source), Rule: "must be that of the application's other workers"}
	}
	g.workers[w.cfg.WorkerID], g.crew = w, true
	if !g.running {
		g.running = true
		g.written.begin()
		go g.run() // the last worker to leave waits for it
	}
	g.kick()
	return nil
}

func sameStreams(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// leave has the leases of a worker given back. Its left is closed when they are.
func (g *group) leave(w *Worker) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.leaving, g.crew = true, true
	g.kick()
}

// giveUp ends the contexts of a worker's processors, and leaves those behind that do
// not return then.
func (g *group) giveUp(w *Worker) (stuck []LeaseKey) {
	var holds []*hold
	g.mu.Lock()
	w.gaveUp, g.crew = true, true
	for _, h := range g.holds {
		if h.worker == w {
			holds = append(holds, h)
			h.lose(ErrLeaseLost)
		}
	}
	for h := range g.left {
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
		select {
		case <-h.ended:
		default:
			h.mu.Lock()
			h.silent = true
			h.mu.Unlock()
			stuck = append(stuck, h.key)
		}
	}
	slices.SortFunc(stuck, compareKeys)
	g.mu.Lock()
	g.crew = true // those that are silent now are given up
	g.mu.Unlock()
	g.kick()
	grace.Reset(stopGrace)
	select {
	case <-w.left:
	case <-grace.C: // the store does not answer; nobody needs it to
	}
	return stuck
}

// kick has the goroutine look again.
func (g *group) kick() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// noteEnded is the last act of a hold's goroutine.
func (g *group) noteEnded(h *hold) {
	g.mu.Lock()
	g.over = append(g.over, h)
	if g.left[h] {
		delete(g.left, h)
		h.worker.held--
	}
	if err := h.stopped(); err != nil && (h.worker.leaving || isClosed(h.worker.failing)) {
		h.worker.stopped = append(h.worker.stopped, ShardError{h.key, err})
	}
	g.mu.Unlock()
	close(h.ended)
	g.kick()
}

// run is the goroutine. It ends when the last worker has left.
func (g *group) run() {
	g.idle = nil
	timer := time.NewTimer(0)
	defer timer.Stop()
	g.view = nil
	var changed <-chan struct{}
	for {
		was := changed
		changed = g.records().Changed()  // before the look, which will see what it tells of
		if was != nil && isClosed(was) { // after that, so that no change comes in between
			g.moved = true
		}
		wait, err := g.lookOnce()
		if err != nil && !isFatal(err) {
			g.log().Warn("leases cannot be given out; it is tried again", "error", err)
			wait = storePause
		}
		last := g.dismiss(err)
		g.progress.Raise()
		if last {
			return
		}
		timer.Reset(wait)
		if wait == 0 {
			timer.Stop()
		}
		select {
		case <-g.wake:
		case <-changed:
		case <-timer.C:
		}
	}
}

// log returns the logger of one of the workers, for what concerns all of them. There
// is one for as long as the goroutine runs. No mutex is held while it is used: its
// handler is the program's own code, which may call back.
func (g *group) log() *slog.Logger {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range g.workers {
		return w.cfg.Logger.With("app", g.app)
	}
	return slog.New(slog.DiscardHandler)
}

// lookOnce is look with a bound for stores that may hang: one whose leases expire.
func (g *group) lookOnce() (wait time.Duration, err error) {
	ctx := context.Background()
	if d := g.leases.LeaseDuration(); d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	return g.look(ctx)
}

// dismiss tells workers that have left, and have nothing any more, that they may go.
// It reports whether that was the last one, and the goroutine is to end. After an
// error of the look, which may not have stored that leases were given back, only
// those go that do not wait for it any more; and if nothing will ever work again, all
// are told to end.
func (g *group) dismiss(failed error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	fatal := isFatal(failed)
	if fatal {
		for key, h := range g.holds {
			h.lose(failed)
			if h.isEnded() { // maybe by the same error, before it was seen here
				delete(g.holds, key)
				h.worker.held--
			}
		}
	}
	for id, w := range g.workers {
		if fatal {
			w.fail(failed)
		}
		if w.leaving && w.held == 0 && (failed == nil || fatal || w.gaveUp) {
			delete(g.workers, id)
			g.crew = true
			close(w.left)
		}
	}
	g.running = len(g.workers) > 0
	if !g.running {
		g.written.end()
	}
	return !g.running
}

func (h *hold) isSilent() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.silent
}

// look does everything that is to be done now. It returns after which time there
// will be something to do, 0 for never.
func (g *group) look(ctx context.Context) (wait time.Duration, err error) {
	g.mu.Lock()
	var any *Worker
	workers := make(map[string]*Worker)
	for id, w := range g.workers {
		any = w
		g.names[id] = true
		if !w.leaving {
			workers[id] = w
		}
	}
	crew := g.crew
	g.crew = false
	all := crew || g.moved || g.custom // another source does not tell of dead-letter streams
	ended := g.dropOverLocked(crew)
	g.mu.Unlock()

	before := g.view
	s, err := g.update(ctx, any.cfg.Streams, ended)
	g.view = nil // until this look has done its work
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
	if err := g.release(ctx, s); err != nil {
		return 0, err
	}
	if err := g.forget(ctx, s); err != nil {
		return 0, err
	}
	wait = g.nextLook(now)
	for name, view := range s.streams {
		if view.err != nil {
			g.log().Warn("a stream cannot be looked at; it is tried again", "stream", name, "error", view.err)
			wait, s.stale = storePause, true
		}
	}
	if !s.stale {
		clear(s.touched)
		g.view = s
	}
	return wait, nil
}

// dropOverLocked takes out the holds that have ended, and those that were given up, if
// that may be. It returns what they were of.
func (g *group) dropOverLocked(givenUp bool) (keys []LeaseKey) {
	drop := func(h *hold) {
		delete(g.dated, h)
		if g.holds[h.key] == h {
			delete(g.holds, h.key)
			h.worker.held--
		}
		keys = append(keys, h.key)
	}
	for _, h := range g.over {
		drop(h)
	}
	g.over = nil
	if givenUp {
		for _, h := range g.holds {
			if h.isSilent() {
				drop(h)
			}
		}
		for h := range g.left {
			if h.isSilent() {
				delete(g.left, h)
				h.worker.held--
			}
		}
	}
	return keys
}

func (h *hold) hasFailed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

// observe notes when leases of other workers were last seen to change.
func (g *group) observe(s *survey, now time.Time) {
	if g.leases.LeaseDuration() == 0 {
		return
	}
	for key := range g.seen {
		if s.rows[key] == nil {
			delete(g.seen, key)
		}
	}
	for key, lease := range s.rows {
		o := g.seen[key]
		if o == nil {
			o = &observation{}
			g.seen[key] = o
		}
		if o.version != lease.Version {
			o.version, o.changed = lease.Version, now
		}
		if o.nextOwner != lease.NextOwner {
			o.nextOwner, o.asked = lease.NextOwner, now
		}
	}
}

// isFree reports whether nobody has a lease for which there is no hold. The deadline
// of a request is the owner's timeout and the time it may not have heard of it.
func (g *group) isFree(lease *Lease, timeout time.Duration, now time.Time) bool {
	duration := g.leases.LeaseDuration()
	if duration == 0 || lease.Owner == "" || g.names[lease.Owner] {
		return true
	}
	o := g.seen[lease.LeaseKey]
	return now.Sub(o.changed) >= duration || g.names[o.nextOwner] && now.Sub(o.asked) >= timeout+duration
}

// endHolds ends those that have lost their lease or are to give it back.
func (g *group) endHolds(s *survey, now time.Time) {
	var overdue []*hold
	defer func() {
		for _, h := range overdue { // when the mutex is free again
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
		case s.streams[key.Stream] != nil && s.streams[key.Stream].err != nil: // nothing is known of it now
		case it == nil || it.lease.Incarnation != h.incarnation:
			h.end(now, h.lose, fmt.Errorf("%w: %q", braid.ErrShardNotFound, key))
		case !h.isOwn(it.lease, it.lease.Version > 0):
			h.end(now, h.lose, ErrLeaseLost)
		case h.worker.leaving:
			h.ending = true
			h.drain(errLeaving) // until when, Run decides
		case it.paused:
			h.end(now, h.drain, errPaused)
		case len(it.waiting) > 0:
			h.end(now, h.drain, errParents)
		case it.lease.NextOwner != "" && !g.names[it.lease.NextOwner]:
			h.end(now, h.drain, errAskedBy)
		}
	}
	for h := range g.dated {
		if now.Before(h.deadline) || h.isEnded() {
			continue
		}
		overdue = append(overdue, h)
		h.lose(ErrLeaseLost)
		delete(g.dated, h)
		if g.holds[h.key] == h {
			delete(g.holds, h.key)
			g.left[h] = true
			s.touched[h.key] = true
		}
	}
}

// end begins the end of a hold, and sets its deadline. The group's goroutine calls
// it.
func (h *hold) end(now time.Time, how context.CancelCauseFunc, cause error) {
	how(cause)
	h.ending = true
	if h.deadline.IsZero() {
		h.deadline = now.Add(h.worker.cfg.HandOverTimeout)
		h.group.dated[h] = true
	}
}

func (h *hold) isEnded() bool {
	select {
	case <-h.ended:
		return true
	default:
		return false
	}
}

// assign gives out what is free, and has leases handed over for balance.
func (g *group) assign(ctx context.Context, s *survey, workers map[string]*Worker, now time.Time) error {
	var timeout time.Duration
	for _, w := range workers {
		timeout = w.cfg.HandOverTimeout
	}
	g.mu.Lock()
	for key := range s.touched {
		if it := s.items[key]; it != nil {
			it.taker, it.taken = nil, false
			s.stand(it, g.standingLocked(it, timeout, now))
		}
	}
	g.mu.Unlock()
	if len(workers) == 0 {
		return nil
	}
	all := make([]plan.Worker, 0, len(workers))
	for id := range workers {
		all = append(all, plan.Worker{Name: id, Local: true, Has: s.counts[id]})
	}
	for id, count := range s.counts {
		if id != "" && !g.names[id] { // another worker, which lives
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
			if s.stand(it, g.standingLocked(it, timeout, now)); it.standing != nil {
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
			it.taker = workers[move.To]
			taken = append(taken, it)
		} else if err := g.askFor(ctx, it, move.To, now); err != nil {
			return err
		}
	}
	if err := g.take(ctx, s, taken); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, move := range moves {
		s.stand(items[move.Lease], g.standingLocked(items[move.Lease], timeout, now))
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

// standingLocked returns how plan sees an item, nil if there is nothing to be done in it.
func (g *group) standingLocked(it *item, timeout time.Duration, now time.Time) *plan.Lease {
	key := it.lease.LeaseKey
	h, next := g.holds[key], g.next[key]
	if it.lease.Checkpoint.ShardEnd || len(it.waiting) > 0 || it.paused && h == nil {
		return nil
	}
	l := &plan.Lease{Owner: it.lease.Owner}
	switch {
	case it.lease.NextOwner != "" && !g.names[it.lease.NextOwner] && (h != nil || g.names[it.lease.Owner]):
		l.Owner, l.Moving = it.lease.NextOwner, true // release hands it over when the hold has ended
	case h != nil && (h.ending || h.isEnded()):
		l.Owner, l.Moving = next, true
	case h != nil:
		l.Owner, l.Moving = h.worker.cfg.WorkerID, h.hasFailed() // that stays where it is
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

// askFor has a lease handed over to a worker here: by its hold, or by a worker
// elsewhere.
func (g *group) askFor(ctx context.Context, it *item, to string, now time.Time) error {
	g.mu.Lock()
	h := g.holds[it.lease.LeaseKey]
	g.mu.Unlock()
	if h != nil {
		h.end(now, h.drain, errAskedBy)
		g.next[it.lease.LeaseKey] = to
		return nil
	}
	next := it.lease
	next.NextOwner = to
	_, err := g.leases.CompareAndSet(ctx, next) // if it has changed, the next look tells
	return err
}

// take makes workers the owners of leases that are free, under a new epoch, and
// starts their holds.
func (g *group) take(ctx context.Context, s *survey, items []*item) error {
	for chunk := range slices.Chunk(items, batchLeases) {
		leases, from := make([]Lease, len(chunk)), make([]string, len(chunk))
		for i, it := range chunk {
			leases[i], from[i] = it.lease, it.lease.Owner
			leases[i].Owner, leases[i].NextOwner = it.taker.cfg.WorkerID, ""
			leases[i].Epoch++
		}
		stored, err := g.store(ctx, leases)
		for i, it := range chunk {
			if !stored[i] {
				g.kick() // somebody was faster
				s.stale = true
				continue
			}
			it.lease = leases[i]
			it.lease.Version++
			it.taken = true
			delete(g.next, it.lease.LeaseKey)
			h := newHold(it.taker, it.lease, it.shard, it.lost)
			h.from = from[i]
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

// store writes leases, in one step if the store can. It reports which were stored,
// also with an error.
func (g *group) store(ctx context.Context, leases []Lease) (stored []bool, err error) {
	stored = make([]bool, len(leases))
	if batch, can := g.leases.(batchStore); can && len(leases) > 1 {
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

// release stores that nobody has the leases which workers here have given back, or
// that those have them who asked for them.
func (g *group) release(ctx context.Context, s *survey) error {
	var released []Lease
	g.mu.Lock()
	for key := range s.touched {
		it := s.items[key]
		if it == nil || it.taken || it.lease.Checkpoint.ShardEnd || !g.names[it.lease.Owner] || g.holds[key] != nil {
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
		s.stale = s.stale || slices.Contains(stored, false)
	}
	return nil
}

// nextLook returns after which time to look again without being told to.
func (g *group) nextLook(now time.Time) time.Duration {
	wait := g.leases.LeaseDuration() / 3
	if g.records().Changed() == nil && wait == 0 {
		wait = pollInterval
	}
	for h := range g.dated {
		if left := h.deadline.Sub(now); !h.isEnded() && (wait == 0 || left < wait) {
			wait = max(left, 1)
		}
	}
	return wait
}

// forget removes the leases of shards and streams that are not there any more. That of
// a parent stays until its children have begun, who tell whether it was done.
func (g *group) forget(ctx context.Context, s *survey) error {
	for key := range s.touched {
		row, view := s.rows[key], s.streams[key.Stream]
		if row == nil || key.Shard == "" || view == nil || view.err != nil || s.items[key] != nil || s.isNeeded(row) {
			continue
		}
		g.mu.Lock()
		held := g.holds[key] != nil
		g.mu.Unlock()
		if held {
			continue
		}
		deleted, err := g.leases.Delete(ctx, *row)
		if err != nil {
			return err
		}
		if deleted {
			delete(s.rows, key)
		} else {
			s.stale = true
		}
	}
	return nil
}

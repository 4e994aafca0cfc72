package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/layout"
)

// App is an application: its stored state, and its workers in this process. It comes from
// [OpenApp] or [Worker.App]. It can be inspected and controlled even when no worker runs.
// Its methods may be called from any number of goroutines.
//
// Changes are durable when the method returns, and running workers follow them at once.
type App struct{ group *group }

// OpenApp returns the application of that name, whose leases are in the database. It
// stores nothing: an application is created by its first worker. Errors:
// braid.ErrInvalidArgument for the name.
func OpenApp(db *braid.DB, app string) (*App, error) {
	if db == nil {
		return nil, &braid.InvalidArgumentError{Field: "db", Rule: "must not be nil"}
	}
	if rule := nameRule(app); rule != "" {
		return nil, &braid.InvalidArgumentError{Field: "app", Value: fmt.Sprintf("%.140q", app), Rule: rule}
	}
	return &App{groupOf(db, &Config{App: app})}, nil
}

// OpenRemoteApp is [OpenApp] for an application whose leases are in another store. Its
// workers follow changes when they next renew or list their leases, within a
// LeaseDuration. db may be nil if a source is given; a nil source means the database.
// Errors: braid.ErrInvalidArgument.
func OpenRemoteApp(db *braid.DB, app string, source Source, leases LeaseStore) (*App, error) {
	invalid := func(field string, value any, rule string) (*App, error) {
		return nil, &braid.InvalidArgumentError{Field: field, Value: value, Rule: rule}
	}
	switch {
	case db == nil && source == nil:
		return invalid("db", nil, "must not be nil unless a source is given")
	case nameRule(app) != "":
		return invalid("app", fmt.Sprintf("%.140q", app), nameRule(app))
	case leases == nil:
		return invalid("leases", nil, "must not be nil; OpenApp is for leases in the database")
	case leases.LeaseDuration() <= 0:
		return invalid("leases.LeaseDuration", leases.LeaseDuration(), "must be positive: leases that are not in the database must expire")
	}
	return &App{groupOf(db, &Config{App: app, Source: source, Leases: leases})}, nil
}

// Apps returns the sorted names of the applications that have leases in the database: all
// that have ever run a worker on it and were not deleted. Each can be opened with
// [OpenApp]. The cost grows with the number of applications, not with the number of
// leases. Errors: those of the database, and the cause of ctx.
func Apps(ctx context.Context, db *braid.DB) (apps []string, err error) {
	if db == nil {
		return nil, &braid.InvalidArgumentError{Field: "db", Rule: "must not be nil"}
	}
	err = db.View(ctx, func(tx *braid.Tx) error {
		apps = nil
		next, end := layout.LeaseSpan()
		for {
			row, found, err := companion.TxOf(tx).First(next, end)
			if err != nil || !found {
				return err
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			app, _, _, err := layout.DecodeLeaseKey(row.Key)
			if err != nil {
				return companion.Corrupt(err)
			}
			apps = append(apps, app)
			_, next = layout.AppLeasesSpan(app)
		}
	})
	if err != nil {
		return nil, err
	}
	return apps, nil
}

// Name returns the name of the application.
func (a *App) Name() string { return a.group.app }

// Metrics returns the counts of the workers that run in this process, by WorkerID. They
// are those of [Worker.Metrics].
func (a *App) Metrics() map[string]Metrics {
	g := a.group
	g.mu.Lock()
	workers := maps.Clone(g.workers)
	g.mu.Unlock()
	metrics := make(map[string]Metrics, len(workers))
	for id, w := range workers {
		metrics[id] = w.Metrics()
	}
	return metrics
}

// survey looks at all streams that the application has seen. Workers leave out a stream
// that cannot be looked at now; a caller of survey gets the error.
func (a *App) survey(ctx context.Context) (*survey, error) {
	s, err := a.look(ctx)
	if err != nil {
		return nil, err
	}
	for name, view := range s.streams {
		if view.err != nil {
			return nil, streamError(name, view.err)
		}
	}
	return s, nil
}

// look is survey, but leaves out streams that cannot be looked at.
func (a *App) look(ctx context.Context) (*survey, error) {
	s, err := a.group.survey(ctx, nil)
	if err != nil {
		return nil, err
	}
	if len(s.rows) == 0 {
		return nil, fmt.Errorf("%w: %q", ErrAppNotFound, a.group.app)
	}
	a.group.steps.Add(int64(len(s.rows) + len(s.items)))
	return s, nil
}

func streamError(name string, err error) error { return fmt.Errorf("%q: %w", name, err) }

// surveyOf is survey limited to the key: a shard and its parents, or one stream, and the
// leases of the levels above it. If they are not stored, it is a whole survey.
func (a *App) surveyOf(ctx context.Context, key LeaseKey) (s *survey, err error) {
	switch {
	case key.Shard != "":
		s, err = a.group.surveyShard(ctx, key)
	case key.Stream != "":
		s, err = a.group.surveyStream(ctx, key.Stream)
	}
	if s != nil || err != nil {
		return s, err
	}
	return a.survey(ctx)
}

// rowOf is surveyOf for callers that change only a lease. The lease of a stream or of the
// application needs no look at any shard.
func (a *App) rowOf(ctx context.Context, key LeaseKey) (*survey, error) {
	if key.Shard != "" {
		return a.surveyOf(ctx, key)
	}
	rows, err := a.group.getLeases(ctx, []LeaseKey{key})
	if err != nil {
		return nil, err
	}
	if rows[0] == nil {
		return a.survey(ctx)
	}
	a.group.steps.Add(1)
	s := newSurvey()
	s.rows[key] = rows[0]
	return s, nil
}

// Seek moves the checkpoint to a position, forward or back: that of a shard, of all
// shards of a stream (with an empty Shard), or of all streams (with an empty Stream,
// too). A sequence number is a place in one shard, and is allowed only for one. Workers
// lose the leases concerned in the same commit, so nothing that they do afterwards
// counts, and begin again at the position. If a shard is no longer done after the move,
// its children wait for it. Records that retention has removed before the position are not a
// gap: [Config].OnGap is not called for them, even if it has refused the gap before.
//
// With leases in the database, or in another [BatchLeaseStore], all shards move in one
// commit. In any other store they move one after the other, each in its own commit. After
// an error or a crash in between, only some have moved; repeating the Seek moves them
// all.
//
// Streams that the application has not seen yet still begin at its Start.
//
// Errors: braid.ErrInvalidArgument; [ErrAppNotFound] if nothing is stored of the
// application; braid.ErrStreamNotFound and braid.ErrShardNotFound for a stream or shard
// that it has not seen; those of the store and the source.
func (a *App) Seek(ctx context.Context, key LeaseKey, to braid.Position) error {
	if key.Shard == "" && !isStart(to) {
		return &braid.InvalidArgumentError{Field: "to", Value: to, Rule: "must be TRIM_HORIZON, LATEST or AT_TIMESTAMP for more than one shard"}
	}
	to = a.group.pinLatest(to)
	for {
		s, err := a.surveyOf(ctx, key)
		if err != nil {
			return err
		}
		if err := a.group.storeAncestors(ctx, s, key); err != nil {
			return err
		}
		sought, err := a.seek(ctx, s, key, to)
		if err != nil {
			return err
		}
		done, err := a.set(ctx, key, s, sought, func(lease, now *Lease) {
			lease.Version, lease.Epoch, lease.Paused = now.Version, now.Epoch+1, now.Paused
		})
		if done {
			a.group.loseOutdated(sought)
		}
		if done || err != nil {
			return err
		}
	}
}

// seek returns the leases that a key covers, moved to a position.
func (a *App) seek(ctx context.Context, s *survey, key LeaseKey, to braid.Position) (sought []Lease, err error) {
	var shards []ShardInfo
	for _, it := range s.sorted() {
		if !key.covers(it.lease.LeaseKey) {
			continue
		}
		lease := it.lease
		lease.Epoch++
		lease.Owner, lease.NextOwner, lease.Pending, lease.PendingState = "", "", nil, nil
		lease.acceptGap("")
		sought, shards = append(sought, lease), append(shards, it.shard)
	}
	for from := 0; from < len(sought); { // stream by stream
		stream, end := sought[from].Stream, from
		for end < len(sought) && sought[end].Stream == stream {
			end++
		}
		err := a.group.resolve(ctx, sought[from:end], shards[from:end], to, func(parent braid.ShardID) bool {
			parentKey := LeaseKey{stream, parent}
			it := s.items[parentKey]
			return it == nil || key.covers(parentKey) || it.lease.Checkpoint.ShardEnd
		})
		if err != nil {
			return nil, err
		}
		from = end
	}
	return sought, nil
}

// Pause stops processing of a shard, of a stream (with an empty Shard), or of the whole
// application (with an empty key) until Resume, even across restarts. Current batches are
// finished, as when a lease is handed over. Errors: as Seek.
func (a *App) Pause(ctx context.Context, key LeaseKey) error { return a.pause(ctx, key, true) }

// Resume ends a Pause of the same key. A shard continues when neither it nor its stream nor the
// application is paused. A shard that an error has stopped is retried: at once if its worker is in
// this process, otherwise when that worker next renews the lease, within a third of LeaseDuration.
// The workers of this process also look again at a stream that a [PermanentError] has stopped.
// Errors: as Seek.
func (a *App) Resume(ctx context.Context, key LeaseKey) error {
	again := a.group.discovery.forget(key)
	a.group.requestReconcile()
	err := a.pause(ctx, key, false)
	if again && errors.Is(err, braid.ErrStreamNotFound) {
		return nil // it was stopped before the application had seen it
	}
	if err != nil {
		return err
	}
	a.group.resumeFailed(key)
	return a.group.resumeElsewhere(ctx, key)
}

func (a *App) pause(ctx context.Context, key LeaseKey, paused bool) error {
	for {
		s, err := a.rowOf(ctx, key)
		if err != nil {
			return err
		}
		var changed []Lease
		if it := s.items[key]; it != nil {
			changed = []Lease{it.lease}
		} else if row := s.rows[key]; row != nil && key.Shard == "" {
			changed = []Lease{*row}
		}
		if len(changed) > 0 {
			if changed[0].Paused == paused {
				return nil
			}
			changed[0].Paused = paused
			if err := a.group.storeAncestors(ctx, s, key); err != nil {
				return err
			}
		}
		done, err := a.set(ctx, key, s, changed, func(lease, now *Lease) {
			*lease = *now
			lease.Paused = paused
		})
		if done || err != nil {
			return err
		}
	}
}

// set stores leases that were made from a survey. If a lease was written since, renew
// makes it anew from the stored one and set tries again, so that workers that write often
// cannot keep it from ending. done is false if a lease was removed or belongs to another
// stream or shard by now: the caller makes a new survey.
func (a *App) set(ctx context.Context, key LeaseKey, s *survey, leases []Lease, renew func(lease, now *Lease)) (done bool, err error) {
	if len(leases) == 0 {
		if key.Shard != "" && s.streams[key.Stream] != nil {
			return false, fmt.Errorf("%w: %q", braid.ErrShardNotFound, key)
		}
		return false, fmt.Errorf("%w: the application %q has not seen %q", braid.ErrStreamNotFound, a.group.app, key)
	}
	defer a.group.progress.Raise() // for callers that wait although no worker runs
	defer a.group.requestReconcile()
	defer a.group.table.outdate()
	for {
		n, err := a.group.storeInOrder(ctx, leases)
		if leases = leases[n:]; len(leases) == 0 || err != nil {
			return err == nil, err
		}
		keys := make([]LeaseKey, len(leases))
		for i := range leases {
			keys[i] = leases[i].LeaseKey
		}
		rows, err := a.group.getLeases(ctx, keys)
		if err != nil {
			return false, err
		}
		for i := range leases {
			lease := &leases[i]
			switch row := rows[i]; {
			case row == nil && lease.Version > 0 || row != nil && !row.isOf(lease.Incarnation):
				return false, nil
			case row != nil && row.Version != lease.Version:
				renew(lease, row)
			}
		}
	}
}

// storeAncestors stores the leases that a shard's ancestors lack, before a lease of the shard
// is stored although the shard cannot begin. Otherwise, once the ancestors have expired, the
// lease would show that they were done. Ancestors that are done need no lease.
func (g *group) storeAncestors(ctx context.Context, s *survey, key LeaseKey) error {
	if s.items[key] == nil || s.isStored(key) {
		return nil
	}
	waiting := map[braid.ShardID]bool{key.Shard: true}
	var leases []Lease
	for _, shard := range slices.Backward(s.streams[key.Stream].info.Shards) { // children before parents
		if !waiting[shard.ID] {
			continue
		}
		for _, id := range s.items[LeaseKey{key.Stream, shard.ID}].waiting {
			parent := s.items[LeaseKey{key.Stream, id}]
			if !waiting[id] && !s.isStored(parent.lease.LeaseKey) {
				waiting[id] = true
				lease := parent.lease
				g.describeLease(&lease, &parent.shard)
				leases = append(leases, lease)
			}
		}
	}
	slices.Reverse(leases) // those of parents before those of children, should only some be stored
	for chunk := range slices.Chunk(leases, batchLeases) {
		if _, err := g.store(ctx, chunk); err != nil { // one that is not stored exists by now
			return err
		}
	}
	return nil
}

// covers reports whether the key equals or contains another key.
func (k LeaseKey) covers(other LeaseKey) bool {
	return k == (LeaseKey{}) || k.Stream == other.Stream && (k.Shard == "" || k.Shard == other.Shard)
}

// loseOutdated ends the holds in this process whose leases have an earlier epoch. They
// would find out at their next write; this is sooner.
func (g *group) loseOutdated(leases []Lease) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, lease := range leases {
		if h := g.holds[lease.LeaseKey]; h != nil && h.epoch < lease.Epoch {
			h.lose(ErrLeaseLost)
		}
	}
}

// resumeFailed makes shards that an error has stopped continue.
func (g *group) resumeFailed(key LeaseKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if key.Shard != "" {
		if h := g.holds[key]; h != nil && h.hasFailed() {
			h.drain(errResumed) // a failed hold waits for that
		}
		return
	}
	for held, h := range g.holds {
		if key.covers(held) && h.hasFailed() {
			h.drain(errResumed)
		}
	}
}

// resumeElsewhere writes the leases of workers in other processes back unchanged. The
// owner notices the write, and takes it as a Resume if the shard is stopped.
func (g *group) resumeElsewhere(ctx context.Context, key LeaseKey) error {
	if g.leases.LeaseDuration() == 0 {
		return nil // all workers are in this process
	}
	leases, err := g.leasesUnder(ctx, key)
	if err != nil {
		return err
	}
	for _, lease := range leases {
		g.mu.Lock()
		here := g.holds[lease.LeaseKey] != nil
		g.mu.Unlock()
		if here || lease.Owner == "" || lease.Checkpoint.ShardEnd || !key.covers(lease.LeaseKey) {
			continue
		}
		for epoch := lease.Epoch; lease.Epoch == epoch; { // until it is stored, or the shard has begun anew
			stored, err := g.leases.CompareAndSet(ctx, lease)
			if err != nil {
				return err
			}
			if stored {
				break
			}
			if lease, _, err = g.leases.Get(ctx, lease.LeaseKey); err != nil {
				return err
			}
		}
	}
	return nil
}

// leasesUnder returns the lease of a shard, or, for any other key, all leases.
func (g *group) leasesUnder(ctx context.Context, key LeaseKey) ([]Lease, error) {
	if key.Shard == "" {
		return g.leases.List(ctx)
	}
	lease, found, err := g.leases.Get(ctx, key)
	if err != nil || !found {
		return nil, err
	}
	return []Lease{lease}, nil
}

// Delete removes everything that is stored of the application; a later worker under its
// name begins anew. It is not one step: after an error or a crash, call Delete again
// before a worker runs. Errors: braid.ErrInvalidArgument while one of its workers runs in
// this process; [ErrAppNotFound] if nothing is stored; those of the store.
func (a *App) Delete(ctx context.Context) error {
	g := a.group
	g.mu.Lock()
	running := len(g.workers)
	g.mu.Unlock()
	if running > 0 {
		return &braid.InvalidArgumentError{Field: "App", Value: g.app, Rule: fmt.Sprintf("must have no running workers; %d run", running)}
	}
	leases, err := g.leases.List(ctx)
	if err != nil {
		return err
	}
	if len(leases) == 0 {
		return fmt.Errorf("%w: %q", ErrAppNotFound, g.app)
	}
	defer g.progress.Raise()
	for _, lease := range leases {
		if _, err := g.leases.Delete(ctx, lease); err != nil {
			return err
		}
	}
	return nil
}

package consumer

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/wake"
)

// hold is a worker's hold of a lease, from the moment it is taken until all of its goroutines
// have ended. Its own goroutine is run, in run.go. The group ends it.
//
// Any goroutine may use a hold: its own, those of lanes and of the committer, the one
// that renews the lease, those of the processor through a Checkpointer, and the group's.
// State that only one of them may touch has its own type: [walk] for the hold's
// goroutine, and [holdEnd] for the group's.
//
// Invariant: a hold writes only under its epoch. If the stored lease has another epoch,
// nothing is written, and the hold is lost.
type hold struct {
	worker *Worker
	group  *group
	key    LeaseKey
	shard  ShardInfo
	epoch  uint64

	incarnation uint64 // of the stream
	from        string // the previous owner, empty for none
	log         *slog.Logger

	ctx     context.Context // ends with the lease, with the cause
	lose    context.CancelCauseFunc
	reading context.Context // ends with ctx, and when no more is to be read; has the cause
	drain   context.CancelCauseFunc

	turn    chan struct{} // holds a token while a goroutine writes the lease
	unsure  bool          // the outcome of the last write is unknown; only the holder of the turn may use it
	stored  wake.Signal   // raised when the lease was written
	moved   wake.Bell     // rings when there is something to checkpoint
	tracker *tracker      // records that are not done in order; nil if records are done in order

	children []braid.ShardID // children that the last page named; used by the hold's goroutine only
	given    atomic.Int64    // bytes given to the processor since the last renewal

	mu        sync.Mutex // guards the fields below
	lease     Lease      // as stored
	written   time.Time  // when the last write of the lease began
	delivered Checkpoint // the last record that was given to the processor
	processed Checkpoint // everything up to here is done
	retries   []*retry   // current retries, the oldest first; empty if all is well
	failure   error      // what stopped the shard, nil if nothing has
	state     holdState
	calls     []*Call   // calls that have not returned, the oldest first
	waits     ShardWait // what the hold's goroutine waits for between calls
	storing   int       // number of checkpoints being stored

	end holdEnd // used by the group's goroutine only
}

// holdEnd is the part of a hold that only the group's goroutine uses.
type holdEnd struct {
	deadline time.Time // when the hold must have ended; zero for no deadline
}

// retry is something that a goroutine of a hold retries. From the first failure until it
// has succeeded it is in the hold's list, and guarded by the hold's mu.
type retry struct {
	attempt int // the last attempt that failed
	err     error
}

func newHold(w *Worker, lease Lease, from string, shard ShardInfo) *hold {
	h := &hold{
		worker: w,
		group:  w.group,
		key:    lease.LeaseKey,
		shard:  shard,
		epoch:  lease.Epoch,

		incarnation: lease.Incarnation,
		from:        from,
		log:         w.cfg.Logger.With("app", w.cfg.App, "worker", w.cfg.WorkerID, "stream", lease.Stream, "shard", lease.Shard, "epoch", lease.Epoch),
		turn:        make(chan struct{}, 1),
		moved:       wake.NewBell(),
		lease:       lease,
		written:     time.Now(),
		delivered:   lease.Checkpoint,
		processed:   lease.Checkpoint,
		waits:       WaitSource,
	}
	h.ctx, h.lose = context.WithCancelCause(context.Background())
	h.reading, h.drain = context.WithCancelCause(h.ctx)
	if w.cfg.Lanes > 1 || w.cfg.Checkpoints == Acks {
		h.tracker = newTracker(w.budget, h.moved, w.cfg.Lanes, lease.Checkpoint)
	}
	return h
}

// current returns the lease as last known.
func (h *hold) current() Lease {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lease
}

// noteLost ends the hold after a write has shown that the lease has another owner, or
// none.
func (h *hold) noteLost() error {
	h.lose(ErrLeaseLost)
	return ErrLeaseLost
}

// isOwn reports whether the stored lease is still this hold's.
func (h *hold) isOwn(lease Lease, found bool) bool {
	return found && lease.Epoch == h.epoch && lease.Owner == h.worker.cfg.WorkerID && lease.Incarnation == h.incarnation
}

// write applies change to the stored lease, and changes nothing else. Errors:
// ErrLeaseLost, and those of the store, after which the outcome may be unknown.
func (h *hold) write(ctx context.Context, change func(*Lease)) error {
	if err := h.takeTurn(ctx); err != nil {
		return err
	}
	defer h.endTurn()
	lease := h.current()
	for {
		began := time.Now()
		next := lease
		change(&next)
		stored, err := h.group.leases.CompareAndSet(ctx, next)
		if err != nil {
			h.unsure = true
			return err
		}
		if stored {
			h.unsure = false
			next.Version++
			h.noteWritten(next, began)
			return nil
		}
		last := next.Version // the last version that may be ours
		if h.unsure {
			last++
		}
		// The lease was written since: by an earlier write of ours whose result we did not learn,
		// or by someone who paused or requested the lease. The epoch decides.
		var found bool
		if lease, found, err = h.group.leases.Get(ctx, h.key); err != nil {
			return err
		}
		if !h.isOwn(lease, found) {
			return h.noteLost()
		}
		h.unsure = false
		if lease.Version > last && !lease.Paused && lease.NextOwner == "" && h.hasFailed() {
			h.drain(errResumed) // by App.Resume in another process
		}
	}
}

// takeTurn waits until no other goroutine writes the lease. A hold that has ended writes
// nothing, whatever is stored: the lease may have been deleted and made anew.
func (h *hold) takeTurn(ctx context.Context) error {
	select {
	case h.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-h.ctx.Done():
		return ErrLeaseLost
	}
	if h.ctx.Err() != nil {
		h.endTurn()
		return ErrLeaseLost
	}
	return nil
}

func (h *hold) endTurn() { <-h.turn }

func (h *hold) noteWritten(lease Lease, began time.Time) {
	h.mu.Lock()
	if lease.Version > h.lease.Version {
		h.lease, h.written = lease, began
	}
	h.mu.Unlock()
	h.stored.Raise()
	h.group.progress.Raise()
}

// updateTx changes the stored lease in a transaction, together with the other writes of
// fn. It commits only if the hold still has the lease.
func (h *hold) updateTx(ctx context.Context, fn func(tx *braid.Tx, lease *Lease) error) error {
	if err := h.takeTurn(ctx); err != nil {
		return err
	}
	defer h.endTurn()
	h.beginStoring()
	defer h.endStoring()
	store := h.group.leases.(dbLeases) // the Config was checked for that
	var written Lease
	began := time.Now()
	err := h.worker.db.Update(ctx, func(tx *braid.Tx) error {
		lease, found, err := store.get(tx, h.key)
		if err != nil {
			return err
		}
		if !h.isOwn(lease, found) {
			return h.noteLost()
		}
		if err := fn(tx, &lease); err != nil {
			return err
		}
		written = lease
		written.Version++
		return store.set(tx, lease)
	})
	if err == nil {
		h.noteWritten(written, began)
	}
	return err
}

// advance moves a lease's checkpoint forward. That settles a prepared checkpoint up to
// there.
func (l *Lease) advance(to Checkpoint) {
	if !l.Checkpoint.before(to) {
		return
	}
	to.Start = l.Checkpoint.Start
	l.Checkpoint = to
	if l.Pending != nil && !to.before(*l.Pending) {
		l.Pending, l.PendingState = nil, nil
	}
}

// checkpoint stores a checkpoint that lies beyond the stored one.
func (h *hold) checkpoint(ctx context.Context, to Checkpoint) error {
	if h.ctx.Err() != nil {
		return ErrLeaseLost
	}
	if !h.current().Checkpoint.before(to) {
		return nil
	}
	h.beginStoring()
	defer h.endStoring()
	err := h.write(ctx, func(l *Lease) {
		l.advance(to)
		if to.ShardEnd {
			l.Children = h.children
		}
	})
	if err == nil {
		h.worker.counts.noteCheckpoint()
	}
	return err
}

// commitPrepared makes the prepared checkpoint the checkpoint.
func (h *hold) commitPrepared(ctx context.Context) error {
	if h.ctx.Err() != nil {
		return ErrLeaseLost
	}
	if h.current().Pending == nil {
		return nil
	}
	h.beginStoring()
	defer h.endStoring()
	err := h.write(ctx, func(l *Lease) {
		if l.Pending != nil {
			l.advance(*l.Pending)
			l.Pending, l.PendingState = nil, nil // even if the checkpoint was already beyond it
		}
	})
	if err == nil {
		h.worker.counts.noteCheckpoint()
	}
	return err
}

// checkpointWithRetry is checkpoint, retried as long as the hold has the lease.
func (h *hold) checkpointWithRetry(again *retry, to Checkpoint) error {
	return h.storeWithRetry(again, func() error { return h.checkpoint(h.ctx, to) }, func(err error) {
		h.log.Warn("the checkpoint could not be stored; retrying", "error", err)
	})
}

// acceptGap stores that OnGap has accepted the gap of an expired shard.
func (h *hold) acceptGap(again *retry, shard braid.ShardID) error {
	h.beginStoring()
	defer h.endStoring()
	return h.storeWithRetry(again, func() error {
		return h.write(h.ctx, func(l *Lease) { l.acceptGap(shard) })
	}, func(err error) {
		h.log.Warn("the acceptance of a gap could not be stored; retrying", "of", shard, "error", err)
	})
}

// storeWithRetry calls store until it returns nil, as long as the hold has the lease. It
// calls warn with each error after which it retries.
func (h *hold) storeWithRetry(again *retry, store func() error, warn func(error)) error {
	for attempt := 1; ; attempt++ {
		err := store()
		if err == nil {
			h.noteRecovered(again)
			return nil
		}
		if cause := context.Cause(h.ctx); cause != nil {
			return cause
		}
		if isFatal(err) {
			return &fatalError{err}
		}
		warn(err)
		h.noteRetry(again, attempt, err)
		if err := h.worker.cfg.pause(h.ctx, attempt, err); err != nil {
			return err
		}
	}
}

// noteRetry notes, for Status, that something is being retried.
func (h *hold) noteRetry(again *retry, attempt int, err error) {
	h.mu.Lock()
	if !slices.Contains(h.retries, again) {
		h.retries = append(h.retries, again)
	}
	again.attempt, again.err = attempt, err
	h.mu.Unlock()
	h.group.progress.Raise()
}

// noteRecovered notes that it has succeeded.
func (h *hold) noteRecovered(again *retry) {
	h.mu.Lock()
	i := slices.Index(h.retries, again)
	if i >= 0 {
		h.retries = slices.Delete(h.retries, i, i+1)
		*again = retry{}
	}
	h.mu.Unlock()
	if i >= 0 {
		h.group.progress.Raise()
	}
}

// renew is the goroutine that keeps a lease from expiring. It ends with the hold. An
// owner that cannot write its lease gives it up before another worker can take it. The
// time counts from the beginning of the last successful write, and passes even if the
// store does not return.
func (h *hold) renew(duration time.Duration) {
	renewed := time.Now()
	for {
		h.mu.Lock()
		written := h.written
		h.mu.Unlock()
		if h.expire(duration) {
			return
		}
		if err := sleep(h.ctx, min(duration/3, duration-time.Since(written))); err != nil {
			return
		}
		ctx, cancel := context.WithDeadlineCause(h.ctx, written.Add(duration), ErrLeaseLost)
		stop := context.AfterFunc(ctx, func() { h.expire(duration) })
		given, now := h.given.Load(), time.Now()
		speed := float64(given) / now.Sub(renewed).Seconds()
		err := h.write(ctx, func(l *Lease) { l.Throughput = (l.Throughput + speed) / 2 })
		if err == nil {
			h.given.Add(-given)
			renewed = now
		}
		stop()
		cancel()
		if lease := h.current(); err == nil && (lease.NextOwner != "" || lease.Paused) {
			h.group.requestReconcile() // another process requests or has paused it
		}
	}
}

// expire gives the lease up if it was not written for its duration.
func (h *hold) expire(duration time.Duration) bool {
	h.mu.Lock()
	expired := time.Since(h.written) >= duration
	h.mu.Unlock()
	if expired && h.ctx.Err() == nil {
		h.log.Warn("the lease could not be renewed in time")
		h.lose(ErrLeaseLost)
	}
	return expired
}

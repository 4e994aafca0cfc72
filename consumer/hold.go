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

// hold is a lease that a worker has: from the moment at which it is taken until
// nothing of it runs any more. Its goroutine is run, in run.go; the group ends it.
//
// Any goroutine may use a hold: its own, those of lanes and of the committer, the one that
// renews the lease, those of the processor by a Checkpointer, and the group's. What only
// one of them may touch has a type of its own: [walk] is that of the hold's goroutine, and
// [holdEnd] that of the group's.
//
// Invariant: what a hold writes, it writes under its epoch. If the stored lease has
// another one, nothing is written, and the hold is lost.
type hold struct {
	worker *Worker
	group  *group
	key    LeaseKey
	shard  ShardInfo
	epoch  uint64

	incarnation uint64 // of the stream
	from        string // the owner before, empty for none
	log         *slog.Logger

	ctx     context.Context // ends with the lease, with the cause
	lose    context.CancelCauseFunc
	reading context.Context // ends with ctx, and when no more is to be read, with the cause
	drain   context.CancelCauseFunc

	turn    chan struct{} // holds a token while somebody writes the lease
	unsure  bool          // the outcome of the last write is unknown; the holder of the turn may touch it
	stored  wake.Signal   // raised when the lease was written
	moved   wake.Bell     // rings when there is something to checkpoint that the committer has not seen
	tracker *tracker      // of records that are not done in order; nil if they are

	expired []*braid.TrimmedError // parents that nobody has processed

	children []braid.ShardID // that the source has named at the end; the hold's goroutine's
	given    atomic.Int64    // bytes that the processor was given since the last renewal

	mu        sync.Mutex // guards the fields below
	lease     Lease      // as it is stored
	written   time.Time  // when the last write of it began
	delivered Checkpoint // the last record that was given to the processor
	processed Checkpoint // everything up to here is done
	retries   []*retry   // what is tried again, the oldest first; none if all is well
	failure   error      // what stopped the shard, nil if nothing has
	state     holdState
	calls     []*Call   // that have not returned, the oldest first
	waits     ShardWait // what its goroutine waits for, if for no call
	storing   int       // checkpoints that are being stored

	end holdEnd // the group's
}

// holdEnd is what the group's goroutine has of a hold. Nobody else touches it.
type holdEnd struct {
	deadline time.Time // by which the hold has to have ended; zero if it has not to
}

// retry is what one goroutine of a hold tries again. It is in the hold's list, and guarded
// by its mu, from the first failure until it has succeeded.
type retry struct {
	attempt int // that has failed last
	err     error
}

func newHold(w *Worker, lease Lease, from string, shard ShardInfo, expired []*braid.TrimmedError) *hold {
	h := &hold{
		expired: expired,
		worker:  w,
		group:   w.group,
		key:     lease.LeaseKey,
		shard:   shard,
		epoch:   lease.Epoch,

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

// current returns the lease as it was last known.
func (h *hold) current() Lease {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lease
}

// noteLost ends the hold, after another write has shown that another owner, or nobody, has the lease.
func (h *hold) noteLost() error {
	h.lose(ErrLeaseLost)
	return ErrLeaseLost
}

// isOwn reports whether a stored lease is still this hold's.
func (h *hold) isOwn(lease Lease, found bool) bool {
	return found && lease.Epoch == h.epoch && lease.Owner == h.worker.cfg.WorkerID && lease.Incarnation == h.incarnation
}

// write changes the stored lease; nothing else than what change does. Errors:
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
		last := next.Version // of the writes that may be ours
		if h.unsure {
			last++
		}
		// Somebody wrote the lease: maybe ourselves, when we did not learn that it
		// had worked; maybe somebody who pauses it or asks for it. The epoch decides.
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

// takeTurn waits until nobody else writes the lease. A hold that has ended writes
// nothing more, whatever is stored: the lease may have been deleted and made anew.
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

// updateTx changes the stored lease in a transaction, together with what else is
// written there: it commits only if the hold still has it.
func (h *hold) updateTx(ctx context.Context, fn func(tx *braid.Tx, lease *Lease) error) error {
	if err := h.takeTurn(ctx); err != nil {
		return err
	}
	defer h.endTurn()
	h.beginStoring()
	defer h.endStoring()
	store := h.group.leases.(dbLeases) // the Config was checked
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

// advance moves a lease's checkpoint forward; what was prepared up to there is
// settled by that.
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

// checkpoint stores a checkpoint, if it lies beyond the stored one.
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

// commitPrepared makes what is prepared the checkpoint.
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
			l.Pending, l.PendingState = nil, nil // even if the checkpoint was beyond it
		}
	})
	if err == nil {
		h.worker.counts.noteCheckpoint()
	}
	return err
}

// checkpointWithRetry is checkpoint that tries again for as long as the hold has the lease.
func (h *hold) checkpointWithRetry(again *retry, to Checkpoint) error {
	for attempt := 1; ; attempt++ {
		err := h.checkpoint(h.ctx, to)
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
		h.log.Warn("the checkpoint could not be stored; it is tried again", "error", err)
		h.noteRetry(again, attempt, err)
		if err := h.worker.cfg.pause(h.ctx, attempt, err); err != nil {
			return err
		}
	}
}

// noteRetry notes, for Status, that something is tried again.
func (h *hold) noteRetry(again *retry, attempt int, err error) {
	h.mu.Lock()
	if !slices.Contains(h.retries, again) {
		h.retries = append(h.retries, again)
	}
	again.attempt, again.err = attempt, err
	h.mu.Unlock()
	h.group.progress.Raise()
}

// noteRecovered notes that it is no longer tried again.
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

// renew is the goroutine that writes a lease that would expire otherwise. It ends
// with the hold. An owner that cannot write it gives it up before anybody else can
// take it: the time counts from when a write began. That does not depend on whether
// the store returns in time.
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
		if err == nil && h.current().NextOwner != "" {
			h.group.requestReconcile() // somebody asks for it
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

package consumer

import (
	"cmp"
	"context"
	"errors"
	"sync"
)

// run is a hold's goroutine. It calls the processor until the shard ends, or the
// lease is lost, or is to be handed over, or an error stops the shard. The group
// waits for it, for a time; if the processor does not return it is left behind,
// fenced by its epoch.
func (h *hold) run() {
	defer h.group.noteEnded(h)
	r := &runner{hold: h, cfg: &h.worker.cfg, committing: make(chan struct{}, 1), w: walk{behind: true}}
	defer r.w.helpers.Wait()
	defer h.lose(errDrained) // the last cause, if there was none
	if d := h.group.leases.LeaseDuration(); d > 0 {
		r.w.helpers.Go(func() { h.renew(d) })
	}
	r.flow, r.halt = context.WithCancelCause(h.reading)
	defer r.halt(nil)
	returned := false
	defer func() {
		if !returned { // as testing's FailNow does
			h.fail(errGoexit)
			<-h.reading.Done()
		}
	}()
	h.worker.counts.leasesTaken.Add(1)
	h.log.Info("the lease is taken", "from", h.from, "checkpoint", r.current().Checkpoint.String())
	err := r.initialize()
	if err == nil {
		h.log.Debug("the shard begins", "checkpoint", r.current().Checkpoint.String())
		err = r.processShard()
	}
	returned = true
	h.logEnd(err)
}

// logEnd logs how a hold has ended: err is nil if the shard has.
func (h *hold) logEnd(err error) {
	lost := context.Cause(h.ctx)
	switch {
	case err == nil:
		h.log.Info("the shard has ended")
	case lost == nil && errors.Is(context.Cause(h.reading), errDrained):
		h.log.Info("the lease is handed over", "checkpoint", h.current().Checkpoint.String(), "cause", context.Cause(h.reading))
	default:
		h.log.Info("the lease is lost", "checkpoint", h.current().Checkpoint.String(), "cause", cmp.Or(lost, err))
	}
}

// processShard does what follows Initialize. It returns why the work is over, nil if the
// shard has ended.
func (r *runner) processShard() error {
	err := r.work()
	if err == nil {
		return nil // the shard has ended
	}
	if cause := context.Cause(r.ctx); cause != nil {
		err = cause
	}
	var gone *goneError
	failed := !errors.Is(err, errDrained) && !errors.As(err, &gone) && r.ctx.Err() == nil
	if failed {
		r.fail(err)
	}
	if !r.w.shardEnded { // or it was told already that nothing follows
		r.loseLease(err)
	}
	if failed {
		<-r.reading.Done() // until somebody has it go on, or it goes to another worker
	}
	return err
}

// fail notes that the shard is stopped. If nothing works any more, the worker ends,
// and Run says so, once for all its shards.
func (h *hold) fail(err error) {
	var fatal *fatalError
	ends := errors.As(err, &fatal)
	if !ends {
		h.worker.counts.stops.Add(1)
		h.log.Error("the shard is stopped", "error", err)
	}
	h.mu.Lock()
	h.failure = err
	if h.state == holdRunning { // or it fails while it ends
		h.enterLocked(holdFailed)
	}
	h.mu.Unlock()
	h.group.failures.Add(1)
	h.group.progress.Raise()
	if ends {
		h.worker.fail(fatal.error)
	}
}

// stopped returns what has stopped the shard, nil if it is not stopped.
func (h *hold) stopped() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var fatal *fatalError
	if errors.As(h.failure, &fatal) {
		return nil
	}
	return h.failure
}

// runner walks through a shard for a hold. Its goroutine sets what is here before the
// first record is given out, and the others only read it; w is its own.
type runner struct {
	*hold
	target
	cfg  *Config
	flow context.Context // ends with reading, and when a lane has failed
	halt context.CancelCauseFunc

	committing chan struct{} // holds a token while a checkpoint is stored that was due

	w walk
}

// walk is what the hold's goroutine alone has of it: lanes, the committer and a
// Checkpointer must not touch it. While waitAtTip waits, it belongs to the goroutine that
// calls the hook.
type walk struct {
	trying     retry          // what this goroutine tries again
	helpers    sync.WaitGroup // the goroutines that end with the hold: of the renewal and the committer
	lanes      []chan []Record
	busy       sync.WaitGroup // the lanes' goroutines
	behind     bool           // the tip was not read since the shard began or fell behind
	shardEnded bool           // the hook has returned nil
}

// cause returns why the work is to end, nil if it is not.
func (r *runner) cause() error { return context.Cause(r.flow) }

// work gives the shard's records to the processor. It returns nil when the shard
// has ended and that is stored.
func (r *runner) work() error {
	if r.tracker != nil {
		defer r.tracker.close()
	}
	for _, gap := range r.expired {
		if err := r.reportGap(gap); err != nil {
			return err
		}
	}
	stop := r.startCommitter()
	err := r.walk()
	if r.tracker != nil && r.cfg.Checkpoints == Acks && errors.Is(r.cause(), errDrained) {
		r.requestShutdown()
		r.noteWait(WaitAcknowledgements)
		_ = r.tracker.waitUntilSettled(r.ctx) // what was given out is still to be acknowledged
	}
	if failed := stop(); failed != nil && err != nil {
		return failed
	}
	if r.cfg.Checkpoints != Acks && errors.Is(r.cause(), errDrained) {
		r.requestShutdown()
	}
	if cause := r.cause(); err != nil && cause != nil {
		err = cause // it may be the error of a lane
	}
	return err
}

// finishShard finishes the shard: all its records have been given out.
func (r *runner) finishShard() error {
	r.noteWait(WaitAcknowledgements)
	if r.tracker != nil { // no hook overlaps a call for a record
		if err := r.tracker.waitUntilReturned(r.flow); err != nil {
			return err
		}
	}
	if r.tracker != nil && r.cfg.Checkpoints != Acks {
		if err := r.tracker.waitUntilDone(r.flow); err != nil {
			return err
		}
	}
	hook := r.hooks.shardEnded
	if hook != nil {
		if err := r.retryHook("ShardEnded", hook); err != nil {
			return err
		}
	}
	if r.cfg.Checkpoints == Acks { // the hook may have acknowledged the last ones
		if err := r.tracker.waitUntilDone(r.flow); err != nil {
			return err
		}
	}
	if r.cfg.Checkpoints == Manual && hook == nil {
		if err := r.waitForCheckpoint(); err != nil {
			return err
		}
	}
	r.w.shardEnded = hook != nil
	return r.checkpointWithRetry(&r.w.trying, Checkpoint{ShardEnd: true})
}

// waitForCheckpoint waits until the processor has checkpointed all that it was given.
func (r *runner) waitForCheckpoint() error {
	for {
		stored := r.stored.Wait()
		r.mu.Lock()
		done := !r.lease.Checkpoint.before(r.delivered)
		r.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-stored:
		case <-r.flow.Done():
			return r.cause()
		}
	}
}

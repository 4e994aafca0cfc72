package consumer

import (
	"cmp"
	"context"
	"errors"
	"sync"
)

// run is a hold's goroutine. It calls the processor until the shard ends, the lease is
// lost or must be handed over, or an error stops the shard. The group waits for it for a
// limited time. A processor that does not return is then left behind, fenced by its
// epoch.
func (h *hold) run() {
	defer h.group.noteEnded(h)
	r := &runner{hold: h, cfg: &h.worker.cfg, committing: make(chan struct{}, 1), w: walk{behind: true}}
	defer r.w.helpers.Wait()
	defer h.lose(errDrained) // the last cause, if there is no other
	if d := h.group.leases.LeaseDuration(); d > 0 {
		r.w.helpers.Go(func() { h.renew(d) })
	}
	r.flow, r.halt = context.WithCancelCause(h.reading)
	defer r.halt(nil)
	returned := false
	defer func() {
		if !returned { // runtime.Goexit was called, as testing's FailNow does
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

// logEnd logs how a hold has ended; err is nil if the shard has ended.
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

// processShard does everything after Initialize. It returns why the work is over, or nil
// if the shard has ended.
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
	if !r.w.shardEnded { // otherwise ShardEnded was called already
		r.loseLease(err)
	}
	if failed {
		<-r.reading.Done() // until the shard is resumed, or its lease is given to another worker
	}
	return err
}

// fail notes that an error has stopped the shard. If the error is fatal, the worker ends
// instead, and Run returns the error once for all its shards.
func (h *hold) fail(err error) {
	var fatal *fatalError
	ends := errors.As(err, &fatal)
	if !ends {
		h.worker.counts.stops.Add(1)
		h.log.Error("the shard is stopped", "error", err)
	}
	h.mu.Lock()
	h.failure = err
	if h.state == holdRunning { // otherwise it fails while it ends
		h.enterLocked(holdFailed)
	}
	h.mu.Unlock()
	h.group.failures.Add(1)
	h.group.progress.Raise()
	if ends {
		h.worker.fail(fatal.error)
	}
}

// stopped returns the error that has stopped the shard, or nil.
func (h *hold) stopped() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var fatal *fatalError
	if errors.As(h.failure, &fatal) {
		return nil
	}
	return h.failure
}

// runner processes a shard for a hold. Its goroutine sets these fields before the first
// record is delivered, and others only read them; w is its own.
type runner struct {
	*hold
	target
	cfg  *Config
	flow context.Context // ends with reading, and when a lane has failed
	halt context.CancelCauseFunc

	committing chan struct{} // holds a token while a checkpoint that was due is stored

	w walk
}

// walk is the part of a runner that only the hold's goroutine may use, not lanes, the
// committer or a Checkpointer. While waitAtTip waits, it belongs to the goroutine that
// calls the hook.
type walk struct {
	trying     retry          // what this goroutine retries
	helpers    sync.WaitGroup // goroutines for the renewal and the committer, which end with the hold
	lanes      []chan []Record
	busy       sync.WaitGroup // the lanes' goroutines
	behind     bool           // the tip was not reached since the shard began or fell behind
	shardEnded bool           // the hook ShardEnded has returned nil
}

// cause returns why the work must end, or nil.
func (r *runner) cause() error { return context.Cause(r.flow) }

// work gives the shard's records to the processor. It returns nil when the shard has
// ended and its end is stored.
func (r *runner) work() error {
	if r.tracker != nil {
		defer r.tracker.close()
	}
	if err := r.reportParents(); err != nil {
		return err
	}
	stop := r.startCommitter()
	err := r.walk()
	if r.tracker != nil && r.cfg.Checkpoints == Acks && errors.Is(r.cause(), errDrained) {
		r.requestShutdown()
		r.noteWait(WaitAcknowledgements)
		_ = r.tracker.waitUntilSettled(r.ctx) // for the acknowledgement of records that the processor has
	}
	if failed := stop(); failed != nil && err != nil {
		return failed
	}
	if r.cfg.Checkpoints != Acks && errors.Is(r.cause(), errDrained) {
		r.requestShutdown()
	}
	if cause := r.cause(); err != nil && cause != nil {
		err = cause // err may be the error of a lane
	}
	return err
}

// finishShard finishes the shard after all its records were delivered.
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

// waitForCheckpoint waits until the processor has checkpointed everything that it was
// given.
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

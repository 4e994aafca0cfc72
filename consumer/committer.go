package consumer

import (
	"context"
	"time"
)

// This file decides when a checkpoint is stored that the processor does not make itself.
// Without lanes, acknowledgements and a CheckpointInterval, the goroutine that calls the
// processor stores it after each batch. Otherwise another goroutine, the committer, does.

// advanceTo notes that everything up to a place is done; records are done in order.
func (r *runner) advanceTo(to Checkpoint) error {
	r.mu.Lock()
	r.processed = to
	r.mu.Unlock()
	switch {
	case r.cfg.Checkpoints == Manual:
		return nil
	case r.cfg.CheckpointInterval == 0:
		return r.checkpointWithRetry(&r.w.trying, to)
	}
	r.moved.Ring()
	return nil
}

// due returns the place up to which everything is done.
func (h *hold) due() Checkpoint {
	if h.tracker != nil {
		return h.tracker.at()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.processed
}

// startCommitter starts the committer, if the hold needs one. The returned function ends
// it, and stores what is due.
func (r *runner) startCommitter() (stop func() error) {
	if r.tracker == nil && r.cfg.CheckpointInterval == 0 {
		return func() error { return nil }
	}
	ctx, cancel := context.WithCancel(r.ctx) // it ends with the hold even if the processor has ended its goroutine
	ended := make(chan struct{})
	r.w.helpers.Go(func() {
		defer close(ended)
		r.commit(ctx)
	})
	return func() error {
		cancel()
		<-ended
		if context.Cause(r.ctx) != nil {
			return nil
		}
		return r.checkpointWithRetry(&r.w.trying, r.due())
	}
}

// commit is the committer. It stores what is due: one write at a time, so that each write
// covers everything done meanwhile, and at most once in a CheckpointInterval.
func (r *runner) commit(ctx context.Context) {
	var last time.Time // when the last checkpoint was stored
	var trying retry
	for {
		select {
		case <-r.moved.C():
		case <-ctx.Done():
			return
		}
		if left := r.cfg.CheckpointInterval - time.Since(last); left > 0 && sleep(ctx, left) != nil {
			return
		}
		r.committing <- struct{}{}
		err := r.checkpointWithRetry(&trying, r.due())
		<-r.committing
		if err != nil && r.cause() == nil {
			r.halt(err)
		}
		last = time.Now()
	}
}

// waitForCommitter waits while a checkpoint is overdue. Without this, a crash would
// repeat an unbounded number of records while the store fails.
func (r *runner) waitForCommitter() error {
	if r.cfg.CheckpointInterval == 0 {
		return nil
	}
	select {
	case r.committing <- struct{}{}:
		<-r.committing
		return nil
	case <-r.flow.Done():
		return r.cause()
	}
}

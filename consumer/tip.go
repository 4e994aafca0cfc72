package consumer

import "context"

// waitAtTip waits for what follows the tip of the shard, and meanwhile reports that the
// tip is reached: to the processor each time, and to the log if the shard has begun, or
// has had more than one batch, since the last message.
func (r *runner) waitAtTip(wait func() error) error {
	switch {
	case r.hooks.tipReached == nil && !r.w.behind:
		return wait()
	case r.tracker == nil:
		if err := r.tipReached(); err != nil {
			return err
		}
		return wait()
	}
	// Records may still be in progress, and done before the next one comes: only then is the
	// tip reached. No call for a record overlaps the hook, since lanes get more records only
	// after waitAtTip.
	ctx, cancel := context.WithCancel(r.flow)
	defer cancel()
	told := make(chan struct{})
	go func() { // ends with ctx and the hook; waitAtTip waits for it
		defer close(told)
		returned := false
		defer func() {
			if !returned { // the hook called runtime.Goexit
				r.halt(errGoexit)
			}
		}()
		// A call may have acknowledged its records without having returned.
		if r.tracker.waitUntilDone(ctx) == nil && r.tracker.waitUntilReturned(ctx) == nil && ctx.Err() == nil {
			_ = r.tipReached() // after an error the hold is over, which the caller sees
		}
		returned = true
	}()
	err := wait()
	cancel()
	<-told
	return err
}

// tipReached reports that all records in the shard are done.
func (r *runner) tipReached() error {
	if r.w.behind {
		r.w.behind = false
		r.log.Debug("the shard has caught up", "checkpoint", r.current().Checkpoint.String())
	}
	if r.hooks.tipReached == nil {
		return nil
	}
	return r.retryHook("TipReached", r.hooks.tipReached)
}

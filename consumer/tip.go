package consumer

import "context"

// waitAtTip waits for what follows the tip of the shard, and says meanwhile that it is
// reached: to the processor, each time, and to the log, when the shard began or more than
// a batch has come since it last did.
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
	// Records may be under way that are done before the next one comes: then it is
	// said. No call for a record overlaps the hook, as lanes get more after this alone.
	ctx, cancel := context.WithCancel(r.flow)
	defer cancel()
	told := make(chan struct{})
	go func() { // ends with ctx and the hook, and is waited for
		defer close(told)
		returned := false
		defer func() {
			if !returned { // by runtime.Goexit
				r.halt(errGoexit)
			}
		}()
		// A call may have acknowledged its records and not returned.
		if r.tracker.waitUntilDone(ctx) == nil && r.tracker.waitUntilReturned(ctx) == nil && ctx.Err() == nil {
			_ = r.tipReached() // an error says that the hold is over, which the caller sees
		}
		returned = true
	}()
	err := wait()
	cancel()
	<-told
	return err
}

// tipReached reports that all records that the shard had are done.
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

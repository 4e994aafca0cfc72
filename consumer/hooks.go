package consumer

import (
	"context"
	"runtime/debug"
)

// target is what is called with records: a Processor or a TxProcessor, one of the
// two, and the one of them that has hooks.
type target struct {
	plain Processor
	tx    TxProcessor
	hooks any
}

// call runs a call of the processor, and makes an error of a panic. It does not
// run it if nobody may call the processor any more.
func (r *runner) call(call Call, fn func() error) (err error) {
	if !r.beginCall(&call) {
		return ErrLeaseLost
	}
	defer r.endCall(&call)
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return fn()
}

// retryHook calls a hook until it has no error, or the hold is over.
func (r *runner) retryHook(what string, hook func() error) error {
	for attempt := 1; ; attempt++ {
		if cause := r.cause(); cause != nil {
			return cause
		}
		err := r.call(Call{Method: what, Attempt: attempt}, hook)
		if err == nil {
			r.noteRecovered()
			return nil
		}
		r.log.Warn("a hook has failed; it is called again", "hook", what, "attempt", attempt, "error", err)
		r.noteRetry(attempt, err)
		if err := r.cfg.pause(r.flow, attempt, err); err != nil {
			return err
		}
	}
}

func (r *runner) initialize() error {
	err := r.retryHook("PerLease", func() error {
		r.target = r.worker.newTarget(r.current())
		return nil
	})
	if hook, has := r.hooks.(Initializer); has && err == nil {
		err = r.retryHook("Initialize", func() error { return hook.Initialize(r.ctx, r.checkpointer()) })
	}
	return err
}

func (r *runner) requestShutdown() {
	if hook, has := r.hooks.(ShutdownRequester); has {
		if err := r.call(Call{Method: "ShutdownRequested", Attempt: 1}, func() error { return hook.ShutdownRequested(r.ctx, r.checkpointer()) }); err != nil {
			r.log.Warn("a hook has failed; it is not called again", "hook", "ShutdownRequested", "error", err)
		}
	}
}

func (r *runner) loseLease(cause error) {
	if hook, has := r.hooks.(LeaseLoser); has {
		err := r.call(Call{Method: "LeaseLost", Attempt: 1}, func() error { hook.LeaseLost(context.WithoutCancel(r.ctx), cause); return nil })
		if err != nil {
			r.log.Warn("a hook has failed; it is not called again", "hook", "LeaseLost", "error", err)
		}
	}
}

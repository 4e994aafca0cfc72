package consumer

import (
	"context"
	"fmt"
	"reflect"
	"runtime/debug"

	"github.com/braidstream/braid"
)

// target is a Processor or a TxProcessor, which gets the records, and its hooks.
type target struct {
	plain Processor
	tx    TxProcessor
	hooks hooks
}

// hooks are the hooks of a processor; those that it does not have are nil.
type hooks struct {
	initialize, tipReached, shutdownRequested, shardEnded hook

	leaseLost func(ctx context.Context, cause error)
}

type hook func(ctx context.Context, h *hold) error

// factory is a processor made by PerLease or PerLeaseTx: it makes the processors of
// leases.
type factory interface{ newProcessor(Lease) any }

// newTarget makes the target for a lease.
func newTarget(processor any, lease Lease) (target, error) {
	for f, is := processor.(factory); is; f, is = processor.(factory) { // a factory may return another factory
		if err := checkProcessor(processor); err != nil {
			return target{}, err
		}
		processor = f.newProcessor(lease)
	}
	if err := checkProcessor(processor); err != nil {
		return target{}, err
	}
	if tx, is := processor.(TxProcessor); is {
		return target{tx: tx, hooks: hooksOf(tx, (*hold).current)}, nil
	}
	plain := processor.(Processor)
	return target{plain: plain, hooks: hooksOf(plain, (*hold).checkpointer)}, nil
}

// checkProcessor checks the argument of New and NewTx, and the result of PerLease's
// function.
func checkProcessor(processor any) error {
	invalid := func(value any, rule string) error {
		return &braid.InvalidArgumentError{Field: "processor", Value: value, Rule: rule}
	}
	switch p := processor.(type) {
	case nil:
		return invalid(nil, "must not be nil")
	case ProcessorFunc:
		if p == nil {
			return invalid("a nil ProcessorFunc", "must not be nil")
		}
	case TxProcessorFunc:
		if p == nil {
			return invalid("a nil TxProcessorFunc", "must not be nil")
		}
	case perLease:
		if p.make == nil {
			return invalid("PerLease of nil", "must have a function that makes processors")
		}
	case perLeaseTx:
		if p.make == nil {
			return invalid("PerLeaseTx of nil", "must have a function that makes processors")
		}
	}
	rule := hookRule[*Checkpointer](processor)
	if _, transactional := processor.(TxProcessor); transactional {
		rule = hookRule[Lease](processor)
	}
	if rule != "" {
		return invalid(fmt.Sprintf("a %T", processor), rule)
	}
	return nil
}

// hookRule returns the rule that a processor breaks if it has a method with the name of a
// hook but the wrong signature, or "" if it has none. Such a method would silently never
// be called.
func hookRule[C interface{ *Checkpointer | Lease }](processor any) string {
	is := reflect.TypeOf(processor)
	all := is // with the methods of the pointer
	if is.Kind() != reflect.Pointer {
		all = reflect.PointerTo(is)
	}
	has := func(_ reflect.Method, has bool) bool { return has }
	for _, method := range []struct {
		there bool // names are constants, so that the linker can drop other methods
		hook  reflect.Type
	}{
		{has(all.MethodByName("Initialize")), reflect.TypeFor[Initializer[C]]()},
		{has(all.MethodByName("TipReached")), reflect.TypeFor[TipReacher[C]]()},
		{has(all.MethodByName("ShutdownRequested")), reflect.TypeFor[ShutdownRequester[C]]()},
		{has(all.MethodByName("ShardEnded")), reflect.TypeFor[ShardEnder[C]]()},
		{has(all.MethodByName("LeaseLost")), reflect.TypeFor[LeaseLoser]()},
	} {
		name, want := method.hook.Method(0).Name, method.hook.Method(0).Type
		switch {
		case !method.there || is.Implements(method.hook):
			// no such method, or the hook
		case all.Implements(method.hook):
			return fmt.Sprintf("must be passed as a pointer, since its hook %s has a pointer receiver", name)
		default:
			return fmt.Sprintf("must have the hook %s as %s, or no method of that name", name, want)
		}
	}
	return ""
}

// hooksOf finds the hooks of a processor. of makes their argument from a hold.
func hooksOf[C interface{ *Checkpointer | Lease }](processor any, of func(*hold) C) (found hooks) {
	if p, has := processor.(Initializer[C]); has {
		found.initialize = func(ctx context.Context, h *hold) error { return p.Initialize(ctx, of(h)) }
	}
	if p, has := processor.(TipReacher[C]); has {
		found.tipReached = func(ctx context.Context, h *hold) error { return p.TipReached(ctx, of(h)) }
	}
	if p, has := processor.(ShutdownRequester[C]); has {
		found.shutdownRequested = func(ctx context.Context, h *hold) error { return p.ShutdownRequested(ctx, of(h)) }
	}
	if p, has := processor.(ShardEnder[C]); has {
		found.shardEnded = func(ctx context.Context, h *hold) error { return p.ShardEnded(ctx, of(h)) }
	}
	if p, has := processor.(LeaseLoser); has {
		found.leaseLost = p.LeaseLost
	}
	return found
}

// call makes a call of the processor, and turns a panic into an error, even a panic in the
// Error method of its error. It does not make the call if the processor may no longer be
// called.
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
	if err = fn(); err != nil {
		_ = err.Error() // a method that panics, such as that of a nil pointer, must do so here
	}
	return err
}

// retryHook calls a hook until it returns nil or the hold is over.
func (r *runner) retryHook(what string, fn hook) error {
	for attempt := 1; ; attempt++ {
		if cause := r.cause(); cause != nil {
			return cause
		}
		err := r.call(Call{Method: what, Attempt: attempt}, func() error { return fn(r.ctx, r.hold) })
		if err == nil {
			r.noteRecovered(&r.w.trying)
			return nil
		}
		r.log.Warn("a hook has failed; retrying", "hook", what, "attempt", attempt, "error", err)
		r.noteRetry(&r.w.trying, attempt, err)
		if err := r.cfg.pause(r.flow, attempt, err); err != nil {
			return err
		}
	}
}

func (r *runner) initialize() error {
	err := r.retryHook("PerLease", func(context.Context, *hold) (err error) {
		r.target, err = newTarget(r.worker.processor, r.current())
		return err
	})
	if err == nil && r.hooks.initialize != nil {
		err = r.retryHook("Initialize", r.hooks.initialize)
	}
	return err
}

func (r *runner) requestShutdown() {
	if fn := r.hooks.shutdownRequested; fn != nil {
		r.callOnce("ShutdownRequested", func() error { return fn(r.ctx, r.hold) })
	}
}

func (r *runner) loseLease(cause error) {
	if fn := r.hooks.leaseLost; fn != nil {
		r.callOnce("LeaseLost", func() error { fn(context.WithoutCancel(r.ctx), cause); return nil })
	}
}

// callOnce calls a hook once, and logs its error.
func (r *runner) callOnce(what string, fn func() error) {
	if err := r.call(Call{Method: what, Attempt: 1}, fn); err != nil {
		r.log.Warn("a hook has failed; it is not called again", "hook", what, "error", err)
	}
}

package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
)

const (
	minBackoff = time.Second
	maxBackoff = 10 * time.Minute

	retryPause = time.Second // after an error of the database that may pass

	finishTimeout = 10 * time.Second // for the last commit of a worker
)

// WorkOptions say how [Queue.Work] works. The zero value, and a nil pointer, mean the
// defaults.
type WorkOptions struct {
	// Concurrency is how many calls of the function run at a time. The default is 1; the
	// range is 1 to 10,000.
	Concurrency int

	// Batch is how many records each of them receives at once, and then processes one
	// after the other. They are acknowledged together, with the next receive. The default is
	// 1; the range is 1 to 10,000. More makes fewer commits; after a crash, those that were
	// processed and not acknowledged come again.
	Batch int

	// VisibilityTimeout is how soon others get the records if the process hangs; while a
	// call runs it is extended again and again. The default, 0, is that of the queue, or 30
	// seconds if that has none; the range is 1 millisecond to 12 hours.
	VisibilityTimeout time.Duration

	// Backoff returns how long a record waits after its attempt has failed, given how often
	// it was received: 1 for the first time. What it returns is cut off at 0 and 12 hours. By
	// default the pause is 1 second, doubles with each attempt up to 10 minutes, and
	// varies by a tenth, so that what failed together does not come back together.
	Backoff func(receives int) time.Duration

	// StopTimeout is how long calls that run when the context ends may go on. Then their
	// contexts end. The default, 0, is 30 seconds; negative means not at all. After the last
	// call has returned, Work takes up to 10 seconds to commit what is left to do.
	StopTimeout time.Duration
}

func (o *WorkOptions) withDefaults() (WorkOptions, error) {
	var opts WorkOptions
	if o != nil {
		opts = *o
	}
	if opts.Concurrency == 0 {
		opts.Concurrency = 1
	}
	if opts.Batch == 0 {
		opts.Batch = 1
	}
	if opts.Backoff == nil {
		opts.Backoff = defaultBackoff
	}
	if opts.StopTimeout == 0 {
		opts.StopTimeout = 30 * time.Second
	}
	switch {
	case opts.Concurrency < 1 || opts.Concurrency > maxRecords:
		return opts, invalid("Concurrency", opts.Concurrency, "must be 1 to %d", maxRecords)
	case opts.Batch < 1 || opts.Batch > maxRecords:
		return opts, invalid("Batch", opts.Batch, "must be 1 to %d", maxRecords)
	case opts.VisibilityTimeout != 0 && (opts.VisibilityTimeout < time.Millisecond || opts.VisibilityTimeout > maxVisibility):
		return opts, invalid("VisibilityTimeout", opts.VisibilityTimeout, "must be 1ms to %v", maxVisibility)
	}
	return opts, nil
}

// defaultBackoff is that of WorkOptions.
func defaultBackoff(receives int) time.Duration {
	pause := min(minBackoff<<min(receives-1, 20), maxBackoff)
	return pause + time.Duration((rand.Float64()-0.5)/5*float64(pause))
}

// Work calls fn for the records of the queue until ctx ends. When fn returns nil, its record is
// acknowledged, in one commit with the next receive. When it returns an error, panics, or
// ends its goroutine, the record is received again after WorkOptions.Backoff, and dead
// after the last of Options.MaxReceives attempts; an error that wraps [ErrReject] makes it
// dead at once. The logger of the database is told at Warn level, and the error is kept as
// [Record].Reason.
//
// While fn runs, its record stays hidden from others. The context of fn ends when it no longer
// does, which takes a process that is stopped for longer than the visibility timeout, and
// when Work has to stop. fn should return then. What it did happens at least once: for effects
// in the database that happen exactly once there is [Queue.WorkTx].
//
// When ctx ends, Work receives no more, waits for calls that run, acknowledges what they have
// done, gives back the rest as if it had not been received, and returns nil. It returns an
// error if it cannot go on: [ErrQueueNotFound], braid.ErrFailed, braid.ErrClosed,
// braid.ErrReadOnly; or if it did not begin: braid.ErrInvalidArgument. A full disk, and keys
// that are unavailable, are waited out.
func (q *Queue) Work(ctx context.Context, fn func(ctx context.Context, r Record) error, options *WorkOptions) error {
	if fn == nil {
		return wrap("work on", q.name, invalid("fn", nil, "must be a function"))
	}
	return wrap("work on", q.name, q.work(ctx, options, func(ctx context.Context, r Record) (fate, error) {
		return unsettled, fn(ctx, r)
	}))
}

// WorkTx is [Queue.Work] for a function whose effects are in the database: fn runs in a
// transaction, as with braid.DB.Update, which acknowledges the record as well. So what it
// writes and puts happens exactly once for each record, whatever crashes or is received
// again. fn may run several times, and must not wait. If the commit is refused because the
// disk is full or a key is unavailable, that is no failed attempt: the record is given back
// until the commit may succeed.
func (q *Queue) WorkTx(ctx context.Context, fn func(ctx context.Context, tx *braid.Tx, r Record) error, options *WorkOptions) error {
	if fn == nil {
		return wrap("work on", q.name, invalid("fn", nil, "must be a function"))
	}
	return wrap("work on", q.name, q.work(ctx, options, func(ctx context.Context, r Record) (fate, error) {
		var failed bool // by itself, and not by its commit
		err := q.db.Update(ctx, func(tx *braid.Tx) error {
			err := fn(ctx, tx, r)
			if failed = err != nil; failed {
				return err
			}
			return q.AckTx(tx, r.Receipt)
		})
		switch {
		case err == nil || !failed && isLost(err):
			return settled, err
		case !failed && isWaitedOut(err):
			return untried, err
		}
		return unsettled, err
	}))
}

// fate is what has become of a record by a call.
type fate uint8

const (
	unsettled fate = iota // it is to be acknowledged or, with an error, has failed
	settled               // there is nothing left to do for it
	untried               // the database took nothing, whatever the record: it has not failed
)

// work is a run of Work.
type work struct {
	queue *Queue
	opts  WorkOptions
	call  func(ctx context.Context, r Record) (fate, error)
	ctx   context.Context // ends when no more is to be received
	stop  context.CancelCauseFunc
	calls context.Context // that of the calls, which outlasts the other
	sides sync.WaitGroup  // extensions on their way
}

func (q *Queue) work(ctx context.Context, options *WorkOptions, call func(context.Context, Record) (fate, error)) error {
	opts, err := options.withDefaults()
	if err != nil {
		return err
	}
	if err := q.load(ctx); err != nil {
		return err
	}
	if opts.VisibilityTimeout == 0 {
		q.mu.Lock()
		opts.VisibilityTimeout = q.settings.VisibilityTimeout
		q.mu.Unlock()
		if opts.VisibilityTimeout < 0 {
			opts.VisibilityTimeout = 30 * time.Second
		}
	}
	w := &work{queue: q, opts: opts, call: call}
	w.ctx, w.stop = context.WithCancelCause(ctx)
	calls, end := context.WithCancelCause(context.WithoutCancel(ctx))
	w.calls = calls
	var late *time.Timer // set before the context ends, or by what runs when it does
	ended := make(chan struct{})
	unhook := context.AfterFunc(w.ctx, func() {
		defer close(ended)
		late = time.AfterFunc(max(0, opts.StopTimeout), func() { end(context.Cause(w.ctx)) })
	})
	var all sync.WaitGroup
	for range opts.Concurrency {
		all.Go(w.run)
	}
	all.Wait()
	err = context.Cause(w.ctx)
	if !unhook() {
		<-ended
		late.Stop()
	}
	end(context.Canceled)
	w.sides.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}

// run receives records and has them processed, one batch after the other.
func (w *work) run() {
	q := w.queue
	a := ask{n: w.opts.Batch, bytes: maxBytes, timeout: w.opts.VisibilityTimeout, local: true}
	var steps []step // of the last batch, to be done with the next receive
	for {
		records, err := q.receive(w.ctx, a, 0, steps)
		switch {
		case err == nil:
			if steps, err = w.process(records); err != nil {
				q.log.Warn("a worker of a queue cannot commit, and tries again", "queue", q.name, "error", err)
				steps = w.hold(steps, err)
			}
		case w.ctx.Err() != nil:
			w.finish(steps)
			return
		case isFatal(err):
			w.stop(err)
			return
		default:
			q.log.Warn("a worker of a queue cannot receive, and tries again", "queue", q.name, "error", err)
			steps = w.hold(steps, err)
		}
	}
}

// isFatal reports whether trying again is pointless.
func isFatal(err error) bool {
	for _, fatal := range []error{ErrQueueNotFound, braid.ErrClosed, braid.ErrFailed, braid.ErrReadOnly, braid.ErrInvalidArgument} {
		if errors.Is(err, fatal) {
			return true
		}
	}
	return false
}

// isWaitedOut reports whether a commit was refused for a reason that passes, and that has
// nothing to do with what was to be committed.
func isWaitedOut(err error) bool {
	return companion.Over(err) != nil || errors.Is(err, braid.ErrKeyUnavailable)
}

// hold waits until what failed may work again. What is finished is settled before that, since
// others may get it meanwhile; it returns the rest.
func (w *work) hold(steps []step, err error) (rest []step) {
	rest, _ = w.settle(w.calls, steps)
	timer := time.NewTimer(retryPause)
	defer timer.Stop()
	var passed <-chan time.Time
	over := companion.Over(err)
	if over == nil {
		passed = timer.C
	}
	select {
	case <-over:
	case <-passed:
	case <-w.ctx.Done():
	}
	return rest
}

// finish does what is left to do when nothing more is received. Calls whose contexts have
// ended are acknowledged and given back, too, so those contexts do not end it.
func (w *work) finish(steps []step) {
	if len(steps) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.calls), finishTimeout)
	defer cancel()
	if rest, err := w.settle(ctx, steps); err != nil && !isFatal(err) {
		w.queue.log.Warn("records that a worker has finished with come again", "queue", w.queue.name, "records", len(rest), "error", err)
	}
}

// settle does steps without receiving anything: acknowledgements by themselves, since a
// full disk lets those through. It returns what is still to be done, and why.
func (w *work) settle(ctx context.Context, steps []step) (rest []step, err error) {
	var acks, others []step
	for _, st := range steps {
		if st.verb == acknowledge {
			acks = append(acks, st)
		} else {
			others = append(others, st)
		}
	}
	for _, part := range [][]step{acks, others} {
		if len(part) == 0 {
			continue
		}
		if _, failed := w.queue.commit(ctx, nil, part); failed != nil {
			rest, err = append(rest, part...), failed
		}
	}
	return rest, err
}

// process calls the function for each record, and returns what is to be done to them. After
// an error, which is the database's, it gives back the rest.
func (w *work) process(records []Record) (steps []step, err error) {
	b := &batch{work: w, tickets: make([]ticket, len(records))}
	for i := range records {
		b.tickets[i], _ = w.queue.ticket(records[i].Receipt) // it is one of this queue
	}
	b.begin()
	for i := range records {
		switch {
		case b.isLost():
			w.queue.log.Warn("a record was not processed, as its visibility timeout passed before its turn came", "queue", w.queue.name, "record", records[i].ID)
			b.next(step{}, false)
		case w.ctx.Err() != nil || err != nil:
			b.next(step{verb: giveBack}, true)
		default:
			var st step
			var left bool
			st, left, err = w.one(b, &records[i])
			b.next(st, left)
		}
	}
	return b.end(), err
}

// one calls the function for a record. It returns what is to be done to the record, if
// anything is left to do, and an error of the database that others meet as well.
func (w *work) one(b *batch, r *Record) (st step, left bool, err error) {
	ctx, cancel := b.context()
	defer cancel(nil)
	f, err := w.try(ctx, *r)
	switch {
	case f == settled && err != nil:
		w.queue.log.Warn("a record was processed and is no longer the worker's, so nothing was written", "queue", w.queue.name, "record", r.ID, "error", err)
		fallthrough
	case f == settled:
		return st, false, nil
	case err == nil:
		return step{verb: acknowledge}, true, nil
	case w.calls.Err() != nil: // it was cut off, and has not failed by itself
		return step{verb: giveBack}, true, nil
	case f == untried:
		return step{verb: giveBack}, true, err
	}
	w.queue.log.Warn("processing a record has failed", "queue", w.queue.name, "record", r.ID, "receives", r.Receives, "error", err)
	if errors.Is(err, ErrReject) {
		return step{verb: reject, reason: shortened(err.Error())}, true, nil
	}
	delay := min(max(0, w.opts.Backoff(r.Receives)), maxDelay)
	return step{verb: release, delay: delay, reason: shortened(err.Error())}, true, nil
}

// isLost reports whether a transaction was refused because somebody else has the record.
func isLost(err error) bool {
	var refused *ReceiptsError
	return errors.As(err, &refused)
}

// try makes one call, on a goroutine of its own, which the call may end.
func (w *work) try(ctx context.Context, r Record) (f fate, err error) {
	done := make(chan struct{})
	go func() { // try waits for it
		defer close(done)
		err = errGoexit
		defer func() {
			if v := recover(); v != nil {
				f, err = unsettled, fmt.Errorf("panic: %v\n%s", v, debug.Stack())
			}
		}()
		f, err = w.call(ctx, r)
	}()
	<-done
	return f, err
}

var errGoexit = errors.New("function ended its goroutine with runtime.Goexit")

// batch keeps the records of a batch hidden that are not finished.
type batch struct {
	work    *work
	tickets []ticket
	timer   *time.Timer

	mu     sync.Mutex              // guards the fields below
	at     int                     // the record that is processed
	cancel context.CancelCauseFunc // of the call
	steps  []step                  // for those before it, that are still to be done
	lost   []bool                  // by record: somebody else may have it; nil for none
	over   bool
}

// begin has the records extended from now on.
func (b *batch) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timer = time.AfterFunc(b.work.opts.VisibilityTimeout/3, b.extend)
}

// context returns that of the next call.
func (b *batch) context() (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(b.work.calls)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cancel = cancel
	return ctx, cancel
}

// isLost reports whether the record whose turn it is was not hidden any longer before that.
func (b *batch) isLost() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost != nil && b.lost[b.at]
}

// next goes on to the next record. st is to be done to the one before it, if anything is left.
func (b *batch) next(st step, left bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if left {
		st.ticket = b.tickets[b.at]
		b.steps = append(b.steps, st)
	}
	b.at++
	b.cancel = nil
}

// end returns what is still to be done.
func (b *batch) end() []step {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	b.timer.Stop()
	return b.steps
}

// extend hides the records for another while, and does what is to be done to those that are
// finished, so that nothing waits long for the end of a slow batch. It is called by the
// timer. An extension that comes late changes nothing: its records have been settled by
// then, or received again.
func (b *batch) extend() {
	w := b.work
	b.mu.Lock()
	if b.over {
		b.mu.Unlock()
		return
	}
	w.sides.Add(1) // while the batch is not over, nobody waits for it to be zero
	defer w.sides.Done()
	at, cancel, finished := b.at, b.cancel, b.steps
	b.steps = nil
	steps := append([]step(nil), finished...)
	for _, t := range b.tickets[at:] {
		steps = append(steps, step{verb: extend, delay: w.opts.VisibilityTimeout, ticket: t})
	}
	b.mu.Unlock()

	var rest []step // of those that are finished
	_, err := w.queue.commit(w.calls, nil, steps)
	if err != nil {
		rest, _ = w.settle(w.calls, finished)
	}
	b.mu.Lock()
	if b.over { // end has returned without the rest
		b.mu.Unlock()
		w.finish(rest)
		return
	}
	defer b.mu.Unlock()
	if err != nil {
		b.steps = append(rest, b.steps...)
	} else {
		b.lose(at, cancel, steps[len(finished):])
	}
	b.timer.Reset(w.opts.VisibilityTimeout / 3)
}

// lose notes which records are no longer hidden, by the extensions of those from one on. If
// that one is still processed, its call is to end.
func (b *batch) lose(at int, cancel context.CancelCauseFunc, extensions []step) {
	for i := range extensions {
		if extensions[i].err == nil {
			continue
		}
		if b.lost == nil {
			b.lost = make([]bool, len(b.tickets))
		}
		b.lost[at+i] = true
		if i == 0 && at == b.at && cancel != nil {
			cancel(extensions[i].err)
		}
	}
}

// shortened returns the beginning of a reason, as whole characters.
func shortened(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	end := maxReason
	for end > 0 && !utf8.RuneStart(reason[end]) {
		end--
	}
	return reason[:end]
}

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

	retryPause = time.Second // after a temporary error of the database

	finishTimeout = 10 * time.Second // for the last commit of a worker
)

// WorkOptions are options of [Queue.Work]. The zero value, and a nil pointer, mean the
// defaults.
type WorkOptions struct {
	// Concurrency is how many calls of the function run at the same time. The default is 1;
	// the range is 1 to 10,000.
	Concurrency int

	// Batch is how many records each of the concurrent loops receives at once. The default is 1;
	// the range is 1 to 10,000. A loop processes them one after another, and acknowledges them
	// together, with the next receive. A larger batch needs fewer commits, but after a crash more
	// processed records are received again.
	Batch int

	// VisibilityTimeout is how long a record stays hidden from other receivers if the process
	// hangs. The default, 0, means that of the queue, or 30 seconds if the queue has none; the
	// range is 1 millisecond to 12 hours. While a call runs, Work keeps extending it.
	VisibilityTimeout time.Duration

	// Backoff returns the delay of a record after a failed attempt, given how often it was
	// received: 1 for the first time. The result is limited to 0 to 12 hours. By default the
	// delay is 1 second, doubles with each attempt up to 10 minutes, and varies by a tenth,
	// so that records that failed together do not come back together.
	Backoff func(receives int) time.Duration

	// StopTimeout is how long running calls may continue when the context ends. After that
	// their contexts end. The default, 0, means 30 seconds; a negative value means not at
	// all. After the last call has returned, Work takes up to 10 seconds for its last commit.
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

// defaultBackoff is the default of WorkOptions.Backoff.
func defaultBackoff(receives int) time.Duration {
	pause := min(minBackoff<<min(receives-1, 20), maxBackoff)
	return pause + time.Duration((rand.Float64()-0.5)/5*float64(pause))
}

// Work calls fn for the records of the queue until ctx ends. When fn returns nil, its
// record is acknowledged, in one commit with the next receive. When fn returns an error,
// panics, or ends its goroutine, the record is received again after WorkOptions.Backoff;
// after the last of Options.MaxReceives attempts it is dead. An error that wraps
// [ErrReject] makes it dead at once. Failures are logged to the database's logger at
// level Warn, and the error is stored as [Record].Reason.
//
// While fn runs, its record stays hidden from others. The context of fn ends when Work
// has to stop, or when the record is no longer hidden, which happens only if the process was
// stopped, or the disk was full or stalled, for longer than the visibility timeout. fn should then
// return. Its effects happen at least once. For effects in the database that happen exactly once,
// use [Queue.WorkTx].
//
// When ctx ends, Work stops receiving, waits for running calls, acknowledges the records
// that they have processed, gives back the rest as if it had not been received, and
// returns nil. It returns an error if it cannot continue: [ErrQueueNotFound],
// braid.ErrFailed, braid.ErrClosed, braid.ErrReadOnly; or if it did not begin:
// braid.ErrInvalidArgument. It waits while the disk is full or keys are unavailable.
func (q *Queue) Work(ctx context.Context, fn func(ctx context.Context, r Record) error, options *WorkOptions) error {
	if fn == nil {
		return wrap("work on", q.name, invalid("fn", nil, "must be a function"))
	}
	return wrap("work on", q.name, q.work(ctx, options, func(ctx context.Context, r Record) (fate, error) {
		return unsettled, fn(ctx, r)
	}))
}

// WorkTx is [Queue.Work] for a function whose effects are in the database. fn runs in a
// transaction, as with braid.DB.Update, which also acknowledges the record. So its writes
// and puts happen exactly once for each record, despite crashes and repeated deliveries.
// fn may be called several times for one delivery, and must not wait. A commit that is
// refused because the disk is full or a key is unavailable is not a failed attempt: the
// record is given back until the commit can succeed.
func (q *Queue) WorkTx(ctx context.Context, fn func(ctx context.Context, tx *braid.Tx, r Record) error, options *WorkOptions) error {
	if fn == nil {
		return wrap("work on", q.name, invalid("fn", nil, "must be a function"))
	}
	return wrap("work on", q.name, q.work(ctx, options, func(ctx context.Context, r Record) (fate, error) {
		var failed bool // fn itself has failed, not its commit
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

// fate is the result of a call for its record.
type fate uint8

const (
	unsettled fate = iota // to be acknowledged or, with an error, failed
	settled               // nothing is left to do for it
	untried               // the database accepts no commits at present; the record itself has not failed
)

// work is a call of Work.
type work struct {
	queue *Queue
	opts  WorkOptions
	call  func(ctx context.Context, r Record) (fate, error)
	ctx   context.Context // ends when no more records are to be received
	stop  context.CancelCauseFunc
	calls context.Context // parent of the contexts of calls, which outlasts ctx
	sides sync.WaitGroup  // extensions in progress
}

func (q *Queue) work(ctx context.Context, options *WorkOptions, call func(context.Context, Record) (fate, error)) error {
	opts, err := options.withDefaults()
	if err != nil {
		return err
	}
	if err := q.load(ctx); err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			return nil // as if it had begun
		}
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
	var late *time.Timer // set before the context ends, or by the function that runs when it does
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

// run receives and processes records, batch by batch.
func (w *work) run() {
	q := w.queue
	a := ask{n: w.opts.Batch, bytes: maxBytes, timeout: w.opts.VisibilityTimeout, local: true}
	var steps []step // for the last batch, to be done with the next receive
	for {
		records, err := q.receive(w.ctx, a, 0, steps)
		switch {
		case err == nil:
			if steps, err = w.process(records); err != nil {
				q.log.Warn("a worker of a queue cannot commit; retrying", "queue", q.name, "error", err)
				steps = w.hold(steps, err)
			}
		case w.ctx.Err() != nil:
			w.finish(steps)
			return
		case isFatal(err):
			w.stop(err)
			return
		default:
			q.log.Warn("a worker of a queue cannot receive; retrying", "queue", q.name, "error", err)
			steps = w.hold(steps, err)
		}
	}
}

// isFatal reports whether retrying is pointless.
func isFatal(err error) bool {
	for _, fatal := range []error{ErrQueueNotFound, braid.ErrClosed, braid.ErrFailed, braid.ErrReadOnly, braid.ErrInvalidArgument} {
		if errors.Is(err, fatal) {
			return true
		}
	}
	return false
}

// isWaitedOut reports whether a commit was refused for a temporary reason that does not concern its
// content.
func isWaitedOut(err error) bool {
	return companion.Over(err) != nil || errors.Is(err, braid.ErrKeyUnavailable)
}

// hold waits until the operation that failed may succeed. It settles the finished records
// before that, because others may get them in the meantime. It returns the steps that are left.
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

// finish does the remaining steps when nothing more is received. Records of calls whose
// contexts have ended are acknowledged and given back, too, so those contexts do not end it.
func (w *work) finish(steps []step) {
	if len(steps) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.calls), finishTimeout)
	defer cancel()
	if rest, err := w.settle(ctx, steps); err != nil && !isFatal(err) {
		w.queue.log.Warn("records that a worker has processed will be received again", "queue", w.queue.name, "records", len(rest), "error", err)
	}
}

// settle does steps without receiving anything. Those that are essential have their own
// commit, which succeeds even while the disk is full. It returns the steps that are left, and
// the error.
func (w *work) settle(ctx context.Context, steps []step) (rest []step, err error) {
	var essential, others []step
	for _, st := range steps {
		if st.verb.isEssential() {
			essential = append(essential, st)
		} else {
			others = append(others, st)
		}
	}
	for _, part := range [][]step{essential, others} {
		if len(part) == 0 {
			continue
		}
		if _, failed := w.queue.commit(ctx, nil, part); failed != nil {
			rest, err = append(rest, part...), failed
		}
	}
	return rest, err
}

// process calls the function for each record, and returns the steps for them. After an error
// of the database it gives back the rest.
func (w *work) process(records []Record) (steps []step, err error) {
	b := &batch{work: w, tickets: make([]ticket, len(records))}
	for i := range records {
		b.tickets[i], _ = w.queue.ticket(records[i].Receipt) // the receipt is valid for this queue
	}
	b.begin()
	for i := range records {
		switch {
		case b.isLost():
			w.queue.log.Warn("a record was not processed because its visibility timeout passed before its turn", "queue", w.queue.name, "record", records[i].ID)
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

// one calls the function for a record. It returns the step for the record, whether that step
// remains to be done, and an error of the database that would affect all other records.
func (w *work) one(b *batch, r *Record) (st step, left bool, err error) {
	ctx, cancel := b.context()
	defer cancel(nil)
	f, err := w.try(ctx, *r)
	switch {
	case f == settled && err != nil:
		w.queue.log.Warn("a record was processed, but the worker has lost it; nothing was written", "queue", w.queue.name, "record", r.ID, "error", err)
		fallthrough
	case f == settled:
		return st, false, nil
	case err == nil:
		return step{verb: acknowledge}, true, nil
	case w.calls.Err() != nil: // it was interrupted, and has not failed by itself
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

// isLost reports whether a transaction was refused because another receiver has the
// record.
func isLost(err error) bool {
	var refused *ReceiptsError
	return errors.As(err, &refused)
}

// try makes one call, in its own goroutine, which the call may end.
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
		if f, err = w.call(ctx, r); err != nil {
			_ = err.Error() // a method that panics, such as that of a nil pointer, must do so here
		}
	}()
	<-done
	return f, err
}

var errGoexit = errors.New("function ended its goroutine with runtime.Goexit")

// batch keeps the unfinished records of a batch hidden.
type batch struct {
	work    *work
	tickets []ticket
	timer   *time.Timer

	mu     sync.Mutex              // guards the fields below
	at     int                     // index of the record being processed
	cancel context.CancelCauseFunc // of the current call
	steps  []step                  // for the records before it, still to be done
	lost   []bool                  // by record: others may have it; nil for none
	over   bool
}

// begin starts to extend the records.
func (b *batch) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timer = time.AfterFunc(b.work.opts.VisibilityTimeout/3, b.extend)
}

// context returns the context of the next call.
func (b *batch) context() (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(b.work.calls)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cancel = cancel
	return ctx, cancel
}

// isLost reports whether the current record stopped being hidden before its turn.
func (b *batch) isLost() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost != nil && b.lost[b.at]
}

// next continues with the next record. If left is set, st remains to be done for the previous one.
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

// end returns the steps that are left.
func (b *batch) end() []step {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	b.timer.Stop()
	return b.steps
}

// extend is called by the timer. It hides the unfinished records for another timeout, and
// does the steps of the finished ones, so that they need not wait for the end of a slow
// batch. A late extension changes nothing: by then its records were settled, or received
// again.
func (b *batch) extend() {
	w := b.work
	b.mu.Lock()
	if b.over {
		b.mu.Unlock()
		return
	}
	w.sides.Add(1) // nobody waits for zero while the batch is not over
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
	if b.over { // end has returned without these steps
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

// lose notes which records are no longer hidden. extensions are those of the records from index at
// on; a refused extension means that its record is no longer hidden. If record at is still being
// processed, lose cancels its call.
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

// shortened returns the beginning of a reason, cut between characters.
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

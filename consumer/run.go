package consumer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer/internal/kpl"
)

// run is a hold's goroutine. It calls the processor until the shard ends, or the
// lease is lost, or is to be handed over, or an error stops the shard. The group
// waits for it, for a time; if the processor does not return it is left behind,
// fenced by its epoch.
func (h *hold) run() {
	defer h.group.noteEnded(h)
	var renewal sync.WaitGroup
	defer renewal.Wait()
	defer h.lose(errDrained) // the last cause, if there was none
	if d := h.group.leases.LeaseDuration(); d > 0 {
		renewal.Go(func() { h.renew(d) })
	}
	r := &runner{hold: h, cfg: &h.worker.cfg, behind: true}
	r.flow, r.halt = context.WithCancelCause(h.reading)
	defer r.halt(nil)
	returned := false
	defer func() {
		if !returned { // as testing's FailNow does
			h.fail(errGoexit)
			<-h.reading.Done()
		}
	}()
	h.log.Info("the lease is taken", "from", h.from, "checkpoint", r.current().Checkpoint.String())
	err := r.initialize()
	if err == nil {
		h.log.Debug("the shard begins", "checkpoint", r.current().Checkpoint.String())
		err = r.process()
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

// process does what follows Initialize. It returns why the work is over, nil if the
// shard has ended.
func (r *runner) process() error {
	err := r.work()
	if r.tracker != nil {
		r.tracker.close()
	}
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
	if !r.shardEnded { // or it was told already that nothing follows
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
		h.log.Error("the shard is stopped", "error", err)
	}
	h.mu.Lock()
	h.failed, h.err = true, err
	h.mu.Unlock()
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
	if !h.failed || errors.As(h.err, &fatal) {
		return nil
	}
	return h.err
}

// isGone reports whether there is no such stream or shard any more.
func isGone(err error) bool {
	return errors.Is(err, braid.ErrStreamNotFound) || errors.Is(err, braid.ErrShardNotFound)
}

var errGoexit = errors.New("the processor has ended its goroutine, by runtime.Goexit")

// goneError is an error of the source that says so; a processor may have others that
// look like it.
type goneError struct{ error }

func (e *goneError) Unwrap() error { return e.error }

// fatalError is an error of the source or the store after which nothing works any
// more; and commitError one of a transaction whose processor had none. A processor may
// have others that look like them.
type (
	fatalError  struct{ error }
	commitError struct{ error }
)

func (e *fatalError) Unwrap() error  { return e.error }
func (e *commitError) Unwrap() error { return e.error }

// isFatal reports whether nothing will work any more.
func isFatal(err error) bool {
	return errors.Is(err, braid.ErrClosed) || errors.Is(err, braid.ErrFailed) || errors.Is(err, braid.ErrReadOnly)
}

// target is what is called with records: a Processor or a TxProcessor, one of the
// two, and whoever of them has hooks.
type target struct {
	plain Processor
	tx    TxProcessor
	hooks any
}

// runner walks through a shard for a hold. All but what lanes call belongs to the
// hold's goroutine.
type runner struct {
	*hold
	target
	cfg   *Config
	flow  context.Context // ends with reading, and when a lane has failed
	halt  context.CancelCauseFunc
	lanes []chan []Record
	busy  sync.WaitGroup // the lanes' goroutines

	behind bool // the tip was not read since the shard began or fell behind

	moved      chan struct{} // holds a token while there is something to checkpoint that the committer has not seen
	committing chan struct{} // holds a token while a checkpoint is stored that was due

	shardEnded   bool // the hook has returned nil
	commitErrors int  // of a TxProcessor, one after the other
}

// over returns why the work is to end, nil if it is not.
func (r *runner) over() error { return context.Cause(r.flow) }

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

// until calls a hook until it has no error, or the hold is over.
func (r *runner) until(what string, hook func() error) error {
	for attempt := 1; ; attempt++ {
		if cause := r.over(); cause != nil {
			return cause
		}
		err := r.call(Call{Method: what, Attempt: attempt}, hook)
		if err == nil {
			r.recover()
			return nil
		}
		r.log.Warn("a hook has failed; it is called again", "hook", what, "attempt", attempt, "error", err)
		r.retrying(attempt, err)
		if err := r.cfg.pause(r.flow, attempt, err); err != nil {
			return err
		}
	}
}

func (r *runner) initialize() error {
	err := r.until("PerLease", func() error {
		r.target = r.worker.newTarget(r.current())
		return nil
	})
	if hook, has := r.hooks.(Initializer); has && err == nil {
		err = r.until("Initialize", func() error { return hook.Initialize(r.ctx, r.checkpointer()) })
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

// work gives the shard's records to the processor. It returns nil when the shard
// has ended and that is stored.
func (r *runner) work() error {
	for _, gap := range r.expired {
		if err := r.tellOfGap(gap); err != nil {
			return err
		}
	}
	stop := r.startCommitter()
	err := r.walk()
	if r.tracker != nil && r.cfg.Acks && errors.Is(r.over(), errDrained) {
		r.requestShutdown()
		r.wait(waitDone)
		_ = r.tracker.empty(r.ctx) // what was given out is still to be acknowledged
	}
	if failed := stop(); failed != nil && err != nil {
		return failed
	}
	if !r.cfg.Acks && errors.Is(r.over(), errDrained) {
		r.requestShutdown()
	}
	if cause := r.over(); err != nil && cause != nil {
		err = cause // it may be the error of a lane
	}
	return err
}

// walk reads the shard, and runs lanes if there are any.
func (r *runner) walk() error {
	if r.tracker == nil {
		return r.read()
	}
	for range r.cfg.Lanes {
		r.lanes = append(r.lanes, make(chan []Record, maxTrackedPages+1))
	}
	for i, lane := range r.lanes {
		r.busy.Go(func() { r.runLane(i, lane) })
	}
	err := r.read()
	for _, lane := range r.lanes {
		close(lane)
	}
	r.busy.Wait()
	return err
}

const (
	// maxTrackedPages and BatchBytes bound what a shard with lanes reads ahead.
	maxTrackedPages = 64

	// minPageRecords is how many records are read at once, also if batches are
	// smaller: a page costs more than its records.
	minPageRecords = 500
)

// read walks through the shard page by page.
func (r *runner) read() error {
	source, budget := r.hold.group.records(), r.worker.budget
	from := r.current().Checkpoint
	at := from.position()
	lingered := false
	for attempt := 1; ; {
		if r.tracker != nil {
			pages := maxTrackedPages - 1
			if r.cfg.Acks {
				pages = math.MaxInt // they may be small, and acknowledged by the hundred
			}
			r.wait(waitDone)
			if err := r.tracker.room(r.flow, pages, r.cfg.BatchBytes); err != nil {
				return err
			}
		}
		r.wait(waitSource)
		taken := budget.take()
		page, err := source.Read(r.flow, r.key.Stream, r.key.Shard, at, max(r.cfg.BatchRecords, minPageRecords), taken)
		if err != nil {
			page = Page{}
		}
		budget.give(taken - page.Bytes)
		if err == nil && attempt > 1 {
			r.recover()
		}
		switch {
		case err != nil:
		case len(page.Records) == 0 && !page.EndOfShard:
			budget.give(page.Bytes) // none, unless the source is wrong
			at = page.Next
			r.wait(waitRecords)
			err = r.waitAtTip(at)
			lingered = false
		case r.cfg.Linger > 0 && !lingered && page.AtTip && !page.EndOfShard && len(page.Records) < r.cfg.BatchRecords && page.Bytes < r.cfg.BatchBytes:
			budget.give(page.Bytes)
			page, lingered = Page{}, true
			r.wait(waitRecords)
			err = sleep(r.flow, r.cfg.Linger)
		default:
			at, lingered = page.Next, false
			r.behind = r.behind || !page.AtTip
			if err := r.give(&page, from); err != nil {
				return err
			}
			if page.EndOfShard {
				return r.end()
			}
		}
		if err == nil {
			attempt = 1
			continue
		}
		if at, err = r.readError(at, err, attempt); err != nil {
			return err
		}
		attempt++
	}
}

// readError says where to go on after an error of the source, or returns why not
// to.
func (r *runner) readError(at braid.Position, err error, attempt int) (braid.Position, error) {
	if cause := r.over(); cause != nil {
		return at, cause
	}
	var gap *braid.TrimmedError
	switch {
	case errors.As(err, &gap):
		if err := r.tellOfGap(gap); err != nil {
			return at, err
		}
		return braid.AtSequence(gap.FirstAvailable), r.pass(Checkpoint{SequenceNumber: gap.LastLost})
	case isGone(err):
		return at, &goneError{err}
	case isFatal(err):
		return at, &fatalError{err}
	case errors.Is(err, braid.ErrBeyondTip):
		return at, err // the leases are of a newer copy: somebody has to decide, by Seek
	}
	r.log.Warn("the shard cannot be read; it is tried again", "attempt", attempt, "error", err)
	r.retrying(attempt, err)
	return at, r.cfg.pause(r.flow, attempt, err)
}

// tellOfGap tells of records that were removed before they were processed. The error
// is that of the user, who wants the shard to stop.
func (r *runner) tellOfGap(gap *braid.TrimmedError) error {
	r.worker.counts.gaps.Add(1)
	r.log.Warn("records were removed before they were processed", "of", gap.Shard, "firstLost", gap.FirstLost, "lastLost", gap.LastLost)
	if r.cfg.OnGap == nil {
		return nil
	}
	return r.call(Call{Method: "OnGap", Attempt: 1}, func() error { return r.cfg.OnGap(r.ctx, r.key.Stream, gap) })
}

// pass makes a place done at which there is no record for the processor.
func (r *runner) pass(place Checkpoint) error {
	if r.tracker != nil {
		r.tracker.pass(place)
		return nil
	}
	return r.move(place)
}

// give gives a page to the processor. If it ends with something that is not for the
// processor, the page is done up to there.
func (r *runner) give(page *Page, from Checkpoint) error {
	records, end := r.records(page, from)
	if err := r.giveRecords(page, records); err != nil {
		return err
	}
	if n := len(records); !end.SequenceNumber.IsZero() && (n == 0 || records[n-1].SequenceNumber != end.SequenceNumber) && from.before(end) {
		return r.pass(end)
	}
	return nil
}

func (r *runner) giveRecords(page *Page, records []Record) error {
	if len(records) == 0 {
		r.worker.budget.give(page.Bytes)
		return nil
	}
	if r.tracker != nil {
		r.noteGiven(records)
		r.tracker.add(records, page.Bytes)
		r.giveToLanes(records)
		return nil
	}
	defer r.worker.budget.give(page.Bytes)
	rest := *page // how far it is behind a batch: also by the batches after it
	rest.BehindRecords += int64(len(records))
	rest.BehindBytes += sizeOf(records)
	for batch := range slices.Chunk(records, r.cfg.BatchRecords) {
		rest.BehindRecords -= int64(len(batch))
		rest.BehindBytes -= sizeOf(batch)
		if err := r.waitForCommitter(); err != nil {
			return err
		}
		r.noteGiven(batch)
		if err := r.deliver(batch, &rest); err != nil {
			return err
		}
	}
	return nil
}

// noteGiven notes what the processor may checkpoint.
func (r *runner) noteGiven(records []Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delivered = records[len(records)-1].checkpoint()
}

// sizeOf counts the partition keys and data of records.
func sizeOf(records []Record) (bytes int64) {
	for i := range records {
		bytes += int64(records[i].Size())
	}
	return bytes
}

// records takes a page apart, and returns the place after it. What the first
// checkpoint says was processed is left out: of an aggregate, or by a source that
// begins at the last record.
func (r *runner) records(page *Page, from Checkpoint) (records []Record, end Checkpoint) {
	records = make([]Record, 0, len(page.Records))
	for i := range page.Records {
		carrier := &page.Records[i]
		end = Checkpoint{SequenceNumber: carrier.SequenceNumber}
		var users []kpl.UserRecord
		aggregated := false
		if r.cfg.Deaggregate {
			users, aggregated = kpl.Split(carrier.Data)
		}
		if !aggregated {
			records = append(records, Record{Record: *carrier})
			continue
		}
		first := len(records)
		for sub, user := range users {
			end.SubSequenceNumber = sub
			rec := Record{Record: *carrier, SubSequenceNumber: sub, Aggregated: true, Partial: true}
			rec.PartitionKey, rec.Data, rec.ExplicitHashKey = user.PartitionKey, user.Data, nil
			hash := braid.HashKeyOf(user.PartitionKey)
			if user.ExplicitHashKey != "" {
				if key, err := braid.ParseHashKey(user.ExplicitHashKey); err == nil {
					rec.ExplicitHashKey, hash = &key, key
				}
			}
			if r.cfg.KeepForeign || r.shard.HashKeyRange.Contains(hash) {
				records = append(records, rec)
			}
		}
		if len(records) > first {
			records[len(records)-1].Partial = false
		}
	}
	for len(records) > 0 && !from.SequenceNumber.IsZero() && !from.before(records[0].checkpoint()) {
		if from.Partial && !records[0].Aggregated {
			break // it is not taken apart any more, so all of it comes again
		}
		records = records[1:]
	}
	return records, end
}

// giveToLanes divides records by their partition keys. It waits for lanes that have
// much to do.
func (r *runner) giveToLanes(records []Record) {
	if len(r.lanes) == 1 {
		r.tracker.feed(0)
		r.lanes[0] <- records
		return
	}
	parts := make([][]Record, len(r.lanes))
	for i := range records {
		lane := maphash.String(laneSeed, records[i].PartitionKey) % uint64(len(r.lanes))
		parts[lane] = append(parts[lane], records[i])
	}
	for i, part := range parts {
		if len(part) > 0 {
			r.tracker.feed(i)
			r.lanes[i] <- part
		}
	}
}

var laneSeed = maphash.MakeSeed()

// runLane is the goroutine of a lane. It ends when its channel is closed.
func (r *runner) runLane(number int, lane chan []Record) {
	returned := false
	defer func() {
		if !returned { // by runtime.Goexit
			r.halt(errGoexit)
			for range lane {
				continue // so that nobody waits for it
			}
		}
	}()
	for records := range lane {
		for batch := range slices.Chunk(records, r.cfg.BatchRecords) {
			if r.waitForCommitter() != nil || r.over() != nil {
				break
			}
			if err := r.deliver(batch, nil); err != nil && r.over() == nil {
				r.halt(err)
			}
		}
		r.tracker.fed(number)
	}
	returned = true
}

// deliver gives records to the processor until they are done: again and again, then
// one by one, and then as the Config says.
func (r *runner) deliver(records []Record, page *Page) error {
	for attempt := 1; len(records) > 0; attempt++ {
		if cause := r.over(); cause != nil {
			return cause
		}
		err := r.try(records, page, attempt)
		if err == nil {
			r.recover()
			return nil
		}
		if cause := context.Cause(r.ctx); cause != nil {
			return cause
		}
		var fatal *fatalError
		if errors.As(err, &fatal) {
			return err
		}
		var commit *commitError
		if errors.As(err, &commit) && !errors.Is(err, braid.ErrTxTooLarge) {
			if isFatal(err) {
				return &fatalError{err}
			}
			if err := r.passCommitError(commit.error); err != nil {
				return err
			}
			attempt--
			continue
		}
		if n := r.doneBefore(records, err); n > 0 {
			if err := r.finish(records[:n], page); err != nil {
				return err
			}
			records, attempt = records[n:], 1
		}
		if errors.Is(err, braid.ErrTxTooLarge) && len(records) > 1 {
			half := len(records) / 2
			if err := r.deliver(records[:half], page); err != nil {
				return err
			}
			records, attempt = records[half:], 0
			continue
		}
		r.worker.counts.failures.Add(1)
		r.log.Warn("the processor has failed", "attempt", attempt, "records", len(records), "first", records[0].SequenceNumber, "error", err)
		r.retrying(attempt, err)
		if r.cfg.MaxAttempts > 0 && attempt >= r.cfg.MaxAttempts {
			return r.giveOneByOne(records, page, attempt, err)
		}
		if err := r.cfg.pause(r.flow, attempt, err); err != nil {
			return err
		}
	}
	return nil
}

// passCommitError waits after a transaction that was none of its processor's fault.
func (r *runner) passCommitError(err error) error {
	r.commitErrors++
	r.log.Warn("the transaction could not be committed; it is tried again", "error", err)
	r.retrying(r.commitErrors, err)
	return r.cfg.pause(r.flow, r.commitErrors, err)
}

// doneBefore returns how many records the processor says are done.
func (r *runner) doneBefore(records []Record, err error) int {
	var at *RecordError
	if !errors.As(err, &at) {
		return 0
	}
	place := at.Record.checkpoint()
	return max(0, slices.IndexFunc(records, func(rec Record) bool { return rec.checkpoint() == place }))
}

// finish makes records done that the processor has said are. What it has written in
// a transaction is gone with it, so there they are given to it again, alone.
func (r *runner) finish(records []Record, page *Page) error {
	if r.tx != nil {
		return r.deliver(records, page)
	}
	return r.done(records)
}

// giveOneByOne finds the record that fails.
func (r *runner) giveOneByOne(records []Record, page *Page, attempts int, err error) error {
	if len(records) == 1 {
		return r.passFailed(&records[0], attempts, err)
	}
	for i := range records {
		if err := r.deliver(records[i:i+1], page); err != nil {
			return err
		}
	}
	return nil
}

// try gives records to the processor once. If it returns nil, they are done.
func (r *runner) try(records []Record, page *Page, attempt int) error {
	batch := r.batch(records, page, attempt)
	call := Call{Method: "ProcessRecords", Attempt: attempt, Records: len(records), First: records[0].SequenceNumber, Last: records[len(records)-1].SequenceNumber}
	began := time.Now()
	defer func() { r.worker.counts.processing.Add(int64(time.Since(began))) }()
	if r.tx == nil {
		if err := r.call(call, func() error { return r.plain.ProcessRecords(r.ctx, batch) }); err != nil {
			return err
		}
		return r.done(records)
	}
	last := records[len(records)-1].checkpoint()
	var failed error // of the processor
	err := r.update(r.ctx, func(tx *braid.Tx, lease *Lease) error {
		if failed = nil; !lease.Checkpoint.before(last) {
			return nil // a commit of unknown outcome has come through
		}
		failed = r.call(call, func() error { return r.tx.ProcessRecords(r.ctx, tx, batch) })
		lease.advance(last)
		return failed
	})
	switch {
	case failed != nil:
		return failed
	case err != nil:
		return &commitError{err}
	}
	r.commitErrors = 0
	r.note(records)
	r.worker.counts.checkpoints.Add(1)
	return nil
}

// note counts what was processed.
func (r *runner) note(records []Record) {
	r.worker.counts.batches.Add(1)
	r.worker.counts.records.Add(int64(len(records)))
	r.worker.counts.bytes.Add(sizeOf(records))
}

// done moves the checkpoint over records that were processed, if that is the
// worker's to do.
func (r *runner) done(records []Record) error {
	r.note(records)
	last := records[len(records)-1].checkpoint()
	switch {
	case r.cfg.Acks:
		return nil
	case r.tracker != nil:
		r.tracker.done(records)
		return nil
	}
	return r.move(last)
}

// passFailed does what the Config says about a record that has failed.
func (r *runner) passFailed(record *Record, attempts int, cause error) error {
	switch {
	case r.cfg.DeadLetterStream != "":
		if err := r.putDeadLetter(record, attempts, cause); err != nil {
			return err
		}
		r.worker.counts.deadLettered.Add(1)
		r.log.Error("a record has failed, and was put into the dead-letter stream", "record", record.SequenceNumber, "error", cause)
	case r.cfg.SkipFailed:
		r.worker.counts.skipped.Add(1)
		r.log.Error("a record has failed, and is skipped", "record", record.SequenceNumber, "error", cause)
	default:
		failed := *record // alone: a shard that is stopped must not keep the page
		failed.PartitionKey, failed.Data = strings.Clone(record.PartitionKey), bytes.Clone(record.Data)
		return &RecordError{Record: failed, Err: fmt.Errorf("after %d attempts: %w", attempts, cause)}
	}
	r.recover()
	if r.tracker != nil {
		r.tracker.done([]Record{*record})
		return nil
	}
	return r.pass(record.checkpoint())
}

// putDeadLetter puts the record into the dead-letter stream, in one commit with the
// checkpoint. It tries again for as long as there is an error that may pass.
func (r *runner) putDeadLetter(record *Record, attempts int, cause error) error {
	data, err := newDeadLetter(r.cfg.App, r.key.Stream, record, attempts, cause).encode()
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		err := r.update(r.ctx, func(tx *braid.Tx, lease *Lease) error {
			if r.tracker != nil {
				lease.advance(r.tracker.with(record))
			} else {
				lease.advance(record.checkpoint())
			}
			return tx.PutRecord(r.cfg.DeadLetterStream, record.PartitionKey, data)
		})
		switch {
		case isFatal(err):
			return &fatalError{err}
		case err == nil || errors.Is(err, braid.ErrInvalidArgument):
			return err
		}
		if cause := context.Cause(r.ctx); cause != nil {
			return cause
		}
		r.log.Warn("the dead letter could not be put; it is tried again", "attempt", attempt, "error", err)
		r.retrying(attempt, err)
		if err := r.cfg.pause(r.flow, attempt, err); err != nil {
			return err
		}
	}
}

// end finishes the shard: all its records have been given out.
func (r *runner) end() error {
	r.wait(waitDone)
	if r.tracker != nil && !r.cfg.Acks {
		if err := r.tracker.empty(r.flow); err != nil {
			return err
		}
	}
	hook, has := r.hooks.(ShardEnder)
	if has {
		if err := r.until("ShardEnded", func() error { return hook.ShardEnded(r.ctx, r.checkpointer()) }); err != nil {
			return err
		}
	}
	if r.cfg.Acks { // the hook may have acknowledged the last ones
		if err := r.tracker.empty(r.flow); err != nil {
			return err
		}
	}
	if r.cfg.ManualCheckpoints && !has {
		if err := r.waitForCheckpoint(); err != nil {
			return err
		}
	}
	r.shardEnded = has
	return r.insist(Checkpoint{ShardEnd: true})
}

// waitForCheckpoint waits until the processor has checkpointed all that it was given.
func (r *runner) waitForCheckpoint() error {
	for {
		progress := r.hold.group.progress.Wait()
		r.mu.Lock()
		done := !r.lease.Checkpoint.before(r.delivered)
		r.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-progress:
		case <-r.flow.Done():
			return r.over()
		}
	}
}

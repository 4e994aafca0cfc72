package awskinesis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// outboxShard is the forwarder's state of a shard of the outbox.
type outboxShard struct {
	// flights are the batches that were given to the forwarder and may not be checkpointed yet, in
	// order. A batch that is done is removed when it is the first.
	flights fifo[*flight]

	// stored are records after the checkpoint that need not be put when they are delivered again:
	// Kinesis stored them under an earlier lease, which ended before its checkpoint passed them.
	stored map[braid.SequenceNumber]struct{}

	lease   *consumer.Checkpointer // of the last lease; nil before the first
	waiting braid.Position         // the position of the first record that the forwarder was not given
}

// flight is a batch in flight. The first two fields belong to the goroutine that works on it, until
// ended is closed.
type flight struct {
	records []consumer.Record
	done    []bool // records that no longer need to be put

	ended chan struct{} // closed when no goroutine works on it any longer

	open    int                    // number of records that are not done
	numbers []braid.SequenceNumber // of all records, once they are done; then records is empty
	trouble trouble                // why records are not done, from the last attempt
	lost    bool                   // its lease ended before they were done
}

// shardLocked returns the shard with that ID.
func (f *Forwarder) shardLocked(id braid.ShardID) *outboxShard {
	sh := f.shards[id]
	if sh == nil {
		sh = &outboxShard{}
		f.shards[id] = sh
	}
	return sh
}

// forwarding is the processor of a lease.
type forwarding struct {
	f     *Forwarder
	shard *outboxShard
}

func (f *Forwarder) newLease(lease consumer.Lease) consumer.Processor {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &forwarding{f, f.shardLocked(lease.Shard)}
}

// Initialize takes over from the previous lease: it notes the records that were put, but that the
// checkpoint has not passed.
func (l *forwarding) Initialize(ctx context.Context, c *consumer.Checkpointer) error {
	f, sh := l.f, l.shard
	if err := f.waitForFlights(ctx, sh); err != nil {
		return err
	}
	begins := c.Lease().Checkpoint
	if err := f.dropping.take(ctx); err != nil {
		return err
	}
	defer f.dropping.end()
	f.mu.Lock()
	defer f.mu.Unlock()
	again := sh.lease != nil && begins.SequenceNumber.Compare(sh.lease.Lease().Checkpoint.SequenceNumber) < 0
	if sh.stored == nil || again { // App.Seek has asked for records that were put before
		sh.stored = make(map[braid.SequenceNumber]struct{})
	} else {
		for _, fl := range sh.flights.all() {
			for _, n := range fl.numbers {
				sh.stored[n] = struct{}{}
			}
			for i := range fl.records {
				switch rec := &fl.records[i]; {
				case fl.done[i]:
					sh.stored[rec.SequenceNumber] = struct{}{}
				case rec.ArrivalTime.Before(f.floor): // it was trimmed while in flight
					f.countDropped(1, rec.Size())
				}
			}
		}
	}
	for n := range sh.stored {
		if n.Compare(begins.SequenceNumber) <= 0 {
			delete(sh.stored, n)
		}
	}
	sh.flights = fifo[*flight]{}
	sh.lease, sh.waiting = c, positionOf(begins)
	return nil
}

// waitForFlights waits until no goroutine works on a shard's batches any longer. Their lease has
// ended, so that is soon.
func (f *Forwarder) waitForFlights(ctx context.Context, sh *outboxShard) error {
	f.mu.Lock()
	flights := slices.Clone(sh.flights.all())
	f.mu.Unlock()
	for _, fl := range flights {
		select {
		case <-fl.ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// positionOf returns the position after a checkpoint.
func positionOf(c consumer.Checkpoint) braid.Position {
	if c.SequenceNumber.IsZero() {
		return c.Start
	}
	return braid.AfterSequence(c.SequenceNumber)
}

// ProcessRecords puts a batch. With strict order it returns when the whole batch is done, and
// otherwise as soon as the producer has the records, in order.
func (l *forwarding) ProcessRecords(ctx context.Context, batch *consumer.Batch) error {
	fl, err := l.give(ctx, batch)
	if fl == nil {
		return err
	}
	t, err := l.begin(ctx, batch.Checkpointer, fl)
	if err != nil {
		l.end(fl, err)
		return err
	}
	if !l.f.opts.Fast {
		return l.finish(ctx, batch.Checkpointer, fl, t)
	}
	go func() { // ends with the lease, and closes ended, for which Run and the next lease wait
		_ = l.finish(ctx, batch.Checkpointer, fl, t) // the error is the cause of ctx, or ends Run
	}()
	return nil
}

// give notes a batch as given to the forwarder. It returns a flight with the records to put, or nil
// if there are none; the other records were put before, or dropped. An error is the cause of ctx,
// and means that nothing was noted.
func (l *forwarding) give(ctx context.Context, batch *consumer.Batch) (*flight, error) {
	f, sh := l.f, l.shard
	if err := f.dropping.take(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	records, passed := batch.Records, []consumer.Record(nil)
	if len(sh.stored) > 0 || records[0].ArrivalTime.Before(f.floor) {
		records = nil
		for _, rec := range batch.Records {
			_, stored := sh.stored[rec.SequenceNumber]
			if stored || rec.ArrivalTime.Before(f.floor) {
				delete(sh.stored, rec.SequenceNumber)
				passed = append(passed, rec)
			} else {
				records = append(records, rec)
			}
		}
	}
	sh.waiting = braid.AfterSequence(batch.Records[len(batch.Records)-1].SequenceNumber)
	var fl *flight
	if n := len(records); n > 0 {
		fl = &flight{records: records, done: make([]bool, n), ended: make(chan struct{}), open: n}
		sh.flights.push(fl)
	}
	f.mu.Unlock()
	f.dropping.end()
	_ = batch.Ack(passed...) // an error means that the lease is lost
	return fl, nil
}

// attempt is a producer call for some records of a flight.
type attempt struct {
	call *call // nil if no record can be put
	sent []int // the records, by their index
}

// begin passes the records of a flight that are not done to the producer, in order. First it
// handles those that Kinesis cannot accept. An error is the cause of ctx, or ends Run.
func (l *forwarding) begin(ctx context.Context, c *consumer.Checkpointer, fl *flight) (attempt, error) {
	var t attempt
	var entries []braid.Entry
	var held map[string]bool // keys whose records must wait
	var passed []int
	for i := range fl.records {
		rec := &fl.records[i]
		if fl.done[i] || held[rec.PartitionKey] {
			continue
		}
		e := braid.Entry{PartitionKey: rec.PartitionKey, ExplicitHashKey: rec.ExplicitHashKey, Data: rec.Data}
		err := l.f.to.validateEntry(&e, "")
		switch {
		case err == nil:
			entries, t.sent = append(entries, e), append(t.sent, i)
		case l.refuse(ctx, fl, i, err):
			passed = append(passed, i)
		case !l.f.opts.Fast:
			if held == nil {
				held = make(map[string]bool)
			}
			held[rec.PartitionKey] = true
		}
	}
	l.markDone(c, fl, passed)
	if len(entries) == 0 {
		return t, nil
	}
	t.call = newCall(entries, true)
	err := l.f.to.admit(ctx, t.call)
	if errors.Is(err, braid.ErrClosed) {
		l.f.fail(fmt.Errorf("producer: %w", err))
	}
	return t, err
}

// finish waits for the outcome of an attempt, and retries until all records of the flight are done.
// An error is the cause of ctx, or ends Run.
func (l *forwarding) finish(ctx context.Context, c *consumer.Checkpointer, fl *flight, t attempt) (err error) {
	defer func() { l.end(fl, err) }()
	for fails := 1; ; fails++ {
		progress := l.settle(ctx, c, fl, t)
		l.f.mu.Lock()
		open, failed := fl.open, fl.trouble.err
		l.f.mu.Unlock()
		if open == 0 {
			return nil
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if progress {
			fails = 1
		}
		l.f.log.Warn("records cannot be forwarded; retrying", "records", open, "attempt", fails, "error", failed)
		if err := pauseFor(ctx, min(forwardPause<<min(fails-1, 16), longestForwardPause)); err != nil {
			return err
		}
		if t, err = l.begin(ctx, c, fl); err != nil {
			return err
		}
	}
}

// The pauses between attempts, which double.
const (
	forwardPause        = 100 * time.Millisecond
	longestForwardPause = 30 * time.Second
)

func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// settle waits for the outcome of an attempt, and reports whether it finished any record.
func (l *forwarding) settle(ctx context.Context, c *consumer.Checkpointer, fl *flight, t attempt) (progress bool) {
	if t.call == nil {
		return false
	}
	select {
	case <-t.call.settled:
	case <-ctx.Done():
		l.f.to.withdraw(t.call, context.Cause(ctx))
	}
	var done []int
	var failed map[string]bool // keys with a failed record, whose error the later ones also have
	for n, i := range t.sent {
		rec, err := &fl.records[i], t.call.results[n].Err
		if err == nil {
			done = append(done, i)
			l.f.counts.forwarded.Add(1)
			l.f.counts.forwardedBytes.Add(int64(rec.Size()))
			continue
		}
		if failed[rec.PartitionKey] {
			continue
		}
		if failed == nil {
			failed = make(map[string]bool)
		}
		failed[rec.PartitionKey] = true
		switch {
		case ctx.Err() != nil:
			// the lease has ended, and Initialize handles the remaining records
		case !errors.Is(err, braid.ErrInvalidArgument) || errors.Is(err, braid.ErrOutcomeUnknown):
			l.note(fl, err)
		case l.refuse(ctx, fl, i, err):
			done = append(done, i)
		}
	}
	l.markDone(c, fl, done)
	return len(done) > 0
}

// refuse passes a record that Kinesis refuses to OnRefused or the DeadLetterStream, and reports
// whether it was taken. If it was not, refuse notes the trouble.
func (l *forwarding) refuse(ctx context.Context, fl *flight, i int, cause error) (taken bool) {
	rec := &fl.records[i].Record
	log := l.f.log.With("shard", rec.ShardID, "record", rec.SequenceNumber, "error", cause)
	var to string
	var err error
	switch {
	case l.f.opts.OnRefused != nil:
		to, err = "OnRefused", callHook(func() error { return l.f.opts.OnRefused(ctx, *rec, cause) })
	case l.f.opts.DeadLetterStream != "":
		to, err = l.f.opts.DeadLetterStream, l.f.putDeadLetter(ctx, rec, cause)
	default:
		log.Error("a record that Kinesis refuses waits: neither OnRefused nor DeadLetterStream is set")
		l.note(fl, fmt.Errorf("record %s of %s is refused: %w", rec.SequenceNumber, rec.ShardID, cause))
		return false
	}
	if err != nil {
		log.Warn("a refused record could not be passed to OnRefused or the dead-letter stream; retrying", "to", to, "failure", err)
		l.note(fl, fmt.Errorf("record %s of %s is refused: %w; it could not be passed on: %w", rec.SequenceNumber, rec.ShardID, cause, err))
		return false
	}
	log.Error("a record that Kinesis refuses was passed on", "to", to)
	l.f.counts.refused.Add(1)
	return true
}

// callHook turns a panic into an error, so that the batch is not delivered again.
func callHook(hook func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &consumer.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return hook()
}

// maxLetterError is the maximum length of an error's text in a dead letter.
const maxLetterError = 4 << 10

func (f *Forwarder) putDeadLetter(ctx context.Context, rec *braid.Record, cause error) error {
	text := cause.Error()
	letter, err := json.Marshal(consumer.DeadLetter{
		App:             f.opts.App,
		Stream:          f.outbox,
		ShardID:         rec.ShardID,
		SequenceNumber:  rec.SequenceNumber,
		PartitionKey:    rec.PartitionKey,
		ExplicitHashKey: rec.ExplicitHashKey,
		ArrivalTime:     rec.ArrivalTime,
		Data:            rec.Data,
		Error:           text[:min(len(text), maxLetterError)],
		Attempts:        1,
	})
	if err != nil {
		return err
	}
	stream, err := f.db.Stream(f.opts.DeadLetterStream)
	if err != nil {
		return err
	}
	_, err = stream.PutRecordWait(ctx, rec.PartitionKey, letter)
	return err
}

// markDone notes that records of a flight no longer need to be put, and lets the checkpoint pass
// them.
func (l *forwarding) markDone(c *consumer.Checkpointer, fl *flight, done []int) {
	if len(done) == 0 {
		return
	}
	records := make([]consumer.Record, len(done))
	l.f.mu.Lock()
	for n, i := range done {
		records[n] = fl.records[i]
		fl.done[i] = true
	}
	if fl.open -= len(done); fl.open == 0 { // free the data now, not only after the checkpoint
		fl.numbers = make([]braid.SequenceNumber, len(fl.records))
		for i := range fl.records {
			fl.numbers[i] = fl.records[i].SequenceNumber
		}
		fl.records, fl.done = nil, nil
	}
	passed := c.Lease().Checkpoint.SequenceNumber
	for q := &l.shard.flights; q.len() > 0 && q.peek().isBefore(passed); {
		q.pop()
	}
	l.f.mu.Unlock()
	_ = c.Ack(records...) // an error means that the lease is lost
}

// isBefore reports whether the whole flight is done and before the checkpoint.
func (fl *flight) isBefore(checkpoint braid.SequenceNumber) bool {
	return fl.open == 0 && fl.numbers[len(fl.numbers)-1].Compare(checkpoint) <= 0
}

// end notes that no goroutine works on the flight any longer.
func (l *forwarding) end(fl *flight, err error) {
	l.f.mu.Lock()
	fl.lost = err != nil
	l.f.mu.Unlock()
	close(fl.ended)
}

// note stores why records of a flight are not done.
func (l *forwarding) note(fl *flight, err error) {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	fl.trouble.note(err, time.Now())
}

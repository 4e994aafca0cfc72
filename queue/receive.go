package queue

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
)

// Limits of reading ahead, high enough to make the cost of a read negligible.
const (
	aheadRecords = 4096
	aheadBytes   = 1 << 20
)

// Receive returns up to n visible records, oldest first; n is 1 to 10,000. New records and records
// that are received again alternate. If no record is visible, Receive waits for one, without
// polling: for [ReceiveOptions].Wait, or, with nil options, until ctx ends. If Wait passes, it
// returns no records and no error.
//
// The records are hidden from other receivers until they are acknowledged, or their
// visibility timeout passes. Their delivery, and its count, is durable in the database's
// mode before Receive returns, so that a record that crashes the process is counted. If
// ctx ends before that, the records are given back.
//
// Errors: braid.ErrInvalidArgument; [ErrQueueNotFound]; braid.ErrKeyUnavailable if records are
// encrypted; braid.ErrDiskFull, braid.ErrFailed, braid.ErrReadOnly, braid.ErrClosed; the cause of
// ctx. braid.ErrOutcomeUnknown, which wraps one of these, means that a delivery to the caller was
// being committed. Its records are given back; if the database has failed, the delivery may count.
// Kinesis: ReceiveQueueRecords.
func (q *Queue) Receive(ctx context.Context, n int, options *ReceiveOptions) ([]Record, error) {
	records, err := q.receiveWith(ctx, n, options, false)
	return records, wrap("receive", q.name, err)
}

func (q *Queue) receiveWith(ctx context.Context, n int, options *ReceiveOptions, dead bool) ([]Record, error) {
	opts, err := options.withDefaults(n)
	if err != nil {
		return nil, err
	}
	return q.receive(ctx, opts.ask(n, dead), opts.Wait, nil)
}

// Exchange acknowledges processed records, as [Queue.Ack] does, and receives the next ones, as
// [Queue.Receive] does, in one commit. A loop that uses it handles nearly twice as many records per
// second as one that calls Ack and Receive in turn. Without receipts, Exchange is Receive. If no
// record is visible, it first acknowledges, and then waits for a record.
//
// If receipts are refused, Exchange returns a [ReceiptsError] together with the received records;
// all other receipts are acknowledged. After any other error, no records are returned, and the
// receipts may or may not be acknowledged; it is safe to acknowledge them again with Ack. These
// errors are those of Receive. While the disk is full, Exchange fails, but Ack works. Kinesis:
// AcknowledgeQueueRecords and ReceiveQueueRecords.
func (q *Queue) Exchange(ctx context.Context, n int, options *ReceiveOptions, done ...Receipt) ([]Record, error) {
	opts, err := options.withDefaults(n)
	if err != nil {
		return nil, wrap("exchange records of", q.name, err)
	}
	steps := q.steps(step{verb: acknowledge}, false, done)
	records, err := q.receive(ctx, opts.ask(n, false), opts.Wait, steps)
	if err == nil {
		err = failures(steps, done)
	}
	return records, wrap("exchange records of", q.name, err)
}

// Follow receives records one by one until ctx ends. The loop must settle each record, or it is
// received again after its visibility timeout. Wait of the options is ignored.
//
// An error, one of those of [Queue.Receive], is yielded once, last, with a zero Record.
func (q *Queue) Follow(ctx context.Context, options *ReceiveOptions) iter.Seq2[Record, error] {
	var opts ReceiveOptions
	if options != nil {
		opts = *options
	}
	opts.Wait = 0
	return func(yield func(Record, error) bool) {
		for {
			records, err := q.Receive(ctx, 1, &opts)
			if err != nil {
				yield(Record{}, err)
				return
			}
			if !yield(records[0], nil) {
				return
			}
		}
	}
}

// receive does the steps and receives records, in one commit. It does the steps before it
// waits for records.
func (q *Queue) receive(ctx context.Context, a ask, wait time.Duration, steps []step) (records []Record, err error) {
	if err := q.load(ctx); err != nil {
		return nil, err
	}
	if q.door.ReadOnly() { // even with nothing to receive, for which it would wait forever
		return nil, braid.ErrReadOnly
	}
	defer func() {
		if err != nil { // if this receiver was called, the next one is called in its place
			q.alert()
		}
	}()
	timer := stoppable{limit: wait}
	defer timer.stop()
	for {
		n, err := q.prepare(ctx, a)
		if err != nil {
			return nil, err
		}
		if n > 0 || len(steps) > 0 {
			records, err := q.commit(ctx, &a, steps)
			if len(records) > 0 || err != nil {
				return records, err
			}
			steps = nil
			continue
		}
		if wait < 0 || timer.spent {
			return nil, q.missed(ctx)
		}
		w := q.enlist(a)
		if w == nil {
			continue // records have come in the meantime
		}
		given, over, err := q.await(ctx, w, &timer)
		switch {
		case err != nil:
			return nil, err
		case over:
			return nil, q.missed(ctx)
		case len(given) > 0:
			records, err := q.fetch(ctx, given)
			if len(records) > 0 || err != nil {
				return records, err
			}
		}
	}
}

// missed ends a receive that has found no record.
func (q *Queue) missed(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	err := q.overLocked(ctx)
	if err == nil {
		q.stats.empty++
	}
	return err
}

// prepare returns how many records could be received now. If there are new ones, it first
// reads ahead. It lets time pass until there are enough, and for at least twice as many entries: see
// pass.go.
func (q *Queue) prepare(ctx context.Context, a ask) (n int, err error) {
	for passed := passedAtOnce; ; passed += passedAtOnce {
		q.mu.Lock()
		now := q.door.Now()
		q.passed(now, passedAtOnce)
		n, read := q.offers(a, now, a.n)
		more := q.behind && (n < a.n || passed < 2*a.n)
		read = read && q.unread()
		from := q.readAt
		err := q.overLocked(ctx)
		q.mu.Unlock()
		switch {
		case err != nil:
			return n, err
		case more && !read:
			continue
		case !read:
			return n, nil
		}
		if err := q.readAhead(ctx, from); err != nil {
			if n > 0 {
				return n, nil // records in memory come first
			}
			return 0, err
		}
	}
}

// readAhead reads new records from a counter on, unless another goroutine has done so in
// the meantime.
//
// The caller has seen that records exist at from or later. So meanwhile no commit moves
// q.readAt past the records that it contains: see Arrive.
func (q *Queue) readAhead(ctx context.Context, from uint64) error {
	if err := takeTurn(ctx, q.door, q.reading); err != nil {
		return err
	}
	defer giveTurn(q.reading)
	q.mu.Lock()
	done := q.readAt != from
	q.mu.Unlock()
	if done {
		return nil
	}
	read, next, err := q.inner.Read(ctx, from, aheadRecords, aheadBytes, &q.readPlace)
	switch {
	case errors.Is(err, braid.ErrTrimmed):
		return nil // while they were read; the next try continues after the trimmed records
	case errors.Is(err, braid.ErrCorrupt), errors.Is(err, braid.ErrDataLoss):
		if _, limited := errors.AsType[*braid.CorruptError](err); !limited { // to certain records
			return err
		}
		q.log.Error("new records cannot be read; the queue skips them", "queue", q.name, "error", err)
	case err != nil:
		return err
	}
	records, _ := read.([]braid.Record)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addFresh(records, next)
	return nil
}

// addFresh adds records that were read ahead. next is where to continue reading.
func (q *Queue) addFresh(records []braid.Record, next uint64) {
	if len(q.fresh) == 0 {
		q.fresh = records
	} else {
		q.fresh = append(q.fresh, records...)
	}
	for i := range records {
		q.ahead += records[i].Size()
	}
	q.readAt = next
}

// commit does the steps and receives records, as one commit. Errors of steps are stored
// in them. With a nil ask nothing is received; without steps as well, only waiting
// receivers are served.
func (q *Queue) commit(ctx context.Context, a *ask, steps []step) ([]Record, error) {
	c := &change{queue: q, ask: a, steps: steps, essential: a == nil && len(steps) > 0}
	bytes := 0
	if a != nil {
		bytes = 100 * min(a.n, 1000)
	}
	for i := range steps {
		bytes += 100
		c.essential = c.essential && steps[i].verb.isEssential()
	}
	err := q.door.Commit(ctx, c.essential, bytes, c.apply)
	if errors.Is(err, braid.ErrOutcomeUnknown) {
		c.abandon()
	}
	if err != nil {
		return nil, err
	}
	return q.fetch(ctx, c.taken)
}

// change is a commit of a queue.
type change struct {
	queue     *Queue
	ask       *ask
	steps     []step // guarded by the queue's mutex until the commit has ended
	essential bool
	served    []*waiter // receivers that get records by this commit
	delivery
}

// delivery is what a commit gives to one receiver. The queue's mutex guards it until the
// receiver has it.
type delivery struct {
	taken     []taken
	done      bool // the delivery is durable
	abandoned bool // nobody waits for it any longer
}

// doneLocked notes that the delivery is durable.
func (d *delivery) doneLocked(q *Queue) {
	d.done = true
	if d.abandoned && len(d.taken) > 0 {
		go q.giveBack(d.taken) // ends with its commit, or with the database
	}
}

// abandonLocked gives back the records that the commit takes or has taken.
func (d *delivery) abandonLocked(q *Queue) {
	d.abandoned = true
	if d.done && len(d.taken) > 0 {
		go q.giveBack(d.taken)
	}
}

// abandon leaves the change to the commit, which may still be made. The commit keeps a copy of the
// steps, so the caller may reuse them.
func (c *change) abandon() {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	c.abandonLocked(q)
	c.steps = slices.Clone(c.steps)
}

// apply is called by the committer.
func (c *change) apply(rows companion.Rows) (publish func(), err error) {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone {
		return nil, ErrQueueNotFound
	}
	now := q.door.Now()
	q.passed(now, passedInCommit)
	q.flush(rows)
	for i := range c.steps {
		if st := &c.steps[i]; st.err == nil {
			st.err = q.do(rows, st, now)
		}
	}
	all := false
	if !c.essential || !q.door.Full() { // the reserved space is not used for waiting receivers
		c.served, all = q.serve(rows, now, nil)
	}
	if c.ask != nil && !c.abandoned && all { // waiting receivers come first
		c.taken = q.take(rows, *c.ask, now)
		q.stats.received += uint64(len(c.taken))
	}
	return c.publish, nil
}

// publish is called by the committer when the commit is durable.
func (c *change) publish() {
	q := c.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	c.doneLocked(q)
	q.deliver(c.served)
	q.alertLocked()
}

// giveBack makes records visible again that were not returned to a receiver.
func (q *Queue) giveBack(all []taken) {
	steps := make([]step, len(all))
	for i := range all {
		steps[i] = step{verb: giveBack, ticket: all[i].ticket}
	}
	if _, err := q.commit(q.door.Life(), nil, steps); err != nil && q.door.Life().Err() == nil {
		q.log.Warn("records that were not delivered stay hidden until their visibility timeout passes", "queue", q.name, "records", len(all), "error", err)
	}
}

// fetch reads those of the taken records that are not in memory. Records that no longer
// exist leave the queue.
func (q *Queue) fetch(ctx context.Context, all []taken) ([]Record, error) {
	records := make([]Record, 0, len(all))
	for i := range all {
		t := &all[i]
		if t.record == nil {
			there, err := q.readOne(ctx, t)
			if err != nil {
				go q.giveBack(all) // in the background, so that it does not hold up the caller
				return nil, err
			}
			if !there {
				continue
			}
		}
		records = append(records, Record{
			Record: *t.record, ID: t.id(), Receipt: q.receipt(t.ticket),
			Receives: t.receives, FirstReceived: timeOf(t.first), Reason: t.reason,
		})
		*t.record = braid.Record{} // its memory may be shared with records that stay for long
	}
	return records, nil
}

// readOne reads the record of a delivery. It reports whether the record can be read.
func (q *Queue) readOne(ctx context.Context, t *taken) (there bool, err error) {
	q.mu.Lock()
	sh, there := q.shards[t.shard]
	q.mu.Unlock()
	if there {
		page, err := sh.GetRecords(ctx, braid.AtTime(timeOf(t.counter)), &braid.GetRecordsOptions{Limit: 1, Unmetered: true})
		switch {
		case errors.Is(err, braid.ErrCorrupt), errors.Is(err, braid.ErrDataLoss):
			q.log.Error("a record cannot be read, and leaves the queue", "queue", q.name, "record", t.id(), "error", err)
		case err != nil:
			return false, err
		case len(page.Records) > 0 && placeOf(&page.Records[0]) == t.place:
			t.record = &page.Records[0]
			return true, nil
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.entries[t.counter]; e != nil {
		q.expire(e)
		q.alertLocked() // it may have held others back
	}
	return false, nil
}

// stoppable is a timer that is created at its first use.
type stoppable struct {
	limit time.Duration // 0: it never fires
	timer *time.Timer
	spent bool // it has fired
}

func (s *stoppable) passed() <-chan time.Time {
	if s.limit == 0 || s.spent {
		return nil
	}
	if s.timer == nil {
		s.timer = time.NewTimer(s.limit)
	}
	return s.timer.C
}

func (s *stoppable) stop() {
	if s.timer != nil {
		s.timer.Stop()
	}
}

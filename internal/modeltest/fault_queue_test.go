package modeltest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/queuetest"
	"github.com/braidstream/braid/queue"
)

// faultQueue is a queue of the fault workload. It notes the results of all calls, record by record;
// they must explain the state of a queue that is reopened. An acknowledged record does not come
// back; every other one does, with the right count of receives. A call that failed has changed
// nothing; one with an unknown outcome happened or did not.
//
// One goroutine at a time uses it.
type faultQueue struct {
	t      require.TestingT
	w      *faultWork // nil while it is judged
	name   string
	stream string
	exists outcome // acked: it must exist; refused: it must not
	q      *queue.Queue

	history map[string][]queuetest.Call // by the ID in a record's data
	anyone  []queuetest.Call            // receives of unknown outcome: they may have taken any record
	held    []faultDelivery             // the newest of their records, not settled
	ticks   int64
	given   int // deliveries
}

// faultDelivery is a receipt from a receive.
type faultDelivery struct {
	id      string
	name    int
	receipt queue.Receipt
	dead    bool
}

const (
	// faultHour is a visibility timeout that outlasts every workload. When the workload is judged,
	// it has passed.
	faultHour = time.Hour

	faultMostReceives = 3
)

// faultEpoch is the origin of the times of calls.
var faultEpoch = time.Now()

// faultJudgeClock is the clock of a database that is judged: all visibility timeouts have passed,
// and nothing has expired.
func faultJudgeClock() time.Time { return time.Now().Add(2 * faultHour) }

func newFaultQueue(w *faultWork, name, stream string) *faultQueue {
	return &faultQueue{t: w.t, w: w, name: name, stream: stream, exists: outcomeRefused, history: make(map[string][]queuetest.Call)}
}

// clone returns a copy that a judge may use.
func (fq *faultQueue) clone() *faultQueue {
	other := *fq
	other.history = make(map[string][]queuetest.Call)
	for id, calls := range fq.history {
		other.history[id] = slices.Clone(calls)
	}
	other.anyone, other.held = slices.Clone(fq.anyone), nil
	return &other
}

// open opens the queue, or creates it.
func (fq *faultQueue) open() error {
	if fq.exists != outcomeAcked {
		fq.exists = outcomeUnknown
	}
	err := fq.w.call("open queue", func() (err error) {
		fq.q, err = queue.Open(context.Background(), fq.w.db, fq.name, &queue.Options{
			Stream: fq.stream, VisibilityTimeout: faultHour, MaxReceives: faultMostReceives,
		})
		return err
	})
	switch {
	case err == nil:
		fq.exists = outcomeAcked
	case fq.exists == outcomeUnknown && !errors.Is(err, braid.ErrOutcomeUnknown):
		fq.exists = outcomeRefused
	}
	return err
}

func (fq *faultQueue) delete() error {
	err := fq.w.call("delete queue", func() error { return fq.q.Delete(context.Background()) })
	switch {
	case err == nil:
		fq.exists, fq.held = outcomeRefused, nil
	case errors.Is(err, braid.ErrOutcomeUnknown):
		fq.exists = outcomeUnknown
	}
	return err
}

// use does one round's step.
func (fq *faultQueue) use(n int, wait time.Duration) error {
	steps := [...]func() error{
		func() error { return fq.settle(queuetest.Ack, 0, fq.some(2)) },
		func() error { return fq.settle(queuetest.Release, 0, fq.some(2)) },
		func() error { return fq.settle(queuetest.Reject, 0, fq.some(3)) },
		func() error { return fq.settle(queuetest.Extend, 0, fq.some(2)) },
		func() error { return fq.settle(queuetest.AckTx, 0, fq.some(2)) },
		func() error {
			if err := fq.receive(true, 2, faultHour, -1); err != nil {
				return err
			}
			return fq.settle(queuetest.Restore, 0, fq.someDead(1))
		},
		func() error { return fq.settle(queuetest.Return, 0, fq.some(2)) },
		func() error { return fq.update(2) },
		func() error { return fq.settle(queuetest.Extend, faultHour, fq.some(2)) },
		func() error { return fq.restoreAll() },
		func() error { return fq.settle(queuetest.Release, faultHour, fq.some(2)) },
		func() error {
			if err := fq.receive(true, 2, faultHour, -1); err != nil {
				return err
			}
			return fq.settle(queuetest.Ack, 0, fq.someDead(1))
		},
		func() error { return fq.update(4) },
	}
	timeout := []time.Duration{faultHour, faultHour, -1}[n%3]
	var done []faultDelivery
	if n%4 == 3 {
		done = fq.some(1)
	}
	if err := fq.receive(false, 5, timeout, wait, done...); err != nil {
		return err
	}
	return steps[n%len(steps)]()
}

// some returns up to n deliveries of records, newest first.
func (fq *faultQueue) some(n int) []faultDelivery { return fq.choose(n, false) }

// someDead returns deliveries of dead letters.
func (fq *faultQueue) someDead(n int) []faultDelivery { return fq.choose(n, true) }

func (fq *faultQueue) choose(n int, dead bool) (chosen []faultDelivery) {
	for _, d := range slices.Backward(fq.held) {
		if d.dead == dead && len(chosen) < n {
			chosen = append(chosen, d)
		}
	}
	return chosen
}

func receiptsOf(chosen []faultDelivery) (all []queue.Receipt) {
	for _, d := range chosen {
		all = append(all, d.receipt)
	}
	return all
}

// begin notes the beginning of a call.
func (fq *faultQueue) begin(verb queuetest.Verb, delay time.Duration) queuetest.Call {
	fq.ticks++
	return queuetest.Call{Verb: verb, Delay: delay, Begun: fq.ticks, From: fq.now()}
}

// end notes the end of a call.
func (fq *faultQueue) end(c *queuetest.Call, err error) {
	fq.ticks++
	c.Ended, c.To = fq.ticks, fq.now()
	c.Maybe = errors.Is(err, braid.ErrOutcomeUnknown)
}

func (fq *faultQueue) now() time.Duration {
	if fq.w == nil { // it is being judged
		return faultJudgeClock().Sub(faultEpoch)
	}
	return time.Since(faultEpoch)
}

// call is [faultWork.call] for the workload.
func (fq *faultQueue) call(verb queuetest.Verb, f func() error) error {
	if fq.w == nil {
		return f()
	}
	return fq.w.call(fmt.Sprintf("%s, of queue %s", verb, fq.name), f)
}

// receive receives records, and acknowledges others in the same commit.
func (fq *faultQueue) receive(dead bool, n int, timeout, wait time.Duration, done ...faultDelivery) error {
	verb := queuetest.Receive
	if dead {
		verb = queuetest.ReceiveDead
	}
	return fq.call(verb, func() error {
		o := &queue.ReceiveOptions{Wait: wait, VisibilityTimeout: timeout, Whole: true}
		c := fq.begin(verb, max(0, timeout))
		var records []queue.Record
		var err error
		switch {
		case dead:
			records, err = fq.q.DeadLetters().Receive(context.Background(), n, o)
		case len(done) > 0:
			records, err = fq.q.Exchange(context.Background(), n, o, receiptsOf(done)...)
		default:
			records, err = fq.q.Receive(context.Background(), n, o)
		}
		fq.end(&c, err)
		fq.exchanged(c, done, err)
		if c.Maybe {
			fq.given++
			c.Delivery = fq.given
			fq.anyone = append(fq.anyone, c)
		}
		for i := range records {
			r := &records[i]
			id, _ := historyID(r.Data)
			fq.given++
			c.Delivery, c.Receives = fq.given, r.Receives
			fq.history[id] = append(fq.history[id], c)
			fq.settled(id)
			fq.held = append(fq.held, faultDelivery{id, c.Delivery, r.Receipt, dead})
		}
		return err
	})
}

// exchanged notes the fates of the records that a receive was to acknowledge.
func (fq *faultQueue) exchanged(c queuetest.Call, done []faultDelivery, err error) {
	c.Verb, c.Delay, c.Maybe = queuetest.Ack, 0, err != nil // the receive may have waited after the acknowledgement
	for _, d := range done {
		c.Delivery = d.name
		fq.history[d.id] = append(fq.history[d.id], c)
		fq.settled(d.id)
	}
}

// settled notes that a record's receipt no longer matters.
func (fq *faultQueue) settled(id string) {
	fq.held = slices.DeleteFunc(fq.held, func(d faultDelivery) bool { return d.id == id })
}

func (fq *faultQueue) settle(verb queuetest.Verb, delay time.Duration, chosen []faultDelivery) error {
	if len(chosen) == 0 {
		return nil
	}
	return fq.call(verb, func() error {
		c := fq.begin(verb, delay)
		err := fq.settleThese(verb, delay, chosen)
		fq.end(&c, err)
		var refused *queue.ReceiptsError
		if err != nil && !c.Maybe && !errors.As(err, &refused) {
			return err
		}
		failed := make(map[int]error)
		if refused != nil {
			for _, f := range refused.Failed {
				failed[f.Index] = f.Err
			}
		}
		for i, d := range chosen {
			c := c
			c.Delivery, c.Err = d.name, failed[i]
			if refused == nil || c.Err != nil || verb != queuetest.AckTx { // AckTx is all or nothing
				fq.history[d.id] = append(fq.history[d.id], c)
			}
			fq.settled(d.id)
		}
		if refused != nil {
			return nil
		}
		return err
	})
}

func (fq *faultQueue) settleThese(verb queuetest.Verb, delay time.Duration, chosen []faultDelivery) error {
	receipts := receiptsOf(chosen)
	ctx, letters := context.Background(), fq.q.DeadLetters()
	switch {
	case verb == queuetest.Ack && chosen[0].dead:
		return letters.Discard(ctx, receipts...)
	case verb == queuetest.Ack:
		return fq.q.Ack(ctx, receipts...)
	case verb == queuetest.Extend:
		return fq.q.Extend(ctx, delay, receipts...)
	case verb == queuetest.Release:
		return fq.q.Release(ctx, delay, receipts...)
	case verb == queuetest.Return:
		return fq.q.Return(ctx, receipts...)
	case verb == queuetest.Reject:
		return fq.q.Reject(ctx, "it is of no use", receipts...)
	case verb == queuetest.Restore:
		return letters.Restore(ctx, receipts...)
	case verb == queuetest.AckTx:
		return fq.w.db.Update(ctx, func(tx *braid.Tx) error {
			for _, d := range chosen {
				if err := tx.Set(fq.ackedKey(d.name), nil); err != nil {
					return err
				}
			}
			return fq.q.AckTx(tx, receipts...)
		})
	}
	panic("there is no such step")
}

// ackedKey is the key that a transaction that acknowledges the delivery writes.
func (fq *faultQueue) ackedKey(delivery int) []byte {
	return fmt.Appendf(nil, "acked/%s/%d", fq.name, delivery)
}

func (fq *faultQueue) update(most int) error {
	return fq.everything(queuetest.Call{Verb: queuetest.Update, Most: most}, func() error {
		return fq.q.Update(context.Background(), func(o *queue.Options) { o.MaxReceives = most })
	})
}

func (fq *faultQueue) restoreAll() error {
	return fq.everything(queuetest.Call{Verb: queuetest.RestoreAll}, func() error {
		_, err := fq.q.DeadLetters().RestoreAll(context.Background())
		return err
	})
}

// everything makes a call that affects all records.
func (fq *faultQueue) everything(what queuetest.Call, f func() error) error {
	return fq.call(what.Verb, func() error {
		c := fq.begin(what.Verb, 0)
		c.Most = what.Most
		err := f()
		if fq.end(&c, err); err == nil || c.Maybe {
			fq.anyone = append(fq.anyone, c)
		}
		return err
	})
}

// Situations of queues that the sweep must reach.
const (
	unknownAckWas    = "an acknowledgement of unknown outcome that has happened"
	unknownAckWasNot = "an acknowledgement of unknown outcome that has not"
	unknownReceive   = "a receive of unknown outcome"
)

// judge compares the queue of a database, unused since the open, with the results that callers got.
// It receives everything in it. It returns the queue to continue with, or nil if it does not exist.
func (fq *faultQueue) judge(what string, db *braid.DB) *faultQueue {
	ctx, t := context.Background(), fq.t
	what = fmt.Sprintf("%s: queue %s", what, fq.name)
	q, err := queue.Get(ctx, db, fq.name)
	if err != nil {
		require.ErrorIs(t, err, queue.ErrQueueNotFound, what)
		require.NotEqual(t, outcomeAcked, fq.exists, "%s is lost", what)
		return nil
	}
	require.NotEqual(t, outcomeRefused, fq.exists, "%s exists, but was deleted or never created", what)
	judged := fq.clone()
	judged.w, judged.q, judged.exists = nil, q, outcomeAcked
	judged.resolve(what, db)
	records, err := readShards(ctx, q.Stream())
	require.NoError(t, err, what)
	d, err := q.Describe(ctx)
	require.NoError(t, err, what)
	normal := judged.drain(what, records, false)
	dead := judged.drain(what, records, true)
	require.Equal(t, []int64{normal, 0, 0, 0}, []int64{d.Visible, d.InFlight, d.Delayed, d.Held}, what)
	require.GreaterOrEqual(t, dead, d.Dead, "%s: more dead letters than exhausted receives", what)
	require.LessOrEqual(t, dead, d.Dead+normal, what)
	for i := range records {
		id, _ := historyID(records[i].Data)
		calls := slices.Concat(judged.history[id], judged.anyone)
		calls = append(calls, queuetest.Call{Verb: queuetest.Put})
		require.NoError(t, queuetest.Linearize(calls, faultMostReceives), "%s: record %s", what, id)
	}
	return judged
}

// resolve finds out which transactions of unknown outcome happened: their writes exist.
func (fq *faultQueue) resolve(what string, db *braid.DB) {
	require.NoError(fq.t, db.View(context.Background(), func(tx *braid.Tx) error {
		for id, calls := range fq.history {
			fq.history[id] = slices.DeleteFunc(calls, func(c queuetest.Call) bool {
				if c.Verb != queuetest.AckTx || c.Err != nil {
					return false
				}
				_, err := tx.Get(fq.ackedKey(c.Delivery))
				if err != nil {
					require.ErrorIs(fq.t, err, braid.ErrKeyNotFound, what)
					require.True(fq.t, c.Maybe, "%s: the transaction that acknowledged %s is lost", what, id)
				}
				return err != nil
			})
			for i := range fq.history[id] {
				if c := &fq.history[id][i]; c.Verb == queuetest.AckTx {
					c.Maybe = false
				}
			}
		}
		return nil
	}), what)
}

// drain receives all normal records, or all dead letters, and returns their number.
func (fq *faultQueue) drain(what string, records []braid.Record, dead bool) int64 {
	before := fq.given
	require.NoError(fq.t, fq.receive(dead, 10_000, -1, -1), what)
	verb := queuetest.Missing
	if dead {
		verb = queuetest.MissingDead
	}
	missing := fq.begin(verb, 0)
	fq.end(&missing, nil)
	received := make(map[string]bool)
	for _, d := range fq.held {
		if d.name > before {
			received[d.id] = true
		}
	}
	n := len(received)
	for i := range records {
		if id, _ := historyID(records[i].Data); received[id] {
			delete(received, id)
		} else {
			fq.history[id] = append(fq.history[id], missing)
		}
	}
	require.Empty(fq.t, received, "%s: records were received that the stream no longer has", what)
	return int64(n)
}

// goOn acknowledges every other record that a judge received, and restores the dead letters.
func (fq *faultQueue) goOn(what string) {
	for i, d := range slices.Clone(fq.held) {
		if i%2 == 0 {
			require.NoError(fq.t, fq.settle(queuetest.Ack, 0, []faultDelivery{d}), what)
		}
	}
	require.NoError(fq.t, fq.restoreAll(), what)
}

// situations returns the situations that the history reached, as judged.
func (fq *faultQueue) situations(judged *faultQueue) (all []string) {
	for _, c := range fq.anyone {
		if c.Maybe && c.Verb == queuetest.Receive {
			all = append(all, unknownReceive)
		}
	}
	for id, calls := range fq.history {
		for _, c := range calls {
			if !c.Maybe || c.Verb != queuetest.Ack && c.Verb != queuetest.AckTx {
				continue
			}
			switch after := judged.history[id]; {
			case !slices.ContainsFunc(after, func(c queuetest.Call) bool { return c.Verb == queuetest.MissingDead }):
				// trimmed
			case after[len(after)-2].Verb == queuetest.Missing && after[len(after)-1].Verb == queuetest.MissingDead:
				all = append(all, unknownAckWas)
			default:
				all = append(all, unknownAckWasNot)
			}
		}
	}
	return all
}

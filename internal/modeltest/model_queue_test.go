package modeltest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/inside"
	"github.com/braidstream/braid/internal/queuetest"
	"github.com/braidstream/braid/queue"
)

// Queues of the model. Each has a twin of package queuetest, which judges every result. Meanwhile
// the stream is trimmed, expires, is resharded, changes its key, is deleted and created again, the
// clock steps, and the power is cut.

// modelQueue is a queue and its twin.
type modelQueue struct {
	id   int // its ordinal among all queues ever created
	name string
	ts   *twinStream
	q    *queue.Queue
	twin *queuetest.Twin
}

// aged is the clock for the age of records, as the twins of queues need it.
func (m *model) aged() time.Duration { return time.Duration(m.now()) }

// queuesOf returns the queues of a stream.
func (m *model) queuesOf(ts *twinStream) (all []*modelQueue) {
	for _, mq := range m.queues {
		if mq.ts == ts {
			all = append(all, mq)
		}
	}
	return all
}

// useQueue does one random thing with a stream's queue.
func (m *model) useQueue(ts *twinStream, s *braid.Stream) {
	all := m.queuesOf(ts)
	if len(all) == 0 || len(all) < 3 && m.random.IntN(20) == 0 {
		m.createQueue(ts)
		return
	}
	mq := all[m.random.IntN(len(all))]
	m.look(mq)
	switch n := m.random.IntN(100); {
	case n < 26:
		m.receive(mq, false)
	case n < 36:
		m.receive(mq, true)
	case n < 42:
		m.receiveArriving(mq, s)
	case n < 54:
		m.settle(mq, queuetest.Ack, false)
	case n < 59:
		m.settle(mq, queuetest.AckTx, false)
	case n < 63:
		m.settle(mq, queuetest.Extend, m.random.IntN(4) == 0)
	case n < 68:
		m.settle(mq, queuetest.Release, false)
	case n < 71:
		m.settle(mq, queuetest.Return, false)
	case n < 76:
		m.settle(mq, queuetest.Reject, false)
	case n < 79:
		m.settle(mq, queuetest.Ack, true)
	case n < 81:
		m.settle(mq, queuetest.AckTx, true)
	case n < 85:
		m.settle(mq, queuetest.Restore, true)
	case n < 87:
		m.restoreAll(mq)
	case n < 92:
		m.updateQueue(mq)
	case n < 96:
		m.loseUnread(mq, s)
	case n < 98: // some timeouts pass, and nothing expires
		d := time.Duration(1+m.random.IntN(60)) * time.Second
		m.logf("%v pass", d)
		<-time.After(d)
		m.age()
		m.look(mq)
	default:
		m.deleteQueue(mq)
		return
	}
	m.checkQueue(mq)
}

// createQueue creates a queue, unless one of that name exists.
func (m *model) createQueue(ts *twinStream) {
	name := fmt.Sprintf("queue-%d", m.random.IntN(5))
	o := queue.Options{
		Stream: ts.name, VisibilityTimeout: m.timeout(), MaxReceives: []int{-1, 1, 2, 3, 6}[m.random.IntN(5)], MaxInFlight: []int{3, 20, 1000}[m.random.IntN(3)],
	}
	start := uint64(0)
	if m.random.IntN(4) == 0 {
		o.Start, start = braid.Latest(), visible(m.db)+1
	}
	m.logf("create queue %s of %s: %+v", name, ts.name, o)
	m.images.during("creation of a queue")
	defer m.images.during("")
	if slices.ContainsFunc(m.queues, func(mq *modelQueue) bool { return mq.name == name }) {
		_, err := queue.Create(m.t.Context(), m.db, name, &o)
		m.is("create queue", err, queue.ErrQueueExists)
		return
	}
	m.queueIDs++
	mq := &modelQueue{id: m.queueIDs, name: name, ts: ts, twin: queuetest.NewTwin(o, start)}
	m.promises.queueBegins(mq)
	var err error
	if mq.q, err = queue.Open(m.t.Context(), m.db, name, &o); !m.ok("create queue", err) {
		return
	}
	m.promises.queueCreated(mq)
	m.queues = append(m.queues, mq)
	m.look(mq)
	m.checkQueue(mq)
}

func (m *model) deleteQueue(mq *modelQueue) {
	m.logf("delete %s", mq.name)
	m.images.during("deletion of a queue")
	defer m.images.during("")
	m.promises.queueBegins(mq)
	m.ok("delete queue", mq.q.Delete(m.t.Context()))
	m.promises.queueGone(mq)
	_, err := mq.q.Receive(m.t.Context(), 1, &queue.ReceiveOptions{Wait: -1})
	m.is("receive of a deleted queue", err, queue.ErrQueueNotFound)
	m.queues = slices.DeleteFunc(m.queues, func(other *modelQueue) bool { return other == mq })
}

// timeout returns a duration that does not end at the beginning of a step.
func (m *model) timeout() time.Duration {
	return []time.Duration{100 * time.Millisecond, 10 * time.Second, 40 * time.Second, 5 * time.Minute, 2 * time.Hour}[m.random.IntN(5)] + 300*time.Microsecond
}

// look updates a queue's twin with the stream's current content.
func (m *model) look(mq *modelQueue) {
	if mq.twin.IsUnsure(m.aged()) { // about a record whose timeout counts from the open of the database
		<-time.After(time.Millisecond)
		m.age()
	}
	counters := make([]uint64, 0, len(mq.ts.records))
	for i := range mq.ts.records {
		counters = append(counters, counter(mq.ts.records[i].number))
	}
	mq.twin.Stream(counters)
}

// checkQueue compares a queue's description with its twin, and adds its state to the promises.
func (m *model) checkQueue(mq *modelQueue) {
	d, err := mq.q.Describe(m.t.Context())
	if m.ok("describe", err) {
		m.ok(mq.name, mq.twin.Check(d, m.aged(), m.aged()))
	}
	m.promises.queueIs(mq)
}

// checkQueues checks all queues, between steps.
func (m *model) checkQueues() {
	m.age() // time may have passed in the step
	for _, mq := range m.queues {
		m.look(mq)
		m.checkQueue(mq)
	}
}

func (m *model) receive(mq *modelQueue, dead bool) {
	n := 1 + m.random.IntN(12)
	o := &queue.ReceiveOptions{Wait: -1, Whole: m.random.IntN(4) > 0}
	timeout := mq.twin.VisibilityTimeout
	if m.random.IntN(3) == 0 {
		timeout = m.timeout()
		o.VisibilityTimeout = timeout
	}
	m.logf("receive up to %d of %s (dead: %v) for %v", n, mq.name, dead, timeout)
	m.promises.queueBegins(mq)
	receive := mq.q.Receive
	if dead {
		receive = mq.q.DeadLetters().Receive
	}
	records, err := receive(m.t.Context(), n, o)
	if m.ok("receive", err) {
		m.received(mq, n, timeout, dead, o.Whole, records)
	}
}

// received judges the result of a receive.
func (m *model) received(mq *modelQueue, n int, timeout time.Duration, dead, whole bool, records []queue.Record) {
	m.ok("receive of "+mq.name, mq.twin.Receive(m.aged(), n, timeout, dead, whole, records))
	for i := range records {
		r := &records[i]
		at := slices.IndexFunc(mq.ts.records, func(r2 twinRecord) bool { return r2.number == r.SequenceNumber })
		if at < 0 {
			m.fail("%s was received, which is not in the stream", r.SequenceNumber)
			continue
		}
		m.ok("a record of "+mq.name, mq.ts.records[at].matches(r.Record))
	}
	if dead && len(records) > 0 {
		m.totals.reached.note("a dead letter that was received")
	}
}

// receiveArriving lets a receiver wait and puts a record, which the receiver gets from the same
// commit. If the queue has others, or the put is refused, it does not.
func (m *model) receiveArriving(mq *modelQueue, s *braid.Stream) {
	ctx, cancel := context.WithCancel(m.t.Context())
	defer cancel()
	n := 1 + m.random.IntN(3)
	var records []queue.Record
	var err error
	done := make(chan struct{})
	m.logf("wait for up to %d of %s", n, mq.name)
	m.promises.queueBegins(mq)
	go func() {
		defer close(done)
		records, err = mq.q.Receive(ctx, n, &queue.ReceiveOptions{Whole: true})
	}()
	synctest.Wait()
	select {
	case <-done:
	default:
		m.ok("receive", mq.twin.Receive(m.aged(), n, 0, false, true, nil)) // there was none
		m.put(mq.ts, s)
		m.totals.reached.note("a record that was put for a receiver")
		synctest.Wait()
		m.age()
		m.look(mq)
	}
	cancel()
	<-done
	if err == nil {
		m.received(mq, n, mq.twin.VisibilityTimeout, false, true, records)
	} else {
		m.is("receive", err, context.Canceled)
		m.ok("receive", mq.twin.Receive(m.aged(), n, 0, false, true, nil))
	}
}

func (m *model) settle(mq *modelQueue, verb queuetest.Verb, dead bool) {
	chosen := mq.twin.Choose(m.random, dead)
	if len(chosen) == 0 {
		return
	}
	var receipts []queue.Receipt
	for _, d := range chosen {
		receipts = append(receipts, d.Receipt)
	}
	delay := m.timeout() * time.Duration(m.random.IntN(2))
	m.logf("%s with %d receipts of %s (dead: %v), delay %v", verb, len(receipts), mq.name, dead, delay)
	m.promises.queueBegins(mq)
	ctx, letters := m.t.Context(), mq.q.DeadLetters()
	var err error
	switch {
	case verb == queuetest.AckTx:
		err = m.db.Update(ctx, func(tx *braid.Tx) error {
			if dead {
				return letters.DiscardTx(tx, receipts...)
			}
			return mq.q.AckTx(tx, receipts...)
		})
	case verb == queuetest.Ack && dead:
		err = letters.Discard(ctx, receipts...)
	case verb == queuetest.Ack:
		err = mq.q.Ack(ctx, receipts...)
	case verb == queuetest.Extend && dead:
		err = letters.Extend(ctx, delay, receipts...)
	case verb == queuetest.Extend:
		err = mq.q.Extend(ctx, delay, receipts...)
	case verb == queuetest.Release:
		err = mq.q.Release(ctx, delay, receipts...)
	case verb == queuetest.Return:
		err = mq.q.Return(ctx, receipts...)
	case verb == queuetest.Reject:
		err = mq.q.Reject(ctx, strings.Repeat("why ", m.random.IntN(100)), receipts...)
	case verb == queuetest.Restore:
		err = letters.Restore(ctx, receipts...)
	}
	m.ok(mq.name, mq.twin.Settle(m.aged(), verb, delay, dead, chosen, err))
}

func (m *model) restoreAll(mq *modelQueue) {
	m.logf("restore all of %s", mq.name)
	m.promises.queueBegins(mq)
	n, err := mq.q.DeadLetters().RestoreAll(m.t.Context())
	if m.ok("restore all", err) {
		m.ok(mq.name, mq.twin.RestoreAll(m.aged(), n))
	}
}

func (m *model) updateQueue(mq *modelQueue) {
	most, flight, timeout := []int{-1, 1, 2, 3, 6}[m.random.IntN(5)], []int{3, 20, 1000}[m.random.IntN(3)], m.timeout()
	m.logf("update %s: %d receives, %d in flight, %v", mq.name, most, flight, timeout)
	m.images.during("update of a queue")
	defer m.images.during("")
	m.promises.queueBegins(mq)
	err := mq.q.Update(m.t.Context(), func(o *queue.Options) {
		o.MaxReceives, o.MaxInFlight, o.VisibilityTimeout = most, flight, timeout
	})
	if m.ok("update queue", err) {
		mq.twin.MaxInFlight, mq.twin.VisibilityTimeout = flight, timeout
		m.ok(mq.name, mq.twin.Update(m.aged(), most))
	}
}

// loseUnread removes some records that a queue has never seen from its stream, by a trim or by
// waiting until they expire. Nothing else can leave a queue unnoticed, and these are counted.
func (m *model) loseUnread(mq *modelQueue, s *braid.Stream) {
	unread := mq.twin.Unread()
	if len(unread) == 0 {
		m.put(mq.ts, s)
		synctest.Wait() // followers must read it before it goes
		m.look(mq)
		if unread = mq.twin.Unread(); len(unread) == 0 {
			return // the put was refused
		}
	}
	before, err := mq.q.Describe(m.t.Context())
	m.ok("describe", err)
	last := unread[m.random.IntN(len(unread))]
	if period := uint64(mq.ts.retention); period > 0 && m.random.IntN(2) == 0 {
		m.logf("time passes until %d, which %s has not read, expires", last, mq.name)
		if expires := last + period + 1; expires > m.now() {
			m.pass(time.Duration(expires - m.now()))
		}
		m.totals.reached.note("retention that has passed a queue")
	} else {
		m.trimBefore(mq.ts, s, braid.AtTime(time.Unix(0, int64(last+1))), last+1)
		m.totals.reached.note("a trim that has passed a queue")
	}
	m.age()
	m.look(mq)
	after, err := mq.q.Describe(m.t.Context())
	if !m.ok("describe", err) {
		return
	}
	if was, is := totalOf(before), totalOf(after); was != is {
		m.fail("%s had %d records in all, and has %d: %+v, then %+v", mq.name, was, is, before, after)
	}
	lost := int64(len(unread) - len(mq.twin.Unread()))
	if n := after.ExpiredUnreceived - before.ExpiredUnreceived; n != lost || lost == 0 {
		m.fail("%s has lost %d records that it had not read, and counts %d", mq.name, lost, n)
	}
}

// totalOf counts all records of a queue that were not settled, and those that expired.
func totalOf(d *queue.Description) int64 {
	return d.Visible + d.InFlight + d.Delayed + d.Held + d.Dead + d.ExpiredUnreceived + d.ExpiredReceived + d.ExpiredDead
}

// queuesReopened opens the queues again after the database was closed or the power was cut.
func (m *model) queuesReopened(cut bool) {
	if cut && m.opts.Durability != braid.Sync {
		m.queuesLost()
		return
	}
	for _, mq := range m.queues {
		var err error
		if mq.q, err = queue.Get(m.t.Context(), m.db, mq.name); !m.ok("get queue", err) {
			return
		}
		m.look(mq)
		mq.twin.Reopened(m.aged())
		m.look(mq)
		m.checkQueue(mq)
		if cut {
			m.totals.reached.note("a queue after a power cut")
		}
	}
}

// queuesLost is queuesReopened for modes in which a power cut may lose the latest changes of
// queues: each queue has one of its earlier states. It deletes them, since nobody knows which.
func (m *model) queuesLost() {
	bound := m.promises.bound(len(m.promises.list), false)
	m.checkQueuesOf(m.db, bound, false)
	all, err := queue.List(m.t.Context(), m.db, "")
	m.ok("list queues", err)
	for _, q := range all {
		m.ok("delete queue", q.Delete(m.t.Context()))
	}
	for _, mq := range m.queues {
		m.promises.queueGone(mq)
	}
	m.queues = nil
}

// checkQueuesOf compares the queues of an image with what was promised. If whole is set, it
// receives everything that they have.
func (m *model) checkQueuesOf(db *braid.DB, bound *promisedBound, whole bool) {
	all, err := queue.List(m.t.Context(), db, "")
	if !m.ok("list queues", err) {
		return
	}
	found := make(map[string]*queue.Queue)
	for _, q := range all {
		found[q.ID()] = q
	}
	now := func() time.Duration { return time.Duration(inside.DBOf(db).Aging()) }
	for id, qb := range bound.queues {
		known := m.promises.queues[id]
		q := found[known.id]
		delete(found, known.id)
		switch twins := slices.DeleteFunc(slices.Clone(qb.states), func(tw *queuetest.Twin) bool { return tw == nil }); {
		case q == nil && len(twins) == len(qb.states):
			m.fail("queue %s is lost", known.name)
		case q != nil && len(twins) == 0:
			m.fail("queue %s is there, and should not be", known.name)
		case q != nil:
			m.ok("queue "+known.name+" of an image", queuetest.CheckReopened(m.t.Context(), q, now, twins, whole))
		}
	}
	for _, q := range found {
		m.fail("queue %s was not created by then", q.Name())
	}
}

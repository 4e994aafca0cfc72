package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
)

// Waiting receivers form a line, and a record goes to the one that has waited longest. If
// hundreds wait for one record, only one is woken.
//
// A commit that adds new records, or makes others visible, gives them to the line itself.
// So a delivery is durable together with its cause, and a put and its receiver take one
// commit instead of two. If records become visible by time, by a trim, or because there
// is room in memory to read them, the first receiver is called: it makes a commit, which
// serves the line.
//
// A called receiver keeps its place, and a commit serves the line before it gives records
// to a receiver that has not waited. So nobody is overtaken.

// waiter is a waiting receiver.
type waiter struct {
	delivery // what a commit has given to it
	ask      ask
	turn     uint64        // lower for receivers that came earlier
	served   chan struct{} // closed when its delivery is durable
	called   chan struct{} // has a token if the waiter is to have the line served
	isCalled bool          // the token was sent and not taken
	before   *waiter       // neighbors in its line
	after    *waiter
	listed   bool
}

// waiters are the waiting receivers.
//
// Invariant: while any receiver waits, the queue listens to its stream. If it is known
// when the next record may become available for one of them, the alarm is set.
type waiters struct {
	lines [3]line // one line per kind of ask, since a record may suit one kind and not another
	turns uint64  // number of turns given out
	alarm *time.Timer
	due   uint64 // when the alarm rings; 0 if it is not set
}

// line is a list of waiters in order of arrival.
type line struct{ first, last *waiter }

// lineOf returns the index of the line for that ask.
func lineOf(a *ask) int {
	switch {
	case a.dead:
		return 2
	case a.whole:
		return 1
	}
	return 0
}

// isEmpty reports whether nobody waits.
func (ws *waiters) isEmpty() bool {
	for i := range ws.lines {
		if ws.lines[i].first != nil {
			return false
		}
	}
	return true
}

// foremost returns the receiver that has waited longest among those that can get
// something, or nil. It calls something with the first receiver of each line.
func (ws *waiters) foremost(something func(*waiter) bool) (first *waiter) {
	for i := range ws.lines {
		w := ws.lines[i].first
		if w != nil && (first == nil || w.turn < first.turn) && something(w) {
			first = w
		}
	}
	return first
}

// enlist adds a receiver to its line. If the receiver can get something now, it returns
// nil instead.
func (q *Queue) enlist(a ask) *waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	ws := &q.waiters
	if ws.isEmpty() {
		q.inner.Listen((*listener)(q)) // before looking, so that a record that comes after the look is announced
	}
	now := q.door.Now()
	q.passed(now, passedAtOnce)
	if n, read := q.offers(a, now, 1); n > 0 || read && q.unread() {
		q.rest()
		return nil
	}
	ws.turns++
	w := &waiter{served: make(chan struct{}), called: make(chan struct{}, 1), ask: a, turn: ws.turns, listed: true}
	l := &ws.lines[lineOf(&w.ask)]
	if w.before = l.last; w.before != nil {
		w.before.after = w
	} else {
		l.first = w
	}
	l.last = w
	q.setAlarm(now)
	return w
}

// unread reports whether there are records that were not read ahead.
func (q *Queue) unread() bool { return q.inner.Latest().Last() >= q.readAt }

// remove removes a waiter from its line.
func (q *Queue) remove(w *waiter) {
	l := &q.waiters.lines[lineOf(&w.ask)]
	if w.before != nil {
		w.before.after = w.after
	} else {
		l.first = w.after
	}
	if w.after != nil {
		w.after.before = w.before
	} else {
		l.last = w.before
	}
	w.before, w.after, w.listed = nil, nil, false
	q.rest()
}

// rest stops listening to the stream if nobody waits.
func (q *Queue) rest() {
	ws := &q.waiters
	if !ws.isEmpty() {
		return
	}
	q.inner.Unlisten((*listener)(q))
	if ws.due != 0 {
		ws.alarm.Stop()
		ws.due = 0
	}
}

// await returns what the waiter was given. If over is true, the wait has ended without
// records: its time has passed, its context, the queue or the database has ended, or
// there was an error.
func (q *Queue) await(ctx context.Context, w *waiter, timer *stoppable) (given []taken, over bool, err error) {
	for {
		select {
		case <-w.served:
			return w.taken, false, nil
		case <-w.called:
			if err := q.serveLine(ctx, w); err != nil {
				return nil, true, q.forgo(w, err)
			}
			continue
		case <-timer.passed():
			timer.spent = true
			if q.withdraw(w) {
				return nil, true, nil
			}
			continue // its delivery is about to be durable
		case <-ctx.Done():
		case <-q.deleted:
		case <-q.door.Life().Done():
			return q.awaitLast(ctx, w)
		}
		return nil, true, q.forgo(w, q.over(ctx))
	}
}

// serveLine is what a called receiver does: it reads ahead if necessary, and makes a
// commit that serves the line. The receiver itself may get nothing.
func (q *Queue) serveLine(ctx context.Context, w *waiter) error {
	q.mu.Lock()
	w.isCalled = false // from now on it can be called again
	listed := w.listed
	q.mu.Unlock()
	if !listed {
		return nil
	}
	n, err := q.prepare(ctx, w.ask)
	if n > 0 && err == nil {
		_, err = q.commit(ctx, nil, nil)
	}
	return err
}

// awaitLast is await after the database has ended. One of its last commits may contain a
// delivery to this receiver, which could no longer be given back.
func (q *Queue) awaitLast(ctx context.Context, w *waiter) (given []taken, over bool, err error) {
	if q.withdraw(w) {
		return nil, true, nil
	}
	select {
	case <-w.served:
	case <-ctx.Done():
	case <-q.door.Ended():
	}
	select {
	case <-w.served:
		return w.taken, false, nil
	default:
		return nil, true, q.forgo(w, q.over(ctx))
	}
}

// withdraw removes a waiter from its line, and reports whether it was in it.
func (q *Queue) withdraw(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !w.listed {
		return false
	}
	q.remove(w)
	if w.isCalled {
		q.alertLocked()
	}
	return true
}

// forgo ends the wait of a receiver because of err. Its delivery is given back, and the next
// receiver is called in its place. forgo returns the error for the receiver. The outcome of a
// delivery that is being committed is unknown: if the database fails, it may be durable, and count.
func (q *Queue) forgo(w *waiter, err error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.listed {
		q.remove(w)
	} else {
		w.abandonLocked(q)
		if !q.gone && !errors.Is(err, braid.ErrOutcomeUnknown) {
			err = fmt.Errorf("%w: %w", braid.ErrOutcomeUnknown, err)
		}
	}
	q.alertLocked()
	return err
}

// listener is a queue in its role as a companion.Listener of its stream.
type listener Queue

// Arrive gives new records to waiting receivers, in the commit that contains the records.
func (l *listener) Arrive(rows companion.Rows, before uint64, records companion.Arrivals) (publish func()) {
	q := (*Queue)(l)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone || q.readAt <= before { // older records come first
		return nil
	}
	now := q.door.Now()
	q.passed(now, passedInCommit)
	q.flush(rows)
	q.brings = true
	served, _ := q.serve(rows, now, &arriving{all: records})
	q.brings = false
	if served == nil && len(q.unseen) == 0 {
		return nil
	}
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		clear(q.unseen)
		q.unseen = q.unseen[:0]
		q.deliver(served)
	}
}

func (l *listener) Changed() { (*Queue)(l).alert() }

// arriving is the rest of the records that a commit contains. All records before them
// were read ahead or received.
type arriving struct {
	all companion.Arrivals
	at  int
}

// readArriving takes over arriving records until n records, or so many bytes, are read
// ahead, as readAhead does with visible records. It skips records before the queue's
// start. It stops at a record of a shard that the same commit creates: others do not see
// that shard before the commit is done, and no record may overtake another.
func (q *Queue) readArriving(in *arriving, n, bytes int) {
	from, next := in.at, q.readAt
	n -= len(q.fresh)
	bytes -= q.ahead
	for in.at < in.all.Len() && in.at-from < n && bytes > 0 {
		shard, counter, size := in.all.Place(in.at)
		if _, known := q.shards[shard]; !known {
			break
		}
		in.at++
		if counter < q.readAt {
			from = in.at
			continue
		}
		next = counter + 1
		bytes -= size
	}
	if in.at > from {
		q.addFresh(in.all.Records(from, in.at).([]braid.Record), next)
	}
}

// serve gives records in memory, and those that arrive with the commit, to waiting
// receivers, as part of a commit. It returns the receivers that got some, which deliver
// then hands the records to. all reports whether nothing is left in memory for any other
// receiver; it may be false because a commit gives away a limited number of records, over
// all queues.
func (q *Queue) serve(rows companion.Rows, now uint64, in *arriving) (served []*waiter, all bool) {
	if q.waiters.isEmpty() {
		return nil, true
	}
	for left := q.door.Deliveries(); ; {
		w := q.waiters.foremost(func(w *waiter) bool {
			n, read := q.offers(w.ask, now, w.ask.n)
			if read && in != nil && *left > 0 {
				q.readArriving(in, min(w.ask.n, *left), w.ask.bytes)
				n, _ = q.offers(w.ask, now, 1)
			}
			return n > 0
		})
		if w == nil {
			return served, true
		}
		if *left <= 0 {
			return served, false
		}
		a := w.ask
		a.n = min(a.n, *left)
		if w.taken = q.take(rows, a, now); len(w.taken) == 0 {
			return served, false // all of it was held back; whether there is more shows when it can be read
		}
		q.stats.received += uint64(len(w.taken))
		*left -= len(w.taken)
		q.remove(w)
		served = append(served, w)
	}
}

// deliver hands over the records that serve has given, after the commit is durable.
func (q *Queue) deliver(served []*waiter) {
	for _, w := range served {
		w.doneLocked(q)
		close(w.served)
	}
}

// alertLocked calls the receiver that has waited longest among those that can get
// something, after a change that serve does not see. When that receiver has had the line
// served, the next one is called if there is more.
func (q *Queue) alertLocked() {
	ws := &q.waiters
	if ws.isEmpty() {
		return
	}
	now := q.door.Now()
	q.passed(now, passedAtOnce)
	w := ws.foremost(func(w *waiter) bool {
		n, read := q.offers(w.ask, now, 1)
		return n > 0 || read && q.unread()
	})
	if w != nil && !w.isCalled {
		w.isCalled = true
		w.called <- struct{}{}
	}
	q.setAlarm(now)
}

// alert is alertLocked for a caller that does not hold the mutex.
func (q *Queue) alert() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.alertLocked()
}

// setAlarm sets the alarm to the next time at which waiting receivers may get something:
// when a record becomes visible, when one expires and thereby makes room, or when a lull
// ends. It is now if the state is behind.
func (q *Queue) setAlarm(now uint64) {
	due := uint64(math.MaxUint64)
	if first := q.locked.First(); first != nil {
		due = first.Due()
	}
	if oldest, keeps := q.ages.First(), q.inner.Retention(); oldest != nil && keeps > 0 {
		due = min(due, oldest.Due()+uint64(keeps)+1)
	}
	if q.lull > now {
		due = min(due, q.lull)
	}
	if q.behind {
		due = now
	}
	ws := &q.waiters
	if due == math.MaxUint64 || ws.due != 0 && ws.due <= due { // an alarm that rings early is set again
		return
	}
	ws.due = due
	pause := time.Duration(min(due-min(due, now), uint64(maxVisibility)))
	if ws.alarm == nil {
		ws.alarm = time.AfterFunc(pause, q.ring)
	} else {
		ws.alarm.Reset(pause)
	}
}

// ring is called by the alarm. It only touches memory, and nobody waits for it.
func (q *Queue) ring() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiters.due = 0
	q.alertLocked()
}

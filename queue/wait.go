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

// Receivers that wait stand in line, and a record goes to the one that has waited longest:
// of hundreds that wait for one record, one is woken.
//
// A commit that brings new records, or makes others visible, gives them to receivers in the
// line itself: so a delivery is durable together with what caused it, and a put and its
// receiver take one commit instead of two. If records become visible with time, with a trim,
// or because there is room in memory to read them, the first receiver is called: it makes a
// commit, which serves the line.
//
// A receiver that is called keeps its place, and a commit serves the line before it gives
// records to a receiver that has not waited: so nobody is overtaken.

// waiter is a receiver that waits.
type waiter struct {
	delivery // what a commit has given it
	ask      ask
	turn     uint64        // lower for those that came before it
	served   chan struct{} // closed when what it was given is durable
	called   chan struct{} // has a token if it is to have the line served
	isCalled bool          // it has not taken the token, or has left without
	before   *waiter       // of its line
	after    *waiter
	listed   bool
}

// waiters are the receivers that wait.
//
// Invariant: while there are any, the queue listens to its stream, and the alarm is set if a
// moment is known at which there may be something for one of them.
type waiters struct {
	lines [3]line // a line for each kind of ask, since what is nothing for one may be something for another
	turns uint64  // that were given
	alarm *time.Timer
	due   uint64 // when the alarm rings; 0: it is not set
}

// line is a list of waiters, in the order in which they came.
type line struct{ first, last *waiter }

// lineOf returns which line receivers with that ask stand in.
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

// foremost returns the receiver that has waited longest of those for which there is
// something, which is given the first one of each line; nil if there is none.
func (ws *waiters) foremost(something func(*waiter) bool) (first *waiter) {
	for i := range ws.lines {
		w := ws.lines[i].first
		if w != nil && (first == nil || w.turn < first.turn) && something(w) {
			first = w
		}
	}
	return first
}

// enlist has a receiver wait, unless there is something for it now: then it returns nil.
func (q *Queue) enlist(a ask) *waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	ws := &q.waiters
	if ws.isEmpty() {
		q.inner.Listen((*listener)(q)) // before the look, so that what is missed here is heard there
	}
	now := q.door.Now()
	q.passed(now)
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

// remove takes a waiter out of its line.
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

// rest has the queue listen to nothing if nobody waits.
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

// await returns what the waiter was given. It reports with over that the wait has ended without:
// its time has passed, or its context, the queue or the database has ended. With an error it has
// ended, too.
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
			continue // what it is given is about to be durable
		case <-ctx.Done():
		case <-q.deleted:
		case <-q.door.Life().Done():
			return q.awaitLast(ctx, w)
		}
		return nil, true, q.forgo(w, q.over(ctx))
	}
}

// serveLine is what a receiver does that is called: it reads ahead if there is need, and makes a
// commit that gives records to those that wait. It may not be among them.
func (q *Queue) serveLine(ctx context.Context, w *waiter) error {
	q.mu.Lock()
	w.isCalled = false // it can be called again from now on
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

// awaitLast is await when the database has ended. What it commits to the end may be a
// delivery to this receiver, which nobody could give back any more.
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

// withdraw takes a waiter out of its line, and reports whether it stood there.
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

// forgo ends a wait for a receiver that takes nothing any more, because of err: what it was
// given is given back, and what it was called for is for the next one. It returns the error for
// the receiver. The outcome of a delivery that is on its way is unknown: if the database fails,
// it may be durable, and count.
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

// listener is a queue as its stream knows it: a companion.Listener.
type listener Queue

// Arrive gives new records to receivers that wait, in the commit that brings the records.
func (l *listener) Arrive(rows companion.Rows, before uint64, records companion.Arrivals) (publish func()) {
	q := (*Queue)(l)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone || q.readAt <= before { // there are older ones, which come first
		return nil
	}
	now := q.door.Now()
	q.passed(now)
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

// arriving is what is left of the records that a commit brings. All records before them are
// read ahead, or were received.
type arriving struct {
	all companion.Arrivals
	at  int
}

// readArriving takes over records until n are read ahead, or so many bytes, as readAhead does
// with those that can be read. It passes by those that come before the queue's start. One of a
// shard that the same commit has made ends it: others do not see that shard before the commit
// is done, and no record may come before it.
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

// serve gives records to receivers that wait, as part of a commit: those that are in memory,
// and those that arrive with it. It returns the receivers that got some, which deliver hands
// them to, and whether there is nothing in memory for any other one: a commit gives away only so
// many records, over all queues.
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
			return served, false // all of it was held back; whether there is more turns out when it can be read
		}
		q.stats.received += uint64(len(w.taken))
		*left -= len(w.taken)
		q.remove(w)
		served = append(served, w)
	}
}

// deliver hands over what serve has given, now that it is durable.
func (q *Queue) deliver(served []*waiter) {
	for _, w := range served {
		w.doneLocked(q)
		close(w.served)
	}
}

// alertLocked calls the receiver that has waited longest of those for which there is something,
// after a change that serve does not see. Once it has had the line served, the next one is
// called if there is more.
func (q *Queue) alertLocked() {
	ws := &q.waiters
	if ws.isEmpty() {
		return
	}
	now := q.door.Now()
	q.passed(now)
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

// setAlarm has the receivers that wait looked after when there may be something for them: when
// a record becomes visible, or expires and so makes room, or when a lull ends.
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
	ws := &q.waiters
	if due == math.MaxUint64 || ws.due != 0 && ws.due <= due { // one that rings early is set again
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

// ring is called by the alarm. It touches nothing but memory, and nobody waits for it.
func (q *Queue) ring() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiters.due = 0
	q.alertLocked()
}

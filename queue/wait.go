package queue

import (
	"time"

	"github.com/braidstream/braid/internal/tail"
)

// Receivers that wait stand in line, and are woken one by one as records become visible:
// so hundreds may wait for one record, and one is woken. A goroutine watches the stream
// and the time for all of them; it exists only while somebody waits.

// waiter is a receiver that waits.
type waiter struct {
	woken  chan struct{} // closed when there may be something for it
	ask    ask
	before *waiter // of its line
	after  *waiter
	listed bool
}

// waiters are those who wait.
type waiters struct {
	lines [2]line // for records, and for dead letters
	watch bool    // the goroutine exists
}

// line is a list of waiters, in the order in which they came.
type line struct{ first, last *waiter }

func (q *Queue) lineOf(a *ask) *line {
	if a.dead {
		return &q.waiters.lines[1]
	}
	return &q.waiters.lines[0]
}

// enlist has a receiver wait, unless there is something for it now: then it returns nil.
func (q *Queue) enlist(a ask) *waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.door.Now()
	q.passed(now)
	if n, read := q.offers(a, now, 1); n > 0 || read && q.inner.Latest().Last() >= q.readAt {
		return nil
	}
	w := &waiter{woken: make(chan struct{}), ask: a, listed: true}
	l := q.lineOf(&w.ask)
	if w.before = l.last; w.before != nil {
		w.before.after = w
	} else {
		l.first = w
	}
	l.last = w
	if q.waiters.watch {
		q.bell.Ring() // what it waits for may come at another time
	} else {
		q.waiters.watch = true
		go q.dispatch()
	}
	return w
}

// withdraw ends a wait for another reason than that the waiter was woken. If it was, which
// it reports with false, somebody else has to see to what it was woken for.
func (q *Queue) withdraw(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !w.listed {
		q.alertLocked()
		return false
	}
	q.remove(w)
	q.bell.Ring()
	return true
}

func (q *Queue) remove(w *waiter) {
	l := q.lineOf(&w.ask)
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
}

// alertLocked has the goroutine look whether there is something for those who wait.
func (q *Queue) alertLocked() {
	if q.waiters.watch {
		q.bell.Ring()
	}
}

// dispatch wakes those who wait. It ends when nobody does any more, or with the database or
// the queue, and nobody waits for it: it touches nothing but memory.
func (q *Queue) dispatch() {
	latest := tail.NewWaiter()
	timer := time.NewTimer(0)
	defer func() {
		q.inner.Latest().Leave(latest)
		timer.Stop()
	}()
	for {
		// Taken before wake looks: a record that is put after that look and before Wait is
		// then not mistaken for one that wake has seen, and left.
		last := q.inner.Latest().Last()
		trimmed := q.inner.Trimmed().Wait() // what is gone makes room, and holds back nothing any more
		from, pause, ok := q.wake()
		if !ok {
			return
		}
		timer.Reset(pause)
		if last < from {
			q.inner.Latest().Wait(latest, from-1)
		} // else there are new ones, for which there is no room; it rings when there is
		select {
		case <-q.bell.C():
		case <-latest.C():
		case <-trimmed:
		case <-timer.C:
		case <-q.deleted:
			return
		case <-q.door.Life().Done():
			return
		}
	}
}

// wake wakes as many as there are records for. It returns the counter from which on new
// records are unknown, and how long it takes, at most, until there is more; and false if
// nobody waits.
func (q *Queue) wake() (from uint64, pause time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.door.Now()
	q.passed(now)
	for i := range q.waiters.lines {
		l := &q.waiters.lines[i]
		for there := -1; l.first != nil; {
			w := l.first
			n, read := q.offers(w.ask, now, maxRecords)
			if read && q.inner.Latest().Last() >= q.readAt {
				n++ // who is woken reads ahead, and has the next one woken if there is more
			}
			if there < 0 {
				there = n
			}
			if there <= 0 {
				break
			}
			there -= w.ask.n
			q.remove(w)
			close(w.woken)
		}
	}
	if q.waiters.lines[0].first == nil && q.waiters.lines[1].first == nil {
		q.waiters.watch = false
		return 0, 0, false
	}
	pause = maxVisibility
	if first := q.locked.First(); first != nil {
		pause = min(pause, time.Duration(first.Due()-min(first.Due(), now)))
	}
	if oldest, keeps := q.ages.First(), q.inner.Retention(); oldest != nil && keeps > 0 {
		pause = min(pause, time.Duration(oldest.Due()+uint64(keeps)+1-now)) // it has not expired yet
	}
	if q.lull > now {
		pause = min(pause, time.Duration(q.lull-now))
	}
	return q.readAt, pause, true
}

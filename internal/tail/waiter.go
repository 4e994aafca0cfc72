package tail

import (
	"sync"
	"sync/atomic"

	"github.com/braidstream/braid/internal/wake"
)

// Waiter is what one goroutine waits with, any number of times, for one log or counter
// at a time. Its bell rings when there may be something to see; its owner may have it rung
// for other reasons, too. A ring may come late, when its cause has been seen already. So
// the goroutine looks after each ring, and waits again if there is nothing.
//
// Invariant: a waiter that is in a list is woken by what comes next, and taken off the
// list. A wait allocates nothing and looks nothing up.
type Waiter struct {
	wake.Bell
	place int // in the list, plus one; 0 for none. Guarded by the mutex of the list
}

// NewWaiter makes a waiter that waits for nothing.
func NewWaiter() *Waiter { return &Waiter{Bell: wake.NewBell()} }

// waiters are those who wait for one log or counter. It costs nothing while nobody does.
type waiters struct {
	list  []*Waiter // guarded by its owner's mutex
	taken []*Waiter // what take took; of the one goroutine at a time that wakes
}

func (ws *waiters) add(w *Waiter) {
	if w.place == 0 {
		ws.list = append(ws.list, w)
		w.place = len(ws.list)
	}
}

func (ws *waiters) remove(w *Waiter) {
	if w.place == 0 {
		return
	}
	last := len(ws.list) - 1
	ws.list[last].place = w.place
	ws.list[w.place-1], ws.list[last] = ws.list[last], nil
	ws.list, w.place = ws.list[:last], 0
}

// take empties the list, for wake.
func (ws *waiters) take() {
	ws.list, ws.taken = ws.taken, ws.list
	for _, w := range ws.taken {
		w.place = 0
	}
}

// wake rings for those who were taken. It is called without the mutex, which is what
// they take first.
func (ws *waiters) wake() {
	for i, w := range ws.taken {
		w.Ring()
		ws.taken[i] = nil
	}
	ws.taken = ws.taken[:0]
}

// Counter is a counter that goes up and wakes those who wait for it to. Only one
// goroutine at a time may raise or end it.
type Counter struct {
	last atomic.Uint64

	mu      sync.Mutex // guards the fields below, and raising last
	waiters waiters
	ended   bool
}

// Last returns the counter.
func (c *Counter) Last() uint64 { return c.last.Load() }

// Raise sets the counter, which never goes down, and wakes those who wait.
func (c *Counter) Raise(counter uint64) {
	c.mu.Lock()
	c.last.Store(counter)
	c.waiters.take()
	c.mu.Unlock()
	c.waiters.wake()
}

// End wakes those who wait, and everyone who will.
func (c *Counter) End() {
	c.mu.Lock()
	c.ended = true
	c.waiters.take()
	c.mu.Unlock()
	c.waiters.wake()
}

// Wait has w woken when the counter is above counter: at once if it is so now.
func (c *Counter) Wait(w *Waiter, counter uint64) {
	c.mu.Lock()
	ready := c.last.Load() > counter || c.ended
	if !ready {
		c.waiters.add(w)
	}
	c.mu.Unlock()
	if ready {
		w.Ring()
	}
}

// Leave takes back a Wait.
func (c *Counter) Leave(w *Waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiters.remove(w)
}

// Waiting returns how many wait, for tests.
func (c *Counter) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiters.list)
}

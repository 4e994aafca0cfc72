package tail

import (
	"sync"
	"sync/atomic"

	"github.com/braidstream/braid/internal/wake"
)

// Waiter lets one goroutine wait, any number of times, for one log or counter at a time. Its bell
// rings when there may be something new. Its owner may ring it for other reasons, too. A ring may
// come late, when its cause has already been seen. So the goroutine checks after each ring, and
// waits again if there is nothing.
//
// Invariant: the next record or the end wakes a waiter that is in a list, and removes it from
// the list. A wait allocates nothing and searches nothing.
type Waiter struct {
	wake.Bell
	place int // its place in the list, plus one; 0 for none. Guarded by the list's mutex
}

// NewWaiter makes a waiter that waits for nothing.
func NewWaiter() *Waiter { return &Waiter{Bell: wake.NewBell()} }

// waiters has the waiters of one log or counter. It costs nothing while there are none.
type waiters struct {
	list  []*Waiter // guarded by its owner's mutex
	taken []*Waiter // the waiters removed by take; belongs to the one goroutine that wakes
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

// wake rings the bells of the waiters that were taken. It is called without the mutex, because
// the woken goroutines take the mutex first.
func (ws *waiters) wake() {
	for i, w := range ws.taken {
		w.Ring()
		ws.taken[i] = nil
	}
	ws.taken = ws.taken[:0]
}

// Counter is a rising counter that wakes waiters. Only one goroutine at a time may raise or end
// it.
type Counter struct {
	last atomic.Uint64

	mu      sync.Mutex // guards the fields below, and raising last
	waiters waiters
	ended   bool
}

// Last returns the counter.
func (c *Counter) Last() uint64 { return c.last.Load() }

// Raise sets the counter, which never falls, and wakes all waiters.
func (c *Counter) Raise(counter uint64) {
	c.mu.Lock()
	c.last.Store(counter)
	c.waiters.take()
	c.mu.Unlock()
	c.waiters.wake()
}

// End wakes all waiters, and every later one at once.
func (c *Counter) End() {
	c.mu.Lock()
	c.ended = true
	c.waiters.take()
	c.mu.Unlock()
	c.waiters.wake()
}

// Wait wakes w when the counter is above counter; at once if it is so now.
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

// Leave undoes a Wait.
func (c *Counter) Leave(w *Waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiters.remove(w)
}

// Waiting returns how many waiters are registered, for tests.
func (c *Counter) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiters.list)
}

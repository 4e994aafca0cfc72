// Package wake has two ways to wake goroutines: a [Bell] wakes one goroutine when it has work
// to do, and a [Signal] wakes all goroutines that wait for an event.
package wake

import "sync"

// Bell wakes one goroutine. Rings while it works count as one, and are not lost: it works once
// more. Make it with [NewBell]. Copies are the same bell.
type Bell struct{ token chan struct{} }

// NewBell makes a bell that has not rung.
func NewBell() Bell { return Bell{make(chan struct{}, 1)} }

// Ring wakes the goroutine, now or when it next receives from C. It never waits, and is safe
// for concurrent use.
func (b Bell) Ring() {
	select {
	case b.token <- struct{}{}:
	default: // it has rung already
	}
}

// Forget discards a ring that was not received yet.
func (b Bell) Forget() {
	select {
	case <-b.token:
	default:
	}
}

// C returns the channel on which the goroutine receives a value if the bell has rung since the
// last one. It is never closed.
func (b Bell) C() <-chan struct{} { return b.token }

// IsClosed reports whether the channel is closed. No value may ever be sent on it.
func IsClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// Signal wakes all goroutines that wait for an event, each time that it happens. A waiter calls
// Wait first and then checks whether it still has to wait, so it cannot miss an event. The zero
// value is ready for use, by any number of goroutines.
type Signal struct {
	mu sync.Mutex    // guards the field below
	ch chan struct{} // closed by the next Raise; nil while nobody waits
}

// Wait returns a channel that is closed by the next Raise.
func (s *Signal) Wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

// Raise wakes all current waiters.
func (s *Signal) Raise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

// Package wake has what one goroutine wakes others with: a [Bell] wakes one that works
// when there is something to do, a [Signal] all that wait for something to happen.
package wake

import "sync"

// Bell wakes one goroutine. Rings while it is at work count as one, and are not lost: it
// works once more. It comes from [NewBell]. Copies are the same bell.
type Bell struct{ token chan struct{} }

// NewBell makes a bell that has not rung.
func NewBell() Bell { return Bell{make(chan struct{}, 1)} }

// Ring wakes the goroutine, now or when it next receives from C. It never waits, and
// may be called from any goroutine.
func (b Bell) Ring() {
	select {
	case b.token <- struct{}{}:
	default: // it has rung already
	}
}

// Forget makes a bell that has rung one that has not.
func (b Bell) Forget() {
	select {
	case <-b.token:
	default:
	}
}

// C returns the channel that the goroutine receives from: a value when the bell has
// rung since the last one. It is never closed.
func (b Bell) C() <-chan struct{} { return b.token }

// IsClosed reports whether a channel is closed on which nothing is ever sent.
func IsClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// Signal wakes all goroutines that wait for something to happen, again and again. One
// that waits takes the channel first and then looks whether it has to: so nothing can be
// missed. The zero value is ready for use, by any number of goroutines.
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

// Raise wakes all who wait now.
func (s *Signal) Raise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

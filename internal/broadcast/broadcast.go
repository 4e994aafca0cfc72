// Package broadcast wakes all who wait for something to happen.
package broadcast

import "sync"

// Signal is raised again and again. Whoever waits for it takes the channel first and
// then looks whether there is anything to wait for: so nothing can be missed. The
// zero value is ready for use, by any number of goroutines.
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

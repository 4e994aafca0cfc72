package fault

// Pending is a fault that calls are still to meet.
type Pending struct {
	Operation string // empty: any
	Times     int    // how many calls
	Fault     Fault
}

// List returns the faults that calls are still to meet, in the order in which
// they were added.
func (s *Script) List() []Pending {
	s.mu.Lock()
	defer s.mu.Unlock()
	pending := make([]Pending, 0, len(s.lines))
	for _, l := range s.lines {
		pending = append(pending, Pending{l.operation, l.times, l.fault})
	}
	return pending
}

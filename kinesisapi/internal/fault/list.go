package fault

// Pending is a pending fault.
type Pending struct {
	Operation string // empty: any
	Times     int    // how many calls
	Fault     Fault
}

// List returns the pending faults, in the order of Add.
func (s *Script) List() []Pending {
	s.mu.Lock()
	defer s.mu.Unlock()
	pending := make([]Pending, 0, len(s.lines))
	for _, l := range s.lines {
		pending = append(pending, Pending{l.operation, l.times, l.fault})
	}
	return pending
}

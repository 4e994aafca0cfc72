package queue

import (
	"time"

	"github.com/braidstream/braid/internal/companion"
)

// step is what is to be done to a record that was received.
type step struct {
	verb   verb
	ticket ticket
	delay  time.Duration // of extend and release
	reason string        // of release and reject
	err    error         // why nothing was done
}

type verb uint8

const (
	acknowledge verb = iota // of a dead letter: discard it
	extend
	release  // the attempt has failed
	giveBack // the attempt has not taken place
	reject
	restore // a dead letter
)

// check returns the entry that the step is for, and why the step is refused. A step that
// was done before, and may be done again, has no entry and no error.
func (s *state) check(st *step) (*entry, error) {
	e, err := s.find(st.ticket)
	switch {
	case err == ErrRecordSettled && st.verb == acknowledge:
		return nil, nil
	case err != nil:
		return nil, err
	case st.verb == acknowledge: // the newest receipt can do that, however late
	case st.verb == restore && e.phase == dead:
	case e.phase != inFlight && e.phase != deadInFlight:
		return nil, ErrReceiptExpired
	}
	return e, nil
}

// do does the step, and adds it to the commit.
func (s *state) do(rows companion.Rows, st *step, now uint64) error {
	e, err := s.check(st)
	if e == nil {
		return err
	}
	switch st.verb {
	case acknowledge:
		s.settle(rows, e)
		return nil
	case extend:
		e.visible = now + uint64(st.delay)
		s.locked.Set(&e.due, e.visible) // it stays alone, if it was
	case release:
		e.reason = st.reason
		switch e.visible = now + uint64(st.delay); {
		case s.exhausted(e):
			e.visible, e.dead = now, true // no delay comes before the dead letters
			s.die(e)
		case st.delay > 0:
			s.move(e, waiting)
		default:
			s.offer(e)
		}
	case giveBack:
		e.visible = now
		if e.receives--; e.dead {
			s.move(e, dead)
		} else {
			s.fail(e)
		}
	case reject:
		e.reason, e.visible, e.dead = st.reason, now, true
		s.die(e)
	case restore:
		s.stats.restored++
		s.revive(e, now)
	}
	s.put(rows, e)
	return nil
}

// revive makes a dead letter a record that was never received. Its receipts are void.
func (s *state) revive(e *entry, now uint64) {
	e.dead, e.receives, e.visible = false, 0, now
	e.succeed()
	s.offer(e)
}

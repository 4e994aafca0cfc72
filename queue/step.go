package queue

import (
	"time"

	"github.com/braidstream/braid/internal/companion"
)

// step is something to do with a received record.
type step struct {
	verb   verb
	ticket ticket
	delay  time.Duration // for extend and release
	reason string        // for release and reject
	err    error         // why nothing was done
}

type verb uint8

const (
	acknowledge verb = iota // for a dead letter: discard it
	extend
	release  // the attempt has failed
	giveBack // the attempt was not made
	reject
	restore // for a dead letter
)

// isEssential reports whether the step is done even while the disk is full. Each such step ends
// a delivery, and there are no new ones on a full disk: so they use little of its reserve.
func (v verb) isEssential() bool { return v == acknowledge || v == giveBack }

// check returns the entry for the step, or why the step is refused. A repeated
// acknowledgement has neither an entry nor an error.
func (s *state) check(st *step, now uint64) (*entry, error) {
	e, err := s.find(st.ticket, now)
	switch {
	case err == ErrRecordSettled && st.verb == acknowledge:
		return nil, nil
	case err != nil:
		return nil, err
	case st.verb == acknowledge: // the newest receipt is enough, however late
	case st.verb == restore && e.phase == dead:
	case e.phase != inFlight && e.phase != deadInFlight:
		return nil, ErrReceiptExpired
	}
	return e, nil
}

// do does the step as part of a commit.
func (s *state) do(rows companion.Rows, st *step, now uint64) error {
	e, err := s.check(st, now)
	if e == nil {
		return err
	}
	switch st.verb {
	case acknowledge:
		s.settle(rows, e)
		return nil
	case extend:
		e.visible = now + uint64(st.delay)
		s.locked.Set(&e.due, e.visible) // an entry that is alone stays alone
	case release:
		e.reason = st.reason
		switch e.visible = now + uint64(st.delay); {
		case s.exhausted(e):
			e.visible, e.dead = now, true // dead letters have no delay
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

// revive turns a dead letter into a record that was never received. Its receipts become
// invalid.
func (s *state) revive(e *entry, now uint64) {
	e.dead, e.receives, e.visible = false, 0, now
	e.succeed()
	s.offer(e)
}

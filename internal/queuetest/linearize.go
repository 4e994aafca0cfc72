package queuetest

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// The check of linearizability: the history of a record is a set of calls with their effects
// and answers. There must be an order of the calls in which each takes effect at one moment
// between its beginning and its end, and answers as [Fate] says.
//
// Histories are checked record by record, which keeps the search small, and is exact for calls
// that name their records. A receive that did not return a record, and a change of the
// settings, are judged for each record separately.

// calls is a set of calls of a history, by index.
type calls [8]uint64

func (s calls) has(i int) bool   { return s[i/64]&(1<<(i%64)) != 0 }
func (s calls) with(i int) calls { s[i/64] |= 1 << (i % 64); return s }

// search finds an order of the calls on a record.
type search struct {
	history []Call // by begun
	tried   map[tried]bool
	best    int  // the largest number of certain calls that could be ordered
	at      Fate // the record's state after them
}

type tried struct {
	done calls
	fate Fate
}

// Linearize returns an error if no order explains the history of a record. It sorts the
// history.
func Linearize(history []Call, most int) error {
	slices.SortFunc(history, func(a, b Call) int { return int(a.Begun - b.Begun) })
	s := search{history: history, tried: make(map[tried]bool)}
	switch {
	case len(history) > 64*len(calls{}):
		return fmt.Errorf("the history has %d calls, which are too many", len(history))
	case s.run(calls{}, Fate{Most: most}):
		return nil
	}
	return fmt.Errorf("no order of the calls explains their answers; after %d of them: %+v%s", s.best, s.at, TextOf(history))
}

// TextOf lists calls for people.
func TextOf(history []Call) string {
	var text strings.Builder
	for i := range history {
		fmt.Fprintf(&text, "\n%v", &history[i])
	}
	return text.String()
}

// run reports whether the calls that are not done can follow.
func (s *search) run(done calls, f Fate) bool {
	limit, left := s.observe(&done, f)
	if left == 0 {
		return true
	}
	key := tried{done, f}
	if s.tried[key] {
		return false
	}
	s.tried[key] = true
	if n := len(s.history) - left; n >= s.best {
		s.best, s.at = n, f
	}
	for i := range s.history {
		c := &s.history[i]
		if c.Begun > limit {
			break
		}
		if done.has(i) {
			continue
		}
		for _, after := range f.Next(c) {
			if c.Maybe && after == f {
				continue // as if the call had not happened
			}
			if s.run(s.pass(done, c).with(i), after) {
				return true
			}
		}
	}
	return false
}

// observe runs the calls that only look and match the current state: since they change nothing,
// they run as early as possible. It returns the end of the first call that must come next, and
// the number of calls that must still come.
func (s *search) observe(done *calls, f Fate) (limit int64, left int) {
	for {
		limit, left = math.MaxInt64, 0
		for i := range s.history {
			if c := &s.history[i]; !done.has(i) && !c.Maybe {
				limit, left = min(limit, c.Ended), left+1
			}
		}
		was := *done
		for i := range s.history {
			c := &s.history[i]
			if c.Begun > limit {
				break
			}
			if c.Looks() && !done.has(i) && s.pass(*done, c) == *done && f.Next(c) != nil {
				*done = done.with(i)
			}
		}
		if was == *done {
			return limit, left
		}
	}
}

// pass drops the calls that may have had no effect and ended before c began.
func (s *search) pass(done calls, c *Call) calls {
	for i := range s.history {
		if before := &s.history[i]; before.Maybe && before.Ended < c.Begun && !done.has(i) {
			done = done.with(i)
		}
	}
	return done
}

package queue_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/queue"
)

// The checker of linearizability: a history of a record is what all calls did to it and saw
// of it, and it must be possible to put these in an order in which each one takes effect at
// one moment between its beginning and its end, and answers as [fate] has it.
//
// A history is checked record by record. That is exact for calls that name their records,
// and keeps the search small: what a receive did not return is judged for each record by
// itself, and so is a change of the settings.

// verb is what a call did to a record.
type verb string

const (
	vPut         verb = "put"
	vReceive     verb = "receive"
	vReceiveDead verb = "receive dead"
	vMissing     verb = "not received" // a receive that could have returned the record did not
	vMissingDead verb = "not received dead"
	vAck         verb = "ack" // or discard
	vAckTx       verb = "ack in a transaction"
	vExtend      verb = "extend"
	vRelease     verb = "release"
	vReturn      verb = "return"
	vReject      verb = "reject"
	vRestore     verb = "restore"
	vRestoreAll  verb = "restore all"
	vUpdate      verb = "update"
)

// call is one call on one record.
type call struct {
	verb     verb
	begun    int64 // place in the order of all beginnings and ends
	ended    int64
	from, to time.Duration // of the bubble: its moment lies between them
	delivery int           // that the call made, or has the receipt of
	receives int           // as a receive returned it
	delay    time.Duration // timeout or delay
	most     int           // Options.MaxReceives, of an update
	err      error         // of the receipt
	maybe    bool          // it may have had no effect, and its answer is unknown
}

// looks reports whether the call has changed nothing, and may have seen what was not durable
// yet.
func (c *call) looks() bool {
	return c.verb == vMissing || c.verb == vMissingDead || c.verb == vAckTx && c.err != nil
}

func (c *call) String() string {
	text := fmt.Sprintf("%5d-%-5d %8.3fs-%.3fs %s", c.begun, c.ended, c.from.Seconds(), c.to.Seconds(), c.verb)
	if c.delivery != 0 {
		text += fmt.Sprintf(" delivery %d", c.delivery)
	}
	return text + fmt.Sprintf(" receives=%d delay=%v most=%d maybe=%t: %v", c.receives, c.delay, c.most, c.maybe, c.err)
}

// slack is how far the clock of the queue may be from that of the bubble: counters of one
// moment follow each other, and push it on.
const slack = 50 * time.Microsecond

// fate is all that the specification knows of a record.
type fate struct {
	put, settled bool
	received     bool // at some time
	dead         bool // whatever the limit
	returned     bool // it was given back: nobody holds it
	receives     int
	holder       int           // the delivery whose receipt holds it; 0: none
	lo, hi       time.Duration // it is visible again at a moment between them
	most         int           // Options.MaxReceives
}

// When it is not certain whether the visibility timeout has passed, both are possible.

func (f fate) canBeHidden(c *call) bool { return f.received && c.from < f.hi+slack }
func (f fate) canBeFree(c *call) bool   { return !f.received || c.to+slack >= f.lo }

func (f fate) exhausted() bool { return f.dead || f.most > 0 && f.receives >= f.most }

// next returns what may have become of the record after the call; nothing if the call cannot
// have answered so.
func (f fate) next(c *call) (after []fate) {
	switch is := f.put && !f.settled; c.verb {
	case vPut:
		f.put = true
		return []fate{f}
	case vReceive, vReceiveDead:
		died := f.received && f.exhausted()
		if !is || !f.canBeFree(c) || died != (c.verb == vReceiveDead) || !c.maybe && f.receives+1 != c.receives {
			return nil
		}
		f.receives++
		f.holder, f.dead, f.received, f.returned = c.delivery, died, true, false
		return []fate{f.until(c, c.delay)}
	case vMissing, vMissingDead:
		died := f.received && f.exhausted()
		if is && !f.canBeHidden(c) && died == (c.verb == vMissingDead) {
			return nil
		}
		return []fate{f}
	case vUpdate:
		if f.received && f.exhausted() && !f.dead && is {
			if f.canBeFree(c) { // it has died by the old limit
				died := f
				died.dead, died.most = true, c.most
				after = append(after, died)
			}
			if !f.canBeHidden(c) {
				return after
			}
		}
		f.most = c.most
		return append(after, f)
	case vRestoreAll:
		if is && f.received && f.exhausted() && (f.dead || f.canBeFree(c)) {
			after = append(after, f.restored(c))
			if f.dead || !f.canBeHidden(c) {
				return after
			}
		}
		return append(after, f)
	}
	return f.settle(c)
}

// settle is next for what needs a receipt.
func (f fate) settle(c *call) []fate {
	holds := f.holder == c.delivery
	late := c.verb == vAck || c.verb == vAckTx || c.verb == vRestore // it need not be in time
	switch {
	case f.settled && c.verb == vAck:
		return f.onlyIf(c.err == nil)
	case f.settled:
		return f.onlyIf(errors.Is(c.err, queue.ErrRecordSettled))
	case errors.Is(c.err, queue.ErrReceiptExpired):
		return f.onlyIf(!holds || !late && (f.returned || f.canBeFree(c)))
	case c.err != nil || !holds || !late && (f.returned || !f.canBeHidden(c)):
		return nil
	}
	switch c.verb {
	case vAck, vAckTx:
		return []fate{{put: true, settled: true, most: f.most}}
	case vRestore:
		return []fate{f.restored(c)}
	case vExtend:
		return []fate{f.until(c, c.delay)}
	case vReturn:
		f.receives--
		f.returned = true
		return []fate{f.until(c, 0)}
	case vReject:
		f.dead, f.returned = true, true
		return []fate{f.until(c, 0)}
	case vRelease:
		f.returned = true
		if f.exhausted() {
			f.dead = true
			return []fate{f.until(c, 0)}
		}
		return []fate{f.until(c, c.delay)}
	}
	panic("no such verb")
}

// onlyIf returns that nothing has changed, or that the answer is impossible.
func (f fate) onlyIf(possible bool) []fate {
	if !possible {
		return nil
	}
	return []fate{f}
}

// until hides the record until so long after the call.
func (f fate) until(c *call, delay time.Duration) fate {
	f.lo, f.hi = c.from+delay, c.to+delay
	if delay == 0 { // then there is no doubt
		f.lo, f.hi = c.from-2*slack, c.from-2*slack
	}
	return f
}

func (f fate) restored(c *call) fate {
	return fate{put: true, received: true, returned: true, most: f.most}.until(c, 0)
}

// calls is a set of calls of a history, by their places.
type calls [8]uint64

func (s calls) has(i int) bool   { return s[i/64]&(1<<(i%64)) != 0 }
func (s calls) with(i int) calls { s[i/64] |= 1 << (i % 64); return s }

// search looks for an order of the calls on a record.
type search struct {
	history []call // by begun
	tried   map[tried]bool
	best    int  // the most calls that must have had an effect and could be put in order
	at      fate // what became of the record by them
}

type tried struct {
	done calls
	fate fate
}

// linearize returns what is wrong with the history of a record, which it sorts.
func linearize(history []call, most int) error {
	slices.SortFunc(history, func(a, b call) int { return int(a.begun - b.begun) })
	s := search{history: history, tried: make(map[tried]bool)}
	switch {
	case len(history) > 64*len(calls{}):
		return fmt.Errorf("the history has %d calls, which are too many", len(history))
	case s.run(calls{}, fate{most: most}):
		return nil
	}
	return fmt.Errorf("no order of the calls explains their answers; after %d of them: %+v%s", s.best, s.at, textOf(history))
}

func textOf(history []call) string {
	var text strings.Builder
	for i := range history {
		fmt.Fprintf(&text, "\n%v", &history[i])
	}
	return text.String()
}

// run reports whether the calls that are not done can follow.
func (s *search) run(done calls, f fate) bool {
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
		if c.begun > limit {
			break
		}
		if done.has(i) {
			continue
		}
		for _, after := range f.next(c) {
			if c.maybe && after == f {
				continue // it is as if it had not happened
			}
			if s.run(s.pass(done, c).with(i), after) {
				return true
			}
		}
	}
	return false
}

// observe does the calls that have seen what there is now: since they change nothing, they
// are done as early as possible. It returns the end of the first call that must come next,
// and how many there are that must come.
func (s *search) observe(done *calls, f fate) (limit int64, left int) {
	for {
		limit, left = math.MaxInt64, 0
		for i := range s.history {
			if c := &s.history[i]; !done.has(i) && !c.maybe {
				limit, left = min(limit, c.ended), left+1
			}
		}
		was := *done
		for i := range s.history {
			c := &s.history[i]
			if c.begun > limit {
				break
			}
			if c.looks() && !done.has(i) && s.pass(*done, c) == *done && f.next(c) != nil {
				*done = done.with(i)
			}
		}
		if was == *done {
			return limit, left
		}
	}
}

// pass gives up the calls that may have had no effect, and have ended before c began.
func (s *search) pass(done calls, c *call) calls {
	for i := range s.history {
		if before := &s.history[i]; before.maybe && before.ended < c.begun && !done.has(i) {
			done = done.with(i)
		}
	}
	return done
}

// The checker accepts what queues do, and finds what they must not.
func TestLinearize(t *testing.T) {
	const s = time.Second
	at := func(n int64, v verb, from time.Duration, c call) call {
		c.verb, c.begun, c.ended, c.from, c.to = v, n, n+1, from, from
		return c
	}
	put := at(1, vPut, 0, call{})
	first := at(10, vReceive, s, call{delivery: 1, receives: 1, delay: 10 * s})
	for name, c := range map[string]struct {
		right bool
		then  []call
	}{
		"acknowledged":                {true, []call{at(20, vAck, 5*s, call{delivery: 1}), at(30, vMissing, 20*s, call{})}},
		"lost":                        {false, []call{at(20, vMissing, 20*s, call{})}},
		"hidden":                      {true, []call{at(20, vMissing, 5*s, call{})}},
		"received twice":              {false, []call{at(20, vReceive, 5*s, call{delivery: 2, receives: 2})}},
		"received in time":            {true, []call{at(20, vReceive, 12*s, call{delivery: 2, receives: 2})}},
		"not counted":                 {false, []call{at(20, vReceive, 12*s, call{delivery: 2, receives: 1})}},
		"back":                        {false, []call{at(20, vAck, 5*s, call{delivery: 1}), at(30, vReceive, 20*s, call{delivery: 2, receives: 2})}},
		"extended":                    {true, []call{at(20, vExtend, 5*s, call{delivery: 1, delay: 60 * s}), at(30, vMissing, 20*s, call{})}},
		"extended too late":           {false, []call{at(20, vExtend, 12*s, call{delivery: 1, delay: 60 * s})}},
		"extended by nobody":          {false, []call{at(20, vExtend, 5*s, call{delivery: 1, delay: s, err: queue.ErrReceiptExpired})}},
		"dead":                        {true, []call{at(20, vUpdate, 5*s, call{most: 1}), at(30, vReceiveDead, 20*s, call{delivery: 2, receives: 2})}},
		"received after its death":    {false, []call{at(20, vUpdate, 5*s, call{most: 1}), at(30, vReceive, 20*s, call{delivery: 2, receives: 2})}},
		"alive after a limit is gone": {false, []call{at(20, vUpdate, 5*s, call{most: 1}), at(22, vUpdate, 20*s, call{}), at(30, vReceive, 21*s, call{delivery: 2, receives: 2})}},
		"acknowledged by an old receipt": {false, []call{
			at(20, vReceive, 12*s, call{delivery: 2, receives: 2, delay: 10 * s}), at(30, vAck, 13*s, call{delivery: 1}),
		}},
		"acknowledged at the same time": {true, []call{
			{verb: vAck, delivery: 1, begun: 20, ended: 40, from: 12 * s, to: 12 * s},
			{verb: vReceive, delivery: 2, receives: 2, begun: 21, ended: 30, from: 12 * s, to: 12 * s, maybe: true},
		}},
		"received, and acknowledged before": {false, []call{
			{verb: vAck, delivery: 1, begun: 20, ended: 25, from: 12 * s, to: 12 * s},
			{verb: vReceive, delivery: 2, receives: 2, begun: 26, ended: 30, from: 12 * s, to: 12 * s},
		}},
		"received, and acknowledged as it was": {false, []call{
			{verb: vAck, delivery: 1, begun: 20, ended: 40, from: 12 * s, to: 12 * s},
			{verb: vReceive, delivery: 2, receives: 2, begun: 21, ended: 30, from: 12 * s, to: 12 * s},
		}},
		"maybe acknowledged, and it was":     {true, []call{at(20, vAck, 5*s, call{delivery: 1, maybe: true}), at(30, vMissing, 20*s, call{})}},
		"maybe acknowledged, and it was not": {true, []call{at(20, vAck, 5*s, call{delivery: 1, maybe: true}), at(30, vReceive, 20*s, call{delivery: 2, receives: 2})}},
		"maybe acknowledged, and again": {false, []call{
			at(20, vAck, 5*s, call{delivery: 1, maybe: true}), at(30, vMissing, 20*s, call{}), at(40, vReceive, 21*s, call{delivery: 2, receives: 2}),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			err := linearize(append([]call{put, first}, c.then...), -1)
			if c.right {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "no order of the calls")
			}
		})
	}
}

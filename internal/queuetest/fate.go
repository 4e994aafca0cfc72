package queuetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/queue"
)

// Verb is the effect of a call on a record.
type Verb string

const (
	Put         Verb = "put"
	Receive     Verb = "receive"
	ReceiveDead Verb = "receive dead"
	Missing     Verb = "not received" // a receive that could have returned the record did not
	MissingDead Verb = "not received dead"
	Ack         Verb = "ack" // or discard
	AckTx       Verb = "ack in a transaction"
	Extend      Verb = "extend"
	Release     Verb = "release"
	Return      Verb = "return"
	Reject      Verb = "reject"
	Restore     Verb = "restore"
	RestoreAll  Verb = "restore all"
	Update      Verb = "update"
)

// Call is one call on one record.
type Call struct {
	Verb     Verb
	Begun    int64 // the position in the order of all beginnings and ends
	Ended    int64
	From, To time.Duration // since a common moment: the call took effect between them
	Delivery int           // that the call made, or whose receipt it has
	Receives int           // as the receive returned it
	Delay    time.Duration // timeout or delay
	Most     int           // Options.MaxReceives, of an update
	Err      error         // of the receipt
	Maybe    bool          // the answer is unknown, and the call may have had no effect
}

// Looks reports whether the call has changed nothing, and may have seen changes that were not
// durable yet.
func (c *Call) Looks() bool {
	return c.Verb == Missing || c.Verb == MissingDead || c.Verb == AckTx && c.Err != nil
}

func (c *Call) String() string {
	text := fmt.Sprintf("%5d-%-5d %8.3fs-%.3fs %s", c.Begun, c.Ended, c.From.Seconds(), c.To.Seconds(), c.Verb)
	if c.Delivery != 0 {
		text += fmt.Sprintf(" delivery %d", c.Delivery)
	}
	return text + fmt.Sprintf(" receives=%d delay=%v most=%d maybe=%t: %v", c.Receives, c.Delay, c.Most, c.Maybe, c.Err)
}

// Slack is how far the clock of the queue may be ahead of that of the calls: counters of the
// same moment are consecutive, and push the clock forward.
const Slack = 50 * time.Microsecond

// Fate is the state of a record of a queue in the specification.
type Fate struct {
	Put, Settled bool
	Received     bool // at some time
	Dead         bool // regardless of the limit
	Returned     bool // it was returned: no receipt holds it
	Receives     int
	Holder       int           // the delivery whose receipt holds it; 0 for none
	Lo, Hi       time.Duration // it becomes visible again between them
	Most         int           // Options.MaxReceives
}

// When it is uncertain whether the visibility timeout has passed, both are possible.

func (f Fate) canBeHidden(c *Call) bool { return f.Received && c.From < f.Hi+Slack }
func (f Fate) canBeFree(c *Call) bool   { return !f.Received || c.To+Slack >= f.Lo }

func (f Fate) exhausted() bool { return f.Dead || f.Most > 0 && f.Receives >= f.Most }

// Next returns the possible states of the record after the call; none if the call's answer is
// impossible.
func (f Fate) Next(c *Call) (after []Fate) {
	switch is := f.Put && !f.Settled; c.Verb {
	case Put:
		f.Put = true
		return []Fate{f}
	case Receive, ReceiveDead:
		died := f.Received && f.exhausted()
		if !is || !f.canBeFree(c) || died != (c.Verb == ReceiveDead) || !c.Maybe && f.Receives+1 != c.Receives {
			return nil
		}
		f.Receives++
		f.Holder, f.Dead, f.Received, f.Returned = c.Delivery, died, true, false
		return []Fate{f.until(c, c.Delay)}
	case Missing, MissingDead:
		died := f.Received && f.exhausted()
		if is && !f.canBeHidden(c) && died == (c.Verb == MissingDead) {
			return nil
		}
		return []Fate{f}
	case Update:
		if f.Received && f.exhausted() && !f.Dead && is {
			if f.canBeFree(c) { // the old limit made it a dead letter
				died := f
				died.Dead, died.Most = true, c.Most
				after = append(after, died)
			}
			if !f.canBeHidden(c) {
				return after
			}
		}
		f.Most = c.Most
		return append(after, f)
	case RestoreAll:
		if is && f.Received && f.exhausted() && (f.Dead || f.canBeFree(c)) {
			after = append(after, f.restored(c))
			if f.Dead || !f.canBeHidden(c) {
				return after
			}
		}
		return append(after, f)
	}
	return f.settle(c)
}

// settle is Next for calls with a receipt.
func (f Fate) settle(c *Call) []Fate {
	holds := f.Holder == c.Delivery
	late := c.Verb == Ack || c.Verb == AckTx || c.Verb == Restore // it may come after the visibility timeout
	switch {
	case f.Settled && c.Verb == Ack:
		return f.onlyIf(c.Err == nil)
	case f.Settled:
		return f.onlyIf(errors.Is(c.Err, queue.ErrRecordSettled))
	case errors.Is(c.Err, queue.ErrReceiptExpired):
		return f.onlyIf(!holds || !late && (f.Returned || f.canBeFree(c)))
	case c.Err != nil || !holds || !late && (f.Returned || !f.canBeHidden(c)):
		return nil
	}
	switch c.Verb {
	case Ack, AckTx:
		return []Fate{{Put: true, Settled: true, Most: f.Most}}
	case Restore:
		return []Fate{f.restored(c)}
	case Extend:
		return []Fate{f.until(c, c.Delay)}
	case Return:
		f.Receives--
		f.Returned = true
		return []Fate{f.until(c, 0)}
	case Reject:
		f.Dead, f.Returned = true, true
		return []Fate{f.until(c, 0)}
	case Release:
		f.Returned = true
		if f.exhausted() {
			f.Dead = true
			return []Fate{f.until(c, 0)}
		}
		return []Fate{f.until(c, c.Delay)}
	}
	panic("no such verb")
}

// onlyIf returns the unchanged state, or none if the answer is impossible.
func (f Fate) onlyIf(possible bool) []Fate {
	if !possible {
		return nil
	}
	return []Fate{f}
}

// until hides the record for the delay after the call.
func (f Fate) until(c *Call, delay time.Duration) Fate {
	f.Lo, f.Hi = c.From+delay, c.To+delay
	if delay == 0 { // then the record is certainly visible
		f.Lo, f.Hi = c.From-2*Slack, c.From-2*Slack
	}
	return f
}

func (f Fate) restored(c *Call) Fate {
	return Fate{Put: true, Received: true, Returned: true, Most: f.Most}.until(c, 0)
}

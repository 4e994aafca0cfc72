package queuetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/queue"
)

// Verb is what a call did to a record.
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
	Begun    int64 // place in the order of all beginnings and ends
	Ended    int64
	From, To time.Duration // since some moment: the call took effect between them
	Delivery int           // that the call made, or has the receipt of
	Receives int           // as a receive returned it
	Delay    time.Duration // timeout or delay
	Most     int           // Options.MaxReceives, of an update
	Err      error         // of the receipt
	Maybe    bool          // it may have had no effect, and its answer is unknown
}

// Looks reports whether the call has changed nothing, and may have seen what was not durable
// yet.
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

// Slack is how far the clock of the queue may be from that of the calls: counters of one
// moment follow each other, and push it on.
const Slack = 50 * time.Microsecond

// Fate is all that the specification knows of a record of a queue.
type Fate struct {
	Put, Settled bool
	Received     bool // at some time
	Dead         bool // whatever the limit
	Returned     bool // it was given back: nobody holds it
	Receives     int
	Holder       int           // the delivery whose receipt holds it; 0: none
	Lo, Hi       time.Duration // it is visible again at a moment between them
	Most         int           // Options.MaxReceives
}

// When it is not certain whether the visibility timeout has passed, both are possible.

func (f Fate) canBeHidden(c *Call) bool { return f.Received && c.From < f.Hi+Slack }
func (f Fate) canBeFree(c *Call) bool   { return !f.Received || c.To+Slack >= f.Lo }

func (f Fate) exhausted() bool { return f.Dead || f.Most > 0 && f.Receives >= f.Most }

// Next returns what may have become of the record after the call; nothing if the call cannot
// have answered so.
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
			if f.canBeFree(c) { // it has died by the old limit
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

// settle is Next for what needs a receipt.
func (f Fate) settle(c *Call) []Fate {
	holds := f.Holder == c.Delivery
	late := c.Verb == Ack || c.Verb == AckTx || c.Verb == Restore // it need not be in time
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

// onlyIf returns that nothing has changed, or that the answer is impossible.
func (f Fate) onlyIf(possible bool) []Fate {
	if !possible {
		return nil
	}
	return []Fate{f}
}

// until hides the record until so long after the call.
func (f Fate) until(c *Call, delay time.Duration) Fate {
	f.Lo, f.Hi = c.From+delay, c.To+delay
	if delay == 0 { // then there is no doubt
		f.Lo, f.Hi = c.From-2*Slack, c.From-2*Slack
	}
	return f
}

func (f Fate) restored(c *Call) Fate {
	return Fate{Put: true, Received: true, Returned: true, Most: f.Most}.until(c, 0)
}

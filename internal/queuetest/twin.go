package queuetest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/braidstream/braid/queue"
)

// Twin is the simplest queue: it has the fate of each record in memory, and scans all of them
// at each call. A test makes the same calls on a real queue, and the twin judges the answers.
//
// Records are identified by their counters. Times are since an arbitrary moment, by the clock
// by which records age. No record may become visible within Slack of a call: its visibility
// would be uncertain, which [Twin.IsUnsure] reports. There are no twins of queues with
// OrderByKey.
type Twin struct {
	MaxReceives       int // negative: records never die
	MaxInFlight       int
	VisibilityTimeout time.Duration

	start uint64 // records below do not belong to the queue
	next  uint64 // records below were received, or removed before that
	fates map[uint64]Fate
	gone  map[uint64]bool // records that are no longer in the stream
	given []Delivery
}

// Delivery is a received receipt.
type Delivery struct {
	Receipt queue.Receipt
	Dead    bool // for a dead letter
	counter uint64
}

// NewTwin returns the twin of a queue that begins at a counter. All settings must be given.
func NewTwin(o queue.Options, start uint64) *Twin {
	return &Twin{
		MaxReceives: o.MaxReceives, MaxInFlight: o.MaxInFlight, VisibilityTimeout: o.VisibilityTimeout,
		start: start, next: start, fates: make(map[uint64]Fate), gone: make(map[uint64]bool),
	}
}

// Clone returns an independent copy without receipts. Call [Twin.Stream] to tell it the records
// of the stream.
func (tw *Twin) Clone() *Twin {
	other := *tw
	other.fates, other.gone, other.given = make(map[uint64]Fate), make(map[uint64]bool), nil
	for c, f := range tw.fates {
		if f.Received && !f.Settled {
			other.fates[c] = f
		}
	}
	return &other
}

// Choose returns up to four deliveries of different records, mostly recent ones, and mostly
// dead letters if dead is set.
func (tw *Twin) Choose(random *rand.Rand, dead bool) (chosen []Delivery) {
	from := 0
	if random.IntN(4) > 0 {
		from = max(0, len(tw.given)-12)
	}
	for range 12 {
		if len(chosen) == 4 || len(tw.given) == 0 {
			break
		}
		d := tw.given[from+random.IntN(len(tw.given)-from)]
		same := func(other Delivery) bool { return other.counter == d.counter }
		if !slices.ContainsFunc(chosen, same) && (d.Dead == dead || random.IntN(20) == 0) {
			chosen = append(chosen, d)
		}
	}
	return chosen
}

// Stream sets the records that the stream has. All others have left the queue; one that returns
// to the stream returns to the queue, unless the queue has committed in between.
func (tw *Twin) Stream(counters []uint64) {
	clear(tw.gone)
	for c := range tw.fates {
		tw.gone[c] = true
	}
	for _, c := range counters {
		if c < tw.start {
			continue
		}
		delete(tw.gone, c)
		if _, known := tw.fates[c]; !known {
			tw.fates[c] = Fate{Put: true, Settled: c < tw.next, Most: tw.MaxReceives}
		}
	}
}

// Unread returns the counters of the records that were never received, oldest first.
func (tw *Twin) Unread() (counters []uint64) {
	tw.unsettled(func(c uint64, f Fate) {
		if !f.Received {
			counters = append(counters, c)
		}
	})
	return counters
}

// committed notes a commit of the queue, with which it forgets received records that the stream
// has lost.
func (tw *Twin) committed() {
	for c := range tw.gone {
		if tw.fates[c].Received {
			tw.fates[c] = Fate{Put: true, Settled: true}
		}
	}
}

// Reopened notes that the database was reopened after a close or a crash.
func (tw *Twin) Reopened(now time.Duration) {
	const most = 12 * time.Hour // the clock may have been set back by more
	for c, f := range tw.fates {
		f.Lo, f.Hi = min(f.Lo, now+most), min(f.Hi, now+most)
		tw.fates[c] = f
	}
}

// IsUnsure reports whether the visibility of some record is uncertain.
func (tw *Twin) IsUnsure(now time.Duration) bool {
	for _, f := range tw.fates {
		if !f.Settled && f.Received && (f.Lo-now).Abs() <= Slack {
			return true
		}
	}
	return false
}

// Visible returns the time at which all current records of the queue are visible.
func (tw *Twin) Visible() (at time.Duration) {
	for _, f := range tw.fates {
		at = max(at, f.Hi)
	}
	return at
}

func (f Fate) isHidden(now time.Duration) bool { return f.Received && now < f.Lo }

func (f Fate) isDead(now time.Duration) bool {
	return f.Dead || f.Received && !f.isHidden(now) && f.exhausted()
}

// unsettled calls fn for each record of the queue, oldest first.
func (tw *Twin) unsettled(fn func(counter uint64, f Fate)) {
	for _, c := range slices.Sorted(maps.Keys(tw.fates)) {
		if f := tw.fates[c]; !f.Settled && !tw.gone[c] {
			fn(c, f)
		}
	}
}

// Check returns how a description of the queue, made between two moments, differs from the
// right one.
func (tw *Twin) Check(d *queue.Description, from, to time.Duration) error {
	var want queue.Description
	var oldest, oldestDead uint64
	tw.unsettled(func(c uint64, f Fate) {
		if f.isDead(from) {
			oldestDead = cmp.Or(oldestDead, c)
		} else {
			oldest = cmp.Or(oldest, c)
		}
		switch hidden := f.isHidden(from); {
		case f.isDead(from):
			if want.Dead++; hidden {
				want.DeadInFlight++
			}
		case !hidden:
			want.Visible++
		case f.Returned:
			want.Delayed++
		default:
			want.InFlight++
		}
	})
	counts := func(d *queue.Description) string {
		return fmt.Sprintf("visible %d, in flight %d, delayed %d, held %d, dead %d, of which in flight %d",
			d.Visible, d.InFlight, d.Delayed, d.Held, d.Dead, d.DeadInFlight)
	}
	if got, should := counts(d), counts(&want); got != should {
		return fmt.Errorf("the queue has %s; it should have %s", got, should)
	}
	return errors.Join(checkAge("oldest record", d.OldestAge, oldest, from, to), checkAge("oldest dead letter", d.OldestDeadAge, oldestDead, from, to))
}

func checkAge(what string, age time.Duration, counter uint64, from, to time.Duration) error {
	if counter == 0 {
		from, to = 0, 0
	}
	at := time.Duration(counter)
	if age < max(0, from-at) || age > max(0, to-at) {
		return fmt.Errorf("the %s, %d, has the age %v, and it is %v to %v", what, counter, age, from, to)
	}
	return nil
}

// Receive returns an error if a receive of up to n records, without a wait, cannot have
// returned these. Without whole, as in queue.ReceiveOptions, it may return fewer than are
// visible.
func (tw *Twin) Receive(now time.Duration, n int, timeout time.Duration, dead, whole bool, records []queue.Record) error {
	var fresh, again []uint64 // receivable records, oldest first
	room := tw.MaxInFlight
	tw.unsettled(func(c uint64, f Fate) {
		switch hidden := f.isHidden(now); {
		case f.isDead(now) != dead:
		case hidden && !f.Returned:
			room--
		case hidden:
		case f.Received:
			again = append(again, c)
		default:
			fresh = append(fresh, c)
		}
	})
	want := min(n, len(fresh)+len(again), max(0, room))
	if len(records) > want || whole && len(records) < want {
		return fmt.Errorf("%d records were received (dead letters: %t), of %d new ones and %d others, with room for %d", len(records), dead, len(fresh), len(again), room)
	}
	verb := Receive
	if dead {
		verb = ReceiveDead
	}
	if len(records) > 0 {
		tw.committed()
	}
	for i := range records {
		r := &records[i]
		c := uint64(r.ArrivalTime.UnixNano())
		line := &again
		if len(fresh) > 0 && c == fresh[0] {
			line = &fresh
		}
		if len(*line) == 0 || (*line)[0] != c {
			return fmt.Errorf("record %d was received, with receipt %d; it was not its turn: %+v", c, len(tw.given), tw.fates[c])
		}
		*line = (*line)[1:]
		tw.given = append(tw.given, Delivery{r.Receipt, dead, c})
		if err := tw.do(c, &Call{Verb: verb, From: now, To: now, Delivery: len(tw.given), Receives: r.Receives, Delay: max(0, timeout)}); err != nil {
			return err
		}
		tw.next = max(tw.next, c+1)
	}
	return nil
}

// do applies a call to a record, and returns an error if its answer is impossible.
func (tw *Twin) do(counter uint64, c *Call) error {
	f := tw.fates[counter]
	after := f.Next(c)
	if len(after) != 1 {
		return fmt.Errorf("record %d: %+v: cannot be followed by %v", counter, f, c)
	}
	tw.fates[counter] = after[0]
	return nil
}

// Settle returns an error if a call with receipts of different records cannot have returned
// err. dead says that the call was one for dead letters.
func (tw *Twin) Settle(now time.Duration, verb Verb, delay time.Duration, dead bool, with []Delivery, err error) error {
	var refused *queue.ReceiptsError
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	failed := make(map[int]error)
	if refused != nil {
		for _, f := range refused.Failed {
			failed[f.Index] = f.Err
		}
	}
	on := tw
	if verb == AckTx && err != nil { // no effect
		on = new(Twin)
		*on = *tw
		on.fates = maps.Clone(tw.fates)
	}
	on.committed()
	for i, d := range with {
		if d.Dead != dead {
			if !errors.Is(failed[i], queue.ErrReceiptInvalid) {
				return fmt.Errorf("receipt %d is of another kind, and the answer is: %w", i, failed[i])
			}
			continue
		}
		if on != tw && failed[i] == nil {
			continue // refused for the others
		}
		at := 1 + slices.IndexFunc(tw.given, func(g Delivery) bool { return g.Receipt == d.Receipt })
		if err := on.do(d.counter, &Call{Verb: verb, From: now, To: now, Delivery: at, Delay: delay, Err: failed[i]}); err != nil {
			return err
		}
	}
	return nil
}

// RestoreAll returns an error if a call cannot have restored n dead letters.
func (tw *Twin) RestoreAll(now time.Duration, n int) error {
	want := 0
	tw.committed()
	var err error
	tw.unsettled(func(c uint64, f Fate) {
		if f.isDead(now) {
			want++
		}
		err = errors.Join(err, tw.do(c, &Call{Verb: RestoreAll, From: now, To: now}))
	})
	if n != want {
		return fmt.Errorf("%d dead letters were restored, of %d", n, want)
	}
	return err
}

// Update sets the queue's limit of receives.
func (tw *Twin) Update(now time.Duration, most int) error {
	tw.committed()
	tw.MaxReceives = most
	var err error
	for c := range tw.fates {
		err = errors.Join(err, tw.do(c, &Call{Verb: Update, From: now, To: now, Most: most}))
	}
	return err
}

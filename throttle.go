package braid

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A budget is a bucket that holds one second's worth and is full at first. What
// is put is charged when its group is applied, where it is known which shard
// it goes to: records and bytes together, or neither. So what is refused has had
// no effect, and costs nothing.

// writeBudgets are what can be put to a shard. The appender owns them, and makes them
// when they are needed first.
type writeBudgets struct {
	of             Capacity // that they were made of
	records, bytes *rate.Limiter
	charged        charge // by the current call
}

// charge is what one call puts to a shard. The appender owns it.
type charge struct {
	call                  uint64  // which call
	haveRecords, haveCost float64 // in the budgets when the call began
	records, bytes        int     // that were accepted; bytes are partition keys and data
	err                   error   // why the shard takes no more of this call
}

// chargeUnitBytes is what sizes are rounded up to: Kinesis charges a PutRecord,
// and the sum of a PutRecords, in units of it.
const chargeUnitBytes = 1 << 10

func units(bytes int) int { return (bytes + chargeUnitBytes - 1) / chargeUnitBytes * chargeUnitBytes }

// admit counts a record of the current call to its shard. An error refuses the
// record, and with it the later ones of the call that go to the same shard: so
// who puts the refused ones again keeps the order.
func (a *appender) admit(sh *Shard, size int) error {
	if b := sh.w.budgets; b == nil || b.charged.call != a.call {
		sh.refill(a.moment)
		sh.w.budgets.charged = charge{call: a.call, haveRecords: sh.w.budgets.records.TokensAt(a.moment), haveCost: sh.w.budgets.bytes.TokensAt(a.moment)}
		a.charged = append(a.charged, sh)
	}
	c := &sh.w.budgets.charged
	if c.err == nil {
		spent := units(c.bytes)
		c.err = sh.afford(c.haveRecords-float64(c.records), c.haveCost-float64(spent), 1, units(c.bytes+size)-spent)
	}
	if c.err != nil {
		a.counts.throttled.Add(1)
		return c.err
	}
	c.records, c.bytes = c.records+1, c.bytes+size
	return nil
}

// settle charges what the current call was allowed to put.
func (a *appender) settle() {
	for _, sh := range a.charged {
		sh.spend(a.moment, sh.w.budgets.charged.records, units(sh.w.budgets.charged.bytes))
	}
	a.charged = a.charged[:0]
}

// admitAll charges all puts of a transaction, or none of them and returns why.
func (a *appender) admitAll(puts []txPut) error {
	type sum struct{ records, bytes int }
	var sums map[*Shard]sum
	for i := range puts {
		s := puts[i].stream
		if s.w.settings.capacity.Mode == Unlimited {
			continue
		}
		if sums == nil {
			sums = make(map[*Shard]sum)
		}
		sh := s.w.topology.route(puts[i].put.hash)
		n := sums[sh]
		sums[sh] = sum{n.records + 1, n.bytes + puts[i].put.record.Size()}
	}
	for sh, n := range sums {
		sh.refill(a.moment)
		if err := sh.afford(sh.w.budgets.records.TokensAt(a.moment), sh.w.budgets.bytes.TokensAt(a.moment), n.records, units(n.bytes)); err != nil {
			return err
		}
	}
	for sh, n := range sums {
		sh.spend(a.moment, n.records, units(n.bytes))
	}
	return nil
}

// refill makes the budgets those of the stream's capacity.
func (sh *Shard) refill(now time.Time) {
	if sh.w.budgets == nil {
		sh.w.budgets = new(writeBudgets)
	}
	b := sh.w.budgets
	if capacity := sh.stream.w.settings.capacity; b.of != capacity {
		b.of = capacity
		setBudget(&b.records, now, capacity.WriteRecordsPerSecond)
		setBudget(&b.bytes, now, capacity.WriteBytesPerSecond)
	}
}

// afford returns why budgets that hold so much do not allow records and bytes, or
// nil.
func (sh *Shard) afford(haveRecords, haveBytes float64, records, bytes int) error {
	waitRecords, waitBytes := shortage(sh.w.budgets.records, haveRecords, records), shortage(sh.w.budgets.bytes, haveBytes, bytes)
	switch {
	case waitBytes == 0 && waitRecords == 0:
		return nil
	case waitBytes >= waitRecords:
		return &ThroughputExceededError{Shard: sh.id, Budget: "WriteBytesPerSecond", RetryAfter: waitBytes}
	default:
		return &ThroughputExceededError{Shard: sh.id, Budget: "WriteRecordsPerSecond", RetryAfter: waitRecords}
	}
}

func (sh *Shard) spend(now time.Time, records, bytes int) {
	take(sh.w.budgets.records, now, records)
	take(sh.w.budgets.bytes, now, bytes)
}

// setBudget gives a bucket another size, and what it holds stays in it.
func setBudget(bucket **rate.Limiter, now time.Time, perSecond int) {
	if *bucket == nil {
		*bucket = rate.NewLimiter(rate.Limit(perSecond), perSecond)
		return
	}
	(*bucket).SetLimitAt(now, rate.Limit(perSecond))
	(*bucket).SetBurstAt(now, perSecond)
}

// shortage returns how long it takes until n can be taken from a bucket that holds
// so much: what is more than it can hold can be taken when it is full.
func shortage(bucket *rate.Limiter, have float64, n int) time.Duration {
	const rounding = 1e-9 // a bucket counts in floating point
	if have+rounding >= float64(n) {
		return 0
	}
	missing := float64(min(n, bucket.Burst())) - have
	if missing <= rounding {
		return 0
	}
	return time.Duration(math.Ceil((missing - rounding) / float64(bucket.Limit()) * float64(time.Second)))
}

// take takes n from the bucket, which goes into debt for what it does not hold.
func take(bucket *rate.Limiter, now time.Time, n int) {
	if bucket.AllowN(now, n) {
		return
	}
	for most := bucket.Burst(); n > most; n -= most {
		bucket.ReserveN(now, most)
	}
	bucket.ReserveN(now, n)
}

// readBudgets are what GetRecords can read of a shard. They are made when they are
// needed first.
type readBudgets struct {
	mu           sync.Mutex // guards the fields below
	of           Capacity   // that they were made of
	calls, bytes *rate.Limiter
	until        time.Time // no reads before, after a large one
}

// admitRead charges a call. An error refuses it.
func (sh *Shard) admitRead() (err error) {
	capacity := sh.stream.settings.Load().capacity
	if capacity.Mode == Unlimited {
		return nil
	}
	now := time.Now()
	if sh.reads.Load() == nil {
		sh.reads.CompareAndSwap(nil, new(readBudgets))
	}
	b := sh.reads.Load()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of != capacity {
		b.of = capacity
		setBudget(&b.calls, now, capacity.ReadsPerSecond)
		setBudget(&b.bytes, now, capacity.ReadBytesPerSecond)
	}
	if wait := b.until.Sub(now); wait > 0 {
		err = &ThroughputExceededError{Shard: sh.id, Budget: "ReadBytesPerSecond", RetryAfter: wait}
	} else if wait := shortage(b.calls, b.calls.TokensAt(now), 1); wait > 0 {
		err = &ThroughputExceededError{Shard: sh.id, Budget: "ReadsPerSecond", RetryAfter: wait}
	}
	if err != nil {
		sh.stream.db.reads.throttled.Add(1)
		return err
	}
	take(b.calls, now, 1)
	return nil
}

// chargeRead charges what a call has read. Once that is more than the budget
// holds, reads are refused until it is full again: after 10 MiB, with Kinesis's
// budget, for five seconds.
func (sh *Shard) chargeRead(bytes int) {
	if sh.stream.settings.Load().capacity.Mode == Unlimited || bytes == 0 {
		return
	}
	now := time.Now()
	b := sh.reads.Load()
	if b == nil {
		return // the mode has changed since the call began
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes == nil {
		return // as above
	}
	take(b.bytes, now, bytes)
	if b.bytes.TokensAt(now) < 0 {
		full := float64(b.bytes.Burst()) - b.bytes.TokensAt(now)
		b.until = now.Add(time.Duration(math.Ceil(full / float64(b.bytes.Limit()) * float64(time.Second))))
	}
}

package braid

import (
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A budget is a token bucket that holds one second's worth and is full at first. Puts are
// charged when their group is applied, because only then is their shard known. Records and
// bytes are charged together, or neither is. So a refused record has no effect, and costs
// nothing.

// ThroughputExceededError is an [ErrThroughputExceeded] with its details.
type ThroughputExceededError struct {
	Shard      ShardID
	Budget     string        // the field of [Capacity] that is used up
	RetryAfter time.Duration // when the same call will be within the budget, if there is no other call
}

// Error names the shard, the budget and the time.
func (e *ThroughputExceededError) Error() string {
	return fmt.Sprintf("the throughput of %s is exceeded: its %s is used up; try again in %s", e.Shard, e.Budget, e.RetryAfter)
}

// Is reports whether target is [ErrThroughputExceeded].
func (e *ThroughputExceededError) Is(target error) bool { return target == ErrThroughputExceeded }

// writeBudgets bound the puts to a shard. The appender owns them, and makes them on the first
// use.
type writeBudgets struct {
	of             Capacity // the capacity that they are for
	records, bytes *rate.Limiter
	charged        charge // by the current call
}

// resize adjusts the budgets to the capacity.
func (b *writeBudgets) resize(now time.Time, capacity Capacity) {
	if b.of != capacity {
		b.of = capacity
		setBudget(&b.records, now, capacity.WriteRecordsPerSecond)
		setBudget(&b.bytes, now, capacity.WriteBytesPerSecond)
	}
}

// afford returns nil if budgets that hold haveRecords and haveBytes allow so many records
// and bytes, otherwise the error that refuses them.
func (b *writeBudgets) afford(id ShardID, haveRecords, haveBytes float64, records, bytes int) error {
	waitRecords, waitBytes := shortage(b.records, haveRecords, records), shortage(b.bytes, haveBytes, bytes)
	switch {
	case waitBytes == 0 && waitRecords == 0:
		return nil
	case waitBytes >= waitRecords:
		return &ThroughputExceededError{Shard: id, Budget: "WriteBytesPerSecond", RetryAfter: waitBytes}
	default:
		return &ThroughputExceededError{Shard: id, Budget: "WriteRecordsPerSecond", RetryAfter: waitRecords}
	}
}

func (b *writeBudgets) spend(now time.Time, records, bytes int) {
	drain(b.records, now, records)
	drain(b.bytes, now, bytes)
}

// charge is what one call puts to a shard. The appender owns it.
type charge struct {
	call                  uint64  // the call's number
	haveRecords, haveCost float64 // what the budgets held when the call began
	records, bytes        int     // accepted records, and the bytes of their partition keys and data
	err                   error   // why the shard accepts no more of this call
}

// chargeUnitBytes is the unit to which sizes are rounded up. Kinesis charges a PutRecord, and
// the sum of a PutRecords, in such units.
const chargeUnitBytes = 1 << 10

func units(bytes int) int { return (bytes + chargeUnitBytes - 1) / chargeUnitBytes * chargeUnitBytes }

// readBudgets bound the calls of GetRecords on a shard. They are made on the first use.
type readBudgets struct {
	mu           sync.Mutex // guards the fields below
	of           Capacity   // the capacity that they are for
	calls, bytes *rate.Limiter
	until        time.Time // after a large read, the end of the pause without reads
}

// admit is admitRead for the shard, with the capacity of its stream.
func (b *readBudgets) admit(now time.Time, id ShardID, capacity Capacity) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of != capacity {
		b.of = capacity
		setBudget(&b.calls, now, capacity.ReadsPerSecond)
		setBudget(&b.bytes, now, capacity.ReadBytesPerSecond)
	}
	if left := b.until.Sub(now); left > 0 {
		return &ThroughputExceededError{Shard: id, Budget: "ReadBytesPerSecond", RetryAfter: left}
	}
	if left := shortage(b.calls, b.calls.TokensAt(now), 1); left > 0 {
		return &ThroughputExceededError{Shard: id, Budget: "ReadsPerSecond", RetryAfter: left}
	}
	drain(b.calls, now, 1)
	return nil
}

// charge takes the bytes that were read from the budget. Once they exceed it, reads are
// refused until it is full again: after 10 MiB, with Kinesis's budget, for five seconds.
func (b *readBudgets) charge(now time.Time, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes == nil {
		return // the mode has changed since the call began
	}
	drain(b.bytes, now, bytes)
	if b.bytes.TokensAt(now) < 0 {
		full := float64(b.bytes.Burst()) - b.bytes.TokensAt(now)
		b.until = now.Add(time.Duration(math.Ceil(full / float64(b.bytes.Limit()) * float64(time.Second))))
	}
}

// setBudget changes the size of a bucket, and keeps what it holds.
func setBudget(bucket **rate.Limiter, now time.Time, perSecond int) {
	if *bucket == nil {
		*bucket = rate.NewLimiter(rate.Limit(perSecond), perSecond)
		return
	}
	(*bucket).SetLimitAt(now, rate.Limit(perSecond))
	(*bucket).SetBurstAt(now, perSecond)
}

// shortage returns how long it takes until n can be taken from a bucket that now holds have.
// An n above the bucket's size can be taken when the bucket is full.
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

// drain takes n from the bucket, which goes into debt if it holds less.
func drain(bucket *rate.Limiter, now time.Time, n int) {
	if bucket.AllowN(now, n) {
		return
	}
	for most := bucket.Burst(); n > most; n -= most {
		bucket.ReserveN(now, most)
	}
	bucket.ReserveN(now, n)
}

// Package histogram counts durations in fixed buckets, at the cost of two atomic additions
// each. It does not know what they measure: the root package and package consumer turn the
// counts of a [Recorder] into a braid.Histogram.
package histogram

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Bounds are the inclusive upper bounds of the buckets: 1 µs to 50 s, three for each power of
// ten, each 2 or 2.5 times the one before. One more bucket counts longer durations.
var Bounds = [24]time.Duration{
	1 * time.Microsecond, 2 * time.Microsecond, 5 * time.Microsecond,
	10 * time.Microsecond, 20 * time.Microsecond, 50 * time.Microsecond,
	100 * time.Microsecond, 200 * time.Microsecond, 500 * time.Microsecond,
	1 * time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond,
	10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	1 * time.Second, 2 * time.Second, 5 * time.Second,
	10 * time.Second, 20 * time.Second, 50 * time.Second,
}

// first has, for each number of bits, the first possible bucket of a duration with that many
// bits. From there, at most two comparisons find the right one.
var first = func() (first [65]uint8) {
	for n := range first {
		least := uint64(1) << max(0, n-1)
		for int(first[n]) < len(Bounds) && uint64(Bounds[first[n]]) < least {
			first[n]++
		}
	}
	return first
}()

// Recorder counts durations. The zero value is ready for use. It is safe for concurrent use.
type Recorder struct {
	counts [len(Bounds) + 1]atomic.Int64 // the last one is for durations beyond the bounds
	sum    atomic.Int64
}

// Observe counts a duration. A negative one, which two readings of a wall clock can give,
// counts as 0.
func (r *Recorder) Observe(d time.Duration) {
	d = max(d, 0)
	r.counts[bucket(d)].Add(1)
	r.sum.Add(int64(d))
}

func bucket(d time.Duration) int {
	i := int(first[bits.Len64(uint64(d))])
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	return i
}

// Read returns the number of durations in each bucket, their total number, including those
// beyond the bounds, and their sum. A concurrent Observe may be missing in the sum or in the
// counts.
func (r *Recorder) Read() (counts [len(Bounds)]int64, count int64, sum time.Duration) {
	sum = time.Duration(r.sum.Load())
	for i := range counts {
		counts[i] = r.counts[i].Load()
		count += counts[i]
	}
	return counts, count + r.counts[len(Bounds)].Load(), sum
}

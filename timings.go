package braid

import (
	"math/bits"
	"time"

	"github.com/braidstream/braid/internal/histogram"
)

// sampleEvery says that one of so many commits and puts is measured where none of them waits
// for a disk. Reading the clock twice takes up to a tenth of the time of such a put:
// BenchmarkTimings. It is a power of two.
const sampleEvery = 64

// timings are the durations of commits and puts.
type timings struct {
	// rest is 0 if every commit and put is measured, as on a disk that is synced, else
	// sampleEvery-1. off turns measuring off, to see what it costs. Neither changes after Open.
	rest uint32
	off  bool

	puts    histogram.Recorder
	commits histogram.Recorder
}

// measure sets which puts and commits are measured.
func (t *timings) measure(dir string, durability Durability) {
	if dir == InMemory || durability != Sync {
		t.rest = sampleEvery - 1
	}
}

// begin returns the time at which a put begins, and whether it is measured. The dice of the
// request decide: a fixed stride could always pick the same one of several producers.
func (t *timings) begin(d *dice) (began time.Time, measured bool) {
	if t.off || t.rest != 0 && d.roll()&t.rest != 0 {
		return time.Time{}, false
	}
	return time.Now(), true
}

// noteCommit measures a commit that was just published. The committer calls it, with the
// commit's number and the time at which it began.
func (t *timings) noteCommit(number uint64, began time.Time) {
	if !t.off && number&uint64(t.rest) == 0 {
		t.commits.Observe(time.Since(began))
	}
}

// dice is a random number generator that costs one multiplication per number: a linear
// congruential one, whose upper bits are good.
type dice uint32

func (d *dice) roll() uint32 {
	*d = *d*1664525 + 1013904223
	return bits.Reverse32(uint32(*d))
}

package braid

import (
	"math/bits"
	"time"

	"github.com/braidstream/braid/internal/histogram"
)

// sampleEvery is how many commits, or puts, there are to one that is measured where none
// of them waits for a disk: to read the clock twice is up to a tenth of what such a put
// takes, which BenchmarkTimings shows. It is a power of two.
const sampleEvery = 64

// timings are how long commits and puts have taken.
type timings struct {
	// rest is how many there are, less one, to one that is measured: 0 on a disk that is
	// synced, else sampleEvery-1. With off none is, to see what it costs. Neither is changed
	// after Open.
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

// begin returns when a put begins, and whether it is measured. Which of them are is left to
// the dice of the request: a fixed stride could fall to the same one of several producers
// each time.
func (t *timings) begin(d *dice) (began time.Time, measured bool) {
	if t.off || t.rest != 0 && d.roll()&t.rest != 0 {
		return time.Time{}, false
	}
	return time.Now(), true
}

// noteCommit measures a commit that has just been published. The committer calls it, with
// its number and when it began.
func (t *timings) noteCommit(number uint64, began time.Time) {
	if !t.off && number&uint64(t.rest) == 0 {
		t.commits.Observe(time.Since(began))
	}
}

// dice is a random number that gives the next one at the cost of a multiplication: a
// linear congruential generator, of which the upper bits are good.
type dice uint32

func (d *dice) roll() uint32 {
	*d = *d*1664525 + 1013904223
	return bits.Reverse32(uint32(*d))
}

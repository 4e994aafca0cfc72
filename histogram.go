package braid

import (
	"math"
	"time"

	"github.com/braidstream/braid/internal/histogram"
)

// Histogram is how long something has taken each time since the database was opened, counted in
// buckets: 24 of them, from 1 µs to 50 s, each up to 2 or 2.5 times as long as the one
// before. All histograms have the same buckets. Its zero value has counted nothing.
//
// Two of a histogram, read one after the other, show what came in between: see
// [Histogram.Since].
type Histogram struct {
	Count int64         // of durations, those that are longer than any bucket included
	Sum   time.Duration // of all of them

	// Buckets are in the order of their bounds. Each counts what no earlier one does, and
	// Count exceeds their sum by what took longer than the last of them.
	Buckets []HistogramBucket
}

// HistogramBucket counts durations that exceed the bucket before it, and not UpTo.
type HistogramBucket struct {
	UpTo  time.Duration
	Count int64
}

// Quantile returns a bound that at least the share q of the durations does not exceed, 0.99
// for the 99th percentile: the upper bound of the bucket that the quantile falls in. The
// quantile itself is above the bound of the bucket before, and so it is overstated by a
// factor of at most 2.5 where it exceeds 1 µs.
//
// It is 0 if nothing was counted, and math.MaxInt64 if the quantile exceeds the last
// bucket, of 50 s. A q below 0 counts as 0, which asks for the shortest duration, and one
// above 1 as 1.
func (h Histogram) Quantile(q float64) time.Duration {
	if h.Count == 0 {
		return 0
	}
	rank := max(1, min(h.Count, int64(math.Ceil(q*float64(h.Count)))))
	for _, b := range h.Buckets {
		if rank -= b.Count; rank <= 0 {
			return b.UpTo
		}
	}
	return math.MaxInt64
}

// Since returns what was added since an earlier reading of the same histogram; if the
// earlier one has counted nothing, all of it.
func (h Histogram) Since(earlier Histogram) Histogram {
	since := Histogram{Count: h.Count - earlier.Count, Sum: h.Sum - earlier.Sum}
	for i, b := range h.Buckets {
		if i < len(earlier.Buckets) {
			b.Count -= earlier.Buckets[i].Count
		}
		since.Buckets = append(since.Buckets, b)
	}
	return since
}

// readHistogram makes the public form of what was recorded.
func readHistogram(r *histogram.Recorder) Histogram {
	counts, count, sum := r.Read()
	h := Histogram{Count: count, Sum: sum, Buckets: make([]HistogramBucket, len(counts))}
	for i := range counts {
		h.Buckets[i] = HistogramBucket{histogram.Bounds[i], counts[i]}
	}
	return h
}

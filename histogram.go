package braid

import (
	"math"
	"time"

	"github.com/braidstream/braid/internal/histogram"
)

// Histogram is a distribution of durations since the database was opened. All histograms have
// the same 24 buckets. Their upper bounds go from 1 µs to 50 s, and each is 2 or 2.5 times the
// one before. The zero value has counted nothing.
//
// [Histogram.Since] returns what was added between two readings of a histogram.
type Histogram struct {
	Count int64         // number of durations, including those longer than the last bucket
	Sum   time.Duration // sum of all durations

	// Buckets are in ascending order. Each duration counts in one bucket only; those longer
	// than the last bucket are only in Count.
	Buckets []HistogramBucket
}

// HistogramBucket counts the durations of at most UpTo that no earlier bucket counts.
type HistogramBucket struct {
	UpTo  time.Duration
	Count int64
}

// Quantile returns an upper bound of the quantile q, such as 0.99 for the 99th percentile: at
// least the share q of the durations is not longer. The bound is that of the bucket that the
// quantile falls in, so above 1 µs it is at most 2.5 times too high.
//
// It is 0 if nothing was counted, and math.MaxInt64 if the quantile exceeds the last bucket,
// 50 s. A q below 0 counts as 0, which asks for the shortest duration, and a q above 1 as 1.
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

// Since returns what was added since an earlier reading of the same histogram. The zero
// value as the earlier reading gives everything.
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

// readHistogram returns a recorder's counts in the public form.
func readHistogram(r *histogram.Recorder) Histogram {
	counts, count, sum := r.Read()
	h := Histogram{Count: count, Sum: sum, Buckets: make([]HistogramBucket, len(counts))}
	for i := range counts {
		h.Buckets[i] = HistogramBucket{histogram.Bounds[i], counts[i]}
	}
	return h
}

package main

import (
	"math/bits"
	"slices"
	"time"
)

// histogram counts durations in buckets that are 1/64 of their power of two wide, so a quantile
// is off by at most 1 %, and mostly by much less, since quantiles assume that durations are
// spread evenly in a bucket. Adding allocates nothing. The zero value is empty.
type histogram struct {
	counts [histogramBuckets]uint64
	total  uint64
	max    time.Duration
}

const (
	histogramBits    = 6
	histogramBuckets = (64 - histogramBits) << histogramBits
)

func (h *histogram) add(d time.Duration) {
	d = max(0, d)
	h.counts[bucketOf(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

func (h *histogram) merge(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// quantile returns the duration below or at which a share of q lies, with 0 < q <= 1; 0 if the
// histogram is empty.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.total))
	rank = min(max(rank, 1), h.total)
	seen := uint64(0)
	for i, n := range h.counts {
		if seen += n; n > 0 && seen >= rank {
			low, width := bucketBounds(i)
			share := (float64(rank-(seen-n)) - 0.5) / float64(n)
			return min(time.Duration(low)+time.Duration(share*float64(width)), h.max)
		}
	}
	return 0
}

// bucketOf returns the bucket of v: below 128 each number has its own, above that each power of
// two has 64.
func bucketOf(v uint64) int {
	shift := max(0, bits.Len64(v)-histogramBits-1)
	return shift<<histogramBits + int(v>>shift)
}

// bucketBounds returns the lowest number of a bucket, and the count of its numbers.
func bucketBounds(bucket int) (low, width uint64) {
	shift := max(0, bucket>>histogramBits-1)
	return uint64(bucket-shift<<histogramBits) << shift, 1 << shift
}

// median returns the middle of the values, or the mean of the two in the middle. There must be
// at least one value.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// spread returns the distance from the lowest to the highest value, as a share of their median.
func spread(values []float64) float64 {
	m := median(values)
	if m == 0 {
		return 0
	}
	return (slices.Max(values) - slices.Min(values)) / m
}

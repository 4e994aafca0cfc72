package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHistogramQuantiles(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h histogram
	var exact []time.Duration
	for range 20_000 {
		d := time.Duration(random.ExpFloat64() * float64(200*time.Microsecond))
		h.add(d)
		exact = append(exact, d)
	}
	slices.Sort(exact)
	for _, q := range []float64{0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1} {
		want := exact[max(0, int(q*float64(len(exact)))-1)]
		require.InEpsilon(t, want, h.quantile(q), 0.01, "quantile %v", q)
	}
	require.Equal(t, exact[len(exact)-1], h.max)
}

func TestHistogramIsExactBelow128(t *testing.T) {
	var h histogram
	for d := range time.Duration(128) {
		h.add(d)
	}
	for d := range time.Duration(128) {
		require.Equal(t, d, h.quantile(float64(d+1)/128))
	}
}

// Quantiles are finer than buckets.
func TestHistogramQuantilesLieInBuckets(t *testing.T) {
	var h histogram
	for d := 5000 * time.Microsecond; d < 5010*time.Microsecond; d += 10 {
		h.add(d)
	}
	h.add(time.Second)
	require.InDelta(t, float64(5005*time.Microsecond), float64(h.quantile(0.5)), float64(50*time.Microsecond))
	require.Less(t, h.quantile(0.1), h.quantile(0.9))
}

func TestHistogramBucketsAreInOrder(t *testing.T) {
	last := -1
	for shift := range 63 {
		for _, v := range []uint64{1 << shift, 1<<shift + 1<<shift/3, 1<<(shift+1) - 1} {
			bucket := bucketOf(v)
			require.GreaterOrEqual(t, bucket, last)
			require.Less(t, bucket, histogramBuckets)
			low, width := bucketBounds(bucket)
			require.LessOrEqual(t, low, v)
			require.Less(t, v-low, width)
			require.LessOrEqual(t, width, max(1, low/64), "%d", v)
			last = bucket
		}
	}
}

func TestHistogramMerge(t *testing.T) {
	var a, b, both histogram
	for i := range time.Duration(1000) {
		a.add(i * time.Microsecond)
		b.add(i * time.Millisecond)
		both.add(i * time.Microsecond)
		both.add(i * time.Millisecond)
	}
	a.merge(&b)
	require.Equal(t, both, a)
	require.Zero(t, new(histogram).quantile(0.5), "of nothing")
}

func TestMedianAndSpread(t *testing.T) {
	require.Equal(t, 3.0, median([]float64{9, 1, 3}))
	require.Equal(t, 2.5, median([]float64{4, 1, 3, 2}))
	require.Equal(t, 7.0, median([]float64{7}))
	values := []float64{9, 1, 3}
	median(values)
	require.Equal(t, []float64{9, 1, 3}, values, "the order of samples is kept")
	require.Equal(t, 0.5, spread([]float64{4, 5, 3}))
	require.Zero(t, spread([]float64{0, 0}))
}

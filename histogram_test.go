package braid_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

func TestAQuantileIsABound(t *testing.T) {
	const never = time.Duration(math.MaxInt64)
	bucket := func(upTo time.Duration, n int64) braid.HistogramBucket {
		return braid.HistogramBucket{UpTo: upTo, Count: n}
	}
	h := braid.Histogram{Count: 100, Buckets: []braid.HistogramBucket{bucket(1, 0), bucket(2, 50), bucket(5, 49), bucket(10, 0)}} // one is longer
	for q, want := range map[float64]time.Duration{-1: 2, 0: 2, 0.01: 2, 0.5: 2, 0.501: 5, 0.99: 5, 0.991: never, 1: never, 7: never} {
		require.Equal(t, want, h.Quantile(q), q)
	}
	require.Zero(t, braid.Histogram{}.Quantile(0.5))
	require.EqualValues(t, 1, braid.Histogram{Count: 1, Buckets: []braid.HistogramBucket{bucket(1, 1)}}.Quantile(0))
}

func TestHistogramsAreSubtracted(t *testing.T) {
	db, s := boxStream(t, 1)
	for range 4000 { // one in 64 is measured
		boxPut(t, s, "x")
	}
	first := db.Metrics().PutTimes
	require.Positive(t, first.Count)
	require.Equal(t, first, first.Since(braid.Histogram{}))
	for range 4000 {
		boxPut(t, s, "x")
	}
	second := db.Metrics().PutTimes
	since := second.Since(first)
	require.Positive(t, since.Count)
	require.Equal(t, second.Count, first.Count+since.Count)
	require.Equal(t, second.Sum, first.Sum+since.Sum)
	require.Len(t, since.Buckets, len(first.Buckets))
	for i := range since.Buckets {
		require.Equal(t, second.Buckets[i].Count, first.Buckets[i].Count+since.Buckets[i].Count)
		require.Equal(t, second.Buckets[i].UpTo, since.Buckets[i].UpTo)
	}
}

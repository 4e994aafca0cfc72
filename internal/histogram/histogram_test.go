package histogram

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The table only shortens the search. Checked are durations around every bound and every power
// of two.
func TestBucketIsTheFirstThatHoldsTheDuration(t *testing.T) {
	durations := []time.Duration{0, math.MaxInt64}
	for _, bound := range Bounds {
		durations = append(durations, bound-1, bound, bound+1)
	}
	for n := range 63 {
		durations = append(durations, 1<<n-1, 1<<n, 1<<n+1)
	}
	for range 1000 {
		durations = append(durations, time.Duration(rand.Int64N(1<<rand.IntN(63))))
	}
	for _, d := range durations {
		want, _ := slices.BinarySearch(Bounds[:], d)
		require.Equal(t, want, bucket(d), d)
	}
	require.True(t, slices.IsSorted(Bounds[:]))
}

func TestWhatIsObservedIsRead(t *testing.T) {
	var r Recorder
	_, count, sum := r.Read()
	require.Zero(t, count)
	require.Zero(t, sum)
	var done sync.WaitGroup
	for range 4 {
		done.Go(func() {
			for range 1000 {
				r.Observe(3 * time.Microsecond)
				r.Observe(-time.Second)
				r.Observe(51 * time.Second)
			}
		})
	}
	done.Wait()
	counts, count, sum := r.Read()
	require.EqualValues(t, 12_000, count)
	require.Equal(t, 4000*(3*time.Microsecond+51*time.Second), sum)
	require.EqualValues(t, 4000, counts[0])
	require.EqualValues(t, 4000, counts[2])
	require.EqualValues(t, 0, counts[len(Bounds)-1], "what is longer is beyond the bounds")
}

func BenchmarkObserve(b *testing.B) {
	var r Recorder
	for b.Loop() {
		r.Observe(30 * time.Microsecond)
	}
}

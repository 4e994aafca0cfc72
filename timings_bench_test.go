package braid

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkTimings measures the cost of measuring puts and commits that wait for no disk.
// Databases that measure one of every so many take turns with one that measures none. The
// result is the median of how much longer the former take. Measuring every put shows what the
// sampling saves, and measuring none shows how exact the result is. Run it with -benchtime 1x.
func BenchmarkTimings(b *testing.B) {
	for _, every := range []uint32{sampleEvery, 1, 0} {
		for _, producers := range []int{1, 16} {
			b.Run(fmt.Sprintf("NoSync/producers=%d/every=%d", producers, every), func(b *testing.B) {
				for range b.N {
					measured, plain := openTimed(b, every), openTimed(b, 0)
					compareTimings(b, producers, measured, plain)
				}
			})
		}
	}
}

func openTimed(b *testing.B, every uint32) *Stream {
	db, err := open(b.TempDir(), &Options{Durability: NoSync}, environment{})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	db.times.rest, db.times.off = every-1, every == 0
	s, err := db.CreateStream(b.Context(), "s", nil)
	require.NoError(b, err)
	return s
}

func compareTimings(b *testing.B, producers int, measured, plain *Stream) {
	const turns, puts = 500, 3200
	data := make([]byte, 100)
	turn := func(s *Stream) time.Duration {
		var all sync.WaitGroup
		began := time.Now()
		for range producers {
			all.Go(func() {
				for range puts / producers {
					if _, err := s.PutRecord(b.Context(), "key", data); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		return time.Since(began)
	}
	turn(measured)
	turn(plain)
	ratios, took := make([]float64, turns), make([]time.Duration, turns)
	for i := range ratios {
		var other time.Duration
		if i%2 == 0 {
			took[i] = turn(measured)
			other = turn(plain)
		} else {
			other = turn(plain)
			took[i] = turn(measured)
		}
		ratios[i] = float64(took[i]) / float64(other)
	}
	slices.Sort(ratios)
	slices.Sort(took)
	b.ReportMetric(ratios[turns/2], "of-plain")
	b.ReportMetric(float64(took[turns/2].Nanoseconds())/puts, "ns/put")
	b.ReportMetric(0, "ns/op")
}

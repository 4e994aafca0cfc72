package consumer_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// spread is what a test checks of a histogram with few durations.
type spread struct {
	count               int64
	sum, least, longest time.Duration
}

func spreadOf(h braid.Histogram) spread {
	return spread{h.Count, h.Sum, h.Quantile(0), h.Quantile(1)}
}

func TestMetricsMeasureWhatAWorkerDoes(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		time.Sleep(time.Second) // so that the clock of records is that of the bubble
		f.put("old")
		time.Sleep(time.Second)
		broken := true
		w := f.worker(consumer.Config{MaxAttempts: 1}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			time.Sleep(30 * time.Millisecond)
			if string(batch.Records[0].Data) == "bad" && broken {
				return errors.New("not yet")
			}
			return nil
		}))
		require.Zero(f, w.Metrics().ProcessTimes.Count)
		require.Zero(f, w.Metrics().LastCheckpoint)
		require.Empty(f, w.App().Metrics())
		stop := f.start(w)
		time.Sleep(time.Minute)
		synctest.Wait()
		m := w.Metrics()
		require.Equal(f, spread{1, 30 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond}, spreadOf(m.ProcessTimes))
		require.Equal(f, spread{1, 1030 * time.Millisecond, 2 * time.Second, 2 * time.Second}, spreadOf(m.Latencies))
		require.EqualValues(f, 1, m.LeasesTaken)
		require.Equal(f, m.Processing, m.ProcessTimes.Sum)
		require.InDelta(f, time.Minute, time.Since(m.LastCheckpoint), float64(2*time.Second))
		require.Len(f, w.App().Metrics(), 1)
		for _, same := range w.App().Metrics() {
			require.Equal(f, m, same)
		}

		f.put("bad")
		time.Sleep(time.Hour)
		m = w.Metrics()
		require.EqualValues(f, 1, m.Stops)
		require.EqualValues(f, 1, m.Latencies.Count, "it was not processed")
		require.EqualValues(f, 2, m.ProcessTimes.Count, "it was called")
		broken = false
		require.NoError(f, w.App().Resume(f.Context(), consumer.LeaseKey{}))
		time.Sleep(time.Second)
		m = w.Metrics()
		require.EqualValues(f, 1, m.Stops)
		require.EqualValues(f, 2, m.LeasesTaken, "it begins again")
		require.EqualValues(f, 2, m.Latencies.Count)
		require.Equal(f, time.Duration(1<<63-1), m.Latencies.Quantile(1), "an hour is beyond the buckets")
		require.NoError(f, stop())
		require.Empty(f, w.App().Metrics())
	})
}

package consumer_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

func TestStatusWithoutWorkers(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		var seen journal
		f.put("a")
		w := f.worker(consumer.Config{WorkerID: "w"}, consumer.ProcessorFunc(seen.collect))
		stop := f.start(w)
		status, err := app.Status(f.Context())
		require.NoError(f, err)
		require.Equal(f, []string{"w"}, status.Workers)
		require.Equal(f, "w", status.Shards[0].Owner)
		require.NoError(f, stop())
		f.put("12345")
		time.Sleep(time.Hour)
		f.put("b")
		status, err = app.Status(f.Context())
		require.NoError(f, err)
		require.EqualValues(f, 2, status.BehindRecords)
		require.EqualValues(f, 12, status.BehindBytes)
		require.InDelta(f, time.Hour, status.BehindLatest, float64(time.Millisecond))
		require.Equal(f, consumer.StateUnowned, status.Shards[0].State)
		require.EqualValues(f, 1, w.Metrics().Records)
		require.NoError(f, app.Delete(f.Context()))
		stop = f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))
		require.ErrorIs(f, app.Delete(f.Context()), braid.ErrInvalidArgument, "a worker runs")
		require.NoError(f, stop())
		require.Equal(f, []string{"a", "a", "12345", "b"}, seen.take(), "it began anew")
	})
}

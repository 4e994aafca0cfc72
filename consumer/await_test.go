package consumer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// WaitCaughtUp looks only at the shard that keeps it waiting, not at all shards whenever
// another one has stored a checkpoint.
func TestWaitCaughtUpLooksAtTheShardThatIsBehind(t *testing.T) {
	const checkpoints = 100
	bubble(t, 1000, func(f *fixture) {
		shards := f.orders.Shards()
		behind, busy := shards[7], shards[500]
		release := make(chan struct{})
		stop := f.start(f.worker(consumer.Config{BatchRecords: 1}, consumer.PerLease(func(l consumer.Lease) consumer.Processor {
			return consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error {
				if l.Shard == behind.ID() {
					<-release
				}
				return nil
			})
		})))
		f.putIn(behind, "k", nil)
		synctest.Wait()
		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		caughtUp := make(chan error, 1)
		go func() { caughtUp <- app.WaitCaughtUp(f.Context()) }()
		time.Sleep(time.Second)
		before := consumer.Steps(f.db, "billing")
		for range checkpoints {
			f.putIn(busy, "k", nil)
			time.Sleep(time.Second)
		}
		require.LessOrEqual(f, consumer.Steps(f.db, "billing")-before, int64(30*checkpoints))
		require.Empty(f, caughtUp)
		close(release)
		require.NoError(f, <-caughtUp)
		require.NoError(f, stop())
	})
}

// A shard that stops ends WaitCaughtUp, even while it looks at another shard.
func TestWaitCaughtUpIsToldOfAShardThatStopsLater(t *testing.T) {
	bubble(t, 4, func(f *fixture) {
		shards := f.orders.Shards()
		release := make(chan struct{})
		stop := f.start(f.worker(consumer.Config{MaxAttempts: 1}, consumer.PerLease(func(l consumer.Lease) consumer.Processor {
			return consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error {
				if l.Shard == shards[1].ID() {
					return errors.New("no")
				}
				<-release
				return nil
			})
		})))
		f.putIn(shards[2], "k", nil)
		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		caughtUp := make(chan error, 1)
		go func() { caughtUp <- app.WaitCaughtUp(f.Context()) }()
		time.Sleep(time.Minute)
		require.Empty(f, caughtUp)
		f.putIn(shards[1], "k", nil)
		var stopped *consumer.StoppedShardsError
		require.ErrorAs(f, <-caughtUp, &stopped)
		require.Len(f, stopped.Shards, 1)
		require.Equal(f, shards[1].ID(), stopped.Shards[0].Shard)
		close(release)
		require.ErrorContains(f, f.stopped(stop(), shards[1].ID()), "no")
	})
}

// WaitFor looks at all shards, but, if they are many, not for each checkpoint.
func TestWaitForRestsInProportionToTheShards(t *testing.T) {
	const checkpoints = 100
	for _, test := range []struct{ shards, most int }{{4, 10 * checkpoints}, {1000, 5}} {
		bubble(t, test.shards, func(f *fixture) {
			stop := f.start(f.worker(consumer.Config{BatchRecords: 1}, consumer.ProcessorFunc(nop)))
			synctest.Wait()
			app, err := consumer.OpenApp(f.db, "billing")
			require.NoError(f, err)
			busy := f.orders.Shards()[1]
			var put atomic.Int32
			looks, over := 0, make(chan error, 1)
			go func() {
				over <- app.WaitFor(f.Context(), func(s consumer.Status) bool {
					looks++
					return put.Load() == checkpoints && s.CaughtUp()
				})
			}()
			synctest.Wait()
			for range checkpoints {
				put.Add(1)
				f.putIn(busy, "k", nil)
				time.Sleep(time.Millisecond)
			}
			require.NoError(f, <-over)
			require.LessOrEqual(f, looks, test.most)
			require.NoError(f, stop())
		})
	}
}

// The cost of an operation on one stream depends on that stream alone.
func TestControlOfAStreamCostsNothingForOthers(t *testing.T) {
	for _, others := range []int{1, 1000} {
		bubble(t, 2, func(f *fixture) {
			_, err := f.db.CreateStream(f.Context(), "wide", &braid.StreamOptions{Shards: others})
			require.NoError(f, err)
			stop := beginIdle(f, "app", "orders", "wide")
			app, err := consumer.OpenApp(f.db, "app")
			require.NoError(f, err)
			require.NoError(f, stop()) // its passes count steps, too
			f.put("one", "two")
			key := consumer.LeaseKey{Stream: "orders"}
			for _, row := range []struct {
				name string
				do   func() error
			}{
				{"pause", func() error { return app.Pause(f.Context(), key) }},
				{"resume", func() error { return app.Resume(f.Context(), key) }},
				{"seek", func() error { return app.Seek(f.Context(), key, braid.Latest()) }},
				{"pause of all", func() error { return app.Pause(f.Context(), consumer.LeaseKey{}) }},
				{"resume of all", func() error { return app.Resume(f.Context(), consumer.LeaseKey{}) }},
			} {
				before := consumer.Steps(f.db, "app")
				require.NoError(f, row.do(), row.name)
				require.LessOrEqual(f, consumer.Steps(f.db, "app")-before, int64(10), row.name)
			}
			status, err := app.Status(f.Context())
			require.NoError(f, err)
			require.True(f, status.CaughtUp())
			require.ErrorIs(f, app.Pause(f.Context(), consumer.LeaseKey{Stream: "unknown"}), braid.ErrStreamNotFound)
			require.ErrorIs(f, app.Seek(f.Context(), consumer.LeaseKey{Stream: "unknown"}, braid.Latest()), braid.ErrStreamNotFound)
		})
	}
}

package consumer_test

import (
	"context"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
)

func TestStopNamesWhoDidNotStop(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		var seen journal
		release := make(chan struct{})
		w := f.worker(consumer.Config{}, consumer.PerLease(func(lease consumer.Lease) consumer.Processor {
			return &hanging{lifecycle{log: &seen, name: string(lease.Shard)}, func(ctx context.Context, batch *consumer.Batch) {
				if lease.Shard == shard1 {
					<-release
				} else {
					<-ctx.Done()
				}
			}}
		}))
		f.put("a", "b", "c", "d", "e", "f", "g")
		f.start(w)
		began := time.Now()
		ctx, cancel := context.WithTimeout(f.Context(), time.Second)
		defer cancel()
		err := w.Stop(ctx)
		var stuck *consumer.HungShardsError
		require.ErrorAs(f, err, &stuck)
		require.Equal(f, []consumer.LeaseKey{{Stream: "orders", Shard: shard1}}, stuck.Shards)
		require.LessOrEqual(f, time.Since(began), 1100*time.Millisecond)
		seen.take()
		close(release)
		synctest.Wait()
		require.Empty(f, seen.take(), "nothing is called any more")
		require.Equal(f, consumer.StateUnowned, f.status(shard1).State)
		require.Positive(f, f.status(shard1).BehindRecords, "what it did afterwards does not count")
	})
}

func TestStopDoesNotWaitForAnInitializeThatFails(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen journal
		w := f.worker(consumer.Config{}, seen.each(map[string]int{"initialize": 1 << 30}))
		f.start(w)
		time.Sleep(time.Hour)
		began := time.Now()
		ctx, cancel := context.WithTimeout(f.Context(), time.Second)
		defer cancel()
		require.NoError(f, w.Stop(ctx))
		require.Zero(f, time.Since(began))
		require.NotContains(f, seen.take(), "0 lease lost", "it was never initialized")
	})
}

func TestRunWaitsForProcessorsWhoseLeaseWasTakenAway(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a")
		var seen journal
		release := make(chan struct{})
		w := f.worker(consumer.Config{}, consumer.PerLease(func(consumer.Lease) consumer.Processor {
			return &hanging{lifecycle{log: &seen, name: "0"}, func(context.Context, *consumer.Batch) { <-release }}
		}))
		stop := f.start(w)
		require.NoError(f, w.App().Pause(f.Context(), consumer.LeaseKey{}))
		time.Sleep(time.Minute)
		var stuck *consumer.HungShardsError
		require.ErrorAs(f, stop(), &stuck)
		require.Equal(f, []consumer.LeaseKey{{Stream: "orders", Shard: shard0}}, stuck.Shards)
		seen.take()
		close(release)
		synctest.Wait()
		require.Empty(f, seen.take(), "nothing is called after Run has returned")
	})
}

func TestEarliestStopCounts(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a")
		release := make(chan struct{})
		defer close(release)
		w := f.worker(consumer.Config{}, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { <-release; return nil }))
		f.start(w)
		began := time.Now()
		go func() { _ = w.Stop(context.Background()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(f.Context(), time.Second)
		defer cancel()
		var stuck *consumer.HungShardsError
		require.ErrorAs(f, w.Stop(ctx), &stuck)
		require.LessOrEqual(f, time.Since(began), 1100*time.Millisecond)
	})
}

func TestWorkerEndsWithItsDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		orders, err := db.CreateStream(t.Context(), "orders", nil)
		require.NoError(t, err)
		f := &fixture{t, db, orders}
		var seen journal
		w := f.worker(consumer.Config{}, seen.each(nil))
		var result error
		done := make(chan struct{})
		go func() { defer close(done); result = w.Run(t.Context()) }()
		synctest.Wait()
		require.NoError(t, db.Close())
		<-done
		require.ErrorIs(t, result, braid.ErrClosed)
		require.Equal(t, []string{"0 initialize", "0 lease lost"}, seen.take())
	})
}

// This test runs in real time, on a disk that fails: a store that has failed never
// returns from such a call, so a bubble would not end.
func TestWorkerEndsWhenTheStoreFails(t *testing.T) {
	disk := testdisk.New()
	opened, err := companion.Open("/db", &braid.Options{MemtableBytes: 1 << 20, ReserveBytes: -1}, companion.Environment{FS: disk})
	require.NoError(t, err)
	db := opened.(*braid.DB)
	orders, err := db.CreateStream(t.Context(), "orders", nil)
	require.NoError(t, err)
	started, release := make(chan struct{}), make(chan struct{})
	w, err := consumer.New(db, &consumer.Config{App: "billing", Streams: []string{"orders"}}, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error {
		close(started)
		<-release
		return nil
	}))
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(context.Background()) }()
	_, err = orders.PutRecord(t.Context(), "k", nil)
	require.NoError(t, err)
	<-started
	disk.FailAlways(testdisk.Op.Changes, syscall.EIO)
	close(release) // now it cannot checkpoint
	require.ErrorIs(t, <-ended, braid.ErrFailed)
	_ = db.Close()
}

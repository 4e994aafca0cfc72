package consumer_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/internal/companion"
)

func TestSecondWorkerTakesOverAtOnceWithoutDuplicates(t *testing.T) {
	bubble(t, 4, func(f *fixture) {
		var seen journal
		want := 0
		putSome := func() {
			for range 50 {
				f.put(fmt.Sprint("r", want))
				want++
			}
		}
		putSome()
		stopOne := f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))
		began := time.Now()
		for range 10 {
			stopTwo := f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))
			putSome()
			require.NoError(f, stopOne())
			stopOne = stopTwo
			putSome()
		}
		synctest.Wait()
		require.NoError(f, stopOne())
		require.Zero(f, time.Since(began), "nothing has waited")
		lines := seen.take()
		require.Len(f, lines, want)
		set := make(map[string]bool)
		for _, line := range lines {
			set[line] = true
		}
		require.Len(f, set, want)
	})
}

func TestLeaseIsTakenFromAProcessorThatDoesNotReturn(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var one, two journal
		f.put("a")
		release, zombie := make(chan struct{}), make(chan error, 2)
		var hung atomic.Bool
		stopOne := f.start(f.worker(consumer.Config{WorkerID: "one", HandOverTimeout: 10 * time.Second}, consumer.PerLease(func(consumer.Lease) consumer.Processor {
			return &hanging{lifecycle{log: &one, name: "one"}, func(ctx context.Context, batch *consumer.Batch) {
				if !hung.Swap(true) {
					<-release
					zombie <- context.Cause(ctx)
					zombie <- batch.CheckpointAt(context.Background(), batch.Records[0])
				}
			}}
		})))
		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		require.NoError(f, app.Pause(f.Context(), consumer.LeaseKey{})) // the shards have to be handed over
		stopTwo := f.start(f.worker(consumer.Config{WorkerID: "two"}, consumer.PerLease(func(consumer.Lease) consumer.Processor { return &lifecycle{log: &two, name: "two"} })))
		require.NoError(f, app.Resume(f.Context(), consumer.LeaseKey{}))
		time.Sleep(9 * time.Second)
		synctest.Wait()
		require.Empty(f, two.take(), "its owner still has time")
		require.Equal(f, consumer.StateHandingOver, f.status(shard0).State)
		time.Sleep(2 * time.Second)
		require.Empty(f, zombie)
		require.NotEmpty(f, f.status(shard0).Owner)
		close(release)
		require.ErrorIs(f, <-zombie, consumer.ErrLeaseLost)
		require.ErrorIs(f, <-zombie, consumer.ErrLeaseLost)
		synctest.Wait()
		require.Contains(f, one.take(), "one lease lost")
		require.NoError(f, stopOne())
		require.NoError(f, stopTwo())
		require.Zero(f, f.status(shard0).BehindRecords, "the record came again, to the next owner of the lease")
	})
}

// hanging calls a given function instead of processing, the first time.
type hanging struct {
	lifecycle
	process func(context.Context, *consumer.Batch)
}

func (p *hanging) ProcessRecords(ctx context.Context, batch *consumer.Batch) error {
	p.process(ctx, batch)
	return nil
}

func TestStepsOfTheClockDoNotTouchOwnership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offset atomic.Int64
		opened, err := companion.Open("/db", &braid.Options{ReserveBytes: -1}, companion.Environment{
			FS:    vfs.FS(vfs.NewMem()),
			Clock: func() time.Time { return time.Now().Add(time.Duration(offset.Load())) },
		})
		require.NoError(t, err)
		db := opened.(*braid.DB)
		defer func() { require.NoError(t, db.Close()); synctest.Wait() }()
		orders, err := db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Shards: 4})
		require.NoError(t, err)
		f := &fixture{t, db, orders}
		var seen journal
		stopOne := f.start(f.worker(consumer.Config{WorkerID: "one"}, consumer.ProcessorFunc(seen.collect)))
		stopTwo := f.start(f.worker(consumer.Config{WorkerID: "two"}, consumer.ProcessorFunc(seen.collect)))
		owners := func() (all []string) {
			for _, shard := range []braid.ShardID{shard0, shard1, shard2, shard3} {
				s := f.status(shard)
				all = append(all, fmt.Sprint(s.Owner, s.Epoch, s.State))
			}
			return all
		}
		before := owners()
		for n, step := range []time.Duration{time.Hour, -2 * time.Hour, time.Hour} {
			offset.Add(int64(step))
			f.put(fmt.Sprint("record ", n))
			time.Sleep(time.Minute)
			require.Equal(t, []string{fmt.Sprint("record ", n)}, seen.take())
			require.Equal(t, before, owners())
		}
		require.NoError(t, stopOne())
		require.NoError(t, stopTwo())
	})
}

func TestIdleShardsCostNoWrites(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		shards := 10_000
		if testing.Short() {
			shards = 1000
		}
		many, err := f.db.CreateStream(f.Context(), "many", &braid.StreamOptions{Shards: shards})
		require.NoError(f, err)
		var seen journal
		stop := f.start(f.worker(consumer.Config{Streams: []string{"many"}}, consumer.ProcessorFunc(seen.collect)))
		before := f.db.Metrics()
		time.Sleep(24 * time.Hour)
		after := f.db.Metrics()
		require.Equal(f, before.Commits, after.Commits)
		_, err = many.PutRecord(f.Context(), "k", []byte("and yet it wakes"))
		require.NoError(f, err)
		synctest.Wait()
		require.Equal(f, []string{"and yet it wakes"}, seen.take())
		require.NoError(f, stop())
	})
}

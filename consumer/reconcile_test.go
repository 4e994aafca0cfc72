package consumer_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

func nop(context.Context, *consumer.Batch) error { return nil }

// The steps of the group's passes follow what changes, and not what there is: a chain of
// reshards costs each of its shards the same, however long it is.
func TestPassesCostWhatHasChangedInAChain(t *testing.T) {
	const perShard = 20
	for _, live := range []bool{false, true} {
		for _, reshards := range []int{10, 80} {
			t.Run(fmt.Sprintf("%d reshards, live=%t", reshards, live), func(t *testing.T) {
				bubble(t, 1, func(f *fixture) {
					var stop func() error
					start := func() { stop = f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(nop))) }
					if live {
						start()
						for range reshards {
							chain(f, f.orders, 1)
							synctest.Wait()
						}
					} else {
						chain(f, f.orders, reshards)
						start()
					}
					require.NoError(f, consumer.CheckView(f.Context(), f.db, "billing"))
					shards := f.orders.Shards()
					require.Len(f, shards, 3*reshards+1)
					last := shards[len(shards)-1].ID()
					require.Equal(f, consumer.StateRunning, f.status(last).State)
					require.Less(f, consumer.Steps(f.db, "billing"), int64(perShard*len(shards)))

					// The shards expire one after the other.
					before := consumer.Steps(f.db, "billing")
					time.Sleep(48 * time.Hour)
					synctest.Wait()
					require.Less(f, len(f.orders.Shards()), len(shards))
					require.NoError(f, consumer.CheckView(f.Context(), f.db, "billing"))
					require.Less(f, consumer.Steps(f.db, "billing")-before, int64(perShard*len(shards)))
					require.NoError(f, stop())
				})
			})
		}
	}
}

// A change of the source that comes after one look and before the next one listens to
// it is seen.
func TestNoChangeIsMissedBetweenTwoLooks(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		source := &changingSource{Source: consumer.NewDBSource(f.db)}
		stop := f.start(f.worker(consumer.Config{Source: source}, consumer.ProcessorFunc(nop)))
		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		change := func() { f.split(shard1) }
		source.change.Store(&change)
		require.NoError(f, app.Pause(f.Context(), consumer.LeaseKey{Stream: "orders", Shard: shard0})) // has it look
		synctest.Wait()
		require.Nil(f, source.change.Load())
		require.Equal(f, consumer.StateDone, f.status(shard1).State)
		require.Equal(f, consumer.StateRunning, f.status(shard2).State)
		require.NoError(f, stop())
	})
}

// changingSource changes once, when it is next asked for the channel of changes.
type changingSource struct {
	consumer.Source
	change atomic.Pointer[func()]
}

func (s *changingSource) Changed() <-chan struct{} {
	if change := s.change.Swap(nil); change != nil {
		(*change)()
	}
	return s.Source.Changed()
}

// In a group of 1,000 shards, what happens to one costs what it does in a small one.
func TestPassesCostWhatHasChangedInAWideGroup(t *testing.T) {
	for _, shards := range []int{4, 1000} {
		bubble(t, shards, func(f *fixture) {
			app, err := consumer.OpenApp(f.db, "billing")
			require.NoError(f, err)
			stopOne := f.start(f.worker(consumer.Config{WorkerID: "one"}, consumer.ProcessorFunc(nop)))
			stopTwo := f.start(f.worker(consumer.Config{WorkerID: "two"}, consumer.ProcessorFunc(nop)))
			key := consumer.LeaseKey{Stream: "orders", Shard: f.orders.Shards()[1].ID()}
			// What the leases of all shards have written when they were taken is visited once.
			require.NoError(f, app.Pause(f.Context(), key))
			require.NoError(f, app.Resume(f.Context(), key))
			synctest.Wait()
			for _, row := range []struct {
				name string
				do   func() error
			}{
				{"a checkpoint", func() error { f.putIn(f.orders.Shards()[0], "k", nil); return nil }},
				{"a split", func() error { f.split(f.orders.Shards()[0].ID()); return nil }},
				{"a pause", func() error { return app.Pause(f.Context(), key) }},
				{"a resume", func() error { return app.Resume(f.Context(), key) }},
				{"a seek", func() error { return app.Seek(f.Context(), key, braid.TrimHorizon()) }},
				{"another stream", func() error {
					_, err := f.db.CreateStream(f.Context(), "other", &braid.StreamOptions{Shards: 500})
					return err
				}},
			} {
				before := consumer.Steps(f.db, "billing")
				require.NoError(f, row.do(), row.name)
				synctest.Wait()
				require.NoError(f, consumer.CheckView(f.Context(), f.db, "billing"), row.name)
				require.LessOrEqual(f, consumer.Steps(f.db, "billing")-before, int64(30), row.name)
			}
			// A worker that comes or goes concerns all shards; that they move one after the
			// other does not.
			before := consumer.Steps(f.db, "billing")
			require.NoError(f, stopTwo())
			synctest.Wait()
			require.NoError(f, consumer.CheckView(f.Context(), f.db, "billing"))
			require.LessOrEqual(f, consumer.Steps(f.db, "billing")-before, int64(30*(shards+2)))
			require.Equal(f, "one", f.status(f.orders.Shards()[2].ID()).Owner)
			require.NoError(f, stopOne())
		})
	}
}

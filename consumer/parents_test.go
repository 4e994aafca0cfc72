package consumer_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
)

func TestMergedShardWaitsForTheSlowerParent(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		var seen journal
		f.put("a", "b", "c", "d", "e", "f")
		release := make(chan struct{})
		p := consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
			if batch.Lease().Shard == shard1 {
				<-release
			}
			for range batch.Records {
				seen.add("%s", batch.Lease().Shard)
			}
			return nil
		})
		stop := f.start(f.worker(consumer.Config{}, p))
		_, err := f.orders.MergeShards(f.Context(), shard0, shard1)
		require.NoError(f, err)
		f.put("g", "h")
		synctest.Wait()
		require.NotContains(f, seen.take(), string(shard2))
		require.Equal(f, consumer.StateWaiting, f.status(shard2).State)
		require.Equal(f, []braid.ShardID{shard1}, f.status(shard2).WaitingFor)
		close(release)
		synctest.Wait()
		lines := seen.take()
		require.Equal(f, []string{string(shard2), string(shard2)}, lines[len(lines)-2:])
		require.NoError(f, stop())
	})
}

func TestParentsOfAMergeEndAtDifferentWorkers(t *testing.T) {
	for _, first := range []braid.ShardID{shard0, shard1, ""} {
		t.Run("first "+string(first), func(t *testing.T) {
			bubble(t, 2, func(f *fixture) {
				var seen journal
				gates := map[braid.ShardID]chan struct{}{shard0: make(chan struct{}), shard1: make(chan struct{})}
				make := func(lease consumer.Lease) consumer.Processor {
					return &gated{lifecycle{log: &seen, name: string(lease.Shard[len(lease.Shard)-1:])}, gates[lease.Shard]}
				}
				stopOne := f.start(f.worker(consumer.Config{WorkerID: "one"}, consumer.PerLease(make)))
				stopTwo := f.start(f.worker(consumer.Config{WorkerID: "two"}, consumer.PerLease(make)))
				require.NotEqual(f, f.status(shard0).Owner, f.status(shard1).Owner)
				_, err := f.orders.MergeShards(f.Context(), shard0, shard1)
				require.NoError(f, err)
				synctest.Wait()
				seen.take()
				if first != "" {
					close(gates[first])
					synctest.Wait()
					require.Empty(f, seen.take(), "the other parent is not done")
					delete(gates, first)
				}
				for _, gate := range gates {
					close(gate)
				}
				synctest.Wait()
				require.Equal(f, []string{"2 initialize"}, seen.take(), "it begins once")
				require.NoError(f, stopOne())
				require.NoError(f, stopTwo())
			})
		})
	}
}

// gated ends a shard when its gate is open.
type gated struct {
	lifecycle
	gate chan struct{}
}

func (p *gated) ShardEnded(context.Context, *consumer.Checkpointer) error {
	<-p.gate
	return nil
}

// The children of a paused parent wait for it, even if everything except the parent is
// resumed. A paused child does not hold up its sibling.
func TestChildrenOfAPausedParentWait(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen journal
		w := f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect))
		stop := f.start(w)
		parent := consumer.LeaseKey{Stream: "orders", Shard: shard0}
		child := consumer.LeaseKey{Stream: "orders", Shard: shard1}
		require.NoError(f, w.App().Pause(f.Context(), parent))
		synctest.Wait()
		f.put("before")
		f.split(shard0)
		for n := range 8 {
			f.put(string(rune('a' + n)))
		}
		require.Empty(f, seen.take())
		require.Equal(f, consumer.StatePaused, f.status(shard0).State)
		for _, shard := range []braid.ShardID{shard1, shard2} {
			require.Equal(f, consumer.StateWaiting, f.status(shard).State)
			require.Equal(f, []braid.ShardID{shard0}, f.status(shard).WaitingFor)
		}
		require.NoError(f, w.App().Resume(f.Context(), consumer.LeaseKey{}), "which is not what was paused")
		require.NoError(f, w.App().Resume(f.Context(), consumer.LeaseKey{Stream: "orders"}))
		require.Empty(f, seen.take())
		require.NoError(f, w.App().Pause(f.Context(), child))
		synctest.Wait()
		require.NoError(f, w.App().Resume(f.Context(), parent))
		lines := seen.take()
		require.Equal(f, "before", lines[0])
		require.Equal(f, consumer.StateDone, f.status(shard0).State)
		require.Equal(f, consumer.StatePaused, f.status(shard1).State)
		require.Zero(f, f.status(shard2).BehindRecords)
		require.EqualValues(f, 9-len(lines), f.status(shard1).BehindRecords)
		require.NoError(f, w.App().Resume(f.Context(), child))
		require.Len(f, append(lines, seen.take()...), 9)
		require.NoError(f, stop())
	})
}

// Another engine deletes the lease of a shard that has ended, as the KCL does. The shard
// counts as done, and is not processed again after its children. A shard whose children
// have not begun does not count as done, whatever App.Seek has stored for them.
func TestMissingLeaseOfAParentMeansThatItIsDone(t *testing.T) {
	for _, inDatabase := range []bool{true, false} {
		for _, running := range []bool{false, true} { // while the leases are deleted
			t.Run(fmt.Sprintf("database=%v running=%v", inDatabase, running), func(t *testing.T) {
				bubble(t, 1, func(f *fixture) {
					var seen journal
					store := consumer.LeaseStore(leasetest.NewMemory(10 * time.Second))
					cfg := consumer.Config{}
					if inDatabase {
						store = consumer.NewDBLeases(f.db, "billing")
					} else {
						cfg.Leases = store
					}
					forget := func(shard braid.ShardID) {
						lease, found, err := store.Get(f.Context(), consumer.LeaseKey{Stream: "orders", Shard: shard})
						require.NoError(f, err)
						require.True(f, found)
						require.True(f, lease.Checkpoint.ShardEnd)
						deleted, err := store.Delete(f.Context(), lease)
						require.NoError(f, err)
						require.True(f, deleted)
					}
					start := func() (stop func() error, app *consumer.App) {
						w := f.worker(cfg, consumer.ProcessorFunc(seen.collect))
						return f.start(w), w.App()
					}
					f.put("first")
					stop, _ := start()
					f.split(shard0) // into 1 and 2
					f.put("second")
					synctest.Wait()
					f.split(shard1) // into 3 and 4
					f.putIn(f.orders.Shards()[3], "k", []byte("third"))
					f.putIn(f.orders.Shards()[4], "k", []byte("fourth"))
					time.Sleep(time.Minute)
					seen.take()
					if !running {
						require.NoError(f, stop())
					}
					forget(shard1)
					forget(shard0) // its other child has begun, and is open
					if running {
						time.Sleep(time.Minute)
						require.NoError(f, consumer.CheckView(f.Context(), f.db, "billing"))
						require.NoError(f, stop())
					}
					stop, app := start()
					f.putIn(f.orders.Shards()[3], "k", []byte("fifth"))
					time.Sleep(time.Minute)
					require.Equal(f, []string{"fifth"}, seen.take(), "what was processed does not come again")
					status, err := app.Status(f.Context())
					require.NoError(f, err)
					require.True(f, status.CaughtUp())
					for _, shard := range status.Shards[:2] {
						require.Equal(f, consumer.StateDone, shard.State)
					}
					require.NoError(f, app.Pause(f.Context(), consumer.LeaseKey{Stream: "orders", Shard: shard0}))
					require.NoError(f, app.Resume(f.Context(), consumer.LeaseKey{Stream: "orders", Shard: shard0}))
					time.Sleep(time.Minute)
					require.Empty(f, seen.take())
					require.NoError(f, app.Seek(f.Context(), consumer.LeaseKey{Stream: "orders", Shard: shard0}, braid.TrimHorizon()))
					time.Sleep(time.Minute)
					require.Equal(f, []string{"first"}, seen.take(), "unless somebody wants it to")
					require.NoError(f, stop())
				})
			})
		}
	}
}

func TestChildThatWasSoughtHasNotBegun(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen journal
		require.NoError(f, f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))())
		f.split(shard0)
		f.split(shard1) // it has no lease, and no records
		f.putIn(f.orders.Shards()[3], "k", []byte("last"))
		app := mustApp(f, "billing")
		require.NoError(f, app.Seek(f.Context(), consumer.LeaseKey{Stream: "orders", Shard: f.orders.Shards()[3].ID()}, braid.TrimHorizon()))
		require.Equal(f, consumer.StateWaiting, f.status(f.orders.Shards()[3].ID()).State)
		require.Equal(f, consumer.StateWaiting, f.status(shard1).State)
		stop := f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))
		require.Equal(f, []string{"last"}, seen.take())
		require.Equal(f, uint64(1), f.status(shard1).Epoch, "it was processed")
		require.NoError(f, stop())
	})
}

package consumer_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
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

// The children of a paused parent wait for it, whatever is resumed but the parent; and a
// paused child does not hold up its sibling.
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

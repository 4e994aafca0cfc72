package consumer_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// laggingSource shows an old state of a stream, until a given time.
type laggingSource struct {
	consumer.Source
	was   consumer.StreamInfo // without shards if the stream does not exist
	until time.Time
}

func (*laggingSource) Changed() <-chan struct{} { return nil }

func (s *laggingSource) Stream(ctx context.Context, name string) (consumer.StreamInfo, error) {
	if time.Now().Before(s.until) {
		if s.was.Shards == nil {
			return s.was, braid.ErrStreamNotFound
		}
		return s.was, nil
	}
	return s.Source.Stream(ctx, name)
}

// A worker whose source lags behind does not touch the leases of shards that it does not
// know yet, whether they have an owner or not.
func TestLeasesOfShardsThatAreNotKnownYetStay(t *testing.T) {
	for _, alive := range []bool{true, false} {
		for _, shape := range []bool{true, false} {
			t.Run(fmt.Sprintf("alive=%v shape=%v", alive, shape), func(t *testing.T) { testLagging(t, alive, shape) })
		}
	}
}

func testLagging(t *testing.T, alive, shape bool) {
	expiry(t, 2, func(c *cluster) {
		source := consumer.NewDBSource(c.db)
		was, err := source.Stream(c.Context(), "orders")
		require.NoError(c, err)
		without := func(m *member, cfg *consumer.Config) {
			if !shape {
				cfg.Leases = shapeless{m.link}
			}
		}
		one := c.join("one", without)
		// Two generations, so that the parents of some are unknown, too.
		_, upper, err := c.orders.SplitShard(c.Context(), c.orders.Shards()[0].ID(), nil)
		require.NoError(c, err)
		time.Sleep(time.Minute)
		_, _, err = c.orders.SplitShard(c.Context(), upper.ID(), nil)
		require.NoError(c, err)
		c.put(numbered("first", 40)...)
		time.Sleep(time.Minute)
		require.Len(c, one.take(), 40)
		before := make(map[braid.ShardID]consumer.Checkpoint)
		for _, lease := range c.leases() {
			before[lease.Shard] = lease.Checkpoint
		}
		require.Len(c, before, 6)
		if !alive {
			require.NoError(c, one.stop())
		}
		two := c.join("two", func(m *member, cfg *consumer.Config) {
			without(m, cfg)
			cfg.Source = &laggingSource{source, was, time.Now().Add(2 * time.Minute)}
		})
		time.Sleep(90 * time.Second)
		synctest.Wait()
		for _, lease := range c.leases() {
			require.Equal(c, before[lease.Shard], lease.Checkpoint, "%s", lease.Shard)
			delete(before, lease.Shard)
		}
		require.Empty(c, before)
		time.Sleep(2 * time.Minute)
		if alive {
			require.NoError(c, one.stop())
		}
		c.put(numbered("second", 40)...)
		time.Sleep(2 * time.Minute)
		require.ElementsMatch(c, numbered("second", 40), two.take())
		require.NoError(c, two.stop())
	})
}

// shapeless is a store that keeps nothing of a lease that describes its shard.
type shapeless struct{ *link }

func (s shapeless) CompareAndSet(ctx context.Context, lease consumer.Lease) (stored bool, err error) {
	lease.Parents, lease.Children, lease.HashKeyRange, lease.Throughput = nil, nil, braid.HashKeyRange{}, 0
	return s.link.CompareAndSet(ctx, lease)
}

// The leases of shards that have expired are deleted, even from a store that does not keep
// the parents: the worker remembers them. A lease of a shard that it has never seen stays.
func TestLeasesOfExpiredShardsAreDeleted(t *testing.T) {
	for _, shape := range []bool{true, false} {
		expiry(t, 1, func(c *cluster) {
			join := func(name string) *member {
				return c.join(name, func(m *member, cfg *consumer.Config) {
					if !shape {
						cfg.Leases = shapeless{m.link}
					}
				})
			}
			shards := func() (ids []braid.ShardID) {
				for _, lease := range c.leases() {
					ids = append(ids, lease.Shard)
				}
				slices.Sort(ids)
				return ids
			}
			one := join("one")
			_, _, err := c.orders.SplitShard(c.Context(), shard0, nil)
			require.NoError(c, err)
			time.Sleep(time.Minute)
			require.Equal(c, []braid.ShardID{shard0, shard1, shard2}, shards())
			time.Sleep(25 * time.Hour)
			require.Equal(c, []braid.ShardID{shard1, shard2}, shards())
			_, err = c.orders.MergeShards(c.Context(), shard1, shard2)
			require.NoError(c, err)
			time.Sleep(time.Minute)
			require.Len(c, shards(), 3)
			require.NoError(c, one.stop())
			time.Sleep(25 * time.Hour) // both parents expire while no worker runs
			two := join("two")
			time.Sleep(time.Minute)
			if shape {
				require.Len(c, shards(), 1)
			} else {
				require.Len(c, shards(), 3)
			}
			require.NoError(c, two.stop())
		})
	}
}

// A worker whose source does not know a stream yet keeps the leases of a worker that
// processes it. When it has seen the stream and the stream is deleted, so are the leases.
func TestLeasesOfAStreamThatIsNotKnownYetStay(t *testing.T) {
	expiry(t, 2, func(c *cluster) {
		one := c.join("one", nil)
		c.put(numbered("first", 10)...)
		time.Sleep(time.Minute)
		require.Len(c, one.take(), 10)
		two := c.join("two", func(_ *member, cfg *consumer.Config) {
			cfg.Source = &laggingSource{Source: consumer.NewDBSource(c.db), until: time.Now().Add(2 * time.Minute)}
		})
		time.Sleep(time.Minute)
		require.Len(c, c.leases(), 2)
		c.put(numbered("second", 10)...)
		time.Sleep(3 * time.Minute)
		require.ElementsMatch(c, numbered("second", 10), append(one.take(), two.take()...), "each comes once")
		require.NoError(c, c.db.DeleteStream(c.Context(), "orders"))
		time.Sleep(3 * time.Minute)
		require.Empty(c, c.leases())
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
	})
}

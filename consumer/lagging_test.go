package consumer_test

import (
	"context"
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
	was   consumer.StreamInfo
	until time.Time
}

func (*laggingSource) Changed() <-chan struct{} { return nil }

func (s *laggingSource) Stream(ctx context.Context, name string) (consumer.StreamInfo, error) {
	if time.Now().Before(s.until) {
		return s.was, nil
	}
	return s.Source.Stream(ctx, name)
}

// A worker whose source lags behind does not touch the leases of shards that it does not
// know yet, whether they have an owner or not.
func TestLeasesOfShardsThatAreNotKnownYetStay(t *testing.T) {
	for _, alive := range []bool{true, false} {
		expiry(t, 2, func(c *cluster) {
			source := consumer.NewDBSource(c.db)
			was, err := source.Stream(c.Context(), "orders")
			require.NoError(c, err)
			one := c.join("one", nil)
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
			two := c.join("two", func(_ *member, cfg *consumer.Config) {
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
}

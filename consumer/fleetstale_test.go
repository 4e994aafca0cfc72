package consumer_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// A worker that asks its source rarely still believes in shards that are done and whose leases are
// deleted, and does not know the shards after them. It makes no leases of the former, with which they
// would be processed again, and deletes none of the latter.
func TestShardsThatWereListedLongAgo(t *testing.T) {
	led(t, 2, func(c *cluster) {
		source := consumer.NewDBSource(c.db)
		one := c.join("one", nil)
		two := c.join("two", func(_ *member, cfg *consumer.Config) {
			cfg.Source, cfg.ShardSyncInterval = &laggingSource{Source: source}, 24*time.Hour
		})
		var want []string
		put := func(name string) {
			for i := range 20 {
				want = append(want, fmt.Sprint(name, i))
				c.put(want[len(want)-1])
			}
		}
		put("before")
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"one": 1, "two": 1}, c.owners())
		var mine, other braid.ShardID
		for _, lease := range c.leases() {
			if lease.Owner == "one" {
				mine = lease.Shard
			} else {
				other = lease.Shard
			}
		}
		c.split(mine)
		children := c.open()
		put("split")
		time.Sleep(20 * time.Minute)
		put("later")
		for _, lease := range c.leases() {
			require.NotEqual(c, mine, lease.Shard, "it is done")
		}
		if children[0] == other {
			children = children[1:]
		}
		c.merge(children[0], children[1])
		put("merged")
		time.Sleep(20 * time.Minute)
		require.Equal(c, map[string]int{"one": 1, "two": 1}, c.owners())
		put("after")
		time.Sleep(time.Minute)
		require.ElementsMatch(c, want, append(one.take(), two.take()...), "each is processed once")
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
	})
}

// A worker that could not reach the store for long finds a shard without a lease that it still takes
// for open, and leases of shards that it does not know. It asks its source before it makes a lease of
// the former, with which the shard would be processed again.
func TestShardsThatEndedDuringAnOutage(t *testing.T) {
	led(t, 2, func(c *cluster) {
		one := c.join("one", nil)
		two := c.join("two", func(_ *member, cfg *consumer.Config) {
			cfg.Source, cfg.ShardSyncInterval = &laggingSource{Source: consumer.NewDBSource(c.db)}, 24*time.Hour
		})
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"one": 1, "two": 1}, c.owners())
		var want []string
		put := func(name string) {
			for i := range 20 {
				want = append(want, fmt.Sprint(name, i))
				c.put(want[len(want)-1])
			}
		}
		put("before")
		time.Sleep(time.Minute)
		mend := two.cut()
		time.Sleep(5 * time.Minute)
		require.Equal(c, map[string]int{"one": 2}, c.owners())
		for _, shard := range c.open() {
			c.split(shard)
		}
		put("split")
		time.Sleep(20 * time.Minute)
		require.Len(c, c.leases(), 4, "those of the parents are deleted")
		mend()
		time.Sleep(5 * time.Minute)
		require.Equal(c, map[string]int{"one": 2, "two": 2}, c.owners())
		put("after")
		time.Sleep(time.Minute)
		require.ElementsMatch(c, want, append(one.take(), two.take()...), "each is processed once")
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
	})
}

// A lease that is no longer needed is kept for five minutes, and, if it was deleted and comes back,
// for five minutes more.
func TestFinishedLeaseIsKeptForAWhile(t *testing.T) {
	led(t, 1, func(c *cluster) {
		_, _, err := c.fleet.Report(c.Context(), "foreign") // leads
		require.NoError(c, err)
		one := c.join("one", nil)
		wait := func(d time.Duration) {
			for ; d > 0; d -= 10 * time.Second {
				time.Sleep(10 * time.Second)
				_, _, err := c.fleet.Report(c.Context(), "foreign")
				require.NoError(c, err)
			}
		}
		take := func(lease consumer.Lease) {
			lease.Owner = "one"
			lease.Epoch++
			stored, err := c.store.CompareAndSet(c.Context(), lease)
			require.NoError(c, err)
			require.True(c, stored)
		}
		wait(10 * time.Second)
		take(c.lease())
		c.split(c.lease().Shard)
		wait(30 * time.Second)
		parent := c.lease()
		require.True(c, parent.Checkpoint.ShardEnd)
		for _, lease := range c.leases() {
			if lease.Shard != parent.Shard {
				take(lease)
			}
		}
		c.put(numbered("record", 20)...)
		wait(4 * time.Minute)
		parent = c.lease()
		deleted, err := c.store.Delete(c.Context(), parent)
		require.NoError(c, err)
		require.True(c, deleted)
		wait(30 * time.Second)
		require.Len(c, c.leases(), 2)
		parent.Version = 0
		stored, err := c.store.CompareAndSet(c.Context(), parent)
		require.NoError(c, err)
		require.True(c, stored)
		wait(4 * time.Minute)
		require.Len(c, c.leases(), 3)
		wait(90 * time.Second)
		require.Len(c, c.leases(), 2)
		require.Len(c, one.take(), 20)
		require.NoError(c, one.stop())
	})
}

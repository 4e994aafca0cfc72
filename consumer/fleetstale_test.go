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

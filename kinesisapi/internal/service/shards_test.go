package service

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// For every moment, the shards that accepted records then tile the space of hash keys. This
// holds even where many generations of shards were created within a second, so that the
// seconds in sequence numbers run ahead of the clock.
func TestShardsOfAMomentAreThoseThatTookRecordsThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		stream, err := db.CreateStream(t.Context(), "s", nil)
		require.NoError(t, err)
		counts := map[time.Time]int{} // number of shards that accept records from then on
		for i := range 60 {
			<-time.After(10 * time.Millisecond)
			require.NoError(t, stream.UpdateShardCount(context.Background(), 1+i%3))
			counts[time.Now()] = 1 + i%3
		}
		<-time.After(time.Millisecond)
		d := stream.Describe()
		lives := lifetimes(d)
		for moment, count := range counts {
			for filter, at := range map[string]int64{"AT_TIMESTAMP": moment.Add(2 * time.Millisecond).UnixMilli(), "AT_LATEST": 0} {
				want := count
				if filter == "AT_LATEST" {
					want = 1 + 59%3
				}
				p := shardPage{Filter: filter, FilterMs: at}
				var taken []braid.ShardDescription
				for i, life := range lives {
					if p.selects(life, 0) {
						taken = append(taken, d.Shards[i])
					}
				}
				require.Len(t, taken, want, filter)
				for _, key := range []string{"0", "170141183460469231731687303715884105728", "340282366920938463463374607431768211455"} {
					k, err := braid.ParseHashKey(key)
					require.NoError(t, err)
					n := 0
					for _, sh := range taken {
						if sh.HashKeyRange.Contains(k) {
							n++
						}
					}
					require.Equal(t, 1, n, "%s: shards that hold %s", filter, key)
				}
			}
		}
		from := shardPage{Filter: "FROM_TIMESTAMP", FilterMs: time.Now().UnixMilli()}
		for i, life := range lives {
			require.Equal(t, !d.Shards[i].Closed, from.selects(life, 0), "%s was closed before", d.Shards[i].ID)
		}
		require.NoError(t, db.Close())
	})
}

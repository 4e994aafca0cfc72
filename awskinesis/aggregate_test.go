package awskinesis_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/kpl"
)

func TestAggregates(t *testing.T) {
	const bound = 2000
	bubble(t, 4, Options{AggregateBytes: bound, ShardRate: -1}, func(f *fixture) {
		all := scattered(1000, 50)
		highest := braid.MaxHashKey()
		all[7].ExplicitHashKey = &highest
		all = append(all, braid.Entry{PartitionKey: "larger", Data: make([]byte, 5000)})
		results, err := f.producer.PutRecordsWait(f.Context(), all)
		requireStored(f, results, err)

		carriers, packed := 0, 0
		stream, err := f.kit.DB().Stream("orders")
		require.NoError(f, err)
		for rec, err := range stream.Records(f.Context(), braid.TrimHorizon()) {
			require.NoError(f, err)
			users, ok := kpl.Split(rec.Data)
			if !ok {
				continue
			}
			carriers, packed = carriers+1, packed+len(users)
			require.LessOrEqual(f, len(rec.Data), bound)
			shard, err := stream.Shard(rec.ShardID)
			require.NoError(f, err)
			for _, user := range users {
				require.True(f, shard.HashKeyRange().Contains(user.HashKey()), "no record belongs to another shard")
			}
		}
		require.GreaterOrEqual(f, packed, 990)
		require.LessOrEqual(f, carriers, 1000*75/(bound-100)+4, "the carriers are not full")
		m := f.producer.Metrics()
		require.Equal(f, int64(1001), m.RecordsPut)
		require.Less(f, m.Entries, int64(50))

		// A braid worker unpacks them.
		var mu sync.Mutex // guards seen: shards are processed concurrently
		seen := make(map[string]bool)
		w, err := consumer.New(f.kit.DB(), &consumer.Config{App: "billing", Streams: []string{"orders"}, Deaggregate: true}, consumer.ProcessorFunc(func(_ context.Context, b *consumer.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			for _, r := range b.Records {
				require.False(f, seen[r.PartitionKey], "twice")
				seen[r.PartitionKey] = true
			}
			return nil
		}))
		require.NoError(f, err)
		ctx, cancel := context.WithCancel(f.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		synctest.Wait()
		cancel()
		<-done
		require.Len(f, seen, 1001)
	})
}

func TestAReshardIsNoticedByWhereRecordsAre(t *testing.T) {
	bubble(t, 1, Options{AggregateBytes: 51_200}, func(f *fixture) {
		results, err := f.producer.PutRecordsWait(f.Context(), scattered(40, 20))
		requireStored(f, results, err)
		lower, upper := f.kit.Split("orders", "0")

		// The carrier is stored in one half, but has records of both: all are put again.
		results, err = f.producer.PutRecordsWait(f.Context(), scattered(40, 20))
		requireStored(f, results, err)
		m := f.producer.Metrics()
		require.Equal(f, int64(1), m.Mispredicted)
		require.Equal(f, int64(1), m.Listings)
		require.Equal(f, 2, m.OpenShards)
		for i, r := range results {
			require.Equal(f, f.shardOf(fmt.Sprint("key-", i)), r.ShardID)
		}
		for _, mode := range []foreign{dropForeign, dropAggregate} {
			require.Len(f, f.requireOrder(mode), 40)
		}

		// The carriers of both halves are stored in the merged shard, where they belong.
		f.kit.Merge("orders", lower, upper)
		before := f.producer.Metrics()
		results, err = f.producer.PutRecordsWait(f.Context(), scattered(40, 20))
		requireStored(f, results, err)
		m = f.producer.Metrics()
		require.Equal(f, before.Entries+2, m.Entries, "nothing was put again")
		require.Equal(f, before.Listings+1, m.Listings)
		require.Equal(f, 1, m.OpenShards)
	})
}

// Two carriers are in flight to a shard that is split. When the response for the second one
// arrives, the producer already knows the new shards from the first one, but the second carrier's
// records still do not belong to its shard.
func TestACarrierInAShardThatIsKnownByThen(t *testing.T) {
	bubble(t, 1, Options{AggregateBytes: 4096, ShardRate: -1}, func(f *fixture) {
		f.kit.Split("orders", "0")
		f.kit.Delay("PutRecords", 1, time.Second)
		var puts sync.WaitGroup
		for _, all := range [][]braid.Entry{scattered(80, 40)[:40], scattered(80, 40)[40:]} {
			puts.Go(func() {
				results, err := f.producer.PutRecordsWait(f.Context(), all)
				requireStored(f, results, err)
			})
			synctest.Wait()
		}
		puts.Wait()
		for _, mode := range []foreign{dropForeign, dropAggregate} {
			require.Len(f, f.requireOrder(mode), 80, "consumers miss acknowledged records")
		}
		m := f.producer.Metrics()
		require.Equal(f, int64(2), m.Mispredicted)
		require.Equal(f, int64(1), m.Listings, "one listing for both")
	})
}

func TestASecondSplitBeforeTheShardsAreListed(t *testing.T) {
	bubble(t, 1, Options{AggregateBytes: 51_200}, func(f *fixture) {
		lower, upper := f.kit.Split("orders", "0")
		f.kit.Fail("ListShards", 3, "InternalFailureException") // the SDK's three attempts: one listing
		put := make(chan error)
		go func() {
			results, err := f.producer.PutRecordsWait(f.Context(), scattered(40, 20))
			requireStored(f, results, err)
			put <- err
		}()
		synctest.Wait() // the carrier is in a half, and the producer waits to list again
		f.kit.Split("orders", lower)
		f.kit.Split("orders", upper)
		require.NoError(f, <-put)
		require.Len(f, f.requireOrder(dropAggregate), 40)
		require.Equal(f, 4, f.producer.Metrics().OpenShards)
	})
}

// shardOf returns the shard of a key.
func (f *fixture) shardOf(key string) braid.ShardID {
	stream, err := f.kit.DB().Stream("orders")
	require.NoError(f, err)
	for _, sh := range stream.Shards() {
		if sh.HashKeyRange().Contains(braid.HashKeyOf(key)) && !sh.Describe().Closed {
			return sh.ID()
		}
	}
	return ""
}

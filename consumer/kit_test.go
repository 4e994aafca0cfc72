package consumer_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
	"github.com/braidstream/braid/consumer/sourcetest"
)

func TestDatabaseLeasesKeepThePromisesOfAStore(t *testing.T) {
	leasetest.Run(t, func(t *testing.T) consumer.LeaseStore {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		// The store must not see leases of applications with similar names.
		for _, other := range []string{"bill", "billing2", "billing.a", "Billing"} {
			_, err := consumer.NewDBLeases(db, other).CompareAndSet(t.Context(), consumer.Lease{LeaseKey: consumer.LeaseKey{Stream: "a", Shard: "b"}})
			require.NoError(t, err)
		}
		leases := consumer.NewDBLeases(db, "billing")
		require.Implements(t, (*consumer.BatchLeaseStore)(nil), leases, "so that no subtest of it is skipped")
		return leases
	}, &leasetest.Options{NoShape: true})
}

func TestDatabaseSourceKeepsThePromisesOfASource(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Fixture {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		return fixtureOf(db, consumer.NewDBSource(db), nil)
	}, &sourcetest.Options{Bubble: true})
}

// fixtureOf returns what the kit needs to prepare streams in a database.
func fixtureOf(db *braid.DB, source consumer.Source, options *braid.StreamOptions) sourcetest.Fixture {
	stream := func(t *testing.T, name string) *braid.Stream {
		t.Helper()
		s, err := db.Stream(name)
		require.NoError(t, err)
		return s
	}
	return sourcetest.Fixture{
		Source: source,
		CreateStream: func(t *testing.T, name string, shards int) {
			t.Helper()
			opts := braid.StreamOptions{Shards: shards}
			if options != nil {
				opts.Capacity = options.Capacity
			}
			_, err := db.CreateStream(t.Context(), name, &opts)
			require.NoError(t, err)
		},
		Put: func(t *testing.T, name, partitionKey string, data []byte) {
			t.Helper()
			_, err := stream(t, name).PutRecord(t.Context(), partitionKey, data)
			require.NoError(t, err)
		},
		Split: func(t *testing.T, name string, shard braid.ShardID) {
			t.Helper()
			_, _, err := stream(t, name).SplitShard(t.Context(), shard, nil)
			require.NoError(t, err)
		},
		Merge: func(t *testing.T, name string, shard, adjacent braid.ShardID) {
			t.Helper()
			_, err := stream(t, name).MergeShards(t.Context(), shard, adjacent)
			require.NoError(t, err)
		},
		Trim: func(t *testing.T, name string) {
			t.Helper()
			require.NoError(t, stream(t, name).Trim(t.Context(), braid.Latest()))
		},
		Delete: func(t *testing.T, name string) {
			t.Helper()
			require.NoError(t, db.DeleteStream(t.Context(), name))
		},
	}
}

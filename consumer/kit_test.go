package consumer_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
)

func TestDatabaseLeasesKeepThePromisesOfAStore(t *testing.T) {
	leasetest.Run(t, func(t *testing.T) consumer.LeaseStore {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		// The store must not see those of applications whose names look alike.
		for _, other := range []string{"bill", "billing2", "billing.a", "Billing"} {
			_, err := consumer.DatabaseLeases(db, other).CompareAndSet(t.Context(), consumer.Lease{LeaseKey: consumer.LeaseKey{Stream: "a", Shard: "b"}})
			require.NoError(t, err)
		}
		return consumer.DatabaseLeases(db, "billing")
	})
}

package leasetest_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
)

func TestMemoryKeepsThePromisesOfAStore(t *testing.T) {
	for _, duration := range []time.Duration{0, 10 * time.Second} {
		t.Run(duration.String(), func(t *testing.T) {
			leasetest.Run(t, func(*testing.T) consumer.LeaseStore { return leasetest.NewMemory(duration) }, nil)
		})
	}
}

// indexed is a store with an index of owners.
type indexed struct{ *leasetest.Memory }

func (s indexed) ListOwned(ctx context.Context, owner string) (keys []consumer.LeaseKey, err error) {
	leases, err := s.List(ctx)
	for _, l := range leases {
		if l.Owner != "" && cmp.Or(l.NextOwner, l.Owner) == owner {
			keys = append(keys, l.LeaseKey)
		}
	}
	return keys, err
}

func TestOwnerLeaseStoreIsTested(t *testing.T) {
	leasetest.Run(t, func(*testing.T) consumer.LeaseStore { return indexed{leasetest.NewMemory(time.Minute)} }, nil)
}

func TestMemoryFleetKeepsThePromisesOfAFleet(t *testing.T) {
	leasetest.Run(t, func(*testing.T) consumer.LeaseStore { return leasetest.NewMemoryFleet(time.Minute) }, &leasetest.Options{Bubble: true})
}

func TestOnWriteTellsOfEveryWrite(t *testing.T) {
	m := leasetest.NewMemory(time.Minute)
	require.Equal(t, time.Minute, m.LeaseDuration())
	var told []string
	m.OnWrite(func(before, after consumer.Lease) {
		told = append(told, fmt.Sprint(after.LeaseKey, ": ", before.Owner, before.Version, " -> ", after.Owner, after.Version))
	})
	key := consumer.LeaseKey{Stream: "orders", Shard: "one"}
	stored, err := m.CompareAndSet(t.Context(), consumer.Lease{LeaseKey: key, Owner: "a"})
	require.True(t, stored)
	require.NoError(t, err)
	stored, err = m.CompareAndSet(t.Context(), consumer.Lease{LeaseKey: key, Owner: "b"})
	require.False(t, stored)
	require.NoError(t, err)
	stored, err = m.CompareAndSet(t.Context(), consumer.Lease{LeaseKey: key, Owner: "b", Version: 1})
	require.True(t, stored)
	require.NoError(t, err)
	deleted, err := m.Delete(t.Context(), consumer.Lease{LeaseKey: key, Version: 2})
	require.True(t, deleted)
	require.NoError(t, err)
	require.Equal(t, []string{"one of orders: 0 -> a1", "one of orders: a1 -> b2", "one of orders: b2 -> 0"}, told)
	m.OnWrite(nil)
	_, err = m.CompareAndSet(t.Context(), consumer.Lease{LeaseKey: key})
	require.NoError(t, err)
	require.Len(t, told, 3)
}

func TestFailedCallsDoNothingOrAll(t *testing.T) {
	m := leasetest.NewMemory(time.Minute)
	key := consumer.LeaseKey{Stream: "orders", Shard: "one"}
	unplugged := errors.New("unplugged")
	var ops []string
	var result error
	m.Fail(func(op string, k consumer.LeaseKey) error {
		ops = append(ops, fmt.Sprint(op, " ", k))
		return result
	})

	result = unplugged
	stored, err := m.CompareAndSet(t.Context(), consumer.Lease{LeaseKey: key})
	require.False(t, stored)
	require.Equal(t, unplugged, err)
	_, err = m.List(t.Context())
	require.Equal(t, unplugged, err)
	_, found, err := m.Get(t.Context(), key)
	require.False(t, found)
	require.Equal(t, unplugged, err)
	deleted, err := m.Delete(t.Context(), consumer.Lease{LeaseKey: key})
	require.False(t, deleted)
	require.Equal(t, unplugged, err)
	require.Equal(t, []string{"CompareAndSet one of orders", "List the application", "Get one of orders", "Delete one of orders"}, ops)

	result = fmt.Errorf("%w: unplugged", leasetest.ErrAfter)
	stored, err = m.CompareAndSet(t.Context(), consumer.Lease{LeaseKey: key})
	require.False(t, stored)
	require.ErrorIs(t, err, leasetest.ErrAfter)
	result = nil
	lease, found, err := m.Get(t.Context(), key)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, uint64(1), lease.Version)

	result = leasetest.ErrAfter
	deleted, err = m.Delete(t.Context(), lease)
	require.False(t, deleted)
	require.ErrorIs(t, err, leasetest.ErrAfter)
	m.Fail(nil)
	_, found, err = m.Get(t.Context(), key)
	require.NoError(t, err)
	require.False(t, found)

	ended, cancel := context.WithCancelCause(t.Context())
	cancel(unplugged)
	_, err = m.CompareAndSet(ended, consumer.Lease{LeaseKey: key})
	require.Equal(t, unplugged, err)
}

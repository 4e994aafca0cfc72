package awskinesis_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
)

func quietLogger() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// kitStreams are the streams of package leasetest.
var kitStreams = []string{"orders", "refunds", "a", "ab", "abc", "abcd", "A", ".", "-", "_", "a.", "a-", "a_", "a.b", "a-b", "a_b"}

func TestLeaseStoreKeepsThePromises(t *testing.T) {
	t.Run("of many streams", func(t *testing.T) {
		leasetest.Run(t, func(t *testing.T) consumer.LeaseStore {
			var streams []string
			for i, name := range kitStreams {
				streams = append(streams, fmt.Sprintf("123456789012:%s:%d", name, 1700000000+i))
			}
			store, err := awskinesis.NewLeaseStore(t.Context(), newDynamo().client(), "kit", &awskinesis.LeaseStoreOptions{Streams: streams, Logger: quietLogger()})
			require.NoError(t, err)
			return store
		}, nil)
	})
	t.Run("of a mixed fleet", func(t *testing.T) {
		leasetest.Run(t, func(t *testing.T) consumer.LeaseStore {
			var streams []string
			for i, name := range kitStreams {
				streams = append(streams, fmt.Sprintf("123456789012:%s:%d", name, 1700000000+i))
			}
			store, err := awskinesis.NewLeaseStore(t.Context(), newDynamo().client(), "kit", &awskinesis.LeaseStoreOptions{Streams: streams, MixedFleet: true, Logger: quietLogger()})
			require.NoError(t, err)
			return store
		}, &leasetest.Options{Bubble: true})
	})
	t.Run("of one stream", func(t *testing.T) {
		leasetest.Run(t, func(t *testing.T) consumer.LeaseStore {
			all := &perStream{stores: make(map[string]*awskinesis.LeaseStore)}
			client := newDynamo().client()
			for i, name := range kitStreams {
				store, err := awskinesis.NewLeaseStore(t.Context(), client, fmt.Sprint("kit-", i), &awskinesis.LeaseStoreOptions{Stream: name, Logger: quietLogger()})
				require.NoError(t, err)
				all.stores[name] = store
				all.LeaseStore = store
			}
			all.stores[""] = all.LeaseStore.(*awskinesis.LeaseStore)
			return all
		}, nil)
	})
}

// perStream makes one store of several that have one stream each.
type perStream struct {
	consumer.LeaseStore // any one of them
	stores              map[string]*awskinesis.LeaseStore
}

func (s *perStream) List(ctx context.Context) (all []consumer.Lease, err error) {
	for name, store := range s.stores {
		if name == "" {
			continue
		}
		leases, err := store.List(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, leases...)
	}
	return all, nil
}

func (s *perStream) ListOwned(ctx context.Context, owner string) (all []consumer.Lease, err error) {
	for name, store := range s.stores {
		if name == "" {
			continue
		}
		leases, err := store.ListOwned(ctx, owner)
		if err != nil {
			return nil, err
		}
		all = append(all, leases...)
	}
	return all, nil
}

func (s *perStream) Get(ctx context.Context, key consumer.LeaseKey) (consumer.Lease, bool, error) {
	return s.stores[key.Stream].Get(ctx, key)
}

func (s *perStream) CompareAndSet(ctx context.Context, lease consumer.Lease) (bool, error) {
	return s.stores[lease.Stream].CompareAndSet(ctx, lease)
}

func (s *perStream) Delete(ctx context.Context, lease consumer.Lease) (bool, error) {
	return s.stores[lease.Stream].Delete(ctx, lease)
}

package awskinesis_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/awskinesis/internal/dynamotest"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
)

func quietLogger() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// kitStreams are the streams that package leasetest uses.
var kitStreams = []string{"orders", "refunds", "a", "ab", "abc", "abcd", "A", ".", "-", "_", "a.", "a-", "a_", "a.b", "a-b", "a_b"}

func TestLeaseStoreKeepsThePromises(t *testing.T) {
	t.Run("of many streams", func(t *testing.T) {
		leasetest.Run(t, func(t *testing.T) consumer.LeaseStore {
			var streams []string
			for i, name := range kitStreams {
				streams = append(streams, fmt.Sprintf("123456789012:%s:%d", name, 1700000000+i))
			}
			store, err := awskinesis.NewLeaseStore(t.Context(), dynamotest.New().Client(), "kit", &awskinesis.LeaseStoreOptions{Streams: streams, Logger: quietLogger()})
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
			store, err := awskinesis.NewLeaseStore(t.Context(), dynamotest.New().Client(), "kit", &awskinesis.LeaseStoreOptions{Streams: streams, MixedFleet: true, Logger: quietLogger()})
			require.NoError(t, err)
			return store
		}, &leasetest.Options{Bubble: true})
	})
	t.Run("of one stream", func(t *testing.T) {
		leasetest.Run(t, func(t *testing.T) consumer.LeaseStore {
			all := &perStream{stores: make(map[string]*awskinesis.LeaseStore)}
			client := dynamotest.New().Client()
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

// perStream combines several stores with one stream each.
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

func (s *perStream) ListOwned(ctx context.Context, owner string) (all []consumer.LeaseKey, err error) {
	for name, store := range s.stores {
		if name == "" {
			continue
		}
		keys, err := store.ListOwned(ctx, owner)
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
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

// requestByKCL begins a hand-over as the leader of the KCL does: without a change of the counter.
func requestByKCL(t *testing.T, d *dynamotest.Service, shard string) {
	t.Helper()
	row := d.Items("billing")[shard]
	row["leaseOwner"], row["checkpointOwner"] = s("java-1"), row["leaseOwner"]
	d.Put(t, "billing", row)
}

// A row that another worker deletes is forgotten with the next listing. If it is made again, it counts
// from the beginning, and what a write compares is known anew.
func TestDeletedLeasesAreForgotten(t *testing.T) {
	d := dynamotest.New()
	store, other := ordersStore(t, d, nil), ordersStore(t, d, nil)
	lease := consumer.Lease{LeaseKey: key(leaseShard), Owner: "one"}
	for range 5 {
		lease = setLease(t, store, lease)
	}
	deleted, err := other.Delete(t.Context(), lease)
	require.NoError(t, err)
	require.True(t, deleted)
	_, err = store.List(t.Context())
	require.NoError(t, err)
	again := setLease(t, other, consumer.Lease{LeaseKey: key(leaseShard), Owner: "one"})
	require.Equal(t, again, getLease(t, store, leaseShard))
	requestByKCL(t, d, leaseShard)
	stored, err := store.CompareAndSet(t.Context(), again)
	require.NoError(t, err)
	require.False(t, stored, "the request would be undone")
}

// A lease that is stored while all are listed is not forgotten, though the listing has missed it: a
// write must still compare its owners.
func TestALeaseThatAListingHasMissedIsNotForgotten(t *testing.T) {
	d := dynamotest.New()
	var meanwhile func() // after the next scan of the lease table
	client := d.Client(func(o *dynamodb.Options) {
		inner := o.HTTPClient
		o.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
			response, err := inner.Do(r)
			if fn := meanwhile; fn != nil && strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".Scan") {
				meanwhile = nil
				fn()
			}
			return response, err
		})
	})
	store, err := awskinesis.NewLeaseStore(t.Context(), client, "billing", &awskinesis.LeaseStoreOptions{Stream: "orders", Logger: quietLogger()})
	require.NoError(t, err)
	var lease consumer.Lease
	meanwhile = func() { // the first scan is of the other table
		meanwhile = func() {
			lease = setLease(t, store, consumer.Lease{LeaseKey: key(leaseShard), Owner: "one"})
		}
	}
	all, err := store.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
	requestByKCL(t, d, leaseShard)
	stored, err := store.CompareAndSet(t.Context(), lease)
	require.NoError(t, err)
	require.False(t, stored, "the request would be undone")
}

// doer is an HTTP client.
type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

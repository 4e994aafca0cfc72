package awskinesis_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// The next listing forgets rows that another worker deleted: they are neither kept nor read again.
func TestDeletedLeasesAreForgotten(t *testing.T) {
	d := dynamotest.New()
	store, other := ordersStore(t, d, nil), ordersStore(t, d, nil)
	var kept consumer.Lease
	for i := range 20 {
		lease := setLease(t, store, consumer.Lease{LeaseKey: key(fmt.Sprintf("shardId-%012d", i)), Owner: "one"})
		if i == 0 {
			kept = lease
			continue
		}
		deleted, err := other.Delete(t.Context(), lease)
		require.NoError(t, err)
		require.True(t, deleted)
	}
	_, err := store.List(t.Context())
	require.NoError(t, err)
	asked := 0
	d.SetFaults(func(op string, in map[string]any) string {
		if op == "BatchGetItem" {
			asked += len(in["RequestItems"].(map[string]any)["billing"].(map[string]any)["Keys"].([]any))
		}
		return ""
	})
	owned, err := store.ListOwned(t.Context(), "one")
	require.NoError(t, err)
	require.Equal(t, []consumer.Lease{kept}, owned)
	require.Equal(t, 1, asked)

	// A row that is created again, and so counts from the beginning, is known again.
	again := setLease(t, other, consumer.Lease{LeaseKey: key("shardId-000000000001"), Owner: "one"})
	require.Equal(t, again, getLease(t, store, "shardId-000000000001"))
	again.Owner = "two"
	setLease(t, store, again)
}

// A lease that is stored during a listing is not forgotten, though the listing missed it: during a
// hand-over nothing else shows that it still belongs to the owner.
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
	meanwhile = func() { // the first scan is of the other table
		meanwhile = func() {
			setLease(t, store, consumer.Lease{LeaseKey: key(leaseShard), Owner: "one", NextOwner: "two"})
		}
	}
	all, err := store.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
	owned, err := store.ListOwned(t.Context(), "one")
	require.NoError(t, err)
	require.Len(t, owned, 1)
}

// doer is an HTTP client.
type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// Rows that the service leaves unprocessed are read again after growing pauses.
func TestRowsThatAreLeftOverAreAskedForAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dynamotest.New()
		store := ordersStore(t, d, nil)
		for i := range 10 {
			setLease(t, store, consumer.Lease{LeaseKey: key(fmt.Sprintf("shardId-%012d", i)), Owner: "one"})
		}
		d.SetBatch(3)
		start := time.Now()
		owned, err := store.ListOwned(t.Context(), "one")
		require.NoError(t, err)
		require.Len(t, owned, 10)
		require.Equal(t, 4, d.Count("BatchGetItem"))
		require.Greater(t, time.Since(start), 100*time.Millisecond)

		d.SetBatch(1)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err = store.ListOwned(ctx, "one")
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

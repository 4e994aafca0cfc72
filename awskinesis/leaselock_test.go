package awskinesis_test

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/consumer"
)

// A leaving leader releases the lock even if the response to its last renewal was lost.
func TestLeaderReleasesTheLockWhoseRenewalItDidNotLearnOf(t *testing.T) {
	inMixedFleet(t, 1, func(f *fleet) {
		store := ordersStore(f, f.dynamo, func(o *awskinesis.LeaseStoreOptions) { o.MixedFleet = true })
		for _, round := range []string{"when it was taken", "when it was renewed"} {
			f.dynamo.SetFaults(func(op string, in map[string]any) string {
				values, _ := in["ExpressionAttributeValues"].(map[string]any)
				if op == "UpdateItem" && values[":duration"] != nil {
					return "after ValidationException"
				}
				return ""
			})
			_, _, err := store.Fleet().Report(f.Context(), "one")
			require.Error(f, err)
			f.dynamo.SetFaults(nil)
			require.Equal(f, "one", f.leader(), "%s", round)
			f.dynamo.SetFaults(func(string, map[string]any) string { return "ValidationException" })
			require.Error(f, store.Fleet().Leave(f.Context(), "one"))
			f.dynamo.SetFaults(nil)
			require.NoError(f, store.Fleet().Leave(f.Context(), "one"), "a second call")
			require.Equal(f, "", f.leader(), "%s", round)
			leads, _, err := store.Fleet().Report(f.Context(), "one")
			require.NoError(f, err)
			require.True(f, leads)
			time.Sleep(10 * time.Second)
		}
		require.NoError(f, store.Fleet().Leave(f.Context(), "one"))
	})
}

// lockTest has two workers, of which one sees what the other does between its read and its write of
// the leader lock.
func lockTest(t *testing.T, test func(f *fleet, one, two consumer.Fleet, between func(what func()))) {
	t.Helper()
	inMixedFleet(t, 1, func(f *fleet) {
		var mu sync.Mutex
		var pending func()
		opts := &awskinesis.LeaseStoreOptions{Stream: "orders", MixedFleet: true, Logger: quietLogger()}
		store, err := awskinesis.NewLeaseStore(f.Context(), f.dynamo.Client(func(o *dynamodb.Options) {
			o.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return nil, err
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				if bytes.Contains(body, []byte(`":duration"`)) { // a write of the lock
					mu.Lock()
					what := pending
					pending = nil
					mu.Unlock()
					if what != nil {
						what()
					}
				}
				return f.dynamo.RoundTrip(r)
			})
		}), "billing", opts)
		require.NoError(f, err)
		other := ordersStore(f, f.dynamo, func(o *awskinesis.LeaseStoreOptions) { o.MixedFleet = true })
		test(f, store.Fleet(), other.Fleet(), func(what func()) {
			mu.Lock()
			defer mu.Unlock()
			pending = what
		})
	})
}

// leads reports a worker, and returns whether it leads.
func (f *fleet) leads(fleet consumer.Fleet, worker string) bool {
	f.Helper()
	leads, _, err := fleet.Report(f.Context(), worker)
	require.NoError(f, err)
	return leads
}

// Of two workers that find the lock free at the same time, one leads.
func TestOneOfManyTakesTheLock(t *testing.T) {
	lockTest(t, func(f *fleet, one, two consumer.Fleet, between func(what func())) {
		between(func() { require.True(f, f.leads(two, "two")) })
		require.False(f, f.leads(one, "one"))
		require.Equal(f, "two", f.leader())
		for range 10 {
			time.Sleep(10 * time.Second)
			require.True(f, f.leads(two, "two"))
			require.False(f, f.leads(one, "one"))
		}
	})
}

// A leader that was suspended for so long that its lock has expired, and that another worker takes at
// the moment at which it renews it, does not lead, even before it has read that.
func TestLeaderThatWasAwayLongLeadsNoMore(t *testing.T) {
	lockTest(t, func(f *fleet, one, two consumer.Fleet, between func(what func())) {
		require.True(f, f.leads(one, "one"))
		require.False(f, f.leads(two, "two"))
		time.Sleep(41 * time.Second)
		between(func() { require.True(f, f.leads(two, "two")) })
		require.False(f, f.leads(one, "one"))
		require.Equal(f, "two", f.leader())
		time.Sleep(5 * time.Second)
		require.False(f, f.leads(one, "one"))
	})
}

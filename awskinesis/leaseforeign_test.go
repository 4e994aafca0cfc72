package awskinesis_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/awskinesis/internal/dynamotest"
	"github.com/braidstream/braid/consumer"
)

// every runs a function at once, and repeatedly until the test ends.
func every(t *testing.T, interval time.Duration, fn func(round int)) {
	ended, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for round := 0; ; round++ {
			fn(round)
			select {
			case <-ticker.C:
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-ended
	})
}

func TestForeignWorkersAreRefused(t *testing.T) {
	opts := &awskinesis.LeaseStoreOptions{Stream: "orders", Logger: quietLogger()}
	refuse := func(t *testing.T, d *dynamotest.Service, want consumer.LeaseKey) {
		t.Helper()
		_, err := awskinesis.NewLeaseStore(t.Context(), d.Client(), "billing", opts)
		require.ErrorIs(t, err, awskinesis.ErrForeignWorker)
		var foreign *awskinesis.ForeignWorkerError
		require.ErrorAs(t, err, &foreign)
		require.Equal(t, "billing", foreign.Application)
		require.Equal(t, "java-1", foreign.Worker)
		require.Equal(t, want, foreign.Lease)
		require.WithinDuration(t, time.Now(), foreign.LastSeen, 40*time.Second)
		require.ErrorContains(t, err, "java-1")
	}
	accept := func(t *testing.T, d *dynamotest.Service, least, most time.Duration) *awskinesis.LeaseStore {
		t.Helper()
		start := time.Now()
		store, err := awskinesis.NewLeaseStore(t.Context(), d.Client(), "billing", opts)
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(start), least)
		require.LessOrEqual(t, time.Since(start), most)
		return store
	}
	seconds := func(at time.Time) dynamotest.Attribute { return n(strconv.FormatInt(at.Unix(), 10)) }

	t.Run("one that renews a lease", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := dynamotest.New()
			ordersStore(t, d, nil)
			every(t, 3300*time.Millisecond, func(round int) {
				row := kclRow()
				row["leaseCounter"] = n(strconv.Itoa(41 + round))
				d.Put(t, "billing", row)
			})
			synctest.Wait()
			refuse(t, d, key(leaseShard))
		})
	})
	t.Run("one that was killed is not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := dynamotest.New()
			ordersStore(t, d, nil)
			d.Put(t, "billing", kclRow())
			store := accept(t, d, 10*time.Second, 14*time.Second)
			lease := getLease(t, store, leaseShard)
			lease.Owner = "one"
			setLease(t, store, lease)
			accept(t, d, 0, 0)
			ended := kclRow()
			ended["checkpoint"] = s("SHARD_END")
			d.Put(t, "billing", ended)
			accept(t, d, 0, 0)
		})
	})
	for name, put := range map[string]func(d *dynamotest.Service, at time.Time){
		"in a table of their own": func(d *dynamotest.Service, at time.Time) {
			d.AddTable("billing-WorkerMetricStats", "wid")
			d.Put(t, "billing-WorkerMetricStats", dynamotest.Item{"wid": s("java-1"), "lut": seconds(at)})
		},
		"in the lease table": func(d *dynamotest.Service, at time.Time) {
			d.Put(t, "billing", dynamotest.Item{"leaseKey": s("java-1"), "entityType": s("WORKER_METRIC_STATS"), "lut": seconds(at)})
		},
	} {
		t.Run("one that writes metrics "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dynamotest.New()
				ordersStore(t, d, nil)
				every(t, 30*time.Second, func(int) { put(d, time.Now()) })
				synctest.Wait()
				refuse(t, d, consumer.LeaseKey{})
			})
		})
		t.Run("one that has written metrics "+name+" is not", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dynamotest.New()
				ordersStore(t, d, nil)
				put(d, time.Now().Add(-20*time.Second))
				accept(t, d, 40*time.Second, 50*time.Second)
				accept(t, d, 0, 0)
				put(d, time.Now().Add(time.Hour)) // by a wrong clock
				accept(t, d, time.Minute, 70*time.Second)
				put(d, time.Now())
				d.Put(t, "billing", kclRow()) // its leases show that it is alive
				accept(t, d, 10*time.Second, 14*time.Second)
			})
		})
	}
}

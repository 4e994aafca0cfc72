package awskinesis_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/awskinesis/internal/dynamotest"
	"github.com/braidstream/braid/consumer"
)

func TestLeaseTablesAreMade(t *testing.T) {
	t.Run("on demand", func(t *testing.T) {
		d := dynamotest.New()
		ordersStore(t, d, nil)
		table := d.Table("billing")
		require.Equal(t, "PAY_PER_REQUEST", table["BillingMode"])
		index := table["GlobalSecondaryIndexes"].([]any)[0].(map[string]any)
		require.Equal(t, "LeaseOwnerToLeaseKeyIndex", index["IndexName"])
		require.Equal(t, "PAY_PER_REQUEST", d.Table("billing-Braid")["BillingMode"])
		require.False(t, d.HasBackups("billing"))
		require.Equal(t, 2, d.Count("CreateTable"))
		ordersStore(t, d, nil)
		require.Zero(t, d.Count("CreateTable"), "they exist")
		require.Zero(t, d.Count("UpdateTable"))
	})
	t.Run("as the options say", func(t *testing.T) {
		d := dynamotest.New()
		ordersStore(t, d, func(o *awskinesis.LeaseStoreOptions) {
			o.ReadCapacity, o.WriteCapacity = 20, 30
			o.Tags = map[string]string{"team": "billing"}
			o.PointInTimeRecovery, o.DeletionProtection = true, true
		})
		for _, name := range []string{"billing", "billing-Braid"} {
			table := d.Table(name)
			require.Equal(t, "PROVISIONED", table["BillingMode"])
			require.Equal(t, map[string]any{"ReadCapacityUnits": 20.0, "WriteCapacityUnits": 30.0}, table["ProvisionedThroughput"])
			require.Equal(t, []any{map[string]any{"Key": "team", "Value": "billing"}}, table["Tags"])
			require.Equal(t, true, table["DeletionProtectionEnabled"])
			require.True(t, d.HasBackups(name))
		}
	})
	t.Run("and waited for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := dynamotest.New()
			d.SetStatus("CREATING")
			time.AfterFunc(time.Minute, d.Activate)
			start := time.Now()
			ordersStore(t, d, nil)
			require.GreaterOrEqual(t, time.Since(start), time.Minute)
		})
	})
	t.Run("by somebody else", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := dynamotest.New()
			first := true
			d.SetFaults(func(op string, in map[string]any) string {
				if op == "CreateTable" && first {
					first = false
					return "after ResourceInUseException"
				}
				return ""
			})
			ordersStore(t, d, nil)
			require.False(t, first)
		})
	})
}

// A table of the KCL before version 3 has no index. The index is created, and nobody waits until it
// is usable.
func TestIndexOfTheLeaseTableIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dynamotest.New()
		ordersStore(t, d, nil)
		d.DropIndexes("billing")
		d.SetStatus("CREATING")
		store := ordersStore(t, d, nil)
		require.Equal(t, 1, d.Count("UpdateTable"))
		d.Count("DescribeTable")
		setLease(t, store, consumer.Lease{LeaseKey: key(leaseShard), Owner: "one"})
		setLease(t, store, consumer.Lease{LeaseKey: key("shardId-000000000008"), Owner: "two"})
		setLease(t, store, consumer.Lease{LeaseKey: consumer.LeaseKey{Stream: "orders"}})
		listed := func() {
			owned, err := store.ListOwned(t.Context(), "one")
			require.NoError(t, err)
			require.Equal(t, []consumer.LeaseKey{key(leaseShard)}, owned)
		}
		for range 5 {
			listed()
		}
		require.Zero(t, d.Count("Query"))
		require.Equal(t, 1, d.Count("DescribeTable"), "the index is checked once")
		d.Activate()
		time.Sleep(time.Minute)
		listed()
		require.Equal(t, 1, d.Count("Query"))
		require.Equal(t, 1, d.Count("DescribeTable"))
		listed()
		require.Zero(t, d.Count("DescribeTable"))
	})
}

// A table that is neither usable nor being created is refused at once.
func TestATableThatCannotBeUsedIsRefused(t *testing.T) {
	for _, status := range []string{"ARCHIVING", "ARCHIVED", "INACCESSIBLE_ENCRYPTION_CREDENTIALS"} {
		synctest.Test(t, func(t *testing.T) {
			d := dynamotest.New()
			ordersStore(t, d, nil)
			d.SetTableStatus("billing-Braid", status)
			_, err := awskinesis.NewLeaseStore(t.Context(), d.Client(), "billing", &awskinesis.LeaseStoreOptions{Stream: "orders"})
			var permanent *consumer.PermanentError
			require.ErrorAs(t, err, &permanent)
			require.ErrorContains(t, err, `lease table "billing-Braid": `)
			require.ErrorContains(t, err, status)
			require.Equal(t, status == "INACCESSIBLE_ENCRYPTION_CREDENTIALS", errors.Is(err, braid.ErrKeyUnavailable))
		})
	}
}

func TestOptionsOfALeaseStore(t *testing.T) {
	for field, opts := range map[string]*awskinesis.LeaseStoreOptions{
		"LeaseStoreOptions.Stream":        nil,
		"LeaseStoreOptions.Streams":       {Streams: []string{"orders"}},
		"LeaseStoreOptions.LeaseDuration": {Stream: "orders", LeaseDuration: time.Millisecond},
		"LeaseStoreOptions.Timeout":       {Stream: "orders", Timeout: -1},
		"LeaseStoreOptions.ReadCapacity":  {Stream: "orders", ReadCapacity: 1},
	} {
		d := dynamotest.New()
		_, err := awskinesis.NewLeaseStore(t.Context(), d.Client(), "billing", opts)
		var invalid *braid.InvalidArgumentError
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, field, invalid.Field)
		require.Zero(t, d.Count("CreateTable"))
	}
	good := &awskinesis.LeaseStoreOptions{Stream: "orders"}
	_, err := awskinesis.NewLeaseStore(t.Context(), nil, "billing", good)
	require.ErrorIs(t, err, braid.ErrInvalidArgument)
	_, err = awskinesis.NewLeaseStore(t.Context(), dynamotest.New().Client(), "a/b", good)
	require.ErrorIs(t, err, braid.ErrInvalidArgument)
	_, err = awskinesis.NewLeaseStore(t.Context(), dynamotest.New().Client(), "billing", &awskinesis.LeaseStoreOptions{Streams: []string{"1:orders:1", "1:orders:2"}})
	require.ErrorContains(t, err, "twice")

	d := dynamotest.New()
	d.AddTable("billing", "id")
	_, err = awskinesis.NewLeaseStore(t.Context(), d.Client(), "billing", good)
	require.ErrorIs(t, err, braid.ErrInvalidArgument)
	require.ErrorContains(t, err, "leaseKey")
}

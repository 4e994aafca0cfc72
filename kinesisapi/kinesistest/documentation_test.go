package kinesistest_test

import (
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi/kinesistest"
)

// orders is TestOrders of a test file. Send is the program under test; it gets a client of
// the SDK and does not know the kit.
func orders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the SDK's pauses take no time
		k := kinesistest.New(t, kinesistest.Stream("orders", 2))
		k.FailEntries("ProvisionedThroughputExceededException", 0) // of the first PutRecords

		err := Send(t.Context(), k.Kinesis(), "orders", []types.PutRecordsRequestEntry{
			{PartitionKey: aws.String("customer-42"), Data: []byte("ordered")},
			{PartitionKey: aws.String("customer-43"), Data: []byte("paid")},
		})
		require.NoError(t, err)
		k.RequireRecords("orders", "ordered", "paid")
		require.Len(t, k.Calls("PutRecords"), 2)
	})
}

// A test of a producer, whose first entry is throttled.
func Example() {
	_ = orders // func TestOrders(t *testing.T)
}

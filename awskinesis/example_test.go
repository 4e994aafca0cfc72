package awskinesis_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/kinesisapi/kinesistest"
)

// Putter is the part of a stream that a program needs. Both *braid.Stream and *awskinesis.Producer
// implement it; main chooses one by a flag.
type Putter interface {
	PutRecordsWait(ctx context.Context, entries []braid.Entry) ([]braid.PutResult, error)
}

// Checkout puts the events of an order, in this order.
func Checkout(ctx context.Context, to Putter, customer string) error {
	results, err := to.PutRecordsWait(ctx, []braid.Entry{
		{PartitionKey: customer, Data: []byte("ordered")},
		{PartitionKey: customer, Data: []byte("paid")},
	})
	for i := range results {
		if results[i].Err != nil {
			return results[i].Err
		}
	}
	return err
}

// The same code puts to a database and to Kinesis, and can be tested without AWS: the first record
// is throttled, and still comes first.
func TestCheckout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kinesistest.New(t, kinesistest.Stream("orders", 2))
		producer, err := awskinesis.NewProducer(t.Context(), k.Kinesis(), "orders", nil)
		require.NoError(t, err)
		k.FailEntries("ProvisionedThroughputExceededException", 0)
		require.NoError(t, Checkout(t.Context(), producer, "customer-1"))
		require.NoError(t, producer.Close(t.Context()))
		k.RequireRecords("orders", "ordered", "paid")

		stream, err := k.DB().Stream("orders")
		require.NoError(t, err)
		require.NoError(t, Checkout(t.Context(), stream, "customer-2"))
		k.RequireOrderPerKey("orders")
	})
}

// A program that puts many records does not wait for each.
func ExampleProducer_PutRecordAsync() {
	produce := func(ctx context.Context, client awskinesis.KinesisClient, readings <-chan []byte) error {
		p, err := awskinesis.NewProducer(ctx, client, "readings", &awskinesis.ProducerOptions{
			AggregateBytes: 51_200,
			Linger:         100 * time.Millisecond,
		})
		if err != nil {
			return err
		}
		for data := range readings {
			err := p.PutRecordAsync(ctx, "sensor-7", data, func(r braid.PutResult) {
				if r.Err != nil {
					fmt.Println("lost a reading:", r.Err)
				}
			})
			if err != nil {
				break
			}
		}
		return p.Close(ctx) // returns when all of them are stored
	}
	_ = produce
}

// A program puts its events to its own outbox, and a forwarder copies them to Kinesis.
func ExampleForwarder() {
	run := func(ctx context.Context, db *braid.DB, client awskinesis.KinesisClient) error {
		if _, err := db.OpenStream(ctx, "outbox", nil); err != nil {
			return err
		}
		producer, err := awskinesis.NewProducer(ctx, client, "orders", nil)
		if err != nil {
			return err
		}
		defer producer.Close(ctx)
		forwarder, err := awskinesis.NewForwarder(db, "outbox", producer, &awskinesis.ForwarderOptions{
			MaxBytes:         10 << 30,  // of disk while the link is down; beyond it, puts are refused
			DeadLetterStream: "refused", // for records that Kinesis permanently refuses
		})
		if err != nil {
			return err
		}

		// Elsewhere in the program. The record is stored when PutRecord returns.
		go func() {
			if _, err := forwarder.PutRecord(ctx, "customer-42", []byte("ordered")); errors.Is(err, awskinesis.ErrOutboxFull) {
				fmt.Println("try again later")
			}
		}()
		return forwarder.Run(ctx) // until ctx ends
	}
	_ = run
}

// Workers process a Kinesis stream as they process one of a database. Leases are in DynamoDB, in a
// database of one of the processes, or in any other consumer.LeaseStore.
func ExampleNewSource() {
	process := func(ctx context.Context, client awskinesis.SourceClient, leases consumer.LeaseStore) error {
		source, err := awskinesis.NewSource(client, &awskinesis.SourceOptions{
			ConsumerName:  "billing", // enhanced fan-out; without it the shards are polled
			PollOnRefusal: true,
		})
		if err != nil {
			return err
		}
		w, err := consumer.New(nil, &consumer.Config{
			App:         "billing",
			Streams:     []string{"orders"},
			Source:      source,
			Leases:      leases,
			Deaggregate: true,
		}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			for _, r := range batch.Records {
				fmt.Printf("%s: %s\n", r.PartitionKey, r.Data)
			}
			return nil
		}))
		if err != nil {
			return err
		}
		return w.Run(ctx)
	}
	_ = process
}

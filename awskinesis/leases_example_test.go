package awskinesis_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/consumer"
)

// A worker continues in the lease table of workers of the KCL for Java.
func ExampleNewLeaseStore() {
	work := func(ctx context.Context, db *braid.DB, client awskinesis.DynamoDBClient, processor consumer.Processor) error {
		leases, err := awskinesis.NewLeaseStore(ctx, client, "billing", &awskinesis.LeaseStoreOptions{Stream: "orders"})
		if foreign := (*awskinesis.ForeignWorkerError)(nil); errors.As(err, &foreign) {
			return fmt.Errorf("stop %s first: %w", foreign.Worker, err)
		}
		if err != nil {
			return err
		}
		worker, err := consumer.New(db, &consumer.Config{
			App:         "billing",
			Streams:     []string{"orders"},
			Leases:      leases,
			Deaggregate: true, // as the KCL always does
		}, processor)
		if err != nil {
			return err
		}
		return worker.Run(ctx)
	}
	_ = work
}

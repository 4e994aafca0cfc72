// Replay shows that applications are independent, and that processed records can be
// processed again. "billing" is at the tip when "audit" begins at the first record. Then
// billing, which had a bug since noon, is moved back to noon.
//
//	go run ./examples/replay
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run runs the whole demonstration.
func run(ctx context.Context, out io.Writer) error {
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	orders, err := db.OpenStream(ctx, "orders", &braid.StreamOptions{Shards: 4})
	if err != nil {
		return err
	}

	billing, err := start(ctx, db, "billing")
	if err != nil {
		return err
	}
	if err := put(ctx, orders, "morning", 700); err != nil {
		return err
	}
	time.Sleep(20 * time.Millisecond) // so that noon lies between the two, even if the clock is coarse
	noon := time.Now()
	if err := put(ctx, orders, "afternoon", 300); err != nil {
		return err
	}
	if err := billing.expect(ctx, 1000); err != nil {
		return err
	}
	fmt.Fprintf(out, "billing has processed %d orders.\n", billing.processed.Load())

	audit, err := start(ctx, db, "audit")
	if err != nil {
		return err
	}
	if err := errors.Join(audit.expect(ctx, 1000), billing.expect(ctx, 1000)); err != nil {
		return err
	}
	fmt.Fprintf(out, "audit has processed the same %d, and billing was not disturbed.\n", audit.processed.Load())

	// All shards of all streams at once; a key could name one of them.
	if err := billing.worker.App().Seek(ctx, consumer.LeaseKey{}, braid.AtTime(noon)); err != nil {
		return err
	}
	if err := billing.expect(ctx, 1300); err != nil {
		return err
	}
	fmt.Fprintf(out, "billing was brought back to noon, and has processed the %d orders since then again.\n", billing.processed.Load()-1000)

	if err := put(ctx, orders, "evening", 50); err != nil {
		return err
	}
	if err := errors.Join(billing.expect(ctx, 1350), audit.expect(ctx, 1050)); err != nil {
		return err
	}
	fmt.Fprintln(out, "Both go on with what comes: 50 more each.")
	return errors.Join(billing.worker.Stop(ctx), audit.worker.Stop(ctx))
}

// put puts n orders.
func put(ctx context.Context, orders *braid.Stream, when string, n int) error {
	entries := make([]braid.Entry, n)
	for i := range entries {
		order := fmt.Sprintf("%s-%d", when, i)
		entries[i] = braid.Entry{PartitionKey: order, Data: []byte(order)}
	}
	_, err := orders.PutRecords(ctx, entries)
	return err
}

// application is an application that counts its records.
type application struct {
	worker    *consumer.Worker
	processed atomic.Int64
}

// start runs a worker. The application begins at the first record, unless it has begun
// already.
func start(ctx context.Context, db *braid.DB, name string) (*application, error) {
	a := new(application)
	process := func(_ context.Context, batch *consumer.Batch) error {
		a.processed.Add(int64(len(batch.Records)))
		return nil
	}
	var err error
	a.worker, err = consumer.New(db, &consumer.Config{
		App:     name,
		Streams: []string{"orders"},
		Start:   braid.TrimHorizon(),
	}, consumer.ProcessorFunc(process))
	if err != nil {
		return nil, err
	}
	go a.worker.Run(ctx) // Stop returns the result of Run
	return a, nil
}

// expect waits until the application has processed everything, and checks how much that
// was since it began.
func (a *application) expect(ctx context.Context, want int64) error {
	if err := a.worker.App().WaitCaughtUp(ctx); err != nil {
		return err
	}
	if got := a.processed.Load(); got != want {
		return fmt.Errorf("%s has processed %d orders; it should be %d", a.worker.App().Name(), got, want)
	}
	return nil
}

package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"strconv"
	"sync/atomic"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// The recipes of the README are taken from here.

// exampleDB has a stream with some orders.
func exampleDB(ctx context.Context) *braid.DB {
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		log.Fatal(err)
	}
	orders, err := db.OpenStream(ctx, "orders", &braid.StreamOptions{Shards: 4})
	if err != nil {
		log.Fatal(err)
	}
	for n := range 100 {
		if _, err := orders.PutRecord(ctx, fmt.Sprint("customer-", n%10), []byte(strconv.Itoa(n))); err != nil {
			log.Fatal(err)
		}
	}
	return db
}

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	db := exampleDB(ctx)
	defer db.Close()
	var shipped atomic.Int64
	ship := func(braid.Record) error { shipped.Add(1); return nil }

	worker, err := consumer.New(db, &consumer.Config{
		App:     "shipping", // its leases and checkpoints are stored under this name
		Streams: []string{"orders"},
	}, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
		for _, record := range batch.Records {
			if err := ship(record.Record); err != nil {
				return &consumer.RecordError{Record: record, Err: err} // the ones before it are done
			}
		}
		return nil // the batch is checkpointed
	}))
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- worker.Run(ctx) }() // until ctx ends: then it finishes its current batches

	if err := worker.App().WaitCaughtUp(ctx); err != nil {
		log.Fatal(err)
	}
	stop()
	fmt.Println(<-ended, shipped.Load())
	// Output: <nil> 100
}

func ExampleNewTx() {
	ctx, stop := context.WithCancel(context.Background())
	db := exampleDB(ctx)
	defer db.Close()
	if _, err := db.OpenStream(ctx, "invoices", nil); err != nil {
		log.Fatal(err)
	}

	// The count, the invoice and the checkpoint are one commit. However this program
	// ends, each order was counted and invoiced once, or will be.
	count := func(ctx context.Context, tx *braid.Tx, batch *consumer.TxBatch) error {
		for _, record := range batch.Records {
			key := []byte("orders/" + record.PartitionKey)
			value, err := tx.Get(key)
			if err != nil && !errors.Is(err, braid.ErrKeyNotFound) {
				return err
			}
			n, _ := strconv.Atoi(string(value))
			if err := tx.Set(key, strconv.AppendInt(nil, int64(n+1), 10)); err != nil {
				return err
			}
			if err := tx.PutRecord("invoices", record.PartitionKey, record.Data); err != nil {
				return err
			}
		}
		return nil
	}
	worker, err := consumer.NewTx(db, &consumer.Config{App: "invoicing", Streams: []string{"orders"}}, consumer.TxProcessorFunc(count))
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- worker.Run(ctx) }()
	if err := worker.App().WaitCaughtUp(ctx); err != nil {
		log.Fatal(err)
	}
	stop()
	fmt.Println(<-ended)
	err = db.View(context.Background(), func(tx *braid.Tx) error {
		n, err := tx.Get([]byte("orders/customer-3"))
		fmt.Printf("customer-3 has %s orders\n", n)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// <nil>
	// customer-3 has 10 orders
}

func ExampleConfig() {
	ctx := context.Background()
	db := exampleDB(ctx)
	defer db.Close()
	process := consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil })

	worker, err := consumer.New(db, &consumer.Config{
		App:     "mailer",
		Streams: []string{"orders", "refunds"}, // waits for those that do not exist yet
		Start:   braid.Latest(),                // only records put from now on; fixed when the application first runs

		Lanes:            8,             // partition keys of a shard at once, each in order
		MaxAttempts:      5,             // then a record that still fails is a dead letter,
		DeadLetterStream: "orders-dead", // put into this stream
		WorkerID:         "mailer-1",    // for logs and status
	}, process)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(worker.App().Name())
	// Output: mailer
}

func ExampleApp_Status() {
	ctx := context.Background()
	db := exampleDB(ctx)
	defer db.Close()
	worker, err := consumer.New(db, &consumer.Config{App: "shipping", Streams: []string{"orders"}, WorkerID: "w1"},
		consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil }))
	if err != nil {
		log.Fatal(err)
	}
	go worker.Run(ctx)
	if err := worker.App().WaitCaughtUp(ctx); err != nil {
		log.Fatal(err)
	}

	// No worker has to run for this.
	app, err := consumer.OpenApp(db, "shipping")
	if err != nil {
		log.Fatal(err)
	}
	status, err := app.Status(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status.BehindRecords, "records behind")
	for _, shard := range status.Shards {
		fmt.Println(shard.Shard, "is", shard.State, "at", shard.Owner)
	}
	// Output:
	// 0 records behind
	// shardId-000000000000 is running at w1
	// shardId-000000000001 is running at w1
	// shardId-000000000002 is running at w1
	// shardId-000000000003 is running at w1
}

// A tool that lists applications, waits until one of them has caught up, and says why
// another has not.
func ExampleApp_WaitCaughtUp() {
	ctx, stop := context.WithCancel(context.Background())
	db := exampleDB(ctx)
	defer db.Close()
	quiet := slog.New(slog.DiscardHandler)
	run := func(app string, process consumer.ProcessorFunc) (ended chan error) {
		worker, err := consumer.New(db, &consumer.Config{
			App: app, Streams: []string{"orders"}, MaxAttempts: 1, Logger: quiet,
		}, process)
		if err != nil {
			log.Fatal(err)
		}
		ended = make(chan error)
		go func() { ended <- worker.Run(ctx) }()
		return ended
	}
	shipping := run("shipping", func(context.Context, *consumer.Batch) error { return nil })
	billing := run("billing", func(context.Context, *consumer.Batch) error { return errors.New("no such customer") })
	for _, name := range []string{"billing", "shipping"} {
		app, err := consumer.OpenApp(db, name)
		if err != nil {
			log.Fatal(err)
		}
		var stopped *consumer.StoppedShardsError
		switch err := app.WaitCaughtUp(ctx); {
		case errors.As(err, &stopped):
			fmt.Println(name, "is stopped at a record:", errors.Unwrap(stopped.Shards[0].Err))
		case err != nil:
			log.Fatal(err)
		default:
			fmt.Println(name, "has caught up")
		}
	}
	stop()
	fmt.Println("Run of shipping:", <-shipping)
	fmt.Println("Run of billing says which shards were stopped:", errors.As(<-billing, new(*consumer.StoppedShardsError)))

	apps, err := consumer.Apps(context.Background(), db)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("In the database:", apps)
	// Output:
	// billing is stopped at a record: after 1 attempts: no such customer
	// shipping has caught up
	// Run of shipping: <nil>
	// Run of billing says which shards were stopped: true
	// In the database: [billing shipping]
}

// tailer prints a stream, and says when it has printed all there is.
type tailer struct{ atTip chan struct{} }

func (t tailer) ProcessRecords(_ context.Context, batch *consumer.Batch) error {
	for _, record := range batch.Records {
		fmt.Printf("%s\n", record.Data)
	}
	return nil
}

// TipReached makes tailer a consumer.TipReacher.
func (t tailer) TipReached(context.Context, *consumer.Checkpointer) error {
	select {
	case t.atTip <- struct{}{}:
	default: // the last signal was not received yet
	}
	return nil
}

func ExampleTipReacher() {
	ctx, stop := context.WithCancel(context.Background())
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	news, err := db.CreateStream(ctx, "news", nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, text := range []string{"first", "second"} {
		if _, err := news.PutRecord(ctx, "k", []byte(text)); err != nil {
			log.Fatal(err)
		}
	}
	t := tailer{make(chan struct{}, 1)}
	worker, err := consumer.New(db, &consumer.Config{App: "tail", Streams: []string{"news"}}, t)
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- worker.Run(ctx) }()
	<-t.atTip
	fmt.Println("That was all so far.")
	stop()
	fmt.Println(<-ended)
	// Output:
	// first
	// second
	// That was all so far.
	// <nil>
}

func ExampleApp_Seek() {
	ctx, stop := context.WithCancel(context.Background())
	db := exampleDB(ctx)
	defer db.Close()
	var seen atomic.Int64
	worker, err := consumer.New(db, &consumer.Config{App: "reports", Streams: []string{"orders"}},
		consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			seen.Add(int64(len(batch.Records)))
			return nil
		}))
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- worker.Run(ctx) }()
	app := worker.App()
	if err := app.WaitCaughtUp(ctx); err != nil {
		log.Fatal(err)
	}

	// Process everything again. Workers need not be stopped for it: their current
	// batches are not checkpointed.
	if err := app.Seek(ctx, consumer.LeaseKey{Stream: "orders"}, braid.TrimHorizon()); err != nil {
		log.Fatal(err)
	}

	if err := app.WaitCaughtUp(ctx); err != nil {
		log.Fatal(err)
	}
	stop()
	fmt.Println(<-ended, seen.Load())
	// Output: <nil> 200
}

// Transform reads one stream and writes another, exactly once. For every order it appends
// an invoice and counts the customer's orders, in the same commit as the checkpoint. The
// database is closed while the worker is in the middle, and opened again. In the end
// there is one invoice for each order, and every count is exact.
//
//	go run ./examples/transform
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

const (
	orderCount = 5000
	customers  = 4
)

// Order is a record of the stream "orders".
type Order struct {
	ID       int
	Customer string
	Cents    int
}

// Invoice is a record of the stream "invoices".
type Invoice struct {
	Order int
	Text  string
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run runs the whole demonstration.
func run(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "braid-transform-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	if err := interrupted(ctx, dir); err != nil {
		return err
	}
	fmt.Fprintln(out, "The database was closed under the worker, with a part of the orders invoiced.")
	if err := resumed(ctx, dir); err != nil {
		return err
	}
	fmt.Fprintln(out, "It was opened again, and the worker continued until all of them were.")
	return verify(ctx, dir, out)
}

// invoice processes a batch. It writes everything through tx, so it takes effect exactly
// once, however often it is tried.
func invoice(_ context.Context, tx *braid.Tx, batch *consumer.TxBatch) error {
	for _, record := range batch.Records {
		var order Order
		if err := json.Unmarshal(record.Data, &order); err != nil {
			return &consumer.RecordError{Record: record, Err: err}
		}
		data, err := json.Marshal(Invoice{order.ID, fmt.Sprintf("%s owes %d.%02d", order.Customer, order.Cents/100, order.Cents%100)})
		if err != nil {
			return err
		}
		if err := tx.PutRecord("invoices", order.Customer, data); err != nil {
			return err
		}
		n, err := count(tx, order.Customer)
		if err != nil {
			return err
		}
		if err := tx.Set(countKey(order.Customer), []byte(strconv.Itoa(n+1))); err != nil {
			return err
		}
	}
	return nil
}

// countKey returns a key that the application stores beside its streams.
func countKey(customer string) []byte { return []byte("orders-of/" + customer) }

func count(tx *braid.Tx, customer string) (int, error) {
	value, err := tx.Get(countKey(customer))
	if errors.Is(err, braid.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(value))
}

// open opens the database, its streams and a worker.
func open(ctx context.Context, dir string) (db *braid.DB, orders, invoices *braid.Stream, w *consumer.Worker, err error) {
	if db, err = braid.Open(dir, nil); err != nil {
		return nil, nil, nil, nil, err
	}
	orders, ordersErr := db.OpenStream(ctx, "orders", &braid.StreamOptions{Shards: 4})
	invoices, invoicesErr := db.OpenStream(ctx, "invoices", &braid.StreamOptions{Shards: 2})
	w, workerErr := consumer.NewTx(db, &consumer.Config{
		App:          "invoicing",
		Streams:      []string{"orders"},
		BatchRecords: 100,
	}, consumer.TxProcessorFunc(invoice))
	if err := errors.Join(ordersErr, invoicesErr, workerErr); err != nil {
		return nil, nil, nil, nil, errors.Join(err, db.Close())
	}
	return db, orders, invoices, w, nil
}

// interrupted puts all orders, and closes the database when the first tenth of the
// invoices exists. Nobody stops the worker.
func interrupted(ctx context.Context, dir string) error {
	db, orders, invoices, w, err := open(ctx, dir)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	if err := putOrders(ctx, orders); err != nil {
		return errors.Join(err, db.Close())
	}
	go func() { ended <- w.Run(ctx) }()
	seen := 0
	for _, err := range invoices.Follow(ctx, braid.TrimHorizon()) {
		if err != nil {
			return errors.Join(err, db.Close())
		}
		if seen++; seen == orderCount/10 {
			break
		}
	}
	if err := db.Close(); err != nil {
		return err
	}
	if err := <-ended; !errors.Is(err, braid.ErrClosed) {
		return fmt.Errorf("the worker should have lost its database: %w", err)
	}
	return nil
}

func putOrders(ctx context.Context, orders *braid.Stream) error {
	entries := make([]braid.Entry, orderCount)
	for i := range entries {
		order := Order{i, fmt.Sprintf("customer-%d", i%customers), 100 + 7*i}
		data, err := json.Marshal(order)
		if err != nil {
			return err
		}
		entries[i] = braid.Entry{PartitionKey: strconv.Itoa(i), Data: data}
	}
	_, err := orders.PutRecords(ctx, entries)
	return err
}

// resumed lets the worker do the rest, and stops it properly.
func resumed(ctx context.Context, dir string) error {
	db, orders, invoices, w, err := open(ctx, dir)
	if err != nil {
		return err
	}
	done, want := invoices.Describe().Records, orders.Describe().Records
	if done == want {
		return errors.Join(errors.New("all orders were invoiced before the database was closed"), db.Close())
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(running) }()
	var seen int64
	for _, err := range invoices.Follow(ctx, braid.TrimHorizon()) {
		if err != nil {
			return errors.Join(err, db.Close())
		}
		if seen++; seen == want {
			break
		}
	}
	stop()
	return errors.Join(<-ended, db.Close())
}

// verify counts everything again.
func verify(ctx context.Context, dir string, out io.Writer) (err error) {
	db, err := braid.Open(dir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	invoices, err := db.Stream("invoices")
	if err != nil {
		return err
	}
	invoiced := make(map[int]bool)
	for record, err := range invoices.Records(ctx, braid.TrimHorizon()) {
		if err != nil {
			return err
		}
		var i Invoice
		if err := json.Unmarshal(record.Data, &i); err != nil {
			return err
		}
		if invoiced[i.Order] {
			return fmt.Errorf("order %d has two invoices", i.Order)
		}
		invoiced[i.Order] = true
	}
	if len(invoiced) != orderCount {
		return fmt.Errorf("%d orders have invoices; it should be %d", len(invoiced), orderCount)
	}
	fmt.Fprintf(out, "%d orders, %d invoices:\n", orderCount, len(invoiced))
	return db.View(ctx, func(tx *braid.Tx) error {
		for i := range customers {
			customer := fmt.Sprintf("customer-%d", i)
			n, err := count(tx, customer)
			if err != nil {
				return err
			}
			if n != orderCount/customers {
				return fmt.Errorf("%s has %d orders; it should be %d", customer, n, orderCount/customers)
			}
			fmt.Fprintf(out, "  %s  %d orders\n", customer, n)
		}
		return nil
	})
}

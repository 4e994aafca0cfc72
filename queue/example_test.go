package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// A work queue: failed records are retried, and set aside after the third attempt.
func Example() {
	ctx := context.Background()
	db, err := braid.Open(braid.InMemory, nil)
	check(err)
	defer db.Close()
	tasks, err := db.OpenStream(ctx, "tasks", nil)
	check(err)
	for _, address := range []string{"ann@example.com", "nobody", "bob@example.com"} {
		_, err := tasks.PutRecord(ctx, address, []byte("hello"))
		check(err)
	}

	mails, err := queue.Open(ctx, db, "mails", &queue.Options{Stream: "tasks", MaxReceives: 3})
	check(err)
	work, stop := context.WithCancel(ctx)
	var done atomic.Int64
	send := func(_ context.Context, r queue.Record) error {
		if !strings.Contains(r.PartitionKey, "@") {
			if r.Receives == 3 {
				defer stop()
			}
			return errors.New("no such address")
		}
		done.Add(1)
		return nil
	}
	check(mails.Work(work, send, &queue.WorkOptions{
		Concurrency: 4,
		Backoff:     func(receives int) time.Duration { return time.Duration(receives) * 10 * time.Millisecond },
	}))

	fmt.Println("sent:", done.Load())
	for r, err := range mails.DeadLetters().All(ctx) {
		check(err)
		fmt.Printf("dead: %s, received %d times: %s\n", r.PartitionKey, r.Receives, r.Reason)
	}
	// Output:
	// sent: 2
	// dead: nobody, received 3 times: no such address
}

// An outbox: the application stores a decision, and a record that announces it, in one
// transaction. A queue then calls an HTTP API, which recognizes repetitions by the key.
func Example_outbox() {
	var told atomic.Int64
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Printf("%s, with a key of %d characters\n", body, len(r.Header.Get("Idempotency-Key")))
		told.Add(1)
	}))
	defer api.Close()

	ctx := context.Background()
	db, err := braid.Open(braid.InMemory, nil)
	check(err)
	defer db.Close()
	_, err = db.OpenStream(ctx, "outbox", nil)
	check(err)
	check(db.Update(ctx, func(tx *braid.Tx) error {
		if err := tx.Set([]byte("order/42"), []byte("paid")); err != nil {
			return err
		}
		return tx.PutRecord("outbox", "order/42", []byte("order 42 is paid"))
	}))

	outbox, err := queue.Open(ctx, db, "outbox", &queue.Options{Stream: "outbox"})
	check(err)
	work, stop := context.WithCancel(ctx)
	check(outbox.Work(work, func(ctx context.Context, r queue.Record) error {
		defer stop()
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, api.URL, strings.NewReader(string(r.Data)))
		if err != nil {
			return err
		}
		request.Header.Set("Idempotency-Key", r.ID)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		switch {
		case response.StatusCode < 300:
			return nil
		case response.StatusCode < 500 && response.StatusCode != http.StatusTooManyRequests:
			return fmt.Errorf("%w: %s", queue.ErrReject, response.Status) // another attempt would fail, too
		default:
			return errors.New(response.Status)
		}
	}, nil))
	// Output: order 42 is paid, with a key of 24 characters
}

// An application's own loop acknowledges the processed records with its next receive.
func ExampleQueue_Exchange() {
	ctx := context.Background()
	db, err := braid.Open(braid.InMemory, nil)
	check(err)
	defer db.Close()
	tasks, err := db.OpenStream(ctx, "tasks", nil)
	check(err)
	for i := range 5 {
		_, err := tasks.PutRecord(ctx, "key", fmt.Append(nil, i))
		check(err)
	}
	q, err := queue.Open(ctx, db, "tasks", &queue.Options{Stream: "tasks"})
	check(err)

	var done []queue.Receipt
	for {
		// Here the loop ends when nothing is left; one without Wait goes on until ctx ends.
		records, err := q.Exchange(ctx, 2, &queue.ReceiveOptions{Wait: -1}, done...)
		if lost := new(queue.ReceiptsError); errors.As(err, &lost) {
			fmt.Println("others have received records that took too long:", lost)
		} else {
			check(err)
		}
		if len(records) == 0 {
			break
		}
		done = done[:0]
		for _, r := range records {
			fmt.Printf("%s ", r.Data)
			done = append(done, r.Receipt)
		}
	}
	d, err := q.Describe(ctx)
	check(err)
	fmt.Println("- acknowledged:", d.Acknowledged)

	// Output:
	// 0 1 2 3 4 - acknowledged: 5
}

// Records of one account are processed in order, even by different workers. Those of
// other accounts do not wait.
func ExampleOptions_orderByKey() {
	ctx := context.Background()
	db, err := braid.Open(braid.InMemory, nil)
	check(err)
	defer db.Close()
	moves, err := db.OpenStream(ctx, "moves", nil)
	check(err)
	for _, move := range []string{"ann +10", "ann -5", "bob +1"} {
		_, err := moves.PutRecord(ctx, move[:3], []byte(move))
		check(err)
	}
	q, err := queue.Open(ctx, db, "moves", &queue.Options{Stream: "moves", OrderByKey: true})
	check(err)
	first, err := q.Receive(ctx, 10, nil)
	check(err)
	for _, r := range first {
		fmt.Printf("%s\n", r.Data)
	}
	check(q.Ack(ctx, first[0].Receipt))
	next, err := q.Receive(ctx, 10, nil)
	check(err)
	fmt.Printf("then %s\n", next[0].Data)
	// Output:
	// ann +10
	// bob +1
	// then ann -5
}

// The acknowledgement is part of the transaction that has the effect.
func ExampleQueue_AckTx() {
	ctx := context.Background()
	db, err := braid.Open(braid.InMemory, nil)
	check(err)
	defer db.Close()
	orders, err := db.OpenStream(ctx, "orders", nil)
	check(err)
	_, err = orders.PutRecord(ctx, "42", []byte("3 apples"))
	check(err)
	q, err := queue.Open(ctx, db, "shipping", &queue.Options{Stream: "orders"})
	check(err)
	records, err := q.Receive(ctx, 1, nil)
	check(err)
	ship := func(tx *braid.Tx) error {
		if err := tx.Set([]byte("shipped/"+records[0].PartitionKey), records[0].Data); err != nil {
			return err
		}
		return q.AckTx(tx, records[0].Receipt)
	}
	fmt.Println(db.Update(ctx, ship))
	fmt.Println(errors.Is(db.Update(ctx, ship), queue.ErrRecordSettled))
	// Output:
	// <nil>
	// true
}

// A person lists the dead letters, and has one record tried again.
func ExampleDeadLetters_All() {
	ctx := context.Background()
	db, err := braid.Open(braid.InMemory, nil)
	check(err)
	defer db.Close()
	tasks, err := db.OpenStream(ctx, "tasks", nil)
	check(err)
	for _, task := range []string{"first", "second"} {
		_, err := tasks.PutRecord(ctx, task, []byte(task))
		check(err)
	}
	q, err := queue.Open(ctx, db, "q", &queue.Options{Stream: "tasks"})
	check(err)
	for range 2 {
		records, err := q.Receive(ctx, 1, nil)
		check(err)
		check(q.Reject(ctx, "the printer is on fire", records[0].Receipt))
	}

	for r, err := range q.DeadLetters().All(ctx) {
		check(err)
		fmt.Printf("%s: %s\n", r.Data, r.Reason)
		if string(r.Data) == "second" {
			check(q.DeadLetters().Restore(ctx, r.Receipt))
		}
	}
	records, err := q.Receive(ctx, 10, nil)
	check(err)
	for _, r := range records {
		fmt.Printf("again: %s\n", r.Data)
	}
	// Output:
	// first: the printer is on fire
	// second: the printer is on fire
	// again: second
}

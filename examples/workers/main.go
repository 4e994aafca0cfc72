// Workers shows competing workers: three of them share the six shards of a stream. One
// hangs in the middle of a batch and is abandoned, and the others take over its shards at
// their checkpoints. What it does afterwards has no effect.
//
//	go run ./examples/workers
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

const orders = 3000

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
	stream, err := db.OpenStream(ctx, "orders", &braid.StreamOptions{Shards: 6})
	if err != nil {
		return err
	}

	var book ledger
	anna, err := start(ctx, db, "anna", consumer.ProcessorFunc(book.ship))
	if err != nil {
		return err
	}
	ben, err := start(ctx, db, "ben", consumer.ProcessorFunc(book.ship))
	if err != nil {
		return err
	}
	stuck := newStuck(&book)
	carl, err := start(ctx, db, "carl", stuck)
	if err != nil {
		return err
	}
	app := anna.App()
	if err := app.WaitFor(ctx, sharedBy(3)); err != nil {
		return err
	}
	fmt.Fprintln(out, "anna, ben and carl have two shards each.")

	for i := range orders {
		id := fmt.Sprintf("order-%04d", i)
		if _, err := stream.PutRecord(ctx, id, []byte(id)); err != nil {
			return err
		}
	}

	// Carl hangs. A context that has already ended gives him no time to finish.
	select {
	case <-stuck.hangs:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	var left *consumer.HungShardsError
	if err := carl.Stop(ended); !errors.As(err, &left) {
		return fmt.Errorf("carl should have hung: %w", err)
	}
	fmt.Fprintln(out, "carl hangs in the middle of a batch, and is given up.")

	if err := app.WaitCaughtUp(ctx); err != nil {
		return err
	}
	close(stuck.release)
	if err := <-stuck.late; !errors.Is(err, consumer.ErrLeaseLost) {
		return fmt.Errorf("the checkpoint of a worker that was given up should be refused: %w", err)
	}
	fmt.Fprintln(out, "carl comes back, and his checkpoint is refused: the lease is another worker's.")
	if err := errors.Join(anna.Stop(ctx), ben.Stop(ctx)); err != nil {
		return err
	}
	return book.report(out, stream)
}

// start runs a worker of the application.
func start(ctx context.Context, db *braid.DB, id string, p consumer.Processor) (*consumer.Worker, error) {
	w, err := consumer.New(db, &consumer.Config{
		App:          "shipping",
		Streams:      []string{"orders"},
		WorkerID:     id,
		BatchRecords: 50,
	}, p)
	if err != nil {
		return nil, err
	}
	go w.Run(ctx) // Stop returns the result of Run
	return w, nil
}

// sharedBy reports whether that many workers have the same number of shards each.
func sharedBy(workers int) func(consumer.Status) bool {
	return func(s consumer.Status) bool {
		shards := make(map[string]int) // by owner
		for _, shard := range s.Shards {
			if shard.State != consumer.StateRunning {
				return false
			}
			shards[shard.Owner]++
		}
		for _, n := range shards {
			if n != len(s.Shards)/workers {
				return false
			}
		}
		return len(shards) == workers
	}
}

// ledger has the shipped orders.
type ledger struct {
	mu      sync.Mutex
	shipped map[string]int        // how often, by order
	byShard map[braid.ShardID]int // orders, each counted once
}

// ship is the processor of the workers that do not hang.
func (l *ledger) ship(_ context.Context, batch *consumer.Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shipped == nil {
		l.shipped, l.byShard = make(map[string]int), make(map[braid.ShardID]int)
	}
	for _, order := range batch.Records {
		id := string(order.Data)
		if l.shipped[id]++; l.shipped[id] == 1 {
			l.byShard[order.ShardID]++
		}
	}
	return nil
}

// report compares the shipped orders with the stream.
func (l *ledger) report(out io.Writer, stream *braid.Stream) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, shard := range stream.Describe().Shards {
		if int64(l.byShard[shard.ID]) != shard.Records {
			return fmt.Errorf("%s has %d orders, and %d of them were shipped", shard.ID, shard.Records, l.byShard[shard.ID])
		}
		fmt.Fprintf(out, "  %s  %4d orders\n", shard.ID, l.byShard[shard.ID])
	}
	again := 0
	for _, times := range l.shipped {
		again += times - 1
	}
	if again == 0 {
		return errors.New("carl's current batch should have come again")
	}
	fmt.Fprintf(out, "All %d orders were shipped, none is missing. Only what carl had not finished came again.\n", len(l.shipped))
	return nil
}

// stuck is the processor of a worker that hangs: it ships a batch, and hangs before it
// returns.
type stuck struct {
	*ledger
	once           sync.Once
	hangs, release chan struct{}
	late           chan error // the result of the late checkpoint
}

func newStuck(book *ledger) *stuck {
	return &stuck{ledger: book, hangs: make(chan struct{}), release: make(chan struct{}), late: make(chan error, 1)}
}

// ProcessRecords hangs the first time. A processor that watches ctx would return when its
// lease is lost. This one does not, like a call that is stuck in a library.
func (s *stuck) ProcessRecords(ctx context.Context, batch *consumer.Batch) error {
	err := s.ship(ctx, batch)
	s.once.Do(func() {
		close(s.hangs)
		<-s.release
		last := batch.Records[len(batch.Records)-1]
		s.late <- batch.CheckpointAt(context.WithoutCancel(ctx), last)
	})
	return err
}

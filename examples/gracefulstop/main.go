// Gracefulstop shows how a service stops: an interrupt ends the context of
// [consumer.Worker.Run], the processor can hand in what it has gathered and checkpoint
// it, and Run returns. The next run continues from there, so nothing is handed in twice
// or left out.
//
//	go run ./examples/gracefulstop
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

const (
	measurements = 1000
	parcel       = 64 // number of measurements that are handed in together
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run runs the whole demonstration: the service runs twice, and the first run interrupts
// itself, as Ctrl-C would.
func run(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "braid-gracefulstop-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := measure(ctx, dir); err != nil {
		return err
	}

	archive := &archive{interruptAt: measurements / 3}
	if err := serve(ctx, dir, archive); err != nil {
		return err
	}
	first := archive.count()
	if first == measurements {
		return errors.New("the first run was not interrupted")
	}
	fmt.Fprintln(out, "The first run was interrupted, and has handed in all that it had gathered.")

	archive.interruptAt = measurements
	if err := serve(ctx, dir, archive); err != nil {
		return err
	}
	if n := archive.count(); n != measurements {
		return fmt.Errorf("%d measurements are in the archive; it should be %d", n, measurements)
	}
	if archive.twice > 0 {
		return fmt.Errorf("%d measurements were handed in twice", archive.twice)
	}
	fmt.Fprintf(out, "The second run continued there. All %d measurements are in the archive, each once.\n", measurements)
	return nil
}

// serve is the main function of such a service.
func serve(ctx context.Context, dir string, archive *archive) (err error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	db, err := braid.Open(dir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	w, err := consumer.New(db, &consumer.Config{
		App:             "archiving",
		Streams:         []string{"measurements"},
		BatchRecords:    10,
		Checkpoints:     consumer.Manual,  // gathered measurements are not done yet
		HandOverTimeout: 10 * time.Second, // how long processors may take to finish
	}, consumer.PerLease(func(consumer.Lease) consumer.Processor { return &gatherer{archive: archive} }))
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

// gatherer is the processor of one shard. It gathers measurements, hands them in when it
// has enough, and checkpoints only then.
type gatherer struct {
	archive  *archive
	gathered []consumer.Record
}

// ProcessRecords is called batch by batch.
func (g *gatherer) ProcessRecords(ctx context.Context, batch *consumer.Batch) error {
	g.gathered = append(g.gathered, batch.Records...)
	time.Sleep(2 * time.Millisecond) // simulates work
	g.archive.announce(len(batch.Records))
	if len(g.gathered) < parcel {
		return nil
	}
	return g.handIn(ctx, batch.Checkpointer)
}

// ShutdownRequested is called when the worker stops, or another worker is to get the
// shard. The context is still valid.
func (g *gatherer) ShutdownRequested(ctx context.Context, c *consumer.Checkpointer) error {
	return g.handIn(ctx, c)
}

// ShardEnded is called when the shard was split or merged, and no more records will come.
func (g *gatherer) ShardEnded(ctx context.Context, c *consumer.Checkpointer) error {
	return g.handIn(ctx, c)
}

func (g *gatherer) handIn(ctx context.Context, c *consumer.Checkpointer) error {
	if len(g.gathered) == 0 {
		return nil
	}
	g.archive.take(g.gathered)
	last := g.gathered[len(g.gathered)-1]
	g.gathered = nil
	return c.CheckpointAt(ctx, last)
}

// archive is a store outside the database.
type archive struct {
	mu    sync.Mutex // guards the fields below
	known map[string]bool
	twice int

	// announced counts measurements that will be handed in. When it reaches interruptAt, the
	// program interrupts itself.
	announced, interruptAt int
}

func (a *archive) announce(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.announced < a.interruptAt && a.announced+n >= a.interruptAt {
		interruptSelf()
	}
	a.announced += n
}

func (a *archive) take(records []consumer.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil {
		a.known = make(map[string]bool)
	}
	for _, record := range records {
		id := string(record.Data)
		if a.known[id] {
			a.twice++
		}
		a.known[id] = true
	}
}

func (a *archive) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.known)
}

// interruptSelf does the same as Ctrl-C.
func interruptSelf() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Signal(os.Interrupt)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// measure fills the stream.
func measure(ctx context.Context, dir string) (err error) {
	db, err := braid.Open(dir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	stream, err := db.OpenStream(ctx, "measurements", &braid.StreamOptions{Shards: 4})
	if err != nil {
		return err
	}
	entries := make([]braid.Entry, measurements)
	for i := range entries {
		id := fmt.Sprintf("measurement-%d", i)
		entries[i] = braid.Entry{PartitionKey: id, Data: []byte(id)}
	}
	_, err = stream.PutRecords(ctx, entries)
	return err
}

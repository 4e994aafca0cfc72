// Hotkeys finds the partition keys that make a shard hot, and where to split the shard.
// Without flags it shows that on a stream of its own, in which some customers order most,
// and which it then splits at the place that it found. With flags it inspects a stream in
// the directory of a stopped program, or in a backup.
//
//	go run ./examples/hotkeys
//	go run ./examples/hotkeys -dir data -stream orders -window 10m
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"

	"github.com/braidstream/braid"
)

func main() {
	dir := flag.String("dir", "", "`directory` of a database; without it, a stream is made")
	stream := flag.String("stream", "orders", "`name` of the stream")
	window := flag.Duration("window", time.Minute, "how far back to look, from the newest record")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *dir == "" {
		err = demonstrate(ctx, os.Stdout)
	} else {
		err = look(ctx, os.Stdout, *dir, *stream, *window)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// look reports on a stream in a directory, without changing anything.
func look(ctx context.Context, out io.Writer, dir, name string, window time.Duration) (err error) {
	db, err := braid.Open(dir, &braid.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	s, err := db.Stream(name)
	if err != nil {
		return err
	}
	var newest time.Time
	for _, sh := range s.Describe().Shards {
		if t := sh.Last.Time(); t.After(newest) {
			newest = t
		}
	}
	loads, bytes, err := measure(ctx, s, newest.Add(-window))
	if err != nil {
		return err
	}
	return report(out, loads, bytes)
}

// demonstrate creates a stream with a hot shard, splits it where that helps, and reports
// the load that the same customers then cause.
func demonstrate(ctx context.Context, out io.Writer) (err error) {
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	orders, err := db.CreateStream(ctx, "orders", &braid.StreamOptions{Shards: 4})
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := order(ctx, orders); err != nil {
		return err
	}
	loads, bytes, err := measure(ctx, orders, begin)
	if err != nil {
		return err
	}
	if err := report(out, loads, bytes); err != nil {
		return err
	}

	hottest := loads[0]
	slot, _ := hottest.split()
	at, err := hottest.boundary(slot)
	if err != nil {
		return err
	}
	lower, upper, err := orders.SplitShard(ctx, hottest.shard.ID, &at)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s is split there, and the same is ordered again.\n\n", hottest.shard.ID)
	if err := order(ctx, orders); err != nil {
		return err
	}
	loads, bytes, err = measure(ctx, orders, lower.Describe().CreatedAt)
	if err != nil {
		return err
	}
	for _, l := range loads {
		if id := l.shard.ID; id == lower.ID() || id == upper.ID() {
			fmt.Fprintf(out, "%s: %s of the stream's bytes\n", id, percent(l.bytes, bytes))
		}
	}
	return nil
}

// order puts 20,000 orders: many by a few customers, whose keys are all in one shard, and
// one by each of many others.
func order(ctx context.Context, s *braid.Stream) error {
	random := rand.New(rand.NewPCG(1, 2))
	var entries []braid.Entry
	for i := range 20_000 {
		customer := fmt.Sprintf("customer-%d", i)
		if i%2 == 0 {
			customer = busy[random.IntN(len(busy))]
		}
		entries = append(entries, braid.Entry{PartitionKey: customer, Data: []byte(`{"item":"tea"}`)})
	}
	results, err := s.PutRecords(ctx, entries)
	if err != nil {
		return err
	}
	for i := range results {
		if results[i].Err != nil {
			return results[i].Err
		}
	}
	return nil
}

// busy are names whose hash keys lie in the highest quarter. A customer that is listed
// twice orders twice as much.
var busy = []string{"xena", "xena", "finn", "emil", "kim", "cleo"}

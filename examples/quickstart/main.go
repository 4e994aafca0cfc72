// Command quickstart demonstrates braid with real input: 20,000 flights go through a
// stream of four shards, while two workers share it and keep each airport's count and
// delays. The totals are exact, however the program ends, because a worker's place in the
// stream is stored in the transaction that changes the totals. In the middle, the workers
// are stopped while the producer continues, and the database is closed. It is opened
// again, new workers continue where the others stopped, and the stream is resharded
// meanwhile. Then it is replayed to prove that nothing was lost or counted twice.
//
//	go run ./examples/quickstart
//	go run ./examples/quickstart -dir data    # keeps the database there
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/braidstream/braid"
)

const (
	streamName   = "flights"
	batchRecords = 100 // flights per durable write
)

func main() {
	dir := flag.String("dir", "", "a new directory to keep the database in; empty means a temporary one, removed at the end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *dir, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run runs the whole demonstration.
func run(ctx context.Context, dir string, out io.Writer) (err error) {
	input, err := flights()
	if err != nil {
		return err
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "braid-quickstart-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else if files, _ := os.ReadDir(dir); len(files) > 0 {
		return fmt.Errorf("%s is not empty: the demonstration begins with a new database", dir)
	}

	quarter := len(input) / 4
	fmt.Fprintf(out, "1. The first half of %s flights goes into a stream of 4 shards, 2 workers count them\n", grouped(len(input)))
	err = session(ctx, dir, out, func(s *state) error {
		if err := s.produce(ctx, input[:quarter]); err != nil {
			return err
		}
		fmt.Fprintf(out, "   the workers are stopped, the producer goes on\n")
		if err := s.workers.stop(); err != nil {
			return err
		}
		return s.produce(ctx, input[quarter:2*quarter])
	})
	if err != nil {
		return err
	}

	fmt.Fprintf(out, "\n2. The database was closed. It opens again, and new workers go on where those were\n")
	var middle braid.SequenceNumber
	err = session(ctx, dir, out, func(s *state) error {
		if err := s.produce(ctx, input[2*quarter:3*quarter]); err != nil {
			return err
		}
		middle = s.first
		if err := s.reshard(ctx); err != nil {
			return err
		}
		if err := s.produce(ctx, input[3*quarter:]); err != nil {
			return err
		}
		return s.catchUp(ctx)
	})
	if err != nil {
		return err
	}

	fmt.Fprintf(out, "\n3. Opened once more: replay, and compare with what the workers kept\n")
	return verify(ctx, dir, input, middle, out)
}

// state is what a session works with.
type state struct {
	db      *braid.DB
	stream  *braid.Stream
	workers workers
	first   braid.SequenceNumber // of the first flight that was put
	out     io.Writer
}

// session opens the database, starts the workers, and calls work. Then it stops and
// closes everything.
func session(ctx context.Context, dir string, out io.Writer, work func(*state) error) (err error) {
	start := time.Now()
	db, err := braid.Open(dir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	stream, err := db.OpenStream(ctx, streamName, &braid.StreamOptions{Shards: 4})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "   open after %s, with %s records\n", since(start), grouped(int(stream.Describe().Records)))
	workers, err := startWorkers(ctx, db)
	if err != nil {
		return err
	}
	err = work(&state{db: db, stream: stream, workers: workers, out: out})
	return errors.Join(err, workers.stop())
}

// produce puts the flights in order. All flights from one airport have its code as their
// partition key. So they share a shard, and stay in order.
func (s *state) produce(ctx context.Context, input []Flight) error {
	start := time.Now()
	for done := 0; done < len(input); {
		batch := input[done:min(done+batchRecords, len(input))]
		entries := make([]braid.Entry, len(batch))
		for i, f := range batch {
			entries[i] = braid.Entry{PartitionKey: f.Origin, Data: f.encode()}
		}
		results, err := s.stream.PutRecords(ctx, entries)
		if err != nil {
			return err
		}
		if s.first.IsZero() {
			s.first = results[0].SequenceNumber
		}
		if done += len(batch); done%(len(input)/2) == 0 {
			if err := s.report(ctx, "latest: "+batch[len(batch)-1].String()); err != nil {
				return err
			}
		}
	}
	put := time.Since(start)
	fmt.Fprintf(s.out, "   %s flights durable after %s (%s/s)\n", grouped(len(input)), put.Round(time.Millisecond), grouped(int(float64(len(input))/put.Seconds())))
	return nil
}

// report prints the progress of the producer and the workers.
func (s *state) report(ctx context.Context, note string) error {
	kept, err := loadTotals(ctx, s.db)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "   %6s put   %6s counted   %s\n", grouped(int(s.stream.Describe().Records)), grouped(kept.flights()), note)
	return nil
}

// reshard doubles the number of shards. Nobody has to stop: from then on, puts go to the
// new shards, and the workers finish an old shard before they begin its children. So the
// flights of an airport stay in order.
func (s *state) reshard(ctx context.Context) error {
	start := time.Now()
	if err := s.stream.UpdateShardCount(ctx, 8); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "   every shard is split, after %s there are 8; nobody had to stop\n", since(start))
	return nil
}

// catchUp waits until the workers have counted everything.
func (s *state) catchUp(ctx context.Context) error {
	start := time.Now()
	if err := s.workers.catchUp(ctx); err != nil {
		return err
	}
	return s.report(ctx, "all of them, "+since(start).String()+" after the last was put")
}

// verify opens the database, replays the stream from the middle and from the beginning,
// and compares: the workers' totals, the replay, and the input itself must agree for
// every airport.
func verify(ctx context.Context, dir string, input []Flight, middle braid.SequenceNumber, out io.Writer) (err error) {
	start := time.Now()
	db, err := braid.Open(dir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	stream, err := db.Stream(streamName)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "   open after %s, with %s records\n", since(start), grouped(int(stream.Describe().Records)))

	kept, err := loadTotals(ctx, db)
	if err != nil {
		return err
	}
	start = time.Now()
	second, err := replay(ctx, stream, braid.AtSequence(middle))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "   replayed %s flights from the middle in %s\n", grouped(second.flights()), since(start))
	start = time.Now()
	all, err := replay(ctx, stream, braid.TrimHorizon())
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "   replayed %s flights from the beginning in %s\n", grouped(all.flights()), since(start))

	want, wantSecond := make(totals), make(totals)
	for i, f := range input {
		want.add(f)
		if i >= len(input)/2 {
			wantSecond.add(f)
		}
	}
	if err := errors.Join(
		agree("the workers' totals", kept, want),
		agree("the replay from the beginning", all, want),
		agree("the replay from the middle", second, wantSecond),
	); err != nil {
		return err
	}
	printTable(out, stream, kept)
	fmt.Fprintf(out, "\nThe totals of %d airports agree: kept by the workers, replayed, and counted from the input.\n", len(want))
	return nil
}

// replay counts the flights from a position to the end, over all shards.
func replay(ctx context.Context, stream *braid.Stream, from braid.Position) (totals, error) {
	t := make(totals)
	for rec, err := range stream.Records(ctx, from) {
		if err != nil {
			return nil, err
		}
		f, err := decodeFlight(rec)
		if err != nil {
			return nil, err
		}
		t.add(f)
	}
	return t, nil
}

func since(start time.Time) time.Duration { return time.Since(start).Round(100 * time.Microsecond) }

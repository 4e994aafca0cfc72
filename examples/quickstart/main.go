// Command quickstart shows what braid is for, with real input: 20,000 flights go
// through a stream of four shards while four readers follow it and keep each
// airport's count and delays. The keeping is exact, however the program ends,
// because a reader stores its totals and its place in the stream in one
// transaction. Then the database is closed in the middle of everything, opened
// again, and the stream is replayed to prove that nothing was lost or counted
// twice.
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

// run is the whole demonstration.
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

	half := len(input) / 2
	fmt.Fprintf(out, "1. The first %s of %s flights go into a stream of 4 shards, readers follow\n", grouped(half), grouped(len(input)))
	if _, err := session(ctx, dir, input[:half], out); err != nil {
		return err
	}

	fmt.Fprintf(out, "\n2. The database was closed. It opens again, and everybody goes on where they were\n")
	middle, err := session(ctx, dir, input[half:], out)
	if err != nil {
		return err
	}

	fmt.Fprintf(out, "\n3. Opened once more: replay, and compare with what the readers kept\n")
	return verify(ctx, dir, input, middle, out)
}

// session opens the database, puts the flights while readers follow, and closes
// it again. It returns the sequence number of the first of these flights.
func session(ctx context.Context, dir string, input []Flight, out io.Writer) (first braid.SequenceNumber, err error) {
	start := time.Now()
	db, err := braid.Open(dir, nil)
	if err != nil {
		return first, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	stream, err := db.OpenStream(ctx, streamName, &braid.StreamOptions{Shards: 4})
	if err != nil {
		return first, err
	}
	fmt.Fprintf(out, "   open after %s, with %s records\n", since(start), grouped(int(stream.Describe().Records)))

	readers := startReaders(ctx, db, stream)
	start = time.Now()
	first, err = produce(ctx, stream, input, readers, out)
	put := time.Since(start)
	counted, readErr := readers.finish()
	if err := errors.Join(err, readErr); err != nil {
		return first, err
	}
	fmt.Fprintf(out, "   %s flights durable after %s (%s/s), read and counted %s later\n",
		grouped(counted), put.Round(time.Millisecond), grouped(int(float64(len(input))/put.Seconds())),
		(time.Since(start) - put).Round(100*time.Microsecond))
	return first, nil
}

// produce puts the flights in order. All flights from one airport have its code
// as their partition key: they share a shard, so they stay in order.
func produce(ctx context.Context, stream *braid.Stream, input []Flight, readers *readers, out io.Writer) (first braid.SequenceNumber, err error) {
	reportEvery := len(input) / 5
	for done := 0; done < len(input); {
		batch := input[done:min(done+batchRecords, len(input))]
		entries := make([]braid.Entry, len(batch))
		for i, f := range batch {
			entries[i] = braid.Entry{PartitionKey: f.Origin, Data: f.encode()}
		}
		results, err := stream.PutRecords(ctx, entries)
		if err != nil {
			return first, err
		}
		if done == 0 {
			first = results[0].SequenceNumber
		}
		done += len(batch)
		if done%reportEvery == 0 {
			fmt.Fprintf(out, "   %6s put   %6s counted   latest: %s\n", grouped(done), grouped(readers.counted()), batch[len(batch)-1])
		}
	}
	return first, nil
}

// verify opens the database, replays the stream from the middle and from the
// beginning, and compares: the readers' totals, the replay, and the input itself
// have to agree in every airport.
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
		agree("the readers' totals", kept, want),
		agree("the replay from the beginning", all, want),
		agree("the replay from the middle", second, wantSecond),
	); err != nil {
		return err
	}
	printTable(out, stream, kept)
	fmt.Fprintf(out, "\nThe totals of %d airports agree: kept by the readers, replayed, and counted from the input.\n", len(want))
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

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid"
)

// bench has the flags of verb bench.
type bench struct {
	in         string
	durability string
	producers  int
	shards     int
	size       string
	stretch    time.Duration
}

func (p *program) benchCommand() *cobra.Command {
	var b bench
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure the speed of this disk and machine", GroupID: groupStorage,
		Long: `bench creates a database in a new directory below --in. Producers put single records to it, and then batches. bench reads
them back, and removes the directory. It needs no --dir. Package bench of the repository compares braid with other logs.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.bench(cmd.Context(), b) },
	}
	f := cmd.Flags()
	f.StringVar(&b.in, "in", os.TempDir(), "`directory` on the disk to measure")
	f.StringVar(&b.durability, "durability", "Sync", "`mode`: Sync (each put is on disk), Interval (ten syncs a second) or NoSync")
	f.IntVar(&b.producers, "producers", 16, "`number` of goroutines that put")
	f.IntVar(&b.shards, "shards", 4, "`number` of shards")
	f.StringVar(&b.size, "size", "1KiB", "`size` of a record")
	f.DurationVar(&b.stretch, "for", 3*time.Second, "`time` to put single records, and to put batches")
	return cmd
}

// benchResult is a row of the output.
type benchResult struct {
	Work          string
	Records       int64
	RecordsPerSec float64
	BytesPerSec   float64
	P50, P99, Max string `json:",omitempty"` // of a call
}

func (p *program) bench(ctx context.Context, b bench) (err error) {
	var durability braid.Durability
	if err := durability.UnmarshalText([]byte(b.durability)); err != nil {
		return usagef("--durability: %v", err)
	}
	bytes, err := parseSize("--size", b.size)
	if err != nil {
		return err
	}
	switch {
	case b.producers < 1 || b.producers > 10_000:
		return usagef("--producers %d must be 1 to 10,000", b.producers)
	case b.stretch <= 0:
		return usagef("--for %s must be more than 0", b.stretch)
	case bytes > 1<<20:
		return usagef("--size %s must be 1MiB or less", b.size)
	}
	dir, err := os.MkdirTemp(b.in, "braid-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	db, err := braid.Open(dir, &braid.Options{Durability: durability, Logger: newLogger(p.stderr)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	stream, err := db.CreateStream(ctx, "bench", &braid.StreamOptions{Shards: b.shards})
	if err != nil {
		return err
	}

	var results []benchResult
	for _, batch := range []int{1, 100} {
		result, err := b.put(ctx, stream, batch, make([]byte, bytes))
		if err != nil {
			return err
		}
		results = append(results, result)
	}
	result, err := benchRead(ctx, stream)
	if err != nil {
		return err
	}
	results = append(results, result)
	if p.json {
		return writeJSON(p.stdout, results)
	}
	t := newTable("WORK", ">RECORDS", ">RECORDS/S", ">SIZE/S", ">P50", ">P99", ">MAX")
	for _, r := range results {
		t.row(r.Work, number(r.Records), number(int64(r.RecordsPerSec)), size(int64(r.BytesPerSec)), r.P50, r.P99, r.Max)
	}
	t.write(p.stdout, "")
	return nil
}

// put lets the producers put for a while.
func (b bench) put(ctx context.Context, stream *braid.Stream, batch int, data []byte) (benchResult, error) {
	work := fmt.Sprintf("puts of 1 record, %s, %d producers", durabilityName(b.durability), b.producers)
	if batch > 1 {
		work = fmt.Sprintf("puts of %d records, %s, %d producers", batch, durabilityName(b.durability), b.producers)
	}
	var mu sync.Mutex // guards the two below
	var calls []time.Duration
	var failed error
	var producers sync.WaitGroup
	began := time.Now()
	for i := range b.producers {
		producers.Go(func() {
			var own []time.Duration
			entries := make([]braid.Entry, batch)
			for time.Since(began) < b.stretch && ctx.Err() == nil {
				for j := range entries {
					entries[j] = braid.Entry{PartitionKey: strconv.Itoa(i*batch + j), Data: data}
				}
				at := time.Now()
				if _, err := stream.PutRecords(ctx, entries); err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					return
				}
				own = append(own, time.Since(at))
			}
			mu.Lock()
			calls = append(calls, own...)
			mu.Unlock()
		})
	}
	producers.Wait()
	took := time.Since(began)
	switch {
	case ctx.Err() != nil:
		return benchResult{}, context.Cause(ctx)
	case failed != nil:
		return benchResult{}, failed
	}
	slices.Sort(calls)
	at := func(part float64) string {
		if len(calls) == 0 {
			return ""
		}
		return duration(calls[int(part*float64(len(calls)-1))])
	}
	records := int64(len(calls) * batch)
	return benchResult{
		Work: work, Records: records, RecordsPerSec: float64(records) / took.Seconds(),
		BytesPerSec: float64(records) * float64(len(data)) / took.Seconds(), P50: at(0.5), P99: at(0.99), Max: at(1),
	}, nil
}

func durabilityName(text string) string {
	if text == "Sync" {
		return "each on disk"
	}
	return text
}

// benchRead reads the stream to its tip.
func benchRead(ctx context.Context, stream *braid.Stream) (benchResult, error) {
	result := benchResult{Work: "read of the stream"}
	began := time.Now()
	var bytes int64
	for rec, err := range stream.Records(ctx, braid.TrimHorizon()) {
		if err != nil {
			return result, err
		}
		result.Records++
		bytes += int64(rec.Size())
	}
	took := max(time.Since(began), time.Nanosecond).Seconds()
	result.RecordsPerSec, result.BytesPerSec = float64(result.Records)/took, float64(bytes)/took
	return result, nil
}

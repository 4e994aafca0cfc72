// Split splits a shard while producers put and a follower reads. It draws the hash-key
// ranges before and after as a bar, and prints what the split cost.
//
//	go run ./examples/split
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid"
)

const (
	producers  = 4
	perSecond  = 4000 // records of all producers together
	barColumns = 64
)

func main() {
	if err := run(context.Background(), os.Stdout, 1500*time.Millisecond); err != nil {
		log.Fatal(err)
	}
}

// run runs the demonstration: three stretches of traffic of the given length.
func run(ctx context.Context, out io.Writer, stretch time.Duration) error {
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	rides, err := db.OpenStream(ctx, "rides", &braid.StreamOptions{Shards: 4})
	if err != nil {
		return err
	}

	t := startTraffic(ctx, rides)
	defer t.stop()
	watch := startWatch(ctx, rides)
	defer watch.cancel()

	fmt.Fprintf(out, "%d producers put rides by city to a stream of 4 shards, and a reader follows.\n\n", producers)
	before := counts(rides)
	if err := let(ctx, stretch); err != nil {
		return err
	}
	draw(out, "Some cities are busy, and one shard has most of it:", rides, before)

	hot, at := busiest(rides, before), t.median()
	began := time.Now()
	lower, upper, err := rides.SplitShard(ctx, hot.ID, &at)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is split where half of its load lies below, in %s.\n\n", hot.ID, round(time.Since(began)))

	before = counts(rides)
	if err := let(ctx, stretch); err != nil {
		return err
	}
	draw(out, "Its children share the load:", rides, before)

	cold := coldest(rides, before)
	merged, err := rides.MergeShards(ctx, cold[0].ID, cold[1].ID)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "The quietest neighbours, %s and %s, become %s.\n\n", cold[0].ID, cold[1].ID, merged.ID())
	before = counts(rides)
	if err := let(ctx, stretch); err != nil {
		return err
	}
	draw(out, "And so it ends:", rides, before)

	if err := t.stop(); err != nil {
		return err
	}
	read, err := watch.finish(rides)
	if err != nil {
		return err
	}
	drawLineage(out, rides)
	fmt.Fprintf(out, `
All %d rides were read, once each, and those of every city in order.
No put failed. The longest took %s; most take %s.
The children of the split are %s and %s.
`, read, round(t.longest()), round(t.typical()), lower.ID(), upper.ID())
	return nil
}

// let lets the traffic flow for a while.
func let(ctx context.Context, stretch time.Duration) error {
	select {
	case <-time.After(stretch):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// counts returns how many records each shard has.
func counts(stream *braid.Stream) map[braid.ShardID]int64 {
	n := make(map[braid.ShardID]int64)
	for _, sd := range stream.Describe().Shards {
		n[sd.ID] = sd.Records
	}
	return n
}

// load is an open shard, and the number of records it got since before.
type load struct {
	braid.ShardDescription
	got int64
}

// loads returns the open shards by their ranges.
func loads(stream *braid.Stream, before map[braid.ShardID]int64) (open []load, total int64) {
	for _, sd := range stream.Describe().Shards {
		if !sd.Closed {
			open = append(open, load{sd, sd.Records - before[sd.ID]})
			total += sd.Records - before[sd.ID]
		}
	}
	slices.SortFunc(open, func(a, b load) int { return a.HashKeyRange.Start.Compare(b.HashKeyRange.Start) })
	return open, max(1, total)
}

func busiest(stream *braid.Stream, before map[braid.ShardID]int64) load {
	open, _ := loads(stream, before)
	return slices.MaxFunc(open, func(a, b load) int { return int(a.got - b.got) })
}

// coldest returns the two adjacent shards with the least load.
func coldest(stream *braid.Stream, before map[braid.ShardID]int64) []load {
	open, _ := loads(stream, before)
	best := 0
	for i := range len(open) - 1 {
		if open[i].got+open[i+1].got < open[best].got+open[best+1].got {
			best = i
		}
	}
	return open[best : best+2]
}

// draw draws the hash keys as a bar, divided by shard, and below it the load of each
// shard.
func draw(out io.Writer, title string, stream *braid.Stream, before map[braid.ShardID]int64) {
	open, total := loads(stream, before)
	fmt.Fprintln(out, title)
	var bar strings.Builder
	column := 0
	for i, sh := range open {
		end := barColumns
		if i+1 < len(open) {
			end = position(open[i+1].HashKeyRange.Start)
		}
		name := strconv.Itoa(sh.ID.Index())
		fill := []string{"░", "▒"}[i%2]
		width := max(1, end-column)
		left := max(0, (width-len(name))/2)
		bar.WriteString(strings.Repeat(fill, left) + name + strings.Repeat(fill, max(0, width-left-len(name))))
		column = end
	}
	fmt.Fprintf(out, "  |%s|  hash keys\n", bar.String())
	for _, sh := range open {
		share := float64(sh.got) / float64(total)
		fmt.Fprintf(out, "  %s %4.0f %% %s\n", sh.ID, 100*share, strings.Repeat("█", int(40*share+0.5)))
	}
	fmt.Fprintln(out)
}

// position returns the column of the bar for a hash key.
func position(k braid.HashKey) int {
	for column := range barColumns {
		if k.Compare(columnKeys[column]) <= 0 {
			return column
		}
	}
	return barColumns
}

// columnKeys are the hash keys at which the columns of the bar begin: the ranges of a
// stream with that many shards.
var columnKeys = func() (keys []braid.HashKey) {
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		panic(err)
	}
	defer db.Close()
	stream, err := db.OpenStream(context.Background(), "columns", &braid.StreamOptions{Shards: barColumns})
	if err != nil {
		panic(err)
	}
	for _, sh := range stream.Shards() {
		keys = append(keys, sh.HashKeyRange().Start)
	}
	return keys
}()

// drawLineage prints the parents of the shards.
func drawLineage(out io.Writer, stream *braid.Stream) {
	fmt.Fprintln(out, "Lineage:")
	for _, sd := range stream.Describe().Shards {
		state := "open"
		if sd.Closed {
			state = "closed"
		}
		fmt.Fprintf(out, "  %s  %-6s  %6d records", sd.ID, state, sd.Records)
		if len(sd.Parents) > 0 {
			fmt.Fprintf(out, "  from %s", join(sd.Parents))
		}
		fmt.Fprintln(out)
	}
}

func join(ids []braid.ShardID) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = string(id)
	}
	return strings.Join(texts, " and ")
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// traffic is what the producers put.
type traffic struct {
	stream  *braid.Stream
	cities  []string
	hottest []braid.HashKey // of the busy cities, in order
	cancel  context.CancelFunc
	running sync.WaitGroup
	failed  atomic.Pointer[error]

	mu    sync.Mutex // guards took
	took  []time.Duration
	ended sync.Once
}

// startTraffic starts the producers: half of all rides are in the busy cities, whose hash
// keys are close together.
func startTraffic(ctx context.Context, stream *braid.Stream) *traffic {
	ctx, cancel := context.WithCancel(ctx)
	t := &traffic{stream: stream, cancel: cancel}
	quarter := stream.Shards()[1].HashKeyRange()
	for i := 0; len(t.cities) < 200; i++ {
		t.cities = append(t.cities, fmt.Sprintf("city-%03d", i))
		if k := braid.HashKeyOf(t.cities[i]); quarter.Contains(k) {
			t.hottest = append(t.hottest, k)
		}
	}
	slices.SortFunc(t.hottest, braid.HashKey.Compare)
	busy := slices.DeleteFunc(slices.Clone(t.cities), func(city string) bool { return !quarter.Contains(braid.HashKeyOf(city)) })
	for p := range producers {
		t.running.Go(func() {
			pace := time.NewTicker(time.Second * producers / perSecond)
			defer pace.Stop()
			for i := p; ; i += producers {
				select {
				case <-pace.C:
				case <-ctx.Done():
					return
				}
				city := t.cities[i%len(t.cities)]
				if i%8 < 5 {
					city = busy[i/8%len(busy)]
				}
				t.put(city)
			}
		})
	}
	return t
}

func (t *traffic) put(city string) {
	began := time.Now()
	_, err := t.stream.PutRecord(context.Background(), city, []byte(began.Format(time.RFC3339Nano)))
	took := time.Since(began)
	if err != nil {
		t.failed.CompareAndSwap(nil, &err)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.took = append(t.took, took)
}

// median returns the hash key that half of the busy cities lie below.
func (t *traffic) median() braid.HashKey { return t.hottest[len(t.hottest)/2] }

func (t *traffic) longest() time.Duration { return slices.Max(t.took) }

func (t *traffic) typical() time.Duration {
	slices.Sort(t.took)
	return t.took[len(t.took)/2]
}

// stop stops the producers, and returns the first error of any of them.
func (t *traffic) stop() error {
	t.ended.Do(func() {
		t.cancel()
		t.running.Wait()
	})
	if err := t.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// watch follows the stream and checks what it reads.
type watch struct {
	cancel context.CancelFunc
	done   chan struct{}

	read int64 // used by the goroutine until done is closed
	err  error
}

func startWatch(ctx context.Context, stream *braid.Stream) *watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{cancel: cancel, done: make(chan struct{})}
	reached := make(map[string]braid.Record) // by city: the last ride that was read
	go func() {
		defer close(w.done)
		for rec, err := range stream.Follow(ctx, braid.TrimHorizon()) {
			if err != nil {
				if ctx.Err() == nil {
					w.err = err
				}
				return
			}
			if last, ok := reached[rec.PartitionKey]; ok && !last.ArrivalTime.Before(rec.ArrivalTime) {
				w.err = fmt.Errorf("a ride in %s was read after a later one", rec.PartitionKey)
				return
			}
			reached[rec.PartitionKey] = rec
			w.read++
			if rec.PartitionKey == lastRide {
				return
			}
		}
	}()
	return w
}

// lastRide is the partition key of the record at which the follower ends.
const lastRide = "the last"

// finish waits until the follower has read everything, and compares the counts.
func (w *watch) finish(stream *braid.Stream) (read int64, err error) {
	defer w.cancel()
	if _, err := stream.PutRecord(context.Background(), lastRide, nil); err != nil {
		return 0, err
	}
	<-w.done
	if w.err != nil {
		return 0, w.err
	}
	if want := stream.Describe().Records; w.read != want {
		return 0, fmt.Errorf("%d records were read, and there are %d", w.read, want)
	}
	return w.read - 1, nil
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/braidstream/braid"
)

// total has the figures of one airport.
type total struct {
	Flights      int
	Late         int // left more than 15 minutes behind schedule
	DelayMinutes int // sum; early flights count against it
	WorstMinutes int
}

func (t total) plus(u total) total {
	return total{t.Flights + u.Flights, t.Late + u.Late, t.DelayMinutes + u.DelayMinutes, max(t.WorstMinutes, u.WorstMinutes)}
}

// totals are the figures of all airports, by code.
type totals map[string]total

func (t totals) add(f Flight) {
	one := total{Flights: 1, DelayMinutes: f.DelayMinutes, WorstMinutes: max(0, f.DelayMinutes)}
	if f.DelayMinutes > 15 {
		one.Late = 1
	}
	t[f.Origin] = t[f.Origin].plus(one)
}

func (t totals) flights() int {
	n := 0
	for _, airport := range t {
		n += airport.Flights
	}
	return n
}

// agree returns an error that names the first difference between two totals.
func agree(what string, got, want totals) error {
	for airport := range want {
		if got[airport] != want[airport] {
			return fmt.Errorf("%s of %s are %+v; they should be %+v", what, airport, got[airport], want[airport])
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%s have %d airports; they should have %d", what, len(got), len(want))
	}
	return nil
}

// totalPrefix begins the keys that the application stores beside its streams. For
// example, total/ATL has the airport's total as JSON. The workers' places in the stream
// are stored separately, and the application need not know them.
const totalPrefix = "total/"

func loadTotal(tx *braid.Tx, airport string) (t total, err error) {
	value, err := tx.Get([]byte(totalPrefix + airport))
	if errors.Is(err, braid.ErrKeyNotFound) {
		return t, nil
	}
	if err != nil {
		return t, err
	}
	return t, json.Unmarshal(value, &t)
}

func saveTotal(tx *braid.Tx, airport string, t total) error {
	value, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return tx.Set([]byte(totalPrefix+airport), value)
}

// loadTotals reads all totals at one moment.
func loadTotals(ctx context.Context, db *braid.DB) (totals, error) {
	all := make(totals)
	err := db.View(ctx, func(tx *braid.Tx) error {
		for kv, err := range tx.Scan([]byte(totalPrefix), []byte(totalPrefix+"~")) {
			if err != nil {
				return err
			}
			var t total
			if err := json.Unmarshal(kv.Value, &t); err != nil {
				return err
			}
			all[string(kv.Key[len(totalPrefix):])] = t
		}
		return nil
	})
	return all, err
}

// printTable prints the busiest airports.
func printTable(out io.Writer, stream *braid.Stream, all totals) {
	const rows = 12
	airports := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return cmp.Or(cmp.Compare(all[b].Flights, all[a].Flights), cmp.Compare(a, b))
	})
	fmt.Fprintf(out, "\nThe busiest %d of %d airports:\n\n", min(rows, len(airports)), len(airports))
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "airport\tflights\tlate\tmean delay\tworst delay\tshard\t")
	for _, airport := range airports[:min(rows, len(airports))] {
		t := all[airport]
		fmt.Fprintf(w, "%s\t%s\t%.0f %%\t%.1f min\t%d min\t%s\t\n", airport, grouped(t.Flights), 100*float64(t.Late)/float64(t.Flights),
			float64(t.DelayMinutes)/float64(t.Flights), t.WorstMinutes, shardOf(stream, airport))
	}
	w.Flush()
	fmt.Fprintln(out)
	for _, shard := range stream.Describe().Shards {
		state := "open"
		if shard.Closed {
			state = "closed"
		}
		fmt.Fprintf(out, "   %s  %-6s  %6s records, %5s KiB\n", shard.ID, state, grouped(int(shard.Records)), grouped(int(shard.Bytes>>10)))
	}
}

// shardOf returns the number of the open shard that a partition key belongs to.
func shardOf(stream *braid.Stream, partitionKey string) string {
	for i, shard := range stream.Shards() {
		if !shard.Describe().Closed && shard.HashKeyRange().Contains(braid.HashKeyOf(partitionKey)) {
			return strconv.Itoa(i)
		}
	}
	return ""
}

// grouped formats a number with thousands separators.
func grouped(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return grouped(n/1000) + fmt.Sprintf(",%03d", n%1000)
}

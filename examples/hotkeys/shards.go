package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"

	"github.com/braidstream/braid"
)

const (
	counters = 200  // of a shard: keys with more than 0.5 % of its bytes are found
	slots    = 1024 // of a shard's hash keys; it can be split between slots
	shown    = 3    // keys listed for each shard, if they have at least 2 % of it
)

// load is what was put to one open shard within the window.
type load struct {
	shard   braid.ShardDescription
	records int64
	bytes   int64
	keys    *sketch
	slots   [slots]int64 // bytes by hash key
}

// measure reads what was put to a stream since a time, in the shards that are open now.
func measure(ctx context.Context, s *braid.Stream, since time.Time) (loads []*load, bytes int64, err error) {
	for _, sh := range s.Shards() {
		l := &load{shard: sh.Describe(), keys: newSketch(counters)}
		if l.shard.Closed {
			continue // it takes no more records
		}
		// Borrowed records need no memory. Only their keys are kept.
		for rec, err := range sh.BorrowRecords(ctx, braid.AtTime(since)) {
			if err != nil {
				return nil, 0, err
			}
			l.add(&rec)
		}
		loads = append(loads, l)
		bytes += l.bytes
	}
	slices.SortFunc(loads, func(a, b *load) int { return cmp.Compare(b.bytes, a.bytes) }) // the hottest first
	return loads, bytes, nil
}

func (l *load) add(rec *braid.Record) {
	hash := braid.HashKeyOf(rec.PartitionKey)
	if rec.ExplicitHashKey != nil {
		hash = *rec.ExplicitHashKey
	}
	l.records++
	l.bytes += int64(rec.Size())
	l.keys.add(rec.PartitionKey, int64(rec.Size()))
	l.slots[l.slotOf(hash)] += int64(rec.Size())
}

// slotOf returns the slot of a hash key.
func (l *load) slotOf(hash braid.HashKey) int {
	start, size := l.extent()
	at := new(big.Int).Sub(number(hash), start)
	return int(at.Div(at.Mul(at, big.NewInt(slots)), size).Int64())
}

// boundary returns the lowest hash key of a slot.
func (l *load) boundary(slot int) (braid.HashKey, error) {
	start, size := l.extent()
	at := new(big.Int).Mul(size, big.NewInt(int64(slot)))
	at.Add(at, big.NewInt(slots-1)).Div(at, big.NewInt(slots)) // rounded up
	return braid.ParseHashKey(at.Add(at, start).String())
}

// extent returns the beginning of the shard's range, and its number of hash keys.
func (l *load) extent() (start, size *big.Int) {
	start = number(l.shard.HashKeyRange.Start)
	size = new(big.Int).Sub(number(l.shard.HashKeyRange.End), start)
	return start, size.Add(size, big.NewInt(1))
}

func number(k braid.HashKey) *big.Int {
	n, _ := new(big.Int).SetString(k.String(), 10) // a key is always a number
	return n
}

// split returns where to split the shard so that the loads of its halves are as equal as
// possible, and the part of the load that the lower half gets, 0 to 1. A split never
// divides a key.
func (l *load) split() (slot int, lower float64) {
	best, sum := l.bytes, int64(0)
	for i := 1; i < slots; i++ {
		sum += l.slots[i-1]
		if difference := max(sum-(l.bytes-sum), (l.bytes-sum)-sum); difference < best {
			best, slot, lower = difference, i, float64(sum)/float64(l.bytes)
		}
	}
	return slot, lower
}

// report reports, for each shard, its load, the keys that cause it, and whether a split
// helps.
func report(out io.Writer, loads []*load, bytes int64) error {
	for _, l := range loads {
		fmt.Fprintf(out, "%s: %d records, %d KiB, %s of the stream's bytes\n", l.shard.ID, l.records, l.bytes>>10, percent(l.bytes, bytes))
		for _, c := range l.keys.top(shown) {
			if sure := c.bytes - c.error; sure >= l.bytes/50 {
				fmt.Fprintf(out, "  %-14s %4s of the shard\n", c.key, percent(sure, l.bytes))
			}
		}
		// Compared with an even share of all shards.
		slot, lower := l.split()
		switch {
		case l.bytes*int64(len(loads)) < 2*bytes:
			fmt.Fprintln(out, "  no split is needed")
		case slot == 0 || min(lower, 1-lower) < 0.1:
			fmt.Fprintln(out, "  no split would help: nearly all is that of keys which lie together")
		default:
			at, err := l.boundary(slot)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "  split it at %s: %.0f %% go below, %.0f %% above\n", at, 100*lower, 100-100*lower)
		}
	}
	return nil
}

func percent(part, of int64) string {
	if of == 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(of))
}

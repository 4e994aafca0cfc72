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
	counters = 200  // of a shard: a key with more than 0.5 % of its bytes is found
	slots    = 1024 // of a shard's hash keys, between which it can be split
	shown    = 3    // keys of a shard, if they have 2 % of it or more
)

// load is what was put to one open shard within the window.
type load struct {
	shard   braid.ShardDescription
	records int64
	bytes   int64
	keys    *sketch
	slots   [slots]int64 // bytes by hash key
}

// measure reads what a stream has got since a time, of shards that are open now.
func measure(ctx context.Context, s *braid.Stream, since time.Time) (loads []*load, bytes int64, err error) {
	for _, sh := range s.Shards() {
		l := &load{shard: sh.Describe(), keys: newSketch(counters)}
		if l.shard.Closed {
			continue // it takes no more
		}
		// Borrowed records cost no memory. What is kept of them here is their key.
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

// slotOf returns the part of the shard's range that a hash key lies in.
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

// extent returns where the shard's range begins, and how many hash keys it has.
func (l *load) extent() (start, size *big.Int) {
	start = number(l.shard.HashKeyRange.Start)
	size = new(big.Int).Sub(number(l.shard.HashKeyRange.End), start)
	return start, size.Add(size, big.NewInt(1))
}

func number(k braid.HashKey) *big.Int {
	n, _ := new(big.Int).SetString(k.String(), 10) // which is always a number
	return n
}

// split returns where to split the shard so that its halves get as equal a load as can
// be, and how much of it the lower one gets, 0 to 1. No key is divided by that.
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

// report says for each shard what is put to it, by which keys, and whether a split helps.
func report(out io.Writer, loads []*load, bytes int64) error {
	for _, l := range loads {
		fmt.Fprintf(out, "%s: %d records, %d KiB, %s of the stream's bytes\n", l.shard.ID, l.records, l.bytes>>10, percent(l.bytes, bytes))
		for _, c := range l.keys.top(shown) {
			if sure := c.bytes - c.error; sure >= l.bytes/50 {
				fmt.Fprintf(out, "  %-14s %4s of the shard\n", c.key, percent(sure, l.bytes))
			}
		}
		// An even share would be as much as each of the others.
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

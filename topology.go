package braid

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/uint128"
)

// topology is the shards of a stream at one time. It is never changed; a reshard
// replaces it.
//
// Invariant: the ranges of the open shards cover the hash-key space without a
// gap or an overlap.
type topology struct {
	shards []*Shard // all, by index; there are gaps where shards have expired
	open   []*Shard // those that take records, by their ranges
	next   uint32   // the index that the next shard gets

	// expired is, of the shards that have gone, the one that had the latest
	// record: so a reader of the stream finds out that it has lost some.
	expired layout.ExpiredShard
}

// newTopology sorts the open ones out of all shards.
func newTopology(shards []*Shard, next uint32, expired layout.ExpiredShard) *topology {
	t := &topology{shards: shards, next: next, expired: expired}
	for _, sh := range shards {
		if sh.w.closing == nil {
			t.open = append(t.open, sh)
		}
	}
	sort.Slice(t.open, func(i, j int) bool { return t.open[i].hashKeys.Start.Compare(t.open[j].hashKeys.Start) < 0 })
	return t
}

// shard returns the shard with that index, nil if there is none.
func (t *topology) shard(index uint32) *Shard {
	i := t.from(index)
	if i == len(t.shards) || t.shards[i].index != index {
		return nil
	}
	return t.shards[i]
}

// from returns where in shards those begin that have the index or a higher one.
func (t *topology) from(index uint32) int {
	return sort.Search(len(t.shards), func(i int) bool { return t.shards[i].index >= index })
}

// route returns the open shard whose range holds the put's hash key.
func (t *topology) route(p *put) *Shard {
	if len(t.open) == 1 {
		return t.open[0]
	}
	return t.open[t.position(p.hashKey())]
}

// position is where in open the shard lies whose range holds the hash key.
func (t *topology) position(hash uint128.Uint128) int {
	low, high := 0, len(t.open)
	for high-low > 1 {
		middle := int(uint(low+high) >> 1)
		if t.open[middle].hashKeys.Start.n.Compare(hash) <= 0 {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

// hasParentOf reports whether a shard that the given one came from is there. The
// appender asks.
func (t *topology) hasParentOf(sh *Shard) bool {
	return slices.ContainsFunc(sh.parents, func(parent uint32) bool {
		p := t.shard(parent)
		return p != nil && !p.w.expired
	})
}

// without returns all shards but the given ones, in the order of their indexes.
func (t *topology) without(gone []*Shard) []*Shard {
	kept, rest := make([]*Shard, 0, len(t.shards)-len(gone)), t.shards
	for _, sh := range gone {
		i := (&topology{shards: rest}).from(sh.index)
		kept, rest = append(kept, rest[:i]...), rest[i+1:]
	}
	return append(kept, rest...)
}

// lost returns the error of a reader of the stream who counts on every record
// from a counter on, and knows the shards up to an index, if there were records
// in others that have expired with their shard.
func (t *topology) lost(from uint64, known uint32) error {
	e := t.expired
	if e.Horizon <= from || e.Shard < known { // a known one tells by itself
		return nil
	}
	number := func(counter uint64) SequenceNumber {
		return newSequenceNumber(int64(e.CreatedSeconds), counter, int64(counter/uint64(time.Second)), e.Shard)
	}
	return &TrimmedError{
		Shard:          shardID(e.Shard),
		FirstLost:      number(from),
		LastLost:       number(e.Horizon - 1),
		FirstAvailable: number(e.Horizon),
	}
}

// check verifies the invariant.
func (t *topology) check() error {
	if len(t.open) == 0 {
		return errors.New("no shard is open")
	}
	if t.open[0].hashKeys.Start != (HashKey{}) || t.open[len(t.open)-1].hashKeys.End != MaxHashKey() {
		return errors.New("the open shards do not reach both ends of the hash-key space")
	}
	for i, sh := range t.open[1:] {
		if before := t.open[i]; before.hashKeys.End.n.AddOne() != sh.hashKeys.Start.n {
			return fmt.Errorf("%s ends at %s, and %s begins at %s", before.id, before.hashKeys.End, sh.id, sh.hashKeys.Start)
		}
	}
	return nil
}

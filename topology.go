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

// topology has the shards of a stream at one time. It is immutable: a reshard replaces it.
//
// Invariant: the ranges of the open shards cover the hash-key space without a
// gap or an overlap.
type topology struct {
	shards []*Shard // all shards, by index; expired ones leave gaps
	open   []*Shard // those that accept records, by their ranges
	next   uint32   // the index of the next shard

	// expired is the expired shard that had the latest record. By it, a reader of the
	// stream finds out that it has missed records.
	expired layout.ExpiredShard

	gone ShardMetrics // totals of the shards that have expired since the open
}

// newTopology returns a topology of the given shards, and finds the open ones among them.
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

// from returns the position in shards of the first one with the index or a higher one.
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

// position returns the position in open of the shard whose range holds the hash key.
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

// hasParentOf reports whether a parent of the shard still exists. Only the appender calls it.
func (t *topology) hasParentOf(sh *Shard) bool {
	return slices.ContainsFunc(sh.parents, func(parent uint32) bool {
		p := t.shard(parent)
		return p != nil && !p.w.expired
	})
}

// without returns all shards except the given ones, in the order of their indexes.
func (t *topology) without(gone []*Shard) []*Shard {
	kept, rest := make([]*Shard, 0, len(t.shards)-len(gone)), t.shards
	for _, sh := range gone {
		i := (&topology{shards: rest}).from(sh.index)
		kept, rest = append(kept, rest[:i]...), rest[i+1:]
	}
	return append(kept, rest...)
}

// lost returns an error if a reader of the stream has missed records that expired together
// with their shard. The reader needs every record from counter from on, and knows the shards
// below index known.
func (t *topology) lost(from uint64, known uint32) error {
	e := t.expired
	if e.Horizon <= from || e.Shard < known { // the reader's cursor of a known shard reports it
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
			return fmt.Errorf("%s ends at %s, but %s begins at %s", before.id, before.hashKeys.End, sh.id, sh.hashKeys.Start)
		}
	}
	return nil
}

// checkLineage verifies that shards fit their parents. It calls wrong for each that does not.
func (t *topology) checkLineage(wrong func(sh *Shard, format string, args ...any)) {
	children := make(map[uint32][]*Shard)
	open := make(map[uint32]bool, len(t.open))
	for _, sh := range t.open {
		open[sh.index] = true
	}
	for _, sh := range t.shards {
		for _, index := range sh.parents {
			children[index] = append(children[index], sh)
			parent := t.shard(index)
			switch {
			case index >= sh.index:
				wrong(sh, "its parent %s is not older than it", shardID(index))
			case parent == nil: // it has expired
			case open[index]:
				wrong(sh, "its parent %s is open", parent.id)
			case sh.createdCounter < parent.closing.Load().counter || sh.createdSeconds <= parent.closing.Load().seconds:
				wrong(sh, "it was created before its parent %s was closed", parent.id)
			}
		}
		if len(sh.parents) == 2 {
			a, b := t.shard(sh.parents[0]), t.shard(sh.parents[1])
			if a != nil && b != nil && (a.hashKeys.Start != sh.hashKeys.Start || a.hashKeys.End.n.AddOne() != b.hashKeys.Start.n || b.hashKeys.End != sh.hashKeys.End) {
				wrong(sh, "its range is not that of its parents %s and %s", a.id, b.id)
			}
		}
	}
	for _, sh := range t.shards {
		switch heirs := children[sh.index]; {
		case open[sh.index]:
		case len(heirs) == 1:
			if keys := heirs[0].hashKeys; keys.Start.Compare(sh.hashKeys.Start) > 0 || keys.End.Compare(sh.hashKeys.End) < 0 {
				wrong(sh, "its child %s does not have its range", heirs[0].id)
			}
		case len(heirs) == 2:
			low, high := heirs[0].hashKeys, heirs[1].hashKeys
			if low.Start.Compare(high.Start) > 0 {
				low, high = high, low
			}
			if low.Start != sh.hashKeys.Start || low.End.n.AddOne() != high.Start.n || high.End != sh.hashKeys.End {
				wrong(sh, "its children %s and %s do not divide its range", heirs[0].id, heirs[1].id)
			}
		default:
			wrong(sh, "it is closed, but has %d children", len(heirs))
		}
	}
}

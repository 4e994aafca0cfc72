package sourcetest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// What a source returns about streams and their shards.

func (k *kit) doesNotFind() {
	if _, err := k.Source.Stream(k.Context(), "orders"); !errors.Is(err, braid.ErrStreamNotFound) {
		k.Fatalf("Stream: %v; want %v", err, braid.ErrStreamNotFound)
	}
	if _, err := k.tryRead("shardId-000000000000", braid.AfterSequence(braid.SequenceNumber{}), 1, large); !errors.Is(err, braid.ErrStreamNotFound) {
		k.Fatalf("Next: %v; want %v", err, braid.ErrStreamNotFound)
	}
	k.create(1)
	if _, err := k.Source.Stream(k.Context(), "refunds"); !errors.Is(err, braid.ErrStreamNotFound) {
		k.Fatalf("Stream: %v; want %v", err, braid.ErrStreamNotFound)
	}
}

func (k *kit) doesNotFindShards() {
	start := k.create(1)[0].Start
	if _, err := k.tryRead("shardId-000000000999", start, 1, large); !errors.Is(err, braid.ErrShardNotFound) {
		k.Fatalf("Next: %v; want %v", err, braid.ErrShardNotFound)
	}
	if _, err := k.Source.Resolve(k.Context(), "orders", "shardId-000000000999", braid.Latest()); err == nil {
		k.Fatal("Resolve returned no error")
	}
}

// covers checks that the shards divide the range without gaps or overlaps.
func (k *kit) covers(whole braid.HashKeyRange, shards []consumer.ShardInfo) {
	k.Helper()
	shards = slices.Clone(shards)
	sortByRange(shards)
	if len(shards) == 0 {
		k.Fatal("there are no shards")
	}
	next, more := whole.Start, true
	for _, shard := range shards {
		if !more || shard.HashKeyRange.Start != next {
			k.Fatalf("%s begins at %s; want %s", shard.ID, shard.HashKeyRange.Start, next)
		}
		next, more = shard.HashKeyRange.End.Next()
	}
	if end := shards[len(shards)-1].HashKeyRange.End; end != whole.End {
		k.Fatalf("the shards end at %s; want %s", end, whole.End)
	}
}

// everything is the range of all hash keys.
var everything = braid.HashKeyRange{End: braid.MaxHashKey()}

func (k *kit) dividesHashKeys() {
	shards := k.create(3)
	k.covers(everything, shards)
	ids := make(map[braid.ShardID]bool)
	for _, shard := range shards {
		ids[shard.ID] = true
		if len(shard.Parents) > 0 || shard.ID == "" {
			k.Fatalf("a shard of a new stream is %+v", shard)
		}
	}
	if len(ids) != len(shards) {
		k.Fatalf("%d shards have only %d IDs", len(shards), len(ids))
	}
}

func (k *kit) keepsIncarnation() {
	shard := k.create(1)[0]
	was := k.stream().Incarnation
	k.put(shard, "a")
	k.Split(k.T, "orders", shard.ID)
	if is := k.stream().Incarnation; is != was {
		k.Fatalf("the Incarnation was %d and is %d", was, is)
	}
}

func (k *kit) splits() {
	shards := k.create(2)
	sortByRange(shards)
	split, other := shards[0], shards[1]
	k.Split(k.T, "orders", split.ID)
	children := k.children(split.ID)
	if len(children) != 2 || len(k.shards()) != 4 {
		k.Fatalf("after a split the shards are %+v", k.shards())
	}
	k.covers(split.HashKeyRange, children)
	for _, child := range children {
		if !slices.Equal(child.Parents, []braid.ShardID{split.ID}) {
			k.Fatalf("a child of %s is %+v", split.ID, child)
		}
	}
	is := k.shard(split.ID)
	if is.HashKeyRange != split.HashKeyRange || !is.Start.Equal(split.Start) {
		k.Fatalf("a shard that was split was %+v and is %+v", split, is)
	}
	if is := k.shard(other.ID); len(is.Parents) > 0 {
		k.Fatalf("a shard that was not split is %+v", is)
	}
}

func (k *kit) merges() {
	shards := k.create(2)
	sortByRange(shards)
	k.put(shards[0], "a")
	k.put(shards[1], "b")
	k.Merge(k.T, "orders", shards[0].ID, shards[1].ID)
	merged := k.children(shards[0].ID)
	if len(merged) != 1 || len(k.shards()) != 3 {
		k.Fatalf("after a merge the shards are %+v", k.shards())
	}
	parents := slices.Sorted(slices.Values(merged[0].Parents))
	if !slices.Equal(parents, slices.Sorted(slices.Values([]braid.ShardID{shards[0].ID, shards[1].ID}))) {
		k.Fatalf("the merged shard is %+v", merged[0])
	}
	k.covers(everything, merged)
	for _, shard := range shards { // the parents are read to their ends
		if page := k.read(shard.ID, shard.Start, 1000, 1<<20); !page.EndOfShard {
			k.Fatalf("%s was merged, but has no end", shard.ID)
		}
	}
	k.put(merged[0], "c")
	k.expect(merged[0].ID, merged[0].Start, "c")
}

func (k *kit) startsAtTheFirstRecord() {
	shard := k.create(1)[0]
	k.expect(shard.ID, shard.Start)
	k.put(shard, "a", "b")
	k.expect(shard.ID, shard.Start, "a", "b")
	k.expect(shard.ID, k.shard(shard.ID).Start, "a", "b")
	k.Split(k.T, "orders", shard.ID)
	for i, child := range k.children(shard.ID) {
		k.put(child, fmt.Sprint("child ", i))
		k.expect(child.ID, child.Start, fmt.Sprint("child ", i))
	}
	k.expect(shard.ID, shard.Start, "a", "b")
}

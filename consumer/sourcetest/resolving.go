package sourcetest

import (
	"slices"
	"time"

	"github.com/braidstream/braid"
)

// How positions become concrete.

func (k *kit) resolvesTrimHorizon() {
	shards := k.create(2)
	empty := k.resolve(shards[0].ID, braid.TrimHorizon())
	k.put(shards[1], "a", "b")
	first := k.resolve(shards[1].ID, braid.TrimHorizon())
	k.put(shards[0], filler...)
	k.put(shards[1], filler...)
	k.expect(shards[0].ID, empty, filler...)
	k.expect(shards[1].ID, first, append([]string{"a", "b"}, filler...)...)
}

func (k *kit) resolvesLatest() {
	shards := k.create(2)
	empty := k.resolve(shards[0].ID, braid.Latest())
	k.put(shards[1], "a", "b")
	next := k.resolve(shards[1].ID, braid.Latest())
	k.expect(shards[0].ID, empty)
	k.expect(shards[1].ID, next)
	k.put(shards[0], filler...)
	k.put(shards[1], filler...)
	k.expect(shards[0].ID, empty, filler...)
	k.expect(shards[1].ID, next, filler...)
	k.Split(k.T, "orders", shards[1].ID)
	k.expect(shards[1].ID, next, filler...)
}

// resolvesTimes uses only past times; the place of a future time is unspecified.
func (k *kit) resolvesTimes() {
	shard := k.create(1)[0]
	began := time.Now().Add(-time.Hour)
	empty := k.resolve(shard.ID, braid.AtTime(began))
	all := numbered("record", 0, 5)
	for _, data := range all {
		k.put(shard, data)
		time.Sleep(2 * time.Millisecond) // so that they arrive at different times, even if times are coarse
	}
	records := k.expect(shard.ID, empty, all...)
	places := []braid.Position{k.resolve(shard.ID, braid.AtTime(began))}
	want := [][]string{all}
	for i, r := range records {
		if i > 0 && !r.ArrivalTime.After(records[i-1].ArrivalTime) {
			continue // its place is that of the record before
		}
		places = append(places, k.resolve(shard.ID, braid.AtTime(r.ArrivalTime)))
		want = append(want, all[i:])
	}
	k.put(shard, filler...)
	for i, place := range places {
		k.expect(shard.ID, place, slices.Concat(want[i], filler)...)
	}
}

func (k *kit) resolvesEnds() {
	shard := k.create(1)[0]
	k.put(shard, "a")
	time.Sleep(k.Granularity)
	k.put(shard, "b")
	records, _ := k.rest(shard.ID, shard.Start)
	time.Sleep(5 * time.Millisecond)
	after := records[1].ArrivalTime.Add(time.Millisecond)
	k.Split(k.T, "orders", shard.ID)
	for _, child := range k.children(shard.ID) {
		k.put(child, "c")
	}
	for _, from := range []braid.Position{braid.Latest(), braid.AtTime(after)} {
		if at := k.tryResolve(shard.ID, from); !at.ShardEnd {
			k.Fatalf("Resolve(%s) in a closed shard is %s; want its end", from, at)
		}
	}
	k.expect(shard.ID, k.resolve(shard.ID, braid.TrimHorizon()), "a", "b")
	k.expect(shard.ID, k.resolve(shard.ID, braid.AtTime(records[0].ArrivalTime.Add(-time.Hour))), "a", "b")
	if !records[1].ArrivalTime.Equal(records[0].ArrivalTime) {
		k.expect(shard.ID, k.resolve(shard.ID, braid.AtTime(records[1].ArrivalTime)), "b")
	}
}

// survivesText is for stores of leases, which store positions as text.
func (k *kit) survivesText() {
	shard := k.create(1)[0]
	again := func(from braid.Position) braid.Position {
		parsed, err := braid.ParsePosition(from.String())
		if err != nil {
			k.Fatalf("the position %q: %v", from, err)
		}
		return parsed
	}
	start := again(shard.Start)
	empty := again(k.resolve(shard.ID, braid.Latest()))
	k.put(shard, "a", "b")
	k.expect(shard.ID, start, "a", "b")
	k.expect(shard.ID, empty, "a", "b")
	k.expect(shard.ID, again(k.resolve(shard.ID, braid.TrimHorizon())), "a", "b")
	latest := again(k.resolve(shard.ID, braid.Latest()))
	next := again(k.read(shard.ID, shard.Start, 1, large).Next)
	k.put(shard, "c")
	k.expect(shard.ID, latest, "c")
	k.expect(shard.ID, next, "b", "c")
}

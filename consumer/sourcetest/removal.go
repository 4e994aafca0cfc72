package sourcetest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/braidstream/braid"
)

// What readers see of trimmed records and of deleted streams.

func (k *kit) needTrim() {
	k.Helper()
	if k.Trim == nil {
		k.Skip("records cannot be trimmed")
	}
}

// lose reads from a place whose records were trimmed. It returns the gap and the records
// after it.
func (k *kit) lose(shard braid.ShardID, from braid.Position) (gap *braid.TrimmedError, left []string) {
	k.Helper()
	r := k.open(shard, from)
	defer r.inner.Close()
	page := r.page(10, large)
	if gap = page.Gap; gap == nil {
		k.Fatalf("from %s on the records are %q; want a Gap before them", from, dataOf(page.Records))
	}
	if gap.Shard != shard {
		k.Fatalf("the gap in %s names the shard %q", shard, gap.Shard)
	}
	if gap.Suspected && !k.SuspectsTrims {
		k.Fatalf("the gap %+v is only suspected", gap)
	}
	left = dataOf(page.Records)
	for !page.AtTip || len(page.Records) > 0 {
		page = r.page(10, large)
		if page.Gap != nil {
			k.Fatalf("after the gap %+v there is another one, %+v", gap, page.Gap)
		}
		left = append(left, dataOf(page.Records)...)
	}
	return gap, left
}

func (k *kit) tellsOfTrims() {
	k.needTrim()
	shard := k.create(1)[0]
	all := numbered("lost", 0, 5)
	k.put(shard, all...)
	lost := k.expect(shard.ID, shard.Start, all...)
	second := k.read(shard.ID, shard.Start, 2, large).Next
	k.Trim(k.T, "orders")
	check := func(from braid.Position, first int, want ...string) {
		k.Helper()
		gap, left := k.lose(shard.ID, from)
		if !slices.Equal(left, want) {
			k.Fatalf("after the gap the records are %q; want %q", left, want)
		}
		last := lost[len(lost)-1].SequenceNumber
		switch {
		case gap.FirstLost.Compare(lost[first].SequenceNumber) > 0:
			k.Fatalf("from %s on the first lost record is %s; FirstLost is %s", from, lost[first].SequenceNumber, gap.FirstLost)
		case gap.Suspected:
		case first > 0 && gap.FirstLost.Compare(lost[first-1].SequenceNumber) <= 0:
			k.Fatalf("from %s on FirstLost is %s, but the record %s was not lost", from, gap.FirstLost, lost[first-1].SequenceNumber)
		case gap.LastLost.Compare(last) < 0:
			k.Fatalf("the last lost record is %s; LastLost is %s", last, gap.LastLost)
		case gap.FirstAvailable.Compare(gap.LastLost) <= 0:
			k.Fatalf("LastLost is %s and FirstAvailable is %s", gap.LastLost, gap.FirstAvailable)
		default:
			k.expect(shard.ID, braid.AtSequence(gap.FirstAvailable), want...)
		}
	}
	positions := func(left ...string) {
		k.Helper()
		check(shard.Start, 0, left...)
		check(second, 2, left...)
		for i, r := range lost {
			check(braid.AtSequence(r.SequenceNumber), i, left...)
			if i+1 < len(lost) {
				check(braid.AfterSequence(r.SequenceNumber), i+1, left...)
			}
		}
	}
	positions()
	k.put(shard, "a", "b")
	positions("a", "b")
}

func (k *kit) losesNoMoreThanWasTrimmed() {
	k.needTrim()
	shards := k.create(2)
	k.put(shards[0], "lost", "lost, too")
	page := k.read(shards[0].ID, shards[0].Start, 10, large)
	k.Trim(k.T, "orders")
	last := braid.AfterSequence(page.Records[1].SequenceNumber)
	k.expect(shards[0].ID, page.Next)
	k.expect(shards[0].ID, last)
	k.expect(shards[1].ID, shards[1].Start) // nothing is lost in an empty shard
	horizon := k.resolve(shards[0].ID, braid.TrimHorizon())
	latest := k.resolve(shards[0].ID, braid.Latest())
	k.put(shards[0], "a")
	k.put(shards[1], "b")
	for _, from := range []braid.Position{page.Next, last, horizon, latest} {
		k.expect(shards[0].ID, from, "a")
	}
	k.expect(shards[0].ID, k.resolve(shards[0].ID, braid.TrimHorizon()), "a")
	k.expect(shards[1].ID, shards[1].Start, "b")
}

func (k *kit) resolvedPlacesAreTrimmed() {
	k.needTrim()
	shards := k.create(2)
	k.put(shards[1], "a")
	first := k.read(shards[1].ID, shards[1].Start, 1, large).Records[0]
	var places []braid.Position
	for _, from := range []braid.Position{braid.TrimHorizon(), braid.AtTime(first.ArrivalTime)} {
		places = append(places, k.resolve(shards[1].ID, from))
	}
	places = append(places, k.resolve(shards[1].ID, braid.Latest()))
	empty := k.resolve(shards[0].ID, braid.TrimHorizon())
	k.put(shards[0], "b")
	k.put(shards[1], "c")
	k.Trim(k.T, "orders")
	k.lose(shards[0].ID, empty)
	for _, place := range places {
		k.lose(shards[1].ID, place)
	}
}

func (k *kit) waitsNotForTrimmed() {
	k.needTrim()
	shard := k.create(1)[0]
	k.put(shard, "a", "b")
	k.Trim(k.T, "orders")
	if page := k.brings(k.wait(k.Context(), shard.ID, shard.Start)); page.Gap == nil {
		k.Fatalf("at a trimmed place the page is %+v; want a Gap", page)
	}
}

func (k *kit) needDelete() {
	k.Helper()
	if k.Delete == nil {
		k.Skip("streams cannot be deleted")
	}
}

func (k *kit) forgetsDeletedStreams() {
	k.needDelete()
	shard := k.create(1)[0]
	k.put(shard, "a")
	page := k.read(shard.ID, shard.Start, 10, large)
	w := k.wait(k.Context(), shard.ID, page.Next)
	k.waits(w)
	k.Delete(k.T, "orders")
	if _, err := k.returned(w); !errors.Is(err, braid.ErrStreamNotFound) {
		k.Fatalf("Next: %v; want %v", err, braid.ErrStreamNotFound)
	}
	if _, err := k.Source.Stream(k.Context(), "orders"); !errors.Is(err, braid.ErrStreamNotFound) {
		k.Fatalf("Stream: %v; want %v", err, braid.ErrStreamNotFound)
	}
	for _, from := range []braid.Position{shard.Start, page.Next} {
		if _, err := k.tryRead(shard.ID, from, 10, large); !errors.Is(err, braid.ErrStreamNotFound) {
			k.Fatalf("Next, from %s on: %v; want %v", from, err, braid.ErrStreamNotFound)
		}
	}
	if _, err := k.Source.Resolve(k.Context(), "orders", shard.ID, braid.Latest()); err == nil {
		k.Fatal("Resolve returned no error")
	}
}

func (k *kit) tellsIncarnationsApart() {
	k.needDelete()
	shard := k.create(1)[0]
	seen := map[uint64]bool{k.stream().Incarnation: true}
	k.put(shard, "of the first stream")
	for i := range 3 {
		k.Delete(k.T, "orders")
		shard := k.create(1)[0]
		if is := k.stream().Incarnation; seen[is] {
			k.Fatalf("an earlier stream had the Incarnation %d", is)
		}
		seen[k.stream().Incarnation] = true
		k.put(shard, fmt.Sprint("of stream ", i))
		k.expect(shard.ID, shard.Start, fmt.Sprint("of stream ", i))
	}
}

// Package sourcetest has the tests that a [consumer.Source] must pass.
package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// Fixture is a source and what the tests need to make the streams that it shows. A
// function ends the test if it cannot do what it is for; and when it returns, the
// source shows what it has done.
type Fixture struct {
	Source consumer.Source

	// CreateStream creates a stream with so many shards.
	CreateStream func(t *testing.T, name string, shards int)

	// Put puts a record into the stream, into the shard in whose range of hash keys
	// braid.HashKeyOf(partitionKey) lies. The data has up to 10,000 bytes.
	Put func(t *testing.T, stream, partitionKey string, data []byte)

	// Split splits a shard in two, and Merge makes one of two adjacent ones.
	Split func(t *testing.T, stream string, shard braid.ShardID)
	Merge func(t *testing.T, stream string, shard, adjacent braid.ShardID)

	// Trim removes all records that the stream has now, and Delete the stream with
	// all that it has. nil if that is not possible: then what has to do with it is
	// not tested.
	Trim   func(t *testing.T, stream string)
	Delete func(t *testing.T, stream string)
}

// Run checks every promise of [consumer.Source], one in each subtest. newFixture
// returns a source without the streams "orders" and "refunds"; what it opens, it
// closes by t.Cleanup.
func Run(t *testing.T, newFixture func(t *testing.T) Fixture) {
	t.Helper()
	for _, test := range []struct {
		sentence string
		run      func(k *kit)
	}{
		{"a stream that is not there is not found", (*kit).doesNotFind},
		{"a shard that is not there is not found", (*kit).doesNotFindShards},
		{"the shards of a new stream divide the hash keys", (*kit).dividesHashKeys},
		{"a stream keeps its Incarnation", (*kit).keepsIncarnation},
		{"the children of a split shard name it as their parent", (*kit).splits},
		{"a merged shard names both parents", (*kit).merges},
		{"a shard starts at its first record", (*kit).startsAtTheFirstRecord},
		{"records come as they were put and in order", (*kit).keepsRecords},
		{"a record lies in the shard of its partition key", (*kit).keepsShardsApart},
		{"Next goes on without a loss or a duplicate", (*kit).pages},
		{"a page has no more than maxRecords", (*kit).boundsRecords},
		{"a page has about maxBytes", (*kit).boundsBytes},
		{"a record larger than maxBytes comes all the same", (*kit).givesLargeRecords},
		{"the numbers of records are positions", (*kit).readsFromNumbers},
		{"a page says how far it is behind", (*kit).tellsHowFarBehind},
		{"at the tip there is an empty page and no waiting", (*kit).doesNotWaitAtTheTip},
		{"the end of a closed shard comes after all its records", (*kit).endsShards},
		{"an empty shard that is closed ends at once", (*kit).endsEmptyShards},
		{"TRIM_HORIZON becomes the place of the first record", (*kit).resolvesTrimHorizon},
		{"LATEST becomes the place of the next record", (*kit).resolvesLatest},
		{"AT_TIMESTAMP becomes the place of the first record since", (*kit).resolvesTimes},
		{"a place after all records of a closed shard is its end", (*kit).resolvesEnds},
		{"a place survives its text", (*kit).survivesText},
		{"Wait returns for a record that is there", (*kit).waitsNotForWhatIsThere},
		{"Wait returns when a record comes", (*kit).waitsForRecords},
		{"Wait returns when the shard ends", (*kit).waitsForTheEnd},
		{"Wait returns the cause of its context", (*kit).waitsForTheContext},
		{"many can wait and read at once", (*kit).servesMany},
		{"Changed tells of what streams and shards there are", (*kit).tellsOfChanges},
		{"reading among trimmed records says what was lost", (*kit).tellsOfTrims},
		{"nothing is lost after the last trimmed record", (*kit).losesNoMoreThanWasTrimmed},
		{"a resolved place knows of records that were lost since", (*kit).resolvedPlacesAreTrimmed},
		{"Wait returns for a place that was trimmed", (*kit).waitsNotForTrimmed},
		{"a deleted stream is not found", (*kit).forgetsDeletedStreams},
		{"a stream of the same name has another Incarnation", (*kit).tellsIncarnationsApart},
	} {
		t.Run(test.sentence, func(t *testing.T) {
			test.run(&kit{T: t, Fixture: newFixture(t)})
		})
	}
}

// kit is a subtest with its fixture. Its methods end the subtest when the source
// does not do what they say.
type kit struct {
	*testing.T
	Fixture
	count int // of records that were put
}

const (
	patience = 30 * time.Second      // for what must happen
	moment   = 20 * time.Millisecond // in which nothing may happen

	large = 1 << 20 // more bytes than a test puts
)

// create creates the stream "orders", and returns its shards.
func (k *kit) create(shards int) []consumer.Shard {
	k.Helper()
	k.CreateStream(k.T, "orders", shards)
	list := k.shards()
	if len(list) != shards {
		k.Fatalf("the stream has %d shards; want %d", len(list), shards)
	}
	return list
}

// stream returns what the source knows of the stream "orders".
func (k *kit) stream() consumer.Stream {
	k.Helper()
	stream, err := k.Source.Stream(k.Context(), "orders")
	if err != nil {
		k.Fatalf("Stream: %v", err)
	}
	if stream.Incarnation == 0 {
		k.Fatal("the Incarnation is 0")
	}
	return stream
}

func (k *kit) shards() []consumer.Shard {
	k.Helper()
	return k.stream().Shards
}

func (k *kit) shard(id braid.ShardID) consumer.Shard {
	k.Helper()
	for _, shard := range k.shards() {
		if shard.ID == id {
			return shard
		}
	}
	k.Fatalf("there is no shard %s", id)
	return consumer.Shard{}
}

// children returns the shards that have the given one as a parent, by range.
func (k *kit) children(parent braid.ShardID) (children []consumer.Shard) {
	k.Helper()
	for _, shard := range k.shards() {
		if slices.Contains(shard.Parents, parent) {
			children = append(children, shard)
		}
	}
	sortByRange(children)
	return children
}

func sortByRange(shards []consumer.Shard) {
	slices.SortFunc(shards, func(a, b consumer.Shard) int { return a.HashKeyRange.Start.Compare(b.HashKeyRange.Start) })
}

// put puts a record with the given data into a shard, under a key of its own.
func (k *kit) put(shard consumer.Shard, data ...string) {
	k.Helper()
	for _, d := range data {
		for {
			k.count++
			key := fmt.Sprint("key ", k.count)
			if shard.HashKeyRange.Contains(braid.HashKeyOf(key)) {
				k.Put(k.T, "orders", key, []byte(d))
				break
			}
		}
	}
}

// read reads a page, without waiting.
func (k *kit) read(shard braid.ShardID, from braid.Position, maxRecords, maxBytes int) consumer.Page {
	k.Helper()
	page, err := k.tryRead(shard, from, maxRecords, maxBytes)
	if err != nil {
		k.Fatalf("Read(%s, %s): %v", shard, from, err)
	}
	return page
}

// tryRead is read that may fail. It checks what is true of every page.
func (k *kit) tryRead(shard braid.ShardID, from braid.Position, maxRecords, maxBytes int) (consumer.Page, error) {
	k.Helper()
	ctx, cancel := context.WithTimeout(k.Context(), patience)
	defer cancel()
	page, err := k.Source.Read(ctx, "orders", shard, from, maxRecords, maxBytes)
	if err != nil {
		return page, err
	}
	if len(page.Records) > maxRecords {
		k.Fatalf("a page has %d records; at most %d were asked for", len(page.Records), maxRecords)
	}
	size := 0
	for _, r := range page.Records {
		size += len(r.PartitionKey) + len(r.Data)
	}
	if page.Bytes != size {
		k.Fatalf("a page says that it has %d bytes; it has %d", page.Bytes, size)
	}
	if page.BehindRecords < 0 || page.BehindBytes < 0 || page.BehindLatest < 0 {
		k.Fatalf("a page is behind by %d records, %d bytes, %v", page.BehindRecords, page.BehindBytes, page.BehindLatest)
	}
	if page.EndOfShard && !page.AtTip {
		k.Fatal("a page is at the end of the shard and not at its tip")
	}
	if len(page.Records) == 0 && !page.AtTip {
		k.Fatal("a page without a record is not at the tip")
	}
	return page, nil
}

// rest reads all records from a position on, in small pages, and returns them with
// the last page.
func (k *kit) rest(shard braid.ShardID, from braid.Position) (records []braid.Record, last consumer.Page) {
	k.Helper()
	for {
		last = k.read(shard, from, 3, large)
		records = append(records, last.Records...)
		from = last.Next
		if last.EndOfShard || len(last.Records) == 0 {
			return records, last
		}
	}
}

// expect checks which data comes from a position on.
func (k *kit) expect(shard braid.ShardID, from braid.Position, data ...string) []braid.Record {
	k.Helper()
	records, _ := k.rest(shard, from)
	if got := dataOf(records); !slices.Equal(got, data) {
		k.Fatalf("from %s on there is %q; want %q", from, got, data)
	}
	return records
}

func dataOf(records []braid.Record) (data []string) {
	for _, r := range records {
		data = append(data, string(r.Data))
	}
	return data
}

// resolve makes a position concrete that is not the end of the shard.
func (k *kit) resolve(shard braid.ShardID, from braid.Position) braid.Position {
	k.Helper()
	at := k.tryResolve(shard, from)
	if at.ShardEnd {
		k.Fatalf("Resolve(%s, %s) is the end of the shard", shard, from)
	}
	return at.Start
}

func (k *kit) tryResolve(shard braid.ShardID, from braid.Position) consumer.Checkpoint {
	k.Helper()
	at, err := k.Source.Resolve(k.Context(), "orders", shard, from)
	if err != nil {
		k.Fatalf("Resolve(%s, %s): %v", shard, from, err)
	}
	if !at.SequenceNumber.IsZero() || at.SubSequenceNumber != 0 || at.Partial {
		k.Fatalf("Resolve(%s, %s) = %s, as if a record was processed", shard, from, at)
	}
	return at
}

// waiter is a call of Wait that is under way.
type waiter chan error

func (k *kit) wait(ctx context.Context, shard braid.ShardID, from braid.Position) waiter {
	w := make(waiter, 1)
	go func() { w <- k.Source.Wait(ctx, "orders", shard, from) }()
	return w
}

// returned returns what Wait has returned.
func (k *kit) returned(w waiter) error {
	k.Helper()
	select {
	case err := <-w:
		return err
	case <-time.After(patience):
		k.Fatal("Wait has not returned")
		return nil
	}
}

// waits checks that Wait has not returned.
func (k *kit) waits(w waiter) {
	k.Helper()
	select {
	case err := <-w:
		k.Fatalf("Wait has returned %v, and there is nothing", err)
	case <-time.After(moment):
	}
}

func numbered(what string, from, to int) (data []string) {
	for i := from; i < to; i++ {
		data = append(data, fmt.Sprintf("%s %d", what, i))
	}
	return data
}

func (k *kit) doesNotFind() {
	if _, err := k.Source.Stream(k.Context(), "orders"); !errors.Is(err, braid.ErrStreamNotFound) {
		k.Fatalf("Stream: %v; want %v", err, braid.ErrStreamNotFound)
	}
	if _, err := k.tryRead("shardId-000000000000", braid.AfterSequence(braid.SequenceNumber{}), 1, large); !errors.Is(err, braid.ErrStreamNotFound) {
		k.Fatalf("Read: %v; want %v", err, braid.ErrStreamNotFound)
	}
	k.create(1)
	if _, err := k.Source.Stream(k.Context(), "refunds"); !errors.Is(err, braid.ErrStreamNotFound) {
		k.Fatalf("Stream: %v; want %v", err, braid.ErrStreamNotFound)
	}
}

func (k *kit) doesNotFindShards() {
	start := k.create(1)[0].Start
	if _, err := k.tryRead("shardId-000000000999", start, 1, large); !errors.Is(err, braid.ErrShardNotFound) {
		k.Fatalf("Read: %v; want %v", err, braid.ErrShardNotFound)
	}
	if _, err := k.Source.Resolve(k.Context(), "orders", "shardId-000000000999", braid.Latest()); err == nil {
		k.Fatal("Resolve has no error")
	}
}

// covers checks that the shards divide the range among them.
func (k *kit) covers(whole braid.HashKeyRange, shards []consumer.Shard) {
	k.Helper()
	shards = slices.Clone(shards)
	sortByRange(shards)
	next := integer(whole.Start)
	for _, shard := range shards {
		if integer(shard.HashKeyRange.Start).Cmp(next) != 0 {
			k.Fatalf("%s begins at %s; want %s", shard.ID, shard.HashKeyRange.Start, next)
		}
		next = integer(shard.HashKeyRange.End)
		next.Add(next, big.NewInt(1))
	}
	end := integer(whole.End)
	if end.Add(end, big.NewInt(1)).Cmp(next) != 0 {
		k.Fatalf("the shards end before %s; want %s", next, end)
	}
}

func integer(key braid.HashKey) *big.Int {
	n, ok := new(big.Int).SetString(key.String(), 10)
	if !ok {
		panic("a hash key is not a number: " + key.String())
	}
	return n
}

// everything is all hash keys.
var everything = braid.HashKeyRange{End: braid.MaxHashKey()}

func (k *kit) dividesHashKeys() {
	shards := k.create(3)
	k.covers(everything, shards)
	ids := make(map[braid.ShardID]bool)
	for _, shard := range shards {
		ids[shard.ID] = true
		if len(shard.Parents) > 0 || shard.Closed || shard.ID == "" {
			k.Fatalf("a shard of a new stream is %+v", shard)
		}
	}
	if len(ids) != len(shards) {
		k.Fatalf("%d shards have %d IDs", len(shards), len(ids))
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
		if child.Closed || !slices.Equal(child.Parents, []braid.ShardID{split.ID}) {
			k.Fatalf("a child of %s is %+v", split.ID, child)
		}
	}
	is := k.shard(split.ID)
	if !is.Closed || is.HashKeyRange != split.HashKeyRange || is.Start.String() != split.Start.String() {
		k.Fatalf("a shard that was split was %+v and is %+v", split, is)
	}
	if is := k.shard(other.ID); is.Closed || len(is.Parents) > 0 {
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
	if !slices.Equal(parents, slices.Sorted(slices.Values([]braid.ShardID{shards[0].ID, shards[1].ID}))) || merged[0].Closed {
		k.Fatalf("the merged shard is %+v", merged[0])
	}
	k.covers(everything, merged)
	for _, shard := range shards {
		if !k.shard(shard.ID).Closed {
			k.Fatalf("%s was merged, and is not closed", shard.ID)
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

func (k *kit) keepsRecords() {
	shard := k.create(1)[0]
	type kv struct{ key, data string }
	var put []kv
	for i := range 20 {
		r := kv{fmt.Sprint("clé ", i, " 世界"), strings.Repeat("\x00\xff data ", i)} // the first is empty
		k.Put(k.T, "orders", r.key, []byte(r.data))
		put = append(put, r)
	}
	records, _ := k.rest(shard.ID, shard.Start)
	if len(records) != len(put) {
		k.Fatalf("%d records were put, and %d have come", len(put), len(records))
	}
	for i, r := range records {
		switch {
		case r.PartitionKey != put[i].key || string(r.Data) != put[i].data:
			k.Fatalf("record %d is %q, %q; want %q", i, r.PartitionKey, r.Data, put[i])
		case r.ShardID != shard.ID:
			k.Fatalf("record %d is of %s; want %s", i, r.ShardID, shard.ID)
		case r.SequenceNumber.IsZero() || r.ArrivalTime.IsZero():
			k.Fatalf("record %d is %+v", i, r)
		case i > 0 && r.SequenceNumber.Compare(records[i-1].SequenceNumber) <= 0:
			k.Fatalf("record %d has the number %s after %s", i, r.SequenceNumber, records[i-1].SequenceNumber)
		case i > 0 && r.ArrivalTime.Before(records[i-1].ArrivalTime):
			k.Fatalf("record %d arrived at %s, before the one that comes first", i, r.ArrivalTime)
		}
	}
}

func (k *kit) keepsShardsApart() {
	shards := k.create(3)
	for i := range 30 {
		k.put(shards[i%3], fmt.Sprint(i%3, " ", i/3))
	}
	for i, shard := range shards {
		k.expect(shard.ID, shard.Start, numbered(fmt.Sprint(i), 0, 10)...)
	}
}

func (k *kit) pages() {
	shard := k.create(1)[0]
	all := numbered("record", 0, 23)
	k.put(shard, all...)
	for _, bound := range []struct{ records, bytes int }{{1, large}, {2, large}, {5, large}, {23, large}, {1000, large}, {1000, 1}, {1000, 40}, {3, 50}} {
		var got []string
		from := shard.Start
		for len(got) < len(all) {
			page := k.read(shard.ID, from, bound.records, bound.bytes)
			again := k.read(shard.ID, from, bound.records, bound.bytes)
			if len(page.Records) == 0 {
				k.Fatalf("there is no record after %d of %d", len(got), len(all))
			}
			if !slices.Equal(dataOf(page.Records[:1]), dataOf(again.Records[:1])) {
				k.Fatalf("the same position gives %q and then %q", page.Records[0].Data, again.Records[0].Data)
			}
			got = append(got, dataOf(page.Records)...)
			from = page.Next
			if page.EndOfShard || page.AtTip != (len(got) == len(all)) {
				k.Fatalf("after %d of %d records AtTip is %v and EndOfShard %v", len(got), len(all), page.AtTip, page.EndOfShard)
			}
		}
		if !slices.Equal(got, all) {
			k.Fatalf("in pages of %+v there is %q; want %q", bound, got, all)
		}
		k.expect(shard.ID, from)
	}
	page := k.read(shard.ID, shard.Start, 1000, large)
	more := numbered("more", 0, 7)
	k.put(shard, more...)
	k.expect(shard.ID, page.Next, more...)
	k.expect(shard.ID, page.Next, more...) // a position can be used again
}

func (k *kit) boundsRecords() {
	shard := k.create(1)[0]
	k.put(shard, numbered("record", 0, 12)...)
	for limit := 1; limit < 15; limit++ {
		if n := len(k.read(shard.ID, shard.Start, limit, large).Records); n < 1 || n > limit {
			k.Fatalf("a page of up to %d records has %d", limit, n)
		}
	}
}

// boundsBytes leaves it open whether the record that goes beyond the bound is in the
// page or in the next one.
func (k *kit) boundsBytes() {
	shard := k.create(1)[0]
	for range 12 {
		k.put(shard, strings.Repeat("x", 1000))
	}
	const record = 1000 + 16 // with its key
	for _, limit := range []int{1000, 2500, 5000, 9999} {
		page := k.read(shard.ID, shard.Start, 1000, limit)
		if page.Bytes > limit+record || len(page.Records) == 0 {
			k.Fatalf("a page of about %d bytes has %d, in %d records", limit, page.Bytes, len(page.Records))
		}
	}
}

func (k *kit) givesLargeRecords() {
	shard := k.create(1)[0]
	data := string(bytes.Repeat([]byte("0123456789"), 1000))
	k.put(shard, data, "small", data)
	var got []string
	from := shard.Start
	for range 3 {
		page := k.read(shard.ID, from, 1000, 100)
		if len(page.Records) == 0 {
			k.Fatal("a page has no record because it is larger than maxBytes")
		}
		got = append(got, dataOf(page.Records)...)
		from = page.Next
		if page.AtTip {
			break
		}
	}
	if !slices.Equal(got, []string{data, "small", data}) {
		k.Fatalf("%d records have come; want 3", len(got))
	}
}

// readsFromNumbers checks the positions that checkpoints are made of.
func (k *kit) readsFromNumbers() {
	shard := k.create(1)[0]
	all := numbered("record", 0, 8)
	k.put(shard, all...)
	records := k.expect(shard.ID, shard.Start, all...)
	for i, r := range records {
		k.expect(shard.ID, braid.AtSequence(r.SequenceNumber), all[i:]...)
		k.expect(shard.ID, braid.AfterSequence(r.SequenceNumber), all[i+1:]...)
	}
	k.put(shard, "more")
	k.expect(shard.ID, braid.AfterSequence(records[7].SequenceNumber), "more")
}

func (k *kit) tellsHowFarBehind() {
	shard := k.create(1)[0]
	var sizes []int64
	all := numbered("record", 0, 10)
	k.put(shard, all...)
	for _, r := range k.expect(shard.ID, shard.Start, all...) {
		sizes = append(sizes, int64(len(r.PartitionKey)+len(r.Data)))
	}
	from := shard.Start
	for i := range all {
		page := k.read(shard.ID, from, 1, large)
		from = page.Next
		left := int64(len(all) - i - 1)
		var leftBytes int64
		for _, size := range sizes[i+1:] {
			leftBytes += size
		}
		if n := page.BehindRecords; n != 0 && n != left {
			k.Fatalf("after %d of %d records a page is behind by %d", i+1, len(all), n)
		}
		if n := page.BehindBytes; n != 0 && n != leftBytes {
			k.Fatalf("after %d of %d records a page is behind by %d bytes; want %d", i+1, len(all), n, leftBytes)
		}
		if left == 0 && page.BehindLatest != 0 {
			k.Fatalf("a page at the tip is behind by %v", page.BehindLatest)
		}
		if page.AtTip != (left == 0) {
			k.Fatalf("after %d of %d records AtTip is %v", i+1, len(all), page.AtTip)
		}
	}
}

func (k *kit) doesNotWaitAtTheTip() {
	shard := k.create(1)[0]
	from := shard.Start
	for i := range 3 {
		for range 3 {
			page := k.read(shard.ID, from, 100, large)
			if len(page.Records) > 0 || !page.AtTip || page.EndOfShard || page.BehindRecords != 0 || page.BehindBytes != 0 || page.BehindLatest != 0 {
				k.Fatalf("at the tip of an open shard there is %+v", page)
			}
			from = page.Next // also that of an empty page is a place
		}
		k.put(shard, fmt.Sprint(i))
		page := k.read(shard.ID, from, 100, large)
		if got := dataOf(page.Records); !slices.Equal(got, []string{fmt.Sprint(i)}) {
			k.Fatalf("at the tip there is %q; want record %d", got, i)
		}
		from = page.Next
	}
}

// endsShards leaves it open whether the end comes with the last record or after it.
func (k *kit) endsShards() {
	shard := k.create(1)[0]
	all := numbered("record", 0, 7)
	k.put(shard, all...)
	tip := k.read(shard.ID, shard.Start, 100, large)
	k.Split(k.T, "orders", shard.ID)
	for _, child := range k.children(shard.ID) {
		k.put(child, "of the child")
	}
	for _, limit := range []int{1, 3, 7, 100} {
		var got []string
		from := shard.Start
		for range 20 {
			page := k.read(shard.ID, from, limit, large)
			got = append(got, dataOf(page.Records)...)
			from = page.Next
			if page.EndOfShard {
				break
			}
			if len(page.Records) == 0 {
				k.Fatal("a closed shard has an empty page that is not its end")
			}
		}
		if !slices.Equal(got, all) {
			k.Fatalf("before the end of the shard there is %q; want %q", got, all)
		}
		for range 2 { // there is an end also for who has read all before
			page := k.read(shard.ID, from, limit, large)
			if len(page.Records) > 0 || !page.EndOfShard {
				k.Fatalf("after the end of the shard there is %+v", page)
			}
			from = page.Next
		}
	}
	for _, from := range []braid.Position{tip.Next, braid.AfterSequence(tip.Records[6].SequenceNumber)} {
		if page := k.read(shard.ID, from, 10, large); len(page.Records) > 0 || !page.EndOfShard {
			k.Fatalf("at %s, which was the tip when the shard was closed, there is %+v", from, page)
		}
	}
}

func (k *kit) endsEmptyShards() {
	shard := k.create(1)[0]
	k.Split(k.T, "orders", shard.ID)
	page, err := k.tryRead(shard.ID, shard.Start, 10, large)
	switch {
	case errors.Is(err, braid.ErrShardNotFound): // it may expire at once
	case err != nil:
		k.Fatalf("Read: %v", err)
	case len(page.Records) > 0 || !page.EndOfShard:
		k.Fatalf("in an empty shard that is closed there is %+v", page)
	}
}

// filler are records that come later: more than a page.
var filler = numbered("later", 0, 200)

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

// resolvesTimes takes times that have come: what a place in the future is, is not
// said.
func (k *kit) resolvesTimes() {
	shard := k.create(1)[0]
	began := time.Now().Add(-time.Hour)
	empty := k.resolve(shard.ID, braid.AtTime(began))
	all := numbered("record", 0, 5)
	for _, data := range all {
		k.put(shard, data)
		time.Sleep(2 * time.Millisecond) // so that they arrive at different times, also where those are coarse
	}
	records := k.expect(shard.ID, empty, all...)
	places := []braid.Position{k.resolve(shard.ID, braid.AtTime(began))}
	want := [][]string{all}
	for i, r := range records {
		if i > 0 && !r.ArrivalTime.After(records[i-1].ArrivalTime) {
			continue // the place is that of the record before
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
	k.put(shard, "a", "b")
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

// survivesText is about stores of leases, which keep positions as texts.
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

func (k *kit) waitsNotForWhatIsThere() {
	shard := k.create(1)[0]
	k.put(shard, "a", "b")
	first := k.read(shard.ID, shard.Start, 1, large)
	for _, from := range []braid.Position{shard.Start, first.Next, braid.AtSequence(first.Records[0].SequenceNumber), braid.AfterSequence(first.Records[0].SequenceNumber)} {
		if err := k.returned(k.wait(k.Context(), shard.ID, from)); err != nil {
			k.Fatalf("Wait(%s): %v", from, err)
		}
	}
}

func (k *kit) waitsForRecords() {
	shards := k.create(2)
	from := shards[0].Start
	for i := range 5 {
		w := k.wait(k.Context(), shards[0].ID, from)
		k.waits(w)
		k.put(shards[1], "elsewhere")
		k.waits(w)
		k.put(shards[0], fmt.Sprint(i))
		if err := k.returned(w); err != nil {
			k.Fatalf("Wait: %v", err)
		}
		page := k.read(shards[0].ID, from, 10, large)
		if got := dataOf(page.Records); !slices.Equal(got, []string{fmt.Sprint(i)}) {
			k.Fatalf("after Wait there is %q; want record %d", got, i)
		}
		from = page.Next
	}
}

func (k *kit) waitsForTheEnd() {
	shard := k.create(1)[0]
	k.put(shard, "a")
	page := k.read(shard.ID, shard.Start, 10, large)
	w := k.wait(k.Context(), shard.ID, page.Next)
	k.waits(w)
	k.Split(k.T, "orders", shard.ID)
	if err := k.returned(w); err != nil {
		k.Fatalf("Wait: %v", err)
	}
	if err := k.returned(k.wait(k.Context(), shard.ID, page.Next)); err != nil {
		k.Fatalf("Wait, after the shard was closed: %v", err)
	}
}

func (k *kit) waitsForTheContext() {
	shard := k.create(1)[0]
	cause := errors.New("somebody asks for the shard")
	ctx, cancel := context.WithCancelCause(k.Context())
	defer cancel(nil)
	w := k.wait(ctx, shard.ID, shard.Start)
	k.waits(w)
	cancel(cause)
	if err := k.returned(w); !errors.Is(err, cause) {
		k.Fatalf("Wait: %v; want the cause, %v", err, cause)
	}
	if err := k.returned(k.wait(ctx, shard.ID, shard.Start)); !errors.Is(err, cause) {
		k.Fatalf("Wait, under a context that has ended: %v; want the cause, %v", err, cause)
	}
}

// servesMany has readers follow a shard while it is written to and closed.
func (k *kit) servesMany() {
	shard := k.create(1)[0]
	ctx, cancel := context.WithTimeout(k.Context(), patience)
	defer cancel()
	const readers = 8
	all := numbered("record", 0, 100)
	results := make([][]string, readers)
	errs := make([]error, readers)
	var group sync.WaitGroup
	for i := range readers {
		group.Go(func() { results[i], errs[i] = follow(ctx, k.Source, shard, i+1) })
	}
	k.put(shard, all...)
	k.Split(k.T, "orders", shard.ID)
	group.Wait()
	for i := range readers {
		if errs[i] != nil || !slices.Equal(results[i], all) {
			k.Fatalf("reader %d: %v, after %d of %d records: %q", i, errs[i], len(results[i]), len(all), results[i])
		}
	}
}

// follow reads a shard until it ends.
func follow(ctx context.Context, source consumer.Source, shard consumer.Shard, pageSize int) (data []string, err error) {
	from := shard.Start
	for {
		if _, err := source.Stream(ctx, "orders"); err != nil {
			return data, err
		}
		page, err := source.Read(ctx, "orders", shard.ID, from, pageSize, large)
		if err != nil {
			return data, err
		}
		data = append(data, dataOf(page.Records)...)
		if page.EndOfShard {
			return data, nil
		}
		from = page.Next
		if len(page.Records) == 0 {
			if err := source.Wait(ctx, "orders", shard.ID, from); err != nil {
				return data, err
			}
		}
	}
}

func (k *kit) tellsOfChanges() {
	if k.Source.Changed() == nil {
		k.Skip("the source cannot tell of changes")
	}
	changes := func(what string, change func()) {
		changed := k.Source.Changed()
		select {
		case <-changed:
			k.Fatalf("before %s there was a change already", what)
		case <-time.After(moment):
		}
		change()
		select {
		case <-changed:
		case <-time.After(patience):
			k.Fatalf("%s is not told of", what)
		}
	}
	var shard consumer.Shard
	changes("the creation of a stream", func() { shard = k.create(1)[0] })
	changes("a split", func() { k.Split(k.T, "orders", shard.ID) })
	children := k.children(shard.ID)
	changes("a merge", func() { k.Merge(k.T, "orders", children[0].ID, children[1].ID) })
	if k.Delete != nil {
		changes("the deletion of a stream", func() { k.Delete(k.T, "orders") })
	}
}

func (k *kit) needTrim() {
	k.Helper()
	if k.Trim == nil {
		k.Skip("records cannot be trimmed")
	}
}

// lose has reading fail because of records that were trimmed.
func (k *kit) lose(shard braid.ShardID, from braid.Position) *braid.TrimmedError {
	k.Helper()
	page, err := k.tryRead(shard, from, 10, large)
	var gap *braid.TrimmedError
	if !errors.As(err, &gap) || !errors.Is(err, braid.ErrTrimmed) {
		k.Fatalf("from %s on there is %q, %v; want a *braid.TrimmedError", from, dataOf(page.Records), err)
	}
	if gap.Shard != shard {
		k.Fatalf("the error of %s is that of %q", shard, gap.Shard)
	}
	return gap
}

func (k *kit) tellsOfTrims() {
	k.needTrim()
	shard := k.create(1)[0]
	all := numbered("lost", 0, 5)
	k.put(shard, all...)
	lost := k.expect(shard.ID, shard.Start, all...)
	second := k.read(shard.ID, shard.Start, 2, large).Next
	k.Trim(k.T, "orders")
	check := func(from braid.Position, first int, left ...braid.Record) {
		k.Helper()
		gap := k.lose(shard.ID, from)
		last := lost[len(lost)-1].SequenceNumber
		switch {
		case gap.FirstLost.Compare(lost[first].SequenceNumber) > 0:
			k.Fatalf("from %s on the first lost record is %s; FirstLost is %s", from, lost[first].SequenceNumber, gap.FirstLost)
		case first > 0 && gap.FirstLost.Compare(lost[first-1].SequenceNumber) <= 0:
			k.Fatalf("from %s on FirstLost is %s, and the record %s was not lost", from, gap.FirstLost, lost[first-1].SequenceNumber)
		case gap.LastLost.Compare(last) < 0:
			k.Fatalf("the last lost record is %s; LastLost is %s", last, gap.LastLost)
		case gap.FirstAvailable.Compare(gap.LastLost) <= 0:
			k.Fatalf("LastLost is %s and FirstAvailable %s", gap.LastLost, gap.FirstAvailable)
		case len(left) > 0 && gap.FirstAvailable.Compare(left[0].SequenceNumber) > 0:
			k.Fatalf("there is %s; FirstAvailable is %s", left[0].SequenceNumber, gap.FirstAvailable)
		}
		k.expect(shard.ID, braid.AtSequence(gap.FirstAvailable), dataOf(left)...)
	}
	positions := func(left ...braid.Record) {
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
	gap := k.lose(shard.ID, shard.Start)
	k.put(shard, "a", "b")
	left := k.expect(shard.ID, braid.AtSequence(gap.FirstAvailable), "a", "b") // found also by who was told before it came
	positions(left...)
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
	k.expect(shards[1].ID, shards[1].Start) // nothing was lost where nothing was
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
	k.returned(k.wait(k.Context(), shard.ID, shard.Start)) // with the error or not; Read has it
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
	k.returned(w) // with the error or not; Read has it
	k.returned(k.wait(k.Context(), shard.ID, page.Next))
	if _, err := k.Source.Stream(k.Context(), "orders"); !errors.Is(err, braid.ErrStreamNotFound) {
		k.Fatalf("Stream: %v; want %v", err, braid.ErrStreamNotFound)
	}
	for _, from := range []braid.Position{shard.Start, page.Next} {
		if _, err := k.tryRead(shard.ID, from, 10, large); !errors.Is(err, braid.ErrStreamNotFound) {
			k.Fatalf("Read(%s): %v; want %v", from, err, braid.ErrStreamNotFound)
		}
	}
	if _, err := k.Source.Resolve(k.Context(), "orders", shard.ID, braid.Latest()); err == nil {
		k.Fatal("Resolve has no error")
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
			k.Fatalf("the Incarnation %d was that of a stream before", is)
		}
		seen[k.stream().Incarnation] = true
		k.put(shard, fmt.Sprint("of stream ", i))
		k.expect(shard.ID, shard.Start, fmt.Sprint("of stream ", i))
	}
}

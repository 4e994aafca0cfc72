// Package sourcetest has the tests that a [consumer.Source] must pass.
package sourcetest

import (
	"context"
	"fmt"
	"slices"
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
func (k *kit) create(shards int) []consumer.ShardInfo {
	k.Helper()
	k.CreateStream(k.T, "orders", shards)
	list := k.shards()
	if len(list) != shards {
		k.Fatalf("the stream has %d shards; want %d", len(list), shards)
	}
	return list
}

// stream returns what the source knows of the stream "orders".
func (k *kit) stream() consumer.StreamInfo {
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

func (k *kit) shards() []consumer.ShardInfo {
	k.Helper()
	return k.stream().Shards
}

func (k *kit) shard(id braid.ShardID) consumer.ShardInfo {
	k.Helper()
	for _, shard := range k.shards() {
		if shard.ID == id {
			return shard
		}
	}
	k.Fatalf("there is no shard %s", id)
	return consumer.ShardInfo{}
}

// children returns the shards that have the given one as a parent, by range.
func (k *kit) children(parent braid.ShardID) (children []consumer.ShardInfo) {
	k.Helper()
	for _, shard := range k.shards() {
		if slices.Contains(shard.Parents, parent) {
			children = append(children, shard)
		}
	}
	sortByRange(children)
	return children
}

func sortByRange(shards []consumer.ShardInfo) {
	slices.SortFunc(shards, func(a, b consumer.ShardInfo) int { return a.HashKeyRange.Start.Compare(b.HashKeyRange.Start) })
}

// put puts a record with the given data into a shard, under a key of its own.
func (k *kit) put(shard consumer.ShardInfo, data ...string) {
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

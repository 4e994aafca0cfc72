// Package sourcetest has the tests that a [consumer.Source] must pass.
package sourcetest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// Fixture is a source, and the functions with which the tests prepare its streams. A
// function ends the test if it fails. When it returns, the source must show its effect.
type Fixture struct {
	Source consumer.Source

	// CreateStream creates a stream with that many shards.
	CreateStream func(t *testing.T, name string, shards int)

	// Put puts a record into the stream. It goes to the shard whose range of hash keys
	// contains braid.HashKeyOf(partitionKey). The data has up to 10,000 bytes.
	Put func(t *testing.T, stream, partitionKey string, data []byte)

	// Split splits a shard in two, and Merge merges two adjacent ones.
	Split func(t *testing.T, stream string, shard braid.ShardID)
	Merge func(t *testing.T, stream string, shard, adjacent braid.ShardID)

	// Trim removes all current records of the stream, and Delete deletes the stream with all
	// its records. Either may be nil if that is impossible; the tests that need it are then
	// skipped.
	Trim   func(t *testing.T, stream string)
	Delete func(t *testing.T, stream string)
}

// Options name the promises of [consumer.Source] that a source does not keep, and how it is
// tested. Workers can do without each of these promises; the fields say what that means for a
// processor. The zero value tests every promise.
type Options struct {
	// Bubble runs each test in a bubble of package testing/synctest, for a source without
	// connections out of the process. Waiting then takes no real time.
	Bubble bool

	// SuspectsTrims is for a service that does not report removed records, such as Kinesis,
	// which silently moves a reader to the trim horizon. The source need not know which
	// records are missing: the Gap of a page may be Suspected, and may come where nothing is
	// missing. It must come where something may be missing. [consumer.Config].OnGap may then
	// be called although nothing is missing.
	SuspectsTrims bool

	// Granularity is for a service whose times are coarse. Records that arrive within this time of
	// a resolved LATEST or timestamp may be on either side of the position, so an application may
	// begin that much earlier or later. 0 means that positions are exact.
	Granularity time.Duration
}

// Run checks every promise of [consumer.Source], one in each subtest, except those that options
// relax; nil relaxes none. newFixture returns a source without the streams "orders" and "refunds".
// It should register its cleanup with t.Cleanup.
func Run(t *testing.T, newFixture func(t *testing.T) Fixture, options *Options) {
	t.Helper()
	for _, test := range []struct {
		sentence string
		run      func(k *kit)
	}{
		{"a stream that does not exist is not found", (*kit).doesNotFind},
		{"a shard that does not exist is not found", (*kit).doesNotFindShards},
		{"the shards of a new stream divide the hash keys", (*kit).dividesHashKeys},
		{"a stream keeps its Incarnation", (*kit).keepsIncarnation},
		{"the children of a split shard name it as their parent", (*kit).splits},
		{"a merged shard names both parents", (*kit).merges},
		{"a shard starts at its first record", (*kit).startsAtTheFirstRecord},
		{"records come as they were put and in order", (*kit).keepsRecords},
		{"a record lies in the shard of its partition key", (*kit).keepsShardsApart},
		{"Next continues without a loss or a duplicate", (*kit).pages},
		{"a reader that is opened at Next continues there", (*kit).goesOnAtNext},
		{"a page has no more than Limits.Records", (*kit).boundsRecords},
		{"a page has about Limits.Bytes", (*kit).boundsBytes},
		{"a record larger than Limits.Bytes is still returned", (*kit).givesLargeRecords},
		{"the numbers of records are positions", (*kit).readsFromNumbers},
		{"a page says how far it is behind", (*kit).tellsHowFarBehind},
		{"the tip is reported once", (*kit).tellsOfTheTip},
		{"Peek returns one record and does not disturb readers", (*kit).peeks},
		{"the end of a closed shard comes after all its records", (*kit).endsShards},
		{"an empty shard that is closed ends at once", (*kit).endsEmptyShards},
		{"the end of a shard comes with its children or without any", (*kit).namesChildren},
		{"TRIM_HORIZON becomes the place of the first record", (*kit).resolvesTrimHorizon},
		{"LATEST becomes the place of the next record", (*kit).resolvesLatest},
		{"AT_TIMESTAMP becomes the place of the first record since", (*kit).resolvesTimes},
		{"a place after all records of a closed shard is its end", (*kit).resolvesEnds},
		{"a place survives its text", (*kit).survivesText},
		{"Next does not wait if a record exists", (*kit).waitsNotForWhatIsThere},
		{"Next waits at the tip until a record comes", (*kit).waitsForRecords},
		{"Next waits at the tip until the shard ends", (*kit).waitsForTheEnd},
		{"Next returns the cause of its context", (*kit).waitsForTheContext},
		{"a reader can be opened after another one was closed", (*kit).opensAgain},
		{"many readers can wait and read at once", (*kit).servesMany},
		{"Changed announces changes of streams and shards", (*kit).tellsOfChanges},
		{"reading among trimmed records reports what was lost", (*kit).tellsOfTrims},
		{"nothing is lost after the last trimmed record", (*kit).losesNoMoreThanWasTrimmed},
		{"a resolved place reports records that were lost since", (*kit).resolvedPlacesAreTrimmed},
		{"Next does not wait at a trimmed place", (*kit).waitsNotForTrimmed},
		{"a deleted stream is not found", (*kit).forgetsDeletedStreams},
		{"a stream of the same name has another Incarnation", (*kit).tellsIncarnationsApart},
	} {
		run := func(t *testing.T) {
			k := &kit{T: t, patience: 30 * time.Second, moment: 20 * time.Millisecond}
			if options != nil {
				k.Options = *options
			}
			if k.Bubble { // waiting takes no real time
				k.patience, k.moment = time.Hour, 2*time.Second
			}
			k.Fixture = newFixture(t)
			test.run(k)
		}
		t.Run(test.sentence, func(t *testing.T) {
			if options != nil && options.Bubble {
				synctest.Test(t, run)
			} else {
				run(t)
			}
		})
	}
}

// kit is a subtest with its fixture. Its methods end the subtest if the source fails.
type kit struct {
	*testing.T
	Fixture
	Options
	patience time.Duration // how long to wait for what must happen
	moment   time.Duration // how long to check that nothing happens
	count    int           // of records put so far
}

const large = 1 << 20 // more bytes than a test puts

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

// stream returns the source's description of the stream "orders".
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

// children returns the shards that name the given one as a parent, by range.
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

// put puts records with the given data into a shard, each under its own key.
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

// reader is a reader of the stream "orders". It is closed when the test ends.
type reader struct {
	k     *kit
	inner consumer.ShardReader
	shard braid.ShardID
}

// open opens a reader. An error of Open is returned by its first Next.
func (k *kit) open(shard braid.ShardID, from braid.Position) *reader {
	k.Helper()
	inner, err := k.Source.Open(k.Context(), "orders", shard, from)
	if err != nil {
		inner = failed{err}
	}
	k.Cleanup(inner.Close)
	return &reader{k, inner, shard}
}

// failed is the reader returned when Open fails.
type failed struct{ err error }

func (f failed) Next(context.Context, consumer.Limits) (consumer.Page, error) {
	return consumer.Page{}, f.err
}

func (failed) Close() {}

// next returns the next page that is not empty, as a worker would read it.
func (r *reader) next(ctx context.Context, maxRecords, maxBytes int) (consumer.Page, error) {
	for {
		page, err := r.inner.Next(ctx, consumer.Limits{Records: maxRecords, Bytes: maxBytes})
		if err != nil || page.Gap != nil || len(page.Records) > 0 || page.AtTip {
			return page, err
		}
	}
}

// page is next that must neither wait nor fail. It checks the rules for every page.
func (r *reader) page(maxRecords, maxBytes int) consumer.Page {
	r.k.Helper()
	page, err := r.tryPage(maxRecords, maxBytes)
	if err != nil {
		r.k.Fatalf("Next of %s: %v", r.shard, err)
	}
	return page
}

func (r *reader) tryPage(maxRecords, maxBytes int) (consumer.Page, error) {
	r.k.Helper()
	ctx, cancel := context.WithTimeout(r.k.Context(), r.k.patience)
	defer cancel()
	page, err := r.next(ctx, maxRecords, maxBytes)
	if err != nil {
		return page, err
	}
	r.k.check(page)
	if len(page.Records) > maxRecords {
		r.k.Fatalf("a page has %d records; the limit is %d", len(page.Records), maxRecords)
	}
	return page, nil
}

// check checks the rules for every page.
func (k *kit) check(page consumer.Page) {
	k.Helper()
	if page.BehindRecords < 0 || page.BehindBytes < 0 || page.BehindLatest < 0 {
		k.Fatalf("a page is behind by %d records, %d bytes, %v", page.BehindRecords, page.BehindBytes, page.BehindLatest)
	}
	if page.EndOfShard && !page.AtTip {
		k.Fatal("a page is EndOfShard but not AtTip")
	}
	if len(page.Children) > 0 && !page.EndOfShard {
		k.Fatal("a page has Children but is not EndOfShard")
	}
}

// read opens a reader and reads its first page without waiting. The page must have no
// Gap.
func (k *kit) read(shard braid.ShardID, from braid.Position, maxRecords, maxBytes int) consumer.Page {
	k.Helper()
	page, err := k.tryRead(shard, from, maxRecords, maxBytes)
	if err != nil {
		k.Fatalf("Next of %s from %s on: %v", shard, from, err)
	}
	return page
}

// tryRead is read, but may fail.
func (k *kit) tryRead(shard braid.ShardID, from braid.Position, maxRecords, maxBytes int) (consumer.Page, error) {
	k.Helper()
	r := k.open(shard, from)
	defer r.inner.Close()
	page, err := r.tryPage(maxRecords, maxBytes)
	if err == nil && page.Gap != nil {
		k.allowGap(page)
		if len(page.Records) == 0 && !page.AtTip {
			return r.tryPage(maxRecords, maxBytes)
		}
	}
	return page, err
}

// allowGap checks that a gap is one that the options allow.
func (k *kit) allowGap(page consumer.Page) {
	k.Helper()
	if !k.SuspectsTrims || !page.Gap.Suspected {
		k.Fatalf("a page has the gap %+v, but nothing is missing", page.Gap)
	}
}

// rest reads all records from a position on, in small pages. It returns them with the
// last page.
func (k *kit) rest(shard braid.ShardID, from braid.Position) (records []braid.Record, last consumer.Page) {
	k.Helper()
	r := k.open(shard, from)
	defer r.inner.Close()
	for {
		last = r.page(3, large)
		if last.Gap != nil {
			k.allowGap(last)
		}
		records = append(records, last.Records...)
		if last.EndOfShard || len(last.Records) == 0 && last.AtTip {
			return records, last
		}
	}
}

// expect checks the data of all records from a position on.
func (k *kit) expect(shard braid.ShardID, from braid.Position, data ...string) []braid.Record {
	k.Helper()
	records, _ := k.rest(shard, from)
	if got := dataOf(records); !slices.Equal(got, data) {
		k.Fatalf("from %s on the records are %q; want %q", from, got, data)
	}
	return records
}

func dataOf(records []braid.Record) (data []string) {
	for _, r := range records {
		data = append(data, string(r.Data))
	}
	return data
}

// resolve makes a position concrete. It must not be the end of the shard.
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
	time.Sleep(k.Granularity)
	at, err := k.Source.Resolve(k.Context(), "orders", shard, from)
	time.Sleep(k.Granularity)
	if err != nil {
		k.Fatalf("Resolve(%s, %s): %v", shard, from, err)
	}
	if !at.SequenceNumber.IsZero() || at.SubSequenceNumber != 0 || at.Partial {
		k.Fatalf("Resolve(%s, %s) = %s, as if a record was processed", shard, from, at)
	}
	return at
}

// waiter is a call of Next in progress.
type waiter chan outcome

type outcome struct {
	page consumer.Page
	err  error
}

// wait opens a reader at a position, and waits for records.
func (k *kit) wait(ctx context.Context, shard braid.ShardID, from braid.Position) waiter {
	k.Helper()
	return k.open(shard, from).wait(ctx)
}

func (r *reader) wait(ctx context.Context) waiter {
	w := make(waiter, 1)
	go func() { // ends when records come or ctx ends, at the latest with the test
		for {
			page, err := r.next(ctx, 10, large)
			if err != nil || page.Gap != nil || len(page.Records) > 0 || page.EndOfShard {
				w <- outcome{page, err}
				return
			}
		}
	}()
	return w
}

// returned waits for the result of Next.
func (k *kit) returned(w waiter) (consumer.Page, error) {
	k.Helper()
	select {
	case o := <-w:
		return o.page, o.err
	case <-time.After(k.patience):
		k.Fatal("Next has not returned")
		return consumer.Page{}, nil
	}
}

// brings checks that Next returns a page.
func (k *kit) brings(w waiter) consumer.Page {
	k.Helper()
	page, err := k.returned(w)
	if err != nil {
		k.Fatalf("Next: %v", err)
	}
	k.check(page)
	return page
}

// waits checks that Next is still waiting.
func (k *kit) waits(w waiter) {
	k.Helper()
	select {
	case o := <-w:
		k.Fatalf("Next has returned %+v, %v, but nothing has happened", o.page, o.err)
	case <-time.After(k.moment):
	}
}

func numbered(what string, from, to int) (data []string) {
	for i := from; i < to; i++ {
		data = append(data, fmt.Sprintf("%s %d", what, i))
	}
	return data
}

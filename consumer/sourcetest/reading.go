package sourcetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// The contents and sizes of pages, and the end of a shard.

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
		k.Fatalf("%d records were put, but %d were read", len(put), len(records))
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
			k.Fatalf("record %d arrived at %s, before its predecessor", i, r.ArrivalTime)
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

// bounds are limits of pages of the records that pages puts.
var bounds = []consumer.Limits{
	{Records: 1, Bytes: large},
	{Records: 2, Bytes: large},
	{Records: 5, Bytes: large},
	{Records: 23, Bytes: large},
	{Records: 1000, Bytes: large},
	{Records: 1000, Bytes: 1},
	{Records: 1000, Bytes: 40},
	{Records: 3, Bytes: 50},
}

// pages accepts AtTip on the page of the last record or on the next page.
func (k *kit) pages() {
	shard := k.create(1)[0]
	all := numbered("record", 0, 23)
	k.put(shard, all...)
	for _, bound := range bounds {
		var got []string
		r := k.open(shard.ID, shard.Start)
		for len(got) < len(all) {
			page := r.page(bound.Records, bound.Bytes)
			if len(page.Records) == 0 {
				k.Fatalf("no record follows after %d of %d", len(got), len(all))
			}
			got = append(got, dataOf(page.Records)...)
			if page.EndOfShard || page.AtTip && len(got) < len(all) {
				k.Fatalf("after %d of %d records AtTip is %v and EndOfShard is %v", len(got), len(all), page.AtTip, page.EndOfShard)
			}
		}
		if !slices.Equal(got, all) {
			k.Fatalf("in pages of %+v the records are %q; want %q", bound, got, all)
		}
		if page := r.page(bound.Records, bound.Bytes); len(page.Records) > 0 || !page.AtTip {
			k.Fatalf("after the last record the page is %+v", page)
		}
		w := r.wait(k.Context())
		k.put(shard, "more")
		if got := dataOf(k.brings(w).Records); !slices.Equal(got, []string{"more"}) {
			k.Fatalf("the reader continues with %q", got)
		}
		all = append(all, "more")
		r.inner.Close()
	}
}

// goesOnAtNext opens a reader for each page.
func (k *kit) goesOnAtNext() {
	shard := k.create(1)[0]
	all := numbered("record", 0, 23)
	k.put(shard, all...)
	for _, bound := range bounds {
		var got []string
		from := shard.Start
		for len(got) < len(all) {
			page := k.read(shard.ID, from, bound.Records, bound.Bytes)
			if len(page.Records) == 0 {
				k.Fatalf("no record follows after %d of %d", len(got), len(all))
			}
			got = append(got, dataOf(page.Records)...)
			from = page.Next
		}
		if !slices.Equal(got, all) {
			k.Fatalf("in pages of %+v the records are %q; want %q", bound, got, all)
		}
		k.expect(shard.ID, from)
	}
	page := k.read(shard.ID, shard.Start, 1000, large)
	more := numbered("more", 0, 7)
	k.put(shard, more...)
	k.expect(shard.ID, page.Next, more...)
	k.expect(shard.ID, page.Next, more...) // a position can be used more than once
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

// boundsBytes accepts the record that exceeds the limit in this page or in the next one.
func (k *kit) boundsBytes() {
	shard := k.create(1)[0]
	for range 12 {
		k.put(shard, strings.Repeat("x", 1000))
	}
	const record = 1000 + 16 // including its key
	for _, limit := range []int{1000, 2500, 5000, 9999} {
		page := k.read(shard.ID, shard.Start, 1000, limit)
		if bytes := record * len(page.Records); bytes > limit+record || bytes == 0 {
			k.Fatalf("a page of about %d bytes has %d bytes, in %d records", limit, bytes, len(page.Records))
		}
	}
}

func (k *kit) givesLargeRecords() {
	shard := k.create(1)[0]
	data := string(bytes.Repeat([]byte("0123456789"), 1000))
	k.put(shard, data, "small", data)
	var got []string
	r := k.open(shard.ID, shard.Start)
	defer r.inner.Close()
	for len(got) < 3 {
		page := r.page(1000, 100)
		if len(page.Records) == 0 {
			k.Fatal("a page lacks a record because it is larger than Limits.Bytes")
		}
		got = append(got, dataOf(page.Records)...)
	}
	if !slices.Equal(got, []string{data, "small", data}) {
		k.Fatalf("%d records were read; want 3", len(got))
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
		sizes = append(sizes, int64(r.Size()))
	}
	reader := k.open(shard.ID, shard.Start)
	defer reader.inner.Close()
	for i := range all {
		page := reader.page(1, large)
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
		if page.AtTip && (page.BehindLatest != 0 || left > 0) {
			k.Fatalf("after %d of %d records a page is at the tip, behind by %v", i+1, len(all), page.BehindLatest)
		}
	}
}

// tellsOfTheTip reads from the positions only after it has closed the reader, since a
// source may have one subscription for each shard.
func (k *kit) tellsOfTheTip() {
	shard := k.create(1)[0]
	r := k.open(shard.ID, shard.Start)
	var places []braid.Position
	var all []string
	for i := range 3 {
		page := r.page(100, large)
		if len(page.Records) > 0 || !page.AtTip || page.EndOfShard || page.BehindRecords != 0 || page.BehindBytes != 0 || page.BehindLatest != 0 {
			k.Fatalf("at the tip of an open shard the page is %+v", page)
		}
		places = append(places, page.Next) // an empty page has a usable position, too
		w := r.wait(k.Context())
		k.waits(w)
		all = append(all, fmt.Sprint(i))
		k.put(shard, all[i])
		page = k.brings(w)
		if got := dataOf(page.Records); !slices.Equal(got, all[i:]) {
			k.Fatalf("after the tip the record is %q; want record %d", got, i)
		}
	}
	r.inner.Close()
	for i, from := range places {
		k.expect(shard.ID, from, all[i:]...)
	}
}

func (k *kit) peeks() {
	shard := k.create(1)[0]
	peek := func(from braid.Position, want ...string) {
		k.Helper()
		page, err := k.Source.Peek(k.Context(), "orders", shard.ID, from)
		if err != nil {
			k.Fatalf("Peek: %v", err)
		}
		k.check(page)
		if got := dataOf(page.Records); !slices.Equal(got, want[:min(1, len(want))]) {
			k.Fatalf("Peek returns %q; want the first of %q", got, want)
		}
		if n := page.BehindRecords; n != 0 && n != int64(len(want)-1) {
			k.Fatalf("Peek is behind by %d, of %d records", n, len(want))
		}
	}
	peek(shard.Start)
	r := k.open(shard.ID, shard.Start)
	defer r.inner.Close()
	r.page(1, large)
	w := r.wait(k.Context())
	k.waits(w)
	peek(shard.Start)
	k.put(shard, "a", "b", "c")
	peek(shard.Start, "a", "b", "c")
	got := dataOf(k.brings(w).Records)
	peek(shard.Start, "a", "b", "c")
	for len(got) < 3 {
		got = append(got, dataOf(r.page(10, large).Records)...)
	}
	if !slices.Equal(got, []string{"a", "b", "c"}) {
		k.Fatalf("after Peek an open reader has read %q", got)
	}
	if _, err := k.Source.Peek(k.Context(), "orders", "shardId-000000000999", shard.Start); !errors.Is(err, braid.ErrShardNotFound) {
		k.Fatalf("Peek: %v; want %v", err, braid.ErrShardNotFound)
	}
}

// endsShards accepts the end with the last record or after it.
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
		var last consumer.Page
		r := k.open(shard.ID, shard.Start)
		for !last.EndOfShard {
			last = r.page(limit, large)
			got = append(got, dataOf(last.Records)...)
			if len(last.Records) == 0 && !last.EndOfShard {
				k.Fatal("at the tip of a closed shard a page is not EndOfShard")
			}
		}
		r.inner.Close()
		if !slices.Equal(got, all) {
			k.Fatalf("before the end of the shard the records are %q; want %q", got, all)
		}
		for range 2 { // EndOfShard is reported even to a reader that has already read everything
			page := k.read(shard.ID, last.Next, limit, large)
			if len(page.Records) > 0 || !page.EndOfShard {
				k.Fatalf("after the end of the shard the page is %+v", page)
			}
		}
	}
	for _, from := range []braid.Position{tip.Next, braid.AfterSequence(tip.Records[6].SequenceNumber)} {
		if page := k.read(shard.ID, from, 10, large); len(page.Records) > 0 || !page.EndOfShard {
			k.Fatalf("at %s, the tip when the shard was closed, the page is %+v", from, page)
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
		k.Fatalf("Next: %v", err)
	case len(page.Records) > 0 || !page.EndOfShard:
		k.Fatalf("in an empty closed shard the page is %+v", page)
	}
}

func (k *kit) namesChildren() {
	shards := k.create(2)
	sortByRange(shards)
	k.put(shards[0], "a")
	k.put(shards[1], "b")
	k.Split(k.T, "orders", shards[0].ID)
	left := k.children(shards[0].ID)
	k.Merge(k.T, "orders", left[1].ID, shards[1].ID)
	for _, parent := range []braid.ShardID{shards[0].ID, left[1].ID, shards[1].ID} {
		_, last := k.rest(parent, k.shard(parent).Start)
		if len(last.Children) == 0 {
			continue
		}
		sortByRange(last.Children)
		want := k.children(parent)
		if len(want) != len(last.Children) {
			k.Fatalf("%s ends with the children %+v; want %+v", parent, last.Children, want)
		}
		for i, child := range last.Children {
			slices.Sort(child.Parents)
			slices.Sort(want[i].Parents)
			if child.ID != want[i].ID || child.HashKeyRange != want[i].HashKeyRange || !slices.Equal(child.Parents, want[i].Parents) {
				k.Fatalf("%s ends with the child %+v; want %+v", parent, child, want[i])
			}
			k.expect(child.ID, child.Start)
		}
	}
}

// filler are records put later: more than a page.
var filler = numbered("later", 0, 200)

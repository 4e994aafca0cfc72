package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// What wakes a reader, and whoever watches the streams.

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
func follow(ctx context.Context, source consumer.Source, shard consumer.ShardInfo, pageSize int) (data []string, err error) {
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
	var shard consumer.ShardInfo
	changes("the creation of a stream", func() { shard = k.create(1)[0] })
	changes("a split", func() { k.Split(k.T, "orders", shard.ID) })
	children := k.children(shard.ID)
	changes("a merge", func() { k.Merge(k.T, "orders", children[0].ID, children[1].ID) })
	if k.Delete != nil {
		changes("the deletion of a stream", func() { k.Delete(k.T, "orders") })
	}
}

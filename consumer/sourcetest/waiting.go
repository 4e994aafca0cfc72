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

// What wakes a reader, and what Changed announces.

func (k *kit) waitsNotForWhatIsThere() {
	shard := k.create(1)[0]
	k.put(shard, "a", "b")
	first := k.read(shard.ID, shard.Start, 1, large)
	for _, from := range []braid.Position{shard.Start, first.Next, braid.AtSequence(first.Records[0].SequenceNumber), braid.AfterSequence(first.Records[0].SequenceNumber)} {
		k.brings(k.wait(k.Context(), shard.ID, from))
	}
}

func (k *kit) waitsForRecords() {
	shards := k.create(2)
	r := k.open(shards[0].ID, shards[0].Start)
	for i := range 5 {
		w := r.wait(k.Context())
		k.waits(w)
		k.put(shards[1], "elsewhere")
		k.waits(w)
		k.put(shards[0], fmt.Sprint(i))
		if got := dataOf(k.brings(w).Records); !slices.Equal(got, []string{fmt.Sprint(i)}) {
			k.Fatalf("after the tip the record is %q; want record %d", got, i)
		}
	}
}

func (k *kit) waitsForTheEnd() {
	shard := k.create(1)[0]
	k.put(shard, "a")
	page := k.read(shard.ID, shard.Start, 10, large)
	r := k.open(shard.ID, page.Next)
	w := r.wait(k.Context())
	k.waits(w)
	k.Split(k.T, "orders", shard.ID)
	if page := k.brings(w); !page.EndOfShard || len(page.Records) > 0 {
		k.Fatalf("when the shard is closed the page is %+v", page)
	}
	if page := k.read(shard.ID, page.Next, 10, large); !page.EndOfShard || len(page.Records) > 0 {
		k.Fatalf("after the shard was closed the page is %+v", page)
	}
}

func (k *kit) waitsForTheContext() {
	shard := k.create(1)[0]
	cause := errors.New("another worker requests the shard")
	ctx, cancel := context.WithCancelCause(k.Context())
	defer cancel(nil)
	w := k.wait(ctx, shard.ID, shard.Start)
	k.waits(w)
	cancel(cause)
	if _, err := k.returned(w); !errors.Is(err, cause) {
		k.Fatalf("Next: %v; want the cause, %v", err, cause)
	}
	if _, err := k.returned(k.wait(ctx, shard.ID, shard.Start)); !errors.Is(err, cause) {
		k.Fatalf("Next, under a context that has ended: %v; want the cause, %v", err, cause)
	}
}

// opensAgain opens one reader of a shard after the other, as when its lease moves.
func (k *kit) opensAgain() {
	shard := k.create(1)[0]
	from := shard.Start
	for i := range 4 {
		r := k.open(shard.ID, from)
		page := r.page(10, large)
		if len(page.Records) > 0 || !page.AtTip {
			k.Fatalf("a reader that takes over returns %+v; want the tip", page)
		}
		ctx, cancel := context.WithCancel(k.Context())
		w := r.wait(ctx)
		k.waits(w)
		if i%2 == 0 { // in the other rounds it has returned records
			cancel()
			if _, err := k.returned(w); err == nil {
				k.Fatal("Next returned no error")
			}
			from = page.Next
		}
		k.put(shard, fmt.Sprint(i))
		if i%2 == 1 {
			from = k.brings(w).Next
		} else {
			from = k.read(shard.ID, from, 10, large).Next
		}
		cancel()
		r.inner.Close()
	}
	k.expect(shard.ID, shard.Start, "0", "1", "2", "3")
}

// servesMany lets many readers follow a shard while it is written to and closed.
func (k *kit) servesMany() {
	shard := k.create(1)[0]
	ctx, cancel := context.WithTimeout(k.Context(), k.patience)
	defer cancel()
	const readers = 8
	all := numbered("record", 0, 100)
	results := make([][]string, readers)
	errs := make([]error, readers)
	var group sync.WaitGroup
	for i := range readers {
		group.Go(func() { results[i], errs[i] = k.follow(ctx, shard, i+1) })
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
func (k *kit) follow(ctx context.Context, shard consumer.ShardInfo, pageSize int) (data []string, err error) {
	reader, err := k.Source.Open(ctx, "orders", shard.ID, shard.Start)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	for {
		if _, err := k.Source.Stream(ctx, "orders"); err != nil {
			return data, err
		}
		page, err := reader.Next(ctx, consumer.Limits{Records: pageSize, Bytes: large})
		if err != nil {
			return data, err
		}
		data = append(data, dataOf(page.Records)...)
		if page.EndOfShard {
			return data, nil
		}
	}
}

func (k *kit) tellsOfChanges() {
	if k.Source.Changed() == nil {
		k.Skip("the source does not announce changes")
	}
	changes := func(what string, change func()) {
		changed := k.Source.Changed()
		select {
		case <-changed:
			k.Fatalf("a change was announced before %s", what)
		case <-time.After(k.moment):
		}
		change()
		select {
		case <-changed:
		case <-time.After(k.patience):
			k.Fatalf("%s was not announced", what)
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

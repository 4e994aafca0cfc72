package consumer_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// chain splits and merges a stream of one shard until it has had 3*n + 1 shards, each but
// the last with a record.
func chain(t testing.TB, stream *braid.Stream, n int) {
	put := func(id braid.ShardID) {
		shard, err := stream.Shard(id)
		require.NoError(t, err)
		hash := shard.HashKeyRange().Start
		_, err = stream.PutRecords(t.Context(), []braid.Entry{{PartitionKey: "k", ExplicitHashKey: &hash}})
		require.NoError(t, err)
	}
	last := stream.Shards()[len(stream.Shards())-1].ID()
	for range n {
		put(last)
		left, right, err := stream.SplitShard(t.Context(), last, nil)
		require.NoError(t, err)
		put(left.ID())
		put(right.ID())
		merged, err := stream.MergeShards(t.Context(), left.ID(), right.ID())
		require.NoError(t, err)
		last = merged.ID()
	}
}

// ender closes done when that many shards have ended.
type ender struct {
	consumer.ProcessorFunc
	left atomic.Int64
	done chan struct{}
}

func newEnder(shards int) *ender {
	e := &ender{ProcessorFunc: func(context.Context, *consumer.Batch) error { return nil }, done: make(chan struct{})}
	e.left.Store(int64(shards))
	return e
}

func (e *ender) ShardEnded(context.Context, *consumer.Checkpointer) error {
	if e.left.Add(-1) == 0 {
		close(e.done)
	}
	return nil
}

// A worker processes a chain of 1,201 shards, each of which begins when its parents have
// ended.
func BenchmarkChain(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(b, err)
		stream, err := db.CreateStream(b.Context(), "in", nil)
		require.NoError(b, err)
		chain(b, stream, 400)
		ender := newEnder(1200)
		b.StartTimer()
		w, err := consumer.New(db, &consumer.Config{App: "bench", Streams: []string{"in"}}, ender)
		stop := benchRun(b, w, err)
		<-ender.done
		b.StopTimer()
		stop()
		require.NoError(b, db.Close())
		b.StartTimer()
	}
}

// In a group of 1,000 shards, one is split.
func BenchmarkWideGroup(b *testing.B) {
	db, err := braid.Open(braid.InMemory, nil)
	require.NoError(b, err)
	defer db.Close()
	stream, err := db.CreateStream(b.Context(), "in", &braid.StreamOptions{Shards: 1000})
	require.NoError(b, err)
	ended := make(chan struct{}, 1)
	p := consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil })
	w, err := consumer.New(db, &consumer.Config{App: "bench", Streams: []string{"in"}}, wideProcessor{p, ended})
	stop := benchRun(b, w, err)
	require.NoError(b, w.App().WaitFor(b.Context(), func(s consumer.Status) bool { return len(s.Shards) == 1000 && s.Shards[999].Owner != "" }))
	last := stream.Shards()[0].ID()
	for b.Loop() {
		left, right, err := stream.SplitShard(b.Context(), last, nil)
		require.NoError(b, err)
		<-ended
		merged, err := stream.MergeShards(b.Context(), left.ID(), right.ID())
		require.NoError(b, err)
		<-ended
		<-ended
		last = merged.ID()
	}
	b.StopTimer()
	stop()
}

type wideProcessor struct {
	consumer.ProcessorFunc
	ended chan struct{}
}

func (p wideProcessor) ShardEnded(context.Context, *consumer.Checkpointer) error {
	p.ended <- struct{}{}
	return nil
}

package consumer_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// After an error of its reader a worker opens another one where the last page ended. If
// that reader can only begin at a record, and repeats it, the processor does not get the
// record again.
func TestReaderIsOpenedAgainAfterAnError(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var opened, closed atomic.Int64
		var broken atomic.Bool
		var seen journal
		source := &brokenSource{consumer.NewDBSource(f.db), &opened, &closed, &broken}
		w := f.worker(consumer.Config{Source: source}, consumer.ProcessorFunc(seen.collect))
		stop := f.start(w)
		f.put("a", "b")
		synctest.Wait()
		require.Equal(f, []string{"a", "b"}, seen.take())
		require.EqualValues(f, 1, opened.Load(), "one reader goes on at the tip")
		for range 3 {
			broken.Store(true)
			f.put("c")
			time.Sleep(time.Second)
			require.Equal(f, consumer.StateRetrying, f.status(shard0).State)
			broken.Store(false)
			f.put("d")
			time.Sleep(time.Minute)
			require.Equal(f, []string{"c", "d"}, seen.take())
		}
		require.Greater(f, opened.Load(), int64(3))
		require.NoError(f, stop())
		require.Equal(f, opened.Load(), closed.Load(), "every reader is closed")
	})
}

// brokenSource has readers that fail, and that begin at the record after which they are
// opened.
type brokenSource struct {
	consumer.Source
	opened, closed *atomic.Int64
	broken         *atomic.Bool
}

func (s *brokenSource) Open(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (consumer.ShardReader, error) {
	if n := from.SequenceNumber(); !n.IsZero() && n.Compare(s.firstNumber(ctx, stream, shard)) >= 0 {
		from = braid.AtSequence(n)
	}
	reader, err := s.Source.Open(ctx, stream, shard, from)
	s.opened.Add(1)
	return &brokenReader{reader, s}, err
}

// firstNumber returns the lowest sequence number that records of a shard can have.
func (s *brokenSource) firstNumber(ctx context.Context, stream string, shard braid.ShardID) braid.SequenceNumber {
	info, err := s.Stream(ctx, stream)
	if err != nil {
		return braid.SequenceNumber{}
	}
	for _, sh := range info.Shards {
		if sh.ID == shard {
			page, _ := s.Peek(ctx, stream, shard, sh.Start)
			if len(page.Records) > 0 {
				return page.Records[0].SequenceNumber
			}
		}
	}
	return braid.SequenceNumber{}
}

type brokenReader struct {
	consumer.ShardReader
	source *brokenSource
}

func (r *brokenReader) Next(ctx context.Context, limits consumer.Limits) (consumer.Page, error) {
	page, err := r.ShardReader.Next(ctx, limits)
	if r.source.broken.Load() {
		return consumer.Page{}, errors.New("broken")
	}
	return page, err
}

func (r *brokenReader) Close() {
	r.source.closed.Add(1)
	r.ShardReader.Close()
}

// A batch that lingers is delivered before a gap that comes after it is reported.
func TestGapWhileABatchLingersComesAfterIt(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var told journal
		var gap atomic.Bool
		source := &wrappedSource{consumer.NewDBSource(f.db), func(_ context.Context, shard braid.ShardID, next func() (consumer.Page, error)) (consumer.Page, error) {
			page, err := next()
			if len(page.Records) > 0 && gap.Swap(false) {
				page.Gap = &braid.TrimmedError{Shard: shard, FirstLost: page.Records[0].SequenceNumber, Suspected: true}
			}
			return page, err
		}}
		w := f.worker(consumer.Config{
			Source: source, Linger: time.Second,
			OnGap: func(_ context.Context, _ string, gap *braid.TrimmedError) error {
				told.add("gap, suspected %v", gap.Suspected)
				return nil
			},
		}, consumer.ProcessorFunc(told.collect))
		stop := f.start(w)
		f.put("a")
		time.Sleep(time.Second / 2)
		gap.Store(true)
		f.put("b")
		time.Sleep(time.Minute)
		require.Equal(f, []string{"a", "gap, suspected true", "b"}, told.take())
		require.EqualValues(f, 1, w.Metrics().Gaps)
		require.Zero(f, consumer.HeldBytes(w), "what lingers and waits holds nothing when it is done")
		require.NoError(f, stop())
	})
}

// A worker that comes late to a service that trims silently suspects a gap, and continues
// with the remaining records.
func TestSuspectedGapIsReported(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var told journal
		source := newPollingSource(f.db)
		cfg := consumer.Config{Source: source, OnGap: func(_ context.Context, _ string, gap *braid.TrimmedError) error {
			told.add("gap, suspected %v", gap.Suspected)
			return nil
		}}
		stop := f.start(f.worker(cfg, consumer.ProcessorFunc(told.collect)))
		f.put("a")
		time.Sleep(time.Minute)
		require.NoError(f, stop())
		f.put("lost")
		time.Sleep(retention + time.Hour)
		f.put("b")
		stop = f.start(f.worker(cfg, consumer.ProcessorFunc(told.collect)))
		time.Sleep(time.Minute)
		require.Equal(f, []string{"a", "gap, suspected true", "b"}, told.take())
		require.NoError(f, stop())
	})
}

// A source that fails is asked again less and less often, and does not hold up a shard
// that works.
func TestDiscoveryBacksOff(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		source := &failingDiscovery{Source: newPollingSource(f.db)}
		var seen journal
		stop := f.start(f.worker(consumer.Config{Source: source, ShardSyncInterval: 10 * time.Minute}, consumer.ProcessorFunc(seen.collect)))
		time.Sleep(time.Minute)
		source.failing.Store(true)
		source.calls.Store(0)
		time.Sleep(24 * time.Hour)
		calls := source.calls.Load()
		require.LessOrEqual(f, calls, int64(24*6+12))
		require.Greater(f, calls, int64(24*6-2))
		f.put("a")
		time.Sleep(time.Minute)
		require.Equal(f, []string{"a"}, seen.take(), "what is known goes on")
		source.failing.Store(false)
		f.split(shard0)
		f.put("b")
		time.Sleep(11 * time.Minute)
		require.Equal(f, []string{"b"}, seen.take())
		require.NoError(f, stop())
	})
}

// failingDiscovery cannot list shards.
type failingDiscovery struct {
	consumer.Source
	failing atomic.Bool
	calls   atomic.Int64
}

func (s *failingDiscovery) Stream(ctx context.Context, name string) (consumer.StreamInfo, error) {
	s.calls.Add(1)
	if s.failing.Load() {
		return consumer.StreamInfo{}, errors.New("not now")
	}
	return s.Source.Stream(ctx, name)
}

// A merged shard is known when the first of its parents has ended. The other parent may
// be younger than the last look at the stream. It must not be mistaken for an expired
// one: its records come, and come before those of the child.
func TestMergedShardWaitsForAParentNobodyHasMet(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		var seen journal
		held := make(chan struct{})
		release := sync.OnceFunc(func() { close(held) })
		defer release() // in case the test fails
		stop := f.start(f.worker(consumer.Config{Source: newPollingSource(f.db)}, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
			if string(batch.Records[0].Data) == "1" {
				<-held // so that nobody learns of the shard's children
			}
			return seen.collect(ctx, batch)
		})))
		time.Sleep(10 * time.Second)
		hash := f.orders.Shards()[1].HashKeyRange().Start
		put := func(data string) {
			_, err := f.orders.PutRecords(f.Context(), []braid.Entry{{PartitionKey: "k", ExplicitHashKey: &hash, Data: []byte(data)}})
			require.NoError(f, err)
		}
		put("1")
		f.split(shard1)
		put("2")
		_, err := f.orders.MergeShards(f.Context(), shard0, shard2)
		require.NoError(f, err)
		put("3")
		time.Sleep(20 * time.Second)
		require.Empty(f, seen.take())
		release()
		time.Sleep(time.Minute)
		require.Equal(f, []string{"1", "2", "3"}, seen.take())
		require.NoError(f, stop())
	})
}

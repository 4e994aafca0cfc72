package consumer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

func TestSlowApplicationIsToldWhatRetentionHasRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()); synctest.Wait() }()
		orders, err := db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Shards: 1, Retention: time.Hour})
		require.NoError(t, err)
		f := &fixture{t, db, orders}
		var seen journal
		require.NoError(t, f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))())
		f.put("lost", "lost, too")
		time.Sleep(2 * time.Hour)
		f.put("there")
		var gaps []*braid.TrimmedError
		stop := f.start(f.worker(consumer.Config{OnGap: func(_ context.Context, stream string, gap *braid.TrimmedError) error {
			gaps = append(gaps, gap)
			return nil
		}}, consumer.ProcessorFunc(seen.collect)))
		require.Equal(t, []string{"there"}, seen.take())
		require.Len(t, gaps, 1)
		require.Equal(t, shard0, gaps[0].Shard)
		require.NoError(t, stop())

		f.put("lost again")
		time.Sleep(2 * time.Hour)
		stop = f.start(f.worker(consumer.Config{OnGap: func(context.Context, string, *braid.TrimmedError) error {
			return errors.New("this must not happen")
		}}, consumer.ProcessorFunc(seen.collect)))
		require.Equal(t, consumer.StateFailed, f.status(shard0).State)
		require.ErrorContains(t, f.stopped(stop(), shard0), "this must not happen")
	})
}

func TestGapIsToldOnce(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var gaps atomic.Int64
		cfg := consumer.Config{OnGap: func(context.Context, string, *braid.TrimmedError) error { gaps.Add(1); return nil }}
		var seen journal
		f.put("a")
		require.NoError(f, f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))())
		f.put("b", "c")
		require.NoError(f, f.orders.Trim(f.Context(), braid.Latest()))
		for range 3 {
			w := f.worker(cfg, consumer.ProcessorFunc(seen.collect))
			stop := f.start(w)
			require.NoError(f, w.App().WaitFor(f.Context(), consumer.Status.CaughtUp))
			require.EqualValues(f, 1, gaps.Load())
			require.NoError(f, stop())
		}
	})
}

func TestShardsThatExpireUnprocessedAreTold(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen, gaps journal
		cfg := consumer.Config{OnGap: func(_ context.Context, stream string, gap *braid.TrimmedError) error {
			gaps.add("%s %v", gap.Shard, gap.FirstLost.IsZero())
			return nil
		}}
		f.put("a")
		require.NoError(f, f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))())
		f.put("b")
		f.split(shard0)
		f.put("c", "d")
		f.split(shard1)
		f.split(shard2)
		time.Sleep(30 * time.Hour)
		f.put("z")
		w := f.worker(cfg, consumer.ProcessorFunc(seen.collect))
		stop := f.start(w)
		require.Equal(f, []string{"a", "z"}, seen.take())
		zero, one, two := string(shard0)+" false", string(shard1)+" true", string(shard2)+" true"
		require.ElementsMatch(f, []string{zero, zero, zero, zero, one, one, two, two}, gaps.take(), "two by each of four shards")
		require.EqualValues(f, 8, w.Metrics().Gaps)
		require.NoError(f, stop())
		require.NoError(f, f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))())
		require.Empty(f, gaps.take(), "once is enough")
	})
	bubble(t, 1, func(f *fixture) { // the application had begun
		var seen, gaps journal
		cfg := consumer.Config{OnGap: func(_ context.Context, stream string, gap *braid.TrimmedError) error {
			gaps.add("%s %v", gap.Shard, gap.FirstLost.IsZero())
			return nil
		}}
		f.put("a")
		require.NoError(f, f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))())
		f.put("b")
		f.split(shard0)
		time.Sleep(30 * time.Hour)
		stop := f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))
		require.Equal(f, []string{string(shard0) + " false", string(shard0) + " false"}, gaps.take(), "both children tell")
		require.NoError(f, stop())
	})
}

// Records up to the checkpoint are no gap when they are removed, since they were
// processed. One more record is.
func TestTrimUpToTheCheckpointIsNoGap(t *testing.T) {
	for _, row := range []struct {
		name string
		keep int // index of the first record that is kept, of four of which two are processed
		want []string
		gaps int64
	}{
		{"below the checkpoint", 1, []string{"c", "d"}, 0},
		{"at the checkpoint", 2, []string{"c", "d"}, 0},
		{"beyond the checkpoint", 3, []string{"d"}, 1},
		{"everything", 4, nil, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				var seen journal
				f.put("a", "b")
				require.NoError(f, f.start(f.worker(consumer.Config{}, nothing))())
				f.put("c", "d")
				page, err := f.orders.Shards()[0].GetRecords(f.Context(), braid.TrimHorizon(), nil)
				require.NoError(f, err)
				to := braid.Latest()
				if row.keep < len(page.Records) {
					to = braid.AtSequence(page.Records[row.keep].SequenceNumber)
				}
				require.NoError(f, f.orders.Trim(f.Context(), to))
				w := f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect))
				stop := f.start(w)
				require.Equal(f, row.want, seen.take())
				require.Equal(f, row.gaps, w.Metrics().Gaps)
				require.NoError(f, w.App().WaitCaughtUp(f.Context()))
				require.NoError(f, stop())
			})
		})
	}
}

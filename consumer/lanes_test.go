package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

func TestLanesKeepTheOrderOfEachKey(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var mu sync.Mutex
		at := make(map[string]int)
		running, most := 0, 0
		p := consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(time.Duration(len(batch.Records)) * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			running--
			for _, r := range batch.Records {
				n, _ := strconv.Atoi(string(r.Data))
				if n != at[r.PartitionKey] {
					f.Errorf("%s of %s came after %d", r.Data, r.PartitionKey, at[r.PartitionKey])
				}
				at[r.PartitionKey] = n + 1
			}
			return nil
		})
		stop := f.start(f.worker(consumer.Config{Lanes: 8, BatchRecords: 64}, p))
		for n := range 100 {
			for key := range 20 {
				_, err := f.orders.PutRecord(f.Context(), fmt.Sprint("key", key), []byte(strconv.Itoa(n)))
				require.NoError(f, err)
			}
		}
		f.split(shard0)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(f, at, 20)
		for key, n := range at {
			require.Equal(f, 100, n, key)
		}
		require.Greater(f, most, 3)
		require.Equal(f, consumer.StateDone, f.status(shard0).State)
		require.NoError(f, stop())
	})
}

func TestLaneThatFailsStopsTheShardBeforeTheRecord(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a", "b", "c", "poison", "d", "e")
		stop := f.start(f.worker(consumer.Config{Lanes: 4, MaxAttempts: 2}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			if slices.ContainsFunc(batch.Records, func(r consumer.Record) bool { return r.PartitionKey == "poison" }) {
				return errors.New("no")
			}
			return nil
		})))
		time.Sleep(time.Minute)
		require.Equal(f, consumer.StateFailed, f.status(shard0).State)
		require.EqualValues(f, 3, f.status(shard0).BehindRecords)
		f.stopped(stop(), shard0)
	})
}

func TestLanesLeaveCheckpointsToTheWorker(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a", "b", "c", "d")
		var errs journal
		stop := f.start(f.worker(consumer.Config{Lanes: 2}, consumer.ProcessorFunc(func(ctx context.Context, b *consumer.Batch) error {
			if err := b.CheckpointAt(ctx, b.Records[0]); !errors.Is(err, braid.ErrInvalidArgument) {
				errs.add("%v", err)
			}
			return b.Checkpoint(ctx)
		})))
		require.Empty(f, errs.take())
		require.Zero(f, f.status(shard0).BehindRecords)
		require.NoError(f, stop())
	})
}

// The retry of one goroutine of a shard is not hidden by others: the status shows it from
// the first failure until it has succeeded.
func TestStatusShowsTheLaneThatTriesAgain(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var fails sync.Map // partition keys
		fails.Store("bad", true)
		w := f.worker(consumer.Config{Lanes: 4, BatchRecords: 1, MaxAttempts: -1, RetryPause: time.Second, MaxRetryPause: time.Minute},
			consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
				if _, bad := fails.Load(batch.Records[0].PartitionKey); bad {
					return fmt.Errorf("%s fails", batch.Records[0].PartitionKey)
				}
				return nil
			}))
		f.put("bad")
		stop := f.start(w)
		for range 20 { // three quarters of them go to other lanes
			f.put("a", "b", "c", "d", "e", "f", "g", "h")
			time.Sleep(10 * time.Second)
			status := f.status(shard0)
			require.Equal(f, consumer.StateRetrying, status.State)
			require.ErrorContains(f, status.Err, "bad fails")
			require.Positive(f, status.Attempt)
		}
		fails.Clear()
		time.Sleep(time.Hour)
		status := f.status(shard0)
		require.Equal(f, consumer.StateRunning, status.State)
		require.NoError(f, status.Err)
		require.Zero(f, status.Attempt)
		require.Zero(f, status.BehindRecords)
		require.NoError(f, stop())
	})
}

// While a lane still has the last record of the shard, the shard is not done.
func TestShardEndsWhenItsLastLaneIsDone(t *testing.T) {
	for _, cfg := range []consumer.Config{{Lanes: 2}, {Lanes: 2, Checkpoints: consumer.Acks}, {Checkpoints: consumer.Acks}} {
		bubble(t, 1, func(f *fixture) {
			var seen journal
			release := make(chan struct{})
			p := &lastRecord{journal: &seen, release: release}
			f.put("a", "b", "last")
			stop := f.start(f.worker(cfg, p))
			f.split(shard0)
			time.Sleep(time.Hour)
			require.Equal(f, []string{"last begins"}, seen.take())
			require.NotEqual(f, consumer.StateDone, f.status(shard0).State)
			require.Equal(f, consumer.StateWaiting, f.status(shard1).State)
			require.Equal(f, []braid.ShardID{shard0}, f.status(shard1).WaitingFor)
			require.EqualValues(f, 1, f.status(shard0).BehindRecords)
			close(release)
			require.Equal(f, []string{"last is done", "ended"}, seen.take()[:2])
			require.Equal(f, consumer.StateDone, f.status(shard0).State)
			require.Equal(f, consumer.StateRunning, f.status(shard1).State)
			require.NoError(f, stop())
		})
	}
}

// lastRecord waits in the record "last".
type lastRecord struct {
	*journal
	release chan struct{}
}

func (p *lastRecord) ProcessRecords(_ context.Context, batch *consumer.Batch) error {
	last := slices.IndexFunc(batch.Records, func(r consumer.Record) bool { return r.PartitionKey == "last" })
	if last < 0 {
		_ = batch.Ack(batch.Records...)
		return nil
	}
	_ = batch.Ack(batch.Records[:last]...)
	if last > 0 {
		return &consumer.RecordError{Record: batch.Records[last], Err: errors.New("alone, please")}
	}
	p.add("last begins")
	<-p.release
	p.add("last is done")
	_ = batch.Ack(batch.Records...)
	return nil
}

func (p *lastRecord) ShardEnded(context.Context, *consumer.Checkpointer) error {
	p.add("ended")
	return nil
}

// A shard that OnGap stops does not wait for a lane that tries again forever.
func TestRefusedGapStopsLanesThatTryAgain(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var calls journal
		refused := errors.New("refused")
		var trimmed atomic.Bool
		source := &wrappedSource{consumer.NewDBSource(f.db), func(_ context.Context, shard braid.ShardID, next func() (consumer.Page, error)) (consumer.Page, error) {
			page, err := next()
			if trimmed.Load() {
				page.Gap = &braid.TrimmedError{Shard: shard}
			}
			return page, err
		}}
		w := f.worker(consumer.Config{
			Source: source, Lanes: 2, MaxAttempts: -1, RetryPause: time.Second, MaxRetryPause: time.Second,
			OnGap: func(context.Context, string, *braid.TrimmedError) error { return refused },
		}, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error {
			calls.add("call")
			return errors.New("no")
		}))
		f.put("a")
		stop := f.start(w)
		require.NotEmpty(f, calls.take())
		require.Equal(f, consumer.StateRetrying, f.status(shard0).State)
		trimmed.Store(true)
		f.put("b")
		synctest.Wait()
		trimmed.Store(false)
		require.Equal(f, consumer.StateFailed, f.status(shard0).State)
		require.ErrorIs(f, f.status(shard0).Err, refused)
		calls.take()
		time.Sleep(time.Hour)
		require.Empty(f, calls.take(), "it is stopped")
		require.EqualValues(f, 2, f.status(shard0).BehindRecords)
		require.ErrorIs(f, f.stopped(stop(), shard0), refused)
	})
}

package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
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

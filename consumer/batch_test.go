package consumer_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/consumer"
)

func TestLingerGathersBatches(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var sizes []int
		stop := f.start(f.worker(consumer.Config{Linger: time.Second}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			sizes = append(sizes, len(batch.Records))
			return nil
		})))
		for range 20 {
			f.put("r")
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		require.Len(f, sizes, 2)
		require.NoError(f, stop())
	})
}

func TestWorkerHoldsNoMoreBytesThanItMay(t *testing.T) {
	bubble(t, 16, func(f *fixture) {
		const most = 64 << 10
		var mu sync.Mutex
		held, peak, seen := 0, 0, 0
		p := consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			bytes := 0
			for _, r := range batch.Records {
				bytes += len(r.PartitionKey) + len(r.Data)
			}
			mu.Lock()
			held += bytes
			peak = max(peak, held)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			held -= bytes
			seen += len(batch.Records)
			mu.Unlock()
			return nil
		})
		for n := range 2000 {
			_, err := f.orders.PutRecord(f.Context(), fmt.Sprint(n), make([]byte, 1000))
			require.NoError(f, err)
		}
		stop := f.start(f.worker(consumer.Config{MaxBytes: most, BatchBytes: 16 << 10}, p))
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(f, 2000, seen)
		require.LessOrEqual(f, peak, most)
		require.Greater(f, peak, most/2)
		require.NoError(f, stop())
	})
}

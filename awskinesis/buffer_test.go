package awskinesis_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

func TestTheBufferIsBounded(t *testing.T) {
	// Each record costs 1,000 bytes: three fit.
	record := func(n int) (string, []byte) {
		return fmt.Sprint("key-", n), make([]byte, 1000-256-5)
	}
	bubble(t, 1, Options{BufferBytes: 3000, Linger: time.Second}, func(f *fixture) {
		for n := range 3 {
			key, data := record(n)
			require.NoError(f, f.producer.PutRecordAsync(f.Context(), key, data, func(r braid.PutResult) { require.NoError(f, r.Err) }))
		}
		require.Equal(f, int64(3000), f.producer.Metrics().BufferedBytes)
		key, data := record(3)
		_, err := f.producer.PutRecord(f.Context(), key, data)
		var full *braid.ThroughputExceededError
		require.ErrorAs(f, err, &full)
		require.ErrorContains(f, err, "its producer's BufferBytes is used up")

		start := time.Now()
		f.kit.Delay("PutRecords", 1, 100*time.Millisecond)
		_, err = f.producer.PutRecordWait(f.Context(), key, data) // sends the others, too
		require.NoError(f, err)
		require.Equal(f, time.Second, time.Since(start), "its own linger, since it was put")

		results, err := f.producer.PutRecordsWait(f.Context(), scattered(20, 800))
		requireStored(f, results, err)
		_, err = f.producer.PutRecord(f.Context(), "larger than the buffer", make([]byte, 10_000))
		require.NoError(f, err)
	})
	t.Run("and a caller that stops waiting leaves room to the next", func(t *testing.T) {
		bubble(t, 1, Options{BufferBytes: 3000}, func(f *fixture) {
			f.kit.Delay("PutRecords", 1, time.Second)
			key, data := record(0)
			require.NoError(f, f.producer.PutRecordAsync(f.Context(), key, make([]byte, 2500), func(braid.PutResult) {}))
			ctx, cancel := context.WithTimeout(f.Context(), time.Millisecond)
			defer cancel()
			var others sync.WaitGroup
			others.Go(func() {
				time.Sleep(time.Microsecond)
				_, err := f.producer.PutRecordWait(f.Context(), key, data)
				require.NoError(f, err)
			})
			results, err := f.producer.PutRecordsWait(ctx, scattered(2, 2000))
			require.ErrorIs(f, err, context.DeadlineExceeded)
			require.Nil(f, results)
			others.Wait()
			require.Len(f, f.kit.Records("orders"), 2)
		})
	})
}

// A caller that stops waiting for room no longer holds up records that have room, while
// the service cannot be reached and nothing else leaves the buffer.
func TestACallerThatStopsWaitingForRoomLeavesTheLine(t *testing.T) {
	bubble(t, 1, Options{BufferBytes: 3000, RequestTimeout: 2 * time.Hour}, func(f *fixture) {
		f.kit.Delay("PutRecords", 1, time.Hour)
		hour, cancel := context.WithTimeout(f.Context(), 2*time.Hour)
		defer cancel()
		require.NoError(f, f.producer.PutRecordAsync(hour, "first", make([]byte, 1500), func(braid.PutResult) {}))
		short, cancel := context.WithTimeout(f.Context(), time.Second)
		defer cancel()
		second := make(chan time.Time, 1)
		go func() {
			time.Sleep(time.Millisecond)
			_, err := f.producer.PutRecord(f.Context(), "small", nil)
			if !errors.Is(err, braid.ErrThroughputExceeded) {
				f.Error("it comes after the one that waits:", err)
			}
			err = f.producer.PutRecordAsync(hour, "small", nil, func(braid.PutResult) {})
			if err != nil {
				f.Error(err)
			}
			second <- time.Now()
		}()
		start := time.Now()
		_, err := f.producer.PutRecordWait(short, "large", make([]byte, 2000))
		require.ErrorIs(f, err, context.DeadlineExceeded)
		require.Equal(f, time.Second, (<-second).Sub(start))
		require.Zero(f, f.producer.Metrics().Waiting)
	})
}

// Records that are withdrawn do not stay in memory behind one of their key that is tried for long.
func TestWithdrawnRecordsAreFreed(t *testing.T) {
	bubble(t, 1, Options{RequestTimeout: 2 * time.Hour}, func(f *fixture) {
		f.kit.Delay("PutRecords", 1, time.Hour)
		put := func(ctx context.Context) weak.Pointer[[100]int] {
			kept := new([100]int)
			require.NoError(f, f.producer.PutRecordAsync(ctx, "key", nil, func(braid.PutResult) { kept[0]++ }))
			return weak.Make(kept)
		}
		put(f.Context())
		synctest.Wait()
		const withdrawn = 1000
		var all []weak.Pointer[[100]int]
		for range withdrawn {
			ctx, cancel := context.WithTimeout(f.Context(), time.Second)
			defer cancel()
			all = append(all, put(ctx))
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		runtime.GC()
		left := 0
		for _, p := range all {
			if p.Value() != nil {
				left++
			}
		}
		require.Less(f, left, withdrawn/4)
		time.Sleep(time.Hour)
		results, err := f.producer.PutRecordsWait(f.Context(), entries("key", 100))
		requireStored(f, results, err)
		require.Len(f, f.delivered(dropForeign)["key"], 101)
	})
}

func TestLinger(t *testing.T) {
	async := func(f *fixture, e braid.Entry) {
		require.NoError(f, f.producer.PutRecordAsync(f.Context(), e.PartitionKey, e.Data, func(r braid.PutResult) { require.NoError(f, r.Err) }))
	}
	bubble(t, 1, Options{Linger: 100 * time.Millisecond}, func(f *fixture) {
		start := time.Now()
		for _, e := range scattered(3, 10) {
			async(f, e)
			time.Sleep(40 * time.Millisecond)
		}
		_, err := f.producer.PutRecord(f.Context(), "last", nil)
		require.NoError(f, err)
		require.Equal(f, 220*time.Millisecond, time.Since(start))
		require.Equal(f, []int{3, 1}, f.client.puts())

		for _, e := range scattered(500, 10) { // enough for a request
			async(f, e)
		}
		synctest.Wait()
		require.Equal(f, []int{3, 1, 500}, f.client.puts())
		require.Equal(f, 220*time.Millisecond, time.Since(start))
	})
	t.Run("ends with a full aggregate", func(t *testing.T) {
		bubble(t, 2, Options{Linger: time.Minute, AggregateBytes: 1024}, func(f *fixture) {
			start := time.Now()
			low, high := braid.HashKey{}, braid.MaxHashKey()
			for i := range 50 {
				e := braid.Entry{PartitionKey: fmt.Sprint("busy-", i), ExplicitHashKey: &low, Data: make([]byte, 50)}
				if i == 0 {
					e = braid.Entry{PartitionKey: "idle", ExplicitHashKey: &high}
				}
				go func() {
					results, err := f.producer.PutRecordsWait(f.Context(), []braid.Entry{e})
					requireStored(f, results, err)
				}()
				synctest.Wait()
			}
			require.Zero(f, time.Since(start))
			seen := f.delivered(dropForeign)
			require.NotContains(f, seen, "idle")
			require.Greater(f, len(seen), 25)
			time.Sleep(time.Minute)
			synctest.Wait()
			require.Len(f, f.delivered(dropForeign), 50)
		})
	})
}

func TestFlush(t *testing.T) {
	bubble(t, 2, Options{Linger: time.Hour, AggregateBytes: 51_200}, func(f *fixture) {
		require.NoError(f, f.producer.Flush(f.Context()), "nothing is buffered")
		settled := 0
		for _, e := range scattered(50, 100) {
			require.NoError(f, f.producer.PutRecordAsync(f.Context(), e.PartitionKey, e.Data, func(r braid.PutResult) {
				require.NoError(f, r.Err)
				settled++ // on the only goroutine, that of the only request
			}))
		}
		f.kit.Delay("PutRecords", 1, time.Second)
		ctx, cancel := context.WithTimeout(f.Context(), time.Millisecond)
		defer cancel()
		require.ErrorIs(f, f.producer.Flush(ctx), context.DeadlineExceeded)
		start := time.Now()
		require.NoError(f, f.producer.Flush(f.Context()))
		require.Equal(f, time.Second-time.Millisecond, time.Since(start))
		synctest.Wait()
		require.Equal(f, 50, settled)
		require.Len(f, f.client.puts(), 1)
	})
}

func TestClose(t *testing.T) {
	t.Run("waits for what was put", func(t *testing.T) {
		bubble(t, 1, Options{Linger: time.Hour}, func(f *fixture) {
			stored := make(chan error, 1)
			require.NoError(f, f.producer.PutRecordAsync(f.Context(), "key", nil, func(r braid.PutResult) { stored <- r.Err }))
			require.NoError(f, f.producer.Close(f.Context()))
			require.NoError(f, <-stored)
			_, err := f.producer.PutRecordWait(f.Context(), "key", nil)
			require.ErrorIs(f, err, braid.ErrClosed)
			_, err = f.producer.PutRecords(f.Context(), entries("key", 1))
			require.ErrorIs(f, err, braid.ErrClosed)
			require.ErrorIs(f, f.producer.PutRecordAsync(f.Context(), "key", nil, nil), braid.ErrClosed)
			require.NoError(f, f.producer.Flush(f.Context()))
			require.NoError(f, f.producer.Close(f.Context()))
		})
	})
	t.Run("gives up when its context ends", func(t *testing.T) {
		bubble(t, 1, Options{BufferBytes: 1000, RequestTimeout: time.Hour}, func(f *fixture) {
			f.kit.Delay("PutRecords", 1, time.Hour)
			outcomes := make(chan error, 3)
			for range 2 { // the second waits for the first
				require.NoError(f, f.producer.PutRecordAsync(f.Context(), "key", nil, func(r braid.PutResult) { outcomes <- r.Err }))
			}
			go func() { // and this one for room
				_, err := f.producer.PutRecordWait(f.Context(), "other", make([]byte, 900))
				outcomes <- err
			}()
			synctest.Wait()
			ctx, cancel := context.WithTimeout(f.Context(), time.Second)
			defer cancel()
			require.ErrorIs(f, f.producer.Close(ctx), context.DeadlineExceeded)
			unknown := 0
			for range 3 {
				err := <-outcomes
				require.ErrorIs(f, err, braid.ErrClosed)
				if errors.Is(err, braid.ErrOutcomeUnknown) {
					unknown++
				}
			}
			require.Equal(f, 1, unknown)
		})
	})
}

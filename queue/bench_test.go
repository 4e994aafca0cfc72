package queue_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// benchQueue is a queue on disk with a backlog of n records of 100 bytes.
func benchQueue(b testing.TB, n int, o queue.Options) *queue.Queue {
	db, err := braid.Open(b.TempDir(), nil)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	s, err := db.CreateStream(ctx, "s", &braid.StreamOptions{Shards: 4})
	require.NoError(b, err)
	data := make([]byte, 95)
	entries := make([]braid.Entry, 0, 500)
	for i := 0; i < n; i += len(entries) {
		entries = entries[:0]
		for len(entries) < cap(entries) && i+len(entries) < n {
			entries = append(entries, braid.Entry{PartitionKey: fmt.Sprintf("k%04d", (i+len(entries))%5000), Data: data})
		}
		_, err := s.PutRecords(ctx, entries)
		require.NoError(b, err)
	}
	o.Stream = "s"
	q, err := queue.Open(ctx, db, "q", &o)
	require.NoError(b, err)
	return q
}

// Consumers receive and acknowledge a backlog in the default mode, in which each receive
// and each acknowledgement is durable.
func BenchmarkReceiveAck(b *testing.B) {
	for _, batch := range []int{1, 10, 100} {
		for _, consumers := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("batch=%d/consumers=%d", batch, consumers), func(b *testing.B) {
				q := benchQueue(b, b.N, queue.Options{})
				b.ReportAllocs()
				b.ResetTimer()
				var wg sync.WaitGroup
				for range consumers {
					wg.Go(func() {
						for {
							records, err := q.Receive(ctx, batch, noWait)
							if err != nil || len(records) == 0 {
								return
							}
							if err := q.Ack(ctx, receipts(records)...); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				d, err := q.Describe(ctx)
				require.NoError(b, err)
				require.EqualValues(b, b.N, d.Acknowledged)
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// The gain of a loop that acknowledges with its next receive, as Work does.
func BenchmarkExchange(b *testing.B) {
	for _, batch := range []int{1, 10} {
		for _, consumers := range []int{1, 16} {
			for _, together := range []bool{false, true} {
				b.Run(fmt.Sprintf("batch=%d/consumers=%d/together=%t", batch, consumers, together), func(b *testing.B) {
					q := benchQueue(b, b.N, queue.Options{})
					b.ResetTimer()
					var wg sync.WaitGroup
					for range consumers {
						wg.Go(func() {
							var done []queue.Receipt
							for {
								if !together && len(done) > 0 {
									if err := q.Ack(ctx, done...); err != nil {
										b.Error(err)
										return
									}
									done = nil
								}
								records, err := q.Exchange(ctx, batch, noWait, done...)
								if err != nil || len(records) == 0 {
									return
								}
								done = receipts(records)
							}
						})
					}
					wg.Wait()
					b.StopTimer()
					b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
				})
			}
		}
	}
}

// Work acknowledges with the next receive, so it needs half the commits.
func BenchmarkWork(b *testing.B) {
	for _, o := range []queue.WorkOptions{{Concurrency: 1}, {Concurrency: 16}, {Concurrency: 256}, {Concurrency: 16, Batch: 100}} {
		b.Run(fmt.Sprintf("batch=%d/workers=%d", max(1, o.Batch), o.Concurrency), func(b *testing.B) {
			q := benchQueue(b, b.N, queue.Options{})
			work, stop := context.WithCancel(ctx)
			var done atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			require.NoError(b, q.Work(work, func(context.Context, queue.Record) error {
				if done.Add(1) == int64(b.N) {
					stop()
				}
				return nil
			}, &o))
			b.StopTimer()
			stop()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkWake measures the time from the call of a put until a waiting receiver has the
// record, without fsync. An op is a put, a receive and an acknowledgement. A put waits until the
// receiver has the previous record, or for a millisecond. The paced ones wait in real time, so
// give them a number of puts: -benchtime 5000x.
func BenchmarkWake(b *testing.B) {
	for _, onDisk := range []bool{false, true} {
		for _, paced := range []bool{false, true} {
			b.Run(fmt.Sprintf("disk=%t/paced=%t", onDisk, paced), func(b *testing.B) { benchWake(b, onDisk, paced) })
		}
	}
}

func benchWake(b *testing.B, onDisk, paced bool) {
	dir := braid.InMemory
	if onDisk {
		dir = b.TempDir()
	}
	db, err := braid.Open(dir, &braid.Options{Durability: braid.NoSync})
	require.NoError(b, err)
	s, err := db.CreateStream(ctx, "s", nil)
	require.NoError(b, err)
	q, err := queue.Open(ctx, db, "q", &queue.Options{Stream: "s"})
	require.NoError(b, err)
	start := time.Now()
	samples := make([]time.Duration, 0, 1<<20)
	got := make(chan struct{}, 1)
	var receiver sync.WaitGroup
	receiver.Go(func() {
		defer close(got)
		for {
			records, err := q.Receive(ctx, 1, nil)
			if err != nil {
				return
			}
			samples = append(samples, time.Since(start)-time.Duration(binary.LittleEndian.Uint64(records[0].Data)))
			if err := q.Ack(ctx, records[0].Receipt); err != nil {
				b.Error(err)
				return
			}
			got <- struct{}{}
		}
	})
	defer receiver.Wait()
	defer db.Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	data := make([]byte, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if paced {
			<-tick.C
		}
		binary.LittleEndian.PutUint64(data, uint64(time.Since(start)))
		_, err := s.PutRecord(ctx, "k", data)
		require.NoError(b, err)
		<-got
	}
	slices.Sort(samples)
	b.ReportMetric(float64(samples[len(samples)/2].Nanoseconds())/1e3, "p50-µs")
	b.ReportMetric(float64(samples[len(samples)/4].Nanoseconds())/1e3, "p25-µs")
}

// heapBytes returns the size of live memory on the heap.
func heapBytes() int {
	runtime.GC()
	runtime.GC() // frees what pools and finalizers held after the first one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// quietHeapBytes is heapBytes while nothing runs in the bubble: a compaction would count.
func quietHeapBytes() int {
	synctest.Wait()
	return heapBytes()
}

// The default maximum of records in flight takes the memory that the documentation says.
func TestMemoryInFlight(t *testing.T) {
	if testing.Short() {
		t.Skip("it measures memory, which takes a while")
	}
	synctest.Test(t, func(t *testing.T) {
		const n = 120_000
		q := benchQueue(t, n+10_000, queue.Options{})
		before := quietHeapBytes()
		for received := 0; received < n; {
			records, err := q.Receive(ctx, 10_000, noWait)
			require.NoError(t, err)
			require.NotEmpty(t, records)
			received += len(records)
		}
		none, err := q.Receive(ctx, 1, noWait)
		require.NoError(t, err)
		require.Empty(t, none)
		used := quietHeapBytes() - before
		t.Logf("%d bytes for each record in flight", used/n)
		require.Less(t, used, n*300)
		require.Greater(t, used, n*100, "it was the heap that was measured")
	})
}

// Records that were never received take no memory, except for the few that are read
// ahead.
func TestMemoryOfABacklog(t *testing.T) {
	if testing.Short() {
		t.Skip("it puts a million records")
	}
	synctest.Test(t, func(t *testing.T) {
		const n = 1_000_000
		q := benchQueue(t, n, queue.Options{})
		before := quietHeapBytes()
		func() {
			records, err := q.Receive(ctx, 10, noWait)
			require.NoError(t, err)
			require.Len(t, records, 10)
			require.NoError(t, q.Ack(ctx, receipts(records)...))
		}()
		used := quietHeapBytes() - before
		t.Logf("%d bytes with a million records", used)
		require.Less(t, used, 4*n)
		d, err := q.Describe(ctx)
		require.NoError(t, err)
		require.EqualValues(t, n-10, d.Visible)
	})
}

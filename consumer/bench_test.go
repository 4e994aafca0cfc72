package consumer_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// benchDB is a database on disk with a stream.
func benchDB(b *testing.B, options *braid.Options, shards int) (*braid.DB, *braid.Stream) {
	db, err := braid.Open(b.TempDir(), options)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	stream, err := db.CreateStream(b.Context(), "in", &braid.StreamOptions{Shards: shards})
	require.NoError(b, err)
	return db, stream
}

// run runs a worker until the returned function is called.
func benchRun(b *testing.B, w *consumer.Worker, err error) (stop func()) {
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	return func() {
		cancel()
		require.NoError(b, <-ended)
	}
}

// fill puts n records of 100 bytes under many keys.
func fill(b *testing.B, stream *braid.Stream, n int) {
	data := make([]byte, 95)
	entries := make([]braid.Entry, 0, 500)
	for i := 0; i < n; i += len(entries) {
		entries = entries[:0]
		for len(entries) < cap(entries) && i+len(entries) < n {
			entries = append(entries, braid.Entry{PartitionKey: fmt.Sprintf("k%04d", (i+len(entries))%5000), Data: data})
		}
		_, err := stream.PutRecords(b.Context(), entries)
		require.NoError(b, err)
	}
}

// One worker processes the backlog of 4 shards: from memory, or from the store.
func BenchmarkProcess(b *testing.B) {
	for _, from := range []struct {
		name string
		tail int64
	}{{"tail", 1 << 30}, {"store", -1}} {
		for _, kind := range []string{"plain", "reuse", "lanes=4", "acks", "tx"} {
			b.Run(from.name+"/"+kind, func(b *testing.B) {
				db, stream := benchDB(b, &braid.Options{TailBytes: from.tail}, 4)
				fill(b, stream, b.N)
				done := make(chan struct{})
				var seen atomic.Int64
				count := func(records []consumer.Record) {
					if seen.Add(int64(len(records))) >= int64(b.N) {
						close(done)
					}
				}
				cfg := &consumer.Config{App: "bench", Streams: []string{"in"}}
				plain := consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
					count(batch.Records)
					return nil
				})
				b.SetBytes(100)
				b.ReportAllocs()
				b.ResetTimer()
				var w *consumer.Worker
				var err error
				switch kind {
				case "tx":
					w, err = consumer.NewTx(db, cfg, consumer.TxProcessorFunc(func(_ context.Context, tx *braid.Tx, batch *consumer.TxBatch) error {
						count(batch.Records)
						return tx.Set([]byte("n/"+string(batch.Lease().Shard)), strconv.AppendInt(nil, int64(len(batch.Records)), 10))
					}))
				case "acks":
					cfg.Checkpoints = consumer.Acks
					w, err = consumer.New(db, cfg, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
						defer count(batch.Records)
						return batch.Ack(batch.Records...)
					}))
				case "lanes=4":
					cfg.Lanes = 4
					w, err = consumer.New(db, cfg, plain)
				default:
					cfg.ReuseRecords = kind == "reuse"
					w, err = consumer.New(db, cfg, plain)
				}
				stop := benchRun(b, w, err)
				<-done
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
				stop()
			})
		}
	}
}

// Measures how long a record, of one per millisecond, takes from its put to the
// processor.
func BenchmarkWake(b *testing.B) {
	for _, kind := range []string{"plain", "tx"} {
		b.Run(kind, func(b *testing.B) {
			db, stream := benchDB(b, &braid.Options{Durability: braid.NoSync}, 1)
			var began time.Time
			took := make([]time.Duration, 0, b.N)
			got := make(chan struct{}, 1)
			arrive := func() {
				took = append(took, time.Since(began))
				got <- struct{}{}
			}
			cfg := &consumer.Config{App: "bench", Streams: []string{"in"}}
			var w *consumer.Worker
			var err error
			if kind == "plain" {
				w, err = consumer.New(db, cfg, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { arrive(); return nil }))
			} else {
				w, err = consumer.NewTx(db, cfg, consumer.TxProcessorFunc(func(context.Context, *braid.Tx, *consumer.TxBatch) error { arrive(); return nil }))
			}
			stop := benchRun(b, w, err)
			data := make([]byte, 100)
			for b.Loop() {
				time.Sleep(time.Millisecond) // the pace
				began = time.Now()
				_, err := stream.PutRecord(b.Context(), "k", data)
				require.NoError(b, err)
				<-got
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "p99-µs")
			stop()
		})
	}
}

// Durable transactions of one record each, in many shards, share fsyncs as puts do. For
// comparison, the same number of goroutines that only put.
func BenchmarkTransactions(b *testing.B) {
	const shards = 64
	b.Run("consumer", func(b *testing.B) {
		db, stream := benchDB(b, nil, shards)
		fill(b, stream, b.N)
		var seen atomic.Int64
		done := make(chan struct{})
		b.ReportAllocs()
		b.ResetTimer()
		w, err := consumer.NewTx(db, &consumer.Config{App: "bench", Streams: []string{"in"}, BatchRecords: 1}, consumer.TxProcessorFunc(
			func(_ context.Context, tx *braid.Tx, batch *consumer.TxBatch) error {
				if seen.Add(1) == int64(b.N) {
					close(done)
				}
				return tx.Set([]byte("last/"+string(batch.Lease().Shard)), batch.Records[0].Data)
			}))
		stop := benchRun(b, w, err)
		<-done
		b.StopTimer()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		stop()
	})
	b.Run("puts", func(b *testing.B) {
		_, stream := benchDB(b, nil, shards)
		data := make([]byte, 100)
		b.SetParallelism(shards / 2)
		b.RunParallel(func(pb *testing.PB) {
			for n := 0; pb.Next(); n++ {
				_, err := stream.PutRecord(b.Context(), strconv.Itoa(n), data)
				require.NoError(b, err)
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
}

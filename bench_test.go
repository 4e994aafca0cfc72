package braid_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// The benchmarks here measure allocations and single paths. bench/ compares braid with other
// logs, in one run, on real files.

func openBenchmark(b *testing.B, dir string, durability braid.Durability, shards int) *braid.Stream {
	b.Helper()
	db, err := braid.Open(dir, &braid.Options{Durability: durability})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	s, err := db.OpenStream(b.Context(), "bench", &braid.StreamOptions{Shards: shards})
	require.NoError(b, err)
	return s
}

// keys are enough partition keys to reach every shard.
var keys = func() []string {
	keys := make([]string, 1024)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%04d", i)
	}
	return keys
}()

func BenchmarkPutRecord(b *testing.B) {
	for _, mode := range []braid.Durability{braid.Sync, braid.NoSync} {
		for _, producers := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("%s/producers=%d", mode, producers), func(b *testing.B) {
				s := openBenchmark(b, b.TempDir(), mode, 4)
				data := make([]byte, 1024)
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				b.ResetTimer()
				runProducers(b, producers, func(i int) error {
					_, err := s.PutRecord(context.Background(), keys[i%len(keys)], data)
					return err
				})
			})
		}
	}
}

// BenchmarkPutRecordToShards spreads single puts over many shards.
func BenchmarkPutRecordToShards(b *testing.B) {
	for _, mode := range []braid.Durability{braid.Sync, braid.NoSync} {
		for _, producers := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/producers=%d/shards=64/bytes=100", mode, producers), func(b *testing.B) {
				s := openBenchmark(b, b.TempDir(), mode, 64)
				data := make([]byte, 100)
				b.ReportAllocs()
				b.ResetTimer()
				runProducers(b, producers, func(i int) error {
					_, err := s.PutRecord(context.Background(), keys[i%len(keys)], data)
					return err
				})
			})
		}
	}
}

func BenchmarkPutRecords(b *testing.B) {
	for _, size := range []int{100, 1024} {
		for _, shards := range []int{1, 64} {
			for _, producers := range []int{1, 16} {
				b.Run(fmt.Sprintf("Sync/producers=%d/shards=%d/batch=500/bytes=%d", producers, shards, size), func(b *testing.B) {
					s := openBenchmark(b, b.TempDir(), braid.Sync, shards)
					entries := make([]braid.Entry, 500)
					noise := rand.NewChaCha8([32]byte{})
					for i := range entries {
						entries[i] = braid.Entry{PartitionKey: keys[i], Data: make([]byte, size)}
						_, _ = noise.Read(entries[i].Data[:size/2])
					}
					b.SetBytes(int64(size * len(entries)))
					b.ReportAllocs()
					b.ResetTimer()
					runProducers(b, producers, func(int) error {
						_, err := s.PutRecords(context.Background(), entries)
						return err
					})
					b.ReportMetric(float64(b.N*len(entries))/b.Elapsed().Seconds(), "records/s")
				})
			}
		}
	}
}

// BenchmarkCapacity measures the cost of budgets, and of observing the load. The budgets are
// so large that they refuse nothing. Both sides take turns in one run, since a machine's
// speed changes from one moment to the next.
func BenchmarkCapacity(b *testing.B) {
	for _, capacity := range []braid.CapacityMode{braid.Provisioned, braid.OnDemand} {
		for _, mode := range []braid.Durability{braid.Sync, braid.NoSync} {
			for _, batch := range []int{1, 500} {
				b.Run(fmt.Sprintf("%s/%s/batch=%d/bytes=1024", capacity, mode, batch), func(b *testing.B) {
					plain := openBenchmark(b, b.TempDir(), mode, 4)
					budgeted := openBenchmark(b, b.TempDir(), mode, 4)
					require.NoError(b, budgeted.UpdateCapacity(b.Context(), braid.Capacity{Mode: capacity, WriteRecordsPerSecond: 1 << 30, WriteBytesPerSecond: 1 << 30}))
					compareBenchmark(b, putter(b, budgeted, batch), putter(b, plain, batch))
				})
			}
		}
	}
}

// BenchmarkEncrypted measures the cost of encryption, in the same way.
func BenchmarkEncrypted(b *testing.B) {
	ring, err := braid.NewKeyRing(map[string][]byte{"main": make([]byte, 32)})
	require.NoError(b, err)
	for _, mode := range []braid.Durability{braid.Sync, braid.NoSync} {
		for _, batch := range []int{1, 500} {
			b.Run(fmt.Sprintf("%s/batch=%d/bytes=1024", mode, batch), func(b *testing.B) {
				plain := openBenchmark(b, b.TempDir(), mode, 4)
				db, err := braid.Open(b.TempDir(), &braid.Options{Durability: mode, KeyProvider: ring})
				require.NoError(b, err)
				b.Cleanup(func() { require.NoError(b, db.Close()) })
				encrypted, err := db.OpenStream(b.Context(), "bench", &braid.StreamOptions{Shards: 4})
				require.NoError(b, err)
				require.NoError(b, encrypted.StartEncryption(b.Context(), "main"))
				compareBenchmark(b, putter(b, encrypted, batch), putter(b, plain, batch))
			})
		}
	}
}

// putter puts as many entries of 1 KiB at once.
func putter(b *testing.B, s *braid.Stream, batch int) func(i int) error {
	noise := rand.NewChaCha8([32]byte{})
	entries := make([]braid.Entry, batch)
	for i := range entries {
		entries[i] = braid.Entry{PartitionKey: keys[i], Data: make([]byte, 1024)}
		_, _ = noise.Read(entries[i].Data) // encrypted data does not compress, so neither side's should
	}
	if batch == 1 {
		return func(i int) error {
			_, err := s.PutRecord(context.Background(), keys[i%len(keys)], entries[0].Data)
			return err
		}
	}
	return func(int) error {
		results, err := s.PutRecords(context.Background(), entries)
		if err == nil {
			err = results[len(results)-1].Err
		}
		return err
	}
}

// compareBenchmark runs both in turns, b.N calls of each in all, and reports the median ratio
// of the first one's speed to the other's.
func compareBenchmark(b *testing.B, put, other func(i int) error) {
	const turns, producers = 51, 16
	n := max(1, b.N/turns/producers)
	turn := func(put func(i int) error) time.Duration {
		var wg sync.WaitGroup
		begin := time.Now()
		for p := range producers {
			wg.Go(func() {
				for i := range n {
					if err := put(p*n + i); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		return time.Since(begin)
	}
	turn(put)
	turn(other)
	ratios, took := make([]float64, turns), make([]float64, turns)
	for i := range ratios {
		var ours, theirs time.Duration
		if i%2 == 0 {
			ours, theirs = turn(put), turn(other)
		} else {
			theirs, ours = turn(other), turn(put)
		}
		ratios[i], took[i] = float64(theirs)/float64(ours), float64(ours.Nanoseconds())/float64(n*producers)
	}
	slices.Sort(ratios)
	slices.Sort(took)
	b.ReportMetric(ratios[turns/2], "of-plain")
	b.ReportMetric(took[turns/2], "ns/call")
	b.ReportMetric(0, "ns/op") // of both
}

// runProducers spreads b.N calls over goroutines.
func runProducers(b *testing.B, producers int, put func(i int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range producers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := put(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkTxGet measures a transaction's read of a key in memory, under a context that
// cannot end and under one that can. In the second case the read runs on another goroutine,
// because it must not hold its caller.
func BenchmarkTxGet(b *testing.B) {
	db, err := braid.Open(b.TempDir(), &braid.Options{Durability: braid.NoSync})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	require.NoError(b, db.Update(b.Context(), func(tx *braid.Tx) error { return tx.Set([]byte("key"), make([]byte, 100)) }))
	for _, callers := range []int{1, 16} {
		for _, ctx := range []context.Context{context.Background(), b.Context()} {
			b.Run(fmt.Sprintf("callers=%d/can end=%v", callers, ctx.Done() != nil), func(b *testing.B) {
				b.ReportAllocs()
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						err := db.View(ctx, func(tx *braid.Tx) error {
							for range b.N / callers {
								if _, err := tx.Get([]byte("key")); err != nil {
									return err
								}
							}
							return nil
						})
						if err != nil {
							b.Error(err)
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

// BenchmarkPauses measures the longest put and read while a shard is split and merged, and
// while millions of records are trimmed and their space is reclaimed. It reports them beside
// the longest ones of an equally long time in which nothing else happens. Once is enough:
// -benchtime 1x.
func BenchmarkPauses(b *testing.B) {
	reshard := func(b *testing.B, s *braid.Stream) {
		lower, upper, err := s.SplitShard(b.Context(), s.Shards()[len(s.Shards())-1].ID(), nil)
		require.NoError(b, err)
		_, err = s.MergeShards(b.Context(), lower.ID(), upper.ID())
		require.NoError(b, err)
	}
	b.Run("reshard", func(b *testing.B) {
		for range b.N {
			s := openBenchmark(b, b.TempDir(), braid.Sync, 4)
			measurePauses(b, s, func() {
				for range 20 {
					reshard(b, s)
				}
			})
		}
	})
	for _, millions := range []int{1, 10} {
		b.Run(fmt.Sprintf("trim/records=%dM", millions), func(b *testing.B) {
			for range b.N {
				s := openBenchmark(b, b.TempDir(), braid.NoSync, 4)
				entries := make([]braid.Entry, 1000)
				noise := rand.NewChaCha8([32]byte{})
				for i := range entries {
					entries[i] = braid.Entry{PartitionKey: keys[i], Data: make([]byte, 100)}
					_, _ = noise.Read(entries[i].Data)
				}
				for range millions * 1000 {
					_, err := s.PutRecords(b.Context(), entries)
					require.NoError(b, err)
				}
				measurePauses(b, s, func() { require.NoError(b, s.Trim(b.Context(), braid.Latest())) })
				require.Less(b, s.Describe().Records, int64(millions*1_000_000))
			}
		})
	}
}

// measurePauses lets producers and a reader work for two equally long times. fn runs in the
// second one. It reports the longest calls of each.
func measurePauses(b *testing.B, s *braid.Stream, fn func()) {
	const stretch = 2 * time.Second
	var during atomic.Bool
	var puts, reads [2]atomic.Int64 // the longest, without fn and with it
	note := func(longest *[2]atomic.Int64, began time.Time) {
		i := 0
		if during.Load() {
			i = 1
		}
		for took := int64(time.Since(began)); ; {
			if before := longest[i].Load(); took <= before || longest[i].CompareAndSwap(before, took) {
				return
			}
		}
	}
	ctx, stop := context.WithCancel(b.Context())
	var running sync.WaitGroup
	for p := range 16 {
		running.Go(func() {
			data := make([]byte, 100)
			for i := 0; ctx.Err() == nil; i++ {
				began := time.Now()
				if _, err := s.PutRecord(context.Background(), keys[(p*64+i)%len(keys)], data); err != nil {
					b.Error(err)
					return
				}
				note(&puts, began)
			}
		})
	}
	running.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			if _, err := s.Shards()[0].GetRecords(context.Background(), braid.TrimHorizon(), &braid.GetRecordsOptions{Limit: 100}); err != nil {
				b.Error(err)
				return
			}
			note(&reads, began)
			time.Sleep(time.Millisecond)
		}
	})
	time.Sleep(stretch)
	during.Store(true)
	began := time.Now()
	fn()
	took := time.Since(began)
	time.Sleep(stretch) // space is reclaimed
	stop()
	running.Wait()
	millis := func(n *atomic.Int64) float64 { return float64(n.Load()) / 1e6 }
	b.ReportMetric(took.Seconds()*1e3, "ms-it-took")
	b.ReportMetric(millis(&puts[0]), "ms-longest-put-before")
	b.ReportMetric(millis(&puts[1]), "ms-longest-put")
	b.ReportMetric(millis(&reads[0]), "ms-longest-read-before")
	b.ReportMetric(millis(&reads[1]), "ms-longest-read")
}

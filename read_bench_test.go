package braid_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// BenchmarkRecords reads records that are in tables and were read before: a single shard, or
// a stream of many shards in the order of arrival.
func BenchmarkRecords(b *testing.B) {
	const batches, perBatch = 200, 1000
	for _, encrypted := range []bool{false, true} {
		for _, size := range []int{100, 1024} {
			for _, shards := range []int{1, 64} {
				name := fmt.Sprintf("shards=%d/bytes=%d", shards, size)
				if encrypted {
					name += "/encrypted"
				}
				s := filled(b, filling{shards: shards, batches: batches, perBatch: perBatch, size: size, encrypted: encrypted})
				for _, borrow := range []bool{false, true} {
					b.Run(fmt.Sprintf("%s/borrow=%t", name, borrow), func(b *testing.B) {
						read, sh := s.Records, s.Shards()[0]
						switch {
						case shards == 1 && borrow:
							read = sh.BorrowRecords
						case shards == 1:
							read = sh.Records
						case borrow:
							read = s.BorrowRecords
						}
						b.SetBytes(int64(size * perBatch * batches))
						b.ReportAllocs()
						for b.Loop() {
							require.Equal(b, batches*perBatch, countRecords(b, read(context.Background(), braid.TrimHorizon())))
						}
						b.ReportMetric(float64(b.N*batches*perBatch)/b.Elapsed().Seconds(), "records/s")
					})
				}
			}
		}
	}
}

// BenchmarkGetRecords reads small pages anywhere in a shard, of records that were put
// together and of records that were put one by one.
func BenchmarkGetRecords(b *testing.B) {
	for _, size := range []int{100, 1024} {
		for _, f := range []filling{
			{shards: 1, batches: 200, perBatch: 500, size: size},
			{shards: 1, batches: 20_000, perBatch: 1, size: size},
			{shards: 1, batches: 200, perBatch: 500, size: size, encrypted: true},
		} {
			s := filled(b, f)
			sh := s.Shards()[0]
			var all []braid.Record
			for r, err := range sh.Records(b.Context(), braid.TrimHorizon()) {
				require.NoError(b, err)
				all = append(all, r)
			}
			run := func(name string, limit int, at func(braid.Record) braid.Position) {
				if f.encrypted {
					name += "/encrypted"
				}
				b.Run(fmt.Sprintf("%s/batch=%d/bytes=%d", name, f.perBatch, size), func(b *testing.B) {
					random := rand.New(rand.NewPCG(1, 2))
					b.ReportAllocs()
					for b.Loop() {
						from := all[random.IntN(len(all)-limit)]
						page, err := sh.GetRecords(context.Background(), at(from), &braid.GetRecordsOptions{Limit: limit})
						if err != nil || len(page.Records) != limit || page.Records[0].SequenceNumber != from.SequenceNumber {
							b.Fatal(err, page)
						}
					}
				})
			}
			at := func(r braid.Record) braid.Position { return braid.AtSequence(r.SequenceNumber) }
			run("limit=1", 1, at)
			run("limit=10", 10, at)
			run("limit=1000", 1000, at)
			after := make(map[braid.SequenceNumber]braid.Position, len(all)) // the position before each number's record
			for i := range all[1:] {
				after[all[i+1].SequenceNumber] = braid.AfterSequence(all[i].SequenceNumber)
			}
			after[all[0].SequenceNumber] = braid.TrimHorizon()
			run("after", 1, func(r braid.Record) braid.Position { return after[r.SequenceNumber] })
			run("time", 1, func(r braid.Record) braid.Position { return braid.AtTime(r.ArrivalTime) })
		}
	}
}

func countRecords(b *testing.B, records iter.Seq2[braid.Record, error]) (n int) {
	for _, err := range records {
		if err != nil {
			b.Fatal(err)
		}
		n++
	}
	return n
}

// filling describes the records of a stream. Half of their data compresses.
type filling struct {
	shards, batches, perBatch, size int
	encrypted                       bool
}

// filled returns a stream with all records in tables.
func filled(b *testing.B, f filling) *braid.Stream {
	b.Helper()
	ring, err := braid.NewKeyRing(map[string][]byte{"main": make([]byte, 32)})
	require.NoError(b, err)
	dir := b.TempDir()
	opts := &braid.Options{Durability: braid.NoSync, KeyProvider: ring}
	db, err := braid.Open(dir, opts)
	require.NoError(b, err)
	s, err := db.OpenStream(b.Context(), "bench", &braid.StreamOptions{Shards: f.shards})
	require.NoError(b, err)
	if f.encrypted {
		require.NoError(b, s.StartEncryption(b.Context(), "main"))
	}
	random := rand.NewChaCha8([32]byte{})
	entries := make([]braid.Entry, f.perBatch)
	for range f.batches {
		for i := range entries {
			data := make([]byte, f.size)
			_, _ = random.Read(data[:f.size/2])
			entries[i] = braid.Entry{PartitionKey: keys[i], Data: data}
		}
		_, err := s.PutRecords(context.Background(), entries)
		require.NoError(b, err)
	}
	require.NoError(b, db.Close())
	db, err = braid.Open(dir, opts)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	s, err = db.Stream("bench")
	require.NoError(b, err)
	return s
}

package braid_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// BenchmarkBesideStreams measures a call in a database with many idle streams of one record:
// the cost must not grow with their number. It runs in memory, so that it measures the call
// and not a disk. Creating the streams is a row of its own.
func BenchmarkBesideStreams(b *testing.B) {
	calls := []struct {
		name string
		put  bool // whether the stream gets a record before the call
		call func(*braid.DB, *braid.Stream) error
	}{
		{"first put", false, func(_ *braid.DB, s *braid.Stream) error {
			_, err := s.PutRecord(b.Context(), "key", nil)
			return err
		}},
		{"put", true, func(_ *braid.DB, s *braid.Stream) error {
			_, err := s.PutRecord(b.Context(), "key", nil)
			return err
		}},
		{"create", false, func(db *braid.DB, s *braid.Stream) error {
			_, err := db.CreateStream(b.Context(), s.Name()+".new", nil)
			return err
		}},
		{"delete", true, func(db *braid.DB, s *braid.Stream) error { return db.DeleteStream(b.Context(), s.Name()) }},
		{"trim", true, func(_ *braid.DB, s *braid.Stream) error { return s.Trim(b.Context(), braid.Latest()) }},
		{"split", true, func(_ *braid.DB, s *braid.Stream) error {
			_, _, err := s.SplitShard(b.Context(), s.Shards()[0].ID(), nil)
			return err
		}},
		{"metrics", false, func(db *braid.DB, _ *braid.Stream) error { db.Metrics(); return nil }},
	}
	for _, streams := range []int{10, 100, 1000, 10_000} {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(b, err)
		began := time.Now()
		createIdle(b, db, streams)
		created := time.Since(began)
		putIdle(b, db, streams)
		b.Run(fmt.Sprintf("creation of all/streams=%d", streams), func(b *testing.B) {
			for b.Loop() { // the measured work was done before the loop
			}
			b.ReportMetric(float64(created.Nanoseconds())/float64(streams), "ns/call")
			b.ReportMetric(0, "ns/op")
		})
		for _, c := range calls {
			b.Run(fmt.Sprintf("%s/streams=%d", c.name, streams), func(b *testing.B) {
				var took time.Duration
				calls := 0
				for b.Loop() {
					s, err := db.CreateStream(b.Context(), "s", nil)
					require.NoError(b, err)
					if c.put {
						_, err := s.PutRecord(b.Context(), "key", nil)
						require.NoError(b, err)
					}
					began := time.Now()
					err = c.call(db, s)
					took += time.Since(began)
					calls++
					require.NoError(b, err)
					for _, name := range []string{"s", "s.new"} {
						if s, err := db.Stream(name); err == nil {
							require.NoError(b, db.DeleteStream(b.Context(), s.Name()))
						}
					}
				}
				b.ReportMetric(float64(took.Nanoseconds())/float64(calls), "ns/call")
				b.ReportMetric(0, "ns/op")
			})
		}
		require.NoError(b, db.Close())
	}
}

// createIdle creates streams, and putIdle puts a record to each.
func createIdle(b *testing.B, db *braid.DB, streams int) {
	for i := range streams {
		_, err := db.CreateStream(b.Context(), fmt.Sprint("idle-", i), nil)
		require.NoError(b, err)
	}
}

func putIdle(b *testing.B, db *braid.DB, streams int) {
	for i := 0; i < streams; i += 500 { // in few commits
		require.NoError(b, db.Update(b.Context(), func(tx *braid.Tx) error {
			for j := i; j < min(i+500, streams); j++ {
				if err := tx.PutRecord(fmt.Sprint("idle-", j), "key", nil); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

// liveBytes returns how many bytes of memory are reachable.
func liveBytes() int64 {
	runtime.GC()
	runtime.GC() // collects what the first one has finalized
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// BenchmarkOpenStreams opens a database on disk with many streams of one shard and one
// record, after a clean close and after a crash.
func BenchmarkOpenStreams(b *testing.B) {
	for _, streams := range []int{10, 1000, 10_000} {
		dir := b.TempDir()
		db, err := braid.Open(dir, nil)
		require.NoError(b, err)
		createIdle(b, db, streams)
		putIdle(b, db, streams)
		crashed := b.TempDir()
		require.NoError(b, os.CopyFS(crashed, os.DirFS(dir)))
		require.NoError(b, db.Close())
		for _, state := range []struct{ name, dir string }{{"closed", dir}, {"crashed", crashed}} {
			b.Run(fmt.Sprintf("%s/streams=%d", state.name, streams), func(b *testing.B) {
				b.ReportAllocs()
				var took time.Duration
				n := 0
				for b.Loop() {
					again := b.TempDir()
					require.NoError(b, os.CopyFS(again, os.DirFS(state.dir)))
					began := time.Now()
					db, err := braid.Open(again, nil)
					took += time.Since(began)
					n++
					require.NoError(b, err)
					require.NoError(b, db.Close())
				}
				b.ReportMetric(took.Seconds()*1000/float64(n), "ms/open")
			})
		}
	}
}

// BenchmarkIdleStreamBytes measures the memory of an idle stream of one shard and one record,
// after the put and after the next open.
func BenchmarkIdleStreamBytes(b *testing.B) {
	const streams = 10_000
	dir := b.TempDir()
	options := &braid.Options{Durability: braid.NoSync, TailBytes: -1, CacheBytes: -1}
	for b.Loop() {
		require.NoError(b, os.RemoveAll(dir))
		db, err := braid.Open(dir, options)
		require.NoError(b, err)
		before := liveBytes()
		createIdle(b, db, streams)
		putIdle(b, db, streams)
		b.ReportMetric(float64(liveBytes()-before)/streams, "bytes/created")
		require.NoError(b, db.Close())
		db = nil
		before = liveBytes()
		db, err = braid.Open(dir, options)
		require.NoError(b, err)
		b.ReportMetric(float64(liveBytes()-before)/streams, "bytes/opened")
		require.NoError(b, db.Close())
	}
}

// BenchmarkBesideShards measures a call in a stream with many idle shards of one record: the
// cost must not grow with their number.
func BenchmarkBesideShards(b *testing.B) {
	for _, shards := range []int{10, 10_000} {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(b, err)
		s, err := db.CreateStream(b.Context(), "s", &braid.StreamOptions{Shards: shards})
		require.NoError(b, err)
		time.Sleep(time.Millisecond)
		old := time.Now() // earlier than every record
		for chunk := range slices.Chunk(s.Shards(), 500) {
			var entries []braid.Entry
			for _, sh := range chunk {
				key := sh.HashKeyRange().Start
				entries = append(entries, braid.Entry{PartitionKey: "key", ExplicitHashKey: &key})
			}
			_, err := s.PutRecords(b.Context(), entries)
			require.NoError(b, err)
		}
		for name, call := range map[string]func() error{
			"put": func() error {
				_, err := s.PutRecord(b.Context(), "key", nil)
				return err
			},
			"trim of nothing": func() error { return s.Trim(b.Context(), braid.AtTime(old)) },
			"create": func() error {
				_, err := db.CreateStream(b.Context(), "other", nil)
				if err == nil {
					err = db.DeleteStream(b.Context(), "other")
				}
				return err
			},
		} {
			b.Run(fmt.Sprintf("%s/shards=%d", name, shards), func(b *testing.B) {
				for b.Loop() {
					require.NoError(b, call())
				}
			})
		}
		require.NoError(b, db.Close())
	}
}

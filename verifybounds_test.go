package braid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
)

// The report is bounded, and counts further problems.
func TestVerifyReportIsBounded(t *testing.T) {
	db := openVerified(t)
	s := verifySource(t, db)
	for _, b := range liveBlocks(t, s.Shards()[1])[:10] {
		writeRows(t, db, func(batch *kv.Batch) { batch.Set(b.key, append(bytes.Clone(b.value), 0)) })
	}
	report, err := db.Verify(t.Context(), &VerifyOptions{BytesPerSecond: -1, MaxProblems: 3})
	require.ErrorContains(t, err, "10 problems, the first: records of stream \"orders\", shardId-000000000001: ")
	require.Len(t, report.Problems, 3)
	require.Equal(t, int64(7), report.MoreProblems)
}

// Verify keeps to the rate, to the page. Without a rate, no time passes.
func TestVerifyKeepsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := Open(InMemory, &Options{KeyProvider: blockKeys, MemtableBytes: minMemtableBytes})
		require.NoError(t, err)
		defer db.Close()
		verifySource(t, db)
		took := func(options *VerifyOptions) (time.Duration, int64) {
			var read int64
			options.Progress = func(done, _ int64) { read = done }
			began := time.Now()
			_, err := db.Verify(t.Context(), options)
			require.NoError(t, err)
			return time.Since(began), read
		}
		none, _ := took(&VerifyOptions{BytesPerSecond: -1})
		require.Zero(t, none)
		slow, read := took(&VerifyOptions{BytesPerSecond: 1000})
		require.InDelta(t, float64(read)/1000, slow.Seconds(), 0.2)
		usual, read := took(&VerifyOptions{})
		require.InDelta(t, float64(read)/defaultVerifyRate, usual.Seconds(), 0.2)

		db, err = open("/db", &Options{KeyProvider: blockKeys, MemtableBytes: minMemtableBytes}, environment{fs: vfs.NewMem()})
		require.NoError(t, err)
		defer db.Close()
		verifySource(t, db)
		slow, files := took(&VerifyOptions{BytesPerSecond: 100_000})
		require.InDelta(t, float64(files)/100_000, slow.Seconds(), 0.2)
		require.Greater(t, files, 3*read/2, "the files count as well")
	})
}

// The call ends at once when its context or the database ends, and the report has the
// problems found by then.
func TestVerifyEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := Open(InMemory, &Options{KeyProvider: blockKeys, MemtableBytes: minMemtableBytes})
		require.NoError(t, err)
		s := verifySource(t, db)
		damageBlock(t, db, liveBlocks(t, s.Shards()[1])[0])
		cause := errors.New("no time")
		for _, ends := range []func(cancel context.CancelCauseFunc) error{
			func(cancel context.CancelCauseFunc) error { cancel(cause); return cause },
			func(context.CancelCauseFunc) error { require.NoError(t, db.Close()); return ErrClosed },
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			type result struct {
				report *VerifyReport
				err    error
			}
			done := make(chan result, 1)
			go func() {
				report, err := db.Verify(ctx, &VerifyOptions{BytesPerSecond: 100_000})
				done <- result{report, err}
			}()
			time.Sleep(15 * time.Second)
			began := time.Now()
			want := ends(cancel)
			r := <-done
			require.Equal(t, began, time.Now())
			require.ErrorIs(t, r.err, want)
			require.ErrorIs(t, r.err, ErrCorrupt, "what was found before")
			require.Len(t, r.report.Problems, 1)
			require.Positive(t, r.report.Records)
			require.Zero(t, r.report.Keys)
			cancel(nil)
		}
	})
}

// The memory of Verify does not grow with the database.
func TestVerifyMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Files in memory and the cache would count: a compaction at the wrong moment doubles the former.
		db, err := Open(t.TempDir(), &Options{Durability: NoSync, MemtableBytes: minMemtableBytes, CacheBytes: -1})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		s, err := db.OpenStream(t.Context(), "s", nil)
		require.NoError(t, err)
		data := make([]byte, 1<<20-100)
		fill := func(n int) {
			for range n {
				_, err := s.PutRecord(t.Context(), "k", data)
				require.NoError(t, err)
			}
		}
		peak := func() (most uint64) {
			var before, now runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, err := db.Verify(t.Context(), &VerifyOptions{BytesPerSecond: -1, Progress: func(int64, int64) {
				runtime.GC()
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapAlloc-min(now.HeapAlloc, before.HeapAlloc))
			}})
			require.NoError(t, err)
			return most
		}
		fill(4)
		_ = peak() // allocates everything that is allocated only once
		few := peak()
		fill(60)
		require.NoError(t, db.store.Flush())
		synctest.Wait() // compactions, too, hold some records at a time
		require.Less(t, peak(), few+20<<20)
	})
}

// BenchmarkVerify measures how fast a database is verified whose tables are in the cache of the
// operating system.
func BenchmarkVerify(b *testing.B) {
	for _, size := range []int{100, 1000} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			db, err := Open(b.TempDir(), &Options{Durability: NoSync, CacheBytes: -1, TailBytes: -1})
			require.NoError(b, err)
			defer db.Close()
			s, err := db.OpenStream(b.Context(), "s", &StreamOptions{Shards: 4})
			require.NoError(b, err)
			noise := rand.NewChaCha8([32]byte{})
			entries := make([]Entry, 500)
			for total := 0; total < 128<<20; total += size * len(entries) {
				for i := range entries {
					entries[i] = Entry{PartitionKey: strconv.Itoa(i), Data: make([]byte, size)}
					_, _ = noise.Read(entries[i].Data)
				}
				_, err := s.PutRecords(b.Context(), entries)
				require.NoError(b, err)
			}
			require.NoError(b, db.store.Flush())
			b.ResetTimer()
			for b.Loop() {
				report, err := db.Verify(b.Context(), unpaced)
				require.NoError(b, err)
				b.SetBytes(report.Bytes)
			}
		})
	}
}

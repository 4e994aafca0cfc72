package braid

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkLedger measures the cost of the ledger of durable files: each case runs with and
// without it.
func BenchmarkLedger(b *testing.B) {
	for _, durability := range []Durability{Sync, NoSync} {
		for _, size := range []int{100, 10_000} {
			for _, off := range []bool{false, true} {
				b.Run(fmt.Sprintf("put/%v/size=%d/off=%v", durability, size, off), func(b *testing.B) {
					benchmarkLedgerPuts(b, durability, size, off)
				})
			}
		}
	}
	dir := b.TempDir()
	opts := &Options{MemtableBytes: minMemtableBytes}
	db, err := open(dir, opts, environment{})
	require.NoError(b, err)
	s, err := db.CreateStream(b.Context(), "s", nil)
	require.NoError(b, err)
	for range 64 { // each makes an epoch and a table
		for range 10 {
			_, err := s.PutRecords(b.Context(), []Entry{{PartitionKey: "key", Data: make([]byte, 100_000)}})
			require.NoError(b, err)
		}
	}
	require.NoError(b, db.Close())
	for _, off := range []bool{false, true} {
		b.Run(fmt.Sprintf("open/off=%v", off), func(b *testing.B) {
			for b.Loop() {
				db, err := open(dir, opts, environment{noLedger: off})
				require.NoError(b, err)
				b.StopTimer()
				require.NoError(b, db.Close())
				b.StartTimer()
			}
		})
	}
}

func benchmarkLedgerPuts(b *testing.B, durability Durability, size int, off bool) {
	db, err := open(b.TempDir(), &Options{Durability: durability}, environment{noLedger: off})
	require.NoError(b, err)
	s, err := db.CreateStream(b.Context(), "s", nil)
	require.NoError(b, err)
	entries := make([]Entry, 100)
	for i := range entries {
		entries[i] = Entry{PartitionKey: "key", Data: make([]byte, size)}
	}
	b.SetBytes(int64(size * len(entries)))
	for b.Loop() {
		_, err := s.PutRecords(b.Context(), entries)
		require.NoError(b, err)
	}
	require.NoError(b, db.Close())
}

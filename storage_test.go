package braid_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// A record is written to the log and to one table, and never again: that is the purpose of
// epochs. It needs a test, because Pebble by itself would compact the tables of records
// together with those of the rows about streams.
func TestRecordsAreWrittenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := braid.Open(t.TempDir(), &braid.Options{MemtableBytes: 4 << 20, Durability: braid.NoSync})
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()) }()
		stream, err := db.OpenStream(t.Context(), "s", &braid.StreamOptions{Shards: 64})
		require.NoError(t, err)

		source := rand.NewChaCha8([32]byte{})
		random := rand.New(source)
		entries := make([]braid.Entry, 64)
		for range 40 { // 40 MiB in 13 epochs
			for i := range entries {
				data := make([]byte, 16<<10)
				_, _ = source.Read(data) // never fails
				entries[i] = braid.Entry{PartitionKey: string(rune('a'+random.IntN(26))) + string(rune('a'+random.IntN(26))), Data: data}
			}
			_, err := stream.PutRecords(t.Context(), entries)
			require.NoError(t, err)
		}
		synctest.Wait() // until full memtables are tables
		m := db.Metrics()
		require.Greater(t, m.Epochs, 10)
		require.Greater(t, m.BytesFlushed, int64(24<<20))
		require.Less(t, m.BytesCompacted, m.BytesFlushed/10)
	})
}

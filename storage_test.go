package braid_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// A record is written to the log and to one table, and never again: that is what
// epochs are for. Pebble's picker of compactions would rather take the tables of
// records along with those of the rows about streams, so this is not a matter of
// course.
func TestRecordsAreWrittenOnce(t *testing.T) {
	db, err := braid.Open(braid.InMemory, &braid.Options{MemtableBytes: 4 << 20, Durability: braid.NoSync})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	stream, err := db.OpenStream(t.Context(), "s", &braid.StreamOptions{Shards: 64})
	require.NoError(t, err)

	source := rand.NewChaCha8([32]byte{})
	random := rand.New(source)
	entries := make([]braid.Entry, 200)
	for range 256 { // 51 MiB, 17 epochs
		for i := range entries {
			data := make([]byte, 1024)
			_, _ = source.Read(data) // never fails
			entries[i] = braid.Entry{PartitionKey: string(rune('a'+random.IntN(26))) + string(rune('a'+random.IntN(26))), Data: data}
		}
		_, err := stream.PutRecords(t.Context(), entries)
		require.NoError(t, err)
	}
	m := db.Metrics()
	require.Greater(t, m.Epochs, 12)
	require.Greater(t, m.BytesFlushed, int64(30<<20))
	require.Less(t, m.BytesCompacted, m.BytesFlushed/5)
}

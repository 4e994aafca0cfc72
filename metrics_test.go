package braid_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

func TestMetricsCountWhatHappened(t *testing.T) {
	db := boxOpenDir(t, t.TempDir(), &braid.Options{MemtableBytes: 1 << 20})
	empty := db.Metrics()
	require.Zero(t, empty.Streams)
	require.Zero(t, empty.Shards)
	require.Zero(t, empty.Epochs)
	require.Zero(t, empty.RecordsPut)
	require.NoError(t, empty.Failed)
	require.False(t, empty.DiskFull)

	one, two := boxOpenStream(t, db, "one", 3), boxOpenStream(t, db, "two", 4)
	boxPut(t, one, "1234567") // with the key ten bytes
	_, err := two.PutRecords(t.Context(), []braid.Entry{{PartitionKey: "k", Data: make([]byte, 99)}, {PartitionKey: "ä"}})
	require.NoError(t, err)
	m := db.Metrics()
	require.Equal(t, 2, m.Streams)
	require.Equal(t, 7, m.Shards)
	require.Equal(t, 1, m.Epochs)
	require.EqualValues(t, 3, m.RecordsPut)
	require.EqualValues(t, 10+100+2, m.BytesPut)
	require.Equal(t, empty.Commits+4, m.Commits, "two streams, two puts: nothing to share a group with")
	require.Positive(t, m.DiskBytes)
	require.Positive(t, m.WALBytes)
	require.Positive(t, m.SyncTime)
	require.Positive(t, m.MemtableBytes)
	require.Positive(t, m.TailBytes)

	_, _, err = one.SplitShard(t.Context(), "0", nil)
	require.NoError(t, err)
	require.Equal(t, 9, db.Metrics().Shards, "closed ones too")
	require.NoError(t, db.DeleteStream(t.Context(), "two"))
	m = db.Metrics()
	require.Equal(t, 1, m.Streams)
	require.Equal(t, 5, m.Shards)
	require.EqualValues(t, 3, m.RecordsPut, "what was put was put")

	boxAll(t, one.Records(t.Context(), braid.TrimHorizon()))
	after := db.Metrics()
	require.Greater(t, after.TailReads, m.TailReads)
	require.Equal(t, m.StoreReads, after.StoreReads)
	for range 40 {
		boxFill(t, one, 50, 1000)
	}
	m = db.Metrics()
	require.Greater(t, m.Epochs, 1)
	require.Positive(t, m.BytesFlushed)
	require.Positive(t, m.Tables)
}

func TestMetricsShowWhatTransactionsHold(t *testing.T) {
	db := boxOpen(t, nil)
	boxSet(t, db, "a=1")
	require.NoError(t, db.View(t.Context(), func(tx *braid.Tx) error {
		require.EqualValues(t, 1, db.Metrics().OpenSnapshots)
		for _, err := range tx.Scan(nil, nil) {
			require.NoError(t, err)
			require.Zero(t, db.Metrics().OpenIterators, "none is held while a loop runs")
		}
		return nil
	}))
	require.Zero(t, db.Metrics().OpenSnapshots)
	require.NoError(t, db.Close())
	require.NotPanics(t, func() { require.Zero(t, db.Metrics().DiskBytes) })
}

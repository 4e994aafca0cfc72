package braid_test

import (
	"testing"
	"testing/synctest"
	"time"

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
	boxPut(t, one, "1234567") // ten bytes with the key
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
}

// Full memtables become tables in the background.
func TestMetricsShowTables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := boxOpenDir(t, t.TempDir(), &braid.Options{MemtableBytes: 1 << 20})
		stream := boxOpenStream(t, db, "s", 3)
		for range 40 {
			boxFill(t, stream, 50, 1000)
		}
		synctest.Wait()
		m := db.Metrics()
		require.Greater(t, m.Epochs, 1)
		require.Positive(t, m.BytesFlushed)
		require.Positive(t, m.Tables)
	})
}

func TestMetricsShowWhatTransactionsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
	})
}

func TestAStreamCountsWhatIsReadAndRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, nil)
		capacity := braid.Capacity{Mode: braid.Provisioned, WriteRecordsPerSecond: 3, ReadsPerSecond: 1}
		s, err := db.CreateStream(t.Context(), "s", &braid.StreamOptions{Shards: 2, Capacity: capacity})
		require.NoError(t, err)
		require.Equal(t, braid.StreamMetrics{Shards: 2, OpenShards: 2}, s.Metrics())
		low, high := &braid.HashKey{}, new(braid.HashKey)
		*high = braid.MaxHashKey()
		_, err = s.PutRecords(t.Context(), []braid.Entry{{PartitionKey: "k", ExplicitHashKey: high, Data: make([]byte, 9)}})
		require.NoError(t, err)
		entries := make([]braid.Entry, 5)
		for i := range entries {
			entries[i] = braid.Entry{PartitionKey: "k", ExplicitHashKey: low, Data: make([]byte, 1)}
		}
		_, err = s.PutRecords(t.Context(), entries) // two are refused
		require.NoError(t, err)
		err = db.Update(t.Context(), func(tx *braid.Tx) error {
			for _, entry := range entries {
				require.NoError(t, tx.PutEntry("s", entry))
			}
			return nil
		})
		require.ErrorIs(t, err, braid.ErrThroughputExceeded)
		require.EqualValues(t, 7, db.Metrics().PutsThrottled)

		first := s.Shards()[0]
		_, err = first.GetRecords(t.Context(), braid.TrimHorizon(), nil)
		require.NoError(t, err)
		_, err = first.GetRecords(t.Context(), braid.TrimHorizon(), nil)
		require.ErrorIs(t, err, braid.ErrThroughputExceeded)
		want := braid.ShardMetrics{Records: 3, Bytes: 6, RecordsPut: 3, BytesPut: 6, RecordsRead: 3, BytesRead: 6, PutsThrottled: 7, ReadsThrottled: 1}
		require.Equal(t, want, first.Metrics())

		// Loops, of a shard and of the stream, at the tip and far behind it.
		boxAll(t, first.Records(t.Context(), braid.TrimHorizon()))
		boxAll(t, s.Records(t.Context(), braid.TrimHorizon()))
		want.RecordsRead, want.BytesRead = 9, 18
		require.Equal(t, want, first.Metrics())
		require.NoError(t, s.Trim(t.Context(), braid.Latest()))
		want.Records, want.Bytes = 0, 0
		require.Equal(t, want, first.Metrics())
		sums := braid.ShardMetrics{RecordsPut: 4, BytesPut: 16, RecordsRead: 10, BytesRead: 28, PutsThrottled: 7, ReadsThrottled: 1}
		require.Equal(t, braid.StreamMetrics{Shards: 2, OpenShards: 2, ShardMetrics: sums}, s.Metrics())

		// The totals keep the counts of a shard that has expired.
		_, _, err = s.SplitShard(t.Context(), first.ID(), nil)
		require.NoError(t, err)
		require.Equal(t, braid.StreamMetrics{Shards: 4, OpenShards: 3, ShardMetrics: sums}, s.Metrics())
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		require.Equal(t, braid.StreamMetrics{Shards: 3, OpenShards: 3, ShardMetrics: sums}, s.Metrics())
		require.NoError(t, s.UpdateCapacity(t.Context(), braid.Capacity{}))
		_, _, err = s.SplitShard(t.Context(), s.Shards()[0].ID(), nil)
		require.NoError(t, err)
		require.Equal(t, sums, s.Metrics().ShardMetrics, "a reshard keeps them")
	})
}

func TestALoopFarFromTheTipCountsWhatItReads(t *testing.T) {
	db := boxOpen(t, &braid.Options{TailBytes: -1})
	s := boxOpenStream(t, db, "s", 1)
	for range 20 {
		boxFill(t, s, 300, 100)
	}
	m := s.Metrics()
	require.EqualValues(t, 6000, m.RecordsPut)
	boxAll(t, s.Records(t.Context(), braid.TrimHorizon()))
	require.Equal(t, m.RecordsPut, s.Metrics().RecordsRead)
	require.Equal(t, m.BytesPut, s.Metrics().BytesRead)
}

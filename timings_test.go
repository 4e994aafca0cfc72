package braid

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/testdisk"
)

// quantiles returns the shortest and the longest duration.
func quantiles(h Histogram) [2]time.Duration { return [2]time.Duration{h.Quantile(0), h.Quantile(1)} }

// On a disk, every put, commit and sync is measured. In the bubble, nothing takes time except
// the sync that is held.
func TestEachPutIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := testdisk.New()
		db, err := open("/db", nil, environment{fs: disk, byHand: true})
		require.NoError(t, err)
		s, err := db.OpenStream(t.Context(), "s", nil)
		require.NoError(t, err)
		before := db.Metrics()
		require.Zero(t, before.PutTimes.Count, "to create a stream is no put")
		require.Positive(t, before.CommitTimes.Count)
		require.EqualValues(t, before.Commits, before.CommitTimes.Count)

		for range 9 {
			require.NoError(t, putOne(t.Context(), db, s))
		}
		release := disk.Hold(func(op testdisk.Op) bool { return op.OnLog() && op.Syncs() })
		done := make(chan error, 1)
		go func() { done <- putOne(context.Background(), db, s) }()
		<-disk.Held()
		time.Sleep(150 * time.Millisecond)
		require.EqualValues(t, 9, db.Metrics().PutTimes.Count, "it is not visible")
		release()
		require.NoError(t, <-done)

		after := db.Metrics()
		for _, h := range []Histogram{after.PutTimes, after.CommitTimes.Since(before.CommitTimes), after.SyncTimes.Since(before.SyncTimes)} {
			require.EqualValues(t, 10, h.Count)
			require.Equal(t, 150*time.Millisecond, h.Sum)
			require.Equal(t, [2]time.Duration{time.Microsecond, 200 * time.Millisecond}, quantiles(h))
			require.Equal(t, time.Microsecond, h.Quantile(0.9))
		}
		require.NoError(t, db.Close())
		require.Equal(t, after.PutTimes, db.Metrics().PutTimes, "after a Close, too")
	})
}

// Puts that store something are measured, and those that store nothing are not.
func TestRefusedPutsAreNotMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := open("/db", nil, environment{fs: testdisk.New(), byHand: true})
		require.NoError(t, err)
		s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Capacity: Capacity{Mode: Provisioned, WriteRecordsPerSecond: 2}})
		require.NoError(t, err)
		results, err := s.PutRecords(t.Context(), []Entry{{PartitionKey: "a"}, {PartitionKey: "b"}, {PartitionKey: "c"}})
		require.NoError(t, err)
		require.NoError(t, results[0].Err)
		require.ErrorIs(t, results[2].Err, ErrThroughputExceeded)
		require.EqualValues(t, 1, db.Metrics().PutTimes.Count)
		require.ErrorIs(t, putOne(t.Context(), db, s), ErrThroughputExceeded)
		require.EqualValues(t, 1, db.Metrics().PutTimes.Count)
		require.NoError(t, db.Close())
	})
}

// Where a commit waits for no disk, one in 64 is measured: exactly one of 64 commits, and about
// one of 64 puts. The bounds are ten standard deviations away.
func TestSomeAreMeasuredWhereNoneWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, row := range []struct {
			name, dir  string
			durability Durability
		}{{"in memory", InMemory, Sync}, {"NoSync", "/db", NoSync}, {"Interval", "/other", Interval}} {
			db, err := open(row.dir, &Options{Durability: row.durability}, environment{fs: testdisk.New(), byHand: true})
			require.NoError(t, err)
			s, err := db.OpenStream(t.Context(), "s", nil)
			require.NoError(t, err)
			const puts = 16_000
			for range puts {
				require.NoError(t, putOne(t.Context(), db, s))
			}
			m := db.Metrics()
			require.InDelta(t, puts/sampleEvery, m.PutTimes.Count, 160, row.name)
			require.InDelta(t, m.Commits/sampleEvery, m.CommitTimes.Count, 2, row.name)
			require.NoError(t, db.Close())
		}
	})
}

package braid_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

const day = 24 * time.Hour

// boxRetaining creates a stream of one shard with that retention period.
func boxRetaining(t *testing.T, db *braid.DB, name string, retention time.Duration) *braid.Stream {
	t.Helper()
	stream, err := db.CreateStream(t.Context(), name, &braid.StreamOptions{Retention: retention})
	require.NoError(t, err)
	return stream
}

// wait lets time pass, and waits for everything that is due by then.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestARecordIsGoneWhenItsTimeIsOver(t *testing.T) {
	for name, options := range map[string]*braid.Options{"from memory": nil, "from store": {TailBytes: -1}} {
		for _, retention := range []time.Duration{0, time.Second, time.Hour, 8760 * time.Hour} {
			t.Run(fmt.Sprint(name, " ", retention), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					stream := boxRetaining(t, boxOpen(t, options), "s", retention)
					period := stream.Describe().Retention
					if retention == 0 {
						require.Equal(t, day, period)
					}
					follower := boxFollow(stream.Follow(t.Context(), braid.TrimHorizon()))
					first := boxPut(t, stream, "0")[0]
					<-time.After(period / 2)
					second := boxPut(t, stream, "1")[0]

					var arrived time.Time
					for r, err := range stream.Records(t.Context(), braid.TrimHorizon()) {
						require.NoError(t, err)
						arrived = r.ArrivalTime
						break
					}
					<-time.After(time.Until(arrived.Add(period))) // the record is exactly as old as it may be
					for way, read := range boxReadings(stream) {
						data, err := read(t.Context(), braid.AtSequence(first))
						require.NoError(t, err, way)
						require.Equal(t, "01", joined(data), way)
					}
					<-time.After(1)
					for way, read := range boxReadings(stream) {
						data, err := read(t.Context(), braid.TrimHorizon())
						require.NoError(t, err, way)
						require.Equal(t, "1", joined(data), way)
						_, err = read(t.Context(), braid.AtSequence(first))
						e := boxTrimmed(t, err)
						require.Equal(t, first, e.FirstLost, way)
						require.Equal(t, first, e.LastLost, way)
						data, err = read(t.Context(), braid.AtSequence(e.FirstAvailable))
						require.NoError(t, err, way)
						require.Equal(t, "1", joined(data), way)
						data, err = read(t.Context(), braid.AfterSequence(first)) // this reader has lost nothing
						require.NoError(t, err, way)
						require.Equal(t, "1", joined(data), way)
					}
					d := stream.Describe()
					require.EqualValues(t, 1, d.Records)
					require.Equal(t, second, d.Shards[0].First)
					require.Equal(t, second, d.Shards[0].Last)

					wait(2 * period) // nobody reads, and no record is left
					d = stream.Describe()
					require.Zero(t, d.Records)
					require.Zero(t, d.Bytes)
					require.Zero(t, d.Shards[0].First)
					boxPut(t, stream, "2")
					synctest.Wait()
					require.Equal(t, []string{"0", "1", "2"}, follower.data, "who waits at the tip loses nothing")
				})
			})
		}
	}
}

func TestRecordsOfAStreamWithoutRetentionStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := boxRetaining(t, boxOpen(t, nil), "s", -1)
		require.EqualValues(t, -1, stream.Describe().Retention)
		boxPut(t, stream, "0")
		wait(100 * 365 * day)
		require.Equal(t, []string{"0"}, boxAll(t, stream.Records(t.Context(), braid.TrimHorizon())))
	})
}

// The rules for changing a period are Kinesis's.
func TestRetentionCanBeChanged(t *testing.T) {
	hour := time.Hour
	for _, test := range []struct {
		was, period time.Duration
		increase    bool
		rule        string // "" if it is allowed
	}{
		{day, 48 * hour, true, ""},
		{day, day, true, ""},
		{day, day, false, ""},
		{48 * hour, day, false, ""},
		{day, 8760 * hour, true, ""},
		{hour, day, true, ""},
		{-1, day, false, ""},
		{day, -1, true, ""},
		{-1, -1, true, ""},
		{48 * hour, day, true, "must not be shorter than the present period, 48 hours; DecreaseRetention makes it shorter"},
		{day, 48 * hour, false, "must not be longer than the present period, 24 hours; IncreaseRetention makes it longer"},
		{-1, 48 * hour, true, "must not be shorter than the present period, forever; DecreaseRetention makes it shorter"},
		{hour, 2 * hour, true, "must be 24 hours to 8760 hours"},
		{48 * hour, 23 * hour, false, "must be 24 hours to 8760 hours"},
		{48 * hour, -1, false, "must be 24 hours to 8760 hours"},
		{day, 8760*hour + 1, true, "must be 24 hours to 8760 hours"},
		{day, 0, false, "must be 24 hours to 8760 hours"},
	} {
		t.Run(fmt.Sprint(test.was, test.period, test.increase), func(t *testing.T) {
			dir := t.TempDir()
			db := boxOpenDir(t, dir, nil)
			stream := boxRetaining(t, db, "s", test.was)
			change := stream.DecreaseRetention
			if test.increase {
				change = stream.IncreaseRetention
			}
			err := change(t.Context(), test.period)
			want := test.period
			if test.rule != "" {
				require.Equal(t, test.rule, boxInvalid(t, err, "Period").Rule)
				want = test.was
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, want, stream.Describe().Retention)
			require.NoError(t, db.Close())
			stream, err = boxOpenDir(t, dir, nil).Stream("s")
			require.NoError(t, err)
			require.Equal(t, want, stream.Describe().Retention)
		})
	}
}

func TestALongerPeriodSavesAndAShorterOneIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, nil)
		stream := boxRetaining(t, db, "s", 0)
		all := func() string { return joined(boxAll(t, stream.Records(t.Context(), braid.TrimHorizon()))) }
		boxPut(t, stream, "0")
		<-time.After(time.Second)
		boxPut(t, stream, "1")
		<-time.After(day)
		require.Equal(t, "1", all())
		require.NoError(t, stream.IncreaseRetention(t.Context(), 10*day))
		require.Equal(t, "1", all(), "what had gone stays away")
		wait(9 * day)
		require.Equal(t, "1", all())
		boxPut(t, stream, "2")
		require.NoError(t, stream.DecreaseRetention(t.Context(), 2*day))
		require.Equal(t, "2", all())
		require.NoError(t, stream.IncreaseRetention(t.Context(), 20*day))
		require.Equal(t, "2", all())
		wait(time.Hour)
		require.Equal(t, "2", all())
	})
}

func TestSpaceOfExpiredRecordsComesBack(t *testing.T) {
	const live, waste = 2_400_000, 6 << 20 // in memtables and their logs
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, &braid.Options{MemtableBytes: 1 << 20, TailBytes: -1})
		short := boxRetaining(t, db, "short", time.Hour)
		long := boxRetaining(t, db, "long", 30*day)
		noise := rand.NewChaCha8([32]byte{})
		fill := func(stream *braid.Stream, bytes int) {
			data := make([]byte, bytes)
			noise.Read(data)
			boxPut(t, stream, string(data))
		}
		for range 300 { // the streams share epochs; nobody reads
			fill(short, 80_000)
			fill(long, 8_000)
			<-time.After(time.Second)
		}
		require.Greater(t, db.Metrics().DiskBytes, int64(20<<20))
		wait(time.Hour + 2*time.Minute)
		require.Less(t, db.Metrics().DiskBytes, int64(1.5*live+waste), "though the epochs live on")
		require.EqualValues(t, 300, long.Describe().Records)
		wait(31 * day)
		fill(long, 1) // another epoch begins
		wait(2 * time.Minute)
		m := db.Metrics()
		require.Less(t, m.DiskBytes, int64(waste))
		require.LessOrEqual(t, m.Epochs, 2)
	})
}

func TestAStreamCanBeBoundedInBytes(t *testing.T) {
	const record, limit, epoch = 100_000, 3_000_000, 1 << 20
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, &braid.Options{MemtableBytes: epoch})
		_, err := db.CreateStream(t.Context(), "bad", &braid.StreamOptions{RetentionBytes: -1})
		boxInvalid(t, err, "RetentionBytes")
		stream, err := db.CreateStream(t.Context(), "s", &braid.StreamOptions{Shards: 3, Retention: -1, RetentionBytes: limit})
		require.NoError(t, err)
		for i := range 100 {
			boxFill(t, stream, 1, record)
			wait(time.Minute)
			d := stream.Describe()
			require.LessOrEqual(t, d.Bytes, int64(limit+epoch+2*record))
			require.GreaterOrEqual(t, d.Bytes, int64(min(limit, (i+1)*record)))
		}
		data, err := boxRead(stream.Records(t.Context(), braid.TrimHorizon()))
		require.NoError(t, err)
		require.Len(t, data, int(stream.Describe().Records))

		boxInvalid(t, stream.UpdateRetentionBytes(t.Context(), -1), "RetentionBytes")
		require.NoError(t, stream.UpdateRetentionBytes(t.Context(), limit/2))
		wait(time.Minute)
		require.Less(t, stream.Describe().Bytes, int64(limit))
		require.NoError(t, stream.UpdateRetentionBytes(t.Context(), 0))
		boxFill(t, stream, 60, record)
		wait(time.Hour)
		require.GreaterOrEqual(t, stream.Describe().Bytes, int64(60*record))
	})
}

func TestAClosedShardGoesWithItsLastRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		db, err := braid.Open(dir, nil)
		require.NoError(t, err)
		stream := boxRetaining(t, db, "s", 0)
		numbers := boxPut(t, stream, "0", "1")
		parent := stream.Shards()[0]
		<-time.After(time.Hour)
		lower, upper, err := stream.SplitShard(t.Context(), parent.ID(), nil)
		require.NoError(t, err)
		wait(23*time.Hour + time.Minute)
		require.Len(t, stream.Shards(), 3, "its records have gone, but it has not been closed for long")
		page, err := parent.GetRecords(t.Context(), braid.TrimHorizon(), nil)
		require.NoError(t, err)
		require.True(t, page.EndOfShard)
		require.Len(t, page.ChildShards, 2)
		last := boxPut(t, stream, "2")[0]

		wait(time.Hour + time.Minute)
		check := func() {
			t.Helper()
			require.Len(t, stream.Shards(), 2)
			_, err = stream.Shard(parent.ID())
			require.ErrorIs(t, err, braid.ErrShardNotFound)
			for _, child := range []*braid.Shard{lower, upper} {
				child, err = stream.Shard(child.ID())
				require.NoError(t, err)
				require.Equal(t, []braid.ShardID{parent.ID()}, child.Parents(), "lineage remembers")
			}
			require.Equal(t, []string{"2"}, boxAll(t, stream.Records(t.Context(), braid.TrimHorizon())))
			require.Equal(t, []string{"2"}, boxAll(t, stream.Records(t.Context(), braid.AfterSequence(numbers[1]))))
			_, err = boxRead(stream.Records(t.Context(), braid.AfterSequence(numbers[0])))
			e := boxTrimmed(t, err)
			require.Equal(t, parent.ID(), e.Shard)
			require.Equal(t, numbers[1], e.LastLost)
			data, err := boxRead(stream.Records(t.Context(), braid.AtSequence(e.FirstAvailable)))
			require.NoError(t, err)
			require.Equal(t, []string{"2"}, data)
			_, _, err = stream.SplitShard(t.Context(), parent.ID(), nil)
			require.ErrorIs(t, err, braid.ErrShardNotFound)
		}
		check()
		require.NoError(t, db.Close())
		db, err = braid.Open(dir, nil)
		require.NoError(t, err)
		stream, err = db.Stream("s")
		require.NoError(t, err)
		check()
		child, err := stream.Shard(last.ShardID())
		require.NoError(t, err)
		lower, _, err = stream.SplitShard(t.Context(), child.ID(), nil)
		require.NoError(t, err)
		require.EqualValues(t, "shardId-000000000003", lower.ID(), "ids are not used again")
		require.NoError(t, db.Close())
	})
}

// The second of creation in a shard's numbers is one above that of its parents, so it runs
// ahead of the clock if reshards follow each other quickly. Closed shards expire by the
// time at which they were closed.
func TestClosedShardsGoHoweverQuicklyTheyCame(t *testing.T) {
	const generations, retention = 500, time.Minute
	for _, reopened := range []bool{false, true} {
		t.Run(fmt.Sprint("reopened: ", reopened), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				db := boxOpenDir(t, dir, nil)
				stream := boxRetaining(t, db, "s", retention)
				boxPut(t, stream, "0")
				began := time.Now()
				for i := range generations {
					require.NoError(t, stream.UpdateShardCount(t.Context(), 1+i%2))
				}
				require.Less(t, time.Since(began), time.Second)
				shards := stream.Describe().Shards
				require.Greater(t, shards[len(shards)-1].StartingSequenceNumber.Time().Sub(began), generations/2*time.Second)
				for _, sh := range shards {
					require.WithinDuration(t, began, sh.CreatedAt, time.Second)
					if sh.Closed {
						require.WithinDuration(t, began, sh.ClosedAt, time.Second)
					} else {
						require.Zero(t, sh.ClosedAt)
					}
				}
				if reopened {
					require.NoError(t, db.Close())
					db = boxOpenDir(t, dir, nil)
					var err error
					stream, err = db.Stream("s")
					require.NoError(t, err)
					require.Equal(t, shards, stream.Describe().Shards)
				}
				wait(retention - time.Second)
				require.Len(t, stream.Shards(), len(shards))
				wait(2 * time.Minute)
				require.Len(t, stream.Shards(), 2)
				require.NoError(t, db.Close())
			})
		})
	}
}

// A loop that sleeps for longer than the retention period gets an error that says what it has
// missed, even if the shards of the missed records have expired, too.
func TestASlowReaderOfAStreamIsToldOfShardsThatCameAndWent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := boxRetaining(t, boxOpen(t, nil), "s", 0)
		boxPut(t, stream, "0")
		var lost *braid.TrimmedError
		for r, err := range stream.Follow(t.Context(), braid.TrimHorizon()) {
			if errors.As(err, &lost) {
				break
			}
			require.NoError(t, err)
			require.Equal(t, "0", string(r.Data))
			lower, upper, err := stream.SplitShard(t.Context(), r.ShardID, nil)
			require.NoError(t, err)
			boxPut(t, stream, "1", "2", "3")
			_, err = stream.MergeShards(t.Context(), lower.ID(), upper.ID())
			require.NoError(t, err)
			wait(3 * day)
			require.Len(t, stream.Shards(), 1)
		}
		require.NotNil(t, lost)
		require.Contains(t, []braid.ShardID{"shardId-000000000001", "shardId-000000000002"}, lost.Shard)
	})
}

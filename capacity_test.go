package braid_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// A day of a stream on demand: a quiet night, a growing morning, a hot range of hash keys at
// noon, and a quiet night again. The shards follow the load, no record is missing, and the
// records of each key are in order.
func TestADayOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		dir := t.TempDir()
		options := &braid.Options{Durability: braid.NoSync, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		db, err := braid.Open(dir, options)
		require.NoError(t, err)
		// The budgets are small, so that a day has few records.
		capacity := braid.Capacity{Mode: braid.OnDemand, WriteRecordsPerSecond: 2, WriteBytesPerSecond: 20 << 10, MaxShards: 20}
		stream, err := db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Capacity: capacity, Retention: -1})
		require.NoError(t, err)
		require.Len(t, stream.Shards(), 4)
		open := func() (open []braid.ShardDescription) {
			for _, sd := range stream.Describe().Shards {
				if !sd.Closed {
					open = append(open, sd)
				}
			}
			return open
		}

		random := rand.New(rand.NewPCG(1, 1))
		next := make(map[string]uint64)
		put := func(explicit *braid.HashKey, key string) {
			t.Helper()
			data := binary.BigEndian.AppendUint64(nil, next[key])
			results, err := stream.PutRecords(t.Context(), []braid.Entry{{PartitionKey: key, ExplicitHashKey: explicit, Data: data}})
			require.NoError(t, err)
			if results[0].Err == nil {
				next[key]++
			} else {
				require.ErrorIs(t, results[0].Err, braid.ErrThroughputExceeded)
			}
		}
		// traffic puts each records a minute, for minutes.
		traffic := func(minutes, each int, one func()) {
			for range minutes {
				for range each {
					one()
					<-time.After(time.Minute / time.Duration(each))
				}
			}
			synctest.Wait()
		}
		anywhere := func() { put(nil, "k"+strconv.Itoa(random.IntN(1000))) }

		traffic(60, 4, anywhere) // the night
		require.Len(t, open(), 4)

		for each := 40; each <= 400; each += 40 { // the morning
			traffic(5, each, anywhere)
		}
		morning := len(open())
		require.GreaterOrEqual(t, morning, 7, "twice 400 records a minute, by 120 of a shard")
		require.LessOrEqual(t, morning, 12)

		require.NoError(t, db.Close()) // in the middle of the day
		db, err = braid.Open(dir, options)
		require.NoError(t, err)
		stream, err = db.Stream("orders")
		require.NoError(t, err)
		require.Len(t, open(), morning)

		// Noon: half of the records come from a sixteenth of the hash keys.
		sixteenths := boxOpenStream(t, boxOpen(t, nil), "sixteenths", 16).Shards()
		hot := sixteenths[5].HashKeyRange()
		hotKeys := []braid.HashKey{hot.Start, hot.End}
		for _, sh := range boxOpenStream(t, boxOpen(t, nil), "others", 256).Shards() {
			if start := sh.HashKeyRange().Start; hot.Contains(start) {
				hotKeys = append(hotKeys, start)
			}
		}
		meeting := func(shards []braid.ShardDescription) (n int) {
			for _, sd := range shards {
				if r := sd.HashKeyRange; r.Start.Compare(hot.End) <= 0 && hot.Start.Compare(r.End) <= 0 {
					n++
				}
			}
			return n
		}
		before := meeting(open())
		traffic(30, 200, func() {
			if random.IntN(2) == 0 {
				anywhere()
				return
			}
			put(&hotKeys[random.IntN(len(hotKeys))], "hot"+strconv.Itoa(random.IntN(5)))
		})
		noon := open()
		require.Greater(t, meeting(noon), before, "it was split where the load is")
		require.LessOrEqual(t, len(noon), 20)

		// The night: there is little traffic, and after hours neighbors merge, down to what
		// twice the peak of the day needs.
		for range 8 {
			traffic(60, 4, anywhere)
		}
		night := open()
		require.Less(t, len(night), len(noon))
		require.GreaterOrEqual(t, len(night), 4)

		seen := make(map[string]uint64)
		for r, err := range stream.Records(t.Context(), braid.TrimHorizon()) {
			require.NoError(t, err)
			require.Equal(t, seen[r.PartitionKey], binary.BigEndian.Uint64(r.Data), "of %s", r.PartitionKey)
			seen[r.PartitionKey]++
		}
		for key, n := range next {
			require.Equal(t, n, seen[key], "of %s", key)
		}
		decisions := db.Metrics().CapacityDecisions
		require.NotEmpty(t, decisions)
		require.LessOrEqual(t, len(decisions), 16)
		merged := false
		for _, d := range decisions {
			require.Equal(t, "orders", d.Stream)
			require.NotEmpty(t, d.Reason)
			require.Contains(t, log.String(), d.Action)
			merged = merged || strings.HasPrefix(d.Action, "merge ")
		}
		require.True(t, merged)
		require.NoError(t, db.Close())
	})
}

func TestOneHotKeyIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, nil)
		stream, err := db.CreateStream(t.Context(), "s", &braid.StreamOptions{Capacity: braid.Capacity{Mode: braid.OnDemand, WriteRecordsPerSecond: 2}, Retention: -1})
		require.NoError(t, err)
		for range 600 {
			_, _ = stream.PutRecord(t.Context(), "always the same", nil)
			<-time.After(time.Second / 4)
		}
		synctest.Wait()
		require.Len(t, stream.Shards(), 4)
		decisions := db.Metrics().CapacityDecisions
		require.Len(t, decisions, 1, "%v", decisions)
		require.Contains(t, decisions[0].Action, "leave")
		require.Contains(t, decisions[0].Reason, "would not help")
	})
}

func TestAModeCanBeSwitched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, nil)
		stream, err := db.OpenStream(t.Context(), "s", &braid.StreamOptions{Shards: 1, Retention: -1})
		require.NoError(t, err)
		load := func(minutes int) {
			for i := range 60 * minutes {
				_, _ = stream.PutRecord(t.Context(), strconv.Itoa(i), nil)
				<-time.After(time.Second)
			}
			synctest.Wait()
		}
		load(10)
		require.Len(t, stream.Shards(), 1)
		require.NoError(t, stream.UpdateCapacity(t.Context(), braid.Capacity{Mode: braid.OnDemand}))
		require.Len(t, stream.Shards(), 1, "they stay as they are")
		load(10)
		open := len(slices.DeleteFunc(stream.Describe().Shards, func(sd braid.ShardDescription) bool { return sd.Closed }))
		require.Equal(t, 4, open, "and grow to the least")
		id := stream.Shards()[len(stream.Shards())-1].ID()
		_, _, err = stream.SplitShard(t.Context(), id, nil)
		boxInvalid(t, err, "Capacity.Mode")
		_, err = stream.MergeShards(t.Context(), id, id)
		boxInvalid(t, err, "Capacity.Mode")
		boxInvalid(t, stream.UpdateShardCount(t.Context(), 7), "Capacity.Mode")
		require.NoError(t, stream.UpdateCapacity(t.Context(), braid.Capacity{Mode: braid.Provisioned}))
		require.NoError(t, stream.UpdateShardCount(t.Context(), 7))
		load(10)
		require.NoError(t, db.DeleteStream(t.Context(), "s"))
		<-time.After(7 * time.Hour)
	})
}

func TestAStreamOnDemandIdlesForAYear(t *testing.T) {
	start := time.Now()
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, nil)
		stream, err := db.CreateStream(t.Context(), "s", &braid.StreamOptions{Capacity: braid.Capacity{Mode: braid.OnDemand}, Retention: -1})
		require.NoError(t, err)
		boxPut(t, stream, "0")
		wait(day)
		groups := db.Metrics().Commits
		wait(365 * day)
		require.Equal(t, groups, db.Metrics().Commits)
		require.Equal(t, 4, len(stream.Shards()), fmt.Sprint(db.Metrics().CapacityDecisions))
	})
	require.Less(t, time.Since(start), 10*time.Second)
}

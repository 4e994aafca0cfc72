package braid_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// boxProvisioned runs a test with a stream that has budgets, in a bubble.
func boxProvisioned(t *testing.T, shards int, capacity braid.Capacity, test func(t *testing.T, db *braid.DB, stream *braid.Stream)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, nil)
		capacity.Mode = braid.Provisioned
		stream, err := db.CreateStream(t.Context(), "s", &braid.StreamOptions{Shards: shards, Capacity: capacity, Retention: -1, MaxRecordBytes: 10 << 20})
		require.NoError(t, err)
		test(t, db, stream)
	})
}

// boxThrottled requires an ErrThroughputExceeded, and returns its details.
func boxThrottled(t *testing.T, err error, budget string) *braid.ThroughputExceededError {
	t.Helper()
	require.ErrorIs(t, err, braid.ErrThroughputExceeded)
	var e *braid.ThroughputExceededError
	require.ErrorAs(t, err, &e)
	require.Equal(t, budget, e.Budget)
	require.Positive(t, e.RetryAfter)
	require.Contains(t, err.Error(), string(e.Shard))
	require.Contains(t, err.Error(), budget)
	require.Contains(t, err.Error(), e.RetryAfter.String())
	return e
}

func boxEntries(n, bytes int) []braid.Entry {
	entries := make([]braid.Entry, n)
	for i := range entries {
		entries[i] = braid.Entry{PartitionKey: "k", Data: make([]byte, bytes)}
	}
	return entries
}

func boxRefused(results []braid.PutResult) (n int) {
	for _, r := range results {
		if r.Err != nil {
			n++
		}
	}
	return n
}

func TestAShardTakesAThousandRecordsASecond(t *testing.T) {
	boxProvisioned(t, 1, braid.Capacity{}, func(t *testing.T, db *braid.DB, stream *braid.Stream) {
		results, err := stream.PutRecords(t.Context(), boxEntries(1200, 1))
		require.NoError(t, err)
		require.Equal(t, 200, boxRefused(results))
		require.EqualValues(t, 200, db.Metrics().PutsThrottled)
		for i, r := range results {
			require.Equal(t, i >= 1000, r.Err != nil)
			require.Equal(t, i >= 1000, r.SequenceNumber.IsZero())
		}
		_, err = stream.PutRecord(t.Context(), "k", nil)
		e := boxThrottled(t, err, "WriteRecordsPerSecond")
		require.InDelta(t, time.Millisecond, e.RetryAfter, 10)
		<-time.After(e.RetryAfter - 2)
		_, err = stream.PutRecord(t.Context(), "k", nil)
		boxThrottled(t, err, "WriteRecordsPerSecond")
		<-time.After(2)
		_, err = stream.PutRecord(t.Context(), "k", nil)
		require.NoError(t, err)
		<-time.After(time.Hour) // a budget holds no more than a second's worth
		results, err = stream.PutRecords(t.Context(), boxEntries(2000, 1))
		require.NoError(t, err)
		require.Equal(t, 1000, boxRefused(results))
		require.EqualValues(t, 2001, stream.Describe().Records)
	})
}

// A PutRecord is charged in whole KiB. Of a PutRecords the sum is rounded up, too.
func TestBytesAreChargedInKiB(t *testing.T) {
	capacity := braid.Capacity{WriteRecordsPerSecond: 1 << 20, WriteBytesPerSecond: 10 << 10}
	boxProvisioned(t, 1, capacity, func(t *testing.T, _ *braid.DB, stream *braid.Stream) {
		for i := range 12 {
			_, err := stream.PutRecord(t.Context(), "k", []byte{1})
			if i < 10 {
				require.NoError(t, err)
			} else {
				require.InDelta(t, time.Second/10, boxThrottled(t, err, "WriteBytesPerSecond").RetryAfter, 10)
			}
		}
		<-time.After(time.Second)
		results, err := stream.PutRecords(t.Context(), boxEntries(3000, 3)) // 4 bytes each
		require.NoError(t, err)
		require.Equal(t, 3000-10<<10/4, boxRefused(results))
	})
}

func TestARefusedEntryRefusesTheLaterOnesOfItsShard(t *testing.T) {
	capacity := braid.Capacity{WriteBytesPerSecond: 10 << 10}
	boxProvisioned(t, 2, capacity, func(t *testing.T, _ *braid.DB, stream *braid.Stream) {
		low, high := &braid.HashKey{}, new(braid.HashKey)
		*high = braid.MaxHashKey()
		entries := []braid.Entry{
			{PartitionKey: "0", ExplicitHashKey: low, Data: make([]byte, 9<<10)},
			{PartitionKey: "1", ExplicitHashKey: low, Data: make([]byte, 2<<10)}, // too much
			{PartitionKey: "2", ExplicitHashKey: high, Data: make([]byte, 5<<10)},
			{PartitionKey: "3", ExplicitHashKey: low, Data: make([]byte, 1)}, // it would fit
			{PartitionKey: "4", ExplicitHashKey: high, Data: make([]byte, 1)},
		}
		results, err := stream.PutRecords(t.Context(), entries)
		require.NoError(t, err)
		for i, refused := range []bool{false, true, false, true, false} {
			if refused {
				require.EqualValues(t, "shardId-000000000000", boxThrottled(t, results[i].Err, "WriteBytesPerSecond").Shard)
			} else {
				require.NoError(t, results[i].Err)
			}
		}
		results, err = stream.PutRecordsWait(t.Context(), []braid.Entry{entries[1], entries[3]})
		require.NoError(t, err)
		require.Zero(t, boxRefused(results))
		var keys []string
		for r, err := range stream.Shards()[0].Records(t.Context(), braid.TrimHorizon()) {
			require.NoError(t, err)
			keys = append(keys, r.PartitionKey)
		}
		require.Equal(t, []string{"0", "1", "3"}, keys)
	})
}

// A record that is larger than the budget of a second is accepted when the budget is full.
// The records after it pay for it.
func TestALargeRecordIsTakenOnCredit(t *testing.T) {
	boxProvisioned(t, 1, braid.Capacity{}, func(t *testing.T, _ *braid.DB, stream *braid.Stream) {
		_, err := stream.PutRecord(t.Context(), "k", make([]byte, 5<<20-1))
		require.NoError(t, err)
		_, err = stream.PutRecord(t.Context(), "k", make([]byte, 5<<20-1))
		require.InDelta(t, 5*time.Second, boxThrottled(t, err, "WriteBytesPerSecond").RetryAfter, 10)
		_, err = stream.PutRecord(t.Context(), "k", nil)
		require.InDelta(t, 4*time.Second+time.Second/1024, boxThrottled(t, err, "WriteBytesPerSecond").RetryAfter, 1000)
		begin := time.Now()
		_, err = stream.PutRecordWait(t.Context(), "k", nil)
		require.NoError(t, err)
		require.InDelta(t, 4*time.Second+time.Second/1024, time.Since(begin), 1000)
	})
}

func TestAPutWaitsForItsTurn(t *testing.T) {
	capacity := braid.Capacity{WriteRecordsPerSecond: 10}
	boxProvisioned(t, 1, capacity, func(t *testing.T, db *braid.DB, stream *braid.Stream) {
		begin := time.Now()
		for i := range 100 {
			_, err := stream.PutRecordWait(t.Context(), "k", []byte(strconv.Itoa(i)))
			require.NoError(t, err)
		}
		require.InDelta(t, 9*time.Second, time.Since(begin), float64(time.Millisecond))
		begin = time.Now()
		entries := boxEntries(100, 1)
		for i := range entries {
			entries[i].Data = []byte(strconv.Itoa(100 + i))
		}
		results, err := stream.PutRecordsWait(t.Context(), entries)
		require.NoError(t, err)
		require.Zero(t, boxRefused(results))
		require.InDelta(t, 10*time.Second, time.Since(begin), float64(time.Millisecond))
		for i, data := range boxAll(t, stream.Records(t.Context(), braid.TrimHorizon())) {
			require.Equal(t, strconv.Itoa(i), data)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 950*time.Millisecond)
		defer cancel()
		results, err = stream.PutRecordsWait(ctx, boxEntries(50, 1)) // ctx ends between two accepted records
		require.NoError(t, err)
		refused := boxRefused(results)
		require.InDelta(t, 40, refused, 1)
		for _, r := range results[50-refused:] {
			require.ErrorIs(t, r.Err, context.DeadlineExceeded)
		}
		require.EqualValues(t, 250-refused, stream.Describe().Records)
		_, err = stream.PutRecordWait(ctx, "k", nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		waiting := make(chan error)
		go func() {
			_, err := stream.PutRecordWait(context.WithoutCancel(t.Context()), "k", nil)
			for err == nil {
				_, err = stream.PutRecordWait(context.WithoutCancel(t.Context()), "k", nil)
			}
			waiting <- err
		}()
		synctest.Wait()
		require.NoError(t, db.Close())
		require.ErrorIs(t, <-waiting, braid.ErrClosed)
	})
}

// However many entries wait, only the first one of each shard is tried again.
func TestManyPutsThatWaitAreNotTriedAgainAndAgain(t *testing.T) {
	boxProvisioned(t, 2, braid.Capacity{}, func(t *testing.T, db *braid.DB, stream *braid.Stream) {
		highest := braid.MaxHashKey()
		entries := boxEntries(10_000, 1)
		for i := range entries {
			if i%2 == 0 {
				entries[i].ExplicitHashKey = &braid.HashKey{}
			} else {
				entries[i].ExplicitHashKey = &highest
			}
		}
		results, err := stream.PutRecordsWait(t.Context(), entries)
		require.NoError(t, err)
		require.Zero(t, boxRefused(results))
		require.EqualValues(t, len(entries), stream.Describe().Records)
		require.Less(t, db.Metrics().PutsThrottled, int64(2*len(entries)), "refused at first, and in each commit the first of each shard")
	})
}

// Entries that wait while shards are split and merged are in order in whichever shard they are put.
func TestPutsThatWaitKeepTheirOrderThroughReshards(t *testing.T) {
	boxProvisioned(t, 2, braid.Capacity{WriteRecordsPerSecond: 10}, func(t *testing.T, _ *braid.DB, stream *braid.Stream) {
		entries := boxEntries(300, 1)
		for i := range entries {
			entries[i].PartitionKey = strconv.Itoa(i % 7)
			entries[i].Data = []byte(fmt.Sprintf("%03d", i))
		}
		done := make(chan []braid.PutResult)
		go func() {
			results, err := stream.PutRecordsWait(t.Context(), entries)
			assert.NoError(t, err)
			done <- results
		}()
		shards := stream.Shards()
		time.Sleep(3 * time.Second)
		_, err := stream.MergeShards(t.Context(), shards[0].ID(), shards[1].ID())
		require.NoError(t, err)
		time.Sleep(3 * time.Second)
		middle, err := braid.ParseHashKey("100000000000000000000000000000000000000")
		require.NoError(t, err)
		_, _, err = stream.SplitShard(t.Context(), stream.Shards()[2].ID(), &middle)
		require.NoError(t, err)
		results := <-done
		require.Zero(t, boxRefused(results))
		require.Len(t, stream.Shards(), 5, "the call went on until after the split")
		data := make(map[string]string) // by the numbers in the results
		for i, r := range results {
			data[string(r.ShardID)+r.SequenceNumber.String()] = string(entries[i].Data)
		}
		for _, sh := range stream.Shards() {
			var own []string
			for r, err := range sh.Records(t.Context(), braid.TrimHorizon()) {
				require.NoError(t, err)
				own = append(own, string(r.Data))
				place := string(r.ShardID) + r.SequenceNumber.String()
				require.Equal(t, data[place], string(r.Data))
				delete(data, place)
			}
			require.NotEmpty(t, own)
			require.True(t, slices.IsSorted(own), "%s: %s", sh.ID(), own)
		}
		require.Empty(t, data, "all are there")
	})
}

func TestATransactionIsChargedAsAWhole(t *testing.T) {
	capacity := braid.Capacity{WriteRecordsPerSecond: 10}
	boxProvisioned(t, 2, capacity, func(t *testing.T, db *braid.DB, stream *braid.Stream) {
		put := func(low, high int) error {
			return db.Update(t.Context(), func(tx *braid.Tx) error {
				highest := braid.MaxHashKey()
				for range low {
					require.NoError(t, tx.PutEntry("s", braid.Entry{PartitionKey: "k", ExplicitHashKey: &braid.HashKey{}}))
				}
				for range high {
					require.NoError(t, tx.PutEntry("s", braid.Entry{PartitionKey: "k", ExplicitHashKey: &highest}))
				}
				return tx.Set([]byte("last"), []byte(fmt.Sprint(low, high)))
			})
		}
		require.NoError(t, put(6, 0))
		boxThrottled(t, put(5, 10), "WriteRecordsPerSecond")
		require.EqualValues(t, 6, stream.Describe().Records)
		require.NoError(t, put(4, 10), "what was refused has cost nothing")
		boxThrottled(t, put(0, 1), "WriteRecordsPerSecond")
		require.NoError(t, db.View(t.Context(), func(tx *braid.Tx) error {
			last, err := tx.Get([]byte("last"))
			require.Equal(t, "4 10", string(last))
			return err
		}))
	})
}

func TestGetRecordsHasABudget(t *testing.T) {
	boxProvisioned(t, 1, braid.Capacity{WriteBytesPerSecond: 1 << 30}, func(t *testing.T, db *braid.DB, stream *braid.Stream) {
		shard := stream.Shards()[0]
		get := func(options *braid.GetRecordsOptions) (*braid.RecordsPage, error) {
			return shard.GetRecords(t.Context(), braid.TrimHorizon(), options)
		}
		for range 5 {
			_, err := get(nil)
			require.NoError(t, err)
		}
		_, err := get(nil)
		e := boxThrottled(t, err, "ReadsPerSecond")
		require.InDelta(t, time.Second/5, e.RetryAfter, 10)
		require.EqualValues(t, 1, db.Metrics().ReadsThrottled)
		_, err = boxRead(shard.Records(t.Context(), braid.TrimHorizon()))
		require.NoError(t, err, "iterators have none")
		<-time.After(e.RetryAfter)
		_, err = get(nil)
		require.NoError(t, err)

		// A call that returns 10 MiB is followed by five seconds of silence.
		<-time.After(time.Minute)
		boxFill(t, stream, 10, 1<<20-5) // with keys of five bytes
		page, err := get(nil)
		require.NoError(t, err)
		require.Len(t, page.Records, 10)
		_, err = get(nil)
		require.InDelta(t, 5*time.Second, boxThrottled(t, err, "ReadBytesPerSecond").RetryAfter, float64(time.Millisecond))
		begin := time.Now()
		page, err = get(&braid.GetRecordsOptions{Wait: true, Limit: 1})
		require.NoError(t, err)
		require.Len(t, page.Records, 1)
		require.InDelta(t, 5*time.Second, time.Since(begin), float64(time.Millisecond))

		// A call within the budget is not, and an invalid one costs nothing.
		for range 20 {
			_, err = get(&braid.GetRecordsOptions{Limit: -1})
			boxInvalid(t, err, "Limit")
		}
		_, err = get(&braid.GetRecordsOptions{Limit: 1})
		require.NoError(t, err)
	})
}

func TestCapacityCanBeChanged(t *testing.T) {
	for _, test := range []struct {
		field    string
		capacity braid.Capacity
	}{
		{"Capacity.Mode", braid.Capacity{Mode: 3}},
		{"Capacity.Mode", braid.Capacity{Mode: -1}},
		{"Capacity.WriteBytesPerSecond", braid.Capacity{WriteBytesPerSecond: 1}},
		{"Capacity.WriteRecordsPerSecond", braid.Capacity{Mode: braid.Provisioned, WriteRecordsPerSecond: -1}},
		{"Capacity.ReadsPerSecond", braid.Capacity{Mode: braid.Provisioned, ReadsPerSecond: math.MaxInt32}},
		{"Capacity.MaxShards", braid.Capacity{Mode: braid.Provisioned, MaxShards: 5}},
		{"Capacity.MaxShards", braid.Capacity{Mode: braid.OnDemand, MaxShards: 10_001}},
	} {
		db, stream := boxStream(t, 1)
		boxInvalid(t, stream.UpdateCapacity(t.Context(), test.capacity), test.field)
		_, err := db.CreateStream(t.Context(), "bad", &braid.StreamOptions{Capacity: test.capacity})
		boxInvalid(t, err, test.field)
	}
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, nil)
		stream, err := db.OpenStream(t.Context(), "s", &braid.StreamOptions{Retention: -1})
		require.NoError(t, err)
		boxFill(t, stream, 5000, 1)
		require.Equal(t, braid.Capacity{}, stream.Describe().Capacity)
		require.NoError(t, stream.UpdateCapacity(t.Context(), braid.Capacity{Mode: braid.Provisioned}))
		require.Equal(t, braid.Capacity{
			Mode: braid.Provisioned, WriteRecordsPerSecond: 1000, WriteBytesPerSecond: 1 << 20, ReadsPerSecond: 5, ReadBytesPerSecond: 2 << 20,
		}, stream.Describe().Capacity)
		results, err := stream.PutRecords(t.Context(), boxEntries(1200, 1))
		require.NoError(t, err)
		require.Equal(t, 200, boxRefused(results))
		require.NoError(t, stream.UpdateCapacity(t.Context(), braid.Capacity{Mode: braid.Provisioned, WriteRecordsPerSecond: 3000, WriteBytesPerSecond: 1 << 30}))
		results, err = stream.PutRecords(t.Context(), boxEntries(10, 1))
		require.NoError(t, err)
		require.Equal(t, 10, boxRefused(results), "the budget is larger, and as empty as before")
		<-time.After(time.Second)
		results, err = stream.PutRecords(t.Context(), boxEntries(4000, 1))
		require.NoError(t, err)
		require.Equal(t, 1000, boxRefused(results))
		require.NoError(t, stream.UpdateCapacity(t.Context(), braid.Capacity{}))
		boxFill(t, stream, 5000, 1)
		require.EqualValues(t, 14_000, stream.Describe().Records)
	})
}

// For any sequence of puts, the budgets accept exactly what the arithmetic of a token bucket
// allows: refused records cost nothing, and no token is lost.
func TestBudgetsAreExact(t *testing.T) {
	const perSecond, bytesPerSecond = 50, 64 << 10
	seeds := 20
	if testing.Short() {
		seeds = 4
	}
	refused := 0
	for seed := range seeds {
		boxProvisioned(t, 1, braid.Capacity{WriteRecordsPerSecond: perSecond, WriteBytesPerSecond: bytesPerSecond}, func(t *testing.T, _ *braid.DB, stream *braid.Stream) {
			random := rand.New(rand.NewPCG(uint64(seed), 5))
			// In units of a billionth, each nanosecond adds the rate per second.
			const unit = int64(time.Second)
			records, bytes := int64(perSecond)*unit, int64(bytesPerSecond)*unit
			last, stored := time.Now(), 0
			for range 3000 {
				// Whole milliseconds, so that floating point cannot explain a difference.
				<-time.After(time.Duration(random.IntN(40)) * time.Millisecond)
				elapsed := int64(time.Since(last))
				last = time.Now()
				records = min(perSecond*unit, records+elapsed*perSecond)
				bytes = min(bytesPerSecond*unit, bytes+elapsed*bytesPerSecond)
				sum, over := 0, false
				entries := boxEntries(1+random.IntN(4), random.IntN(4000))
				results, err := stream.PutRecords(t.Context(), entries)
				require.NoError(t, err)
				for i, e := range entries {
					size := len(e.PartitionKey) + len(e.Data)
					cost := int64((sum+size+1023)/1024-(sum+1023)/1024) * 1024 * unit
					near := min(abs(records-unit), abs(bytes-cost)) < unit/1e6
					over = over || records < unit || bytes < cost
					if near {
						over = results[i].Err != nil // too close to call
					}
					require.Equal(t, over, results[i].Err != nil, "seed %d: there are %d records and %d bytes, and it costs %d", seed, records/unit, bytes/unit, cost/unit)
					if over {
						refused++
						continue
					}
					sum += size
					records, bytes = records-unit, bytes-cost
					stored++
				}
			}
			require.EqualValues(t, stored, stream.Describe().Records)
		})
	}
	require.Greater(t, refused, 1000*seeds)
}

func abs(n int64) int64 { return max(n, -n) }

func TestThrottlingSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	db := boxOpenDir(t, dir, nil)
	want := braid.Capacity{Mode: braid.Provisioned, WriteRecordsPerSecond: 7, WriteBytesPerSecond: 8, ReadsPerSecond: 9, ReadBytesPerSecond: 10}
	_, err := db.CreateStream(t.Context(), "s", &braid.StreamOptions{Capacity: want, Tags: map[string]string{"team": "ann"}})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	stream, err := boxOpenDir(t, dir, nil).Stream("s")
	require.NoError(t, err)
	require.Equal(t, want, stream.Describe().Capacity)
	require.Equal(t, map[string]string{"team": "ann"}, stream.Describe().Tags)
}

func TestTagsAndTheLargestRecord(t *testing.T) {
	_, stream := boxStream(t, 1)
	require.NoError(t, stream.AddTags(t.Context(), map[string]string{"team": "ann", "stage": ""}))
	require.NoError(t, stream.AddTags(t.Context(), map[string]string{"team": "bob", "a": "b"}))
	require.NoError(t, stream.RemoveTags(t.Context(), "stage", "never there"))
	require.Equal(t, map[string]string{"team": "bob", "a": "b"}, stream.Describe().Tags)
	stream.Describe().Tags["team"] = "nobody"
	require.Equal(t, "bob", stream.Describe().Tags["team"])
	boxInvalid(t, stream.AddTags(t.Context(), map[string]string{"": "x"}), `Tags[""]`)
	boxInvalid(t, stream.AddTags(t.Context(), map[string]string{"k": strings.Repeat("é", 257)}), `Tags["k"]`)
	require.NoError(t, stream.AddTags(t.Context(), map[string]string{"k": strings.Repeat("é", 256)}))
	many := make(map[string]string)
	for i := range 48 {
		many[strconv.Itoa(i)] = ""
	}
	require.ErrorIs(t, stream.AddTags(t.Context(), many), braid.ErrLimitExceeded)
	delete(many, "0")
	require.NoError(t, stream.AddTags(t.Context(), many))
	for i := range 10 {
		many[strconv.Itoa(100+i)] = ""
	}
	boxInvalid(t, stream.AddTags(t.Context(), many), "Tags")

	large := make([]byte, 2<<20)
	_, err := stream.PutRecord(t.Context(), "k", large)
	boxInvalid(t, err, "Data")
	for _, bad := range []int{-1, 0, 10<<20 + 1} {
		boxInvalid(t, stream.UpdateMaxRecordBytes(t.Context(), bad), "MaxRecordBytes")
	}
	require.NoError(t, stream.UpdateMaxRecordBytes(t.Context(), len(large)))
	_, err = stream.PutRecord(t.Context(), "k", large)
	require.NoError(t, err)
	require.NoError(t, stream.UpdateMaxRecordBytes(t.Context(), 1))
	_, err = stream.PutRecord(t.Context(), "k", []byte("12"))
	require.Equal(t, "must be at most 1 bytes", boxInvalid(t, err, "Data").Rule)
	require.Len(t, boxAll(t, stream.Records(t.Context(), braid.TrimHorizon())), 1, "what is stored can be read")
	require.False(t, errors.Is(err, braid.ErrThroughputExceeded))
}

package braid_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// These tests check the guarantees of a reshard: the ranges tile the hash-key space, the
// lineage is right, numbers of children are above those of their parents, readers of the
// stream and of the lineage see each partition key in order, and producers get no error.

func openReshard(t *testing.T, dir string, shards int) (*braid.DB, *braid.Stream) {
	t.Helper()
	db, err := braid.Open(dir, nil)
	require.NoError(t, err)
	stream, err := db.OpenStream(t.Context(), "s", &braid.StreamOptions{Shards: shards})
	require.NoError(t, err)
	return db, stream
}

func hashKey(t *testing.T, text string) *braid.HashKey {
	t.Helper()
	k, err := braid.ParseHashKey(text)
	require.NoError(t, err)
	return &k
}

// requireTiling checks the invariant of a stream's shards.
func requireTiling(t *testing.T, stream *braid.Stream) {
	t.Helper()
	next := braid.HashKey{}
	open := slices.DeleteFunc(stream.Describe().Shards, func(d braid.ShardDescription) bool { return d.Closed })
	slices.SortFunc(open, func(a, b braid.ShardDescription) int {
		return a.HashKeyRange.Start.Compare(b.HashKeyRange.Start)
	})
	for i, d := range open {
		require.Equal(t, next, d.HashKeyRange.Start, "%s begins where the one before it ends", d.ID)
		if i == len(open)-1 {
			require.Equal(t, braid.MaxHashKey(), d.HashKeyRange.End)
			return
		}
		next = hashKeyAfter(t, d.HashKeyRange.End)
	}
	require.Fail(t, "no shard is open")
}

func hashKeyAfter(t *testing.T, k braid.HashKey) braid.HashKey {
	t.Helper()
	digits := []byte(k.String())
	for i := len(digits) - 1; i >= 0; i-- {
		if digits[i] < '9' {
			digits[i]++
			return *hashKey(t, string(digits))
		}
		digits[i] = '0'
	}
	return *hashKey(t, "1"+string(digits))
}

func TestSplitShardClosesTheParentAndOpensTwoChildren(t *testing.T) {
	db, stream := openReshard(t, braid.InMemory, 1)
	defer db.Close()
	before, err := stream.PutRecord(t.Context(), "b", []byte("before"))
	require.NoError(t, err)

	lower, upper, err := stream.SplitShard(t.Context(), "shardId-000000000000", hashKey(t, "1000"))
	require.NoError(t, err)
	require.EqualValues(t, "shardId-000000000001", lower.ID())
	require.EqualValues(t, "shardId-000000000002", upper.ID())
	require.Equal(t, "0", lower.HashKeyRange().Start.String())
	require.Equal(t, "999", lower.HashKeyRange().End.String())
	require.Equal(t, "1000", upper.HashKeyRange().Start.String())
	require.Equal(t, braid.MaxHashKey(), upper.HashKeyRange().End)
	requireTiling(t, stream)

	after, err := stream.PutRecord(t.Context(), "b", []byte("after"))
	require.NoError(t, err)
	require.Equal(t, upper.ID(), after.ShardID)
	require.Positive(t, after.SequenceNumber.Compare(before.SequenceNumber))

	all := stream.Describe().Shards
	parent := all[0]
	require.True(t, parent.Closed)
	require.Equal(t, []braid.ShardID{lower.ID(), upper.ID()}, parent.Children)
	require.Equal(t, []braid.ShardID{parent.ID}, all[1].Parents)
	require.Positive(t, parent.EndingSequenceNumber.Compare(before.SequenceNumber))
	require.Positive(t, all[1].StartingSequenceNumber.Compare(parent.EndingSequenceNumber))
	require.True(t, all[2].EndingSequenceNumber.IsZero())
}

func TestReadersOfAParentAreToldItsEndAndItsChildren(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, stream := openReshard(t, braid.InMemory, 2)
		defer db.Close()
		shards := stream.Shards()
		_, err := stream.PutRecords(t.Context(), []braid.Entry{{PartitionKey: "x", ExplicitHashKey: hashKey(t, "7"), Data: []byte("one")}})
		require.NoError(t, err)

		var followed []string
		ended := make(chan error, 1)
		go func() {
			for rec, err := range shards[0].Follow(t.Context(), braid.TrimHorizon()) {
				if err != nil {
					ended <- err
					return
				}
				followed = append(followed, string(rec.Data))
			}
			ended <- nil
		}()
		waiting := make(chan *braid.RecordsPage, 1)
		go func() {
			page, err := shards[1].GetRecords(t.Context(), braid.TrimHorizon(), &braid.GetRecordsOptions{Wait: true})
			if err == nil {
				waiting <- page
			}
		}()
		synctest.Wait()
		require.Empty(t, waiting, "the shard is empty and open")

		merged, err := stream.MergeShards(t.Context(), shards[0].ID(), shards[1].ID())
		require.NoError(t, err)
		require.NoError(t, <-ended, "Follow ends with the shard")
		require.Equal(t, []string{"one"}, followed)
		page := <-waiting
		require.True(t, page.EndOfShard)
		require.Equal(t, []braid.ShardID{merged.ID()}, page.ChildShards)
		require.Equal(t, []braid.ShardID{shards[0].ID(), shards[1].ID()}, merged.Parents())

		page, err = shards[0].GetRecords(t.Context(), braid.TrimHorizon(), nil)
		require.NoError(t, err)
		require.Len(t, page.Records, 1)
		require.True(t, page.EndOfShard)
		requireTiling(t, stream)
	})
}

// A reader that waits at the tip of a shard is woken by its end, and finds the children.
func TestAReaderThatWaitsAtTheEndFindsTheChildren(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, nil)
		stream := boxOpenStream(t, db, "s", 1)
		shard := stream.Shards()[0]
		for range 100 {
			const readers = 4
			pages := make(chan *braid.RecordsPage, readers)
			for range readers {
				go func() {
					page, err := shard.GetRecords(t.Context(), braid.Latest(), &braid.GetRecordsOptions{Wait: true})
					if err != nil {
						t.Error(err)
					}
					pages <- page
				}()
			}
			synctest.Wait()
			lower, upper, err := stream.SplitShard(t.Context(), shard.ID(), nil)
			require.NoError(t, err)
			for range readers {
				page := <-pages
				require.True(t, page.EndOfShard)
				require.Len(t, page.ChildShards, 2, "the shard has ended, and its children cannot be found")
			}
			shard, err = stream.MergeShards(t.Context(), lower.ID(), upper.ID())
			require.NoError(t, err)
		}
	})
}

func TestReshardingRefusesWhatCannotBe(t *testing.T) {
	db, stream := openReshard(t, braid.InMemory, 3)
	defer db.Close()
	ctx := t.Context()
	refused := func(field string, err error) {
		t.Helper()
		var invalid *braid.InvalidArgumentError
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, field, invalid.Field)
		require.Len(t, stream.Shards(), 3, "nothing has happened")
	}
	split := func(id braid.ShardID, at *braid.HashKey) error {
		_, _, err := stream.SplitShard(ctx, id, at)
		return err
	}
	first := stream.Shards()[0].HashKeyRange()
	refused("NewStartingHashKey", split("0", hashKey(t, "0")))
	refused("NewStartingHashKey", split("0", hashKey(t, "1")))
	refused("NewStartingHashKey", split("0", &first.End))
	refused("NewStartingHashKey", split("1", hashKey(t, "2")))
	require.ErrorIs(t, split("shardId-000000000003", nil), braid.ErrShardNotFound)
	require.ErrorIs(t, split("zero", nil), braid.ErrShardNotFound)

	merge := func(a, b braid.ShardID) error {
		_, err := stream.MergeShards(ctx, a, b)
		return err
	}
	refused("AdjacentShard", merge("0", "2"))
	refused("AdjacentShard", merge("1", "1"))
	require.ErrorIs(t, merge("0", "7"), braid.ErrShardNotFound)
	refused("TargetShardCount", stream.UpdateShardCount(ctx, 0))
	refused("TargetShardCount", stream.UpdateShardCount(ctx, 10_001))

	require.NoError(t, split("0", hashKey(t, "2")))
	var invalid *braid.InvalidArgumentError
	require.ErrorAs(t, split("0", nil), &invalid, "it is closed")
	require.Equal(t, "ShardID", invalid.Field)
	require.ErrorAs(t, merge("0", "1"), &invalid)
	require.ErrorAs(t, split("3", nil), &invalid, "it has two hash keys left")
	require.NoError(t, merge("4", "3"), "in either order")

	require.NoError(t, db.DeleteStream(ctx, "s"))
	require.ErrorIs(t, split("1", nil), braid.ErrStreamNotFound)
	require.ErrorIs(t, stream.UpdateShardCount(ctx, 2), braid.ErrStreamNotFound)
}

// The totals are those of Kinesis after such a change.
func TestUpdateShardCountSplitsAllAndMergesDown(t *testing.T) {
	for _, row := range []struct{ from, to, listed int }{
		{1, 1, 1}, {2, 4, 6}, {4, 5, 15}, {10, 13, 37}, {4, 2, 6}, {5, 3, 7}, {10, 3, 17}, {1, 8, 15}, {8, 1, 15},
	} {
		t.Run(fmt.Sprintf("%d to %d", row.from, row.to), func(t *testing.T) {
			db, stream := openReshard(t, braid.InMemory, row.from)
			defer db.Close()
			require.NoError(t, stream.UpdateShardCount(t.Context(), row.to))
			require.Len(t, stream.Shards(), row.listed)
			open := 0
			for _, d := range stream.Describe().Shards {
				if !d.Closed {
					open++
					continue
				}
				require.NotEmpty(t, d.Children, "%s", d.ID)
			}
			require.Equal(t, row.to, open)
			requireTiling(t, stream)
			require.NoError(t, stream.UpdateShardCount(t.Context(), row.to), "again changes nothing")
			require.Len(t, stream.Shards(), row.listed)
		})
	}
}

func TestUpdateShardCountReachesTheLimitInOneCall(t *testing.T) {
	db, stream := openReshard(t, braid.InMemory, 1)
	defer db.Close()
	require.NoError(t, stream.UpdateShardCount(t.Context(), 10_000))
	requireTiling(t, stream)
	_, _, err := stream.SplitShard(t.Context(), stream.Shards()[len(stream.Shards())-1].ID(), nil)
	require.ErrorIs(t, err, braid.ErrLimitExceeded)
	require.NoError(t, stream.UpdateShardCount(t.Context(), 1))
	requireTiling(t, stream)
}

// reshardStorm splits and merges at random until producers are done.
func reshardStorm(t *testing.T, stream *braid.Stream, random *rand.Rand, done <-chan struct{}) (reshards int) {
	for {
		select {
		case <-done:
			return reshards
		default:
		}
		var open []braid.ShardDescription
		for _, d := range stream.Describe().Shards {
			if !d.Closed {
				open = append(open, d)
			}
		}
		slices.SortFunc(open, func(a, b braid.ShardDescription) int {
			return a.HashKeyRange.Start.Compare(b.HashKeyRange.Start)
		})
		i := random.IntN(len(open))
		var err error
		if len(open) < 2 || len(open) < 12 && random.IntN(2) == 0 {
			_, _, err = stream.SplitShard(t.Context(), open[i].ID, nil)
		} else {
			i = min(i, len(open)-2)
			_, err = stream.MergeShards(t.Context(), open[i].ID, open[i+1].ID)
		}
		if err != nil {
			t.Error(err)
			return reshards
		}
		reshards++
	}
}

// Producers put a count of their own under each key while shards are split and merged. One
// reader follows the stream, the other reads the lineage shard by shard, parents first. Both
// must see each key's counts complete and in order, and so must a reader after a restart.
func TestOrderPerKeySurvivesAStormOfReshards(t *testing.T) {
	const producers, perProducer, keysEach = 4, 600, 5
	dir := t.TempDir()
	db, stream := openReshard(t, dir, 2)

	following, stop := context.WithCancel(t.Context())
	followed := make(chan map[string]int, 1)
	go func() {
		counts := make(map[string]int)
		for rec, err := range stream.Follow(following, braid.TrimHorizon()) {
			if err != nil {
				break
			}
			if !inOrder(t, counts, rec) {
				break
			}
			if total(counts) == producers*perProducer {
				break
			}
		}
		followed <- counts
	}()

	var running sync.WaitGroup
	for p := range producers {
		running.Go(func() {
			for i := range perProducer {
				key := fmt.Sprintf("%d-%d", p, i%keysEach)
				if _, err := stream.PutRecord(t.Context(), key, strconv.AppendInt(nil, int64(i/keysEach), 10)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { running.Wait(); close(done) }()
	reshards := reshardStorm(t, stream, rand.New(rand.NewPCG(1, 2)), done)
	require.Greater(t, reshards, 20)
	requireTiling(t, stream)

	want := make(map[string]int)
	for p := range producers {
		for k := range keysEach {
			want[fmt.Sprintf("%d-%d", p, k)] = perProducer / keysEach
		}
	}
	require.Equal(t, want, <-followed)
	stop()
	require.Equal(t, want, readLineage(t, stream))
	require.NoError(t, db.Close())

	db, stream = openReshard(t, dir, 0)
	defer db.Close()
	requireTiling(t, stream)
	require.Equal(t, want, readLineage(t, stream))
	counts := make(map[string]int)
	for rec, err := range stream.Records(t.Context(), braid.TrimHorizon()) {
		require.NoError(t, err)
		require.True(t, inOrder(t, counts, rec))
	}
	require.Equal(t, want, counts)
	t.Logf("%d reshards, %d shards", reshards, len(stream.Shards()))
}

func inOrder(t *testing.T, counts map[string]int, rec braid.Record) bool {
	n, err := strconv.Atoi(string(rec.Data))
	if err != nil || n != counts[rec.PartitionKey] {
		t.Errorf("key %s: %q came where %d should: %v", rec.PartitionKey, rec.Data, counts[rec.PartitionKey], err)
		return false
	}
	counts[rec.PartitionKey]++
	return true
}

func total(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// readLineage reads every shard to its end, each after its parents.
func readLineage(t *testing.T, stream *braid.Stream) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	read := make(map[braid.ShardID]bool)
	last := make(map[braid.ShardID]braid.SequenceNumber)
	for _, d := range stream.Describe().Shards { // parents have lower indexes
		for _, parent := range d.Parents {
			require.True(t, read[parent], "%s comes before its child %s", parent, d.ID)
		}
		shard, err := stream.Shard(d.ID)
		require.NoError(t, err)
		for rec, err := range shard.Records(t.Context(), braid.TrimHorizon()) {
			require.NoError(t, err)
			require.True(t, inOrder(t, counts, rec))
			require.True(t, d.HashKeyRange.Contains(braid.HashKeyOf(rec.PartitionKey)))
			require.Positive(t, rec.SequenceNumber.Compare(d.StartingSequenceNumber))
			for _, parent := range d.Parents {
				require.Positive(t, rec.SequenceNumber.Compare(last[parent]))
			}
			last[d.ID] = rec.SequenceNumber
		}
		if d.Closed {
			require.Positive(t, d.EndingSequenceNumber.Compare(last[d.ID]))
			last[d.ID] = d.EndingSequenceNumber
		}
		read[d.ID] = true
	}
	return counts
}

func TestAReshardTakesNoTimeInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, stream := openReshard(t, braid.InMemory, 1)
		defer db.Close()
		start := time.Now()
		for range 50 { // many in one second: the numbers still rise
			last := stream.Shards()[len(stream.Shards())-1]
			_, _, err := stream.SplitShard(t.Context(), last.ID(), nil)
			require.NoError(t, err)
		}
		require.Zero(t, time.Since(start))
		all := stream.Describe().Shards
		for _, d := range all[1:] {
			parent, err := stream.Shard(d.Parents[0])
			require.NoError(t, err)
			require.Positive(t, d.StartingSequenceNumber.Compare(parent.Describe().EndingSequenceNumber))
		}
		res, err := stream.PutRecord(t.Context(), "k", nil)
		require.NoError(t, err)
		require.Equal(t, start.Unix(), res.SequenceNumber.Time().Unix())
	})
}

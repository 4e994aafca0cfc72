package modeltest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/inside"
)

// These tests are about calls that meet: in one commit group, or while one of them prepares its
// commit.

// What a put's result says about its record is true, whatever else is in the group.
func TestAKeyChangesBetweenPutsOfOneGroup(t *testing.T) {
	for name, change := range map[string]struct {
		before string // the initial key; empty for none
		fn     func(context.Context, *braid.Stream) error
	}{
		"encryption stops":    {"a", func(ctx context.Context, s *braid.Stream) error { return s.StopEncryption(ctx) }},
		"encryption starts":   {"", func(ctx context.Context, s *braid.Stream) error { return s.StartEncryption(ctx, "a") }},
		"the key changes":     {"a", func(ctx context.Context, s *braid.Stream) error { return s.StartEncryption(ctx, "b") }},
		"a new data key":      {"a", func(ctx context.Context, s *braid.Stream) error { return s.StartEncryption(ctx, "a") }},
		"stops when stopped":  {"", func(ctx context.Context, s *braid.Stream) error { return s.StopEncryption(ctx) }},
		"the stream is split": {"a", func(ctx context.Context, s *braid.Stream) error { return s.UpdateShardCount(ctx, 3) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				options := &braid.Options{KeyProvider: twoKeys, TailBytes: -1}
				db, err := braid.Open(dir, options)
				require.NoError(t, err)
				s, err := db.CreateStream(t.Context(), "s", nil)
				require.NoError(t, err)
				if change.before != "" {
					require.NoError(t, s.StartEncryption(t.Context(), change.before))
				}
				var told [4]braid.PutResult
				put := func(i int) func() {
					return func() {
						var err error
						if told[i], err = s.PutRecord(t.Context(), "k", []byte(strconv.Itoa(i))); err != nil {
							t.Error(err)
						}
					}
				}
				groups := db.Metrics().Commits
				together(db, put(0), put(1), func() {
					if err := change.fn(t.Context(), s); err != nil {
						t.Error(err)
					}
				}, put(2), put(3))
				require.EqualValues(t, 1, db.Metrics().Commits-groups, "one commit group")
				// The data keys of the first records still exist when the last one is removed.
				require.NoError(t, s.Trim(t.Context(), braid.AtSequence(told[1].SequenceNumber)))
				require.NoError(t, db.Close())
				db, err = braid.Open(dir, options) // only stored data
				require.NoError(t, err)
				s, err = db.Stream("s")
				require.NoError(t, err)
				i := 1
				for r, err := range s.Records(t.Context(), braid.TrimHorizon()) {
					require.NoError(t, err)
					require.Equal(t, strconv.Itoa(i), string(r.Data))
					require.Equal(t, told[i].SequenceNumber, r.SequenceNumber)
					require.Equal(t, told[i].Encrypted, r.Encrypted, "record %d", i)
					require.Equal(t, change.before != "", told[min(i, 1)].Encrypted)
					i++
				}
				require.Equal(t, 4, i)
				require.NoError(t, db.Close())
			})
		})
	}
}

// A position is resolved once for all shards: a trim is one cut through the order of arrival, not a
// separate cut in each shard.
func TestATrimIsOneCutThroughAllShards(t *testing.T) {
	const shards, rounds, producers = 2000, 20, 2
	db, err := braid.Open(braid.InMemory, &braid.Options{Durability: braid.NoSync})
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "s", &braid.StreamOptions{Shards: shards})
	require.NoError(t, err)
	keys := make([]braid.HashKey, shards)
	for i, sh := range s.Shards() {
		keys[i] = sh.HashKeyRange().Start
	}
	for range rounds {
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		acked := make([][]braid.PutResult, producers)
		for p := range acked {
			running.Go(func() {
				for i := p; ctx.Err() == nil; i += 7 {
					results, err := s.PutRecords(t.Context(), []braid.Entry{{PartitionKey: "k", ExplicitHashKey: &keys[i%shards]}})
					if err != nil {
						t.Error(err)
						return
					}
					acked[p] = append(acked[p], results...)
				}
			})
		}
		err := s.Trim(t.Context(), braid.Latest())
		stop()
		running.Wait()
		require.NoError(t, err)
		all := slices.Concat(acked...)
		require.NoError(t, checkCut(t.Context(), s, all))
		require.NoError(t, s.Trim(t.Context(), braid.Latest()))
		require.Zero(t, s.Describe().Records)
	}
	require.NoError(t, db.Close())
}

// checkCut returns an error unless the remaining records are exactly those from one counter on.
func checkCut(ctx context.Context, s *braid.Stream, put []braid.PutResult) error {
	kept := make(map[braid.SequenceNumber]bool)
	for r, err := range s.Records(ctx, braid.TrimHorizon()) {
		if err != nil {
			return err
		}
		kept[r.SequenceNumber] = true
	}
	slices.SortFunc(put, func(a, b braid.PutResult) int {
		return cmp.Compare(counter(a.SequenceNumber), counter(b.SequenceNumber))
	})
	for i := range put {
		if i > 0 && kept[put[i-1].SequenceNumber] && !kept[put[i].SequenceNumber] {
			return fmt.Errorf("%s was trimmed, but not %s, which had arrived before it", put[i].SequenceNumber, put[i-1].SequenceNumber)
		}
	}
	return nil
}

// A description is of one moment, whatever is resharded meanwhile: the open shards tile the
// hash-key space, and each closed shard with children lists them.
func TestADescriptionIsOfOneMoment(t *testing.T) {
	db, err := braid.Open(braid.InMemory, &braid.Options{Durability: braid.NoSync})
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "s", nil)
	require.NoError(t, err)
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		defer close(done)
		for i := range 150 {
			if err := s.UpdateShardCount(t.Context(), 1+i%4); err != nil {
				t.Error(err)
			}
		}
	})
	for describing := true; describing && !t.Failed(); {
		select {
		case <-done:
			describing = false // once more
		default:
		}
		d := s.Describe()
		listed := make(map[braid.ShardID]bool)
		for _, sd := range d.Shards {
			listed[sd.ID] = true
		}
		require.NoError(t, checkTiling(d))
		for _, sd := range d.Shards {
			require.Equal(t, sd.Closed, len(sd.Children) > 0, sd.ID)
			require.Equal(t, sd.Closed, !sd.ClosedAt.IsZero(), sd.ID)
			for _, child := range sd.Children {
				require.True(t, listed[child], "%s has child %s", sd.ID, child)
			}
		}
	}
	running.Wait()
	require.NoError(t, db.Close())
}

// A record goes to the shard that contains its hash key when it is committed, even if the stream
// had a single shard, or others, when it was put.
func TestPutsFindTheirShardsAfterAReshardInTheirGroup(t *testing.T) {
	for _, shards := range [][2]int{{1, 4}, {4, 1}, {2, 3}} {
		for _, mode := range []braid.CapacityMode{braid.Unlimited, braid.Provisioned} {
			synctest.Test(t, func(t *testing.T) {
				db, err := braid.Open(braid.InMemory, nil)
				require.NoError(t, err)
				s, err := db.CreateStream(t.Context(), "s", &braid.StreamOptions{Shards: shards[0], Capacity: braid.Capacity{Mode: mode}})
				require.NoError(t, err)
				check := func(key string, res braid.PutResult, err error) {
					if err == nil {
						err = res.Err
					}
					sh, shardErr := s.Shard(res.ShardID)
					if err != nil || shardErr != nil {
						t.Error(err, shardErr)
					} else if k := braid.HashKeyOf(key); k.Compare(sh.HashKeyRange().Start) < 0 || k.Compare(sh.HashKeyRange().End) > 0 {
						t.Errorf("%s went to %s", key, sh.ID())
					}
				}
				var calls []func()
				for i := range 20 {
					key := fmt.Sprint(i)
					switch i % 3 {
					case 0:
						calls = append(calls, func() {
							res, err := s.PutRecord(t.Context(), key, nil)
							check(key, res, err)
						})
					case 1:
						calls = append(calls, func() {
							res, err := s.PutRecords(t.Context(), []braid.Entry{{PartitionKey: key}, {PartitionKey: key + "b"}})
							if err != nil {
								t.Error(err)
								return
							}
							check(key, res[0], nil)
							check(key+"b", res[1], nil)
						})
					default:
						calls = append(calls, func() {
							if err := db.Update(t.Context(), func(tx *braid.Tx) error { return tx.PutRecord("s", key, []byte(key)) }); err != nil {
								t.Error(err)
							}
						})
					}
					if i == 9 {
						calls = append(calls, func() {
							if err := s.UpdateShardCount(t.Context(), shards[1]); err != nil {
								t.Error(err)
							}
						})
					}
				}
				together(db, calls...)
				n := 0
				for r, err := range s.Records(t.Context(), braid.TrimHorizon()) {
					require.NoError(t, err)
					check(r.PartitionKey, braid.PutResult{ShardID: r.ShardID}, nil)
					n++
				}
				require.Equal(t, 27, n)
				require.NoError(t, inside.DBOf(db).CheckBooks(t.Context())) // no closed shard has accepted a record
				require.NoError(t, db.Close())
			})
		}
	}
}

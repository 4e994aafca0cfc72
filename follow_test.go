package braid_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// boxFollows are the two ways to follow a stream of one shard.
func boxFollows(stream *braid.Stream) map[string]func(context.Context, braid.Position) iter.Seq2[braid.Record, error] {
	return map[string]func(context.Context, braid.Position) iter.Seq2[braid.Record, error]{
		"stream": stream.Follow,
		"shard":  stream.Shards()[0].Follow,
	}
}

func TestAPutWakesFollowers(t *testing.T) {
	for _, options := range []*braid.Options{nil, {TailBytes: -1}} {
		synctest.Test(t, func(t *testing.T) {
			db := boxOpen(t, options)
			stream := boxOpenStream(t, db, "s", 1)
			boxPut(t, stream, "before")
			var all, latest []*boxFollower
			for _, follow := range boxFollows(stream) {
				all = append(all, boxFollow(follow(t.Context(), braid.TrimHorizon())))
				latest = append(latest, boxFollow(follow(t.Context(), braid.Latest())))
			}
			synctest.Wait()
			start := time.Now()
			boxPut(t, stream, "one")
			<-time.After(time.Hour)
			require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error { return tx.PutRecord("s", "key", []byte("two")) }))
			synctest.Wait()
			require.Equal(t, time.Hour, time.Since(start), "nobody polls")
			for i := range all {
				require.Equal(t, []string{"before", "one", "two"}, all[i].data)
				require.Equal(t, []string{"one", "two"}, latest[i].data)
			}
			require.NoError(t, db.Close())
			for _, f := range append(all, latest...) {
				require.ErrorIs(t, <-f.ended, braid.ErrClosed)
			}
		})
	}
}

func TestFollowersEndWithTheCauseOfTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, stream := boxStream(t, 1)
		cause := errors.New("enough")
		for name, follow := range boxFollows(stream) {
			ctx, cancel := context.WithCancelCause(t.Context())
			f := boxFollow(follow(ctx, braid.TrimHorizon()))
			synctest.Wait()
			cancel(cause)
			err := <-f.ended
			require.ErrorIs(t, err, cause, name)
			require.Contains(t, err.Error(), "braid: follow ")

			timeout, stop := context.WithTimeout(t.Context(), time.Second)
			defer stop()
			_, err = boxRead(follow(timeout, braid.Latest()))
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
	})
}

func TestDeletingAStreamEndsItsFollowers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, stream := boxStream(t, 1)
		other := boxOpenStream(t, db, "other", 1)
		boxPut(t, stream, "one")
		var followers []*boxFollower
		for _, follow := range boxFollows(stream) {
			followers = append(followers, boxFollow(follow(t.Context(), braid.TrimHorizon())))
		}
		bystander := boxFollow(other.Follow(t.Context(), braid.TrimHorizon()))
		synctest.Wait()
		require.NoError(t, db.DeleteStream(t.Context(), "s"))
		for _, f := range followers {
			require.ErrorIs(t, <-f.ended, braid.ErrStreamNotFound)
			require.Equal(t, []string{"one"}, f.data)
		}
		boxPut(t, other, "still here")
		synctest.Wait()
		require.Equal(t, []string{"still here"}, bystander.data)
		require.NoError(t, db.Close())
		require.ErrorIs(t, <-bystander.ended, braid.ErrClosed)
	})
}

// Followers of an empty, trimmed shard wait at the tip: if one did not, the clock of the bubble
// would stand still.
func TestFollowingATrimmedShardWaits(t *testing.T) {
	for _, options := range []*braid.Options{nil, {TailBytes: -1}} {
		synctest.Test(t, func(t *testing.T) {
			db := boxOpen(t, options)
			stream := boxOpenStream(t, db, "s", 1)
			old := time.Now()
			boxPut(t, stream, "one", "two")
			require.NoError(t, stream.Trim(t.Context(), braid.Latest()))
			var followers []*boxFollower
			for _, follow := range boxFollows(stream) {
				followers = append(followers,
					boxFollow(follow(t.Context(), braid.TrimHorizon())),
					boxFollow(follow(t.Context(), braid.AtTime(old))))
			}
			<-time.After(time.Hour)
			boxPut(t, stream, "three")
			synctest.Wait()
			for _, f := range followers {
				require.Equal(t, []string{"three"}, f.data)
			}
			require.NoError(t, db.Close())
			for _, f := range followers {
				require.ErrorIs(t, <-f.ended, braid.ErrClosed)
			}
		})
	}
}

// The records of all shards come in the order of arrival, and a reader can resume at any of
// them.
func TestAStreamsRecordsComeInTheOrderOfArrival(t *testing.T) {
	for name, options := range map[string]*braid.Options{"from memory": nil, "from store": {TailBytes: -1, MemtableBytes: 1 << 20}} {
		t.Run(name, func(t *testing.T) {
			stream := boxOpenStream(t, boxOpen(t, options), "s", 7)
			var want []braid.SequenceNumber
			var data []string
			for i := range 60 {
				if i%3 == 0 {
					for _, result := range boxFill(t, stream, i, 3000) {
						want, data = append(want, result.SequenceNumber), append(data, string(make([]byte, 3000)))
					}
				}
				result, err := stream.PutRecord(t.Context(), fmt.Sprint("k", i), fmt.Append(nil, i))
				require.NoError(t, err)
				want, data = append(want, result.SequenceNumber), append(data, fmt.Sprint(i))
			}
			var got []braid.SequenceNumber
			for rec, err := range stream.Records(t.Context(), braid.TrimHorizon()) {
				require.NoError(t, err)
				got = append(got, rec.SequenceNumber)
			}
			require.Equal(t, want, got)
			for i := 0; i < len(want); i += 37 {
				require.Equal(t, data[i:], boxAll(t, stream.Records(t.Context(), braid.AtSequence(want[i]))))
				require.Equal(t, data[i+1:], append([]string{}, boxAll(t, stream.Records(t.Context(), braid.AfterSequence(want[i])))...))
			}
			perShard := 0
			for _, sh := range stream.Shards() {
				last := braid.SequenceNumber{}
				for rec, err := range sh.Records(t.Context(), braid.TrimHorizon()) {
					require.NoError(t, err)
					require.Equal(t, sh.ID(), rec.ShardID)
					require.Positive(t, rec.SequenceNumber.Compare(last))
					last = rec.SequenceNumber
					perShard++
				}
			}
			require.Equal(t, len(want), perShard)
		})
	}
}

func TestLatestIsFixedByTheCallOfFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, stream := boxStream(t, 1)
		boxPut(t, stream, "before")
		var sequences []iter.Seq2[braid.Record, error]
		for _, follow := range boxFollows(stream) {
			sequences = append(sequences, follow(t.Context(), braid.Latest()))
		}
		boxPut(t, stream, "after the call, before the loop")
		var followers []*boxFollower
		for _, sequence := range sequences {
			followers = append(followers, boxFollow(sequence))
		}
		synctest.Wait()
		for _, f := range followers {
			require.Equal(t, []string{"after the call, before the loop"}, f.data)
		}
		require.NoError(t, db.Close())
		for _, f := range followers {
			require.ErrorIs(t, <-f.ended, braid.ErrClosed)
		}
	})
}

func TestRecordsEndAtTheTipAsItWasWhenTheLoopBegan(t *testing.T) {
	_, stream := boxStream(t, 1)
	boxPut(t, stream, "one", "two")
	for name, records := range map[string]iter.Seq2[braid.Record, error]{
		"stream": stream.Records(t.Context(), braid.TrimHorizon()),
		"shard":  stream.Shards()[0].Records(t.Context(), braid.TrimHorizon()),
	} {
		before := stream.Describe().Records
		var n int64
		for _, err := range records {
			require.NoError(t, err)
			boxPut(t, stream, "put in the loop")
			n++
		}
		require.Equal(t, before, n, name)
		require.Len(t, boxAll(t, records), int(2*before), "ranging again reads again")
	}
}

func TestAFollowerReadsWhatItsOwnLoopPuts(t *testing.T) {
	_, stream := boxStream(t, 1)
	boxPut(t, stream, "x")
	for name, follow := range boxFollows(stream) {
		n := 0
		for rec, err := range follow(t.Context(), braid.AtTime(time.Now().Add(-time.Hour))) {
			require.NoError(t, err)
			if n++; n == 500 {
				break
			}
			boxPut(t, stream, string(rec.Data)+"x")
		}
		require.Equal(t, 500, n, name)
	}
}

// Followers whose loops were left, or whose bodies block, hold nothing.
func TestAThousandFollowersHoldNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, &braid.Options{TailBytes: -1, MemtableBytes: 1 << 20})
		stream := boxOpenStream(t, db, "s", 4)
		for range 20 { // so many that they are in tables: iterators over tables are counted
			boxFill(t, stream, 500, 200)
		}
		synctest.Wait() // a flush or a compaction would hold iterators, too
		require.Positive(t, db.Metrics().Tables)
		var stops []func()
		for i := range 1000 {
			sequence := stream.Follow(t.Context(), braid.TrimHorizon())
			if i%2 == 0 {
				sequence = stream.Shards()[i%4].Follow(t.Context(), braid.TrimHorizon())
			}
			next, stop := iter.Pull2(sequence)
			_, err, ok := next()
			require.True(t, ok)
			require.NoError(t, err)
			stops = append(stops, stop)
		}
		m := db.Metrics()
		require.Zero(t, m.OpenIterators)
		require.Zero(t, m.OpenSnapshots)
		require.NoError(t, stream.Trim(t.Context(), braid.Latest()))
		for _, stop := range stops {
			stop()
		}
		require.NoError(t, db.Close(), "nobody keeps it from closing")
	})
}

// A follower that waits needs every record from then on, even if it began at the trim horizon
// and has read none. If a record is trimmed before the follower gets to run, it gets an error.
func TestAFollowerThatWaitsIsToldOfWhatIsTrimmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := braid.Open(braid.InMemory, &braid.Options{Durability: braid.NoSync})
		require.NoError(t, err)
		for round := range 100 {
			name := fmt.Sprint("s", round)
			stream, err := db.CreateStream(t.Context(), name, nil)
			require.NoError(t, err)
			var ended []<-chan error
			for _, follow := range boxFollows(stream) {
				result := make(chan error, 1)
				ended = append(ended, result)
				go func() {
					for _, err := range follow(t.Context(), braid.TrimHorizon()) {
						result <- err // nil if it has got the record
						return
					}
				}()
			}
			synctest.Wait() // they wait
			_, err = stream.PutRecord(t.Context(), "k", nil)
			require.NoError(t, err)
			require.NoError(t, stream.Trim(t.Context(), braid.Latest()))
			synctest.Wait()
			for _, result := range ended {
				require.Len(t, result, 1, "it waits on")
				if err := <-result; err != nil {
					require.ErrorIs(t, err, braid.ErrTrimmed)
				}
			}
		}
		require.NoError(t, db.Close())
	})
}

// The position after a page of one shard can also be used in the stream.
func TestAPagesNextIsAPlaceInTheStream(t *testing.T) {
	db, err := braid.Open(braid.InMemory, nil)
	require.NoError(t, err)
	defer db.Close()
	stream, err := db.OpenStream(t.Context(), "s", &braid.StreamOptions{Shards: 2})
	require.NoError(t, err)
	for i := range 20 {
		_, err := stream.PutRecord(t.Context(), fmt.Sprint(i), []byte(fmt.Sprint(i)))
		require.NoError(t, err)
	}
	page, err := stream.Shards()[0].GetRecords(t.Context(), braid.TrimHorizon(), &braid.GetRecordsOptions{Limit: 5})
	require.NoError(t, err)
	last := page.Records[4].SequenceNumber
	var want, got []string
	for rec, err := range stream.Records(t.Context(), braid.AfterSequence(last)) {
		require.NoError(t, err)
		want = append(want, string(rec.Data))
	}
	for rec, err := range stream.Records(t.Context(), page.Next) {
		require.NoError(t, err)
		got = append(got, string(rec.Data))
	}
	require.NotEmpty(t, want)
	require.Equal(t, want, got)
}

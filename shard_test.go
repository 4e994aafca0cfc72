package braid_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// boxReadings are the four ways of reading up to the tip.
func boxReadings(stream *braid.Stream) map[string]func(ctx context.Context, from braid.Position) ([]string, error) {
	shard := stream.Shards()[0]
	return map[string]func(ctx context.Context, from braid.Position) ([]string, error){
		"stream": func(ctx context.Context, from braid.Position) ([]string, error) {
			return boxRead(stream.Records(ctx, from))
		},
		"shard": func(ctx context.Context, from braid.Position) ([]string, error) {
			return boxRead(shard.Records(ctx, from))
		},
		"pages": func(ctx context.Context, from braid.Position) ([]string, error) { return boxPages(ctx, shard, from, 1) },
		"page": func(ctx context.Context, from braid.Position) (data []string, err error) {
			return boxPages(ctx, shard, from, 10_000)
		},
	}
}

// boxPages reads pages of up to limit records, up to the tip.
func boxPages(ctx context.Context, sh *braid.Shard, from braid.Position, limit int) (data []string, err error) {
	for {
		page, err := sh.GetRecords(ctx, from, &braid.GetRecordsOptions{Limit: limit})
		if err != nil {
			return data, err
		}
		for _, rec := range page.Records {
			data = append(data, string(rec.Data))
		}
		if page.BehindLatest == 0 {
			return data, nil
		}
		from = page.Next
	}
}

func TestPositionsSayWhereToBegin(t *testing.T) {
	for name, options := range map[string]*braid.Options{"from memory": nil, "from store": {TailBytes: -1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stream := boxOpenStream(t, boxOpen(t, options), "s", 1)
				var numbers []braid.SequenceNumber
				var times []time.Time
				for i := range 4 {
					<-time.After(time.Minute)
					times = append(times, time.Now())
					numbers = append(numbers, boxPut(t, stream, fmt.Sprint(i))...)
				}
				start := stream.Shards()[0].Describe().StartingSequenceNumber
				for _, test := range []struct {
					from braid.Position
					want string
				}{
					{braid.Position{}, "0 1 2 3"},
					{braid.TrimHorizon(), "0 1 2 3"},
					{braid.Latest(), ""},
					{braid.AtSequence(braid.SequenceNumber{}), "0 1 2 3"},
					{braid.AfterSequence(braid.SequenceNumber{}), "0 1 2 3"},
					{braid.AtSequence(start), "0 1 2 3"},
					{braid.AfterSequence(start), "0 1 2 3"},
					{braid.AtSequence(numbers[0]), "0 1 2 3"},
					{braid.AfterSequence(numbers[0]), "1 2 3"},
					{braid.AtSequence(numbers[2]), "2 3"},
					{braid.AfterSequence(numbers[2]), "3"},
					{braid.AtSequence(numbers[3]), "3"},
					{braid.AfterSequence(numbers[3]), ""},
					{braid.AtTime(times[0].Add(-time.Hour)), "0 1 2 3"},
					{braid.AtTime(time.Unix(0, 0)), "0 1 2 3"},
					{braid.AtTime(time.Time{}), "0 1 2 3"},
					{braid.AtTime(time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC)), "0 1 2 3"},
					{braid.AtTime(times[1]), "1 2 3"},
					{braid.AtTime(times[1].Add(1)), "2 3"},
					{braid.AtTime(times[1].Add(-1)), "1 2 3"},
					{braid.AtTime(times[3]), "3"},
					{braid.AtTime(times[3].Add(1)), ""},
					{braid.AtTime(time.Now().Add(time.Hour)), ""},
					{braid.AtTime(time.Date(2262, 4, 11, 0, 0, 0, 0, time.UTC)), ""},
					{braid.AtTime(time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)), ""},
				} {
					for name, read := range boxReadings(stream) {
						got, err := read(t.Context(), test.from)
						require.NoError(t, err)
						require.Equal(t, strings.Fields(test.want), append([]string{}, got...), "%s from %s", name, test.from)
					}
				}
			})
		})
	}
}

func TestAnEmptyShardHasAllPositions(t *testing.T) {
	db, stream := boxStream(t, 1)
	start := stream.Shards()[0].Describe().StartingSequenceNumber
	for _, from := range []braid.Position{
		braid.TrimHorizon(), braid.Latest(), braid.AtSequence(start), braid.AfterSequence(start),
		braid.AtTime(time.Now()), braid.AtTime(time.Now().Add(time.Hour)), braid.AtTime(time.Unix(0, 0)),
	} {
		for name, read := range boxReadings(stream) {
			got, err := read(t.Context(), from)
			require.NoError(t, err, "%s from %s", name, from)
			require.Empty(t, got)
		}
		page, err := stream.Shards()[0].GetRecords(t.Context(), from, nil)
		require.NoError(t, err)
		require.Zero(t, page.BehindLatest)
		require.Zero(t, page.BehindRecords)
		require.Zero(t, page.BehindBytes)
		require.False(t, page.EndOfShard)
	}
	require.NoError(t, db.Close())
}

func TestNumbersOfOtherShardsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, nil)
		stream := boxOpenStream(t, db, "s", 3)
		<-time.After(time.Minute)
		later := boxOpenStream(t, db, "later", 4)
		results := boxFill(t, stream, 100, 1)
		foreign := boxFill(t, later, 100, 1)
		ofKinesis, err := braid.ParseSequenceNumber("49590338271490256608559692538361571095921575989136588898")
		require.NoError(t, err)
		numbers := []braid.SequenceNumber{ofKinesis, foreign[0].SequenceNumber, later.Shards()[3].Describe().StartingSequenceNumber}
		for _, n := range numbers {
			for _, from := range []braid.Position{braid.AtSequence(n), braid.AfterSequence(n)} {
				_, err := boxRead(stream.Records(t.Context(), from))
				boxInvalid(t, err, "Position")
				_, err = boxRead(stream.Follow(t.Context(), from))
				boxInvalid(t, err, "Position")
				boxInvalid(t, stream.Trim(t.Context(), from), "Position")
			}
		}
		for _, sh := range stream.Shards() {
			for _, result := range results {
				from := braid.AtSequence(result.SequenceNumber)
				_, err1 := boxRead(sh.Records(t.Context(), from))
				_, err2 := sh.GetRecords(t.Context(), from, nil)
				if result.ShardID == sh.ID() {
					require.NoError(t, err1)
					require.NoError(t, err2)
				} else {
					boxInvalid(t, err1, "Position")
					boxInvalid(t, err2, "Position")
				}
			}
			for _, n := range numbers {
				_, err := boxRead(sh.Follow(t.Context(), braid.AfterSequence(n)))
				boxInvalid(t, err, "Position")
			}
		}
		require.EqualValues(t, 100, stream.Describe().Records)
	})
}

func TestPositionsAreNamedAsInKinesis(t *testing.T) {
	n, err := braid.ParseSequenceNumber("49590338271490256608559692538361571095921575989136588898")
	require.NoError(t, err)
	for text, p := range map[string]braid.Position{
		"TRIM_HORIZON":                                braid.TrimHorizon(),
		"LATEST":                                      braid.Latest(),
		"AT_SEQUENCE_NUMBER " + n.String():            braid.AtSequence(n),
		"AFTER_SEQUENCE_NUMBER " + n.String():         braid.AfterSequence(n),
		"AT_TIMESTAMP 2025-02-03T04:05:06.000000007Z": braid.AtTime(time.Date(2025, 2, 3, 4, 5, 6, 7, time.UTC)),
	} {
		require.Equal(t, text, p.String())
	}
}

// A position that a page has returned carries a hint that one made from the same number does
// not have. Equal must ignore it.
func TestPositionsAreEqualIfTheirTextsAre(t *testing.T) {
	_, stream := boxStream(t, 2)
	numbers := boxPut(t, stream, "a", "b", "c")
	shard, err := stream.Shard(numbers[0].ShardID())
	require.NoError(t, err)
	var positions []braid.Position
	for _, from := range []braid.Position{braid.TrimHorizon(), braid.Latest(), braid.AtTime(time.Now().Add(time.Hour))} {
		page, err := shard.GetRecords(t.Context(), from, &braid.GetRecordsOptions{Limit: 2})
		require.NoError(t, err)
		parsed, err := braid.ParsePosition(page.Next.String())
		require.NoError(t, err)
		positions = append(positions, page.Next, parsed)
	}
	require.NotEqual(t, positions[0], positions[1], "a page's Next knows no more than its number, so this test shows nothing")
	positions = append(positions, braid.TrimHorizon(), braid.Position{}, braid.Latest(), braid.Latest(), braid.AtSequence(braid.SequenceNumber{}))
	for _, n := range numbers {
		positions = append(positions, braid.AtSequence(n), braid.AfterSequence(n))
	}
	moment := time.Date(2025, 2, 3, 4, 5, 6, 7, time.UTC)
	for _, at := range []time.Time{moment, moment.In(time.FixedZone("east", 7200)), moment.Add(1), time.Unix(0, 0), time.Unix(-1, 0), {}} {
		positions = append(positions, braid.AtTime(at))
	}
	for _, p := range positions {
		for _, q := range positions {
			require.Equal(t, p.String() == q.String(), p.Equal(q), "%s, %s", p, q)
		}
	}
}

func TestPositionsHaveTheNumberThatTheyAreMadeOf(t *testing.T) {
	_, stream := boxStream(t, 1)
	numbers := boxPut(t, stream, "a", "b")
	for _, n := range append(numbers, braid.SequenceNumber{}) {
		require.Equal(t, n, braid.AtSequence(n).SequenceNumber())
		require.Equal(t, n, braid.AfterSequence(n).SequenceNumber())
	}
	token := braid.AtToken("iterator  7\n世界 ")
	require.Equal(t, "iterator  7\n世界 ", token.Token())
	require.False(t, token.Equal(braid.AtToken("iterator 7")))
	require.Equal(t, braid.TrimHorizon(), braid.AtToken(""))
	parsed, err := braid.ParsePosition(token.String())
	require.NoError(t, err)
	require.Equal(t, token, parsed)
	for _, p := range []braid.Position{{}, braid.TrimHorizon(), braid.Latest(), braid.AtTime(time.Now()), token} {
		require.Zero(t, p.SequenceNumber(), "%s", p)
	}
	page, err := stream.Shards()[0].GetRecords(t.Context(), braid.TrimHorizon(), nil)
	require.NoError(t, err)
	require.Equal(t, numbers[1], page.Next.SequenceNumber())
}

func TestPagesHaveLimits(t *testing.T) {
	boxReaders(t, func(t *testing.T, _ *braid.DB, stream *braid.Stream) {
		sh := stream.Shards()[0]
		for _, o := range []braid.GetRecordsOptions{{Limit: -1}, {Limit: 10_001}} {
			_, err := sh.GetRecords(t.Context(), braid.TrimHorizon(), &o)
			boxInvalid(t, err, "Limit")
		}
		for _, o := range []braid.GetRecordsOptions{{LimitBytes: -1}, {LimitBytes: 10<<20 + 1}} {
			_, err := sh.GetRecords(t.Context(), braid.TrimHorizon(), &o)
			boxInvalid(t, err, "LimitBytes")
		}
		entries := make([]braid.Entry, 10_001)
		for i := range entries { // 100 bytes each
			entries[i] = braid.Entry{PartitionKey: fmt.Sprintf("%010d", i), Data: make([]byte, 90)}
		}
		_, err := stream.PutRecords(t.Context(), entries)
		require.NoError(t, err)
		for _, test := range []struct {
			options braid.GetRecordsOptions
			want    int
		}{
			{braid.GetRecordsOptions{}, 10_000},
			{braid.GetRecordsOptions{Limit: 10_000}, 10_000},
			{braid.GetRecordsOptions{Limit: 1}, 1},
			{braid.GetRecordsOptions{LimitBytes: 1}, 1},
			{braid.GetRecordsOptions{LimitBytes: 199}, 1},
			{braid.GetRecordsOptions{LimitBytes: 200}, 2},
			{braid.GetRecordsOptions{LimitBytes: 299}, 2},
			{braid.GetRecordsOptions{LimitBytes: 10_000, Limit: 99}, 99},
			{braid.GetRecordsOptions{LimitBytes: 10_000, Limit: 101}, 100},
			{braid.GetRecordsOptions{LimitBytes: 10 << 20}, 10_000},
		} {
			page, err := sh.GetRecords(t.Context(), braid.TrimHorizon(), &test.options)
			require.NoError(t, err)
			require.Len(t, page.Records, test.want, "%+v", test.options)
			require.EqualValues(t, 10_001-test.want, page.BehindRecords)
			require.EqualValues(t, 100*(10_001-test.want), page.BehindBytes)
			require.Positive(t, page.BehindLatest)
		}
	})
}

// BehindLatest is 0 if, and only if, the page reached the tip.
func TestPagesSayHowFarBehindTheyAre(t *testing.T) {
	for name, options := range map[string]*braid.Options{"from memory": nil, "from store": {TailBytes: -1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stream := boxOpenStream(t, boxOpen(t, options), "s", 1)
				sh := stream.Shards()[0]
				const n = 7
				var arrived [n]time.Time
				for i := range n {
					arrived[i] = time.Now()
					boxPut(t, stream, strings.Repeat("x", i)) // 3+i bytes
					<-time.After(time.Hour)
				}
				from, left := braid.TrimHorizon(), int64(3*n+n*(n-1)/2)
				for i := range n {
					page, err := sh.GetRecords(t.Context(), from, &braid.GetRecordsOptions{Limit: 1})
					require.NoError(t, err)
					require.Len(t, page.Records, 1)
					left -= int64(3 + i)
					require.EqualValues(t, n-1-i, page.BehindRecords)
					require.Equal(t, left, page.BehindBytes)
					if i < n-1 {
						require.Equal(t, time.Since(arrived[i+1]), page.BehindLatest)
					} else {
						require.Zero(t, page.BehindLatest)
					}
					from = page.Next
				}
				for range 3 { // the tip stays the tip
					page, err := sh.GetRecords(t.Context(), from, nil)
					require.NoError(t, err)
					require.Empty(t, page.Records)
					require.Zero(t, page.BehindLatest)
					require.Zero(t, page.BehindRecords)
					require.Zero(t, page.BehindBytes)
					from = page.Next
				}
				boxPut(t, stream, "new")
				page, err := sh.GetRecords(t.Context(), from, nil)
				require.NoError(t, err)
				require.Len(t, page.Records, 1)
			})
		})
	}
}

// Next of a page is a fixed position, so no record is missed between two calls.
func TestNextOfAnEmptyPageDoesNotMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, stream := boxStream(t, 1)
		sh := stream.Shards()[0]
		next := func(from braid.Position) braid.Position {
			page, err := sh.GetRecords(t.Context(), from, nil)
			require.NoError(t, err)
			require.Empty(t, page.Records)
			return page.Next
		}
		var atStart []braid.Position
		for _, from := range []braid.Position{braid.TrimHorizon(), braid.Latest(), braid.AtTime(time.Now())} {
			atStart = append(atStart, next(next(from)))
		}
		inAnHour := next(braid.AtTime(time.Now().Add(time.Hour)))
		boxPut(t, stream, "one")
		latest := next(braid.Latest())
		<-time.After(2 * time.Hour)
		boxPut(t, stream, "two")
		for _, from := range atStart {
			require.Equal(t, []string{"one", "two"}, boxAll(t, sh.Records(t.Context(), from)))
		}
		require.Equal(t, []string{"two"}, boxAll(t, sh.Records(t.Context(), inAnHour)))
		require.Equal(t, []string{"two"}, boxAll(t, sh.Records(t.Context(), latest)))
	})
}

func TestGetRecordsWaitsForARecordIfItShould(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, stream := boxStream(t, 2)
		sh := stream.Shards()[0]
		wait := func(ctx context.Context, from braid.Position) <-chan any {
			result := make(chan any, 1)
			go func() {
				page, err := sh.GetRecords(ctx, from, &braid.GetRecordsOptions{Wait: true})
				if err != nil {
					result <- err
				} else {
					result <- len(page.Records)
				}
			}()
			synctest.Wait()
			require.Empty(t, result)
			return result
		}
		put := func(shard int) {
			key := stream.Shards()[shard].HashKeyRange().Start
			_, err := stream.PutRecords(t.Context(), []braid.Entry{{PartitionKey: "k", ExplicitHashKey: &key}})
			require.NoError(t, err)
			synctest.Wait()
		}

		first := wait(t.Context(), braid.TrimHorizon())
		put(1)
		require.Empty(t, first, "another shard's records do not count")
		put(0)
		require.Equal(t, 1, <-first)

		later := wait(t.Context(), braid.AtTime(time.Now().Add(time.Hour)))
		put(0)
		require.Empty(t, later, "it is too early")
		<-time.After(time.Hour)
		put(0)
		require.Equal(t, 1, <-later)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, (<-wait(ctx, braid.Latest())).(error), context.DeadlineExceeded)

		closing := wait(t.Context(), braid.Latest())
		require.NoError(t, db.Close())
		require.ErrorIs(t, (<-closing).(error), braid.ErrClosed)
	})
}

func TestPagesOfAClosedShardSayThatItEnds(t *testing.T) {
	for name, options := range map[string]*braid.Options{"from memory": nil, "from store": {TailBytes: -1}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db := boxOpenDir(t, dir, options)
			stream := boxOpenStream(t, db, "s", 1)
			numbers := boxPut(t, stream, "one", "two")
			lower, upper, err := stream.SplitShard(t.Context(), "0", nil)
			require.NoError(t, err)
			children := []braid.ShardID{lower.ID(), upper.ID()}
			check := func(sh *braid.Shard) {
				t.Helper()
				page, err := sh.GetRecords(t.Context(), braid.TrimHorizon(), &braid.GetRecordsOptions{Limit: 1})
				require.NoError(t, err)
				require.False(t, page.EndOfShard)
				require.Empty(t, page.ChildShards)
				ending := sh.Describe().EndingSequenceNumber
				require.Positive(t, ending.Compare(numbers[1]))
				for _, from := range []braid.Position{page.Next, braid.Latest(), braid.AfterSequence(numbers[1]), braid.AtSequence(ending), braid.AfterSequence(ending), braid.AtTime(time.Now().Add(time.Hour))} {
					page, err = sh.GetRecords(t.Context(), from, &braid.GetRecordsOptions{Wait: true})
					require.NoError(t, err)
					require.True(t, page.EndOfShard, from)
					require.Equal(t, children, page.ChildShards)
					require.Zero(t, page.BehindLatest)
					again, err := sh.GetRecords(t.Context(), page.Next, nil)
					require.NoError(t, err)
					require.Empty(t, again.Records)
					require.True(t, again.EndOfShard)
				}
				require.Empty(t, boxAll(t, sh.Follow(t.Context(), braid.Latest())), "it does not wait")
				require.Equal(t, []string{"two"}, boxAll(t, sh.Follow(t.Context(), braid.AfterSequence(numbers[0]))))
			}
			check(stream.Shards()[0])
			require.NoError(t, db.Close())
			stream = boxOpenStream(t, boxOpenDir(t, dir, options), "s", 1)
			check(stream.Shards()[0])
			require.Equal(t, []string{"one", "two"}, boxAll(t, stream.Records(t.Context(), braid.TrimHorizon())))

			require.NoError(t, stream.Trim(t.Context(), braid.Latest()))
			page, err := stream.Shards()[0].GetRecords(t.Context(), braid.TrimHorizon(), &braid.GetRecordsOptions{Wait: true})
			require.NoError(t, err)
			require.Empty(t, page.Records)
			require.True(t, page.EndOfShard)
		})
	}
}

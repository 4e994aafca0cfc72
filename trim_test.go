package braid_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// boxTrimmed requires an ErrTrimmed, and returns its details.
func boxTrimmed(t *testing.T, err error) *braid.TrimmedError {
	t.Helper()
	require.ErrorIs(t, err, braid.ErrTrimmed)
	var trimmed *braid.TrimmedError
	require.ErrorAs(t, err, &trimmed)
	require.Contains(t, err.Error(), string(trimmed.Shard))
	require.Contains(t, err.Error(), trimmed.FirstAvailable.String())
	return trimmed
}

func TestAReaderThatTrimmingOvertookIsTold(t *testing.T) {
	for name, options := range map[string]*braid.Options{"from memory": nil, "from store": {TailBytes: -1}} {
		t.Run(name, func(t *testing.T) {
			stream := boxOpenStream(t, boxOpen(t, options), "s", 1)
			numbers := boxPut(t, stream, "0", "1", "2", "3", "4")
			require.NoError(t, stream.Trim(t.Context(), braid.AtSequence(numbers[3])))

			for _, test := range []struct {
				from braid.Position
				want string // "" if records were lost
			}{
				{braid.AtSequence(numbers[0]), ""},
				{braid.AfterSequence(numbers[0]), ""},
				{braid.AtSequence(numbers[2]), ""},
				{braid.AfterSequence(numbers[1]), ""},
				{braid.AfterSequence(numbers[2]), "34"}, // the last one that was trimmed: no loss
				{braid.AtSequence(numbers[3]), "34"},
				{braid.AfterSequence(numbers[3]), "4"},
				{braid.TrimHorizon(), "34"},
				{braid.AtTime(time.Unix(1, 0)), "34"},
				{braid.AtTime(time.Now().Add(-time.Hour)), "34"},
			} {
				for way, read := range boxReadings(stream) {
					data, err := read(t.Context(), test.from)
					if test.want != "" {
						require.NoError(t, err, "%s from %s", way, test.from)
						require.Equal(t, test.want, fmt.Sprint(joined(data)))
						continue
					}
					e := boxTrimmed(t, err)
					require.Empty(t, data)
					require.EqualValues(t, "shardId-000000000000", e.Shard)
					require.LessOrEqual(t, e.FirstLost.Compare(numbers[2]), 0)
					require.Equal(t, numbers[2], e.LastLost)
					require.Positive(t, e.FirstAvailable.Compare(numbers[2]))
					require.LessOrEqual(t, e.FirstAvailable.Compare(numbers[3]), 0)
					data, err = read(t.Context(), braid.AtSequence(e.FirstAvailable))
					require.NoError(t, err)
					require.Equal(t, "34", joined(data), "it can go on there")
				}
			}
			_, err := boxRead(stream.Records(t.Context(), braid.AtSequence(numbers[1])))
			require.Equal(t, numbers[1], boxTrimmed(t, err).FirstLost)
		})
	}
}

func joined(data []string) (all string) {
	for _, d := range data {
		all += d
	}
	return all
}

func TestALoopThatTrimmingOvertakesIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, &braid.Options{TailBytes: -1})
		stream := boxOpenStream(t, db, "s", 1)
		boxFill(t, stream, 5000, 10) // several pages
		for name, follow := range boxFollows(stream) {
			n, trimmed := 0, false
			for _, err := range follow(t.Context(), braid.TrimHorizon()) {
				if err != nil {
					e := boxTrimmed(t, err)
					require.Empty(t, boxAll(t, stream.Records(t.Context(), braid.AtSequence(e.FirstAvailable))))
					trimmed = true
					break
				}
				if n++; n == 10 {
					require.NoError(t, stream.Trim(t.Context(), braid.Latest()))
				}
			}
			require.True(t, trimmed, name)
			require.Less(t, n, 5000)
			boxFill(t, stream, 5000, 10)
		}
	})
}

func TestTrimTakesEveryKindOfPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, nil)
		for i, test := range []struct {
			before func(numbers []braid.SequenceNumber, times []time.Time) braid.Position
			left   string
		}{
			{func([]braid.SequenceNumber, []time.Time) braid.Position { return braid.TrimHorizon() }, "0123"},
			{func([]braid.SequenceNumber, []time.Time) braid.Position { return braid.Position{} }, "0123"},
			{func([]braid.SequenceNumber, []time.Time) braid.Position { return braid.Latest() }, ""},
			{func(n []braid.SequenceNumber, _ []time.Time) braid.Position { return braid.AtSequence(n[0]) }, "0123"},
			{func(n []braid.SequenceNumber, _ []time.Time) braid.Position { return braid.AtSequence(n[2]) }, "23"},
			{func(n []braid.SequenceNumber, _ []time.Time) braid.Position { return braid.AfterSequence(n[2]) }, "3"},
			{func(n []braid.SequenceNumber, _ []time.Time) braid.Position { return braid.AfterSequence(n[3]) }, ""},
			{func(_ []braid.SequenceNumber, at []time.Time) braid.Position {
				return braid.AtTime(at[0].Add(-time.Hour))
			}, "0123"},
			{func(_ []braid.SequenceNumber, at []time.Time) braid.Position { return braid.AtTime(at[1]) }, "123"},
			{func(_ []braid.SequenceNumber, at []time.Time) braid.Position { return braid.AtTime(at[1].Add(1)) }, "23"},
			{func(_ []braid.SequenceNumber, at []time.Time) braid.Position {
				return braid.AtTime(at[3].Add(time.Hour))
			}, ""},
		} {
			stream := boxOpenStream(t, db, fmt.Sprint("s", i), 4)
			var numbers []braid.SequenceNumber
			var times []time.Time
			for i := range 4 { // in any shards
				<-time.After(time.Minute)
				times = append(times, time.Now())
				result, err := stream.PutRecord(t.Context(), fmt.Sprint("key", i), fmt.Append(nil, i))
				require.NoError(t, err)
				numbers = append(numbers, result.SequenceNumber)
			}
			before := test.before(numbers, times)
			for range 2 { // a second time changes nothing
				require.NoError(t, stream.Trim(t.Context(), before))
				require.Equal(t, test.left, joined(boxAll(t, stream.Records(t.Context(), braid.TrimHorizon()))), "%s", before)
				require.EqualValues(t, len(test.left), stream.Describe().Records)
			}
			require.NoError(t, stream.Trim(t.Context(), braid.TrimHorizon()))
			boxPut(t, stream, "+")
			require.Equal(t, test.left+"+", joined(boxAll(t, stream.Records(t.Context(), braid.TrimHorizon()))), "a trim is about the past")
		}
	})
}

func TestATrimDoesNotMoveBack(t *testing.T) {
	_, stream := boxStream(t, 1)
	numbers := boxPut(t, stream, "0", "1", "2", "3")
	require.NoError(t, stream.Trim(t.Context(), braid.AtSequence(numbers[3])))
	for _, before := range []braid.Position{braid.AtSequence(numbers[1]), braid.TrimHorizon(), braid.AtTime(time.Unix(0, 0))} {
		require.NoError(t, stream.Trim(t.Context(), before))
		require.Equal(t, []string{"3"}, boxAll(t, stream.Records(t.Context(), braid.TrimHorizon())))
	}
}

// Trimmed records do not come back, and their numbers are not used again.
func TestNumbersGoOnAfterATrimAndARestart(t *testing.T) {
	dir := t.TempDir()
	last := braid.SequenceNumber{}
	for i := range 3 {
		db, err := braid.Open(dir, nil)
		require.NoError(t, err)
		stream := boxOpenStream(t, db, "s", 1)
		require.Empty(t, boxAll(t, stream.Records(t.Context(), braid.TrimHorizon())))
		if i > 0 {
			require.Empty(t, boxAll(t, stream.Records(t.Context(), braid.AfterSequence(last))), "nothing was lost after the last one")
		}
		n := boxPut(t, stream, "one", "two")
		require.Positive(t, n[0].Compare(last))
		last = n[1]
		require.NoError(t, stream.Trim(t.Context(), braid.Latest()))
		require.NoError(t, db.Close())
	}
}

func TestTrimmingAndDeletingReturnTheirSpace(t *testing.T) {
	for name, remove := range map[string]func(ctx context.Context, db *braid.DB, stream *braid.Stream) error{
		"trim": func(ctx context.Context, _ *braid.DB, stream *braid.Stream) error {
			return stream.Trim(ctx, braid.Latest())
		},
		"delete": func(ctx context.Context, db *braid.DB, stream *braid.Stream) error {
			return db.DeleteStream(ctx, stream.Name())
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				options := &braid.Options{MemtableBytes: 1 << 20, Durability: braid.NoSync}
				db := boxOpenDir(t, dir, options)
				large, small := boxOpenStream(t, db, "large", 3), boxOpenStream(t, db, "small", 2)
				var want []string
				for i := range 16 { // 16 MiB of the large one, with a little of the other in between
					boxFill(t, large, 64, 16<<10)
					boxPut(t, small, fmt.Sprint(i))
					want = append(want, fmt.Sprint(i))
				}
				before := db.Metrics()
				require.Greater(t, before.Epochs, 10)
				require.Greater(t, before.DiskBytes, int64(1<<20))
				require.NoError(t, remove(t.Context(), db, large))
				boxFill(t, small, 1, 10) // into the last epoch
				want = append(want, string(make([]byte, 10)))

				wait(time.Minute)
				after := db.Metrics()
				require.Less(t, after.DiskBytes, int64(8<<20))
				require.LessOrEqual(t, after.Epochs, before.Epochs, "the other stream lives in all of them")
				require.Equal(t, want, boxAll(t, small.Records(t.Context(), braid.TrimHorizon())), "others are unharmed")

				require.NoError(t, db.Close())
				db = boxOpenDir(t, dir, options)
				small = boxOpenStream(t, db, "small", 0)
				require.Equal(t, want, boxAll(t, small.Records(t.Context(), braid.TrimHorizon())))
				require.NoError(t, small.Trim(t.Context(), braid.Latest()))
				wait(time.Minute)
				require.LessOrEqual(t, db.Metrics().Epochs, 2)
			})
		})
	}
}

func TestTrimmedErrorsAreErrors(t *testing.T) {
	_, stream := boxStream(t, 1)
	numbers := boxPut(t, stream, "0", "1")
	require.NoError(t, stream.Trim(t.Context(), braid.Latest()))
	_, err := stream.Shards()[0].GetRecords(t.Context(), braid.AtSequence(numbers[0]), nil)
	e := boxTrimmed(t, err)
	require.Equal(t, numbers[0], e.FirstLost)
	require.Equal(t, numbers[1], e.LastLost)
	require.Positive(t, e.FirstAvailable.Compare(numbers[1]), "though no record is left")
	require.True(t, errors.Is(e, braid.ErrTrimmed))
	require.False(t, errors.Is(e, braid.ErrDataLoss))
	page, err := stream.Shards()[0].GetRecords(t.Context(), braid.AtSequence(e.FirstAvailable), nil)
	require.NoError(t, err)
	require.Empty(t, page.Records)
}

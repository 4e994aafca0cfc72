package braid_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

func TestStreamNamesAreThoseOfKinesis(t *testing.T) {
	db := boxOpen(t, nil)
	for _, name := range []string{"a", "Z", "0", "_", ".", "-", "..", "a.b-c_D9", strings.Repeat("n", 128)} {
		stream, err := db.CreateStream(t.Context(), name, nil)
		require.NoError(t, err, name)
		require.Equal(t, name, stream.Name())
		require.NoError(t, braid.ValidateStreamName(name))
	}
	for _, name := range []string{"", " ", "a b", "a/b", "a:b", "ä", "a\x00", "\xff", "a\n", strings.Repeat("n", 129)} {
		_, err := db.CreateStream(t.Context(), name, nil)
		boxInvalid(t, err, "Name")
		boxInvalid(t, braid.ValidateStreamName(name), "Name")
		_, err = db.OpenStream(t.Context(), name, nil)
		boxInvalid(t, err, "Name")
		_, err = db.Stream(name)
		require.ErrorIs(t, err, braid.ErrStreamNotFound)
		require.ErrorIs(t, db.DeleteStream(t.Context(), name), braid.ErrStreamNotFound)
	}
}

// The settings in a description can be used as options to create a stream like it: no value
// has another meaning in the options.
func TestADescriptionMakesAStreamLikeIt(t *testing.T) {
	db := boxOpen(t, nil)
	for i, options := range []braid.StreamOptions{
		{},
		{Retention: -1},
		{Retention: time.Hour, RetentionBytes: 1 << 30, MaxRecordBytes: 1 << 10, Tags: map[string]string{"team": "rivers"}},
		{Capacity: braid.Capacity{Mode: braid.Provisioned}},
		{Capacity: braid.Capacity{Mode: braid.OnDemand, MaxShards: 9}},
	} {
		first, err := db.CreateStream(t.Context(), fmt.Sprint("first-", i), &options)
		require.NoError(t, err)
		was := first.Describe()
		second, err := db.CreateStream(t.Context(), fmt.Sprint("second-", i), &braid.StreamOptions{
			Shards: len(was.Shards), MaxRecordBytes: was.MaxRecordBytes, Retention: was.Retention,
			RetentionBytes: was.RetentionBytes, Capacity: was.Capacity, Tags: was.Tags,
		})
		require.NoError(t, err)
		is := second.Describe()
		require.Len(t, is.Shards, len(was.Shards))
		was.Name, was.CreatedAt, was.Shards = is.Name, is.CreatedAt, is.Shards
		require.Equal(t, was, is)
	}
}

func TestStreamOptionsHaveLimits(t *testing.T) {
	db := boxOpen(t, nil)
	for _, test := range []struct {
		field   string
		options braid.StreamOptions
	}{
		{"Shards", braid.StreamOptions{Shards: -1}},
		{"Shards", braid.StreamOptions{Shards: 10_001}},
		{"MaxRecordBytes", braid.StreamOptions{MaxRecordBytes: -1}},
		{"MaxRecordBytes", braid.StreamOptions{MaxRecordBytes: 10<<20 + 1}},
	} {
		_, err := db.CreateStream(t.Context(), "s", &test.options)
		boxInvalid(t, err, test.field)
		_, err = db.OpenStream(t.Context(), "s", &test.options)
		boxInvalid(t, err, test.field)
	}
	require.Empty(t, db.Streams())

	for name, options := range map[string]*braid.StreamOptions{
		"nil":     nil,
		"zero":    {},
		"most":    {Shards: 10_000, MaxRecordBytes: 10 << 20},
		"fewest":  {Shards: 1, MaxRecordBytes: 1},
		"between": {Shards: 7, MaxRecordBytes: 2 << 20},
	} {
		stream, err := db.CreateStream(t.Context(), name, options)
		require.NoError(t, err, name)
		want := braid.StreamOptions{Shards: 1, MaxRecordBytes: 1 << 20}
		if options != nil && options.Shards > 0 {
			want = *options
		}
		require.Len(t, stream.Shards(), want.Shards)
		require.Equal(t, want.MaxRecordBytes, stream.Describe().MaxRecordBytes)
	}
}

// The ranges are those of Kinesis: equal steps, and the last one gets the remainder.
func TestANewStreamDividesTheHashKeySpaceEvenly(t *testing.T) {
	db := boxOpen(t, nil)
	for n, starts := range map[int][]string{
		1: {"0"},
		2: {"0", "170141183460469231731687303715884105728"},
		3: {"0", "113427455640312821154458202477256070485", "226854911280625642308916404954512140970"},
		4: {"0", "85070591730234615865843651857942052864", "170141183460469231731687303715884105728", "255211775190703847597530955573826158592"},
		5: {"0", "68056473384187692692674921486353642291", "136112946768375385385349842972707284582", "204169420152563078078024764459060926873", "272225893536750770770699685945414569164"},
	} {
		stream := boxOpenStream(t, db, fmt.Sprint("s", n), n)
		requireTiling(t, stream)
		for i, sh := range stream.Shards() {
			require.Equal(t, starts[i], sh.HashKeyRange().Start.String())
			require.EqualValues(t, fmt.Sprintf("shardId-%012d", i), sh.ID())
			require.Empty(t, sh.Parents())
		}
	}
	requireTiling(t, boxOpenStream(t, db, "many", 9_999))
}

func TestCreateOpenAndDeleteStream(t *testing.T) {
	db := boxOpen(t, nil)
	first, err := db.CreateStream(t.Context(), "b", &braid.StreamOptions{Shards: 3})
	require.NoError(t, err)
	_, err = db.CreateStream(t.Context(), "b", nil)
	require.ErrorIs(t, err, braid.ErrStreamExists)

	opened, err := db.OpenStream(t.Context(), "b", &braid.StreamOptions{Shards: 5})
	require.NoError(t, err)
	require.Same(t, first, opened, "the options count only when the stream is created")
	got, err := db.Stream("b")
	require.NoError(t, err)
	require.Same(t, first, got)

	boxOpenStream(t, db, "c", 1)
	boxOpenStream(t, db, "a", 1)
	var names []string
	for _, s := range db.Streams() {
		names = append(names, s.Name())
	}
	require.Equal(t, []string{"a", "b", "c"}, names)

	require.NoError(t, db.DeleteStream(t.Context(), "b"))
	require.ErrorIs(t, db.DeleteStream(t.Context(), "b"), braid.ErrStreamNotFound)
	_, err = db.Stream("b")
	require.ErrorIs(t, err, braid.ErrStreamNotFound)
	require.Len(t, db.Streams(), 2)
}

func TestManyWhoOpenOneStreamGetTheSame(t *testing.T) {
	db := boxOpen(t, nil)
	streams := make(chan *braid.Stream)
	for range 16 {
		go func() {
			stream, err := db.OpenStream(t.Context(), "s", nil)
			if err != nil {
				stream = nil
			}
			streams <- stream
		}()
	}
	first := <-streams
	require.NotNil(t, first)
	for range 15 {
		require.Same(t, first, <-streams)
	}
}

// A handle of a deleted stream never becomes one of a new stream with the same name.
func TestADeletedStreamSharesNothingWithItsSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, &braid.Options{MemtableBytes: 1 << 20})
		old := boxOpenStream(t, db, "s", 2)
		oldShard := old.Shards()[0]
		numbers := boxPut(t, old, "one", "two")
		middle := time.Now()
		<-time.After(time.Second)
		boxPut(t, old, "three")
		require.NoError(t, db.DeleteStream(t.Context(), "s"))
		synctest.Wait() // until its space is reclaimed
		next := boxOpenStream(t, db, "s", 2)

		for i := range 2 { // again when the new one has records
			calls := map[string]func() error{
				"put record":  func() error { _, err := old.PutRecord(t.Context(), "key", nil); return err },
				"put records": func() error { _, err := old.PutRecords(t.Context(), make1("key")); return err },
				"records":     func() error { _, err := boxRead(old.Records(t.Context(), braid.TrimHorizon())); return err },
				"latest":      func() error { _, err := boxRead(old.Records(t.Context(), braid.Latest())); return err },
				"follow":      func() error { _, err := boxRead(old.Follow(t.Context(), braid.Latest())); return err },
				"shard":       func() error { _, err := boxRead(oldShard.Records(t.Context(), braid.TrimHorizon())); return err },
				"shard follow": func() error {
					_, err := boxRead(oldShard.Follow(t.Context(), braid.Latest()))
					return err
				},
				"page": func() error {
					_, err := oldShard.GetRecords(t.Context(), braid.TrimHorizon(), &braid.GetRecordsOptions{Wait: true})
					return err
				},
				"trim all":      func() error { return old.Trim(t.Context(), braid.Latest()) },
				"trim nothing":  func() error { return old.Trim(t.Context(), braid.TrimHorizon()) },
				"trim a number": func() error { return old.Trim(t.Context(), braid.AfterSequence(numbers[0])) },
				"trim a time":   func() error { return old.Trim(t.Context(), braid.AtTime(middle)) },
				"split":         func() error { _, _, err := old.SplitShard(t.Context(), "0", nil); return err },
				"merge":         func() error { _, err := old.MergeShards(t.Context(), "0", "1"); return err },
				"count":         func() error { return old.UpdateShardCount(t.Context(), 4) },
			}
			for name, call := range calls {
				require.ErrorIs(t, call(), braid.ErrStreamNotFound, name)
			}
			require.Len(t, boxAll(t, next.Records(t.Context(), braid.TrimHorizon())), i)
			boxPut(t, next, "new")
		}
		require.EqualValues(t, 2, next.Describe().Records)
	})
}

func make1(key string) []braid.Entry { return []braid.Entry{{PartitionKey: key}} }

func TestDeletingAStreamLeavesOthersAlone(t *testing.T) {
	db := boxOpen(t, nil)
	kept, gone := boxOpenStream(t, db, "kept", 2), boxOpenStream(t, db, "gone", 2)
	for i := range 10 {
		boxPut(t, kept, fmt.Sprint(i))
		boxPut(t, gone, fmt.Sprint(i))
	}
	require.NoError(t, db.DeleteStream(t.Context(), "gone"))
	boxPut(t, kept, "10")
	require.Len(t, boxAll(t, kept.Records(t.Context(), braid.TrimHorizon())), 11)
}

func TestDescribeCountsWhatCanBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		created := time.Now()
		_, stream := boxStream(t, 3)
		<-time.After(time.Hour)
		d := stream.Describe()
		require.Equal(t, "s", d.Name)
		require.WithinDuration(t, created, d.CreatedAt, time.Second)
		require.Zero(t, d.Records)
		require.Zero(t, d.Bytes)
		for _, sh := range d.Shards {
			require.True(t, sh.First.IsZero())
			require.True(t, sh.Last.IsZero())
			require.Empty(t, sh.Children)
			require.False(t, sh.Closed)
			require.Equal(t, sh.ID, sh.StartingSequenceNumber.ShardID())
		}

		results, err := stream.PutRecords(t.Context(), []braid.Entry{
			{PartitionKey: "a", Data: []byte("12345")}, // shard 0
			{PartitionKey: "b", Data: []byte("1")},     // shard 1
			{PartitionKey: "ä", Data: nil},             // two bytes of key
			{PartitionKey: "a", Data: []byte("123")},
		})
		require.NoError(t, err)
		d = stream.Describe()
		require.EqualValues(t, 4, d.Records)
		require.EqualValues(t, 6+2+2+4, d.Bytes)
		first := d.Shards[0]
		require.Equal(t, results[0].SequenceNumber, first.First)
		require.Equal(t, results[3].SequenceNumber, first.Last)
		require.Negative(t, first.StartingSequenceNumber.Compare(first.First))

		require.NoError(t, stream.Trim(t.Context(), braid.AfterSequence(results[0].SequenceNumber)))
		d = stream.Describe()
		require.EqualValues(t, 3, d.Records)
		require.EqualValues(t, 2+2+4, d.Bytes)
		require.Equal(t, results[3].SequenceNumber, d.Shards[0].First)
		require.NoError(t, stream.Trim(t.Context(), braid.Latest()))
		d = stream.Describe()
		require.Zero(t, d.Records)
		require.Zero(t, d.Bytes)
		require.True(t, d.Shards[0].First.IsZero())
		require.True(t, d.Shards[0].Last.IsZero())

		require.EqualValues(t, 2, d.Shards[0].RecordsPut, "trimmed or not")
		require.EqualValues(t, 6+4, d.Shards[0].BytesPut)
	})
}

func TestShardIsFoundByAnySpellingOfItsID(t *testing.T) {
	_, stream := boxStream(t, 3)
	for _, id := range []braid.ShardID{"shardId-000000000002", "shardId-2", "x-2", "2", "-2", "0000000000000000000002"} {
		sh, err := stream.Shard(id)
		require.NoError(t, err, id)
		require.EqualValues(t, "shardId-000000000002", sh.ID())
		require.Same(t, stream.Shards()[2], sh)
		require.Equal(t, "shardId-000000000002 of s", sh.String())
	}
	for _, id := range []braid.ShardID{"", "shardId-", "shardId-3", "3", "two", "2.0", "-1-2", "shardId-2147483648", " 2"} {
		_, err := stream.Shard(id)
		require.ErrorIs(t, err, braid.ErrShardNotFound, id)
	}
}

func TestMethodsOfAClosedDatabaseSayThatItIsClosed(t *testing.T) {
	db, stream := boxStream(t, 2)
	boxPut(t, stream, "one")
	shard := stream.Shards()[0]
	require.NoError(t, db.Close())
	for name, call := range map[string]func() error{
		"close":  db.Close,
		"create": func() error { _, err := db.CreateStream(t.Context(), "t", nil); return err },
		"open":   func() error { _, err := db.OpenStream(t.Context(), "t", nil); return err },
		"reopen": func() error { _, err := db.OpenStream(t.Context(), "s", nil); return err },
		"stream": func() error { _, err := db.Stream("s"); return err },
		"delete": func() error { return db.DeleteStream(t.Context(), "s") },
		"view":   func() error { return db.View(t.Context(), func(*braid.Tx) error { return nil }) },
		"update": func() error { return db.Update(t.Context(), func(*braid.Tx) error { return nil }) },
		"backup": func() error { return db.Backup(t.Context(), t.TempDir()+"/copy", nil) },
		"put":    func() error { _, err := stream.PutRecord(t.Context(), "key", nil); return err },
		"puts":   func() error { _, err := stream.PutRecords(t.Context(), make1("key")); return err },
		"read":   func() error { _, err := boxRead(stream.Records(t.Context(), braid.TrimHorizon())); return err },
		"follow": func() error { _, err := boxRead(stream.Follow(t.Context(), braid.Latest())); return err },
		"shard":  func() error { _, err := boxRead(shard.Follow(t.Context(), braid.Latest())); return err },
		"page":   func() error { _, err := shard.GetRecords(t.Context(), braid.Latest(), nil); return err },
		"trim":   func() error { return stream.Trim(t.Context(), braid.Latest()) },
		"split":  func() error { _, _, err := stream.SplitShard(t.Context(), "0", nil); return err },
	} {
		err := call()
		require.ErrorIs(t, err, braid.ErrClosed, name)
		require.True(t, strings.HasPrefix(err.Error(), "braid: "), err.Error())
	}
	require.NotPanics(t, func() {
		_ = db.Metrics()
		_ = db.Streams()
		_ = stream.Describe()
		_ = shard.Describe()
	})
}

func TestACallWhoseContextEndedReturnsTheCause(t *testing.T) {
	db, stream := boxStream(t, 1)
	boxPut(t, stream, "one")
	shard := stream.Shards()[0]
	ctx, cause := boxCause(t)
	for name, call := range map[string]func() error{
		"create": func() error { _, err := db.CreateStream(ctx, "t", nil); return err },
		"delete": func() error { return db.DeleteStream(ctx, "s") },
		"view":   func() error { return db.View(ctx, func(*braid.Tx) error { return nil }) },
		"update": func() error { return db.Update(ctx, func(*braid.Tx) error { return nil }) },
		"backup": func() error { return db.Backup(ctx, t.TempDir()+"/copy", nil) },
		"put":    func() error { _, err := stream.PutRecord(ctx, "key", nil); return err },
		"puts":   func() error { _, err := stream.PutRecords(ctx, make1("key")); return err },
		"read":   func() error { _, err := boxRead(stream.Records(ctx, braid.TrimHorizon())); return err },
		"follow": func() error { _, err := boxRead(stream.Follow(ctx, braid.Latest())); return err },
		"shard":  func() error { _, err := boxRead(shard.Follow(ctx, braid.Latest())); return err },
		"tip":    func() error { _, err := boxRead(shard.Records(ctx, braid.Latest())); return err },
		"page":   func() error { _, err := shard.GetRecords(ctx, braid.TrimHorizon(), nil); return err },
		"trim":   func() error { return stream.Trim(ctx, braid.Latest()) },
		"split":  func() error { _, _, err := stream.SplitShard(ctx, "0", nil); return err },
	} {
		err := call()
		require.ErrorIs(t, err, cause, name)
		require.False(t, errors.Is(err, braid.ErrOutcomeUnknown), name)
	}
	require.EqualValues(t, 1, stream.Describe().Records, "nothing happened")
	require.Len(t, stream.Shards(), 1)
}

// An existing stream keeps its settings. A caller that opens it with other settings can ask
// for an error; otherwise the log has a message.
func TestOpenStreamTellsOfOtherSettings(t *testing.T) {
	var log bytes.Buffer
	db := boxOpen(t, &braid.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	provisioned := braid.Capacity{Mode: braid.Provisioned, ReadsPerSecond: 7}
	stream, err := db.OpenStream(t.Context(), "s", &braid.StreamOptions{
		Shards: 2, MaxRecordBytes: 500, Retention: 48 * time.Hour, RetentionBytes: 1 << 20, Capacity: provisioned,
		Tags: map[string]string{"a": "1", "b": "2"}, MustMatch: true, // there is none yet
	})
	require.NoError(t, err)
	for _, same := range []*braid.StreamOptions{
		nil,
		{},
		{Shards: 2},
		{MaxRecordBytes: 500, Retention: 48 * time.Hour, RetentionBytes: 1 << 20},
		{Capacity: braid.Capacity{Mode: braid.Provisioned, ReadsPerSecond: 7, WriteRecordsPerSecond: 1000}}, // the default
		{Tags: map[string]string{"b": "2"}},
	} {
		if same != nil {
			same.MustMatch = true
		}
		opened, err := db.OpenStream(t.Context(), "s", same)
		require.NoError(t, err)
		require.Same(t, stream, opened)
	}
	require.Empty(t, log.String())
	for _, other := range []struct {
		options braid.StreamOptions
		want    string
	}{
		{braid.StreamOptions{Shards: 8}, "Shards is 2, not 8"},
		{braid.StreamOptions{MaxRecordBytes: 501}, "MaxRecordBytes is 500, not 501"},
		{braid.StreamOptions{Retention: 24 * time.Hour}, "Retention is 48 hours, not 24 hours"},
		{braid.StreamOptions{Retention: -1}, "Retention is 48 hours, not forever"},
		{braid.StreamOptions{RetentionBytes: 1}, "RetentionBytes is 1048576, not 1"},
		{braid.StreamOptions{Tags: map[string]string{"b": "3", "a": "1"}}, `Tags["b"] is "2", not "3"`},
		{braid.StreamOptions{Tags: map[string]string{"c": ""}}, `Tags["c"] is missing, not ""`},
		{braid.StreamOptions{Capacity: braid.Capacity{Mode: braid.OnDemand}}, "Capacity is {Mode:Provisioned"},
	} {
		log.Reset()
		opened, err := db.OpenStream(t.Context(), "s", &other.options)
		require.NoError(t, err)
		require.Same(t, stream, opened)
		require.Contains(t, log.String(), "level=INFO")
		require.Contains(t, log.String(), "stream=s")
		other.options.MustMatch = true
		opened, err = db.OpenStream(t.Context(), "s", &other.options)
		require.Nil(t, opened)
		require.ErrorIs(t, err, braid.ErrStreamExists)
		var mismatch *braid.StreamMismatchError
		require.ErrorAs(t, err, &mismatch)
		require.Equal(t, "s", mismatch.Stream)
		require.Len(t, mismatch.Differences, 1)
		require.True(t, strings.HasPrefix(mismatch.Differences[0], other.want), mismatch.Differences[0])
		require.Contains(t, err.Error(), mismatch.Differences[0])
	}
	// Shards is compared with the number of open shards.
	require.NoError(t, stream.UpdateShardCount(t.Context(), 8))
	_, err = db.OpenStream(t.Context(), "s", &braid.StreamOptions{Shards: 8, MustMatch: true})
	require.NoError(t, err)
	_, err = db.OpenStream(t.Context(), "s", &braid.StreamOptions{Shards: 2, MustMatch: true})
	require.ErrorIs(t, err, braid.ErrStreamExists)
	// With OnDemand, the number of shards is not compared.
	require.NoError(t, stream.UpdateCapacity(t.Context(), braid.Capacity{Mode: braid.OnDemand}))
	_, err = db.OpenStream(t.Context(), "s", &braid.StreamOptions{Shards: 2, MustMatch: true})
	require.NoError(t, err)
}

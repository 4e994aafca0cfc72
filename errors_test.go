package braid_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/errorkind"
)

// An error names the package, the call and its subject, belongs to one class, and follows
// Go's style.
func TestErrorsSayWhatFailedAndAreOfOneClass(t *testing.T) {
	db, stream := boxStream(t, 2)
	numbers := boxPut(t, stream, "one", "two")
	require.NoError(t, stream.Trim(t.Context(), braid.Latest()))
	shard, err := stream.Shard(numbers[0].ShardID())
	require.NoError(t, err)
	update := func(fn func(tx *braid.Tx) error) error { return db.Update(t.Context(), fn) }
	view := func(fn func(tx *braid.Tx) error) error { return db.View(t.Context(), fn) }
	for _, test := range []struct {
		text  string
		class error
		call  func() error
	}{
		{`braid: create stream "s": `, braid.ErrStreamExists, func() error { _, err := db.CreateStream(t.Context(), "s", nil); return err }},
		{`braid: create stream "a b": `, braid.ErrInvalidArgument, func() error { _, err := db.CreateStream(t.Context(), "a b", nil); return err }},
		{`braid: open stream "t": `, braid.ErrInvalidArgument, func() error {
			_, err := db.OpenStream(t.Context(), "t", &braid.StreamOptions{Shards: -1})
			return err
		}},
		{`braid: get stream "t": `, braid.ErrStreamNotFound, func() error { _, err := db.Stream("t"); return err }},
		{`braid: delete stream "t": `, braid.ErrStreamNotFound, func() error { return db.DeleteStream(t.Context(), "t") }},
		{`braid: get shard "7" of "s": `, braid.ErrShardNotFound, func() error { _, err := stream.Shard("7"); return err }},
		{`braid: split shard "7" of "s": `, braid.ErrShardNotFound, func() error { _, _, err := stream.SplitShard(t.Context(), "7", nil); return err }},
		{`braid: merge shards "0" and "7" of "s": `, braid.ErrShardNotFound, func() error { _, err := stream.MergeShards(t.Context(), "0", "7"); return err }},
		{`braid: put record "s": `, braid.ErrInvalidArgument, func() error { _, err := stream.PutRecord(t.Context(), "", nil); return err }},
		{`braid: put records "s": `, braid.ErrInvalidArgument, func() error { _, err := stream.PutRecords(t.Context(), make1("")); return err }},
		{"braid: get records " + string(shard.ID()) + ` of "s": `, braid.ErrTrimmed, func() error {
			_, err := shard.GetRecords(t.Context(), braid.AtSequence(numbers[0]), nil)
			return err
		}},
		{`braid: read "s": `, braid.ErrTrimmed, func() error { _, err := boxRead(stream.Records(t.Context(), braid.AtSequence(numbers[0]))); return err }},
		{`braid: follow "s": `, braid.ErrTrimmed, func() error { _, err := boxRead(stream.Follow(t.Context(), braid.AtSequence(numbers[0]))); return err }},
		{"braid: get: ", braid.ErrKeyNotFound, func() error {
			return view(func(tx *braid.Tx) error { _, err := tx.Get([]byte("none")); return err })
		}},
		{"braid: set: ", braid.ErrInvalidArgument, func() error { return update(func(tx *braid.Tx) error { return tx.Set(nil, nil) }) }},
		{"braid: set: ", braid.ErrTxTooLarge, func() error {
			return update(func(tx *braid.Tx) error { return tx.Set([]byte("a"), make([]byte, 8<<20)) })
		}},
		{"", braid.ErrStreamNotFound, func() error { return update(func(tx *braid.Tx) error { return tx.PutRecord("t", "key", nil) }) }},
	} {
		err := test.call()
		require.True(t, strings.HasPrefix(err.Error(), test.text), "%q should begin with %q", err.Error(), test.text)
		require.Equal(t, 1, strings.Count(err.Error(), "braid: "), err.Error())
		require.False(t, strings.HasSuffix(err.Error(), "."), err.Error())
		for _, kind := range errorkind.All {
			require.Equal(t, kind.Err == test.class, errors.Is(err, kind.Err), "%s: %s", err, kind.Name)
		}
	}
}

func TestSentinelsAreApart(t *testing.T) {
	for i, a := range errorkind.All {
		for j, b := range errorkind.All {
			require.Equal(t, i == j, errors.Is(a.Err, b.Err), "%s, %s", a.Name, b.Name)
		}
	}
	invalid := &braid.InvalidArgumentError{Field: "Shards", Value: -1, Rule: "must be 1 to 10,000"}
	require.Equal(t, "invalid argument: Shards must be 1 to 10,000; it is -1", invalid.Error())
	missing := &braid.InvalidArgumentError{Field: "db", Rule: "must not be nil"}
	require.Equal(t, "invalid argument: db must not be nil", missing.Error(), "no value says more than the rule")
	text, err := json.Marshal(missing)
	require.NoError(t, err)
	require.Equal(t, `{"Field":"db","Rule":"must not be nil"}`, string(text))
	require.ErrorIs(t, invalid, braid.ErrInvalidArgument)
	require.NotErrorIs(t, invalid, braid.ErrTrimmed)
	require.ErrorIs(t, &braid.TrimmedError{}, braid.ErrTrimmed)
	require.NotErrorIs(t, &braid.TrimmedError{}, braid.ErrInvalidArgument)
}

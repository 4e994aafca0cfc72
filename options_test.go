package braid_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

func TestOptionsHaveLimits(t *testing.T) {
	for _, test := range []struct {
		field   string
		options braid.Options
	}{
		{"Durability", braid.Options{Durability: -1}},
		{"Durability", braid.Options{Durability: braid.NoSync + 1}},
		{"SyncInterval", braid.Options{Durability: braid.Interval, SyncInterval: -1}},
		{"SyncInterval", braid.Options{Durability: braid.Interval, SyncInterval: time.Millisecond - 1}},
		{"SyncInterval", braid.Options{SyncInterval: time.Second}},
		{"SyncInterval", braid.Options{Durability: braid.NoSync, SyncInterval: time.Second}},
		{"MemtableBytes", braid.Options{MemtableBytes: -1}},
		{"MemtableBytes", braid.Options{MemtableBytes: 1<<20 - 1}},
		{"MemtableBytes", braid.Options{MemtableBytes: 1<<30 + 1}},
		{"MaxTxBytes", braid.Options{MaxTxBytes: -1}},
		{"MaxTxBytes", braid.Options{MaxTxBytes: 16<<20 + 1}},
	} {
		dir := filepath.Join(t.TempDir(), "db")
		_, err := braid.Open(dir, &test.options)
		boxInvalid(t, err, test.field)
		require.NoDirExists(t, dir, "nothing happened")
	}
	for _, options := range []*braid.Options{
		nil,
		{},
		{Durability: braid.Interval, SyncInterval: time.Millisecond, MemtableBytes: 1 << 20, MaxTxBytes: 1},
		{Durability: braid.Interval, SyncInterval: 365 * 24 * time.Hour, MaxTxBytes: 16 << 20},
		{CacheBytes: -1, TailBytes: -1, ReserveBytes: -1},
		{CacheBytes: 1, TailBytes: 1, ReserveBytes: 1},
	} {
		db := boxOpen(t, options)
		stream := boxOpenStream(t, db, "s", 2)
		boxPut(t, stream, "one", "two")
		require.Len(t, boxAll(t, stream.Records(t.Context(), braid.TrimHorizon())), 2)
		require.NoError(t, db.Close())
	}
}

func TestDurabilityHasANameInEachMode(t *testing.T) {
	require.Equal(t, "Sync Interval NoSync Durability(3)", fmt.Sprint(braid.Sync, braid.Interval, braid.NoSync, braid.Durability(3)))
}

// In every mode, a database that is closed keeps everything.
func TestADatabaseKeepsEverythingWhenItIsOpenedAgain(t *testing.T) {
	for _, mode := range []braid.Durability{braid.Sync, braid.Interval, braid.NoSync} {
		t.Run(mode.String(), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "not", "there", "yet")
			options := &braid.Options{Durability: mode, MemtableBytes: 1 << 20}
			if mode == braid.Interval {
				options.SyncInterval = time.Hour
			}
			var before braid.StreamDescription
			var state []string
			var records []braid.Record
			last := braid.SequenceNumber{}
			for round := range 3 {
				db, err := braid.Open(dir, options)
				require.NoError(t, err)
				stream, err := db.OpenStream(t.Context(), "s", &braid.StreamOptions{Shards: 3, MaxRecordBytes: 5000})
				require.NoError(t, err)
				if round > 0 {
					require.Equal(t, before, stream.Describe())
					require.Equal(t, state, boxState(t, db))
					i := 0
					for rec, err := range stream.Records(t.Context(), braid.TrimHorizon()) {
						require.NoError(t, err)
						require.Equal(t, records[i], rec)
						i++
					}
					require.Equal(t, len(records), i)
				}
				results := boxFill(t, stream, 300, 5000)
				require.Positive(t, results[0].SequenceNumber.Compare(braid.SequenceNumber{}))
				boxFill(t, stream, 10, 0)
				require.NoError(t, stream.Trim(t.Context(), braid.AtSequence(results[7].SequenceNumber)))
				if round == 1 {
					_, _, err := stream.SplitShard(t.Context(), "1", nil)
					require.NoError(t, err)
					boxFill(t, stream, 30, 100)
				}
				boxSet(t, db, fmt.Sprint("round=", round), fmt.Sprint(round, "="))
				records = records[:0]
				for rec, err := range stream.Records(t.Context(), braid.TrimHorizon()) {
					require.NoError(t, err)
					records = append(records, rec)
				}
				require.True(t, records[len(records)-1].ArrivalTime.After(last.Time()))
				last = records[len(records)-1].SequenceNumber
				before, state = stream.Describe(), boxState(t, db)
				require.NoError(t, db.Close())
			}
		})
	}
}

func TestADatabaseInMemoryIsGoneWhenItIsClosed(t *testing.T) {
	t.Chdir(t.TempDir())
	for range 2 {
		db := boxOpen(t, nil)
		other := boxOpen(t, nil) // two databases in memory share nothing
		require.Empty(t, db.Streams())
		boxPut(t, boxOpenStream(t, db, "s", 1), "one")
		boxSet(t, db, "a=1")
		require.Empty(t, other.Streams())
		require.Empty(t, boxState(t, other))
		require.NoError(t, db.Close())
	}
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	require.Empty(t, files)
}

func TestADirectoryIsOpenedOnce(t *testing.T) {
	dir := t.TempDir()
	db := boxOpenDir(t, dir, nil)
	_, err := braid.Open(dir, nil)
	require.ErrorIs(t, err, braid.ErrLocked)
	require.Contains(t, err.Error(), fmt.Sprintf("braid: open %q: ", dir))
	boxPut(t, boxOpenStream(t, db, "s", 1), "it is as well as before")
	require.NoError(t, db.Close())
	boxOpenDir(t, dir, nil)
}

func TestADirectoryOfSomethingElseIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "letter.txt")
	require.NoError(t, os.WriteFile(name, []byte("dear Ann"), 0o600))
	_, err := braid.Open(dir, nil)
	require.ErrorIs(t, err, braid.ErrInvalidArgument)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1)
	_, err = braid.Open(name, nil)
	require.Error(t, err)
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, "dear Ann", string(content))
}

func TestTheTailIsBounded(t *testing.T) {
	for _, test := range []struct{ option, most int64 }{{-1, 0}, {1 << 20, 1 << 20}, {0, 16 << 20}} {
		db := boxOpen(t, &braid.Options{TailBytes: test.option})
		stream := boxOpenStream(t, db, "s", 5)
		for range 20 {
			boxFill(t, stream, 100, 1000) // 2 MB in all
		}
		m := db.Metrics()
		require.LessOrEqual(t, m.TailBytes, test.most)
		require.Len(t, boxAll(t, stream.Records(t.Context(), braid.TrimHorizon())), 2000)
		after := db.Metrics()
		require.Equal(t, test.option == 0, after.StoreReads == m.StoreReads, "who is not in the tail reads the store")
		require.NoError(t, db.Close())
	}
}

// The timer of Interval runs only while there is something to sync, so an idle year costs
// nothing.
func TestIntervalSyncsInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := boxOpen(t, &braid.Options{Durability: braid.Interval})
		stream, err := db.OpenStream(t.Context(), "s", &braid.StreamOptions{Retention: -1})
		require.NoError(t, err)
		for range 10 {
			boxPut(t, stream, "one")
			<-time.After(365 * 24 * time.Hour)
		}
		require.Len(t, boxAll(t, stream.Records(t.Context(), braid.TrimHorizon())), 10)
	})
}

func TestTheLoggerHearsNothingWhenAllIsWell(t *testing.T) {
	var log bytes.Buffer
	dir := t.TempDir()
	for range 2 {
		db, err := braid.Open(dir, &braid.Options{
			MemtableBytes: 1 << 20,
			Logger:        slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		})
		require.NoError(t, err)
		stream := boxOpenStream(t, db, "s", 2)
		boxFill(t, stream, 3000, 1000)
		require.NoError(t, stream.Trim(t.Context(), braid.Latest()))
		require.NoError(t, db.DeleteStream(t.Context(), "s"))
		require.NoError(t, db.Close())
	}
	require.Empty(t, log.String())
}

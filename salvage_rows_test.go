package braid

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

// These tests check unfinished salvages, and salvages after the loss of rows about streams.

// TestASalvageThatDoesNotEndLeavesNoDatabase: a crash or a cancelled context leaves no
// directory that can be opened. After a cancelled context, Salvage can be called again.
func TestASalvageThatDoesNotEndLeavesNoDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := buildSalvage(t, reshardsAndTrims, false)
		files := filesOf(t, src.mem, salvageFrom)
		var images []*vfs.MemFS
		_, err := salvageDir(t.Context(), salvageFrom, salvageTo, &SalvageOptions{Progress: func(int64, int64) {
			images = append(images, src.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))}))
		}}, environment{fs: src.mem})
		require.NoError(t, err)
		require.Greater(t, len(images), 5)
		for _, image := range images {
			if _, err := image.Stat(salvageTo); err != nil {
				continue // nothing of it was durable
			}
			_, err := open(salvageTo, nil, environment{fs: image})
			require.ErrorIs(t, err, ErrInvalidArgument)
			_, err = salvageDir(t.Context(), salvageFrom, salvageTo, nil, environment{fs: image})
			require.ErrorIs(t, err, ErrInvalidArgument, "it is not empty")
			require.NoError(t, image.RemoveAll(salvageTo))
			_, err = salvageDir(t.Context(), salvageFrom, salvageTo, nil, environment{fs: image})
			require.NoError(t, err)
		}
		require.NoError(t, src.mem.RemoveAll(salvageTo))
		for stop := range 4 {
			ctx, cancel := context.WithCancelCause(t.Context())
			calls := 0
			_, err := salvageDir(ctx, salvageFrom, salvageTo, &SalvageOptions{Progress: func(int64, int64) {
				if calls++; calls == 1+3*stop {
					cancel(errors.New("that is enough"))
				}
			}}, environment{fs: src.mem})
			require.ErrorContains(t, err, "that is enough")
			names, err := src.mem.List(salvageTo)
			require.NoError(t, err)
			require.Empty(t, names)
			cancel(nil)
		}
		require.Equal(t, files, filesOf(t, src.mem, salvageFrom))
		report, err := salvageDir(t.Context(), salvageFrom, salvageTo, nil, environment{fs: src.mem})
		require.NoError(t, err)
		require.True(t, report.Whole())
	})
}

// TestSalvageAfterTheRowsOfAStreamAreLost: the other rows show the shards that the stream was
// created with, and their records keep their numbers.
func TestSalvageAfterTheRowsOfAStreamAreLost(t *testing.T) {
	for _, lost := range []struct {
		name string
		key  []byte
	}{
		{"stream", layout.StreamKey(1)},
		{"shard", layout.ShardKey(1, 1)},
		{"clock", layout.ClockKey()},
		{"epoch", layout.EpochKey(1)},
		{"extent", layout.ExtentKey(1, 0, 1)},
	} {
		t.Run(lost.name, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			db := manyTables(t, mem, rand.New(rand.NewPCG(7, 9)))
			truth := contentsOf(t, db)
			require.NoError(t, db.Close())
			changeRows(t, mem, true, func(batch *kv.Batch) { batch.Set(lost.key, []byte("this is not a row")) })

			_, err := open(salvageFrom, nil, environment{fs: mem})
			require.ErrorIs(t, err, ErrCorrupt)
			report, err := salvageDir(t.Context(), salvageFrom, salvageTo, nil, environment{fs: mem})
			require.NoError(t, err)
			require.NotEmpty(t, report.Notes)
			require.Empty(t, report.Lost)
			saved := openSalvage(t, mem, salvageTo)
			require.NoError(t, saved.checkBooks(t.Context()))
			requireWhole(t, saved)
			got := contentsOf(t, saved)
			require.Len(t, got.by, len(truth.by))
			for number, record := range truth.by {
				require.Equal(t, record.data, got.by[number].data)
			}
			for _, s := range saved.Streams() {
				require.Equal(t, len(s.Shards()), 3)
				res, err := s.PutRecord(t.Context(), "key", nil)
				require.NoError(t, err)
				for number := range truth.by {
					require.Less(t, number.counter(), res.SequenceNumber.counter())
				}
			}
			require.NoError(t, saved.Close())
		})
	}
}

// changeRows changes rows of the source in a way that damage could.
func changeRows(t *testing.T, mem *vfs.MemFS, merge bool, change func(batch *kv.Batch)) {
	t.Helper()
	store, err := kv.Open(kv.Config{Dir: salvageFrom, FS: mem, Logger: slog.Default(), MemTableBytes: minMemtableBytes, TableBoundary: layout.TableBoundary})
	require.NoError(t, err)
	batch := store.NewBatch()
	change(batch)
	require.NoError(t, batch.Commit(true))
	batch.Close()
	if merge { // otherwise older values are found
		require.NoError(t, store.Compact(t.Context(), []byte{0}, []byte{0xff}))
	}
	require.NoError(t, store.Close())
}

// TestSalvageBringsNoDeletedStreamBack, even if only the deletion of its own row is left, and
// that of its shards' rows is lost.
func TestSalvageBringsNoDeletedStreamBack(t *testing.T) {
	src := buildSalvage(t, manyTables, false)
	changeRows(t, src.mem, false, func(batch *kv.Batch) { batch.Delete(layout.StreamKey(1)) })
	_, got := salvageOn(t, src.mem)
	require.Len(t, got.streams, 1)
	require.Contains(t, got.streams, "b")
}

// TestSalvageGivesNoNameTwice: a stream whose name is lost gets a name that no other has.
func TestSalvageGivesNoNameTwice(t *testing.T) {
	mem := vfs.NewCrashableMem()
	db := openSalvage(t, mem, salvageFrom)
	for _, name := range []string{"salvaged-2", "a"} {
		_, err := db.CreateStream(t.Context(), name, nil)
		require.NoError(t, err)
	}
	require.NoError(t, db.Close())
	changeRows(t, mem, true, func(batch *kv.Batch) { batch.Set(layout.StreamKey(2), []byte("no row")) })
	_, got := salvageOn(t, mem)
	require.Len(t, got.streams, 2)
}

// TestSalvageOfANewerFormatIsRefused, even if the first file with the format is lost.
func TestSalvageOfANewerFormatIsRefused(t *testing.T) {
	src := buildSalvage(t, salvageStates[0].build, false)
	changeRows(t, src.mem, false, func(batch *kv.Batch) {
		batch.Set(layout.FormatKey(), layout.FormatRow{Version: layout.FormatVersion + 1, OldestReader: layout.FormatVersion + 1}.Encode())
	})
	require.NoError(t, src.mem.Remove(salvageFrom+"/BRAID"))
	_, err := salvageDir(t.Context(), salvageFrom, salvageTo, nil, environment{fs: src.mem})
	require.ErrorIs(t, err, ErrFormatTooNew)
	require.Equal(t, "", strings.Join(namesBelow(t, src.mem, salvageTo), " "))
}

func namesBelow(t *testing.T, mem *vfs.MemFS, dir string) []string {
	t.Helper()
	names, err := mem.List(dir)
	require.NoError(t, err)
	return names
}

// BenchmarkSalvage salvages a database with records of a kilobyte, on disk.
func BenchmarkSalvage(b *testing.B) {
	from := filepath.Join(b.TempDir(), "from")
	db, err := Open(from, &Options{Durability: NoSync})
	require.NoError(b, err)
	s, err := db.CreateStream(b.Context(), "s", &StreamOptions{Shards: 16})
	require.NoError(b, err)
	random := rand.New(rand.NewPCG(1, 1))
	entries := make([]Entry, 500)
	for range 512 {
		for i := range entries {
			entries[i] = Entry{PartitionKey: fmt.Sprint(random.Uint32()), Data: randomBytes(random, 1<<10)}
		}
		_, err := s.PutRecords(b.Context(), entries)
		require.NoError(b, err)
	}
	require.NoError(b, db.Close())
	for i := range b.N {
		report, err := Salvage(b.Context(), from, filepath.Join(b.TempDir(), fmt.Sprint(i)), nil)
		require.NoError(b, err)
		require.True(b, report.Whole())
		b.SetBytes(report.Bytes)
	}
}

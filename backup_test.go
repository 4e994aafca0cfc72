package braid_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/childtest"
)

// boxBackupSource fills a database with something of everything.
func boxBackupSource(t *testing.T, db *braid.DB) {
	t.Helper()
	stream := boxOpenStream(t, db, "s", 3)
	for range 8 {
		boxFill(t, stream, 100, 5000)
	}
	numbers := boxPut(t, stream, "trimmed", "kept")
	require.NoError(t, stream.Trim(t.Context(), braid.AtSequence(numbers[1])))
	boxPut(t, stream, "last")
	boxSet(t, db, "a=1", "b=2")
}

func requireBackup(t *testing.T, db *braid.DB) {
	t.Helper()
	stream, err := db.Stream("s")
	require.NoError(t, err)
	require.Equal(t, []string{"kept", "last"}, boxAll(t, stream.Records(t.Context(), braid.TrimHorizon())))
	require.Len(t, stream.Shards(), 3)
	require.Equal(t, []string{"a=1", "b=2"}, boxState(t, db))
}

// The copy is complete although the original is in use, and later changes of one do not show
// in the other.
func TestABackupIsADatabaseOfItsOwn(t *testing.T) {
	for name, dir := range map[string]string{"of a directory": t.TempDir(), "of memory": braid.InMemory} {
		t.Run(name, func(t *testing.T) {
			db := boxOpenDir(t, dir, &braid.Options{MemtableBytes: 1 << 20})
			boxBackupSource(t, db)
			stream, err := db.Stream("s")
			require.NoError(t, err)
			target := filepath.Join(t.TempDir(), "new", "copy")
			var last, total int64
			calls := 0
			require.NoError(t, db.Backup(t.Context(), target, &braid.BackupOptions{Verify: true, Progress: func(done, of int64) {
				if done < of { // the last call is made while the copy gets its name
					require.NoFileExists(t, filepath.Join(target, "BRAID"), "it has no name before it was verified")
				}
				require.GreaterOrEqual(t, done, last)
				require.LessOrEqual(t, done, of)
				require.True(t, calls == 0 || of == total, "the total does not change")
				last, total = done, of
				calls++
			}}))
			require.Positive(t, total)
			require.Equal(t, total, last)
			require.Greater(t, calls, 1)
			boxPut(t, stream, "of the original")
			boxSet(t, db, "c=3")

			twin := boxOpenDir(t, target, nil) // while the original is open
			requireBackup(t, twin)
			copied, err := twin.Stream("s")
			require.NoError(t, err)
			boxPut(t, stream, "x")
			boxPut(t, copied, "of the copy")
			require.Equal(t, []string{"kept", "last", "of the copy"}, boxAll(t, copied.Records(t.Context(), braid.TrimHorizon())))
			require.Equal(t, []string{"kept", "last", "of the original", "x"}, boxAll(t, stream.Records(t.Context(), braid.TrimHorizon())))
			require.NoError(t, twin.Close())
			require.NoError(t, db.Close())
		})
	}
}

func TestABackupOpensInAnotherProcess(t *testing.T) {
	target := ""
	if !childtest.InChild(t) { // this is the parent, whose database stays open
		target = filepath.Join(t.TempDir(), "copy")
		db := boxOpenDir(t, t.TempDir(), nil)
		boxBackupSource(t, db)
		require.NoError(t, db.Backup(t.Context(), target, nil))
	}
	childtest.RunWith(t, target, func(t *testing.T, target string) {
		db, err := braid.Open(target, nil)
		require.NoError(t, err)
		requireBackup(t, db)
		require.NoError(t, db.Close())
	})
}

func TestABackupTakesAnEmptyDirectoryOnly(t *testing.T) {
	db := boxOpenDir(t, t.TempDir(), nil)
	boxBackupSource(t, db)
	empty := t.TempDir()
	require.NoError(t, db.Backup(t.Context(), empty, nil))
	require.ErrorIs(t, db.Backup(t.Context(), empty, nil), braid.ErrInvalidArgument, "it holds a backup")

	used := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(used, "letter.txt"), nil, 0o600))
	err := db.Backup(t.Context(), used, nil)
	require.ErrorIs(t, err, braid.ErrInvalidArgument)
	require.Contains(t, err.Error(), used)
	files, err := os.ReadDir(used)
	require.NoError(t, err)
	require.Len(t, files, 1)
	requireBackup(t, boxOpenDir(t, empty, nil))
}

func TestABackupThatIsCancelledLeavesNoDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := t.TempDir()
		db := boxOpenDir(t, source, nil)
		boxBackupSource(t, db)
		for cancelAt := range 4 {
			target := filepath.Join(t.TempDir(), "copy")
			cause := errors.New("no time")
			ctx, cancel := context.WithCancelCause(t.Context())
			calls := 0
			err := db.Backup(ctx, target, &braid.BackupOptions{Progress: func(int64, int64) {
				if calls == cancelAt {
					cancel(cause)
				}
				calls++
			}})
			require.ErrorIs(t, err, cause)
			if _, err := os.Stat(target); err == nil {
				files, err := os.ReadDir(target)
				require.NoError(t, err)
				require.Empty(t, files, "nothing is left")
			}
			cancel(nil)
			require.NoError(t, db.Backup(t.Context(), target, nil), "the same place can be used again")
			twin, err := braid.Open(target, nil)
			require.NoError(t, err)
			requireBackup(t, twin)
			require.NoError(t, twin.Close())
		}
		require.NoError(t, db.Close())
		requireBackup(t, boxOpenDir(t, source, nil))
	})
}

// A copy has the state of one instant, even while many write.
func TestABackupWhileManyWriteIsOfOneInstant(t *testing.T) {
	db := boxOpenDir(t, t.TempDir(), &braid.Options{Durability: braid.NoSync, MemtableBytes: 1 << 20})
	stream := boxOpenStream(t, db, "s", 2)
	boxPut(t, stream, "before")
	stop := make(chan struct{})
	var writers sync.WaitGroup
	failed := make(chan error, 2)
	for range 2 {
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				err := db.Update(t.Context(), func(tx *braid.Tx) error {
					count, err := tx.Get([]byte("count"))
					if err != nil && !errors.Is(err, braid.ErrKeyNotFound) {
						return err
					}
					count = append(count, '+')
					if len(count) > 1000 {
						return nil
					}
					return errors.Join(tx.Set([]byte("count"), count), tx.PutRecord("s", "key", count))
				})
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	for range 3 {
		target := filepath.Join(t.TempDir(), "copy")
		require.NoError(t, db.Backup(t.Context(), target, nil))
		twin := boxOpenDir(t, target, nil)
		copied, err := twin.Stream("s")
		require.NoError(t, err)
		records := boxAll(t, copied.Records(t.Context(), braid.TrimHorizon()))
		if state := boxState(t, twin); len(state) > 0 {
			require.Equal(t, "count="+records[len(records)-1], state[0], "the key and the record are of one transaction")
		} else {
			require.Equal(t, []string{"before"}, records)
		}
	}
	close(stop)
	writers.Wait()
	close(failed)
	for err := range failed {
		require.NoError(t, err)
	}
}

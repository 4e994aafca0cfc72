package braid

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/kv"
)

// repetition returns a part of an error's text that stands in it twice: a
// sentinel's text, or whatever stands between two colons or line ends.
func repetition(text string) string {
	for _, sentinel := range allSentinels() {
		if strings.Count(text, sentinel.Error()) > 1 {
			return sentinel.Error()
		}
	}
	seen := make(map[string]bool)
	for _, line := range strings.Split(text, "\n") {
		for _, part := range strings.Split(strings.ReplaceAll(line, "; also: ", ": "), ": ") {
			if seen[part] {
				return part
			}
			seen[part] = true
		}
	}
	return ""
}

// allSentinels are the sentinels that a text may contain, of this package and of
// those below.
func allSentinels() []error {
	return []error{
		ErrLocked, ErrFormatTooNew, ErrFormatTooOld, ErrClosed, ErrInvalidArgument, ErrStreamNotFound, ErrShardNotFound,
		ErrStreamExists, ErrLimitExceeded, ErrThroughputExceeded, ErrKeyUnavailable, ErrKeyNotFound, ErrTxTooLarge,
		ErrTxConflict, ErrTrimmed, ErrCorrupt, ErrDataLoss, ErrOutcomeUnknown, ErrDiskFull, ErrFailed,
		kv.ErrLocked, kv.ErrFormatTooNew, kv.ErrFormatTooOld, kv.ErrNotDatabase, kv.ErrNotEmpty, kv.ErrClosed, kv.ErrFailed,
		kv.ErrDiskFull, kv.ErrCorrupt, kv.ErrDataLoss, kv.ErrNotFound, commit.ErrUnknown,
	}
}

// No error says a thing twice: a class that a package below gave it is not said
// again by the packages above.
func TestNoErrorRepeatsItself(t *testing.T) {
	disk := &fs.PathError{Op: "sync", Path: "/db/store/000004.log", Err: syscall.EIO}
	for _, sentinel := range allSentinels() {
		for _, err := range []error{
			sentinel,
			fmt.Errorf("%w: %w", sentinel, disk),
			fmt.Errorf("%w: %w", commit.ErrUnknown, fmt.Errorf("%w: %w", kv.ErrFailed, disk)),
			&InvalidArgumentError{"Field", 1, "must be 2"},
		} {
			wrapped := wrapError("put record", "s", err)
			require.Empty(t, repetition(wrapped.Error()), wrapped.Error())
			require.ErrorIs(t, wrapped, err)
			require.Equal(t, wrapped, wrapError("again", "", wrapped))
		}
	}
	require.Equal(t, "the disk is full", repetition("braid: put record: the disk is full: the disk is full"))
}

// The same of the errors that a database in each state really returns.
func TestNoErrorOfADatabaseRepeatsItself(t *testing.T) {
	check := func(t *testing.T, err error, class error) {
		t.Helper()
		require.ErrorIs(t, err, class)
		require.Empty(t, repetition(err.Error()), err.Error())
	}
	t.Run("locked", func(t *testing.T) {
		dir := t.TempDir()
		db, err := Open(dir, nil)
		require.NoError(t, err)
		_, err = Open(dir, nil)
		check(t, err, ErrLocked)
		require.NoError(t, db.Close())
		eachWrite(db, func(_ string, err error) { check(t, err, ErrClosed) })
		check(t, db.Close(), ErrClosed)
	})
	t.Run("not a database", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(dir+"/else", nil, 0o600))
		_, err := Open(dir, nil)
		check(t, err, ErrInvalidArgument)
	})
	t.Run("full", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := newFaultMem()
			db, err := open("/db", &Options{ReserveBytes: -1}, environment{fs: disk, clock: time.Now})
			require.NoError(t, err)
			_, err = db.CreateStream(t.Context(), "s", nil)
			require.NoError(t, err)
			disk.setFault(noSpace)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			s, err := db.Stream("s")
			require.NoError(t, err)
			require.Error(t, db.Update(ctx, func(tx *Tx) error { return tx.Set([]byte("k"), make([]byte, 1<<20)) }))
			_, err = s.PutRecord(t.Context(), "k", nil)
			check(t, err, ErrDiskFull)
			disk.setFault(nil)
			require.NoError(t, db.Close())
		})
	})
	t.Run("failed", func(t *testing.T) {
		childtest.Run(t, func(t *testing.T) {
			disk := newFaultMem()
			db, err := open("/db", nil, environment{fs: disk, clock: time.Now})
			require.NoError(t, err)
			s, err := db.CreateStream(t.Context(), "s", nil)
			require.NoError(t, err)
			disk.setFault(func(_ int, op errorfs.Op) error {
				if op.Kind != errorfs.OpFileSyncData && op.Kind != errorfs.OpFileSync {
					return nil
				}
				return &fs.PathError{Op: "sync", Path: op.Path, Err: syscall.EIO}
			})
			_, err = s.PutRecord(t.Context(), "k", nil)
			check(t, err, ErrOutcomeUnknown)
			check(t, err, ErrFailed)
			eachWrite(db, func(_ string, err error) { check(t, err, ErrFailed) })
			check(t, db.Metrics().Failed, ErrFailed)
			check(t, db.Close(), ErrFailed)
			if _, ok := errors.AsType[*fs.PathError](err); !ok {
				t.Fatal("the cause is lost")
			}
		})
	})
}

// eachWrite makes each call that changes the database.
func eachWrite(db *DB, each func(name string, err error)) {
	ctx := context.Background()
	_, err := db.CreateStream(ctx, "new", nil)
	each("CreateStream", err)
	_, err = db.OpenStream(ctx, "new", nil)
	each("OpenStream", err)
	each("Update", db.Update(ctx, func(tx *Tx) error { return tx.Set([]byte("k"), nil) }))
	each("Backup", db.Backup(ctx, "/nowhere/backup", nil))
}

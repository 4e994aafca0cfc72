package modeltest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/errorkind"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/testdisk"
)

// repetition returns a part of an error's text that occurs in it twice: a sentinel's text, or any
// text between two colons or line ends.
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

// allSentinels returns the sentinels that the text of an error may contain: the exported ones,
// and those of package kv that have other texts.
func allSentinels() []error {
	sentinels := []error{kv.ErrNotDatabase, kv.ErrNotEmpty, kv.ErrNotFound}
	for _, kind := range errorkind.All {
		sentinels = append(sentinels, kind.Err)
	}
	return sentinels
}

// No error that a database in any state returns repeats itself.
func TestNoErrorOfADatabaseRepeatsItself(t *testing.T) {
	require.Equal(t, "disk is full", repetition("braid: put record: disk is full: disk is full"))
	check := func(t *testing.T, err error, class error) {
		t.Helper()
		require.ErrorIs(t, err, class)
		require.Empty(t, repetition(err.Error()), err.Error())
	}
	t.Run("locked", func(t *testing.T) {
		dir := t.TempDir()
		db, err := braid.Open(dir, nil)
		require.NoError(t, err)
		_, err = braid.Open(dir, nil)
		check(t, err, braid.ErrLocked)
		require.NoError(t, db.Close())
		eachWrite(db, func(_ string, err error) { check(t, err, braid.ErrClosed) })
		check(t, db.Close(), braid.ErrClosed)
	})
	t.Run("not a database", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(dir+"/else", nil, 0o600))
		_, err := braid.Open(dir, nil)
		check(t, err, braid.ErrInvalidArgument)
	})
	t.Run("full", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := testdisk.New()
			db, err := openOn(disk, &braid.Options{ReserveBytes: -1})
			require.NoError(t, err)
			_, err = db.CreateStream(t.Context(), "s", nil)
			require.NoError(t, err)
			disk.FailAlways(testdisk.Op.TakesSpace, syscall.ENOSPC)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			s, err := db.Stream("s")
			require.NoError(t, err)
			require.Error(t, db.Update(ctx, func(tx *braid.Tx) error { return tx.Set([]byte("k"), make([]byte, 1<<20)) }))
			_, err = s.PutRecord(t.Context(), "k", nil)
			check(t, err, braid.ErrDiskFull)
			disk.Before(nil)
			require.NoError(t, db.Close())
		})
	})
	t.Run("failed", func(t *testing.T) {
		childtest.Run(t, func(t *testing.T) {
			disk := testdisk.New()
			db, err := openOn(disk, nil)
			require.NoError(t, err)
			s, err := db.CreateStream(t.Context(), "s", nil)
			require.NoError(t, err)
			disk.Before(func(op testdisk.Op) error {
				if !op.Syncs() {
					return nil
				}
				return &fs.PathError{Op: "sync", Path: op.Path, Err: syscall.EIO}
			})
			_, err = s.PutRecord(t.Context(), "k", nil)
			check(t, err, braid.ErrOutcomeUnknown)
			check(t, err, braid.ErrFailed)
			eachWrite(db, func(_ string, err error) { check(t, err, braid.ErrFailed) })
			check(t, db.Metrics().Failed, braid.ErrFailed)
			check(t, db.Close(), braid.ErrFailed)
			if _, ok := errors.AsType[*fs.PathError](err); !ok {
				t.Fatal("cause is lost")
			}
		})
	})
}

// eachWrite makes each call that changes the database.
func eachWrite(db *braid.DB, each func(name string, err error)) {
	ctx := context.Background()
	_, err := db.CreateStream(ctx, "new", nil)
	each("CreateStream", err)
	_, err = db.OpenStream(ctx, "new", nil)
	each("OpenStream", err)
	each("Update", db.Update(ctx, func(tx *braid.Tx) error { return tx.Set([]byte("k"), nil) }))
	each("Backup", db.Backup(ctx, "/nowhere/backup", nil))
}

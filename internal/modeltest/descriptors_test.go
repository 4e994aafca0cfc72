//go:build unix

package modeltest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/testdisk"
)

// These tests prove that a lack of descriptors or of kernel memory is a pause, as a full disk is:
// each call says which limit was met, nothing fails for good, and everything continues when the
// resource is back.

// exhaustDescriptors takes all descriptors that the process may have except spare, and returns a
// function that gives them back.
func exhaustDescriptors(t *testing.T, spare int) (giveBack func()) {
	t.Helper()
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	limit.Cur = 128
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	var taken []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			require.ErrorIs(t, err, syscall.EMFILE)
			break
		}
		taken = append(taken, f)
	}
	for _, f := range taken[len(taken)-spare:] {
		require.NoError(t, f.Close())
	}
	taken = taken[:len(taken)-spare]
	return func() {
		for _, f := range taken {
			require.NoError(t, f.Close())
		}
	}
}

func requireOutOfDescriptors(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, braid.ErrOutOfResources)
	require.ErrorIs(t, err, syscall.EMFILE)
	require.ErrorContains(t, err, "the process may have 128: RLIMIT_NOFILE")
	require.NotErrorIs(t, err, braid.ErrDiskFull)
	require.NotErrorIs(t, err, braid.ErrFailed)
	require.Empty(t, repetition(err.Error()), err.Error())
}

// The real limit, in its own process.
func TestOutOfDescriptorsHeals(t *testing.T) {
	dir := t.TempDir()
	childtest.Run(t, func(t *testing.T) {
		opts := &braid.Options{MemtableBytes: 1 << 20, TailBytes: -1, CacheBytes: -1}
		db, err := braid.Open(dir, opts)
		require.NoError(t, err)
		s, err := db.CreateStream(t.Context(), "s", nil)
		require.NoError(t, err)
		acked := 0
		put := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := s.PutRecord(ctx, "k", make([]byte, 200_000))
			if err == nil {
				acked++
			}
			return err
		}
		for range 20 {
			require.NoError(t, put())
		}
		require.NoError(t, db.Close())
		db, err = braid.Open(dir, opts) // with no table open
		require.NoError(t, err)
		s, err = db.Stream("s")
		require.NoError(t, err)

		giveBack := exhaustDescriptors(t, 0)
		_, err = braid.Open(dir+"/other", nil)
		requireOutOfDescriptors(t, err)
		_, err = braid.Open(dir, nil)
		require.ErrorIs(t, err, braid.ErrLocked)
		requireOutOfDescriptors(t, db.Backup(t.Context(), dir+"-backup", nil))
		// Pebble may have opened the tables already, to collect statistics.
		if _, err = readShards(t.Context(), s); err != nil {
			requireOutOfDescriptors(t, err)
		}
		for err = nil; err == nil; { // until Pebble needs a new table or log
			err = put()
		}
		if errors.Is(err, braid.ErrOutcomeUnknown) { // it was already being committed
			acked++
			err = put()
		}
		requireOutOfDescriptors(t, err)
		require.True(t, db.Metrics().DiskFull)
		require.NoError(t, db.Metrics().Failed)

		giveBack()
		for err = put(); errors.Is(err, braid.ErrOutOfResources) || errors.Is(err, braid.ErrDiskFull); err = put() {
			continue
		}
		require.NoError(t, err)
		records, err := readShards(t.Context(), s)
		require.NoError(t, err)
		require.Len(t, records, acked, "the puts of unknown outcome are stored, too")
		require.NoError(t, db.Metrics().Failed)
		require.NoError(t, db.Backup(t.Context(), dir+"-backup", nil))
		require.NoError(t, db.Close())
		for _, dir := range []string{dir, dir + "-backup"} {
			db, err = braid.Open(dir, opts)
			require.NoError(t, err)
			s, err = db.Stream("s")
			require.NoError(t, err)
			again, err := readShards(t.Context(), s)
			require.NoError(t, err)
			require.Len(t, again, acked)
			require.NoError(t, db.Close())
		}
	})
}

// However many descriptors are left, Open succeeds or is refused, and leaves no database behind: a
// process may leave only few.
func TestOpenWithFewDescriptors(t *testing.T) {
	dir := t.TempDir()
	childtest.Run(t, func(t *testing.T) {
		db, err := braid.Open(dir, nil)
		require.NoError(t, err)
		require.NoError(t, db.Close())
		for spare := range openableWith {
			giveBack := exhaustDescriptors(t, spare)
			for _, readOnly := range []bool{true, false} {
				db, err := braid.Open(dir, &braid.Options{ReadOnly: readOnly})
				if err == nil {
					require.NoError(t, db.Close())
					continue
				}
				requireOutOfDescriptors(t, err)
				require.NotContains(t, err.Error(), "could not go on")
			}
			giveBack()
		}
		for _, readOnly := range []bool{true, false} {
			db, err = braid.Open(dir, &braid.Options{ReadOnly: readOnly})
			require.NoError(t, err)
			require.NoError(t, db.Close())
		}
	})
}

// openableWith is more descriptors than an open needs.
const openableWith = 24

// The pause is the same for every error of this kind and every kind of file.
func TestAShortageOfResourcesHeals(t *testing.T) {
	for _, shortage := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		for _, class := range []string{"log", "table", "manifest", "directory", ""} {
			t.Run(fmt.Sprint(class, " ", shortage), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { shortageHeals(t, shortage, class) })
			})
		}
	}
}

func shortageHeals(t *testing.T, shortage error, class string) {
	disk := testdisk.New()
	opts := &braid.Options{MemtableBytes: 1 << 20, TailBytes: -1, ReserveBytes: -1}
	db, err := openOn(disk, opts)
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "s", nil)
	require.NoError(t, err)
	disk.FailAlways(func(op testdisk.Op) bool {
		switch op.Kind {
		case errorfs.OpCreate, errorfs.OpReuseForWrite, errorfs.OpOpenDir, errorfs.OpOpen, errorfs.OpList:
			return class == "" || op.File() == class
		default:
			return false
		}
	}, shortage)
	put := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := s.PutRecord(ctx, "k", make([]byte, 300_000))
		return err
	}
	refused := 0
	for range 40 {
		err := put()
		if err == nil {
			continue
		}
		require.Empty(t, repetition(err.Error()), err.Error())
		if !errors.Is(err, braid.ErrOutcomeUnknown) {
			require.ErrorIs(t, err, braid.ErrOutOfResources)
			require.ErrorIs(t, err, shortage)
			refused++
		}
	}
	if class == "log" || class == "table" || class == "" {
		require.Positive(t, refused)
	}
	require.NoError(t, db.Metrics().Failed)
	disk.Before(nil)
	<-time.After(2 * time.Second)
	synctest.Wait()
	require.NoError(t, put())
	require.False(t, db.Metrics().DiskFull)
	require.NoError(t, db.Close())
}

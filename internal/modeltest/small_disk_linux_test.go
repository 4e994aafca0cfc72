package modeltest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/childtest"
)

// diskBytes returns the disk space of the files in a directory, including preallocated space.
func diskBytes(t *testing.T, dir string) (n int64) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) { // the database has removed it
			return nil
		}
		if err == nil && info.Mode().IsRegular() {
			n += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	}))
	return n
}

// A database takes about as much space as its content.
func TestASmallDatabaseTakesLittleSpace(t *testing.T) {
	dir := t.TempDir()
	db, err := braid.Open(dir, nil)
	require.NoError(t, err)
	require.Less(t, diskBytes(t, dir), int64(1<<20), "empty")
	s, err := db.CreateStream(t.Context(), "s", nil)
	require.NoError(t, err)
	for range 1000 {
		_, err := s.PutRecord(t.Context(), "k", []byte("tiny"))
		require.NoError(t, err)
	}
	require.Less(t, diskBytes(t, dir), int64(1<<20), "1,000 tiny records")
	require.NoError(t, db.Close())
	require.Less(t, diskBytes(t, dir), int64(1<<20), "closed")
	db, err = braid.Open(dir, nil)
	require.NoError(t, err)
	require.Less(t, diskBytes(t, dir), int64(1<<20), "reopened")
	require.NoError(t, db.Close())
}

// With default options a small volume can be filled, read, trimmed and filled again, and a database
// that was closed or abandoned on a full volume can be opened and trimmed.
func TestASmallVolume(t *testing.T) {
	for _, mib := range []int{16, 32, 64} {
		t.Run(fmt.Sprint(mib, " MiB"), func(t *testing.T) {
			childtest.Run(t, func(t *testing.T) { smallVolume(t, mib) }) // it leaves a database behind
		})
	}
}

func smallVolume(t *testing.T, mib int) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Skip("mounting a small file system requires a privilege:  ", err)
	}
	defer func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) }()
	db, err := braid.Open(filepath.Join(dir, "db"), nil)
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "s", nil)
	require.NoError(t, err)
	data := make([]byte, 100_000)
	random := rand.NewChaCha8([32]byte{}) // random, since tables are compressed
	fill := func() (acked int) {
		for {
			_, _ = random.Read(data)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			_, err := s.PutRecord(ctx, "k", data)
			cancel()
			if err != nil {
				require.ErrorIs(t, err, braid.ErrDiskFull)
				require.ErrorContains(t, err, "ReserveBytes keeps 6291456 bytes free")
				return acked
			}
			acked++
			if acked*len(data) > 1<<30 {
				t.Fatal("a small volume accepted 1 GiB")
			}
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	total := 0
	for _, closes := range []func() error{nil, func() error { return db.Close() }, func() error { return db.CloseContext(ended) }} {
		total += fill()
		records, err := readShards(t.Context(), s)
		require.NoError(t, err)
		require.NotEmpty(t, records)
		if closes != nil {
			if err := closes(); err != nil {
				require.ErrorIs(t, err, context.Canceled)
			}
			for db, err = nil, braid.ErrLocked; errors.Is(err, braid.ErrLocked); { // until the operation has returned
				db, err = braid.Open(filepath.Join(dir, "db"), nil)
			}
			require.NoError(t, err)
			s, err = db.Stream("s")
			require.NoError(t, err)
			again, err := readShards(t.Context(), s)
			require.NoError(t, err)
			require.Equal(t, records, again)
		}
		require.NoError(t, s.Trim(t.Context(), braid.Latest()))
		for { // space is reclaimed in the background
			_, err := s.PutRecord(t.Context(), "k", data)
			if err == nil {
				break
			}
			require.True(t, errors.Is(err, braid.ErrDiskFull), err)
			<-time.After(5 * time.Millisecond)
		}
	}
	t.Logf("%d records of 100 kB were put", total)
	// The total depends on how soon full memtables become tables.
	require.Greater(t, total*len(data), mib<<19, "a sixth of the volume, each time, even on a busy machine")
	require.NoError(t, db.Metrics().Failed)
	require.NoError(t, db.Close())
}

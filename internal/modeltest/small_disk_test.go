package modeltest

import (
	"context"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/testdisk"
)

// An error for lack of space says what is missing and which limit requires it.
func TestAFullDiskSaysWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := testdisk.New()
		free := func(n uint64) { disk.Mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: n, TotalBytes: 1 << 30}) }
		free(40 << 20)
		_, err := openOn(disk, nil)
		require.ErrorIs(t, err, braid.ErrDiskFull)
		require.EqualError(t, err, `braid: open "/db": disk is full: ReserveBytes keeps 67108864 bytes free on the disk of /db, and 41943040 are free`)
		_, err = openOn(disk, &braid.Options{ReserveBytes: 2 << 30})
		require.ErrorContains(t, err, "ReserveBytes must be less than the size of the disk, 1073741824 bytes")
		require.ErrorIs(t, err, braid.ErrInvalidArgument)

		free(1 << 29)
		db, err := openOn(disk, nil)
		require.NoError(t, err)
		s, err := db.CreateStream(t.Context(), "s", nil)
		require.NoError(t, err)
		_, err = s.PutRecord(t.Context(), "k", nil)
		require.NoError(t, err)
		require.NoError(t, db.Close())

		free(40 << 20)
		db, err = openOn(disk, nil) // a full disk is not refused: streams can be trimmed
		require.NoError(t, err)
		s, err = db.Stream("s")
		require.NoError(t, err)
		_, err = s.PutRecord(t.Context(), "k", nil)
		require.EqualError(t, err, `braid: put record "s": disk is full: ReserveBytes keeps 67108864 bytes free on the disk of /db, and 41943040 are free`)
		require.NoError(t, s.Trim(t.Context(), braid.Latest()))
		free(1 << 29)
		<-time.After(2 * time.Second)
		synctest.Wait()
		_, err = s.PutRecord(t.Context(), "k", nil)
		require.NoError(t, err)

		disk.FailAlways(testdisk.Op.TakesSpace, syscall.ENOSPC)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Error(t, db.Update(ctx, func(tx *braid.Tx) error { return tx.Set([]byte("k"), make([]byte, 1<<20)) }))
		_, err = s.PutRecord(t.Context(), "k", nil)
		require.ErrorIs(t, err, braid.ErrDiskFull)
		require.ErrorContains(t, err, "disk is full: write /db/store/")
		disk.Before(nil)
		require.NoError(t, db.Close())
	})
}

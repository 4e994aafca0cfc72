package braid

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

func TestDefaultsFitTheDisk(t *testing.T) {
	for _, test := range []struct {
		given             Options
		disk              int64
		memtable, reserve int64
		field             string // of the InvalidArgumentError
	}{
		{Options{}, 0, 64 << 20, 64 << 20, ""},
		{Options{}, 1 << 40, 64 << 20, 64 << 20, ""},
		{Options{}, 4 << 30, 64 << 20, 64 << 20, ""},
		{Options{}, 1 << 30, 16 << 20, 64 << 20, ""},
		{Options{}, 256 << 20, 4 << 20, 24 << 20, ""},
		{Options{}, 64 << 20, 1 << 20, 6 << 20, ""},
		{Options{}, 16 << 20, 1 << 20, 6 << 20, ""},
		{Options{}, 8 << 20, 1 << 20, 3 << 20, ""},
		{Options{ReserveBytes: -1}, 64 << 20, 1 << 20, -1, ""},
		{Options{ReserveBytes: 32 << 20}, 64 << 20, 1 << 20, 32 << 20, ""},
		{Options{ReserveBytes: 64 << 20}, 64 << 20, 0, 0, "ReserveBytes"},
		{Options{MemtableBytes: 8 << 20}, 64 << 20, 8 << 20, 24 << 20, ""},
		{Options{MemtableBytes: 30 << 20}, 64 << 20, 30 << 20, 4 << 20, ""},
		{Options{MemtableBytes: 32 << 20}, 64 << 20, 0, 0, "MemtableBytes"},
		{Options{MemtableBytes: 32 << 20, ReserveBytes: -1}, 64 << 20, 32 << 20, -1, ""},
		{Options{MemtableBytes: 64 << 20}, 1 << 30, 64 << 20, 64 << 20, ""},
	} {
		opts, err := test.given.withDefaults()
		require.NoError(t, err)
		err = opts.fit(&test.given, test.disk)
		name := fmt.Sprintf("%+v on %d: %v", test.given, test.disk, err)
		if test.field != "" {
			var invalid *InvalidArgumentError
			require.ErrorAs(t, err, &invalid, name)
			require.Equal(t, test.field, invalid.Field)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, test.memtable, opts.MemtableBytes, name)
		require.Equal(t, test.reserve, opts.ReserveBytes, name)
	}
}

// Whatever is refused for want of space says what is missing and who asks for it.
func TestAFullDiskSaysWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newFaultMem()
		free := func(n uint64) { disk.mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: n, TotalBytes: 1 << 30}) }
		env := environment{fs: disk, clock: time.Now}
		free(40 << 20)
		_, err := open("/db", nil, env)
		require.ErrorIs(t, err, ErrDiskFull)
		require.EqualError(t, err, `braid: open "/db": the disk is full: ReserveBytes keeps 67108864 bytes free on the disk of /db, and 41943040 are free`)
		_, err = open("/db", &Options{ReserveBytes: 2 << 30}, env)
		require.ErrorContains(t, err, "ReserveBytes must be less than the size of the disk, 1073741824 bytes")
		require.ErrorIs(t, err, ErrInvalidArgument)

		free(1 << 29)
		db, err := open("/db", nil, env)
		require.NoError(t, err)
		s, err := db.CreateStream(t.Context(), "s", nil)
		require.NoError(t, err)
		_, err = s.PutRecord(t.Context(), "k", nil)
		require.NoError(t, err)
		require.NoError(t, db.Close())

		free(40 << 20)
		db, err = open("/db", nil, env) // so that one can trim
		require.NoError(t, err)
		s, err = db.Stream("s")
		require.NoError(t, err)
		_, err = s.PutRecord(t.Context(), "k", nil)
		require.EqualError(t, err, `braid: put record "s": the disk is full: ReserveBytes keeps 67108864 bytes free on the disk of /db, and 41943040 are free`)
		require.NoError(t, s.Trim(t.Context(), Latest()))
		free(1 << 29)
		<-time.After(2 * time.Second)
		synctest.Wait()
		_, err = s.PutRecord(t.Context(), "k", nil)
		require.NoError(t, err)

		disk.setFault(noSpace)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Error(t, db.Update(ctx, func(tx *Tx) error { return tx.Set([]byte("k"), make([]byte, 1<<20)) }))
		_, err = s.PutRecord(t.Context(), "k", nil)
		require.ErrorIs(t, err, ErrDiskFull)
		require.ErrorContains(t, err, "the disk is full: write /db/store/")
		disk.setFault(nil)
		require.NoError(t, db.Close())
	})
}

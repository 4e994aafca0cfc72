package testdisk_test

import (
	"io"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/testdisk"
)

func create(t *testing.T, fs vfs.FS, name string) vfs.File {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	return f
}

func write(f vfs.File) error { _, err := f.Write([]byte("x")); return err }

func TestEachOperationIsAskedFor(t *testing.T) {
	d := testdisk.New()
	var asked []string
	d.Before(func(op testdisk.Op) error {
		require.Equal(t, op.Changes(), op.Index >= 0)
		if op.Changes() {
			require.Equal(t, len(asked), op.Index)
			asked = append(asked, op.Change()+" "+op.File())
		}
		return nil
	})
	f := create(t, d, "/000001.log")
	require.NoError(t, write(f))
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	f, err := d.ReuseForWrite("/000001.log", "/000002.log", vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	require.NoError(t, write(f), "of a file that is used again, too")
	require.NoError(t, f.SyncData())
	require.NoError(t, f.Close())
	require.NoError(t, d.Rename("/000002.log", "/MANIFEST-000001"))
	require.NoError(t, d.Remove("/MANIFEST-000001"))
	_, err = d.Stat("/MANIFEST-000001")
	require.Error(t, err)
	require.Equal(t, []string{
		"create log", "write log", "sync log", "reuse log", "write log", "sync-data log", "rename log", "remove manifest",
	}, asked)
	require.Equal(t, len(asked), d.Changes())
	require.Equal(t, 2, d.Count(errorfs.OpFileWrite))
	require.Equal(t, 1, d.Count(errorfs.OpStat))
	d.Before(nil)
	require.Zero(t, d.Count(errorfs.OpFileWrite))
	require.Equal(t, len(asked), d.Changes(), "which goes on")
}

func TestOperationsFail(t *testing.T) {
	d := testdisk.New()
	f := create(t, d, "/000001.sst")
	_, ok := d.Failed()
	require.False(t, ok)
	struck := d.FailOnce(func(op testdisk.Op) bool { return op.OnTable() && op.Syncs() }, syscall.EIO)
	require.NoError(t, write(f))
	require.ErrorIs(t, f.Sync(), syscall.EIO)
	require.NoError(t, f.Sync())
	require.EqualValues(t, 2, struck.Load())
	op, ok := d.Failed()
	require.True(t, ok)
	require.Equal(t, "sync table", op.Change()+" "+op.File())
	require.Equal(t, 2, op.Index)

	struck = d.FailAlways(testdisk.Op.TakesSpace, syscall.ENOSPC)
	require.ErrorIs(t, write(f), syscall.ENOSPC)
	require.ErrorIs(t, write(f), syscall.ENOSPC)
	require.NoError(t, f.Sync())
	require.EqualValues(t, 2, struck.Load())
	d.Before(nil)
	require.NoError(t, write(f))
	require.NoError(t, f.Close())
}

func TestOperationsAreHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testdisk.Over(vfs.NewMem())
		logs, tables := create(t, d, "/000001.log"), create(t, d, "/000002.sst")
		first := d.Hold(testdisk.Op.OnLog)
		require.NoError(t, write(tables))
		written := make(chan error, 2)
		go func() { written <- write(logs) }()
		<-d.Held()
		second := d.Hold(testdisk.Op.OnTable)
		require.NoError(t, write(logs), "what begins now goes by the second")
		go func() { written <- write(tables) }()
		<-d.Held()
		synctest.Wait()
		require.Empty(t, written)
		first()
		require.NoError(t, <-written)
		synctest.Wait()
		require.Empty(t, written)
		second()
		require.NoError(t, <-written)
		require.NoError(t, write(tables))
	})
}

func TestAPowerCutKeepsWhatWasSynced(t *testing.T) {
	d := testdisk.New()
	f := create(t, d, "/file")
	require.NoError(t, write(f))
	require.NoError(t, f.Sync())
	root, err := d.OpenDir("/")
	require.NoError(t, err)
	require.NoError(t, root.Sync())
	require.NoError(t, write(f))
	create(t, d, "/other")
	left := d.PowerCut()
	got, err := left.Open("/file")
	require.NoError(t, err)
	data, err := io.ReadAll(got)
	require.NoError(t, err)
	require.Equal(t, "x", string(data))
	_, err = left.Stat("/other")
	require.Error(t, err)
}

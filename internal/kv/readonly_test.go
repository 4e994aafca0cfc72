//go:build unix

package kv_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/testdisk"
)

// TestReadOnlyChangesNothing opens the image of a store after each operation that changes a
// file, on a disk that allows no such operation.
func TestReadOnlyChangesNothing(t *testing.T) {
	d := testdisk.New()
	var mu sync.Mutex // guards the two below
	var images []*vfs.MemFS
	n := 0
	d.Before(func(op testdisk.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			if n++; n%7 == 0 {
				images = append(images, d.Mem.CrashClone(vfs.CrashCloneCfg{}))
			}
		}
		return nil
	})
	for round := range 3 {
		s := open(t, configOn(d))
		for i := range 40 {
			mustPut(t, s, fmt.Sprintf("%d-%02d", round, i), string(noise(uint64(i), 64<<10)))
		}
		require.NoError(t, s.Excise(t.Context(), fmt.Appendf(nil, "%d-00", round), fmt.Appendf(nil, "%d-05", round)))
		require.NoError(t, s.Close())
	}
	d.Before(nil)
	opened := 0
	for _, mem := range images {
		writable := mem.CrashClone(vfs.CrashCloneCfg{})
		frozen := testdisk.On(mem)
		var changes []string
		frozen.Before(func(op testdisk.Op) error {
			if op.Changes() {
				changes = append(changes, fmt.Sprintf("%v %s", op.Kind, op.Path))
				return os.ErrPermission
			}
			return nil
		})
		cfg := configOn(frozen)
		cfg.ReadOnly = true
		s, err := kv.Open(cfg)
		if err == nil {
			opened++
			got := pairs(t, s, nil, nil)
			require.ErrorIs(t, put(s, "a", "1", true), kv.ErrReadOnly)
			require.ErrorIs(t, s.Sync(), kv.ErrReadOnly)
			require.ErrorIs(t, s.Flush(), kv.ErrReadOnly)
			require.ErrorIs(t, beginMemTable(s, "a", "1"), kv.ErrReadOnly)
			require.ErrorIs(t, s.Excise(t.Context(), []byte("0"), []byte("1")), kv.ErrReadOnly)
			require.ErrorIs(t, s.Compact(t.Context(), []byte("0"), []byte("1")), kv.ErrReadOnly)
			s.Metrics()
			require.NoError(t, s.Close())
			w := open(t, configOn(testdisk.On(writable))) // a writer sees the same
			require.Equal(t, pairs(t, w, nil, nil), got)
			require.NoError(t, w.Close())
		} else {
			require.ErrorIs(t, err, kv.ErrNotDatabase) // its creation was interrupted
		}
		require.Empty(t, changes)
	}
	require.Greater(t, opened, 20)
}

// readOnly is config for reading only.
func readOnly(dir string) kv.Config {
	cfg := config(dir)
	cfg.ReadOnly = true
	return cfg
}

// TestReadersShareTheLock opens a directory by all its names.
func TestReadersShareTheLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	require.NoError(t, os.Mkdir(dir, 0o755))
	names := spellings(t, dir)
	s := open(t, config(dir))
	mustPut(t, s, "a", "1")
	for _, name := range names { // a writer is alone
		_, err := kv.Open(readOnly(name))
		require.ErrorIs(t, err, kv.ErrLocked)
		require.ErrorContains(t, err, "this process has "+strconv.Quote(dir)+" open")
		require.ErrorContains(t, err, "Backup")
	}
	require.NoError(t, s.Close())
	for _, lockFile := range []bool{true, false} {
		if !lockFile {
			require.NoError(t, os.Remove(filepath.Join(dir, "LOCK"))) // as in a copy
		}
		var readers []*kv.Store
		for _, name := range names {
			readers = append(readers, open(t, readOnly(name)))
			requireLocked(t, []string{name}, "this process has "+strconv.Quote(dir)+" open for reading only")
		}
		for i, r := range readers {
			requireLocked(t, names[:1], "reading only")
			requireValue(t, r, "a", "1")
			require.NoError(t, r.Close(), i)
		}
	}
	s = open(t, config(dir))
	mustPut(t, s, "b", "2")
	require.NoError(t, s.Close())
}

// TestAReaderInAnotherProcess locks from another process: a reader keeps a writer out and lets
// readers in; a writer keeps readers out.
func TestAReaderInAnotherProcess(t *testing.T) {
	for _, writer := range []bool{false, true} {
		t.Run(fmt.Sprint("writer: ", writer), func(t *testing.T) {
			given := ""
			if !childtest.InChild(t) {
				dir := filepath.Join(t.TempDir(), "db")
				s := open(t, config(dir))
				mustPut(t, s, "a", "1")
				if !writer {
					require.NoError(t, s.Close())
					s = open(t, readOnly(dir))
				}
				defer func() { require.NoError(t, s.Close()) }()
				given = dir
			}
			childtest.RunWith(t, given, func(t *testing.T, dir string) {
				if writer {
					_, err := kv.Open(readOnly(dir))
					require.ErrorIs(t, err, kv.ErrLocked)
					require.ErrorContains(t, err, fmt.Sprintf("process %d", os.Getppid()))
					require.ErrorContains(t, err, "DB.Backup")
					return
				}
				requireLocked(t, []string{dir}, "another process has "+strconv.Quote(dir)+" open for reading only")
				r := open(t, readOnly(dir))
				requireValue(t, r, "a", "1")
				require.NoError(t, r.Close())
				requireLocked(t, []string{dir}, "another process") // still
			})
		})
	}
}

// TestReadOnlyMakesNothing: a read-only open makes no missing directory or file.
func TestReadOnlyMakesNothing(t *testing.T) {
	above := t.TempDir()
	file := filepath.Join(above, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for name, class := range map[string]error{
		filepath.Join(above, "none", "at", "all"): kv.ErrNotDatabase,
		above:                          kv.ErrNotDatabase,
		file:                           kv.ErrNotDirectory,
		filepath.Join(file, "further"): kv.ErrNotDirectory,
	} {
		_, err := kv.Open(readOnly(name))
		require.ErrorIs(t, err, class, name)
	}
	left, err := os.ReadDir(above)
	require.NoError(t, err)
	require.Len(t, left, 1)
}

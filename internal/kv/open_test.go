package kv_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/testdisk"
)

// tree returns the names in a directory of the real file system, each with a hash of the
// content. With anyLock, only the name of the lock file counts.
func tree(t *testing.T, dir string, anyLock bool) map[string]string {
	t.Helper()
	all := make(map[string]string)
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			all[path] = "directory"
			return err
		}
		data, err := os.ReadFile(path)
		if anyLock && entry.Name() == "LOCK" {
			data = nil
		}
		all[path] = fmt.Sprintf("%x", sha256.Sum256(data))
		return err
	}))
	return all
}

// database makes a closed database with rows; if unclean, some are only in the log, as after
// the death of a process.
func database(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	s := open(t, config(dir))
	mustPut(t, s, "a", "1")
	require.NoError(t, s.Flush())
	mustPut(t, s, "b", "2")
	require.NoError(t, s.Close())
	return dir
}

// identity is the text of an identity file with its checksum.
func identity(lines string) []byte {
	return fmt.Appendf([]byte(lines), "crc %08x\n", crc32.Checksum([]byte(lines), crc32.MakeTable(crc32.Castagnoli)))
}

// TestRefusedOpenChangesNothing lays out directories that Open must refuse, and
// compares all bytes before and after.
func TestRefusedOpenChangesNothing(t *testing.T) {
	anyError := errors.New("a row is wrong")
	write := func(t *testing.T, name string, data []byte) {
		require.NoError(t, os.WriteFile(name, data, 0o600))
	}
	theOnly := func(t *testing.T, pattern string) string {
		names, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, names, pattern)
		return names[len(names)-1]
	}
	cases := []struct {
		name    string
		prepare func(t *testing.T, dir string)
		want    error
		text    string
	}{
		{"a later format that we may not read", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "BRAID"), identity("braid database\nformat 9\noldest-reader 8\nsomething else\n"))
			write(t, filepath.Join(dir, "LOCK"), []byte("of a later version\n"))
		}, kv.ErrFormatTooNew, "format 9"},
		{"the format that came before", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "BRAID"), identity("braid database\nformat 1\noldest-reader 1\nid 9b2f6c1e-3c52-4c0e-8f0e-5d8a2b9f7a11\nstate ready\n"))
		}, kv.ErrFormatTooOld, "has format 1, and format 3 is the oldest"},
		{"a damaged identity", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "BRAID"), []byte("braid database\nformat 1\noldest-reader 1\ncrc 00000000\n"))
		}, kv.ErrCorrupt, "checksum"},
		{"an empty identity", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "BRAID"), nil)
		}, kv.ErrCorrupt, "identity"},
		{"an identity that is gone", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "BRAID")))
		}, kv.ErrDataLoss, "BRAID is missing"},
		{"a store that is gone", func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "store")))
		}, kv.ErrDataLoss, ""},
		{"a manifest that is gone", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(theOnly(t, filepath.Join(dir, "store", "MANIFEST-*"))))
		}, kv.ErrDataLoss, ""},
		{"a marker that is gone", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(theOnly(t, filepath.Join(dir, "store", "marker.manifest.*"))))
		}, kv.ErrDataLoss, ""},
		{"a table that is gone", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(theOnly(t, filepath.Join(dir, "store", "*.sst"))))
		}, kv.ErrDataLoss, ""},
		{"a manifest that is no manifest", func(t *testing.T, dir string) {
			write(t, theOnly(t, filepath.Join(dir, "store", "MANIFEST-*")), noise(3, 5000))
		}, kv.ErrCorrupt, ""},
		{"rows that are refused", nil, anyError, "a row is wrong"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := database(t)
			if c.prepare != nil {
				c.prepare(t, dir)
			}
			cfg := config(dir)
			cfg.Verify = func(r kv.Reader) error {
				requireValue(t, r, "b", "2")
				return anyError
			}
			before := tree(t, dir, c.want != kv.ErrFormatTooNew)
			s, err := kv.Open(cfg)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.text)
			require.Nil(t, s)
			require.Equal(t, before, tree(t, dir, c.want != kv.ErrFormatTooNew))

			// Nothing stays open or locked.
			_, err = kv.Open(cfg)
			require.ErrorIs(t, err, c.want)
		})
	}
}

// TestLaterFormatWithoutLockFile opens a copy of a database without the lock file: only that
// file may appear.
func TestLaterFormatWithoutLockFile(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "BRAID"), identity("braid database\nformat 9\noldest-reader 9\n"), 0o600))
	before := tree(t, dir, false)
	_, err := kv.Open(config(dir))
	require.ErrorIs(t, err, kv.ErrFormatTooNew)
	after := tree(t, dir, false)
	delete(after, filepath.Join(dir, "LOCK"))
	require.Equal(t, before, after)
}

func TestForeignDirectory(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("by me"), 0o600))
	before := tree(t, dir, false)
	_, err := kv.Open(config(dir))
	require.ErrorIs(t, err, kv.ErrNotDatabase)
	require.ErrorContains(t, err, "thesis.txt")
	require.Equal(t, before, tree(t, dir, false), "not even a lock file was put there")

	d := testdisk.New()
	require.NoError(t, d.MkdirAll(memDir+"/photos", 0o755))
	_, err = kv.Open(configOn(d))
	require.ErrorIs(t, err, kv.ErrNotDatabase)
	require.ErrorContains(t, err, "photos")
}

func TestOpenCreatesDirectories(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "some", "where", "deep")
	s := open(t, config(dir))
	require.Equal(t, "deep", filepath.Base(s.Dir()))
	require.NoError(t, s.Close())

	t.Chdir(t.TempDir())
	s = open(t, config("here"))
	mustPut(t, s, "a", "1")
	require.NoError(t, s.Close())
	require.FileExists(t, filepath.Join("here", "BRAID"))

	for _, dir := range []string{"db", "a/b", "/"} {
		cfg := configOn(testdisk.New())
		cfg.Dir = dir
		s = open(t, cfg)
		mustPut(t, s, "a", "1")
		require.NoError(t, s.Close())
		s = open(t, cfg)
		requireValue(t, s, "a", "1")
		require.NoError(t, s.Close())
	}
}

func TestOpenErrorsAreClear(t *testing.T) {
	_, err := kv.Open(config(""))
	require.ErrorContains(t, err, "directory's name is empty")

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = kv.Open(config(file))
	require.ErrorIs(t, err, syscall.ENOTDIR)
	_, err = kv.Open(config(filepath.Join(file, "below")))
	require.ErrorIs(t, err, syscall.ENOTDIR)
	require.ErrorContains(t, err, file)
}

// TestOpenWithoutPermission opens a database without permission for one kind of file.
// An unreadable file is neither damaged nor missing.
func TestOpenWithoutPermission(t *testing.T) {
	for _, part := range []string{"BRAID", "MANIFEST-", ".log", ".sst"} {
		t.Run(part, func(t *testing.T) {
			d := testdisk.New()
			s := open(t, configOn(d))
			mustPut(t, s, "a", "1")
			require.NoError(t, s.Flush())
			require.NoError(t, s.Close())
			asked := 0
			d.Before(func(op testdisk.Op) error {
				if op.Kind == errorfs.OpOpen && strings.Contains(op.Path, part) {
					asked++
					return &fs.PathError{Op: "open", Path: op.Path, Err: syscall.EACCES}
				}
				return nil
			})
			cfg := configOn(d)
			cfg.Verify = func(r kv.Reader) error { // which reads tables
				_, err := r.Get([]byte("a"))
				return err
			}
			_, err := kv.Open(cfg)
			require.ErrorIs(t, err, fs.ErrPermission)
			require.Positive(t, asked)
			require.NotErrorIs(t, err, kv.ErrCorrupt)
			require.NotErrorIs(t, err, kv.ErrDataLoss)
			d.Before(nil)
			s = open(t, cfg)
			requireValue(t, s, "a", "1")
			require.NoError(t, s.Close())
		})
	}
}

// TestInitThatFails: after a failed creation the next open creates the database.
func TestInitThatFails(t *testing.T) {
	dir := t.TempDir()
	cfg := config(dir)
	tooBad := errors.New("too bad")
	cfg.Init = func(b *kv.Batch) error {
		b.Set([]byte("half"), []byte("done"))
		return tooBad
	}
	_, err := kv.Open(cfg)
	require.ErrorIs(t, err, tooBad)
	text, err := os.ReadFile(filepath.Join(dir, "BRAID"))
	require.NoError(t, err)
	require.Contains(t, string(text), "state creating")

	cfg.Init = func(b *kv.Batch) error {
		b.Set([]byte("whole"), []byte("done"))
		return nil
	}
	s := open(t, cfg)
	require.True(t, s.Created())
	require.Equal(t, []string{"whole=done"}, pairs(t, s, nil, nil))
	require.NoError(t, s.Close())
}

// TestFirstLogIsGoneAfterCreation: Pebble writes its first log in a format that hides damage.
// No row may depend on it.
func TestFirstLogIsGoneAfterCreation(t *testing.T) {
	d := testdisk.New()
	var first string
	d.Before(func(op testdisk.Op) error {
		if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".log") && first == "" {
			first = op.Path
		}
		return nil
	})
	s := open(t, configOn(d))
	require.NotEmpty(t, first)
	mustPut(t, s, "a", "1")
	image := d.Mem.CrashClone(crashWithAll())
	require.NoError(t, s.Close())

	// Without that log the database is whole.
	if err := image.Remove(first); err != nil {
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
	s = open(t, configOn(image))
	require.Equal(t, []string{"a=1"}, pairs(t, s, nil, nil))
	require.NoError(t, s.Close())
}

package modeltest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// files maps the paths in a directory in memory to their content.
type files map[string][]byte

// filesOf returns all files below the database's directory.
func filesOf(t *testing.T, mem *vfs.MemFS) files {
	t.Helper()
	all := make(files)
	var walk func(dir string)
	walk = func(dir string) {
		names, err := mem.List(dir)
		require.NoError(t, err)
		for _, name := range names {
			p := path.Join(dir, name)
			info, err := mem.Stat(p)
			if errors.Is(err, fs.ErrNotExist) { // removed by the open database after it was listed
				continue
			}
			require.NoError(t, err)
			if info.IsDir() {
				walk(p)
				continue
			}
			f, err := mem.Open(p)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			require.NoError(t, err)
			all[p], err = io.ReadAll(f)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
	}
	walk(damageDir)
	return all
}

// lay returns a disk with these files.
func (f files) lay(t *testing.T) *vfs.MemFS { return f.layOn(t, vfs.NewMem()) }

// layDurably is lay on a disk that loses unsynced data in a power cut; these files are synced.
func (f files) layDurably(t *testing.T) *vfs.MemFS { return f.layOn(t, vfs.NewCrashableMem()) }

func (f files) layOn(t *testing.T, mem *vfs.MemFS) *vfs.MemFS {
	t.Helper()
	dirs := map[string]bool{"/": true, damageDir + "/store": true}
	for p := range f {
		for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
			dirs[dir] = true
		}
	}
	for dir := range dirs {
		require.NoError(t, mem.MkdirAll(dir, 0o755))
	}
	for p, data := range f {
		file, err := mem.Create(p, vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		_, err = file.Write(bytes.Clone(data)) // the file may change its argument
		require.NoError(t, err)
		require.NoError(t, file.Sync())
		require.NoError(t, file.Close())
	}
	for dir := range dirs {
		d, err := mem.OpenDir(dir)
		require.NoError(t, err)
		require.NoError(t, d.Sync())
		require.NoError(t, d.Close())
	}
	return mem
}

// with returns these files with one of them replaced, or removed if data is nil.
func (f files) with(p string, data []byte) files {
	changed := maps.Clone(f)
	if data == nil {
		delete(changed, p)
	} else {
		changed[p] = data
	}
	return changed
}

func (f files) paths() []string { return slices.Sorted(maps.Keys(f)) }

func (f files) only(keep func(p string) bool) files {
	kept := maps.Clone(f)
	maps.DeleteFunc(kept, func(p string, _ []byte) bool { return !keep(p) })
	return kept
}

// named returns the path of the store's last file whose name has the prefix.
func (f files) named(prefix string) (found string) {
	for p := range f {
		if strings.HasPrefix(path.Base(p), prefix) {
			found = max(found, p)
		}
	}
	return found
}

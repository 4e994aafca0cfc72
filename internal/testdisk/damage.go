package testdisk

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Tables returns the paths of the tables in a directory, in order.
func Tables(mem *vfs.MemFS, dir string) (paths []string, err error) {
	names, err := mem.List(dir)
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			paths = append(paths, mem.PathJoin(dir, name))
		}
	}
	slices.Sort(paths)
	return paths, err
}

// Find returns the path and the content of the table in a directory that has the text, and the
// offset of the text in it. A test damages the table by writing a changed content.
func Find(mem *vfs.MemFS, dir string, text []byte) (table string, content []byte, at int, err error) {
	tables, err := Tables(mem, dir)
	if err != nil {
		return "", nil, 0, err
	}
	for _, table := range tables {
		if content, err = mem.UnsafeGetFileDataBuffer(table); err != nil {
			return "", nil, 0, err
		}
		if at = bytes.Index(content, text); at >= 0 {
			return table, content, at, nil
		}
	}
	return "", nil, 0, errors.New("no table holds the text")
}

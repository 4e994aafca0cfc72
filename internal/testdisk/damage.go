package testdisk

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Tables returns the paths of the tables in a directory, in their order.
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

// Find returns the table of a directory that holds the text, its content, and where
// in it the text begins. To change the content is to damage the table.
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

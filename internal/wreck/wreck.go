// Package wreck reads the undamaged parts of a store whose files may be damaged or missing:
// Pebble's tables and logs, block by block and batch by batch, without opening Pebble and
// without trusting the files' metadata.
//
// It knows the formats of Pebble's files, and nothing about their contents. It passes on
// changes as they were written, each with the number that orders it, and says which places
// could not be read. Package salvage makes a database of them. It opens files for reading
// only, and creates none.
package wreck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is the file system of the files.
type FS = vfs.FS

// ErrDamaged is wrapped by the error of every place that cannot be read.
var ErrDamaged = errors.New("the bytes are not what was written")

// Change is a change of a key. Its slices are valid during the call that gets it.
type Change struct {
	Key, Value []byte
	Seq        uint64 // orders the changes of a key; 0 in a table that was merged with all that was older
	Deleted    bool
}

// Deletion is the deletion of a range of keys. Changes with the same number or a higher one were
// written after it.
type Deletion struct {
	Start, End []byte // End itself is not removed
	Seq        uint64
}

// Place is a part of a file that cannot be read, or a file that is missing.
type Place struct {
	File   string // its name in the directory
	Offset int64
	Bytes  int64 // 0: to the end of the file, or all of a missing file
	Err    error // wraps ErrDamaged, or is the disk's

	// After and Through bound the lost keys, if it is a part of a table: they are above
	// After, up to and including Through. nil means no bound.
	After, Through []byte

	// Seq is a lower bound of the lost changes' numbers, which are higher, if it is a part of
	// a log.
	Seq uint64
}

// Visitor receives what is found. An error that it returns ends the reading.
type Visitor interface {
	Change(c Change) error
	DeleteRange(d Deletion) error

	// Lost is called for a place that cannot be read.
	Lost(p Place) error
}

// Wreck is a directory of Pebble's files.
type Wreck struct {
	fs  FS
	dir string

	Tables []File // in the order of their numbers
	Logs   []File // in the order of their numbers, which is that of what is in them

	// Missing are tables that the manifest names but that do not exist, and the newest log, which
	// every store has, if there is none.
	Missing []Place

	// Unread has the places of the manifest that could not be read; nil if it was read whole. If
	// it was not, it is unknown which tables are stale.
	Unread []Place
}

// File is a table or a log.
type File struct {
	Name string
	Size int64

	// Stale is set if the file is obsolete: its contents were also written to other files, or
	// deleted there.
	Stale bool

	// After and Through bound the keys of a table, as in a Place, if the manifest has them.
	After, Through []byte

	// Written is the size of a table in the manifest; 0 if it is not there.
	Written int64

	// Durable is how many bytes of a log are known to have been written; 0 if unknown.
	Durable int64

	number uint64
}

// Known has facts about a store's files from other sources. The zero value has none.
type Known struct {
	// Durable is how many bytes of logs and of the manifest were written, by their names. It
	// may have obsolete logs.
	Durable map[string]int64

	// Manifest is the name of the newest manifest, or of an earlier one. A marker that names
	// an older one is ignored.
	Manifest string

	// Foreign has the files that are not those written under their names, with the reasons.
	// Such a file is not read, and counts as missing.
	Foreign map[string]error
}

// Open lists the files of a directory, and reads the manifest if possible. It ignores files of
// other kinds. Its error is that of listing the directory.
func Open(files FS, dir string, known Known) (*Wreck, error) {
	names, err := files.List(dir)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return known.Foreign[name] != nil })
	w := &Wreck{fs: files, dir: dir}
	for _, name := range names {
		number, ok := NumberOf(name)
		if !ok {
			continue
		}
		info, err := files.Stat(files.PathJoin(dir, name))
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() {
			continue
		}
		f := File{Name: name, number: number, Durable: known.Durable[name]}
		if err == nil {
			f.Size = info.Size()
		}
		if strings.HasSuffix(name, ".sst") {
			w.Tables = append(w.Tables, f)
		} else {
			w.Logs = append(w.Logs, f)
		}
	}
	byNumber := func(x, y File) int { return int(int64(x.number) - int64(y.number)) }
	slices.SortFunc(w.Tables, byNumber)
	slices.SortFunc(w.Logs, byNumber)
	w.readManifest(names, known)
	if len(w.Unread) > 0 {
		w.Tables = slices.DeleteFunc(w.Tables, isBegun)
	}
	return w, nil
}

// isBegun reports whether a table counts as one that was being written when the store ended: it
// is empty, and the readable part of the manifest does not name it. The data for it is still
// in a log or in other tables.
func isBegun(f File) bool { return f.Size == 0 && f.Through == nil && f.Written == 0 }

// Bytes returns the size of all tables and logs.
func (w *Wreck) Bytes() (n int64) {
	for _, f := range w.Tables {
		n += f.Size
	}
	for _, f := range w.Logs {
		n += f.Size
	}
	return n
}

// NumberOf returns the number in the name of a table or a log.
func NumberOf(name string) (number uint64, ok bool) {
	base, ending, _ := strings.Cut(name, ".")
	number, err := strconv.ParseUint(base, 10, 64)
	return number, err == nil && (ending == "sst" || ending == "log")
}

func (w *Wreck) path(name string) string { return w.fs.PathJoin(w.dir, name) }

// damaged returns the error for a place whose bytes differ from what was written.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// guard calls fn, in which Pebble decodes bytes. Pebble's decoders trust their input, and may
// panic on bytes that only look right.
func guard(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = damaged("%v", p)
		}
	}()
	return fn()
}

// ended returns the cause of a context that has ended, or nil.
func ended(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

package guardfs

import (
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Create implements vfs.FS.
func (g *FS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := g.beforeMarker(name); err != nil {
		return nil, err
	}
	c := g.classOf(name)
	var f vfs.File
	err := g.change("create", name, c, func() (err error) {
		f, err = g.real.Create(name, category)
		return err
	})
	return g.wrapNew(f, name, c, err)
}

// OpenReadWrite implements vfs.FS. It may create the file.
func (g *FS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	c := g.classOf(name)
	var f vfs.File
	err := g.change("open", name, c, func() (err error) {
		f, err = g.real.OpenReadWrite(name, category, opts...)
		return err
	})
	return g.wrapNew(f, name, c, err)
}

// ReuseForWrite implements vfs.FS. Pebble reuses logs with it.
func (g *FS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	g.durable.forget(oldname)
	c := max(g.classOf(oldname), g.classOf(newname))
	var f vfs.File
	err := g.change("reuse", oldname, c, func() (err error) {
		f, err = g.real.ReuseForWrite(oldname, newname, category)
		return err
	})
	return g.wrapNew(f, newname, c, err)
}

// wrapNew guards a file that was opened for writing.
func (g *FS) wrapNew(f vfs.File, name string, c class, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	if c == foreign {
		return f, nil
	}
	g.checkReserve()
	return &file{File: f, guard: g, name: name, class: c, account: g.durable.begin(name)}, nil
}

// Open implements vfs.FS.
func (g *FS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := g.real.Open(name, opts...)
	if !g.guards(name) {
		return f, err
	}
	if err != nil {
		return nil, slowRead(err)
	}
	return readFile{f}, nil
}

// readFile is a guarded file that is only read.
type readFile struct{ vfs.File }

// Read implements vfs.File.
func (f readFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	return n, slowRead(err)
}

// ReadAt implements vfs.File.
func (f readFile) ReadAt(p []byte, offset int64) (int, error) {
	n, err := f.File.ReadAt(p, offset)
	return n, slowRead(err)
}

// OpenDir implements vfs.FS. A directory is opened only to be synced.
func (g *FS) OpenDir(name string) (vfs.File, error) {
	c := g.classOfDir(name)
	if c == foreign {
		return g.real.OpenDir(name)
	}
	var f vfs.File
	err := g.ride("open directory", name, func() (err error) {
		f, err = g.real.OpenDir(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &file{File: f, guard: g, name: name, class: c, directory: true}, nil
}

// Link implements vfs.FS. Pebble copies the file if linking fails.
func (g *FS) Link(oldname, newname string) error {
	return g.remove("link", newname, g.classOf(newname), func() error { return g.real.Link(oldname, newname) })
}

// Remove implements vfs.FS.
func (g *FS) Remove(name string) error {
	if err := g.beforeMarker(name); err != nil {
		return err
	}
	g.durable.forget(name)
	return g.remove("remove", name, g.classOf(name), func() error { return g.real.Remove(name) })
}

// RemoveAll implements vfs.FS.
func (g *FS) RemoveAll(name string) error {
	return g.remove("remove", name, g.classOf(name), func() error { return g.real.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (g *FS) Rename(oldname, newname string) error {
	g.durable.forget(oldname)
	g.durable.forget(newname)
	c := max(g.classOf(oldname), g.classOf(newname))
	return g.change("rename", oldname, c, func() error { return g.real.Rename(oldname, newname) })
}

// MkdirAll implements vfs.FS.
func (g *FS) MkdirAll(dir string, perm os.FileMode) error {
	return g.change("make directory", dir, g.classOf(dir), func() error { return g.real.MkdirAll(dir, perm) })
}

// Lock implements vfs.FS. It grants every lock: internal/kv holds its own lock on the whole
// directory, which an abandoned Pebble cannot keep.
func (g *FS) Lock(string) (io.Closer, error) { return noLock{}, nil }

type noLock struct{}

func (noLock) Close() error { return nil }

// List implements vfs.FS.
func (g *FS) List(dir string) (names []string, err error) {
	if !g.guards(dir) {
		return g.real.List(dir)
	}
	err = g.ride("list", dir, func() (err error) {
		names, err = g.real.List(dir)
		return err
	})
	return names, err
}

// Stat implements vfs.FS.
func (g *FS) Stat(name string) (vfs.FileInfo, error) { return g.real.Stat(name) }

// PathBase implements vfs.FS.
func (g *FS) PathBase(path string) string { return g.real.PathBase(path) }

// PathJoin implements vfs.FS.
func (g *FS) PathJoin(elem ...string) string { return g.real.PathJoin(elem...) }

// PathDir implements vfs.FS.
func (g *FS) PathDir(path string) string { return g.real.PathDir(path) }

// GetDiskUsage implements vfs.FS.
func (g *FS) GetDiskUsage(path string) (vfs.DiskUsage, error) { return g.real.GetDiskUsage(path) }

// Unwrap implements vfs.FS.
func (g *FS) Unwrap() vfs.FS { return g.real }

// file is a guarded file or directory. Reads go straight to the real one.
type file struct {
	vfs.File
	guard     *FS
	name      string
	class     class
	directory bool
	account   *account    // the account of its bytes; nil if none is kept
	spoilt    atomic.Bool // whether an operation on it has returned an error

	// Fields of a log. They belong to the one goroutine at a time that writes it.
	written  int64 // bytes written by Write
	reserved int64 // bytes from the beginning for which space was allocated
	wanted   int64 // the end of the range for which Pebble wants space
}

// The space that a log allocates ahead of its bytes, after the first time, is as much as it has,
// within these bounds.
const (
	minPreallocation = 256 << 10
	maxPreallocation = 4 << 20
)

// Write implements vfs.File. After a wait for space it continues after the bytes that were
// already written.
func (f *file) Write(p []byte) (int, error) {
	f.reserve(int64(len(p)))
	f.written += int64(len(p))
	if f.account != nil {
		f.account.add(p) // before the write, because a file may change p; after an error nothing is known anyway
	}
	written := 0
	err := f.guard.change("write", f.name, f.class, func() error {
		n, err := f.File.Write(p[written:])
		written += n
		return err
	})
	return written, f.noteError(err)
}

// WriteAt implements vfs.File.
func (f *file) WriteAt(p []byte, offset int64) (int, error) {
	if f.account != nil {
		f.account.end()
	}
	written := 0
	err := f.guard.change("write", f.name, f.class, func() error {
		n, err := f.File.WriteAt(p[written:], offset+int64(written))
		written += n
		return err
	})
	return written, f.noteError(err)
}

// Preallocate implements vfs.File. Before the first byte, Pebble asks for all the space that a
// log may ever need: a memtable and a tenth. A database of a few records would take that much
// space, and a small disk does not have it. So Write allocates it instead, step by step,
// unless the previous log has grown large.
func (f *file) Preallocate(offset, length int64) error {
	f.wanted = offset + length
	return nil
}

// reserve allocates space before n bytes are written. It is a hint: if the file system
// refuses, for lack of space or of the feature, writes may still succeed. So its error neither
// waits nor fails anything. It does not use up scarce space, and it also checks the reserve.
func (f *file) reserve(n int64) {
	end := f.written + n
	if end <= f.reserved || f.wanted <= f.reserved {
		return
	}
	f.guard.checkReserve()
	step := min(max(f.reserved, minPreallocation), maxPreallocation)
	if f.reserved == 0 {
		step = max(step, f.guard.expectedLog(f.wanted))
	}
	until := max(min(f.reserved+step, f.wanted), end)
	if f.guard.Space() == Enough {
		f.guard.enter()
		_ = f.File.Preallocate(f.reserved, until-f.reserved)
		f.guard.leave()
	}
	f.reserved = until
}

// expectedLog returns how much space a new log probably needs, at most what Pebble wants:
// twice the size of the previous log, because Pebble's first memtables double. An fdatasync is
// faster by a seventh if the space was allocated before the first byte. It returns 0 if that
// would bring the disk close to its reserve.
func (g *FS) expectedLog(wanted int64) int64 {
	expected := min(2*g.lastLog.Load(), wanted)
	usage, err := g.real.GetDiskUsage(g.cfg.Dir)
	if err == nil && usage.AvailBytes < uint64(max(0, g.cfg.ReserveBytes)+4*expected) {
		return 0
	}
	return expected
}

// Sync implements vfs.File.
func (f *file) Sync() error {
	if entries, ok := f.guard.durable.beginLinking(f.name); ok && f.directory {
		err := f.guard.sync("sync", f.name, f.class, f.File.Sync)
		if err == nil {
			f.guard.durable.link(entries)
		}
		return f.noteSync(err)
	}
	return f.noteSync(f.guard.sync("sync", f.name, f.class, f.File.Sync))
}

// SyncData implements vfs.File. Pebble uses it for logs, and Sync for manifests and directories.
func (f *file) SyncData() error {
	began := time.Now()
	err := f.noteSync(f.guard.sync("sync", f.name, f.class, f.File.SyncData))
	took := time.Since(began)
	f.guard.syncTime.Store(int64(took))
	if err == nil {
		f.guard.syncs.Observe(took)
	}
	return err
}

// noteSync notes a success. After an error, Pebble gives up a table, and still syncs the
// incomplete file when it closes it: that does not count as a success.
func (f *file) noteSync(err error) error {
	if err == nil && f.class == ordinary && !f.spoilt.Load() {
		f.guard.succeeded()
	}
	if f.account != nil && err == nil && !f.spoilt.Load() {
		f.account.durable()
	}
	return f.noteError(err)
}

func (f *file) noteError(err error) error {
	if err != nil {
		f.spoilt.Store(true)
	}
	return err
}

// SyncTo implements vfs.File.
func (f *file) SyncTo(length int64) (full bool, err error) {
	f.guard.enter()
	full, err = f.File.SyncTo(length)
	f.guard.leave()
	if err != nil {
		err = f.guard.sync("sync", f.name, f.class, func() error { return err })
	}
	return full, f.noteError(err)
}

// Close implements vfs.File. Some file systems report failed writes only at the close. Closing a
// directory changes nothing.
func (f *file) Close() error {
	if f.directory {
		return f.File.Close()
	}
	if f.wanted > 0 {
		f.guard.lastLog.Store(f.written)
	}
	err := f.guard.sync("close", f.name, f.class, f.File.Close)
	if f.account != nil && err == nil && !f.spoilt.Load() {
		f.account.closed()
	}
	return err
}

// Package crashdisk keeps databases on a disk in memory whose power can be cut: what
// was not synced by then is gone. It is for tests, of braid and of what is built on
// it.
package crashdisk

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
)

// dir is where on the disk the database is.
const dir = "/braid"

// Disk holds one database.
//
// It is Pebble's own file system for such tests, but for logs: that one copies a
// whole file with each sync, and a log is synced with each commit.
type Disk struct {
	*vfs.MemFS

	mu   sync.RWMutex    // held by PowerCut, and shared by what changes logs
	logs map[string]*log // those that were created, by path
	made sync.Mutex      // guards logs where mu is shared
}

// New returns an empty disk.
func New() *Disk { return newDisk(vfs.NewCrashableMem()) }

func newDisk(mem *vfs.MemFS) *Disk { return &Disk{MemFS: mem, logs: make(map[string]*log)} }

// Open opens the disk's database, as [braid.Open] does. The database must be closed
// before it is opened again on the same disk.
func Open(d *Disk, options *braid.Options) (*braid.DB, error) {
	db, err := companion.Open(dir, options, companion.Environment{FS: vfs.FS(d), Instant: true})
	if err != nil {
		return nil, err
	}
	return db.(*braid.DB), nil
}

// PowerCut returns the disk as it would be found if the power were cut now. The disk
// itself goes on, so the database that is open on it can be closed in an orderly way;
// nobody finds what it still writes.
//
// A write that is acknowledged while PowerCut runs may or may not be on the disk that
// is returned. One that was acknowledged before is, as far as the database's
// durability promises.
func (d *Disk) PowerCut() *Disk {
	d.mu.Lock() // so the logs are as old as all else
	defer d.mu.Unlock()
	image := d.CrashClone(vfs.CrashCloneCfg{})
	for _, path := range slices.Sorted(maps.Keys(d.logs)) {
		if _, err := image.Stat(path); err != nil {
			continue // its name was not synced
		}
		if err := d.logs[path].copyTo(image, path); err != nil {
			panic(fmt.Sprintf("crashdisk: %v", err)) // of files in memory
		}
	}
	return newDisk(image)
}

func isLog(path string) bool { return strings.HasSuffix(path, ".log") }

// Create is part of vfs.FS.
func (d *Disk) Create(path string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if !isLog(path) {
		return d.MemFS.Create(path, category)
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	file, err := d.MemFS.Create(path, category)
	if err != nil {
		return nil, err
	}
	l := &log{File: file, disk: d}
	d.made.Lock()
	defer d.made.Unlock()
	d.logs[path] = l
	return l, nil
}

// ReuseForWrite is part of vfs.FS. A log is not used again, but made anew, which is
// allowed: so logs only grow.
func (d *Disk) ReuseForWrite(old, path string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.Remove(old); err != nil {
		return nil, err
	}
	return d.Create(path, category)
}

// Remove is part of vfs.FS. A power cut may bring the log back, but empty: Pebble
// removes one only when all that is in it has been synced elsewhere.
func (d *Disk) Remove(path string) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.MemFS.Remove(path); err != nil {
		return err
	}
	d.made.Lock()
	defer d.made.Unlock()
	delete(d.logs, path)
	return nil
}

// RemoveAll is part of vfs.FS. What [Disk.Remove] says of a log holds for those in a
// directory, too: one that is removed as a whole, such as a backup's, is of no use to
// anybody.
func (d *Disk) RemoveAll(path string) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.MemFS.RemoveAll(path); err != nil {
		return err
	}
	d.made.Lock()
	defer d.made.Unlock()
	maps.DeleteFunc(d.logs, func(name string, _ *log) bool {
		return name == path || strings.HasPrefix(name, path+"/")
	})
	return nil
}

// log is a file that only grows.
//
// Invariant: its first synced bytes do not change, and survive a power cut.
type log struct {
	vfs.File
	disk    *Disk
	written atomic.Int64
	synced  atomic.Int64
}

// Write is part of vfs.File.
func (l *log) Write(p []byte) (int, error) {
	n, err := l.File.Write(p)
	l.written.Add(int64(n))
	return n, err
}

// WriteAt is part of vfs.File.
func (l *log) WriteAt([]byte, int64) (int, error) {
	panic("crashdisk: a log is written from its start to its end")
}

// Sync is part of vfs.File.
func (l *log) Sync() error {
	l.disk.mu.RLock()
	defer l.disk.mu.RUnlock()
	l.synced.Store(l.written.Load())
	return nil
}

// SyncData is part of vfs.File.
func (l *log) SyncData() error { return l.Sync() }

// copyTo puts what was synced of the log into the file of that name, which is durable
// there.
func (l *log) copyTo(mem *vfs.MemFS, path string) error {
	data := make([]byte, l.synced.Load())
	from, err := l.disk.MemFS.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	if len(data) > 0 {
		if _, err := from.ReadAt(data, 0); err != nil {
			return err
		}
	}
	to, err := mem.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer to.Close()
	if _, err := to.Write(data); err != nil {
		return err
	}
	return to.Sync()
}

package braidtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// files is Pebble's file system in memory for crash tests, except for logs: Pebble's
// copies a whole file at each sync, and a log is synced at each commit.
type files struct {
	*vfs.MemFS

	mu   sync.RWMutex    // held by powerCut, and shared by everything that changes logs
	logs map[string]*log // all logs that were created, by path
	made sync.Mutex      // guards logs while mu is shared
}

func newFiles(mem *vfs.MemFS) *files { return &files{MemFS: mem, logs: make(map[string]*log)} }

// powerCut returns the files that a power loss now would leave.
func (fs *files) powerCut() *files {
	fs.mu.Lock() // so that the logs and the other files are of one moment
	defer fs.mu.Unlock()
	image := fs.CrashClone(vfs.CrashCloneCfg{})
	for _, path := range slices.Sorted(maps.Keys(fs.logs)) {
		if _, err := image.Stat(path); err != nil {
			continue // its name was not synced
		}
		if err := fs.logs[path].copyTo(image, path); err != nil {
			panic(fmt.Sprintf("braidtest: %v", err)) // cannot fail for files in memory
		}
	}
	return newFiles(image)
}

func isLog(path string) bool { return strings.HasSuffix(path, ".log") }

// Create implements vfs.FS.
func (fs *files) Create(path string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if !isLog(path) {
		return fs.MemFS.Create(path, category)
	}
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	file, err := fs.MemFS.Create(path, category)
	if err != nil {
		return nil, err
	}
	l := &log{File: file, disk: fs}
	fs.made.Lock()
	defer fs.made.Unlock()
	fs.logs[path] = l
	return l, nil
}

// ReuseForWrite implements vfs.FS. It does not reuse a log, but creates a new one, which
// is allowed. So logs only grow.
func (fs *files) ReuseForWrite(old, path string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := fs.Remove(old); err != nil {
		return nil, err
	}
	return fs.Create(path, category)
}

// Remove implements vfs.FS. A power cut may bring a removed log back, but empty: Pebble
// removes a log only after its content was synced elsewhere.
func (fs *files) Remove(path string) error {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	if err := fs.MemFS.Remove(path); err != nil {
		return err
	}
	fs.made.Lock()
	defer fs.made.Unlock()
	delete(fs.logs, path)
	return nil
}

// RemoveAll implements vfs.FS. Logs in the directory are removed as by Remove: the logs
// of a directory that is removed as a whole, such as that of a backup, are no longer
// needed.
func (fs *files) RemoveAll(path string) error {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	if err := fs.MemFS.RemoveAll(path); err != nil {
		return err
	}
	fs.made.Lock()
	defer fs.made.Unlock()
	maps.DeleteFunc(fs.logs, func(name string, _ *log) bool {
		return name == path || strings.HasPrefix(name, path+"/")
	})
	return nil
}

// log is a file that can only grow.
//
// Invariant: its first synced bytes do not change, and survive a power cut.
type log struct {
	vfs.File
	disk    *files
	written atomic.Int64
	synced  atomic.Int64
}

// Write implements vfs.File.
func (l *log) Write(p []byte) (int, error) {
	n, err := l.File.Write(p)
	l.written.Add(int64(n))
	return n, err
}

// WriteAt implements vfs.File.
func (l *log) WriteAt([]byte, int64) (int, error) {
	panic("braidtest: a log can only be written in order")
}

// Sync implements vfs.File.
func (l *log) Sync() error {
	l.disk.mu.RLock()
	defer l.disk.mu.RUnlock()
	l.synced.Store(l.written.Load())
	return nil
}

// SyncData implements vfs.File.
func (l *log) SyncData() error { return l.Sync() }

// copyTo writes the synced part of the log to the file of that name, durably.
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

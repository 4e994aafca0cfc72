package braid

import (
	"fmt"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// faultDisk is a disk in memory whose operations that change files can be made
// to fail. It forgets what was not synced when a power cut is asked for.
type faultDisk struct {
	vfs.FS
	mem *vfs.MemFS

	mu     sync.Mutex // guards the fields below
	count  int        // operations that change files so far
	fault  func(index int, op errorfs.Op) error
	failed []errorfs.Op // operations that the fault made fail, the first few
}

func newFaultDisk(mem *vfs.MemFS) *faultDisk {
	d := &faultDisk{mem: mem}
	d.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(d.before))
	return d
}

// ReuseForWrite wraps the file, which errorfs forgets.
func (d *faultDisk) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(oldname, newname, category)
	if err != nil {
		return nil, err
	}
	return errorfs.WrapFile(f, errorfs.InjectorFunc(d.before)), nil
}

// before is called before every operation.
func (d *faultDisk) before(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || op.Kind == errorfs.OpFileClose {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count++
	if d.fault == nil {
		return nil
	}
	err := d.fault(d.count-1, op)
	if err != nil && len(d.failed) < 100 {
		d.failed = append(d.failed, op)
	}
	return err
}

// setFault decides about every operation from now on, by its index and kind; nil
// means that all succeed.
func (d *faultDisk) setFault(fault func(index int, op errorfs.Op) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = fault
}

// operations returns how many operations have changed files, or tried to.
func (d *faultDisk) operations() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count
}

// fired returns the first operation that failed.
func (d *faultDisk) fired() (op errorfs.Op, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.failed) == 0 {
		return op, false
	}
	return d.failed[0], true
}

// powerCut returns the disk as it is after a power cut: with what was synced, and
// nothing else.
func (d *faultDisk) powerCut() *faultDisk {
	return newFaultDisk(d.mem.CrashClone(vfs.CrashCloneCfg{}))
}

// failOnce makes operation index fail, and failFrom all from there on.
func failOnce(index int) func(int, errorfs.Op) error {
	return func(i int, op errorfs.Op) error {
		if i == index {
			return syscall.EIO
		}
		return nil
	}
}

func failFrom(index int) func(int, errorfs.Op) error {
	return func(i int, op errorfs.Op) error {
		if i >= index {
			return syscall.EIO
		}
		return nil
	}
}

// fileClass names what kind of file an operation changes.
func fileClass(op errorfs.Op) string {
	base := path.Base(op.Path)
	switch {
	case strings.HasSuffix(base, ".log"), op.Path == "": // a log that is used again has no name
		return "log"
	case strings.HasSuffix(base, ".sst"):
		return "table"
	case strings.HasPrefix(base, "MANIFEST-"):
		return "manifest"
	case strings.HasPrefix(base, "marker."):
		return "marker"
	case strings.HasPrefix(base, "BRAID"):
		return "identity"
	case path.Ext(base) == "":
		return "directory"
	default:
		return "other"
	}
}

// fileChange names the operation.
func fileChange(op errorfs.Op) string {
	names := map[errorfs.OpKind]string{
		errorfs.OpCreate:          "create",
		errorfs.OpLink:            "link",
		errorfs.OpRemove:          "remove",
		errorfs.OpRemoveAll:       "remove-all",
		errorfs.OpRename:          "rename",
		errorfs.OpReuseForWrite:   "reuse",
		errorfs.OpMkdirAll:        "mkdir",
		errorfs.OpFilePreallocate: "preallocate",
		errorfs.OpFileWrite:       "write",
		errorfs.OpFileWriteAt:     "write-at",
		errorfs.OpFileSync:        "sync",
		errorfs.OpFileSyncData:    "sync-data",
		errorfs.OpFileSyncTo:      "sync-to",
		errorfs.OpFileFlush:       "flush",
	}
	if name, ok := names[op.Kind]; ok {
		return name
	}
	return fmt.Sprintf("operation %d", op.Kind)
}

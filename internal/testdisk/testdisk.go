// Package testdisk is a disk for tests: each operation can be observed, blocked, or made to
// fail, and the state after a power cut can be taken at any moment.
//
// It knows Pebble's file systems and nothing of braid, so that the tests of every package can
// use it. Only tests import it.
package testdisk

import (
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// Disk is a file system that calls a function before each operation. It is safe for concurrent
// use.
type Disk struct {
	vfs.FS

	// Mem holds the files; operations on it directly are not observed. It is nil for a disk
	// over another file system.
	Mem *vfs.MemFS

	changes atomic.Int64
	counts  [errorfs.OpFileFlush + 1]atomic.Int64 // by kind, since the last Before
	before  atomic.Pointer[func(Op) error]
	holding atomic.Pointer[hold]
	held    chan struct{} // has a token once an operation is blocked

	mu     sync.Mutex // guards the field below
	failed *Op        // the first operation that was made to fail
}

// hold is one call of Hold.
type hold struct {
	over chan struct{} // closed by release

	mu    sync.Mutex // held while match is called
	match func(Op) bool
}

func (h *hold) matches(op Op) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.match(op)
}

// New returns an empty disk in memory, which loses everything that was not synced in a power
// cut.
func New() *Disk { return On(vfs.NewCrashableMem()) }

// On returns a disk with the files of mem, on which all operations succeed.
func On(mem *vfs.MemFS) *Disk {
	d := Over(mem)
	d.Mem = mem
	return d
}

// Over returns a disk over any file system.
func Over(files vfs.FS) *Disk {
	d := &Disk{held: make(chan struct{}, 1)}
	d.FS = errorfs.Wrap(files, errorfs.InjectorFunc(d.ask))
	return d
}

// ask is called before each operation, and returns the error with which it fails.
func (d *Disk) ask(fsOp errorfs.Op) error {
	op := Op{Op: fsOp, Index: -1}
	if op.Changes() {
		op.Index = int(d.changes.Add(1)) - 1
	}
	d.counts[op.Kind].Add(1)
	if h := d.holding.Load(); h != nil && h.matches(op) {
		select {
		case d.held <- struct{}{}:
		default:
		}
		<-h.over
	}
	before := d.before.Load()
	if before == nil {
		return nil
	}
	err := (*before)(op)
	if err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.failed == nil {
			d.failed = &op
		}
	}
	return err
}

// ReuseForWrite implements vfs.FS. The file that errorfs returns does not call the injector,
// and Pebble's logs are reused files after a while.
func (d *Disk) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(oldname, newname, category)
	if err != nil {
		return nil, err
	}
	return errorfs.WrapFile(f, errorfs.InjectorFunc(func(op errorfs.Op) error {
		op.Path = newname
		return d.ask(op)
	})), nil
}

// Before sets fn, which is called before each operation, by the operation's goroutine; an error
// of fn fails the operation. With a nil fn all operations succeed. Before resets Count.
func (d *Disk) Before(fn func(Op) error) {
	for kind := range d.counts {
		d.counts[kind].Store(0)
	}
	if fn == nil {
		d.before.Store(nil)
		return
	}
	d.before.Store(&fn)
}

// FailOnce makes the first matching operation fail. The counter that it returns counts matches.
func (d *Disk) FailOnce(match func(Op) bool, err error) (matched *atomic.Int64) {
	matched = new(atomic.Int64)
	d.Before(func(op Op) error {
		if match(op) && matched.Add(1) == 1 {
			return err
		}
		return nil
	})
	return matched
}

// FailAlways makes every matching operation fail. The counter that it returns counts matches.
func (d *Disk) FailAlways(match func(Op) bool, err error) (matched *atomic.Int64) {
	matched = new(atomic.Int64)
	d.Before(func(op Op) error {
		if match(op) {
			matched.Add(1)
			return err
		}
		return nil
	})
	return matched
}

// Hold blocks matching operations until release is called, once. Another Hold replaces it for
// operations that begin later. match is called by one goroutine at a time.
func (d *Disk) Hold(match func(Op) bool) (release func()) {
	h := &hold{match: match, over: make(chan struct{})}
	d.holding.Store(h)
	select {
	case <-d.held: // of the Hold before
	default:
	}
	return func() {
		d.holding.CompareAndSwap(h, nil)
		close(h.over)
	}
}

// Held returns a channel that receives a token once the current Hold blocks an operation.
func (d *Disk) Held() <-chan struct{} { return d.held }

// Changes returns the number of operations that have changed files, or tried to.
func (d *Disk) Changes() int { return int(d.changes.Load()) }

// Count returns the number of operations of a kind since the last call of Before or of a method
// that calls it.
func (d *Disk) Count(kind errorfs.OpKind) int { return int(d.counts[kind].Load()) }

// Failed returns the first operation that was made to fail.
func (d *Disk) Failed() (op Op, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed == nil {
		return op, false
	}
	return *d.failed, true
}

// PowerCut returns the disk after a power cut: with everything that was synced, and nothing
// else. The disk must be in memory.
func (d *Disk) PowerCut() *Disk { return On(d.Mem.CrashClone(vfs.CrashCloneCfg{})) }

// Package testdisk is a disk for tests: each of its operations can be watched, held
// up, or made to fail, and what a power cut would leave of it can be taken at any
// moment.
//
// It knows Pebble's file systems and nothing of braid, so that the tests of every
// package can stand on it. Nothing that ships does.
package testdisk

import (
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// Disk is a file system that asks before each operation. It may be used by any
// number of goroutines.
type Disk struct {
	vfs.FS

	// Mem is where the files are, whose operations nobody hears of; nil for a disk
	// over another file system.
	Mem *vfs.MemFS

	changes atomic.Int64
	counts  [errorfs.OpFileFlush + 1]atomic.Int64 // by kind, since the last Before
	before  atomic.Pointer[func(Op) error]
	holding atomic.Pointer[hold]
	held    chan struct{} // has a token once an operation is held

	mu     sync.Mutex // guards the field below
	failed *Op        // the first operation that was made to fail
}

// hold is what makes operations wait.
type hold struct {
	over chan struct{} // closed when they go on

	mu    sync.Mutex // held while match is called
	match func(Op) bool
}

func (h *hold) matches(op Op) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.match(op)
}

// New returns an empty disk in memory, which forgets in a power cut what was not
// synced.
func New() *Disk { return On(vfs.NewCrashableMem()) }

// On returns a disk with the files of mem, in which operations succeed.
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

// ReuseForWrite is part of vfs.FS. The file that errorfs returns is one whose
// operations it asks nobody about, and Pebble's logs are such files after a while.
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

// Before has fn called before each operation from now on, by the goroutine that it
// is of; the operation fails with the error that fn returns. nil ends it, and all
// operations succeed. Count begins anew.
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

// FailOnce makes the first operation that matches fail, and FailAlways each one. They
// return how many have matched.
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

// FailAlways is described at FailOnce.
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

// Hold makes the operations that match wait until release is called, which is to be
// done once. Another Hold takes its place for operations that begin later. match is
// called by one goroutine at a time.
func (d *Disk) Hold(match func(Op) bool) (release func()) {
	h := &hold{match: match, over: make(chan struct{})}
	d.holding.Store(h)
	select {
	case <-d.held: // of the one before
	default:
	}
	return func() {
		d.holding.CompareAndSwap(h, nil)
		close(h.over)
	}
}

// Held returns a channel that has a token once an operation waits since the last Hold.
func (d *Disk) Held() <-chan struct{} { return d.held }

// Changes returns how many operations have changed files, or tried to.
func (d *Disk) Changes() int { return int(d.changes.Load()) }

// Count returns how many operations of a kind were asked for since the last call of
// Before, or of what calls it.
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

// PowerCut returns a disk as this one in memory would be after a power cut: with what
// was synced, and nothing else.
func (d *Disk) PowerCut() *Disk { return On(d.Mem.CrashClone(vfs.CrashCloneCfg{})) }

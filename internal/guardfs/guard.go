// Package guardfs stands between Pebble and the file system, and decides what
// Pebble learns of its errors. Pebble is written for a server that would rather
// die than go on after a failed write; this package makes it safe to have in
// somebody else's process.
//
// It knows the names of Pebble's files and which of them decide about
// durability. It does not know what is in them, nor anything about streams.
// internal/kv is its only caller.
//
// Three rules, for the files below the guarded directory:
//
//   - A critical file is a write-ahead log, a manifest, a marker, or a
//     directory. The first error of an operation that changes one latches the
//     guard failed, and Pebble never hears of it: the goroutine that met the
//     error is parked for ever, and so is every later one that wants to change
//     any file. Nothing is retried. After one failed sync the kernel may report
//     success for data that it has dropped.
//   - An operation that finds no space, no descriptor or no memory waits, and
//     goes on when there is some. Pebble sees a slow disk. Only a sync that finds
//     no space is an error.
//   - Other errors on other files go to Pebble, which retries with a new file.
//     It does so at once, so the guard slows it down; and if nothing but errors
//     comes, the guard fails.
//
// Reading goes on whatever happens to writing, and its errors fail nothing; they
// are only slowed down. Files outside of the guarded directory, such as those of a
// backup, are passed through.
package guardfs

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/braidstream/braid/internal/histogram"
	"github.com/braidstream/braid/internal/wake"
)

// ErrUnknown is the cause of a failure that was reported without one.
var ErrUnknown = errors.New("unknown cause")

// Config says what a guard watches over.
type Config struct {
	// Dir is the guarded directory. The files in and below it are guarded.
	Dir string

	// ReserveBytes is the free space below which the disk counts as low. Zero or
	// less turns this off.
	ReserveBytes int64

	// OnSpace is told about every change of the space there is. Calls never
	// overlap and come without a lock held, but from inside file operations: it
	// must not block. It may be nil.
	OnSpace func(Space)
}

// FS is a guarded file system. Make one with New for each database that is
// opened, and Close it when the database is closed.
type FS struct {
	real vfs.FS
	cfg  Config

	failed   chan struct{} // closed when the guard fails
	broken   chan struct{} // closed when operations that change a file are parked
	parks    atomic.Bool   // the same, cheap to ask
	inFlight atomic.Int64  // operations that change files, now inside the real file system
	idle     wake.Bell     // rings when inFlight comes to zero after Abandon
	space    atomic.Int32  // the Space last told
	free     atomic.Uint64 // bytes, when last asked for the reserve
	lastLog  atomic.Int64  // bytes in the log that was closed last
	syncTime atomic.Int64  // how long the last sync of a log took
	syncs    histogram.Recorder
	stop     chan struct{} // closed by Close: ends the watcher
	durable  *durable      // set by Track; nil if no account is kept

	mu       sync.Mutex // guards the fields below
	cause    error      // why the guard failed
	waiting  int        // operations that wait for space
	lack     error      // what one of them, or a starved sync, was last refused with
	starved  bool       // the last sync of a table found no space
	low      bool       // free space is below the reserve
	telling  bool       // a goroutine is in tell
	stopped  bool
	failures int            // errors on other files since the last success
	failing  time.Time      // when the first of them came
	watcher  sync.WaitGroup // the goroutine that waits for the reserve
}

var _ vfs.FS = (*FS)(nil)

// New returns a guard over the file system real.
func New(real vfs.FS, cfg Config) *FS {
	if cfg.OnSpace == nil {
		cfg.OnSpace = func(Space) {}
	}
	return &FS{
		real:   real,
		cfg:    cfg,
		failed: make(chan struct{}),
		broken: make(chan struct{}),
		idle:   wake.NewBell(),
		stop:   make(chan struct{}),
	}
}

// Failed returns a channel that is closed when the guard fails. It never
// recovers.
func (g *FS) Failed() <-chan struct{} { return g.failed }

// Broken returns a channel that is closed, after that of Failed, once every operation
// that changes a file is parked: from then on Pebble can no longer be closed.
func (g *FS) Broken() <-chan struct{} { return g.broken }

// Err returns the first cause of the failure, or nil.
func (g *FS) Err() error {
	select {
	case <-g.failed:
	default:
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cause
}

// SyncTime returns how long the last sync of a log took, 0 if there was none.
func (g *FS) SyncTime() time.Duration { return time.Duration(g.syncTime.Load()) }

// SyncTimes returns how long the syncs of logs took that have succeeded.
func (g *FS) SyncTimes() *histogram.Recorder { return &g.syncs }

// Fail makes the guard fail for a reason that it cannot see itself, and that does
// not concern the files: those who change them go on, so that Pebble can be
// closed. Only the first cause is kept.
func (g *FS) Fail(cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failLocked(cause)
}

func (g *FS) failLocked(cause error) {
	if g.cause != nil {
		return
	}
	if cause == nil {
		cause = ErrUnknown
	}
	g.cause = cause
	close(g.failed)
}

// Abandon makes the guard fail, and parks every operation that changes a file from now
// on, or waits to do so.
func (g *FS) Abandon(cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failLocked(cause)
	if !g.parks.Load() {
		g.parks.Store(true)
		close(g.broken)
	}
}

// Park abandons the files and never returns.
func (g *FS) Park(cause error) {
	g.Abandon(cause)
	park()
}

// park holds the calling goroutine, with whatever locks of Pebble it has, until
// the process ends.
func park() { select {} }

// Quiesce waits until no operation is changing a file, after Abandon: parked ones
// do not count. It reports whether that came true in time; a negative timeout is
// none. From then on the files may be given to another guard.
func (g *FS) Quiesce(timeout time.Duration) bool {
	var late <-chan time.Time
	if timeout >= 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		late = timer.C
	}
	for g.inFlight.Load() != 0 {
		select {
		case <-g.idle.C():
		case <-late:
			return g.inFlight.Load() == 0
		}
	}
	return true
}

// Close ends what the guard does by itself, and waits for it. Files stay usable.
func (g *FS) Close() {
	g.mu.Lock()
	if !g.stopped {
		g.stopped = true
		close(g.stop)
	}
	g.mu.Unlock()
	g.watcher.Wait()
}

// enter admits an operation that changes a file. It does not return after Abandon.
//
// Invariant: an operation counts as in flight before it looks whether the files
// are abandoned. So once Quiesce has seen none, none can begin.
func (g *FS) enter() {
	g.inFlight.Add(1)
	if g.parks.Load() {
		g.leave()
		park()
	}
}

func (g *FS) leave() {
	if g.inFlight.Add(-1) == 0 && g.parks.Load() {
		g.idle.Ring()
	}
}

// Package guardfs stands between Pebble and the file system, and decides which errors Pebble
// sees. Pebble is written for a server that would rather exit than continue after a failed write.
// This package makes it safe inside another program's process.
//
// It knows the names of Pebble's files, and on which of them durability depends. It knows neither
// their contents nor streams. internal/kv is its only caller.
//
// Three rules hold for the files below the guarded directory:
//
//   - A critical file is a write-ahead log, a manifest, a marker, or a directory. The first error
//     of an operation that changes one makes the guard fail for good, and Pebble never sees the
//     error: the goroutine that met it is parked forever, and so is every later one that wants
//     to change any file. Nothing is retried. After a failed sync, the kernel may report success
//     for data that it has dropped.
//   - An operation that lacks space, a file descriptor or memory waits, and continues when they
//     are available. To Pebble the disk is slow. Only a sync that lacks space returns an error.
//   - Other errors on other files go to Pebble, which retries with a new file. It retries at
//     once, so the guard slows it down. If errors come without a success for too long, the guard
//     fails.
//
// Reads continue whatever happens to writes. Their errors never fail the guard; they are only
// slowed down. Files outside the guarded directory, such as those of a backup, are passed
// through.
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

// ErrUnknown is the cause of a failure without a known cause.
var ErrUnknown = errors.New("unknown cause")

// Config configures a guard.
type Config struct {
	// Dir is the guarded directory. The files in and below it are guarded.
	Dir string

	// ReserveBytes is the free space below which the disk counts as low. Zero or
	// less turns this off.
	ReserveBytes int64

	// OnSpace, if not nil, is called with every change of the state of space. Calls do not
	// overlap, and no lock is held. They come during file operations, so OnSpace must not
	// block.
	OnSpace func(Space)
}

// FS is a guarded file system. Make one with New for each open database, and Close it with the
// database.
type FS struct {
	real vfs.FS
	cfg  Config

	failed   chan struct{} // closed when the guard fails
	broken   chan struct{} // closed when operations that change a file are parked
	parks    atomic.Bool   // whether broken is closed, cheap to read
	inFlight atomic.Int64  // operations that change files, now in the real file system
	idle     wake.Bell     // rings when inFlight falls to zero after Abandon
	space    atomic.Int32  // the Space last passed to OnSpace
	free     atomic.Uint64 // free bytes at the last check of the reserve
	lastLog  atomic.Int64  // size of the log that was closed last
	syncTime atomic.Int64  // how long the last sync of a log took
	syncs    histogram.Recorder
	stop     chan struct{} // closed by Close, which ends the watcher
	durable  *durable      // set by Track; nil if no account is kept

	mu       sync.Mutex // guards the fields below
	cause    error      // why the guard failed
	waiting  int        // operations that wait for space
	lack     error      // the last error of one of them, or of a sync without space
	starved  bool       // whether the last sync of a table found no space
	low      bool       // whether free space is below the reserve
	telling  bool       // whether a goroutine is calling OnSpace
	stopped  bool
	failures int            // errors on other files since the last success
	failing  time.Time      // when the first of them occurred
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

// Failed returns a channel that is closed when the guard fails. A failed guard never recovers.
func (g *FS) Failed() <-chan struct{} { return g.failed }

// Broken returns a channel that is closed, after that of Failed, when operations that change a
// file are parked from then on. Pebble can then no longer be closed.
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

// SyncTimes returns the durations of successful syncs of logs.
func (g *FS) SyncTimes() *histogram.Recorder { return &g.syncs }

// Fail makes the guard fail for a reason outside the files. Operations that change files are not
// parked, so that Pebble can be closed. Only the first cause is kept.
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

// Abandon makes the guard fail, and parks every operation that wants to change a file from now on,
// including those that wait for space.
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

// park blocks the calling goroutine, with all locks of Pebble that it holds, until the process
// ends.
func park() { select {} }

// Quiesce is called after Abandon. It waits until no operation is changing a file; parked ones do
// not count. It returns false if that takes longer than the timeout; a negative timeout means no
// limit. After true, another guard may use the files.
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

// Close ends the guard's own goroutine, and waits for it. Files stay usable.
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
// Invariant: an operation counts as in flight before it checks whether the files are abandoned. So
// once Quiesce has seen none in flight, none can begin.
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

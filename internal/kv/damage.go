package kv

import (
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/braidstream/braid/internal/guardfs"
)

const (
	// Pebble retries at once after it met damage. The pause before each retry doubles.
	minDamagePause = 10 * time.Millisecond
	maxDamagePause = time.Minute

	// maxDamagedTables is how many damaged tables get pauses of their own. The others share
	// one.
	maxDamagedTables = 1000
)

// damage tracks the damaged tables of a store, and keeps Pebble from spinning on them.
//
// Damage makes no write unsafe: the log and the manifest are whole, and Pebble never writes a
// table from one whose checksums do not match. So a reader that meets damage gets an error, and
// nothing else happens. Two of Pebble's background jobs meet damage as well: a compaction,
// which fails and leaves its tables as they were, and the collection of statistics. Pebble
// repeats both until they succeed, which they cannot before the damaged table is excised.
type damage struct {
	reporter *reporter
	guard    *guardfs.FS
	stop     chan struct{} // closed by endPauses

	mu       sync.Mutex               // guards the fields below
	stopped  bool                     // stop is closed
	pauses   map[string]time.Duration // the next pause, by table; "" is for statistics
	compacts bool                     // a compaction has met damage
	stalled  bool                     // writes wait until level 0 is compacted
}

func newDamage(r *reporter, guard *guardfs.FS) *damage {
	return &damage{reporter: r, guard: guard, stop: make(chan struct{}), pauses: make(map[string]time.Duration)}
}

// found handles Pebble's DataCorruption event. The goroutine that met the damage calls it,
// without a lock.
func (d *damage) found(info pebble.DataCorruptionInfo) {
	if d.firstOf(info.Path) {
		d.reporter.report(slog.LevelError, "a table is damaged: some of its records cannot be read", "table", info.Path, "error", info.Details)
	}
	if own := pebbleGoroutine(); own == "" || own == statistics {
		return // a reader, which gets the error; or a job whose error reaches background as well
	}
	d.stopCompaction()
	d.pause(info.Path)
}

// stopCompaction notes that damage has stopped a compaction.
func (d *damage) stopCompaction() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.compacts = true
	d.failIfStalledLocked()
}

// background handles errors of Pebble's background jobs. Compactions and flushes call it with
// Pebble's locks held, statistics without.
func (d *damage) background() {
	if pebbleGoroutine() == statistics {
		d.pause("")
	}
}

// setStalled notes whether commits wait for a compaction of level 0. If damage prevents that
// compaction, they would wait forever, so the store fails. This takes a thousand flushes into
// the range of the damaged table. Tables of records never get there, since they do not overlap.
func (d *damage) setStalled(stalled bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stalled = stalled
	d.failIfStalledLocked()
}

func (d *damage) failIfStalledLocked() {
	if d.stalled && d.compacts {
		d.guard.Abandon(fmt.Errorf("%w: damaged tables keep level 0 from being compacted, and it has grown to its limit", ErrCorrupt))
	}
}

// stopsCompactions reports whether a compaction has met damage, and so may be
// waiting in vain while others have work.
func (d *damage) stopsCompactions() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.compacts
}

// firstOf reports whether this is the first report about the table.
func (d *damage) firstOf(table string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.pauses[table]; known || len(d.pauses) >= maxDamagedTables {
		return false
	}
	d.pauses[table] = minDamagePause
	return true
}

// pause holds the calling goroutine of Pebble for a while, longer each time, or
// until the store is to be closed.
func (d *damage) pause(table string) {
	d.mu.Lock()
	pause, known := d.pauses[table]
	if !known {
		pause = minDamagePause
	}
	if known || len(d.pauses) < maxDamagedTables {
		d.pauses[table] = min(2*pause, maxDamagePause)
	} else {
		pause = maxDamagePause
	}
	d.mu.Unlock()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-d.stop:
	}
}

// endPauses ends all pauses, those to come as well.
func (d *damage) endPauses() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.stopped {
		d.stopped = true
		close(d.stop)
	}
}

// statistics is the function with which Pebble collects the statistics of its tables.
const statistics = "github.com/cockroachdb/pebble/v2.(*DB).collectTableStats"

// pebbleGoroutine returns the function with which the calling goroutine began, if Pebble has
// started it, and else "". Nothing else distinguishes a reader from Pebble itself.
// TestUnreadableTableKeepsNobodyBusy holds the name.
func pebbleGoroutine() string {
	var pcs [128]uintptr
	n := runtime.Callers(0, pcs[:])
	frames := runtime.CallersFrames(pcs[:n])
	var outermost string
	for more := n > 0; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		if frame.Function != "runtime.goexit" && frame.Function != "" {
			outermost = frame.Function
		}
	}
	if !strings.HasPrefix(outermost, "github.com/cockroachdb/pebble/v2.") {
		return ""
	}
	return outermost
}

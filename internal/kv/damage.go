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
	// Pebble tries again at once what damage made impossible. The pause before
	// it may doubles each time.
	minDamagePause = 10 * time.Millisecond
	maxDamagePause = time.Minute

	// maxDamagedTables bounds how many tables damage remembers. The others share
	// the last pause.
	maxDamagedTables = 1000
)

// damage keeps account of the damaged tables of a store, and keeps Pebble from
// spinning on them.
//
// Damage makes no write unsafe: the log and the manifest are whole, and Pebble
// never writes a table from one whose checksums do not match. So a reader that
// meets it is told and nothing else happens. Two of Pebble's goroutines meet it
// without a caller: a compaction, which fails and leaves its tables as they were,
// and the collection of statistics. Both are repeated until they succeed, which
// they cannot before the damaged table is excised.
type damage struct {
	reporter *reporter
	guard    *guardfs.FS
	stop     chan struct{} // closed by endPauses

	mu       sync.Mutex               // guards the fields below
	stopped  bool                     // stop is closed
	pauses   map[string]time.Duration // the next of each table, and of "" for statistics
	compacts bool                     // a compaction has met damage
	stalled  bool                     // writes wait until level 0 is compacted
}

func newDamage(r *reporter, guard *guardfs.FS) *damage {
	return &damage{reporter: r, guard: guard, stop: make(chan struct{}), pauses: make(map[string]time.Duration)}
}

// found is Pebble's DataCorruption event. The goroutine that met the damage calls it,
// without a lock.
func (d *damage) found(info pebble.DataCorruptionInfo) {
	if d.firstOf(info.Path) {
		d.reporter.report(slog.LevelError, "a table is damaged: some of its records cannot be read", "table", info.Path, "error", info.Details)
	}
	if own := pebbleGoroutine(); own == "" || own == statistics {
		return // a reader, who is told; or its error comes to background as well
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

// background is told of errors of Pebble's goroutines. Those of compactions and
// flushes come with Pebble's locks held, those of statistics without.
func (d *damage) background() {
	if pebbleGoroutine() == statistics {
		d.pause("")
	}
}

// setStalled notes whether commits wait until level 0 is compacted. If that
// cannot be, because of damage, they would wait forever: the store fails. It takes
// a thousand flushes into the range of the damaged table, and records, which no
// other table overlaps, never come to that.
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

// firstOf reports whether nothing was heard of the table before.
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

// endPauses lets everyone go on who is in a pause, or comes to one.
func (d *damage) endPauses() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.stopped {
		d.stopped = true
		close(d.stop)
	}
}

// statistics is the function in which Pebble collects those of its tables.
const statistics = "github.com/cockroachdb/pebble/v2.(*DB).collectTableStats"

// pebbleGoroutine returns the function with which the calling goroutine began, if
// Pebble has started it, and else "". It is the only way to tell a reader from
// Pebble itself. TestUnreadableTableKeepsNobodyBusy holds the name.
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

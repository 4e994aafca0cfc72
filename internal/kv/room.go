package kv

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// firstMemTableBytes is the size of the memtable that an open begins with. Each later one
	// is at least as large as the one before, up to Config.MemTableBytes.
	firstMemTableBytes = 256 << 10

	// emptyMemTableBytes is more than what a memtable takes for itself.
	emptyMemTableBytes = 4 << 10

	// A change takes so much of a memtable beside its key and value: a node of a skip list, and
	// of that list as many levels as are drawn, of which each further one is e times as rare.
	nodeBytes, levelBytes, maxLevels = 27, 8, 20

	// reservedBytes is what Pebble reserves for a node before it draws.
	reservedBytes = nodeBytes + levelBytes*maxLevels + 8

	// Beside keys and values a batch has a header, and of each change its kind and one or two
	// lengths.
	batchHeaderBytes, leastChangeBytes, mostChangeBytes = 12, 1 + 1, 1 + 5 + 5
)

// room knows which commits without sync wait for nothing.
//
// Such a batch goes to memory alone: to the memtable, and to blocks of the log that a
// goroutine of Pebble's writes to the file, which may pile up as long as the memtable has
// room. The commit waits only if it has none, because Pebble then replaces the log and the
// memtable first; or if another call has the locks of Pebble's commits, or comes before it
// in their order, and waits for the disk. So room counts what the memtable holds, and keeps
// such calls and commits that must not wait apart.
//
// Pebble tells neither the size of a memtable nor what is free in it, so both are bounded
// here. If a new version of Pebble breaks a bound, TestTryCommitReplacesNoMemTable goes red.
type room struct {
	// turn is held for writing by a commit that must not wait, which only tries to get it, and
	// for reading by calls that may. Sync holds it for reading as well, but not while it waits
	// for the disk, which it does outside of Pebble's locks.
	turn sync.RWMutex

	rotations atomic.Int64 // how often Pebble has begun a log, and with it a memtable
	limit     int64        // Config.MemTableBytes; not changed after init

	mu    sync.Mutex // guards the fields below
	seen  int64      // the rotations that they know of
	size  int64      // of the current memtable, at least
	nodes int64      // in it, at most
	most  int64      // bytes of their keys and values, at most
	least int64      // bytes that they take in all, at least
}

// init notes that Pebble was opened. Its memtable is empty: what the log held is in tables.
func (r *room) init(memTableBytes int64) {
	r.limit, r.size = memTableBytes, min(memTableBytes, firstMemTableBytes)
	r.seen = r.rotations.Load()
}

// followLocked takes note of memtables that were begun. Each is as large as the one before,
// and twice as large, up to the limit, if that was full. One that another call has ended
// counts as full if it was so by half.
func (r *room) followLocked() {
	for n := r.rotations.Load(); r.seen < n; r.seen++ {
		if r.least > r.size/2 {
			r.size = min(2*r.size, r.limit)
		}
		r.nodes, r.most, r.least = 0, 0, 0
	}
}

// fits reports whether the current memtable has room for the batch.
func (r *room) fits(batch *pebble.Batch) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.followLocked()
	wanted := reserved(batch)
	taken := r.most + r.nodes*nodeBytes + mostLevels(r.nodes)*levelBytes
	return r.isOrdinary(wanted) && taken+wanted <= r.size-emptyMemTableBytes
}

// take counts a batch that was committed after so many rotations.
func (r *room) take(batch *pebble.Batch, rotations int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.followLocked()
	size, changes := int64(batch.Len())-batchHeaderBytes, int64(batch.Count())
	r.nodes += changes
	r.most += size - changes*leastChangeBytes
	if r.seen == rotations && r.isOrdinary(reserved(batch)) { // else it may be in the memtable before, or in none
		r.least += size - changes*(mostChangeBytes-nodeBytes-levelBytes)
	}
}

// isOrdinary reports whether a batch for which Pebble reserves so much goes to the memtable.
// It makes one of the batch if that has half the size of one.
func (r *room) isOrdinary(reserved int64) bool { return reserved < r.limit/2-emptyMemTableBytes }

// reserved returns what Pebble reserves for a batch, at most.
func reserved(batch *pebble.Batch) int64 {
	return int64(batch.Len()) + int64(batch.Count())*reservedBytes
}

// mostLevels returns how many levels so many nodes have. There are more with a probability of
// less than e^-50: by Chernoff's bound, as a node has 1/(1-1/e) of them on average, and more than
// n with a probability of e^-n.
func mostLevels(nodes int64) int64 {
	n := float64(nodes)
	return int64(1.582*n + 10*math.Sqrt(n) + 60)
}

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

	// emptyMemTableBytes is more than an empty memtable takes.
	emptyMemTableBytes = 4 << 10

	// The overhead of a change in a memtable: a node of a skip list, with a random number of
	// levels, each e times as rare as the one before.
	nodeBytes, levelBytes, maxLevels = 27, 8, 20

	// reservedBytes is the space that Pebble reserves for a node before it draws its levels.
	reservedBytes = nodeBytes + levelBytes*maxLevels + 8

	// Besides keys and values, a batch has a header, and for each change a kind and one or two
	// lengths.
	batchHeaderBytes, leastChangeBytes, mostChangeBytes = 12, 1 + 1, 1 + 5 + 5
)

// room knows which commits without sync do not wait.
//
// The batch of such a commit goes only to memory: to the memtable, and to blocks of the log
// that a goroutine of Pebble writes to the file, and that may pile up while the memtable has
// room. The commit waits only in two cases: the memtable is full, because Pebble then replaces
// the log and the memtable first; or another call holds the locks of Pebble's commits, or
// precedes it in their order, and waits for the disk. So room tracks the size of the memtable,
// and keeps such calls away from commits that must not wait.
//
// Pebble reports neither the size of a memtable nor its free space, so room computes bounds of
// both. If a new version of Pebble breaks a bound, TestTryCommitReplacesNoMemTable fails.
type room struct {
	// turn is held for writing by a commit that must not wait, which only tries to get it, and
	// for reading by calls that may wait. Sync also holds it for reading, but not while it waits
	// for the disk, which it does outside Pebble's locks.
	turn sync.RWMutex

	rotations atomic.Int64 // how often Pebble has begun a log, and with it a memtable
	limit     int64        // Config.MemTableBytes; not changed after init

	mu    sync.Mutex // guards the fields below
	seen  int64      // the rotations that the fields below include
	size  int64      // the lower bound of the current memtable's size
	nodes int64      // the upper bound of its number of nodes
	most  int64      // the upper bound of the bytes of keys and values
	least int64      // the lower bound of the bytes taken
}

// init starts with the empty memtable of a Pebble that was just opened: the rows of the log are
// in tables.
func (r *room) init(memTableBytes int64) {
	r.limit, r.size = memTableBytes, min(memTableBytes, firstMemTableBytes)
	r.seen = r.rotations.Load()
}

// followLocked updates the fields for new memtables. Each has the size of the one before, or
// twice that, up to the limit, if that one was full. A memtable that another call ended counts
// as full if it was at least half full.
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

// take counts a batch that was committed after that number of rotations.
func (r *room) take(batch *pebble.Batch, rotations int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.followLocked()
	size, changes := int64(batch.Len())-batchHeaderBytes, int64(batch.Count())
	r.nodes += changes
	r.most += size - changes*leastChangeBytes
	if r.seen == rotations && r.isOrdinary(reserved(batch)) { // else it may be in the old memtable, or in none
		r.least += size - changes*(mostChangeBytes-nodeBytes-levelBytes)
	}
}

// isOrdinary reports whether a batch with that reservation goes to the memtable. Pebble turns a
// batch of at least half a memtable's size into a memtable of its own.
func (r *room) isOrdinary(reserved int64) bool { return reserved < r.limit/2-emptyMemTableBytes }

// reserved returns the upper bound of Pebble's reservation for a batch.
func reserved(batch *pebble.Batch) int64 {
	return int64(batch.Len()) + int64(batch.Count())*reservedBytes
}

// mostLevels returns the upper bound of the levels of that many nodes. The probability of more
// is less than e^-50, by Chernoff's bound: a node has 1/(1-1/e) levels on average, and more
// than n with a probability of e^-n.
func mostLevels(nodes int64) int64 {
	n := float64(nodes)
	return int64(1.582*n + 10*math.Sqrt(n) + 60)
}

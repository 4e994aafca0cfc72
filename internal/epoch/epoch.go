// Package epoch is the map of the log: which epochs of arrival there are, and in
// which of them a shard has records.
//
// An epoch is about one memtable of arrivals. Its records share the front of
// their keys, so they fill tables of their own that no later record overlaps:
// nothing is ever rewritten, and an epoch whose records are all dead is dropped
// in one step. A shard's records are its extents of consecutive epochs; a shard
// without records in an epoch has no extent of it, so a quiet shard costs no
// seeks in a long log.
//
// The package is plain data in memory: it knows neither the store nor locks. The
// root package keeps it beside the rows of the same content.
package epoch

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/braidstream/braid/internal/layout"
)

// MaxAge is how long an epoch stays open when little arrives, so that retention
// of a quiet log works in steps of about an hour.
const MaxAge = time.Hour

// Index knows the epochs of a database. The committer owns it.
//
// Invariant: epochs are in order, and the last one is open: new records go there.
type Index struct {
	epochs []state
	limit  int // bytes after which an epoch ends
	bytes  int // bytes in the open epoch
}

type state struct {
	id           uint32
	firstCounter uint64
	extents      int    // how many shards have records in it
	held         uint64 // partition keys and data of those extents, whole
}

// NewIndex returns an index without epochs, whose epochs end after limit bytes.
func NewIndex(limit int) *Index { return &Index{limit: limit} }

// Restore adds an epoch read from the store. Epochs are restored in order.
func (x *Index) Restore(id uint32, firstCounter uint64) {
	x.epochs = append(x.epochs, state{id: id, firstCounter: firstCounter})
}

// Len returns the number of epochs.
func (x *Index) Len() int { return len(x.epochs) }

// Open returns the epoch that new records go to. There must be one.
func (x *Index) Open() uint32 { return x.epochs[len(x.epochs)-1].id }

// Has reports whether the epoch exists.
func (x *Index) Has(id uint32) bool { return x.find(id) >= 0 }

// LastCounter returns a counter that no record of the epoch exceeds; the epoch
// must have ended.
func (x *Index) LastCounter(id uint32) uint64 {
	i := x.find(id)
	if i < 0 || i+1 == len(x.epochs) {
		return math.MaxUint64
	}
	return x.epochs[i+1].firstCounter - 1
}

// Full reports whether the next group has to begin a new epoch: there is none,
// or the open one is large or old and holds something.
func (x *Index) Full(now uint64) bool {
	if len(x.epochs) == 0 {
		return true
	}
	open := x.epochs[len(x.epochs)-1]
	old := now > open.firstCounter && now-open.firstCounter > uint64(MaxAge)
	return x.bytes >= x.limit || (old && x.bytes > 0)
}

// Begin ends the open epoch and begins a new one, whose records have
// firstCounter or more. It returns its number.
func (x *Index) Begin(firstCounter uint64) uint32 {
	var id uint32 = 1
	if n := len(x.epochs); n > 0 {
		id = x.epochs[n-1].id + 1
	}
	x.epochs = append(x.epochs, state{id: id, firstCounter: firstCounter})
	x.bytes = 0
	return id
}

// Grow notes that bytes were added to the open epoch.
func (x *Index) Grow(bytes int) { x.bytes += bytes }

// reopenShare is the part of an epoch up to which one takes more records that was open
// when its database was closed.
const reopenShare = 64

// Reopen notes that the open epoch, if there is one, has tables from before, with which
// those of its next records would overlap. So it is to stay small; one that is not takes
// no more records, and many opens that bring little do not make many epochs.
func (x *Index) Reopen() { x.bytes += x.limit - x.limit/reopenShare }

// Retire makes the open epoch, if there is one, take no more records.
func (x *Index) Retire() { x.bytes = max(x.bytes, x.limit) }

// AddExtent notes that one more shard has records in the epoch.
func (x *Index) AddExtent(id uint32) {
	if i := x.find(id); i >= 0 {
		x.epochs[i].extents++
	}
}

// DropExtents notes that n fewer shards have records in the epoch. Their extents held
// that many bytes.
func (x *Index) DropExtents(id uint32, n int, bytes uint64) {
	if i := x.find(id); i >= 0 {
		x.epochs[i].extents -= n
		x.epochs[i].held -= bytes
	}
}

// Hold notes that bytes of partition keys and data were put to an extent of the epoch.
func (x *Index) Hold(id uint32, bytes uint64) {
	i := len(x.epochs) - 1 // almost always
	if x.epochs[i].id != id {
		i = x.find(id)
	}
	x.epochs[i].held += bytes
}

// Held returns in how many shards the epoch has records, and the bytes of their
// partition keys and data; ended is false for the one that records still go to, and
// for one that does not exist.
func (x *Index) Held(id uint32) (extents int, bytes uint64, ended bool) {
	i := x.find(id)
	if i < 0 || i+1 == len(x.epochs) {
		return 0, 0, false
	}
	return x.epochs[i].extents, x.epochs[i].held, true
}

// IDs returns the epochs that there are.
func (x *Index) IDs() []uint32 {
	ids := make([]uint32, len(x.epochs))
	for i := range x.epochs {
		ids[i] = x.epochs[i].id
	}
	return ids
}

// Remove forgets an epoch.
func (x *Index) Remove(id uint32) {
	switch i := x.find(id); {
	case i == 0: // the usual one: without moving the others
		x.epochs = x.epochs[1:]
	case i > 0:
		x.epochs = slices.Delete(x.epochs, i, i+1)
	}
}

func (x *Index) find(id uint32) int {
	i, found := slices.BinarySearchFunc(x.epochs, id, func(e state, id uint32) int {
		return cmp.Compare(e.id, id)
	})
	if !found {
		return -1
	}
	return i
}

// Extent is where a shard's records in one epoch begin.
type Extent struct {
	Epoch uint32
	layout.ExtentRow
}

// Extents are those of one shard, in order. They are only added at the end and
// removed at the front, so a copy of the header is a view that stays valid.
type Extents []Extent

// From returns the extents that can hold records with that counter or more.
func (s Extents) From(counter uint64) Extents {
	i := sort.Search(len(s), func(i int) bool { return s[i].FirstCounter > counter })
	return s[max(0, i-1):]
}

// SplitAt divides the extents at an ordinal: those whose records all come before
// it, and the rest. end is the ordinal after the shard's last record.
func (s Extents) SplitAt(ordinal, end uint64) (before, rest Extents) {
	n := 0
	for n < len(s) {
		next := end
		if n+1 < len(s) {
			next = s[n+1].FirstOrdinal
		}
		if next > ordinal {
			break
		}
		n++
	}
	return s[:n], s[n:]
}

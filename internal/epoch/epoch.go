// Package epoch is the map of the log: it knows the epochs, and in which of them a shard has
// records.
//
// An epoch is about one memtable of arrivals. Its records share a prefix of their keys, so they
// fill tables of their own that no later record overlaps. So nothing is rewritten, and an epoch
// whose records are all dead is dropped in one step. A shard's records lie in its extents, one
// per epoch. A shard without records in an epoch has no extent there, so a quiet shard costs no
// seeks in a long log.
//
// The package is plain data in memory: it knows neither the store nor locks. The root package
// stores the same data in rows.
package epoch

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/braidstream/braid/internal/layout"
)

// MaxAge is how long an epoch stays open when little arrives. So the retention of a quiet log
// works in steps of about an hour.
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
	held         uint64 // bytes of partition keys and data of those extents, including trimmed ones
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

// LastCounter returns an upper bound of the counters in the epoch, which must have ended.
func (x *Index) LastCounter(id uint32) uint64 {
	i := x.find(id)
	if i < 0 || i+1 == len(x.epochs) {
		return math.MaxUint64
	}
	return x.epochs[i+1].firstCounter - 1
}

// Full reports whether the next group must begin a new epoch: there is none, or the open one is
// not empty and is large or old.
func (x *Index) Full(now uint64) bool {
	if len(x.epochs) == 0 {
		return true
	}
	open := x.epochs[len(x.epochs)-1]
	old := now > open.firstCounter && now-open.firstCounter > uint64(MaxAge)
	return x.bytes >= x.limit || (old && x.bytes > 0)
}

// Begin ends the open epoch and begins a new one, whose counters begin at firstCounter. It
// returns the id of the new epoch.
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

// reopenShare bounds the size of an epoch that was open when its database was closed: it accepts
// up to 1/reopenShare of a full epoch.
const reopenShare = 64

// Reopen notes that the open epoch, if there is one, has tables from an earlier run. Tables of
// its next records would overlap them, so it must stay small: a larger one accepts no more
// records. A small one is continued, so that many opens with few records do not make many epochs.
func (x *Index) Reopen() { x.bytes += x.limit - x.limit/reopenShare }

// Retire makes the open epoch, if there is one, accept no more records.
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

// Held returns the number of shards with records in the epoch, and the size of their partition
// keys and data. ended is false for the open epoch, and for one that does not exist.
func (x *Index) Held(id uint32) (extents int, bytes uint64, ended bool) {
	i := x.find(id)
	if i < 0 || i+1 == len(x.epochs) {
		return 0, 0, false
	}
	return x.epochs[i].extents, x.epochs[i].held, true
}

// IDs returns the ids of all epochs, in order.
func (x *Index) IDs() []uint32 {
	ids := make([]uint32, len(x.epochs))
	for i := range x.epochs {
		ids[i] = x.epochs[i].id
	}
	return ids
}

// Remove removes an epoch.
func (x *Index) Remove(id uint32) {
	switch i := x.find(id); {
	case i == 0: // the usual case: remove it without moving the others
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

// Extent is a shard's records in one epoch: where they begin and end.
type Extent struct {
	Epoch uint32
	layout.ExtentRow
}

// Extents are the extents of one shard, in order. They are only added at the end and removed at
// the front, so a copy of the slice header is a view that stays valid.
type Extents []Extent

// From returns the extents that can have records with that counter or a higher one.
func (s Extents) From(counter uint64) Extents {
	i := sort.Search(len(s), func(i int) bool { return s[i].FirstCounter > counter })
	return s[max(0, i-1):]
}

// SplitAt divides the extents at an ordinal: before has those whose records all come before it,
// and rest the others. end is the ordinal after the shard's last record.
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

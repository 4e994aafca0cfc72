package epoch

import (
	"cmp"
	"slices"
)

// Ledger has a stream's share of each epoch, summed over its shards, so that nobody must look at
// all shards. The committer owns it.
//
// Invariant: shares are in the order of their epochs. All except perhaps the last have extents.
type Ledger struct {
	shares []Share
	stored uint64 // Bytes less Trimmed of all shares
}

// Share is a stream's share of one epoch. Bytes are those of partition keys and data.
type Share struct {
	Epoch   uint32
	Extents int    // shards of the stream that have records there
	Bytes   uint64 // of those extents, including trimmed records
	Trimmed uint64 // the part of Bytes below the horizons of their shards
	Dead    uint64 // bytes of extents that were dropped since the database was opened
}

// Shares returns the shares in the order of their epochs. The slice must not be
// changed, nor used after the next call of another method.
func (l *Ledger) Shares() []Share { return l.shares }

// Stored returns the bytes of all records that were not trimmed.
func (l *Ledger) Stored() uint64 { return l.stored }

// AddExtent notes that one more shard has records in the epoch. Epochs come in order,
// except where the ledger is restored.
func (l *Ledger) AddExtent(id uint32) {
	i, found := l.find(id)
	if !found {
		l.shares = slices.Insert(l.shares, i, Share{Epoch: id})
	}
	l.shares[i].Extents++
}

// Grow notes that bytes were put to an extent of the epoch.
func (l *Ledger) Grow(id uint32, bytes uint64) {
	i := len(l.shares) - 1 // almost always
	if l.shares[i].Epoch != id {
		i, _ = l.find(id)
	}
	l.shares[i].Bytes += bytes
	l.stored += bytes
}

// Trim notes that a horizon has passed that many bytes of an extent of the epoch.
func (l *Ledger) Trim(id uint32, bytes uint64) {
	if i, found := l.find(id); found {
		l.shares[i].Trimmed += bytes
		l.stored -= bytes
	}
}

// DropExtent notes that all records of an extent were trimmed. It reports whether the
// stream has no other extent in the epoch.
func (l *Ledger) DropExtent(id uint32, bytes, trimmed uint64) (last bool) {
	i, found := l.find(id)
	if !found {
		return false
	}
	share := &l.shares[i]
	share.Extents--
	share.Bytes -= bytes
	share.Trimmed -= trimmed
	share.Dead += bytes
	l.stored -= bytes - trimmed
	return share.Extents == 0
}

// TakeDead removes the stream's share of the epoch if all of it is dead, and returns its size.
func (l *Ledger) TakeDead(id uint32) (dead uint64, ok bool) {
	i, found := l.find(id)
	if !found || l.shares[i].Extents > 0 {
		return 0, false
	}
	dead = l.shares[i].Dead
	if i == 0 { // the usual case: remove it without moving the others
		l.shares = l.shares[1:]
	} else {
		l.shares = slices.Delete(l.shares, i, i+1)
	}
	return dead, true
}

// Over reports whether the stream has at least limit bytes even without its oldest epoch. A limit
// of 0 means no limit.
func (l *Ledger) Over(limit uint64) bool {
	return limit > 0 && len(l.shares) > 1 && l.stored-l.shares[0].kept() >= limit
}

// Spare returns the newest epoch that can be dropped, together with all earlier ones, so that the
// stream still has at least limit bytes.
func (l *Ledger) Spare(limit uint64) (id uint32, ok bool) {
	if limit == 0 {
		return 0, false
	}
	stored := l.stored
	for _, share := range l.shares {
		if stored -= share.kept(); stored < limit {
			break
		}
		id, ok = share.Epoch, true
	}
	return id, ok
}

func (s *Share) kept() uint64 { return s.Bytes - s.Trimmed }

func (l *Ledger) find(id uint32) (i int, found bool) {
	return slices.BinarySearchFunc(l.shares, id, func(s Share, id uint32) int { return cmp.Compare(s.Epoch, id) })
}

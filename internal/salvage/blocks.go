package salvage

import (
	"bytes"
	"errors"

	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/wreck"
)

// blockReader is the visitor of the second pass: it passes on the blocks of living records.
//
// A block is bound to its key by its checksum, and no key has two blocks. So obsolete files
// are as good a source as the others, and may have blocks that are damaged there.
type blockReader struct {
	*survey
	take func(c wreck.Change, block *layout.Block) error

	// wants reports whether to read a table that has the given key; nil means all.
	wants func(f wreck.File, key []byte) bool

	// dropFrom is the number of the first log whose contents all count as after a loss.
	dropFrom uint64

	file   wreck.File // the current one
	log    bool       // whether it is a log
	behind bool       // whether something was lost before, in this log or an earlier one
}

// readBlocks is the second pass.
func (s *survey) readBlocks(r *blockReader) error {
	for _, f := range s.wreck.Tables {
		r.file = f
		if err := r.readTable(f); err != nil {
			return err
		}
		s.advance(f.Size)
	}
	r.log = true
	for _, f := range s.wreck.Logs {
		r.file = f
		r.behind = r.behind || numberOf(f.Name) >= r.dropFrom
		if err := s.budget.read(f.Size); err != nil {
			return err
		}
		if _, err := s.wreck.ReadLog(s.ctx, f, r); err != nil {
			return err
		}
		r.behind = r.behind || s.broken[f.Name] != nil // it may be cut exactly between two records, which leaves no trace
		s.advance(f.Size)
	}
	return nil
}

func (r *blockReader) readTable(f wreck.File) error {
	if len(f.Through) > 0 && r.isTrusted(f) && (!layout.IsBlockKey(f.Through) || !r.wants(f, f.Through)) {
		return nil
	}
	as := r.asFound(f)
	t, err := r.wreck.OpenTable(as)
	if err != nil {
		return r.Lost(wreck.Place{File: f.Name, Err: err, After: as.After, Through: as.Through})
	}
	defer t.Close() // it was only read
	first, last := t.Bounds()
	if records, end := layout.RecordSpan(); last != nil && bytes.Compare(last, records) < 0 || first != nil && bytes.Compare(first, end) >= 0 {
		return nil
	}
	if r.wants != nil && layout.IsBlockKey(first) && !r.wants(f, first) {
		return nil
	}
	if err := r.budget.read(f.Size); err != nil {
		return err
	}
	return t.Read(r.ctx, r)
}

// Lost implements wreck.Visitor.
func (r *blockReader) Lost(p wreck.Place) error {
	if r.file.Stale {
		return nil
	}
	r.behind = r.behind || r.log
	return r.survey.Lost(p)
}

// DeleteRange implements wreck.Visitor. The rows about streams show which records live.
func (r *blockReader) DeleteRange(wreck.Deletion) error { return nil }

// Change implements wreck.Visitor.
func (r *blockReader) Change(change wreck.Change) error {
	if !layout.IsBlockKey(change.Key) || change.Deleted {
		return nil
	}
	place, err := layout.DecodeBlockKey(change.Key)
	if err != nil {
		r.note("a block of records has no place: %v", err)
		return nil
	}
	sh := r.shard(place)
	if sh == nil || place.Counter < sh.row.Horizon.Counter {
		return nil
	}
	block, err := layout.DecodeBlock(change.Key, change.Value)
	if lost := new(layout.LostBlockError); errors.As(err, &lost) {
		if !lost.Exact {
			sh.uncounted = append(sh.uncounted, lost.Ordinal)
		}
		return nil // the walk notices the loss by itself
	}
	if err != nil {
		if !r.file.Stale {
			r.lost = append(r.lost, KeyRange{After: before(change.Key), Through: bytes.Clone(change.Key)})
			r.note("a block of %s is damaged: %v", sh, err)
		}
		return nil
	}
	r.reach(block.Last)
	if block.Sealed {
		sh.stream.row.NextDataKey = max(sh.stream.row.NextDataKey, block.DataKey+1)
	}
	if r.log {
		sh.seq = max(sh.seq, change.Seq)
	}
	return r.take(change, &block)
}

// before returns the key right before a block's key.
func before(key []byte) []byte {
	place, _ := layout.DecodeBlockKey(key)
	place.Counter--
	return place.Bytes()
}

// shard returns the shard of a block, nil if the block is not saved.
func (s *survey) shard(place layout.BlockKey) *shard {
	st := s.streams[place.Stream]
	if st != nil {
		if sh := st.shards[place.Shard]; sh != nil {
			return sh
		}
	}
	if !s.isDead(place.Stream) && !s.gone[string(layout.ShardKey(place.Stream, place.Shard))] && s.mayHaveLostRows() {
		s.orphans[orphan{place.Stream, place.Shard}]++
	}
	return nil
}

// mayHaveLostRows reports whether rows about streams may be lost. If not, records without
// such rows belong to a deleted stream.
func (s *survey) mayHaveLostRows() bool {
	records, _ := layout.RecordSpan()
	return s.isTorn || len(s.wreck.Unread) > 0 || s.lostIn(nil, records)
}

package salvage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/wreck"
)

// survey is the first pass: it gathers all rows but records. Files that the store had
// done with are left out: what a later file says is no newer there by its number, since
// a table that was merged with all that was older forgets the numbers.
func (s *salvager) survey() error {
	sorter := newSorter(s)
	defer sorter.close()
	for _, f := range s.wreck.Tables {
		if !f.Stale {
			if err := s.surveyTable(f, sorter); err != nil {
				return err
			}
		}
		s.advance(f.Size)
	}
	if err := s.surveyLogs(sorter); err != nil {
		return err
	}
	return sorter.flush()
}

// surveyLogs reads the logs. One that was begun after another had been ended properly, or
// its content had come into tables. So a log without an end, before one that has
// something, has lost its last changes, unless it is not known which logs are stale.
func (s *salvager) surveyLogs(sorter *sorter) error {
	var open *wreck.Place // behind what was found of the log before, if it has no end
	for _, f := range s.wreck.Logs {
		if !f.Stale {
			end, err := s.wreck.ReadLog(s.ctx, f, sorter)
			if err != nil {
				return err
			}
			if f.Size < f.Durable {
				err := fmt.Errorf("%w: the log ends at byte %d, where %d were durable", wreck.ErrDamaged, f.Size, f.Durable)
				if err := s.Lost(wreck.Place{File: f.Name, Offset: f.Size, Seq: end.Last, Err: err}); err != nil {
					return err
				}
			}
			if open != nil && end.Last > 0 && len(s.wreck.Unread) == 0 {
				if err := s.Lost(*open); err != nil {
					return err
				}
			}
			if open, s.ended = nil, end.Closed; !end.Closed {
				open = &wreck.Place{
					File: f.Name, Offset: f.Size, Seq: end.Last,
					Err: fmt.Errorf("%w: the log has no end, and there is a later one", wreck.ErrDamaged),
				}
			}
		}
		s.advance(f.Size)
	}
	return nil
}

func (s *salvager) surveyTable(f wreck.File, sorter *sorter) error {
	t, err := s.wreck.OpenTable(f)
	if err != nil {
		return s.Lost(wreck.Place{File: f.Name, Err: err, After: f.After, Through: f.Through})
	}
	defer t.Close() // it was only read
	first, last := t.Bounds()
	if layout.IsBlockKey(first) && layout.IsBlockKey(last) {
		return nil // there are only records between them
	}
	if err := t.Read(s.ctx, sorter); err != nil {
		return err
	}
	return t.ReadDeletions(sorter)
}

// sorter is the visitor of the first pass.
type sorter struct {
	*salvager
	batch *kv.Batch // to the scratch store
	key   []byte
	value []byte
}

func newSorter(s *salvager) *sorter {
	return &sorter{salvager: s, batch: s.target.Scratch.NewBatch()}
}

func (s *sorter) close() { s.batch.Close() }

// Change is part of wreck.Visitor.
func (s *sorter) Change(c wreck.Change) error {
	switch {
	case layout.IsBlockKey(c.Key):
		return nil
	case layout.IsStateKey(c.Key):
		s.addRow(c)
		return nil
	}
	s.key = appendSortKey(s.key[:0], c.Key, c.Seq)
	s.value = append(s.value[:0], 0)
	if !c.Deleted {
		s.value[0] = 1
		s.value = append(s.value, c.Value...)
	}
	s.batch.Set(s.key, s.value)
	if s.batch.Len() < commitBytes {
		return nil
	}
	return s.flush()
}

func (s *sorter) flush() error {
	if s.batch.Empty() {
		return nil
	}
	if err := s.target.Scratch.CommitWithin(s.ctx, s.batch); err != nil {
		return err
	}
	s.batch.Reset()
	return nil
}

// DeleteRange is part of wreck.Visitor. Applications and their leases have no part in
// it, and of records the rows about them tell what is deleted.
func (s *sorter) DeleteRange(d wreck.Deletion) error {
	if layout.IsStateKey(d.Start) {
		s.ranges = append(s.ranges, wreck.Deletion{Start: bytes.Clone(d.Start), End: bytes.Clone(d.End), Seq: d.Seq})
	}
	return nil
}

// addRow keeps a row if it is the newest of its key, and whole. Files are read in the
// order in which they were begun, so of two without a number the later one counts.
func (s *salvager) addRow(c wreck.Change) {
	key := string(c.Key)
	if c.Deleted && layout.IsDeletedForGood(c.Key) {
		s.gone[key] = true
	}
	if was, found := s.rows[key]; found && c.Seq < was.seq {
		return
	}
	if !c.Deleted {
		if err := layout.CheckRow(c.Key, c.Value); err != nil {
			s.note("a row is damaged: %v", err)
			return
		}
	}
	s.rows[key] = version{seq: c.Seq, deleted: c.Deleted, value: bytes.Clone(c.Value)}
}

// row returns the value of a row, if it is there.
func (s *salvager) row(key []byte) (value []byte, ok bool) {
	v, found := s.rows[string(key)]
	if !found || v.deleted || s.gone[string(key)] {
		return nil, false
	}
	for _, d := range s.ranges { // of streams that were deleted, whose numbers do not come back
		if bytes.Compare(d.Start, key) <= 0 && bytes.Compare(key, d.End) < 0 {
			return nil, false
		}
	}
	return v.value, true
}

// The scratch store has, under keys that sort as the originals do, all versions of each,
// the newest first.

// appendSortKey appends the key of a version. A zero byte, which ends the original, is
// told from those in it by what follows.
func appendSortKey(dst, key []byte, seq uint64) []byte {
	for {
		i := bytes.IndexByte(key, 0)
		if i < 0 {
			break
		}
		dst = append(append(dst, key[:i]...), 0, 0xff)
		key = key[i+1:]
	}
	dst = append(append(dst, key...), 0, 1)
	return binary.BigEndian.AppendUint64(dst, ^seq)
}

// splitSortKey returns the original of the key of a version, appended to dst.
func splitSortKey(dst, sorted []byte) ([]byte, error) {
	const tail = 2 + 8
	if len(sorted) < tail {
		return nil, errors.New("a key of the scratch store is too short")
	}
	rest := sorted[:len(sorted)-tail]
	for {
		i := bytes.IndexByte(rest, 0)
		if i < 0 {
			return append(dst, rest...), nil
		}
		dst = append(append(dst, rest[:i]...), 0)
		rest = rest[min(i+2, len(rest)):]
	}
}

// copyKeys copies leases, the deliveries of queues and the keys of applications to the new
// database, the newest version of each, and gathers the other rows of queues.
func (s *salvager) copyKeys() error {
	it, err := s.target.Scratch.NewIter(nil, nil)
	if err != nil {
		return err
	}
	defer it.Close() // its error is that of the last move
	out := newWriter(s)
	defer out.close()
	var key, last []byte
	settled := false // the newest version of last was found
	for ok := it.First(); ok; ok = it.Next() {
		if key, err = splitSortKey(key[:0], it.Key()); err != nil {
			return err
		}
		if settled && bytes.Equal(key, last) {
			continue
		}
		last, settled = append(last[:0], key...), true
		value := it.Value()
		switch {
		case len(value) == 0 || value[0] == 0: // it was deleted
			continue
		case layout.IsAppKey(key):
			s.report.Keys++
		case layout.IsQueueKey(key):
			if settled, err = s.queueRow(out, key, value[1:]); err != nil {
				return err
			}
			continue
		default:
			if _, err := layout.DecodeLeaseRow(key, value[1:]); err != nil {
				s.note("a lease is damaged: %v", err)
				settled = false // an earlier one will do
				continue
			}
			s.report.Leases++
		}
		if err := out.set(key, value[1:]); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	return out.flush()
}

// writer writes to the new database.
type writer struct {
	*salvager
	batch *kv.Batch
}

func newWriter(s *salvager) *writer { return &writer{s, s.target.Store.NewBatch()} }

func (w *writer) close() { w.batch.Close() }

func (w *writer) set(key, value []byte) error {
	w.batch.Set(key, value)
	if w.batch.Len() < commitBytes {
		return nil
	}
	return w.flush()
}

func (w *writer) flush() error {
	if w.batch.Empty() {
		return nil
	}
	if err := w.target.Store.CommitWithin(w.ctx, w.batch); err != nil {
		return err
	}
	w.batch.Reset()
	return nil
}

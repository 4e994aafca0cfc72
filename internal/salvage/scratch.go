package salvage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/wreck"
)

// scratchWriter sorts the rows that the survey does not keep in memory, in the scratch store.
type scratchWriter struct {
	*salvager
	batch *kv.Batch
	key   []byte
	value []byte
}

func newScratchWriter(s *salvager) *scratchWriter {
	return &scratchWriter{salvager: s, batch: s.target.Scratch.NewBatch()}
}

func (w *scratchWriter) close() { w.batch.Close() }

// keep adds a row.
func (w *scratchWriter) keep(c wreck.Change) error {
	w.key = appendSortKey(w.key[:0], c.Key, c.Seq)
	w.value = append(w.value[:0], 0)
	if !c.Deleted {
		w.value[0] = 1
		w.value = append(w.value, c.Value...)
	}
	w.batch.Set(w.key, w.value)
	if w.batch.Len() < commitBytes {
		return nil
	}
	return w.flush()
}

func (w *scratchWriter) flush() error {
	if w.batch.Empty() {
		return nil
	}
	if err := w.target.Scratch.CommitWithin(w.ctx, w.batch); err != nil {
		return err
	}
	w.batch.Reset()
	return nil
}

// The scratch store has all versions of each row, under keys that sort as the originals do, the
// newest version first.

// appendSortKey appends the key of a version. A zero byte ends the original key; the byte
// after it distinguishes it from a zero byte inside the key.
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

// splitSortKey appends to dst the original key of a version's key.
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

// copyKeys copies the newest versions of leases, deliveries of queues and keys of applications
// to the new database. It gathers the other rows of queues.
func (s *salvager) copyKeys() error {
	it, err := s.target.Scratch.NewIter(nil, nil)
	if err != nil {
		return err
	}
	defer it.Close() // Close returns the error of the last move, which is checked
	out := newWriter(s)
	defer out.close()
	var key, last []byte
	settled := false // whether the newest undamaged version of last was found
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
				settled = false // damaged: take an earlier version
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

// set implements sink.
func (w *writer) set(key, value []byte) error {
	w.batch.Set(key, value)
	if w.batch.Len() < commitBytes {
		return nil
	}
	return w.flush()
}

// remove implements sink.
func (w *writer) remove(place layout.BlockKey) { w.batch.Delete(place.Bytes()) }

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

// writeState writes the rows about streams.
func (s *salvager) writeState() error {
	out := newWriter(s)
	defer out.close()
	set := out.batch.Set
	next := s.clock.NextStream
	for _, st := range sorted(s.streams) {
		next = max(next, st.number+1)
		set(layout.StreamKey(st.number), st.row.Encode(st.number))
		for _, number := range slices.Sorted(maps.Keys(st.dataKeys)) {
			set(layout.DataKeyKey(st.number, number), st.dataKeys[number].Encode(st.number, number))
		}
		for _, sh := range sorted(st.shards) {
			set(layout.ShardKey(st.number, sh.index), sh.row.Encode(st.number, sh.index))
			for _, x := range sh.extents {
				set(layout.ExtentKey(st.number, sh.index, x.epoch), x.row.Encode(st.number, sh.index, x.epoch))
			}
		}
		if err := out.flush(); err != nil {
			return err
		}
	}
	if err := s.writeQueues(out); err != nil {
		return err
	}
	for id, row := range s.epochs {
		set(layout.EpochKey(id), row.Encode(id))
	}
	for o := range s.orphans {
		next = max(next, o.stream+1)
	}
	set(layout.FormatKey(), layout.FormatRow{Version: layout.FormatVersion, OldestReader: layout.OldestReader}.Encode())
	set(layout.ClockKey(), layout.ClockRow{Counter: s.last, NextStream: max(next, 1), Closed: true}.Encode())
	return out.flush()
}

package braid

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/tail"
)

// This file verifies streams, their shards, and their records.

func (v *verifier) verifyStreams() error {
	streams := make([]*Stream, 0, len(v.streams))
	for _, s := range v.streams {
		streams = append(streams, s)
	}
	slices.SortFunc(streams, func(a, b *Stream) int { return cmp.Compare(a.number, b.number) })
	for _, s := range streams {
		if err := v.verifyStream(s); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) verifyStream(s *Stream) error {
	at := VerifyError{Kind: "stream", Stream: s.name}
	err := v.row(at, layout.StreamKey(s.number), func(_ *appender, value []byte) error {
		if s.deleted.Load() {
			return nil
		}
		var next uint32 // the row alone has it
		if row, err := layout.DecodeStreamRow(s.number, value); err == nil {
			next = row.NextDataKey
		}
		row := s.row(s.settings.Load(), s.topology.Load(), next)
		return sameRow(value, row.Encode(s.number))
	})
	if err != nil {
		return err
	}
	t := s.topology.Load()
	if err := t.check(); err != nil {
		v.found(at, fmt.Errorf("%w: %w", ErrCorrupt, err))
	}
	t.checkLineage(func(sh *Shard, format string, args ...any) {
		v.found(VerifyError{Kind: "stream", Stream: s.name, Shard: sh.id}, fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...)))
	})
	if err := v.verifyDataKeys(s); err != nil {
		return err
	}
	v.unopenable = make(map[uint32]error)
	for _, sh := range t.shards {
		if err := v.verifyShard(sh); err != nil {
			return err
		}
	}
	if !s.deleted.Load() {
		v.report.Streams++
	}
	return nil
}

// sameRow compares the value of a row, nil if it is missing, with the right one.
func sameRow(value, want []byte) error {
	switch {
	case value == nil:
		return fmt.Errorf("%w: the row is missing", ErrDataLoss)
	case !bytes.Equal(value, want):
		return fmt.Errorf("%w: the row is %x, and should be %x", ErrCorrupt, value, want)
	default:
		return nil
	}
}

// verifyDataKeys verifies that each data key of the stream has its row.
func (v *verifier) verifyDataKeys(s *Stream) error {
	s.keys.mu.Lock()
	numbers := make([]uint32, 0, len(s.keys.rows))
	for number := range s.keys.rows {
		numbers = append(numbers, number)
	}
	s.keys.mu.Unlock()
	slices.Sort(numbers)
	for _, number := range numbers {
		err := v.row(VerifyError{Kind: "data key", Stream: s.name}, layout.DataKeyKey(s.number, number), func(_ *appender, value []byte) error {
			s.keys.mu.Lock()
			row, has := s.keys.rows[number]
			s.keys.mu.Unlock()
			if !has || s.deleted.Load() {
				return nil
			}
			return sameRow(value, row.Encode(s.number, number))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// verifyShard verifies the shard's row, and its records up to the tip at its start.
func (v *verifier) verifyShard(sh *Shard) error {
	s := sh.stream
	gone := func() bool { return s.deleted.Load() || s.topology.Load().shard(sh.index) != sh }
	err := v.row(VerifyError{Kind: "stream", Stream: s.name, Shard: sh.id}, layout.ShardKey(s.number, sh.index), func(_ *appender, value []byte) error {
		if gone() {
			return nil
		}
		horizon, _ := sh.view()
		return sameRow(value, sh.rowWith(horizon, sh.closing.Load()).Encode(s.number, sh.index))
	})
	if err != nil {
		return err
	}
	tip := sh.log.Tip()
	w := recordWalk{sh: sh, open: v.openEpoch, unopenable: v.unopenable}
	for !w.done {
		if err := v.goesOn(); err != nil {
			return err
		}
		stored, extents := sh.view() // read after the tip, so that the extents reach it
		if w.from < max(1, stored.Counter) {
			horizon, exact, err := sh.readable(v.ctx, 0, stored, extents)
			if err != nil {
				if now, _ := sh.view(); now != stored {
					continue // the block that it looked for was trimmed meanwhile
				}
				if s.deleted.Load() {
					return nil
				}
				return err
			}
			w.from, w.at, w.known = max(1, horizon.Counter), horizon, exact
		}
		if w.from > tip.LastCounter+1 {
			break // all of its records are gone
		}
		page, err := reading(v.ctx, v.db, func() (walkedPage, error) { return w.page(v.ctx, extents, tip) })
		if err != nil {
			return err
		}
		if s.deleted.Load() {
			return nil
		}
		if len(page.wrong) > 0 || page.damage != nil {
			if err := v.settle(); err != nil {
				return err
			}
			if now, _ := sh.view(); now != stored || s.deleted.Load() {
				continue // the missing records may have been removed
			}
		}
		if err := v.takePage(&w, page, extents, tip, stored); err != nil {
			return err
		}
	}
	if !gone() {
		v.report.Shards++
	}
	return nil
}

// takePage adds a page to the report, and moves the walk past it.
func (v *verifier) takePage(w *recordWalk, page walkedPage, extents epoch.Extents, tip tail.Tip, stored layout.Horizon) error {
	sh := w.sh
	at := VerifyError{Kind: "records", Stream: sh.stream.name, Shard: sh.id}
	v.report.Records += page.records
	v.report.Bytes += page.bytes
	v.report.Unopened += page.unopened
	for _, wrong := range page.wrong {
		at.Kind = "records"
		var corrupt *CorruptError
		if !errors.As(wrong, &corrupt) {
			at.Kind = "stream"
		}
		v.found(at, wrong)
	}
	*w = page.recordWalk
	if page.damage != nil {
		err := sh.damaged(v.ctx, w.from, tip, extents, page.damage)
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) {
			return err
		}
		at.Kind = "records"
		v.found(at, corrupt)
		w.from, w.known, w.done = corrupt.FirstAvailable.counter(), false, false
	}
	if page.needsKey {
		if err := v.openDataKey(sh, page.needs, stored); err != nil {
			return err
		}
	}
	return v.paced(page.read)
}

// openDataKey gets a data key decrypted, or notes that it is unavailable.
func (v *verifier) openDataKey(sh *Shard, number uint32, stored layout.Horizon) error {
	err := sh.stream.openDataKey(v.ctx, number)
	if err == nil {
		return nil
	}
	if err := v.goesOn(); err != nil { // a provider may return any error for it
		return err
	}
	switch {
	case errors.Is(err, ErrKeyUnavailable):
		v.report.UnopenedErr = cmp.Or(v.report.UnopenedErr, err)
	case isDamage(err):
		if err := v.settle(); err != nil {
			return err
		}
		if now, _ := sh.view(); now != stored || sh.stream.deleted.Load() {
			return nil // a data key is removed with the records that need it
		}
		v.found(VerifyError{Kind: "data key", Stream: sh.stream.name, Shard: sh.id}, err)
	default:
		return err
	}
	v.unopenable[number] = err
	return nil
}

// recordWalk is a place among the stored records of a shard. It moves from block to block,
// and verifies that each continues the one before.
type recordWalk struct {
	sh         *Shard
	from       uint64           // the counter from which on records are still to be walked
	at         layout.Horizon   // the expected place of the next record
	known      bool             // whether at's ordinal and offset are known; not after damage
	done       bool             // the walk has reached the tip
	open       uint32           // the epoch that was open before the tip was read: earlier ones get no records
	unopenable map[uint32]error // the verifier's
}

// walkedPage is the result of one page of a walk. It belongs to the reading goroutine until
// the read has returned.
type walkedPage struct {
	recordWalk         // the place that it has reached
	records    int64   // records walked
	bytes      int64   // bytes of their partition keys and data
	unopened   int64   // how many of them could not be decrypted for lack of a key
	read       int64   // bytes of keys and values of rows
	wrong      []error // a CorruptError is about records, others are about rows
	damage     error   // the error of a block that cannot be read, at from or above
	needs      uint32  // the data key without which the walk cannot continue, if needsKey
	needsKey   bool
	seal       layout.SealScratch
}

// page continues the walk through about a page of records, at most up to the tip.
func (w recordWalk) page(ctx context.Context, extents epoch.Extents, tip tail.Tip) (p walkedPage, err error) {
	p.recordWalk = w
	var it *kv.Iter
	defer func() {
		if it != nil {
			err = cmp.Or(err, it.Close()) // Close may repeat the error
		}
	}()
	for _, s := range extents.From(p.from) {
		if s.FirstCounter > tip.LastCounter {
			break
		}
		if err := context.Cause(ctx); err != nil {
			return p, err
		}
		p.enter(s)
		lower, upper := p.sh.extentSpan(s, p.from)
		if it == nil {
			if it, err = p.sh.stream.db.store.NewIter(lower, upper); err != nil {
				return p, p.met(err, s)
			}
		} else {
			it.SetBounds(lower, upper)
		}
		if more, err := p.extent(it, s, tip); more || err != nil || p.damage != nil {
			return p, err
		}
		if err := p.extentRow(s); err != nil {
			return p, err
		}
	}
	if p.known && (p.at.Ordinal != tip.Ordinal || p.at.Offset != tip.Offset) {
		p.miss(tip.LastCounter+1, "the records end with ordinal %d, offset %d, but the shard ends with %d, %d", p.at.Ordinal, p.at.Offset, tip.Ordinal, tip.Offset)
	}
	p.from, p.done = tip.LastCounter+1, true
	return p, nil
}

// enter moves to the first record of an extent, unless the walk is already past it.
func (p *walkedPage) enter(s epoch.Extent) {
	if p.from > s.FirstCounter {
		return
	}
	if p.known && (p.at.Ordinal != s.FirstOrdinal || p.at.Offset != s.FirstOffset) {
		p.miss(s.FirstCounter, "epoch %d begins with ordinal %d, offset %d, where %d, %d should follow", s.Epoch, s.FirstOrdinal, s.FirstOffset, p.at.Ordinal, p.at.Offset)
	}
	p.from, p.known = s.FirstCounter, true
	p.at = layout.Horizon{Counter: s.FirstCounter, Ordinal: s.FirstOrdinal, Offset: s.FirstOffset}
}

// extent walks through the blocks of an extent up to the tip. The iterator is bounded to the
// extent. more reports whether the page is full or needs a data key.
func (p *walkedPage) extent(it *kv.Iter, s epoch.Extent, tip tail.Tip) (more bool, err error) {
	for ok := it.First(); ok; ok = it.Next() {
		block, err := decodeBlock(it)
		if err != nil {
			return false, p.met(err, s)
		}
		if block.Last > tip.LastCounter {
			return false, nil
		}
		next := layout.Horizon{Counter: block.First, Ordinal: block.Ordinal, Offset: block.Offset}
		if block.First < p.from {
			next = block.Before(p.from)
		}
		switch {
		case p.known && (next.Ordinal != p.at.Ordinal || next.Offset != p.at.Offset):
			p.miss(block.First, "the record there has ordinal %d, offset %d, where %d, %d should follow", next.Ordinal, next.Offset, p.at.Ordinal, p.at.Offset)
		case p.from == s.FirstCounter && block.First > p.from:
			p.miss(block.First, "the first record of epoch %d is missing", s.Epoch)
		}
		count := int64(block.NextOrdinal() - next.Ordinal)
		if block.Sealed && !p.decrypts(it, &block, count) {
			return true, nil
		}
		p.records += count
		p.bytes += int64(block.NextOffset() - next.Offset)
		p.read += int64(len(it.Key()) + len(it.Value()))
		p.from, p.at, p.known = block.Last+1, block.End(), true
		if p.read >= verifyPageBytes {
			return true, nil
		}
	}
	if err := it.Error(); err != nil {
		return false, p.met(err, s)
	}
	return false, nil
}

// decrypts verifies that a block decrypts. It returns false if the data key must be opened
// first.
func (p *walkedPage) decrypts(it *kv.Iter, block *layout.Block, count int64) bool {
	key := p.sh.stream.dataKey(block.DataKey)
	switch {
	case key != nil:
		if err := key.Open(it.Key(), block, &p.seal); err != nil {
			p.wrong = append(p.wrong, &CorruptError{Shard: p.sh.id, FirstLost: p.sh.number(max(p.from, block.First)), FirstAvailable: p.sh.number(block.Last + 1), Err: corrupt(err)})
		}
	case p.unopenable[block.DataKey] != nil:
		p.unopened += count
	default:
		p.needs, p.needsKey = block.DataKey, true
		return false
	}
	return true
}

// miss notes that records are missing below counter next.
func (p *walkedPage) miss(next uint64, format string, args ...any) {
	p.wrong = append(p.wrong, p.sh.missing(p.from, max(next, p.from+1), fmt.Sprintf(format, args...)))
}

// met notes damage, and returns any other error.
func (p *walkedPage) met(err error, s epoch.Extent) error {
	if !isDamage(err) {
		return err
	}
	p.sh.stream.db.noteDamage(s.Epoch) // as for any reader
	p.damage = err
	return nil
}

// extentRow verifies the row of an extent, after the walk has reached its end or the tip.
func (p *walkedPage) extentRow(s epoch.Extent) error {
	stream := p.sh.stream
	wrong := func(class error, format string, args ...any) error {
		p.wrong = append(p.wrong, fmt.Errorf("%w: the row of its records in epoch %d %s", class, s.Epoch, fmt.Sprintf(format, args...)))
		return nil
	}
	value, err := stream.db.store.Get(layout.ExtentKey(stream.number, p.sh.index, s.Epoch))
	switch {
	case errors.Is(err, kv.ErrNotFound):
		return wrong(ErrDataLoss, "is missing")
	case isDamage(err):
		return wrong(err, "cannot be read")
	case err != nil:
		return err
	}
	row, err := layout.DecodeExtentRow(stream.number, p.sh.index, s.Epoch, value)
	switch {
	case err != nil:
		return wrong(corrupt(err), "cannot be read")
	case row.FirstCounter != s.FirstCounter || row.FirstOrdinal != s.FirstOrdinal || row.FirstOffset != s.FirstOffset:
		return wrong(ErrCorrupt, "says that they begin with counter %d, ordinal %d, offset %d, but they begin with %d, %d, %d",
			row.FirstCounter, row.FirstOrdinal, row.FirstOffset, s.FirstCounter, s.FirstOrdinal, s.FirstOffset)
	case !p.known || s.Epoch >= p.open || row.End == layout.Horizon{} || row.End == p.at:
		return nil
	case row.End.Ordinal > p.at.Ordinal:
		p.miss(row.End.Counter, "the records of epoch %d end with ordinal %d, but should end with %d", s.Epoch, p.at.Ordinal, row.End.Ordinal)
		p.from, p.at = max(p.from, row.End.Counter), row.End
		return nil
	default:
		return wrong(ErrCorrupt, "says that they end with counter %d, ordinal %d, offset %d, but they end with %d, %d, %d",
			row.End.Counter, row.End.Ordinal, row.End.Offset, p.at.Counter, p.at.Ordinal, p.at.Offset)
	}
}

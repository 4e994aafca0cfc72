package salvage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/wreck"
)

// copyRecords is the second pass: it copies the blocks of records that live.
//
// A block is bound to its key by its checksum, and no key has two blocks. So the files
// that the store had done with are as good a source as the others, and may have what is
// damaged there.
func (s *salvager) copyRecords() error {
	c := &copier{writer: newWriter(s)}
	defer c.close()
	for _, f := range s.wreck.Tables {
		if err := s.copyTable(f, c); err != nil {
			return err
		}
		s.advance(f.Size)
	}
	for _, f := range s.wreck.Logs {
		c.stale, c.log = f.Stale, true
		if _, err := s.wreck.ReadLog(s.ctx, f, c); err != nil {
			return err
		}
		s.advance(f.Size)
	}
	return c.flush()
}

func (s *salvager) copyTable(f wreck.File, c *copier) error {
	c.stale = f.Stale
	t, err := s.wreck.OpenTable(f)
	if err != nil {
		return c.Lost(wreck.Place{File: f.Name, Err: err, After: f.After, Through: f.Through})
	}
	defer t.Close() // it was only read
	first, last := t.Bounds()
	if records, end := layout.RecordSpan(); last != nil && bytes.Compare(last, records) < 0 || first != nil && bytes.Compare(first, end) >= 0 {
		return nil
	}
	return t.Read(s.ctx, c)
}

// copier is the visitor of the second pass.
type copier struct {
	*writer
	stale bool // the file was done with
	log   bool // it is a log
}

// Lost is part of wreck.Visitor.
func (c *copier) Lost(p wreck.Place) error {
	if c.stale {
		return nil
	}
	return c.salvager.Lost(p)
}

// DeleteRange is part of wreck.Visitor. The rows about streams tell which records live.
func (c *copier) DeleteRange(wreck.Deletion) error { return nil }

// Change is part of wreck.Visitor.
func (c *copier) Change(change wreck.Change) error {
	if !layout.IsBlockKey(change.Key) || change.Deleted {
		return nil
	}
	place, err := layout.DecodeBlockKey(change.Key)
	if err != nil {
		c.note("a block of records has no place: %v", err)
		return nil
	}
	sh := c.shard(place)
	if sh == nil || place.Counter < sh.row.Horizon.Counter {
		return nil
	}
	block, err := layout.DecodeBlock(change.Key, change.Value)
	if lost := new(layout.LostBlockError); errors.As(err, &lost) {
		if !lost.Exact {
			sh.uncounted = append(sh.uncounted, lost.Ordinal)
		}
		return nil // the walk finds out again
	}
	if err != nil {
		if !c.stale {
			c.lost = append(c.lost, KeyRange{After: before(change.Key), Through: bytes.Clone(change.Key)})
			c.note("a block of %s is damaged: %v", sh, err)
		}
		return nil
	}
	c.reach(block.Last)
	if block.Sealed {
		sh.stream.row.NextDataKey = max(sh.stream.row.NextDataKey, block.DataKey+1)
	}
	if c.log {
		sh.seq = max(sh.seq, change.Seq)
	}
	return c.set(change.Key, change.Value)
}

// before returns the key right before that of a block.
func before(key []byte) []byte {
	place, _ := layout.DecodeBlockKey(key)
	place.Counter--
	return place.Bytes()
}

// shard returns the shard of a block, nil if it is not to be saved.
func (s *salvager) shard(place layout.BlockKey) *shard {
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

// mayHaveLostRows reports whether rows about streams may be lost. If none are, then
// records without such rows are those of a deleted stream.
func (s *salvager) mayHaveLostRows() bool {
	records, _ := layout.RecordSpan()
	return s.isTorn || len(s.wreck.Unread) > 0 || s.lostIn(nil, records)
}

// walk is the third pass: it follows the records of each shard through the epochs, and
// makes the rows of extents.
func (s *salvager) walk() error {
	known := make(map[uint32][]*shard) // by epoch: those with a row of an extent of it
	for _, st := range sorted(s.streams) {
		for _, sh := range sorted(st.shards) {
			sh.next = sh.row.Horizon
			for id := range sh.known {
				known[id] = append(known[id], sh)
			}
		}
	}
	out := newWriter(s)
	defer out.close()
	lower, upper := layout.RecordSpan()
	it, err := s.target.Store.NewIter(lower, upper)
	if err != nil {
		return err
	}
	defer it.Close() // its error is that of the last move
	b := &walker{writer: out, it: it}
	b.move(it.First())
	rest := slices.Sorted(maps.Keys(known))
	for len(rest) > 0 || b.ok {
		id := uint32(math.MaxUint32)
		if len(rest) > 0 {
			id = rest[0]
		}
		if b.ok {
			id = min(id, b.place.Epoch)
		}
		if len(rest) > 0 && rest[0] == id {
			rest = rest[1:]
		}
		if err := b.epoch(id, known[id]); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	if err := b.finish(); err != nil {
		return err
	}
	return out.flush()
}

// walker is the third pass.
type walker struct {
	*writer
	it     *kv.Iter
	ok     bool // it stands at a block
	place  layout.BlockKey
	lowest uint64 // of the counters at which extents of the current epoch begin
}

func (b *walker) move(ok bool) {
	if b.ok = ok; ok {
		b.place, _ = layout.DecodeBlockKey(b.it.Key()) // it was written by its key
	}
}

// epoch walks through the blocks of an epoch, and through the extents that have none.
func (b *walker) epoch(id uint32, known []*shard) error {
	at := func(sh *shard) layout.BlockKey {
		return layout.BlockKey{Epoch: id, Stream: sh.stream.number, Shard: sh.index}
	}
	b.lowest = math.MaxUint64
	for {
		var sh *shard
		if len(known) > 0 {
			sh = known[0]
		}
		if b.ok && b.place.Epoch == id {
			if first := b.streams[b.place.Stream].shards[b.place.Shard]; sh == nil || comparePlaces(at(first), at(sh)) <= 0 {
				sh = first
			}
		}
		if sh == nil {
			b.endEpoch(id)
			return nil
		}
		if len(known) > 0 && known[0] == sh {
			known = known[1:]
		}
		if err := b.extent(id, sh); err != nil {
			return err
		}
		if err := b.ctxEnded(); err != nil {
			return err
		}
	}
}

func comparePlaces(x, y layout.BlockKey) int {
	return cmp.Or(cmp.Compare(x.Stream, y.Stream), cmp.Compare(x.Shard, y.Shard))
}

// endEpoch makes a row for an epoch whose own is lost.
func (b *walker) endEpoch(id uint32) {
	if _, found := b.epochs[id]; found || b.lowest == math.MaxUint64 {
		return
	}
	b.epochs[id] = layout.EpochRow{FirstCounter: b.lowest}
	b.note("the row of epoch %d was lost and made anew", id)
}

// extent walks through the blocks of a shard in an epoch. What is missing in front of
// the first of them, or of the row that says where they begin, is missing at the end of
// the extent before, if there is one.
func (b *walker) extent(id uint32, sh *shard) error {
	row, known := sh.known[id]
	horizon := sh.row.Horizon
	start := layout.Horizon{Counter: row.FirstCounter, Ordinal: row.FirstOrdinal, Offset: row.FirstOffset}
	opened := false
	open := func(from layout.Horizon) {
		if !opened {
			opened = true
			b.lowest = min(b.lowest, from.Counter)
			sh.extents = append(sh.extents, extent{id, layout.ExtentRow{FirstCounter: from.Counter, FirstOrdinal: from.Ordinal, FirstOffset: from.Offset}})
		}
	}
	if known && start.Ordinal > sh.next.Ordinal {
		at := id
		if n := len(sh.extents); n > 0 {
			at = sh.extents[n-1].epoch
		} else { // the extent before is lost altogether: this one stands for it
			open(b.gapStart(sh, start.Counter))
		}
		if err := b.gap(sh, at, start, start.Counter-1, true); err != nil {
			return err
		}
	}
	if known && start.Ordinal == sh.next.Ordinal {
		sh.next = start
		open(start)
	}
	for ; b.ok && b.place.Epoch == id && b.place.Stream == sh.stream.number && b.place.Shard == sh.index; b.move(b.it.Next()) {
		key := b.it.Key()
		block, err := layout.DecodeBlock(key, b.it.Value())
		if err != nil {
			return err // it was checked when it was written
		}
		switch {
		case block.NextOrdinal() <= horizon.Ordinal || block.Last < horizon.Counter:
			b.batch.Delete(bytes.Clone(key)) // it was trimmed
			continue
		case !opened && block.Ordinal < sh.next.Ordinal && sh.next == horizon:
			// It holds the border.
			sh.next = layout.Horizon{Counter: block.First, Ordinal: block.Ordinal, Offset: block.Offset}
		case block.Ordinal < sh.next.Ordinal || block.First < sh.next.Counter:
			b.note("%d records of %s are left out: they contradict those before them, from ordinal %d on", block.Count, sh, block.Ordinal)
			b.batch.Delete(bytes.Clone(key))
			continue
		}
		if block.Ordinal > sh.next.Ordinal {
			open(b.gapStart(sh, block.First))
			if err := b.gap(sh, id, layout.Horizon{Counter: block.First, Ordinal: block.Ordinal, Offset: block.Offset}, block.First-1, true); err != nil {
				return err
			}
		}
		open(layout.Horizon{Counter: block.First, Ordinal: block.Ordinal, Offset: block.Offset})
		sh.next = block.End()
		b.report.Records += uint64(block.Count)
		b.report.Bytes += block.Bytes
	}
	sh.settle()
	if end := row.End; known && end.Counter != 0 && end.Ordinal > sh.next.Ordinal {
		open(b.gapStart(sh, end.Counter))
		if err := b.gap(sh, id, end, end.Counter-1, true); err != nil {
			return err
		}
	}
	return nil
}

// gapStart returns where an extent begins whose first records are lost, up to a counter.
func (b *walker) gapStart(sh *shard, next uint64) layout.Horizon {
	start := sh.next
	start.Counter = min(max(start.Counter, sh.row.Created, 1), next-1)
	return start
}

// gap puts a block that is lost into an extent: the records from where the shard has come
// to up to next. Its key has the counter at.
func (b *walker) gap(sh *shard, id uint32, next layout.Horizon, at uint64, counted bool) error {
	key := layout.BlockKey{Epoch: id, Stream: sh.stream.number, Shard: sh.index, Counter: at}.Bytes()
	count := next.Ordinal - sh.next.Ordinal
	if slices.ContainsFunc(sh.uncounted, func(at uint64) bool { return sh.next.Ordinal <= at && at < next.Ordinal }) {
		counted = false
	}
	if err := b.set(key, layout.PutLostBlock(key, sh.next.Ordinal, count, counted)); err != nil {
		return err
	}
	losses := &b.report.Losses
	first := max(sh.next.Counter, 1)
	if n := len(*losses); n > 0 {
		last := &(*losses)[n-1]
		if last.streamNumber == uint64(sh.stream.number) && last.Shard == sh.index && last.Next == first && last.position == sh.next.Ordinal {
			last.Next, last.position, last.Records = next.Counter, next.Ordinal, last.Records+count
			last.Counted = last.Counted && counted
			sh.next = next
			sh.settle()
			return nil
		}
	}
	*losses = append(*losses, Loss{
		Stream: sh.stream.row.Name, Shard: sh.index, CreatedSeconds: sh.row.CreatedSeconds,
		First: first, Next: next.Counter, Records: count, Counted: counted,
		streamNumber: uint64(sh.stream.number), position: next.Ordinal,
	})
	sh.next = next
	sh.settle()
	return nil
}

// settle notes that the last extent ends where the shard has come to.
func (sh *shard) settle() {
	if n := len(sh.extents); n > 0 {
		sh.extents[n-1].row.End = sh.next
	}
}

// finish ends all extents, and the shards whose last records are lost.
func (b *walker) finish() error {
	damaged := b.isTorn || len(b.lost) > 0 || len(b.wreck.Unread) > 0 || !b.clock.Closed
	if damaged {
		b.reach(b.cfg.Now) // numbers that nothing speaks of any more may have been given out
	}
	for _, st := range sorted(b.streams) {
		for _, sh := range sorted(st.shards) {
			if b.endIsLost(sh) {
				if err := b.loseEnd(sh); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// endIsLost reports whether records of the shard may be lost behind the last one that
// was found, which no row counts.
func (b *walker) endIsLost(sh *shard) bool {
	if n := len(sh.extents); n > 0 && sh.extents[n-1].row.FirstOrdinal == sh.next.Ordinal {
		return true // an extent is begun with a record
	}
	if sh.received >= max(sh.next.Counter, 1) {
		return true // a queue has received one
	}
	lower, _ := layout.StreamExtentsSpan(sh.stream.number)
	rows := b.lostIn(lower, layout.ExtentKey(sh.stream.number, sh.index, math.MaxUint32)) // those of its extents may be
	if b.clock.Closed && !rows {
		return false // they say where it ends
	}
	if !b.clock.Closed && b.isTorn && sh.seq <= b.torn && sh.row.Closed == 0 {
		return true
	}
	var newest uint32
	for id := range sh.known {
		newest = max(newest, id)
	}
	for _, x := range sh.extents {
		newest = max(newest, x.epoch)
	}
	if newest == 0 && !rows {
		return false
	}
	if row := sh.known[newest]; !rows && row.End.Counter != 0 && row.End.Ordinal >= sh.next.Ordinal && b.hasLater(newest) {
		return false // it was written when the epoch ended
	}
	if b.lostBehind(sh, newest, sh.next.Counter-min(sh.next.Counter, 1)) {
		return true
	}
	for id := range b.epochs {
		if rows && id > newest && b.lostBehind(sh, id, 0) {
			return true
		}
	}
	return false
}

// lostBehind reports whether a table has lost blocks of the shard in an epoch behind a
// counter.
func (b *walker) lostBehind(sh *shard, epoch uint32, counter uint64) bool {
	key := layout.BlockKey{Epoch: epoch, Stream: sh.stream.number, Shard: sh.index, Counter: counter}
	end := key
	end.Counter = math.MaxUint64
	return b.lostIn(key.Bytes(), end.Bytes())
}

// hasLater reports whether there is an epoch after the given one.
func (b *walker) hasLater(id uint32) bool {
	for other := range b.epochs {
		if other > id {
			return true
		}
	}
	return false
}

// loseEnd counts one record as lost at the end of a shard.
func (b *walker) loseEnd(sh *shard) error {
	at := b.last // which may be that of one of them
	if sh.row.Closed != 0 {
		at = max(sh.row.Closed, sh.next.Counter, sh.received)
	}
	end := layout.Horizon{Counter: at + 1, Ordinal: sh.next.Ordinal + 1, Offset: sh.next.Offset}
	if len(sh.extents) == 0 {
		var id uint32
		for other := range b.epochs {
			id = max(id, other)
		}
		from := b.gapStart(sh, end.Counter)
		if id == 0 {
			id, b.epochs[1] = 1, layout.EpochRow{FirstCounter: from.Counter}
		}
		sh.extents = append(sh.extents, extent{id, layout.ExtentRow{FirstCounter: from.Counter, FirstOrdinal: from.Ordinal, FirstOffset: from.Offset}})
	}
	if err := b.gap(sh, sh.extents[len(sh.extents)-1].epoch, end, at, false); err != nil {
		return err
	}
	b.reach(at)
	return nil
}

func (b *walker) ctxEnded() error {
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	return nil
}

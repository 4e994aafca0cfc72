package salvage

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"

	"github.com/braidstream/braid/internal/layout"
)

// foundBlock describes a block of records that was found: its place, and its records.
type foundBlock struct {
	place   layout.BlockKey
	first   uint64 // counter of the first record
	ordinal uint64 // of the first record
	offset  uint64 // of the first record
	count   uint64 // how many records
	bytes   uint64 // the size of the records

	// givenUp is set if AcceptLoss would give up the only place that has it. Only Look
	// uses it.
	givenUp bool
}

func newFoundBlock(place layout.BlockKey, b *layout.Block) foundBlock {
	return foundBlock{place: place, first: b.First, ordinal: b.Ordinal, offset: b.Offset, count: uint64(b.Count), bytes: b.Bytes}
}

// end returns the horizon right above the block.
func (f *foundBlock) end() layout.Horizon {
	return layout.Horizon{Counter: f.place.Counter + 1, Ordinal: f.ordinal + f.count, Offset: f.offset + f.bytes}
}

// blocks iterates over the blocks that were found, in the order of their keys, each once.
type blocks interface {
	next() (f foundBlock, ok bool, err error)
}

// walk is the third pass. It follows the records of each shard through the epochs, makes the
// rows of extents, and inserts blocks for lost records into out. It adds the records that
// AcceptLoss would give up to givenUp, unless that is nil.
func (s *survey) walk(found blocks, out sink, givenUp *losses) error {
	known := make(map[uint32][]*shard) // by epoch: the shards with an extent's row for it
	for _, st := range sorted(s.streams) {
		for _, sh := range sorted(st.shards) {
			sh.next = sh.row.Horizon
			for id := range sh.known {
				known[id] = append(known[id], sh)
			}
		}
	}
	b := &walker{survey: s, out: out, blocks: found, losses: (*losses)(&s.report.Losses), givenUp: givenUp}
	if err := b.move(); err != nil {
		return err
	}
	rest := slices.Sorted(maps.Keys(known))
	for len(rest) > 0 || b.ok {
		id := uint32(math.MaxUint32)
		if len(rest) > 0 {
			id = rest[0]
		}
		if b.ok {
			id = min(id, b.at.place.Epoch)
		}
		if len(rest) > 0 && rest[0] == id {
			rest = rest[1:]
		}
		if err := b.epoch(id, known[id]); err != nil {
			return err
		}
	}
	return b.finish()
}

// losses are ranges of lost records. Consecutive ranges are joined.
type losses []Loss

// add adds the records of a shard from an ordinal and a counter up to next.
func (l *losses) add(sh *shard, ordinal, first uint64, next layout.Horizon, counted bool) {
	loss := Loss{
		Stream: sh.stream.row.Name, Shard: sh.index, CreatedSeconds: sh.row.CreatedSeconds,
		First: max(first, 1), Next: next.Counter, Records: next.Ordinal - ordinal, Counted: counted,
		streamNumber: sh.stream.number, ordinal: ordinal, end: next.Ordinal,
	}
	if n := len(*l); n > 0 && (*l)[n-1].precedes(&loss) {
		(*l)[n-1].extend(&loss)
		return
	}
	*l = append(*l, loss)
}

// precedes reports whether the other loss directly follows this one.
func (l *Loss) precedes(other *Loss) bool {
	return l.streamNumber == other.streamNumber && l.Shard == other.Shard && l.end == other.ordinal
}

// extend adds a loss that directly follows.
func (l *Loss) extend(other *Loss) {
	l.Next, l.end, l.Records = other.Next, other.end, l.Records+other.Records
	l.Counted = l.Counted && other.Counted
}

// walker is the state of the third pass.
type walker struct {
	*survey
	out     sink
	blocks  blocks
	losses  *losses
	givenUp *losses // the records that AcceptLoss would give up; nil if nobody needs them

	ok     bool // whether there is a current block
	at     foundBlock
	lowest uint64 // the lowest counter at which an extent of the current epoch begins
}

func (b *walker) move() (err error) {
	b.at, b.ok, err = b.blocks.next()
	return err
}

// epoch walks through the blocks of an epoch, and through the extents without blocks.
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
		if b.ok && b.at.place.Epoch == id {
			if first := b.streams[b.at.place.Stream].shards[b.at.place.Shard]; sh == nil || comparePlaces(at(first), at(sh)) <= 0 {
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

// endEpoch makes a row for an epoch if its own is lost.
func (b *walker) endEpoch(id uint32) {
	if _, found := b.epochs[id]; found || b.lowest == math.MaxUint64 {
		return
	}
	b.epochs[id] = layout.EpochRow{FirstCounter: b.lowest}
	b.note("the row of epoch %d was lost and made anew", id)
}

// extent walks through the blocks of a shard in an epoch. Records missing before the first of
// them, or before the beginning in the extent's row, are missing at the end of the previous
// extent, if there is one.
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
		} else { // the previous extent is lost altogether: this one has the gap
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
	for b.ok && b.at.place.Epoch == id && b.at.place.Stream == sh.stream.number && b.at.place.Shard == sh.index {
		block := b.at
		if err := b.move(); err != nil {
			return err
		}
		switch {
		case block.ordinal+block.count <= horizon.Ordinal || block.place.Counter < horizon.Counter:
			b.out.remove(block.place) // all its records were trimmed
			continue
		case !opened && block.ordinal < sh.next.Ordinal && sh.next == horizon:
			// The border of the trim is inside the block.
			sh.next = layout.Horizon{Counter: block.first, Ordinal: block.ordinal, Offset: block.offset}
		case block.ordinal < sh.next.Ordinal || block.first < sh.next.Counter:
			b.note("%d records of %s are left out: they contradict those before them, from ordinal %d on", block.count, sh, block.ordinal)
			b.out.remove(block.place)
			continue
		}
		begin := layout.Horizon{Counter: block.first, Ordinal: block.ordinal, Offset: block.offset}
		if block.ordinal > sh.next.Ordinal {
			open(b.gapStart(sh, block.first))
			if err := b.gap(sh, id, begin, block.first-1, true); err != nil {
				return err
			}
		}
		open(begin)
		sh.next = block.end()
		b.report.Records += block.count
		b.report.Bytes += block.bytes
		if block.givenUp && b.givenUp != nil {
			b.givenUp.add(sh, block.ordinal, block.first, sh.next, true)
		}
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

// gapStart returns where an extent begins whose first records, below counter next, are lost.
func (b *walker) gapStart(sh *shard, next uint64) layout.Horizon {
	start := sh.next
	start.Counter = min(max(start.Counter, sh.row.Created, 1), next-1)
	return start
}

// gap inserts a block for lost records into an extent: from the walk's place in the shard up
// to next. Its key has the counter at.
func (b *walker) gap(sh *shard, id uint32, next layout.Horizon, at uint64, counted bool) error {
	key := layout.BlockKey{Epoch: id, Stream: sh.stream.number, Shard: sh.index, Counter: at}.Bytes()
	count := next.Ordinal - sh.next.Ordinal
	if slices.ContainsFunc(sh.uncounted, func(at uint64) bool { return sh.next.Ordinal <= at && at < next.Ordinal }) {
		counted = false
	}
	if err := b.out.set(key, layout.PutLostBlock(key, sh.next.Ordinal, count, counted)); err != nil {
		return err
	}
	b.losses.add(sh, sh.next.Ordinal, sh.next.Counter, next, counted)
	if b.givenUp != nil {
		b.givenUp.add(sh, sh.next.Ordinal, sh.next.Counter, next, counted)
	}
	sh.next = next
	sh.settle()
	return nil
}

// settle notes that the last extent ends at the walk's place in the shard.
func (sh *shard) settle() {
	if n := len(sh.extents); n > 0 {
		sh.extents[n-1].row.End = sh.next
	}
}

// finish ends all extents. If the last records of a shard are lost, it counts them.
func (b *walker) finish() error {
	damaged := b.isTorn || len(b.lost) > 0 || len(b.wreck.Unread) > 0 || !b.clock.Closed
	if damaged {
		b.reach(b.cfg.Now) // numbers that are in no file may have been given out
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

// endIsLost reports whether records may be lost after the last one found in the shard that no
// row counts.
func (b *walker) endIsLost(sh *shard) bool {
	if b.looks() && sh.isNew {
		return false // the survey has made it for a range without a shard
	}
	if b.foreign && sh.row.Closed == 0 {
		return true
	}
	if n := len(sh.extents); n > 0 && sh.extents[n-1].row.FirstOrdinal == sh.next.Ordinal {
		return true // an extent begins with a record, so one is lost
	}
	if sh.received >= max(sh.next.Counter, 1) {
		return true // a queue has received a later record
	}
	lower, _ := layout.StreamExtentsSpan(sh.stream.number)
	rows := b.lostIn(lower, layout.ExtentKey(sh.stream.number, sh.index, math.MaxUint32)) // whether rows of its extents may be lost
	if b.clock.Closed && !rows {
		return false // the extents' rows have the end
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
		return false // the extent's end was written when the epoch ended
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

// lostBehind reports whether a table has lost blocks of the shard in an epoch after a counter.
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
	at := b.last // a lost record may have this counter
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

package salvage

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"

	"github.com/braidstream/braid/internal/layout"
)

// foundBlock is a block of records that was found: where it stands, and what it holds of
// its shard.
type foundBlock struct {
	place   layout.BlockKey
	first   uint64 // counter of the first record
	ordinal uint64 // of the first record
	offset  uint64 // of the first record
	count   uint64 // of records
	bytes   uint64 // of records

	// givenUp says that it stands only where AcceptLoss no longer looks. Only Look
	// asks.
	givenUp bool
}

func newFoundBlock(place layout.BlockKey, b *layout.Block) foundBlock {
	return foundBlock{place: place, first: b.First, ordinal: b.Ordinal, offset: b.Offset, count: uint64(b.Count), bytes: b.Bytes}
}

// end returns the horizon right above the block.
func (f *foundBlock) end() layout.Horizon {
	return layout.Horizon{Counter: f.place.Counter + 1, Ordinal: f.ordinal + f.count, Offset: f.offset + f.bytes}
}

// blocks gives out the blocks that were found, in the order of their keys, each once.
type blocks interface {
	next() (f foundBlock, ok bool, err error)
}

// walk is the third pass: it follows the records of each shard through the epochs, makes
// the rows of extents, and puts blocks that are lost into out. What AcceptLoss would give up
// it adds to givenUp, unless that is nil.
func (s *survey) walk(found blocks, out sink, givenUp *losses) error {
	known := make(map[uint32][]*shard) // by epoch: those with a row of an extent of it
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

// losses are stretches of shards, of which those that follow on from each other are one.
type losses []Loss

// add adds records of a shard, from an ordinal and a counter up to next.
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

// precedes reports whether the other loss follows on from this one.
func (l *Loss) precedes(other *Loss) bool {
	return l.streamNumber == other.streamNumber && l.Shard == other.Shard && l.end == other.ordinal
}

// extend adds a loss that follows on.
func (l *Loss) extend(other *Loss) {
	l.Next, l.end, l.Records = other.Next, other.end, l.Records+other.Records
	l.Counted = l.Counted && other.Counted
}

// walker is the third pass.
type walker struct {
	*survey
	out     sink
	blocks  blocks
	losses  *losses
	givenUp *losses // what AcceptLoss would give up; nil if nobody asks

	ok     bool // there is a current block
	at     foundBlock
	lowest uint64 // of the counters at which extents of the current epoch begin
}

func (b *walker) move() (err error) {
	b.at, b.ok, err = b.blocks.next()
	return err
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
	for b.ok && b.at.place.Epoch == id && b.at.place.Stream == sh.stream.number && b.at.place.Shard == sh.index {
		block := b.at
		if err := b.move(); err != nil {
			return err
		}
		switch {
		case block.ordinal+block.count <= horizon.Ordinal || block.place.Counter < horizon.Counter:
			b.out.remove(block.place) // it was trimmed
			continue
		case !opened && block.ordinal < sh.next.Ordinal && sh.next == horizon:
			// It holds the border.
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
	if b.looks() && sh.isNew {
		return false // there were none
	}
	if b.foreign && sh.row.Closed == 0 {
		return true
	}
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

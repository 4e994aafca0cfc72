package braid

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/tail"
)

// pageQuery asks for consecutive records of a shard.
type pageQuery struct {
	from, to       uint64 // counters, inclusive
	strict         bool   // as in bound
	ordinal        uint64 // as in bound
	records, bytes int    // the most to return
	bare           bool   // leave out partition keys and data; then no data key is needed
	anyOrdinal     bool   // a block missing before the first record is no error
}

// page has consecutive records of a shard.
type page struct {
	from    uint64 // the query's from, or the horizon's counter if that is higher
	records []layout.Record
	next    uint64 // the counter of the first record after the page, 0 for none
	want    uint64 // the least ordinal that the first record must have, plus one; 0 if unknown
	tip     tail.Tip
}

// page reads records of the shard: from memory if the tail reaches back that far, otherwise
// from the store. It appends them to buf. No iterator outlives the call, so a slow reader
// holds nothing.
//
// Invariant: the ordinals of a page are dense, and continue from the query's. Any gap is
// ErrDataLoss, whatever its cause. Readable records before a damaged one are returned as a
// page of their own; the next call returns the CorruptError.
func (sh *Shard) page(ctx context.Context, q pageQuery, buf []layout.Record) (page, error) {
	db := sh.stream.db
	for {
		// Check in each round: after ctx has ended, an abandoned read may still append to
		// buf.
		if err := ended(ctx); err != nil {
			return page{}, err
		}
		if db.closed.Load() {
			return page{}, ErrClosed
		}
		stored, extents := sh.view()
		horizon, exact, err := sh.readable(ctx, q.from, stored, extents)
		if err != nil {
			if after, _ := sh.view(); after != stored {
				continue // the block that it looked for was trimmed meanwhile
			}
			if sh.stream.deleted.Load() {
				err = ErrStreamNotFound
			}
			return page{}, err
		}
		from, err := sh.enter(q, horizon)
		if err != nil {
			return page{}, err
		}
		records, view := sh.log.Read(buf, from, q.to, q.records, q.bytes)
		p := page{from: from, records: records, next: view.Next, tip: view.Tip}
		_, extents = sh.view() // read again after the tip, so that the extents reach it
		if !view.Covered {
			db.reads.stored.Add(1)
			var s stretch
			s, err = reading(ctx, db, func() (stretch, error) {
				return sh.readStored(ctx, from, min(q.to, view.Tip.LastCounter), q, extents, buf)
			})
			p.records, p.next, p.want = s.records, s.next, s.want
		} else {
			db.reads.tail.Add(1)
		}
		// A trim or a deletion is visible before it removes anything. So if neither is
		// visible now, nothing was removed during this read.
		if after, _ := sh.view(); after != stored {
			continue
		}
		if sh.stream.deleted.Load() {
			return page{}, ErrStreamNotFound
		}
		var missing *missingKeyError
		if errors.As(err, &missing) {
			err = sh.stream.openDataKey(ctx, missing.number)
			if after, _ := sh.view(); err == nil || after != stored { // a data key is removed with the records that need it
				continue
			}
			if errors.Is(err, ErrKeyUnavailable) && len(p.records) > len(buf) {
				p.next, err = missing.counter, nil // return the records before it
			}
		}
		if isDamage(err) {
			if n := len(p.records); n > len(buf) {
				p.next, err = p.records[n-1].Counter+1, nil // return the records before the damage first
			} else {
				err = sh.damaged(ctx, from, view.Tip, extents, err)
			}
		}
		if err != nil {
			return page{}, err
		}
		if !exact {
			horizon = layout.Horizon{} // an ordinal that demands nothing
		}
		return p, sh.checkOrdinals(q, &p, horizon, extents)
	}
}

// enter returns where the query begins. If records there were trimmed or have expired, a
// strict query is refused, and any other one moves to the horizon.
func (sh *Shard) enter(q pageQuery, horizon layout.Horizon) (from uint64, err error) {
	switch {
	case sh.stream.deleted.Load():
		return 0, ErrStreamNotFound
	case q.from >= horizon.Counter:
		return q.from, nil
	case q.strict:
		return 0, &TrimmedError{
			Shard:          sh.id,
			FirstLost:      sh.number(q.from),
			LastLost:       sh.number(horizon.Counter - 1),
			FirstAvailable: sh.number(horizon.Counter),
		}
	default:
		return horizon.Counter, nil
	}
}

// checkOrdinals verifies that no record is missing from the page. It cuts the page off before
// a gap, so that the next page begins with the gap.
func (sh *Shard) checkOrdinals(q pageQuery, p *page, horizon layout.Horizon, extents epoch.Extents) error {
	if len(p.records) == 0 {
		to := min(q.to, p.tip.LastCounter)
		if p.from <= to && p.next == 0 && sh.holds(p.from, to, p.tip, extents) {
			return sh.missing(p.from, to+1, "no record was found before it")
		}
		return nil
	}
	want := p.records[0].Ordinal
	switch {
	case p.from == q.from && q.ordinal > 0:
		want = q.ordinal - 1
	case p.from <= horizon.Counter:
		want = horizon.Ordinal
	case p.want > 0: // records before the horizon may be missing
		want = max(p.want-1, horizon.Ordinal)
	default:
		if s := extents.From(p.from); len(s) > 0 && p.from <= s[0].FirstCounter {
			want = s[0].FirstOrdinal
		}
	}
	for i := range p.records {
		if got := p.records[i].Ordinal; got != want && i > 0 {
			p.records, p.next = p.records[:i], p.records[i-1].Counter+1
			return nil
		} else if got != want {
			return sh.missing(p.from, p.records[0].Counter, fmt.Sprintf("the next record has ordinal %d, where %d should follow", got, want))
		}
		want++
	}
	last := &p.records[len(p.records)-1]
	if p.next == 0 && q.to >= p.tip.LastCounter && last.Ordinal+1 != p.tip.Ordinal {
		p.next = last.Counter + 1
	}
	return nil
}

// missing returns the error for records that should exist, at counter from or above and
// below next, but do not.
func (sh *Shard) missing(from, next uint64, what string) error {
	return &CorruptError{Shard: sh.id, FirstLost: sh.number(from), FirstAvailable: sh.number(next), Err: fmt.Errorf("%w: %s", ErrDataLoss, what)}
}

// holds reports whether there must be a record in the range of counters.
func (sh *Shard) holds(from, to uint64, tip tail.Tip, extents epoch.Extents) bool {
	if from <= tip.LastCounter && tip.LastCounter <= to {
		return true
	}
	for _, s := range extents.From(from) {
		if from <= s.FirstCounter && s.FirstCounter <= to {
			return true
		}
	}
	return false
}

// stretch is the result of readStored.
type stretch struct {
	records []layout.Record // the caller's, with the new ones appended
	next    uint64          // as in page
	want    uint64          // as in page
}

// readStored reads records from the store.
func (sh *Shard) readStored(ctx context.Context, from, to uint64, q pageQuery, extents epoch.Extents, buf []layout.Record) (stretch, error) {
	b := pageBuilder{stream: sh.stream, bare: q.bare, from: from, to: to, records: buf, start: len(buf), limit: q.records, bytes: q.bytes}
	err := sh.eachBlock(ctx, from, to, extents, b.add)
	s := stretch{records: b.records, next: b.next}
	if q.ordinal == 0 && !q.anyOrdinal && b.apart && len(s.records) > len(buf) {
		var behind error
		if s.want, behind = sh.ordinalAt(from, extents); behind != nil {
			return stretch{records: buf}, behind
		}
	}
	return s, err
}

// ordinalAt returns the least ordinal, plus one, that a record at counter from or above can
// have. It derives it from the block right below, and returns 0 if that cannot be read. It is
// for a reader that knows no ordinal, and whose first block begins above the counter. If that
// block does not continue the one below, a block is missing, and no other check may notice it.
func (sh *Shard) ordinalAt(from uint64, extents epoch.Extents) (want uint64, err error) {
	in := extents.From(from)
	if len(in) == 0 || from <= in[0].FirstCounter {
		return 0, nil // the extent's own first ordinal is known
	}
	lower, _ := sh.extentSpan(in[0], 0)
	upper, _ := sh.extentSpan(in[0], from)
	it, err := sh.stream.db.store.NewIter(lower, upper)
	if err == nil {
		defer it.Close() // Close returns the error of the last move, which was checked
		var below *layout.Block
		switch below, err = foundBlock(it, it.Last()); {
		case below != nil:
			return below.NextOrdinal() + 1, nil
		case err == nil:
			return in[0].FirstOrdinal + 2, nil // the extent's first record lies below from, and is missing
		}
	}
	if isDamage(err) {
		return 0, nil // damage of records that this reader does not read
	}
	return 0, err
}

// eachBlock walks the shard's blocks in the store, extent by extent. It begins with the block
// that has the first record at counter from or above. It ends when visit returns false or an
// error, or with the last extent that begins at counter to or below.
func (sh *Shard) eachBlock(ctx context.Context, from, to uint64, extents epoch.Extents, visit func(*kv.Iter) (more bool, err error)) (err error) {
	var it *kv.Iter
	defer func() {
		if it != nil {
			err = cmp.Or(err, it.Close()) // Close may repeat the error
		}
	}()
	for _, s := range extents.From(from) {
		if s.FirstCounter > to {
			break
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		// The block that holds the record at counter to has a key at to or above.
		lower, upper := sh.extentSpan(s, from)
		if it == nil {
			if it, err = sh.stream.db.store.NewIter(lower, upper); err != nil {
				return err
			}
		} else {
			it.SetBounds(lower, upper)
		}
		for ok := it.First(); ok; ok = it.Next() {
			if more, err := visit(it); !more || err != nil {
				return err
			}
		}
		if err := it.Error(); err != nil {
			if isDamage(err) {
				sh.stream.db.noteDamage(s.Epoch)
			}
			return err
		}
	}
	return nil
}

// extentSpan is the range of the shard's blocks in an extent that have records at
// counter from or above.
func (sh *Shard) extentSpan(s epoch.Extent, from uint64) (lower, upper []byte) {
	key := layout.BlockKey{Epoch: s.Epoch, Stream: sh.stream.number, Shard: sh.index, Counter: from}
	lower = key.Bytes()
	key.Counter = maxCounter + 1
	return lower, key.Bytes()
}

// pageBuilder copies records out of an iterator, block by block. The copies share memory in
// chunks, so a record that is kept keeps its chunks alive. A chunk has at most dataChunkBytes
// or keyChunkBytes, or the size of one record if that is larger. The records of an encrypted
// block share the data of the block.
type pageBuilder struct {
	stream       *Stream
	bare         bool   // as in the query
	from, to     uint64 // as in the query
	records      []layout.Record
	start        int
	limit, bytes int
	next         uint64 // set when a limit is reached
	apart        bool   // the first block begins above from

	chunk     []byte // the free rest of the current chunk for data
	chunkSize int    // the size of the last chunk
	keys      keyChunks

	seal *layout.SealScratch // allocated for the first encrypted block
}

// keyChunkBytes is the most bytes of partition keys that share memory, unless those of one
// block are larger.
const keyChunkBytes = 8 << 10

// add adds the records of the iterator's current block. It reports whether those of the next
// block may belong to the page, too.
func (b *pageBuilder) add(it *kv.Iter) (more bool, err error) {
	block, err := decodeBlock(it)
	full := len(b.records)-b.start == b.limit
	switch {
	case err != nil && full: // the next page reports it
		b.next = b.records[len(b.records)-1].Counter + 1
		return false, nil
	case err != nil:
		return false, err
	case block.First > b.to:
		return false, nil
	case full:
		b.next = block.First
		return false, nil
	}
	first := block.Records()
	if !first.Seek(b.from) { // all records are below from, although the key is not
		return true, nil
	}
	n := b.wanted(&block, first)
	if len(b.records) == b.start {
		b.apart = block.First > b.from
	}
	if n > 0 {
		if err := b.take(it, &block, first, n); err != nil {
			return false, err
		}
	}
	return b.next == 0 && block.Last < b.to, nil
}

// decodeBlock decodes the iterator's current block.
func decodeBlock(it *kv.Iter) (layout.Block, error) {
	key := it.Key()
	block, err := layout.DecodeBlock(key, it.Value())
	if err == nil {
		return block, nil
	}
	if err := it.Error(); err != nil {
		return block, err // the value could not be read
	}
	place, bad := layout.DecodeBlockKey(key)
	if bad != nil {
		return block, corrupt(bad)
	}
	return block, &damagedBlockError{place.Counter, corrupt(err)}
}

// wanted returns how many records of the block, from first on, belong to the page. It sets
// next if a limit leaves one out.
func (b *pageBuilder) wanted(block *layout.Block, first layout.BlockIter) int {
	taken, rest := len(b.records)-b.start, block.Count-first.N
	if size := int(block.NextOffset() - first.Offset()); taken+rest <= b.limit && block.Last <= b.to && size <= b.bytes {
		b.bytes -= size
		return rest
	}
	n := 0
	for it, ok := first, true; ok && it.Counter <= b.to; ok = it.Next() {
		b.bytes -= it.Size()
		if taken+n == b.limit || b.bytes < 0 && taken+n > 0 {
			b.next = it.Counter
			break
		}
		n++
	}
	return n
}

// take adds n records of the block, from first on.
func (b *pageBuilder) take(it *kv.Iter, block *layout.Block, first layout.BlockIter, n int) error {
	if b.bare {
		for range n {
			b.records = append(b.records, layout.Record{Counter: first.Counter, Ordinal: first.Ordinal(), Offset: first.Offset(), Sealed: block.Sealed})
			first.Next()
		}
		return nil
	}
	if block.Sealed {
		if err := b.open(it.Key(), block, first.Counter); err != nil {
			return err
		}
	}
	keys, data := first.Stretch(n)
	if !block.Sealed { // decrypted data already has memory of its own
		data = b.copy(data)
	}
	b.records = first.Append(slices.Grow(b.records, n), n, b.keys.copy(keys), data)
	return nil
}

// open decrypts a block. counter is that of the first record that the page needs of it.
func (b *pageBuilder) open(key []byte, block *layout.Block, counter uint64) error {
	dataKey := b.stream.dataKey(block.DataKey)
	if dataKey == nil {
		return &missingKeyError{block.DataKey, counter}
	}
	if b.seal == nil {
		b.seal = new(layout.SealScratch)
	}
	if err := dataKey.Open(key, block, b.seal); err != nil {
		return &damagedBlockError{block.Last, corrupt(err)}
	}
	return nil
}

// copy returns a copy of data. Chunks grow with the page, so that reading one
// small record does not allocate a large one.
func (b *pageBuilder) copy(data []byte) []byte {
	n := len(data)
	if n > len(b.chunk) || b.chunk == nil {
		b.chunkSize = min(max(2*b.chunkSize, n), dataChunkBytes)
		b.chunk = make([]byte, max(n, b.chunkSize))
	}
	data = append(b.chunk[:0:n], data...)
	b.chunk = b.chunk[n:]
	return data
}

// keyChunks has memory for partition keys. It uses a strings.Builder, because the strings
// that one has returned do not change when more is written to it.
type keyChunks struct {
	chunk strings.Builder
	size  int // the size of the last chunk
}

// copy returns a copy of partition keys, as [pageBuilder.copy] does of data.
func (k *keyChunks) copy(keys []byte) string {
	n := len(keys)
	if n > k.chunk.Cap()-k.chunk.Len() {
		k.size = min(max(2*k.size, n), keyChunkBytes)
		k.chunk.Reset()
		k.chunk.Grow(max(n, k.size))
	}
	start := k.chunk.Len()
	k.chunk.Write(keys)
	return k.chunk.String()[start:]
}

package braid

import (
	"context"
	"sync/atomic"
	"unsafe"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

// readAhead reads pages from the store for a loop over records, on other goroutines while the
// loop's body works: for each shard, the page after the current one. A goroutine copies
// blocks, and the loop decodes them, so two cores share the cost of a long read even if the
// body does nothing. A second goroutine helps while a loop over many shards waits for several
// pages, because large records take longer to copy than to yield.
//
// A page read ahead is a hint. Before the loop uses its records, it makes sure that they are
// visible and the next ones: see [cursor.unpack]. In every other case, such as damage, the
// loop drops the page and continues with [Shard.page], which finds out the reason.
//
// Reading ahead begins with the second page of a shard, and only if the store has one, so a
// loop that reads little starts no goroutine. The end of the loop does not wait for its
// goroutines, so that a stalled disk does not delay the caller; they end after their current
// read. A database has at most [maxReadAheads] of them, including those of loops that have
// ended.
type readAhead struct {
	ctx     context.Context
	db      *DB
	reuse   bool            // the loop borrows records
	readers []*reader       // empty while there is nothing to read
	queue   chan *blockPage // the readers take pages from it; closed by end
	stopped *atomic.Bool    // set when nobody waits for the queued pages
}

const (
	// maxPagesAhead is the most pages that wait to be read. A loop over more shards reads
	// the pages of the others when it needs them.
	maxPagesAhead = 64

	// manyPagesAhead is how many pages must wait for a second goroutine to help.
	manyPagesAhead = 4

	// maxReadAheads bounds the goroutines of a database that read ahead. Loops that get none
	// read their pages when they need them.
	maxReadAheads = 64
)

// ask queues a page for reading, and reports whether there was room.
func (a *readAhead) ask(p *blockPage) bool {
	if len(a.readers) == 0 && !a.begin() {
		return false
	}
	select {
	case a.queue <- p:
		if len(a.readers) == 1 && len(a.queue) > manyPagesAhead {
			a.begin()
		}
		return true
	default:
		return false
	}
}

// begin starts a goroutine. It returns false if the database has too many.
func (a *readAhead) begin() bool {
	rs := &a.db.readers
	if rs.ahead.Add(1) > maxReadAheads {
		rs.ahead.Add(-1)
		return false
	}
	if len(a.readers) == 0 {
		a.queue, a.stopped = make(chan *blockPage, maxPagesAhead), new(atomic.Bool)
	}
	ctx, queue, stopped, r := a.ctx, a.queue, a.stopped, rs.take()
	a.readers = append(a.readers, r)
	r.work <- func() {
		defer rs.ahead.Add(-1)
		for p := range queue {
			if !stopped.Load() {
				p.read(ctx, stopped)
			}
			p.done <- struct{}{}
		}
	}
	return true
}

// wait waits until a page has been read. It returns false if the loop's context ends first.
func (a *readAhead) wait(p *blockPage) bool {
	spin(p.done)
	select {
	case <-p.done:
		return true
	case <-a.ctx.Done():
		return false
	}
}

// end stops the goroutines, at the end of the loop and before a wait of any length. It
// abandons a goroutine that does not stop at once, as [reading] does. The next ask starts new
// ones.
func (a *readAhead) end() {
	if len(a.readers) == 0 {
		return
	}
	a.stopped.Store(true)
	close(a.queue)
	for _, r := range a.readers {
		if r.finished() {
			a.db.readers.give(r)
		} else {
			close(r.work) // it holds at most an iterator, and Close waits for that
		}
	}
	clear(a.readers)
	a.readers = a.readers[:0]
}

// blockPage is a page of consecutive blocks of a shard, copied from the store but neither
// verified nor decoded. It belongs to a goroutine of a [readAhead] from ask until done has a
// token, and otherwise to a cursor.
type blockPage struct {
	sh       *Shard
	from, to uint64 // it has the blocks whose last counters are from from to to, inclusive
	limit    int    // the most bytes of memory; one block is read whatever its size
	done     chan struct{}
	reuse    bool // nobody keeps records, so chunk is reused

	blocks []copiedBlock
	bytes  int
	more   bool   // the limit was reached before to
	chunk  []byte // memory for values; records that are kept keep it alive, unless it is reused
}

type copiedBlock struct {
	key   layout.BlockKey
	value []byte
}

const copiedBlockBytes = int(unsafe.Sizeof(copiedBlock{}))

// read reads the page. After an error, the page has the blocks before it, as if nothing
// followed.
func (p *blockPage) read(ctx context.Context, stopped *atomic.Bool) {
	clear(p.blocks)
	p.blocks, p.bytes, p.more = p.blocks[:0], 0, false
	if p.reuse { // the loop is done with the records in the chunk
		p.chunk = p.chunk[:0]
	}
	_, extents := p.sh.view()
	_ = p.sh.eachBlock(ctx, p.from, p.to, extents, func(it *kv.Iter) (more bool, err error) {
		if stopped.Load() {
			return false, nil
		}
		return p.add(it)
	})
}

// add copies the iterator's current block. It reports whether there may be room for the
// next one.
func (p *blockPage) add(it *kv.Iter) (more bool, err error) {
	key, err := layout.DecodeBlockKey(it.Key())
	if err != nil || key.Counter > p.to {
		return false, err
	}
	value := it.Value()
	if err := it.Error(); err != nil {
		return false, err
	}
	if p.bytes += len(value) + copiedBlockBytes; p.bytes > p.limit && len(p.blocks) > 0 {
		p.more = true
		return false, nil
	}
	p.blocks = append(p.blocks, copiedBlock{key, p.copy(value)})
	return true, nil
}

// copy returns a copy of a value, in memory that the values of a page share. A loop over
// many shards has small pages, which must not have large chunks.
func (p *blockPage) copy(value []byte) []byte {
	n := len(value)
	if n > cap(p.chunk)-len(p.chunk) {
		size := p.limit
		if !p.reuse {
			size = min(size, dataChunkBytes)
		}
		p.chunk = make([]byte, 0, max(n, size))
	}
	start := len(p.chunk)
	p.chunk = append(p.chunk, value...)
	return p.chunk[start:len(p.chunk):len(p.chunk)]
}

// walked holds a cursor's pages of blocks.
type walked struct {
	ahead *readAhead // the loop's
	page  *blockPage // the current page, whose blocks[at:] are still to be decoded; nil for none
	at    int
	next  *blockPage // the page that is being read; nil for none
	spare *blockPage // a page for reuse
	more  bool       // the store has records after the cursor's current ones
	keys  keyChunks
	seal  layout.SealScratch
}

// unpack takes the shard's next records from the current page of blocks, or the one after
// it, and reports whether there are some. The records are visible at this moment.
func (c *cursor) unpack(ctx context.Context, to uint64) bool {
	w := &c.walked
	if w.page == nil && !c.turn(to) {
		return false
	}
	records := c.buf[:0]
	if ctx.Err() == nil && c.sh.shows(c.from) {
		for len(records) < unpackRecords && w.at < len(w.page.blocks) {
			rest, ok := c.appendBlock(records, &w.page.blocks[w.at])
			if !ok {
				break
			}
			records = rest
			w.at++
		}
	}
	if len(records) == 0 {
		c.forget()
		return false
	}
	c.records, c.at, c.buf = records, 0, records
	if w.at == len(w.page.blocks) {
		w.more, w.page, w.spare = w.page.more, nil, w.page
	}
	return true
}

// unpackRecords is the number of records that a cursor takes from a page of blocks, rounded up
// to whole blocks. They are so many that the cost of a look at the shard does not matter, and
// so few that they stay in the processor's cache.
const unpackRecords = 64

// appendBlock appends the records of a block. It returns false if the block is damaged,
// cannot be decrypted, or does not have the next records.
func (c *cursor) appendBlock(records []layout.Record, stored *copiedBlock) ([]layout.Record, bool) {
	var key [layout.BlockKeyBytes]byte
	stored.key.Put(key[:])
	block, err := layout.DecodeBlock(key[:], stored.value)
	if err != nil {
		return records, false
	}
	if block.Sealed {
		dataKey := c.sh.stream.dataKey(block.DataKey)
		if dataKey == nil || dataKey.OpenInPlace(key[:], &block, &c.walked.seal) != nil {
			return records, false
		}
	}
	first := block.Records()
	if !first.Seek(c.from) || first.Ordinal() != c.ordinal-1 {
		return records, false
	}
	n := block.Count - first.N
	keys, data := first.Stretch(n)
	records = first.Append(records, n, c.walked.keys.copy(keys), data)
	c.passed(records[len(records)-n:])
	return records, true
}

// turn moves to the next page of blocks and asks for the one after it. It returns false if
// there is no next page.
func (c *cursor) turn(to uint64) bool {
	w := &c.walked
	if w.next == nil && (!w.more || !c.ask(c.from, to)) {
		return false
	}
	if !w.ahead.wait(w.next) {
		w.next = nil
		return false
	}
	reads := &c.sh.stream.db.reads
	reads.stored.Add(1)
	reads.ahead.Add(1)
	w.page, w.at, w.next = w.next, 0, nil
	n := len(w.page.blocks)
	if n == 0 {
		c.forget()
		return false
	}
	if w.page.more {
		c.ask(w.page.blocks[n-1].key.Counter+1, to)
	}
	return true
}

// ask asks for a page from counter from on, and reports whether it will be read.
func (c *cursor) ask(from, to uint64) bool {
	w := &c.walked
	p := w.spare
	if p == nil {
		p = &blockPage{sh: c.sh, limit: c.bytes, done: make(chan struct{}, 1), reuse: w.ahead.reuse}
	}
	p.from, p.to = from, min(to, c.sh.log.LastCounter())
	if !w.ahead.ask(p) {
		return false
	}
	w.next, w.spare = p, nil
	return true
}

// forget drops the pages that were read ahead.
func (c *cursor) forget() {
	w := &c.walked
	w.page, w.next, w.more = nil, nil, false
}

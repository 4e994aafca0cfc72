package braid

import (
	"context"
	"sync/atomic"
	"unsafe"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

// readAhead reads pages from the store for a loop over records, on another goroutine
// while the loop's body works: for each shard the one after the page that the loop is
// in. The goroutine copies blocks, and the loop takes them apart; so two cores share
// what a long read costs even if the body does nothing.
//
// What lies ahead is a hint. Before the loop uses it, it makes sure that the records
// show, and are the next ones; [cursor.unpack] does. Whatever is out of the ordinary,
// damage among it, makes the loop forget the page and go on with [Shard.page], which
// finds out what it is.
//
// The goroutine begins with the second page of a shard, and a page is asked for only if
// there is something for it: so a loop that reads little has none. The end of the loop
// does not wait for it, so that a stalled disk does not hold up a caller that leaves: it
// ends after the read that it is in. A database has [maxReadAheads] of them at most, of
// loops that go on and of loops that have ended.
type readAhead struct {
	ctx     context.Context
	db      *DB
	reuse   bool            // the loop borrows records
	reader  *reader         // nil while there is nothing to be read
	queue   chan *blockPage // closed by end; the goroutine takes from it
	stopped *atomic.Bool    // nobody waits for what is in the queue
}

const (
	// maxPagesAhead is how many pages wait to be read at most. A loop over more shards
	// reads some of them when it needs them.
	maxPagesAhead = 64

	// maxReadAheads bounds the goroutines of a database that read ahead. More loops than
	// that read their pages when they need them.
	maxReadAheads = 64
)

// ask has a page read, and reports whether it will be.
func (a *readAhead) ask(p *blockPage) bool {
	if a.reader == nil && !a.begin() {
		return false
	}
	select {
	case a.queue <- p:
		return true
	default:
		return false
	}
}

// begin starts the goroutine, unless there are too many.
func (a *readAhead) begin() bool {
	rs := &a.db.readers
	if rs.ahead.Add(1) > maxReadAheads {
		rs.ahead.Add(-1)
		return false
	}
	ctx, queue, stopped := a.ctx, make(chan *blockPage, maxPagesAhead), new(atomic.Bool)
	a.reader, a.queue, a.stopped = rs.take(), queue, stopped
	a.reader.work <- func() {
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

// wait waits for a page, and reports whether it has been read: not if the loop's context
// ends first.
func (a *readAhead) wait(p *blockPage) bool {
	spin(p.done)
	select {
	case <-p.done:
		return true
	case <-a.ctx.Done():
		return false
	}
}

// end stops the goroutine: at the end of the loop, and before a wait of any length. It is
// left behind if it does not stop at once, as [reading] does. The next ask starts another.
func (a *readAhead) end() {
	if a.reader == nil {
		return
	}
	a.stopped.Store(true)
	close(a.queue)
	if a.reader.finished() {
		a.db.readers.give(a.reader)
	} else {
		close(a.reader.work) // it holds an iterator at most, for which Close waits
	}
	a.reader = nil
}

// blockPage is a stretch of a shard as it lies in the store: blocks that were copied, and
// neither checked nor taken apart. It belongs to the goroutine of a [readAhead] from ask
// until done has a token, and to a cursor otherwise.
type blockPage struct {
	sh       *Shard
	from, to uint64 // counters, inclusive: the blocks that end there
	limit    int    // the most bytes of memory; but one block, if there is one, whatever its size
	done     chan struct{}
	reuse    bool // nobody keeps records, so the chunk is used again

	blocks []copiedBlock
	bytes  int
	more   bool   // the limit has left some out
	chunk  []byte // room for values; records that are kept keep it alive, unless it is used again
}

type copiedBlock struct {
	key   layout.BlockKey
	value []byte
}

const copiedBlockBytes = int(unsafe.Sizeof(copiedBlock{}))

// read reads the page. If it fails the page holds what came before the error, as if
// nothing followed.
func (p *blockPage) read(ctx context.Context, stopped *atomic.Bool) {
	clear(p.blocks)
	p.blocks, p.bytes, p.more = p.blocks[:0], 0, false
	if p.reuse { // the loop has come to the end of the records that were there
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

// add copies the block at which the iterator stands. It reports whether there may be
// room for the next one.
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

// copy returns a copy of a value, in memory that those of a page share. A loop over many
// shards has small pages, which must not have large chunks.
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

// walked is what a cursor has of its shard beside records: pages of blocks.
type walked struct {
	ahead *readAhead // of the loop
	page  *blockPage // blocks[at:] are still to be taken apart; nil for none
	at    int
	next  *blockPage // is being read; nil for none
	spare *blockPage // to be used again
	more  bool       // the store has records after those that the cursor has come to
	keys  keyChunks
	seal  layout.SealScratch
}

// unpack takes records of the page of blocks, or of the next one, and reports whether
// there are some: the next ones of the shard, which show at this moment.
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

// unpackRecords is how many records a cursor takes from a page of blocks at least, if it
// has them: enough to make the cost of a look at the shard vanish, and few enough to stay
// near the processor.
const unpackRecords = 64

// appendBlock appends the records of a block, if all is in order with it and they are the
// next ones.
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

// turn moves on to the next page of blocks, and has the one after it read. It reports
// whether there is one.
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

// ask has a page read from counter from on.
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

// forget drops what was read ahead.
func (c *cursor) forget() {
	w := &c.walked
	w.page, w.next, w.more = nil, nil, false
}

package consumer

import (
	"context"
	"sort"
	"sync"
)

// tracker knows which records are done where they are not done in order: in lanes,
// or as they are acknowledged. The watermark is the last record before which all
// are done.
type tracker struct {
	budget *budget
	moved  chan struct{} // holds a token while the watermark has moved and nobody looked

	mu        sync.Mutex // guards the fields below
	entries   []tracked  // after the watermark, in order
	watermark Checkpoint
	pages     int
	bytes     int
	changed   chan struct{} // closed when records are done; nil while nobody waits
}

// tracked is a record that is not before the watermark.
type tracked struct {
	place Checkpoint
	done  bool
	page  *trackedPage // nil for a place without a record
}

// trackedPage is what was read at once. It is given up when its last record is
// before the watermark.
type trackedPage struct{ records, bytes int }

func newTracker(b *budget, at Checkpoint) *tracker {
	return &tracker{budget: b, moved: make(chan struct{}, 1), watermark: at}
}

// add takes records that are given to the processor, with bytes of the budget.
func (t *tracker) add(records []Record, bytes int) {
	page := &trackedPage{len(records), bytes}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pages++
	t.bytes += bytes
	for i := range records {
		t.entries = append(t.entries, tracked{records[i].checkpoint(), false, page})
	}
}

// done marks records, and moves the watermark. One that is before it already is none
// of its concern.
func (t *tracker) done(records []Record) {
	t.mu.Lock()
	for i := range records {
		place := records[i].checkpoint()
		at := sort.Search(len(t.entries), func(i int) bool { return !t.entries[i].place.precedes(place) })
		if at < len(t.entries) && !place.precedes(t.entries[at].place) {
			t.entries[at].done = true
		}
	}
	free := t.advanceLocked()
	t.mu.Unlock()
	t.budget.release(free)
}

// pass moves the watermark to a place at which there is no record to be done, when all
// before it are.
func (t *tracker) pass(place Checkpoint) {
	t.mu.Lock()
	t.entries = append(t.entries, tracked{place, true, nil})
	free := t.advanceLocked()
	t.mu.Unlock()
	t.budget.release(free)
}

func (t *tracker) advanceLocked() (free int) {
	n := 0
	for n < len(t.entries) && t.entries[n].done {
		t.watermark = t.entries[n].place
		page := t.entries[n].page
		if page == nil {
			// a place without a record
		} else if page.records--; page.records == 0 {
			free += page.bytes
			t.bytes -= page.bytes
			t.pages--
		}
		t.entries[n] = tracked{}
		n++
	}
	if n == 0 {
		return 0
	}
	t.entries = t.entries[n:]
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
	select {
	case t.moved <- struct{}{}:
	default:
	}
	return free
}

// at returns the watermark.
func (t *tracker) at() Checkpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.watermark
}

// with returns what the watermark will be when the record is done, too.
func (t *tracker) with(record *Record) Checkpoint {
	place := record.checkpoint()
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.watermark
	for i := range t.entries {
		if !t.entries[i].done && t.entries[i].place.before(place) {
			break
		}
		if at = t.entries[i].place; !at.before(place) {
			break
		}
	}
	return at
}

// wait waits until no more than so many pages and bytes are not done.
func (t *tracker) wait(ctx context.Context, pages, bytes int) error {
	for {
		t.mu.Lock()
		if t.pages <= pages && t.bytes <= bytes {
			t.mu.Unlock()
			return nil
		}
		if t.changed == nil {
			t.changed = make(chan struct{})
		}
		changed := t.changed
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// close gives up what the records that are not done hold of the budget.
func (t *tracker) close() {
	t.mu.Lock()
	free := t.bytes
	t.entries, t.bytes, t.pages = nil, 0, 0
	t.mu.Unlock()
	t.budget.release(free)
}

// budget bounds the bytes that the shards of a worker hold together. Who came
// first is served first.
type budget struct {
	mu      sync.Mutex // guards the fields below
	free    int64      // may be negative: a record may be larger than what was asked for
	waiting []*budgetWait
}

type budgetWait struct {
	bytes int64
	ready chan struct{} // closed when it has got them
}

func newBudget(bytes int64) *budget { return &budget{free: bytes} }

// acquire takes bytes, and waits for them.
func (b *budget) acquire(ctx context.Context, bytes int) error {
	b.mu.Lock()
	if len(b.waiting) == 0 && b.free >= int64(bytes) {
		b.free -= int64(bytes)
		b.mu.Unlock()
		return nil
	}
	w := &budgetWait{int64(bytes), make(chan struct{})}
	b.waiting = append(b.waiting, w)
	b.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		b.cancel(w)
		return context.Cause(ctx)
	}
}

func (b *budget) cancel(w *budgetWait) {
	b.mu.Lock()
	for i := range b.waiting {
		if b.waiting[i] == w {
			b.waiting = append(b.waiting[:i:i], b.waiting[i+1:]...)
			b.mu.Unlock()
			b.release(0) // the next one may want less
			return
		}
	}
	b.mu.Unlock()
	b.release(int(w.bytes)) // it has got them meanwhile
}

// release gives bytes back; a negative number takes them at once.
func (b *budget) release(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += int64(bytes)
	for len(b.waiting) > 0 && b.free >= b.waiting[0].bytes {
		b.free -= b.waiting[0].bytes
		close(b.waiting[0].ready)
		b.waiting = b.waiting[1:]
	}
}

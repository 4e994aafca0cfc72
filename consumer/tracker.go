package consumer

import (
	"context"
	"sort"
	"sync"

	"github.com/braidstream/braid/internal/wake"
)

// tracker tracks records that are not done in order: in lanes, or because they are
// acknowledged. The watermark is the last record up to which all records are done.
type tracker struct {
	budget *budget
	moved  wake.Bell   // rings when the watermark has moved
	done   wake.Signal // raised when records are done, no more are due, or a lane becomes idle

	mu        sync.Mutex // guards the fields below
	entries   []tracked  // after the watermark, in order
	watermark Checkpoint
	due       int // number of records that are neither done nor withdrawn
	pages     int
	bytes     int
	load      []int // parts of pages that each lane still has to process
	idle      int   // number of lanes without any
}

// tracked is a record after the watermark.
type tracked struct {
	place     Checkpoint
	done      bool
	withdrawn bool         // the processor does not have it, and will not get it
	page      *trackedPage // nil for a place without a record
}

// trackedPage is a page that was read. It is released when its last record is before the
// watermark.
type trackedPage struct{ records, bytes int }

func newTracker(b *budget, moved wake.Bell, lanes int, at Checkpoint) *tracker {
	return &tracker{budget: b, moved: moved, watermark: at, load: make([]int, lanes), idle: lanes}
}

// add adds records that are delivered to the processor, with their bytes of the budget.
func (t *tracker) add(records []Record, bytes int) {
	page := &trackedPage{len(records), bytes}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pages++
	t.bytes += bytes
	t.due += len(records)
	for i := range records {
		t.entries = append(t.entries, tracked{place: records[i].checkpoint(), page: page})
	}
}

// markDone marks records as done, and moves the watermark. Records already behind the
// watermark are ignored.
func (t *tracker) markDone(records []Record) {
	t.mu.Lock()
	for i := range records {
		if entry := t.findLocked(&records[i]); entry != nil && !entry.done {
			t.settleLocked(entry)
			entry.done = true
		}
	}
	free := t.advanceLocked()
	t.mu.Unlock()
	t.budget.give(free)
}

// withdraw notes that nobody will acknowledge the records: the processor does not have
// them, or a call for them has failed. They are not done, so another owner gets them.
func (t *tracker) withdraw(records []Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range records {
		if entry := t.findLocked(&records[i]); entry != nil {
			t.settleLocked(entry)
			entry.withdrawn = true
		}
	}
}

// findLocked returns the entry of a record, or nil if it is behind the watermark.
func (t *tracker) findLocked(record *Record) *tracked {
	place := record.checkpoint()
	at := sort.Search(len(t.entries), func(i int) bool { return !t.entries[i].place.precedes(place) })
	if at < len(t.entries) && !place.precedes(t.entries[at].place) {
		return &t.entries[at]
	}
	return nil
}

// settleLocked counts an entry that becomes done or withdrawn, once.
func (t *tracker) settleLocked(entry *tracked) {
	if entry.done || entry.withdrawn {
		return
	}
	if t.due--; t.due == 0 {
		t.done.Raise()
	}
}

// skipTo moves the watermark to a place without a record, once everything before it is
// done.
func (t *tracker) skipTo(place Checkpoint) {
	t.mu.Lock()
	t.entries = append(t.entries, tracked{place: place, done: true})
	free := t.advanceLocked()
	t.mu.Unlock()
	t.budget.give(free)
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
	t.done.Raise()
	t.moved.Ring()
	return free
}

// noteFed notes that a lane was given a part of a page, and noteProcessed that it has
// processed one.
func (t *tracker) noteFed(lane int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.load[lane]++; t.load[lane] == 1 {
		t.idle--
	}
}

func (t *tracker) noteProcessed(lane int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.load[lane]--; t.load[lane] == 0 {
		t.idle++
		t.done.Raise()
	}
}

// at returns the watermark.
func (t *tracker) at() Checkpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.watermark
}

// watermarkWith returns the watermark as it will be once the record is done, too.
func (t *tracker) watermarkWith(record *Record) Checkpoint {
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

// waitForRoom waits until more of the shard may be read: no more than so many pages and
// bytes lie after the watermark, and, if they exceed what a read may take now, a lane is
// idle. So when the budget is short, no shard reads ahead of its processor, and no shard
// is kept from reading by what others hold.
func (t *tracker) waitForRoom(ctx context.Context, pages, bytes int) error {
	return t.waitUntil(ctx, func() bool {
		return t.pages <= pages && t.bytes <= bytes && (t.idle > 0 || t.bytes <= t.budget.size())
	})
}

// waitUntilDone waits until all records are done.
func (t *tracker) waitUntilDone(ctx context.Context) error {
	return t.waitUntil(ctx, func() bool { return t.pages == 0 })
}

// waitUntilSettled waits until every record that the processor has is done.
func (t *tracker) waitUntilSettled(ctx context.Context) error {
	return t.waitUntil(ctx, func() bool { return t.due == 0 })
}

// waitUntilReturned waits until all lanes are idle: all calls for records have returned.
// With Acks the records need not be done.
func (t *tracker) waitUntilReturned(ctx context.Context) error {
	return t.waitUntil(ctx, func() bool { return t.idle == len(t.load) })
}

// waitUntil waits for a condition. It calls reached with the lock held.
func (t *tracker) waitUntil(ctx context.Context, reached func() bool) error {
	for {
		t.mu.Lock()
		if reached() {
			t.mu.Unlock()
			return nil
		}
		done := t.done.Wait()
		t.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// close returns the bytes of records that are not done to the budget.
func (t *tracker) close() {
	t.mu.Lock()
	free := t.bytes
	t.entries, t.due, t.bytes, t.pages = nil, 0, 0, 0
	t.mu.Unlock()
	t.budget.give(free)
}

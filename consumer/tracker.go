package consumer

import (
	"context"
	"sort"
	"sync"

	"github.com/braidstream/braid/internal/wake"
)

// tracker knows which records are done where they are not done in order: in lanes,
// or as they are acknowledged. The watermark is the last record before which all
// are done.
type tracker struct {
	budget *budget
	moved  wake.Bell   // rings when the watermark has moved
	done   wake.Signal // raised when records are done, none is due any more, or a lane is idle

	mu        sync.Mutex // guards the fields below
	entries   []tracked  // after the watermark, in order
	watermark Checkpoint
	due       int // records that are neither done nor withdrawn
	pages     int
	bytes     int
	load      []int // parts of pages that each lane still has to process
	idle      int   // lanes that have none
}

// tracked is a record that is not before the watermark.
type tracked struct {
	place     Checkpoint
	done      bool
	withdrawn bool         // the processor does not have it, and will not get it
	page      *trackedPage // nil for a place without a record
}

// trackedPage is what was read at once. It is given up when its last record is
// before the watermark.
type trackedPage struct{ records, bytes int }

func newTracker(b *budget, moved wake.Bell, lanes int, at Checkpoint) *tracker {
	return &tracker{budget: b, moved: moved, watermark: at, load: make([]int, lanes), idle: lanes}
}

// add takes records that are given to the processor, with bytes of the budget.
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

// markDone marks records, and moves the watermark. One that is before it already is none
// of its concern.
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

// withdraw notes that nobody will acknowledge records: the processor does not have them,
// or a call for them has failed. They are not done, so another owner gets them.
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

// findLocked returns the entry of a record, nil if it is before the watermark.
func (t *tracker) findLocked(record *Record) *tracked {
	place := record.checkpoint()
	at := sort.Search(len(t.entries), func(i int) bool { return !t.entries[i].place.precedes(place) })
	if at < len(t.entries) && !place.precedes(t.entries[at].place) {
		return &t.entries[at]
	}
	return nil
}

// settleLocked counts an entry that is about to be done or withdrawn, the first time.
func (t *tracker) settleLocked(entry *tracked) {
	if entry.done || entry.withdrawn {
		return
	}
	if t.due--; t.due == 0 {
		t.done.Raise()
	}
}

// skipTo moves the watermark to a place at which there is no record to be done, when all
// before it are.
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

// noteFed notes that a lane was given a part of a page; noteProcessed, that it has processed one.
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

// watermarkWith returns what the watermark will be when the record is done, too.
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

// waitForRoom waits until the shard may be read on: no more than so many pages and bytes lie
// after the watermark, and if they are more than a read may bring now, a lane has
// nothing to do. So when the budget is short, no shard reads ahead of its processor, and
// none is kept from reading by what other shards hold.
func (t *tracker) waitForRoom(ctx context.Context, pages, bytes int) error {
	return t.waitUntil(ctx, func() bool {
		return t.pages <= pages && t.bytes <= bytes && (t.idle > 0 || t.bytes <= t.budget.size())
	})
}

// waitUntilDone waits until all records are done.
func (t *tracker) waitUntilDone(ctx context.Context) error {
	return t.waitUntil(ctx, func() bool { return t.pages == 0 })
}

// waitUntilSettled waits until every record is done that the processor has.
func (t *tracker) waitUntilSettled(ctx context.Context) error {
	return t.waitUntil(ctx, func() bool { return t.due == 0 })
}

// waitUntilReturned waits until no lane has anything to do: all calls for records have
// returned, though with Acks their records need not be done.
func (t *tracker) waitUntilReturned(ctx context.Context) error {
	return t.waitUntil(ctx, func() bool { return t.idle == len(t.load) })
}

// waitUntil waits for a condition, which is called with the lock held.
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

// close gives up what the records that are not done hold of the budget.
func (t *tracker) close() {
	t.mu.Lock()
	free := t.bytes
	t.entries, t.due, t.bytes, t.pages = nil, 0, 0, 0
	t.mu.Unlock()
	t.budget.give(free)
}

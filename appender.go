package braid

import (
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/internal/agenda"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/tail"
	"github.com/braidstream/braid/internal/txlog"
)

// counterReserve is how far ahead counters are reserved in Interval and NoSync, where a crash
// may take acknowledged records. Their numbers must not be given out again, so a durable bound
// always lies above them.
const counterReserve = time.Second

// blockMemtableBytes is about what a block of records takes in Pebble's memtable beside its
// key and value: a node of a skip list.
const blockMemtableBytes = 64

// appender is the part of the database that the committer runs: it gives out numbers, places
// records, and shows them to readers. The order of a shard is decided here and nowhere else.
//
// All fields belong to the goroutine that runs a group, and so do those of [streamWriter]
// and [shardWriter]. There is one such goroutine at a time, and each sees the changes of the
// one before, so no lock guards them.
//
// Invariant: counters rise by at least one with every record of the database, whatever the
// clock does. So a counter identifies one record, and the order of counters is the order of
// arrival, even among shards.
type appender struct {
	db     *DB
	mode   Durability
	epochs *epoch.Index
	tails  *tail.Cache
	txs    txlog.Log
	trims  agenda.Agenda[*Stream] // by when retention has something to do
	asleep uint64                 // until when retention sleeps, on its clock; 0: it is awake

	loose    map[uint32]struct{} // epochs to be looked at by reclaim: something has died in them
	cuts     epoch.Cuts          // what has died in epochs that still have records
	deserted []*Stream           // streams with no records left in the open epoch
	watched  []*Stream           // streams on demand that were put to lately

	names      map[string]bool // the names of all streams, including those that this group creates
	moment     time.Time       // when this group began, for budgets
	call       uint64          // the number of the current request, for budgets
	charged    []*Shard        // the shards with budgets to which the current request puts
	now        uint64          // this group's time: the wall clock, but never behind the retention clock
	last       uint64          // the last counter given out
	reserved   uint64          // counters up to here are reserved; unused in Sync mode
	nextStream uint32

	// current has the shards with records in the open epoch, and perhaps others.
	current []*Shard

	reopen    bool // whether nothing was committed since the open
	wasClosed bool // whether the stored clock row marks a clean close

	touched []*Shard // shards with records in this group
	streams []*Stream
	publish []func() // show the effects of this group's control requests
	group   uint64   // the number of this group

	hearing   []*Stream            // streams whose records of this group are shown to listeners
	listeners []companion.Listener // memory for their listeners
	arrived   arrivals             // memory for what these are shown
	deliver   []func()             // the listeners' functions to call when the records are visible

	deliveries int // how many records this group may still give to waiting receivers

	sync  bool // whether this group must be durable before it is published
	wrote bool // whether this group has rows

	writesKeys bool // whether this group writes keys of transactions

	seal   layout.SealScratch
	counts counts
}

// counts are read by Metrics while the committer writes them.
type counts struct {
	groups, records, bytes, epochs, throttled atomic.Int64

	shards, queues atomic.Int64 // how many exist

	// looks counts how often the committer has looked at a stream, shard, extent or epoch
	// for something other than a put, for tests of its cost.
	looks atomic.Int64

	loaded int // blocks of records that Open has read, for tests; not changed after
}

// controlOp is a request that changes something other than records. The committer runs it. It
// adds its rows to the batch, and returns the function that shows the change once it is
// durable, or nil. With an error, it has added nothing.
type controlOp func(a *appender, batch *kv.Batch) (publish func(), err error)

// nextCounter gives out a counter: the time of arrival, or one more than the
// last one if the clock stands still or went back.
func (a *appender) nextCounter() uint64 {
	a.last = min(max(a.now, a.last+1), maxCounter)
	return a.last
}

// boundCounters stores a bound on all counters given out so far. A caller that removes
// records calls it in the same batch, because removed records no longer bound them.
func (a *appender) boundCounters(batch *kv.Batch) {
	batch.Set(layout.ClockKey(), a.clockRow(max(a.last, a.reserved)))
}

// clockRow returns the row that bounds all counters by counter.
func (a *appender) clockRow(counter uint64) []byte {
	return layout.ClockRow{Counter: counter, NextStream: a.nextStream}.Encode()
}

// reserve makes sure that no counter of this group can be given out again, even if a crash
// takes the group back.
func (a *appender) reserve(batch *kv.Batch) {
	if a.mode == Sync || a.last <= a.reserved {
		return
	}
	a.reserved = a.last + uint64(counterReserve)
	batch.Set(layout.ClockKey(), a.clockRow(a.reserved))
	a.sync = true
}

// finish adds the rows of a clean close: the last counter and the ends of the shards. It
// returns false if they are already stored.
func (a *appender) finish(batch *kv.Batch) bool {
	if a.reopen && a.wasClosed {
		return false
	}
	a.saveEnds(batch)
	batch.Set(layout.ClockKey(), layout.ClockRow{Counter: a.last, NextStream: a.nextStream, Closed: true}.Encode())
	return true
}

// saveEnds stores the ends of the shards that have records in the open epoch.
func (a *appender) saveEnds(batch *kv.Batch) {
	for _, sh := range a.current {
		n := len(sh.w.extents)
		if n == 0 || sh.w.epoch != a.epochs.Open() || sh.stream.w.deleted {
			continue // its records were trimmed, or its stream deleted
		}
		end := layout.Horizon{Counter: sh.w.tip.LastCounter + 1, Ordinal: sh.w.tip.Ordinal, Offset: sh.w.tip.Offset}
		if end == sh.w.savedEnd {
			continue
		}
		sh.w.savedEnd = end
		row := sh.w.extents[n-1].ExtentRow
		row.End = end
		batch.Set(layout.ExtentKey(sh.stream.number, sh.index, sh.w.epoch), row.Encode(sh.stream.number, sh.index, sh.w.epoch))
	}
}

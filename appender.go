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

// counterReserve is how far ahead counters are reserved when acknowledged records
// may be lost in a crash (Interval and NoSync): their numbers must not be given
// out again, so a durable bound always lies above them.
const counterReserve = time.Second

// blockMemtableBytes is about what Pebble's memtable needs for a block of records
// beside its key and value: the node of a skip list.
const blockMemtableBytes = 64

// appender is what the committer runs: it gives out numbers, places records, and
// shows them to readers. It is the one place where the order of a shard is decided.
//
// All fields belong to the goroutine that runs a group, and so do those of
// [streamWriter] and [shardWriter]. There is one such goroutine at a time, and each
// sees what the one before it did, so no lock guards them.
//
// Invariant: counters go up by at least one with every record of the database,
// whatever the clock does. So a counter names one record, and merging shards by
// counter is merging them by arrival.
type appender struct {
	db     *DB
	mode   Durability
	epochs *epoch.Index
	tails  *tail.Cache
	txs    txlog.Log
	trims  agenda.Agenda[*Stream] // by when retention has something to do
	asleep uint64                 // until when retention sleeps, on its clock; 0: it is to be awake

	loose    map[uint32]struct{} // epochs that reclaim has not looked at since something died there
	cuts     epoch.Cuts          // what has died in epochs that live on
	deserted []*Stream           // that have no record any more in the open epoch
	watched  []*Stream           // on demand, that were put to lately

	names      map[string]bool // of the streams, with those of this group
	moment     time.Time       // at which this group began, for budgets
	call       uint64          // numbers the requests that are charged to budgets
	charged    []*Shard        // to which the current one puts
	now        uint64          // of this group: the wall clock, but never behind the retention clock
	last       uint64          // the last counter given out
	reserved   uint64          // counters up to here are reserved; unused in Sync mode
	nextStream uint32

	// current are the shards with records in the open epoch, and perhaps others.
	current []*Shard

	reopen    bool // nothing was committed since the open
	wasClosed bool // the stored clock row says so

	touched []*Shard // shards with records in this group
	streams []*Stream
	publish []func() // what the control requests of this group show
	group   uint64   // numbers the groups

	hearing   []*Stream            // with records in this group that listeners are shown
	listeners []companion.Listener // memory for them, and for what they are shown
	arrived   arrivals
	deliver   []func() // what listeners have others see after the records of this group

	deliveries int // how many records this group may still give to receivers that wait

	sync  bool // this group is to be durable before it is published
	wrote bool // this group has rows

	writesKeys bool // this group has keys of transactions

	seal   layout.SealScratch
	counts counts
}

// counts are read by Metrics while the committer writes them.
type counts struct {
	groups, records, bytes, epochs, throttled atomic.Int64

	shards, queues atomic.Int64 // that there are

	// looks counts the streams, shards, extents and epochs that the committer has
	// looked at for something other than a put: for tests of what it costs.
	looks atomic.Int64

	loaded int // records that Open has read, for tests; not changed after
}

// controlOp is a request that changes something else than records: the
// committer runs it, and it adds its rows and returns what shows the change
// once it is durable, or nil. With an error it has added nothing.
type controlOp func(a *appender, batch *kv.Batch) (publish func(), err error)

// nextCounter gives out a counter: the time of arrival, or one more than the
// last one if the clock stands still or went back.
func (a *appender) nextCounter() uint64 {
	a.last = min(max(a.now, a.last+1), maxCounter)
	return a.last
}

// boundCounters stores a bound on all counters given out so far. A caller that removes
// records calls it in the same batch: the removed ones bound nothing any more.
func (a *appender) boundCounters(batch *kv.Batch) {
	batch.Set(layout.ClockKey(), a.clockRow(max(a.last, a.reserved)))
}

// clockRow is the row that bounds all counters by counter.
func (a *appender) clockRow(counter uint64) []byte {
	return layout.ClockRow{Counter: counter, NextStream: a.nextStream}.Encode()
}

// reserve makes sure that no counter of this group can be given out again, even
// when a crash takes the group back.
func (a *appender) reserve(batch *kv.Batch) {
	if a.mode == Sync || a.last <= a.reserved {
		return
	}
	a.reserved = a.last + uint64(counterReserve)
	batch.Set(layout.ClockKey(), a.clockRow(a.reserved))
	a.sync = true
}

// finish adds what a database says that is closed: its last counter and where its
// shards end. It returns false if that is stored already.
func (a *appender) finish(batch *kv.Batch) bool {
	if a.reopen && a.wasClosed {
		return false
	}
	a.saveEnds(batch)
	batch.Set(layout.ClockKey(), layout.ClockRow{Counter: a.last, NextStream: a.nextStream, Closed: true}.Encode())
	return true
}

// saveEnds stores where the shards end that have records in the open epoch.
func (a *appender) saveEnds(batch *kv.Batch) {
	for _, sh := range a.current {
		n := len(sh.w.extents)
		if n == 0 || sh.w.epoch != a.epochs.Open() || sh.stream.w.deleted {
			continue // it was trimmed, or deleted, meanwhile
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

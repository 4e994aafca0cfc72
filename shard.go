package braid

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/internal/agenda"
	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/ondemand"
	"github.com/braidstream/braid/internal/tail"
)

// Shard is an ordered log of the records of a stream whose hash keys lie in its range. It
// comes from [Stream.Shards] or [Stream.Shard]. All methods may be called from any number of
// goroutines.
type Shard struct {
	stream         *Stream
	index          uint32
	id             ShardID
	hashKeys       HashKeyRange
	parents        []uint32
	createdSeconds uint64                      // part of its numbers, but not a time: it may be ahead of the clock
	createdCounter uint64                      // when it was created, in nanoseconds
	closing        atomic.Pointer[closing]     // nil while it accepts records; set before log ends
	log            *tail.Log                   // recent records, and the tip
	reads          atomic.Pointer[readBudgets] // nil until the first use
	trimmed        atomic.Uint64               // horizon.Counter, readable without mu
	recent         recentLinks                 // guarded by the mutex of the stream's recency

	mu      sync.Mutex // guards extents and horizon; nothing else is locked under it
	extents epoch.Extents
	horizon layout.Horizon

	w       shardWriter       // belongs to the committer
	history *ondemand.History // belongs to the scaler
	counts  shardCounts
}

// shardCounts are read by Metrics while readers and the committer write them.
type shardCounts struct {
	recordsRead, bytesRead        atomic.Int64
	putsThrottled, readsThrottled atomic.Int64
}

// noteRead counts consecutive records that were read.
func (sh *Shard) noteRead(records []layout.Record) {
	if len(records) > 0 {
		sh.counts.recordsRead.Add(int64(len(records)))
		sh.counts.bytesRead.Add(int64(bytesOf(records)))
	}
}

// shardWriter is the committer's state of a shard. Like the appender's fields, its fields
// belong to the goroutine that runs a group. If Shard has a field of the same name, readers
// see that one, which follows when the group is durable.
type shardWriter struct {
	tip      tail.Tip            // the end of the shard, with the records of this group
	epoch    uint32              // the epoch of the last extent if that accepts records; otherwise 0
	extents  epoch.Extents       // becomes Shard.extents
	horizon  layout.Horizon      // becomes Shard.horizon
	closing  *closing            // becomes Shard.closing
	savedEnd layout.Horizon      // the End in the stored row of the last extent
	expired  bool                // whether it was removed from the topology
	pending  []layout.Record     // this group's records; they become the log's
	sealed   []sealedRun         // the runs of pending, until they are in the batch
	budgets  *writeBudgets       // nil until the first use
	load     *ondemand.Count     // puts on demand since the scaler's last look; nil for none
	filled   agenda.Item[*Shard] // the shard's item in the stream's agenda of that name, as the next two
	emptied  agenda.Item[*Shard]
	oldest   agenda.Item[*Shard]
}

// closing says when a shard was closed. It is immutable once readers see it.
type closing struct {
	seconds uint64 // part of the number at which the shard ends, but not a time
	counter uint64 // when it was closed: above the shard's records, and not above its children's
	aged    uint64 // when it was closed, on the retention clock, which ignores steps of the wall clock

	children []uint32 // the indexes of the shards that came from this one
}

// ID returns the shard's id, such as "shardId-000000000003". A stream never reuses an id.
func (sh *Shard) ID() ShardID { return sh.id }

// HashKeyRange returns the range of hash keys whose records the shard holds.
func (sh *Shard) HashKeyRange() HashKeyRange { return sh.hashKeys }

// Parents returns the shards that this one came from: none for a shard its
// stream was created with, one after a split, two after a merge.
func (sh *Shard) Parents() []ShardID {
	var parents []ShardID
	for _, index := range sh.parents {
		parents = append(parents, shardID(index))
	}
	return parents
}

// children returns the shards of a topology that came from this one.
func (sh *Shard) children(t *topology) (children []ShardID) {
	end := sh.closing.Load()
	if end == nil {
		return nil
	}
	for _, index := range end.children {
		if child := t.shard(index); child != nil {
			children = append(children, child.id)
		}
	}
	return children
}

// number returns the sequence number of the shard's record with that counter.
func (sh *Shard) number(counter uint64) SequenceNumber {
	return newSequenceNumber(int64(sh.createdSeconds), counter, int64(counter/uint64(time.Second)), sh.index)
}

// starting returns the number before all records of the shard.
func (sh *Shard) starting() SequenceNumber {
	return newSequenceNumber(int64(sh.createdSeconds), 0, int64(sh.createdSeconds), sh.index)
}

// endsBefore reports whether the shard is closed and has no record at or after
// counter.
func (sh *Shard) endsBefore(counter uint64, tip tail.Tip) bool {
	return tip.Ended && counter > tip.LastCounter
}

// record returns the public form of a record.
func (sh *Shard) record(r *layout.Record) (rec Record) {
	sh.fill(&rec, r)
	return rec
}

// fill is record into rec, which is zero.
func (sh *Shard) fill(rec *Record, r *layout.Record) {
	rec.PartitionKey = r.PartitionKey
	rec.Data = r.Data
	rec.ShardID = sh.id
	rec.SequenceNumber = sh.number(r.Counter)
	rec.ArrivalTime = time.Unix(0, int64(r.Counter))
	rec.Encrypted = r.Sealed
	if r.ExplicitHash != nil {
		rec.ExplicitHashKey = &HashKey{*r.ExplicitHash}
	}
}

// wrapError is the package's wrapError for a call on the shard.
func (sh *Shard) wrapError(op string, err error) error {
	if err == nil {
		return nil
	}
	return wrapWhat(op, string(sh.id)+" of "+quoted(sh.stream.name), err)
}

// String names the shard and its stream, for logs.
func (sh *Shard) String() string { return string(sh.id) + " of " + sh.stream.name }

// newShard returns a shard with the contents of its row. The caller sets its tip and extents.
func newShard(s *Stream, index uint32, row layout.ShardRow) *Shard {
	sh := &Shard{
		stream:         s,
		index:          index,
		id:             shardID(index),
		hashKeys:       HashKeyRange{HashKey{row.Start}, HashKey{row.End}},
		parents:        row.Parents,
		createdSeconds: row.CreatedSeconds,
		createdCounter: row.Created,
		horizon:        row.Horizon,
		w:              shardWriter{horizon: row.Horizon},
	}
	sh.trimmed.Store(row.Horizon.Counter)
	sh.w.filled.Value, sh.w.emptied.Value, sh.w.oldest.Value = sh, sh, sh
	if row.Closed != 0 {
		// The retention clock begins at the last counter or later, so row.Closed is in its past.
		sh.w.closing = &closing{seconds: row.ClosedSeconds, counter: row.Closed, aged: row.Closed}
		sh.closing.Store(sh.w.closing)
	}
	return sh
}

// row is the inverse of newShard, with the appender's state.
func (sh *Shard) row() layout.ShardRow { return sh.rowWith(sh.w.horizon, sh.w.closing) }

// rowWith is the inverse of newShard, with that horizon and closing. closing is nil for an
// open shard.
func (sh *Shard) rowWith(horizon layout.Horizon, end *closing) layout.ShardRow {
	row := layout.ShardRow{
		Start:          sh.hashKeys.Start.n,
		End:            sh.hashKeys.End.n,
		Parents:        sh.parents,
		CreatedSeconds: sh.createdSeconds,
		Created:        sh.createdCounter,
		Horizon:        horizon,
	}
	if end != nil {
		row.ClosedSeconds, row.Closed = end.seconds, end.counter
	}
	return row
}

// setTip sets the tip of a new shard to end, the horizon that would empty it.
func (sh *Shard) setTip(end layout.Horizon) {
	sh.w.tip = tail.Tip{LastCounter: end.Counter - min(end.Counter, 1), Ordinal: end.Ordinal, Offset: end.Offset}
	sh.log = tail.NewLog(sh.w.tip)
	sh.extents = sh.w.extents
	if sh.w.closing != nil {
		sh.log.End()
	}
}

// view returns the shard's horizon and extents at one instant.
func (sh *Shard) view() (layout.Horizon, epoch.Extents) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.horizon, sh.extents
}

// hasExtent reports whether records of the shard lie in the epoch.
func (sh *Shard) hasExtent(id uint32) bool {
	_, extents := sh.view()
	_, has := slices.BinarySearchFunc(extents, id, func(e epoch.Extent, id uint32) int { return cmp.Compare(e.Epoch, id) })
	return has
}

// shows reports whether records of the shard from counter on can be read now: its
// stream is not deleted, the database is open, and they are neither trimmed nor expired.
func (sh *Shard) shows(counter uint64) bool {
	return !sh.stream.db.closed.Load() && !sh.stream.deleted.Load() && sh.keeps(counter)
}

// keeps reports whether records of the shard from counter on are neither trimmed nor
// expired. Unlike shows, it does not depend on whether the database is open.
func (sh *Shard) keeps(counter uint64) bool {
	s := sh.stream
	return sh.trimmed.Load() <= counter && s.settings.Load().expiry(s.db.aging.now()) <= counter
}

// publishMap shows the shard's extents and its horizon to readers.
func (sh *Shard) publishMap() {
	sh.mu.Lock()
	sh.extents, sh.horizon = sh.w.extents, sh.w.horizon
	sh.trimmed.Store(sh.horizon.Counter)
	sh.mu.Unlock()
}

// extentBytes returns the size of the shard's i-th extent in bytes.
func (sh *Shard) extentBytes(i int) uint64 {
	end := sh.w.tip.Offset
	if i+1 < len(sh.w.extents) {
		end = sh.w.extents[i+1].FirstOffset
	}
	return end - sh.w.extents[i].FirstOffset
}

// trimmedOf returns how many bytes of the shard's i-th extent lie below a horizon.
func (sh *Shard) trimmedOf(i int, horizon layout.Horizon) uint64 {
	first := sh.w.extents[i].FirstOffset
	return min(max(horizon.Offset, first)-first, sh.extentBytes(i))
}

// sealedRun is a run of pending records, after those of earlier runs, that are encrypted with
// the same data key.
//
// Invariant: whether a record is encrypted, and with which data key, is decided when it is
// placed, because its producer gets that result. A later request of the same group may change
// the stream's key: TestAKeyChangesBetweenPutsOfOneGroup.
type sealedRun struct {
	dataKey *layout.DataKey // nil: the records are stored in the clear
	records int
}

package braid

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/internal/agenda"
	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/tail"
)

// counterLease is how far ahead counters are reserved when acknowledged records
// may be lost in a crash (Interval and NoSync): their numbers must not be given
// out again, so a durable bound always lies above them.
const counterLease = time.Second

// recordMemtableBytes is about what Pebble's memtable needs for a record beside
// its key and value: the node of a skip list.
const recordMemtableBytes = 64

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
	txs    txLog
	trims  agenda.Agenda[*Stream] // by when retention has something to do
	asleep uint64                 // until when retention sleeps, on its clock; 0: it is to be awake

	loose    map[uint32]struct{} // epochs that reclaim has not looked at since something died there
	cuts     map[uint32]*cut     // what has died in epochs that live on
	deserted []*Stream           // that have no record any more in the open epoch
	watched  []*Stream           // on demand, that were put to lately

	names      map[string]bool // of the streams, with those of this group
	moment     time.Time       // at which this group began, for budgets
	call       uint64          // numbers the requests that are charged to budgets
	charged    []*Shard        // to which the current one puts
	now        uint64          // of this group: the wall clock, but never behind the retention clock
	last       uint64          // the last counter given out
	lease      uint64          // counters up to here are reserved; unused in Sync mode
	nextStream uint32

	// current are the shards with records in the open epoch, and perhaps others.
	current []*Shard

	reopen    bool // nothing was committed since the open
	wasClosed bool // the stored clock row says so

	touched []*Shard // shards with records in this group
	streams []*Stream
	publish []func() // what the control requests of this group show
	sync    bool     // this group is to be durable before it is published
	wrote   bool     // this group has rows

	seal   layout.SealScratch
	counts counts
}

// counts are read by Metrics while the committer writes them.
type counts struct {
	groups, records, bytes, epochs, throttled atomic.Int64

	shards atomic.Int64 // that there are

	// looks counts the streams, shards, slices and epochs that the committer has
	// looked at for something other than a put: for tests of what it costs.
	looks atomic.Int64
}

// putOp is a request of PutRecord and PutRecords: entries of one stream.
type putOp struct {
	stream *Stream
	puts   []put
	single [1]put // puts of a PutRecord, without an allocation
	many   []put  // memory for those of a PutRecords
}

// controlOp is a request that changes something else than records: the
// committer runs it, and it adds its rows and returns what shows the change
// once it is durable, or nil. With an error it has added nothing.
type controlOp func(a *appender, batch *kv.Batch) (publish func(), err error)

// Apply is part of commit.Log.
func (a *appender) Apply(requests []*commit.Request, batch *kv.Batch) bool {
	a.moment = time.Now()
	a.now = max(uint64(max(0, a.db.wall(a.moment).UnixNano())), a.db.aging.at(a.moment))
	a.sync = a.mode == Sync
	for _, r := range requests {
		switch op := r.Op.(type) {
		case *putOp:
			r.Err = a.applyPuts(op, batch)
		case *txOp:
			r.Err = a.applyTx(op, batch)
		case controlOp:
			r.Err = a.applyControl(op, batch)
		}
	}
	a.writeRecords(batch)
	a.reserve(batch)
	a.wrote = !batch.Empty()
	if a.reopen && a.wrote {
		a.reopen = false
		a.boundCounters(batch) // that the database was closed is over
		if !a.wasClosed {
			a.saveEnds(batch)
		}
	}
	if a.txs.inFlight {
		a.db.snapshots.hold()
	}
	return a.sync
}

// applyControl runs the operation. What it adds is always durable before it is
// shown: a trim, say, must be before the records are removed from the store.
func (a *appender) applyControl(op controlOp, batch *kv.Batch) error {
	rows := batch.Count()
	publish, err := op(a, batch)
	if publish != nil {
		a.publish = append(a.publish, publish)
	}
	a.sync = a.sync || batch.Count() > rows
	return err
}

// reserve makes sure that no counter of this group can be given out again, also
// when a crash takes the group back.
func (a *appender) reserve(batch *kv.Batch) {
	if a.mode == Sync || a.last <= a.lease {
		return
	}
	a.lease = a.last + uint64(counterLease)
	batch.Set(layout.ClockKey(), a.clockRow(a.lease))
	a.sync = true
}

// clockRow is the row that bounds all counters by counter.
func (a *appender) clockRow(counter uint64) []byte {
	return layout.ClockRow{Counter: counter, NextStream: a.nextStream}.Encode()
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
		n := len(sh.w.slices)
		if n == 0 || sh.w.epoch != a.epochs.Open() || sh.stream.w.deleted {
			continue // it was trimmed, or deleted, meanwhile
		}
		end := layout.Horizon{Counter: sh.w.tip.LastCounter + 1, Ordinal: sh.w.tip.Ordinal, Offset: sh.w.tip.Offset}
		if end == sh.w.savedEnd {
			continue
		}
		sh.w.savedEnd = end
		row := sh.w.slices[n-1].SliceRow
		row.End = end
		batch.Set(layout.SliceKey(sh.stream.number, sh.index, sh.w.epoch), row.Encode(sh.stream.number, sh.index, sh.w.epoch))
	}
}

// boundCounters stores a bound on all counters given out so far. Whoever removes
// records calls it in the same batch: the removed ones bound nothing any more.
func (a *appender) boundCounters(batch *kv.Batch) {
	batch.Set(layout.ClockKey(), a.clockRow(max(a.last, a.lease)))
}

// nextCounter gives out a counter: the time of arrival, or one more than the
// last one if the clock stands still or went back.
func (a *appender) nextCounter() uint64 {
	a.last = min(max(a.now, a.last+1), maxCounter)
	return a.last
}

func (a *appender) applyPuts(op *putOp, batch *kv.Batch) error {
	if op.stream.w.deleted {
		return ErrStreamNotFound
	}
	if err := a.canSeal(op.stream); err != nil {
		return err
	}
	throttled := op.stream.w.settings.capacity.Mode != Unlimited
	a.call++
	for i := range op.puts {
		p := &op.puts[i]
		sh := op.stream.w.topology.route(p.hash)
		if throttled {
			if op.stream.w.settings.capacity.Mode == OnDemand {
				a.observe(sh, p) // what is refused is wanted, too
			}
			if p.err = a.admit(sh, p.record.Size()); p.err != nil {
				continue
			}
		}
		a.place(sh, p, batch)
	}
	a.settle()
	return nil
}

// place gives the record its place in the shard. It is written with the group.
func (a *appender) place(sh *Shard, p *put, batch *kv.Batch) {
	if len(a.touched) == 0 && (a.epochs.Full(a.now) || a.db.damaged.Load() >= a.epochs.Open()) { // a group is all in one epoch
		a.beginEpoch(batch)
	}
	r := &p.record
	r.Counter, r.Ordinal, r.Offset = a.nextCounter(), sh.w.tip.Ordinal, sh.w.tip.Offset
	write := pendingWrite{payload: p.payload}
	if sh.stream.w.settings.keyID != "" {
		write.dataKey = sh.stream.w.sealer.DataKey
	}
	r.Sealed = write.dataKey != nil
	p.shard = sh

	open := a.epochs.Open()
	if sh.w.epoch != open {
		a.beginSlice(sh, open, r, batch)
	}
	if len(sh.w.pending) == 0 {
		a.touched = append(a.touched, sh)
	}
	sh.w.pending = append(sh.w.pending, *r)
	sh.w.writes = append(sh.w.writes, write)
	size := uint64(r.Size())
	sh.w.tip = tail.Tip{LastCounter: r.Counter, Ordinal: r.Ordinal + 1, Offset: r.Offset + size}
	a.epochs.Hold(open, size)
	s := sh.stream
	if s.w.ledger.Grow(open, size); s.w.ledger.Over(uint64(s.w.settings.retentionBytes)) {
		a.schedule(s)
	}
}

// pendingWrite is what a pending record needs until it is in the batch.
//
// Invariant: whether a record is encrypted, and by which data key, is decided when
// it is placed. A later request of the same group may change the stream's key, and
// the record's producer is told what was decided. TestAKeyChangesBetweenPutsOfOneGroup
// holds it.
type pendingWrite struct {
	payload layout.Payload
	dataKey *layout.DataKey // nil: the record is stored in the clear
}

// writeRecords adds the group's records to the batch, in the order of their keys
// and not of their arrival: the memtable finds the place of a key that follows on
// from the last one without a search.
func (a *appender) writeRecords(batch *kv.Batch) {
	slices.SortFunc(a.touched, func(x, y *Shard) int {
		return cmp.Or(cmp.Compare(x.stream.number, y.stream.number), cmp.Compare(x.index, y.index))
	})
	bytes := 0
	for _, sh := range a.touched {
		rowKey := layout.RecordKey{Epoch: sh.w.epoch, Stream: sh.stream.number, Shard: sh.index}
		for i := range sh.w.pending {
			r, payload, dataKey := &sh.w.pending[i], sh.w.writes[i].payload, sh.w.writes[i].dataKey
			size := 0
			if dataKey == nil {
				size = layout.RecordBytes(r, payload)
			} else {
				size = dataKey.RecordBytes(r, payload)
			}
			key, value := batch.SetDeferred(layout.RecordKeyBytes, size)
			rowKey.Counter = r.Counter
			rowKey.Put(key)
			if dataKey == nil {
				layout.PutRecord(value, key, r, payload)
			} else {
				dataKey.PutRecord(value, key, r, payload, &a.seal)
			}
			bytes += layout.RecordKeyBytes + size + recordMemtableBytes
		}
		clear(sh.w.writes)
		sh.w.writes = sh.w.writes[:0]
	}
	a.epochs.Grow(bytes)
}

// beginEpoch opens an epoch. The memtable is handed over to be flushed first, so
// that the epochs and the tables they fill begin together.
func (a *appender) beginEpoch(batch *kv.Batch) {
	first := max(a.now, a.last+1)
	if a.epochs.Len() == 0 {
		a.epochs.Begin(first)
	} else {
		a.saveEnds(batch)
		_ = a.db.store.RotateMemTable() // what fails here fails the commit as well
		last := a.epochs.Open()
		a.epochs.Begin(first)
		a.endEpoch(last, batch)
	}
	clear(a.current)
	a.current = a.current[:0]
	id := a.epochs.Open()
	batch.Set(layout.EpochKey(id), layout.EpochRow{FirstCounter: first}.Encode(id))
	a.counts.epochs.Store(int64(a.epochs.Len()))
}

// beginSlice notes that the shard has records in the epoch from r on.
func (a *appender) beginSlice(sh *Shard, id uint32, r *layout.Record, batch *kv.Batch) {
	row := layout.SliceRow{FirstCounter: r.Counter, FirstOrdinal: r.Ordinal, FirstOffset: r.Offset}
	batch.Set(layout.SliceKey(sh.stream.number, sh.index, id), row.Encode(sh.stream.number, sh.index, id))
	a.epochs.AddSlice(id)
	s := sh.stream
	s.w.ledger.AddSlice(id)
	sh.w.epoch = id
	a.current = append(a.current, sh)
	sh.w.slices = append(sh.w.slices, epoch.Slice{Epoch: id, SliceRow: row})
	if len(sh.w.slices) == 1 {
		s.w.filled.Set(&sh.w.filled, r.Counter)
		s.w.oldest.Set(&sh.w.oldest, r.Counter)
		a.schedule(s)
	}
}

// Publish is part of commit.Log.
func (a *appender) Publish([]*commit.Request) {
	if a.wrote {
		a.counts.groups.Add(1)
	}
	if a.txs.inFlight { // before the records: who reads one must find the keys written with it
		a.txs.inFlight = false
		a.db.snapshots.publish(a.txs.version)
	}
	for _, sh := range a.touched {
		a.publishShard(sh)
	}
	for i, publish := range a.publish { // before the records of new shards count as visible
		publish()
		a.publish[i] = nil
	}
	a.db.visible.Store(a.last)
	for _, s := range a.streams {
		s.signal.Raise(a.last)
		s.w.touched = false
	}
	if a.wrote && !a.sync {
		a.db.noteUnsynced()
	}
	a.touched, a.streams, a.publish = a.touched[:0], a.streams[:0], a.publish[:0]
}

func (a *appender) publishShard(sh *Shard) {
	sh.publishMap() // before the records: who sees them must find them
	first, next := sh.w.pending[0].Offset, sh.w.tip.Offset
	a.counts.records.Add(int64(len(sh.w.pending)))
	a.counts.bytes.Add(int64(next - first))
	a.tails.Append(sh.log, sh.w.pending)
	clear(sh.w.pending)
	sh.w.pending = sh.w.pending[:0]
	if s := sh.stream; !s.w.touched {
		s.w.touched = true
		a.streams = append(a.streams, s)
	}
}

// publishMap shows to readers where the shard's records lie, and where they begin.
func (sh *Shard) publishMap() {
	sh.mu.Lock()
	sh.slices, sh.horizon = sh.w.slices, sh.w.horizon
	sh.mu.Unlock()
}

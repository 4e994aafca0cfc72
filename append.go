package braid

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/tail"
)

// Apply is part of commit.Log.
func (a *appender) Apply(requests []*commit.Request, batch *kv.Batch) bool {
	a.moment = time.Now()
	a.now = max(uint64(max(0, a.db.wall(a.moment).UnixNano())), a.db.aging.at(a.moment))
	a.sync = a.mode == Sync
	a.group++
	a.deliveries = maxDeliveries
	for _, r := range requests {
		switch op := r.Op.(type) {
		case *putOp:
			r.Err = a.applyPuts(op, batch)
		case *waitingOp:
			r.Err = a.applyWaiting(op, batch)
		case *txOp:
			r.Err = a.applyTx(op, batch)
		case rowsOp:
			r.Err = a.applyRows(op, batch)
		case controlOp:
			r.Err = a.applyControl(op, batch)
		}
	}
	a.writeRecords(batch)
	a.tell(batch)
	a.reserve(batch)
	a.wrote = !batch.Empty()
	if a.reopen && a.wrote {
		a.reopen = false
		a.boundCounters(batch) // clears the mark of a clean close
		if !a.wasClosed {
			a.saveEnds(batch)
		}
	}
	if a.writesKeys {
		a.db.snapshots.hold()
	}
	return a.sync
}

// applyControl runs the operation. Its rows are always durable before its effect is
// visible, in every mode: a trim, for example, must be durable before its records are removed.
func (a *appender) applyControl(op controlOp, batch *kv.Batch) error {
	rows := batch.Count()
	publish, err := op(a, batch)
	if publish != nil {
		a.publish = append(a.publish, publish)
	}
	a.sync = a.sync || batch.Count() > rows
	return err
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
		sh := op.stream.w.topology.route(p)
		if throttled {
			if op.stream.w.settings.capacity.Mode == OnDemand {
				a.observe(sh, p) // refused records count as load, too
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

// applyTx checks what the transaction read, and adds what it wrote.
func (a *appender) applyTx(op *txOp, batch *kv.Batch) error {
	for i := range op.puts {
		if op.puts[i].stream.w.deleted {
			return fmt.Errorf("%w: %s", ErrStreamNotFound, op.puts[i].stream.name)
		}
		if err := a.canSeal(op.puts[i].stream); err != nil {
			return err
		}
	}
	if a.txs.Conflicts(op.version, op.reads, op.ranges) {
		return errConflict
	}
	if err := checkSteps(op.steps); err != nil {
		return err
	}
	if err := a.admitAll(op.puts); err != nil {
		return err
	}
	a.applySteps(op.steps, batch)
	for i := range op.puts {
		p := &op.puts[i]
		sh := p.stream.w.topology.route(&p.put)
		if p.stream.w.settings.capacity.Mode == OnDemand {
			a.observe(sh, &p.put)
		}
		a.place(sh, &p.put, batch)
	}
	if len(op.writes) == 0 {
		return nil
	}
	a.txs.Add(maps.Keys(op.writes))
	a.writesKeys = true
	for key, w := range op.writes {
		if w.value == nil {
			batch.Delete([]byte(key))
		} else {
			batch.Set([]byte(key), w.value)
		}
		if layout.IsLeaseKey(key) {
			a.publish = append(a.publish, func() { a.db.onLease.Note([]byte(key), w.value) })
		}
	}
	return nil
}

// place gives the record its place in the shard. writeRecords adds it to the batch.
func (a *appender) place(sh *Shard, p *put, batch *kv.Batch) {
	if len(a.touched) == 0 && (a.epochs.Full(a.now) || a.db.damaged.Load() >= a.epochs.Open()) { // all records of a group are in one epoch
		a.beginEpoch(batch)
	}
	r := &p.record
	r.Counter, r.Ordinal, r.Offset = a.nextCounter(), sh.w.tip.Ordinal, sh.w.tip.Offset
	var dataKey *layout.DataKey
	if sh.stream.w.settings.keyID != "" {
		dataKey = sh.stream.w.sealer.DataKey
	}
	r.Sealed = dataKey != nil
	p.shard = sh

	open := a.epochs.Open()
	if sh.w.epoch != open {
		a.beginExtent(sh, open, r, batch)
	}
	if len(sh.w.pending) == 0 {
		a.touched = append(a.touched, sh)
		a.hear(sh.stream)
	}
	sh.w.pending = append(sh.w.pending, *r)
	if s := sh.stream; s.w.hears && len(s.w.arrived) < maxArrivals {
		s.w.arrived = append(s.w.arrived, p)
	}
	if n := len(sh.w.sealed); n == 0 || sh.w.sealed[n-1].dataKey != dataKey {
		sh.w.sealed = append(sh.w.sealed, sealedRun{dataKey: dataKey})
	}
	sh.w.sealed[len(sh.w.sealed)-1].records++
	size := uint64(r.Size())
	sh.w.tip = tail.Tip{LastCounter: r.Counter, Ordinal: r.Ordinal + 1, Offset: r.Offset + size}
	a.epochs.Hold(open, size)
	s := sh.stream
	if s.w.ledger.Grow(open, size); s.w.ledger.Over(uint64(s.w.settings.retentionBytes)) {
		a.schedule(s)
	}
}

// writeRecords adds the group's records to the batch, in blocks. They are in the order of
// their keys, not of their arrival: the memtable inserts a key right after the previous one
// without a search.
func (a *appender) writeRecords(batch *kv.Batch) {
	slices.SortFunc(a.touched, func(x, y *Shard) int {
		return cmp.Or(cmp.Compare(x.stream.number, y.stream.number), cmp.Compare(x.index, y.index))
	})
	bytes := 0
	for _, sh := range a.touched {
		records := sh.w.pending
		for _, run := range sh.w.sealed {
			bytes += a.writeBlocks(sh, records[:run.records], run.dataKey, batch)
			records = records[run.records:]
		}
		clear(sh.w.sealed)
		sh.w.sealed = sh.w.sealed[:0]
	}
	a.epochs.Grow(bytes)
}

// writeBlocks adds records of a shard to the batch, encrypted with a data key, or in
// the clear if it is nil. It returns about how many bytes they take in a memtable.
func (a *appender) writeBlocks(sh *Shard, records []layout.Record, dataKey *layout.DataKey, batch *kv.Batch) (bytes int) {
	blockKey := layout.BlockKey{Epoch: sh.w.epoch, Stream: sh.stream.number, Shard: sh.index}
	for len(records) > 0 {
		n := layout.BlockRecords(records, dataKey != nil)
		block := records[:n]
		records = records[n:]
		size := layout.BlockBytes(block, dataKey)
		key, value := batch.SetDeferred(layout.BlockKeyBytes, size)
		blockKey.Counter = block[n-1].Counter
		blockKey.Put(key)
		layout.PutBlock(value, key, block, dataKey, &a.seal)
		bytes += layout.BlockKeyBytes + size + blockMemtableBytes
	}
	return bytes
}

// beginEpoch opens an epoch. The commit first rotates the memtable, so that the epoch and its
// tables begin together.
func (a *appender) beginEpoch(batch *kv.Batch) {
	first := max(a.now, a.last+1)
	if a.epochs.Len() == 0 {
		a.epochs.Begin(first)
	} else {
		a.saveEnds(batch)
		batch.BeginMemTable()
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

// beginExtent notes that the shard has records in the epoch from r on.
func (a *appender) beginExtent(sh *Shard, id uint32, r *layout.Record, batch *kv.Batch) {
	row := layout.ExtentRow{FirstCounter: r.Counter, FirstOrdinal: r.Ordinal, FirstOffset: r.Offset}
	batch.Set(layout.ExtentKey(sh.stream.number, sh.index, id), row.Encode(sh.stream.number, sh.index, id))
	a.epochs.AddExtent(id)
	s := sh.stream
	s.w.ledger.AddExtent(id)
	sh.w.epoch = id
	a.current = append(a.current, sh)
	sh.w.extents = append(sh.w.extents, epoch.Extent{Epoch: id, ExtentRow: row})
	if len(sh.w.extents) == 1 {
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
	if a.writesKeys { // before the records: a reader of one must find the keys written with it
		a.writesKeys = false
		a.db.snapshots.publish(a.txs.Version())
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
		s.latest.Raise(a.last)
		s.w.touched = false
	}
	a.told()
	if a.wrote && !a.sync && a.mode == Interval {
		a.db.syncing.Ring()
	}
	a.touched, a.streams, a.publish = a.touched[:0], a.streams[:0], a.publish[:0]
	if a.wrote {
		a.db.times.noteCommit(a.group, a.moment)
	}
}

func (a *appender) publishShard(sh *Shard) {
	sh.publishMap() // before the records: a reader that knows of them must find them
	first, next := sh.w.pending[0].Offset, sh.w.tip.Offset
	a.counts.records.Add(int64(len(sh.w.pending)))
	a.counts.bytes.Add(int64(next - first))
	a.tails.Append(sh.log, sh.w.pending)
	clear(sh.w.pending)
	sh.w.pending = sh.w.pending[:0]
	s := sh.stream
	s.recent.touch(sh)
	if !s.w.touched {
		s.w.touched = true
		a.streams = append(a.streams, s)
	}
}

package braid

import (
	"cmp"
	"context"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

// Removing records takes two steps. The first is a commit that moves horizons or
// deletes a stream: from then on nobody can read the records. The second returns
// their space, in the background: an epoch in which no shard has records any
// more is dropped whole; one that lives on is rewritten without the streams that
// have died in it, once that is worth it.
//
// Invariant: the first step is durable and visible before the second begins. So
// a crash in between leaves only work to be done again, and a reader that sees
// no change after its read knows that nothing was removed under it.

// An epoch that lives on is rewritten when streams that have died in it have left
// at least deadBytes there, and a deadShare-th of what lives: so all epochs
// together take little more than half as much again as what can be read.
const deadBytes, deadShare = 16 << 10, 2

// trim moves the shards' horizons up, in the batch. It returns what shows that.
func (a *appender) trim(shards []*Shard, horizons []layout.Horizon, batch *kv.Batch) (publish func()) {
	var trimmed []*Shard
	for i, sh := range shards {
		if horizons[i].Counter <= sh.trimmed.Counter || sh.stream.routes.shard(sh.index) != sh {
			continue // it is further already, or has expired
		}
		sh.trimmed = horizons[i]
		batch.Set(layout.ShardKey(sh.stream.number, sh.index), sh.row().Encode(sh.stream.number, sh.index))
		a.dropSlices(sh, batch)
		trimmed = append(trimmed, sh)
	}
	if len(trimmed) == 0 {
		return nil
	}
	a.boundCounters(batch)
	stream := shards[0].stream
	for id, bytes := range stream.dead {
		if id == a.epochs.Open() || stream.livesIn(id) {
			continue
		}
		delete(stream.dead, id) // it will not live there again
		if a.epochs.Has(id) {
			batch.Set(layout.CutKey(id, stream.number), layout.CutRow{Bytes: bytes}.Encode(id, stream.number))
		}
	}
	stream.pruneDataKeys(batch)
	return func() {
		for _, sh := range trimmed {
			sh.publishMap()
		}
		a.db.kickReclaim()
		a.db.kickRetention() // a closed shard may go
	}
}

// dropSlices removes the slices that lie wholly below the shard's horizon.
func (a *appender) dropSlices(sh *Shard, batch *kv.Batch) {
	before, rest := sh.allSlices.SplitAt(sh.trimmed.Ordinal, sh.next.Ordinal)
	for i, s := range before {
		batch.Delete(layout.SliceKey(sh.stream.number, sh.index, s.Epoch))
		a.epochs.DropSlice(s.Epoch)
		addBytes(&sh.stream.dead, s.Epoch, sh.sliceBytes(i))
		if s.Epoch == sh.epoch {
			sh.epoch = 0 // the next record begins a new slice
		}
	}
	sh.allSlices = rest
}

// livesIn reports whether a shard of the stream still has records in the epoch.
func (s *Stream) livesIn(id uint32) bool {
	for _, sh := range s.routes.shards {
		for _, slice := range sh.allSlices {
			if slice.Epoch == id {
				return true
			}
		}
	}
	return false
}

// deleteStream removes the stream's rows, in the batch, and notes where its
// records lie.
func (a *appender) deleteStream(s *Stream, batch *kv.Batch) {
	s.gone = true
	delete(a.names, s.name)
	a.boundCounters(batch)
	batch.Delete(layout.StreamKey(s.number))
	batch.DeleteRange(layout.StreamShardsSpan(s.number))
	batch.DeleteRange(layout.StreamSlicesSpan(s.number))
	batch.DeleteRange(layout.StreamDataKeysSpan(s.number))
	dead := s.dead
	for _, sh := range s.routes.shards {
		for i, slice := range sh.allSlices {
			a.epochs.DropSlice(slice.Epoch)
			addBytes(&dead, slice.Epoch, sh.sliceBytes(i))
		}
	}
	for id, bytes := range dead {
		if a.epochs.Has(id) {
			batch.Set(layout.CutKey(id, s.number), layout.CutRow{Bytes: bytes}.Encode(id, s.number))
		}
	}
}

// sliceBytes is how much the shard's i-th slice holds.
func (sh *Shard) sliceBytes(i int) uint64 {
	end := sh.next.Offset
	if i+1 < len(sh.allSlices) {
		end = sh.allSlices[i+1].FirstOffset
	}
	return end - sh.allSlices[i].FirstOffset
}

// addBytes adds to a count by epoch.
func addBytes(counts *map[uint32]uint64, id uint32, bytes uint64) {
	if *counts == nil {
		*counts = make(map[uint32]uint64)
	}
	(*counts)[id] += bytes
}

// kickReclaim tells that there may be space to return.
func (db *DB) kickReclaim() {
	select {
	case db.reclaim <- struct{}{}:
	default:
	}
}

// runReclaim is the goroutine that returns space. It ends when the database
// closes, or when the store has failed.
func (db *DB) runReclaim() {
	damaged := make(map[uint32]bool) // epochs that could not be rewritten
	for {
		select {
		case <-db.reclaim:
		case <-db.closing:
			return
		case <-db.store.Failed():
			return
		}
		if err := db.returnSpace(context.Background(), damaged); err != nil {
			db.opts.Logger.Warn("space could not be returned; it will be tried again after the next trim, deletion or open", "error", err)
		}
	}
}

// returnSpace drops the dead epochs, and rewrites those that are worth it. Damage of
// one is no reason to leave the others. An epoch that cannot be rewritten for it is
// left alone, as damaged says, until all that lives there has died: then it is
// dropped unread, and the damage with it.
func (db *DB) returnSpace(ctx context.Context, damaged map[uint32]bool) error {
	cuts, failed := db.loadCuts()
	if failed != nil && !isDamage(failed) {
		return closedIsFine(db, failed)
	}
	streams := db.Streams()
	var dead []uint32
	err := db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
		dead = a.epochs.Dead()
		a.keepWorthwhile(cuts, streams)
		return nil, nil
	})
	if err != nil {
		return closedIsFine(db, err)
	}
	for _, id := range dead {
		if err := db.dropEpoch(ctx, id); err != nil {
			return closedIsFine(db, err)
		}
		delete(damaged, id)
	}
	for id, cut := range cuts {
		if damaged[id] {
			continue
		}
		err := db.rewriteEpoch(ctx, id, cut.streams)
		switch {
		case isDamage(err):
			damaged[id] = true
			failed = cmp.Or(failed, err)
		case err != nil:
			return closedIsFine(db, err)
		}
	}
	return closedIsFine(db, failed)
}

// cut is what has died in an epoch that lives on.
type cut struct {
	streams []uint32 // that have no living record there
	bytes   uint64   // of their dead ones
}

// loadCuts returns what has died, by epoch.
func (db *DB) loadCuts() (map[uint32]*cut, error) {
	cuts := make(map[uint32]*cut)
	lower, upper := layout.CutSpan()
	err := scan(db.store, lower, upper, func(key, value []byte) error {
		id, stream, err := layout.DecodeCutKey(key)
		if err != nil {
			return corrupt(err)
		}
		row, err := layout.DecodeCutRow(id, stream, value)
		if err != nil {
			return corrupt(err)
		}
		if cuts[id] == nil {
			cuts[id] = new(cut)
		}
		cuts[id].streams = append(cuts[id].streams, stream)
		cuts[id].bytes += row.Bytes
		return nil
	})
	return cuts, err
}

// keepWorthwhile takes out the cuts that can wait: of epochs that take records
// yet, or are dead altogether, or in which too much lives.
func (a *appender) keepWorthwhile(cuts map[uint32]*cut, streams []*Stream) {
	living := make(map[uint32]uint64) // bytes, by epoch
	if len(cuts) > 0 {
		for _, s := range streams {
			if s.gone {
				continue
			}
			for _, sh := range s.routes.shards {
				for i, slice := range sh.allSlices {
					living[slice.Epoch] += sh.sliceBytes(i)
				}
			}
		}
	}
	for id, cut := range cuts {
		if id == a.epochs.Open() || living[id] == 0 || cut.bytes < deadBytes || cut.bytes < living[id]/deadShare {
			delete(cuts, id)
		}
	}
}

// dropEpoch removes an epoch: its records first, since its row is what says that
// there may be some.
func (db *DB) dropEpoch(ctx context.Context, id uint32) error {
	lower, upper := layout.EpochRecordsSpan(id)
	if err := db.store.Excise(ctx, lower, upper); err != nil {
		return err
	}
	return db.control(ctx, func(a *appender, batch *kv.Batch) (func(), error) {
		a.epochs.Remove(id)
		a.counts.epochs.Store(int64(a.epochs.Len()))
		batch.Delete(layout.EpochKey(id))
		batch.DeleteRange(layout.EpochCutsSpan(id))
		return nil, nil
	})
}

// rewriteEpoch removes the records of streams that have died in an epoch, to
// which none will be added: they are deleted, and the tables written again
// without them. A crash in between leaves the rows that say so.
func (db *DB) rewriteEpoch(ctx context.Context, id uint32, streams []uint32) error {
	err := db.control(ctx, func(_ *appender, batch *kv.Batch) (func(), error) {
		for _, stream := range streams {
			batch.DeleteRange(layout.StreamRecordsSpan(id, stream))
		}
		return nil, nil
	})
	if err != nil {
		return err
	}
	lower, upper := layout.EpochRecordsSpan(id)
	if err := db.store.Compact(ctx, lower, upper); err != nil {
		return err
	}
	return db.control(ctx, func(_ *appender, batch *kv.Batch) (func(), error) {
		for _, stream := range streams {
			batch.Delete(layout.CutKey(id, stream))
		}
		return nil, nil
	})
}

// closedIsFine drops an error that says no more than that the database closes.
func closedIsFine(db *DB, err error) error {
	if db.closed.Load() {
		return nil
	}
	return err
}

package braid

import (
	"context"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
)

// Removing records takes two steps. The first is a commit that moves horizons or
// deletes a stream: from then on nobody can read the records. The second returns
// their space, in the background: an epoch in which no shard has records any
// more is dropped whole, and a stream's part of a living epoch is cut out.
//
// Invariant: the first step is durable and visible before the second begins. So
// a crash in between leaves only work to be done again, and a reader that sees
// no change after its read knows that nothing was removed under it.

// cutBytes is how much of a stream must have died in an epoch that lives on, for
// a cut to be worth a change of the store's table of contents.
const cutBytes = 1 << 20

// trim moves the shards' horizons up, in the batch. It returns what shows that.
func (a *appender) trim(shards []*Shard, horizons []layout.Horizon, batch *kv.Batch) (publish func()) {
	dead := make(map[uint32]uint64) // by epoch: bytes of the stream that die
	var trimmed []*Shard
	for i, sh := range shards {
		if horizons[i].Counter <= sh.trimmed.Counter || sh.stream.routes.shard(sh.index) != sh {
			continue // it is further already, or has expired
		}
		sh.trimmed = horizons[i]
		batch.Set(layout.ShardKey(sh.stream.number, sh.index), sh.row().Encode(sh.stream.number, sh.index))
		a.dropSlices(sh, dead, batch)
		trimmed = append(trimmed, sh)
	}
	if len(trimmed) == 0 {
		return nil
	}
	a.boundCounters(batch)
	stream := shards[0].stream
	for id, bytes := range dead {
		if bytes >= cutBytes && id != a.epochs.Open() && !stream.livesIn(id) {
			batch.Set(layout.CutKey(id, stream.number), nil)
		}
	}
	return func() {
		for _, sh := range trimmed {
			sh.publishMap()
		}
		a.db.kickReclaim()
	}
}

// dropSlices removes the slices that lie wholly below the shard's horizon.
func (a *appender) dropSlices(sh *Shard, dead map[uint32]uint64, batch *kv.Batch) {
	before, rest := sh.allSlices.SplitAt(sh.trimmed.Ordinal, sh.next.Ordinal)
	for i, s := range before {
		batch.Delete(layout.SliceKey(sh.stream.number, sh.index, s.Epoch))
		a.epochs.DropSlice(s.Epoch)
		end := sh.next.Offset
		if i+1 < len(sh.allSlices) {
			end = sh.allSlices[i+1].FirstOffset
		}
		dead[s.Epoch] += end - s.FirstOffset
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
	for _, sh := range s.routes.shards {
		for _, slice := range sh.allSlices {
			a.epochs.DropSlice(slice.Epoch)
			batch.Set(layout.CutKey(slice.Epoch, s.number), nil)
		}
	}
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
	for {
		select {
		case <-db.reclaim:
		case <-db.closing:
			return
		case <-db.store.Failed():
			return
		}
		if err := db.returnSpace(context.Background()); err != nil {
			db.opts.Logger.Warn("space could not be returned; it will be tried again after the next trim, deletion or open", "error", err)
		}
	}
}

// returnSpace drops the dead epochs and makes the cuts that are noted.
func (db *DB) returnSpace(ctx context.Context) error {
	var dead []uint32
	err := db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
		dead = a.epochs.Dead()
		return nil, nil
	})
	if err != nil {
		return closedIsFine(db, err)
	}
	for _, id := range dead {
		if err := db.dropEpoch(ctx, id); err != nil {
			return closedIsFine(db, err)
		}
	}
	lower, upper := layout.CutSpan()
	var cuts [][2]uint32
	err = scan(db.store, lower, upper, func(key, _ []byte) error {
		id, stream, err := layout.DecodeCutKey(key)
		cuts = append(cuts, [2]uint32{id, stream})
		return err
	})
	for _, cut := range cuts {
		if err == nil {
			err = db.cutStream(ctx, cut[0], cut[1])
		}
	}
	return closedIsFine(db, err)
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

// cutStream removes a stream's records from an epoch in which all of them are
// dead, and none will be added.
func (db *DB) cutStream(ctx context.Context, id, stream uint32) error {
	lower, upper := layout.StreamRecordsSpan(id, stream)
	if err := db.store.Excise(ctx, lower, upper); err != nil {
		return err
	}
	return db.control(ctx, func(_ *appender, batch *kv.Batch) (func(), error) {
		batch.Delete(layout.CutKey(id, stream))
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

package braid

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

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

// desert notes what a stream leaves behind in an epoch in which it has no record any
// more. In the open one it may have some again: that is looked at when it ends.
func (a *appender) desert(s *Stream, id uint32, batch *kv.Batch) {
	if id == a.epochs.Open() {
		a.deserted = append(a.deserted, s)
		return
	}
	if dead, ok := s.w.ledger.TakeDead(id); ok {
		a.addCut(id, s.number, dead, batch)
	}
}

// endEpoch notes that no record will be added to the epoch, which was the open one.
func (a *appender) endEpoch(id uint32, batch *kv.Batch) {
	for _, s := range a.deserted {
		a.counts.looks.Add(1)
		if !s.w.deleted {
			a.desert(s, id, batch)
		}
	}
	clear(a.deserted)
	a.deserted = a.deserted[:0]
	a.loose[id] = struct{}{} // it may hold nothing
	a.db.reclaiming.Ring()
}

// addCut notes that a stream has died in an epoch.
func (a *appender) addCut(id, stream uint32, bytes uint64, batch *kv.Batch) {
	if !a.epochs.Has(id) {
		return
	}
	batch.Set(layout.CutKey(id, stream), layout.CutRow{Bytes: bytes}.Encode(id, stream))
	a.cuts.Of(id).Set(stream, bytes)
	a.loose[id] = struct{}{}
}

// reclaimer is the worker that returns space.
type reclaimer struct {
	db         *DB
	damaged    map[uint32]bool // epochs that could not be rewritten
	cutsLoaded bool            // what had died when the database was opened is known
}

func (w *reclaimer) run(ctx context.Context, _ bool) time.Duration {
	if err := w.returnSpace(ctx); err != nil {
		w.db.opts.Logger.Warn("space could not be returned; it will be tried again after the next trim, deletion or open", "error", err)
	}
	return asPlanned
}

// returnSpace drops the dead epochs, and rewrites those that are worth it, of those
// in which something has died since it was called last. Damage of one is no reason to
// leave the others. An epoch that cannot be rewritten for it is left alone, as damaged
// says, until all that lives there has died: then it is dropped unread, and the damage
// with it.
func (w *reclaimer) returnSpace(ctx context.Context) error {
	db := w.db
	var stored []storedCut
	var failed error // of what is damaged
	if !w.cutsLoaded {
		if stored, failed = w.loadCuts(); failed != nil && !isDamage(failed) {
			return closedIsFine(db, failed)
		}
	}
	var dead, worthwhile []uint32
	err := db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
		a.restoreCuts(stored)
		dead, worthwhile = a.looseEpochs()
		return nil, nil
	})
	if err != nil {
		return closedIsFine(db, err)
	}
	w.cutsLoaded = true
	for len(dead) > 0 && err == nil {
		if err = w.dropEpoch(ctx, dead[0]); err == nil {
			delete(w.damaged, dead[0])
			dead = dead[1:]
		}
	}
	for len(worthwhile) > 0 && err == nil {
		id := worthwhile[0]
		if !w.damaged[id] {
			err = w.rewriteEpoch(ctx, id)
		}
		if isDamage(err) {
			w.damaged[id] = true
			failed, err = cmp.Or(failed, err), nil
		}
		if err == nil {
			worthwhile = worthwhile[1:]
		}
	}
	if err = closedIsFine(db, err); err == nil {
		return closedIsFine(db, failed)
	}
	return errors.Join(err, failed, db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
		for _, id := range append(dead, worthwhile...) { // the next time
			a.loose[id] = struct{}{}
		}
		return nil, nil
	}))
}

// storedCut is a row of what has died.
type storedCut struct {
	epoch, stream uint32
	bytes         uint64
}

// loadCuts returns what has died.
func (w *reclaimer) loadCuts() (cuts []storedCut, err error) {
	lower, upper := layout.CutSpan()
	err = scan(w.db.store, lower, upper, func(key, value []byte) error {
		id, stream, err := layout.DecodeCutKey(key)
		if err != nil {
			return corrupt(err)
		}
		row, err := layout.DecodeCutRow(id, stream, value)
		if err != nil {
			return corrupt(err)
		}
		cuts = append(cuts, storedCut{id, stream, row.Bytes})
		return nil
	})
	return cuts, err
}

// restoreCuts takes over what was stored when the database was opened. What has died
// since is known better.
func (a *appender) restoreCuts(stored []storedCut) {
	for _, row := range stored {
		if c := a.cuts.Of(row.epoch); !c.Has(row.stream) {
			c.Set(row.stream, row.bytes)
		}
	}
}

// looseEpochs takes out the epochs in which something has died: those that are dead
// altogether, and those that are worth to be rewritten. The others can wait until
// more dies there.
func (a *appender) looseEpochs() (dead, worthwhile []uint32) {
	for id := range a.loose {
		a.counts.looks.Add(1)
		living, bytes, ended := a.epochs.Held(id)
		if !ended {
			continue // it will be looked at when it ends
		}
		if living == 0 {
			dead = append(dead, id)
		} else if c := a.cuts[id]; c != nil && c.Bytes() >= max(deadBytes, bytes/deadShare) {
			worthwhile = append(worthwhile, id)
		}
	}
	clear(a.loose)
	slices.Sort(dead)
	slices.Sort(worthwhile)
	return dead, worthwhile
}

// dropEpoch removes an epoch: its records first, since its row is what says that
// there may be some.
func (w *reclaimer) dropEpoch(ctx context.Context, id uint32) error {
	lower, upper := layout.EpochRecordsSpan(id)
	if err := w.db.store.Excise(ctx, lower, upper); err != nil {
		return err
	}
	return w.db.control(ctx, func(a *appender, batch *kv.Batch) (func(), error) {
		a.epochs.Remove(id)
		delete(a.cuts, id)
		a.counts.epochs.Store(int64(a.epochs.Len()))
		batch.Delete(layout.EpochKey(id))
		batch.DeleteRange(layout.EpochCutsSpan(id))
		return nil, nil
	})
}

// rewriteEpoch removes the records of streams that have died in an epoch, to
// which none will be added: they are deleted, and the tables written again
// without them. A crash in between leaves the rows that say so.
//
// Which streams those are is asked in a commit group before the one that deletes: a trim
// in that one is not visible yet when its batch is.
func (w *reclaimer) rewriteEpoch(ctx context.Context, id uint32) error {
	var streams []uint32
	err := w.db.control(ctx, func(a *appender, _ *kv.Batch) (func(), error) {
		streams = a.cuts.Of(id).Streams()
		return nil, nil
	})
	if err != nil {
		return err
	}
	err = w.db.control(ctx, func(_ *appender, batch *kv.Batch) (func(), error) {
		for _, stream := range streams {
			batch.DeleteRange(layout.StreamRecordsSpan(id, stream))
		}
		return nil, nil
	})
	if err != nil {
		return err
	}
	lower, upper := layout.EpochRecordsSpan(id)
	if err := w.db.store.Compact(ctx, lower, upper); err != nil {
		return err
	}
	return w.db.control(ctx, func(a *appender, batch *kv.Batch) (func(), error) {
		for _, stream := range streams {
			batch.Delete(layout.CutKey(id, stream))
			a.cuts.Of(id).Remove(stream)
		}
		return nil, nil
	})
}

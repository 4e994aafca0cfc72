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

// Removing records takes two steps. The first is a commit that raises horizons or deletes a
// stream: from then on nobody can read the records. The second reclaims their space, in the
// background. An epoch in which no shard has records is dropped whole. An epoch that still has
// records is rewritten without the streams that have died in it, once that is worth it.
//
// Invariant: the first step is durable and visible before the second begins. So after a crash
// in between, the second is done again, and a reader that sees no change after its read knows
// that nothing was removed during it.

// An epoch that still has records is rewritten when dead streams have left at least
// deadBytes in it, and at least 1/deadShare of the living bytes. So all epochs together take
// little more than 1.5 times the space of the readable records.
const deadBytes, deadShare = 16 << 10, 2

// desert notes what a stream leaves behind in an epoch in which it has no records left. In the
// open epoch it may get new ones, so that epoch is checked when it ends.
func (a *appender) desert(s *Stream, id uint32, batch *kv.Batch) {
	if id == a.epochs.Open() {
		a.deserted = append(a.deserted, s)
		return
	}
	if dead, ok := s.w.ledger.TakeDead(id); ok {
		a.addCut(id, s.number, dead, batch)
	}
}

// endEpoch notes that the epoch, which was open, gets no more records.
func (a *appender) endEpoch(id uint32, batch *kv.Batch) {
	for _, s := range a.deserted {
		a.counts.looks.Add(1)
		if !s.w.deleted {
			a.desert(s, id, batch)
		}
	}
	clear(a.deserted)
	a.deserted = a.deserted[:0]
	a.loose[id] = struct{}{} // it may be empty already
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

// reclaimer is the worker that reclaims space.
type reclaimer struct {
	db         *DB
	damaged    map[uint32]bool // epochs that could not be rewritten
	cutsLoaded bool            // whether the stored cuts were loaded
}

func (w *reclaimer) run(ctx context.Context, _ bool) time.Duration {
	if err := w.returnSpace(ctx); err != nil {
		w.db.opts.Logger.Warn("space could not be reclaimed; retrying after the next trim, deletion or open", "error", err)
	}
	return asPlanned
}

// returnSpace looks at the epochs in which something has died since its last call. It drops
// those that are dead, and rewrites those that are worth it. Damage of one epoch does not keep
// the others. A damaged epoch cannot be rewritten, so it is left alone until it is dead; then
// it is dropped without being read, together with the damage.
func (w *reclaimer) returnSpace(ctx context.Context) error {
	db := w.db
	var stored []storedCut
	var failed error // the first error of damage
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
		for _, id := range append(dead, worthwhile...) { // try again in the next call
			a.loose[id] = struct{}{}
		}
		return nil, nil
	}))
}

// storedCut is a stored row of a cut.
type storedCut struct {
	epoch, stream uint32
	bytes         uint64
}

// loadCuts returns the stored cuts.
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

// restoreCuts takes over the cuts that were stored when the database was opened. It keeps
// newer ones.
func (a *appender) restoreCuts(stored []storedCut) {
	for _, row := range stored {
		if c := a.cuts.Of(row.epoch); !c.Has(row.stream) {
			c.Set(row.stream, row.bytes)
		}
	}
}

// looseEpochs clears a.loose, the epochs in which something has died. It returns those that
// are dead altogether, and those that are worth rewriting. The others wait until more dies in
// them.
func (a *appender) looseEpochs() (dead, worthwhile []uint32) {
	for id := range a.loose {
		a.counts.looks.Add(1)
		living, bytes, ended := a.epochs.Held(id)
		if !ended {
			continue // the open epoch is checked when it ends
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

// dropEpoch removes an epoch. It removes the records first: as long as the epoch's row
// exists, a later open tries again.
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

// rewriteEpoch removes the records of dead streams from an epoch that gets no more records: it
// deletes them, and writes the tables again without them. After a crash in between, the rows
// of the cuts are still there, and it is done again.
//
// It asks for the dead streams in one commit group and deletes their records in a later one. A
// trim in the same group as the deletion would not be visible when the deletion takes effect.
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

package braid

import (
	"time"

	"github.com/braidstream/braid/internal/layout"
)

// Loss is a damaged file that an open with [Options].AcceptLoss gave up.
type Loss struct {
	Time   time.Time // when it was given up
	File   string    // as in [FileDamageError]
	Damage string    // as in [FileDamageError]
	Offset int64     // where the damage begins, in bytes; -1 if unknown
	Text   string    // a description of the damage
}

// Losses returns all losses since the database was created, the oldest first. A backup is a
// database of its own and begins without losses.
func (db *DB) Losses() []Loss {
	var losses []Loss
	for _, l := range db.store.Losses() {
		losses = append(losses, Loss(l))
	}
	return losses
}

// markLosses gives each open shard a gap, after the end of a log or a manifest was lost: one
// missing record, so that readers report the loss. The counter moves above every number that
// can have been given out, so that no number and no ordinal of a lost record is used again.
//
// The gap is an extent in an epoch of its own, so it is as durable as any other extent, and
// later puts do not hide it. It is made before anyone can use the database.
func (a *appender) markLosses(now uint64) error {
	db := a.db
	batch := db.store.NewBatch()
	defer batch.Close()
	a.now = max(now, a.last)
	a.last = a.now
	a.beginEpoch(batch)
	for _, s := range db.streams {
		for _, sh := range s.w.topology.shards {
			if sh.w.closing != nil {
				continue
			}
			gap := layout.Record{Counter: a.nextCounter(), Ordinal: sh.w.tip.Ordinal, Offset: sh.w.tip.Offset}
			a.beginExtent(sh, a.epochs.Open(), &gap, batch)
			sh.setTip(layout.Horizon{Counter: gap.Counter + 1, Ordinal: gap.Ordinal + 1, Offset: gap.Offset})
		}
	}
	a.beginEpoch(batch)
	a.boundCounters(batch)
	a.reopen = false // the ends of all shards are in the batch
	if err := batch.Commit(true); err != nil {
		return err
	}
	db.visible.Store(a.last)
	for _, s := range db.streams {
		s.latest.Raise(a.last)
	}
	return db.store.MarkLosses()
}

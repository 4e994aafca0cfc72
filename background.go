package braid

import (
	"context"
	"time"

	"github.com/braidstream/braid/internal/wake"
)

// worker is a task that an open database has in the background: [reclaimer], [trimmer],
// [scaler] and [syncer]. Code that makes work for one rings its bell.
type worker interface {
	// run does what there is to do. It returns after how long it is to run again, if its
	// bell does not ring before; asPlanned leaves that as it was. rung is false when
	// that time has come.
	run(ctx context.Context, rung bool) (next time.Duration)
}

// asPlanned is returned by a worker that has nothing to change of when it runs next.
const asPlanned time.Duration = -1

// work starts the goroutine of a worker, which sleeps unless the bell rings or a time
// comes that the worker has asked for: so an idle database does nothing. It ends when
// the database closes, which waits for it, or when the store has failed.
func (db *DB) work(bell wake.Bell, w worker) {
	db.background.Go(func() {
		timer := time.NewTimer(time.Hour)
		timer.Stop() // until the worker has asked for a time
		defer timer.Stop()
		for {
			rung := false
			select {
			case <-bell.C():
				rung = true
			case <-timer.C:
			case <-db.life.Done():
				return
			}
			if next := w.run(context.Background(), rung); next >= 0 {
				timer.Reset(next)
			}
		}
	})
}

// syncer syncs what was acknowledged with [Interval]. It sleeps for the interval once
// there is something to sync, and what comes in the meantime is synced with it.
type syncer struct {
	db      *DB
	planned bool // it will run
}

func (w *syncer) run(_ context.Context, rung bool) time.Duration {
	if rung && w.planned {
		return asPlanned
	}
	if w.planned = rung; rung {
		return w.db.opts.SyncInterval
	}
	_ = w.db.store.Sync() // a failure latches the store, which tells every caller
	return asPlanned
}

// closedIsFine drops an error that says no more than that the database closes.
func closedIsFine(db *DB, err error) error {
	if db.closed.Load() {
		return nil
	}
	return err
}

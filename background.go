package braid

import (
	"context"
	"time"

	"github.com/braidstream/braid/internal/wake"
)

// worker is a background task of an open database: [reclaimer], [trimmer], [scaler] and
// [syncer]. Code that makes work for a worker rings its bell.
type worker interface {
	// run does the current work. It returns the time until the next run, unless the bell
	// rings earlier; asPlanned leaves the planned time unchanged. rung reports whether the
	// bell rang before the planned time.
	run(ctx context.Context, rung bool) (next time.Duration)
}

// asPlanned is returned by a worker whose next run stays as planned.
const asPlanned time.Duration = -1

// work starts the goroutine of a worker. The goroutine sleeps until the bell rings, or until
// a time that the worker has asked for, so an idle database does nothing. It ends when the
// database closes, which waits for it, or when the store fails.
func (db *DB) work(bell wake.Bell, w worker) {
	db.background.Go(func() {
		timer := time.NewTimer(time.Hour)
		timer.Stop() // stopped until the worker asks for a time
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

// syncer syncs the writes that were acknowledged with [Interval]. It waits for the interval
// after the first such write, and then syncs all writes that were acknowledged meanwhile.
type syncer struct {
	db      *DB
	planned bool // whether a sync is planned
}

func (w *syncer) run(_ context.Context, rung bool) time.Duration {
	if rung && w.planned {
		return asPlanned
	}
	if w.planned = rung; rung {
		return w.db.opts.SyncInterval
	}
	_ = w.db.store.Sync() // a failure latches the store, so every caller gets the error
	return asPlanned
}

// closedIsFine drops an error if the database is being closed.
func closedIsFine(db *DB, err error) error {
	if db.closed.Load() {
		return nil
	}
	return err
}

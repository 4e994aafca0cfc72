package braid

import (
	"context"
	"sync"
	"time"
)

// txTurn is the turn of a transaction that met conflicts: one at a time has it. It is
// over when the transaction is, and after turnTime.
type txTurn struct {
	db   *DB
	done chan struct{} // closed when the turn is over

	mu   sync.Mutex  // guards the fields below
	late *time.Timer // ends the turn after turnTime
	over bool
}

// takeTxTurn waits for the turn. The caller ends it.
func (db *DB) takeTxTurn(ctx context.Context) (*txTurn, error) {
	if err := wait(ctx, db, db.turn); err != nil {
		return nil, err
	}
	t := &txTurn{db: db, done: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.late = time.AfterFunc(turnTime, t.end)
	return t, nil
}

// insist makes transactions that begin from now on wait until the turn is over.
func (t *txTurn) insist() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.db.insisting.Store(t)
	}
}

// end ends the turn, if it is not over already.
func (t *txTurn) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return
	}
	t.over = true
	t.late.Stop()
	t.db.insisting.CompareAndSwap(t, nil)
	close(t.done)
	giveTurn(t.db.turn)
}

// letInsist waits until no transaction insists on its turn. Every run of a transaction
// that has no turn begins with it.
func (db *DB) letInsist(ctx context.Context) error {
	for {
		t := db.insisting.Load()
		if t == nil {
			return nil
		}
		if err := wait(ctx, db, t.done); err != nil {
			return err
		}
	}
}

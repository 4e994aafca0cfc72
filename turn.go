package braid

import (
	"context"
	"sync"
	"time"
)

// txTurn is the turn of a transaction that met conflicts. Only one transaction at a time has
// it. The turn ends with the transaction, or after turnTime.
type txTurn struct {
	db   *DB
	late *time.Timer
	done chan struct{} // closed when the turn is over

	mu   sync.Mutex // guards the field below
	over bool
}

// takeTxTurn waits for the turn. The caller ends it.
func (db *DB) takeTxTurn(ctx context.Context) (*txTurn, error) {
	if err := wait(ctx, db, db.turn); err != nil {
		return nil, err
	}
	t := &txTurn{db: db, done: make(chan struct{})}
	t.late = time.AfterFunc(turnTime, t.pass)
	return t, nil
}

// insist makes new transactions wait until the turn is over.
func (t *txTurn) insist() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.db.insisting.Store(t)
	}
}

// end is called when the transaction has ended.
func (t *txTurn) end() {
	t.late.Stop()
	t.pass()
}

// pass gives the turn to the next transaction, unless it has done so before.
func (t *txTurn) pass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return
	}
	t.over = true
	t.db.insisting.CompareAndSwap(t, nil)
	close(t.done)
	giveTurn(t.db.turn)
}

// letInsist waits until no transaction insists on its turn.
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

package braid

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/wake"
)

// DB is a database: one directory, or memory, with any number of streams, and with keys of
// the application's own. It comes from [Open]. All methods may be called from any number of
// goroutines.
type DB struct {
	// Lock order: mu, then the committer's or a shard's mutex. The mutexes of tails and
	// signals are taken alone. None is held during a wait, a commit or a read of the store.

	opts      Options
	otherWall func() time.Time // the wall clock of tests; nil for the system's
	store     *kv.Store
	committer *commit.Committer
	appender  *appender // belongs to the committer
	loaded    *loader   // set between the two steps of Open
	aging     retentionClock
	decisions decisions
	requests  sync.Pool // of *putRequest
	snapshots snapshots
	readers   readers
	reads     reads
	pages     loopPages // changed by tests only, before any loop
	changed   wake.Signal
	attached  companion.Attachments
	onLease   companion.LeaseWatch
	onStream  streamWatch

	closedWell bool // whether the last process that wrote has closed the database; not changed after Open

	// visible is the highest counter up to which all records, in all shards, are visible
	// to readers.
	visible atomic.Uint64

	// damaged is the last epoch in which a reader has met damage, or 0.
	damaged atomic.Uint32

	mu      sync.Mutex         // guards the fields below
	streams map[string]*Stream // by name

	closed    atomic.Bool             // set first by Close
	life      context.Context         // ends with the database: its cause is ErrClosed, or that of a failure
	end       context.CancelCauseFunc // ends life; called by Close, and by start's goroutine after a failure
	turn      chan struct{}           // holds a token unless a transaction has its turn
	insisting atomic.Pointer[txTurn]  // the turn whose end new transactions wait for; mostly nil

	background sync.WaitGroup // the workers. Their bells ring for:
	reclaiming wake.Bell      // space that may be reclaimed
	trimming   wake.Bell      // trims that are due earlier than planned
	scaling    wake.Bell      // puts to a stream on demand
	syncing    wake.Bell      // writes that Interval has acknowledged but not synced

	times timings
}

// clock returns the wall clock's time.
func (db *DB) clock() time.Time { return db.wall(time.Now()) }

// wall returns the wall clock's time at that moment, which is now.
func (db *DB) wall(moment time.Time) time.Time {
	if db.otherWall != nil {
		return db.otherWall()
	}
	return moment
}

// control lets the committer run an operation, and waits until the rows that it added are
// durable. After an error, the committer may still run the operation, so everything that op
// uses belongs to op. In particular, op must not use a named result, which a return changes:
// TestEveryCallEndsWithItsContextOnAStalledDisk.
func (db *DB) control(ctx context.Context, op controlOp) error {
	return db.committer.Do(ctx, &commit.Request{Op: op, Essential: true})
}

// ended returns the cause of a context that has ended, otherwise nil. For a context that has
// not ended it takes no mutex, which callers that share the context would contend for.
func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}

// wait waits until ch is closed or has an element, ctx ends, or the database closes or fails.
// Every wait of a caller uses it, except the wait for its own commit and those of a
// [follower].
func wait[T any](ctx context.Context, db *DB, ch <-chan T) error {
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-db.life.Done():
		return context.Cause(db.life)
	}
}

// newTurn returns a channel that holds the one token of a turn: [wait] takes it,
// and giveTurn puts it back.
func newTurn() chan struct{} {
	turn := make(chan struct{}, 1)
	giveTurn(turn)
	return turn
}

func giveTurn(turn chan struct{}) { turn <- struct{}{} }

// reads counts pages that were read, and calls that were refused.
type reads struct {
	tail, stored, throttled atomic.Int64

	ahead atomic.Int64 // how many of stored were read ahead, for tests
}

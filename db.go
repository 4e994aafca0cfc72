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

// DB is a database: one directory, or memory, with any number of streams and
// keys of the application's own. It comes from [Open]. All methods may be called
// from any number of goroutines.
type DB struct {
	// Lock order: mu, then the committer's or a shard's mutex; a tail's and a
	// signal's are taken alone. None is held over a wait, a commit or a read of the
	// store.

	opts      Options
	otherWall func() time.Time // the wall clock of tests; nil for that of the system
	store     *kv.Store
	committer *commit.Committer
	appender  *appender // the committer's
	loaded    *loader   // between the two steps of Open; else nil
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

	closedWell bool // the last process that wrote has closed the database; not changed after Open

	// visible is the highest counter of any record that readers can see. All
	// records at or below it are visible, in whatever shard.
	visible atomic.Uint64

	// damaged is the last epoch in which a reader has met damage, or 0.
	damaged atomic.Uint32

	mu      sync.Mutex         // guards the fields below
	streams map[string]*Stream // by name

	closed    atomic.Bool             // set first by Close
	life      context.Context         // ends with the database: its cause is ErrClosed, or that of a failure
	end       context.CancelCauseFunc // ends life; Close calls it, and what watches for a failure
	turn      chan struct{}           // holds a token unless a transaction has its turn
	insisting atomic.Pointer[txTurn]  // that newcomers wait for the end of; mostly nil

	background sync.WaitGroup // of the workers, whose bells ring for:
	reclaiming wake.Bell      // space that may be returned
	trimming   wake.Bell      // what is due earlier than was planned
	scaling    wake.Bell      // a stream on demand that is put to
	syncing    wake.Bell      // what Interval has acknowledged and not synced

	times timings
}

// clock returns the time of the wall clock.
func (db *DB) clock() time.Time { return db.wall(time.Now()) }

// wall returns what the wall clock says at that moment, which is now.
func (db *DB) wall(moment time.Time) time.Time {
	if db.otherWall != nil {
		return db.otherWall()
	}
	return moment
}

// control has an operation run by the committer, and waits until
// what it added is durable. After an error the committer may still run it: then
// whatever op uses belongs to op. So none of it may be a named result, which a
// return changes. TestEveryCallEndsWithItsContextOnAStalledDisk holds that.
func (db *DB) control(ctx context.Context, op controlOp) error {
	return db.committer.Do(ctx, &commit.Request{Op: op, Essential: true})
}

// ended returns the cause of a context that has ended, and nil of one that has not: for
// that it takes no mutex, which all who share the context would meet at.
func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}

// wait waits until ch is closed or has something, or ctx ends, or the database
// closes or fails. Every wait of a caller for something other than its own commit
// goes through it, but for those of a [follower].
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

// reads count the pages that were read, and those that were refused.
type reads struct {
	tail, stored, throttled atomic.Int64

	ahead atomic.Int64 // of stored: those that were read ahead, for tests
}

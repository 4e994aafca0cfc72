// Package companion is the door between package braid and packages consumer and queue,
// which keep leases and deliveries in the database: beside the application's keys, in the
// same transactions, and out of their reach. Package braid sets the functions,
// and nobody else can import them.
package companion

import (
	"context"
	"iter"
	"time"

	"github.com/braidstream/braid/internal/histogram"
	"github.com/braidstream/braid/internal/tail"
)

// DB is what package consumer needs of a *braid.DB beside its exported methods.
type DB interface {
	// Attach returns what was attached to the database under the name, and
	// attaches what is made if there is nothing yet. It stays for as long as the
	// database is open.
	Attach(name string, make func() any) any

	// Visible returns the highest counter of all records that readers can see: the
	// place of braid.Latest in all shards of all streams.
	Visible() uint64

	// OnCommit has fn called with every row about leases that was written, nil
	// for one deleted, in the order in which they are committed, once they are
	// durable. fn is called by the goroutine that commits: it must not wait. nil
	// ends it. It is there for tests.
	OnCommit(fn func(key, value []byte))

	// WatchLeases has fn called with the key of every row about leases of an
	// application that was written or deleted, once others can read that and before
	// its writer is answered. There is one fn for each application; nil ends it. fn is
	// called by the goroutine that commits: it must not wait.
	WatchLeases(app string, fn func(key []byte))

	// WatchStream has fn called when a stream of that name was created or deleted, or has
	// got or lost shards, and when the database closes, until stop is called; a call that
	// is on its way may come after that. There need be no such stream. fn is called by the
	// goroutine that commits: it must not wait. Unlike DB.Changed, it costs changes of
	// other streams nothing.
	WatchStream(stream string, fn func()) (stop func())

	// Commit has fn add rows to what is committed next, and returns once they are as
	// durable as the mode of the database has it. fn is called by the goroutine that
	// commits, in the order of all commits, so it must not wait; with an error it must
	// have added nothing. What it returns, if not nil, is called by the same goroutine when
	// the rows are durable and before Commit returns. An essential commit is made even
	// while the disk is full. After braid.ErrOutcomeUnknown fn may still be called.
	Commit(ctx context.Context, essential bool, bytes int, fn func(Rows) (publish func(), err error)) error

	// Deliveries returns how many records the commit that is being made may still give to
	// receivers that wait. It is for functions that Commit and Listener have called, which
	// lower it by what they give.
	Deliveries() *int

	// Full reports whether the disk is full, so that only essential commits are made.
	Full() bool

	// Ended returns a channel that is closed when no commit is on its way any more and none
	// will be: after Life has ended. What was to be published by then was.
	Ended() <-chan struct{}

	ReadOnly() bool        // no commit is ever made
	Now() uint64           // the clock by which records age: Unix time in nanoseconds, which no step of the wall clock moves
	Life() context.Context // ends with the database, with the cause
	ClosedWell() bool      // the process that wrote the database before this one has closed it
	Log() any              // the *slog.Logger
}

// Rows is what a commit writes. It copies what it is given.
type Rows interface {
	Set(key, value []byte)
	Delete(key []byte)
	DeleteRange(lower, upper []byte)
}

// Stream is what package consumer needs of a *braid.Stream beside its exported methods.
type Stream interface {
	// Topology returns a value that is another one whenever the stream has got or lost
	// shards.
	Topology() any

	Number() uint32        // names it in rows
	Latest() *tail.Counter // goes up when there are new records; and, maybe, at other times

	// Listen has a listener called until Unlisten is. A call that is on its way may come
	// after that. Both may be called under a mutex that the listener takes.
	Listen(Listener)
	Unlisten(Listener)

	// Retention returns how long after their counters records expire; 0 means never.
	Retention() time.Duration

	// AddQueues counts the stream's queues. It is called in a commit only.
	AddQueues(n int) error

	// Resolve returns the counter that a braid.Position stands for in all shards.
	Resolve(position any) (from uint64, err error)

	// Read returns a []braid.Record of all shards from a counter on, in the order of
	// arrival, and the counter from which to read on: everything below is settled,
	// so nothing will ever be put there. Records that were trimmed are passed by. If some
	// are damaged, those before them are returned with the error, and next is after them.
	// Any other error comes when there is nothing before it.
	//
	// What place knows of from is used, and it is renewed to know of next. It is the
	// caller's, and used for one page at a time, which may begin anywhere.
	Read(ctx context.Context, from uint64, records, bytes int, place *Place) (read any, next uint64, err error)
}

// Place is what a reader of a stream knows of where it has come to: with it the next page
// finds out by itself whether a record is missing in front of it. The zero value knows
// nothing.
type Place struct {
	Counter  uint64            // where to read on; 0 for none
	Ordinals map[uint32]uint64 // of the next record of a shard from there on, plus one, by the shard's index
}

// At returns the ordinals if they are those of a counter.
func (p *Place) At(counter uint64) map[uint32]uint64 {
	if p.Counter != counter {
		return nil
	}
	return p.Ordinals
}

// Listener wants to know of a stream's records before others do. It is called by the
// goroutine that commits, so it must not wait.
type Listener interface {
	// Arrive is called when a commit brings records to the stream: all of them, or the
	// first ones of many. Rows that it adds are of the same commit. What it returns, if
	// not nil, is called when they are durable and the records can be read. before is
	// what Latest still is.
	Arrive(rows Rows, before uint64, records Arrivals) (publish func())

	// Changed is called when there are records that can be read now, when records were
	// trimmed, and when others expire from now on.
	Changed()
}

// Arrivals are records in the order of their arrival. They are valid during the call.
type Arrivals interface {
	Len() int
	Place(i int) (shard uint32, counter uint64, size int) // size is that of braid.Record.Size
	Records(from, to int) any                             // a []braid.Record, from one index to before another
}

// Shard is what package consumer needs of a *braid.Shard beside its exported methods,
// at a cost that does not depend on how many shards there are.
type Shard interface {
	Starting() any // a braid.SequenceNumber before that of every record

	// Read is braid.Shard.GetRecords from a braid.Position on and outside of the budget,
	// that puts the records where the caller has room for them: place is called once, with
	// how many they are, and returns a func(int) *braid.Record, the place of each, which is
	// zero. The page, a *braid.RecordsPage, has no Records; size is their bytes.
	Read(ctx context.Context, from any, records, bytes int, waits bool, place func(n int) (at any)) (page any, size int, err error)

	Index() uint32             // names it in rows of its stream
	Shows(counter uint64) bool // a record with that counter would neither be trimmed nor have expired; even while the database closes
	Count() uint64             // how many records there ever were

	// Ahead returns the counter of the first record that can be read at a counter or above
	// it, 0 for none, and how many there ever were before that. It needs no key.
	Ahead(ctx context.Context, from uint64) (first, ordinal uint64, err error)

	// CountTo is Count as it was when the record with that counter, or the last one before
	// it, was the newest. It reads nothing unless there are newer ones.
	CountTo(ctx context.Context, counter uint64) (uint64, error)
}

// Tx reads and writes rows about leases in a *braid.Tx: serializable, like the
// application's own keys. A key is that of package layout.
type Tx interface {
	Get(key []byte) (value []byte, err error) // nil if there is none
	Set(key, value []byte) error
	Delete(key []byte) error
	Scan(lower, upper []byte) iter.Seq2[Row, error]

	// First returns the first row of a range. It costs the same however many follow.
	First(lower, upper []byte) (row Row, found bool, err error)

	// Join makes rows of a commit part of the transaction. At its place in the order of
	// commits, and only if it meets no conflict, check is called; after an error of it
	// nothing is written, and that is the error of the transaction. Then apply is called,
	// as the function of DB.Commit is.
	Join(check func() error, apply func(Rows) (publish func())) error

	DB() any                  // the *braid.DB
	Context() context.Context // that of the call that runs the transaction
}

// Environment is what a test puts in the place of the machine, to cut the power, say,
// or to set the clock.
type Environment struct {
	FS      any              // a file system of the engine
	Clock   func() time.Time // nil is time.Now
	Instant bool             // FS never waits, so callers run commits, as in memory

	// TableBlockBytes is the size of a block of a table, 0 for the usual one.
	TableBlockBytes int
}

// Row is a row about a lease.
type Row struct{ Key, Value []byte }

// Set by package braid.
var (
	DBOf func(db any) DB // of a *braid.DB
	TxOf func(tx any) Tx // of a *braid.Tx

	StreamOf func(stream any) Stream // of a *braid.Stream
	ShardOf  func(shard any) Shard   // of a *braid.Shard

	// Corrupt makes the error of a row that is not what was written.
	Corrupt func(cause error) error

	// Over returns, of an error that refused a write for want of space or of another
	// resource, a channel that is closed when writing goes on; nil of another error.
	Over func(err error) <-chan struct{}

	// Histogram makes a braid.Histogram of what was recorded.
	Histogram func(*histogram.Recorder) any

	// Open opens a *braid.DB with *braid.Options in an environment of a test.
	Open func(dir string, options any, env Environment) (db any, err error)
)

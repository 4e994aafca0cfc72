// Package companion gives packages consumer and queue access to internals of package braid.
// They keep leases and deliveries in the database: in the same transactions as the
// application's keys, but out of the application's reach. Package braid sets the functions;
// packages outside the module cannot import them.
package companion

import (
	"context"
	"iter"
	"time"

	"github.com/braidstream/braid/internal/histogram"
	"github.com/braidstream/braid/internal/tail"
)

// DB is the internal API of a *braid.DB for packages consumer and queue.
type DB interface {
	// Attach returns the value attached to the database under the name. If there is none, it
	// attaches the value that make returns. The value stays attached while the database is
	// open.
	Attach(name string, make func() any) any

	// Visible returns the highest counter of all visible records: the position of braid.Latest
	// in all shards of all streams.
	Visible() uint64

	// OnCommit registers fn, which gets every row about leases that was written, with a nil
	// value for a deleted one, in the order of the commits, once the row is durable. The
	// goroutine that commits calls fn, so fn must not wait. A nil fn ends the calls. OnCommit
	// is for tests.
	OnCommit(fn func(key, value []byte))

	// WatchLeases registers fn, which gets the key of every row about leases of an application
	// that was written or deleted, once the change is visible and before its writer gets its
	// answer. There is one fn for each application; nil ends the calls. The goroutine that
	// commits calls fn, so fn must not wait.
	WatchLeases(app string, fn func(key []byte))

	// WatchStream registers fn, which is called when a stream of that name, which need not
	// exist, is created or deleted, gets or loses shards, and when the database closes. stop
	// ends the calls; a call in progress may still come after it. The goroutine that commits
	// calls fn, so fn must not wait. Unlike DB.Changed, it costs changes of other streams
	// nothing.
	WatchStream(stream string, fn func()) (stop func())

	// Commit calls fn, which adds rows to the next commit, and returns once they are as durable
	// as the database's mode demands. The goroutine that commits calls fn, in the order of all
	// commits, so fn must not wait; if fn returns an error, it must have added nothing. The
	// function that fn returns, if not nil, is called by the same goroutine when the rows are
	// durable and before Commit returns. An essential commit is made even while the disk is
	// full. After braid.ErrOutcomeUnknown fn may still be called.
	Commit(ctx context.Context, essential bool, bytes int, fn func(Rows) (publish func(), err error)) error

	// Deliveries returns how many records the current commit may still give to waiting
	// receivers. It is for functions called by Commit and Listener, which lower it by the
	// number that they give.
	Deliveries() *int

	// Full reports whether the disk is full, so that only essential commits succeed.
	Full() bool

	// Ended returns a channel that is closed when the last commit has ended and no other will
	// begin, after the end of Life. By then everything committed is published.
	Ended() <-chan struct{}

	ReadOnly() bool        // no commit is ever made
	Now() uint64           // the clock by which records age: Unix time in nanoseconds, unaffected by steps of the wall clock
	Life() context.Context // ends when the database does, with the cause
	ClosedWell() bool      // the last process that wrote the database has closed it
	Log() any              // the *slog.Logger
}

// Rows collects the rows of a commit. It copies its arguments.
type Rows interface {
	Set(key, value []byte)
	Delete(key []byte)
	DeleteRange(lower, upper []byte)
}

// Stream is the internal API of a *braid.Stream for packages consumer and queue.
type Stream interface {
	// Topology returns a value that changes whenever the stream gets or loses shards.
	Topology() any

	Number() uint32        // identifies it in rows
	Latest() *tail.Counter // rises when there are new records, and possibly at other times

	// Listen registers a listener, until Unlisten. A call in progress may still come after
	// Unlisten. Both may be called under a mutex that the listener takes.
	Listen(Listener)
	Unlisten(Listener)

	// Retention returns the time from a record's counter to its expiry; 0 means never.
	Retention() time.Duration

	// AddQueues counts the stream's queues. Call it only in a commit.
	AddQueues(n int) error

	// Resolve returns the counter that a braid.Position stands for in all shards.
	Resolve(position any) (from uint64, err error)

	// Read returns a []braid.Record of all shards from a counter on, in the order of arrival,
	// and the counter at which to continue: no record will ever be put below it. It skips
	// trimmed records. If records are damaged, it returns those before them with the error, and
	// next is after them. It returns any other error only if no record precedes it.
	//
	// Read uses place if it describes from, and updates it to describe next. place belongs to
	// the caller, which may use it for one Read at a time, at any counter.
	Read(ctx context.Context, from uint64, records, bytes int, place *Place) (read any, next uint64, err error)
}

// Place is a reader's position in a stream. It lets the next page detect by itself that a
// record is missing before it. The zero value is unknown.
type Place struct {
	Counter  uint64            // where to continue; 0 for unknown
	Ordinals map[uint32]uint64 // of each shard's next record from there on, plus one, by the shard's index
}

// At returns the ordinals if the place is at that counter.
func (p *Place) At(counter uint64) map[uint32]uint64 {
	if p.Counter != counter {
		return nil
	}
	return p.Ordinals
}

// Listener hears of a stream's records before they are visible. The goroutine that commits
// calls it, so it must not wait.
type Listener interface {
	// Arrive is called when a commit adds records to the stream, with all of them, or the first
	// of many. Rows that it adds belong to the same commit. The function that it returns, if
	// not nil, is called when the rows are durable and the records are visible. before is the
	// value that Latest still has.
	Arrive(rows Rows, before uint64, records Arrivals) (publish func())

	// Changed is called when new records are visible, when records were trimmed, and when the
	// retention has changed.
	Changed()
}

// Arrivals are records in the order of their arrival, valid only during the call.
type Arrivals interface {
	Len() int
	Place(i int) (shard uint32, counter uint64, size int) // size as braid.Record.Size
	Records(from, to int) any                             // a []braid.Record, from index from to before to
}

// Shard is the internal API of a *braid.Shard for packages consumer and queue. No method's cost
// depends on the number of shards.
type Shard interface {
	Starting() any // a braid.SequenceNumber before all records

	// Read is braid.Shard.GetRecords from a braid.Position on, outside the budget, into the
	// caller's memory: it calls place once with the number of records; place returns a
	// func(int) *braid.Record, which returns the zero Record to fill for each. The page, a
	// *braid.RecordsPage, has no Records; size is their bytes.
	Read(ctx context.Context, from any, records, bytes int, waits bool, place func(n int) (at any)) (page any, size int, err error)

	Index() uint32             // identifies it in rows of its stream
	Shows(counter uint64) bool // a record with that counter would be neither trimmed nor expired; works while the database closes
	Count() uint64             // the number of records ever put

	// Ahead returns the counter of the first readable record at or above a counter, 0 for none,
	// and the number of records ever put before it. It needs no encryption key.
	Ahead(ctx context.Context, from uint64) (first, ordinal uint64, err error)

	// CountTo returns the number of records ever put up to that counter. It reads the store
	// only if there are newer records.
	CountTo(ctx context.Context, counter uint64) (uint64, error)
}

// Tx reads and writes rows about leases in a *braid.Tx: serializable, like the application's
// own keys. Keys are encoded by package layout.
type Tx interface {
	Get(key []byte) (value []byte, err error) // nil without error if there is none
	Set(key, value []byte) error
	Delete(key []byte) error
	Scan(lower, upper []byte) iter.Seq2[Row, error]

	// First returns the first row of a range, at a cost that does not depend on how many
	// follow.
	First(lower, upper []byte) (row Row, found bool, err error)

	// Join makes rows of a commit part of the transaction. When the transaction is committed
	// and meets no conflict, check is called; its error fails the transaction, and nothing is
	// written. Then apply is called, like the function of DB.Commit.
	Join(check func() error, apply func(Rows) (publish func())) error

	DB() any                  // the *braid.DB
	Context() context.Context // that of the call that runs the transaction
}

// Environment replaces parts of the machine in tests, for instance to cut the power or to set
// the clock.
type Environment struct {
	FS      any              // a file system of Pebble's type
	Clock   func() time.Time // nil is time.Now
	Instant bool             // FS never blocks, so callers run commits, as in memory

	// TableBlockBytes is the size of a block of a table, 0 for the default.
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

	// Corrupt returns the error for a corrupt row.
	Corrupt func(cause error) error

	// Over returns a channel that is closed when writing goes on, for an error that refused a
	// write for lack of space or of another resource; nil for any other error.
	Over func(err error) <-chan struct{}

	// Histogram returns the counts of a recorder as a braid.Histogram.
	Histogram func(*histogram.Recorder) any

	// Open opens a *braid.DB with *braid.Options in a test's environment.
	Open func(dir string, options any, env Environment) (db any, err error)
)

// Package companion is the door between package braid and package consumer,
// which keeps its leases in the database: beside the application's keys, in the
// same transactions, and out of their reach. Package braid sets the functions,
// and nobody else can import them.
package companion

import (
	"iter"
	"time"
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
}

// Stream is what package consumer needs of a *braid.Stream beside its exported methods.
type Stream interface {
	// Topology returns a value that is another one whenever the stream has got or lost
	// shards.
	Topology() any
}

// Shard is what package consumer needs of a *braid.Shard beside its exported methods,
// at a cost that does not depend on how many shards there are.
type Shard interface {
	Starting() any // a braid.SequenceNumber before that of every record
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
}

// Environment is what a test puts in the place of the machine, to cut the power, say,
// or to set the clock.
type Environment struct {
	FS      any              // a file system of the engine
	Clock   func() time.Time // nil is time.Now
	Instant bool             // FS never waits, so callers run commits, as in memory
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

	// Open opens a *braid.DB with *braid.Options in an environment of a test.
	Open func(dir string, options any, env Environment) (db any, err error)
)

// Package inside is the door through which package modeltest sees what package braid
// does not export: what is stored of a shard, the clock that records age by, the
// books of the appender. Package braid sets the functions; nobody calls them but
// tests, which internal/policy checks. What else the harnesses need they get from the
// public API, from package companion, and from the packages below braid.
package inside

import (
	"context"
	"time"

	"github.com/braidstream/braid/internal/kv"
)

// DB is what tests see of a *braid.DB.
type DB interface {
	Store() *kv.Store

	// Aging is the time by which records age, in nanoseconds.
	Aging() uint64

	// SetPages makes the pages small that loops over records read, in bytes, so that
	// those over few records read ahead, too. It is for a database without a loop.
	SetPages(first, others int)

	// PagesAhead is how many pages loops have found read ahead.
	PagesAhead() int64

	// Hold runs fn where commits are made: none is made before it returns.
	Hold(fn func()) error

	// CheckBooks compares what the appender keeps by changes with what a look at
	// everything finds.
	CheckBooks(ctx context.Context) error
}

// Stream is what tests see of a *braid.Stream.
type Stream interface {
	Next() uint32             // the index of the next shard
	Expired() uint64          // the horizon of the shards that have gone
	Expiry(now uint64) uint64 // the counter below which records have expired
	Resolve(position any) error
}

// Shard is what tests see of a *braid.Shard.
type Shard interface {
	Horizon() uint64           // as it is stored
	Last() uint64              // the counter of the last record that there was
	Closed() bool              // no record will follow
	Number(counter uint64) any // a braid.SequenceNumber of the shard
	Resolve(position any) error
}

// Set by package braid. Resolve is what every reader does first: it returns the error
// of a braid.Position that is none in the stream or shard.
var (
	DBOf     func(db any) DB         // of a *braid.DB
	StreamOf func(stream any) Stream // of a *braid.Stream
	ShardOf  func(shard any) Shard   // of a *braid.Shard

	Counter func(number any) uint64 // of a braid.SequenceNumber

	// Salvage is braid.Salvage on any file system. It returns a *braid.SalvageReport.
	Salvage func(ctx context.Context, files kv.FS, from, to string) (report any, err error)

	CounterReserve time.Duration // how far ahead counters are reserved
	TrimInterval   time.Duration // how long expired records may keep their space
)

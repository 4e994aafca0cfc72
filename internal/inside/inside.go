// Package inside lets package modeltest see internals of package braid: the stored state of a
// shard, the clock by which records age, the books of the appender. Package braid sets the
// functions, and only tests call them, which internal/policy checks. For everything else the
// harnesses use the public API, package companion, and the packages below braid.
package inside

import (
	"context"
	"time"

	"github.com/braidstream/braid/internal/kv"
)

// DB shows tests the internals of a *braid.DB.
type DB interface {
	Store() *kv.Store

	// Aging is the time by which records age, in nanoseconds.
	Aging() uint64

	// SetPages sets the size in bytes of the pages that loops over records read, so that loops
	// over few records read ahead, too. No loop may be running.
	SetPages(first, others int)

	// PagesAhead returns how many pages were already read ahead when a loop needed them.
	PagesAhead() int64

	// Hold runs fn on the goroutine that commits: nothing is committed before fn returns.
	Hold(fn func()) error

	// CheckBooks compares the totals that the appender updates with each change against totals
	// computed from scratch.
	CheckBooks(ctx context.Context) error
}

// Stream shows tests the internals of a *braid.Stream.
type Stream interface {
	Next() uint32             // the index of the next shard
	Expired() uint64          // the horizon of the removed shards
	Expiry(now uint64) uint64 // the counter below which records have expired
	Resolve(position any) error
}

// Shard shows tests the internals of a *braid.Shard.
type Shard interface {
	Horizon() uint64           // the stored one
	Last() uint64              // the counter of the last record, even if it was trimmed
	Closed() bool              // no record will follow
	Number(counter uint64) any // a braid.SequenceNumber of the shard
	Resolve(position any) error
}

// Set by package braid. Resolve is the first step of every reader: it returns the error of a
// braid.Position that is invalid in the stream or shard.
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

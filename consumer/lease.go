package consumer

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/braidstream/braid"
)

// ErrLeaseLost reports that a worker no longer has the lease of a shard: another worker
// got it, [App.Seek] moved it, or the worker was stopped. Nothing was written. It is also
// the cause with which the context of a processor ends.
var ErrLeaseLost = errors.New("lease is lost")

// Checkpoint is a place in a shard: the record that it names, and everything before it,
// was processed. The KCL calls it an extended sequence number. Compare checkpoints with
// [Checkpoint.Equal].
type Checkpoint struct {
	// Start is where processing of the shard begins. It counts only while SequenceNumber is
	// zero.
	Start braid.Position

	// SequenceNumber is that of the last processed record, or zero if none was processed.
	SequenceNumber braid.SequenceNumber `json:",omitzero"`

	// If that record is an aggregate, SubSequenceNumber is the number of the last record
	// inside it that was processed, and Partial reports whether more follow.
	SubSequenceNumber int  `json:",omitzero"`
	Partial           bool `json:",omitzero"`

	// ShardEnd means that the shard is closed and all of it was processed.
	ShardEnd bool `json:",omitzero"`
}

// Equal reports whether both are the same place. It compares Start only where it counts.
// The operator == compares more: an unused Start, and internal fields of positions.
func (c Checkpoint) Equal(other Checkpoint) bool {
	if c.before(other) || other.before(c) {
		return false
	}
	return c.ShardEnd || !c.SequenceNumber.IsZero() || c.Start.Equal(other.Start)
}

// position returns where to continue reading.
func (c Checkpoint) position() braid.Position {
	switch {
	case c.SequenceNumber.IsZero():
		return c.Start
	case c.Partial:
		return braid.AtSequence(c.SequenceNumber)
	default:
		return braid.AfterSequence(c.SequenceNumber)
	}
}

// before reports whether c lies before other in the shard.
func (c Checkpoint) before(other Checkpoint) bool {
	if c.ShardEnd || other.ShardEnd {
		return !c.ShardEnd
	}
	if order := c.SequenceNumber.Compare(other.SequenceNumber); order != 0 {
		return order < 0
	}
	if c.SubSequenceNumber != other.SubSequenceNumber {
		return c.SubSequenceNumber < other.SubSequenceNumber
	}
	return c.Partial && !other.Partial
}

// precedes is before for the places of records; it ignores Partial.
func (c Checkpoint) precedes(other Checkpoint) bool {
	order := c.SequenceNumber.Compare(other.SequenceNumber)
	return order < 0 || order == 0 && c.SubSequenceNumber < other.SubSequenceNumber
}

// String returns the place in the KCL's words.
func (c Checkpoint) String() string {
	switch {
	case c.ShardEnd:
		return "SHARD_END"
	case c.SequenceNumber.IsZero():
		return c.Start.String()
	case c.Partial || c.SubSequenceNumber > 0:
		return c.SequenceNumber.String() + "/" + strconv.Itoa(c.SubSequenceNumber)
	default:
		return c.SequenceNumber.String()
	}
}

// LeaseKey names a lease of an application. With an empty Shard it is the lease of a
// whole stream; with an empty Stream, too, that of the application. These have no owner.
// They hold what applies to all shards below them: Paused, and, in the application's
// lease, Checkpoint.Start, where it began.
type LeaseKey struct {
	Stream string
	Shard  braid.ShardID
}

// String names the shard and its stream.
func (k LeaseKey) String() string {
	switch {
	case k.Stream == "":
		return "the application"
	case k.Shard == "":
		return k.Stream
	default:
		return string(k.Shard) + " of " + k.Stream
	}
}

// Lease records who processes a shard, and how far it is processed. It is the row of a
// [LeaseStore].
type Lease struct {
	LeaseKey

	// Incarnation is that of the stream, see [StreamInfo]. A lease with another one belongs
	// to a deleted stream of the same name. 0 in the lease of a shard means that another
	// engine made it, such as the KCL, which stores no incarnation. The lease then counts as
	// one of the current stream.
	Incarnation uint64

	// Owner is the worker that has the lease, empty for none. NextOwner is a worker that
	// requests it: the owner finishes its current batch, and hands the lease over.
	Owner, NextOwner string

	// Epoch increases with each change of owner, and when [App.Seek] moves the lease. A
	// worker that took the lease under an earlier epoch has lost it. The epoch, not a time,
	// decides whose checkpoints count.
	Epoch uint64

	// Version increases with every write. A store compares it.
	Version uint64

	// Paused stops processing of the shard.
	Paused bool

	Checkpoint Checkpoint

	// Pending is a checkpoint that was prepared but not committed, or nil. PendingState is
	// the state that the application passed with it.
	Pending      *Checkpoint
	PendingState []byte

	// Gaps name the records that the shard's parents have lost, because they expired before
	// they were processed. Workers give the shard's records to the processor only after
	// [Config].OnGap has accepted each gap. Almost all shards have none. Other engines ignore
	// them.
	Gaps []LeaseGap `json:",omitempty"`

	// Workers write the following fields into a shared store for tools, so that a tool sees
	// from the leases alone how the shards are related. Workers themselves read only Parents
	// and HashKeyRange, to tell shards that have expired, whose leases they delete, from those
	// that their source does not list yet. Without the fields they delete only the leases of
	// shards that they have seen listed. Children are set when the shard has ended, if the
	// source names them. The leases of a database leave all of these fields empty.
	Parents      []braid.ShardID    `json:",omitempty"`
	Children     []braid.ShardID    `json:",omitempty"`
	HashKeyRange braid.HashKeyRange `json:",omitzero"`

	// Throughput is how many bytes per second the processor is given, as of the last renewal.
	// It is a moving average in which each renewal has the weight one half. KCL:
	// throughputKBps, in units of 1,024 bytes.
	Throughput float64 `json:",omitzero"`
}

// LeaseGap names a shard that expired before a worker had reached its end. It is in the leases
// of that shard's children, or, if these expired as well, of their nearest descendants that
// exist. In a database, those have it only if all children expired.
type LeaseGap struct {
	// Shard is the shard that expired.
	Shard braid.ShardID

	// FirstLost is the checkpoint of that shard: every record that it has lost has this
	// number or a greater one. It is zero if no record of the shard was processed.
	FirstLost braid.SequenceNumber `json:",omitzero"`

	// Accepted reports whether [Config].OnGap has returned nil for the gap, or [App.Seek] has
	// moved the lease since. Until then, each worker that takes the lease calls OnGap.
	Accepted bool `json:",omitzero"`
}

// trimmed returns the gap as OnGap receives it. It is suspected: the shard may have ended with its
// last processed record, and no lease shows that.
func (g *LeaseGap) trimmed() *braid.TrimmedError {
	return &braid.TrimmedError{Shard: g.Shard, FirstLost: g.FirstLost, Suspected: true}
}

// hasGap reports whether the lease names a gap of the shard, even if it was accepted.
func (l *Lease) hasGap(shard braid.ShardID) bool {
	return slices.ContainsFunc(l.Gaps, func(gap LeaseGap) bool { return gap.Shard == shard })
}

// acceptGap marks the gap of a shard as accepted, or every gap if shard is empty.
func (l *Lease) acceptGap(shard braid.ShardID) {
	l.Gaps = slices.Clone(l.Gaps) // copies of the lease share them
	for i := range l.Gaps {
		if shard == "" || l.Gaps[i].Shard == shard {
			l.Gaps[i].Accepted = true
		}
	}
}

// isOf reports whether the lease of a shard belongs to an incarnation of its stream.
func (l *Lease) isOf(incarnation uint64) bool {
	return l.Incarnation == incarnation || l.Incarnation == 0
}

// A LeaseStore stores the leases of one application. [New] uses the one in the database;
// [Config].Leases can name another implementation, which must pass the tests of package
// leasetest. Its methods may be called from any number of goroutines. They must return
// soon after their context has ended; a write may or may not be done then. Errors count
// as temporary, except a [PermanentError], which ends Run of the worker.
//
// A worker writes a lease when it takes it and gives it back, three times in each
// LeaseDuration, and for each checkpoint, which [Config].CheckpointInterval can limit. It
// lists all leases as often as it renews one, unless the store is an [OwnerLeaseStore].
type LeaseStore interface {
	// List returns all leases, in any order.
	List(ctx context.Context) ([]Lease, error)

	// Get returns a lease; found is false if there is none with that key.
	Get(ctx context.Context, key LeaseKey) (lease Lease, found bool, err error)

	// CompareAndSet stores the lease if the stored one has the same Version, or if Version is
	// 0 and none is stored. It increments the stored Version and changes nothing else.
	// Otherwise stored is false. It is one atomic step.
	CompareAndSet(ctx context.Context, lease Lease) (stored bool, err error)

	// Delete removes the lease if the stored one has the same Version.
	Delete(ctx context.Context, lease Lease) (deleted bool, err error)

	// LeaseDuration is how long a lease lasts that nobody writes. Its owner writes it three
	// times as often. Other workers take it when they have seen no change for that long by
	// their own clock, so no clocks are compared. A store must return the same duration to
	// all workers.
	//
	// 0 means that leases do not expire. All workers of the application must then be in this
	// process, and every lease that none of them has is free.
	LeaseDuration() time.Duration
}

// An OwnerLeaseStore is a [LeaseStore] that can also find the leases of one owner, for
// example by an index, at a cost that grows with these alone. A worker then lists all
// leases once in a LeaseDuration. In between it reads only leases that are being handed
// over, or that it may have lost; and, in a [Fleet], once the keys of those that it was
// assigned. So a lease that is free is taken up to a LeaseDuration later: those of a dead
// worker, one to two durations after its last renewal. Package leasetest tests both kinds.
type OwnerLeaseStore interface {
	LeaseStore

	// ListOwned returns the keys of the leases that an owner is to have, in any order: those
	// with that NextOwner, and those with that Owner and no NextOwner. Leases without an Owner
	// do not count. The keys may lag behind writes, as an index does: a key may be of a lease
	// that has just changed, and one may be missing.
	ListOwned(ctx context.Context, owner string) ([]LeaseKey, error)
}

// A BatchLeaseStore is a [LeaseStore] that can also store several leases in one atomic
// step, like that of the database. It is optional: without it, [App.Seek] moves several
// shards one after the other, and each lease that a worker takes is a separate write.
// Package leasetest tests both kinds.
type BatchLeaseStore interface {
	LeaseStore

	// CompareAndSetAll is CompareAndSet for several leases, in one atomic step: it stores all
	// of them, or, if one of them must not be stored, none; stored is then false. No two
	// leases have the same key. There are up to 1,000 when leases are taken, and as many as
	// shards when [App.Seek] moves them.
	CompareAndSetAll(ctx context.Context, leases []Lease) (stored bool, err error)
}

package consumer

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/braidstream/braid"
)

// ErrLeaseLost reports that a worker does not have the lease of a shard any more:
// it was given to another one, or sought to another place, or the worker was
// stopped. Nothing was written. It is also the cause with which the context of a
// processor ends.
var ErrLeaseLost = errors.New("lease is lost")

// Checkpoint is a place in a shard: the record that it names was processed, and
// everything before it. The KCL calls it an extended sequence number. Compare
// checkpoints with [Checkpoint.Equal].
type Checkpoint struct {
	// Start is where processing of the shard begins. It counts as long as there
	// is no SequenceNumber.
	Start braid.Position

	// SequenceNumber is that of the last record that was processed; zero if none
	// was yet.
	SequenceNumber braid.SequenceNumber `json:",omitzero"`

	// SubSequenceNumber is, if that record is an aggregate, the number of the last
	// record inside of it that was processed. Partial means that there are more.
	SubSequenceNumber int  `json:",omitzero"`
	Partial           bool `json:",omitzero"`

	// ShardEnd means that the shard is closed and all of it was processed.
	ShardEnd bool `json:",omitzero"`
}

// Equal reports whether both are the same place. So Start is compared only where it counts;
// the operator == also compares it elsewhere, and what positions only know where they were
// made.
func (c Checkpoint) Equal(other Checkpoint) bool {
	if c.before(other) || other.before(c) {
		return false
	}
	return c.ShardEnd || !c.SequenceNumber.IsZero() || c.Start.Equal(other.Start)
}

// position is where to read on.
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

// precedes is before for places of records: whether more of an aggregate follow is
// not looked at.
func (c Checkpoint) precedes(other Checkpoint) bool {
	order := c.SequenceNumber.Compare(other.SequenceNumber)
	return order < 0 || order == 0 && c.SubSequenceNumber < other.SubSequenceNumber
}

// String is the place in the words of the KCL.
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

// LeaseKey names a lease of an application. With an empty Shard it is that of the
// stream as a whole, and with an empty Stream, too, that of the application: these
// have no owner. They hold what is said of all below: Paused; and in that of the
// application Checkpoint.Start, where it began.
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

// Lease says who processes a shard, and how far it is. It is the row of a
// [LeaseStore].
type Lease struct {
	LeaseKey

	// Incarnation is that of the stream, as [StreamInfo] has it. A lease with another
	// one belongs to a stream of that name which was deleted. 0 in the lease of a shard
	// means that another engine has made it, such as the KCL, which does not keep it: the
	// lease is taken to be one of the stream as it is.
	Incarnation uint64

	// Owner is the worker that has the lease, empty for none. NextOwner is one that
	// asks for it: the owner finishes its current batch, and hands it over.
	Owner, NextOwner string

	// Epoch goes up with each change of owner, and when the lease is sought to
	// another place. A worker that took the lease under an earlier one has lost it: that,
	// and not a time, decides whose checkpoints count.
	Epoch uint64

	// Version goes up with every write. A store compares it.
	Version uint64

	// Paused keeps the shard from being processed.
	Paused bool

	Checkpoint Checkpoint

	// Pending is a checkpoint that was prepared and not committed, nil if there is
	// none, and PendingState what the application gave with it.
	Pending      *Checkpoint
	PendingState []byte

	// What workers write into a store that is shared with other processes, and do not
	// read: the shard's place among others, so that what looks at the leases need not ask
	// the source. Children are known when the shard has ended, if the source names them.
	// The store of a database, which knows its shards, leaves all of these out.
	Parents      []braid.ShardID    `json:",omitempty"`
	Children     []braid.ShardID    `json:",omitempty"`
	HashKeyRange braid.HashKeyRange `json:",omitzero"`

	// Throughput is how many bytes a second the processor is given, as of the last
	// renewal: a moving average, in which each renewal counts half. KCL: throughputKBps,
	// which is a 1,024th of it.
	Throughput float64 `json:",omitzero"`
}

// isOf reports whether the lease of a shard belongs to that incarnation of its stream.
func (l *Lease) isOf(incarnation uint64) bool {
	return l.Incarnation == incarnation || l.Incarnation == 0
}

// A LeaseStore keeps the leases of one application. [New] uses one in the
// database; another implementation stands behind [Config].Leases, and has to
// pass the tests of package leasetest. Its methods may be called from any number
// of goroutines, and return soon after their context has ended: a write may be done
// or not then. Errors are taken to be temporary, but for a [PermanentError], which ends
// Run of the worker.
//
// A worker writes a lease when it takes it and gives it back, three times in each
// LeaseDuration, and for each checkpoint: [Config].CheckpointInterval bounds those. It
// lists all leases as often as it renews one, unless the store is an [OwnerLeaseStore].
type LeaseStore interface {
	// List returns all leases, in any order.
	List(ctx context.Context) ([]Lease, error)

	// Get returns a lease; found is false if there is none of that key.
	Get(ctx context.Context, key LeaseKey) (lease Lease, found bool, err error)

	// CompareAndSet stores the lease if the stored one has the same Version, or if
	// Version is 0 and there is none. It is stored with a Version one higher, and
	// nothing else is changed. Otherwise stored is false. It is one atomic step.
	CompareAndSet(ctx context.Context, lease Lease) (stored bool, err error)

	// Delete removes the lease if the stored one has the same Version.
	Delete(ctx context.Context, lease Lease) (deleted bool, err error)

	// LeaseDuration is how long a lease lasts that nobody writes: its owner writes
	// it three times as often, and others take it when they have seen no change for
	// that long by their own clock. So no clocks are compared, and a store says the
	// same to all.
	//
	// 0 means that leases do not expire. Then all workers of the application are in
	// this process, and every lease that none of them has is free.
	LeaseDuration() time.Duration
}

// An OwnerLeaseStore is a [LeaseStore] that can also list the leases of an owner, at a cost
// that grows with these and not with all there are: such as by an index. Then a worker lists
// all leases once in a LeaseDuration, and its own in between. So the leases of a worker
// that has died are taken one to two durations after its last renewal. Package leasetest
// tests both kinds.
type OwnerLeaseStore interface {
	LeaseStore

	// ListOwned returns the leases that have an owner, in any order. It may lag behind
	// what was written, as an index does, and return or lack a lease that has changed
	// hands just now: but what it returns was stored at some time.
	ListOwned(ctx context.Context, owner string) ([]Lease, error)
}

// A BatchLeaseStore is a [LeaseStore] that can also store several leases in one atomic
// step. That of the database is one. A store need not be: then [App.Seek] moves several
// shards one after the other, and each lease that a worker takes is a write of its own.
// Package leasetest tests both kinds.
type BatchLeaseStore interface {
	LeaseStore

	// CompareAndSetAll does for all leases what CompareAndSet does for one, in one
	// atomic step: it stores all, or, if one of them must not be stored, none, and
	// stored is false. No two leases have the same key; there are up to 1,000 when
	// leases are taken, and as many as shards are sought in a Seek.
	CompareAndSetAll(ctx context.Context, leases []Lease) (stored bool, err error)
}

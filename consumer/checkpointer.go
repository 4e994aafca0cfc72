package consumer

import (
	"context"
	"slices"

	"github.com/braidstream/braid"
)

// Checkpointer stores how far a shard was processed. It belongs to one lease, and
// may be used from any number of goroutines, even after the call that it was given
// to has returned.
//
// Its methods return [ErrLeaseLost] when the lease is another worker's by now: then
// nothing was written. The check and the write are one step. Other errors are those
// of the store, and trying again is safe.
//
// A [TxProcessor] has none, as its checkpoint is part of the transaction. One that a test of
// a processor has made belongs to no worker: its Lease is zero, and what would store
// something is braid.ErrInvalidArgument.
type Checkpointer struct{ hold *hold }

func (h *hold) checkpointer() *Checkpointer { return &Checkpointer{h} }

// Lease returns the lease: whose shard it is, under which epoch it was taken, and
// what is stored of it.
func (c *Checkpointer) Lease() Lease {
	if c.isOfNoWorker() {
		return Lease{}
	}
	return c.hold.current()
}

// Checkpoint stores that all records are processed whose calls have returned; with
// Acks or Lanes, all before the first one that is not done. In a call, that is what
// came before its batch.
func (c *Checkpointer) Checkpoint(ctx context.Context) error {
	if c.isOfNoWorker() {
		return errNoLease
	}
	return c.hold.checkpoint(ctx, c.hold.due())
}

// CheckpointAt stores that the record, and every one before it, is processed. A
// record before the checkpoint changes nothing: it never goes back. One that was
// not given to the processor under this lease is braid.ErrInvalidArgument; so is every
// one with Acks or Lanes, where it would pass records that are not done.
func (c *Checkpointer) CheckpointAt(ctx context.Context, record Record) error {
	if err := c.checkPlace(&record); err != nil {
		return err
	}
	return c.hold.checkpoint(ctx, record.checkpoint())
}

// Ack makes records done, in any order, if [Config].Checkpoints is [Acks]. The checkpoint
// follows by itself, and is not waited for. Errors: [ErrLeaseLost], and
// braid.ErrInvalidArgument for records that were not given to the processor under this
// lease.
func (c *Checkpointer) Ack(records ...Record) error {
	if c.isOfNoWorker() {
		return errNoLease
	}
	if c.hold.worker.cfg.Checkpoints != Acks {
		return &braid.InvalidArgumentError{Field: "Ack", Value: "called", Rule: "needs Acks as Config.Checkpoints"}
	}
	if c.hold.ctx.Err() != nil {
		return ErrLeaseLost
	}
	for i := range records {
		if err := c.checkRecord(&records[i]); err != nil {
			return err
		}
	}
	c.hold.tracker.markDone(records)
	return nil
}

// Prepare stores a checkpoint that is yet to be committed, with bytes of the
// application's own: for work in two steps, where the second has effects outside of
// the database. [Checkpointer.CommitPrepared] ends the work, or any checkpoint that
// reaches the record. If the worker ends before, the next owner finds both as Pending and
// PendingState of its Lease, and can finish or undo the work. A second Prepare replaces
// the first. Errors: as [Checkpointer.CheckpointAt].
func (c *Checkpointer) Prepare(ctx context.Context, record Record, state []byte) error {
	if err := c.checkPlace(&record); err != nil {
		return err
	}
	place, state := record.checkpoint(), slices.Clone(state)
	return c.hold.write(ctx, func(l *Lease) {
		if c.hold.worker.cfg.CheckpointInterval > 0 {
			l.advance(c.hold.due()) // or the next owner would repeat records before the prepared work
		}
		pending := place
		l.Pending, l.PendingState = &pending, state
	})
}

// CommitPrepared makes the prepared checkpoint the checkpoint, even one that an owner
// before has prepared. If none is, nothing happens. Errors: [ErrLeaseLost], and those of
// the store.
func (c *Checkpointer) CommitPrepared(ctx context.Context) error {
	if c.isOfNoWorker() {
		return errNoLease
	}
	return c.hold.commitPrepared(ctx)
}

// checkPlace checks a record that is to be a checkpoint.
func (c *Checkpointer) checkPlace(record *Record) error {
	if !c.isOfNoWorker() && c.hold.tracker != nil {
		return &braid.InvalidArgumentError{Field: "Record", Value: record.SequenceNumber, Rule: "cannot be a checkpoint with Acks or Lanes, which checkpoint up to the first record that is not done"}
	}
	return c.checkRecord(record)
}

// isOfNoWorker reports whether a test of a processor has made the Checkpointer, or a Batch
// without one.
func (c *Checkpointer) isOfNoWorker() bool { return c == nil || c.hold == nil }

func (c *Checkpointer) checkRecord(record *Record) error {
	if c.isOfNoWorker() {
		return errNoLease
	}
	c.hold.mu.Lock()
	delivered := c.hold.delivered
	c.hold.mu.Unlock()
	if record.SequenceNumber.IsZero() || record.ShardID != c.hold.key.Shard || delivered.before(record.checkpoint()) {
		return errNotGiven(record)
	}
	return nil
}

// errNoLease is what the methods of a Batch return that a test of a processor has made.
var errNoLease = &braid.InvalidArgumentError{Field: "Batch", Value: "without a Checkpointer", Rule: "must come from a worker to be checkpointed"}

func errNotGiven(record *Record) error {
	return &braid.InvalidArgumentError{Field: "Record", Value: record.SequenceNumber, Rule: "must be one that the processor was given under this lease"}
}

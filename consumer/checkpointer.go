package consumer

import (
	"context"
	"slices"

	"github.com/braidstream/braid"
)

// Checkpointer stores how far a shard was processed. It belongs to one lease. It may be
// used from any number of goroutines, even after the call that received it has returned.
//
// Its methods return [ErrLeaseLost] if another worker has the lease by now: then nothing
// was written. The check and the write are one step. Other errors are those of the store,
// and trying again is safe.
//
// A [TxProcessor] has no Checkpointer, since its checkpoint is part of the transaction. A
// Checkpointer made by a test of a processor belongs to no worker: its Lease is zero, and
// methods that would store something return braid.ErrInvalidArgument.
type Checkpointer struct{ hold *hold }

func (h *hold) checkpointer() *Checkpointer { return &Checkpointer{h} }

// Lease returns the lease: its shard, the epoch under which it was taken, and its stored
// state.
func (c *Checkpointer) Lease() Lease {
	if c.isOfNoWorker() {
		return Lease{}
	}
	return c.hold.current()
}

// Checkpoint stores that all records are processed whose calls have returned; with Acks
// or Lanes, all records before the first that is not done. During a call, those are the
// records before its batch.
func (c *Checkpointer) Checkpoint(ctx context.Context) error {
	if c.isOfNoWorker() {
		return errNoLease
	}
	return c.hold.checkpoint(ctx, c.hold.due())
}

// CheckpointAt stores that the record, and every one before it, is processed. A record
// before the checkpoint changes nothing: the checkpoint never goes back. CheckpointAt
// returns braid.ErrInvalidArgument for a record that was not given to the processor under
// this lease. With Acks or Lanes it does so for every record, since it could pass records
// that are not done.
func (c *Checkpointer) CheckpointAt(ctx context.Context, record Record) error {
	if err := c.checkPlace(&record); err != nil {
		return err
	}
	return c.hold.checkpoint(ctx, record.checkpoint())
}

// Ack makes records done, in any order, if [Config].Checkpoints is [Acks]. The checkpoint
// follows in the background; Ack does not wait for it. Errors: [ErrLeaseLost], and
// braid.ErrInvalidArgument for records that were not given to the processor under this
// lease.
func (c *Checkpointer) Ack(records ...Record) error {
	if c.isOfNoWorker() {
		return errNoLease
	}
	if c.hold.worker.cfg.Checkpoints != Acks {
		return &braid.InvalidArgumentError{Field: "Checkpoints", Value: c.hold.worker.cfg.Checkpoints, Rule: "must be Acks for a processor that calls Ack"}
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

// Prepare stores a checkpoint without committing it, with state of the application's own.
// It is for work in two steps, where the second has effects outside the database. The
// work ends with [Checkpointer.CommitPrepared], or with any checkpoint that reaches the
// record. If the worker ends before, the next owner finds both in Pending and
// PendingState of its Lease, and can finish or undo the work. A second Prepare replaces
// the first. Errors: as [Checkpointer.CheckpointAt].
func (c *Checkpointer) Prepare(ctx context.Context, record Record, state []byte) error {
	if err := c.checkPlace(&record); err != nil {
		return err
	}
	place, state := record.checkpoint(), slices.Clone(state)
	return c.hold.write(ctx, func(l *Lease) {
		if c.hold.worker.cfg.CheckpointInterval > 0 {
			l.advance(c.hold.due()) // otherwise the next owner would repeat records before the prepared work
		}
		pending := place
		l.Pending, l.PendingState = &pending, state
	})
}

// CommitPrepared makes the prepared checkpoint the checkpoint, even if a previous owner
// prepared it. Without a prepared checkpoint it does nothing. Errors: [ErrLeaseLost], and
// those of the store.
func (c *Checkpointer) CommitPrepared(ctx context.Context) error {
	if c.isOfNoWorker() {
		return errNoLease
	}
	return c.hold.commitPrepared(ctx)
}

// checkPlace checks that a record may be a checkpoint.
func (c *Checkpointer) checkPlace(record *Record) error {
	if !c.isOfNoWorker() && c.hold.tracker != nil {
		return &braid.InvalidArgumentError{Field: "Record", Value: record.SequenceNumber, Rule: "must not be a checkpoint with Acks or Lanes, which checkpoint up to the first record that is not done"}
	}
	return c.checkRecord(record)
}

// isOfNoWorker reports whether a test of a processor made the Checkpointer, or a Batch
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

// errNoLease is what the methods of a Batch made by a test of a processor return.
var errNoLease = &braid.InvalidArgumentError{Field: "Batch", Rule: "must come from a worker to be checkpointed"}

func errNotGiven(record *Record) error {
	return &braid.InvalidArgumentError{Field: "Record", Value: record.SequenceNumber, Rule: "must have been given to the processor under this lease"}
}

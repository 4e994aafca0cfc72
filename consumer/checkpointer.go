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
// The batch of a [TxProcessor] has none, as its checkpoint is part of the transaction. A
// hook of one gets it for its Lease: the other methods return braid.ErrInvalidArgument.
type Checkpointer struct{ r *runner }

func (r *runner) checkpointer() *Checkpointer { return &Checkpointer{r} }

// Lease returns the lease: whose shard it is, under which epoch it was taken, and
// what is stored of it.
func (c *Checkpointer) Lease() Lease { return c.r.current() }

// Checkpoint stores that all records are processed whose calls have returned; with
// Acks or Lanes, all before the first one that is not done. In a call, that is what
// came before its batch.
func (c *Checkpointer) Checkpoint(ctx context.Context) error {
	if err := c.check(); err != nil {
		return err
	}
	return c.r.checkpoint(ctx, c.r.due())
}

// CheckpointAt stores that the record, and every one before it, is processed. A
// record before the checkpoint changes nothing: it never goes back. One that was
// not given to the processor under this lease is braid.ErrInvalidArgument; so is every
// one with Acks or Lanes, where it would pass records that are not done.
func (c *Checkpointer) CheckpointAt(ctx context.Context, record Record) error {
	if err := c.checkPlace(&record); err != nil {
		return err
	}
	return c.r.checkpoint(ctx, record.checkpoint())
}

// Ack makes records done, in any order, if [Config].Checkpoints is [Acks]. The checkpoint
// follows by itself, and is not waited for. Errors: [ErrLeaseLost], and
// braid.ErrInvalidArgument for records that were not given to the processor under this
// lease.
func (c *Checkpointer) Ack(records ...Record) error {
	if c.r.cfg.Checkpoints != Acks {
		return &braid.InvalidArgumentError{Field: "Ack", Value: "called", Rule: "needs Acks as Config.Checkpoints"}
	}
	if c.r.ctx.Err() != nil {
		return ErrLeaseLost
	}
	for i := range records {
		if err := c.checkRecord(&records[i]); err != nil {
			return err
		}
	}
	c.r.tracker.markDone(records)
	return nil
}

// Prepare stores a checkpoint that is yet to be committed, with bytes of the
// application's own: for work in two steps, where the second has effects outside of
// the database. If the worker ends between them, the next owner of the lease finds
// both in the lease, and can finish or undo the work: see [Checkpointer.Pending].
// Another one takes its place, and a checkpoint that reaches it settles it. Errors: as
// [Checkpointer.CheckpointAt].
func (c *Checkpointer) Prepare(ctx context.Context, record Record, state []byte) (*PreparedCheckpoint, error) {
	if err := c.checkPlace(&record); err != nil {
		return nil, err
	}
	place := record.checkpoint()
	err := c.r.write(ctx, func(l *Lease) {
		if c.r.cfg.CheckpointInterval > 0 {
			l.advance(c.r.due()) // or the next owner would repeat records before the prepared work
		}
		pending := place
		l.Pending, l.PendingState = &pending, slices.Clone(state)
	})
	if err != nil {
		return nil, err
	}
	return &PreparedCheckpoint{c, place}, nil
}

// Pending returns the checkpoint that is prepared, maybe by an owner before, nil if
// there is none. What was given with it is in the PendingState of the [Lease].
func (c *Checkpointer) Pending() *PreparedCheckpoint {
	lease := c.r.current()
	if lease.Pending == nil {
		return nil
	}
	return &PreparedCheckpoint{c, *lease.Pending}
}

// PreparedCheckpoint is a checkpoint that is stored and does not count yet.
type PreparedCheckpoint struct {
	c     *Checkpointer
	place Checkpoint
}

// Checkpoint returns the place that was prepared.
func (p *PreparedCheckpoint) Checkpoint() Checkpoint { return p.place }

// Commit makes it the checkpoint. Errors: as [Checkpointer.CheckpointAt].
func (p *PreparedCheckpoint) Commit(ctx context.Context) error {
	return p.c.r.checkpoint(ctx, p.place)
}

func (c *Checkpointer) check() error {
	if c.r.tx != nil {
		return &braid.InvalidArgumentError{Field: "Checkpoint", Value: "called", Rule: "is part of the transaction of a TxProcessor"}
	}
	return nil
}

// checkPlace checks a record that is to be a checkpoint.
func (c *Checkpointer) checkPlace(record *Record) error {
	if c.r.tracker != nil {
		return &braid.InvalidArgumentError{Field: "Record", Value: record.SequenceNumber, Rule: "cannot be a checkpoint with Acks or Lanes, which checkpoint up to the first record that is not done"}
	}
	return c.checkRecord(record)
}

func (c *Checkpointer) checkRecord(record *Record) error {
	if err := c.check(); err != nil {
		return err
	}
	c.r.mu.Lock()
	delivered := c.r.delivered
	c.r.mu.Unlock()
	if record.SequenceNumber.IsZero() || record.ShardID != c.r.key.Shard || delivered.before(record.checkpoint()) {
		return errNotGiven(record)
	}
	return nil
}

func errNotGiven(record *Record) error {
	return &braid.InvalidArgumentError{Field: "Record", Value: record.SequenceNumber, Rule: "must be one that the processor was given under this lease"}
}

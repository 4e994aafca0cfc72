package consumer

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/braidstream/braid"
)

// Batch is the records that a processor gets at once, in order. With it comes the
// [Checkpointer] of their shard.
type Batch struct {
	*Checkpointer

	Records []Record

	// Attempt is 1 when exactly these records are given to the processor for the
	// first time under this lease.
	Attempt int

	// How far the shard went on after the batch when it was read: both are 0 at the
	// tip, and exact if records are not taken apart. With Lanes they are not known,
	// and 0.
	BehindRecords, BehindBytes int64

	// BehindLatest is the age of the last record of the batch.
	BehindLatest time.Duration
}

func (r *runner) batch(records []Record, page *Page, attempt int) *Batch {
	b := &Batch{
		Checkpointer: r.checkpointer(),
		Records:      records,
		Attempt:      attempt,
		BehindLatest: max(0, time.Since(records[len(records)-1].ArrivalTime)),
	}
	if page != nil {
		b.BehindRecords, b.BehindBytes = page.BehindRecords, page.BehindBytes
	}
	return b
}

// Checkpointer stores how far a shard was processed. It belongs to one lease, and
// may be used from any number of goroutines, also after the call that it was given
// to has returned.
//
// Its methods return [ErrLeaseLost] when the lease is another worker's by now: then
// nothing was written. The check and the write are one step. Other errors are those
// of the store, and trying again is safe.
//
// For a [TxProcessor] the checkpoint is part of the transaction; there its methods
// return braid.ErrInvalidArgument.
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

// Ack makes records done, in any order, if the Config has set Acks. The checkpoint
// follows by itself, and is not waited for. Errors: [ErrLeaseLost], and
// braid.ErrInvalidArgument for records that were not given to the processor under this
// lease.
func (c *Checkpointer) Ack(records ...Record) error {
	if !c.r.cfg.Acks {
		return &braid.InvalidArgumentError{Field: "Ack", Value: "called", Rule: "needs Config.Acks"}
	}
	if c.r.ctx.Err() != nil {
		return ErrLeaseLost
	}
	for i := range records {
		if err := c.checkRecord(&records[i]); err != nil {
			return err
		}
	}
	c.r.tracker.done(records)
	return nil
}

// Prepare stores a checkpoint that is yet to be committed, with bytes of the
// application's own: for work in two steps, where the second has effects outside of
// the database. If the worker ends between them, whoever has the lease next finds
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

// DeadLetter is what [Config].DeadLetterStream gets for a record that has failed, as
// JSON. Its partition key is that of the record.
type DeadLetter struct {
	App               string               `json:"app"`
	Stream            string               `json:"stream"`
	ShardID           braid.ShardID        `json:"shardId"`
	SequenceNumber    braid.SequenceNumber `json:"sequenceNumber"`
	SubSequenceNumber int                  `json:"subSequenceNumber,omitempty"`
	PartitionKey      string               `json:"partitionKey"`
	ExplicitHashKey   *braid.HashKey       `json:"explicitHashKey,omitempty"`
	ArrivalTime       time.Time            `json:"arrivalTime"`
	Data              []byte               `json:"data"`
	Error             string               `json:"error"`
	Attempts          int                  `json:"attempts"` // of the record alone
}

func newDeadLetter(app, stream string, record *Record, attempts int, cause error) DeadLetter {
	text := cause.Error()
	return DeadLetter{
		App:               app,
		Stream:            stream,
		ShardID:           record.ShardID,
		SequenceNumber:    record.SequenceNumber,
		SubSequenceNumber: record.SubSequenceNumber,
		PartitionKey:      record.PartitionKey,
		ExplicitHashKey:   record.ExplicitHashKey,
		ArrivalTime:       record.ArrivalTime,
		Data:              record.Data,
		Error:             text[:min(len(text), maxErrorBytes)],
		Attempts:          attempts,
	}
}

// maxErrorBytes bounds the text of an error in a dead letter, which may have a stack.
const maxErrorBytes = 4 << 10

func (d DeadLetter) encode() ([]byte, error) { return json.Marshal(d) }

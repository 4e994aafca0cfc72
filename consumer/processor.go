package consumer

import (
	"context"

	"github.com/braidstream/braid"
)

// A Processor gets the records of a shard, in order, batch by batch. It may rely on these
// rules:
//
//   - Calls for one lease, including hooks, never overlap, unless [Config].Lanes asks for
//     it. A Processor that is not made by [PerLease] is shared by all shards and is
//     called for several of them at once.
//   - A checkpoint passes a record only after a call with the record has returned nil.
//     The exceptions are records that retention has removed, which [Config].OnGap
//     reports, and records skipped as the Config allows. After a crash, or when a worker
//     loses its lease, records after the last checkpoint come again: delivery is at least
//     once.
//   - A record of a shard comes only after each record of its parents is processed and
//     checkpointed, removed by retention, or before the application's start.
//   - ctx ends when the lease does. Its cause is [ErrLeaseLost] if another worker now has
//     the lease. From then on no checkpoint is stored, so the processor should return.
//   - A panic counts as an error: a [PanicError] with its stack.
//   - If the hook Initialize has returned nil, or there is none, the last hook called is
//     exactly one of ShardEnded (until it has returned nil) and LeaseLost. Neither is
//     called if the process ends or [Worker.Stop] has given up waiting for a call.
//
// Optional hooks are the interfaces [Initializer], [TipReacher], [ShutdownRequester],
// [ShardEnder] and [LeaseLoser].
type Processor interface {
	// ProcessRecords processes a batch of at least one record. When it returns nil, the batch
	// is checkpointed, unless the Config says otherwise. When it returns an error, it is
	// called again with the same records, after a pause. With a [RecordError] it reports that
	// it has processed the records before a certain one, which do not come again.
	ProcessRecords(ctx context.Context, batch *Batch) error
}

// ProcessorFunc is a [Processor] that is a function.
type ProcessorFunc func(ctx context.Context, batch *Batch) error

// ProcessRecords calls f.
func (f ProcessorFunc) ProcessRecords(ctx context.Context, batch *Batch) error { return f(ctx, batch) }

// A TxProcessor processes each batch in a transaction. Its writes to the application's
// keys, the records that it appends to other streams, and the checkpoint are one commit,
// which is made only if the worker still has the lease. So every record takes effect in
// the database exactly once, despite crashes and hand-overs.
//
// The rules of [Processor] hold for a TxProcessor too, but its hooks take a [Lease]. As
// in [braid.DB.Update], it may be called again when its transaction conflicts with
// another one, so it must have no effects other than those of tx.
type TxProcessor interface {
	ProcessRecords(ctx context.Context, tx *braid.Tx, batch *TxBatch) error
}

// TxProcessorFunc is a [TxProcessor] that is a function.
type TxProcessorFunc func(ctx context.Context, tx *braid.Tx, batch *TxBatch) error

// ProcessRecords calls f.
func (f TxProcessorFunc) ProcessRecords(ctx context.Context, tx *braid.Tx, batch *TxBatch) error {
	return f(ctx, tx, batch)
}

// PerLease returns a [Processor] that uses a separate processor for each lease:
// newProcessor is called for every lease that the worker takes. The processor that it
// returns may have hooks. If newProcessor panics or returns nil, it is called again,
// after a pause.
func PerLease(newProcessor func(Lease) Processor) Processor {
	return perLease{make: newProcessor}
}

// PerLeaseTx is [PerLease] for a [TxProcessor].
func PerLeaseTx(newProcessor func(Lease) TxProcessor) TxProcessor {
	return perLeaseTx{make: newProcessor}
}

// perLease makes a function a Processor, but is never called with records.
type perLease struct {
	ProcessorFunc
	make func(Lease) Processor
}

func (f perLease) newProcessor(lease Lease) any { return f.make(lease) }

type perLeaseTx struct {
	TxProcessorFunc
	make func(Lease) TxProcessor
}

func (f perLeaseTx) newProcessor(lease Lease) any { return f.make(lease) }

// An Initializer is a processor with a hook that is called before the first batch of a
// lease. The lease has the checkpoint at which processing begins, and work that a
// previous owner has prepared: see [Checkpointer.Prepare]. After an error the hook is
// called again, after a pause.
//
// Like all hooks, it takes a *Checkpointer for a [Processor], and a Lease for a
// [TxProcessor], whose checkpoints are part of its transactions. [New] and [NewTx] refuse
// a processor that has a method with the name of a hook but the wrong signature, since it
// would never be called. Reasons are the hook of the other kind of processor, other
// parameters, or a pointer receiver where a value was passed. The compiler can check the
// same:
//
//	var _ consumer.Initializer[*consumer.Checkpointer] = (*processor)(nil)
type Initializer[C interface{ *Checkpointer | Lease }] interface {
	Initialize(ctx context.Context, c C) error
}

// A TipReacher is a processor with a hook that is called each time its shard reaches the
// tip: no more records are available for now, and all earlier ones are done (with Acks,
// acknowledged). If the shard has no records to begin with, it is called at once. Use it
// to flush what the processor has gathered, or to signal that everything so far was seen.
// It is not called at the end of a shard, where ShardEnded is called instead. After an
// error it is called again, after a pause; meanwhile the shard's next records wait.
type TipReacher[C interface{ *Checkpointer | Lease }] interface {
	TipReached(ctx context.Context, c C) error
}

// A ShutdownRequester is a processor with a hook that is called when the lease is to be
// handed over or the worker stops. It is called after the last batch and before
// LeaseLost, and is the last opportunity to checkpoint. With Acks, the worker afterwards
// waits for records that are not yet acknowledged. An error is logged.
type ShutdownRequester[C interface{ *Checkpointer | Lease }] interface {
	ShutdownRequested(ctx context.Context, c C) error
}

// A ShardEnder is a processor with a hook that is called when all records of a closed
// shard are processed. When it returns nil, the shard is done and its children begin.
// After an error it is called again, after a pause.
type ShardEnder[C interface{ *Checkpointer | Lease }] interface {
	ShardEnded(ctx context.Context, c C) error
}

// A LeaseLoser is a processor with a hook that is called when the processor gets no more
// records of a shard that has not ended. Its cause says why: another worker has the
// lease, the worker stops, or the shard was stopped by an error or deleted. Nothing can
// be checkpointed at that time.
type LeaseLoser interface {
	LeaseLost(ctx context.Context, cause error)
}

// Record is a record as a processor gets it. Like every record of braid it may be kept,
// and its Data must not be changed.
type Record struct {
	braid.Record

	// SubSequenceNumber counts the records inside an aggregate from 0. It is 0 for all other
	// records. See [Config].Deaggregate.
	SubSequenceNumber int

	// Aggregated reports whether the record was unpacked from an aggregate, and Partial
	// whether more records of that aggregate follow.
	Aggregated, Partial bool
}

// checkpoint returns the position after the record.
func (r *Record) checkpoint() Checkpoint {
	return Checkpoint{SequenceNumber: r.SequenceNumber, SubSequenceNumber: r.SubSequenceNumber, Partial: r.Partial}
}

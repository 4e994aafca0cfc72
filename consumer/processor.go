package consumer

import (
	"context"

	"github.com/braidstream/braid"
)

// A Processor gets the records of a shard, in order, batch by batch. What it may
// rely on:
//
//   - Calls for one lease never overlap, hooks included, unless [Config].Lanes asks
//     for it. A Processor that is not made by [PerLease] is shared by all shards,
//     and is called for several of them at once.
//   - Every record at or after the application's start is given to a call that
//     returned nil before a checkpoint passes it; unless retention has removed it
//     ([Config].OnGap is told), or it was skipped as the Config allows.
//     After a crash, or when a lease changes hands against its owner's will, records
//     after the last checkpoint come again: at least once.
//   - No record of a shard comes before all records of its parents were processed
//     and checkpointed, or were removed by retention, or lie before the
//     application's start.
//   - ctx ends when the lease does, with the cause: [ErrLeaseLost] if another worker
//     has it now. From then on no checkpoint counts, so going on is pointless.
//   - A panic is an error, a [PanicError] with its stack.
//   - If the hook Initialize has returned nil, or there is none, exactly one of
//     ShardEnded (until it has returned nil) and LeaseLost is called, last; unless
//     the process ends, or [Worker.Stop] has given up waiting for a call.
//
// Hooks are the interfaces [Initializer], [TipReacher], [ShutdownRequester],
// [ShardEnder] and [LeaseLoser], for processors that want them.
type Processor interface {
	// ProcessRecords processes a batch, which has at least one record. After nil
	// the batch is checkpointed, if the Config does not say otherwise. After an
	// error it is called again with the same records, after a pause; a [RecordError]
	// says that those before one record are done.
	ProcessRecords(ctx context.Context, batch *Batch) error
}

// ProcessorFunc is a [Processor] that is a function.
type ProcessorFunc func(ctx context.Context, batch *Batch) error

// ProcessRecords calls f.
func (f ProcessorFunc) ProcessRecords(ctx context.Context, batch *Batch) error { return f(ctx, batch) }

// A TxProcessor processes each batch in a transaction: what it writes to the
// application's keys, the records that it appends to other streams, and the
// checkpoint are one commit, made only if the worker still has the lease. So
// every record has its effect in the database exactly once, whatever crashes or
// changes hands.
//
// All that [Processor] says holds for it as well; but its hooks take a [Lease]. As in [braid.DB.Update] it may
// be called again when the transaction met another one, so it must have no effects
// but those of tx.
type TxProcessor interface {
	ProcessRecords(ctx context.Context, tx *braid.Tx, batch *TxBatch) error
}

// TxProcessorFunc is a [TxProcessor] that is a function.
type TxProcessorFunc func(ctx context.Context, tx *braid.Tx, batch *TxBatch) error

// ProcessRecords calls f.
func (f TxProcessorFunc) ProcessRecords(ctx context.Context, tx *braid.Tx, batch *TxBatch) error {
	return f(ctx, tx, batch)
}

// PerLease is a [Processor] that has one of its own for every lease that the
// worker gets: newProcessor is called each time, so that it begins afresh. What it returns
// may have hooks. If it panics or returns nil, it is called again, after a pause.
func PerLease(newProcessor func(Lease) Processor) Processor {
	return perLease{make: newProcessor}
}

// PerLeaseTx is [PerLease] for a [TxProcessor].
func PerLeaseTx(newProcessor func(Lease) TxProcessor) TxProcessor {
	return perLeaseTx{make: newProcessor}
}

// perLease is never called with records; the function makes it a Processor.
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

// An Initializer is a processor with a hook that is called before the first batch
// of a lease. The lease says where it begins, and what another owner has prepared:
// see [Checkpointer.Prepare]. After an error it is called again, after a pause.
//
// As all hooks, that of a [Processor] takes a *Checkpointer, and that of a [TxProcessor] a
// Lease, since its checkpoints are part of its transactions. [New] and [NewTx] refuse a
// processor that has a method with the name of a hook and is none, as it would never be
// called: of the other kind, with other parameters, or of a pointer if they are given the
// value. The compiler finds that, too:
//
//	var _ consumer.Initializer[*consumer.Checkpointer] = (*processor)(nil)
type Initializer[C interface{ *Checkpointer | Lease }] interface {
	Initialize(ctx context.Context, c C) error
}

// A TipReacher is a processor with a hook that is called each time its shard is at the
// tip: there are no more records for now, and all that there were are done; with Acks,
// acknowledged. It is called at once if there are none to begin with. So it is the
// moment to flush what a processor gathers, and the event that tells a tool that it has
// seen everything so far. A shard that ends has no tip: ShardEnded is called instead.
// After an error it is called again, after a pause, and the shard's next records wait.
type TipReacher[C interface{ *Checkpointer | Lease }] interface {
	TipReached(ctx context.Context, c C) error
}

// A ShutdownRequester is a processor with a hook that is called when the lease is
// to be handed over or the worker stops: after the last batch, before LeaseLost,
// with the last opportunity to checkpoint. With Acks, what is not acknowledged by then
// is waited for afterwards. An error is logged.
type ShutdownRequester[C interface{ *Checkpointer | Lease }] interface {
	ShutdownRequested(ctx context.Context, c C) error
}

// A ShardEnder is a processor with a hook that is called when all records of a
// closed shard were processed. When it returns nil, the shard is done, and its
// children begin. After an error it is called again, after a pause.
type ShardEnder[C interface{ *Checkpointer | Lease }] interface {
	ShardEnded(ctx context.Context, c C) error
}

// A LeaseLoser is a processor with a hook that is called when it will get no more
// records, though the shard goes on: the lease went to another worker, or the
// worker stops, or the shard was stopped by an error or deleted; cause says which.
// There is nothing to be checkpointed any more.
type LeaseLoser interface {
	LeaseLost(ctx context.Context, cause error)
}

// Record is a record as a processor gets it. Like every record of braid it may be
// kept, and its Data must not be changed.
type Record struct {
	braid.Record

	// SubSequenceNumber counts the records inside of an aggregate from 0; for all
	// other records it is 0. See [Config].Deaggregate.
	SubSequenceNumber int

	// Aggregated reports whether the record was unpacked from an aggregate, and Partial
	// whether more records of that aggregate follow.
	Aggregated, Partial bool
}

// checkpoint is the place after the record.
func (r *Record) checkpoint() Checkpoint {
	return Checkpoint{SequenceNumber: r.SequenceNumber, SubSequenceNumber: r.SubSequenceNumber, Partial: r.Partial}
}

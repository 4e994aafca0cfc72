// Package consumer processes the records of braid's streams with workers that share
// the shards among them: what the Kinesis Client Library is to Kinesis.
//
// An application is a name. Its leases and checkpoints, one per shard, are stored in
// the database under that name. A [Worker] takes leases and gives the records of
// their shards, in order, to a [Processor]; a [TxProcessor] also gets a transaction.
//
//	worker, err := consumer.New(db, &consumer.Config{App: "billing", Streams: []string{"orders"}}, processor)
//	err = worker.Run(ctx) // until ctx ends; then it finishes what it is at
//
// # Which promise you get
//
// A [Processor] gets every record at least once: what comes after the last
// checkpoint comes again after a crash. A [TxProcessor] has effects exactly once, if
// they are in the database: its writes, the records that it appends, and the
// checkpoint are one commit. The compiler tells the two apart. Effects elsewhere are
// at least once in both; stream, shard and sequence number make a key by which the
// other side can recognize a repetition.
//
// # Order
//
// The records of a shard come in order, and those of its children after all of its
// own, whatever number of workers there is. So each partition key is in order,
// through any number of reshards. With [Config].Lanes a shard is processed by several
// goroutines, and each key is still in order.
//
// # Leases
//
// Every shard is processed by one worker at a time. Workers in one process share them
// evenly; when one comes or goes, as few move as possible. A lease is handed over when
// its processor has finished the batch that it is at; one that does not return within
// [Config].HandOverTimeout loses it. Nothing waits for a time: a new shard, a stopped
// worker and a finished parent are acted upon at once, and after a crash everything
// goes on with the first worker.
//
// What counts is the lease's epoch, a number that goes up with each change of owner.
// Every checkpoint, and every transaction of a TxProcessor, commits only if the epoch
// is still the one under which its worker took the lease: check and write are one
// step. So a worker that was given up can do no harm, whenever it wakes.
//
// # Checkpoints
//
// When a processor returns nil, its batch is checkpointed; at most once in a
// [Config].CheckpointInterval, if that is set. With [Config].Acks a record
// is done when the processor says so, in any order; with [Config].ManualCheckpoints
// the processor decides by [Checkpointer.Checkpoint] and [Checkpointer.CheckpointAt].
// [Checkpointer.Prepare] is for work in two steps.
//
// # Errors
//
// A processor that returns an error, or panics, is called again with the same
// records, after a pause. If that does not help, the records are given to it one by
// one, and the one that still fails is dealt with as the [Config] says: it stops the
// shard (and nothing else), goes to a dead-letter stream in the commit that passes
// it, or is skipped and logged. Nothing is passed over silently, not even what
// retention has removed: see [Config].OnGap.
//
// # Control
//
// [App] shows what an application does, how far it is and how far behind, and moves,
// pauses and resumes it, also when no worker runs.
//
// # Other engines
//
// A [Source] and a [LeaseStore] can take the place of the database. Leases in a store
// that is shared by processes expire, by what each observes with its own clock; then
// all is at least once, and a worker that dies is replaced after that time. Packages
// sourcetest and leasetest have the tests that they must pass.
//
// # Differences from the Kinesis Client Library
//
//   - A failed batch is not skipped.
//   - ShardEnded that returns nil ends the shard; nothing has to be checkpointed there.
//   - LATEST is the place where the application began, also if it has processed
//     nothing yet when it starts again.
//   - [Config].Start is never ignored: another one than the application's is an error.
//   - LeaseLost is not called for a processor that was never initialized.
//   - Nothing is written for shards in which nothing happens.
//   - Of an aggregate, what belongs to another shard is left out, and nothing else.
package consumer

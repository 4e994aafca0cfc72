// Package consumer processes the records of braid's streams with workers that share
// the shards, as the Kinesis Client Library does for Kinesis.
//
// An application is a name. Its leases and checkpoints, one per shard, are stored in
// the database under that name. A [Worker] takes leases and gives the records of
// their shards, in order, to a [Processor]; a [TxProcessor] also gets a transaction.
//
//	worker, err := consumer.New(db, &consumer.Config{App: "billing", Streams: []string{"orders"}}, processor)
//	err = worker.Run(ctx) // until ctx ends; then it finishes its current batches
//
// # Which promise you get
//
// A [Processor] gets every record at least once: after a crash, records behind the last
// checkpoint are processed again. A [TxProcessor] has effects in the database exactly
// once: its writes, the records that it puts, and the checkpoint are one commit. The
// compiler keeps the two apart. Effects elsewhere happen at least once with both; stream,
// shard and sequence number make a key by which the other side can recognize
// duplicates.
//
// # Order
//
// The records of a shard are processed in order, and those of its children after all of
// its own, however many workers there are. So each partition key is in order, through any
// number of reshards. With [Config].Lanes several goroutines process a shard, and each key
// is still in order.
//
// # Leases
//
// Every shard is processed by one worker at a time. Workers in one process share them
// evenly; when one comes or goes, as few move as possible. A lease is handed over when
// its processor has finished its current batch; a processor that does not return within
// [Config].HandOverTimeout loses it. No timeout has to pass: workers react at once to a
// new shard, a stopped worker and a finished parent, and after a crash the first worker
// that starts goes on.
//
// A lease has an epoch, a fencing token that goes up with each change of owner. Every
// checkpoint, and every transaction of a TxProcessor, commits only if the epoch is still
// the one under which its worker took the lease; the check and the write are one step. So
// a worker that has lost a lease can no longer write, however late it wakes.
//
// # States
//
// A shard, by its [ShardState]:
//
//	waiting ──▶ unowned ──▶ running ◀──▶ retrying ──▶ failed
//	             ▲ ▲ ▲       │   │           │           │
//	      paused ┘ │ │       │   └──▶ done   │           │
//	               │ │       ▼               │           │
//	               │ └── handing over ◀──────┘           │
//	               └─────────────────────────────────────┘
//
// It is waiting until its parents are done. A worker takes it from unowned, always under a
// new epoch. A failed batch is retried until it succeeds or MaxAttempts are used up. A lease
// is handed over when another worker is to have it, when its worker stops, or when the
// shard is paused; [App.Resume] gives back that of a shard that has failed. In each state
// with an owner the lease can be lost, to another owner, by [App.Seek], or because it has
// expired; then the shard is unowned.
//
// A worker:
//
//	made ──▶ running ──▶ leaving ───────────────▶ left
//	                        │                      ▲
//	                        └─────▶ abandoning ────┘
//
// It runs from [Worker.Run] on. It leaves when the context of Run ends, by [Worker.Stop],
// or when the database fails: it gets no more leases, and gives back those that it has
// when their processors have finished their current batch. When HandOverTimeout or the
// context of Stop has ended, it abandons them: their contexts end, and those that do not
// return are not called again, and are named by a [HungShardsError].
//
// # Checkpoints
//
// When a processor returns nil, its batch is checkpointed; at most once in a
// [Config].CheckpointInterval, if that is set. [Config].Checkpoints changes
// that: with [Acks] the processor acknowledges records, in any order; with
// [Manual] it checkpoints them by [Checkpointer.Checkpoint] and
// [Checkpointer.CheckpointAt].
// [Checkpointer.Prepare] is for work in two steps.
//
// # Errors
//
// A processor that returns an error, or panics, is called again with the same
// records, after a pause. If that does not help, the records are given to it one by
// one. By [Config], the record that still fails stops its shard (and no other), goes to a
// dead-letter stream, or is skipped and logged. No record is
// skipped silently, not even those that retention has removed: see [Config].OnGap.
//
// Records that cannot be read, a [braid.CorruptError], are not skipped either: the
// shard is retried with growing pauses, since the disk may recover. Status shows it as
// [StateRetrying] with the error as its Err. [App.Seek] to FirstAvailable of the error skips
// the lost records.
//
// A shard that is stopped does not stop its worker. It is logged, [App.Status] says so,
// and when the worker ends, Run returns a [StoppedShardsError] with the causes.
//
// # Control
//
// [App] shows the state, progress and lag of an application, and moves, pauses and
// resumes it, even when no worker runs. [Apps] lists the applications of a
// database. [App.WaitCaughtUp] waits until everything is processed; a processor that is
// a [TipReacher] is told when its shard is at the tip.
//
// Status explains an application that does nothing: AwaitedStreams and
// AwaitedDeadLetterStreams do not exist; Paused, PausedStreams and Paused of a shard
// wait for [App.Resume]; the State of each shard says the rest, and its Err why. The
// JSON of a Status has errors as text, durations as people write them ("1m30s"), and
// nothing of any record.
//
// # Log
//
// [Config].Logger gets these messages, in these words, with these attributes. Without a
// Logger, warnings and errors go to [slog.Default].
//
// Of a lease, with app, worker, stream, shard and epoch beside those listed:
//
//	INFO  | the lease is taken | from, checkpoint
//	DEBUG | the shard begins | checkpoint
//	DEBUG | the shard has caught up | checkpoint
//	INFO  | the shard has ended |
//	INFO  | the lease is handed over | checkpoint, cause
//	INFO  | the lease is lost | checkpoint, cause
//	ERROR | the shard is stopped | error
//	WARN  | the processor has failed | attempt, records, first, error
//	ERROR | a record has failed, and was put into the dead-letter stream | record, error
//	ERROR | a record has failed, and is skipped | record, error
//	WARN  | records were removed before they were processed | of, firstLost, lastLost
//	WARN  | records may have been removed before they were processed | of, firstLost
//	WARN  | a hook has failed; it is called again | hook, attempt, error
//	WARN  | a hook has failed; it is not called again | hook, error
//	WARN  | the shard cannot be read; it is tried again | attempt, error
//	WARN  | the checkpoint could not be stored; it is tried again | error
//	WARN  | the transaction could not be committed; it is tried again | error
//	WARN  | the dead letter could not be put; it is tried again | attempt, error
//	WARN  | the lease could not be renewed in time |
//	ERROR | the processor has not returned in time; its lease is taken away |
//
// The first lines are the life of a lease: from is the owner before, cause why it ends
// here. A shard has caught up when all that it had is processed; that is logged once
// when the shard begins, and again when more than a batch has come since. The error of
// a panic has its stack.
//
// Of an application, with app, and with stream and shard where it is about one:
//
//	WARN  | a stream does not exist; it is waited for |
//	INFO  | the stream exists now |
//	WARN  | the dead-letter stream does not exist; records that fail wait |
//	INFO  | the dead-letter stream exists now |
//	WARN  | processing is paused |
//	INFO  | processing is resumed |
//	WARN  | a stream cannot be looked at; it is tried again | stream, error
//	ERROR | the stream is stopped | stream, error
//	WARN  | leases cannot be given out; it is tried again | error
//	WARN  | the worker could not leave the fleet; others find out later | worker, error
//
// Messages that come in pairs are logged once when the condition begins and once when it
// ends, by one of the workers of a process.
//
// # Other engines
//
// A [Source] and a [LeaseStore] can take the place of the database. A source opens a
// [ShardReader] for each lease, which may poll or hold a subscription, and is asked for
// shards at a pace of its own. Leases in a store
// that is shared by processes expire, by what each observes with its own clock; then
// all is at least once, and a worker that dies is replaced after that time. Packages
// sourcetest and leasetest have the tests that they must pass, with options that say what
// an engine may leave out and what that means to a processor.
//
// Each worker decides for itself which leases it takes, by rules that make the shares even.
// In a store with a [Fleet], one worker leads and assigns them to all, so that workers of
// another engine, which know the same rows, can be among them.
//
// # Differences from the Kinesis Client Library
//
//   - A failed batch is not skipped.
//   - ShardEnded that returns nil ends the shard; nothing has to be checkpointed there.
//   - LATEST is the place where the application began, even if it has processed
//     nothing yet when it starts again.
//   - [Config].Start is never ignored: another one than the application's is an error.
//   - LeaseLost is not called for a processor that was never initialized.
//   - Nothing is written for shards in which nothing happens.
//   - Of an aggregate, what belongs to another shard is left out, and nothing else.
package consumer

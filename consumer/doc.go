// Package consumer processes the records of braid's streams with workers that share the
// shards, as the Kinesis Client Library does for Kinesis.
//
// An application is identified by its name. The database stores its leases and
// checkpoints, one per shard, under that name. A [Worker] takes leases and passes the
// records of their shards, in order, to a [Processor] or, with a transaction, to a
// [TxProcessor].
//
//	worker, err := consumer.New(db, &consumer.Config{App: "billing", Streams: []string{"orders"}}, processor)
//	err = worker.Run(ctx) // until ctx ends; then it finishes its current batches
//
// # Delivery guarantees
//
// A [Processor] gets every record at least once: after a crash, records after the last
// checkpoint are processed again. The effects of a [TxProcessor] in the database happen
// exactly once: its writes, the records that it puts, and the checkpoint are one commit.
// The two are separate types, so the compiler keeps them apart. Effects elsewhere happen
// at least once with both. There, stream, shard and sequence number form a key by which
// the other side can recognize duplicates.
//
// # Order
//
// The records of a shard are processed in order, and those of its children after all of
// its own, regardless of the number of workers. So each partition key stays in order
// through any number of reshards. With [Config].Lanes several goroutines process a shard,
// and each key still stays in order.
//
// # Leases
//
// Every shard is processed by one worker at a time. The workers of a process share the
// shards evenly, and as few shards as possible move when a worker starts or stops. A
// lease is handed over when its processor has finished its current batch. A processor
// that does not return within [Config].HandOverTimeout loses the lease. Nothing else
// waits for a timeout: workers react at once to a new shard, a stopped worker and a
// finished parent. After a crash, the first worker that starts takes the leases at once.
//
// A lease has an epoch, a fencing token that increases with each change of owner. A
// checkpoint, or a transaction of a TxProcessor, commits only if the lease still has the
// epoch under which the worker took it. The check and the write are one step. So a worker
// that has lost a lease can no longer write, however late it wakes.
//
// # States
//
// The states of a shard, see [ShardState]:
//
//	waiting ──▶ unowned ──▶ running ◀──▶ retrying ──▶ failed
//	             ▲ ▲ ▲       │   │           │           │
//	      paused ┘ │ │       │   └──▶ done   │           │
//	               │ │       ▼               │           │
//	               │ └── handing over ◀──────┘           │
//	               └─────────────────────────────────────┘
//
// A shard is waiting until its parents are done. A worker always takes it from unowned,
// under a new epoch. A failed batch is retried until it succeeds or MaxAttempts is
// reached. A lease is handed over when another worker is to get it, when its worker
// stops, or when the shard is paused. [App.Resume] makes the worker of a failed shard
// give its lease back. In each state with an owner the lease can be lost: to another
// owner, by [App.Seek], or by expiry. The shard is then unowned.
//
// The states of a worker:
//
//	made ──▶ running ──▶ leaving ───────────────▶ left
//	                        │                      ▲
//	                        └─────▶ abandoning ────┘
//
// A worker is running from [Worker.Run] on. It is leaving when the context of Run ends,
// after [Worker.Stop], or when the database fails. It then takes no more leases, and
// gives back each of its leases when the processor has finished its current batch. When
// HandOverTimeout passes or the context of Stop ends, it abandons the rest: their
// contexts end. Processors that still do not return are not called again, and a
// [HungShardsError] names their shards.
//
// # Checkpoints
//
// When a processor returns nil, its batch is checkpointed. [Config].CheckpointInterval
// can limit how often that happens. [Config].Checkpoints selects other modes. With [Acks]
// the processor acknowledges records, in any order. With [Manual] it checkpoints them by
// [Checkpointer.Checkpoint] and [Checkpointer.CheckpointAt]. [Checkpointer.Prepare] is
// for work in two steps.
//
// # Errors
//
// A processor that returns an error, or panics, is called again with the same records,
// after a pause. If all attempts fail, it is given the records one by one. By default, a
// record that still fails stops its shard, and no other. [Config] can instead send it to
// a dead-letter stream, or skip and log it. No record is skipped silently, not even one
// that retention has removed: [Config].OnGap is called until it accepts the gap.
//
// Records that cannot be read, a [braid.CorruptError], are not skipped either. The shard
// is retried with growing pauses, since the disk may recover. Status shows it as
// [StateRetrying] with the error as its Err. [App.Seek] to the error's FirstAvailable
// skips the lost records.
//
// A shard that is stopped does not stop its worker. The stop is logged, and [App.Status]
// shows it. When the worker ends, Run returns a [StoppedShardsError] with the causes.
//
// # Control
//
// [App] shows the state, progress and lag of an application, and moves, pauses and
// resumes it, even when no worker runs. [Apps] lists the applications of a database.
// [App.WaitCaughtUp] waits until everything is processed. A processor that is a
// [TipReacher] is called when its shard is at the tip.
//
// Status explains why an application does nothing. AwaitedStreams and
// AwaitedDeadLetterStreams list streams that do not exist. Paused, PausedStreams and the
// Paused field of a shard show what waits for [App.Resume]. For everything else, see the
// State of each shard and its Err. The JSON of a Status has errors as text and durations
// as people write them ("1m30s"). It contains no data of records.
//
// # Log
//
// [Config].Logger gets the following messages, word for word. Without a Logger, warnings
// and errors go to [slog.Default].
//
// Messages about a lease have the attributes app, worker, stream, shard and epoch, and
// those listed:
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
//	WARN  | a hook has failed; retrying | hook, attempt, error
//	WARN  | a hook has failed; it is not called again | hook, error
//	WARN  | the shard cannot be read; retrying | attempt, error
//	WARN  | the checkpoint could not be stored; retrying | error
//	WARN  | the acceptance of a gap could not be stored; retrying | of, error
//	WARN  | the transaction could not be committed; retrying | error
//	WARN  | the dead letter could not be put; retrying | attempt, error
//	WARN  | the lease could not be renewed in time |
//	ERROR | the processor has not returned in time; its lease is taken away |
//
// The first lines are the life of a lease: from is its previous owner, cause is why it
// ends here. A shard has caught up when all its records are processed. That is logged
// once when the shard begins, and again after each backlog of more than one batch. The
// error of a panic includes its stack.
//
// Messages about an application have app, and, where they concern one, stream and shard:
//
//	WARN  | a stream does not exist; waiting for it |
//	INFO  | the stream exists now |
//	WARN  | the dead-letter stream does not exist; records that fail wait |
//	INFO  | the dead-letter stream exists now |
//	WARN  | processing is paused |
//	INFO  | processing is resumed |
//	WARN  | the state of a stream cannot be read; retrying | stream, error
//	ERROR | the stream is stopped | stream, error
//	WARN  | leases cannot be assigned; retrying | error
//	WARN  | the worker could not leave the fleet; others find out later | worker, error
//
// Messages that come in pairs are logged once when the condition begins and once when it
// ends, by one of the workers of a process.
//
// # Other engines
//
// A [Source] and a [LeaseStore] can take the place of the database. For each lease, the source
// opens a [ShardReader], which may poll or hold a subscription. Workers ask the source for its
// shards every [Config].ShardSyncInterval, unless it announces changes. In a store that several
// processes share, leases expire; each process measures that with its own clock. Processing is then
// at least once, and a worker that dies is replaced after the lease's duration. Packages sourcetest
// and leasetest have the tests that a source and a store must pass. Their options list what an
// engine may leave out, and what that means for a processor.
//
// Each worker decides for itself which leases it takes, by rules that make the shares even. In a
// store with a [Fleet], one worker leads and assigns the leases to all workers. So workers of
// another engine that uses the same rows can take part.
//
// # Differences from the Kinesis Client Library
//
//   - A failed batch is not skipped.
//   - ShardEnded ends the shard by returning nil; it does not have to checkpoint.
//   - LATEST is the tip when the application first began. It stays the same even if the
//     application is restarted before it has processed a record.
//   - [Config].Start is never ignored: a Start that differs from the application's is an
//     error.
//   - LeaseLost is not called for a processor that was never initialized.
//   - Nothing is written for shards in which nothing happens.
//   - The records of an aggregate that belong to another shard are left out, and no
//     others.
package consumer

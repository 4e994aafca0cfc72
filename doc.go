// Package braid is Amazon Kinesis Data Streams as a library: durable, ordered streams of
// shards inside a Go program. It keeps its data in one directory, or in memory, with the
// Pebble storage engine.
//
// A [DB] holds any number of streams. A [Stream] is a set of shards, which divide
// the hash-key space among them; a record goes to the [Shard] whose range contains
// the MD5 of its partition key. A shard is an ordered log. Records stay for the
// stream's retention period, however often they are read.
//
//	db, err := braid.Open("data", nil)
//	orders, err := db.OpenStream(ctx, "orders", &braid.StreamOptions{Shards: 4})
//	res, err := orders.PutRecord(ctx, "customer-42", data)
//	for rec, err := range orders.Follow(ctx, braid.TrimHorizon()) { … }
//
// # Writing
//
// [Stream.PutRecord] appends a record and returns when it is durable.
// [Stream.PutRecords] appends many with one commit: all or none. Concurrent calls share
// commits, so the throughput of durable writes grows with the number of writers. The data is
// copied, so the caller may reuse its slice.
//
// A put has one of three outcomes. It is acknowledged. Or it is refused: nothing was stored,
// and the error says why. Or its outcome is unknown ([ErrOutcomeUnknown]), because its context
// ended or the storage failed during the commit. An error never means that only a part
// was stored.
//
// # Ordering
//
// Each record gets a [SequenceNumber], which has the 186 bits of Kinesis's own. Within a shard
// the numbers strictly increase in the order in which records become visible, across restarts
// and trims, and even if the clock steps back. Records of one partition key are in one shard,
// so they stay in order: if one put returned before another began, its record is read first.
//
// A record becomes visible only when it is as durable as [Options].Durability says. With
// [Sync], the default, no reader sees a record that a crash can take back. In every mode, no
// record appears later at a place that a reader has passed. Each record carries its ordinal in
// the shard, and readers verify that no record is missing.
//
// # Reading
//
// [Stream.Records] and [Shard.Records] are finite: they end at the tip as it was
// when the loop began. [Stream.Follow] and [Shard.Follow] do not end there: they wait at the
// tip, without polling, until a commit wakes them. They read recent records from memory. The
// readers of a stream get the records of all its shards in the order in which they arrived.
//
// A reader begins at a [Position]: [TrimHorizon], [Latest], [AtTime],
// [AtSequence], [AfterSequence]. To resume after a restart, keep the sequence
// number of the last record that was processed, and begin with AfterSequence.
//
// Between two records a reader holds no files and no memory of the database, so a slow or
// forgotten reader costs nothing. [Shard.GetRecords] returns pages, for tools that keep
// positions themselves.
//
// # Transactions
//
// [DB.Update] runs a function that reads and writes the application's own keys, which the database
// stores beside the streams, and appends records to any stream. All of it is one atomic and durable
// change. So a program that derives state from a stream can store the state together with its
// position in the stream: each record takes effect once, despite crashes. Transactions are
// serializable; [DB.View] reads one consistent state. [Tx.Get] returns [ErrKeyNotFound] for a key
// that has no value.
//
// # Workers
//
// Package consumer processes streams with workers that share the shards among them. Their
// leases and checkpoints are stored in the database. A Processor (consumer.New) gets each
// record at least once. A TxProcessor (consumer.NewTx) stores its effects in the database, in
// the transaction that stores the checkpoint, so each record takes effect exactly once.
//
// # Resharding
//
// [Stream.SplitShard], [Stream.MergeShards] and [Stream.UpdateShardCount] change
// the shards of a stream while records flow. A shard that was split or merged is
// closed: it keeps its records and accepts no more. Producers do not notice. A reader of the
// stream crosses a reshard by itself. A reader of a shard reaches its end and finds its
// children in [RecordsPage]. A reader that finishes the parents before it starts their
// children sees each key in order.
//
// # Retention
//
// A record expires when it is older than the stream's retention period: 24 hours, unless
// [StreamOptions] set another one. From that instant on it cannot be read, and its space is
// reclaimed in the background. Records age by the time that passes: a step of the wall clock
// makes no record older. [Stream.IncreaseRetention] and [Stream.DecreaseRetention] change the
// period; expired records do not come back.
//
// [Stream.Trim] removes the records before a position. A reader that has not read them yet is
// not moved silently: it gets a [TrimmedError], which says what it missed and where reading
// can resume. Space is reclaimed in the background, in steps of about [Options].MemtableBytes.
//
// # Capacity
//
// A stream accepts as much as the machine can handle, unless its [Capacity] sets limits:
// [Provisioned] gives each shard Kinesis's budgets, or others, and [OnDemand] also splits and
// merges the shards by their load. Records beyond a budget are refused with a
// [ThroughputExceededError]; [Stream.PutRecordWait] and [Stream.PutRecordsWait] wait instead.
//
// # Encryption
//
// After [Stream.StartEncryption] a stream encrypts the records put to it, with keys that a
// [KeyProvider] keeps, such as a [KeyRing]. Records in memory are not encrypted,
// nor are the application's own keys and values.
//
// # Durability
//
// By default an acknowledged record survives a crash and a power loss ([Sync]). [Interval] and
// [NoSync] are faster, but a crash or a power loss may take the newest records. In every mode
// a shard keeps a prefix of its records, and no sequence number is given out twice.
//
// braid does not protect against a disk that lies about fsync, against the loss
// of the whole disk (it does not replicate; see [DB.Backup]), or against
// another program that writes its files.
//
// # Reading a copy
//
// [Options].ReadOnly opens a backup or a stopped database without changing a byte of
// it; any number of processes can do that at once. A database that a running program has
// open is read in that program, or from a copy made by its [DB.Backup].
//
// A reader that kept its position and resumes in an older copy of the database gets
// [ErrBeyondTip]. It would otherwise wait there, and miss records put below its position.
//
// # Failure
//
// braid never ends or hangs the program that it runs in. If the storage fails, the DB refuses
// writes with [ErrFailed] until it is closed and opened again. The same process may do that;
// all acknowledged records are still there. While the disk is full, writes are refused with
// [ErrDiskFull], and while file descriptors are exhausted, with [ErrOutOfResources]. Writing
// resumes by itself after both. While a disk is stalled, a call returns when its context ends;
// [DB.CloseContext] bounds the time of closing. A DB that cannot be closed properly leaves
// memory and parked goroutines behind, so a process may have at most eight of those. Errors in
// the background are logged, to [slog.Default] unless [Options].Logger is set.
//
// Corrupt data results in [ErrCorrupt] or [ErrDataLoss], never in a wrong answer, and affects
// only readers of that data; even a corrupt shard accepts records. A reader gets the records
// before the damage and then a [CorruptError], which says where reading can resume. Damage
// affects at least one block of a table, about 32 KiB, which neighboring shards may share.
// Open refuses a database whose log, manifest, or rows about streams, shards and epochs are
// damaged, or in which a table is missing or truncated.
//
// # Time and tests
//
// braid takes the time only from package time, so a program that uses it can be tested in a
// [testing/synctest] bubble, where hours pass in microseconds. [InMemory] suits such tests
// best.
//
// # Concurrency
//
// All methods may be called from any number of goroutines, except those of a [Tx], which
// belongs to one goroutine at a time. Every call that may wait takes a context.
//
// # Differences from Amazon Kinesis
//
//   - Nothing is limited by default: no budgets per shard, no 500 records per
//     call. A call takes up to 16 MiB.
//   - PutRecords stores all entries or none, and keeps their order in a shard; if
//     there are budgets, a refused entry refuses the later ones of its shard.
//   - A change of settings, and a reshard, is one commit: a stream has no status.
//   - A record is readable the moment it is acknowledged.
//   - LATEST is the tip at the time of the call that names it.
//   - A reader whose next records were trimmed gets an error.
//   - Sequence numbers of different shards can be compared by arrival: the part
//     that counts up is the arrival time in nanoseconds. Only numbers of one
//     shard should be compared with [SequenceNumber.Compare].
//   - The limit of a record's size does not count its partition key.
package braid

// Package braid is Amazon Kinesis Data Streams as a library: durable, ordered streams of
// shards inside a Go program. It stores in one directory, or in memory, on the Pebble
// engine.
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
// [Stream.PutRecords] appends many with one commit: all or none. Calls of many
// goroutines share commits, so the throughput of durable writes grows with the
// number of writers. The data is copied; the caller may reuse its slice.
//
// A put has one of three outcomes. It is acknowledged; or it is refused, with an
// error that says why, and nothing was stored; or its outcome is unknown
// ([ErrOutcomeUnknown]), because its context ended or the storage failed during the
// commit. An error never means "partly".
//
// # Ordering
//
// Each record gets a [SequenceNumber], which is Kinesis's own 186-bit number.
// Inside of a shard numbers strictly increase in the order in which records
// become visible, even if the clock steps back, across restarts and trims. Records of
// one partition key are in one shard, so they stay in order: if one put returned
// before another began, its record is read first.
//
// A record becomes visible only when it is as durable as [Options].Durability says. With
// [Sync], the default, no reader sees a record that a crash can take back; in every mode no
// reader passes a number that turns up later. Each record carries its ordinal in the shard,
// and readers verify that no record is missing.
//
// # Reading
//
// [Stream.Records] and [Shard.Records] are finite: they end at the tip as it was
// when the loop began. [Stream.Follow] and [Shard.Follow] go on, and wait at the
// tip without polling: a commit wakes them, and they read what is recent from
// memory. A stream's records come in the order in which they arrived, over all
// shards.
//
// A reader begins at a [Position]: [TrimHorizon], [Latest], [AtTime],
// [AtSequence], [AfterSequence]. To resume after a restart, keep the sequence
// number of the last record that was processed, and begin with AfterSequence.
//
// Readers hold nothing between two records, neither files nor memory of the
// database, so a slow or forgotten one costs nothing. [Shard.GetRecords]
// returns pages, for tools that keep positions themselves.
//
// # Transactions
//
// [DB.Update] runs a function that reads and writes keys of the application's own
// beside the streams, and appends records to any of them, as one atomic and
// durable change. That is how a program that derives state from a stream keeps
// the state and its position in step: each record has its effect once, whatever
// crashes. Transactions are serializable; [DB.View] reads one consistent state.
// [Tx.Get] of a key that has no value is an error, [ErrKeyNotFound].
//
// # Workers
//
// Package consumer processes streams with workers that share their shards, on leases
// and checkpoints that are stored in the database: at least once (consumer.New with a
// Processor), or exactly once for effects that are in the database, too
// (consumer.NewTx with a TxProcessor, whose transaction is the checkpoint's).
//
// # Resharding
//
// [Stream.SplitShard], [Stream.MergeShards] and [Stream.UpdateShardCount] change
// the shards of a stream while records flow. A shard that was split or merged is
// closed: it keeps its records and accepts no more. Producers do not notice. A reader
// of the stream crosses a reshard by itself; a reader of a shard comes to its end, and
// finds its children in [RecordsPage]. A reader that finishes the parents before it
// starts their children sees each key in order.
//
// # Retention
//
// A record expires when it is older than the stream's retention period: 24 hours, unless
// [StreamOptions] set another one. From that instant on it cannot be read,
// and its space comes back by itself. Records age by the time that passes,
// not by steps of the wall clock. [Stream.IncreaseRetention] and
// [Stream.DecreaseRetention] change the period; what has expired stays so.
//
// [Stream.Trim] removes what lies before a position. A reader that wanted it gets
// a [TrimmedError], which says what is lost and where to go on, rather than being
// moved silently. Space comes back in the background, in steps of about
// [Options].MemtableBytes.
//
// # Capacity
//
// A stream takes what the machine can, unless its [Capacity] says otherwise:
// [Provisioned] gives each shard Kinesis's budgets, or others, and [OnDemand] also
// splits and merges the shards by their load. Records beyond a budget are
// refused with a [ThroughputExceededError]; [Stream.PutRecordWait] and
// [Stream.PutRecordsWait] wait instead.
//
// # Encryption
//
// After [Stream.StartEncryption] a stream encrypts the records put to it, with keys that a
// [KeyProvider] keeps, such as a [KeyRing]. Records in memory are not encrypted,
// nor are the application's own keys and values.
//
// # Durability
//
// By default an acknowledged record survives a crash and a power loss ([Sync]). With
// [Interval] and [NoSync], which are faster, either may take the newest records. In every
// mode a shard keeps a prefix of its records, and no number is given out twice.
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
// [ErrBeyondTip]; it does not wait above records that are put below it.
//
// # Failure
//
// braid never ends or hangs the program that it runs in. If the storage fails,
// the DB refuses writes with [ErrFailed] until it is closed and opened again,
// which the same process may do; all acknowledged records are there. While the disk is
// full, writes are refused with [ErrDiskFull], and while file descriptors are exhausted
// with [ErrOutOfResources]; both heal by themselves. While a disk is stalled a call
// returns when its context ends; [DB.CloseContext] closes with a bound. A DB that
// cannot be closed properly leaves memory and parked goroutines behind, so a process
// may have at most eight of those. Errors in the background are logged: to
// [slog.Default], unless [Options].Logger is set.
//
// Corrupt data is [ErrCorrupt] or [ErrDataLoss], never a wrong answer, and affects only
// its readers; even the corrupt shard accepts records. A reader gets the records before
// the damage and then a [CorruptError], which names the place where reading can resume.
// Damage is as wide as a block of a table, about 32 KiB, which neighboring shards may
// share. Open refuses a database whose log, manifest, or rows about streams, shards and
// epochs are damaged, or in which a table is missing or cut.
//
// # Time and tests
//
// braid takes time from package time only, and all of it runs in a
// [testing/synctest] bubble, best with [InMemory]: hours pass in microseconds.
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
//   - LATEST is resolved by the call that it is given to.
//   - A reader that trimming overtook gets an error.
//   - Sequence numbers of different shards can be compared by arrival: the part
//     that counts up is the arrival time in nanoseconds. Only numbers of one
//     shard should be compared with [SequenceNumber.Compare].
//   - The limit of a record's size does not count its partition key.
package braid

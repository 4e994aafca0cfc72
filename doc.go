// Package braid is an embeddable log of streams: what Amazon Kinesis Data Streams
// does, as a library that runs inside of a Go program. It stores in one
// directory, or in memory, on the Pebble engine.
//
// A [DB] holds any number of streams. A [Stream] is a set of shards, which divide
// a space of hash keys among them; a record goes to the [Shard] whose range holds
// the MD5 of its partition key. A shard is an ordered log. Records stay for as
// long as the stream's retention says, however often they are read.
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
// number of writers. The data is copied; the caller's slice is free at once.
//
// A put has one of three outcomes. It is acknowledged; or it is refused, with an
// error that says why, and nothing happened; or its outcome is unknown
// ([ErrOutcomeUnknown]), because its context ended or the storage failed while it
// was on its way. There is no fourth, and an error never means "partly".
//
// # Ordering
//
// Each record gets a [SequenceNumber], which is Kinesis's own 186-bit number.
// Inside of a shard numbers strictly increase in the order in which records
// become visible, whatever the clock does, across restarts and trims. Records of
// one partition key are in one shard, so they stay in order: if one put returned
// before another began, it is read before the other.
//
// A record becomes visible only when it is durable, and all at once: no reader
// ever sees what a crash can take back, and none passes over a number that turns
// up later. Each record also carries a dense count of its shard, so every read
// checks that nothing is missing in between.
//
// # Reading
//
// [Stream.Records] and [Shard.Records] are finite: they end at the tip as it was
// when the loop began. [Stream.Follow] and [Shard.Follow] go on, and wait at the
// tip without polling: a commit wakes them, and they read what is recent from
// memory. A stream's records come in the order in which they arrived, over all
// shards.
//
// Where to begin is a [Position]: [TrimHorizon], [Latest], [AtTime],
// [AtSequence], [AfterSequence]. To go on after a restart, keep the sequence
// number of the last record that was dealt with, and begin with AfterSequence.
//
// Readers hold nothing between two records, neither files nor memory of the
// database, so a slow or forgotten one costs nobody anything. [Shard.GetRecords]
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
// closed: it keeps its records and takes no more. Producers do not notice. Those
// who read the stream cross a reshard by themselves; those who read a shard come
// to its end, and find its children in [RecordsPage]. A reader that reads children after
// their parents reads every key in order.
//
// # Retention
//
// A record expires when it is older than the stream's retention: 24 hours, unless
// [StreamOptions] say something else. From that instant on nobody can read it,
// and its space comes back by itself. Records age by the time that passes, and
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
// splits and merges the shards by their load. What goes beyond a budget is
// refused with a [ThroughputExceededError]; [Stream.PutRecordWait] and
// [Stream.PutRecordsWait] wait instead.
//
// # Encryption
//
// [Stream.StartEncryption] has a stream encrypt what is put, with keys that a
// [KeyProvider] keeps, such as a [KeyRing]. Records in memory are not encrypted,
// nor are the application's own keys and values.
//
// # Durability
//
// By default what was acknowledged survives a power cut ([Sync]). [Interval] and
// [NoSync] trade the newest records for speed, and say how many. All keep a
// prefix of each shard, and never give a number out twice.
//
// braid does not protect against a disk that lies about fsync, against the loss
// of the whole disk (it does not replicate; see [DB.Backup]), or against a
// program that writes the files behind its back.
//
// # Reading a copy
//
// [Options].ReadOnly opens a copy, a backup or a stopped database without changing
// a byte of it, and beside others that read it so. What a running program has open
// is read in that program, or in a copy that its [DB.Backup] makes.
//
// A reader that kept its place and meets an older copy of the database than the one
// it had read gets [ErrBeyondTip], rather than waiting above records that are put
// below it.
//
// # Failure
//
// braid never ends or hangs the program that it runs in. If the storage fails,
// the DB refuses writes with [ErrFailed] until it is closed and opened again,
// which the same process may do; all that was acknowledged is there. A full disk
// refuses writes with [ErrDiskFull], and a lack of descriptors with
// [ErrOutOfResources]; both heal by themselves. While a disk is stalled a call
// returns when its context ends; [DB.CloseContext] closes with a bound. A DB that
// cannot be closed properly leaves memory and parked goroutines behind, so a process
// may have at most eight of those. What happens while nobody is calling is logged:
// warnings and errors go to [slog.Default] unless [Options].Logger is given.
//
// Damaged data is [ErrCorrupt] or [ErrDataLoss], never a wrong answer, and concerns
// its readers only: everything else goes on, the damaged shard included. A reader
// gets the records before the damage and then a [CorruptError], which says from
// where the shard can be read again. Damage is as wide as a block of a table,
// about 32 KiB, which neighbouring shards may share. Open refuses what it cannot do
// without: a damaged log, manifest, or row about streams, shards and epochs, and a
// table that is missing or cut.
//
// # Time and tests
//
// braid takes time from package time only, and all of it runs in a
// [testing/synctest] bubble, best with [InMemory]: hours pass in microseconds.
//
// # Concurrency
//
// Everything may be called from any number of goroutines, but a [Tx] belongs to
// one at a time. Whatever may wait takes a context.
//
// # Differences from Amazon Kinesis
//
//   - Nothing is limited by default: no budgets per shard, no 500 records per
//     call. A call takes up to 16 MiB.
//   - PutRecords stores all entries or none, and keeps their order in a shard; if
//     there are budgets, a refused entry refuses the later ones of its shard.
//   - A change of settings, and a reshard, is one commit: a stream has no status.
//   - A record is readable the moment it is acknowledged.
//   - LATEST is fixed by the call that it is given to.
//   - A reader that trimming overtook is told.
//   - Sequence numbers of different shards can be compared by arrival: the part
//     that counts up is the arrival time in nanoseconds. Only numbers of one
//     shard should be compared with [SequenceNumber.Compare].
//   - The limit of a record's size does not count its partition key.
package braid

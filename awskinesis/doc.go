// Package awskinesis is braid on Amazon Kinesis, DynamoDB and KMS, for the day when one machine
// is no longer enough. A [Producer] has the methods of a [braid.Stream], with the same meaning;
// with a [Source] and a [LeaseStore] the same workers process the records; a [Forwarder] makes
// a stream of a database a durable outbox of Kinesis; and [KMS] protects data keys.
//
//	client := kinesis.NewFromConfig(cfg) // of the AWS SDK for Go v2
//	p, err := awskinesis.NewProducer(ctx, client, "orders", nil)
//	defer p.Close(ctx)
//	result, err := p.PutRecord(ctx, "customer-42", data) // returns when Kinesis has stored it
//
// Directory examples/grow has one program for both a directory and Kinesis.
//
// # What a producer does
//
// It collects the records of all callers into PutRecords calls of up to 500 entries and 5 MiB.
// With [ProducerOptions].AggregateBytes it also packs several records of a shard into one
// carrier, as the Kinesis Producer Library does; see package kpl. It respects the budget of
// each shard, retries throttled and failed records, and keeps the order of each partition key:
// later records of a key wait until the outcome of the earlier ones is known, because a call of
// PutRecords may store the second record of a key and refuse the first.
//
// [ProducerOptions].BufferBytes limits the memory of waiting records. Beyond it,
// [Producer.PutRecord] refuses, and [Producer.PutRecordWait] waits.
//
// # Outcomes
//
// Each record has one of three: stored, refused (nothing happened), or unknown
// ([braid.ErrOutcomeUnknown]: it may be stored, and no attempt follows). Kinesis cannot put a
// record exactly once: an attempt whose answer was lost is repeated, so the record may be
// stored twice. A consumer that must not process it twice needs an id in the record, such as
// that of package envelope.
//
// # Reshards
//
// The producer lists the shards when it is created, and again when a record arrives in an
// unexpected shard. A consumer drops aggregated records that do not belong to the shard in
// which it finds them, and the KCL drops the whole carrier. So the producer puts all records of
// a carrier in the wrong shard again, before any later record of their keys.
//
// # Forwarder: a durable outbox
//
// A [Forwarder] puts the records of a database's stream to Kinesis through a [Producer]. The
// program puts to the database, which needs no network, and one transaction can contain the
// record and other writes. Directory examples/outbox has a program.
//
//	f, err := awskinesis.NewForwarder(db, "outbox", producer, nil)
//	go f.Run(ctx)
//	_, err = f.PutRecord(ctx, "customer-42", data) // or any put to the stream "outbox"
//
// Its promises:
//
//   - Nothing is lost: a checkpoint passes a record only when Kinesis has stored it and all
//     earlier ones in its shard of the outbox. After a crash, the records after the checkpoint
//     are put again: with strict order up to about 1 MiB per shard.
//   - While the Forwarder runs, it puts each record once, even through throttling, reshards of
//     both streams, pauses and hand-offs, except after attempts whose answer was lost, as
//     above.
//   - The records of a key arrive in order. If order matters even after a crash, use the
//     default order and an id: repeated records begin with one that was there before.
//   - A record that Kinesis refuses permanently is never dropped silently: a hook or a
//     dead-letter stream takes it, or its shard of the outbox waits, which the status and the
//     log report.
//   - The outbox is limited if MaxBytes or MaxAge is set: puts are refused with
//     [ErrOutboxFull], or, with DropOldest, the oldest records are removed and counted.
//
// Forwarded records stay on disk until the stream's retention removes them. Retention also
// removes records that still wait, so it must be longer than the longest time without a
// connection. A stream with braid.StreamOptions{Retention: -1} keeps everything.
//
// [Forwarder.App] pauses, resumes and moves it. A forwarder needs only the permissions of its
// producer. It makes no calls at rest, and the producer's calls for each record: for small
// records, AggregateBytes divides the cost. With limits it measures the outbox once per second
// with puts, and with DropOldest once a second.
//
// Package capture works in the other direction: it records a stream of Kinesis in a database,
// and replays it in tests.
//
// # Permissions
//
// A producer needs
//
//	{
//	  "Effect": "Allow",
//	  "Action": ["kinesis:PutRecords", "kinesis:ListShards"],
//	  "Resource": "arn:aws:kinesis:REGION:ACCOUNT:stream/orders"
//	}
//
// and, if the stream is encrypted with a key of yours, for that key
//
//	{
//	  "Effect": "Allow",
//	  "Action": "kms:GenerateDataKey",
//	  "Resource": "arn:aws:kms:REGION:ACCOUNT:key/KEY"
//	}
//
// # What it costs
//
// At rest a producer makes no calls. A single record is one entry of a PutRecords call, which
// provisioned streams bill in units of 25 KB, and a shard accepts 1,000 of them per second.
// Aggregated records share an entry: about 440 records of 100 bytes fit into a carrier of
// 51,200 bytes, which is two units. Each reshard costs one ListShards call, or a few while the
// listing is out of date.
//
// # The source
//
// With a [Source], workers of package consumer process streams of Kinesis just as they process
// a database's streams: parents before children, checkpoints, lanes, and unpacked records of
// the KPL. Dead letters and a TxProcessor need a database.
//
//	source, err := awskinesis.NewSource(client, nil)
//	w, err := consumer.New(nil, &consumer.Config{
//		App: "billing", Streams: []string{"orders"}, Source: source, Leases: leases,
//	}, processor)
//
// Streams are identified by name, or by ARN for those of other accounts. Without a consumer
// name the source polls: one GetRecords call at a time for each shard and process, at most four
// per second while records arrive, and one every 1.5 s otherwise. Kinesis allows five per
// second and 2 MiB/s for each shard, for all applications together. After throttling the source
// backs off.
//
// With [SourceOptions].ConsumerName it uses enhanced fan-out. It registers the consumer, and
// subscribes to each shard whose lease a worker has. It renews a subscription after four and a
// half minutes, from the current position, and at once when it breaks or falls silent. A worker
// that takes a lease also takes over the subscription, which Kinesis allows 5 s after the last
// one began: until then the shard waits.
//
// Differences from a database:
//
//   - Kinesis does not report that retention has removed unread records. The source suspects a
//     gap if a position is older than the stream's retention. An application that opens a shard
//     without puts for that long gets a gap even if nothing is missing. An application that
//     begins at TRIM_HORIZON gets no gap for records removed in its first five minutes.
//   - LATEST and AT_TIMESTAMP are times with a precision of 1 ms, by the service's clock. A
//     record of the same millisecond may be on either side.
//   - [braid.ErrBeyondTip] does not occur: Kinesis accepts any number of the shard.
//   - A GetRecords call returns up to 10 MiB, and an event of a subscription about 1 MiB. A
//     reader holds them in addition to [consumer.Config].MaxBytes until its pages have
//     delivered them. The source requests as many records as are likely to fit.
//   - BehindRecords and BehindBytes of a page are 0: Kinesis reports a reader's lag only as a
//     time.
//
// Polling needs
//
//	{
//	  "Effect": "Allow",
//	  "Action": [
//	    "kinesis:DescribeStreamSummary", "kinesis:ListShards",
//	    "kinesis:GetShardIterator", "kinesis:GetRecords"
//	  ],
//	  "Resource": "arn:aws:kinesis:REGION:ACCOUNT:stream/orders"
//	}
//
// and enhanced fan-out also needs the following (App.Status and PollOnRefusal still use
// GetRecords and GetShardIterator)
//
//	{
//	  "Effect": "Allow",
//	  "Action": [
//	    "kinesis:RegisterStreamConsumer", "kinesis:DescribeStreamConsumer",
//	    "kinesis:DeregisterStreamConsumer", "kinesis:SubscribeToShard"
//	  ],
//	  "Resource": [
//	    "arn:aws:kinesis:REGION:ACCOUNT:stream/orders",
//	    "arn:aws:kinesis:REGION:ACCOUNT:stream/orders/consumer/billing:*"
//	  ]
//	}
//
// and, if the stream is encrypted with a key of yours, kms:Decrypt for that key. A denied
// access, or a key that is disabled or does not exist, stops the shard until App.Resume; a key
// in a transitional state is retried.
//
// # What the source costs
//
// Calls per hour without puts:
//
//	                    polling           enhanced fan-out
//	for each shard      2,400 GetRecords  13 SubscribeToShard
//	for each stream and process           60 ListShards, 12 DescribeStreamSummary
//
// Kinesis bills enhanced fan-out for each consumer, shard and hour, and for the data that it
// delivers; GetRecords calls are included in the price of a shard, or of the data of an
// on-demand stream. A reshard costs each process a few ListShards calls, regardless of its
// number of shards. [consumer.Config].ShardSyncInterval sets the pace of listings,
// [SourceOptions].IdleInterval that of polling.
//
// # Leases in DynamoDB
//
// A [LeaseStore] keeps the leases and checkpoints of package consumer in DynamoDB, in the table of
// the Kinesis Client Library, so that workers on several machines share the shards:
//
//	leases, err := awskinesis.NewLeaseStore(ctx, dynamodb.NewFromConfig(cfg), "billing",
//		&awskinesis.LeaseStoreOptions{Stream: "orders"})
//	worker, err := consumer.New(db, &consumer.Config{
//		App: "billing", Streams: []string{"orders"}, Leases: leases,
//	}, processor)
//
// To move an application from the KCL for Java to braid, or back, stop all workers of one
// before you start the first of the other: each continues at the checkpoints of the other. A
// worker that has checkpointed everything that it processed repeats nothing. Without
// LeaseStoreOptions.MixedFleet, [NewLeaseStore] refuses to start while a worker of the KCL is
// alive. Set Config.Deaggregate if producers aggregate, since the KCL always unpacks records;
// set LeaseDuration to at least the KCL's failoverTimeMillis. Config.Start has no effect on
// shards that the KCL has begun.
//
// On the way back, the KCL ignores pauses, and positions without a sequence number: it begins a
// shard of which nothing was processed yet at TRIM_HORIZON. If a worker of braid has finished a
// parent but none has begun its children, the KCL creates the children's leases with its next
// audit, after some minutes.
//
// # A mixed fleet
//
// With LeaseStoreOptions.MixedFleet, workers of braid and of the KCL for Java, version 3.5,
// share an application at the same time. The worker that holds the KCL's leader lock assigns
// all leases. A worker of braid takes the leases assigned to it, and hands a lease off, after
// its current batch, when the leader assigns it to another worker. As the leader, a worker of
// braid assigns leases to workers of the KCL as well, and gives all workers the same number of
// shards, within one.
//
//   - All workers of braid have MixedFleet, or none has: a worker without it refuses to start
//     while a fleet runs, with [ErrForeignWorker], and so does a worker of a fleet while one
//     outside it runs.
//   - LeaseDuration is the KCL's failoverTimeMillis, and at most a minute.
//   - The KCL's client version is 3X, which is its default, and its rows are in the lease table
//     alone, as those of applications that began with 3.5 are: [NewLeaseStore] refuses others. Its
//     workerMetricsReporterFreqInMillis is at least 15 s; the default is 30 s.
//   - Config.WorkerID is the key of a row in the lease table, so it must not be the id of a
//     shard.
//   - Workers of braid do not measure the load of their processors. The KCL's leader then uses
//     the bytes per second of a worker's shards as its load.
//   - The shards of a dead worker are assigned to others after two to three LeaseDurations if
//     braid leads; if the KCL leads, after up to a minute and two of its assignment intervals.
//     A dead leader of braid is replaced after four to six LeaseDurations, one that stops
//     within two. Workers that stop release their leases.
//   - The KCL ignores pauses: it processes a paused shard once the shard is assigned to one of
//     its workers. It begins at TRIM_HORIZON in a shard of which nothing was processed yet and
//     whose position has no sequence number. So let the KCL begin an application at LATEST.
//   - Like the KCL, a worker renews the lease of an ended shard until its children have begun,
//     and for five minutes after that, and then deletes it.
//
// A store needs
//
//	{
//	  "Effect": "Allow",
//	  "Action": [
//	    "dynamodb:DescribeTable", "dynamodb:CreateTable", "dynamodb:UpdateTable", "dynamodb:TagResource",
//	    "dynamodb:UpdateContinuousBackups", "dynamodb:Scan", "dynamodb:Query", "dynamodb:GetItem",
//	    "dynamodb:BatchGetItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"
//	  ],
//	  "Resource": [
//	    "arn:aws:dynamodb:REGION:ACCOUNT:table/billing",
//	    "arn:aws:dynamodb:REGION:ACCOUNT:table/billing/index/LeaseOwnerToLeaseKeyIndex",
//	    "arn:aws:dynamodb:REGION:ACCOUNT:table/billing-Braid",
//	    "arn:aws:dynamodb:REGION:ACCOUNT:table/billing-WorkerMetricStats",
//	    "arn:aws:dynamodb:REGION:ACCOUNT:table/billing-CoordinatorState"
//	  ]
//	}
//
// where billing is the application. CreateTable, TagResource and UpdateContinuousBackups are for
// tables that it has to make, UpdateTable for an index. The last two tables are those of older
// versions of the KCL, and are only read: one without MixedFleet, the other with it. What all that
// costs is said of [LeaseStore].
package awskinesis

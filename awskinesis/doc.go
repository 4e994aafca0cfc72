// Package awskinesis runs braid programs on Amazon Kinesis, DynamoDB and KMS, for the day when one
// machine is not enough. A [Producer] has the methods of a [braid.Stream], with the same meaning.
// With a [Source] and a [LeaseStore], the workers of package consumer process Kinesis streams. A
// [Forwarder] makes a stream of a database a durable outbox for Kinesis. [KMS] keeps encryption
// keys.
//
//	client := kinesis.NewFromConfig(cfg) // of the AWS SDK for Go v2
//	p, err := awskinesis.NewProducer(ctx, client, "orders", nil)
//	defer p.Close(ctx)
//	result, err := p.PutRecord(ctx, "customer-42", data) // returns when Kinesis has stored it
//
// Directory examples/grow has a program that runs on a database directory or on Kinesis.
//
// # What a producer does
//
// A producer collects the records of all callers into PutRecords calls of up to 500 entries and 5
// MiB. With [ProducerOptions].AggregateBytes it also packs several records of a shard into one
// carrier record, as the Kinesis Producer Library (KPL) does; package kpl describes the format. It
// stays within the throughput quota of each shard, and retries records that were throttled or
// failed. Retries keep the order of each partition key: later records of a key wait until the
// outcome of the earlier ones is known. Without this, a PutRecords call could store the second
// record of a key and refuse the first.
//
// [ProducerOptions].BufferBytes limits the memory of records that wait. When the buffer is full,
// [Producer.PutRecord] refuses records, and [Producer.PutRecordWait] waits for room.
//
// # Outcomes
//
// Each record has one of three outcomes: stored, refused (nothing happened), or unknown
// ([braid.ErrOutcomeUnknown]: it may be stored, and the producer no longer retries it). Kinesis
// cannot put a record exactly once: when the response to an attempt is lost, the producer retries,
// and the record may be stored twice. A consumer that must not process a record twice needs an ID
// in the record, such as the one in package envelope.
//
// # Reshards
//
// The producer lists the shards when it is created, and again when Kinesis stores a record in an
// unexpected shard. A consumer drops an aggregated record whose partition key does not belong to
// the shard, and the Kinesis Client Library (KCL) drops the whole carrier. So when a carrier was
// stored in the wrong shard, the producer puts all of its records again, before any later record of
// their keys.
//
// # Forwarder: a durable outbox
//
// A [Forwarder] copies the records of a database stream, the outbox, to Kinesis through a
// [Producer]. The program puts records to the database, which needs no network; one transaction can
// contain the record and other writes. Directory examples/outbox has an example program.
//
//	f, err := awskinesis.NewForwarder(db, "outbox", producer, nil)
//	go f.Run(ctx)
//	_, err = f.PutRecord(ctx, "customer-42", data) // or any put to the stream "outbox"
//
// A Forwarder guarantees:
//
//   - Nothing is lost. The checkpoint passes a record only when Kinesis has stored it and all
//     earlier records of its outbox shard. After a crash, the records after the checkpoint are put
//     again: with strict order, up to about 1 MiB of each shard.
//   - As long as the Forwarder runs, it stores each record once, despite throttling, reshards of
//     both streams, pauses and hand-overs. The exception is an attempt whose response was lost: see
//     Outcomes.
//   - The records of a partition key arrive in order. If the order matters even after a crash, use
//     the default order and put an ID into each record: repeated records begin with one that was
//     already stored.
//   - A record that Kinesis permanently refuses is never dropped silently. OnRefused or the
//     DeadLetterStream takes it; without either, its outbox shard waits, which the status and the
//     log report.
//   - The outbox is bounded if MaxBytes or MaxAge is set. Puts beyond the bound are refused with
//     [ErrOutboxFull]; with DropOldest, the oldest records are removed and counted instead.
//
// Forwarded records stay on disk until the stream's retention removes them. Retention also removes
// records that still wait, so it must be longer than the longest network outage. A stream with
// braid.StreamOptions{Retention: -1} keeps everything.
//
// [Forwarder.App] returns the application, which can be paused, resumed and moved. A forwarder
// needs only the permissions of its producer. It makes no calls while the outbox is empty, and
// otherwise the producer's calls; AggregateBytes reduces the cost of small records. With bounds, it
// measures the outbox at most once a second while records are put, and with DropOldest once a
// second.
//
// Package capture works in the opposite direction: it records a Kinesis stream in a database, and
// replays it in tests.
//
// # Permissions
//
// A producer needs these permissions:
//
//	{
//	  "Effect": "Allow",
//	  "Action": ["kinesis:PutRecords", "kinesis:ListShards"],
//	  "Resource": "arn:aws:kinesis:REGION:ACCOUNT:stream/orders"
//	}
//
// If the stream is encrypted with a customer managed key, it also needs, for that key:
//
//	{
//	  "Effect": "Allow",
//	  "Action": "kms:GenerateDataKey",
//	  "Resource": "arn:aws:kms:REGION:ACCOUNT:key/KEY"
//	}
//
// # What it costs
//
// An idle producer makes no calls. Without aggregation, each record is one entry of a PutRecords
// call. Provisioned streams bill entries in units of 25 KB, and a shard accepts 1,000 entries per
// second. Aggregated records share an entry: about 440 records of 100 bytes fit into a carrier of
// 51,200 bytes, which is billed as two units. Each reshard costs one ListShards call, or a few if
// the listing lags behind.
//
// # The source
//
// With a [Source], the workers of package consumer process Kinesis streams as they process those of
// a database: parents before children, with checkpoints, lanes, and unpacking of KPL aggregates.
// Dead letters and a TxProcessor need a database.
//
//	source, err := awskinesis.NewSource(client, nil)
//	w, err := consumer.New(nil, &consumer.Config{
//		App: "billing", Streams: []string{"orders"}, Source: source, Leases: leases,
//	}, processor)
//
// Config.Streams has the name of each stream, or the ARN if it belongs to another account. Without
// a consumer name, a source polls: each process makes one GetRecords call at a time per shard, at
// most four per second while records arrive, and one every 1.5 s while the shard is idle. Kinesis
// allows five calls per second and 2 MiB/s per shard, shared by all applications. After throttling,
// the source backs off.
//
// With [SourceOptions].ConsumerName, a source uses enhanced fan-out. It registers the consumer, and
// subscribes to each shard whose lease a worker holds. It renews a subscription at its current
// position after four and a half minutes, and at once when the subscription breaks or falls silent.
// A worker that takes a lease also takes over the subscription. Kinesis allows this only 5 s after
// the previous subscription began, so the shard may wait that long.
//
// A source differs from a database in these points:
//
//   - Kinesis does not report that retention has removed unread records. The source suspects a gap
//     when the reader's position is older than the stream's retention. So an application that opens
//     a shard in which nothing was put for that long may get a false report of a gap. An
//     application that begins at TRIM_HORIZON gets no report of records that retention removes in
//     its first five minutes.
//   - LATEST and AT_TIMESTAMP have a resolution of one millisecond, by the service's clock. A
//     record that arrived in that millisecond may be included or not.
//   - A source never returns [braid.ErrBeyondTip]: Kinesis accepts any sequence number of the
//     shard.
//   - A GetRecords call returns up to 10 MiB, and a subscription event about 1 MiB. A reader keeps
//     these bytes in memory, in addition to [consumer.Config].MaxBytes, until it has returned them
//     in pages. The source requests only as many records as are likely to fit.
//   - BehindRecords and BehindBytes of a page are 0: Kinesis reports only by how much time a reader
//     is behind.
//
// Polling needs these permissions:
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
// Enhanced fan-out needs all of these, because App.Status and PollOnRefusal still use GetRecords
// and GetShardIterator, and in addition:
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
// If the stream is encrypted with a customer managed key, both need kms:Decrypt for that key. A
// shard stops until App.Resume if access is denied, or if the key is disabled or does not exist. If
// the key is in a transitional state, the worker retries.
//
// # What the source costs
//
// Calls per hour while nothing is put:
//
//	                    polling           enhanced fan-out
//	for each shard      2,400 GetRecords  13 SubscribeToShard
//	for each stream and process           60 ListShards, 12 DescribeStreamSummary
//
// Kinesis bills enhanced fan-out per consumer, shard and hour, and per byte delivered. GetRecords
// calls are included in the price of a shard, or of the data of an on-demand stream. A reshard
// costs each process a few ListShards calls, regardless of the number of shards.
// [consumer.Config].ShardSyncInterval sets the interval of listings, and
// [SourceOptions].IdleInterval that of polling.
//
// # Leases in DynamoDB
//
// A [LeaseStore] keeps the leases and checkpoints of package consumer in DynamoDB, in a lease table
// of the Kinesis Client Library, so that workers on several machines share the shards:
//
//	leases, err := awskinesis.NewLeaseStore(ctx, dynamodb.NewFromConfig(cfg), "billing",
//		&awskinesis.LeaseStoreOptions{Stream: "orders"})
//	worker, err := consumer.New(db, &consumer.Config{
//		App: "billing", Streams: []string{"orders"}, Leases: leases,
//	}, processor)
//
// To move an application from the KCL for Java to braid, or back, stop all workers of one before
// you start the first worker of the other. Each continues at the other's checkpoints.
// Nothing is repeated if the workers have checkpointed everything that they processed.
// [NewLeaseStore] returns [ErrForeignWorker] while a KCL worker is alive, unless the two form a
// mixed fleet. If producers aggregate, set Config.Deaggregate, because the KCL always unpacks
// aggregates. LeaseDuration must be at least the KCL's failoverTimeMillis. Config.Start has no
// effect on shards that the KCL has begun to process.
//
// When an application moves back, the KCL does not know what is paused. Nor does it know positions
// of braid that have no sequence number: it reads a shard from TRIM_HORIZON if braid has not
// processed any of its records. If a shard ended under a braid worker and no braid worker has begun
// its children, the KCL creates the children's leases in its next audit, a few minutes later.
//
// # A mixed fleet
//
// With LeaseStoreOptions.MixedFleet, workers of braid and of the KCL for Java, version 3.5, share
// an application at the same time. The worker that holds the KCL's leader lock assigns leases to
// all workers. A braid worker takes the leases that are assigned to it. When the leader requests a
// hand-over, it hands the lease over after its current batch. A braid worker that leads assigns
// leases to KCL workers in the same way, and gives all workers the same number of shards, plus or
// minus one.
//
//   - MixedFleet must be set for all braid workers, or for none. A worker without it does not start
//     beside a fleet, and a worker with it does not start beside one that is not in the fleet: both
//     get [ErrForeignWorker].
//   - LeaseDuration must be the KCL's failoverTimeMillis, and at most a minute.
//   - The KCL's client version must be 3X, its default, and all of its rows must be in the lease
//     table, as they are for applications that began with 3.5. [NewLeaseStore] refuses others. The
//     KCL's workerMetricsReporterFreqInMillis must be at least 15 s; its default is 30 s.
//   - Config.WorkerID is the key of a row in the lease table, so it must not be the ID of a shard.
//   - A KCL leader compares workers by their CPU utilization if they report it, as KCL workers do by
//     default on EC2, ECS and EKS. Braid workers then report an estimate: the utilization per byte of
//     all KCL workers that report it, times the bytes per second of the braid worker's shards, and at
//     most the KCL's limit. So a braid worker gets as many bytes per second as an average KCL worker,
//     even if its own machine is larger, smaller or busy. The same holds for other measurements that
//     KCL workers report, such as memory. If they report none, a KCL leader compares all workers by
//     the bytes per second of their shards.
//   - When a worker dies, its shards are assigned to others after two to three LeaseDurations if a
//     braid worker leads, and after up to a minute plus two assignment intervals if a KCL worker
//     leads. A braid leader that dies is replaced after four to six LeaseDurations, and one that
//     stops, within two. Workers that stop give their leases back.
//   - KCL workers ignore pauses: they process a paused shard once it is assigned to them. They also
//     read a shard from TRIM_HORIZON if none of its records were processed and its position has no
//     sequence number. So if an application is to begin at LATEST, let the KCL start it.
//   - Like the KCL, a worker deletes the lease of a shard that has ended. It renews the lease until
//     five minutes after the shard's children have begun.
//
// A store needs these permissions:
//
//	{
//	  "Effect": "Allow",
//	  "Action": [
//	    "dynamodb:DescribeTable", "dynamodb:CreateTable", "dynamodb:UpdateTable", "dynamodb:TagResource",
//	    "dynamodb:UpdateContinuousBackups", "dynamodb:Scan", "dynamodb:Query", "dynamodb:GetItem",
//	    "dynamodb:UpdateItem", "dynamodb:DeleteItem"
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
// Here billing is the application. CreateTable, TagResource and UpdateContinuousBackups are needed
// only to create tables, and UpdateTable only to create the index. The last two tables belong to
// older versions of the KCL and are only read: WorkerMetricStats without MixedFleet,
// CoordinatorState with it. [LeaseStore] describes the cost.
package awskinesis

// Package awskinesis is braid on Amazon Kinesis, DynamoDB and KMS, for the day that one machine
// is not enough. The methods of a [Producer] are those of a [braid.Stream], and mean the same; a
// [Source] and a [LeaseStore] have the same workers process the records; a [Forwarder] makes a
// stream of a database a durable outbox of Kinesis; and [KMS] keeps keys.
//
//	client := kinesis.NewFromConfig(cfg) // of the AWS SDK for Go v2
//	p, err := awskinesis.NewProducer(ctx, client, "orders", nil)
//	defer p.Close(ctx)
//	result, err := p.PutRecord(ctx, "customer-42", data) // returns when Kinesis has stored it
//
// Directory examples/grow is one program for a directory and for Kinesis.
//
// # What a producer does
//
// It collects the records of all callers into PutRecords calls of up to 500 entries and 5 MiB.
// With [ProducerOptions].AggregateBytes it also packs records of one shard into one, as the
// Kinesis Producer Library does; package kpl says how. It keeps to the budget of each shard,
// tries again what was throttled or failed, and keeps the order of each partition key
// meanwhile: later records of a key wait until the outcome of the earlier ones is known. For
// a call of PutRecords may store the second record of a key and refuse the first.
//
// Records that wait take memory, which [ProducerOptions].BufferBytes bounds: then
// [Producer.PutRecord] refuses, and [Producer.PutRecordWait] waits.
//
// # Outcomes
//
// Each record has one of three: stored, refused (nothing happened), or unknown
// ([braid.ErrOutcomeUnknown]: it may be stored, and no attempt follows). Kinesis has no way to
// put a record exactly once: an attempt whose answer was lost is made again, and then the
// record may be there twice. A consumer that must not process it twice needs an id of the
// record, such as the one in package envelope.
//
// # Reshards
//
// The producer lists the shards when it is made, and again when a record comes to a shard that
// it does not expect. A consumer drops aggregated records that are foreign to the shard in
// which it finds them, and the KCL drops all that were packed with them. So the records of a
// carrier that came to the wrong shard are put again, all of them, before any later record of
// their keys.
//
// # Forwarder: a durable outbox
//
// A [Forwarder] puts the records of a stream of a database to Kinesis by a [Producer]. The
// program puts to the database, which needs no network, and one transaction can have the
// record and other writes. Directory examples/outbox is a program.
//
//	f, err := awskinesis.NewForwarder(db, "outbox", producer, nil)
//	go f.Run(ctx)
//	_, err = f.PutRecord(ctx, "customer-42", data) // or any put to the stream "outbox"
//
// What it promises:
//
//   - Nothing is lost: a checkpoint passes a record when Kinesis has stored it, and all before
//     it in its shard of the outbox. After a crash, what lies behind the checkpoint is put again:
//     with strict order up to about 1 MiB of each shard.
//   - As long as the Forwarder runs it puts each record once, through throttling, reshards of
//     both streams, pauses and hand-overs; but for attempts whose answer was lost, as said above.
//   - The records of a key come in order. Where it matters after a crash, too, use the
//     default order and an id: what is repeated begins with a record that was there before.
//   - A record that Kinesis refuses for good is never dropped silently: a hook or a dead-letter
//     stream takes it, or its shard of the outbox waits, and status and log say so.
//   - The outbox is bounded, if MaxBytes or MaxAge is set: puts are refused with
//     [ErrOutboxFull], or with DropOldest the oldest records are removed and counted.
//
// The disk also has what was forwarded, until the stream's retention removes it. Retention
// removes what still waits as well: it must be longer than the longest time without a link.
// A stream with braid.StreamOptions{Retention: -1} keeps everything.
//
// [Forwarder.App] pauses, resumes and moves it. A forwarder needs the permissions of its
// producer and no others. It makes no calls at rest, and for each record what the producer
// makes: for small records, AggregateBytes divides the cost. With bounds it looks at
// the outbox once in a second in which it is put to, and with DropOldest once a second.
//
// Package capture goes the other way: it records a stream of Kinesis in a database, and
// replays it in tests.
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
// and where the stream is encrypted with a key of its own, for that key,
//
//	{
//	  "Effect": "Allow",
//	  "Action": "kms:GenerateDataKey",
//	  "Resource": "arn:aws:kms:REGION:ACCOUNT:key/KEY"
//	}
//
// # What it costs
//
// At rest a producer makes no calls. A record by itself is one entry of a PutRecords call,
// which provisioned streams bill in units of 25 KB, and a shard takes 1,000 of them in a
// second. Aggregated records share an entry: of records of 100 bytes about 440 fit into a
// carrier of 51,200 bytes, which is two units. Each reshard costs one ListShards call, or
// some while the listing is out of date.
//
// # The source
//
// A [Source] has workers of package consumer process streams of Kinesis, with everything that
// they do for a database's streams: parents before children, checkpoints, lanes, and records of
// the KPL taken apart. Dead letters and a TxProcessor need a database.
//
//	source, err := awskinesis.NewSource(client, nil)
//	w, err := consumer.New(nil, &consumer.Config{
//		App: "billing", Streams: []string{"orders"}, Source: source, Leases: leases,
//	}, processor)
//
// Streams are named by name, or by ARN for those of other accounts. Without a consumer name it
// polls: one GetRecords call at a time for each shard and process, four in a second at most
// while records come, and one every 1.5 s while none do. Kinesis allows five in a second and
// 2 MiB/s for each shard, to all applications together. After throttling the source backs off.
//
// With [SourceOptions].ConsumerName it uses enhanced fan-out. It registers the consumer, and
// subscribes to each shard whose lease a worker has. A subscription is renewed after four and
// a half minutes, where it was, and at once when it breaks or falls silent. A worker that takes
// a lease takes the subscription over as well, which Kinesis allows 5 s after the last one
// began: until then the shard waits.
//
// What differs from a database:
//
//   - Kinesis does not say that retention has removed records before they were read. A gap
//     is suspected where a place is older than the stream's retention. An application that
//     opens a shard in which nothing was put for as long is told of a gap that there need not
//     be. One that begins at TRIM_HORIZON is not told of what is removed in the five minutes
//     in which it begins.
//   - LATEST and AT_TIMESTAMP are times to the millisecond, by the service's clock. A record
//     of the same millisecond may be on either side.
//   - [braid.ErrBeyondTip] does not happen: Kinesis takes any number of the shard.
//   - A GetRecords call brings up to 10 MiB, and an event of a subscription about 1 MiB, that
//     a reader keeps beside [consumer.Config].MaxBytes until its pages have had them. The
//     source asks for as many records as are likely to fit.
//   - BehindRecords and BehindBytes of a page are 0: Kinesis tells how far behind a reader is
//     as a time alone.
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
// and enhanced fan-out besides, where GetRecords and GetShardIterator are still what
// App.Status and PollOnRefusal use,
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
// and where the stream is encrypted with a key of its own, kms:Decrypt for that key. A denied
// access and a key that is disabled or not there stop the shard until App.Resume; a key that
// is in a state between two others is tried again.
//
// # What the source costs
//
// Calls in an hour in which nothing is put:
//
//	                    polling           enhanced fan-out
//	for each shard      2,400 GetRecords  13 SubscribeToShard
//	for each stream and process           60 ListShards, 12 DescribeStreamSummary
//
// Kinesis bills enhanced fan-out for each consumer, shard and hour, and for the data that it
// brings; GetRecords calls are part of the price of a shard, or of the data of an on-demand
// stream. A reshard costs each process a few ListShards calls, however many shards it has.
// [consumer.Config].ShardSyncInterval sets the pace of listings, [SourceOptions].IdleInterval
// that of polling.
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
// An application of the KCL for Java moves to braid by stopping all workers of the one before the
// first of the other starts, and back the same way: each goes on at the checkpoints of the other.
// A worker that has checkpointed all that it had processed repeats nothing. [NewLeaseStore] refuses
// to start while a worker of the KCL lives. Config.Deaggregate must be set where producers
// aggregate, as the KCL always takes records apart; LeaseDuration is at least the KCL's
// failoverTimeMillis; and Config.Start has no effect on shards with which the KCL has begun.
//
// On the way back the KCL does not know what is paused, nor braid's sources' places that have no
// number: of a shard of which nothing was processed yet, it begins at TRIM_HORIZON then. It creates
// the leases of children whose parents ended at a worker of braid's with its next audit, after some
// minutes, if no worker of braid's had begun with them.
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
//	    "arn:aws:dynamodb:REGION:ACCOUNT:table/billing-WorkerMetricStats"
//	  ]
//	}
//
// where billing is the application. CreateTable, TagResource and UpdateContinuousBackups are for
// tables that it has to make, UpdateTable for an index. The last table is the KCL's, and is only
// scanned. What all that costs is said of [LeaseStore].
package awskinesis

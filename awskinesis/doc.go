// Package awskinesis is braid's producer, leases and keys on Amazon Kinesis, DynamoDB and KMS, for
// the day that one machine is not enough: the methods of a [Producer] are those of a
// [braid.Stream], and mean the same.
//
//	client := kinesis.NewFromConfig(cfg) // of the AWS SDK for Go v2
//	p, err := awskinesis.NewProducer(ctx, client, "orders", nil)
//	defer p.Close(ctx)
//	result, err := p.PutRecord(ctx, "customer-42", data) // returns when Kinesis has stored it
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
// # Leases in DynamoDB
//
// A [LeaseStore] keeps the leases and checkpoints of package consumer in DynamoDB, in the table of
// the Kinesis Client Library, so that workers on several machines share the shards:
//
//	leases, err := awskinesis.NewLeaseStore(ctx, dynamodb.NewFromConfig(cfg), "billing", &awskinesis.LeaseStoreOptions{Stream: "orders"})
//	worker, err := consumer.New(db, &consumer.Config{App: "billing", Streams: []string{"orders"}, Leases: leases}, processor)
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

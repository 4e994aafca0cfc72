// Package awskinesis is braid's producer and keys on Amazon Kinesis and KMS, for the day that
// one machine is not enough: the methods of a [Producer] are those of a [braid.Stream], and
// mean the same.
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
package awskinesis

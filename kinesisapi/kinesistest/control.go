package kinesistest

import (
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/service"
	"github.com/braidstream/braid/queue"
)

// The methods in this file do to the streams what a test wants to be the case. They
// are no calls of the service: they meet no faults, and are not recorded.

// Record is a record of a stream.
type Record struct {
	Shard          string // such as "shardId-000000000000"
	SequenceNumber string
	PartitionKey   string // empty if the producer gave none
	Data           string
	ArrivalTime    time.Time
}

func (k *Kit) stream(name string) *braid.Stream {
	k.t.Helper()
	s, err := k.DB().Stream(name)
	k.must(err, "stream %q", name)
	return s
}

// Put puts a record for each data, all under one partition key, in this order.
func (k *Kit) Put(stream, partitionKey string, data ...string) {
	k.t.Helper()
	entries := make([]braid.Entry, len(data))
	for i := range data {
		entries[i] = braid.Entry{PartitionKey: partitionKey, Data: []byte(data[i])}
	}
	if len(entries) > 0 {
		_, err := k.stream(stream).PutRecordsWait(always, entries)
		k.must(err, "put to %s", stream)
	}
}

// Records returns all records that the stream holds now, in the order of their
// arrival, over all shards, closed ones too.
func (k *Kit) Records(stream string) []Record {
	k.t.Helper()
	all, err := recordsOf(k.stream(stream))
	k.must(err, "read %s", stream)
	return all
}

// recordsOf returns what the stream holds, up to the first error.
func recordsOf(s *braid.Stream) (all []Record, err error) {
	for rec, err := range s.Records(always, braid.TrimHorizon()) {
		if err != nil {
			return all, err
		}
		all = append(all, recordOf(&rec))
	}
	return all, nil
}

func recordOf(rec *braid.Record) Record {
	return Record{
		Shard:          string(rec.ShardID),
		SequenceNumber: rec.SequenceNumber.String(),
		PartitionKey:   service.PartitionKey(rec.PartitionKey),
		Data:           string(rec.Data),
		ArrivalTime:    rec.ArrivalTime,
	}
}

// Queue creates a queue of an on-demand stream, see [OnDemand], and returns its ARN. It is
// ACTIVE, begins with the oldest record of the stream, and has the attributes that queues have
// by default, unless a function changes them:
//
//	arn := k.Queue("mail", "orders", func(o *queue.Options) { o.MaxReceives = 2 })
//
// For all else that a test wants to do to it there is [queue.Get], with the name and
// [Kit.DB].
func (k *Kit) Queue(name, stream string, change ...func(*queue.Options)) (arn string) {
	k.t.Helper()
	k.DB() // it is open
	arn, q, err := k.life().service.AddQueue(always, k.caller(), name, stream)
	k.must(err, "make queue %q", name)
	for _, fn := range change {
		k.must(q.Update(always, fn), "change queue %q", name)
	}
	return arn
}

// Split splits a shard in the middle, and returns its children. The shard's id may be
// short, such as "0".
func (k *Kit) Split(stream, shard string) (lower, upper string) {
	k.t.Helper()
	l, u, err := k.stream(stream).SplitShard(always, k.shard(stream, shard), nil)
	k.must(err, "split shard %s of %s", shard, stream)
	return string(l.ID()), string(u.ID())
}

// Merge merges two neighbouring shards, and returns the child.
func (k *Kit) Merge(stream, shard, adjacent string) (merged string) {
	k.t.Helper()
	m, err := k.stream(stream).MergeShards(always, k.shard(stream, shard), k.shard(stream, adjacent))
	k.must(err, "merge shards %s and %s of %s", shard, adjacent, stream)
	return string(m.ID())
}

func (k *Kit) shard(stream, id string) braid.ShardID {
	k.t.Helper()
	sh, err := k.stream(stream).Shard(braid.ShardID(id))
	k.must(err, "shard %q of %s", id, stream)
	return sh.ID()
}

// Trim removes all records that the stream holds now, as if they had expired.
func (k *Kit) Trim(stream string) {
	k.t.Helper()
	k.must(k.stream(stream).Trim(always, braid.Latest()), "trim %s", stream)
}

// ExpireIterators makes all shard iterators expire that were issued so far, as they do
// after five minutes: GetRecords answers ExpiredIteratorException.
func (k *Kit) ExpireIterators() {
	k.t.Helper()
	k.DB() // it is open
	k.life().service.ExpireIterators()
	k.expired++
}

// ExactLimits says whether the limits of Kinesis hold from now on: throughput of
// shards, quotas of the account, how often an operation can be called. Without them
// there are none but the sizes of requests.
func (k *Kit) ExactLimits(exact bool) {
	k.t.Helper()
	k.DB() // it is open
	k.must(k.life().service.SetExactLimits(always, exact), "change the limits")
	k.exact = exact
}

// Crash is a power cut, after which the service is back with what was durable. Calls
// that are under way break off, so that their callers do not know what came of them;
// the SDK tries them again. Subscriptions end. Iterators stay good, and the clients
// and the scripted faults of the kit stay.
//
// By default that is everything that was acknowledged; see [Options].Durability.
// Goroutines that use [Kit.DB] itself must have stopped: what they are acknowledged
// during Crash may be lost.
func (k *Kit) Crash() {
	k.t.Helper()
	k.DB() // it is open
	// What is acknowledged is on the disk before it is, and nobody is told anything
	// after cutOff. So the disk is looked at after that.
	l := k.cutOff()
	k.disk = k.disk.PowerCut()
	k.must(l.end(), "close the database")
	k.turnOn()
}

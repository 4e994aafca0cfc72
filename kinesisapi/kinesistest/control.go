package kinesistest

import (
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/service"
	"github.com/braidstream/braid/queue"
)

// The methods in this file change the streams directly. They are not calls of the service:
// faults do not apply to them, and [Kit.Calls] does not return them.

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

// Put puts one record for each data, all under one partition key, in the given order.
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

// Records returns all current records of the stream, in the order of their arrival, from
// all shards including closed ones.
func (k *Kit) Records(stream string) []Record {
	k.t.Helper()
	all, err := recordsOf(k.stream(stream))
	k.must(err, "read %s", stream)
	return all
}

// recordsOf returns the stream's records, up to the first error.
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

// Queue creates a queue of an on-demand stream, see [OnDemand], and returns its ARN. The
// queue is ACTIVE, begins with the oldest record of the stream, and has the default
// attributes unless change modifies them:
//
//	arn := k.Queue("mail", "orders", func(o *queue.Options) { o.MaxReceives = 2 })
//
// For everything else, use [queue.Get] with [Kit.DB] and the name.
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

// Merge merges two adjacent shards, and returns the child.
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

// Trim removes all current records of the stream, as if they had expired.
func (k *Kit) Trim(stream string) {
	k.t.Helper()
	k.must(k.stream(stream).Trim(always, braid.Latest()), "trim %s", stream)
}

// ExpireIterators expires all shard iterators issued so far, as if five minutes had passed:
// GetRecords answers ExpiredIteratorException.
func (k *Kit) ExpireIterators() {
	k.t.Helper()
	k.DB() // it is open
	k.life().service.ExpireIterators()
	k.expired++
}

// ExactLimits turns the limits of Kinesis on or off from now on: throughput of shards,
// quotas of the account, and rates of operations. Without them only the sizes of requests
// are limited.
func (k *Kit) ExactLimits(exact bool) {
	k.t.Helper()
	k.DB() // it is open
	k.must(k.life().service.SetExactLimits(always, exact), "change the limits")
	k.exact = exact
}

// Crash simulates a power loss, after which the service runs again with the durable data.
// Current calls break off, so their callers do not know the outcome; the SDK retries them.
// Subscriptions end. Iterators, clients and pending faults of the kit remain valid.
//
// By default every acknowledged write is durable; see [Options].Durability. Stop all
// goroutines that use [Kit.DB] directly before the call: writes acknowledged to them during
// Crash may be lost.
func (k *Kit) Crash() {
	k.t.Helper()
	k.DB() // it is open
	// A write is on the disk before it is acknowledged, and nothing is acknowledged after
	// cutOff. So the state of the disk is taken after cutOff.
	l := k.cutOff()
	k.disk = k.disk.PowerCut()
	k.must(l.end(), "close the database")
	k.turnOn()
}

// Package queue hands out the records of a stream one by one to any number of consumers,
// without shards or leases. Each record goes to one consumer at a time, until it is
// acknowledged. It corresponds to the queues of Kinesis.
//
//	q, err := queue.Open(ctx, db, "mails", &queue.Options{Stream: "orders"})
//	err = q.Work(ctx, func(ctx context.Context, r queue.Record) error {
//		return send(ctx, r.Data)
//	}, &queue.WorkOptions{Concurrency: 16})
//
// # Queue or consumer
//
// Both read a stream, and neither removes records from it. Package consumer processes
// each shard in order, with one goroutine and one checkpoint. It is cheaper, since a
// checkpoint covers any number of records. Use it for work that depends on order or on
// neighboring records: projections, sums, joins. A record that fails holds up all records
// that follow it in its shard, or is skipped.
//
// A queue tracks each record separately. A slow or failing record holds up no other
// record, any number of workers share the work regardless of the number of shards, and a
// record that fails is retried later and finally set aside. Use it for tasks: sending
// mails, calling other services, transcoding. It costs a row for each record in flight.
// Records are not ordered, unless [Options].OrderByKey orders those of each partition
// key.
//
// A stream may have any number of queues and consumers, which are independent of each other.
//
// # The life of a record
//
//	new ──receive──▶ in flight ──Ack──▶ settled
//	                   │    ▲
//	  timeout, Release │    │ receive
//	                   ▼    │
//	                  visible ──MaxReceives──▶ dead ──Discard──▶ settled
//	                   ▲                        │
//	                   └───────Restore──────────┘
//
// A received record is hidden from other receivers for its visibility timeout. If it is
// not acknowledged by then, or is released, it is visible again: each record is received
// at least once. After Options.MaxReceives deliveries it becomes a dead letter, which
// [Queue.DeadLetters] returns until it is discarded or restored.
//
// Each delivery has a [Receipt]. The newest receipt of a record acknowledges it, however late. All
// earlier ones are refused and change nothing. So a worker that was suspended for too long cannot
// settle a record that another worker has received since.
//
// The queue does not hold up retention: a record that expires leaves the queue, settled
// or not, and [Queue.Describe] counts it.
//
// # Effects exactly once
//
// [Queue.AckTx] and [Queue.WorkTx] acknowledge records in the application's own
// transaction, together with its writes and the records that it puts to other streams.
// Either all of this happens or nothing, and at most once for each record. Effects
// elsewhere happen at least once; [Record].ID is a key by which the other side can
// recognize duplicates.
//
// # Records that crash the process
//
// A record may make its worker run out of memory or exit, which also ends a queue in the same
// process. Therefore each delivery is counted durably before it happens. A crash thus counts as a
// failed delivery of every record in flight, not only of the one that caused it. To keep the other
// records from becoming dead letters, a record that is received for the third time comes in a
// smaller batch, and for the last time alone. If a worker had it in flight when its process ended
// unexpectedly, no other record of the queue is in flight during that last delivery. The same holds
// for records of Receive, unless the database was opened and closed since. With MaxReceives 1 there
// is no second delivery, so a crash makes all records in flight dead letters.
//
// # Cost
//
// The queue stores a row of about 60 bytes for each record that is in flight, waits for another
// attempt, or is dead. It also stores a row for each shard, with the position up to which its
// records were received. When a timeout passes, the record becomes visible again, or dead, without
// a write. After the first use of the queue, its unsettled records are kept in memory, about 250
// bytes each. A backlog of new records takes neither rows nor memory. An unused queue costs only
// the row of its settings.
//
// Receives and acknowledgements of all goroutines share commits, and thus fsyncs, with
// each other and with all other writes. [Queue.Work] acknowledges with its next receive, in
// one commit. [Queue.Exchange] does the same for an application's own loop.
package queue

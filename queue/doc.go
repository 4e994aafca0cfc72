// Package queue hands the records of a stream out one by one, to any number of consumers
// without shards or leases: each record to one of them at a time, until it is acknowledged.
// It is what queues are to Kinesis.
//
//	q, err := queue.Open(ctx, db, "mails", &queue.Options{Stream: "orders"})
//	err = q.Work(ctx, func(ctx context.Context, r queue.Record) error {
//		return send(ctx, r.Data)
//	}, &queue.WorkOptions{Concurrency: 16})
//
// # When a queue, when a consumer
//
// Both read a stream, which keeps its records whatever they do. Package consumer processes
// shards: in order, one goroutine for each shard, with one checkpoint that says how far. It
// is cheaper, since a checkpoint covers any number of records, and it is for what depends on
// order or on neighbors: projections, sums, joins. One record that fails holds up all that
// follow it in its shard, or is skipped.
//
// A queue tracks each record by itself. A slow or failing record holds up no other, any
// number of workers share the work however few shards there are, and what fails is tried
// again later and then set aside. It is for tasks: sending mails, calling other services,
// transcoding. It costs a row for each record in flight, and there is no order, unless
// [Options].OrderByKey asks for that of each partition key.
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
// A record that was received is hidden from other receivers for its visibility timeout. If
// it is not acknowledged by then, or is released, it is visible again: each record is
// received at least once. After Options.MaxReceives deliveries it is a dead letter, which
// [Queue.DeadLetters] has, until somebody discards or restores it.
//
// Each delivery has a [Receipt]. The newest one of a record acknowledges it, however late;
// all earlier ones are refused, and change nothing. So a worker that was away for too long
// cannot settle what another one works on.
//
// The queue does not hold up retention: a record that expires leaves the queue, settled or
// not, and [Queue.Describe] counts it.
//
// # Effects exactly once
//
// [Queue.AckTx] and [Queue.WorkTx] acknowledge records in the application's own transaction:
// with keys that it writes, and records that it puts to other streams. Either all of that
// happens or nothing, and at most once for each record. Effects elsewhere happen at least
// once; [Record].ID is a key by which the other side can recognize duplicates.
//
// # Records that end the process
//
// A record may make its worker run out of memory, or exit. A queue in the same process
// ends with it. That is why each delivery is counted durably before it happens. Records that
// were in flight beside it are counted as well. To keep them from becoming dead letters with
// it, a record that comes for the third time comes in a smaller
// batch, and for its last time alone; after a process has ended unexpectedly, nothing else of
// the queue is then in flight. With MaxReceives 1 there is no second time to find out.
//
// # Cost
//
// Only what is not settled is stored: a row of about 60 bytes for each record that is in
// flight, waits for another attempt, or is dead, and one for each shard that says up to
// where records were received. That a record is visible again, or dead, is a matter of time
// and writes nothing. Rows that are not settled are in memory, about 250 bytes each, from
// the first use of the queue on; a backlog of new records is not. A queue that is not used
// costs the row of its settings.
//
// Receives and acknowledgements of all goroutines share commits, and so fsyncs, with each
// other and with everything else that is written. [Queue.Work] acknowledges with its next
// receive, in one commit, and [Queue.Exchange] does so for loops of the application's own.
package queue

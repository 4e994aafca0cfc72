package main

import (
	"context"
	"sync/atomic"
)

// settings are the requirements of a workload.
type settings struct {
	durable bool // a put returns when the record is on disk
	shards  int  // independently ordered logs; 1 for one log
	callers int  // the number of producers, for systems that can use it
	batches bool // puts come in batches
	apart   bool // a batch may be stored in parts, if that is faster
	secret  bool // records are encrypted; for braid only
	disk    disk

	queue bool          // records are received and acknowledged one by one, and may be deleted then
	syncs *atomic.Int64 // counts the syncs of files, if it is not nil; for braid only
}

// system is one of the compared systems.
type system struct {
	name string

	// open opens the system in a directory, which it creates if necessary.
	open func(dir string, s settings) (store, error)

	// durableOnly marks a system that cannot do without fsync.
	durableOnly bool
}

// store is an open system.
type store interface {
	// producer returns the n-th producer. It belongs to one goroutine.
	producer(n int) (producer, error)

	// close ends everything, including readers, and returns when all have ended.
	close() error
}

// producer puts records, spreading them evenly over the shards.
type producer interface {
	put(value []byte) error

	// putBatch puts all values with one commit, or as close to that as the system gets.
	putBatch(values [][]byte) error
}

// trimmer is a store that can drop its oldest records.
type trimmer interface {
	mark() uint64 // the position after everything put so far
	trim(before uint64) error
}

// allShards, as a shard, is the whole stream.
const allShards = -1

// scanner is a store that can be read from its beginning to its end.
type scanner interface {
	// scan reads the records of a shard, or of all, and returns their number and the sum of
	// their sizes.
	scan(shard int) (records, bytes int64, err error)
}

// follower is a store that notifies readers of new records.
type follower interface {
	// follow calls fn for each record that is put to the shard from now on, on
	// one goroutine, until the store is closed.
	follow(shard int, fn func(value []byte)) error
}

// consumerStore is a store with consumers that store their position.
type consumerStore interface {
	// consume starts one consumer of all shards, from the first record on, until the store is
	// closed. Each goroutine that processes records calls reader once, and then the returned
	// function for each record. With each, the consumer checkpoints every record; otherwise it
	// checkpoints when that is best.
	consume(each bool, reader func() func(value []byte)) error
}

// queueStore is a store that delivers its records one by one, each to one receiver at a time,
// until they are acknowledged. It was opened with settings.queue.
type queueStore interface {
	// receiver returns the n-th consumer. It belongs to one goroutine.
	receiver(n int) (receiver, error)
}

// receiver is a consumer of a queue.
type receiver interface {
	// receive waits for records, hides up to n of them from other receivers, calls fn with each
	// and returns their number.
	receive(ctx context.Context, n int, fn func(value []byte)) (int, error)

	// acknowledge settles all records of the last receive.
	acknowledge(ctx context.Context) error
}

// The systems. All others are compared with raw Pebble.
var (
	braidSystem     = system{name: "braid", open: openBraid}
	pebbleSystem    = system{name: "pebble", open: openPebble}
	jetstreamSystem = system{name: "jetstream", open: openJetStream}
	tidwallSystem   = system{name: "tidwall/wal", open: openTidwall}
	raftWALSystem   = system{name: "raft-wal", open: openRaftWAL, durableOnly: true}
	bboltSystem     = system{name: "bbolt", open: openBbolt}

	// secretSystem is braid with a stream that is encrypted.
	secretSystem = system{name: "braid, encrypted", open: openSecret}

	// borrowSystem is braid with readers that borrow data for one turn of the loop, like those
	// of raw Pebble.
	borrowSystem = system{name: "braid, borrowed", open: openBorrowing}

	allSystems = []system{braidSystem, pebbleSystem, jetstreamSystem, tidwallSystem, raftWALSystem, bboltSystem}
)

// systemsFor returns the systems that support the durability.
func systemsFor(durable bool) []system {
	var found []system
	for _, s := range allSystems {
		if durable || !s.durableOnly {
			found = append(found, s)
		}
	}
	return found
}

package main

import (
	"context"
	"sync/atomic"
)

// settings are what a workload asks of a system.
type settings struct {
	durable bool // a put returns when the record is on disk
	shards  int  // logs that are ordered by themselves; 1 for one log
	callers int  // how many producers there will be, for systems that can use that
	batches bool // puts come in batches
	apart   bool // a batch need not be stored as one, if that is faster
	secret  bool // records are encrypted; for braid only
	disk    disk

	queue bool          // records are received and acknowledged one by one, and may be gone then
	syncs *atomic.Int64 // counts the syncs of files, if it is not nil; for braid only
}

// system is one of those that are compared.
type system struct {
	name string

	// open opens the system in a directory, which is created if need be.
	open func(dir string, s settings) (store, error)

	// durableOnly marks a system that cannot do without fsync.
	durableOnly bool
}

// store is a system that is open.
type store interface {
	// producer returns what the n-th producer uses. It belongs to one goroutine.
	producer(n int) (producer, error)

	// close ends everything, readers too, and returns when it has ended.
	close() error
}

// producer puts records, spreading them evenly over the shards.
type producer interface {
	put(value []byte) error

	// putBatch puts all values with one commit, or as near as the system comes.
	putBatch(values [][]byte) error
}

// trimmer is a store that can drop its oldest records.
type trimmer interface {
	mark() uint64 // the place after everything that was put so far
	trim(before uint64) error
}

// allShards, as a shard, is the whole stream.
const allShards = -1

// scanner is a store that can be read from its beginning to its end.
type scanner interface {
	// scan reads the records of a shard, or of all, and returns how many they
	// are and the sum of their sizes.
	scan(shard int) (records, bytes int64, err error)
}

// follower is a store whose readers are told of new records.
type follower interface {
	// follow calls fn for each record that is put to the shard from now on, on
	// one goroutine, until the store is closed.
	follow(shard int, fn func(value []byte)) error
}

// consumerStore is a store with consumers that store how far they are.
type consumerStore interface {
	// consume starts one consumer of all shards, from the first record on, until the
	// store is closed. It calls what reader returns for each record, on one goroutine;
	// reader is called for each part of the records that has a goroutine of its own.
	// The consumer checkpoints each record by itself, or else when that is best.
	consume(each bool, reader func() func(value []byte)) error
}

// queueStore is a store that hands out its records one by one, each to one receiver at a
// time, until they are acknowledged. It was opened with settings.queue.
type queueStore interface {
	// receiver returns what the n-th consumer uses. It belongs to one goroutine.
	receiver(n int) (receiver, error)
}

// receiver is a consumer of a queue.
type receiver interface {
	// receive waits for records, hides up to n of them from the others, calls fn with each
	// and returns how many there were.
	receive(ctx context.Context, n int, fn func(value []byte)) (int, error)

	// acknowledge settles all records of the last receive.
	acknowledge(ctx context.Context) error
}

// The systems. Raw Pebble is what all others are compared with.
var (
	braidSystem     = system{name: "braid", open: openBraid}
	pebbleSystem    = system{name: "pebble", open: openPebble}
	jetstreamSystem = system{name: "jetstream", open: openJetStream}
	tidwallSystem   = system{name: "tidwall/wal", open: openTidwall}
	raftWALSystem   = system{name: "raft-wal", open: openRaftWAL, durableOnly: true}
	bboltSystem     = system{name: "bbolt", open: openBbolt}

	// secretSystem is braid with a stream that is encrypted.
	secretSystem = system{name: "braid, encrypted", open: openSecret}

	// borrowSystem is braid with readers that keep no data beyond their turn, as those of
	// raw Pebble.
	borrowSystem = system{name: "braid, borrowed", open: openBorrowing}

	allSystems = []system{braidSystem, pebbleSystem, jetstreamSystem, tidwallSystem, raftWALSystem, bboltSystem}
)

// systemsFor returns those that can be as durable, or as careless, as asked.
func systemsFor(durable bool) []system {
	var found []system
	for _, s := range allSystems {
		if durable || !s.durableOnly {
			found = append(found, s)
		}
	}
	return found
}

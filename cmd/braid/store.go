package main

import (
	"context"
	"iter"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/queue"
)

// store is what the verbs work on: a database that this process has open, or a live
// program. Errors are those of package braid, consumer and queue, or match them.
type store interface {
	// Streams describes all streams, by name.
	Streams(ctx context.Context) ([]braid.StreamDescription, error)

	// Stream describes one.
	Stream(ctx context.Context, name string) (braid.StreamDescription, error)

	// Records yields the records of a shard from a position on, or with an empty shard
	// those of all in the order of their arrival. It ends at the tip, or with follow
	// when ctx does. With follow the position must be one that stays, which Latest is not:
	// a live program that was started again is asked for it again. An error is yielded
	// once, last.
	Records(ctx context.Context, stream string, shard braid.ShardID, from braid.Position, follow bool) iter.Seq2[braid.Record, error]

	// Count returns how many records a shard has from a position on.
	Count(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (int64, error)

	// Create creates a stream, and Delete deletes one.
	Create(ctx context.Context, stream string, options *braid.StreamOptions) error
	Delete(ctx context.Context, stream string) error

	// Put appends records, waiting where the capacity of the stream has none left: all
	// entries are stored, or there is an error.
	Put(ctx context.Context, stream string, entries []braid.Entry) ([]braid.PutResult, error)

	// Apps returns the names of the applications, sorted, and App the status of one.
	Apps(ctx context.Context) ([]string, error)
	App(ctx context.Context, name string) (consumer.Status, error)

	// Seek, Pause and Resume are those of consumer.App.
	Seek(ctx context.Context, app string, key consumer.LeaseKey, to braid.Position) error
	Pause(ctx context.Context, app string, key consumer.LeaseKey) error
	Resume(ctx context.Context, app string, key consumer.LeaseKey) error

	// Split, Merge, Scale, SetRetention, SetRetentionBytes and Trim are those of
	// braid.Stream.
	Split(ctx context.Context, stream string, shard braid.ShardID, at *braid.HashKey) error
	Merge(ctx context.Context, stream string, shard, adjacent braid.ShardID) error
	Scale(ctx context.Context, stream string, shards int) error
	SetRetention(ctx context.Context, stream string, period time.Duration) error
	SetRetentionBytes(ctx context.Context, stream string, bytes int64) error
	Trim(ctx context.Context, stream string, before braid.Position) error

	// Queues describes all queues, in the order in which they were created.
	Queues(ctx context.Context) ([]queue.Description, error)

	// Queue describes one.
	Queue(ctx context.Context, name string) (queue.Description, error)

	// DeadLetters returns the oldest dead letters of a queue, up to limit of 1 to 1,000.
	// Without their data, keys that are encrypted may be missing, too.
	DeadLetters(ctx context.Context, name string, limit int, withData bool) ([]queue.Record, error)

	// Restore, RestoreAll and Discard are those of queue.DeadLetters, for up to 1,000 receipts.
	Restore(ctx context.Context, name string, receipts []queue.Receipt) error
	RestoreAll(ctx context.Context, name string) (int, error)
	Discard(ctx context.Context, name string, receipts []queue.Receipt) error

	// Close gives up what the store holds. It is called once, last.
	Close() error
}

// access is what a verb wants of a store.
type access int

const (
	reads   access = iota // changes nothing
	writes                // changes what is there
	creates               // may also make the database
)

// target says where the store is.
type target struct {
	dir, url string
	keys     string   // path of a key ring; empty: none
	headers  []string // of each request to url, such as "Name: value"

	// warn is told what a user should know while a verb goes on.
	warn func(format string, args ...any)
}

package main

import (
	"context"
	"iter"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/queue"
)

// store is the database that the verbs work on: opened by this process, or of a live
// program. Errors match those of packages braid, consumer and queue.
type store interface {
	// Streams describes all streams, by name.
	Streams(ctx context.Context) ([]braid.StreamDescription, error)

	// Stream describes one stream.
	Stream(ctx context.Context, name string) (braid.StreamDescription, error)

	// Records yields the records of a shard from a position on, or, with an empty shard,
	// those of all shards in the order of arrival. It ends at the tip, or with follow when
	// ctx ends. With follow the position must be a fixed one, unlike Latest, because it is
	// requested again after a restart of a live program. An error is yielded once, last.
	Records(ctx context.Context, stream string, shard braid.ShardID, from braid.Position, follow bool) iter.Seq2[braid.Record, error]

	// Count returns the number of records of a shard from a position on.
	Count(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (int64, error)

	// Create creates a stream, and Delete deletes one.
	Create(ctx context.Context, stream string, options *braid.StreamOptions) error
	Delete(ctx context.Context, stream string) error

	// Put appends records, and waits while the stream has no capacity left. Either all
	// entries are stored, or there is an error.
	Put(ctx context.Context, stream string, entries []braid.Entry) ([]braid.PutResult, error)

	// Apps returns the sorted names of the applications, and App the status of one.
	Apps(ctx context.Context) ([]string, error)
	App(ctx context.Context, name string) (consumer.Status, error)

	// Seek, Pause and Resume call those of consumer.App.
	Seek(ctx context.Context, app string, key consumer.LeaseKey, to braid.Position) error
	Pause(ctx context.Context, app string, key consumer.LeaseKey) error
	Resume(ctx context.Context, app string, key consumer.LeaseKey) error

	// Split, Merge, Scale, SetRetention, SetRetentionBytes and Trim call those of
	// braid.Stream.
	Split(ctx context.Context, stream string, shard braid.ShardID, at *braid.HashKey) error
	Merge(ctx context.Context, stream string, shard, adjacent braid.ShardID) error
	Scale(ctx context.Context, stream string, shards int) error
	SetRetention(ctx context.Context, stream string, period time.Duration) error
	SetRetentionBytes(ctx context.Context, stream string, bytes int64) error
	Trim(ctx context.Context, stream string, before braid.Position) error

	// Queues describes all queues, in the order of their creation.
	Queues(ctx context.Context) ([]queue.Description, error)

	// Queue describes one queue.
	Queue(ctx context.Context, name string) (queue.Description, error)

	// DeadLetters returns the oldest dead letters of a queue, up to limit, 1 to 1,000.
	// Without their data, encrypted keys may be missing, too.
	DeadLetters(ctx context.Context, name string, limit int, withData bool) ([]queue.Record, error)

	// Restore, RestoreAll and Discard call those of queue.DeadLetters, for up to 1,000
	// receipts.
	Restore(ctx context.Context, name string, receipts []queue.Receipt) error
	RestoreAll(ctx context.Context, name string) (int, error)
	Discard(ctx context.Context, name string, receipts []queue.Receipt) error

	// Close closes the store. It is called once, last.
	Close() error
}

// access is the kind of access that a verb needs.
type access int

const (
	reads   access = iota // changes nothing
	writes                // changes an existing database
	creates               // may also create the database
)

// target is the place of the store.
type target struct {
	dir, url string
	keys     string   // path of a key ring; empty for none
	headers  []string // sent with each request to url, such as "Name: value"

	// warn reports what a user should know while a verb runs.
	warn func(format string, args ...any)
}

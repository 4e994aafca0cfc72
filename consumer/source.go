package consumer

import (
	"context"
	"time"

	"github.com/braidstream/braid"
)

// A Source is where records come from. [New] uses the streams of the database;
// another implementation stands behind [Config].Source, and has to pass the tests
// of package sourcetest. Its methods may be called from any number of goroutines.
//
// Positions of a shard that are given to Wait and Read are concrete: they have come
// from it, or name a record. Resolve gets any.
type Source interface {
	// Stream returns the shards of a stream. Errors: braid.ErrStreamNotFound.
	Stream(ctx context.Context, name string) (StreamInfo, error)

	// Changed returns a channel that is closed at the next change of what streams
	// and shards there are; nil if the source cannot tell, and has to be asked.
	Changed() <-chan struct{}

	// Resolve makes a position in a shard concrete: the checkpoint that it returns
	// names that place whenever it is used later, whatever records have come by
	// then. It is at ShardEnd if no record can ever come there.
	Resolve(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (Checkpoint, error)

	// Wait returns when there is a record at or after the position, or the shard
	// has ended there, or reading there has an error to tell.
	Wait(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) error

	// Read returns what there is from a position on, up to maxRecords and about
	// maxBytes, without waiting; but always a record if there is one. Errors:
	// braid.ErrTrimmed (a *braid.TrimmedError) if records were lost,
	// braid.ErrStreamNotFound and braid.ErrShardNotFound if there is nothing to be
	// read any more; braid.ErrBeyondTip if the position is of a newer copy of the
	// stream, which stops the shard until App.Seek moves it; others are temporary.
	Read(ctx context.Context, stream string, shard braid.ShardID, from braid.Position, maxRecords, maxBytes int) (Page, error)
}

// StreamInfo is what a [Source] knows of a stream.
type StreamInfo struct {
	// Incarnation tells streams apart that have the same name at different times.
	// It is never 0.
	Incarnation uint64

	Shards []ShardInfo
}

// ShardInfo is what a [Source] knows of a shard.
type ShardInfo struct {
	ID           braid.ShardID
	Parents      []braid.ShardID // also those that have expired
	HashKeyRange braid.HashKeyRange

	// Start is the position before the first record that the shard ever had. If
	// that was trimmed, reading there is braid.ErrTrimmed.
	Start braid.Position
}

// Page is a stretch of a shard.
type Page struct {
	Records []braid.Record
	Next    braid.Position // where to read on

	// How far the end of the page is behind the tip of the shard. A source that
	// does not know one of them says 0.
	BehindRecords, BehindBytes int64
	BehindLatest               time.Duration

	// AtTip means that there was nothing more to be read, and EndOfShard that there
	// never will be.
	AtTip, EndOfShard bool
}

package braid

import (
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/internal/agenda"
	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/ondemand"
	"github.com/braidstream/braid/internal/tail"
)

// Stream is a named set of shards that divide the hash-key space among them. It
// comes from [DB.OpenStream], [DB.CreateStream] or [DB.Stream]. All methods may
// be called from any number of goroutines.
//
// After [DB.DeleteStream] every method that can fail returns
// [ErrStreamNotFound], even when a stream of the same name was created since.
type Stream struct {
	db             *DB
	number         uint32 // names it in keys; never given to another stream
	name           string
	createdCounter uint64 // when it was created: nanoseconds
	settings       atomic.Pointer[settings]
	topology       atomic.Pointer[topology]
	keys           dataKeys
	latest         tail.Counter // the last counter of any shard
	recent         recency      // which shards it came from
	listeners      listeners    // for its records, trims and settings
	deleted        atomic.Bool  // set when the deletion is durable
	queues         atomic.Int32 // of package queue; set by the committer

	w     streamWriter    // the committer's
	peaks *ondemand.Peaks // the scaler's; nil: it was never put to on demand
}

// streamWriter is what the committer has of a stream, as shardWriter of a shard.
type streamWriter struct {
	deleted  bool      // becomes Stream.deleted
	topology *topology // becomes Stream.topology
	settings *settings // becomes Stream.settings
	touched  bool      // this group has records for it
	heard    uint64    // the last group that had records for it
	hears    bool      // listeners are shown those of this group
	arrived  []*put    // which are these, or the first of them

	sealer      sealer // the data key that encrypts; for the key of settings, it may be another's
	nextDataKey uint32

	ledger  epoch.Ledger          // what its shards have in each epoch
	filled  agenda.Agenda[*Shard] // shards with records, by [appender.lastOfExtent] of their first extent, or less
	emptied agenda.Agenda[*Shard] // closed shards without a record and without a parent, by when they were closed
	oldest  agenda.Agenda[*Shard] // shards with records, by the counter of their oldest one, or less
	trims   agenda.Item[*Stream]  // in the appender's agenda
	watched bool                  // it is in the appender's list of that name
}

// Name returns the stream's name.
func (s *Stream) Name() string { return s.name }

// Shards returns the stream's shards, in the order of their ids.
func (s *Stream) Shards() []*Shard {
	return append([]*Shard(nil), s.topology.Load().shards...)
}

// Shard returns the shard with that id. Besides the full form it understands
// those that Kinesis does, such as "shardId-7" and "7". Errors:
// [ErrShardNotFound].
func (s *Stream) Shard(id ShardID) (*Shard, error) {
	if index, ok := parseShardID(string(id)); ok {
		if sh := s.topology.Load().shard(index); sh != nil {
			return sh, nil
		}
	}
	return nil, &opError{op: "get shard", what: quoted(string(id)) + " of " + quoted(s.name), cause: ErrShardNotFound}
}

// CreatedAt returns when the stream was created: no two streams of a database
// were created at the same time, so with the name it tells a stream from another
// one that had the name before.
func (s *Stream) CreatedAt() time.Time { return time.Unix(0, int64(s.createdCounter)) }

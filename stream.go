package braid

import (
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/internal/agenda"
	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/ondemand"
	"github.com/braidstream/braid/internal/tail"
)

// Stream is a named set of shards that divide the hash-key space among them. It comes from
// [DB.OpenStream], [DB.CreateStream] or [DB.Stream]. All methods may be called from any
// number of goroutines.
//
// After [DB.DeleteStream], every method that can fail returns [ErrStreamNotFound], even if a
// stream of the same name has been created since.
type Stream struct {
	db             *DB
	number         uint32 // identifies the stream in keys; never reused
	name           string
	createdCounter uint64 // when it was created, in nanoseconds
	settings       atomic.Pointer[settings]
	topology       atomic.Pointer[topology]
	keys           dataKeys
	latest         tail.Counter // the last counter of any shard
	recent         recency      // the shards in the order of their last records
	listeners      listeners    // for its records, trims and settings
	deleted        atomic.Bool  // set when the deletion is durable
	queues         atomic.Int32 // number of queues of package queue; set by the committer

	w     streamWriter    // belongs to the committer
	peaks *ondemand.Peaks // belongs to the scaler; nil if the stream was never put to on demand
}

// streamWriter is the committer's state of a stream, as shardWriter is of a shard.
type streamWriter struct {
	deleted  bool      // becomes Stream.deleted
	topology *topology // becomes Stream.topology
	settings *settings // becomes Stream.settings
	touched  bool      // whether this group has records for the stream
	heard    uint64    // the last group that had records for the stream
	hears    bool      // whether listeners are shown the records of this group
	arrived  []*put    // the records to show them: all of the group, or the first ones

	sealer      sealer // the data key that encrypts; its key may differ from that of settings
	nextDataKey uint32

	ledger  epoch.Ledger          // what its shards have in each epoch
	filled  agenda.Agenda[*Shard] // shards with records, by [appender.lastOfExtent] of their first extent, or less
	emptied agenda.Agenda[*Shard] // closed shards without a record and without a parent, by when they were closed
	oldest  agenda.Agenda[*Shard] // shards with records, by the counter of their oldest one, or less
	trims   agenda.Item[*Stream]  // the stream's item in the appender's agenda
	watched bool                  // whether it is in the appender's list watched
}

// Name returns the stream's name.
func (s *Stream) Name() string { return s.name }

// Shards returns the stream's shards, in the order of their ids.
func (s *Stream) Shards() []*Shard {
	return append([]*Shard(nil), s.topology.Load().shards...)
}

// Shard returns the shard with that id. It accepts the full form and the short forms that
// Kinesis accepts, such as "shardId-7" and "7". Errors: [ErrShardNotFound].
func (s *Stream) Shard(id ShardID) (*Shard, error) {
	if index, ok := parseShardID(string(id)); ok {
		if sh := s.topology.Load().shard(index); sh != nil {
			return sh, nil
		}
	}
	return nil, &opError{op: "get shard", what: quoted(string(id)) + " of " + quoted(s.name), cause: ErrShardNotFound}
}

// CreatedAt returns when the stream was created. No two streams of a database have the same
// time, so it distinguishes a stream from an earlier one of the same name.
func (s *Stream) CreatedAt() time.Time { return time.Unix(0, int64(s.createdCounter)) }

package braid

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/internal/agenda"
	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/epoch"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/tail"
)

const (
	payloadChunkBytes = 64 << 10
	maxPooledPuts     = 1024 // a request that is used again keeps room for so many
)

// Stream is a named set of shards that divide the hash-key space among them. It
// comes from [DB.OpenStream], [DB.CreateStream] or [DB.Stream]. All methods may
// be called from any number of goroutines.
//
// After [DB.DeleteStream] every method that can fail returns
// [ErrStreamNotFound], also when a stream of the same name was created since.
type Stream struct {
	db             *DB
	number         uint32 // names it in keys; never given to another stream
	name           string
	createdCounter uint64 // when it was created: nanoseconds
	settings       atomic.Pointer[settings]
	topology       atomic.Pointer[topology]
	keys           dataKeys
	signal         tail.Signal // the last counter of any shard
	deleted        atomic.Bool // set when the deletion is durable

	w     streamWriter // the committer's
	peaks *peaks       // belongs to the goroutine of runCapacity; nil: it was never put to on demand
}

// streamWriter is what the committer has of a stream, as shardWriter of a shard.
type streamWriter struct {
	deleted  bool      // becomes Stream.deleted
	topology *topology // becomes Stream.topology
	settings *settings // becomes Stream.settings
	touched  bool      // this group has records for it

	sealer      sealer // the data key that encrypts; for the key of settings, it may be another's
	nextDataKey uint32

	ledger  epoch.Ledger          // what its shards have in each epoch
	filled  agenda.Agenda[*Shard] // shards with records, by [appender.lastOfSlice] of their first slice, or less
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

// PutRecord appends a record to the shard that the MD5 of the partition key
// falls to, and returns when it is durable, as far as [Options].Durability
// promises. To choose the shard by a hash key, use [Stream.PutRecords].
//
// Records that one goroutine puts one after the other under one partition key
// are read in that order. The data is copied; data may be reused at once.
//
// Refused: [ErrInvalidArgument], [ErrStreamNotFound], [ErrThroughputExceeded] (not
// with [Unlimited] capacity; [Stream.PutRecordWait] waits instead),
// [ErrKeyUnavailable] (if the stream encrypts), [ErrDiskFull],
// [ErrFailed], [ErrClosed], and the cause of ctx if it ended before the record was
// on its way. Unknown: [ErrOutcomeUnknown], which wraps that cause or ErrFailed, if it
// was. There is no other outcome. Kinesis: PutRecord.
func (s *Stream) PutRecord(ctx context.Context, partitionKey string, data []byte) (PutResult, error) {
	entry := Entry{PartitionKey: partitionKey, Data: data}
	if err := entry.validate(s.settings.Load().maxData, ""); err != nil {
		return PutResult{}, wrapError("put record", s.name, err)
	}
	r := s.db.takeRequest()
	r.op.stream = s
	r.op.single[0] = preparePut(&entry, make([]byte, payloadBytes(&entry)), s.encrypts())
	r.op.puts = r.op.single[:]
	if err := s.commitPuts(ctx, r); err != nil {
		if err = s.db.renewDataKey(ctx, err); err == nil {
			return s.PutRecord(ctx, partitionKey, data)
		}
		return PutResult{}, wrapError("put record", s.name, err)
	}
	result := r.op.single[0].result()
	s.db.releaseRequest(r)
	if result.Err != nil {
		return PutResult{}, wrapError("put record", s.name, result.Err)
	}
	return result, nil
}

// PutRecords appends several records with one commit: they are all stored or
// none is. The results say where, one for each entry in the same order. Entries
// that fall to the same shard keep their order.
//
// It is different where the stream's capacity is not [Unlimited]: then an entry
// that goes beyond its shard's budget is refused by itself, with
// [ErrThroughputExceeded] in the Err of its result, and so are the later entries
// of that shard. So order is never broken, whoever puts the refused ones again;
// [Stream.PutRecordsWait] does. Others are stored.
//
// A call takes at most 16 MiB of partition keys and data; there is no limit on
// the number of entries. An entry that is not valid refuses the whole call, and
// the error names it. Errors: as [Stream.PutRecord]. Kinesis: PutRecords.
func (s *Stream) PutRecords(ctx context.Context, entries []Entry) ([]PutResult, error) {
	total, err := s.validateEntries(entries)
	if err != nil {
		return nil, wrapError("put records", s.name, err)
	}
	if len(entries) == 0 {
		return nil, nil
	}
	r := s.db.takeRequest()
	r.op.stream = s
	r.op.puts = preparePuts(r.op.many, entries, total, s.encrypts())
	r.op.many = r.op.puts
	if err := s.commitPuts(ctx, r); err != nil {
		if err = s.db.renewDataKey(ctx, err); err == nil {
			return s.PutRecords(ctx, entries)
		}
		return nil, wrapError("put records", s.name, err)
	}
	results := make([]PutResult, len(entries))
	for i := range results {
		results[i] = r.op.puts[i].result()
		results[i].Err = wrapError("put records", s.name, results[i].Err)
	}
	s.db.releaseRequest(r)
	return results, nil
}

// validateEntries checks all entries and returns what their payloads need.
func (s *Stream) validateEntries(entries []Entry) (payload int, err error) {
	size, maxData := 0, s.settings.Load().maxData
	for i := range entries {
		e := &entries[i]
		if err := e.validate(maxData, ""); err != nil {
			return 0, e.validate(maxData, fmt.Sprintf("Entries[%d].", i))
		}
		size += len(e.PartitionKey) + len(e.Data)
		payload += payloadBytes(e)
	}
	if size > maxPutRecordsBytes {
		return 0, &InvalidArgumentError{"Entries", fmt.Sprintf("%d bytes in all", size), fmt.Sprintf("must have at most %d bytes of partition keys and data", maxPutRecordsBytes)}
	}
	return payload, nil
}

// preparePuts encodes the entries, into puts if there is room. Payloads share
// memory in chunks: few allocations, yet a reader who keeps one record does not
// keep the whole call alive.
func preparePuts(puts []put, entries []Entry, total int, encrypted bool) []put {
	puts = slices.Grow(puts[:0], len(entries))[:len(entries)]
	var chunk []byte
	for i := range entries {
		n := payloadBytes(&entries[i])
		if n > len(chunk) {
			chunk = make([]byte, max(n, min(total, payloadChunkBytes)))
		}
		puts[i] = preparePut(&entries[i], chunk[:n:n], encrypted)
		chunk = chunk[n:]
		total -= n
	}
	return puts
}

// commitPuts has the request committed. With an error the request is given back,
// unless the committer may still hold it.
func (s *Stream) commitPuts(ctx context.Context, r *putRequest) error {
	r.Op = &r.op
	for i := range r.op.puts {
		r.Bytes += r.op.puts[i].bytes()
	}
	err := s.db.committer.Do(ctx, &r.Request)
	if err != nil && !errors.Is(err, commit.ErrUnknown) {
		s.db.releaseRequest(r)
	}
	return err
}

// putRequest is a request that carries its operation, so that one allocation
// serves both, and a pool serves many.
type putRequest struct {
	commit.Request
	op putOp
}

func (db *DB) takeRequest() *putRequest { return db.requests.Get().(*putRequest) }

// releaseRequest gives the request back. It is cleared first: it must not keep
// records alive, and a channel kept from one synctest bubble breaks the next.
func (db *DB) releaseRequest(r *putRequest) {
	many := r.op.many
	*r = putRequest{}
	if cap(many) <= maxPooledPuts {
		clear(many)
		r.op.many = many[:0]
	}
	db.requests.Put(r)
}

// Trim removes all records before the position from the stream, for good. They
// cannot be read from the moment at which Trim returns; their space is returned
// in the background. Trim(ctx, [Latest]()) empties the stream. Sequence numbers
// are not used again.
//
// Errors: [ErrStreamNotFound], [ErrInvalidArgument] for a number of another
// stream, [ErrBeyondTip] for one that was never given out, [ErrFailed], [ErrClosed],
// [ErrOutcomeUnknown], and those of reading.
// Trimming works while the disk is full.
func (s *Stream) Trim(ctx context.Context, before Position) error {
	return wrapError("trim", s.name, s.trim(ctx, before))
}

func (s *Stream) trim(ctx context.Context, before Position) error {
	// Once for all shards: what is put from now on is not the caller's to trim.
	// And before the shards are looked up: what lies below it is in one of them.
	bound, err := before.inStream(s)
	if err != nil {
		return err
	}
	shards, horizons, err := horizonsAt(ctx, s.topology.Load().shards, bound)
	if err != nil {
		return err
	}
	return s.db.control(ctx, func(a *appender, batch *kv.Batch) (func(), error) {
		if s.w.deleted {
			return nil, ErrStreamNotFound
		}
		return a.trim(shards, horizons, batch), nil
	})
}

// StreamDescription is what is known of a stream at one time.
type StreamDescription struct {
	Name           string
	CreatedAt      time.Time
	MaxRecordBytes int           // the largest Data of a record
	Retention      time.Duration // how long a record can be read; 0: it does not expire
	RetentionBytes int64         // beyond which the oldest records are trimmed; 0: no bound
	Capacity       Capacity
	EncryptionKey  string            // the id of the key that new records are encrypted with; empty: they are not
	Tags           map[string]string // the caller's own
	Records        int64             // that can be read
	Bytes          int64             // partition keys and data of those records
	Shards         []ShardDescription
}

// CreatedAt returns when the stream was created: no two streams of a database
// were created at the same time, so with the name it tells a stream from another
// one that had the name before.
func (s *Stream) CreatedAt() time.Time { return time.Unix(0, int64(s.createdCounter)) }

// Describe returns the stream's settings, and for each shard its range, lineage
// and content. Kinesis: DescribeStream.
func (s *Stream) Describe() StreamDescription {
	set := s.settings.Load()
	d := StreamDescription{
		Name:           s.name,
		CreatedAt:      s.CreatedAt(),
		MaxRecordBytes: set.maxData,
		Retention:      set.retention,
		RetentionBytes: set.retentionBytes,
		Capacity:       set.capacity,
		EncryptionKey:  set.keyID,
		Tags:           maps.Clone(set.tags),
	}
	t := s.topology.Load()
	for _, sh := range t.shards {
		shard := sh.describe(t)
		d.Records += shard.Records
		d.Bytes += shard.Bytes
		d.Shards = append(d.Shards, shard)
	}
	return d
}

// createStream adds the rows of a new stream, and returns it.
func (a *appender) createStream(name string, opts StreamOptions, batch *kv.Batch) *Stream {
	created := a.nextCounter()
	s := &Stream{
		db:             a.db,
		number:         a.nextStream,
		name:           name,
		createdCounter: created,
		keys:           newDataKeys(),
		w:              streamWriter{settings: newSettings(opts)},
	}
	s.settings.Store(s.w.settings)
	s.w.trims.Value = s
	a.nextStream++
	a.names[name] = true
	a.boundCounters(batch) // it holds the number of the next stream, too
	shards := make([]*Shard, opts.Shards)
	for i, keys := range evenRanges(opts.Shards) {
		row := layout.ShardRow{Start: keys.Start.n, End: keys.End.n, CreatedSeconds: created / uint64(time.Second), Created: created}
		batch.Set(layout.ShardKey(s.number, uint32(i)), row.Encode(s.number, uint32(i)))
		shards[i] = newShard(s, uint32(i), row)
		shards[i].setTip(layout.Horizon{})
	}
	s.w.topology = newTopology(shards, uint32(opts.Shards), layout.ExpiredShard{})
	s.topology.Store(s.w.topology)
	s.save(batch)
	return s
}

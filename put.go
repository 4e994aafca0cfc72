package braid

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/uint128"
)

const (
	dataChunkBytes = 64 << 10
	maxPooledPuts  = 1024 // a request that is used again keeps room for so many
)

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
	for {
		r := s.db.takeRequest()
		r.op.stream = s
		s.prepare(&r.op.single[0], &entry, make([]byte, len(data)))
		r.op.puts = r.op.single[:]
		err := s.commitPuts(ctx, r)
		if err == nil {
			result := r.op.single[0].result()
			s.db.releaseRequest(r)
			if result.Err != nil {
				return PutResult{}, wrapError("put record", s.name, result.Err)
			}
			return result, nil
		}
		if err = s.db.renewDataKey(ctx, err); err != nil { // else it was refused for want of one
			return PutResult{}, wrapError("put record", s.name, err)
		}
	}
}

// PutRecords appends several records with one commit: they are all stored or
// none is. The results say where, one for each entry in the same order. Entries
// that fall to the same shard keep their order.
//
// It is different where the stream's capacity is not [Unlimited]: then an entry
// that goes beyond its shard's budget is refused by itself, with
// [ErrThroughputExceeded] in the Err of its result, and so are the later entries
// of that shard. So order is not broken by putting the refused ones again;
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
	for {
		r := s.db.takeRequest()
		r.op.stream = s
		r.op.puts = s.preparePuts(r.op.many, entries, total)
		r.op.many = r.op.puts
		err := s.commitPuts(ctx, r)
		if err == nil {
			results := make([]PutResult, len(entries))
			for i := range results {
				results[i] = r.op.puts[i].result()
				results[i].Err = wrapError("put records", s.name, results[i].Err)
			}
			s.db.releaseRequest(r)
			return results, nil
		}
		if err = s.db.renewDataKey(ctx, err); err != nil { // else they were refused for want of one
			return nil, wrapError("put records", s.name, err)
		}
	}
}

// validateEntries checks all entries and returns how much data they have.
func (s *Stream) validateEntries(entries []Entry) (data int, err error) {
	size, maxData := 0, s.settings.Load().maxData
	for i := range entries {
		e := &entries[i]
		if err := e.validate(maxData, ""); err != nil {
			return 0, e.validate(maxData, fmt.Sprintf("Entries[%d].", i))
		}
		size += e.Size()
		data += len(e.Data)
	}
	if size > maxPutRecordsBytes {
		return 0, &InvalidArgumentError{
			"Entries", fmt.Sprintf("%d bytes in all", size),
			fmt.Sprintf("must have at most %d bytes of partition keys and data", maxPutRecordsBytes),
		}
	}
	return data, nil
}

// putRequest is a request that carries its operation, so that one allocation
// serves both, and a pool serves many.
type putRequest struct {
	commit.Request
	op   putOp
	dice dice
}

func (db *DB) takeRequest() *putRequest { return db.requests.Get().(*putRequest) }

// releaseRequest gives the request back. It is cleared first: it must not keep
// records alive, and a channel kept from one synctest bubble breaks the next.
func (db *DB) releaseRequest(r *putRequest) {
	many := r.op.many
	*r = putRequest{dice: r.dice}
	if cap(many) <= maxPooledPuts {
		clear(many)
		r.op.many = many[:0]
	}
	db.requests.Put(r)
}

// commitPuts has the request committed. With an error the request is given back,
// unless the committer may still hold it.
func (s *Stream) commitPuts(ctx context.Context, r *putRequest) error {
	r.Op, r.Prompt = &r.op, true
	for i := range r.op.puts {
		r.Bytes += r.op.puts[i].bytes()
	}
	began, measured := s.db.times.begin(&r.dice)
	err := s.db.committer.Do(ctx, &r.Request)
	switch {
	case err == nil && measured && r.op.placed():
		s.db.times.puts.Observe(time.Since(began))
	case err != nil && !errors.Is(err, commit.ErrUnknown):
		s.db.releaseRequest(r)
	}
	return err
}

// putOp is a request of PutRecord and PutRecords: entries of one stream.
type putOp struct {
	stream *Stream
	puts   []put
	single [1]put // puts of a PutRecord, without an allocation
	many   []put  // memory for those of a PutRecords
}

// placed reports whether any of the puts was not refused.
func (op *putOp) placed() bool {
	return slices.ContainsFunc(op.puts, func(p put) bool { return p.err == nil })
}

// preparePuts makes puts of the entries, in puts, which is zero, if there is room. Their data, total
// bytes of it, share memory in chunks: few allocations, yet a reader who keeps one
// record does not keep the whole call alive.
func (s *Stream) preparePuts(puts []put, entries []Entry, total int) []put {
	puts = slices.Grow(puts[:0], len(entries))[:len(entries)]
	var chunk []byte
	for i := range entries {
		n := len(entries[i].Data)
		if n > len(chunk) || chunk == nil {
			chunk = make([]byte, max(n, min(total, dataChunkBytes)))
		}
		s.prepare(&puts[i], &entries[i], chunk[:n:n])
		chunk = chunk[n:]
		total -= n
	}
	return puts
}

// put is an entry on its way: hashed and copied on its producer's goroutine, placed and
// encoded by the committer.
type put struct {
	hash   uint128.Uint128 // of hashKey
	hashed bool            // hash is known
	record layout.Record
	shard  *Shard // set when it is placed, with record's numbers
	err    error  // why it was not placed, though its request succeeded
}

// prepare makes a put of the entry, in memory that is zero. It copies the data into buf,
// which is as long and which the put keeps. The hash of the partition key is left out
// while all goes to one shard: it is a sixth of what a batch of small records costs.
func (s *Stream) prepare(p *put, e *Entry, buf []byte) {
	copy(buf, e.Data)
	p.record.PartitionKey, p.record.Data = e.PartitionKey, buf
	if e.ExplicitHashKey != nil {
		p.hash, p.hashed = e.ExplicitHashKey.n, true
		explicit := p.hash
		p.record.ExplicitHash = &explicit
	} else if len(s.topology.Load().open) > 1 {
		p.hashKey()
	}
}

// hashKey returns the hash key, which the committer has to make if the stream was split
// after the put was prepared.
func (p *put) hashKey() uint128.Uint128 {
	if !p.hashed {
		p.hash, p.hashed = HashKeyOf(p.record.PartitionKey).n, true
	}
	return p.hash
}

// result says where the put was placed.
func (p *put) result() PutResult {
	if p.err != nil {
		return PutResult{Err: p.err}
	}
	return PutResult{
		ShardID:        p.shard.id,
		SequenceNumber: p.shard.number(p.record.Counter),
		Encrypted:      p.record.Sealed,
	}
}

// bytes is about what the put adds to a batch, at most.
func (p *put) bytes() int { return p.record.Size() + layout.BlockKeyBytes + layout.MaxRecordOverhead }

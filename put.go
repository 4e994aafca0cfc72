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
	maxPooledPuts  = 1024 // a pooled request keeps memory for at most so many
)

// PutRecord appends a record to the shard whose range contains the MD5 of the partition key.
// It returns when the record is durable, as [Options].Durability defines it. To choose the
// shard by a hash key, use [Stream.PutRecords].
//
// Records that one goroutine puts one after the other under one partition key are read in that
// order. The data is copied, so the caller may reuse it at once.
//
// Refused: [ErrInvalidArgument], [ErrStreamNotFound], [ErrThroughputExceeded] (not with
// [Unlimited] capacity; [Stream.PutRecordWait] waits instead), [ErrKeyUnavailable] (if the
// stream encrypts), [ErrDiskFull], [ErrFailed], [ErrClosed], and the cause of ctx if it ended
// before the record was on its way to the disk. Unknown: [ErrOutcomeUnknown], if the record
// was on its way; it wraps that cause or ErrFailed. There is no other outcome. Kinesis:
// PutRecord.
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
		if err = s.db.renewDataKey(ctx, err); err != nil { // nil: it was refused only for lack of a data key
			return PutResult{}, wrapError("put record", s.name, err)
		}
	}
}

// PutRecords appends several records with one commit: all of them are stored, or none is. It
// returns one result for each entry, in the order of the entries. Entries for the same shard
// keep their order.
//
// If the stream's capacity is not [Unlimited], single entries can be refused. An entry beyond
// its shard's budget has [ErrThroughputExceeded] in the Err of its result, and so have the
// later entries for that shard; the others are stored. So a caller that puts the refused
// entries again keeps the order, as [Stream.PutRecordsWait] does.
//
// A call takes at most 16 MiB of partition keys and data; there is no limit on the number of
// entries. An invalid entry refuses the whole call, and the error names the entry. Errors: as
// [Stream.PutRecord]. Kinesis: PutRecords.
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
		if err = s.db.renewDataKey(ctx, err); err != nil { // nil: they were refused only for lack of a data key
			return nil, wrapError("put records", s.name, err)
		}
	}
}

// validateEntries checks all entries and returns the size of their data in bytes.
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

// putRequest is a request together with its operation, so that both take one allocation and
// can be pooled.
type putRequest struct {
	commit.Request
	op   putOp
	dice dice
}

func (db *DB) takeRequest() *putRequest { return db.requests.Get().(*putRequest) }

// releaseRequest puts the request back into the pool. It clears the request first, which must
// not keep records alive; and a channel of one synctest bubble must not be used in another.
func (db *DB) releaseRequest(r *putRequest) {
	many := r.op.many
	*r = putRequest{dice: r.dice}
	if cap(many) <= maxPooledPuts {
		clear(many)
		r.op.many = many[:0]
	}
	db.requests.Put(r)
}

// commitPuts commits the request. After an error it releases the request, unless the
// committer may still hold it.
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
	single [1]put // the put of a PutRecord, without an allocation
	many   []put  // memory for the puts of a PutRecords
}

// placed reports whether at least one of the puts was not refused.
func (op *putOp) placed() bool {
	return slices.ContainsFunc(op.puts, func(p put) bool { return p.err == nil })
}

// preparePuts returns puts of the entries, in the memory of puts, which is zero, if that is
// large enough. Their data, total bytes in all, share memory in chunks. That takes few
// allocations, yet a reader that keeps one record does not keep the data of the whole call
// alive.
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
	hash   uint128.Uint128 // the hash key, if hashed
	hashed bool            // whether hash is known
	record layout.Record
	shard  *Shard // set together with the record's numbers, when it is placed
	err    error  // why it was not placed, although its request succeeded
}

// prepare fills p, which is zero, with the entry. It copies the data into buf, which has the
// same length and which the put keeps. It does not hash the partition key while the stream has
// one open shard: hashing is a sixth of the cost of a batch of small records.
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

// hashKey returns the hash key. The committer computes it if the stream was split after the
// put was prepared.
func (p *put) hashKey() uint128.Uint128 {
	if !p.hashed {
		p.hash, p.hashed = HashKeyOf(p.record.PartitionKey).n, true
	}
	return p.hash
}

// result returns the put's public result.
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

// bytes is about the most that the put adds to a batch.
func (p *put) bytes() int { return p.record.Size() + layout.BlockKeyBytes + layout.MaxRecordOverhead }

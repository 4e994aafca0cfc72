package awskinesis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/braidstream/braid"
)

const maxPartitionKeyChars = 256

// ErrEarlierFailed reports a record that was not put because an earlier one of its partition
// key in the same call has an unknown outcome: putting it would break the order if the caller
// retries the earlier one. Refused.
var ErrEarlierFailed = errors.New("outcome of an earlier record of the partition key is unknown")

// Producer puts records to a stream of Amazon Kinesis. Its methods are those of [braid.Stream],
// with the same outcomes, so a program can use either through an interface.
//
// It collects the records of all callers into few requests, and keeps the order of each
// partition key: records that one goroutine puts one after the other, and those of one call,
// are stored in that order, even through throttling, failures and reshards. A retry may store a
// record more than once, as with any client of Kinesis; a record that appears after a later one
// of its key is always such a repetition.
//
// All methods are safe for concurrent use. Close the producer, or the records that it holds are
// lost.
type Producer struct {
	client KinesisClient
	stream streamID
	label  string // for errors
	opts   *ProducerOptions
	counts counts

	// life ends requests in flight when Close gives up.
	life context.Context
	end  context.CancelCauseFunc

	wake    chan struct{} // wakes run
	stopped chan struct{} // closed by run when it has ended, with all requests
	mapTurn chan struct{} // has a token while the map of shards is renewed

	mu       sync.Mutex // guards the fields below, and every item, call and group
	schedule *schedule
	buffered int                 // the cost of all items in the buffer
	waiters  fifo[*waiter]       // for space in the buffer
	requests int                 // on their way
	group    *group              // the current one
	groups   map[*group]struct{} // earlier ones that are not settled
	flushes  int                 // waiting calls of Flush
	closed   bool
	trouble  trouble // of the last request; zero if an entry of it was stored
}

// group is the records between two flushes.
type group struct {
	open    int           // not settled
	settled chan struct{} // closed when the group has ended and all its records are settled
}

// waiter waits for cost bytes of space.
type waiter struct {
	cost  int
	ready chan struct{} // closed when it has the space, or the producer is closed
	gone  bool          // it no longer waits
	got   bool
}

// NewProducer returns a producer for the stream of that name or ARN. It lists the stream's
// shards, so it fails at once if the stream does not exist or permissions are missing. nil
// options are safe defaults. Errors: [braid.ErrInvalidArgument], [braid.ErrStreamNotFound], and
// those of the client.
func NewProducer(ctx context.Context, client KinesisClient, stream string, opts *ProducerOptions) (*Producer, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("awskinesis: new producer: %w", err)
	}
	if client == nil || stream == "" {
		return nil, fmt.Errorf("awskinesis: new producer: %w", invalid("stream", fmt.Sprintf("%q, with client %v", stream, client), "must be a name or an ARN, and there must be a client"))
	}
	p := &Producer{
		client:  client,
		stream:  newStreamID(stream),
		label:   stream,
		opts:    o,
		wake:    make(chan struct{}, 1),
		stopped: make(chan struct{}),
		mapTurn: make(chan struct{}, 1),
		group:   newGroup(),
		groups:  make(map[*group]struct{}),
	}
	shards, err := newShardMap(ctx, client, p.stream)
	if err != nil {
		return nil, p.wrap("new producer", classify(err).err)
	}
	p.schedule = newSchedule(o, shards, time.Now())
	p.life, p.end = context.WithCancelCause(context.WithoutCancel(ctx))
	go p.run() // ends after Close, which waits for it
	return p, nil
}

func newGroup() *group { return &group{settled: make(chan struct{})} }

func (p *Producer) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("awskinesis: %s %.300q: %w", op, p.label, err)
}

// PutRecord puts a record, and returns when the service has stored it. It copies data, which
// may be reused after the call. SequenceNumber of the result is that of the carrier if the
// record was aggregated; it is zero if the service's number has an unknown layout.
//
// After a failure of the connection or of the service it retries, with up to 3 attempts in all.
// Refused: [braid.ErrInvalidArgument], [braid.ErrThroughputExceeded] (the shard's budget is
// used up or its buffer is full; [Producer.PutRecordWait] waits instead),
// [braid.ErrStreamNotFound], [braid.ErrKeyUnavailable], [braid.ErrClosed], the cause of ctx if
// it ended before the record was sent, and other errors of the client that mean that nothing
// was stored, such as missing permissions. Unknown: [braid.ErrOutcomeUnknown], which wraps the
// cause.
func (p *Producer) PutRecord(ctx context.Context, partitionKey string, data []byte) (braid.PutResult, error) {
	return p.putOne(ctx, braid.Entry{PartitionKey: partitionKey, Data: data}, false)
}

// PutRecordWait is [Producer.PutRecord] that waits for space in the buffer, and retries after
// throttling and temporary failures, until its context ends. Errors: as PutRecord, without
// ErrThroughputExceeded.
func (p *Producer) PutRecordWait(ctx context.Context, partitionKey string, data []byte) (braid.PutResult, error) {
	return p.putOne(ctx, braid.Entry{PartitionKey: partitionKey, Data: data}, true)
}

func (p *Producer) putOne(ctx context.Context, e braid.Entry, wait bool) (braid.PutResult, error) {
	results, err := p.put(ctx, []braid.Entry{e}, wait)
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		return braid.PutResult{}, p.wrap("put record", err)
	}
	return results[0], nil
}

// PutRecords puts several records, and returns when the outcome of each is known: one result
// for each entry, in the same order, whose Err is nil if the record was stored. The errors of
// results are those of [Producer.PutRecord], and [ErrEarlierFailed]. If a record was not
// stored, for any reason, the later ones of its partition key in this call are not put, so that
// a caller that retries keeps them in order.
//
// The call itself fails only if nothing was put: with [braid.ErrInvalidArgument], which names
// an invalid entry, with [braid.ErrClosed], or with the cause of a context that has ended. The
// number of entries is not limited.
func (p *Producer) PutRecords(ctx context.Context, entries []braid.Entry) ([]braid.PutResult, error) {
	results, err := p.put(ctx, entries, false)
	return p.wrapResults(results), p.wrap("put records", err)
}

// PutRecordsWait is [Producer.PutRecords] that waits as [Producer.PutRecordWait] does. The
// entries may be larger than the buffer.
func (p *Producer) PutRecordsWait(ctx context.Context, entries []braid.Entry) ([]braid.PutResult, error) {
	results, err := p.put(ctx, entries, true)
	return p.wrapResults(results), p.wrap("put records", err)
}

func (p *Producer) wrapResults(results []braid.PutResult) []braid.PutResult {
	for i := range results {
		results[i].Err = p.wrap("put records", results[i].Err)
	}
	return results
}

// PutRecordAsync is [Producer.PutRecordWait] that returns once the record is in the buffer;
// done is called later with the result, whose Err says why the record was not stored. ctx
// belongs to the record: it also ends the attempts after the return. If PutRecordAsync returns
// an error, the record was refused, and done is not called.
//
// done is called once, by a goroutine of the producer, which it must not block. Records that
// one goroutine puts one after the other are stored in that order; if one of them fails, the
// later ones of its key are still put.
func (p *Producer) PutRecordAsync(ctx context.Context, partitionKey string, data []byte, done func(braid.PutResult)) error {
	entries := []braid.Entry{{PartitionKey: partitionKey, Data: data}}
	if err := p.validate(entries); err != nil {
		return p.wrap("put record", err)
	}
	c := newCall(entries, true)
	c.done = func() {
		if c.stopWatch != nil {
			c.stopWatch()
		}
		c.results[0].Err = p.wrap("put record", c.results[0].Err)
		done(c.results[0])
	}
	if err := p.admit(ctx, c); err != nil {
		return p.wrap("put record", err)
	}
	return nil
}

// Flush sends all records put before, without waiting for more, and returns when all their
// outcomes are known, or with the cause of ctx when that ends. Use it with
// [ProducerOptions].Linger and [Producer.PutRecordAsync].
func (p *Producer) Flush(ctx context.Context) error {
	p.mu.Lock()
	groups := p.endGroup()
	p.flushes++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.flushes--
	}()
	p.ring()
	for _, g := range groups {
		select {
		case <-g.settled:
		case <-ctx.Done():
			return p.wrap("flush", context.Cause(ctx))
		}
	}
	return nil
}

// endGroup begins a new group, and returns the earlier ones that are not settled.
func (p *Producer) endGroup() (groups []*group) {
	if p.group.open > 0 {
		p.groups[p.group] = struct{}{}
		p.group = newGroup()
	}
	for g := range p.groups {
		groups = append(groups, g)
	}
	return groups
}

// Close refuses further records with [braid.ErrClosed], and returns when the outcome of all
// earlier ones is known. If ctx ends first, Close gives up the remaining records and returns
// the cause: those that may be stored get [braid.ErrOutcomeUnknown], the others ErrClosed. All
// goroutines of the producer have ended when Close returns. Further calls do the same.
func (p *Producer) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	for p.waiters.len() > 0 {
		close(p.waiters.pop().ready)
	}
	p.mu.Unlock()
	p.ring()
	select {
	case <-p.stopped:
		return nil
	case <-ctx.Done():
	}
	p.end(braid.ErrClosed)
	<-p.stopped
	return p.wrap("close", context.Cause(ctx))
}

// validate refuses entries that the service would refuse, so that none fails a request that it
// shares with others.
func (p *Producer) validate(entries []braid.Entry) error {
	for i := range entries {
		name := ""
		if len(entries) > 1 {
			name = fmt.Sprintf("Entries[%d].", i)
		}
		if err := p.validateEntry(&entries[i], name); err != nil {
			return err
		}
	}
	return nil
}

// validateEntry is validate for one entry; name is what an error calls it.
func (p *Producer) validateEntry(e *braid.Entry, name string) error {
	switch n := utf8.RuneCountInString(e.PartitionKey); {
	case n == 0 || n > maxPartitionKeyChars:
		return invalid(name+"PartitionKey", fmt.Sprintf("%d characters long", n), "must be 1 to 256 characters")
	case !utf8.ValidString(e.PartitionKey):
		return invalid(name+"PartitionKey", fmt.Sprintf("%.64q", e.PartitionKey), "must be UTF-8")
	case e.Size() > p.opts.MaxRecordBytes:
		return invalid(name+"Data", fmt.Sprintf("%d bytes long, with its partition key", e.Size()), fmt.Sprintf("must be at most %d bytes (ProducerOptions.MaxRecordBytes)", p.opts.MaxRecordBytes))
	}
	return nil
}

// trouble is the reason why nothing can be put, and its beginning.
type trouble struct {
	err   error
	since time.Time
}

// note notes a failure. The first failure after a success is the beginning.
func (t *trouble) note(err error, now time.Time) {
	if t.err == nil {
		t.since = now
	}
	t.err = err
}

// ring wakes run.
func (p *Producer) ring() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

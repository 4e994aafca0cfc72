package awskinesis

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/braidstream/braid"
)

const maxPartitionKeyChars = 256

// ErrEarlierFailed reports a record that was refused because the outcome of an earlier record of
// its partition key, in the same call, is unknown. Storing it would break the order if the caller
// puts the earlier record again.
var ErrEarlierFailed = errors.New("outcome of an earlier record of the partition key is unknown")

// Producer puts records to a stream of Amazon Kinesis. It has the methods of a [braid.Stream], with
// the same outcomes, so a program can use either one through an interface.
//
// It collects the records of all callers into few requests, and keeps the order of each partition
// key: the records that one goroutine puts one after another, and the records of one call, are
// stored in that order, despite throttling, failures and reshards. As with any Kinesis client,
// retries may store a record more than once. A record that appears after a later one of its key is
// always such a duplicate.
//
// All methods may be called by any number of goroutines. Call Close, or buffered records are lost.
type Producer struct {
	client KinesisClient
	stream streamID
	label  string // for errors
	opts   *ProducerOptions
	counts counts

	// life ends requests in flight when Close gives up.
	life context.Context
	end  context.CancelCauseFunc

	wake    chan struct{} // signals run that there may be work
	stopped chan struct{} // closed by run when it has ended, with all requests
	mapTurn chan struct{} // has a token while the map of shards is renewed

	mu       sync.Mutex // guards the fields below, and every item, call and group
	schedule *schedule
	buffered int                 // cost of the items that are held
	waiters  list.List           // of *waiter: for room in the buffer, in their order
	requests int                 // in flight
	group    *group              // of the records that are put now
	groups   map[*group]struct{} // those before it that are not settled
	flushes  int                 // that wait
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
	ready chan struct{} // closed when it has them, or the producer is closed
	got   bool
}

// NewProducer returns a producer for the stream with that name or ARN. It lists the stream's
// shards, so it fails at once if the stream does not exist or permissions are missing. nil options
// are safe defaults. Errors: [braid.ErrInvalidArgument], [braid.ErrStreamNotFound], and those of
// the client.
func NewProducer(ctx context.Context, client KinesisClient, stream string, opts *ProducerOptions) (*Producer, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("awskinesis: new producer: %w", err)
	}
	if client == nil || stream == "" {
		return nil, fmt.Errorf("awskinesis: new producer: %w", invalid("stream", fmt.Sprintf("%q, with client %v", stream, client), "must be a name or an ARN, with a client that is not nil"))
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

// PutRecord puts a record, and returns when the service has stored it. The data is copied, so the
// caller may reuse it after the call. For an aggregated record, SequenceNumber of the result is
// that of its carrier. It is zero if the service uses a layout of sequence numbers that braid does
// not know.
//
// After a failure of the connection or the service, PutRecord retries, up to 3 attempts in all.
// Errors of refused records: [braid.ErrInvalidArgument]; [braid.ErrThroughputExceeded] if the quota
// of the shard is used up or the buffer is full ([Producer.PutRecordWait] waits instead);
// [braid.ErrStreamNotFound]; [braid.ErrKeyUnavailable]; [braid.ErrClosed]; the cause of ctx if it
// ended before the record was sent; and other errors of the client after which nothing was stored,
// such as missing permissions. If the outcome is unknown, the error is [braid.ErrOutcomeUnknown],
// which wraps the cause.
func (p *Producer) PutRecord(ctx context.Context, partitionKey string, data []byte) (braid.PutResult, error) {
	return p.putOne(ctx, braid.Entry{PartitionKey: partitionKey, Data: data}, false)
}

// PutRecordWait is [Producer.PutRecord], except that it waits for room in the buffer, and retries
// after throttling and after all temporary failures, until its context ends. Errors: as PutRecord,
// without ErrThroughputExceeded.
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

// PutRecords puts several records, and returns when the outcome of each is known. It returns one
// result for each entry, in the same order; Err of a result is nil if the record was stored. The
// errors of results are those of [Producer.PutRecord], and [ErrEarlierFailed]. Once a record was
// not stored, for whatever reason, the later records of its partition key in this call are not put
// either, so that a caller can retry them all in order.
//
// The call itself returns an error only if nothing was put: [braid.ErrInvalidArgument], which names
// the invalid entry, [braid.ErrClosed], or the cause of ctx if it had ended. The number of entries
// is not limited.
func (p *Producer) PutRecords(ctx context.Context, entries []braid.Entry) ([]braid.PutResult, error) {
	results, err := p.put(ctx, entries, false)
	return p.wrapResults(results), p.wrap("put records", err)
}

// PutRecordsWait is [Producer.PutRecords], except that it waits and retries as
// [Producer.PutRecordWait] does. The entries may be larger than the buffer.
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

// PutRecordAsync is [Producer.PutRecordWait], except that it returns as soon as the record is in
// the buffer. done is called later with the result; its Err is nil if the record was stored. ctx
// also limits the attempts to put the record. If PutRecordAsync returns an error, the record was
// refused, and done is not called.
//
// done is called once, on a goroutine of the producer, and must not block. Records that one
// goroutine puts one after another are stored in that order. If one of them fails, the later
// records of its key are still put.
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

// Flush sends all records put before the call, without waiting for others to join them. It returns
// when their outcomes are known, or, with its cause, when ctx ends. Use it with
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

// endGroup begins a new group, and returns the earlier groups that are not settled.
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

// Close refuses further records with [braid.ErrClosed], and returns when the outcomes of all
// earlier records are known. If ctx ends before that, Close gives up the remaining records and
// returns the cause of ctx: records that may be stored get [braid.ErrOutcomeUnknown], the others
// ErrClosed. All goroutines of the producer have ended when Close returns. Close may be called
// again, and does the same.
func (p *Producer) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	for e := p.waiters.Front(); e != nil; e = p.waiters.Front() {
		close(p.waiters.Remove(e).(*waiter).ready)
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

// validate refuses entries that the service would refuse. One such entry would fail the whole
// request.
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

// trouble is the reason why nothing can be put, and the time at which that began.
type trouble struct {
	err   error
	since time.Time
}

// note notes a failure. The first failure after a success sets the time.
func (t *trouble) note(err error, now time.Time) {
	if t.err == nil {
		t.since = now
	}
	t.err = err
}

// ring makes run look again.
func (p *Producer) ring() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

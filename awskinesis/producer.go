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

// ErrEarlierFailed reports a record that was not put because an earlier one of its
// partition key, in the same call, has an unknown outcome: to put it would break the order
// if that one is put again. Refused.
var ErrEarlierFailed = errors.New("outcome of an earlier record of the partition key is unknown")

// Producer puts records to a stream of Amazon Kinesis. Its methods are those of
// [braid.Stream], with the same outcomes, so a program can have either behind an interface.
//
// It collects the records of all callers into few requests, and keeps the order of each
// partition key: records that one goroutine puts one after the other, and those of one call,
// are stored in that order, through throttling, failures and reshards. Attempts may store a
// record more than once, as with any client of Kinesis; what is read again after a later
// record of its key is always such a repetition.
//
// All methods may be called by any number of goroutines. Close it, or what it holds is lost.
type Producer struct {
	client KinesisClient
	stream streamID
	label  string // for errors
	opts   *ProducerOptions
	counts counts

	// life ends what is on its way, when Close gives up.
	life context.Context
	end  context.CancelCauseFunc

	wake    chan struct{} // tells run that there is something to look at
	stopped chan struct{} // closed by run when it has ended, with all requests
	mapTurn chan struct{} // holds a token while the map of shards is renewed

	mu       sync.Mutex // guards the fields below, and every item, call and group
	schedule *schedule
	buffered int                 // cost of the items that are held
	waiters  fifo[*waiter]       // for room in the buffer
	requests int                 // on their way
	group    *group              // of the records that are put now
	groups   map[*group]struct{} // those before it that are not settled
	flushes  int                 // that wait
	closed   bool
	trouble  trouble // of the last request; zero if any of it was stored
}

// group is the records between two flushes.
type group struct {
	open    int           // not settled
	settled chan struct{} // closed when there is none, after the group has ended
}

// waiter waits until there is room for cost bytes.
type waiter struct {
	cost  int
	ready chan struct{} // closed when it has got them, or the producer is closed
	gone  bool          // it no longer waits
	got   bool
}

// NewProducer returns a producer for the stream of that name or ARN. It asks the service for
// the stream's shards, so a stream that does not exist, or permissions that lack, show at
// once. nil options are safe defaults. Errors: [braid.ErrInvalidArgument],
// [braid.ErrStreamNotFound], and those of the client.
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

// PutRecord puts a record, and returns when the service has stored it. The data is copied;
// data may be reused at once. SequenceNumber of the result is that of the carrier if the
// record was aggregated; it is zero if the service's has a layout that braid does not know.
//
// A failure of the connection or of the service is tried again, up to 3 attempts in all.
// Refused: [braid.ErrInvalidArgument], [braid.ErrThroughputExceeded] (the shard's budget is
// used up or its buffer is full; [Producer.PutRecordWait] waits instead),
// [braid.ErrStreamNotFound], [braid.ErrKeyUnavailable], [braid.ErrClosed], the cause of ctx if
// it ended before the record was on its way, and other errors of the client that say that
// nothing was stored, such as missing permissions. Unknown: [braid.ErrOutcomeUnknown], which
// wraps the cause.
func (p *Producer) PutRecord(ctx context.Context, partitionKey string, data []byte) (braid.PutResult, error) {
	return p.putOne(ctx, braid.Entry{PartitionKey: partitionKey, Data: data}, false)
}

// PutRecordWait is [Producer.PutRecord] that waits for room in the buffer, and tries again
// after throttling and after any failure that may pass, until its context ends. Errors: as
// PutRecord, without ErrThroughputExceeded.
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

// PutRecords puts several records, and returns when the outcome of each is known: one
// result for each entry, in the same order, whose Err is nil if the record was stored. The
// errors of results are those of [Producer.PutRecord], and [ErrEarlierFailed]. Once a record
// was not stored, for whatever reason, the later ones of its partition key in this call are
// not put, so that a caller can put them again and keep the order.
//
// The call itself fails only if nothing was put: an entry that is not valid refuses it
// ([braid.ErrInvalidArgument], which names the entry), and so do [braid.ErrClosed] and the
// cause of a context that has ended. There is no limit on the number of entries.
func (p *Producer) PutRecords(ctx context.Context, entries []braid.Entry) ([]braid.PutResult, error) {
	results, err := p.put(ctx, entries, false)
	return p.wrapResults(results), p.wrap("put records", err)
}

// PutRecordsWait is [Producer.PutRecords] that waits as [Producer.PutRecordWait] does. The
// entries may be more than the buffer holds.
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

// PutRecordAsync is [Producer.PutRecordWait] that returns once the record has room in the
// buffer; done is called later with the result, whose Err says why the record was not
// stored. ctx is that of the record: it bounds the attempts as well. With an error the record
// was refused, and done is not called.
//
// done is called once, by a goroutine of the producer, which it must not hold up. Records that
// one goroutine puts one after the other are stored in that order, but if one of them fails,
// the later ones of its key do not.
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

// Flush sends what was put before without waiting for other records, and returns when the
// outcome of all of it is known, or with the cause of ctx when that ends. It is of use with
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

// endGroup begins a new group, and returns those before it that are not settled.
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

// Close refuses further records with [braid.ErrClosed], and returns when the outcome of
// those that were put is known. When ctx ends before, what is left is given up, and the error
// is its cause: records that may be stored have [braid.ErrOutcomeUnknown], the others
// ErrClosed. All goroutines of the producer have ended when Close returns. To close it again
// does the same.
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

// validate refuses entries that the service would refuse, so that none makes a request fail
// that has others as well.
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

// trouble is why nothing can be put, and since when.
type trouble struct {
	err   error
	since time.Time
}

// note notes a failure. The first one since the last success says since when.
func (t *trouble) note(err error, now time.Time) {
	if t.err == nil {
		t.since = now
	}
	t.err = err
}

// ring has run look again.
func (p *Producer) ring() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

package kinesistest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi/internal/server"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// Call is a call of the service.
type Call struct {
	Operation string // such as "PutRecords"
	Time      time.Time

	// Input is the request as a type of the SDK, such as a *kinesis.PutRecordsInput. The SDK
	// lacks the operations on queues; for these it is a map[string]any, as encoding/json
	// decodes the request.
	Input any

	// Err is the name of the error in the answer, such as "ResourceNotFoundException". It is
	// "no answer" if the connection broke or the caller gave up, and empty if the call
	// succeeded or is still running.
	Err string

	// Refused has the indexes of the entries of a PutRecords that were refused.
	Refused []int
}

const noAnswer = "no answer"

// Calls returns the calls of an operation so far, in the order of their arrival; of all
// operations if the name is empty. Each attempt of the SDK is a call. Invalid requests,
// which the service refuses before any operation, are not calls.
func (k *Kit) Calls(operation string) []Call {
	k.t.Helper()
	if operation != "" {
		k.checkOperation(operation)
	}
	k.log.mu.Lock()
	defer k.log.mu.Unlock()
	var calls []Call
	for _, c := range k.log.calls {
		if operation == "" || c.operation == operation {
			calls = append(calls, Call{c.operation, c.time, toSDK(c.operation, c.input), c.err, slices.Clone(c.refused)})
		}
	}
	return calls
}

// log records the calls of the service, and the records that readers received.
type log struct {
	mu        sync.Mutex // guards all fields, and what they point to
	calls     []*call
	delivered []delivery
	places    map[reader]place
}

type call struct {
	operation string
	time      time.Time
	input     any // of package service
	err       string
	refused   []int
}

// reader identifies the readers of a shard that share a throughput: one registered
// consumer, or all callers of GetRecords.
type reader struct {
	consumer string // its ARN; empty for GetRecords
	stream   string
	created  int64 // when the stream was created, in nanoseconds
	shard    braid.ShardID
}

func readerOf(consumer string, p service.Place) reader {
	return reader{consumer, p.Stream, p.Created, p.Shard}
}

// of reports whether the reader reads this stream, and not an earlier one of the same name.
func (r *reader) of(s *braid.Stream) bool {
	return r.stream == s.Name() && r.created == s.CreatedAt().UnixNano()
}

// place is the position from which a reader continues, unless the shard has ended.
type place struct {
	at    braid.Position
	ended bool
}

// delivery is a record that a reader received.
type delivery struct {
	reader
	key, number, data string
}

// intercept runs a call of the service in one of the kit's lives: it applies the call's
// fault and records the call.
func (k *Kit) intercept(ctx context.Context, l *life, c *server.Call, next func(context.Context) (any, error)) (any, error) {
	noted := k.log.begin(c)
	in := c.Input // a fault may replace the input for the service
	if k.faults.Pending() > 0 {
		// The end of the life ends a delay.
		delayed, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(l.off, cancel)()
		out, err := k.faults.Intercept(delayed, c, func(given context.Context) (any, error) {
			if service.IsRedelivering(given) {
				return next(service.Redelivering(ctx))
			}
			return next(ctx)
		})
		return k.log.end(l, noted, in, out, err)
	}
	out, err := next(ctx)
	return k.log.end(l, noted, in, out, err)
}

func (g *log) begin(c *server.Call) *call {
	noted := &call{operation: c.Operation, time: time.Now(), input: keep(c.Input)}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = append(g.calls, noted)
	return noted
}

// end records the outcome of a call. It decides whether the answer goes out or the end of
// the life cuts it off. Crash takes the state of the disk after the life has ended, so
// whatever an answer acknowledged is on that disk.
func (g *log) end(l *life, noted *call, in, out any, err error) (any, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.off.Err() != nil {
		if sub, ok := out.(*service.Subscription); ok && err == nil {
			sub.Close()
		}
		out, err = nil, server.ErrDrop
	}
	var e *service.Error
	switch {
	case errors.As(err, &e):
		noted.err = e.Type
	case err != nil:
		noted.err = noAnswer
	}
	if err != nil {
		return nil, err
	}
	switch out := out.(type) {
	case *service.PutRecordsOutput:
		for i := range out.Records {
			if out.Records[i].ErrorCode != nil {
				noted.refused = append(noted.refused, i)
			}
		}
	case *service.GetShardIteratorOutput:
		if p, ok := l.service.PlaceOf(out.ShardIterator); ok {
			g.move(readerOf("", p), place{at: p.Position})
		}
	case *service.GetRecordsOutput:
		if p, ok := l.service.PlaceOf(*in.(*service.GetRecordsInput).ShardIterator); ok {
			r := readerOf("", p)
			g.deliver(r, out.Records)
			to := place{ended: out.NextShardIterator == nil}
			if !to.ended {
				p, _ = l.service.PlaceOf(*out.NextShardIterator) // the service made it, so it is valid
				to.at = p.Position
			}
			g.move(r, to)
		}
	case *service.Subscription:
		g.follow(out, *in.(*service.SubscribeToShardInput).ConsumerARN)
	}
	return out, nil
}

// follow records what a subscription delivers.
func (g *log) follow(sub *service.Subscription, consumer string) {
	r := readerOf(consumer, sub.Place())
	sub.Observe = func(event *service.SubscribeToShardEvent) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.deliver(r, event.Records)
		to := place{ended: event.ContinuationSequenceNumber == nil}
		if !to.ended {
			if number, err := braid.ParseSequenceNumber(*event.ContinuationSequenceNumber); err == nil {
				to.at = braid.AfterSequence(number)
			}
		}
		g.move(r, to)
	}
}

func (g *log) move(r reader, to place) {
	if g.places == nil {
		g.places = make(map[reader]place)
	}
	g.places[r] = to
}

func (g *log) deliver(r reader, records []service.Record) {
	for i := range records {
		rec := &records[i]
		d := delivery{reader: r, number: rec.SequenceNumber, data: string(rec.Data)}
		if rec.PartitionKey != nil {
			d.key = *rec.PartitionKey
		}
		g.delivered = append(g.delivered, d)
	}
}

// keep returns a copy of an input that stays valid after the call: the server reuses the
// memory of the records' data.
func keep(in any) any {
	switch in := in.(type) {
	case *service.PutRecordInput:
		kept := *in
		kept.Data = slices.Clone(in.Data)
		return &kept
	case *service.PutRecordsInput:
		kept := *in
		kept.Records = slices.Clone(in.Records)
		for i := range kept.Records {
			kept.Records[i].Data = slices.Clone(kept.Records[i].Data)
		}
		return &kept
	default:
		return in
	}
}

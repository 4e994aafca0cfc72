package braidotel

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/queue"
)

// Codec puts headers beside the data of a record, and takes them out again. The program
// chooses it, since all readers of the stream must know it. It must be safe for use by
// any number of goroutines.
type Codec interface {
	// Encode returns data with headers beside it, in its own memory. It does not change data.
	Encode(headers map[string]string, data []byte) ([]byte, error)

	// Decode returns what was passed to Encode. It should return data that was never encoded
	// unchanged, without headers, so that a stream can start to use a codec while it is in
	// use. An error means that the data is corrupt. headers may be nil.
	Decode(encoded []byte) (headers map[string]string, data []byte, err error)
}

// TracingOptions are options of a [Tracing]. The zero value and nil are safe defaults.
type TracingOptions struct {
	// Codec carries the context of a trace in the data of records. nil means that no context
	// is carried: data is put and read unchanged, and spans have no links.
	Codec Codec

	// Provider creates the spans. nil means the global provider at the time of [NewTracing].
	Provider trace.TracerProvider

	// Propagator defines the headers. nil means the global one, which by default defines
	// none: set propagation.TraceContext there, or here.
	Propagator propagation.TextMapPropagator
}

// Tracing creates spans for the calls that put, receive and process records, and carries
// their contexts from producers to consumers. It comes from [NewTracing], and may be used
// by any number of goroutines.
type Tracing struct {
	codec      Codec // nil if contexts are not carried
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
}

// NewTracing returns a tracing. nil options are safe defaults.
func NewTracing(options *TracingOptions) *Tracing {
	var opts TracingOptions
	if options != nil {
		opts = *options
	}
	if opts.Provider == nil {
		opts.Provider = otel.GetTracerProvider()
	}
	if opts.Propagator == nil {
		opts.Propagator = otel.GetTextMapPropagator()
	}
	return &Tracing{opts.Codec, opts.Provider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL)), opts.Propagator}
}

// PutRecord is [braid.Stream.PutRecord] in a span "put STREAM" of kind producer. The
// record carries the context of the span. Errors: those of the call, and those of the
// codec, after which nothing was put.
func (t *Tracing) PutRecord(ctx context.Context, s *braid.Stream, partitionKey string, data []byte) (result braid.PutResult, err error) {
	ctx, span := t.start(ctx, "put", semconv.MessagingOperationTypeSend, s.Name(), trace.SpanKindProducer, nil)
	defer func() { end(span, err) }()
	if data, err = t.encode(ctx, data); err != nil {
		return braid.PutResult{}, err
	}
	if result, err = s.PutRecord(ctx, partitionKey, data); err == nil {
		span.SetAttributes(semconv.MessagingMessageID(result.SequenceNumber.String()), semconv.MessagingDestinationPartitionID(string(result.ShardID)))
	}
	return result, err
}

// PutRecords is [braid.Stream.PutRecords] in one span, like PutRecord. If any entry is
// refused, the status of the span is an error. The entries are not changed.
func (t *Tracing) PutRecords(ctx context.Context, s *braid.Stream, entries []braid.Entry) (results []braid.PutResult, err error) {
	ctx, span := t.start(ctx, "put", semconv.MessagingOperationTypeSend, s.Name(), trace.SpanKindProducer, nil, semconv.MessagingBatchMessageCount(len(entries)))
	defer func() { end(span, err) }()
	encoded := make([]braid.Entry, len(entries))
	for i := range entries {
		encoded[i] = entries[i]
		if encoded[i].Data, err = t.encode(ctx, entries[i].Data); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	results, err = s.PutRecords(ctx, encoded)
	refused := 0
	for i := range results {
		if results[i].Err != nil {
			if refused++; refused == 1 {
				span.RecordError(results[i].Err)
			}
		}
	}
	if refused > 0 {
		span.SetStatus(codes.Error, fmt.Sprintf("%d of %d entries were refused", refused, len(entries)))
	}
	return results, err
}

// Process decodes the data of a batch, and calls fn with it in a span "process STREAM" of
// kind consumer. The span has links to the spans that put the records. Call it from a
// processor's ProcessRecords:
//
//	func (p *processor) ProcessRecords(ctx context.Context, batch *consumer.Batch) error {
//		return p.tracing.Process(ctx, batch, p.process)
//	}
//
// A record that cannot be decoded ends the batch for fn, which gets only the records
// before it. If fn returns nil for them, or if there are none, Process returns a
// [consumer.RecordError] for that record. Other errors: those of fn.
func (t *Tracing) Process(ctx context.Context, batch *consumer.Batch, fn func(context.Context, *consumer.Batch) error) error {
	decoded, links, corrupt := t.decode(batch.Records)
	if len(decoded) > 0 { // a RecordError without this call would make them done, although fn has not seen them
		shorter := *batch
		shorter.Records = decoded
		err := t.process(ctx, batch.Lease(), len(decoded), links, func(ctx context.Context) error { return fn(ctx, &shorter) })
		if err != nil {
			return err
		}
	}
	return corrupt
}

// ProcessTx is Process for a [consumer.TxProcessor]. The worker rolls the transaction of a
// failed batch back, and repeats the records before a [consumer.RecordError] on their own.
// So if a record cannot be decoded, ProcessTx returns that error without calling fn.
func (t *Tracing) ProcessTx(ctx context.Context, tx *braid.Tx, batch *consumer.TxBatch, fn func(context.Context, *braid.Tx, *consumer.TxBatch) error) error {
	decoded, links, corrupt := t.decode(batch.Records)
	if corrupt != nil {
		return corrupt
	}
	same := *batch
	same.Records = decoded
	return t.process(ctx, batch.Lease(), len(decoded), links, func(ctx context.Context) error { return fn(ctx, tx, &same) })
}

// decode returns decoded copies of records, and links to the spans that put them. It ends
// before the first record that cannot be decoded, and returns a RecordError for it.
func (t *Tracing) decode(records []consumer.Record) (decoded []consumer.Record, links []trace.Link, corrupt error) {
	decoded, found := make([]consumer.Record, 0, len(records)), newLinks()
	for _, r := range records {
		encoded := r
		producer, err := t.Decode(&r.Record)
		if err != nil {
			return decoded, found.all, &consumer.RecordError{Record: encoded, Err: err}
		}
		found.add(producer)
		decoded = append(decoded, r)
	}
	return decoded, found.all, nil
}

// process calls fn in a span.
func (t *Tracing) process(ctx context.Context, lease consumer.Lease, records int, links []trace.Link, fn func(context.Context) error) (err error) {
	ctx, span := t.start(ctx, "process", semconv.MessagingOperationTypeProcess, lease.Stream, trace.SpanKindConsumer, links,
		semconv.MessagingBatchMessageCount(records), semconv.MessagingDestinationPartitionID(string(lease.Shard)))
	defer func() { end(span, err) }()
	return fn(ctx)
}

// Receive is [queue.Queue.Receive] in a span "receive QUEUE" of kind client, with links
// to the spans that put the records. Their data stays encoded, for
// [Tracing.ProcessRecord]. The span includes the time that the call waits for records.
// Errors: those of the call.
func (t *Tracing) Receive(ctx context.Context, q *queue.Queue, n int, options *queue.ReceiveOptions) (records []queue.Record, err error) {
	ctx, span := t.start(ctx, "receive", semconv.MessagingOperationTypeReceive, q.Name(), trace.SpanKindClient, nil)
	defer func() { end(span, err) }()
	records, err = q.Receive(ctx, n, options)
	span.SetAttributes(semconv.MessagingBatchMessageCount(len(records)))
	links := newLinks()
	for _, r := range records {
		if producer, err := t.Decode(&r.Record); err == nil { // otherwise the caller of ProcessRecord gets the error
			links.add(producer)
		}
	}
	for _, link := range links.all {
		span.AddLink(link)
	}
	return records, err
}

// ProcessRecord decodes the data of a record of a queue, and calls fn with it in a span
// "process QUEUE" of kind consumer, with a link to the span that put the record. It is
// for the records that [Tracing.Receive] returns, and for the function of
// [queue.Queue.Work]. Errors: those of fn, and of the codec.
func (t *Tracing) ProcessRecord(ctx context.Context, q *queue.Queue, r queue.Record, fn func(context.Context, queue.Record) error) (err error) {
	links := newLinks()
	producer, err := t.Decode(&r.Record)
	if err != nil {
		return err
	}
	links.add(producer)
	ctx, span := t.start(ctx, "process", semconv.MessagingOperationTypeProcess, q.Name(), trace.SpanKindConsumer, links.all, semconv.MessagingMessageID(r.ID))
	defer func() { end(span, err) }()
	return fn(ctx, r)
}

// Decode replaces the data of a record with the original data, and returns the context of
// the span that put it. The context is invalid if the record carries none. Decode is for
// readers for which there is no other method, such as loops over [braid.Stream.Follow].
// Errors: those of the codec, after which the record is unchanged.
func (t *Tracing) Decode(r *braid.Record) (producer trace.SpanContext, err error) {
	if t.codec == nil {
		return trace.SpanContext{}, nil
	}
	headers, data, err := t.codec.Decode(r.Data)
	if err != nil {
		return trace.SpanContext{}, fmt.Errorf("decode record %s: %w", r.SequenceNumber, err)
	}
	r.Data = data
	ctx := t.propagator.Extract(context.Background(), propagation.MapCarrier(headers))
	return trace.SpanContextFromContext(ctx), nil
}

// encode returns data with the context beside it.
func (t *Tracing) encode(ctx context.Context, data []byte) ([]byte, error) {
	if t.codec == nil {
		return data, nil
	}
	headers := propagation.MapCarrier{}
	t.propagator.Inject(ctx, headers)
	encoded, err := t.codec.Encode(headers, data)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return encoded, nil
}

// start begins a span according to the conventions for messaging.
func (t *Tracing) start(ctx context.Context, name string, operation attribute.KeyValue, destination string, kind trace.SpanKind, links []trace.Link, more ...attribute.KeyValue) (context.Context, trace.Span) {
	attributes := append(more, semconv.MessagingSystemKey.String("braid"), semconv.MessagingDestinationName(destination), semconv.MessagingOperationName(name), operation)
	return t.tracer.Start(ctx, name+" "+destination, trace.WithSpanKind(kind), trace.WithLinks(links...), trace.WithAttributes(attributes...))
}

// end ends a span with the error of its operation. After a panic, the span is ended
// without an error.
func end(span trace.Span, err error) {
	if err != nil {
		span.RecordError(err)
		span.SetAttributes(semconv.ErrorType(err))
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// links are links to the spans of producers, without duplicates.
type links struct {
	all  []trace.Link
	seen map[trace.SpanID]bool
}

func newLinks() *links { return &links{seen: make(map[trace.SpanID]bool)} }

func (l *links) add(producer trace.SpanContext) {
	if producer.IsValid() && !l.seen[producer.SpanID()] {
		l.seen[producer.SpanID()] = true
		l.all = append(l.all, trace.Link{SpanContext: producer})
	}
}

package braidotel

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/queue"
)

// jsonCodec is a program's codec. Data that does not begin with "{" was not encoded.
type jsonCodec struct{}

type jsonEnvelope struct {
	Headers map[string]string
	Data    []byte
}

func (jsonCodec) Encode(headers map[string]string, data []byte) ([]byte, error) {
	if string(data) == "unspeakable" {
		return nil, errors.New("cannot be encoded")
	}
	return json.Marshal(jsonEnvelope{headers, data})
}

func (jsonCodec) Decode(encoded []byte) (map[string]string, []byte, error) {
	if len(encoded) == 0 || encoded[0] != '{' {
		return nil, encoded, nil
	}
	var e jsonEnvelope
	err := json.Unmarshal(encoded, &e)
	return e.Headers, e.Data, err
}

// traced returns a tracing, and a recorder of its spans.
func traced(t *testing.T, codec Codec) (*Tracing, *tracetest.SpanRecorder) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	return NewTracing(&TracingOptions{Codec: codec, Provider: provider, Propagator: propagation.TraceContext{}}), spans
}

// attributesOfSpan returns the attributes of a span as text.
func attributesOfSpan(span sdktrace.ReadOnlySpan) map[string]string {
	found := make(map[string]string)
	for _, a := range span.Attributes() {
		found[string(a.Key)] = a.Value.String()
	}
	return found
}

func linked(span sdktrace.ReadOnlySpan) (to []trace.SpanID) {
	for _, l := range span.Links() {
		to = append(to, l.SpanContext.SpanID())
	}
	return to
}

func TestASpanOfAConsumerIsLinkedToThoseOfTheProducers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t)
		s := openStream(t, db, "orders")
		tracing, spans := traced(t, jsonCodec{})
		result, err := tracing.PutRecord(t.Context(), s, "k", []byte("one"))
		require.NoError(t, err)
		_, err = tracing.PutRecords(t.Context(), s, []braid.Entry{{PartitionKey: "k", Data: []byte("two")}, {PartitionKey: "k", Data: []byte("three")}})
		require.NoError(t, err)
		_, err = s.PutRecord(t.Context(), "k", []byte("bare"))
		require.NoError(t, err)

		var got []string
		w, err := consumer.New(db, &consumer.Config{App: "billing", Streams: []string{"orders"}}, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
			return tracing.Process(ctx, batch, func(ctx context.Context, batch *consumer.Batch) error {
				require.True(t, trace.SpanContextFromContext(ctx).IsValid())
				for _, r := range batch.Records {
					got = append(got, string(r.Data))
				}
				return nil
			})
		}))
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		require.NoError(t, w.App().WaitCaughtUp(t.Context()))
		stop()
		require.NoError(t, <-ended)
		require.Equal(t, []string{"one", "two", "three", "bare"}, got)

		all := spans.Ended()
		require.Len(t, all, 3)
		one, batch, process := all[0], all[1], all[2]
		require.Equal(t, "put orders", one.Name())
		require.Equal(t, trace.SpanKindProducer, one.SpanKind())
		require.Equal(t, map[string]string{
			"messaging.system": "braid", "messaging.destination.name": "orders", "messaging.operation.name": "put", "messaging.operation.type": "send",
			"messaging.message.id": result.SequenceNumber.String(), "messaging.destination.partition.id": "shardId-000000000000",
		}, attributesOfSpan(one))
		require.Equal(t, "2", attributesOfSpan(batch)["messaging.batch.message_count"])
		require.Equal(t, "process orders", process.Name())
		require.Equal(t, trace.SpanKindConsumer, process.SpanKind())
		require.Equal(t, map[string]string{
			"messaging.system": "braid", "messaging.destination.name": "orders", "messaging.operation.name": "process", "messaging.operation.type": "process",
			"messaging.batch.message_count": "4", "messaging.destination.partition.id": "shardId-000000000000",
		}, attributesOfSpan(process))
		require.Equal(t, []trace.SpanID{one.SpanContext().SpanID(), batch.SpanContext().SpanID()}, linked(process), "each once")
	})
}

func TestARecordOfAQueueIsLinkedToItsProducer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t)
		s := openStream(t, db, "orders")
		q, err := queue.Create(t.Context(), db, "mails", &queue.Options{Stream: "orders"})
		require.NoError(t, err)
		tracing, spans := traced(t, jsonCodec{})
		_, err = tracing.PutRecord(t.Context(), s, "k", []byte("one"))
		require.NoError(t, err)
		records, err := tracing.Receive(t.Context(), q, 10, nil)
		require.NoError(t, err)
		require.Len(t, records, 1)
		refused := errors.New("refused")
		err = tracing.ProcessRecord(t.Context(), q, records[0], func(_ context.Context, r queue.Record) error {
			require.Equal(t, "one", string(r.Data))
			return refused
		})
		require.Equal(t, refused, err)
		require.NotEqual(t, "one", string(records[0].Data), "it stays as it was")

		all := spans.Ended()
		require.Len(t, all, 3)
		put, receive, process := all[0], all[1], all[2]
		producer := []trace.SpanID{put.SpanContext().SpanID()}
		require.Equal(t, "receive mails", receive.Name())
		require.Equal(t, trace.SpanKindClient, receive.SpanKind())
		require.Equal(t, "1", attributesOfSpan(receive)["messaging.batch.message_count"])
		require.Equal(t, producer, linked(receive))
		require.Equal(t, "process mails", process.Name())
		require.Equal(t, trace.SpanKindConsumer, process.SpanKind())
		require.Equal(t, producer, linked(process))
		require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "refused"}, process.Status())
		require.Equal(t, records[0].ID, attributesOfSpan(process)["messaging.message.id"])
		require.NotEmpty(t, attributesOfSpan(process)["error.type"])
	})
}

func TestATransactionIsTraced(t *testing.T) {
	tracing, spans := traced(t, jsonCodec{})
	data, err := tracing.encode(t.Context(), []byte("one"))
	require.NoError(t, err)
	batch := &consumer.TxBatch{Records: []consumer.Record{{Record: braid.Record{Data: data}}}}
	db := open(t)
	require.NoError(t, db.Update(t.Context(), func(tx *braid.Tx) error {
		return tracing.ProcessTx(t.Context(), tx, batch, func(_ context.Context, same *braid.Tx, decoded *consumer.TxBatch) error {
			require.Same(t, tx, same)
			require.Equal(t, "one", string(decoded.Records[0].Data))
			return nil
		})
	}))
	require.Equal(t, data, batch.Records[0].Data, "the batch stays as it was")
	require.Len(t, spans.Ended(), 1)
}

func TestErrorsOfTheCodec(t *testing.T) {
	db := open(t)
	s := openStream(t, db, "s")
	tracing, spans := traced(t, jsonCodec{})
	_, err := tracing.PutRecord(t.Context(), s, "k", []byte("unspeakable"))
	require.ErrorContains(t, err, "encode record: cannot be encoded")
	_, err = tracing.PutRecords(t.Context(), s, []braid.Entry{{PartitionKey: "k"}, {PartitionKey: "k", Data: []byte("unspeakable")}})
	require.ErrorContains(t, err, "entry 1: encode record: cannot be encoded")
	require.Zero(t, s.Metrics().RecordsPut, "nothing was put")
	for _, span := range spans.Ended() {
		require.Equal(t, codes.Error, span.Status().Code)
	}

	_, err = tracing.Decode(&braid.Record{Data: []byte("{damaged")})
	require.ErrorContains(t, err, "decode record")
}

// A RecordError reports that the records before its record are done. So the processor gets
// them first, and its own error comes first, too.
func TestRecordsBeforeACorruptOneAreProcessed(t *testing.T) {
	tracing, spans := traced(t, jsonCodec{})
	record := func(data string) consumer.Record { return consumer.Record{Record: braid.Record{Data: []byte(data)}} }
	refused := errors.New("refused")
	for _, test := range []struct {
		name    string
		records []consumer.Record
		err     error // of the processor
		want    []string
		corrupt int // the record of the RecordError, or -1
	}{
		{"none", []consumer.Record{record("one"), record("two")}, nil, []string{"one", "two"}, -1},
		{"the last", []consumer.Record{record("one"), record("two"), record("{damaged")}, nil, []string{"one", "two"}, 2},
		{"several", []consumer.Record{record("one"), record("{damaged"), record("two"), record("{too")}, nil, []string{"one"}, 1},
		{"the first", []consumer.Record{record("{damaged"), record("two")}, nil, nil, 0},
		{"after one that fails", []consumer.Record{record("one"), record("{damaged")}, refused, []string{"one"}, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := len(spans.Ended())
			batch := &consumer.Batch{Records: slices.Clone(test.records)}
			var got []string
			err := tracing.Process(t.Context(), batch, func(_ context.Context, decoded *consumer.Batch) error {
				for _, r := range decoded.Records {
					got = append(got, string(r.Data))
				}
				return test.err
			})
			require.Equal(t, test.want, got)
			require.Equal(t, test.records, batch.Records, "the batch stays as it was")
			if test.want != nil {
				require.Equal(t, strconv.Itoa(len(test.want)), attributesOfSpan(spans.Ended()[before])["messaging.batch.message_count"])
			}
			var at *consumer.RecordError
			if test.corrupt < 0 {
				require.Equal(t, test.err, err)
				return
			}
			require.ErrorAs(t, err, &at)
			require.Equal(t, test.records[test.corrupt], at.Record)
		})
	}
}

// No record is checkpointed that the processor has not seen, except corrupt ones, which
// the Config says to skip.
func TestAWorkerLosesNoRecordToACorruptOne(t *testing.T) {
	for _, transactional := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			db := open(t)
			s := openStream(t, db, "orders")
			tracing, _ := traced(t, jsonCodec{})
			for _, data := range []string{"one", "two", "{damaged", "three", "{too", "four"} {
				_, err := s.PutRecord(t.Context(), "k", []byte(data))
				require.NoError(t, err)
			}
			var got []string
			see := func(records []consumer.Record) {
				for _, r := range records {
					got = append(got, string(r.Data))
				}
			}
			cfg := &consumer.Config{App: "billing", Streams: []string{"orders"}, MaxAttempts: 2, SkipFailed: true, Logger: slog.New(slog.DiscardHandler)}
			var w *consumer.Worker
			var err error
			if transactional {
				w, err = consumer.NewTx(db, cfg, consumer.TxProcessorFunc(func(ctx context.Context, tx *braid.Tx, batch *consumer.TxBatch) error {
					return tracing.ProcessTx(ctx, tx, batch, func(_ context.Context, _ *braid.Tx, batch *consumer.TxBatch) error {
						see(batch.Records)
						return nil
					})
				}))
			} else {
				w, err = consumer.New(db, cfg, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
					return tracing.Process(ctx, batch, func(_ context.Context, batch *consumer.Batch) error {
						see(batch.Records)
						return nil
					})
				}))
			}
			require.NoError(t, err)
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- w.Run(ctx) }()
			require.NoError(t, w.App().WaitCaughtUp(t.Context()))
			stop()
			require.NoError(t, <-ended)
			require.Equal(t, []string{"one", "two", "three", "four"}, got, "each once, although the worker has retried")
		})
	}
}

// Refused entries are reported in the span.
func TestRefusedEntriesShow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t)
		s, err := db.CreateStream(t.Context(), "s", &braid.StreamOptions{Capacity: braid.Capacity{Mode: braid.Provisioned, WriteRecordsPerSecond: 1}})
		require.NoError(t, err)
		tracing, spans := traced(t, nil)
		entries := []braid.Entry{{PartitionKey: "k", Data: []byte("as it is")}, {PartitionKey: "k"}}
		results, err := tracing.PutRecords(t.Context(), s, entries)
		require.NoError(t, err)
		require.ErrorIs(t, results[1].Err, braid.ErrThroughputExceeded)
		require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "1 of 2 entries were refused"}, spans.Ended()[0].Status())
		for r, err := range s.Records(t.Context(), braid.TrimHorizon()) {
			require.NoError(t, err)
			require.Equal(t, "as it is", string(r.Data), "no codec was given")
			producer, err := tracing.Decode(&r)
			require.NoError(t, err)
			require.False(t, producer.IsValid())
		}
	})
}

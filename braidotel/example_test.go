package braidotel_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/braidotel"
)

func ExampleRegister() {
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	reader := sdkmetric.NewManualReader() // a program has a periodic one
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	registration, err := braidotel.Register(db, provider, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer registration.Unregister()

	if _, err := db.OpenStream(context.Background(), "orders", nil); err != nil {
		log.Fatal(err)
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		log.Fatal(err)
	}
	for _, m := range all.ScopeMetrics[0].Metrics {
		if m.Name == "braid.streams" {
			fmt.Println(m.Name, m.Data.(metricdata.Gauge[int64]).DataPoints[0].Value)
		}
	}
	// Output: braid.streams 1
}

// envelope is what the program puts its records in.
type envelope struct {
	Headers map[string]string `json:"headers"`
	Data    json.RawMessage   `json:"data"`
}

type codec struct{}

func (codec) Encode(headers map[string]string, data []byte) ([]byte, error) {
	return json.Marshal(envelope{headers, data})
}

func (codec) Decode(encoded []byte) (map[string]string, []byte, error) {
	var e envelope
	err := json.Unmarshal(encoded, &e)
	return e.Headers, e.Data, err
}

func ExampleTracing() {
	db, err := braid.Open(braid.InMemory, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	ctx := context.Background()
	orders, err := db.OpenStream(ctx, "orders", nil)
	if err != nil {
		log.Fatal(err)
	}

	spans := tracetest.NewInMemoryExporter() // a program has one of its own
	tracing := braidotel.NewTracing(&braidotel.TracingOptions{
		Codec:      codec{},
		Provider:   sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)),
		Propagator: propagation.TraceContext{},
	})
	if _, err := tracing.PutRecord(ctx, orders, "customer-42", []byte(`"one book"`)); err != nil {
		log.Fatal(err)
	}
	for record, err := range orders.Records(ctx, braid.TrimHorizon()) {
		if err != nil {
			log.Fatal(err)
		}
		producer, err := tracing.Decode(&record)
		if err != nil {
			log.Fatal(err)
		}
		put := spans.GetSpans()[0]
		fmt.Println(put.Name, string(record.Data), producer.SpanID() == put.SpanContext.SpanID())
	}
	// Output: put orders "one book" true
}

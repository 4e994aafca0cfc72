// Package braidotel exports the metrics of a braid database to OpenTelemetry, and traces
// records from the program that puts them to the programs that process them.
//
// # Metrics
//
//	registration, err := braidotel.Register(db, otel.GetMeterProvider(), nil)
//	...
//	defer registration.Unregister()
//
// These are the metrics of the database, of its streams, of its applications (package
// consumer) and their workers in this process, and of its queues. docs/metrics.md of the
// repository lists all of them. [Options] limits how many streams, applications and
// queues have attributes of their own. Streams beyond the limit are added up as stream
// "(other)".
//
// OpenTelemetry has no asynchronous histogram. The histograms, such as
// braid.put.duration, come from a [Producer], which is passed to a reader:
//
//	reader := sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithProducer(braidotel.NewProducer(db, nil)))
//	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
//
// # Traces
//
// A [Tracing] wraps the calls that put, receive and process records in spans, by the semantic
// conventions for messaging, version 1.43.0: messaging.system is "braid", and
// messaging.destination.name the stream or the queue.
//
//	tracing := braidotel.NewTracing(&braidotel.TracingOptions{Codec: codec})
//	tracing.PutRecord(ctx, orders, "customer-42", data) // a span "put orders"
//
//	consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
//		return tracing.Process(ctx, batch, process) // a span "process orders", with links to those of the puts
//	})
//
// A record has a partition key and bytes, but no headers. To carry the context of a
// trace, it needs a [Codec] that puts headers beside the data. The program chooses the
// codec, since all readers of the stream must know it. A codec that uses package
// awskinesis/envelope is
//
//	type codec struct{ *envelope.Codec }
//
//	func (c codec) Encode(headers map[string]string, data []byte) ([]byte, error) {
//		m := envelope.Message{Data: data}
//		for key, value := range headers {
//			m.Set(key, value)
//		}
//		return c.Append(nil, &m)
//	}
//
//	func (c codec) Decode(data []byte) (map[string]string, []byte, error) {
//		m, _, err := c.Codec.Decode(data)
//		headers := make(map[string]string)
//		for _, h := range m.Headers {
//			headers[h.Key] = h.Value
//		}
//		return headers, m.Data, err
//	}
package braidotel

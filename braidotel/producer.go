package braidotel

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/braidstream/braid"
)

// Producer produces the histograms among the metrics of a database. It comes from
// [NewProducer], and may be used by any number of goroutines.
type Producer struct {
	gatherer *gatherer
	started  time.Time
}

var _ sdkmetric.Producer = (*Producer)(nil)

// NewProducer returns a producer for the option WithProducer of a reader of the SDK. nil
// options are safe defaults; only Apps, MaxApps and Timeout are used. The producer need
// not be closed.
func NewProducer(db *braid.DB, options *Options) *Producer {
	p := &Producer{gatherer: newGatherer(db, options), started: time.Now()}
	p.gatherer.times = true
	return p
}

// Produce implements the Producer of the SDK. Its error is always nil.
func (p *Producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	f := p.gatherer.gather()
	out := metricdata.ScopeMetrics{Scope: instrumentation.Scope{Name: scope}}
	produce(p, &out, ofDatabase, named[braid.Metrics]{value: &f.database})
	produce(p, &out, ofWorker, f.workers...)
	return []metricdata.ScopeMetrics{out}, nil
}

func produce[T any](p *Producer, out *metricdata.ScopeMetrics, metrics []row[T], values ...named[T]) {
	now := time.Now()
	for i := range metrics {
		m := &metrics[i]
		if m.kind != histogram || len(values) == 0 {
			continue
		}
		points := make([]metricdata.HistogramDataPoint[float64], len(values))
		for j, v := range values {
			h := m.times(v.value)
			point := &points[j]
			*point = metricdata.HistogramDataPoint[float64]{
				Attributes: attributesOf(m, v.names), StartTime: p.started, Time: now,
				Count: uint64(h.Count), Sum: h.Sum.Seconds(),
				Bounds: make([]float64, len(h.Buckets)), BucketCounts: make([]uint64, len(h.Buckets)+1),
			}
			rest := h.Count
			for k, b := range h.Buckets {
				point.Bounds[k], point.BucketCounts[k] = b.UpTo.Seconds(), uint64(b.Count)
				rest -= b.Count
			}
			point.BucketCounts[len(h.Buckets)] = uint64(rest)
		}
		out.Metrics = append(out.Metrics, metricdata.Metrics{
			Name: m.name, Description: m.help, Unit: m.unit,
			Data: metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality, DataPoints: points},
		})
	}
}

package braidotel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/braidstream/braid"
)

// scope is the name of the instrumentation.
const scope = "github.com/braidstream/braid/braidotel"

// Registration is the result of [Register]. Its method may be called by any goroutine.
type Registration struct{ callback metric.Registration }

// Register creates an asynchronous instrument for each metric that is not a histogram.
// They are observed whenever a reader of the provider collects. A nil provider means the
// global one; nil options are safe defaults. The database may be closed before
// Unregister: the values that are still in memory are then observed. Errors: those of the provider.
func Register(db *braid.DB, provider metric.MeterProvider, options *Options) (*Registration, error) {
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	in := &instruments{
		meter:    provider.Meter(scope),
		integers: make(map[string]metric.Int64Observable),
		seconds:  make(map[string]metric.Float64Observable),
	}
	instrument(in, ofDatabase)
	instrument(in, ofStream)
	instrument(in, ofShard)
	instrument(in, ofApp)
	instrument(in, ofWorker)
	instrument(in, ofQueue)
	complete, err := in.meter.Int64ObservableGauge(completeName, metric.WithDescription(completeHelp), metric.WithUnit("1"))
	in.note(complete, err)
	omitted, err := in.meter.Int64ObservableGauge(omittedName, metric.WithDescription(omittedHelp), metric.WithUnit("{series}"))
	in.note(omitted, err)
	if in.err != nil {
		return nil, in.err
	}

	gatherer := newGatherer(db, options)
	callback, err := in.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		f := gatherer.gather()
		observe(in, o, ofDatabase, named[braid.Metrics]{value: &f.database})
		observe(in, o, ofStream, f.streams...)
		observe(in, o, ofShard, f.shards...)
		observe(in, o, ofApp, f.apps...)
		observe(in, o, ofWorker, f.workers...)
		observe(in, o, ofQueue, f.queues...)
		o.ObserveInt64(complete, int64(boolean(f.complete)))
		for of, n := range f.omitted {
			o.ObserveInt64(omitted, int64(n), metric.WithAttributes(attribute.String("braid.of", of)))
		}
		return nil
	}, in.all...)
	if err != nil {
		return nil, err
	}
	return &Registration{callback}, nil
}

// Unregister ends the observation of the database. A second call does nothing.
func (r *Registration) Unregister() error { return r.callback.Unregister() }

// instruments are those of all metrics, by name; rows with the same name share one.
type instruments struct {
	meter    metric.Meter
	integers map[string]metric.Int64Observable
	seconds  map[string]metric.Float64Observable
	all      []metric.Observable
	err      error // of instruments that could not be created
}

func (in *instruments) note(made metric.Observable, err error) {
	in.all, in.err = append(in.all, made), errors.Join(in.err, err)
}

func instrument[T any](in *instruments, metrics []row[T]) {
	for i := range metrics {
		m := &metrics[i]
		if m.kind == histogram || in.integers[m.name] != nil || in.seconds[m.name] != nil {
			continue
		}
		help, unit := metric.WithDescription(m.help), metric.WithUnit(m.unit)
		var err error
		switch {
		case m.unit == "s" && m.kind == counter:
			in.seconds[m.name], err = in.meter.Float64ObservableCounter(m.name, help, unit)
		case m.unit == "s":
			in.seconds[m.name], err = in.meter.Float64ObservableGauge(m.name, help, unit)
		case m.kind == counter:
			in.integers[m.name], err = in.meter.Int64ObservableCounter(m.name, help, unit)
		default:
			in.integers[m.name], err = in.meter.Int64ObservableGauge(m.name, help, unit)
		}
		if o := in.integers[m.name]; o != nil {
			in.note(o, err)
		} else {
			in.note(in.seconds[m.name], err)
		}
	}
}

func observe[T any](in *instruments, o metric.Observer, metrics []row[T], values ...named[T]) {
	for i := range metrics {
		m := &metrics[i]
		if m.kind == histogram {
			continue
		}
		for _, v := range values {
			attributes := metric.WithAttributeSet(attributesOf(m, v.names))
			if seconds := in.seconds[m.name]; seconds != nil {
				o.ObserveFloat64(seconds, m.number(v.value), attributes)
			} else {
				o.ObserveInt64(in.integers[m.name], int64(m.number(v.value)), attributes)
			}
		}
	}
}

// attributesOf returns the attributes of a row of a metric. The names, such as that of a
// stream, are the values of its labels.
func attributesOf[T any](m *row[T], names []string) attribute.Set {
	attributes := make([]attribute.KeyValue, 0, len(names)+1)
	for i, name := range names {
		attributes = append(attributes, attribute.String("braid."+m.labels[i], name))
	}
	if m.label != "" {
		attributes = append(attributes, attribute.String("braid."+m.label, m.value))
	}
	return attribute.NewSet(attributes...)
}

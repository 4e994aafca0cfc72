package braidprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/braidstream/braid"
)

// Collector collects the metrics of a database. It comes from [NewCollector]. It may be
// used by any number of goroutines, even while the database is being closed and
// afterwards.
type Collector struct {
	gatherer *gatherer
	descs    map[string]*prometheus.Desc // by name; not changed after NewCollector

	complete, omitted *prometheus.Desc
}

var _ prometheus.Collector = (*Collector)(nil)

// NewCollector returns a collector of a database's metrics, ready to be registered. nil
// options are safe defaults. The collector need not be closed. After the database was
// closed it collects what is still in memory.
func NewCollector(db *braid.DB, options *Options) *Collector {
	c := &Collector{
		gatherer: newGatherer(db, options),
		descs:    make(map[string]*prometheus.Desc),
		complete: prometheus.NewDesc(completeName, completeHelp, nil, nil),
		omitted:  prometheus.NewDesc(omittedName, omittedHelp, []string{"of"}, nil),
	}
	describe(c, ofDatabase)
	describe(c, ofStream)
	describe(c, ofShard)
	describe(c, ofApp)
	describe(c, ofWorker)
	describe(c, ofQueue)
	return c
}

func describe[T any](c *Collector, metrics []row[T]) {
	for i := range metrics {
		m := &metrics[i]
		labels := m.labels
		if m.label != "" {
			labels = append(labels[:len(labels):len(labels)], m.label)
		}
		c.descs[m.name] = prometheus.NewDesc(m.name, m.help, labels, nil)
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range c.descs {
		out <- desc
	}
	out <- c.complete
	out <- c.omitted
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	f := c.gatherer.gather()
	collect(c, out, ofDatabase, named[braid.Metrics]{value: &f.database})
	collect(c, out, ofStream, f.streams...)
	collect(c, out, ofShard, f.shards...)
	collect(c, out, ofApp, f.apps...)
	collect(c, out, ofWorker, f.workers...)
	collect(c, out, ofQueue, f.queues...)
	out <- prometheus.MustNewConstMetric(c.complete, prometheus.GaugeValue, boolean(f.complete))
	for of, n := range f.omitted {
		out <- prometheus.MustNewConstMetric(c.omitted, prometheus.GaugeValue, float64(n), of)
	}
}

func collect[T any](c *Collector, out chan<- prometheus.Metric, metrics []row[T], values ...named[T]) {
	for i := range metrics {
		m := &metrics[i]
		desc := c.descs[m.name]
		for _, v := range values {
			names := v.names
			if m.label != "" {
				names = append(names[:len(names):len(names)], m.value)
			}
			switch m.kind {
			case counter:
				out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, m.number(v.value), names...)
			case gauge:
				out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, m.number(v.value), names...)
			case histogram:
				h := m.times(v.value)
				out <- prometheus.MustNewConstHistogram(desc, uint64(h.Count), h.Sum.Seconds(), cumulative(h), names...)
			}
		}
	}
}

// cumulative returns the buckets in Prometheus's form: each includes all shorter ones.
func cumulative(h braid.Histogram) map[float64]uint64 {
	buckets := make(map[float64]uint64, len(h.Buckets))
	sum := uint64(0)
	for _, b := range h.Buckets {
		sum += uint64(b.Count)
		buckets[b.UpTo.Seconds()] = sum
	}
	return buckets
}

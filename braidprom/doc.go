// Package braidprom exports the metrics of a braid database to Prometheus.
//
//	prometheus.MustRegister(braidprom.NewCollector(db, nil))
//	http.Handle("/metrics", promhttp.Handler())
//
// These are the metrics of the database, of its streams, of its applications (package
// consumer) and their workers in this process, and of its queues. docs/metrics.md of the
// repository lists all of them, with recommended alerts and a dashboard for Grafana.
//
// # Limits
//
// Streams, applications and queues come and go, and each series costs memory in
// Prometheus. So the number of each kind is limited, to 100 by default: see [Options].
// Streams beyond the limit are added up in one series with stream="(other)", so that a
// sum over all streams is right.
//
// # Stalled disks
//
// A collection always includes what is in memory. Applications and queues are read from
// the store, for which a collection waits up to [Options].Timeout. If that is not enough,
// they are missing from the result, and braid_collection_complete is 0.
//
// # Several databases
//
// If a process has two databases, wrap the registerer so that their series differ:
//
//	prometheus.WrapRegistererWith(prometheus.Labels{"db": "orders"}, registry).MustRegister(collector)
package braidprom

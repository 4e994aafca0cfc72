// Package braidprom has the metrics of a braid database for Prometheus.
//
//	prometheus.MustRegister(braidprom.NewCollector(db, nil))
//	http.Handle("/metrics", promhttp.Handler())
//
// They are those of the database, of its streams, of its applications (package consumer) with
// the workers that they have in this process, and of its queues. The list of all of them, which alerts
// to set and a dashboard for Grafana are in docs/metrics.md of the repository.
//
// # Bounds
//
// Streams, applications and queues come and go, and each series costs. So each kind has a
// bound, 100 by default: see [Options]. The streams beyond it are added up in one series with
// stream="(other)", so that a sum over all streams is right.
//
// # Disks that are stalled
//
// A collection takes what is in memory in any case. Applications and queues are read from the
// store, and a collection waits for that for [Options].Timeout. If it takes longer they are
// missing in the result, and braid_collection_complete is 0.
//
// # Several databases
//
// Of two databases in one process wrap the registerer, so that their series differ:
//
//	prometheus.WrapRegistererWith(prometheus.Labels{"db": "orders"}, registry).MustRegister(collector)
package braidprom

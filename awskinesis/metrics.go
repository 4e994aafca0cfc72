package awskinesis

import "sync/atomic"

// ProducerMetrics are the counters of a [Producer] since it was created, and its current gauges.
type ProducerMetrics struct {
	RecordsPut int64 // user records that were stored
	BytesPut   int64 // their partition keys and data

	Requests int64 // PutRecords calls; RecordsPut/Requests is the average number of records in one
	Entries  int64 // entries of these calls, which the service bills; RecordsPut/Entries is the average number of records in one
	Listings int64 // times that the shards were listed after a reshard

	Throttled    int64 // entries that the service throttled, and records refused with ErrThroughputExceeded
	Retried      int64 // records that were put again
	Failed       int64 // records that were refused
	Unknown      int64 // records whose outcome is unknown
	Mispredicted int64 // entries that were stored in an unexpected shard

	BufferedBytes int64 // used part of [ProducerOptions].BufferBytes
	InFlight      int   // requests in flight
	Waiting       int   // callers that wait for room in the buffer
	OpenShards    int   // at the last listing
}

type counts struct {
	records, bytes, requests, entries, listings       atomic.Int64
	throttled, retried, failed, unknown, mispredicted atomic.Int64
}

// Metrics returns the current values. It may be called at any time, even after Close.
func (p *Producer) Metrics() ProducerMetrics {
	m := ProducerMetrics{
		RecordsPut:   p.counts.records.Load(),
		BytesPut:     p.counts.bytes.Load(),
		Requests:     p.counts.requests.Load(),
		Entries:      p.counts.entries.Load(),
		Listings:     p.counts.listings.Load(),
		Throttled:    p.counts.throttled.Load(),
		Retried:      p.counts.retried.Load(),
		Failed:       p.counts.failed.Load(),
		Unknown:      p.counts.unknown.Load(),
		Mispredicted: p.counts.mispredicted.Load(),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m.BufferedBytes, m.InFlight = int64(p.buffered), p.requests
	m.Waiting, m.OpenShards = p.waiters.Len(), len(p.schedule.shards.open)
	return m
}

package awskinesis

import "sync/atomic"

// ProducerMetrics are figures of a [Producer] since it was made, and of this moment.
type ProducerMetrics struct {
	RecordsPut int64 // user records that were stored
	BytesPut   int64 // their partition keys and data

	Requests int64 // PutRecords calls; RecordsPut/Requests is how many records share one
	Entries  int64 // of them, which the service bills; RecordsPut/Entries is how many are aggregated
	Listings int64 // times that the shards were listed after a reshard

	Throttled    int64 // entries that the service refused for throughput, and records refused for it
	Retried      int64 // records that were put again
	Failed       int64 // records that were refused
	Unknown      int64 // records whose outcome is unknown
	Mispredicted int64 // entries that came to another shard than expected

	BufferedBytes int64 // of [ProducerOptions].BufferBytes
	InFlight      int   // requests on their way
	Waiting       int   // callers that wait for room in the buffer
	OpenShards    int   // as far as is known
}

type counts struct {
	records, bytes, requests, entries, listings       atomic.Int64
	throttled, retried, failed, unknown, mispredicted atomic.Int64
}

// Metrics returns the figures of this moment. It may be called at any time.
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
	m.Waiting, m.OpenShards = p.waiters.len(), len(p.schedule.shards.open)
	return m
}

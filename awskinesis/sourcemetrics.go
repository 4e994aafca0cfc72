package awskinesis

import "sync/atomic"

// SourceMetrics are the counters of a [Source] since it was created.
type SourceMetrics struct {
	Records int64 // records that were read
	Bytes   int64 // their partition keys and data

	Reads         int64 // GetRecords calls
	Iterators     int64 // GetShardIterator calls
	Listings      int64 // listings of the shards of a stream
	Subscriptions int64 // SubscribeToShard calls
	Registered    int64 // registered consumers of enhanced fan-out

	Throttled        int64 // GetRecords and GetShardIterator calls that the service throttled
	ExpiredIterators int64
	Broken           int64 // subscriptions that broke off
	SuspectedGaps    int64 // positions that were older than the stream's retention
}

type sourceCounts struct {
	records, bytes, reads, iterators, listings, subscriptions, registered atomic.Int64
	throttled, expired, broken, gaps                                      atomic.Int64
}

// Metrics returns the current values. It may be called at any time.
func (s *Source) Metrics() SourceMetrics {
	return SourceMetrics{
		Records:          s.counts.records.Load(),
		Bytes:            s.counts.bytes.Load(),
		Reads:            s.counts.reads.Load(),
		Iterators:        s.counts.iterators.Load(),
		Listings:         s.counts.listings.Load(),
		Subscriptions:    s.counts.subscriptions.Load(),
		Registered:       s.counts.registered.Load(),
		Throttled:        s.counts.throttled.Load(),
		ExpiredIterators: s.counts.expired.Load(),
		Broken:           s.counts.broken.Load(),
		SuspectedGaps:    s.counts.gaps.Load(),
	}
}

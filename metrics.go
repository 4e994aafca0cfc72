package braid

import "time"

// Metrics are figures of a database: totals since it was opened, and current values.
type Metrics struct {
	Streams int // existing streams
	Shards  int // shards of all streams, including closed ones
	Queues  int // queues of package queue; queue.Queue.Describe has the figures of each
	Epochs  int // epochs of the log

	RecordsPut int64 // records that became visible
	BytesPut   int64 // bytes of their partition keys and data
	Commits    int64 // commits; RecordsPut/Commits is how many records share one

	SyncTime time.Duration // duration of the last sync of the log; 0 if there was none

	// PutTimes measure puts that stored something, from their request for a commit until their
	// records were visible and they returned. CommitTimes measure commits, from when the requests
	// were taken until readers saw the records. SyncTimes measure syncs of the log. In memory, and
	// with [Interval] and [NoSync], a commit takes little longer than reading the clock, so only
	// one of 64 puts and commits is measured; RecordsPut and Commits count all.
	PutTimes, CommitTimes, SyncTimes Histogram

	PutsThrottled  int64 // records refused with ErrThroughputExceeded
	ReadsThrottled int64 // calls of GetRecords refused with ErrThroughputExceeded

	TailReads  int64 // pages read from memory
	StoreReads int64 // pages read from the store
	TailBytes  int64 // bytes of records held in memory for readers at the tip

	DiskBytes      int64 // size of all files
	WALBytes       int64 // size of the write-ahead log, which is part of DiskBytes
	MemtableBytes  int64 // bytes in memory that are not yet in a table
	Tables         int64 // tables on disk
	BytesFlushed   int64 // bytes written to tables for the first time
	BytesCompacted int64 // bytes written to tables again, by compactions
	Compactions    int64
	CacheBytes     int64 // bytes of table blocks held in memory
	CacheHits      int64
	CacheMisses    int64
	OpenSnapshots  int64 // snapshots held by running transactions
	OpenIterators  int64 // iterators held by running reads and compactions
	WriteErrors    int64 // failed writes of tables, each of which was retried

	// CapacityDecisions are the last 16 decisions of [OnDemand], the newest last.
	CapacityDecisions []CapacityDecision

	DiskFull bool  // writes are refused until space, or the resource of ErrOutOfResources, is available
	Failed   error // why writes are refused until the database is reopened; nil if they are not
}

// Metrics returns the current figures. It may be called at any time, even after a failure
// and after Close; after Close the figures of the store are zero.
func (db *DB) Metrics() Metrics {
	counts, store := &db.appender.counts, db.store.Metrics()
	m := Metrics{
		Epochs:     int(counts.epochs.Load()),
		RecordsPut: counts.records.Load(),
		BytesPut:   counts.bytes.Load(),
		Commits:    counts.groups.Load(),
		SyncTime:   db.store.SyncTime(),

		PutTimes:    readHistogram(&db.times.puts),
		CommitTimes: readHistogram(&db.times.commits),
		SyncTimes:   readHistogram(db.store.SyncTimes()),

		PutsThrottled:  counts.throttled.Load(),
		ReadsThrottled: db.reads.throttled.Load(),

		TailReads:  db.reads.tail.Load(),
		StoreReads: db.reads.stored.Load(),
		TailBytes:  db.appender.tails.Bytes(),

		DiskBytes:      store.DiskBytes,
		WALBytes:       store.WALBytes,
		MemtableBytes:  store.MemTableBytes,
		Tables:         store.Tables,
		BytesFlushed:   store.FlushedBytes,
		BytesCompacted: store.CompactedBytes,
		Compactions:    store.Compactions,
		CacheBytes:     store.CacheBytes,
		CacheHits:      store.CacheHits,
		CacheMisses:    store.CacheMisses,
		OpenSnapshots:  store.Snapshots,
		OpenIterators:  store.Iterators,
		WriteErrors:    store.BackgroundErrors,

		DiskFull: db.store.Full(),
		Failed:   wrapError("store", "", db.store.Err()),
	}
	m.CapacityDecisions = db.decisions.all()
	db.mu.Lock()
	m.Streams = len(db.streams)
	db.mu.Unlock()
	m.Shards = int(counts.shards.Load())
	m.Queues = int(counts.queues.Load())
	return m
}

// StreamMetrics are figures of a stream. They are current values, except for the totals
// among [ShardMetrics].
type StreamMetrics struct {
	Shards     int // existing shards, including closed ones
	OpenShards int // shards that accept records
	Queues     int // queues of package queue

	// ShardMetrics are the sums over all shards. The totals include shards that were removed
	// since the database was opened, so they do not fall while it is open.
	ShardMetrics
}

// Metrics returns the current figures. It looks at each shard of the stream, in memory
// only: it never waits for a disk. It may be called at any time, even after Close.
func (s *Stream) Metrics() StreamMetrics {
	t := s.topology.Load()
	m := StreamMetrics{Shards: len(t.shards), OpenShards: len(t.open), Queues: int(s.queues.Load()), ShardMetrics: t.gone}
	for _, sh := range t.shards {
		m.add(sh.Metrics())
	}
	return m
}

// ShardMetrics are figures of a shard.
type ShardMetrics struct {
	// Records and Bytes count the records that are neither trimmed nor removed by retention, and
	// the bytes of their partition keys and data. [Shard.Describe] is more exact: it leaves out
	// records that have expired but are not removed yet.
	Records, Bytes int64

	// RecordsPut and BytesPut count all records ever put, and the bytes of their partition
	// keys and data. The figures below count since the database was opened.
	RecordsPut, BytesPut int64

	// RecordsRead and BytesRead count what was read for callers: by GetRecords, by loops, which
	// read ahead, by consumers and by queues. A record that several of them read counts for each.
	RecordsRead, BytesRead int64

	PutsThrottled  int64 // records refused with ErrThroughputExceeded
	ReadsThrottled int64 // calls of GetRecords refused with ErrThroughputExceeded
}

// Metrics returns the current figures, as [Stream.Metrics] does.
func (sh *Shard) Metrics() ShardMetrics {
	horizon, _ := sh.view() // read before the tip, so that the tip is not below it
	tip := sh.log.Tip()
	return ShardMetrics{
		Records:        int64(tip.Ordinal - min(horizon.Ordinal, tip.Ordinal)),
		Bytes:          int64(tip.Offset - min(horizon.Offset, tip.Offset)),
		RecordsPut:     int64(tip.Ordinal),
		BytesPut:       int64(tip.Offset),
		RecordsRead:    sh.counts.recordsRead.Load(),
		BytesRead:      sh.counts.bytesRead.Load(),
		PutsThrottled:  sh.counts.putsThrottled.Load(),
		ReadsThrottled: sh.counts.readsThrottled.Load(),
	}
}

// add adds the figures of another shard.
func (m *ShardMetrics) add(other ShardMetrics) {
	m.Records += other.Records
	m.Bytes += other.Bytes
	m.RecordsPut += other.RecordsPut
	m.BytesPut += other.BytesPut
	m.RecordsRead += other.RecordsRead
	m.BytesRead += other.BytesRead
	m.PutsThrottled += other.PutsThrottled
	m.ReadsThrottled += other.ReadsThrottled
}

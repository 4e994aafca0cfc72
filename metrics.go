package braid

import "time"

// Metrics are figures of a database since it was opened, and of this moment.
type Metrics struct {
	Streams int // that exist
	Shards  int // of all streams, closed ones too
	Queues  int // of package queue; queue.Queue.Describe has the figures of each
	Epochs  int // that the log consists of

	RecordsPut int64 // that became visible
	BytesPut   int64 // their partition keys and data
	Commits    int64 // RecordsPut/Commits is how many records share one

	SyncTime time.Duration // that the last sync of the log took; 0 if there was none

	// How long these have taken: puts that stored something, from when they asked for a
	// commit until their records were visible and they returned; commits, from when their
	// requests were taken until readers saw them; and syncs of the log. In memory, and with
	// [Interval] and [NoSync], where a commit takes little longer than a look at the clock,
	// one of 64 puts and commits is measured, and RecordsPut and Commits count them all.
	PutTimes, CommitTimes, SyncTimes Histogram

	PutsThrottled  int64 // records that were refused with ErrThroughputExceeded
	ReadsThrottled int64 // calls of GetRecords that were

	TailReads  int64 // pages that were read from memory
	StoreReads int64 // pages that were read from the store
	TailBytes  int64 // records held in memory for readers at the tip

	DiskBytes      int64 // all files
	WALBytes       int64 // the write-ahead log's part of them
	MemtableBytes  int64 // gathered in memory, not yet in a table
	Tables         int64
	BytesFlushed   int64 // written to tables the first time
	BytesCompacted int64 // written to tables again
	Compactions    int64
	CacheBytes     int64 // blocks of tables held in memory
	CacheHits      int64
	CacheMisses    int64
	OpenSnapshots  int64 // held by transactions that are running
	OpenIterators  int64 // held by reads and compactions that are running
	WriteErrors    int64 // of tables, which were tried again

	// CapacityDecisions are the last 16 that [OnDemand] has made, the newest last.
	CapacityDecisions []CapacityDecision

	DiskFull bool  // writes are refused until there is space, or what ErrOutOfResources names
	Failed   error // why writes are refused until the database is opened again; nil if they are not
}

// Metrics returns the figures of this moment. It may be called at any time, also
// after a failure and after Close, when those of the store are zero.
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

// StreamMetrics are figures of a stream at one moment. Apart from what [ShardMetrics] says,
// they are of this moment.
type StreamMetrics struct {
	Shards     int // that exist, closed ones too
	OpenShards int // that take records
	Queues     int // of package queue

	// ShardMetrics are the sums of all shards. Those that have gone since the database was
	// opened are counted, so what only rises in a shard does so here, too.
	ShardMetrics
}

// Metrics returns the figures of this moment. It looks at each shard of the stream, in
// memory alone: it waits for no disk, and may be called at any time, even after Close.
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
	// Records that are neither trimmed nor removed by retention, and their partition keys
	// and data. [Shard.Describe] looks closer: it leaves out those that have expired and are
	// about to be removed.
	Records, Bytes int64

	// RecordsPut and BytesPut count the records that were ever put, and their partition keys
	// and data. The others count since the database was opened.
	RecordsPut, BytesPut int64

	// RecordsRead and BytesRead count what was read for callers, once for each of them: by
	// GetRecords, loops, which read ahead, consumers and queues.
	RecordsRead, BytesRead int64

	PutsThrottled  int64 // records that were refused with ErrThroughputExceeded
	ReadsThrottled int64 // calls of GetRecords that were
}

// Metrics returns the figures of this moment, as [Stream.Metrics] does.
func (sh *Shard) Metrics() ShardMetrics {
	horizon, _ := sh.view() // before the tip, which is at or above it then
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

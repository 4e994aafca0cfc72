package braid

import "time"

// Metrics are figures of a database since it was opened, and of this moment.
type Metrics struct {
	Streams int // that exist
	Shards  int // of all streams, closed ones too
	Epochs  int // that the log consists of

	RecordsPut int64 // that became visible
	BytesPut   int64 // their partition keys and data
	Commits    int64 // RecordsPut/Commits is how many records share one

	SyncTime time.Duration // that the last sync of the log took; 0 if there was none

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
	return m
}

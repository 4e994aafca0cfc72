// Package telemetry has the table of all metrics. Its test generates the metrics of modules
// braidprom and braidotel, their list in docs/metrics.md and the dashboard in docs/grafana from
// the table. It fails if they differ from the table, or if the table misses a field of the
// structs that have the figures:
//
//	go generate ./internal/telemetry
//
// No published package imports it: the modules contain generated code instead, so that each
// works with any later version of the core.
package telemetry

//go:generate go test -run TestWhatIsGenerated -update .

import "strings"

// Kind is the kind of a metric.
type Kind string

// The kinds of metrics.
const (
	Counter   Kind = "counter"   // it only rises while the database is open
	Gauge     Kind = "gauge"     // a value at one moment
	Histogram Kind = "histogram" // a braid.Histogram
)

// Source is a source of metrics: a value m of Type, for each set of values of Labels.
type Source struct {
	Name   string // of the generated variable
	Type   string
	Of     string // in the list
	Labels []string
}

// Sources, in the order of the list.
var (
	Database = Source{"ofDatabase", "braid.Metrics", "the database", nil}
	Stream   = Source{"ofStream", "braid.StreamMetrics", "each stream", []string{"stream"}}
	Shard    = Source{"ofShard", "braid.ShardMetrics", "each shard, if Options.MaxShards allows", []string{"stream", "shard"}}
	App      = Source{"ofApp", "consumer.Status", "each application of package consumer", []string{"app"}}
	Worker   = Source{"ofWorker", "consumer.Metrics", "each worker in this process", []string{"app", "worker"}}
	Queue    = Source{"ofQueue", "queue.Description", "each queue", []string{"queue"}}
	Sources  = []Source{Database, Stream, Shard, App, Worker, Queue}
)

// Metric is a row of the table. Rows with the same Name are adjacent, and differ in Value.
type Metric struct {
	Source
	Name  string // by the conventions of OpenTelemetry, without the prefix "braid."
	Kind  Kind
	Unit  string // in UCUM: "s", "By", "1" for a value of 0 or 1, or an annotation such as "{record}"
	Expr  string // a Go expression over m
	Label string // an additional label besides the source's; may be empty
	Value string // of Label
	Help  string
}

// OTel returns the name for OpenTelemetry.
func (m Metric) OTel() string { return "braid." + m.Name }

// Prometheus returns the name for Prometheus: with the unit, and "total" for counters.
func (m Metric) Prometheus() string {
	name := "braid_" + strings.ReplaceAll(m.Name, ".", "_")
	switch m.Unit {
	case "s":
		name += "_seconds"
	case "By":
		name += "_bytes"
	}
	if m.Kind == Counter {
		name += "_total"
	}
	return name
}

// Table has all metrics, grouped by source.
var Table = []Metric{
	{Database, "streams", Gauge, "{stream}", "m.Streams", "", "", "Streams that exist."},
	{Database, "shards", Gauge, "{shard}", "m.Shards", "", "", "Shards of all streams, including closed ones."},
	{Database, "queues", Gauge, "{queue}", "m.Queues", "", "", "Queues that exist."},
	{Database, "epochs", Gauge, "{epoch}", "m.Epochs", "", "", "Epochs of the log."},
	{Database, "put.records", Counter, "{record}", "m.RecordsPut", "", "", "Records that became visible."},
	{Database, "put.data", Counter, "By", "m.BytesPut", "", "", "Partition keys and data of the records that became visible."},
	{Database, "put.duration", Histogram, "s", "m.PutTimes", "", "", "The time from a put until its records are visible. Of puts that do not wait for the disk, one in 64 is measured."},
	{Database, "put.throttled", Counter, "{record}", "m.PutsThrottled", "", "", "Records that were refused with ErrThroughputExceeded."},
	{Database, "commits", Counter, "{commit}", "m.Commits", "", "", "Commits. Many puts can share one."},
	{Database, "commit.duration", Histogram, "s", "m.CommitTimes", "", "", "The duration of commits. Of those that do not wait for the disk, one in 64 is measured."},
	{Database, "sync.duration", Histogram, "s", "m.SyncTimes", "", "", "The duration of syncs of the log."},
	{Database, "sync.last.duration", Gauge, "s", "m.SyncTime", "", "", "The duration of the last sync of the log."},
	{Database, "read.throttled", Counter, "{call}", "m.ReadsThrottled", "", "", "Calls of GetRecords that were refused with ErrThroughputExceeded."},
	{Database, "read.pages", Counter, "{page}", "m.TailReads", "from", "memory", "Pages of records that were read."},
	{Database, "read.pages", Counter, "{page}", "m.StoreReads", "from", "store", "Pages of records that were read."},
	{Database, "tail.size", Gauge, "By", "m.TailBytes", "", "", "Records held in memory for readers at the tip."},
	{Database, "disk.size", Gauge, "By", "m.DiskBytes", "", "", "All files of the database."},
	{Database, "disk.full", Gauge, "1", "m.DiskFull", "", "", "1 while writes are refused for lack of space or of another resource."},
	{Database, "failed", Gauge, "1", "m.Failed != nil", "", "", "1 once writes are refused until the database is opened again."},
	{Database, "wal.size", Gauge, "By", "m.WALBytes", "", "", "Files of the write-ahead log."},
	{Database, "memtable.size", Gauge, "By", "m.MemtableBytes", "", "", "Data in memory that is not in a table yet."},
	{Database, "tables", Gauge, "{table}", "m.Tables", "", "", "Tables on disk."},
	{Database, "flush.data", Counter, "By", "m.BytesFlushed", "", "", "Data written to tables from memory."},
	{Database, "compaction.data", Counter, "By", "m.BytesCompacted", "", "", "Data rewritten by compactions."},
	{Database, "compactions", Counter, "{compaction}", "m.Compactions", "", "", "Compactions of tables."},
	{Database, "cache.size", Gauge, "By", "m.CacheBytes", "", "", "Blocks of tables held in memory."},
	{Database, "cache.requests", Counter, "{request}", "m.CacheHits", "result", "hit", "Requests for blocks of tables."},
	{Database, "cache.requests", Counter, "{request}", "m.CacheMisses", "result", "miss", "Requests for blocks of tables."},
	{Database, "snapshots.open", Gauge, "{snapshot}", "m.OpenSnapshots", "", "", "Snapshots that running transactions hold."},
	{Database, "iterators.open", Gauge, "{iterator}", "m.OpenIterators", "", "", "Iterators that running reads and compactions hold."},
	{Database, "write.errors", Counter, "{error}", "m.WriteErrors", "", "", "Failed writes of tables, which are retried."},

	{Stream, "stream.shards", Gauge, "{shard}", "m.OpenShards", "state", "open", "Shards of the stream."},
	{Stream, "stream.shards", Gauge, "{shard}", "m.Shards - m.OpenShards", "state", "closed", "Shards of the stream."},
	{Stream, "stream.queues", Gauge, "{queue}", "m.Queues", "", "", "Queues of the stream."},
	{Stream, "stream.stored.records", Gauge, "{record}", "m.Records", "", "", "Stored records."},
	{Stream, "stream.stored.data", Gauge, "By", "m.Bytes", "", "", "Partition keys and data of the stored records."},
	{Stream, "stream.put.records", Counter, "{record}", "m.RecordsPut", "", "", "Records that were put."},
	{Stream, "stream.put.data", Counter, "By", "m.BytesPut", "", "", "Partition keys and data that were put."},
	{Stream, "stream.put.throttled", Counter, "{record}", "m.PutsThrottled", "", "", "Records that were refused with ErrThroughputExceeded."},
	{Stream, "stream.read.records", Counter, "{record}", "m.RecordsRead", "", "", "Records that were read, once for each reader."},
	{Stream, "stream.read.data", Counter, "By", "m.BytesRead", "", "", "Partition keys and data that were read, once for each reader."},
	{Stream, "stream.read.throttled", Counter, "{call}", "m.ReadsThrottled", "", "", "Calls of GetRecords that were refused with ErrThroughputExceeded."},

	{Shard, "shard.stored.records", Gauge, "{record}", "m.Records", "", "", "Stored records."},
	{Shard, "shard.stored.data", Gauge, "By", "m.Bytes", "", "", "Partition keys and data of the stored records."},
	{Shard, "shard.put.records", Counter, "{record}", "m.RecordsPut", "", "", "Records that were put."},
	{Shard, "shard.put.data", Counter, "By", "m.BytesPut", "", "", "Partition keys and data that were put."},
	{Shard, "shard.put.throttled", Counter, "{record}", "m.PutsThrottled", "", "", "Records that were refused with ErrThroughputExceeded."},
	{Shard, "shard.read.records", Counter, "{record}", "m.RecordsRead", "", "", "Records that were read, once for each reader."},
	{Shard, "shard.read.data", Counter, "By", "m.BytesRead", "", "", "Partition keys and data that were read, once for each reader."},
	{Shard, "shard.read.throttled", Counter, "{call}", "m.ReadsThrottled", "", "", "Calls of GetRecords that were refused with ErrThroughputExceeded."},

	{App, "app.behind.records", Gauge, "{record}", "m.BehindRecords", "", "", "Records that are not processed yet."},
	{App, "app.behind.data", Gauge, "By", "m.BehindBytes", "", "", "Partition keys and data of the records that are not processed yet."},
	{App, "app.behind.age", Gauge, "s", "m.BehindLatest", "", "", "The age of the oldest record that is not processed yet; 0 if there is none."},
	{App, "app.workers", Gauge, "{worker}", "len(m.Workers)", "", "", "Workers in this process."},
	{App, "app.paused", Gauge, "1", "m.Paused", "", "", "1 while the application is paused as a whole."},
	{App, "app.streams", Gauge, "{stream}", "len(m.AwaitedStreams) + len(m.AwaitedDeadLetterStreams)", "state", "awaited", "Streams that are not processed."},
	{App, "app.streams", Gauge, "{stream}", "len(m.PausedStreams)", "state", "paused", "Streams that are not processed."},
	{App, "app.streams", Gauge, "{stream}", "len(m.StoppedStreams)", "state", "stopped", "Streams that are not processed."},
	{App, "app.shards", Gauge, "{shard}", "inState(m.Shards, consumer.StateRunning)", "state", "running", "Shards of the application."},
	{App, "app.shards", Gauge, "{shard}", "inState(m.Shards, consumer.StateRetrying)", "state", "retrying", "Shards of the application."},
	{App, "app.shards", Gauge, "{shard}", "inState(m.Shards, consumer.StateHandingOver)", "state", "handing over", "Shards of the application."},
	{App, "app.shards", Gauge, "{shard}", "inState(m.Shards, consumer.StateFailed)", "state", "failed", "Shards of the application."},
	{App, "app.shards", Gauge, "{shard}", "inState(m.Shards, consumer.StatePaused)", "state", "paused", "Shards of the application."},
	{App, "app.shards", Gauge, "{shard}", "inState(m.Shards, consumer.StateWaiting)", "state", "waiting", "Shards of the application."},
	{App, "app.shards", Gauge, "{shard}", "inState(m.Shards, consumer.StateUnowned)", "state", "unowned", "Shards of the application."},
	{App, "app.shards", Gauge, "{shard}", "inState(m.Shards, consumer.StateDone)", "state", "done", "Shards of the application."},

	{Worker, "worker.processed.records", Counter, "{record}", "m.Records", "", "", "Records that were processed, including repeated ones."},
	{Worker, "worker.processed.data", Counter, "By", "m.Bytes", "", "", "Partition keys and data that were processed."},
	{Worker, "worker.batches", Counter, "{batch}", "m.Batches", "", "", "Batches that were processed."},
	{Worker, "worker.process.duration", Histogram, "s", "m.ProcessTimes", "", "", "The duration of calls of ProcessRecords."},
	{Worker, "worker.latency", Histogram, "s", "m.Latencies", "", "", "The time from the arrival of the first record of a batch until it was processed."},
	{Worker, "worker.failures", Counter, "{call}", "m.Failures", "", "", "Calls of ProcessRecords that returned an error."},
	{Worker, "worker.failed.records", Counter, "{record}", "m.Skipped", "outcome", "skipped", "Records that failed on their last attempt."},
	{Worker, "worker.failed.records", Counter, "{record}", "m.DeadLettered", "outcome", "dead letter", "Records that failed on their last attempt."},
	{Worker, "worker.stops", Counter, "{shard}", "m.Stops", "", "", "How often an error stopped a shard until Resume."},
	{Worker, "worker.gaps", Counter, "{gap}", "m.Gaps", "", "", "Ranges of records that were removed before they were processed."},
	{Worker, "worker.leases.taken", Counter, "{lease}", "m.LeasesTaken", "", "", "Leases that the worker took."},
	{Worker, "worker.checkpoints", Counter, "{checkpoint}", "m.Checkpoints", "", "", "Stored checkpoints."},
	{Worker, "worker.checkpoint.timestamp", Gauge, "s", "m.LastCheckpoint", "", "", "The Unix time of the last stored checkpoint; 0 if there is none."},

	{Queue, "queue.records", Gauge, "{record}", "m.Visible", "state", "visible", "Records that are not settled."},
	{Queue, "queue.records", Gauge, "{record}", "m.InFlight", "state", "in flight", "Records that are not settled."},
	{Queue, "queue.records", Gauge, "{record}", "m.Delayed", "state", "delayed", "Records that are not settled."},
	{Queue, "queue.records", Gauge, "{record}", "m.Held", "state", "held", "Records that are not settled."},
	{Queue, "queue.records", Gauge, "{record}", "m.Dead - m.DeadInFlight", "state", "dead", "Records that are not settled."},
	{Queue, "queue.records", Gauge, "{record}", "m.DeadInFlight", "state", "dead in flight", "Records that are not settled."},
	{Queue, "queue.oldest.age", Gauge, "s", "m.OldestAge", "", "", "The age of the oldest record that is neither settled nor dead; 0 if there is none."},
	{Queue, "queue.dead.oldest.age", Gauge, "s", "m.OldestDeadAge", "", "", "The age of the oldest dead letter; 0 if there is none."},
	{Queue, "queue.received", Counter, "{delivery}", "m.Received", "", "", "Deliveries, including those of dead letters."},
	{Queue, "queue.receives.empty", Counter, "{call}", "m.EmptyReceives", "", "", "Receive calls that returned no record."},
	{Queue, "queue.acknowledged", Counter, "{record}", "m.Acknowledged", "", "", "Records that were acknowledged."},
	{Queue, "queue.lapsed", Counter, "{delivery}", "m.Lapsed", "", "", "Deliveries whose visibility timeout has passed."},
	{Queue, "queue.died", Counter, "{record}", "m.Died", "", "", "Records that became dead letters."},
	{Queue, "queue.restored", Counter, "{record}", "m.Restored", "", "", "Dead letters that were restored."},
	{Queue, "queue.expired", Counter, "{record}", "m.ExpiredUnreceived", "after", "nothing", "Records that left the stream before they were settled."},
	{Queue, "queue.expired", Counter, "{record}", "m.ExpiredReceived", "after", "delivery", "Records that left the stream before they were settled."},
	{Queue, "queue.expired", Counter, "{record}", "m.ExpiredDead", "after", "death", "Records that left the stream before they were settled."},
}

// Left has the fields without a row, and the reason for each.
var Left = map[string]string{
	"braid.Metrics.CapacityDecisions":   "they are events",
	"braid.StreamMetrics.ShardMetrics":  "its fields have rows",
	"consumer.Status.App":               "it is the label",
	"consumer.Status.Start":             "it does not change",
	"consumer.Status.DeadLetterStreams": "it does not change",
	"consumer.Metrics.Processing":       "it is the sum of ProcessTimes",
	"queue.Description.Name":            "it is the label",
	"queue.Description.ID":              "it does not change",
	"queue.Description.CreatedAt":       "it does not change",
	"queue.Description.StartedAt":       "it does not change",
	"queue.Description.Options":         "they are settings",
}

// Own has the metrics of the collection itself, which the modules implement by hand.
var Own = []Metric{
	{Database, "collection.complete", Gauge, "1", "", "", "", "1 if applications and queues answered in time; 0 if not, and their metrics are missing."},
	{Database, "collection.omitted", Gauge, "{series}", "", "of", "", "Streams, shards, applications and queues without series of their own."},
}

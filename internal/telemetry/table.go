// Package telemetry is the one table of all metrics: from it come the metrics of modules
// braidprom and braidotel, their list in docs/metrics.md and the dashboard in docs/grafana.
// Its test writes them, and holds them to the table, and the table to the fields of the
// structs that the figures are taken from:
//
//	go generate ./internal/telemetry
//
// Nothing that ships imports it: the modules have what they need of it as generated code, so
// that one of them works with any later version of the core.
package telemetry

//go:generate go test -run TestWhatIsGenerated -update .

import "strings"

// Kind is what a metric does.
type Kind string

// Kinds of metrics.
const (
	Counter   Kind = "counter"   // it only rises, for as long as the database is open
	Gauge     Kind = "gauge"     // it is of one moment
	Histogram Kind = "histogram" // a braid.Histogram
)

// Source is what a metric is taken from: a value m of Type, for each set of values of Labels.
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

// Metric is a row of the table. Rows of one Name follow each other, and differ in Value.
type Metric struct {
	Source
	Name  string // by the conventions of OpenTelemetry, without "braid." in front
	Kind  Kind
	Unit  string // in UCUM: "s", "By", "1" for what is 0 or 1, or an annotation such as "{record}"
	Expr  string // of Go, over m
	Label string // of its own, beside those of the source; may be empty
	Value string // of that label
	Help  string
}

// OTel returns the name for OpenTelemetry.
func (m Metric) OTel() string { return "braid." + m.Name }

// Prometheus returns the name for Prometheus: with the unit, and "total" for what only
// rises.
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

// Table has all metrics, each source's together.
var Table = []Metric{
	{Database, "streams", Gauge, "{stream}", "m.Streams", "", "", "Streams that exist."},
	{Database, "shards", Gauge, "{shard}", "m.Shards", "", "", "Shards of all streams, closed ones too."},
	{Database, "queues", Gauge, "{queue}", "m.Queues", "", "", "Queues that exist."},
	{Database, "epochs", Gauge, "{epoch}", "m.Epochs", "", "", "Epochs that the log consists of."},
	{Database, "put.records", Counter, "{record}", "m.RecordsPut", "", "", "Records that became visible."},
	{Database, "put.data", Counter, "By", "m.BytesPut", "", "", "Partition keys and data of the records that became visible."},
	{Database, "put.duration", Histogram, "s", "m.PutTimes", "", "", "How long puts took until their records were visible. Of puts that wait for no disk one in 64 is measured."},
	{Database, "put.throttled", Counter, "{record}", "m.PutsThrottled", "", "", "Records that were refused with ErrThroughputExceeded."},
	{Database, "commits", Counter, "{commit}", "m.Commits", "", "", "Commits, which many puts share."},
	{Database, "commit.duration", Histogram, "s", "m.CommitTimes", "", "", "How long commits took. Of those that wait for no disk one in 64 is measured."},
	{Database, "sync.duration", Histogram, "s", "m.SyncTimes", "", "", "How long syncs of the log took."},
	{Database, "sync.last.duration", Gauge, "s", "m.SyncTime", "", "", "How long the last sync of the log took."},
	{Database, "read.throttled", Counter, "{call}", "m.ReadsThrottled", "", "", "Calls of GetRecords that were refused with ErrThroughputExceeded."},
	{Database, "read.pages", Counter, "{page}", "m.TailReads", "from", "memory", "Pages of records that were read."},
	{Database, "read.pages", Counter, "{page}", "m.StoreReads", "from", "store", "Pages of records that were read."},
	{Database, "tail.size", Gauge, "By", "m.TailBytes", "", "", "Records held in memory for readers at the tip."},
	{Database, "disk.size", Gauge, "By", "m.DiskBytes", "", "", "All files of the database."},
	{Database, "disk.full", Gauge, "1", "m.DiskFull", "", "", "1 while writes are refused for want of space or another resource."},
	{Database, "failed", Gauge, "1", "m.Failed != nil", "", "", "1 once writes are refused until the database is opened again."},
	{Database, "wal.size", Gauge, "By", "m.WALBytes", "", "", "Files of the write-ahead log."},
	{Database, "memtable.size", Gauge, "By", "m.MemtableBytes", "", "", "What is gathered in memory and not yet in a table."},
	{Database, "tables", Gauge, "{table}", "m.Tables", "", "", "Tables on disk."},
	{Database, "flush.data", Counter, "By", "m.BytesFlushed", "", "", "What was written to tables the first time."},
	{Database, "compaction.data", Counter, "By", "m.BytesCompacted", "", "", "What was written to tables again."},
	{Database, "compactions", Counter, "{compaction}", "m.Compactions", "", "", "Compactions of tables."},
	{Database, "cache.size", Gauge, "By", "m.CacheBytes", "", "", "Blocks of tables held in memory."},
	{Database, "cache.requests", Counter, "{request}", "m.CacheHits", "result", "hit", "Requests for blocks of tables."},
	{Database, "cache.requests", Counter, "{request}", "m.CacheMisses", "result", "miss", "Requests for blocks of tables."},
	{Database, "snapshots.open", Gauge, "{snapshot}", "m.OpenSnapshots", "", "", "Snapshots that running transactions hold."},
	{Database, "iterators.open", Gauge, "{iterator}", "m.OpenIterators", "", "", "Iterators that running reads and compactions hold."},
	{Database, "write.errors", Counter, "{error}", "m.WriteErrors", "", "", "Writes of tables that failed and were tried again."},

	{Stream, "stream.shards", Gauge, "{shard}", "m.OpenShards", "state", "open", "Shards of the stream."},
	{Stream, "stream.shards", Gauge, "{shard}", "m.Shards - m.OpenShards", "state", "closed", "Shards of the stream."},
	{Stream, "stream.queues", Gauge, "{queue}", "m.Queues", "", "", "Queues of the stream."},
	{Stream, "stream.stored.records", Gauge, "{record}", "m.Records", "", "", "Records that are stored."},
	{Stream, "stream.stored.data", Gauge, "By", "m.Bytes", "", "", "Partition keys and data of the records that are stored."},
	{Stream, "stream.put.records", Counter, "{record}", "m.RecordsPut", "", "", "Records that were put."},
	{Stream, "stream.put.data", Counter, "By", "m.BytesPut", "", "", "Partition keys and data that were put."},
	{Stream, "stream.put.throttled", Counter, "{record}", "m.PutsThrottled", "", "", "Records that were refused with ErrThroughputExceeded."},
	{Stream, "stream.read.records", Counter, "{record}", "m.RecordsRead", "", "", "Records that were read, once for each reader."},
	{Stream, "stream.read.data", Counter, "By", "m.BytesRead", "", "", "Partition keys and data that were read, once for each reader."},
	{Stream, "stream.read.throttled", Counter, "{call}", "m.ReadsThrottled", "", "", "Calls of GetRecords that were refused with ErrThroughputExceeded."},

	{Shard, "shard.stored.records", Gauge, "{record}", "m.Records", "", "", "Records that are stored."},
	{Shard, "shard.stored.data", Gauge, "By", "m.Bytes", "", "", "Partition keys and data of the records that are stored."},
	{Shard, "shard.put.records", Counter, "{record}", "m.RecordsPut", "", "", "Records that were put."},
	{Shard, "shard.put.data", Counter, "By", "m.BytesPut", "", "", "Partition keys and data that were put."},
	{Shard, "shard.put.throttled", Counter, "{record}", "m.PutsThrottled", "", "", "Records that were refused with ErrThroughputExceeded."},
	{Shard, "shard.read.records", Counter, "{record}", "m.RecordsRead", "", "", "Records that were read, once for each reader."},
	{Shard, "shard.read.data", Counter, "By", "m.BytesRead", "", "", "Partition keys and data that were read, once for each reader."},
	{Shard, "shard.read.throttled", Counter, "{call}", "m.ReadsThrottled", "", "", "Calls of GetRecords that were refused with ErrThroughputExceeded."},

	{App, "app.behind.records", Gauge, "{record}", "m.BehindRecords", "", "", "Records that are not processed."},
	{App, "app.behind.data", Gauge, "By", "m.BehindBytes", "", "", "Partition keys and data of the records that are not processed."},
	{App, "app.behind.age", Gauge, "s", "m.BehindLatest", "", "", "The age of the oldest record that is not processed; 0 without any."},
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

	{Worker, "worker.processed.records", Counter, "{record}", "m.Records", "", "", "Records that were processed, even those that came again."},
	{Worker, "worker.processed.data", Counter, "By", "m.Bytes", "", "", "Partition keys and data that were processed."},
	{Worker, "worker.batches", Counter, "{batch}", "m.Batches", "", "", "Batches that were processed."},
	{Worker, "worker.process.duration", Histogram, "s", "m.ProcessTimes", "", "", "How long calls of ProcessRecords took."},
	{Worker, "worker.latency", Histogram, "s", "m.Latencies", "", "", "How long after its arrival the first record of a batch was processed."},
	{Worker, "worker.failures", Counter, "{call}", "m.Failures", "", "", "Calls of ProcessRecords that returned an error."},
	{Worker, "worker.failed.records", Counter, "{record}", "m.Skipped", "outcome", "skipped", "Records that failed on their last attempt."},
	{Worker, "worker.failed.records", Counter, "{record}", "m.DeadLettered", "outcome", "dead letter", "Records that failed on their last attempt."},
	{Worker, "worker.stops", Counter, "{shard}", "m.Stops", "", "", "How often an error has stopped a shard until Resume."},
	{Worker, "worker.gaps", Counter, "{gap}", "m.Gaps", "", "", "Stretches of records that were removed before they were processed."},
	{Worker, "worker.leases.taken", Counter, "{lease}", "m.LeasesTaken", "", "", "How often the worker has begun with a shard."},
	{Worker, "worker.checkpoints", Counter, "{checkpoint}", "m.Checkpoints", "", "", "Checkpoints that were stored."},
	{Worker, "worker.checkpoint.timestamp", Gauge, "s", "m.LastCheckpoint", "", "", "The Unix time of the last checkpoint that was stored; 0 for none."},

	{Queue, "queue.records", Gauge, "{record}", "m.Visible", "state", "visible", "Records that are not settled."},
	{Queue, "queue.records", Gauge, "{record}", "m.InFlight", "state", "in flight", "Records that are not settled."},
	{Queue, "queue.records", Gauge, "{record}", "m.Delayed", "state", "delayed", "Records that are not settled."},
	{Queue, "queue.records", Gauge, "{record}", "m.Held", "state", "held", "Records that are not settled."},
	{Queue, "queue.records", Gauge, "{record}", "m.Dead - m.DeadInFlight", "state", "dead", "Records that are not settled."},
	{Queue, "queue.records", Gauge, "{record}", "m.DeadInFlight", "state", "dead in flight", "Records that are not settled."},
	{Queue, "queue.oldest.age", Gauge, "s", "m.OldestAge", "", "", "The age of the oldest record that is not settled and not dead; 0 without any."},
	{Queue, "queue.dead.oldest.age", Gauge, "s", "m.OldestDeadAge", "", "", "The age of the oldest dead letter; 0 without any."},
	{Queue, "queue.received", Counter, "{delivery}", "m.Received", "", "", "Deliveries, of dead letters too."},
	{Queue, "queue.receives.empty", Counter, "{call}", "m.EmptyReceives", "", "", "Calls that found nothing in time."},
	{Queue, "queue.acknowledged", Counter, "{record}", "m.Acknowledged", "", "", "Records that were acknowledged."},
	{Queue, "queue.lapsed", Counter, "{delivery}", "m.Lapsed", "", "", "Deliveries whose visibility timeout has passed."},
	{Queue, "queue.died", Counter, "{record}", "m.Died", "", "", "Records that became dead letters."},
	{Queue, "queue.restored", Counter, "{record}", "m.Restored", "", "", "Dead letters that were restored."},
	{Queue, "queue.expired", Counter, "{record}", "m.ExpiredUnreceived", "after", "nothing", "Records that left the stream before they were settled."},
	{Queue, "queue.expired", Counter, "{record}", "m.ExpiredReceived", "after", "delivery", "Records that left the stream before they were settled."},
	{Queue, "queue.expired", Counter, "{record}", "m.ExpiredDead", "after", "death", "Records that left the stream before they were settled."},
}

// Left are fields that are in no row, and why.
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

// Own are metrics of the collection itself, which the modules take by hand.
var Own = []Metric{
	{Database, "collection.complete", Gauge, "1", "", "", "", "1 if applications and queues could be asked in time, 0 if not: then they are missing."},
	{Database, "collection.omitted", Gauge, "{series}", "", "of", "", "Streams, shards, applications and queues that have no series of their own."},
}

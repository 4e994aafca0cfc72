package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/logs"
)

// Config says what a [Worker] processes, and how. App and Streams are required; the zero
// value of every other field means its default.
type Config struct {
	// App names the application: 1 to 128 characters of a-z, A-Z, 0-9, '_', '.' and '-'. Its
	// workers share the shards, and its leases and checkpoints are stored under that name.
	// Applications of different names are independent.
	App string

	// Streams are the names of the streams to process, at least one. The worker waits for a
	// stream that does not exist: it logs a warning, and [Status] lists the stream. All
	// workers of an application in a process must name the same streams. Without a Source
	// they are names of braid's streams: 1 to 128 characters of a-z, A-Z, 0-9, '_', '.' and
	// '-'.
	Streams []string

	// Start is where processing begins in streams that exist when the application first sees
	// them: braid.TrimHorizon, the default, braid.Latest or braid.AtTime. That place is
	// stored at once, so no later record is missed, whenever processing begins. A stream that
	// is created later is processed from its beginning.
	//
	// A Start that differs from the one the application was created with is an error. To
	// process records again, or to skip some, use [App.Seek].
	Start braid.Position

	// WorkerID names the worker. It must be unique among running workers. The default is a
	// random one.
	WorkerID string

	// Logger receives messages about the life of leases and about failures; the package
	// documentation lists them. nil means that warnings and errors go to [slog.Default];
	// slog.New(slog.DiscardHandler) silences them.
	Logger *slog.Logger

	// BatchRecords and BatchBytes limit a batch. The defaults are 10,000 records, which is
	// also the maximum, and 1 MiB; BatchBytes may be up to 10 MiB. A larger record is a batch
	// of its own.
	BatchRecords, BatchBytes int

	// MaxBytes limits the records that the worker holds for all its shards together: those
	// that were read and whose processor has not returned, or, with Lanes or Acks, that are
	// not done. The default is 64 MiB; it must be at least BatchBytes. A read takes at most
	// an eighth of what is free, so batches get smaller as memory fills up, and shards with a
	// backlog get even shares.
	//
	// No shard waits for the records of another one. A shard may always read a 1,024th of
	// MaxBytes, or one record, even when nothing is free because processors hang or retry. So
	// the worker holds at most MaxBytes plus a 1,024th, or one record, for each shard. With
	// Lanes or Acks each shard may hold another BatchBytes while one of its lanes is idle. A
	// shard that waits for records, is paused or has failed holds none.
	MaxBytes int64

	// ShardSyncInterval is how often a Source that cannot announce changes is asked for the
	// shards of each stream, and for streams that did not exist: 60 s by default. The
	// children of a shard that ends are known at once regardless. KCL:
	// shardSyncIntervalMillis.
	ShardSyncInterval time.Duration

	// ReuseRecords makes the batches of a shard share memory: once the processor is done with
	// a batch, its slice of Records is cleared and used for a later one. The processor may
	// keep copies of records, with their Data, but neither the slice nor a pointer into it. A
	// backlog of small records is processed up to three times as fast. Records inside
	// aggregates are not affected. It must not be set with Lanes or Acks. The default is
	// false: batches may be kept.
	ReuseRecords bool

	// Linger is how long a batch that is not full waits for more records. The default is not
	// to wait.
	Linger time.Duration

	// Lanes is how many goroutines process the records of a shard; 0 means 1, and the maximum
	// is 1,024. Records of one partition key share a lane, so they stay in order. With more
	// than one lane, each batch has records of one lane, and the processor is called for
	// several batches at once. Checkpoints are made up to the first record that is not done.
	// Lanes must not be more than 1 for a [TxProcessor].
	Lanes int

	// Checkpoints says when records are done: when the processor returns nil ([Automatic],
	// the default), when it checkpoints them itself ([Manual]), or when it acknowledges them
	// ([Acks]). It must be Automatic for a [TxProcessor], whose checkpoints are part of its
	// transactions.
	Checkpoints CheckpointMode

	// CheckpointInterval is the minimum time between two checkpoints of a shard. The default
	// is 0: every batch is checkpointed, which costs little in the database. In a remote
	// store of leases each checkpoint is a request. With an interval, finished batches are
	// checkpointed together at the end of the interval, even while the processor has the next
	// batch. After a crash, the batches of a whole interval are repeated, not just one, and a
	// [Status] is behind by as much.
	//
	// A pending checkpoint is stored at once when the shard ends, stops or is handed over,
	// and together with a dead letter, a prepared checkpoint, or one that the processor
	// makes. While the store fails, no batch is given out. CheckpointInterval must not be
	// negative. It must not be set with [Manual] Checkpoints or for a [TxProcessor], which
	// decide for themselves.
	CheckpointInterval time.Duration

	// MaxAttempts is how often a batch is given to a processor that returns errors. Then the
	// records are given to it one by one, each as often. The first record that still fails
	// has failed for good: see DeadLetterStream. The default is 10; a negative number means
	// no limit. A panic is an error, too. Attempts are counted in memory, from 1 each time a
	// lease is taken: a record that ends the process never reaches the limit. Package queue
	// counts deliveries durably.
	MaxAttempts int

	// RetryPause is the pause before the second attempt, 100 ms by default. It
	// doubles with each attempt, up to MaxRetryPause, 30 s by default.
	RetryPause, MaxRetryPause time.Duration

	// DeadLetterStream, if it is not empty, takes each failed record as a [DeadLetter], in
	// the same commit as the checkpoint that passes the record. With Lanes or Acks the
	// checkpoint may follow later, and a crash in between repeats the letter. If SkipFailed
	// is set instead, a failed record is logged and passed. Without either, the shard stops
	// at a failed record: its [ShardStatus] says so, and [App.Resume] or a new worker tries
	// again.
	//
	// The worker waits for a DeadLetterStream that does not exist once a record has failed.
	// It logs a warning beforehand, and [Status] lists the stream. A record that is too large
	// for a dead letter stops the shard.
	DeadLetterStream string
	SkipFailed       bool

	// OnGap is called when retention has removed records before they were processed. If it
	// returns an error, or panics, it refuses the gap: the shard stops, as after a failed
	// record. OnGap is called again after [App.Resume], and by the next worker that takes the
	// lease. If it returns nil, or OnGap is nil, the gap is accepted: processing continues
	// with the first record that exists. Each gap is logged. [App.Seek] moves past a gap
	// without a call of OnGap.
	//
	// If a whole shard has expired, OnGap is called once for each of its children, before the
	// child begins. The gap is then Suspected, and unknown fields are zero. If children have
	// expired as well, it is called for their descendants instead. The leases of these shards
	// store the gap, and whether it was accepted: see Gaps of [Lease]. An accepted gap is
	// reported again only if the worker dies before the acceptance is stored. For a gap inside
	// a shard, the next checkpoint stores it.
	OnGap func(ctx context.Context, stream string, gap *braid.TrimmedError) error

	// Deaggregate unpacks records that the Kinesis Producer Library has aggregated. Records
	// outside their shard's range of hash keys are left out: the stream was resharded after
	// the producer had looked, and the producer sends them again. KeepForeign keeps them, for
	// producers that do not; it requires Deaggregate.
	Deaggregate, KeepForeign bool

	// HandOverTimeout is how long a processor may take to return before its lease is taken
	// from it and given to another worker. The default is 30 s. It is also the most that Run
	// takes to return after its context has ended, unless Stop was called.
	HandOverTimeout time.Duration

	// Source and Leases replace the streams and the leases of the database. With both, New
	// needs no database.
	Source Source
	Leases LeaseStore
}

// CheckpointMode says when records are done, which decides how far a checkpoint may go.
type CheckpointMode int

const (
	// Automatic makes the records of a batch done when the processor returns nil. They are
	// checkpointed then, or at the end of the CheckpointInterval.
	Automatic CheckpointMode = iota

	// Manual leaves checkpoints to the processor: nothing is checkpointed when it returns.
	// When the hook ShardEnded returns nil, everything in the shard is checkpointed; a
	// processor without that hook has to checkpoint the last record. Manual cannot be used
	// with more than one lane or a DeadLetterStream.
	Manual

	// Acks makes a record done when the processor calls [Checkpointer.Ack] for it, not when
	// it returns. It may do so in any order, even after it has returned. Checkpoints are made
	// up to the first record that is not done. No more records of a shard are read while more
	// than BatchBytes are not done.
	Acks
)

// String returns the name of the mode.
func (m CheckpointMode) String() string {
	switch m {
	case Automatic:
		return "Automatic"
	case Manual:
		return "Manual"
	case Acks:
		return "Acks"
	default:
		return fmt.Sprintf("CheckpointMode(%d)", int(m))
	}
}

const (
	defaultBatchRecords    = 10_000
	defaultBatchBytes      = 1 << 20
	defaultMaxBytes        = 64 << 20
	defaultMaxAttempts     = 10
	defaultRetryPause      = 100 * time.Millisecond
	defaultMaxRetryPause   = 30 * time.Second
	defaultHandOverTimeout = 30 * time.Second
	defaultSyncInterval    = time.Minute
	maxBatchBytes          = 10 << 20
)

// withDefaults returns a copy whose zero fields are filled in, after checking the
// others.
func (c *Config) withDefaults(db *braid.DB, transactional bool) (Config, error) {
	if c == nil {
		c = &Config{}
	}
	cfg := *c
	cfg.Streams = slices.Clone(c.Streams)
	cfg.WorkerID = cmp.Or(cfg.WorkerID, uuid.NewString())
	cfg.BatchRecords = cmp.Or(cfg.BatchRecords, defaultBatchRecords)
	cfg.BatchBytes = cmp.Or(cfg.BatchBytes, defaultBatchBytes)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, defaultMaxBytes)
	cfg.Lanes = cmp.Or(cfg.Lanes, 1)
	cfg.MaxAttempts = cmp.Or(cfg.MaxAttempts, defaultMaxAttempts)
	cfg.RetryPause = cmp.Or(cfg.RetryPause, defaultRetryPause)
	cfg.MaxRetryPause = cmp.Or(cfg.MaxRetryPause, max(cfg.RetryPause, defaultMaxRetryPause))
	cfg.ShardSyncInterval = cmp.Or(cfg.ShardSyncInterval, defaultSyncInterval)
	cfg.HandOverTimeout = cmp.Or(cfg.HandOverTimeout, defaultHandOverTimeout)
	cfg.Logger = logs.OrDefault(cfg.Logger)
	invalid := func(field string, value any, rule string) (Config, error) {
		return cfg, &braid.InvalidArgumentError{Field: field, Value: value, Rule: rule}
	}
	switch {
	case nameRule(cfg.App) != "":
		return invalid("App", fmt.Sprintf("%.140q", cfg.App), nameRule(cfg.App))
	case len(cfg.Streams) == 0:
		return invalid("Streams", "empty", "must name at least one stream")
	case !isStart(cfg.Start):
		return invalid("Start", cfg.Start, "must be TRIM_HORIZON, LATEST or AT_TIMESTAMP; a sequence number is a place in one shard")
	case cfg.BatchRecords < 1 || cfg.BatchRecords > defaultBatchRecords:
		return invalid("BatchRecords", cfg.BatchRecords, "must be 1 to 10,000")
	case cfg.BatchBytes < 1 || cfg.BatchBytes > maxBatchBytes:
		return invalid("BatchBytes", cfg.BatchBytes, "must be 1 byte to 10 MiB")
	case cfg.MaxBytes < int64(cfg.BatchBytes):
		return invalid("MaxBytes", cfg.MaxBytes, "must be at least BatchBytes")
	case cfg.ShardSyncInterval < 0:
		return invalid("ShardSyncInterval", cfg.ShardSyncInterval, "must not be negative")
	case cfg.Linger < 0:
		return invalid("Linger", cfg.Linger, "must not be negative")
	case cfg.Lanes < 1 || cfg.Lanes > 1024:
		return invalid("Lanes", cfg.Lanes, "must be 1 to 1,024, or 0 for 1")
	case cfg.Checkpoints < Automatic || cfg.Checkpoints > Acks:
		return invalid("Checkpoints", cfg.Checkpoints, "must be Automatic, Manual or Acks")
	case transactional && cfg.Lanes > 1:
		return invalid("Lanes", cfg.Lanes, "must be 1 for a TxProcessor, whose checkpoints are part of its transactions")
	case transactional && cfg.Checkpoints != Automatic:
		return invalid("Checkpoints", cfg.Checkpoints, "must be Automatic for a TxProcessor, whose checkpoints are part of its transactions")
	case cfg.CheckpointInterval < 0:
		return invalid("CheckpointInterval", cfg.CheckpointInterval, "must not be negative")
	case cfg.CheckpointInterval > 0 && cfg.Checkpoints == Manual:
		return invalid("CheckpointInterval", cfg.CheckpointInterval, "must not be set with Manual Checkpoints, which the processor makes itself")
	case cfg.CheckpointInterval > 0 && transactional:
		return invalid("CheckpointInterval", cfg.CheckpointInterval, "must not be set for a TxProcessor, whose checkpoints are part of its transactions")
	case cfg.Lanes > 1 && cfg.Checkpoints == Manual:
		return invalid("Checkpoints", cfg.Checkpoints, "must not be Manual with more than one lane; use Acks")
	case cfg.ReuseRecords && cfg.Lanes > 1:
		return invalid("ReuseRecords", true, "must not be set with more than one lane, which process several batches at once")
	case cfg.ReuseRecords && cfg.Checkpoints == Acks:
		return invalid("ReuseRecords", true, "must not be set with Acks, with which processors keep records")
	case cfg.RetryPause < 0:
		return invalid("RetryPause", cfg.RetryPause, "must not be negative")
	case cfg.MaxRetryPause < cfg.RetryPause:
		return invalid("MaxRetryPause", cfg.MaxRetryPause, fmt.Sprintf("must not be less than RetryPause, %v", cfg.RetryPause))
	case cfg.KeepForeign && !cfg.Deaggregate:
		return invalid("KeepForeign", true, "must not be set without Deaggregate")
	case cfg.DeadLetterStream != "" && nameRule(cfg.DeadLetterStream) != "":
		return invalid("DeadLetterStream", fmt.Sprintf("%.140q", cfg.DeadLetterStream), nameRule(cfg.DeadLetterStream))
	case cfg.DeadLetterStream != "" && cfg.Checkpoints == Manual:
		return invalid("DeadLetterStream", cfg.DeadLetterStream, "must not be set with Manual Checkpoints: a dead letter is put in one commit with the checkpoint")
	case cfg.DeadLetterStream != "" && cfg.SkipFailed:
		return invalid("SkipFailed", true, "must not be set together with DeadLetterStream")
	case cfg.DeadLetterStream != "" && slices.Contains(cfg.Streams, cfg.DeadLetterStream):
		return invalid("DeadLetterStream", cfg.DeadLetterStream, "must not be one of Streams")
	case cfg.HandOverTimeout < 0:
		return invalid("HandOverTimeout", cfg.HandOverTimeout, "must not be negative")
	case db == nil && (cfg.Source == nil || cfg.Leases == nil):
		return invalid("db", nil, "must not be nil unless both Source and Leases are given")
	case db == nil && (transactional || cfg.DeadLetterStream != ""):
		return invalid("db", nil, "must not be nil for a TxProcessor or a DeadLetterStream")
	case cfg.Leases != nil && cfg.Leases.LeaseDuration() <= 0:
		return invalid("Leases.LeaseDuration", cfg.Leases.LeaseDuration(), "must be positive: leases that are not in the database must expire")
	case cfg.Leases != nil && (transactional || cfg.DeadLetterStream != ""):
		return invalid("Leases", nil, "must not be set for a TxProcessor or a DeadLetterStream: their checkpoints are in the same commit as what they write")
	}
	named := make(map[string]bool, len(cfg.Streams))
	for i, stream := range cfg.Streams {
		field, value := "Streams["+strconv.Itoa(i)+"]", fmt.Sprintf("%.140q", stream)
		switch {
		case cfg.Source == nil && nameRule(stream) != "":
			return invalid(field, value, nameRule(stream))
		case stream == "" || named[stream]:
			return invalid(field, value, "must not be empty or named twice")
		case strings.Contains(stream, "\x00"):
			return invalid(field, value, "must not contain a zero byte")
		}
		named[stream] = true
	}
	return cfg, nil
}

// nameRule returns the rule that the name of an application, or of a stream in the
// database, breaks, or "". A stream of another source follows the source's rule.
func nameRule(name string) string {
	var invalid *braid.InvalidArgumentError
	if errors.As(braid.ValidateStreamName(name), &invalid) {
		return invalid.Rule
	}
	return ""
}

// isStart reports whether the position can be that of a whole stream.
func isStart(p braid.Position) bool { return p.SequenceNumber().IsZero() }

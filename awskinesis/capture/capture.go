// Package capture records a stream of Kinesis, or of another [consumer.Source], in a stream of a
// database, with its original sequence numbers and arrival times, and replays it. So a test can run
// on production data, in its original order and at its original pace.
//
//	err := capture.Run(ctx, source, "orders", db, "orders-monday", &capture.Options{UntilTip: true})
//	...
//	for rec, err := range capture.Replay(ctx, stream, &capture.ReplayOptions{Speed: 60}) {
//		// rec is as it was in "orders", and comes 60 times as fast
//	}
//
// # What is captured
//
// Each record is put under its own partition key, as an envelope of package envelope, which
// contains the original data, and headers with the record's origin. [Original] decodes it.
// Aggregated records are captured as they are; after Original, [kpl.Split] unpacks them. Explicit
// hash keys are kept if the source provides them, which Kinesis does not.
//
// A capture is an application of package consumer. It commits each batch together with its
// checkpoint. So each record is captured exactly once, despite crashes, and a capture that is run
// again continues where it stopped. The records of a shard are captured in order, and before those
// of its children, so the records of each partition key are in order.
package capture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis/envelope"
	"github.com/braidstream/braid/consumer"
)

// The headers of a captured record.
const (
	headerStream    = "capture-stream"
	headerShard     = "capture-shard-id"
	headerNumber    = "capture-sequence-number"
	headerArrival   = "capture-arrival-time" // in nanoseconds since 1970
	headerEncrypted = "capture-encrypted"    // "true", or left out
)

// The limits of a batch. A stream with the capacity of one shard accepts it within a second.
const (
	batchRecords = 500
	batchBytes   = 512 << 10
)

// Options are the settings of [Run]. The zero value of each field is a safe default.
type Options struct {
	// App is the name of the application whose leases store the progress: see
	// [consumer.Config].App. The default is "capture-" followed by the name of the target stream.
	App string

	// Start is where the capture begins in the shards that exist when it first runs:
	// braid.TrimHorizon, the default, braid.Latest or braid.AtTime. It must be the same in every
	// run.
	Start braid.Position

	// UntilTip makes Run return nil when all records of the stream are captured. By default it
	// continues until ctx ends.
	UntilTip bool

	// Compress compresses the data with Zstandard if that makes it smaller.
	Compress bool

	// Logger receives the messages of package consumer. If it is nil, warnings and errors go to
	// [slog.Default].
	Logger *slog.Logger
}

// Run captures the stream from of the source in the stream to of the database, until ctx ends. If
// the target stream does not exist, Run creates it with unlimited retention and records of up to 10
// MiB. Run with the same arguments continues where the last run stopped. nil options are safe
// defaults.
//
// It returns nil when ctx ends, or, with UntilTip, when all records are captured. Errors:
// [braid.ErrInvalidArgument] for the arguments, or if a record with its headers (about 200 bytes)
// is too large for the target stream; [consumer.StoppedShardsError] if a shard cannot be read;
// those of the database. Temporary failures are retried and logged.
func Run(ctx context.Context, source consumer.Source, from string, db *braid.DB, to string, opts *Options) error {
	var o Options
	if opts != nil {
		o = *opts
	}
	if err := run(ctx, source, from, db, to, &o); err != nil {
		return fmt.Errorf("capture %.300q into %.140q: %w", from, to, err)
	}
	return nil
}

func run(ctx context.Context, source consumer.Source, from string, db *braid.DB, to string, o *Options) error {
	switch {
	case source == nil:
		return &braid.InvalidArgumentError{Field: "source", Rule: "must not be nil"}
	case db == nil:
		return &braid.InvalidArgumentError{Field: "db", Rule: "must not be nil"}
	}
	c := &capturer{from: from, to: to, codec: envelope.New(&envelope.Options{Compress: o.Compress}), begun: make(chan struct{})}
	c.begin = sync.OnceFunc(func() { close(c.begun) })
	worker, err := consumer.NewTx(db, &consumer.Config{
		App:          cmp.Or(o.App, "capture-"+to),
		Streams:      []string{from},
		Start:        o.Start,
		Source:       source,
		Logger:       o.Logger,
		BatchRecords: batchRecords,
		BatchBytes:   batchBytes,
		MaxAttempts:  -1, // a permanent error ends the capture
	}, c)
	if err != nil {
		return err
	}
	if _, err := db.OpenStream(ctx, to, &braid.StreamOptions{Retention: -1, MaxRecordBytes: maxRecordBytes}); err != nil {
		return err
	}
	ctx, c.end = context.WithCancelCause(ctx)
	defer c.end(nil)
	var helper sync.WaitGroup
	if o.UntilTip {
		helper.Go(func() { c.end(c.untilTip(ctx, worker.App())) })
	}
	err = worker.Run(ctx)
	c.end(nil)
	helper.Wait()
	var failed *failure
	if errors.As(context.Cause(ctx), &failed) {
		return errors.Join(failed.error, err)
	}
	return err
}

const maxRecordBytes = 10 << 20

// failure ends a capture with an error.
type failure struct{ error }

// untilTip waits until everything is captured. It returns an error if that is impossible.
func (c *capturer) untilTip(ctx context.Context, app *consumer.App) error {
	err := app.WaitCaughtUp(ctx)
	if errors.Is(err, consumer.ErrAppNotFound) { // it runs for the first time
		select {
		case <-c.begun:
			err = app.WaitCaughtUp(ctx)
		case <-ctx.Done():
		}
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return &failure{err}
	}
	return errors.New("everything is captured")
}

// capturer puts batches.
type capturer struct {
	from, to string
	codec    *envelope.Codec
	end      context.CancelCauseFunc // of Run; set before the first batch
	begin    func()                  // closes begun, once
	begun    chan struct{}           // closed when the capture of a shard has begun
}

// Initialize is called when the capture of a shard begins.
func (c *capturer) Initialize(context.Context, consumer.Lease) error {
	c.begin()
	return nil
}

func (c *capturer) ProcessRecords(_ context.Context, tx *braid.Tx, batch *consumer.TxBatch) error {
	for i := range batch.Records {
		if err := c.put(tx, &batch.Records[i].Record); err != nil {
			if errors.Is(err, braid.ErrInvalidArgument) || errors.Is(err, envelope.ErrInvalidMessage) {
				err = fmt.Errorf("record %s of %s: %w", batch.Records[i].SequenceNumber, batch.Records[i].ShardID, err)
				c.end(&failure{err})
			}
			return err
		}
	}
	return nil
}

func (c *capturer) put(tx *braid.Tx, rec *braid.Record) error {
	m := envelope.Message{
		Headers: []envelope.Header{
			{Key: headerStream, Value: c.from},
			{Key: headerShard, Value: string(rec.ShardID)},
			{Key: headerNumber, Value: rec.SequenceNumber.String()},
			{Key: headerArrival, Value: strconv.FormatInt(rec.ArrivalTime.UnixNano(), 10)},
		},
		Data: rec.Data,
	}
	if rec.Encrypted {
		m.Set(headerEncrypted, "true")
	}
	data, err := c.codec.Append(nil, &m)
	if err != nil {
		return err
	}
	return tx.PutEntry(c.to, braid.Entry{PartitionKey: rec.PartitionKey, ExplicitHashKey: rec.ExplicitHashKey, Data: data})
}

// ErrNotCaptured reports a record that was not made by a capture, or is corrupt.
var ErrNotCaptured = errors.New("not a captured record")

// reading decodes envelopes. It is created outside any testing/synctest bubble, so that all bubbles
// can use it.
var reading = envelope.New(nil)

// Original returns a captured record as it was in the captured stream, with its shard, sequence
// number, arrival time and data there. Error: [ErrNotCaptured].
func Original(captured braid.Record) (braid.Record, error) {
	fail := func(err error) (braid.Record, error) {
		return braid.Record{}, fmt.Errorf("%w: record %s of %s: %w", ErrNotCaptured, captured.SequenceNumber, captured.ShardID, err)
	}
	m, enveloped, err := reading.Decode(captured.Data)
	if err != nil {
		return fail(err)
	}
	if !enveloped || m.Get(headerNumber) == "" {
		return fail(errors.New("headers of a captured record are missing"))
	}
	number, err := braid.ParseSequenceNumber(m.Get(headerNumber))
	if err != nil {
		return fail(err)
	}
	nanos, err := strconv.ParseInt(m.Get(headerArrival), 10, 64)
	if err != nil {
		return fail(err)
	}
	return braid.Record{
		PartitionKey:    captured.PartitionKey,
		ExplicitHashKey: captured.ExplicitHashKey,
		Data:            m.Data,
		ShardID:         braid.ShardID(m.Get(headerShard)),
		SequenceNumber:  number,
		ArrivalTime:     time.Unix(0, nanos),
		Encrypted:       m.Get(headerEncrypted) == "true",
	}, nil
}

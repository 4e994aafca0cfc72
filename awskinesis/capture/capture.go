// Package capture records a stream of Kinesis, or of another [consumer.Source], in a stream of
// a database, with original sequence numbers and arrival times, and replays it: so a test runs
// on the records of production, in their order and at their pace.
//
//	err := capture.Run(ctx, source, "orders", db, "orders-monday", &capture.Options{UntilTip: true})
//	...
//	for rec, err := range capture.Replay(ctx, stream, &capture.ReplayOptions{Speed: 60}) {
//		// rec is as it was in "orders", and comes 60 times as fast
//	}
//
// # What is captured
//
// Each record is put under its own partition key, as an envelope of package envelope: the
// unchanged data, and the record's origin as headers. [Original] decodes it. Aggregated records
// stay aggregated: [kpl.Split] unpacks them after that. Explicit hash keys are kept if the
// source knows them; a read of Kinesis does not return them.
//
// A capture is an application of package consumer. A batch and the checkpoint after it are one
// commit, so each record is captured once, even after crashes, and a capture that is run again
// continues where it was. The records of a shard are captured in order, and those of its
// children after them, so each partition key is in order.
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

// The maximum of a batch: a stream with the capacity of one shard accepts it in a second.
const (
	batchRecords = 500
	batchBytes   = 512 << 10
)

// Options are the settings of [Run]. The zero value of each field is a safe default.
type Options struct {
	// App is the name of the application whose leases store the progress, as App of
	// [consumer.Config]. The default is "capture-" and the name of the target stream.
	App string

	// Start is where the capture begins in the shards that exist when it first runs:
	// braid.TrimHorizon, the default, braid.Latest or braid.AtTime. Later runs must not change
	// it.
	Start braid.Position

	// UntilTip ends Run, without an error, when it has captured all records of the stream. The
	// default is to continue until ctx ends.
	UntilTip bool

	// Compress compresses the data with Zstandard if that makes it smaller.
	Compress bool

	// Logger gets the messages of package consumer. With nil, warnings and errors go to
	// [slog.Default].
	Logger *slog.Logger
}

// Run captures the stream of that name, until ctx ends, into the database's stream to. If that
// does not exist, Run creates it with infinite retention and records of up to 10 MiB. Run with
// the same arguments continues where it was. nil options are safe defaults.
//
// It returns nil when ctx ends, or, with UntilTip, when everything is captured. Errors:
// [braid.ErrInvalidArgument] for the arguments, or for a record that does not fit into the
// stream with its headers (about 200 bytes); [consumer.StoppedShardsError] if a shard cannot be
// read; those of the database. Temporary failures are retried and logged.
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
	return errors.New("all is captured")
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

// ErrNotCaptured reports a record that does not belong to a capture, or is corrupt.
var ErrNotCaptured = errors.New("not a captured record")

// reading decodes envelopes. It is created outside any bubble of testing/synctest, so that all
// of them can use it.
var reading = envelope.New(nil)

// Original returns a captured record as it was in the source stream, with its original shard,
// sequence number, arrival time and data. Error: [ErrNotCaptured].
func Original(captured braid.Record) (braid.Record, error) {
	fail := func(err error) (braid.Record, error) {
		return braid.Record{}, fmt.Errorf("%w: record %s of %s: %w", ErrNotCaptured, captured.SequenceNumber, captured.ShardID, err)
	}
	m, enveloped, err := reading.Decode(captured.Data)
	if err != nil {
		return fail(err)
	}
	if !enveloped || m.Get(headerNumber) == "" {
		return fail(errors.New("it has not the headers of one"))
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

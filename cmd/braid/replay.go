package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/cmd/braid/internal/archive"
)

// replay has the flags of verb replay.
type replay struct {
	reading
	to                string
	kinesis           string
	endpoint, region  string
	speed             string
	maxPause          time.Duration
	file              string
	factor            float64 // of speed; 0 means as fast as possible
	start             time.Time
	firstArrival      time.Time
	lastArrival       time.Time
	records           int64
	batch             []braid.Entry
	batchSize         int
	sink              func(ctx context.Context, entries []braid.Entry) error
	most, mostOfBytes int // limits of a batch
}

func (p *program) replayCommand() *cobra.Command {
	var r replay
	cmd := &cobra.Command{
		Use: "replay [STREAM]", Short: "Put a stream's records again, at the pace of their arrival", GroupID: groupRecords,
		Long: `replay puts the records of a stream, or with --file of an export, into another stream, or into a stream of Amazon Kinesis
or of a server with its protocol. It keeps the pauses between arrivals, divided by --speed: 10 is ten times as fast, and max
is as fast as the target takes the records. Each record keeps its partition key, explicit hash key and data.

With --kinesis, credentials and region come from the environment and the files of the AWS SDK. Kinesis may refuse
some records of a call. They are put again, so they may come after later records of their key.

` + positionHelp,
		Example: `  braid --dir data replay orders --to orders-test --speed 60
  braid replay --file orders.braid --kinesis orders --endpoint http://localhost:4567 --speed max`,
		Args: arguments(0, 1), ValidArgsFunction: p.completeStreams,
		RunE: func(cmd *cobra.Command, args []string) error { return p.replay(cmd.Context(), &r, args) },
	}
	f := cmd.Flags()
	f.StringVar(&r.to, "to", "", "`name` of the stream of the same database or program to put to")
	f.StringVar(&r.kinesis, "kinesis", "", "`name` of the stream of Kinesis to put to")
	f.StringVar(&r.endpoint, "endpoint", "", "`address` of a server of the Kinesis protocol (default: AWS)")
	f.StringVar(&r.region, "region", "", "`region` of Kinesis (default: that of the SDK's configuration)")
	f.StringVar(&r.speed, "speed", "1", "`factor` of the recorded pace, such as 0.5 or 60; max means no pauses")
	f.DurationVar(&r.maxPause, "max-pause", 0, "longest `pause` between two records; 0 means no limit")
	f.StringVar(&r.file, "file", "", "`path` of an export to replay instead of a stream")
	f.StringVar(&r.from, "from", "start", "`POSITION` to begin at")
	f.StringVar(&r.until, "until", "", "`TIME` to end at")
	f.StringVar(&r.shard, "shard", "", "`id` of the only shard to replay")
	f.StringVar(&r.key, "key", "", "only records with this `partition key`")
	f.StringVar(&r.grep, "grep", "", "only records whose data matches this `regular expression`")
	return cmd
}

// check checks and parses the flags.
func (r *replay) check(args []string) error {
	switch {
	case (len(args) == 1) == (r.file != ""):
		return usagef("give either a STREAM or --file to replay")
	case (r.to != "") == (r.kinesis != ""):
		return usagef("give either --to or --kinesis to put the records to")
	case r.kinesis == "" && (r.endpoint != "" || r.region != ""):
		return usagef("--endpoint and --region are only for --kinesis")
	case r.maxPause < 0:
		return usagef("--max-pause %s must be 0 or more", r.maxPause)
	case len(args) == 1 && args[0] == r.to:
		return usagef("--to %s is the stream that is replayed: give a different one", r.to)
	case r.file != "" && (r.from != "start" || r.shard != ""):
		return usagef("--from and --shard are only for a stream: a file is replayed from its beginning")
	}
	if r.speed == "max" {
		return nil
	}
	factor, err := strconv.ParseFloat(r.speed, 64)
	if err != nil || !(factor >= 0.001 && factor <= 1e6) {
		return usagef("--speed %q must be a factor, 0.001 to 1000000, or max", r.speed)
	}
	r.factor = factor
	return nil
}

func (p *program) replay(ctx context.Context, r *replay, args []string) error {
	if err := r.check(args); err != nil {
		return err
	}
	f, err := r.filter()
	if err != nil {
		return err
	}
	from, err := parsePosition("--from", r.from)
	if err != nil {
		return err
	}
	r.most, r.mostOfBytes = batchRecords, batchBytes
	if r.kinesis != "" {
		api, err := p.kinesis(ctx, r.endpoint, r.region)
		if err != nil {
			return err
		}
		r.most, r.mostOfBytes = kinesisRecords, kinesisBytes
		r.sink = (&kinesisSink{api, r.kinesis}).put
	}
	if r.file != "" && r.kinesis != "" { // no store is needed
		return p.replayFile(ctx, r, f)
	}
	access := reads
	if r.to != "" {
		access = writes
	}
	return p.withStore(ctx, access, func(s store) error {
		if r.to != "" {
			if _, err := s.Stream(ctx, r.to); err != nil {
				return err
			}
			r.sink = func(ctx context.Context, entries []braid.Entry) error {
				_, err := s.Put(ctx, r.to, entries)
				return err
			}
		}
		if r.file != "" {
			return p.replayFile(ctx, r, f)
		}
		d, err := s.Stream(ctx, args[0])
		if err != nil {
			return err
		}
		return p.replayRecords(ctx, r, f, s.Records(ctx, args[0], f.shard, from, false), d.Records)
	})
}

func (p *program) replayFile(ctx context.Context, r *replay, f filter) error {
	file, err := os.Open(r.file)
	if err != nil {
		return err
	}
	defer file.Close() // it was only read
	total, err := p.verifyExport(ctx, file, r.file)
	if err != nil {
		return err
	}
	in, err := archive.NewReader(file)
	if err != nil {
		return fmt.Errorf("%s: %w", r.file, err)
	}
	return p.replayRecords(ctx, r, f, func(yield func(braid.Record, error) bool) {
		for {
			rec, err := in.Next()
			if errors.Is(err, io.EOF) || !yield(rec, err) || err != nil {
				return
			}
		}
	}, total)
}

// replayRecords puts each record when it is due.
func (p *program) replayRecords(ctx context.Context, r *replay, f filter, records iter.Seq2[braid.Record, error], total int64) error {
	bar := p.newProgress("replay", 0, number)
	defer bar.clear()
	began := time.Now()
	err := func() error {
		for rec, err := range records {
			switch {
			case err != nil:
				return errors.Join(r.flush(ctx), err)
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case f.ended(&rec):
				return r.flush(ctx)
			case !f.wants(&rec):
				continue
			}
			if err := r.wait(ctx, rec.ArrivalTime); err != nil {
				return err
			}
			if err := r.add(ctx, braid.Entry{PartitionKey: rec.PartitionKey, ExplicitHashKey: rec.ExplicitHashKey, Data: rec.Data}); err != nil {
				return err
			}
			bar.set(r.records, total)
		}
		return r.flush(ctx)
	}()
	bar.clear()
	if err != nil {
		return fmt.Errorf("%s replayed: %w", wereRecords(r.records), err)
	}
	to := r.to + r.kinesis
	return p.done(replayed{to, r.records, time.Since(began).String()}, "%s replayed to %s in %s.", wereRecords(r.records), to, duration(time.Since(began)))
}

// replayed is the result of a replay, in JSON.
type replayed struct {
	To      string
	Records int64
	Took    string
}

// wait waits until a record with that arrival is due. It first puts the records that were
// due earlier.
func (r *replay) wait(ctx context.Context, arrival time.Time) error {
	if r.factor == 0 {
		return nil
	}
	if r.start.IsZero() {
		r.start, r.firstArrival, r.lastArrival = time.Now(), arrival, arrival
	}
	if pause := r.scaled(arrival.Sub(r.lastArrival)); r.maxPause > 0 && pause > r.maxPause {
		r.start = r.start.Add(r.maxPause - pause)
	}
	// Records of several shards may come slightly out of the order of their times.
	r.lastArrival = later(r.lastArrival, arrival)
	pause := time.Until(r.start.Add(r.scaled(arrival.Sub(r.firstArrival))))
	if pause <= 0 {
		return nil
	}
	if err := r.flush(ctx); err != nil {
		return err
	}
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *replay) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / r.factor)
}

// add adds an entry to the batch, and puts the batch when it is full.
func (r *replay) add(ctx context.Context, entry braid.Entry) error {
	if len(r.batch) > 0 && (len(r.batch) == r.most || r.batchSize+entry.Size() > r.mostOfBytes) {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	r.batch = append(r.batch, entry)
	r.batchSize += entry.Size()
	return nil
}

// flush puts the batch.
func (r *replay) flush(ctx context.Context) error {
	if len(r.batch) == 0 {
		return nil
	}
	if err := r.sink(ctx, r.batch); err != nil {
		return err
	}
	r.records += int64(len(r.batch))
	r.batch, r.batchSize = r.batch[:0], 0
	return nil
}

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid"
)

func (p *program) tailCommand() *cobra.Command {
	var r reading
	var follow bool
	var last int64
	cmd := &cobra.Command{
		Use: "tail STREAM", Short: "Write the newest records of a stream, and with -f new ones", GroupID: groupRecords,
		Long: `tail writes the newest records of a stream, 10 unless -n says otherwise, in the order of arrival. With -f it
continues with new records until it is interrupted. --from begins at a position instead of a number of
records. Filters apply to the records that are read: -n 10 --key K writes those of the last 10 that have the key.

With --url, -f survives restarts of the program and network failures: tail then continues after the last record
that it has written. With --dir, where no record can come while tail reads, -f ends at the tip.

` + positionHelp,
		Args: arguments(1, 1), ValidArgsFunction: p.completeStreams,
		RunE: p.verb(reads, func(ctx context.Context, s store, args []string) error {
			if last < 0 {
				return usagef("--last %d must be 0 or more", last)
			}
			var from braid.Position
			var err error
			if r.from != "" {
				from, err = parsePosition("--from", r.from)
			}
			if err == nil && (r.from == "" || from.Equal(braid.Latest())) {
				if r.from != "" {
					last = 0
				}
				from, err = p.lastRecords(ctx, s, args[0], r.shard, last)
			}
			if err != nil {
				return err
			}
			return p.write(ctx, s, args[0], &r, from, follow)
		}),
	}
	r.add(cmd, "")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "continue with new records")
	cmd.Flags().Int64VarP(&last, "last", "n", 10, "number of `records` to begin with")
	return cmd
}

// lastRecords returns the position of the nth last record, or of the first one if there
// are fewer.
//
// No index leads backwards. But the number of records after a time is known without
// reading them. So lastRecords searches for a time that is followed by at least as many
// records and not many more, and reads only from there on.
func (p *program) lastRecords(ctx context.Context, s store, stream, shardText string, n int64) (braid.Position, error) {
	shard, err := parseShard(shardText)
	if err != nil {
		return braid.Position{}, err
	}
	d, err := s.Stream(ctx, stream)
	if err != nil {
		return braid.Position{}, err
	}
	newest, oldest := time.Time{}, time.Now()
	total := int64(0)
	var shards []braid.ShardDescription
	for i := range d.Shards {
		if sd := &d.Shards[i]; (shard == "" || sd.ID == shard) && sd.Records > 0 {
			shards = append(shards, *sd)
			total += sd.Records
			oldest = earlier(oldest, sd.First.Time())
			newest = later(newest, sd.Last.Time().Add(time.Second)) // numbers have times to the second
		}
	}
	if n >= total { // including an empty stream
		return braid.TrimHorizon(), nil
	}
	following := func(at time.Time) (sum int64, err error) {
		for i := range shards {
			if !shards[i].ClosedAt.IsZero() && !shards[i].ClosedAt.After(at) {
				continue
			}
			behind, err := s.Count(ctx, stream, shards[i].ID, braid.AtTime(at))
			if err != nil {
				return 0, err
			}
			sum += behind
		}
		return sum, nil
	}
	// Fewer than n records follow after, and at least n follow before.
	before, after := oldest, newest
	for step := time.Second; newest.Add(-step).After(oldest); step *= 4 {
		at := newest.Add(-step)
		sum, err := following(at)
		if err != nil {
			return braid.Position{}, err
		}
		if sum >= n {
			before = at
			break
		}
		after = at
	}
	for range 40 {
		half := before.Add(after.Sub(before) / 2)
		if !half.After(before) {
			break
		}
		sum, err := following(half)
		switch {
		case err != nil:
			return braid.Position{}, err
		case sum >= n:
			before = half
		default:
			after = half
		}
		if sum >= n && sum <= n+tailSlack {
			break
		}
	}
	return p.lastAfter(ctx, s, stream, shard, braid.AtTime(before), n)
}

// tailSlack is how many records more than needed may be read, to shorten the search.
const tailSlack = 1000

// lastAfter reads from a position to the tip, and returns the place of the nth last
// record.
func (p *program) lastAfter(ctx context.Context, s store, stream string, shard braid.ShardID, from braid.Position, n int64) (braid.Position, error) {
	var ring []braid.SequenceNumber
	next := 0
	last := from
	for rec, err := range s.Records(ctx, stream, shard, from, false) {
		if err != nil {
			return braid.Position{}, fmt.Errorf("look for the newest records: %w", err)
		}
		last = braid.AfterSequence(rec.SequenceNumber)
		switch {
		case n == 0:
		case int64(len(ring)) < n:
			ring = append(ring, rec.SequenceNumber)
		default:
			ring[next] = rec.SequenceNumber
			next = (next + 1) % len(ring)
		}
	}
	if len(ring) == 0 {
		return last, nil
	}
	return braid.AtSequence(ring[next]), nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid"
)

func (p *program) lsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the streams", GroupID: groupLook,
		Args: arguments(0, 0),
		RunE: p.verb(reads, func(ctx context.Context, s store, _ []string) error {
			streams, err := s.Streams(ctx)
			if err != nil {
				return err
			}
			if p.json {
				rows := make([]streamRow, 0, len(streams))
				for _, d := range streams {
					rows = append(rows, newStreamRow(d))
				}
				return writeJSON(p.stdout, rows)
			}
			t := newTable("STREAM", ">SHARDS", ">RECORDS", ">SIZE", "RETENTION", "NEWEST")
			for _, d := range streams {
				row := newStreamRow(d)
				t.row(d.Name, number(int64(row.OpenShards)), number(d.Records), size(d.Bytes), keeps(d), moment(row.newest.Time()))
			}
			t.write(p.stdout, "There are no streams.")
			return nil
		}),
	}
}

// streamRow is a stream without its shards.
type streamRow struct {
	Name           string
	OpenShards     int
	ClosedShards   int
	Records, Bytes int64
	Retention      string // negative means forever
	RetentionBytes int64
	Mode           braid.CapacityMode
	newest         braid.SequenceNumber // of all shards, by arrival
}

func newStreamRow(d braid.StreamDescription) streamRow {
	row := streamRow{
		Name: d.Name, Records: d.Records, Bytes: d.Bytes, Retention: d.Retention.String(),
		RetentionBytes: d.RetentionBytes, Mode: d.Capacity.Mode,
	}
	for i := range d.Shards {
		if sd := &d.Shards[i]; sd.Closed {
			row.ClosedShards++
		} else {
			row.OpenShards++
		}
		if last := d.Shards[i].Last; last.Time().After(row.newest.Time()) {
			row.newest = last
		}
	}
	return row
}

// keeps formats the retention of a stream.
func keeps(d braid.StreamDescription) string {
	text := retention(d.Retention)
	if d.RetentionBytes > 0 {
		text += ", " + size(d.RetentionBytes)
	}
	return text
}

func (p *program) describeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "describe STREAM", Short: "Show the settings and the shards of a stream", GroupID: groupLook,
		Args: arguments(1, 1), ValidArgsFunction: p.completeStreams,
		RunE: p.verb(reads, func(ctx context.Context, s store, args []string) error {
			d, err := s.Stream(ctx, args[0])
			if err != nil {
				return err
			}
			if p.json {
				return writeJSON(p.stdout, d)
			}
			p.describe(d)
			return nil
		}),
	}
}

func (p *program) describe(d braid.StreamDescription) {
	row := newStreamRow(d)
	facts := &table{}
	facts.row("stream", d.Name)
	facts.row("created", moment(d.CreatedAt))
	facts.row("records", fmt.Sprintf("%s, %s", number(d.Records), size(d.Bytes)))
	facts.row("shards", fmt.Sprintf("%d open, %d closed", row.OpenShards, row.ClosedShards))
	facts.row("retention", keeps(d))
	facts.row("largest record", size(int64(d.MaxRecordBytes)))
	facts.row("capacity", capacity(d.Capacity))
	if d.EncryptionKey != "" {
		facts.row("encryption key", printable(d.EncryptionKey))
	}
	for _, key := range slices.Sorted(keysOf(d.Tags)) {
		facts.row("tag "+printable(key), printable(d.Tags[key]))
	}
	facts.write(p.stdout, "")
	fmt.Fprintln(p.stdout)
	t := newTable(">SHARD", "HASH KEYS", "STATE", ">RECORDS", ">SIZE", "OLDEST", "NEWEST", "PARENTS")
	for i := range d.Shards {
		sd := &d.Shards[i]
		state := "open"
		if sd.Closed {
			state = "closed"
		}
		t.row(short(sd.ID), percents(sd.HashKeyRange), state, number(sd.Records), size(sd.Bytes),
			moment(sd.First.Time()), moment(sd.Last.Time()), shorts(sd.Parents))
	}
	t.write(p.stdout, "")
}

// capacity formats a mode with its budgets.
func capacity(c braid.Capacity) string {
	if c.Mode == braid.Unlimited {
		return "unlimited"
	}
	mode := "provisioned"
	if c.Mode == braid.OnDemand {
		mode = "on demand"
	}
	text := fmt.Sprintf("%s: a shard takes %s and %s a second", mode,
		count(int64(c.WriteRecordsPerSecond), "record"), size(int64(c.WriteBytesPerSecond)))
	if c.Mode == braid.OnDemand {
		text += fmt.Sprintf(", up to %s", count(int64(c.MaxShards), "shard"))
	}
	return text
}

func (p *program) shardsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "shards STREAM", Short: "Draw the shards of a stream, their splits and merges", GroupID: groupLook,
		Long: `shards draws the shards of a stream. Each shard is a dot, filled while the shard is open, with lines down to
its children. The percentages are its part of the hash keys.`,
		Args: arguments(1, 1), ValidArgsFunction: p.completeStreams,
		RunE: p.verb(reads, func(ctx context.Context, s store, args []string) error {
			d, err := s.Stream(ctx, args[0])
			if err != nil {
				return err
			}
			if p.json {
				return writeJSON(p.stdout, d.Shards)
			}
			row := newStreamRow(d)
			fmt.Fprintf(p.stdout, "%s: %d open, %d closed\n\n", count(int64(len(d.Shards)), "shard"), row.OpenShards, row.ClosedShards)
			drawLineage(p.stdout, d.Shards, func(sd braid.ShardDescription) []string {
				state := "open since " + moment(sd.CreatedAt)
				if sd.Closed {
					state = "closed " + moment(sd.ClosedAt)
				}
				return []string{string(sd.ID), percents(sd.HashKeyRange), count(sd.Records, "record"), size(sd.Bytes), state}
			})
			return nil
		}),
	}
}

// anys converts a list to one that is never null in JSON.
func anys[T any](list []T) []any {
	out := make([]any, len(list))
	for i := range list {
		out[i] = list[i]
	}
	return out
}

package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid"
)

func (p *program) createCommand() *cobra.Command {
	var options braid.StreamOptions
	var keep, keepBytes, largest string
	var onDemand bool
	cmd := &cobra.Command{
		Use: "create STREAM", Short: "Create a stream, and the database if there is none", GroupID: groupStreams,
		Args: arguments(1, 1),
		RunE: p.verb(creates, func(ctx context.Context, s store, args []string) (err error) {
			if options.Retention, err = parseRetention("--retention", keep); err != nil {
				return err
			}
			if options.RetentionBytes, err = parseSize("--retention-bytes", keepBytes); err != nil {
				return err
			}
			most, err := parseSize("--max-record", largest)
			if err != nil {
				return err
			}
			options.MaxRecordBytes = int(most)
			if onDemand {
				options.Capacity.Mode = braid.OnDemand
			}
			if err := s.Create(ctx, args[0], &options); err != nil {
				return err
			}
			return p.showShards(ctx, s, args[0])
		}),
	}
	f := cmd.Flags()
	f.IntVar(&options.Shards, "shards", 0, "`number` of shards (default 1, or 4 with --on-demand)")
	f.StringVar(&keep, "retention", "24h", "`time` to keep records for, such as 36h or 7d; unlimited")
	f.StringVar(&keepBytes, "retention-bytes", "0", "`size` to keep, such as 10GiB; 0 means no limit")
	f.StringVar(&largest, "max-record", "1MiB", "`size` of the largest record")
	f.BoolVar(&onDemand, "on-demand", false, "split and merge the shards by their load")
	f.StringToStringVar(&options.Tags, "tag", nil, "`key=value` to describe the stream with; may be repeated")
	return cmd
}

// parseRetention reads how long records are kept.
func parseRetention(flag, text string) (time.Duration, error) {
	if text == "unlimited" {
		return -1, nil
	}
	d, err := parseDuration(text)
	if err != nil || d <= 0 {
		return 0, usagef("%s %q is not a retention: it must be a time like 36h or 7d, or unlimited", flag, text)
	}
	return d, nil
}

// parseSize reads a number of bytes, with or without a unit.
func parseSize(flag, text string) (int64, error) {
	units := []struct {
		name string
		bits int
	}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"", 0}}
	for _, unit := range units {
		if digits, ok := cutSuffixFold(text, unit.name); ok {
			n, err := strconv.ParseInt(digits, 10, 64)
			if err != nil || n < 0 || n > 1<<62>>unit.bits {
				break
			}
			return n << unit.bits, nil
		}
	}
	return 0, usagef("%s %q is not a size: it must be a number of bytes, or a number with KiB, MiB or GiB", flag, text)
}

// showShards shows the open shards of a stream.
func (p *program) showShards(ctx context.Context, s store, stream string) error {
	d, err := s.Stream(ctx, stream)
	if err != nil {
		return err
	}
	if p.json {
		return writeJSON(p.stdout, d)
	}
	var open []braid.ShardDescription
	for i := range d.Shards {
		if !d.Shards[i].Closed {
			open = append(open, d.Shards[i])
		}
	}
	slices.SortFunc(open, func(a, b braid.ShardDescription) int { return a.HashKeyRange.Start.Compare(b.HashKeyRange.Start) })
	fmt.Fprintf(p.stdout, "Stream %s has %s:\n", stream, count(int64(len(open)), "open shard"))
	t := newTable(">SHARD", "HASH KEYS", "PARENTS")
	for i := range open {
		t.row(short(open[i].ID), percents(open[i].HashKeyRange), shorts(open[i].Parents))
	}
	t.write(p.stdout, "")
	return nil
}

func (p *program) splitCommand() *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use: "split STREAM SHARD", Short: "Split a shard in two", GroupID: groupStreams,
		Args: arguments(2, 2), ValidArgsFunction: p.completeStreams,
		RunE: p.verb(writes, func(ctx context.Context, s store, args []string) error {
			shard, err := parseShard(args[1])
			if err != nil {
				return err
			}
			var key *braid.HashKey
			if at != "" {
				k, err := braid.ParseHashKey(at)
				if err != nil {
					return usagef("--at: %v", err)
				}
				key = &k
			}
			if err := s.Split(ctx, args[0], shard, key); err != nil {
				return err
			}
			return p.showShards(ctx, s, args[0])
		}),
	}
	cmd.Flags().StringVar(&at, "at", "", "`hash key` at which the upper shard begins (default: the middle)")
	return cmd
}

func (p *program) mergeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "merge STREAM SHARD SHARD", Short: "Merge two neighbouring shards", GroupID: groupStreams,
		Args: arguments(3, 3), ValidArgsFunction: p.completeStreams,
		RunE: p.verb(writes, func(ctx context.Context, s store, args []string) error {
			shard, err := parseShard(args[1])
			if err != nil {
				return err
			}
			adjacent, err := parseShard(args[2])
			if err != nil {
				return err
			}
			if err := s.Merge(ctx, args[0], shard, adjacent); err != nil {
				return err
			}
			return p.showShards(ctx, s, args[0])
		}),
	}
}

func (p *program) scaleCommand() *cobra.Command {
	return &cobra.Command{
		Use: "scale STREAM SHARDS", Short: "Split and merge until a stream has that many open shards", GroupID: groupStreams,
		Args: arguments(2, 2), ValidArgsFunction: p.completeStreams,
		RunE: p.verb(writes, func(ctx context.Context, s store, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return usagef("SHARDS %q must be a number of shards, 1 to 10,000", args[1])
			}
			if err := s.Scale(ctx, args[0], n); err != nil {
				return err
			}
			return p.showShards(ctx, s, args[0])
		}),
	}
}

func (p *program) retentionCommand() *cobra.Command {
	var bytes string
	cmd := &cobra.Command{
		Use: "retention STREAM [PERIOD]", Short: "Show or change how long a stream keeps its records", GroupID: groupStreams,
		Long: `retention shows how long a stream keeps its records. PERIOD (24h to 8760h, such as 36h or 7d, or unlimited) changes that,
and --bytes changes how much it keeps. A shorter period removes older records at once.`,
		Args: arguments(1, 2), ValidArgsFunction: p.completeStreams,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			changesBytes := cmd.Flags().Changed("bytes")
			access := reads
			if changesBytes || len(args) > 1 {
				access = writes
			}
			return p.withStore(ctx, access, func(s store) error {
				d, err := s.Stream(ctx, args[0])
				if err != nil {
					return err
				}
				if err := p.changeRetention(ctx, s, d, args[1:], changesBytes, bytes); err != nil {
					return err
				}
				if access == writes {
					if d, err = s.Stream(ctx, args[0]); err != nil {
						return err
					}
				}
				return p.done(newStreamRow(d), "Stream %s keeps %s.", d.Name, kept(d))
			})
		},
	}
	cmd.Flags().StringVar(&bytes, "bytes", "", "`size` to keep, such as 10GiB; 0 means no limit")
	cmd.Flags().BoolVar(&p.yes, "yes", false, "do not ask before records are removed")
	return cmd
}

// kept describes the retention of a stream in words.
func kept(d braid.StreamDescription) string {
	text := "records for " + duration(d.Retention)
	if d.Retention < 0 {
		text = "records forever"
	}
	if d.RetentionBytes > 0 {
		text += ", limited to the newest " + size(d.RetentionBytes)
	}
	return text
}

func (p *program) changeRetention(ctx context.Context, s store, d braid.StreamDescription, period []string, changesBytes bool, bytes string) (err error) {
	var most int64
	if changesBytes {
		if most, err = parseSize("--bytes", bytes); err != nil {
			return err
		}
	}
	if len(period) > 0 {
		keep, err := parseRetention("PERIOD", period[0])
		if err != nil {
			return err
		}
		if keep > 0 && (d.Retention < 0 || keep < d.Retention) {
			err := p.confirm("records of stream %s that are older than %s are removed", d.Name, duration(keep))
			if err != nil {
				return err
			}
		}
		if err := s.SetRetention(ctx, d.Name, keep); err != nil {
			return err
		}
	}
	if !changesBytes {
		return nil
	}
	if most > 0 && d.Bytes > most {
		err := p.confirm("the oldest records of stream %s are removed, until about %[3]s of %[2]s are left", d.Name, size(d.Bytes), size(most))
		if err != nil {
			return err
		}
	}
	return s.SetRetentionBytes(ctx, d.Name, most)
}

func (p *program) trimCommand() *cobra.Command {
	var before string
	cmd := &cobra.Command{
		Use: "trim STREAM --before POSITION", Short: "Remove the oldest records of a stream for good", GroupID: groupStreams,
		Long: `trim removes all records before a position. It asks first, unless --yes is given.

` + positionHelp,
		Args: arguments(1, 1), ValidArgsFunction: p.completeStreams, DisableFlagsInUseLine: true,
		RunE: p.verb(writes, func(ctx context.Context, s store, args []string) error {
			if before == "" {
				return usagef("--before is missing; it %s", positionRule)
			}
			position, err := parsePosition("--before", before)
			if err != nil {
				return err
			}
			d, err := s.Stream(ctx, args[0])
			if err != nil {
				return err
			}
			err = p.confirm("of the records of stream %s (%s, %s), those before %s are removed",
				d.Name, count(d.Records, "record"), size(d.Bytes), position)
			if err != nil {
				return err
			}
			if err := s.Trim(ctx, args[0], position); err != nil {
				return err
			}
			after, err := s.Stream(ctx, args[0])
			if err != nil {
				return err
			}
			return p.done(newStreamRow(after), "%s removed from stream %s, which now has %s of %s.",
				wereRecords(max(0, d.Records-after.Records)), d.Name, count(after.Records, "record"), size(after.Bytes))
		}),
	}
	cmd.Flags().StringVar(&before, "before", "", "`POSITION` before which records are removed")
	cmd.Flags().BoolVar(&p.yes, "yes", false, "do not ask")
	return cmd
}

func (p *program) deleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete STREAM", Short: "Delete a stream with all its records for good", GroupID: groupStreams,
		Long: `delete deletes a stream with all its records. Applications that process it then wait for a new stream of that
name. A stream that has queues is not deleted. It asks first, unless --yes is given.`,
		Args: arguments(1, 1), ValidArgsFunction: p.completeStreams,
		RunE: p.verb(writes, func(ctx context.Context, s store, args []string) error {
			d, err := s.Stream(ctx, args[0])
			if err != nil {
				return err
			}
			err = p.confirm("stream %s is deleted with all its %s of %s in %s",
				d.Name, count(d.Records, "record"), size(d.Bytes), count(int64(len(d.Shards)), "shard"))
			if err != nil {
				return err
			}
			if err := s.Delete(ctx, d.Name); err != nil {
				return err
			}
			return p.done(struct{ Deleted string }{d.Name}, "Stream %s is deleted, with %s.", d.Name, count(d.Records, "record"))
		}),
	}
	cmd.Flags().BoolVar(&p.yes, "yes", false, "do not ask")
	return cmd
}

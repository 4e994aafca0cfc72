package main

import (
	"context"
	"errors"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid"
)

// reading has the flags of the verbs that read records.
type reading struct {
	from, until string
	shard       string
	key         string
	grep        string
	limit       int64
	output      string
	template    string
}

func (r *reading) add(cmd *cobra.Command, from string) {
	f := cmd.Flags()
	f.StringVar(&r.from, "from", from, "`POSITION` to begin at (braid help describes them)")
	f.StringVar(&r.until, "until", "", "`TIME` to end at: records that arrived then or later are left out")
	f.StringVar(&r.shard, "shard", "", "`id` of the only shard to read, such as 3 (default: all, in the order of arrival)")
	f.StringVar(&r.key, "key", "", "only records with this `partition key`")
	f.StringVar(&r.grep, "grep", "", "only records whose data matches this `regular expression`")
	f.StringVarP(&r.output, "output", "o", "text", "`form` of records: text, data (the data alone, unchanged), json (an array) or ndjson")
	f.StringVar(&r.template, "template", "", "Go `template` for each record, in place of a form: of the fields of braid.Record,\n"+
		".Text, .JSON for data that is JSON, and functions time and quote")
}

// filter selects records.
type filter struct {
	shard braid.ShardID
	key   string
	grep  *regexp.Regexp
	until time.Time // zero means no end
}

func (r *reading) filter() (f filter, err error) {
	f.key = r.key
	if f.shard, err = parseShard(r.shard); err != nil {
		return f, err
	}
	if r.grep != "" {
		if f.grep, err = regexp.Compile(r.grep); err != nil {
			return f, usagef("--grep: %v", err)
		}
	}
	if r.until != "" {
		var ok bool
		if f.until, ok = parseTime(r.until); !ok {
			return f, usagef("--until %q is not a time: it must be like 2026-11-28T14:05:00Z, or a time ago like -90m", r.until)
		}
	}
	return f, nil
}

// ended reports whether the record arrived too late. So did all records after it in its
// shard, or in the order of arrival.
func (f *filter) ended(rec *braid.Record) bool {
	return !f.until.IsZero() && !rec.ArrivalTime.Before(f.until)
}

func (f *filter) wants(rec *braid.Record) bool {
	return (f.key == "" || rec.PartitionKey == f.key) && (f.grep == nil || f.grep.Match(rec.Data))
}

// recordWriter returns the writer of the form in the flags.
func (p *program) recordWriter(r *reading) (recordWriter, error) {
	form := r.output
	if p.json && form == "text" {
		form = "ndjson"
	}
	return newRecordWriter(p.stdout, form, r.template)
}

func (p *program) catCommand() *cobra.Command {
	var r reading
	cmd := &cobra.Command{
		Use: "cat STREAM", Short: "Write the records of a stream, up to the tip", GroupID: groupRecords,
		Long: `cat writes the records of a stream up to its tip at the start of the command: those of all shards, in the order of
arrival. A line of text has the time of arrival, the shard, the partition key and the data. Characters that are not
printable are escaped as in Go. With --json the form is ndjson.

` + positionHelp,
		Args: arguments(1, 1), ValidArgsFunction: p.completeStreams,
		RunE: p.verb(reads, func(ctx context.Context, s store, args []string) error {
			from, err := parsePosition("--from", r.from)
			if err != nil {
				return err
			}
			return p.write(ctx, s, args[0], &r, from, false)
		}),
	}
	r.add(cmd, "start")
	cmd.Flags().Int64VarP(&r.limit, "limit", "n", 0, "maximum number of `records` to write; 0 means no limit")
	return cmd
}

// write writes the records from a position on. When it follows a stream, it flushes each
// record.
func (p *program) write(ctx context.Context, s store, stream string, r *reading, from braid.Position, follow bool) error {
	f, err := r.filter()
	if err != nil {
		return err
	}
	if r.limit < 0 {
		return usagef("--limit %d must be 0 or more", r.limit)
	}
	out, err := p.recordWriter(r)
	if err != nil {
		return err
	}
	err = p.copyTo(ctx, s, stream, f, from, follow, r.limit, out)
	if follow && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		err = nil // following ends that way
	}
	return errors.Join(err, out.end())
}

func (p *program) copyTo(ctx context.Context, s store, stream string, f filter, from braid.Position, follow bool, limit int64, out recordWriter) error {
	written := int64(0)
	for rec, err := range s.Records(ctx, stream, f.shard, from, follow) {
		if err != nil {
			return err
		}
		if f.ended(&rec) {
			break
		}
		if !f.wants(&rec) {
			continue
		}
		if err := out.write(&rec); err != nil {
			return err
		}
		if follow {
			if err := p.flush(); err != nil {
				return err
			}
		}
		if written++; limit > 0 && written == limit {
			break
		}
	}
	return nil
}

// flush flushes standard output.
func (p *program) flush() error {
	if f, ok := p.stdout.(interface{ Flush() error }); ok {
		return f.Flush()
	}
	return nil
}

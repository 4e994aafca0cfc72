package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

func (p *program) appsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "apps", Short: "List the consumer applications", GroupID: groupApps,
		Args: arguments(0, 0),
		RunE: p.verb(reads, func(ctx context.Context, s store, _ []string) error {
			apps, err := statuses(ctx, s, nil)
			if err != nil {
				return err
			}
			if p.json {
				return writeJSON(p.stdout, anys(apps))
			}
			t := newTable("APPLICATION", "STREAMS", ">SHARDS", "STATES", "WORKERS", ">BEHIND", ">AGE")
			for _, a := range apps {
				t.row(a.App, strings.Join(streamsOf(a), ", "), number(int64(len(a.Shards))), states(a), workers(a),
					number(a.BehindRecords), age(a.BehindLatest))
			}
			t.write(p.stdout, "There are no applications.")
			return nil
		}),
	}
}

// statuses returns the statuses of the named applications, or of all.
func statuses(ctx context.Context, s store, names []string) (apps []consumer.Status, err error) {
	if len(names) == 0 {
		if names, err = s.Apps(ctx); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		status, err := s.App(ctx, name)
		if err != nil {
			return nil, err
		}
		apps = append(apps, status)
	}
	return apps, nil
}

func streamsOf(a consumer.Status) (names []string) {
	for i := range a.Shards {
		names = append(names, a.Shards[i].Stream)
	}
	for _, awaited := range a.AwaitedStreams {
		names = append(names, awaited+" (awaited)")
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// states counts the shards by state. States that need attention come first.
func states(a consumer.Status) string {
	counts := make(map[consumer.ShardState]int)
	for i := range a.Shards {
		counts[a.Shards[i].State]++
	}
	var texts []string
	for _, state := range []consumer.ShardState{
		consumer.StateFailed, consumer.StateRetrying, consumer.StatePaused, consumer.StateRunning,
		consumer.StateHandingOver, consumer.StateUnowned, consumer.StateWaiting, consumer.StateDone,
	} {
		if n := counts[state]; n > 0 {
			texts = append(texts, fmt.Sprintf("%d %s", n, state))
		}
	}
	if a.Paused {
		texts = append(texts, "paused as a whole")
	}
	for _, stream := range a.PausedStreams {
		texts = append(texts, stream+" paused")
	}
	if len(texts) == 0 {
		return "-"
	}
	return strings.Join(texts, ", ")
}

func workers(a consumer.Status) string {
	if len(a.Workers) == 0 {
		return "-"
	}
	return printable(strings.Join(a.Workers, ", "))
}

// age formats the age of the oldest record that was not processed.
func age(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return duration(d)
}

// lag has the flags of verb lag.
type lag struct {
	watch      bool
	interval   time.Duration
	maxRecords int64
	maxAge     time.Duration
	all        bool
}

func (p *program) lagCommand() *cobra.Command {
	var l lag
	cmd := &cobra.Command{
		Use: "lag [APPLICATION...]", Short: "Show how far applications are behind, shard by shard", GroupID: groupApps,
		Long: `lag shows the place of applications in each shard and how much they have not processed: the number of records, their
size, and the age of the oldest. Shards that are done are left out, unless --all is given.

With --max-records or --max-age it exits with 6 if an application is further behind, for alarms in scripts. With
--watch it updates its output until it is interrupted.`,
		Args: arguments(0, -1), ValidArgsFunction: p.completeApps,
		RunE: p.verb(reads, func(ctx context.Context, s store, args []string) error {
			switch {
			case l.interval < 100*time.Millisecond:
				return usagef("--interval %s must be 100ms or more", l.interval)
			case l.maxRecords < -1:
				return usagef("--max-records %d must be 0 or more, or -1 for no limit", l.maxRecords)
			}
			return p.lag(ctx, s, args, l)
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&l.watch, "watch", "w", false, "repeat until interrupted")
	f.DurationVar(&l.interval, "interval", 2*time.Second, "`time` between two updates of --watch")
	f.Int64Var(&l.maxRecords, "max-records", -1, "exit with 6 if an application is more `records` behind; -1 means no limit")
	f.DurationVar(&l.maxAge, "max-age", -1, "exit with 6 if the oldest record is older than this `time`; negative means no limit")
	f.BoolVar(&l.all, "all", false, "also show shards that are done")
	return cmd
}

// lag shows the lag once, or with --watch until ctx ends.
func (p *program) lag(ctx context.Context, s store, names []string, l lag) error {
	for {
		apps, err := statuses(ctx, s, names)
		if err != nil {
			return err
		}
		if err := p.showLag(apps, l); err != nil {
			return err
		}
		if !l.watch {
			return l.verdict(apps)
		}
		if err := p.flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return l.verdict(apps) // with --watch, an interrupt is the normal end
		case <-time.After(l.interval):
		}
	}
}

// verdict compares the lag with the limits.
func (l lag) verdict(apps []consumer.Status) error {
	for _, a := range apps {
		switch {
		case l.maxRecords >= 0 && a.BehindRecords > l.maxRecords:
			return &codedError{fmt.Errorf("application %s is %s behind, more than --max-records %s",
				a.App, count(a.BehindRecords, "record"), number(l.maxRecords)), exitBehind}
		case l.maxAge >= 0 && a.BehindLatest > l.maxAge:
			return &codedError{fmt.Errorf("application %s is %s behind, more than --max-age %s",
				a.App, duration(a.BehindLatest), duration(l.maxAge)), exitBehind}
		}
	}
	return nil
}

// showLag shows the statuses of one moment.
func (p *program) showLag(apps []consumer.Status, l lag) error {
	if p.json {
		if l.watch { // one line for each update
			return writeLine(p.stdout, anys(apps))
		}
		return writeJSON(p.stdout, anys(apps))
	}
	if l.watch && p.terminal {
		fmt.Fprint(p.stdout, "\x1b[H\x1b[2J") // clear the screen
	}
	if l.watch {
		fmt.Fprintln(p.stdout, moment(time.Now()))
	}
	if len(apps) == 0 {
		fmt.Fprintln(p.stdout, "There are no applications.")
	}
	for i, a := range apps {
		if i > 0 {
			fmt.Fprintln(p.stdout)
		}
		p.showAppLag(a, l.all)
	}
	if l.watch && !p.terminal {
		fmt.Fprintln(p.stdout)
	}
	return nil
}

func (p *program) showAppLag(a consumer.Status, all bool) {
	summary := "caught up"
	if a.BehindRecords > 0 {
		summary = fmt.Sprintf("%s, %s, %s behind", count(a.BehindRecords, "record"), size(a.BehindBytes), duration(a.BehindLatest))
	} else if !a.CaughtUp() {
		summary = "not begun"
	}
	fmt.Fprintf(p.stdout, "%s: %s\n", a.App, summary)
	t := newTable("STREAM", ">SHARD", "STATE", "OWNER", ">BEHIND", ">SIZE", ">AGE", "NOTE")
	for i := range a.Shards {
		sh := &a.Shards[i]
		if sh.State == consumer.StateDone && !all {
			continue
		}
		owner := "-"
		if sh.Owner != "" {
			owner = printable(sh.Owner)
		}
		t.row(sh.Stream, short(sh.Shard), string(sh.State), owner, number(sh.BehindRecords), size(sh.BehindBytes), age(sh.BehindLatest), note(sh))
	}
	t.write(p.stdout, "There are no shards to process.")
	for _, stream := range a.AwaitedStreams {
		fmt.Fprintf(p.stdout, "Stream %s does not exist; the application waits for it.\n", stream)
	}
	for _, stream := range a.AwaitedDeadLetterStreams {
		fmt.Fprintf(p.stdout, "Dead-letter stream %s does not exist: records that fail wait.\n", stream)
	}
}

// note returns details that the state does not show.
func note(sh *consumer.ShardStatus) string {
	switch {
	case sh.Err != nil && sh.Attempt > 0:
		return fmt.Sprintf("attempt %d: %s", sh.Attempt, firstLine(sh.Err))
	case sh.Err != nil:
		return firstLine(sh.Err)
	case len(sh.WaitingFor) > 0:
		return "waits for " + shorts(sh.WaitingFor)
	}
	return ""
}

// firstLine returns the first line of an error's text, with dots in place of the others,
// such as the stack of a panic. --json shows all of it.
func firstLine(err error) string {
	line, more, _ := strings.Cut(err.Error(), "\n")
	if more != "" {
		line += " …"
	}
	return printable(line)
}

// leaseKey reads the arguments APPLICATION [STREAM [SHARD]].
func leaseKey(args []string) (app string, key consumer.LeaseKey, err error) {
	if len(args) > 1 {
		key.Stream = args[1]
	}
	if len(args) > 2 {
		key.Shard, err = parseShard(args[2])
	}
	return args[0], key, err
}

// named names the part of an application that a key stands for.
func named(app string, key consumer.LeaseKey) string {
	switch {
	case key.Shard != "":
		return fmt.Sprintf("Shard %s of stream %s of application %s", short(key.Shard), key.Stream, app)
	case key.Stream != "":
		return fmt.Sprintf("Stream %s of application %s", key.Stream, app)
	}
	return "Application " + app
}

func (p *program) seekCommand() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use: "seek APPLICATION [STREAM [SHARD]] --to POSITION", Short: "Move an application to another place", GroupID: groupApps,
		Long: `seek moves the checkpoint of a shard, of all shards of a stream, or of all streams of an application. Running workers
lose their leases in the same commit and begin again at the position. A sequence number is a place in one shard, so
it requires SHARD.

` + positionHelp,
		Args: arguments(1, 3), ValidArgsFunction: p.completeApps, DisableFlagsInUseLine: true,
		RunE: p.verb(writes, func(ctx context.Context, s store, args []string) error {
			app, key, err := leaseKey(args)
			if err != nil {
				return err
			}
			if to == "" {
				return usagef("--to is missing; it %s", positionRule)
			}
			position, err := parsePosition("--to", to)
			if err != nil {
				return err
			}
			if err := s.Seek(ctx, app, key, position); err != nil {
				return err
			}
			return p.done(struct {
				App string
				Key consumer.LeaseKey
				To  braid.Position
			}{app, key, position}, "%s continues at %s.", named(app, key), position)
		}),
	}
	cmd.Flags().StringVar(&to, "to", "", "`POSITION` to continue at")
	return cmd
}

func (p *program) pauseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "pause APPLICATION [STREAM [SHARD]]", Short: "Pause processing by an application", GroupID: groupApps,
		Long: `pause stops the processing of a shard, a stream or a whole application until resume with the same arguments,
even across restarts. Current batches are finished.`,
		Args: arguments(1, 3), ValidArgsFunction: p.completeApps,
		RunE: p.verb(writes, func(ctx context.Context, s store, args []string) error {
			app, key, err := leaseKey(args)
			if err != nil {
				return err
			}
			if err := s.Pause(ctx, app, key); err != nil {
				return err
			}
			return p.done(control{app, key, true}, "%s is paused.", named(app, key))
		}),
	}
}

func (p *program) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "resume APPLICATION [STREAM [SHARD]]", Short: "Continue a paused or stopped application", GroupID: groupApps,
		Long: `resume ends a pause with the same arguments. A shard that an error has stopped is tried again.`,
		Args: arguments(1, 3), ValidArgsFunction: p.completeApps,
		RunE: p.verb(writes, func(ctx context.Context, s store, args []string) error {
			app, key, err := leaseKey(args)
			if err != nil {
				return err
			}
			if err := s.Resume(ctx, app, key); err != nil {
				return err
			}
			return p.done(control{app, key, false}, "%s is resumed.", named(app, key))
		}),
	}
}

// control is the result of pause and resume, in JSON.
type control struct {
	App    string
	Key    consumer.LeaseKey
	Paused bool
}

// done reports what was done: as JSON with --json, otherwise as a sentence.
func (p *program) done(value any, format string, args ...any) error {
	if p.json {
		return writeJSON(p.stdout, value)
	}
	fmt.Fprintf(p.stdout, format+"\n", args...)
	return nil
}

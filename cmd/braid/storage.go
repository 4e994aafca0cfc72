package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid"
)

func (p *program) checkCommand() *cobra.Command {
	var rate string
	cmd := &cobra.Command{
		Use: "check", Short: "Read everything, and report corruption", GroupID: groupStorage,
		Long: `check reads all of a directory and compares it with its checksums, changing nothing: files, records, shards, leases, queues and
keys of the application. It exits with 3 if something is corrupt or missing. salvage saves what can be read of a corrupt
database.`,
		Args: arguments(0, 0),
		RunE: p.verb(reads, func(ctx context.Context, s store, _ []string) error {
			db, err := databaseOf(s, "check")
			if err != nil {
				return err
			}
			perSecond, err := parseSize("--rate", rate)
			if err != nil {
				return err
			}
			if perSecond == 0 {
				perSecond = -1
			}
			bar := p.newProgress("check", 0, size)
			report, err := db.Verify(ctx, &braid.VerifyOptions{BytesPerSecond: perSecond, MaxProblems: 10_000, Progress: bar.set})
			bar.clear()
			if p.json {
				return errors.Join(writeJSON(p.stdout, report), summary(report, err))
			}
			p.showReport(report)
			return summary(report, err)
		}),
	}
	cmd.Flags().StringVar(&rate, "rate", "0", "maximum `size` to read per second, such as 32MiB; 0 means no limit")
	return cmd
}

// summary is the error of a check whose report was shown: the number of problems.
func summary(report *braid.VerifyReport, err error) error {
	n := int64(len(report.Problems)) + report.MoreProblems
	if n == 0 || err == nil {
		return err
	}
	return &codedError{fmt.Errorf("%s found", wasWere(n, "problem")), exitDamage}
}

func wasWere(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing + " was"
	}
	return count(n, thing) + " were"
}

func (p *program) showReport(r *braid.VerifyReport) {
	t := newTable(">", "")
	t.rows = nil
	t.row(number(r.Files), "files, "+size(r.FileBytes))
	t.row(number(r.Streams), "streams")
	t.row(number(r.Shards), "shards")
	t.row(number(r.Records), "records, "+size(r.Bytes))
	t.row(number(r.Leases), "rows of applications")
	t.row(number(r.Queues), "queues")
	t.row(number(r.Keys), "keys of the application")
	t.write(p.stdout, "")
	if r.Unopened > 0 {
		fmt.Fprintf(p.stdout, "%s encrypted with a key that is not available; their decryption was not checked: %v\n",
			wereRecords(r.Unopened), r.UnopenedErr)
	}
	for _, problem := range r.Problems {
		fmt.Fprintf(p.stdout, "damage: %s\n", printable(problem.Error()))
	}
	if r.MoreProblems > 0 {
		fmt.Fprintf(p.stdout, "and %s more\n", count(r.MoreProblems, "problem"))
	}
	if len(r.Problems) == 0 {
		fmt.Fprintln(p.stdout, "Nothing is damaged.")
	}
}

func (p *program) backupCommand() *cobra.Command {
	var verify bool
	cmd := &cobra.Command{
		Use: "backup DIRECTORY", Short: "Copy the database to another directory", GroupID: groupStorage,
		Long: `backup copies the database of --dir to a directory, which must not exist or must be empty. The copy is a separate
database. With --verify the whole copy is read before the backup succeeds. An interrupted backup leaves nothing behind.`,
		Args: arguments(1, 1),
		RunE: p.verb(reads, func(ctx context.Context, s store, args []string) error {
			db, err := databaseOf(s, "backup")
			if err != nil {
				return err
			}
			bar := p.newProgress("backup", 0, size)
			var bytes int64
			err = db.Backup(ctx, args[0], &braid.BackupOptions{Verify: verify, Progress: func(done, total int64) {
				bytes = total
				bar.set(done, total)
			}})
			bar.clear()
			if err != nil {
				return fmt.Errorf("backup to %s: %w", args[0], err)
			}
			if verify { // each byte was copied and read
				return p.done(backedUp{args[0], bytes / 2, true}, "%s copied to %s and verified.", wasSize(bytes/2), args[0])
			}
			return p.done(backedUp{args[0], bytes, false}, "%s copied to %s.", wasSize(bytes), args[0])
		}),
	}
	cmd.Flags().BoolVar(&verify, "verify", false, "read the whole copy, and compare it with its checksums")
	return cmd
}

// backedUp is the result of a backup, in JSON.
type backedUp struct {
	Directory string
	Bytes     int64
	Verified  bool
}

func wasSize(bytes int64) string { return size(bytes) + " were" }

func (p *program) salvageCommand() *cobra.Command {
	return &cobra.Command{
		Use: "salvage DIRECTORY", Short: "Save what can be read of a damaged database", GroupID: groupStorage,
		Long: `salvage creates a new database in DIRECTORY, which must not exist or must be empty, from everything that can be read of
the damaged one in --dir. It does not change the damaged one. Records keep their numbers and times, streams their
settings, and applications their checkpoints. If something is lost, salvage reports it and exits with 3.`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := p.where()
			if err != nil {
				return err
			}
			if t.dir == "" {
				return usagef("salvage works on a directory: give --dir instead of --url")
			}
			if err := mustHoldFiles(t.dir); err != nil {
				return err
			}
			bar := p.newProgress("salvage", 0, size)
			report, err := braid.Salvage(cmd.Context(), t.dir, args[0], &braid.SalvageOptions{Progress: bar.set, Logger: newLogger(p.stderr)})
			bar.clear()
			if err != nil {
				return fmt.Errorf("salvage %s: %w", t.dir, err)
			}
			if p.json {
				err = writeJSON(p.stdout, report)
			} else {
				p.showSalvage(args[0], report)
			}
			if err != nil || report.Whole() {
				return err
			}
			text := "not everything could be saved"
			if len(report.Lost)+len(report.LostKeys)+len(report.Notes) == 0 {
				text = "damage was found, and nothing is known to be lost"
			}
			return &codedError{errors.New(text), exitDamage}
		},
	}
}

func (p *program) showSalvage(to string, r *braid.SalvageReport) {
	fmt.Fprintf(p.stdout, "Saved into %s:\n", to)
	t := newTable(">", "")
	t.rows = nil
	t.row(number(r.Records), "records, "+size(r.Bytes))
	t.row(number(r.Leases), "rows of applications")
	t.row(number(r.Queues), "queues")
	t.row(number(r.Keys), "keys of the application")
	t.write(p.stdout, "")
	for _, lost := range r.Lost {
		what := count(lost.Records, "record")
		if !lost.Exact {
			what = "an unknown number of records"
		}
		fmt.Fprintf(p.stdout, "lost: %s of stream %s, shard %s, from %s to below %s\n", what, lost.Stream, short(lost.Shard), lost.FirstLost, lost.FirstAvailable)
	}
	for _, keys := range r.LostKeys {
		fmt.Fprintf(p.stdout, "lost: keys of the application after %q, up to and including %q\n", keys.After, keys.Through)
	}
	for _, d := range r.Damaged {
		fmt.Fprintf(p.stdout, "damaged: %s at byte %d: %s\n", d.Name, d.Offset, printable(d.Problem))
	}
	for _, note := range r.Notes {
		fmt.Fprintf(p.stdout, "note: %s\n", printable(note))
	}
	if r.NewID {
		fmt.Fprintln(p.stdout, "note: the id of the database was lost, so encrypted records can no longer be read")
	}
	if !r.Closed {
		fmt.Fprintln(p.stdout, "note: the database had not been closed: records put in its last second may be missing")
	}
	if r.Whole() {
		fmt.Fprintln(p.stdout, "Nothing was found to be lost.")
	}
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/cmd/braid/internal/archive"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/queue"
)

// The exit codes. exitCodes and docs/command.md document them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitDamage      = 3
	exitNotFound    = 4
	exitLocked      = 5
	exitBehind      = 6
	exitInterrupted = 130 // as in shells after SIGINT
)

const exitCodes = `Exit codes:
  0    success
  1    failure: the message says why
  2    usage: the command line is invalid, and nothing was done
  3    damage: stored data or an export is corrupt or missing
  4    the stream, shard, application, queue, dead letter or directory does not exist
  5    another process has the directory open
  6    lag: an application is further behind than --max-records or --max-age allows
  130  interrupted before the work was finished`

// program is one run of the command, with everything that it takes from outside.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string

	interactive bool // standard input is a terminal: the program can ask
	terminal    bool // standard output is a terminal: lag --watch redraws in place
	bars        bool // standard error is a terminal: progress bars are drawn there
	width       func() int

	open    func(ctx context.Context, t target, access access) (store, error)
	kinesis func(ctx context.Context, endpoint, region string) (kinesisAPI, error)

	target target // the flags --dir, --url and --keys
	json   bool   // --json
	yes    bool   // --yes
}

// run runs the command until ctx ends.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{
		stdin: stdin, stdout: stdout, stderr: stderr, getenv: os.Getenv,
		interactive: isTerminal(stdin), terminal: isTerminal(stdout), bars: isTerminal(stderr),
		width: func() int { return terminalWidth(stderr) },
		open: func(ctx context.Context, t target, access access) (store, error) {
			return open(ctx, t, access, newLogger(stderr))
		},
		kinesis: newKinesis,
	}
	return p.run(ctx, args)
}

// run parses the arguments, runs the verb, and reports its error.
func (p *program) run(ctx context.Context, args []string) int {
	out := bufio.NewWriterSize(p.stdout, 64<<10)
	outer := p.stdout
	p.stdout = out
	defer func() { p.stdout = outer }()

	root := p.root()
	root.SetArgs(args)
	root.SetIn(p.stdin)
	root.SetOut(out)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	code := exitCode(ctx, err)
	if err == nil || errors.Is(err, syscall.EPIPE) { // the reader, such as head, has seen enough
		return code
	}
	switch code {
	case exitOK:
		return code
	case exitInterrupted:
		fmt.Fprintln(p.stderr, "braid: interrupted")
	default:
		fmt.Fprintf(p.stderr, "braid: %s\n", message(err))
	}
	return code
}

// usageError reports an invalid command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// codedError is an error with an exit code that does not follow from its type.
type codedError struct {
	error
	code int
}

func (e *codedError) Unwrap() error { return e.error }

// exitCode returns the code for the error of a verb.
func exitCode(ctx context.Context, err error) int {
	var usage *usageError
	var coded *codedError
	is := func(targets ...error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
	switch {
	case err == nil, is(syscall.EPIPE):
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &coded):
		return coded.code
	case ctx.Err() != nil && is(context.Canceled, context.Cause(ctx)):
		return exitInterrupted
	case is(braid.ErrCorrupt, braid.ErrDataLoss, archive.ErrDamaged, archive.ErrIncomplete):
		return exitDamage
	case is(braid.ErrStreamNotFound, braid.ErrShardNotFound, consumer.ErrAppNotFound, queue.ErrQueueNotFound, fs.ErrNotExist):
		return exitNotFound
	case is(braid.ErrLocked):
		return exitLocked
	}
	return exitFailure
}

// message returns the text of an error, with advice where there is any.
func message(err error) string {
	// The name of the package adds nothing to that of the program.
	text := strings.ReplaceAll(strings.TrimPrefix(err.Error(), "braid: "), ": braid: ", ": ")
	var trimmed *braid.TrimmedError
	var corrupt *braid.CorruptError
	switch {
	case errors.As(err, &corrupt):
		text += fmt.Sprintf("\nTo continue after it: --shard %s --from %s", corrupt.Shard, corrupt.FirstAvailable)
	case errors.As(err, &trimmed):
		text += fmt.Sprintf("\nTo continue after them: --shard %s --from %s", trimmed.Shard, trimmed.FirstAvailable)
	}
	return text
}

// root returns the command with all its verbs.
func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "braid",
		Short: "Inspect and change the streams of a directory or of a live program",
		Long: `braid inspects and changes the streams of a directory or of a live program.

  braid --dir data ls                              a stopped program's directory, or a backup
  braid --url localhost:8080/braid ls              a live program that serves package inspect
  braid --url localhost:8080/braid tail -f orders  its records, as they come

BRAID_DIR and BRAID_URL can replace --dir and --url. Verbs that change nothing open a directory read-only.
Sizes are in bytes, KiB, MiB and GiB, and times in UTC.

` + positionHelp + `

` + exitCodes,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			text := fmt.Sprintf("there is no verb %q", args[0])
			if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
				text += "; did you mean " + strings.Join(similar, " or ") + "?"
			}
			return usagef("%s (braid help lists the verbs)", text)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(p.stderr)
			if err := cmd.Help(); err != nil {
				return err
			}
			return usagef("a verb is missing")
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SuggestionsMinimumDistance = 2
	flags := root.PersistentFlags()
	flags.StringVar(&p.target.dir, "dir", "", "`directory` of the database (default $BRAID_DIR)")
	flags.StringVar(&p.target.url, "url", "", "`address` of the inspect page of a live program (default $BRAID_URL)")
	flags.StringVar(&p.target.keys, "keys", "", "`file` with the keys of encrypted streams, as braid.OpenKeyRing reads it")
	flags.StringArrayVar(&p.target.headers, "header", nil, "`name: value` of a header for --url, for example for authentication; may be repeated")
	flags.BoolVar(&p.json, "json", false, "write JSON, for scripts")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v (%s --help lists the flags)", err, cmd.CommandPath())
	})
	root.AddGroup(
		&cobra.Group{ID: groupLook, Title: "Look:"},
		&cobra.Group{ID: groupRecords, Title: "Records:"},
		&cobra.Group{ID: groupApps, Title: "Applications:"},
		&cobra.Group{ID: groupQueues, Title: "Queues:"},
		&cobra.Group{ID: groupStreams, Title: "Streams:"},
		&cobra.Group{ID: groupStorage, Title: "Storage:"},
	)
	root.AddCommand(
		p.lsCommand(), p.describeCommand(), p.shardsCommand(),
		p.catCommand(), p.tailCommand(), p.putCommand(), p.exportCommand(), p.importCommand(), p.replayCommand(),
		p.appsCommand(), p.lagCommand(), p.seekCommand(), p.pauseCommand(), p.resumeCommand(),
		p.queuesCommand(), p.deadLettersCommand(), p.restoreCommand(), p.discardCommand(),
		p.createCommand(), p.splitCommand(), p.mergeCommand(), p.scaleCommand(), p.retentionCommand(), p.trimCommand(), p.deleteCommand(),
		p.checkCommand(), p.backupCommand(), p.salvageCommand(), p.benchCommand(),
	)
	return root
}

const (
	groupLook    = "look"
	groupRecords = "records"
	groupApps    = "apps"
	groupQueues  = "queues"
	groupStreams = "streams"
	groupStorage = "storage"
)

// arguments checks the number of arguments; most < 0 means no limit.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("an argument is missing: the usage is %s", cmd.UseLine())
		case most >= 0 && len(args) > most:
			return usagef("there is no argument %q: the usage is %s", args[most], cmd.UseLine())
		}
		return nil
	}
}

// confirm asks before something is done that cannot be undone. Without a terminal, --yes
// is required.
func (p *program) confirm(format string, args ...any) error {
	if p.yes {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	if !p.interactive {
		return usagef("%s, which cannot be undone: confirm it with --yes", what)
	}
	fmt.Fprintf(p.stderr, "braid: %s, which cannot be undone. Type yes to continue: ", what)
	answer, err := bufio.NewReader(p.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(answer) != "yes" {
		return errors.New("not confirmed: nothing was done")
	}
	return nil
}

func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// terminalWidth returns the columns of the terminal, or 80 if they are unknown.
func terminalWidth(stream any) int {
	if file, ok := stream.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

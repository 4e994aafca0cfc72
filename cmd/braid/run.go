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

// The exit codes. They are documented in exitCodes and docs/command.md.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitDamage      = 3
	exitNotFound    = 4
	exitLocked      = 5
	exitBehind      = 6
	exitInterrupted = 130 // what shells use for SIGINT
)

const exitCodes = `Exit codes:
  0    success
  1    failure: the message says why
  2    usage: the command line is not understood, and nothing was done
  3    damage: stored data or an export is corrupt or missing
  4    the stream, shard, application, queue, dead letter or directory does not exist
  5    another process has the directory open
  6    lag: an application is further behind than --max-records or --max-age allow
  130  interrupted before the work was finished`

// program is one run of the command, with all that it takes from outside.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string

	interactive bool // standard input is a terminal: questions can be asked
	terminal    bool // standard output is one: lag --watch redraws in place
	bars        bool // standard error is one: progress is drawn there
	width       func() int

	open    func(ctx context.Context, t target, access access) (store, error)
	kinesis func(ctx context.Context, endpoint, region string) (kinesisAPI, error)

	target target // what the flags --dir, --url and --keys say
	json   bool   // --json
	yes    bool   // --yes
}

// run is the command. It ends when its context does.
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

// usageError is a command line that is not understood.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// codedError is an error whose exit code its type does not tell.
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

// message is the text of an error, with what to do where that is known.
func message(err error) string {
	// The name of the package says nothing behind that of the program.
	text := strings.ReplaceAll(strings.TrimPrefix(err.Error(), "braid: "), ": braid: ", ": ")
	var trimmed *braid.TrimmedError
	var corrupt *braid.CorruptError
	switch {
	case errors.As(err, &corrupt):
		text += fmt.Sprintf("\nTo read on behind it: --shard %s --from %s", corrupt.Shard, corrupt.FirstAvailable)
	case errors.As(err, &trimmed):
		text += fmt.Sprintf("\nTo read on behind them: --shard %s --from %s", trimmed.Shard, trimmed.FirstAvailable)
	}
	return text
}

// root returns the command with all its verbs.
func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "braid",
		Short: "Look at the streams of a directory or of a live program, and change them",
		Long: `braid looks at the streams of a directory or of a live program, and changes them.

  braid --dir data ls                              a stopped program's directory, or a backup
  braid --url localhost:8080/braid ls              a live program that serves package inspect
  braid --url localhost:8080/braid tail -f orders  its records, as they come

BRAID_DIR and BRAID_URL stand in for the two. A directory is opened for reading only by verbs that change nothing.
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
	flags.StringArrayVar(&p.target.headers, "header", nil, "`name: value` of a header for --url, such as for authentication; repeat it")
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

// arguments checks how many arguments there are; most < 0 is no bound.
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

// confirm asks before something is done that cannot be undone. Where nobody can be
// asked, --yes has to say so.
func (p *program) confirm(format string, args ...any) error {
	if p.yes {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	if !p.interactive {
		return usagef("%s, which cannot be undone: confirm it with --yes", what)
	}
	fmt.Fprintf(p.stderr, "braid: %s, which cannot be undone. Type yes to go on: ", what)
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

// terminalWidth returns the columns of the terminal, 80 if it does not say.
func terminalWidth(stream any) int {
	if file, ok := stream.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/inspect"
	"github.com/braidstream/braid/queue"
)

var update = flag.Bool("update", false, "write the output of the commands into docs/command.md")

const pagePath = "../../docs/command.md"

// The commands of docs/command.md run on directories like a user's, and their output is
// what the page shows. Rewrite it with: go test -run TestThePage -update
func TestThePageShowsWhatTheCommandsWrite(t *testing.T) {
	path, err := filepath.Abs(pagePath)
	require.NoError(t, err)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	t.Chdir(dir)
	synctest.Test(t, func(t *testing.T) {
		sh := &shell{t: t, dir: dir, env: make(map[string]string)}
		got := sh.page(string(text))
		if *update {
			require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
			return
		}
		require.Equal(t, string(text), got, "if the change is meant: go test ./cmd/braid -run TestThePage -update")
	})
}

// shell runs the page: blocks of ```console with commands after "$ ", and comments
// between them with preparations that readers do not see.
type shell struct {
	t       *testing.T
	dir     string // the working directory
	env     map[string]string
	code    int // of the last command
	release func()
	live    *kit // a live program, while it runs
}

// page returns the page with the current output of the commands.
func (sh *shell) page(text string) string {
	var out strings.Builder
	inBlock := false
	for line := range strings.Lines(text) {
		bare := strings.TrimSuffix(line, "\n")
		switch {
		case bare == "```console":
			inBlock = true
		case bare == "```":
			inBlock = false
		case inBlock:
			command, ok := strings.CutPrefix(bare, "$ ")
			if !ok {
				continue // output, which is written anew
			}
			out.WriteString(line)
			out.WriteString(sh.run(command))
			continue
		case strings.HasPrefix(bare, "<!-- "):
			sh.directive(strings.Fields(strings.TrimSuffix(strings.TrimPrefix(bare, "<!-- "), " -->")))
		}
		out.WriteString(line)
	}
	require.False(sh.t, inBlock)
	return out.String()
}

// run runs a command, which may be a pipe, and returns its output.
func (sh *shell) run(command string) string {
	if name, value, ok := strings.Cut(strings.TrimPrefix(command, "export "), "="); ok && strings.HasPrefix(command, "export ") {
		sh.env[name] = value
		return ""
	}
	if command == "echo $?" {
		return fmt.Sprintln(sh.code)
	}
	var stdin string
	var stderr bytes.Buffer // of all stages; for the last one it also has the output
	stages := strings.Split(command, " | ")
	for i, stage := range stages {
		words := sh.words(stage)
		switch words[0] {
		case "printf":
			stdin = strings.ReplaceAll(words[1], `\n`, "\n")
		case "head", "tail":
			require.Equal(sh.t, "-n", words[1])
			n, err := strconv.Atoi(words[2])
			require.NoError(sh.t, err)
			lines := strings.SplitAfter(strings.TrimSuffix(stdin, "\n"), "\n")
			if words[0] == "head" {
				lines = lines[:min(n, len(lines))]
			} else {
				lines = lines[max(0, len(lines)-n):]
			}
			stdin = strings.TrimSuffix(strings.Join(lines, ""), "\n") + "\n"
		case "braid":
			if i == len(stages)-1 {
				sh.code = sh.braid(words[1:], strings.NewReader(stdin), &stderr, &stderr)
				return sh.stable(stderr.String())
			}
			var stdout bytes.Buffer
			sh.code = sh.braid(words[1:], strings.NewReader(stdin), &stdout, &stderr)
			stdin = stdout.String()
		default:
			require.Fail(sh.t, "unknown command", command)
		}
	}
	return sh.stable(stderr.String() + stdin)
}

func (sh *shell) braid(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancel(sh.t.Context())
	defer cancel()
	var meanwhile sync.WaitGroup
	defer meanwhile.Wait()
	if slices.Contains(args, "-f") || slices.Contains(args, "--watch") {
		meanwhile.Go(func() { sh.interrupt(ctx, cancel) })
	}
	p := &program{
		stdin: stdin, stdout: stdout, stderr: stderr,
		getenv: func(name string) string { return sh.env[name] },
		width:  func() int { return 80 },
		open: func(ctx context.Context, t target, access access) (store, error) {
			if t.url != "" {
				return openRemote(t, sh.live.client())
			}
			return open(ctx, t, access, newLogger(stderr))
		},
	}
	return p.run(ctx, args)
}

// interrupt interrupts a verb that runs until then, after two new records.
func (sh *shell) interrupt(ctx context.Context, cancel context.CancelFunc) {
	s, err := sh.live.db.Stream("orders")
	require.NoError(sh.t, err)
	for _, data := range []string{"ordered", "paid"} {
		time.Sleep(1500 * time.Millisecond)
		_, err := s.PutRecord(ctx, "customer-43", []byte(data))
		require.NoError(sh.t, err)
	}
	time.Sleep(500 * time.Millisecond)
	cancel()
}

// words splits a command like a shell that knows only single quotes.
func (sh *shell) words(command string) (words []string) {
	for i, part := range strings.Split(command, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	require.NotEmpty(sh.t, words)
	return words
}

var holder = regexp.MustCompile(`process \d+ has (".*?") open, since [^;]+;`)

// stable replaces text that differs from run to run.
func (sh *shell) stable(text string) string {
	text = strings.ReplaceAll(text, sh.dir+string(filepath.Separator), "")
	return holder.ReplaceAllString(text, "process 4711 has $1 open, since 1999-12-31T09:00:00Z;")
}

// directive executes a comment of the page.
func (sh *shell) directive(words []string) {
	t := sh.t
	switch words[0] {
	case "sleep":
		d, err := time.ParseDuration(words[1])
		require.NoError(t, err)
		time.Sleep(d)
	case "lock":
		sh.release = holdDirectory(t, words[1])
	case "unlock":
		sh.release()
	case "live": // a program has the directory open, and serves the page
		db, err := braid.Open(words[1], nil)
		require.NoError(t, err)
		sh.live = &kit{t: t, db: db}
		sh.live.serve(&inspect.Options{Writable: true})
	case "stopped":
		require.NoError(t, sh.live.db.Close())
		sh.live = nil
	case "consume":
		sh.withDatabase(func(db *braid.DB) {
			n, err := strconv.Atoi(words[3])
			require.NoError(t, err)
			consume(t, db, words[1], words[2], n)
		})
	case "queue":
		sh.withDatabase(func(db *braid.DB) {
			q, err := queue.Create(t.Context(), db, words[1], &queue.Options{Stream: words[2]})
			require.NoError(t, err)
			_, err = q.Receive(t.Context(), 2, nil)
			require.NoError(t, err)
		})
	case "reject":
		sh.withDatabase(func(db *braid.DB) {
			q, err := queue.Get(t.Context(), db, words[1])
			require.NoError(t, err)
			n, err := strconv.Atoi(words[2])
			require.NoError(t, err)
			records, err := q.Receive(t.Context(), n, nil)
			require.NoError(t, err)
			for i := range records {
				require.NoError(t, q.Reject(t.Context(), strings.Join(words[3:], " "), records[i].Receipt))
			}
		})
	case "truncate":
		info, err := os.Stat(words[1])
		require.NoError(t, err)
		n, err := strconv.ParseInt(words[2], 10, 64)
		require.NoError(t, err)
		require.NoError(t, os.Truncate(words[1], info.Size()-n))
	case "fill":
		sh.withDatabase(func(db *braid.DB) {
			s, err := db.Stream(words[1])
			require.NoError(t, err)
			var entries []braid.Entry
			for i := range 2000 {
				entries = append(entries, braid.Entry{PartitionKey: fmt.Sprint(i % 7), Data: bytes.Repeat(fmt.Append(nil, i), 50)})
			}
			_, err = s.PutRecords(t.Context(), entries)
			require.NoError(t, err)
		})
	case "damage":
		damage(t, words[1])
	default:
		require.Fail(t, "unknown directive", words)
	}
}

func (sh *shell) withDatabase(fn func(*braid.DB)) {
	db, err := braid.Open(sh.env["BRAID_DIR"], nil)
	require.NoError(sh.t, err)
	fn(db)
	require.NoError(sh.t, db.Close())
}

// damage changes a bit in the middle of the largest table of a database.
func damage(t *testing.T, dir string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "store", "*.sst"))
	require.NoError(t, err)
	require.NotEmpty(t, tables)
	var largest string
	var bytes int64
	for _, table := range tables {
		info, err := os.Stat(table)
		require.NoError(t, err)
		if info.Size() > bytes {
			largest, bytes = table, info.Size()
		}
	}
	content, err := os.ReadFile(largest)
	require.NoError(t, err)
	content[len(content)/2] ^= 1 // in a block of records
	require.NoError(t, os.WriteFile(largest, content, 0o600))
}

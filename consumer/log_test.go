package consumer_test

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// These tests provoke thousands of failures, and each is logged. Tests of log messages
// pass a logger, or set the default one themselves.
func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// nothing is a processor that does nothing.
var nothing = consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil })

// logbook is the log of workers, one line per message, without times.
type logbook struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *logbook) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(line)
}

func (l *logbook) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// sequenceNumber matches a sequence number in a text.
var sequenceNumber = regexp.MustCompile(`\b\d{56}\b`)

// take returns the lines since the last call, with N for sequence numbers.
func (l *logbook) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := sequenceNumber.ReplaceAllString(strings.TrimSpace(l.out.String()), "N")
	l.out.Reset()
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// The table in the package documentation matches the messages that the code logs.
func TestDocumentationListsWhatIsLogged(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	var listed []string
	for _, row := range regexp.MustCompile(`(?m)^//\t([A-Z]+) *\| (.*) \|(.*)$`).FindAllStringSubmatch(string(doc), -1) {
		listed = append(listed, row[1]+" "+row[2]+":"+row[3])
	}
	var logged []string
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			call, _ := n.(*ast.CallExpr)
			if call == nil {
				return true
			}
			method, _ := call.Fun.(*ast.SelectorExpr)
			if method == nil || !slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, method.Sel.Name) || len(call.Args) == 0 {
				return true
			}
			var names []string
			for i := 1; i < len(call.Args); i += 2 {
				names = append(names, literal(t, call.Args[i]))
			}
			line := strings.ToUpper(method.Sel.Name) + " " + literal(t, call.Args[0]) + ":"
			if len(names) > 0 {
				line += " " + strings.Join(names, ", ")
			}
			if !slices.Contains(logged, line) {
				logged = append(logged, line)
			}
			return true
		})
	}
	require.ElementsMatch(t, listed, logged)
	require.Len(t, logged, 31)
}

func literal(t *testing.T, e ast.Expr) string {
	t.Helper()
	lit, is := e.(*ast.BasicLit)
	require.True(t, is, "what is logged stands in the call")
	text, err := strconv.Unquote(lit.Value)
	require.NoError(t, err)
	return text
}

func TestLifeOfALeaseIsLogged(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var log logbook
		worker := func(id string) *consumer.Worker {
			return f.worker(consumer.Config{WorkerID: id, Logger: log.logger(slog.LevelDebug)}, nothing)
		}
		const lease = "app=billing worker=one stream=orders shard=shardId-000000000000 epoch="
		stop := f.start(worker("one"))
		require.Equal(f, []string{
			`level=INFO msg="the lease is taken" ` + lease + `1 from="" checkpoint=` + position(f, shard0),
			`level=DEBUG msg="the shard begins" ` + lease + `1 checkpoint=` + position(f, shard0),
			`level=DEBUG msg="the shard has caught up" ` + lease + `1 checkpoint=` + position(f, shard0),
		}, log.take())

		f.put("a")
		synctest.Wait()
		f.put("b")
		synctest.Wait()
		require.Empty(f, log.take(), "it has not fallen behind")
		for range 600 {
			f.put("c") // at least one page
		}
		synctest.Wait()
		log.take()

		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		require.NoError(f, app.Pause(f.Context(), consumer.LeaseKey{}))
		synctest.Wait()
		require.Equal(f, []string{
			`level=INFO msg="the lease is handed over" ` + lease + `1 checkpoint=N cause="the lease is to be handed over: the shard is paused"`,
			`level=WARN msg="processing is paused" app=billing`,
		}, sorted(log.take()))
		require.NoError(f, app.Resume(f.Context(), consumer.LeaseKey{}))
		synctest.Wait()
		require.Equal(f, []string{
			`level=DEBUG msg="the shard begins" ` + lease + `2 checkpoint=N`,
			`level=DEBUG msg="the shard has caught up" ` + lease + `2 checkpoint=N`,
			`level=INFO msg="processing is resumed" app=billing`,
			`level=INFO msg="the lease is taken" ` + lease + `2 from="" checkpoint=N`,
		}, sorted(log.take()), "the owner had given it back")

		require.NoError(f, app.Seek(f.Context(), consumer.LeaseKey{}, braid.Latest()))
		synctest.Wait()
		lines := log.take()
		require.Contains(f, lines, `level=INFO msg="the lease is lost" `+lease+`2 checkpoint=N cause="lease is lost"`)
		require.Contains(f, lines, `level=DEBUG msg="the shard has caught up" `+lease+`4 checkpoint="`+strings.Trim(position(f, shard0), `"`)+`"`)

		f.split(shard0)
		synctest.Wait()
		lines = log.take()
		require.Contains(f, lines, `level=INFO msg="the shard has ended" `+lease+`4`)

		second := f.start(worker("two"))
		lines = log.take()
		require.Equal(f, 1, count(lines, `the lease is handed over`), lines)
		require.Equal(f, 1, count(lines, `another worker requests it`), lines)
		require.Equal(f, 1, count(lines, `msg="the lease is taken".* worker=two .* from=one `), lines)
		require.NoError(f, stop())
		require.Equal(f, 1, count(log.take(), `the lease is handed over.* worker=one .*the worker stops`))
		require.NoError(f, second())
	})
}

// position is the place of an application in a shard, as it is logged.
func position(f *fixture, shard braid.ShardID) string {
	f.Helper()
	text := sequenceNumber.ReplaceAllString(f.status(shard).Checkpoint.String(), "N")
	if strings.Contains(text, " ") {
		return strconv.Quote(text)
	}
	return text
}

func sorted(lines []string) []string {
	slices.Sort(lines)
	return lines
}

func count(lines []string, pattern string) (n int) {
	for _, line := range lines {
		if regexp.MustCompile(pattern).MatchString(line) {
			n++
		}
	}
	return n
}

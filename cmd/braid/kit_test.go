package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/inspect"
)

// lockDirEnv makes the test program hold the directory that it names until its standard
// input ends: another process, as a live program is.
const lockDirEnv = "BRAID_TEST_LOCK_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockDirEnv); dir != "" {
		db, err := braid.Open(dir, nil)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		_, _ = io.Copy(io.Discard, os.Stdin)
		if err := db.Close(); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// holdDirectory makes another process hold a directory until release is called.
func holdDirectory(t *testing.T, dir string) (release func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), lockDirEnv+"="+dir)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "locked\n", line)
	return sync.OnceFunc(func() {
		require.NoError(t, stdin.Close())
		require.NoError(t, cmd.Wait())
	})
}

// buffer is a buffer that several goroutines can use.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// kit runs verbs on a database in memory, which the test has open as well.
type kit struct {
	t   *testing.T
	db  *braid.DB
	ctx context.Context // of the verbs

	url      bool // the verbs reach it through package inspect
	listener *pipeListener

	stdin   string
	program func(*program) // may change the program before it runs
}

func newKit(t *testing.T) *kit {
	t.Helper()
	db, err := braid.Open(braid.InMemory, &braid.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return &kit{t: t, db: db, ctx: t.Context()}
}

// stream creates a stream with records "0", "1", … under the keys k0 to k9, in turn.
func (k *kit) stream(name string, shards, records int) *braid.Stream {
	k.t.Helper()
	s, err := k.db.CreateStream(k.t.Context(), name, &braid.StreamOptions{Shards: shards})
	require.NoError(k.t, err)
	k.put(s, 0, records)
	return s
}

func (k *kit) put(s *braid.Stream, from, to int) {
	k.t.Helper()
	for i := from; i < to; i++ {
		_, err := s.PutRecord(k.t.Context(), fmt.Sprintf("k%d", i%10), []byte(fmt.Sprint(i)))
		require.NoError(k.t, err)
	}
}

// bothWays runs a test on a database that the verbs open in this process, and on one that
// they reach through package inspect, each in a bubble.
func bothWays(t *testing.T, test func(t *testing.T, k *kit)) {
	t.Helper()
	for _, way := range []string{"dir", "url"} {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t)
				if k.url = way == "url"; k.url {
					k.serve(&inspect.Options{Writable: true})
				}
				test(t, k)
			})
		})
	}
}

// serve serves the database, without a network.
func (k *kit) serve(options *inspect.Options) {
	k.serveHandler(http.StripPrefix("/braid", inspect.Handler(k.db, options)))
}

func (k *kit) serveHandler(handler http.Handler) {
	k.listener = &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: handler}
	ended := make(chan error)
	go func() { ended <- server.Serve(k.listener) }()
	k.t.Cleanup(func() {
		require.NoError(k.t, server.Close())
		require.ErrorIs(k.t, <-ended, http.ErrServerClosed)
	})
}

// open opens the database of the kit, in the kit's way.
func (k *kit) open(_ context.Context, t target, _ access) (store, error) {
	if !k.url {
		return &directory{db: k.db, close: func() error { return nil }}, nil
	}
	t.url = "http://localhost/braid"
	return openRemote(t, k.client())
}

// client returns a client of the server.
func (k *kit) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return k.listener.dial() },
	}}
}

// pipeListener accepts connections that are pipes within this process.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// newProgram returns the program on the database of the kit.
func (k *kit) newProgram(stdout, stderr io.Writer) *program {
	p := &program{
		stdin: strings.NewReader(k.stdin), stdout: stdout, stderr: stderr,
		getenv: func(string) string { return "" },
		width:  func() int { return 80 },
		open:   k.open,
	}
	if k.program != nil {
		k.program(p)
	}
	return p
}

// run runs a verb to its end.
func (k *kit) run(args ...string) (code int, stdout, stderr string) {
	k.t.Helper()
	var out, errs buffer
	code = k.runTo(k.ctx, &out, &errs, args...)
	return code, out.String(), errs.String()
}

// runTo runs a verb with these outputs, until it or ctx ends.
func (k *kit) runTo(ctx context.Context, stdout, stderr io.Writer, args ...string) (code int) {
	return k.newProgram(stdout, stderr).run(ctx, append([]string{"--dir", "memory"}, args...))
}

// ok runs a verb that must succeed, and returns its output.
func (k *kit) ok(args ...string) string {
	k.t.Helper()
	code, stdout, stderr := k.run(args...)
	require.Equal(k.t, exitOK, code, stderr)
	require.Empty(k.t, stderr)
	return stdout
}

// fails runs a verb that must fail, and returns the message.
func (k *kit) fails(code int, args ...string) string {
	k.t.Helper()
	got, _, stderr := k.run(args...)
	require.Equal(k.t, code, got, stderr)
	require.True(k.t, strings.HasPrefix(stderr, "braid: "), stderr)
	return strings.TrimPrefix(stderr, "braid: ")
}

// consume makes a worker of an application process that many records, one at a time, and
// stop.
func consume(t *testing.T, db *braid.DB, app, stream string, records int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	from, err := db.Stream(stream)
	require.NoError(t, err)
	var mu sync.Mutex                            // guards first
	first := make(map[braid.SequenceNumber]bool) // the first arrivals, so it does not matter which shard is quicker
	for rec, err := range from.Records(ctx, braid.TrimHorizon()) {
		require.NoError(t, err)
		if len(first) == records {
			break
		}
		first[rec.SequenceNumber] = true
	}
	require.Len(t, first, records)
	processor := consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
		mu.Lock()
		defer mu.Unlock()
		number := batch.Records[0].SequenceNumber
		if !first[number] {
			return context.Canceled // the record comes again
		}
		if delete(first, number); len(first) == 0 {
			cancel()
		}
		return nil
	})
	worker, err := consumer.New(db, &consumer.Config{
		App: app, Streams: []string{stream}, WorkerID: "worker-1", BatchRecords: 1, Logger: slog.New(slog.DiscardHandler),
	}, processor)
	require.NoError(t, err)
	require.NoError(t, worker.Run(ctx))
}

type recordSeq = iter.Seq2[braid.Record, error]

// errPipe is the error of a pipe whose reader has closed it.
var errPipe = syscall.EPIPE

// countingStore counts the records that are read.
type countingStore struct {
	store
	records, counts int
}

func (c *countingStore) Close() error { return nil }

func (c *countingStore) Count(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (int64, error) {
	c.counts++
	return c.store.Count(ctx, stream, shard, from)
}

func (c *countingStore) Records(ctx context.Context, stream string, shard braid.ShardID, from braid.Position, follow bool) iter.Seq2[braid.Record, error] {
	return func(yield func(braid.Record, error) bool) {
		for rec, err := range c.store.Records(ctx, stream, shard, from, follow) {
			c.records++
			if !yield(rec, err) {
				return
			}
		}
	}
}

// damagedStore has damage after its records.
type damagedStore struct{ store }

func (d *damagedStore) Records(ctx context.Context, stream string, shard braid.ShardID, from braid.Position, follow bool) iter.Seq2[braid.Record, error] {
	return func(yield func(braid.Record, error) bool) {
		for rec, err := range d.store.Records(ctx, stream, shard, from, follow) {
			if !yield(rec, err) {
				return
			}
		}
		yield(braid.Record{}, &braid.CorruptError{Shard: "shardId-000000000000", Err: braid.ErrCorrupt})
	}
}

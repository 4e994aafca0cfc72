package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/inspect"
)

var seed = flag.Uint64("seed", 0, "seed of tests with random input; 0 is a new one")

// The reaction and the messages of tail -f when a connection ends. Each body is the
// answer to one request; the last one continues as long as it is read.
func TestTailGoesOnAfterALostConnection(t *testing.T) {
	const first, second = "49568749374218235080373793662021150003767486140978823170", "49568749374218235080373793662021150003767486140978823186"
	record := func(number string) string {
		return "event: record\ndata: {\"ShardID\":\"shardId-000000000000\",\"SequenceNumber\":\"" + number + "\",\"Data\":\"eA==\"}\n\n"
	}
	end := func(text string) string { return "event: end\ndata: " + text + "\n\n" }
	const lost, back = "braid: the connection to http://localhost/braid/ is lost: %s; retrying\n", "braid: the connection to http://localhost/braid/ is back\n"
	for _, test := range []struct {
		name   string
		bodies []string // a number is an error with that status
		code   int
		stdout string
		stderr string
		from   string // in the last request
	}{
		{
			"a shard that ends",
			[]string{record(first) + end("{}")},
			exitOK, "x\n", "", "TRIM_HORIZON",
		},
		{
			"broken within a record",
			[]string{record(first) + record(second)[:30], record(second)},
			exitOK, "x\nx\n", fmt.Sprintf(lost, "unexpected EOF") + back, "AFTER_SEQUENCE_NUMBER " + first,
		},
		{
			"broken before any record",
			[]string{": braid\n\n", record(first)},
			exitOK, "x\n", fmt.Sprintf(lost, "unexpected EOF") + back, "TRIM_HORIZON",
		},
		{
			"silent",
			[]string{record(first) + "wait", record(second)},
			exitOK, "x\nx\n", fmt.Sprintf(lost, "the program has sent nothing for 1m0s") + back, "AFTER_SEQUENCE_NUMBER " + first,
		},
		{
			"the program stops and is away for a while",
			[]string{record(first) + end(`{"Error":"database is closed","Kind":"Closed"}`), "503", "502", "503", record(second)},
			exitOK, "x\nx\n", fmt.Sprintf(lost, "database is closed") + back, "AFTER_SEQUENCE_NUMBER " + first,
		},
		{
			"never there",
			[]string{"502"},
			exitFailure, "", "braid: --url http://localhost/braid/ answered with 502 Bad Gateway: it must be the address of an inspect page\n", "TRIM_HORIZON",
		},
		{
			"no such stream",
			[]string{"404"},
			exitNotFound, "", "braid: text\n", "TRIM_HORIZON",
		},
		{
			"the stream was deleted meanwhile",
			[]string{record(first), "404"},
			exitNotFound, "x\n", fmt.Sprintf(lost, "unexpected EOF") + "braid: text\n", "AFTER_SEQUENCE_NUMBER " + first,
		},
		{
			"the storage has failed",
			[]string{record(first) + end(`{"Error":"no more","Kind":"Failed"}`)},
			exitFailure, "x\n", "braid: no more\n", "TRIM_HORIZON",
		},
		{
			"no record",
			[]string{"event: record\ndata: {\"ShardID\":7}\n\n"},
			exitFailure, "", "invalid record from the inspect page", "TRIM_HORIZON",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex // guards the fields below
				bodies, from := test.bodies, ""
				k := newKit(t)
				k.url = true
				k.serveHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					mu.Lock()
					body := bodies[0]
					isLast := len(bodies) == 1
					if !isLast {
						bodies = bodies[1:]
					}
					from = r.URL.Query().Get("from")
					mu.Unlock()
					if status, err := strconv.Atoi(body); err == nil {
						w.WriteHeader(status)
						_, _ = w.Write([]byte(map[int]string{
							http.StatusNotFound:           `{"Error":"text","Kind":"StreamNotFound"}`,
							http.StatusServiceUnavailable: `{"Error":"database is closed","Kind":"Closed"}`,
							http.StatusBadGateway:         "bad gateway",
						}[status]))
						return
					}
					body, waits := strings.CutSuffix(body, "wait")
					_, _ = w.Write([]byte(body))
					_ = http.NewResponseController(w).Flush()
					for alive := isLast; alive || waits; {
						select {
						case <-time.After(10 * time.Second):
							if alive {
								_, _ = w.Write([]byte(": still here\n\n"))
								_ = http.NewResponseController(w).Flush()
							}
						case <-r.Context().Done():
							return
						}
					}
				}))
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				interrupt := time.AfterFunc(9*time.Minute, cancel)
				defer interrupt.Stop()
				var stdout, stderr buffer
				code := k.runTo(ctx, &stdout, &stderr, "tail", "-f", "orders", "--from", "start", "-o", "data")
				require.Equal(t, test.code, code, stderr.String())
				require.Equal(t, test.stdout, stdout.String())
				if test.stderr == "" {
					require.Empty(t, stderr.String())
				}
				require.Contains(t, stderr.String(), test.stderr)
				require.Equal(t, test.from, from)
			})
		})
	}
}

// A program is restarted repeatedly, and its connections break at any byte: tail -f
// writes every record once, in order, including those put in between.
func TestTailLosesAndRepeatsNothing(t *testing.T) {
	n := *seed
	if n == 0 {
		n = rand.Uint64()
	}
	t.Logf("-seed %d", n)
	for _, from := range []string{"start", "latest", ""} {
		t.Run("from "+from, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { tailThroughRestarts(t, dir, from, rand.New(rand.NewPCG(n, 0))) })
		})
	}
}

const (
	lives          = 8
	recordsOfALife = 60
)

func tailThroughRestarts(t *testing.T, dir, from string, random *rand.Rand) {
	network := &unreliable{random: rand.New(rand.NewPCG(random.Uint64(), 1))}
	var stdout, stderr buffer
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan int)
	var want strings.Builder
	for life := range lives {
		db, err := braid.Open(dir, nil)
		require.NoError(t, err)
		s, err := db.OpenStream(t.Context(), "orders", &braid.StreamOptions{Shards: 3})
		require.NoError(t, err)
		put := func(i int) {
			_, err := s.PutRecord(t.Context(), fmt.Sprint("k", i%10), fmt.Append(nil, life, "/", i))
			require.NoError(t, err)
			if life > 0 || from == "start" || from == "" && i < 0 {
				fmt.Fprintf(&want, "%d/%d\n", life, i)
			}
		}
		if life == 0 {
			put(-1) // before tail begins; -n 10 shows it
		}
		server := &http.Server{Handler: http.StripPrefix("/braid", inspect.Handler(db, nil))}
		listener := network.up()
		served := make(chan error)
		go func() { served <- server.Serve(listener) }()
		if life == 0 {
			args := []string{"--dir", "memory", "tail", "-f", "orders", "-o", "data"}
			if from != "" {
				args = append(args, "--from", from)
			}
			p := &program{
				stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, getenv: func(string) string { return "" },
				open: func(_ context.Context, t target, _ access) (store, error) {
					t.url = "http://localhost/braid"
					return openRemote(t, &http.Client{Transport: &http.Transport{DialContext: network.dial}})
				},
			}
			go func() { ended <- p.run(ctx, args) }()
			time.Sleep(time.Second) // until it waits for new records
			network.breakThings()
		}
		for i := range recordsOfALife {
			if life == 0 && from != "start" {
				fmt.Fprintf(&want, "%d/%d\n", life, i)
			}
			put(i)
			if i == recordsOfALife/2 && life%3 == 1 {
				_, _, err := s.SplitShard(t.Context(), s.Shards()[len(s.Shards())-1].ID(), nil)
				require.NoError(t, err)
			}
			time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
		}
		if life == lives-1 {
			network.mend()
			time.Sleep(time.Minute)
		}
		if life%2 == 0 { // gracefully, or all at once
			require.NoError(t, db.Close())
			require.NoError(t, server.Close())
		} else {
			require.NoError(t, server.Close())
			require.NoError(t, db.Close())
		}
		require.ErrorIs(t, <-served, http.ErrServerClosed)
		if life == lives-1 {
			break
		}
		time.Sleep(time.Duration(random.IntN(20)) * time.Second) // no program is running
	}
	cancel()
	require.Equal(t, exitOK, <-ended, stderr.String())
	require.Equal(t, want.String(), stdout.String())
	require.Greater(t, network.cut, lives, "connections that broke")
}

// unreliable is a network in memory, whose connections break after some bytes.
type unreliable struct {
	mu       sync.Mutex // guards the fields below
	random   *rand.Rand
	listener *pipeListener
	breaks   bool
	cut      int // number of connections that broke
}

func (u *unreliable) up() *pipeListener {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.listener = &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	return u.listener
}

func (u *unreliable) breakThings() { u.set(true) }
func (u *unreliable) mend()        { u.set(false) }

func (u *unreliable) set(breaks bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.breaks = breaks
}

func (u *unreliable) dial(context.Context, string, string) (net.Conn, error) {
	u.mu.Lock()
	listener := u.listener
	left := 200 + u.random.IntN(8000)
	u.mu.Unlock()
	conn, err := listener.dial()
	if err != nil {
		return nil, err
	}
	return &breaking{Conn: conn, of: u, left: left}, nil
}

// breaking is the client's end of a connection. One goroutine reads it.
type breaking struct {
	net.Conn
	of   *unreliable
	left int // bytes until it breaks
}

var errBroken = errors.New("connection reset by peer")

func (b *breaking) Read(p []byte) (int, error) {
	b.of.mu.Lock()
	breaks := b.of.breaks
	if breaks && b.left == 0 {
		b.of.cut++
		b.of.mu.Unlock()
		return 0, errors.Join(errBroken, b.Conn.Close())
	}
	b.of.mu.Unlock()
	if breaks {
		p = p[:min(len(p), b.left)]
	}
	n, err := b.Conn.Read(p)
	b.left = max(0, b.left-n)
	return n, err
}

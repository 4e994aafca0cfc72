package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// skipped is the reason why an entry cannot run on this machine. It does not fail the run.
type skipped struct{ reason string }

func (s skipped) Error() string { return "skipped: " + s.reason }

// The npm packages of the compared servers. Versions are fixed, so that figures of different
// days are comparable.
const (
	kinesalitePackage   = "kinesalite@3.3.3"
	kinesisLocalPackage = "kinesis-local@0.6.2"
)

// kinesisServer is a program that serves the Kinesis API.
type kinesisServer struct {
	name string

	// command returns the command that serves on addr. It may store files in dir.
	command func(e *environment, addr, dir string) (*exec.Cmd, error)

	hasStream   bool // an option creates it at the start
	keepsNoData bool // nothing can be read back
	slow        bool // see slowly
}

var (
	braidKinesis        = kinesisServer{name: braidSystem.name, command: braidCommand(false), hasStream: true}
	braidDurableKinesis = kinesisServer{name: "braid, fsync", command: braidCommand(true), hasStream: true}
	kinesalite          = kinesisServer{name: "kinesalite", command: kinesaliteCommand}
	kinesisLocal        = kinesisServer{name: "kinesis-local", command: kinesisLocalCommand}
	nothingKinesis      = kinesisServer{name: "nothing", command: nothingCommand, hasStream: true, keepsNoData: true}
)

func braidCommand(durable bool) func(e *environment, addr, dir string) (*exec.Cmd, error) {
	return func(e *environment, addr, dir string) (*exec.Cmd, error) {
		program, err := e.braidKinesis()
		if err != nil {
			return nil, err
		}
		cmd := exec.Command(program, "-addr", addr, "-stream", fmt.Sprintf("%s:%d", kinesisStream, kinesisShards))
		if durable {
			cmd.Args = append(cmd.Args, "-dir", filepath.Join(dir, "db"))
		}
		return cmd, nil
	}
}

func kinesaliteCommand(e *environment, addr, _ string) (*exec.Cmd, error) {
	dir, err := e.npmPackages()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	return exec.Command("node", filepath.Join(dir, "kinesalite", "cli.js"),
		"--port", port, "--createStreamMs", "0", "--shardLimit", "1000"), nil
}

func kinesisLocalCommand(e *environment, addr, _ string) (*exec.Cmd, error) {
	dir, err := e.npmPackages()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	// It requires a TLS port and a certificate, which the package contains.
	other, err := freeAddr()
	if err != nil {
		return nil, err
	}
	_, tlsPort, err := net.SplitHostPort(other)
	if err != nil {
		return nil, err
	}
	home := filepath.Join(dir, "kinesis-local")
	cmd := exec.Command("node", filepath.Join(home, "main.js"))
	cmd.Env = append(os.Environ(),
		"KINESIS_MOCK_PLAIN_PORT="+port,
		"KINESIS_MOCK_TLS_PORT="+tlsPort,
		"KINESIS_MOCK_CERT_PATH="+filepath.Join(home, "server.json"),
		"CREATE_STREAM_DURATION=0ms",
		"SHARD_LIMIT=1000",
		"LOG_LEVEL=ERROR",
	)
	return cmd, nil
}

// nothingVariable turns this program into the server that does nothing, at the address in its
// value.
const nothingVariable = "BRAID_BENCH_NOTHING"

func nothingCommand(_ *environment, addr, _ string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), nothingVariable+"="+addr)
	return cmd, nil
}

// serveNothing answers every request as if it had succeeded. The answers are as large as real
// ones, so this is the limit of the client.
func serveNothing(addr string) error {
	return http.ListenAndServe(addr, newNothing())
}

func newNothing() http.Handler {
	const put = `{"SequenceNumber":"49680528959693069428334843857662154423923135045177442338","ShardId":"shardId-000000000002"}`
	answers := map[string][]byte{
		"PutRecord":        []byte(put),
		"PutRecords":       []byte(`{"FailedRecordCount":0,"Records":[` + strings.Repeat(put+",", kinesisBatch-1) + put + `]}`),
		"GetShardIterator": []byte(`{"ShardIterator":"` + strings.Repeat("A", 224) + `"}`),
	}
	other := []byte(`{"StreamNames":[],"StreamDescriptionSummary":{"StreamStatus":"ACTIVE"}}`)
	page := sync.OnceValue(nothingPage)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a client that does not send everything gets no answer
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		answer, found := answers[operation]
		switch {
		case operation == "GetRecords":
			answer = page()
		case !found:
			answer = other
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		_, _ = w.Write(answer)
	})
}

// nothingPage returns an answer to GetRecords.
func nothingPage() []byte {
	records := kinesisPut().records
	page := []byte(`{"MillisBehindLatest":0,"NextShardIterator":"` + strings.Repeat("A", 224) + `","Records":[`)
	for i := range kinesisPage {
		if i > 0 {
			page = append(page, ',')
		}
		page = append(page, `{"ApproximateArrivalTimestamp":1795544404.123,"SequenceNumber":"49680528959693069428334843857662154423923135045177442338",`...)
		page = append(page, records[i].json()[1:]...)
	}
	return append(page, "]}"...)
}

// runningServer is a server's process.
type runningServer struct {
	addr    string
	cmd     *exec.Cmd
	started time.Duration // from the start of the process to its first answer
	exited  chan error
}

// startTimeout is long enough for busy machines, far more than any server needs.
const startTimeout = 30 * time.Second

// start starts the server and returns when it has answered a request.
func (s *kinesisServer) start(e *environment, dir string) (*runningServer, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	cmd, err := s.command(e, addr, dir)
	if err != nil {
		return nil, err
	}
	cmd.Dir = dir
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own descriptor
	cmd.Stdout, cmd.Stderr = log, log
	r := &runningServer{addr: addr, cmd: cmd, exited: make(chan error, 1)}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { r.exited <- cmd.Wait() }()
	if err := r.awaitAnswer(); err != nil {
		r.stop()
		text, _ := os.ReadFile(log.Name()) // empty if it cannot be read
		return nil, fmt.Errorf("%w; its output: %.1000s", err, text)
	}
	r.started = time.Since(began)
	return r, nil
}

// awaitAnswer returns when the server has answered a request, or never will.
func (r *runningServer) awaitAnswer() error {
	c := newKinesisConn(r.addr)
	defer c.close()
	deadline := time.After(startTimeout)
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		_, err := c.call("ListStreams", []byte("{}"))
		if err == nil {
			return nil
		}
		select {
		case exit := <-r.exited:
			r.exited <- exit // for stop
			return fmt.Errorf("server has ended: %w", errors.Join(exit, err))
		case <-deadline:
			return fmt.Errorf("server does not answer: %w", err)
		case <-again.C:
		}
	}
}

// stop ends the process, and returns when it has ended.
func (r *runningServer) stop() {
	_ = r.cmd.Process.Kill() // it fails if the process has ended already
	<-r.exited
}

// residentBytes returns the resident memory of the server's process.
func (r *runningServer) residentBytes() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		return 0, skipped{"the resident size of a process is read from /proc, which does not exist"}
	}
	n, found := residentOf(status)
	if !found {
		return 0, skipped{"/proc does not report the resident size of a process"}
	}
	return n, nil
}

// residentOf finds the resident size in a /proc/PID/status.
func residentOf(status []byte) (n int64, found bool) {
	for line := range bytes.Lines(status) {
		if rest, found := bytes.CutPrefix(line, []byte("VmRSS:")); found {
			text, isKiB := bytes.CutSuffix(bytes.TrimSpace(rest), []byte(" kB"))
			n, err := strconv.ParseInt(string(text), 10, 64)
			return n * kib, err == nil && isKiB
		}
	}
	return 0, false
}

// freeAddr returns a free address of the loopback.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	addr := l.Addr().String()
	return addr, l.Close()
}

// installPackages installs the npm packages into dir, unless they are there, and returns the
// directory of packages.
func installPackages(dir string) (string, error) {
	if _, err := exec.LookPath("node"); err != nil {
		return "", skipped{"no Node"}
	}
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", skipped{"no directory for npm packages, see -npm"}
		}
		dir = filepath.Join(cache, "braid-bench", "npm")
	}
	dir, err := filepath.Abs(dir) // servers run in directories of their own
	if err != nil {
		return "", err
	}
	modules := filepath.Join(dir, "node_modules")
	if isInstalled(modules, kinesalitePackage) && isInstalled(modules, kinesisLocalPackage) {
		return modules, nil
	}
	if _, err := exec.LookPath("npm"); err != nil {
		return "", skipped{"no npm"}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// Scripts would only compile storage that is not used.
	cmd := exec.Command("npm", "install", "--prefix", dir, "--ignore-scripts", "--no-audit", "--no-fund", kinesalitePackage, kinesisLocalPackage)
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", skipped{"npm install failed: " + lastLine(output, err)}
	}
	return modules, nil
}

// isInstalled reports whether a directory of packages has the package in that version.
func isInstalled(modules, nameAndVersion string) bool {
	name, version, _ := strings.Cut(nameAndVersion, "@")
	data, err := os.ReadFile(filepath.Join(modules, name, "package.json"))
	if err != nil {
		return false
	}
	installed, _ := stringMember(data, "version")
	return installed == version
}

// buildBraidKinesis builds braid's server from the repository that the bench runs
// in, and returns the program.
func buildBraidKinesis(dir string) (string, error) {
	at, err := os.Getwd()
	if err != nil {
		return "", err
	}
	module, found := moduleAbove(at, "kinesisapi")
	if !found {
		return "", skipped{"braid-kinesis is built from its source, so run the bench in the repository"}
	}
	program, err := filepath.Abs(filepath.Join(dir, "braid-kinesis"))
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", program, "./cmd/braid-kinesis")
	cmd.Dir = module
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", skipped{"braid-kinesis cannot be built: " + lastLine(output, err)}
	}
	return program, nil
}

// moduleAbove finds a module of that name next to the directory or one of its parents.
func moduleAbove(dir, name string) (module string, found bool) {
	for {
		module := filepath.Join(dir, name)
		if _, err := os.Stat(filepath.Join(module, "go.mod")); err == nil {
			return module, true
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
}

// lastLine returns the last line of a command's output, or else its error.
func lastLine(output []byte, err error) string {
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return last
	}
	return err.Error()
}

package awskinesis_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/awskinesis/internal/dynamotest"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/kinesisapi/kinesistest"
	"github.com/braidstream/braid/kpl"
)

// An application moves from the KCL to braid and back, twice. One KCL worker is killed, and the
// others stop gracefully. There are aggregates, prepared checkpoints and splits. No record is lost,
// those of a key come in order, and only records that the killed worker had processed but not
// checkpointed are repeated.
func TestFromTheKCLToBraidAndBack(t *testing.T) {
	classPath := compileKCL(t)
	j := newJourney(t, classPath)
	j.put(100)

	java := j.startJava("java-1", "hang")
	j.await("the first records", func() bool { return j.countIn("java-1", 0) > 0 && j.countIn("java-1", 1) > 0 })
	_, err := j.openStore()
	var foreign *awskinesis.ForeignWorkerError
	require.ErrorAs(t, err, &foreign)
	require.Equal(t, "java-1", foreign.Worker)
	j.awaitLine("a prepared checkpoint", "prepared")
	java.kill()
	left := j.uncheckpointed()
	t.Logf("the killed worker has processed %d records without a checkpoint: %v", len(left), left)

	b := j.startBraid("braid-1")
	j.await("a parent's records, and its children", func() bool { return j.count("braid-1") > 100 })
	j.split(0)
	j.put(30)
	j.await("records of a child", func() bool { return j.countIn("braid-1", 2) > 20 && j.countIn("braid-1", 3) > 20 })
	require.Contains(t, b.pending(), "prepared", "the checkpoint that the killed worker prepared")
	b.prepare()
	b.stop(t)
	j.requireOrder()

	j.put(60)
	java = j.startJava("java-2", "go on")
	j.awaitLine("what braid has prepared", "init", "by braid")
	j.await("records", func() bool { return j.count("java-2") > 100 })
	j.split(1)
	j.put(30)
	j.await("records of a child", func() bool { return j.countIn("java-2", 4) > 20 && j.countIn("java-2", 5) > 20 })
	j.put(60)
	java.stop()

	b = j.startBraid("braid-2")
	j.await("everything", j.isComplete)
	b.stop(t)
	j.requireAll(left)
	kinds, rows := make(map[string]int), j.dynamo.Items("billing")
	for shard, row := range rows {
		kind := dynamotest.Text(row["entityType"])
		if kinds[kind]++; kind == "LEASE" {
			ended := slices.Contains([]string{"shardId-000000000000", "shardId-000000000001"}, shard)
			require.Equal(t, ended, dynamotest.Text(row["checkpoint"]) == "SHARD_END", "%v", row)
		}
	}
	t.Logf("%d records were given to java-1, %d to braid-1, %d to java-2, %d to braid-2; rows: %v", j.count("java-1"), j.count("braid-1"), j.count("java-2"), j.count("braid-2"), kinds)
}

// compileKCL returns the class path of the KCL and of the worker in testdata, or skips the test.
func compileKCL(t *testing.T) string {
	t.Helper()
	if testing.Short() || os.Getenv("CI") != "" {
		t.Skip("takes minutes, because the KCL runs in real time: go test -run KCL . without -short and CI")
	}
	for _, tool := range []string{"java", "javac", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: %v", tool, err)
		}
	}
	dir := t.TempDir()
	pom, err := os.ReadFile("testdata/kcl/pom.xml")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pom.xml"), pom, 0o644))
	jars := filepath.Join(dir, "jars")
	if out, err := exec.CommandContext(t.Context(), "mvn", "-q", "-B", "-f", dir, "dependency:copy-dependencies", "-DoutputDirectory="+jars).CombinedOutput(); err != nil {
		t.Skipf("Maven cannot fetch the KCL: %v\n%s", err, out)
	}
	classPath := dir + string(filepath.ListSeparator) + filepath.Join(jars, "*")
	out, err := exec.CommandContext(t.Context(), "javac", "-nowarn", "-cp", classPath, "-d", dir, "testdata/kcl/Worker.java").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return classPath
}

// sight is a record that a worker got.
type sight struct {
	worker, shard string
	at            string // sequence number, and the number within an aggregate
	key           string
	value         int
}

// journey is an application that workers of both kinds process in turn.
type journey struct {
	*testing.T
	classPath string
	kit       *kinesistest.Kit
	dynamo    *dynamotest.Service
	kinesis   *httptest.Server
	table     *httptest.Server

	javaOptions []string

	putting sync.Mutex // held while records are put or shards change: an aggregate belongs to one shard

	mu    sync.Mutex     // guards the fields below
	next  map[string]int // values put, by key
	seen  []sight
	lines []string       // output of KCL workers
	moved chan struct{}  // closed at the next change
	saved map[string]int // length of seen at the last checkpoint of the KCL, by shard
}

func newJourney(t *testing.T, classPath string) *journey { return newJourneyOf(t, classPath, 2) }

func newJourneyOf(t *testing.T, classPath string, shards int) *journey {
	j := &journey{
		T: t, classPath: classPath, kit: kinesistest.New(t, kinesistest.Stream("orders", shards)), dynamo: dynamotest.New(),
		next: make(map[string]int), moved: make(chan struct{}), saved: make(map[string]int),
	}
	api, err := kinesisapi.New(j.kit.DB(), &kinesisapi.Options{Logger: quietLogger()})
	require.NoError(t, err)
	j.kinesis, j.table = httptest.NewServer(api), httptest.NewServer(j.dynamo)
	t.Cleanup(j.kinesis.Close)
	t.Cleanup(j.table.Close)
	return j
}

// put puts that many records of each key: every other one alone, the rest in aggregates of ten.
func (j *journey) put(rounds int) {
	j.Helper()
	j.putting.Lock()
	defer j.putting.Unlock()
	stream, err := j.kit.DB().Stream("orders")
	require.NoError(j, err)
	for range rounds {
		packed := make(map[braid.ShardID]*kpl.Aggregator)
		var entries []braid.Entry
		for i := range 24 {
			key := fmt.Sprint("key-", i)
			j.mu.Lock()
			entry := braid.Entry{PartitionKey: key, Data: fmt.Append(nil, j.next[key])}
			j.next[key]++
			j.mu.Unlock()
			if i%2 == 0 {
				entries = append(entries, entry)
				continue
			}
			for _, shard := range stream.Shards() {
				if !shard.Describe().Closed && shard.HashKeyRange().Contains(entry.HashKey()) {
					if packed[shard.ID()] == nil {
						packed[shard.ID()] = new(kpl.Aggregator)
					}
					require.NoError(j, packed[shard.ID()].Add(entry))
				}
			}
		}
		for _, id := range slices.Sorted(maps.Keys(packed)) {
			entries = append(entries, packed[id].Carrier())
		}
		results, err := stream.PutRecordsWait(j.Context(), entries)
		requireStored(j, results, err)
	}
}

// repeated returns how many records were processed, and how many of these more than once.
func (j *journey) repeated() (again, total int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	times := make(map[string]int)
	for _, s := range j.seen {
		if times[s.key+" "+strconv.Itoa(s.value)]++; times[s.key+" "+strconv.Itoa(s.value)] == 2 {
			again++
		}
	}
	return again, len(times)
}

func (j *journey) split(shard int) {
	j.Helper()
	j.putting.Lock()
	defer j.putting.Unlock()
	j.kit.Split("orders", fmt.Sprintf("shardId-%012d", shard))
}

func (j *journey) merge(shard, adjacent int) {
	j.Helper()
	j.putting.Lock()
	defer j.putting.Unlock()
	j.kit.Merge("orders", fmt.Sprintf("shardId-%012d", shard), fmt.Sprintf("shardId-%012d", adjacent))
}

// note notes a record that a worker got.
func (j *journey) note(s sight) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seen = append(j.seen, s)
	j.wakeLocked()
}

func (j *journey) wakeLocked() {
	close(j.moved)
	j.moved = make(chan struct{})
}

// await waits until is, called with the mutex, returns true.
func (j *journey) await(what string, is func() bool) {
	j.Helper()
	deadline := time.After(3 * time.Minute)
	for {
		j.mu.Lock()
		so, moved := is(), j.moved
		j.mu.Unlock()
		if so {
			return
		}
		select {
		case <-moved:
		case <-deadline:
			j.mu.Lock()
			defer j.mu.Unlock()
			j.Fatalf("waited in vain for %s: %d records were processed, the last lines are\n%s", what, len(j.seen), strings.Join(j.lines[max(0, len(j.lines)-40):], "\n"))
		}
	}
}

// awaitLine waits for a line of a KCL worker that contains all those words.
func (j *journey) awaitLine(what string, words ...string) {
	j.Helper()
	j.await(what, func() bool {
		return slices.ContainsFunc(j.lines, func(line string) bool {
			return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) })
		})
	})
}

// count returns how many records a worker got.
func (j *journey) count(worker string) (n int) {
	for _, s := range j.seen {
		if s.worker == worker {
			n++
		}
	}
	return n
}

func (j *journey) countIn(worker string, shard int) (n int) {
	for _, s := range j.seen {
		if s.worker == worker && s.shard == fmt.Sprintf("shardId-%012d", shard) {
			n++
		}
	}
	return n
}

// isComplete reports whether each record was processed.
func (j *journey) isComplete() bool {
	distinct := make(map[string]bool)
	for _, s := range j.seen {
		distinct[s.key+" "+strconv.Itoa(s.value)] = true
	}
	total := 0
	for _, n := range j.next {
		total += n
	}
	return len(distinct) == total
}

// uncheckpointed returns the records that were processed after the last checkpoint of their shard.
func (j *journey) uncheckpointed() map[string]bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	left := make(map[string]bool)
	for i, s := range j.seen {
		if i >= j.saved[s.shard] {
			left[s.key+" "+strconv.Itoa(s.value)] = true
		}
	}
	return left
}

// requireOrder requires that the processed records of each key are its first ones, without gaps.
func (j *journey) requireOrder() {
	j.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	next := make(map[string]int)
	for _, s := range j.seen {
		require.LessOrEqual(j, s.value, next[s.key], "a record of %s is missing before %v", s.key, s)
		next[s.key] = max(next[s.key], s.value+1)
	}
}

// requireAll requires that each record was processed, in the order of its key, and that only those
// in left were repeated.
func (j *journey) requireAll(left map[string]bool) {
	j.Helper()
	j.requireOrder()
	j.mu.Lock()
	defer j.mu.Unlock()
	require.True(j, j.isComplete())
	times := make(map[string]int)
	for _, s := range j.seen {
		name := s.key + " " + strconv.Itoa(s.value)
		if times[name]++; times[name] > 1 {
			require.True(j, left[name], "%v was repeated, at %s, although it was checkpointed", name, s.worker)
		}
	}
}

// process is a worker in its own process, of the KCL or of braid.
type process struct {
	journey *journey
	cmd     *exec.Cmd
	stdin   io.Closer
	ended   chan struct{}
	err     error // how it ended; read it after ended is closed
}

// startJava starts a worker of the KCL; testdata/kcl/Worker.java documents its kinds.
func (j *journey) startJava(name, kind string) *process {
	j.Helper()
	return j.startProcess(name, exec.Command("java", slices.Concat([]string{"-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"}, j.javaOptions,
		[]string{"-cp", j.classPath, "Worker", j.kinesis.URL, j.table.URL, "billing", name, kind})...))
}

// startProcess starts a worker that ends when its input ends.
func (j *journey) startProcess(name string, cmd *exec.Cmd) *process {
	j.Helper()
	w := &process{journey: j, cmd: cmd, ended: make(chan struct{})}
	stdin, err := w.cmd.StdinPipe()
	require.NoError(j, err)
	w.stdin = stdin
	stdout, err := w.cmd.StdoutPipe()
	require.NoError(j, err)
	log, err := os.Create(filepath.Join(j.TempDir(), name+".log"))
	require.NoError(j, err)
	w.cmd.Stderr = log
	require.NoError(j, w.cmd.Start())
	go func() {
		defer close(w.ended)
		defer log.Close()
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			j.read(name, lines.Text())
		}
		w.err = w.cmd.Wait()
	}()
	j.Cleanup(func() {
		w.kill()
		if text, _ := os.ReadFile(log.Name()); j.Failed() {
			j.Logf("%s has logged:\n%s", name, text[max(0, len(text)-8000):])
		}
	})
	return w
}

// kill ends the process at once.
func (w *process) kill() {
	_ = w.cmd.Process.Kill()
	<-w.ended
}

// stop stops the process gracefully.
func (w *process) stop() {
	w.journey.Helper()
	_ = w.stdin.Close()
	select {
	case <-w.ended:
		require.NoError(w.journey, w.err)
	case <-time.After(90 * time.Second):
		w.journey.Fatal("the worker does not stop")
	}
}

// read parses a line of a KCL worker.
func (j *journey) read(worker, line string) {
	words := strings.Fields(line)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
	switch {
	case len(words) == 6 && words[0] == "record":
		value, _ := strconv.Atoi(words[5])
		j.seen = append(j.seen, sight{worker, words[1], words[2] + "/" + words[3], words[4], value})
	case len(words) > 1 && (words[0] == "checkpoint" || words[0] == "end" || words[0] == "stopped"):
		j.saved[words[1]] = len(j.seen)
	}
	j.wakeLocked()
}

func (j *journey) openStore() (*awskinesis.LeaseStore, error) {
	return awskinesis.NewLeaseStore(j.Context(), j.dynamo.Client(), "billing", &awskinesis.LeaseStoreOptions{Stream: "orders", LeaseDuration: 3 * time.Second, Logger: quietLogger()})
}

// braidWorker is a braid worker, and its processor.
type braidWorker struct {
	journey *journey
	name    string
	cancel  context.CancelFunc

	ended chan error

	mu       sync.Mutex // guards the fields below
	stopping bool
	states   []string // prepared by others
}

func (j *journey) startBraid(name string) *braidWorker {
	j.Helper()
	store, err := j.openStore()
	require.NoError(j, err)
	b := &braidWorker{journey: j, name: name, ended: make(chan error, 1)}
	w, err := consumer.New(j.kit.DB(), &consumer.Config{
		App: "billing", WorkerID: name, Streams: []string{"orders"}, Leases: store, Deaggregate: true, BatchRecords: 7,
		Checkpoints: consumer.Manual, Logger: quietLogger(),
	}, b)
	require.NoError(j, err)
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	go func() { b.ended <- w.Run(ctx) }()
	j.Cleanup(cancel)
	return b
}

func (b *braidWorker) Initialize(_ context.Context, c *consumer.Checkpointer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if lease := c.Lease(); lease.Pending != nil {
		b.states = append(b.states, string(lease.PendingState))
	}
	return nil
}

func (b *braidWorker) ProcessRecords(ctx context.Context, batch *consumer.Batch) error {
	b.mu.Lock()
	stopping := b.stopping
	b.mu.Unlock()
	if stopping { // it only prepares
		return batch.Prepare(ctx, batch.Records[0], []byte("by braid"))
	}
	time.Sleep(20 * time.Millisecond)
	for _, r := range batch.Records {
		value, err := strconv.Atoi(string(r.Data))
		if err != nil {
			return err
		}
		b.journey.note(sight{b.name, string(r.ShardID), fmt.Sprint(r.SequenceNumber, "/", r.SubSequenceNumber), r.PartitionKey, value})
	}
	return batch.CheckpointAt(ctx, batch.Records[len(batch.Records)-1])
}

func (b *braidWorker) pending() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.states, ", ")
}

// prepare makes the worker prepare checkpoints for records instead of processing them.
func (b *braidWorker) prepare() {
	b.mu.Lock()
	b.stopping = true
	b.mu.Unlock()
	b.journey.put(2)
	time.Sleep(time.Second)
}

func (b *braidWorker) stop(t *testing.T) {
	t.Helper()
	b.cancel()
	require.NoError(t, <-b.ended)
}

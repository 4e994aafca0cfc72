package modeltest

import (
	"context"
	"fmt"
	"runtime"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/testdisk"
)

// The fault sweep proves that braid stops when its storage fails, without stopping its process:
// each operation that changes a file fails once, and fails forever, in runs of a fixed workload.
// The process survives, every call returns in time with an error of the right class, reads still
// work, the DB can be closed and reopened, and nothing acknowledged is lost, even if the disk also
// loses power.
//
// Runs are made in child processes, since a DB that failed leaves parked goroutines behind, and a
// process can afford only a few of them.

const (
	faultChunk  = 7  // runs of one child process
	faultChunks = 80 // child processes of one mode; together they reach beyond the last operation
)

// faultT makes require usable in goroutines of a test.
type faultT struct {
	t    *testing.T
	name string
}

func (f faultT) Errorf(format string, args ...any) {
	f.t.Errorf(f.name+": "+format, args...)
}

func (f faultT) FailNow() { runtime.Goexit() }

// TestFaultWorkload runs the workload without a fault. This checks the harness, and the number of
// operations that the sweep must reach.
func TestFaultWorkload(t *testing.T) {
	disk := testdisk.New()
	w := newFaultWork(t, disk)
	require.NoError(t, w.run())
	operations := disk.Changes()
	t.Logf("%d operations change files; %d puts, %d transactions, %d records seen by the follower",
		operations, w.history.count(outcomeAcked), w.effects, len(w.seen))
	require.Less(t, operations, faultChunk*faultChunks, "the sweep must reach the end of the workload")
	require.Greater(t, operations, 300)
	require.Positive(t, w.trims)
	require.Positive(t, w.reshards)
	require.Zero(t, w.history.count(outcomeRefused)+w.history.count(outcomeUnknown))
	w.judge("power cut", disk.PowerCut())
	w.judgeTwice("closed", disk)
}

func TestFaultSweep(t *testing.T) {
	t.Parallel() // with the model test
	step := 1
	if testing.Short() {
		step = 10
	}
	var mu sync.Mutex               // guards the two below
	classes := make(map[string]int) // how often each kind of operation failed
	children := 0
	var situations reached
	for _, mode := range []string{"once", "forever"} {
		t.Run(mode, func(t *testing.T) {
			for chunk := 0; chunk < faultChunks; chunk += step {
				t.Run(fmt.Sprintf("%03d", chunk*faultChunk), func(t *testing.T) {
					t.Parallel()
					result := childtest.Output(t, func(t *testing.T) { sweepChunk(t, mode, chunk*faultChunk) })
					if !result.Passed {
						t.Fatalf("child process: %v\n%s", result.Err, result.Output)
					}
					mu.Lock()
					defer mu.Unlock()
					children++
					for _, line := range strings.Split(result.Output, "\n") {
						if text, ok := strings.CutPrefix(line, "swept: "); ok {
							classes[text]++
						}
						if situation, ok := strings.CutPrefix(line, "reached: "); ok {
							situations.note(situation)
						}
					}
				})
			}
		})
	}
	reportSweep(t, classes)
	t.Logf("reached: %v", &situations)
	if children == 2*((faultChunks+step-1)/step) { // false if only some children were selected
		require.Greater(t, count(classes, "once"), 300/step*9/10)
		require.Greater(t, count(classes, "forever"), 300/step*9/10)
		if step == 1 {
			situations.require(t, unknownIsThere, unknownIsNot, unknownAckWas, unknownAckWasNot, unknownReceive)
		}
	}
}

// sweepChunk makes the runs of one child. They run in parallel, because some wait for seconds while
// tables are retried.
func sweepChunk(t *testing.T, mode string, first int) {
	var runs sync.WaitGroup
	for index := first; index < first+faultChunk; index++ {
		runs.Go(func() {
			watchdog := time.AfterFunc(50*time.Second, func() {
				stacks := make([]byte, 1<<20)
				panic(fmt.Sprintf("%s %d hangs\n%s", mode, index, stacks[:runtime.Stack(stacks, true)]))
			})
			defer watchdog.Stop()
			sweepOne(faultT{t, fmt.Sprintf("%s %d", mode, index)}, mode, index)
		})
	}
	runs.Wait()
}

// sweepOne makes one run, in which operation index fails.
func sweepOne(t faultT, mode string, index int) {
	disk := testdisk.New()
	disk.FailAlways(func(op testdisk.Op) bool {
		return op.Index == index || mode == "forever" && op.Index > index
	}, syscall.EIO)
	w := newFaultWork(t, disk)
	err := w.run()
	if w.notOpen == nil {
		requireFaultError(t, err)
	} else { // a database that did not open did not fail
		require.ErrorIs(t, err, syscall.EIO)
	}
	result := "survived"
	if w.db != nil {
		result = "failed"
		w.checkFailed()
		err := w.close()
		require.ErrorIs(t, err, braid.ErrFailed)
		requireFaultError(t, err)
	} else if err != nil {
		result = "open or close failed"
	}
	w.follower.Wait()

	op, fired := disk.Failed()
	require.True(t, fired || err == nil, "error without a fault: %v", err)
	disk.Before(nil)
	if (index%2 == 0) == (mode == "once") { // each index is judged in both ways, once in each mode
		w.judge("power cut", disk.PowerCut())
	} else {
		w.judgeTwice("reopened", disk)
	}
	for _, situation := range append(w.unknownPuts(), w.met...) {
		fmt.Printf("\nreached: %s\n", situation)
	}
	if fired {
		fmt.Printf("\nswept: %s %s %s: %s\n", mode, op.Change(), op.File(), result)
	}
}

// requireFaultError requires that an error, if any, says that storage failed, and how.
func requireFaultError(t require.TestingT, err error) {
	if err != nil {
		require.ErrorIs(t, err, syscall.EIO)
		require.ErrorIs(t, err, braid.ErrFailed)
	}
}

// checkFailed checks a DB after a call failed: it refuses writes at once, says why, and can still
// be read.
func (w *faultWork) checkFailed() {
	ctx := context.Background()
	requireFaultError(w.t, w.db.Metrics().Failed)
	require.Error(w.t, w.db.Metrics().Failed)
	refused := map[string]func() error{
		"update": func() error {
			return w.db.Update(ctx, func(tx *braid.Tx) error { return tx.Set([]byte("k"), nil) })
		},
		"create": func() error { _, err := w.db.CreateStream(ctx, "another", nil); return err },
	}
	for _, q := range w.queues[:2] {
		if q.q == nil {
			continue
		}
		refused["receive of "+q.name] = func() error { _, err := q.q.Receive(ctx, 1, nil); return err }
		refused["acknowledgement to "+q.name] = func() error { return q.q.Ack(ctx, "a receipt") }
		refused["deletion of "+q.name] = func() error { return q.q.Delete(ctx) }
		_, err := q.q.Describe(ctx) // the queue's state in memory may not be durable
		requireFaultError(w.t, err)
	}
	if w.orders != nil {
		refused["put"] = func() error { _, err := w.orders.PutRecord(ctx, "k", nil); return err }
		refused["trim"] = func() error { return w.orders.Trim(ctx, braid.Latest()) }
	}
	for what, f := range refused {
		err := w.call(what, f)
		require.Error(w.t, err, what)
		require.NotErrorIs(w.t, err, braid.ErrOutcomeUnknown, what)
		requireFaultError(w.t, err)
	}
	w.follower.Wait() // the follower gets the error, too
	w.judgeContent("failed, still open", w.db)
}

// reportSweep logs how often each kind of operation failed, and with what result.
func reportSweep(t *testing.T, classes map[string]int) {
	var lines []string
	for text, n := range classes {
		lines = append(lines, fmt.Sprintf("%4d %s", n, text))
	}
	sort.Strings(lines)
	t.Logf("operations that failed once: %d, forever: %d\n%s", count(classes, "once"), count(classes, "forever"), strings.Join(lines, "\n"))
}

func count(classes map[string]int, mode string) (n int) {
	for text, times := range classes {
		if strings.HasPrefix(text, mode) {
			n += times
		}
	}
	return n
}

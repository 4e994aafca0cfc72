package commit_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/commit"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/testdisk"
)

func openStoreOn(t *testing.T, d *testdisk.Disk) *kv.Store {
	t.Helper()
	store, err := kv.Open(kv.Config{
		Dir:           "/db",
		FS:            d,
		Logger:        slog.New(slog.DiscardHandler),
		MemTableBytes: 1 << 20,
	})
	require.NoError(t, err)
	return store
}

// slowLog is a testLog that may ask for what waits for the disk.
type slowLog struct {
	testLog
	sync, begin bool // for requests whose Op is "slow"
}

func (l *slowLog) Apply(requests []*commit.Request, batch *kv.Batch) bool {
	l.testLog.Apply(requests, batch)
	sync := false
	for _, r := range requests {
		if r.Op == "slow" {
			sync = l.sync
			if l.begin {
				batch.BeginMemTable()
			}
		}
	}
	return sync
}

func prompt(op string) *commit.Request { return &commit.Request{Op: op, Prompt: true} }

// A caller that finds the goroutine asleep runs its group itself, and never waits for the disk
// in there: what waits it leaves to the goroutine, and returns when its context ends. What it
// has left is done in its place in the order.
func TestACallerLeavesAGroupThatWaits(t *testing.T) {
	onLog := func(op testdisk.Op) bool { return op.OnLog() && op.Changes() }
	begins := func(op testdisk.Op) bool {
		return op.OnLog() && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite)
	}
	for name, slow := range map[string]struct {
		log   *slowLog
		holds func(testdisk.Op) bool
		size  int // of a group that the memtable has no room for
	}{
		"fsync":         {&slowLog{sync: true}, onLog, 0},
		"end of a log":  {&slowLog{begin: true}, onLog, 0},
		"next log":      {&slowLog{begin: true}, begins, 0},
		"full memtable": {&slowLog{}, begins, 400 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := testdisk.New()
				store := openStoreOn(t, d)
				c := commit.New(store, slow.log, commit.PromptInline)
				synctest.Wait() // it is asleep
				release := d.Hold(slow.holds)
				require.NoError(t, c.Do(t.Context(), prompt("before")), "it waits for nothing")

				ctx, cancel := context.WithCancel(t.Context())
				large := &commit.Request{Op: "slow" + string(make([]byte, slow.size)), Prompt: true}
				left := do(ctx, c, large)
				<-d.Held()
				hasty, giveUp := context.WithCancel(t.Context())
				withdrawn := do(hasty, c, prompt("withdrawn"))
				synctest.Wait()
				require.Empty(t, withdrawn, "it waits for the group before it")
				require.Empty(t, left)
				cancel()
				require.ErrorIs(t, <-left, commit.ErrUnknown)
				giveUp()
				require.ErrorIs(t, <-withdrawn, context.Canceled)
				after := do(t.Context(), c, prompt("after"))

				release()
				require.NoError(t, <-after)
				synctest.Wait()
				require.NoError(t, c.Do(t.Context(), prompt("last")))
				_, published := slow.log.state()
				require.Equal(t, []string{"before", large.Op.(string), "after", "last"}, published)
				require.True(t, c.Close(t.Context()))
				require.NoError(t, store.Close())
			})
		})
	}
}

// A request that is not prompt, and one behind another, is the goroutine's.
func TestOnlyPromptRequestsAreRunByTheirCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testdisk.New()
		store, log := openStoreOn(t, d), &slowLog{testLog: testLog{hold: make(chan struct{})}}
		c := commit.New(store, log, commit.PromptInline)
		for i, r := range []*commit.Request{prompt("a"), {Op: "b"}} {
			synctest.Wait() // it is asleep
			ctx, cancel := context.WithCancel(t.Context())
			result := do(ctx, c, r)
			synctest.Wait()
			cancel()
			synctest.Wait()
			require.Len(t, result, i, "a caller that runs its group does not look at its context meanwhile")
			log.hold <- struct{}{}
			if err := <-result; r.Prompt {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, commit.ErrUnknown)
			}
		}
		synctest.Wait()
		groups, _ := log.state()
		require.Equal(t, [][]string{{"a"}, {"b"}}, groups)
		require.True(t, c.Close(t.Context()))
		require.NoError(t, store.Close())
	})
}

// Close commits what a caller has left.
func TestCloseCommitsAGroupThatWasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testdisk.New()
		store, log := openStoreOn(t, d), &slowLog{sync: true}
		c := commit.New(store, log, commit.PromptInline)
		synctest.Wait() // it is asleep
		release := d.Hold(func(op testdisk.Op) bool { return op.OnLog() && op.Syncs() })
		left := do(t.Context(), c, prompt("slow"))
		<-d.Held()
		closed := make(chan bool)
		go func() { closed <- c.Close(t.Context()) }()
		release()
		require.True(t, <-closed)
		require.NoError(t, <-left)
		_, published := log.state()
		require.Equal(t, []string{"slow"}, published)
		require.NoError(t, store.Close())
	})
}

// A store that fails while it commits what a caller has left ends that as unknown.
func TestAFailedStoreEndsAGroupThatWasLeft(t *testing.T) {
	childtest.Run(t, func(t *testing.T) { // it leaves a store behind
		d := testdisk.New()
		store, log := openStoreOn(t, d), &slowLog{sync: true}
		c := commit.New(store, log, commit.PromptInline)
		require.NoError(t, c.Do(t.Context(), prompt("before")))
		d.FailAlways(func(op testdisk.Op) bool { return op.OnLog() && op.Syncs() }, fmt.Errorf("it is broken"))
		require.ErrorIs(t, c.Do(t.Context(), prompt("slow")), commit.ErrUnknown)
		require.ErrorIs(t, c.Do(t.Context(), prompt("late")), kv.ErrFailed)
		require.False(t, c.Close(t.Context()))
		_, published := log.state()
		require.Equal(t, []string{"before"}, published)
	})
}

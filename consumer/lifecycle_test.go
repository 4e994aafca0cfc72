package consumer

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/wake"
)

// Every pair of states: listed transitions happen, and no others. Any other one ends the
// worker with an error that names both states.
func TestTransitionsThatAreNotListedEndTheWorker(t *testing.T) {
	newTestWorker := func() *Worker {
		return &Worker{cfg: Config{WorkerID: "w"}, failing: make(chan struct{})}
	}
	check := func(w *Worker, listed bool, text string) {
		t.Helper()
		require.Equal(t, !listed, wake.IsClosed(w.failing), text)
		if listed {
			require.NoError(t, w.failure)
			return
		}
		require.ErrorIs(t, w.failure, errTransition)
		require.EqualError(t, w.failure, "consumer: bug in package consumer: "+text)
	}
	for from := workerMade; from <= workerLeft; from++ {
		for to := workerMade; to <= workerLeft; to++ {
			w := newTestWorker()
			w.state = from
			listed := slices.Contains(workerTransitions[from], to)
			w.enterLocked(to)
			check(w, listed, `worker "w" is `+from.String()+`, and cannot be `+to.String())
			if listed {
				require.Equal(t, to, w.state)
				require.Greater(t, to, from, "a worker never goes back")
			} else {
				require.Equal(t, from, w.state)
			}
		}
	}
	for from := holdRunning; from <= holdEnded; from++ {
		for to := holdRunning; to <= holdEnded; to++ {
			h := &hold{worker: newTestWorker(), state: from, key: LeaseKey{Stream: "orders"}}
			listed := slices.Contains(holdTransitions[from], to)
			h.enterLocked(to)
			check(h.worker, listed, `the hold of "orders" is `+from.String()+`, and cannot be `+to.String())
			if listed {
				require.Equal(t, to, h.state)
				require.Greater(t, to, from, "a hold never goes back")
			} else {
				require.Equal(t, from, h.state)
			}
		}
	}
}

// A bug ends the worker in an orderly way: its shards continue at another worker, and Run
// returns the error.
func TestBugInTheLifeCycleEndsRunWithItsText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		defer db.Close()
		orders, err := db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Shards: 2})
		require.NoError(t, err)
		worker := func(id string) (*Worker, chan error) {
			w, err := New(db, &Config{App: "billing", Streams: []string{"orders"}, WorkerID: id}, ProcessorFunc(func(context.Context, *Batch) error { return nil }))
			require.NoError(t, err)
			result := make(chan error, 1)
			go func() { result <- w.Run(context.Background()) }()
			synctest.Wait()
			return w, result
		}
		one, ended := worker("one")
		two, _ := worker("two")
		g := one.group
		g.mu.Lock()
		for _, h := range g.holds {
			if h.worker == one {
				h.mu.Lock()
				h.enterLocked(holdRunning)
				h.mu.Unlock()
			}
		}
		g.mu.Unlock()
		synctest.Wait()
		require.ErrorIs(t, <-ended, errTransition)
		status, err := two.App().Status(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"two"}, status.Workers)
		for _, shard := range status.Shards {
			require.Equal(t, "two", shard.Owner)
		}
		_, err = orders.PutRecord(t.Context(), "k", nil)
		require.NoError(t, err)
		require.NoError(t, two.App().WaitCaughtUp(t.Context()))
		require.NoError(t, two.Stop(t.Context()))
		synctest.Wait()
	})
}

// In any order of events, a hold that was abandoned calls nothing, and a hold that has
// ended cannot be abandoned.
func TestHoldKeepsTheStrongestState(t *testing.T) {
	newTestHold := func() *hold {
		h := &hold{worker: &Worker{}, group: &group{}, log: slog.New(slog.DiscardHandler)}
		h.ctx, h.lose = context.WithCancelCause(t.Context())
		return h
	}
	h := newTestHold()
	require.True(t, h.beginCall(&Call{}))
	h.noteEnding()
	h.noteEnding()
	require.Equal(t, holdEnding, h.state)
	require.True(t, h.beginCall(&Call{}), "it may finish its batch")
	h.fail(errors.New("in the last batch"))
	require.Equal(t, holdEnding, h.state)
	require.True(t, h.hasFailed())
	require.ErrorContains(t, h.stopped(), "in the last batch")
	require.True(t, h.abandon())
	require.True(t, h.abandon())
	h.noteEnding()
	require.Equal(t, holdAbandoned, h.state)
	require.False(t, h.beginCall(&Call{}))
	h.noteEnded()
	require.False(t, h.abandon())
	require.True(t, h.isEnded())

	h = newTestHold()
	h.fail(errors.New("no"))
	require.Equal(t, holdFailed, h.state)
	h.noteEnding()
	require.Equal(t, holdEnding, h.state)
	require.True(t, h.hasFailed(), "it is still what has stopped the shard")
}

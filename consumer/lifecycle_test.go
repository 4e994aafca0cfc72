package consumer

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every pair of states: what is listed happens, and all else is a panic that names both.
func TestTransitionsThatAreNotListedPanic(t *testing.T) {
	for from := workerMade; from <= workerLeft; from++ {
		for to := workerMade; to <= workerLeft; to++ {
			w := &Worker{state: from}
			if slices.Contains(workerTransitions[from], to) {
				w.enterLocked(to)
				require.Equal(t, to, w.state)
				require.Greater(t, to, from, "a worker never goes back")
				continue
			}
			require.PanicsWithValue(t, `consumer: worker "" is `+from.String()+`, and cannot be `+to.String(), func() { w.enterLocked(to) })
			require.Equal(t, from, w.state)
		}
	}
	for from := holdRunning; from <= holdEnded; from++ {
		for to := holdRunning; to <= holdEnded; to++ {
			h := &hold{state: from, key: LeaseKey{Stream: "orders"}}
			if slices.Contains(holdTransitions[from], to) {
				h.enterLocked(to)
				require.Equal(t, to, h.state)
				require.Greater(t, to, from, "a hold never goes back")
				continue
			}
			require.PanicsWithValue(t, `consumer: the hold of "orders" is `+from.String()+`, and cannot be `+to.String(), func() { h.enterLocked(to) })
			require.Equal(t, from, h.state)
		}
	}
}

// Whatever comes first, a hold that was abandoned calls nothing, and one that has ended
// is not abandoned.
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

package kv

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGate shuts gates while many goroutines pass them: no call may be inside when wait
// returns, or enter later.
func TestGate(t *testing.T) {
	for round := range 200 {
		g := newGate()
		var inside, entered atomic.Int64
		var shut atomic.Bool // set when wait has returned
		var users sync.WaitGroup
		for range 4 {
			users.Go(func() {
				for {
					if g.enter() != nil {
						return
					}
					inside.Add(1)
					entered.Add(1)
					if shut.Load() {
						panic("somebody is inside a shut gate")
					}
					inside.Add(-1)
					g.leave()
				}
			})
		}
		for entered.Load() < int64(round) {
			if g.enter() == nil {
				g.leave()
			}
		}
		require.True(t, g.shut())
		require.False(t, g.shut(), "the second time it was shut already")
		g.wait()
		shut.Store(true)
		require.Zero(t, inside.Load())
		require.ErrorIs(t, g.enter(), ErrClosed)
		users.Wait()
		require.True(t, g.empty())
	}
}

func TestGateWaitsForTheLast(t *testing.T) {
	g := newGate()
	require.NoError(t, g.enter())
	require.NoError(t, g.enter())
	require.True(t, g.shut())
	waited := make(chan struct{})
	go func() {
		g.wait()
		close(waited)
	}()
	g.leave()
	require.ErrorIs(t, g.enter(), ErrClosed) // a refused caller must not count
	require.False(t, g.empty())
	select {
	case <-waited:
		require.Fail(t, "it did not wait")
	default:
	}
	g.leave()
	<-waited
}

package braid

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/wake"
)

// scripted is a worker that returns the times in a list, one after the other, and notes its
// runs.
type scripted struct {
	next []time.Duration
	runs []string
	done atomic.Bool
	from time.Time
}

func (w *scripted) run(_ context.Context, rung bool) time.Duration {
	by := "time"
	if rung {
		by = "bell"
	}
	w.runs = append(w.runs, by+" at "+time.Since(w.from).String())
	if len(w.next) == 0 {
		time.Sleep(time.Second)
		w.done.Store(true)
		return asPlanned
	}
	next := w.next[0]
	w.next = w.next[1:]
	return next
}

func TestAWorkerRunsByItsBellAndItsTimeAndCloseWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := Open(InMemory, nil)
		require.NoError(t, err)
		w := &scripted{next: []time.Duration{asPlanned, 10 * time.Second, asPlanned, 0, asPlanned}, from: time.Now()}
		bell := wake.NewBell()
		db.work(bell, w)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, w.runs, "nobody has rung, and no time was asked for")
		bell.Ring()
		time.Sleep(time.Minute)
		bell.Ring() // asks for ten seconds
		time.Sleep(5 * time.Second)
		bell.Ring() // leaves the time unchanged
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, []string{"bell at 1m0s", "bell at 2m0s", "bell at 2m5s", "time at 2m10s", "time at 2m10s"}, w.runs)

		bell.Ring()
		synctest.Wait()
		require.False(t, w.done.Load())
		require.NoError(t, db.Close())
		require.True(t, w.done.Load(), "Close waits for a run")
		bell.Ring() // the worker has ended
		synctest.Wait()
		require.Len(t, w.runs, 6)
	})
}

func TestIntervalSyncsOncePerInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := Open(InMemory, &Options{Durability: Interval, SyncInterval: time.Second})
		require.NoError(t, err)
		w := &syncer{db: db}
		require.Equal(t, time.Second, w.run(t.Context(), true))
		require.Equal(t, asPlanned, w.run(t.Context(), true), "it is synced with what came before")
		require.Equal(t, asPlanned, w.run(t.Context(), false))
		require.Equal(t, time.Second, w.run(t.Context(), true), "what comes after a sync needs another")
		require.NoError(t, db.Close())
	})
}

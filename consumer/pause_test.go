package consumer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The exact pauses between retries.
func TestPausesDoubleUpToTheLongest(t *testing.T) {
	const ms = time.Millisecond
	for _, row := range []struct {
		name        string
		first, most time.Duration
		want        []time.Duration // after attempts 1, 2, …
	}{
		{"the default", defaultRetryPause, defaultMaxRetryPause, []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 12800 * ms, 25600 * ms, 30 * time.Second, 30 * time.Second}},
		{"the longest is the first", time.Second, time.Second, []time.Duration{time.Second, time.Second, time.Second}},
		{"the longest is no multiple", 3 * ms, 10 * ms, []time.Duration{3 * ms, 6 * ms, 10 * ms, 10 * ms}},
		{"the shortest that there is", 1, 5, []time.Duration{1, 2, 4, 5, 5}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := Config{RetryPause: row.first, MaxRetryPause: row.most}
				for i, want := range row.want {
					began := time.Now()
					require.NoError(t, cfg.pause(t.Context(), i+1, errors.New("no")))
					require.Equal(t, want, time.Since(began), "after attempt %d", i+1)
				}
				began := time.Now()
				require.NoError(t, cfg.pause(t.Context(), 1<<40, errors.New("no")), "after so many that doubling overflows")
				require.Equal(t, row.most, time.Since(began))
			})
		})
	}
}

// A pause ends when its context does, with the cause, in each of its stages.
func TestPauseEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{RetryPause: time.Second, MaxRetryPause: time.Minute}
		over := errors.New("over")
		for _, after := range []time.Duration{0, time.Millisecond, time.Second, 10 * time.Second} {
			ctx, cancel := context.WithCancelCause(t.Context())
			began := time.Now()
			time.AfterFunc(after, func() { cancel(over) })
			require.Equal(t, over, cfg.pause(ctx, 5, errors.New("no")))
			require.Equal(t, after, time.Since(began))
			require.Equal(t, over, cfg.pause(ctx, 1, errors.New("no")), "at once")
			require.Equal(t, after, time.Since(began))
		}
	})
}

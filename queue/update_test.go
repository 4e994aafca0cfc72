package queue_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/queue"
)

// Concurrent updates do not undo each other.
func TestUpdatesAtTheSameTime(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: 1, MaxInFlight: 1})
		var all sync.WaitGroup
		for range 30 {
			all.Go(func() { require.NoError(t, q.Update(ctx, func(o *queue.Options) { o.MaxReceives++ })) })
			all.Go(func() { require.NoError(t, q.Update(ctx, func(o *queue.Options) { o.MaxInFlight++ })) })
		}
		all.Wait()
		o := k.describe(q).Options
		require.Equal(t, 31, o.MaxReceives)
		require.Equal(t, 31, o.MaxInFlight)
	})
}

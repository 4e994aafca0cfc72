package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSplitLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		require.NoError(t, run(t.Context(), &out, time.Second))
		text := out.String()
		require.Contains(t, text, "shardId-000000000001 is split where half of its load lies below")
		require.Contains(t, text, "those of every city in order")
		require.Contains(t, text, "from shardId-000000000001")
		require.Contains(t, text, "No put failed.")
	})
}

func TestSplitCanBeInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		var out strings.Builder
		require.ErrorIs(t, run(ctx, &out, time.Second), context.DeadlineExceeded)
	})
}

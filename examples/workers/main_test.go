package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOthersTakeOver(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out))
	text := out.String()
	require.Contains(t, text, "anna, ben and carl have two shards each.")
	require.Contains(t, text, "his checkpoint is refused")
	require.Equal(t, 6, strings.Count(text, "shardId-"))
	require.Contains(t, text, "All 3000 orders were shipped, none is missing.")
}

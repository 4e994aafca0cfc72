package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReplayIsExact(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `billing has processed 1000 orders.
audit has processed the same 1000, and billing was not disturbed.
billing was brought back to noon, and has processed the 300 orders since then again.
Both go on with what comes: 50 more each.
`, out.String())
}

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNothingIsLost(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out))
	text := out.String()
	require.Contains(t, text, "accepted 150 orders, and 150 events wait.")
	require.Contains(t, text, "Kinesis has 0 events.")
	require.Contains(t, text, "the events of all 300 orders, each once")
}

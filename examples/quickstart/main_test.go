package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQuickstartEndsWithTotalsThatAgree(t *testing.T) {
	var out strings.Builder
	dir := filepath.Join(t.TempDir(), "new")
	require.NoError(t, run(context.Background(), dir, &out))
	require.Contains(t, out.String(), "20,000 put   20,000 counted   all of them")
	require.Contains(t, out.String(), "shardId-000000000011  open")
	require.Contains(t, out.String(), "replayed 10,000 flights from the middle")
	require.Contains(t, out.String(), "The totals of 220 airports agree")
	require.Contains(t, out.String(), "DFW     1,103")

	require.ErrorContains(t, run(context.Background(), dir, &out), "is not empty")
	require.FileExists(t, filepath.Join(dir, "BRAID"), "the database stays, and the refused run left it alone")
}

func TestQuickstartRemovesItsTemporaryDirectory(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	t.Setenv("TMP", temporary)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out strings.Builder
	require.ErrorIs(t, run(ctx, "", &out), context.Canceled)
	left, err := os.ReadDir(temporary)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestAgreeFindsEveryDifference(t *testing.T) {
	want := totals{"ATL": {Flights: 2}, "DFW": {Flights: 1}}
	require.NoError(t, agree("it", totals{"ATL": {Flights: 2}, "DFW": {Flights: 1}}, want))
	require.ErrorContains(t, agree("it", totals{"ATL": {Flights: 3}, "DFW": {Flights: 1}}, want), "ATL")
	require.ErrorContains(t, agree("it", totals{"ATL": {Flights: 2}}, want), "DFW")
	require.ErrorContains(t, agree("it", totals{"ATL": {Flights: 2}, "DFW": {Flights: 1}, "LAX": {}}, want), "3 airports")
}

package main

import (
	"fmt"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain lets this program be the process that T9 kills.
func TestMain(m *testing.M) {
	if records := os.Getenv(crashVariable); records != "" {
		fmt.Fprintln(os.Stderr, fillAndWait(records, os.Args[1:]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestParseTargets(t *testing.T) {
	ids, err := parseTargets("t1, T12,K3")
	require.NoError(t, err)
	require.Equal(t, []string{"T1", "T12", "K3"}, ids)
	ids, err = parseTargets("q1,Q5")
	require.NoError(t, err)
	require.Equal(t, []string{"Q1", "Q5"}, ids)
	ids, err = parseTargets("")
	require.NoError(t, err)
	require.Empty(t, ids)
	for _, wrong := range []string{"T13", "T0", "K7", "Q6", "x", ",", "T1,"} {
		_, err := parseTargets(wrong)
		require.Error(t, err, wrong)
	}
}

func TestTargetsChooseWorkloads(t *testing.T) {
	all := workloads([]disk{{}})
	chosen := func(targets ...string) (ids []string) {
		f := flags{targets: targets}
		for _, w := range all {
			if f.isTargeted(w) {
				ids = append(ids, w.id)
			}
		}
		return ids
	}
	require.Len(t, chosen(), len(all))
	require.Equal(t, []string{"T1/puts-c16", "T1/puts-c256", "T9/open"}, chosen("T9", "T1"))
	require.Contains(t, chosen("T12"), "T2/batches-100B-c16", "T12 is judged where others are measured")
	require.NotContains(t, chosen("T12"), "T9/open")
	require.Equal(t, []string{"Q1/receive-ack-c1", "Q1/receive-ack-c16"}, chosen("Q2"), "Q2 is judged where Q1 is measured")
}

func TestShellWord(t *testing.T) {
	for text, want := range map[string]string{
		"T1,T2": "T1,T2", "T1/puts-c16": "T1/puts-c16", "": "''", "a|b": "'a|b'", "it's": `'it'\''s'`, "c1$": "'c1$'",
	} {
		require.Equal(t, want, shellWord(text))
	}
}

func TestResultsAreChosen(t *testing.T) {
	all := workloads([]disk{{}, {sync: time.Millisecond}})
	chosen := func(f flags) (ids []string) {
		for _, w := range all {
			if f.asksFor(w) {
				ids = append(ids, w.id)
			}
		}
		return ids
	}
	any := regexp.MustCompile("")
	require.Len(t, chosen(flags{run: any}), len(all))
	require.Equal(t, []string{"T3/puts-c1", "T3/puts-c1@1ms"}, chosen(flags{run: any, targets: []string{"T3"}}))
	require.Equal(t, []string{"T3/puts-c1@1ms"}, chosen(flags{run: any, targets: []string{"T3"}, disks: []disk{{sync: time.Millisecond}}, fromDisks: true}))
	require.Equal(t, []string{"T1/puts-c16"}, chosen(flags{run: regexp.MustCompile("c16$"), targets: []string{"T1"}}))
}

func TestWorkloadsAreInTheOrderOfTargets(t *testing.T) {
	last := 0
	for _, w := range workloads([]disk{{}, {sync: 1e6}}) {
		rank := targetRank(w.targetOf(target{}))
		require.GreaterOrEqual(t, rank, last, w.id)
		last = rank
	}
}

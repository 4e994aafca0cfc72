package main

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 2: "2", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 999.6: "1000", 1234: "1,234",
		1234567.8: "1,234,568", -4.5: "-4.50", -1234: "-1,234", math.Inf(1): "–",
	} {
		require.Equal(t, want, number(v), "%v", v)
	}
	require.Equal(t, "–", number(math.NaN()))
}

// twoRounds are of a machine that was twice as fast in the second one: the
// ratios are the same.
func twoRounds() []round {
	return []round{
		{"braid": {recordsPerSecond: 300, p50Micros: 8}, "pebble": {recordsPerSecond: 200}, floorSystem.name: {p50Micros: 2}},
		{"braid": {recordsPerSecond: 600, p50Micros: 4}, "pebble": {recordsPerSecond: 400}, floorSystem.name: {p50Micros: 1}},
	}
}

func TestReport(t *testing.T) {
	w := &workload{
		id: "T1/x", about: "puts", main: recordsPerSecond, columns: []string{p50Micros},
		entries: []entry{{name: "braid"}, {name: "pebble"}, {name: "left out"}},
		targets: []target{
			atLeastTimes(1.3, recordsPerSecond, "pebble"),
			atMost(5, "braid", p50Micros),
			atLeast(1, "braid", mbPerSecond),
		},
		notes: []string{"a note"},
	}
	var out strings.Builder
	verdicts := writeReport(&out, w, twoRounds())
	require.Equal(t, strings.Join([]string{
		"T1/x: puts",
		"          records/s    ±  x pebble  p50 us",
		"  braid         450  33%      1.50       6",
		"  pebble        300  33%      1.00       –",
		"  a note",
		"  target records/s ≥ 1.30 × pebble: 1.50, met",
		"  target p50 us ≤ 5: 6, MISSED",
		"  target MB/s ≥ 1: not measured",
		"", "",
	}, "\n"), out.String())

	out.Reset()
	writeSummary(&out, map[string][]verdict{w.id: verdicts}, []string{w.id})
	require.Equal(t, "targets: 1 met, 1 missed, 1 not measured\n  T1/x: target p50 us ≤ 5: 6, MISSED\n", out.String())
}

func TestOneSyncAnd20(t *testing.T) {
	v := oneSyncAnd20().judge(twoRounds())
	require.Equal(t, 4.5, v.value, "the median of 6 and 3")
	require.True(t, v.met)
}

// A target can be judged only if it names entries and metrics that exist.
func TestWorkloadsAreWellFormed(t *testing.T) {
	seen := make(map[string]bool)
	for _, w := range workloads() {
		require.False(t, seen[w.id], "%s is there twice", w.id)
		seen[w.id] = true
		require.NotEmpty(t, w.entries, w.id)
		perfect := make(round)
		for _, e := range w.entries {
			perfect[e.name] = make(metrics)
			for _, name := range append([]string{w.main, lastOverFirst, diskExcess}, w.columns...) {
				perfect[e.name][name] = 1
			}
		}
		for _, target := range w.targets {
			require.True(t, target.judge([]round{perfect}).known, "%s: %s", w.id, target.name)
		}
		if w.base != "" {
			require.Contains(t, perfect, w.base, w.id)
		}
	}
	for _, target := range "123456789" {
		require.True(t, containsPrefix(seen, "T"+string(target)+"/"), "T%c", target)
	}
}

func containsPrefix(set map[string]bool, prefix string) bool {
	for s := range set {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

package main

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

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

// twoRounds are from a machine that was twice as fast in the second round: the ratios are
// equal.
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
	writeReport(&out, w, twoRounds())
	require.Equal(t, strings.Join([]string{
		"T1/x: puts",
		"          records/s    ±  x pebble  p50 us",
		"  braid         450  33%      1.50       6",
		"  pebble        300  33%      1.00       –",
		"  a note",
		"  T1, records/s ≥ 1.30 × pebble: 1.50, met by 15 %",
		"  T1, p50 us ≤ 5: 6, MISSED by 20 %",
		"  T1, MB/s ≥ 1: –, not measured",
		"", "",
	}, "\n"), out.String())
}

// A target can be judged only if it names entries and metrics that exist.
func TestWorkloadsAreWellFormed(t *testing.T) {
	seen := make(map[string]bool)
	judgedBy := make(map[string]bool)
	for _, w := range workloads([]disk{{}, {sync: time.Millisecond}}) {
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
			judgedBy[w.targetOf(target)] = true
			require.True(t, target.judge([]round{perfect}).known, "%s: %s", w.id, target.name)
		}
		if w.base != "" {
			require.Contains(t, perfect, w.base, w.id)
		}
	}
	for kind, n := range map[string]int{"T": 12, "Q": 5, "K": 6} {
		for i := range n {
			require.Contains(t, judgedBy, fmt.Sprintf("%s%d", kind, i+1))
		}
	}
	require.Len(t, judgedBy, 23)
}

package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRoundsRotate(t *testing.T) {
	e := &environment{dir: t.TempDir(), repeats: 3}
	var order []string
	var dirs []string
	w := &workload{id: "x"}
	for _, name := range []string{"a", "b"} {
		w.entries = append(w.entries, entry{name: name, run: func(_ *environment, dir string) (metrics, error) {
			require.NoError(t, os.MkdirAll(dir, 0o755))
			dirs = append(dirs, dir)
			return metrics{recordsPerSecond: float64(len(dirs))}, nil
		}})
	}
	rounds, err := e.runWorkload(w, func(entry string, _ int) { order = append(order, entry) })
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b", "b", "a", "a", "b"}, order)
	require.Equal(t, []round{
		{"a": {recordsPerSecond: 1}, "b": {recordsPerSecond: 2}},
		{"b": {recordsPerSecond: 3}, "a": {recordsPerSecond: 4}},
		{"a": {recordsPerSecond: 5}, "b": {recordsPerSecond: 6}},
	}, rounds)
	for _, dir := range dirs {
		require.NoDirExists(t, dir)
	}
}

func TestSustainedRates(t *testing.T) {
	s := &sustained{done: []progress{
		{1 * time.Second, 10e6}, {2 * time.Second, 20e6}, {6 * time.Second, 30e6}, {7 * time.Second, 60e6},
	}}
	require.Equal(t, 10.0, s.rate(0, 20e6))
	require.Equal(t, 5.0, s.rate(0, 30e6))
	require.Equal(t, 30.0, s.rate(30e6, 60e6))
	require.Equal(t, 4*time.Second, s.longestGap())
}

// tiny is an environment in which every workload takes a moment.
func tiny(t *testing.T) *environment {
	return &environment{
		dir: t.TempDir(), repeats: 1, window: 20 * time.Millisecond, warmup: 5 * time.Millisecond,
		load: 256 * kib, sustain: 8 * mib, retain: 2 * mib, records: 1000,
	}
}

// Every workload runs with braid, and measures what its targets and its table
// need.
func TestEveryWorkloadRuns(t *testing.T) {
	e := tiny(t)
	for _, w := range workloads() {
		if strings.HasPrefix(w.id, "K") {
			continue // these start other programs
		}
		t.Run(w.id, func(t *testing.T) {
			for _, entry := range w.entries {
				if entry.name != braidSystem.name && entry.name != "braid, 64 shards" {
					continue
				}
				m, err := e.sample(&entry)
				require.NoError(t, err)
				for _, name := range append([]string{w.main}, w.columns...) {
					if name == writtenTimes { // is not known on every system
						continue
					}
					require.Contains(t, m, name)
				}
			}
		})
	}
}

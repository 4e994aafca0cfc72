package main

import (
	"os"
	"runtime"
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

// Every entry of every workload runs, except servers, which start other programs. Their metrics
// are enough to judge all targets.
func TestEveryWorkloadRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("some of it has to make 10,000 shards")
	}
	e := tiny(t)
	disks := []disk{{}}
	if runtime.GOOS == "linux" { // other systems have no simulated disks
		disks = append(disks, disk{sync: 50 * time.Microsecond})
	}
	for _, w := range workloads(disks) {
		if strings.HasPrefix(w.id, "K") || strings.Contains(w.id, "@") && w.id[:2] != "T1" && w.id[:2] != "T3" {
			continue // on a simulated disk T2 and T6 differ from T1 and T3 in their numbers only
		}
		t.Run(w.id, func(t *testing.T) {
			rounds, err := e.runWorkload(w, func(string, int) {})
			require.NoError(t, err)
			require.Len(t, rounds, 1)
			for _, entry := range w.entries {
				if entry.name == jetstreamSystem.name && diskOf(w.id) != realDisk {
					require.NotContains(t, rounds[0], entry.name)
					continue
				}
				require.Contains(t, rounds[0], entry.name)
				require.Contains(t, rounds[0][entry.name], w.main, entry.name)
			}
			for _, target := range w.targets {
				if target.name == atMost(1.65, "", writtenTimes).name {
					continue // unknown on some systems
				}
				require.True(t, target.judge(rounds).known, target.name)
			}
			for _, column := range w.columns {
				if column != writtenTimes {
					require.NotEmpty(t, w.figures(rounds, w.entries[0].name, column), column)
				}
			}
		})
	}
}

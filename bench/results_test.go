package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestJudging(t *testing.T) {
	rounds := []round{
		{"braid": {recordsPerSecond: 300, p50Micros: 8}, "pebble": {recordsPerSecond: 200}, "bbolt": {recordsPerSecond: 400}},
		{"braid": {recordsPerSecond: 600, p50Micros: 4}, "pebble": {recordsPerSecond: 500}, "bbolt": {recordsPerSecond: 100}},
		{"braid": {recordsPerSecond: 100, p50Micros: 5}, "pebble": {recordsPerSecond: 100}},
		{"pebble": {recordsPerSecond: 100}},
	}
	v := atLeastTimes(1.5, recordsPerSecond, "pebble").judge(rounds)
	require.True(t, v.known)
	require.False(t, v.met)
	require.Equal(t, [3]float64{1.2, 1, 1.5}, [3]float64{v.value, v.low, v.high})
	require.InDelta(t, -0.2, v.margin(), 1e-9)
	require.Equal(t, []part{{"braid", 300}, {"pebble", 200}}, v.parts)

	v = aheadOfPeers(recordsPerSecond).judge(rounds)
	require.Equal(t, 1.0, v.value, "of 0.75, 1.2 and 1")
	require.True(t, v.met)
	require.Equal(t, []part{{"braid", 300}, {"bbolt", 400}, {"pebble", 300}}, v.parts, "each where it was the best")

	v = atMost(4, "braid", p50Micros).judge(rounds)
	require.False(t, v.met)
	require.InDelta(t, -0.25, v.margin(), 1e-9)
	require.Equal(t, "MISSED by 25 %", v.judged(&workload{id: "T1/x"}).outcome())

	v = beyondAtMost(20, "braid", p50Micros, "floor", p50Micros).judge([]round{{"braid": {p50Micros: 90}, "floor": {p50Micros: 80}}})
	require.True(t, v.met)
	require.Equal(t, 10.0, v.value)
	require.InDelta(t, 0.5, v.margin(), 1e-9)

	unknown := atMost(4, "braid", mbPerSecond).judge(rounds)
	require.False(t, unknown.known)
	require.Equal(t, "not measured", unknown.judged(&workload{id: "T1/x"}).outcome())
	require.False(t, atLeastTimes(1, recordsPerSecond, "tidwall/wal").judge(rounds).known)
	require.False(t, aheadOfPeers(recordsPerSecond).judge([]round{{"braid": {recordsPerSecond: 1}}}).known)
}

// someResults has two workloads on two disks, with one missed target.
func someResults(t *testing.T) *results {
	r := &results{
		Machine: machine{CPU: "Fast & <New>", CPUs: 2, OS: "linux", Arch: "amd64", Go: "go1.26", Disk: "ext4"},
		Runs:    []runInfo{{Command: "go run . -targets T1", Date: time.Date(2026, 11, 28, 1, 2, 3, 0, time.UTC), Code: "abc", Disks: []diskInfo{{"real", 80, 90}, {"1ms", 1000, 1010}}}},
	}
	for _, id := range []string{"T1/puts-c16", "T1/puts-c16@1ms"} {
		for repeat := range 2 {
			for system, m := range map[string]metrics{
				"braid":     {recordsPerSecond: 300 + float64(repeat), cpuPerRecord: 5},
				"pebble":    {recordsPerSecond: 100, cpuPerRecord: 4},
				"bbolt":     {recordsPerSecond: 200, cpuPerRecord: 9},
				readyGroups: {recordsPerSecond: 400, cpuPerRecord: 1},
			} {
				r.Samples = append(r.Samples, sampled{Workload: id, System: system, Repeat: repeat, Metrics: m})
			}
		}
	}
	require.NoError(t, r.judge())
	return r
}

func TestResultsAreReadAsTheyWereWritten(t *testing.T) {
	r := someResults(t)
	name := filepath.Join(t.TempDir(), "run.json")
	require.NoError(t, r.write(name))
	read, err := readResults([]string{name})
	require.NoError(t, err)
	require.Equal(t, r, read)

	both, err := readResults([]string{name, name})
	require.NoError(t, err)
	require.Len(t, both.Runs, 2)
	rounds := both.rounds("T1/puts-c16")
	require.Len(t, rounds, 4)
	for i, want := range []float64{300, 301, 300, 301} {
		require.Equal(t, want, rounds[i]["braid"][recordsPerSecond])
		require.Len(t, rounds[i], 4)
	}

	all, err := both.workloads()
	require.NoError(t, err)
	both.keep(all[:1])
	require.Len(t, both.Samples, 4*4)
	require.Empty(t, both.rounds(all[1].id))

	r.Machine.CPUs = 4
	other := filepath.Join(t.TempDir(), "other.json")
	require.NoError(t, r.write(other))
	_, err = readResults([]string{name, other})
	require.ErrorContains(t, err, "another machine")
	_, err = readResults([]string{filepath.Join(t.TempDir(), "missing")})
	require.Error(t, err)
}

// Repeats without a measurement of the workload are omitted.
func TestRoundsAreDense(t *testing.T) {
	r := &results{Samples: []sampled{{Workload: "a", System: "x", Repeat: 2, Metrics: metrics{"m": 1}}, {Workload: "b", System: "x", Metrics: metrics{"m": 2}}}}
	require.Equal(t, []round{{"x": {"m": 1}}}, r.rounds("a"))
	require.Empty(t, r.rounds("c"))
}

func TestSummary(t *testing.T) {
	r := someResults(t)
	met, missed, unknown := count(r.Targets)
	require.Equal(t, [3]int{6, 1, 0}, [3]int{met, missed, unknown})
	sortTargets(r.Targets)
	var ids []string
	for _, j := range r.Targets {
		ids = append(ids, j.Target)
	}
	require.Equal(t, "T1 T1 T1 T1 T1 T1 T12", strings.Join(ids, " "))
	var out strings.Builder
	writeSummary(&out, r.Targets)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Equal(t, "targets: 6 met, 1 missed, 0 not measured", lines[0])
	require.Len(t, lines, 2+7)
	require.Equal(t, "T1 T1/puts-c16 records/s ≥ 1.40 × pebble 3.00 3 to 3.01 met by 115 % braid 300, pebble 100", words(lines[2]))
	require.Equal(t, "T12 T1/puts-c16 CPU us/rec ≤ 1 × pebble 1.25 1.25 to 1.25 MISSED by 25 % braid 5, pebble 4", words(lines[8]))
}

// words returns a line with runs of spaces replaced by one.
func words(line string) string { return strings.Join(strings.Fields(line), " ") }

func TestMarkdown(t *testing.T) {
	r := someResults(t)
	all, err := r.workloads()
	require.NoError(t, err)
	var out strings.Builder
	writeMarkdown(&out, r, all)
	require.Equal(t, strings.Join([]string{
		"2 cores, Fast & <New>, linux/amd64, go1.26, files on ext4.",
		"`go run . -targets T1`, 2026-11-28, at abc.",
		"An append of 1 KiB and its sync take, by disk, real: 80 µs (p99 90); 1ms: 1,000 µs (p99 1,010).",
		"",
		"| | work | disk | braid | raw Pebble | best other | × Pebble | targets |",
		"|---|---|---|---|---|---|---|---|",
		"| T1 | durable single puts of 1 KiB, 16 producers | real | 300 records/s | 100 | bbolt 200 | 3.00 | 3 of 4 met; **missed** CPU us/rec ≤ 1 × pebble: 1.25 |",
		"| T1 | durable single puts of 1 KiB, 16 producers | 1ms | 300 records/s | 100 | bbolt 200 | 3.00 | 3 of 3 met |",
		"",
		"6 targets met, 1 missed, 0 not measured.",
		"",
	}, "\n"), out.String())
}

func TestMarkdownIsInsertedBetweenItsLines(t *testing.T) {
	r := someResults(t)
	all, err := r.workloads()
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "README.md")
	for _, p := range places {
		require.NoError(t, os.WriteFile(name, []byte("above\n"+p.begin()+"old\n"+p.end()+"below\n"), 0o644))
		var table strings.Builder
		p.write(&table, r, all)
		for range 2 {
			require.NoError(t, insertMarkdown(name, r, all))
			data, err := os.ReadFile(name)
			require.NoError(t, err)
			require.Equal(t, "above\n"+p.begin()+table.String()+p.end()+"below\n", string(data))
		}
		require.NoError(t, os.WriteFile(name, []byte(p.end()+p.begin()), 0o644))
		require.ErrorContains(t, insertMarkdown(name, r, all), "has no lines")
	}
}

// The short table has some workloads, on the real disk.
func TestFiguresAreOfWorkloads(t *testing.T) {
	r := someResults(t)
	all, err := r.workloads()
	require.NoError(t, err)
	var out strings.Builder
	writeFigures(&out, r, all)
	require.Contains(t, out.String(), "| durable single puts of 1 KiB, 16 producers | 300 records/s | 100 | bbolt 200 |\n")
	require.Equal(t, 1, strings.Count(out.String(), "16 producers"), "not those of other disks")
	disks, err := r.disks()
	require.NoError(t, err)
	for _, id := range figures {
		require.True(t, slices.ContainsFunc(workloads(disks), func(w *workload) bool { return w.id == id }), id)
	}
}

// A chart is XML, and shows missed targets.
func TestSVGIsWellFormed(t *testing.T) {
	for _, r := range []*results{someResults(t), {}} {
		image := drawSVG(r)
		decoder := xml.NewDecoder(bytes.NewReader(image))
		bars := map[string]int{}
		for {
			token, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			if start, isStart := token.(xml.StartElement); isStart && start.Name.Local == "rect" {
				for _, attr := range start.Attr {
					if attr.Name.Local == "class" {
						bars[attr.Value]++
					}
				}
			}
		}
		met, missed, _ := count(r.Targets)
		require.Equal(t, met, bars["met"])
		require.Equal(t, missed, bars["missed"])
		require.Contains(t, string(image), "prefers-color-scheme: dark")
	}
}

func TestOctaves(t *testing.T) {
	for _, c := range []struct {
		value, limit float64
		met          bool
		want         float64
	}{
		{2, 1, true, 1},        // at least
		{0.5, 1, false, -1},    // at least
		{2, 1, false, -1},      // at most
		{0.5, 1, true, 1},      // at most
		{1, 1, true, 0},        // either
		{100, 1, true, 3},      // to the end of the plot
		{-5, 20, true, 3},      // at most, of a difference
		{0, 2, true, 3},        // at most
		{0, 2, false, -3},      // at least
		{1000, 1, false, -3},   // at most
		{1.4, 1.4, true, 0},    // either
		{0.35, 1.4, false, -2}, // at least
	} {
		got := judged{Value: &c.value, Limit: c.limit, Met: &c.met}.octaves()
		require.InDelta(t, c.want, got, 1e-9, "%+v", c)
		require.False(t, math.IsNaN(got))
	}
}

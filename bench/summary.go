package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// sortTargets sorts verdicts by target, T1 to T12, Q1 to Q5 and K1 to K6. The sort is stable.
func sortTargets(all []judged) {
	slices.SortStableFunc(all, func(a, b judged) int { return targetRank(a.Target) - targetRank(b.Target) })
}

func targetRank(id string) int {
	n, _ := strconv.Atoi(id[1:]) // 0 if it is no number
	switch id[0] {
	case 'Q':
		n += 500
	case 'K':
		n += 1000
	}
	return n
}

// count returns how many targets were met, missed and not measured.
func count(all []judged) (met, missed, unknown int) {
	for _, j := range all {
		switch {
		case j.Met == nil:
			unknown++
		case *j.Met:
			met++
		default:
			missed++
		}
	}
	return met, missed, unknown
}

// outcome describes a verdict and its margin.
func (j judged) outcome() string {
	if j.Met == nil {
		return "not measured"
	}
	share := *j.Margin
	word := "met by "
	if !*j.Met {
		share, word = -share, "MISSED by "
	}
	if share >= 3 {
		return word + number(100*share) + " %" // without digits, which do not matter here
	}
	return word + strconv.FormatFloat(100*share, 'f', 0, 64) + " %"
}

// evidence lists the figures behind a value.
func (j judged) evidence() string {
	var all []string
	for _, p := range j.Parts {
		all = append(all, p.Name+" "+number(p.Value))
	}
	return strings.Join(all, ", ")
}

// valueAndSpread returns the median and the spread of the repeats.
func (j judged) valueAndSpread() (value, between string) {
	if j.Value == nil {
		return "–", "–"
	}
	return number(*j.Value), number(*j.Low) + " to " + number(*j.High)
}

// writeSummary writes a line for each target: its text, the verdict, the margin, and the
// figures behind it.
func writeSummary(out io.Writer, all []judged) {
	met, missed, unknown := count(all)
	fmt.Fprintf(out, "targets: %d met, %d missed, %d not measured\n", met, missed, unknown)
	if len(all) == 0 {
		return
	}
	rows := [][]string{{"", "work", "rule", "value", "repeats", "outcome", "behind it (medians)"}}
	for _, j := range all {
		value, between := j.valueAndSpread()
		rows = append(rows, []string{j.Target, j.Workload, j.Rule, value, between, j.outcome(), j.evidence()})
	}
	writeColumns(out, rows, func(column int) bool { return column == 3 })
}

// writeMarkdown writes the long table: the machine, the commands, and a row for each
// workload.
func writeMarkdown(out io.Writer, r *results, all []*workload) {
	fmt.Fprintf(out, "%s.\n", r.Machine)
	for _, run := range r.Runs {
		fmt.Fprintf(out, "`%s`, %s", run.Command, run.Date.UTC().Format("2006-01-02"))
		if run.Code != "" {
			fmt.Fprintf(out, ", at %s", run.Code)
		}
		fmt.Fprintln(out, ".")
	}
	fmt.Fprintf(out, "%s\n\n", describeDisks(r.Runs))
	fmt.Fprintln(out, "| | work | disk | braid | raw Pebble | best other | × Pebble | targets |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|---|")
	for _, w := range all {
		id, _, _ := strings.Cut(w.id, "/")
		cells := append([]string{id, w.about, diskOf(w.id)}, w.compared(r.rounds(w.id))...)
		cells = append(cells, targetsCell(r.Targets, w.id))
		for i := range cells {
			cells[i] = strings.ReplaceAll(cells[i], "|", "\\|")
		}
		fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | "))
	}
	met, missed, unknown := count(r.Targets)
	fmt.Fprintf(out, "\n%d targets met, %d missed, %d not measured.\n", met, missed, unknown)
}

// figures are the workloads of the short table.
var figures = []string{
	"T3/puts-c1", "T1/puts-c16", "T1/puts-c256", "T2/batches-100B-c16-s64", "T4/nosync-c1", "T5/grow",
	"T7/replay-1024B", "T8/paced-1-reader", "T8/full-speed", "T9/open", "T11/backlog-100B", "Q1/receive-ack-c16",
}

// writeFigures writes a short table: some workloads on the real disk, and braid against the
// best of the others, whether its targets are met or not.
func writeFigures(out io.Writer, r *results, all []*workload) {
	fmt.Fprintln(out, "| | braid | raw Pebble | best other |")
	fmt.Fprintln(out, "|---|---|---|---|")
	for _, w := range all {
		if !slices.Contains(figures, w.id) {
			continue
		}
		cells := w.compared(r.rounds(w.id))
		fmt.Fprintf(out, "| %s |\n", strings.Join(append([]string{w.about}, cells[:3]...), " | "))
	}
	met, missed, _ := count(r.Targets)
	fmt.Fprintf(out, "\n%s. Of braid's own targets %d are met, %d missed.\n", r.Machine, met, missed)
}

// A place is the part of a file for a table, between two marker lines.
type place struct {
	name  string
	write func(io.Writer, *results, []*workload)
}

func (p place) begin() string { return "<!-- " + p.name + ": begin -->\n" }
func (p place) end() string   { return "<!-- " + p.name + ": end -->\n" }

var places = []place{{"bench", writeMarkdown}, {"bench figures", writeFigures}}

// insertMarkdown writes the tables that have a place in a file.
func insertMarkdown(name string, r *results, all []*workload) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	inserted := false
	for _, p := range places {
		before, rest, found := bytes.Cut(data, []byte(p.begin()))
		_, after, alsoFound := bytes.Cut(rest, []byte(p.end()))
		if !found || !alsoFound {
			continue
		}
		var text bytes.Buffer
		fmt.Fprintf(&text, "%s%s", before, p.begin())
		p.write(&text, r, all)
		fmt.Fprintf(&text, "%s%s", p.end(), after)
		data, inserted = text.Bytes(), true
	}
	if !inserted {
		return fmt.Errorf("%s has no lines %sand %s", name, places[0].begin(), places[0].end())
	}
	return os.WriteFile(name, data, 0o644)
}

// describeDisks describes the duration of syncs on each disk.
func describeDisks(runs []runInfo) string {
	var names []string
	for _, run := range runs {
		for _, d := range run.Disks {
			text := fmt.Sprintf("%s: %s µs (p99 %s)", d.Disk, number(d.P50), number(d.P99))
			if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, d.Disk+":") }) {
				names = append(names, text)
			}
		}
	}
	return "An append of 1 KiB and its sync take, by disk, " + strings.Join(names, "; ") + "."
}

// compared returns the cells of a row: braid, raw Pebble, the best other system, and braid's
// ratio to Pebble. A workload that compares braid with itself has all its entries in the first
// cell.
func (w *workload) compared(rounds []round) []string {
	middle := func(entry string) (float64, bool) {
		values := w.figures(rounds, entry, w.main)
		if len(values) == 0 {
			return 0, false
		}
		return median(values), true
	}
	v, ok := middle(braidSystem.name)
	if !ok {
		var all []string
		for _, e := range w.entries {
			if v, ok := middle(e.name); ok && !strings.HasPrefix(e.name, pebbleSystem.name) {
				all = append(all, strings.TrimPrefix(e.name, braidSystem.name+", ")+": "+number(v))
			}
		}
		return []string{strings.Join(all, "; ") + " " + w.main, "–", "–", "–"}
	}
	cells := []string{number(v) + " " + w.main, "–", "–", w.ratio(rounds, braidSystem.name, pebbleSystem.name)}
	if raw, ok := middle(pebbleSystem.name); ok {
		cells[1] = number(raw)
	}
	best, name := 0.0, ""
	for _, e := range w.entries {
		other := !strings.HasPrefix(e.name, braidSystem.name) && !strings.HasPrefix(e.name, "floor") && e.name != pebbleSystem.name
		if v, ok := middle(e.name); ok && other && (name == "" || w.isBetter(v, best)) {
			best, name = v, e.name
		}
	}
	if name != "" {
		cells[2] = name + " " + number(best)
	}
	return cells
}

// isBetter reports whether a main metric of a is better than one of b. Rates are better
// when they are greater, all others when they are less.
func (w *workload) isBetter(a, b float64) bool {
	if strings.HasSuffix(w.main, "/s") {
		return a > b
	}
	return a < b
}

// targetsCell names the missed targets of a workload.
func targetsCell(all []judged, workload string) string {
	var own []judged
	var missed []string
	for _, j := range all {
		if j.Workload != workload {
			continue
		}
		own = append(own, j)
		if j.Met != nil && !*j.Met {
			missed = append(missed, fmt.Sprintf("**missed** %s: %s", j.Rule, number(*j.Value)))
		}
	}
	met, _, unknown := count(own)
	cell := fmt.Sprintf("%d of %d met", met, len(own))
	if len(own) == 0 {
		cell = "–"
	}
	if unknown > 0 {
		cell += fmt.Sprintf(", %d not measured", unknown)
	}
	return strings.Join(append([]string{cell}, missed...), "; ")
}

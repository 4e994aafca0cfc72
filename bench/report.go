package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// writeReport writes the workload's table and verdicts.
func writeReport(out io.Writer, w *workload, rounds []round) {
	about := w.about
	if name := diskOf(w.id); name != realDisk {
		about += ", in memory with syncs of " + name
	}
	fmt.Fprintf(out, "%s: %s\n", w.id, about)
	writeTable(out, w.table(rounds))
	for _, note := range w.notes {
		fmt.Fprintf(out, "  %s\n", note)
	}
	for _, e := range w.entries {
		if e.slow && len(rounds) > 1 {
			fmt.Fprintf(out, "  %s is so slow that it is measured once\n", e.name)
		}
	}
	for _, t := range w.targets {
		j := t.judge(rounds).judged(w)
		value, _ := j.valueAndSpread()
		fmt.Fprintf(out, "  %s, %s: %s, %s\n", j.Target, j.Rule, value, j.outcome())
	}
	fmt.Fprintln(out)
}

// table returns the rows of the workload's table, titles first: medians of the rounds, and the
// ratio of the main metric to that of the base.
func (w *workload) table(rounds []round) [][]string {
	base := w.base
	if base == "" {
		base = pebbleSystem.name
	}
	titles := append([]string{"", w.main, "±", "x " + base}, w.columns...)
	rows := [][]string{titles}
	for _, e := range w.entries {
		main := w.figures(rounds, e.name, w.main)
		if len(main) == 0 {
			continue
		}
		row := []string{e.name, number(median(main)), fmt.Sprintf("%.0f%%", 100*spread(main)/2), w.ratio(rounds, e.name, base)}
		for _, column := range w.columns {
			text := "–"
			if values := w.figures(rounds, e.name, column); len(values) > 0 {
				text = number(median(values))
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	return rows
}

func (w *workload) figures(rounds []round, entry, metric string) []float64 {
	var values []float64
	for _, r := range rounds {
		if v, ok := r.figure(entry, metric); ok {
			values = append(values, v)
		}
	}
	return values
}

// ratio returns the median of the rounds' ratios: in each round the systems ran one right after
// the other, so that most disturbances hit both.
func (w *workload) ratio(rounds []round, entry, base string) string {
	var ratios []float64
	for _, r := range rounds {
		if v, ok := r.ratio(entry, w.main, base, w.main); ok {
			ratios = append(ratios, v)
		}
	}
	if len(ratios) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", median(ratios))
}

// number writes three significant digits, and separates thousands.
func number(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	if a := math.Abs(v); a < 1000 {
		decimals := 0
		switch {
		case a == math.Trunc(a):
		case a < 10:
			decimals = 2
		case a < 100:
			decimals = 1
		}
		return strconv.FormatFloat(v, 'f', decimals, 64)
	}
	digits := strconv.FormatFloat(math.Abs(v), 'f', 0, 64)
	var groups []string
	for len(digits) > 3 {
		groups = append(groups, digits[len(digits)-3:])
		digits = digits[:len(digits)-3]
	}
	groups = append(groups, digits)
	slices.Reverse(groups)
	text := strings.Join(groups, ",")
	if v < 0 {
		text = "-" + text
	}
	return text
}

// writeTable writes rows in columns: the first aligned left, the others right.
func writeTable(out io.Writer, rows [][]string) {
	writeColumns(out, rows, func(column int) bool { return column > 0 })
}

// writeColumns writes rows in columns, some of them aligned right.
func writeColumns(out io.Writer, rows [][]string, right func(column int) bool) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if right(i) {
				line.WriteString("  " + padding + cell)
			} else {
				line.WriteString("  " + cell + padding)
			}
		}
		fmt.Fprintln(out, strings.TrimRight(line.String(), " "))
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/braidstream/braid"
)

// count formats a number of things.
func count(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return number(n) + " " + thing
}

// number formats an integer with commas.
func number(n int64) string {
	text := strconv.FormatInt(n, 10)
	digits, sign := text, ""
	if n < 0 {
		digits, sign = text[1:], "-"
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// size formats a number of bytes in the largest unit of which there is at least one.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return count(n, "byte")
	}
	value, unit := float64(n)/1024, 0
	for value >= 1023.95 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	return strings.TrimSuffix(strconv.FormatFloat(value, 'f', 1, 64), ".0") + " " + units[unit:unit+1] + "iB"
}

// duration formats a time span to about three digits, without zeros at its end, such as
// "7d", "24h" and "1m30s".
func duration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day {
		d = d.Round(time.Hour)
		text := strconv.FormatInt(int64(d/day), 10) + "d"
		if hours := d % day / time.Hour; hours > 0 {
			text += strconv.FormatInt(int64(hours), 10) + "h"
		}
		return text
	}
	switch {
	case d >= time.Minute:
		d = d.Round(time.Second)
	case d >= time.Second:
		d = d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		d = d.Round(10 * time.Microsecond)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// retention formats how long records are kept.
func retention(d time.Duration) string {
	if d < 0 {
		return "unlimited"
	}
	return duration(d)
}

// moment formats a time to the second.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// moments formats a time to the millisecond, as for records.
func moments(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// short returns the index of a shard, by which people name it.
func short(id braid.ShardID) string {
	if i := id.Index(); i >= 0 {
		return strconv.Itoa(i)
	}
	return string(id)
}

func shorts(ids []braid.ShardID) string {
	var texts []string
	for _, id := range ids {
		texts = append(texts, short(id))
	}
	return strings.Join(texts, ", ")
}

// printable returns text for one line of a terminal: control characters and invalid text
// are escaped as in Go.
func printable(text string) string {
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return text
	}
	quoted := strconv.Quote(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// table is rows of text in columns. Columns of numbers are aligned to the right.
type table struct {
	rows  [][]string
	right map[int]bool // columns aligned to the right
}

// newTable makes a table with a heading. A name that begins with '>' marks a column of
// numbers.
func newTable(names ...string) *table {
	t := &table{right: make(map[int]bool)}
	for i, name := range names {
		if rest, ok := strings.CutPrefix(name, ">"); ok {
			names[i], t.right[i] = rest, true
		}
	}
	t.rows = append(t.rows, names)
	return t
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// write writes the table, or ifEmpty if it has no rows.
func (t *table) write(w io.Writer, ifEmpty string) {
	if len(t.rows) == 1 && ifEmpty != "" {
		fmt.Fprintln(w, ifEmpty)
		return
	}
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				line.WriteString("  ")
			}
			if t.right[i] {
				line.WriteString(pad + cell)
			} else {
				line.WriteString(cell + pad)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// writeJSON writes a value for people and scripts.
func writeJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// writeLine writes a value as one line of JSON.
func writeLine(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// cutSuffixFold is strings.CutSuffix that ignores case.
func cutSuffixFold(text, suffix string) (before string, found bool) {
	at := len(text) - len(suffix)
	if at < 0 || !strings.EqualFold(text[at:], suffix) {
		return text, false
	}
	return strings.TrimSpace(text[:at]), true
}

package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// progress is a progress bar on a terminal, for work whose amount is roughly known. If
// standard error is not a terminal it shows nothing. It is used by one goroutine.
type progress struct {
	w     io.Writer // nil to show nothing
	width func() int
	what  string
	unit  func(int64) string

	began time.Time
	first int64 // done earlier, by the run that this one continues
	shown time.Time
	drawn int // number of columns that are written
}

// between is the pause between two drawings.
const between = 100 * time.Millisecond

// newProgress begins a bar; first is how much of the work was done earlier.
func (p *program) newProgress(what string, first int64, unit func(int64) string) *progress {
	bar := &progress{width: p.width, what: what, unit: unit, first: first, began: time.Now()}
	if p.bars {
		bar.w = p.stderr
	}
	return bar
}

// set shows how much of the total is done.
func (b *progress) set(done, total int64) {
	if b.w == nil {
		return
	}
	now := time.Now()
	if now.Sub(b.shown) < between {
		return
	}
	b.shown = now
	b.draw(b.text(done, max(done, total), now.Sub(b.began)))
}

// clear removes the bar, so that other output starts on an empty line.
func (b *progress) clear() {
	if b.w != nil && b.drawn > 0 {
		b.draw("")
		fmt.Fprint(b.w, "\r")
	}
}

// draw replaces the bar.
func (b *progress) draw(text string) {
	columns := utf8.RuneCountInString(text)
	fmt.Fprintf(b.w, "\r%s%s", text, strings.Repeat(" ", max(0, b.drawn-columns)))
	b.drawn = columns
}

// text returns the bar, cut to the width of the terminal.
func (b *progress) text(done, total int64, took time.Duration) string {
	part := 1.0
	if total > 0 {
		part = float64(done) / float64(total)
	}
	const columns = 24
	full := int(part * columns)
	text := fmt.Sprintf("%s  %s%s %3d %%  %s of %s", b.what,
		strings.Repeat("█", full), strings.Repeat("░", columns-full), int(part*100), b.unit(done), b.unit(total))
	if rate := float64(done-b.first) / took.Seconds(); took >= time.Second && rate > 0 {
		left := time.Duration(float64(total-done) / rate * float64(time.Second))
		text += fmt.Sprintf(", %s/s, %s left", b.unit(int64(rate)), left.Round(time.Second))
	}
	if most := b.width() - 1; utf8.RuneCountInString(text) > most {
		text = string([]rune(text)[:max(0, most)])
	}
	return text
}

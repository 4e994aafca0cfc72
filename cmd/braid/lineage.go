package main

import (
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/braidstream/braid"
)

// drawLineage draws the shards of a stream as a graph: each shard is a dot, with lines to
// its children below. Shards are in the order of their hash keys, and no shard comes
// before its parents.
func drawLineage(w io.Writer, shards []braid.ShardDescription, label func(braid.ShardDescription) []string) {
	g := &graph{known: make(map[braid.ShardID]braid.ShardDescription, len(shards))}
	for _, sd := range shards {
		g.known[sd.ID] = sd
	}
	labels := &table{right: map[int]bool{}}
	for _, sd := range byLineage(shards) {
		g.add(sd)
		labels.rows = append(labels.rows, label(sd))
	}
	width := 0
	for _, line := range g.lines {
		width = max(width, utf8.RuneCountInString(line.text))
	}
	var text strings.Builder
	labels.write(&text, "")
	rest := text.String()
	for _, line := range g.lines {
		row := line.text
		if line.isShard {
			var label string
			label, rest, _ = strings.Cut(rest, "\n")
			row += strings.Repeat(" ", width-utf8.RuneCountInString(row)+2) + label
		}
		fmt.Fprintln(w, row)
	}
}

// byLineage orders shards by hash key, but each after its parents: a shard is followed by
// its lower child and all descendants of that, and then by its upper child. So few lines
// of the graph are open at once, regardless of the number of shards.
func byLineage(shards []braid.ShardDescription) (ordered []braid.ShardDescription) {
	known := make(map[braid.ShardID]braid.ShardDescription, len(shards))
	for _, sd := range shards {
		known[sd.ID] = sd
	}
	seen := make(map[braid.ShardID]bool, len(shards))
	ready := func(sd braid.ShardDescription) bool {
		return !slices.ContainsFunc(sd.Parents, func(id braid.ShardID) bool {
			_, exists := known[id]
			return exists && !seen[id]
		})
	}
	byStart := func(a, b braid.ShardDescription) int { return a.HashKeyRange.Start.Compare(b.HashKeyRange.Start) }
	var todo []braid.ShardDescription // a stack; the next shard is on top
	for _, sd := range shards {
		if ready(sd) { // its parents have expired, or it never had any
			todo = append(todo, sd)
		}
	}
	slices.SortStableFunc(todo, byStart)
	slices.Reverse(todo)
	for len(todo) > 0 {
		sd := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		seen[sd.ID] = true
		ordered = append(ordered, sd)
		var next []braid.ShardDescription
		for _, id := range sd.Children {
			if child, ok := known[id]; ok && ready(child) {
				next = append(next, child)
			}
		}
		slices.SortStableFunc(next, byStart)
		slices.Reverse(next)
		todo = append(todo, next...)
	}
	return ordered
}

// graph is the drawing. Its columns are lines that lead to a shard further down.
type graph struct {
	known map[braid.ShardID]braid.ShardDescription // all shards
	lanes []braid.ShardID                          // the shard to which each column leads; empty if the column is free
	lines []graphLine
}

type graphLine struct {
	text    string
	isShard bool
}

// add draws a shard below the others.
func (g *graph) add(sd braid.ShardDescription) {
	at := slices.Index(g.lanes, sd.ID)
	if at < 0 {
		at = g.free(0)
	} else if last := lastIndex(g.lanes, sd.ID); last > at {
		g.join(at, last, sd.ID)
	}
	g.lanes[at] = sd.ID
	dot := '●'
	if sd.Closed {
		dot = '○'
	}
	g.line(true, func(i int) rune {
		if i == at {
			return dot
		}
		return g.rest(i)
	}, nil)

	children := slices.DeleteFunc(slices.Clone(sd.Children), func(id braid.ShardID) bool {
		_, exists := g.known[id]
		return !exists
	})
	slices.SortFunc(children, func(a, b braid.ShardID) int { // the lower one first
		return g.known[a].HashKeyRange.Start.Compare(g.known[b].HashKeyRange.Start)
	})
	g.lanes[at] = ""
	if len(children) > 0 {
		g.lanes[at] = children[0]
	}
	for _, child := range children[min(1, len(children)):] {
		to := g.free(at + 1)
		g.fork(at, to)
		g.lanes[to] = child
	}
}

// free returns a free column, at or right of the given one.
func (g *graph) free(from int) int {
	for i := from; i < len(g.lanes); i++ {
		if g.lanes[i] == "" {
			return i
		}
	}
	g.lanes = append(g.lanes, "")
	return len(g.lanes) - 1
}

// join draws how the columns of a shard's parents meet.
func (g *graph) join(at, last int, id braid.ShardID) {
	lanes := slices.Clone(g.lanes)
	g.line(false, func(i int) rune {
		switch {
		case i == at:
			return '├'
		case i == last:
			return '┘'
		case i > at && i < last && lanes[i] == id:
			return '┴'
		case i > at && i < last && lanes[i] != "":
			return '┼'
		case i > at && i < last:
			return '─'
		}
		return g.rest(i)
	}, func(i int) bool { return i >= at && i < last })
	for i := at + 1; i <= last; i++ {
		if g.lanes[i] == id {
			g.lanes[i] = ""
		}
	}
}

// fork draws a line from one column to a free one.
func (g *graph) fork(at, to int) {
	g.line(false, func(i int) rune {
		switch {
		case i == at:
			return '├'
		case i == to:
			return '┐'
		case i > at && i < to && g.lanes[i] != "":
			return '┼'
		case i > at && i < to:
			return '─'
		}
		return g.rest(i)
	}, func(i int) bool { return i >= at && i < to })
}

// rest returns what a column shows that is not part of the current line.
func (g *graph) rest(i int) rune {
	if g.lanes[i] == "" {
		return ' '
	}
	return '│'
}

// line adds a line. show returns what each column shows, and stroke reports whether a
// stroke connects it to the next.
func (g *graph) line(isShard bool, show func(i int) rune, stroke func(i int) bool) {
	var text strings.Builder
	for i := range g.lanes {
		text.WriteRune(show(i))
		if stroke != nil && stroke(i) {
			text.WriteRune('─')
		} else {
			text.WriteByte(' ')
		}
	}
	g.lines = append(g.lines, graphLine{strings.TrimRight(text.String(), " "), isShard})
}

func lastIndex(lanes []braid.ShardID, id braid.ShardID) int {
	for i := len(lanes) - 1; i >= 0; i-- {
		if lanes[i] == id {
			return i
		}
	}
	return -1
}

// percents formats a range of hash keys as percentages of all hash keys.
func percents(r braid.HashKeyRange) string {
	return percent(r.Start, 0) + " – " + percent(r.End, 1) + " %"
}

// percent formats how much of the hash keys lies below a key plus more.
func percent(key braid.HashKey, more int64) string {
	n, _ := new(big.Int).SetString(key.String(), 10)
	n.Add(n, big.NewInt(more))
	part := new(big.Rat).SetFrac(n.Mul(n, big.NewInt(100)), new(big.Int).Lsh(big.NewInt(1), 128))
	text := part.FloatString(2)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

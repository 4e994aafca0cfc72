// Package ondemand decides how many shards a stream should have, and where it
// should be split: a pure function of what was observed. It knows neither clocks
// nor streams, so that every rule is a row in a table of tests.
//
// The rules follow those that Kinesis publishes for its on-demand mode, and fill
// in what it does not.
package ondemand

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/braidstream/braid/internal/uint128"
)

const (
	// Parts is into how many parts of its range a shard's load is counted.
	Parts = 64

	// A shard is hot when it uses more than hotQuarter of its budget on average
	// over a quarter of an hour, or more than hotMinute over a minute.
	hotQuarter, hotMinute = 0.5, 0.8

	// Two neighbours are cold when together they have used less than this of one
	// budget for the whole of the quiet time. What they are merged into is then
	// far from hot, so that it is not split again at once.
	cold = 0.25

	// A split helps if no more than this of the load stays on one side.
	mostOfLoad = 0.9

	// headroom is for how much of its recent peak a stream has room.
	headroom = 2
)

// Load is what is put in a second.
type Load struct{ Records, Bytes float64 }

// Max returns the larger of each.
func (l Load) Max(other Load) Load {
	return Load{max(l.Records, other.Records), max(l.Bytes, other.Bytes)}
}

func (l Load) add(other Load) Load { return Load{l.Records + other.Records, l.Bytes + other.Bytes} }

// of returns which part of a budget the load is.
func (l Load) of(budget Load) float64 { return max(l.Records/budget.Records, l.Bytes/budget.Bytes) }

// Shard is what was observed of an open shard. A load that was not observed for
// long enough yet is left out.
type Shard struct {
	Index      uint32
	Start, End uint128.Uint128 // its range, both ends inclusive

	Minute  *Load          // the average of the last minute
	Quarter *Load          // of the last quarter of an hour
	Quiet   *Load          // the highest average of a minute in the quiet time
	Parts   [Parts]float64 // how the load of the last minutes divides over the range
}

// Stream is what was observed of a stream, and what it may have.
type Stream struct {
	Budget   Load // of one shard
	Peak     Load // of all shards, recently
	Min, Max int  // open shards
	Shards   []Shard
}

// Step is one decision.
type Step struct {
	Kind   Kind
	Shard  uint32
	Other  uint32          // to be merged with
	At     uint128.Uint128 // where to be split: the first hash key of the upper one
	Reason string
}

// Kind says what to do.
type Kind int

// The kinds of steps.
const (
	Split Kind = iota
	Merge
	Stay // what would be split cannot be
)

// Plan returns what to do. No shard is in two steps.
func Plan(s Stream) []Step {
	shards := slices.Clone(s.Shards)
	slices.SortFunc(shards, func(a, b Shard) int { return a.Start.Compare(b.Start) })
	steps, count := s.splits(shards)
	if count > len(shards) {
		return steps // what is to be merged can wait until it is quiet
	}
	return append(steps, s.merges(shards, count)...)
}

// Needed returns how many shards the stream needs for its recent peak.
func (s Stream) Needed() int {
	n := math.Ceil(headroom * s.Peak.of(s.Budget))
	return min(max(s.Min, int(min(n, float64(s.Max)))), s.Max)
}

// splits returns the splits of hot shards, and of the busiest ones if the stream
// needs more, and how many shards there are then.
func (s Stream) splits(shards []Shard) (steps []Step, count int) {
	count = len(shards)
	byLoad := slices.Clone(shards)
	slices.SortStableFunc(byLoad, func(a, b Shard) int { return cmp.Compare(b.use(s.Budget), a.use(s.Budget)) })
	for _, sh := range byLoad {
		reason := sh.hot(s.Budget)
		if reason == "" {
			if count >= s.Needed() || sh.use(s.Budget) == 0 {
				continue
			}
			reason = fmt.Sprintf("%d shards are needed for twice the recent peak of %s", s.Needed(), s.Peak)
		}
		step := sh.split(reason)
		if step.Kind == Split && count >= s.Max {
			step = Step{Kind: Stay, Shard: sh.Index, Reason: fmt.Sprintf("%s, and there are %d shards, which is the most", reason, s.Max)}
		}
		if step.Kind == Split {
			count++
		}
		steps = append(steps, step)
	}
	return steps, count
}

func (sh *Shard) use(budget Load) float64 {
	if sh.Minute == nil {
		return 0
	}
	return sh.Minute.of(budget)
}

// hot says why the shard is hot, if it is.
func (sh *Shard) hot(budget Load) string {
	switch {
	case sh.Minute != nil && sh.Minute.of(budget) > hotMinute:
		return fmt.Sprintf("it used %.0f %% of its budget over a minute: %s", 100*sh.Minute.of(budget), *sh.Minute)
	case sh.Quarter != nil && sh.Quarter.of(budget) > hotQuarter:
		return fmt.Sprintf("it used %.0f %% of its budget over 15 minutes: %s", 100*sh.Quarter.of(budget), *sh.Quarter)
	}
	return ""
}

// split returns the split that halves the shard's load, as nearly as its parts
// allow.
func (sh *Shard) split(reason string) Step {
	total := 0.0
	for _, n := range sh.Parts {
		total += n
	}
	best, most, sum := 0, math.Inf(1), 0.0
	for i, n := range sh.Parts[:Parts-1] {
		sum += n
		larger := max(sum, total-sum)
		if larger < most || larger == most && distance(i+1) < distance(best) {
			best, most = i+1, larger
		}
	}
	at, ok := sh.border(best)
	if !ok || most > mostOfLoad*total {
		return Step{Kind: Stay, Shard: sh.Index, Reason: reason + "; but so much of it falls to so few hash keys that a split would not help"}
	}
	return Step{Kind: Split, Shard: sh.Index, At: at, Reason: reason}
}

// distance is how far the border below the i-th part lies from the middle.
func distance(i int) int { return max(i-Parts/2, Parts/2-i) }

// border returns the first hash key of the i-th part of the range, if the range
// can be divided there.
func (sh *Shard) border(i int) (uint128.Uint128, bool) {
	at, end := sh.Start, sh.End
	for bit := Parts / 2; bit > 0; bit /= 2 {
		if middle := uint128.Midpoint(at, end); i&bit != 0 {
			at = middle.AddOne()
		} else {
			end = middle
		}
	}
	return at, sh.Start.AddOne().Less(at) && at.Less(sh.End)
}

// Part returns in which part of a range a hash key lies, of those that come from
// halving the range over and over.
func Part(start, end, hash uint128.Uint128) (i int) {
	for bit := Parts / 2; bit > 0; bit /= 2 {
		if middle := uint128.Midpoint(start, end); middle.Less(hash) {
			start = middle.AddOne()
			i |= bit
		} else {
			end = middle
		}
	}
	return i
}

// merges returns the merges of neighbours that were cold for long enough, the
// coldest first, as far as the stream can do without.
func (s Stream) merges(shards []Shard, count int) (steps []Step) {
	type pair struct {
		i    int
		load Load
	}
	var pairs []pair
	for i := range max(0, len(shards)-1) {
		a, b := shards[i], shards[i+1]
		if a.Quiet != nil && b.Quiet != nil && a.Quiet.add(*b.Quiet).of(s.Budget) < cold {
			pairs = append(pairs, pair{i, a.Quiet.add(*b.Quiet)})
		}
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(a.load.of(s.Budget), b.load.of(s.Budget)) })
	taken := make(map[int]bool)
	for _, p := range pairs {
		if count <= s.Needed() {
			break
		}
		if taken[p.i] || taken[p.i+1] {
			continue
		}
		taken[p.i], taken[p.i+1] = true, true
		count--
		steps = append(steps, Step{
			Kind: Merge, Shard: shards[p.i].Index, Other: shards[p.i+1].Index,
			Reason: fmt.Sprintf("both together used no more than %.0f %% of one budget for hours: %s", math.Ceil(100*p.load.of(s.Budget)), p.load),
		})
	}
	return steps
}

// String returns the load in words.
func (l Load) String() string {
	return fmt.Sprintf("%.0f records/s and %.0f bytes/s", l.Records, l.Bytes)
}

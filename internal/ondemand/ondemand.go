// Package ondemand decides how many shards a stream should have, and where it should be split:
// a pure function of the observed load. It knows neither clocks nor streams, so that every rule
// is a row in a table of tests.
//
// The rules follow those that Kinesis publishes for its on-demand mode, and add the missing
// ones.
package ondemand

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/braidstream/braid/internal/uint128"
)

const (
	// Parts is the number of parts of a shard's range whose loads are counted separately.
	Parts = 64

	// A shard is hot when it uses more than hotQuarter of its budget on average
	// over a quarter of an hour, or more than hotMinute over a minute.
	hotQuarter, hotMinute = 0.5, 0.8

	// Two adjacent shards are cold when together they have used less than this part of one
	// budget for the whole quiet time. So the merged shard is far from hot, and is not split
	// again at once.
	cold = 0.25

	// A split helps if no more than this of the load stays on one side.
	mostOfLoad = 0.9

	// headroom is the capacity of a stream as a multiple of its recent peak.
	headroom = 2
)

// Load is the records and bytes put per second.
type Load struct{ Records, Bytes float64 }

// Max returns the larger value of each field.
func (l Load) Max(other Load) Load {
	return Load{max(l.Records, other.Records), max(l.Bytes, other.Bytes)}
}

func (l Load) add(other Load) Load { return Load{l.Records + other.Records, l.Bytes + other.Bytes} }

// of returns the load as a part of the budget.
func (l Load) of(budget Load) float64 { return max(l.Records/budget.Records, l.Bytes/budget.Bytes) }

// Shard describes an open shard. A load is nil until it was observed for long enough.
type Shard struct {
	Index      uint32
	Start, End uint128.Uint128 // its range, both ends inclusive

	Minute  *Load          // the average of the last minute
	Quarter *Load          // of the last quarter of an hour
	Quiet   *Load          // the highest average of a minute in the quiet time
	Parts   [Parts]float64 // the distribution of the load of the last minutes over the range
}

// Stream describes a stream and its limits.
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
	Other  uint32          // the shard to merge with
	At     uint128.Uint128 // where to split: the first hash key of the upper child
	Reason string
}

// Kind is the kind of a step.
type Kind int

// The kinds of steps.
const (
	Split Kind = iota
	Merge
	Stay // the shard should be split, but cannot be
)

// Plan returns the steps to take. No shard is in two of them.
func Plan(s Stream) []Step {
	shards := slices.Clone(s.Shards)
	slices.SortFunc(shards, func(a, b Shard) int { return a.Start.Compare(b.Start) })
	steps, count := s.splits(shards)
	if count > len(shards) {
		return steps // merges can wait until no shard is hot
	}
	return append(steps, s.merges(shards, count)...)
}

// Needed returns the number of shards that the stream needs for its recent peak.
func (s Stream) Needed() int {
	n := math.Ceil(headroom * s.Peak.of(s.Budget))
	return min(max(s.Min, int(min(n, float64(s.Max)))), s.Max)
}

// splits returns the splits of hot shards, and of the busiest ones if the stream needs more
// shards, and the number of shards afterwards.
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

// hot returns why the shard is hot, "" if it is not.
func (sh *Shard) hot(budget Load) string {
	switch {
	case sh.Minute != nil && sh.Minute.of(budget) > hotMinute:
		return fmt.Sprintf("it used %.0f %% of its budget over a minute: %s", 100*sh.Minute.of(budget), *sh.Minute)
	case sh.Quarter != nil && sh.Quarter.of(budget) > hotQuarter:
		return fmt.Sprintf("it used %.0f %% of its budget over 15 minutes: %s", 100*sh.Quarter.of(budget), *sh.Quarter)
	}
	return ""
}

// split returns the split that halves the shard's load as evenly as its parts allow.
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

// distance returns how far the border below the i-th part is from the middle.
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

// Part returns the index of the part of a range that has the hash key. The parts come from
// halving the range repeatedly.
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

// merges returns the merges of adjacent shards that were cold for long enough, the coldest
// first, down to the number of shards that the stream needs.
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

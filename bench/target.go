package main

import (
	"fmt"
	"math"
	"slices"
)

// target is a target for braid. Its value is computed for each round, in which the systems ran
// one right after the other; the median of the rounds is judged.
type target struct {
	id      string // such as "T12"; empty for that of its workload
	name    string
	limit   float64
	atLeast bool // else at most
	value   func(r round) (reading, bool)
}

// reading is the value of a target in a round, and the figures that it comes from.
type reading struct {
	value float64
	parts []part
}

// part is a figure behind the value of a target.
type part struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// verdict is the result for a target.
type verdict struct {
	target
	value     float64 // the median of the rounds'
	low, high float64 // the least and the greatest of the rounds'
	parts     []part  // medians
	known     bool    // false if a figure is unavailable on this machine or in this run
	met       bool
}

func (t target) judge(rounds []round) verdict {
	var values []float64
	parts := make(map[string][]float64)
	var names []string // of parts, in the order of their first use
	for _, r := range rounds {
		read, ok := t.value(r)
		if !ok || math.IsNaN(read.value) {
			continue
		}
		values = append(values, read.value)
		for _, p := range read.parts {
			if parts[p.Name] == nil {
				names = append(names, p.Name)
			}
			parts[p.Name] = append(parts[p.Name], p.Value)
		}
	}
	if len(values) == 0 {
		return verdict{target: t}
	}
	v := verdict{target: t, value: median(values), low: slices.Min(values), high: slices.Max(values), known: true}
	for _, name := range names {
		v.parts = append(v.parts, part{name, median(parts[name])})
	}
	v.met = v.value <= t.limit
	if t.atLeast {
		v.met = v.value >= t.limit
	}
	return v
}

// margin returns how much better than its limit the value is, as a share of the limit; negative
// if it is worse.
func (v verdict) margin() float64 {
	m := (v.limit - v.value) / math.Abs(v.limit)
	if v.atLeast {
		m = -m
	}
	return m
}

// figure returns an entry's metric, if the round has it.
func (r round) figure(entry, metric string) (float64, bool) {
	v, ok := r[entry][metric]
	return v, ok
}

// ratio returns the ratio of an entry's metric to another's.
func (r round) ratio(entry, metric, other, otherMetric string) (float64, bool) {
	a, ok := r.figure(entry, metric)
	b, alsoOK := r.figure(other, otherMetric)
	return a / b, ok && alsoOK && b != 0
}

// ratioTo returns the value of a target that compares a metric of two entries.
func ratioTo(metric, entry, other string) func(r round) (reading, bool) {
	return func(r round) (reading, bool) {
		v, ok := r.ratio(entry, metric, other, metric)
		return reading{v, []part{{entry, r[entry][metric]}, {other, r[other][metric]}}}, ok
	}
}

// atLeastTimes requires that braid's metric is at least a multiple of another entry's.
func atLeastTimes(limit float64, metric, other string) target {
	return target{
		name:  fmt.Sprintf("%s ≥ %s × %s", metric, number(limit), other),
		limit: limit, atLeast: true,
		value: ratioTo(metric, braidSystem.name, other),
	}
}

// atMostTimes requires that braid's metric is at most a multiple of another entry's.
func atMostTimes(limit float64, metric, other string) target {
	return target{
		name:  fmt.Sprintf("%s ≤ %s × %s", metric, number(limit), other),
		limit: limit,
		value: ratioTo(metric, braidSystem.name, other),
	}
}

// aheadOfPeers requires that braid's metric is at least that of the best other system.
func aheadOfPeers(metric string) target {
	return target{
		name:  metric + " ≥ 1 × the best peer",
		limit: 1, atLeast: true,
		value: func(r round) (reading, bool) {
			best, name := bestPeer(r, metric)
			v, ok := r.figure(braidSystem.name, metric)
			return reading{v / best, []part{{braidSystem.name, v}, {name, best}}}, ok && name != ""
		},
	}
}

// bestPeer returns the greatest metric of a system other than braid in the round, and that
// system; "" if there is none.
func bestPeer(r round, metric string) (best float64, name string) {
	for _, s := range allSystems {
		if v, ok := r.figure(s.name, metric); ok && s.name != braidSystem.name && v > best {
			best, name = v, s.name
		}
	}
	return best, name
}

// atLeast requires a minimum of an entry's metric.
func atLeast(limit float64, entry, metric string) target {
	t := atMost(limit, entry, metric)
	t.name, t.atLeast = fmt.Sprintf("%s ≥ %s", metric, number(limit)), true
	return t
}

// atMost requires a maximum of an entry's metric.
func atMost(limit float64, entry, metric string) target {
	return target{
		name:  fmt.Sprintf("%s ≤ %s", metric, number(limit)),
		limit: limit,
		value: func(r round) (reading, bool) {
			v, ok := r.figure(entry, metric)
			return reading{v, []part{{entry, v}}}, ok
		},
	}
}

// beyondAtMost limits the difference of a metric of an entry to a metric of another one.
func beyondAtMost(limit float64, entry, metric, other, otherMetric string) target {
	return target{
		name:  fmt.Sprintf("%s − %s of %s ≤ %s", metric, otherMetric, other, number(limit)),
		limit: limit,
		value: func(r round) (reading, bool) {
			a, ok := r.figure(entry, metric)
			b, alsoOK := r.figure(other, otherMetric)
			return reading{a - b, []part{{entry, a}, {other, b}}}, ok && alsoOK
		},
	}
}

// cpuTarget is T12: braid's CPU time for a record against raw Pebble's.
func cpuTarget(limit float64) target {
	t := atMostTimes(limit, cpuPerRecord, pebbleSystem.name)
	t.id = "T12"
	return t
}

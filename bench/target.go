package main

import "fmt"

// target is what braid is held to. It is judged by each round by itself, where
// its systems ran one right after the other, and then by the median of rounds.
type target struct {
	name    string
	limit   float64
	atLeast bool // else at most
	value   func(r round) (float64, bool)
}

// verdict is a target and what came out.
type verdict struct {
	target
	value float64
	known bool // false if a figure was not to be had, on this machine or in this run
	met   bool
}

func (t target) judge(rounds []round) verdict {
	var values []float64
	for _, r := range rounds {
		if v, ok := t.value(r); ok {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return verdict{target: t}
	}
	v := verdict{target: t, value: median(values), known: true}
	v.met = v.value <= t.limit
	if t.atLeast {
		v.met = v.value >= t.limit
	}
	return v
}

// figure returns an entry's metric, if the round has it.
func (r round) figure(entry, metric string) (float64, bool) {
	v, ok := r[entry][metric]
	return v, ok
}

// ratio returns how an entry's metric compares with another's.
func (r round) ratio(entry, metric, other, otherMetric string) (float64, bool) {
	a, ok := r.figure(entry, metric)
	b, alsoOK := r.figure(other, otherMetric)
	return a / b, ok && alsoOK && b != 0
}

// atLeastTimes holds braid's metric to a multiple of another entry's.
func atLeastTimes(limit float64, metric, other string) target {
	return target{
		name:  fmt.Sprintf("%s ≥ %s × %s", metric, number(limit), other),
		limit: limit, atLeast: true,
		value: func(r round) (float64, bool) { return r.ratio(braidSystem.name, metric, other, metric) },
	}
}

// atLeast holds a metric of an entry to a figure.
func atLeast(limit float64, entry, metric string) target {
	return target{
		name:  fmt.Sprintf("%s ≥ %s", metric, number(limit)),
		limit: limit, atLeast: true,
		value: func(r round) (float64, bool) { return r.figure(entry, metric) },
	}
}

// atMost holds a metric of an entry to a figure.
func atMost(limit float64, entry, metric string) target {
	return target{
		name:  fmt.Sprintf("%s ≤ %s", metric, number(limit)),
		limit: limit,
		value: func(r round) (float64, bool) { return r.figure(entry, metric) },
	}
}

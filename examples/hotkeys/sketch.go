package main

import (
	"cmp"
	"container/heap"
	"slices"
)

// sketch finds the keys with the most bytes among any number of keys, in bounded memory:
// the space-saving algorithm. It has a fixed number of counters. A key without a counter
// takes over the smallest one with its count, and remembers that count as its error. So a
// counter is too high by at most its error, and a key with more bytes than the smallest
// counter is never missing.
type sketch struct {
	counters int
	byKey    map[string]*counter
	smallest counterHeap
}

// counter is the estimate for one key.
type counter struct {
	key     string
	bytes   int64
	error   int64 // bytes that may belong to earlier keys of the counter
	records int64 // since the key has the counter
	at      int   // index in the heap
}

func newSketch(counters int) *sketch {
	return &sketch{counters: counters, byKey: make(map[string]*counter)}
}

func (s *sketch) add(key string, bytes int64) {
	c := s.byKey[key]
	switch {
	case c != nil:
	case len(s.smallest) < s.counters:
		c = &counter{key: key}
		s.byKey[key] = c
		heap.Push(&s.smallest, c)
	default:
		c = s.smallest[0]
		delete(s.byKey, c.key)
		c.key, c.error, c.records = key, c.bytes, 0
		s.byKey[key] = c
	}
	c.bytes += bytes
	c.records++
	heap.Fix(&s.smallest, c.at)
}

// top returns the counters of the n keys with the most bytes, the largest first.
func (s *sketch) top(n int) []*counter {
	all := slices.Clone(s.smallest)
	slices.SortFunc(all, func(a, b *counter) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.key, b.key))
	})
	return all[:min(n, len(all))]
}

// counterHeap has the smallest counter first.
type counterHeap []*counter

func (h counterHeap) Len() int           { return len(h) }
func (h counterHeap) Less(i, j int) bool { return h[i].bytes < h[j].bytes }
func (h counterHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }
func (h *counterHeap) Push(c any)        { c.(*counter).at = len(*h); *h = append(*h, c.(*counter)) }

func (h *counterHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

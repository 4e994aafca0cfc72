package main

import (
	"cmp"
	"container/heap"
	"slices"
)

// sketch finds the keys with the most bytes among any number of keys, in bounded memory:
// the space-saving algorithm. It keeps so many counters. A key that has none takes the
// smallest one over with what that has counted, and remembers this as its error. So what a
// counter says is at most its error too much, and a key that has more bytes than the
// smallest counter is never missing.
type sketch struct {
	counters int
	byKey    map[string]*counter
	smallest counterHeap
}

// counter is what is known of a key.
type counter struct {
	key     string
	bytes   int64
	error   int64 // bytes that may be those of keys that had the counter before
	records int64 // since it has the counter
	at      int   // in the heap
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

// top returns the counters of the n keys with the most bytes, the most first.
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

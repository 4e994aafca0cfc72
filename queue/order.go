package queue

import (
	"github.com/braidstream/braid/internal/companion"
)

// maxHeld is how many records may be held back behind others of their keys. Beyond that,
// no new records are taken up until some are settled. So a key with a long backlog also
// blocks later records of other keys.
const maxHeld = 20_000

// maxHolds is how many records one receive may take up only to hold them back.
const maxHolds = 1000

// chain is the unsettled records of a key, in order. It is used with Options.OrderByKey.
//
// Invariant: at most one entry of a chain is ready, in flight, or waiting for another
// attempt; all others are held. If busy is 0, the first entry is ready.
type chain struct {
	first, last *entry
	near        *entry // the last one that was put between others; nil for none
	busy        int    // number of entries that the others have to wait for
}

// isBusy reports whether other records of a key wait for an entry in that phase.
func (p phase) isBusy() bool { return p != ready && p != held }

// link adds the entry to its key's chain.
func (s *state) link(e *entry) {
	c := s.keys[e.keyHash]
	if c == nil {
		c = new(chain)
		s.keys[e.keyHash] = c
	}
	after := s.place(c, e)
	e.chain, e.before = c, after
	if after == nil {
		e.after, c.first = c.first, e
	} else {
		e.after, after.after = after.after, e
	}
	if e.after == nil {
		c.last = e
	} else {
		e.after.before = e
	}
	if e.phase.isBusy() {
		c.busy++
	}
	s.arrange(c, e)
}

// place returns the entry of the chain that precedes e: the last one, unless e is a restored
// record. Restored records come in order, so each search begins at the one before.
func (s *state) place(c *chain, e *entry) *entry {
	after := c.last
	if after == nil || after.counter < e.counter {
		return after
	}
	if near := c.near; near != nil && near.counter < e.counter {
		for after = near; after.after.counter < e.counter; after = after.after { // the last one is higher
			s.looks++
		}
	} else {
		for ; after != nil && after.counter > e.counter; after = after.before {
			s.looks++
		}
	}
	c.near = e
	return after
}

// unlink removes the entry from its chain. If the next entry has waited for it, that one
// becomes ready.
func (s *state) unlink(e *entry) {
	c := e.chain
	if c == nil {
		return
	}
	if e.phase.isBusy() && s.entries[e.counter] == e {
		c.busy--
	}
	if c.near == e {
		c.near = e.before
	}
	if e.before == nil {
		c.first = e.after
	} else {
		e.before.after = e.after
	}
	if e.after == nil {
		c.last = e.before
	} else {
		e.after.before = e.before
	}
	e.chain, e.before, e.after = nil, nil, nil
	if c.first == nil {
		delete(s.keys, e.keyHash)
		return
	}
	s.arrange(c, c.first)
}

// arrange restores the invariant of a chain after a change of e, one of its entries.
func (s *state) arrange(c *chain, e *entry) {
	for _, x := range [...]*entry{e, e.after, c.first} {
		if x != nil && x.phase == ready && (c.busy > 0 || x != c.first) {
			s.move(x, held)
		}
	}
	if c.busy == 0 && c.first.phase == held {
		s.move(c.first, ready)
	}
}

// offer makes the entry ready, once it is its turn.
func (s *state) offer(e *entry) {
	s.move(e, ready)
	switch {
	case !s.settings.OrderByKey:
	case e.chain == nil:
		s.link(e)
	default:
		s.arrange(e.chain, e)
	}
}

// hold takes up a new record that is held back by others of its key, as part of a commit.
func (s *state) hold(rows companion.Rows, e *entry) {
	e.phase = held
	s.add(e)
	s.put(rows, e)
}

// hashKey returns a hash of a partition key. It is stored, and never 0. Keys with the
// same hash wait for each other; that has no other effect.
func hashKey(key string) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return max(1, h)
}

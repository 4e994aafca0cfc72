package queue

import (
	"math/rand/v2"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/layout"
)

// ask is a request to receive.
type ask struct {
	n, bytes int
	timeout  time.Duration // 0: that of the queue; negative: none
	dead     bool          // dead letters
	local    bool          // for a goroutine of this process; its receipts do not leave it
	whole    bool          // see ReceiveOptions
}

// taken is a delivery.
type taken struct {
	ticket
	receives int
	first    uint64
	reason   string
	record   *braid.Record // nil if it still has to be read
}

// offers returns how many records could be received now, at most limit, and whether new
// ones have to be read first to offer more.
func (s *state) offers(a ask, now uint64, limit int) (n int, read bool) {
	if a.dead {
		return min(limit, s.dead.Len(), s.room(deadInFlight)), false
	}
	if !a.whole && s.hushed(now) {
		return 0, false
	}
	n = s.ready.Len()
	if s.takesNew() {
		n += len(s.fresh)
		read = len(s.fresh) < limit && s.ahead < a.bytes
	}
	return min(limit, n, s.room(inFlight)), read && s.room(inFlight) > 0
}

// room returns how many more records may be in that phase.
func (s *state) room(p phase) int { return max(0, s.settings.MaxInFlight-s.count[p]) }

// takesNew reports whether new records may be taken up.
func (s *state) takesNew() bool {
	return s.count[waiting]+s.count[ready] < s.settings.MaxWaiting && s.count[held] < maxHeld
}

// take chooses records for a receiver, and adds their deliveries to the commit.
func (s *state) take(rows companion.Rows, a ask, now uint64) (all []taken) {
	timeout := a.timeout
	if timeout == 0 {
		timeout = s.settings.VisibilityTimeout
	}
	until := now + uint64(max(0, timeout))
	if a.dead {
		return s.takeDead(rows, a, until, now)
	}
	if !a.whole && s.hushed(now) {
		return nil
	}
	defer s.saveCursors(rows)
	limit, holds, retry := a.n, 0, true
	all = make([]taken, 0, min(limit, s.ready.Len()+len(s.fresh)))
	for len(all) < limit && s.room(inFlight) > 0 && holds < maxHolds {
		var e *entry
		if retry {
			e = s.nextReady(now)
		}
		r := s.nextFresh()
		switch {
		case e != nil && len(all) == 0 && s.behind && !a.whole && s.hushed(now):
			return all // the entries before it are of phases that are over
		case e != nil && (r == nil || !s.retried): // new and repeated records alternate, so that neither has to wait for the end of the other
			most := a.n
			if !a.whole {
				most = s.mostBeside(e, a.n)
			}
			if len(all) >= most {
				retry = false // it will be the first of a later batch
				s.retried = false
				continue
			}
			if len(all) > 0 && int(e.size) > a.bytes {
				return all
			}
			limit = min(limit, most)
			all = append(all, s.again(rows, e, a.local, until, now))
			if s.retried = true; !a.whole && s.isLast(e) {
				s.alone = e
			}
			a.bytes -= int(e.size)
		case r != nil:
			if len(all) > 0 && r.Size() > a.bytes {
				return all
			}
			s.retried = false
			e, rec := s.admit()
			if s.keys[e.keyHash] != nil {
				s.hold(rows, e)
				holds++
				continue
			}
			e.visible, e.first, e.local = until, now, a.local
			e.receives = 1
			e.succeed()
			s.add(e)
			s.put(rows, e)
			t := e.taken()
			t.record = rec
			all = append(all, t)
			a.bytes -= int(e.size)
		default:
			return all
		}
	}
	return all
}

// takeDead is take for dead letters.
func (s *state) takeDead(rows companion.Rows, a ask, until, now uint64) (all []taken) {
	for len(all) < a.n && s.room(deadInFlight) > 0 {
		e := s.nextDead(now)
		if e == nil || len(all) > 0 && int(e.size) > a.bytes {
			break
		}
		e.dead = true
		all = append(all, s.again(rows, e, a.local, until, now))
		a.bytes -= int(e.size)
	}
	return all
}

// again delivers a record that was taken up before.
func (s *state) again(rows companion.Rows, e *entry, local bool, until, now uint64) taken {
	e.visible, e.local = until, local
	if e.first == 0 {
		e.first = now
	}
	to := inFlight
	if e.dead {
		to = deadInFlight
	}
	s.move(e, to)
	e.receives++
	e.succeed()
	s.put(rows, e)
	return e.taken()
}

// succeed invalidates all earlier receipts of the record. The step is random, because in the modes
// braid.Interval and braid.NoSync a crash may undo a delivery whose receipt is still in use. The
// next delivery must not get the same receipt.
func (e *entry) succeed() { e.generation += 1 + uint64(rand.Uint32()) }

func (e *entry) taken() taken {
	return taken{
		ticket:   ticket{place: e.place, generation: e.generation, dead: e.phase == deadInFlight},
		receives: int(e.receives), first: e.first, reason: e.reason,
	}
}

// nextFresh returns the next new record, or nil if none may be received.
func (s *state) nextFresh() *braid.Record {
	if !s.takesNew() {
		return nil
	}
	for len(s.fresh) > 0 {
		if r := &s.fresh[0]; s.shows(placeOf(r)) {
			return r
		}
		s.nextRecord()
	}
	return nil
}

// admit moves the queue past the next new record and makes its entry. The caller adds the
// entry.
func (s *state) admit() (*entry, *braid.Record) {
	rec := s.nextRecord()
	e := &entry{place: placeOf(rec), size: uint32(rec.Size())}
	if s.settings.OrderByKey {
		e.keyHash = hashKey(rec.PartitionKey)
	}
	if s.brings {
		s.unseen = append(s.unseen, e)
	}
	s.next = e.counter + 1
	c := s.cursors[e.shard]
	if c == nil {
		c = new(cursor)
		s.cursors[e.shard] = c
	}
	c.Counter = e.counter
	c.Ordinal++
	if !c.touched {
		c.touched = true
		s.touched = append(s.touched, e.shard)
	}
	return e, rec
}

// saveCursors adds the touched cursors to the commit.
func (s *state) saveCursors(rows companion.Rows) {
	for _, shard := range s.touched {
		c := s.cursors[shard]
		c.touched = false
		s.key = layout.AppendCursorKey(s.key[:0], s.id, shard)
		s.row = c.CursorRow.Append(s.row, s.key)
		rows.Set(s.key, s.row)
	}
	s.touched = s.touched[:0]
}

// A record that crashes the process is received again after each crash, together with
// those that were in flight at the same time. The functions below keep the others from
// becoming dead letters with it.

// mostBeside returns how many records a batch of n may have if the entry is one of them:
// from its third delivery on half of n, then a quarter and so on, and for its last
// delivery only the entry itself.
func (s *state) mostBeside(e *entry, n int) int {
	switch again := int(e.receives) - 1; {
	case e.receives > 0 && int(e.receives)+1 == s.settings.MaxReceives:
		return 1
	case again > 0:
		return max(1, n>>min(again, 30))
	}
	return n
}

// isLast reports whether the entry is in flight for the last time, after the process has
// ended unexpectedly during an earlier delivery.
func (s *state) isLast(e *entry) bool {
	return e.phase == inFlight && e.suspect && e.receives > 1 && int(e.receives) == s.settings.MaxReceives
}

// hushed reports whether nothing may be received now, because a record that may have
// crashed the process is in flight for the last time, or will be as soon as nothing else
// is in flight. So it dies alone. It waits for that no longer than a visibility timeout.
func (s *state) hushed(now uint64) bool {
	if s.alone != nil {
		return true
	}
	first := s.ready.First()
	if first == nil || s.count[inFlight] == 0 || !first.Value.suspect || first.Value.receives == 0 ||
		int(first.Value.receives)+1 != s.settings.MaxReceives {
		s.lull = 0
		return false
	}
	if s.lull == 0 {
		s.lull = now + uint64(max(time.Millisecond, s.settings.VisibilityTimeout))
	}
	return now < s.lull
}

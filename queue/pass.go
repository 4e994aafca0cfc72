package queue

import (
	"context"
	"time"

	"github.com/braidstream/braid/internal/agenda"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/layout"
)

// Any number of entries may expire or become due at once, and other callers and commits wait for the
// mutex while they are moved. So all work of this file is done in pieces. While some is left, behind
// is set: some entries are in a phase that is over. A call that depends on all entries continues until
// nothing is left, and releases the mutex between the pieces. A call that depends on a single entry
// calls catchUp first. While receivers wait, the alarm starts the next piece.
//
// Each delivery ends once, and each record expires once. So a receiver lets time pass for twice as
// many entries as it asks for, and a commit deletes somewhat more rows than the one before has
// written. So expired entries and their rows do not pile up, however many records are received.

// Sizes of pieces, in entries. One takes about 3 microseconds.
const (
	passedAtOnce    = 500
	passedInCommit  = 50
	deletedInCommit = 200 // rows, in addition to as many as the previous commit has written
)

// pass applies the passing of time to that many entries at most: it drops those whose records were
// trimmed or have expired, and makes those that are due visible or dead.
func (s *state) pass(now uint64, keeps time.Duration, most int) {
	s.keeps = keeps
	s.behind = !s.sweep(now, &most) || !s.elapse(now, &most) || !s.dieTried(&most)
}

// sweep drops the entries whose records were trimmed or have expired. It starts with the oldest,
// because a record is removed only together with all that arrived before it. It reports whether it
// has dropped all.
func (s *state) sweep(now uint64, most *int) bool {
	for len(s.fresh) > 0 && !s.shows(placeOf(&s.fresh[0])) {
		s.nextRecord() // the ordinal of the shard's cursor accounts for it
	}
	for first := s.ages.First(); first != nil && !s.shows(first.Value.place); first = s.ages.First() {
		if *most--; *most < 0 {
			return false
		}
		s.looks++
		s.depart(first.Value, now)
	}
	return true
}

// sweepAll is sweep for a queue that was just loaded: records may be gone while older ones of another
// shard exist. What has expired is stored shard by shard, and the clock may have been set back since.
func (s *state) sweepAll(now uint64) {
	for _, e := range s.entries {
		if !s.shows(e.place) {
			s.depart(e, now)
		}
	}
}

// depart drops an entry whose record was trimmed or has expired. A timeout or delay that ended before
// the removal has passed, and a record that a lower limit has made dead is dead, even if pass has not
// reached them. So a record that was dead counts as an expired dead letter.
func (s *state) depart(e *entry, now uint64) {
	left := now
	if s.keeps > 0 {
		left = min(now, e.counter+uint64(s.keeps)+1)
	}
	if e.phase.isHidden() && e.visible <= left {
		s.end(e)
	}
	if s.isTried(e) {
		s.die(e)
	}
	s.expire(e)
}

// elapse makes entries that are due visible or dead. It reports whether none is left.
func (s *state) elapse(now uint64, most *int) bool {
	for first := s.locked.First(); first != nil && first.Due() <= now; first = s.locked.First() {
		if *most--; *most < 0 {
			return false
		}
		s.looks++
		s.end(first.Value)
	}
	return true
}

// end ends the time for which an entry is hidden.
func (s *state) end(e *entry) {
	switch e.phase {
	case deadInFlight:
		s.move(e, dead)
	case inFlight:
		s.stats.lapsed++
		s.fail(e)
	case waiting:
		s.fail(e)
	}
}

// dieTried makes dead letters of entries that were received as often as a new limit allows. It
// reports whether none is left.
func (s *state) dieTried(most *int) bool {
	for found := s.lowered; found; {
		found = false
		for receives, of := range s.tried {
			if !s.isSpent(int(receives)) {
				continue
			}
			found = true // each death may move other entries into another set
			for e := range of {
				if *most--; *most < 0 {
					return false
				}
				s.looks++
				s.die(e)
			}
		}
	}
	s.lowered = false
	return true
}

// catchUp applies the passing of time to one entry, which pass may not have reached. It reports
// whether the record is still in the queue.
func (s *state) catchUp(e *entry, now uint64) bool {
	switch {
	case !s.behind:
	case !s.shows(e.place):
		s.depart(e, now)
		return false
	case e.phase.isHidden() && e.visible <= now:
		s.end(e)
	case s.isTried(e):
		s.die(e)
	}
	return true
}

// isTried reports whether an entry that nobody holds was received as often as a new limit allows.
func (s *state) isTried(e *entry) bool {
	return s.lowered && (e.phase == ready || e.phase == held) && s.isSpent(int(e.receives))
}

// nextReady returns the entry that is to be received again next. It returns nil if there is none, or
// if the phases of the first passedInCommit entries are over.
func (s *state) nextReady(now uint64) *entry { return s.nextIn(&s.ready, ready, now) }

// nextDead is nextReady for dead letters.
func (s *state) nextDead(now uint64) *entry { return s.nextIn(&s.dead, dead, now) }

func (s *state) nextIn(of *agenda.Agenda[*entry], p phase, now uint64) *entry {
	for range passedInCommit {
		first := of.First()
		if first == nil {
			return nil
		}
		if e := first.Value; s.catchUp(e, now) && e.phase == p {
			return e
		}
	}
	return nil
}

// expire drops an entry whose record no longer exists.
func (s *state) expire(e *entry) {
	w := waste{e.place, e.phase, e.first != 0}
	*s.expired.of(w.phase, w.received)++
	*s.wasted.of(w.phase, w.received)++
	s.garbage = append(s.garbage, w)
	s.drop(e)
}

// discard deletes rows of expired entries, and those of removed shards, as part of a commit.
func (s *state) discard(rows companion.Rows) {
	if old := s.relic; old != nil && old.counter+1 < s.next {
		s.useless = append(s.useless, layout.CursorKey(s.id, old.shard))
		s.relic = nil
	}
	n := min(len(s.garbage), deletedInCommit+s.wrote)
	s.wrote = 0
	for _, w := range s.garbage[:n] {
		s.key = layout.AppendDeliveryKey(s.key[:0], s.id, w.shard, w.counter)
		rows.Delete(s.key)
		*s.wasted.of(w.phase, w.received)--
	}
	if s.garbage = s.garbage[n:]; len(s.garbage) > 0 || s.behind {
		return // cursors go last: a row without the cursor of its shard would be corrupt
	}
	for _, key := range s.useless {
		rows.Delete(key)
	}
	s.garbage, s.useless = nil, nil
}

// passed moves the state towards a time, by that many entries at most. The caller holds q.mu.
func (q *Queue) passed(now uint64, most int) { q.passedIn(&q.state, now, most) }

func (q *Queue) passedIn(s *state, now uint64, most int) {
	if t := q.inner.Topology(); t != s.known {
		s.known = t
		s.learn(q.stream.Shards())
	}
	s.pass(now, q.inner.Retention(), most)
}

// lockPresent brings the state up to the present time, now, and locks the mutex. visible is the
// counter up to which records were visible then; the state has all their shards. With an error, the
// mutex is not locked.
func (q *Queue) lockPresent(ctx context.Context) (now, visible uint64, err error) {
	for {
		q.mu.Lock()
		visible, now = q.door.Visible(), q.door.Now() // before the topology is looked at
		q.passed(now, passedAtOnce)
		if err = q.overLocked(ctx); err == nil && !q.behind {
			return now, visible, nil
		}
		q.mu.Unlock()
		if err != nil {
			return 0, 0, err
		}
	}
}

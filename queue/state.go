package queue

import (
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/agenda"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/layout"
)

// state is the state machine of a queue's unsettled records. It has no goroutine, and
// waits for nothing.
//
// Everything except the passing of time is decided by the committer, in the order of
// commits, and is written in the same commit. So a delivery is durable before its
// receiver gets it, and after a crash the rows match the state that memory had. The
// passing of time needs no write: that a record is visible again, or dead, follows from
// its row: see pass.
type state struct {
	id       layout.QueueID
	settings Options
	start    uint64 // records from this counter on belong to the queue

	next    uint64             // records from this counter on were never received
	cursors map[uint32]*cursor // of shards with records before next, or older than the queue
	touched []uint32           // shards whose cursors the current commit has moved
	fresh   []braid.Record     // records that were read ahead: the first ones from next on
	ahead   int                // bytes in fresh
	readAt  uint64             // where to continue reading; all records from next up to here are in fresh

	entries map[uint64]*entry     // unsettled records, by counter
	locked  agenda.Agenda[*entry] // entries that change at a certain time, by that time
	ready   agenda.Agenda[*entry] // entries to be received again, by counter
	dead    agenda.Agenda[*entry] // entries to be received as dead letters, by counter
	ages    ages                  // all entries, by counter
	tried   tried                 // ready and held entries that were received before
	letters map[*entry]struct{}   // dead letters
	lapsed  map[*entry]struct{}   // dead letters that died by the limit; their rows do not show that they are dead
	keys    map[uint64]*chain     // with Options.OrderByKey: chains of keys with unsettled records that are not dead
	count   [phases]int           // number of entries in each phase
	garbage []waste               // expired entries whose rows the next commits delete
	useless [][]byte              // rows of removed shards' cursors, which the next commit deletes
	expired expired               // counts of all expired records
	wasted  expired               // counts of those in garbage
	wrote   int                   // number of rows of entries written since rows of garbage were last deleted
	stored  expired               // counts in the stored row
	behind  bool                  // more time has passed than the phases of some entries show
	lowered bool                  // some ready or held entries may have been received as often as a new limit allows
	keeps   time.Duration         // the stream's retention
	unseen  []*entry              // entries that were taken up by the commit that contains their records; others do not see the records yet
	brings  bool                  // such a commit takes up records now
	shards  map[uint32]shard      // shards of the topology known
	known   any                   // the topology that shards is from
	relic   *relic                // nil if there is none
	stats   counts                // since the database was opened
	retried bool                  // the last record taken had been received before
	alone   *entry                // while this entry is in flight, nothing else is received
	key     []byte                // memory for the key of a row
	row     []byte                // memory for a row
	looks   int                   // number of entries visited by calls that may concern many; for tests of their cost
	lull    uint64                // until then nothing is received, so that the first ready entry is delivered alone; 0 if not needed
}

type shard struct {
	*braid.Shard
	inner companion.Shard
}

// cursor is a [layout.CursorRow]. touched cursors are written by the next commit.
type cursor struct {
	layout.CursorRow
	touched bool
}

type counts struct {
	received, empty, acknowledged, lapsed, died, restored uint64
}

// expired counts records that left the stream before they were settled. Of the records
// that were never received, it has only those that were taken up, or whose shard was
// removed.
type expired struct{ unreceived, received, dead uint64 }

// of returns the count of records that were in that phase, and received or not.
func (x *expired) of(p phase, wasReceived bool) *uint64 {
	switch {
	case p.isLetter():
		return &x.dead
	case wasReceived:
		return &x.received
	}
	return &x.unreceived
}

// less returns x without the counts of y.
func (x expired) less(y expired) expired {
	return expired{x.unreceived - y.unreceived, x.received - y.received, x.dead - y.dead}
}

// waste is an expired entry whose row is still stored. The queue's row does not count it until its
// own row is deleted; otherwise a restart would count it twice.
type waste struct {
	place
	phase    phase
	received bool
}

// relic is the cursor of a removed shard. It is kept while it has the highest counter,
// because a record below the highest counter, in any shard, is settled if it has no row.
type relic struct {
	shard   uint32
	counter uint64
}

// phase is the stage of an entry.
type phase uint8

const (
	inFlight     phase = iota // received, and hidden
	waiting                   // released with a delay
	ready                     // to be received again
	held                      // behind another record of its key
	dead                      // a dead letter
	deadInFlight              // a dead letter that was received and is hidden
	phases
)

// isLetter reports whether entries in that phase are dead letters.
func (p phase) isLetter() bool { return p == dead || p == deadInFlight }

// isHidden reports whether entries leave that phase at a certain time.
func (p phase) isHidden() bool { return p == inFlight || p == waiting || p == deadInFlight }

// entry is an unsettled record: a [layout.DeliveryRow].
type entry struct {
	place
	receives   uint32
	size       uint32
	generation uint64
	visible    uint64
	first      uint64
	keyHash    uint64
	reason     string
	phase      phase
	dead       bool // as in the row
	local      bool // as in the row
	suspect    bool // in flight when the previous process ended unexpectedly

	due agenda.Item[*entry] // in locked, ready or dead, depending on its phase
	age agenda.Item[*entry] // in ages

	chain         *chain // nil if it holds back nothing
	before, after *entry // neighbors in its chain
}

// ages has all entries by counter, with dead letters apart from the others.
type ages struct{ living, dying agenda.Agenda[*entry] }

// First returns the oldest entry.
func (a *ages) First() *agenda.Item[*entry] {
	living, dying := a.living.First(), a.dying.First()
	if living == nil || dying != nil && dying.Due() < living.Due() {
		return dying
	}
	return living
}

// of returns the agenda for entries in that phase.
func (a *ages) of(p phase) *agenda.Agenda[*entry] {
	if p.isLetter() {
		return &a.dying
	}
	return &a.living
}

// tried groups entries by how often they were received.
type tried map[uint32]map[*entry]struct{}

func (t tried) add(e *entry) {
	if e.receives == 0 {
		return
	}
	if t[e.receives] == nil {
		t[e.receives] = make(map[*entry]struct{})
	}
	t[e.receives][e] = struct{}{}
}

func (t tried) remove(e *entry) {
	if of := t[e.receives]; of != nil {
		if delete(of, e); len(of) == 0 {
			delete(t, e.receives)
		}
	}
}

func newState(id layout.QueueID, settings Options, start uint64) state {
	return state{
		id:       id,
		settings: settings,
		start:    start,
		next:     start,
		readAt:   start,
		cursors:  make(map[uint32]*cursor),
		entries:  make(map[uint64]*entry),
		keys:     make(map[uint64]*chain),
		tried:    make(tried),
		letters:  make(map[*entry]struct{}),
		lapsed:   make(map[*entry]struct{}),
	}
}

// restored makes the entry of a stored row.
func restored(p place, row layout.DeliveryRow, now uint64, closedWell bool) *entry {
	e := &entry{
		place: p, receives: uint32(row.Receives), generation: row.Generation, size: uint32(row.Size),
		visible: min(row.Visible, now+uint64(maxVisibility)), // limited, since the clock may have been wrong
		first:   row.First, keyHash: row.KeyHash, reason: row.Reason, dead: row.Dead, local: row.Local,
	}
	switch {
	case row.Dead:
		e.phase = deadInFlight
	case row.First == 0:
		e.phase = held
	case row.Waiting:
		e.phase = waiting
	default:
		// A worker settles its records before it ends. So a worker that left one in flight has
		// ended unexpectedly, even if the database was opened and closed since.
		e.suspect = !closedWell || row.Local
	}
	if row.Local && !row.Waiting { // its receiver has ended with the process
		e.visible = min(e.visible, now)
	}
	return e
}

// add adds an entry, in its phase.
func (s *state) add(e *entry) {
	e.due.Value, e.age.Value = e, e
	s.entries[e.counter] = e
	s.ages.of(e.phase).Set(&e.age, e.counter)
	if e.phase.isLetter() {
		s.letters[e] = struct{}{}
	}
	s.enter(e)
	if s.settings.OrderByKey && (!e.phase.isLetter() || s.settings.BlockAtDead) {
		s.link(e)
	}
}

// drop removes an entry that is settled or has expired.
func (s *state) drop(e *entry) {
	s.leave(e)
	s.ages.of(e.phase).Remove(&e.age)
	delete(s.letters, e)
	delete(s.entries, e.counter)
	s.unlink(e)
}

// move changes the phase of an entry.
func (s *state) move(e *entry, to phase) {
	s.leave(e)
	if from, into := s.ages.of(e.phase), s.ages.of(to); from != into {
		from.Remove(&e.age)
		into.Set(&e.age, e.counter)
		if to.isLetter() {
			s.letters[e] = struct{}{}
		} else {
			delete(s.letters, e)
		}
	}
	e.phase = to
	s.enter(e)
}

func (s *state) enter(e *entry) {
	s.count[e.phase]++
	if e.chain != nil && e.phase.isBusy() {
		e.chain.busy++
	}
	switch e.phase {
	case inFlight, waiting, deadInFlight:
		s.locked.Set(&e.due, e.visible)
	case ready:
		s.ready.Set(&e.due, e.counter)
		s.tried.add(e)
	case held:
		s.tried.add(e)
	case dead:
		s.dead.Set(&e.due, e.counter)
		if !e.dead {
			s.lapsed[e] = struct{}{}
		}
	}
}

func (s *state) leave(e *entry) {
	s.count[e.phase]--
	if e.chain != nil && e.phase.isBusy() {
		e.chain.busy--
	}
	if s.alone == e {
		s.alone = nil
	}
	switch e.phase {
	case inFlight, waiting, deadInFlight:
		s.locked.Remove(&e.due)
	case ready:
		s.ready.Remove(&e.due)
		s.tried.remove(e)
	case held:
		s.tried.remove(e)
	case dead:
		s.dead.Remove(&e.due)
		delete(s.lapsed, e)
	}
}

// fail makes an entry that nobody holds ready again, or a dead letter.
func (s *state) fail(e *entry) {
	if s.exhausted(e) {
		s.die(e)
	} else {
		s.offer(e)
	}
}

// exhausted reports whether the entry was received as often as allowed.
func (s *state) exhausted(e *entry) bool {
	return e.dead || s.isSpent(int(e.receives))
}

// isSpent reports whether that many receives are as many as allowed.
func (s *state) isSpent(receives int) bool {
	return s.settings.MaxReceives > 0 && receives >= s.settings.MaxReceives
}

// die makes the entry a dead letter.
func (s *state) die(e *entry) {
	s.stats.died++
	s.move(e, dead)
	if !s.settings.BlockAtDead { // the records behind it no longer wait
		s.unlink(e)
	}
}

// fix stores, as part of a commit, that lapsed entries are dead, so that they stay dead under a new
// limit. It stores at most that many.
func (s *state) fix(rows companion.Rows, most int) {
	for e := range s.lapsed {
		if most--; most < 0 {
			return
		}
		delete(s.lapsed, e)
		s.looks++
		e.dead = true
		s.put(rows, e)
	}
}

// nextRecord takes the first record off fresh. Its memory is shared with others: a caller
// that keeps the record copies it, and clears the original.
func (s *state) nextRecord() *braid.Record {
	r := &s.fresh[0]
	s.fresh = s.fresh[1:]
	s.ahead -= r.Size()
	return r
}

// learn takes over the shards of a new topology. Removed shards had no records left:
// those that the queue had not received are lost, and their cursors are useless.
func (s *state) learn(all []*braid.Shard) {
	was := s.shards
	s.shards = make(map[uint32]shard, len(all))
	for _, sh := range all {
		inner := companion.ShardOf(sh)
		s.shards[inner.Index()] = shard{sh, inner}
	}
	for index, sh := range was {
		if _, stays := s.shards[index]; !stays {
			past := sh.inner.Count()
			s.expired.unreceived += past - min(past, s.ordinal(index))
		}
	}
	for index, c := range s.cursors {
		if _, stays := s.shards[index]; !stays {
			delete(s.cursors, index)
			s.leaveBehind(relic{index, c.Counter})
		}
	}
}

// leaveBehind deletes the cursor row of a removed shard, but not before another cursor
// has a higher counter.
func (s *state) leaveBehind(r relic) {
	old := s.relic
	switch {
	case r.counter+1 < s.next:
		s.useless = append(s.useless, layout.CursorKey(s.id, r.shard))
		return
	case old != nil: // both have the same counter, as where the queue begins
		s.useless = append(s.useless, layout.CursorKey(s.id, old.shard))
	}
	s.relic = &r
}

// ordinal returns how many records of a shard come before the first one that the queue
// has not received.
func (s *state) ordinal(shard uint32) uint64 {
	if c := s.cursors[shard]; c != nil {
		return c.Ordinal
	}
	return 0
}

// shows reports whether the record at a place can be read now.
func (s *state) shows(p place) bool {
	sh, there := s.shards[p.shard]
	return there && sh.inner.Shows(p.counter)
}

// put adds the entry's row to a commit.
func (s *state) put(rows companion.Rows, e *entry) {
	s.key = layout.AppendDeliveryKey(s.key[:0], s.id, e.shard, e.counter)
	s.row = layout.DeliveryRow{
		Receives: uint64(e.receives), Generation: e.generation, Visible: e.visible, First: e.first,
		Size: uint64(e.size), KeyHash: e.keyHash, Dead: e.dead, Local: e.local, Reason: e.reason,
		Waiting: e.phase == waiting || e.phase == ready || e.phase == held,
	}.Append(s.row, s.key)
	rows.Set(s.key, s.row)
	s.wrote++
}

// settle removes an acknowledged entry and its row.
func (s *state) settle(rows companion.Rows, e *entry) {
	s.key = layout.AppendDeliveryKey(s.key[:0], s.id, e.shard, e.counter)
	rows.Delete(s.key)
	s.stats.acknowledged++
	s.drop(e)
}

// find returns the entry for a ticket. A record that was received and has no entry is
// settled.
func (s *state) find(t ticket, now uint64) (*entry, error) {
	e := s.entries[t.counter]
	if e != nil && !s.catchUp(e, now) {
		e = nil
	}
	switch {
	case t.counter >= s.next:
		return nil, ErrReceiptInvalid
	case e == nil:
		return nil, ErrRecordSettled
	case e.shard != t.shard:
		return nil, ErrReceiptInvalid
	case e.generation != t.generation:
		return nil, ErrReceiptExpired
	}
	return e, nil
}

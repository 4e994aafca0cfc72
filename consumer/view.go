package consumer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer/internal/plan"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/layout"
)

// This file keeps the survey of a group up to date, so that the cost of a pass follows
// the changes, not the number of shards. That needs leases in the database, which
// announces every committed write of a lease, and every change of a watched stream. With
// other stores, after an error, and after a change that concerns all shards of a stream,
// the survey is made anew.

// changeLog collects changes: keys of leases that were written, or names of streams.
type changeLog struct {
	mu   sync.Mutex // guards the fields below
	on   bool       // keys are collected
	keys map[string]bool
}

// note is called for each committed lease, or for each stream that has changed. It must
// not block.
func (l *changeLog) note(key []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.on {
		l.keys[string(key)] = true
	}
}

// begin starts collecting keys, and end stops it.
func (l *changeLog) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.on, l.keys = true, make(map[string]bool)
}

func (l *changeLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.on, l.keys = false, nil
}

// take returns the keys since the last call.
func (l *changeLog) take() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.keys) == 0 {
		return nil
	}
	keys := l.keys
	l.keys = make(map[string]bool)
	return keys
}

// updateSurvey returns the current survey; its touched has the changes since the last
// pass. ended are the keys of holds that have ended.
func (g *group) updateSurvey(ctx context.Context, names []string, ended []LeaseKey) (*survey, error) {
	if g.view != nil {
		known, err := g.refresh(ctx, g.view)
		if err != nil {
			return nil, err
		}
		if known {
			for _, key := range ended {
				g.view.touch(key)
			}
			return g.view, nil
		}
	}
	g.written.take() // taken before the survey, which will see these changes; likewise below
	g.changed.take()
	g.discovery.begin()
	leases, full, err := g.listLeases(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	s, err := g.surveyLeases(ctx, leases, names)
	if err != nil {
		return nil, err
	}
	s.partial = !full
	if err := g.registerStreams(ctx, s); err != nil {
		return nil, err
	}
	g.touchAll(s)
	return s, nil
}

// touch makes the pass visit a row or shard.
func (s *survey) touch(key LeaseKey) { s.touched[key] = true }

// touchAll makes the pass visit all rows and shards.
func (g *group) touchAll(s *survey) {
	for key := range s.rows {
		s.touch(key)
	}
	for key := range s.items {
		s.touch(key)
	}
	for it := range g.idle { // its row may no longer exist
		s.touch(it.key)
	}
	for key := range g.lineages { // likewise
		s.touch(key)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for key := range g.holds {
		s.touch(key)
	}
}

// refresh updates a survey. It returns false if the survey must be made anew.
func (g *group) refresh(ctx context.Context, s *survey) (known bool, err error) {
	store, is := g.leases.(dbLeases)
	if !is || g.custom && g.discovery.isOutdated(time.Now()) {
		return false, nil
	}
	s.changed = g.changed.take()
	var awaited []string
	for name := range s.changed {
		if view := s.streams[name]; view != nil && !view.found {
			awaited = append(awaited, name)
		} else if view != nil && !g.refreshStream(s, name, view) {
			return false, nil
		}
	}
	if known, err := g.beginAwaited(ctx, s, awaited); !known || err != nil {
		return false, err
	}
	var keys []LeaseKey
	for row := range g.written.take() {
		_, stream, shard, err := layout.DecodeLeaseKey([]byte(row))
		if err != nil {
			return false, companion.Corrupt(err)
		}
		keys = append(keys, LeaseKey{stream, braid.ShardID(shard)})
	}
	if len(keys) == 0 {
		return true, nil
	}
	rows, err := store.getAll(ctx, keys)
	for i := range rows {
		if keys[i].Shard != "" {
			s.setRow(keys[i], rows[i])
		} else if !s.hasMet(keys[i].Stream, rows[i]) {
			return false, err // the row concerns all shards
		}
	}
	return true, err
}

// hasMet reports whether the survey already knows this version of a stream's row, as
// after beginAwaited.
func (s *survey) hasMet(stream string, row *Lease) bool {
	view, known := s.streams[stream], s.rows[LeaseKey{Stream: stream}]
	return view != nil && view.met && known != nil && row != nil && known.Version == row.Version
}

// beginAwaited takes over awaited streams that exist now. The application already has a
// lease of each, so they begin at their beginning. It returns false if the survey must be
// made anew.
func (g *group) beginAwaited(ctx context.Context, s *survey, names []string) (known bool, err error) {
	var there []string
	var leases []Lease
	for _, name := range names {
		g.steps.Add(1)
		view, row := s.streams[name], s.rows[LeaseKey{Stream: name}]
		view.info, view.topology, err = dbSource{g.db}.describe(name)
		switch {
		case errors.Is(err, braid.ErrStreamNotFound):
			continue
		case err != nil || row == nil:
			return false, nil
		}
		lease := *row
		lease.Incarnation = view.info.Incarnation
		there, leases = append(there, name), append(leases, lease)
	}
	for chunk := range slices.Chunk(leases, batchLeases) {
		if stored, err := g.store(ctx, chunk); err != nil || slices.Contains(stored, false) {
			return false, err
		}
	}
	for i, name := range there {
		view, lease := s.streams[name], &leases[i]
		lease.Version++
		s.rows[lease.LeaseKey] = lease
		view.found, view.met, view.paused = true, true, s.app().Paused || lease.Paused
		for _, shard := range view.info.Shards {
			it := s.addShard(name, shard)
			s.relateParents(it)
			s.touchFamily(it.lease.LeaseKey)
		}
	}
	return true, nil
}

// refreshStream takes over the shards that a stream has gained and lost. It returns false
// if the stream is another one of the same name.
func (g *group) refreshStream(s *survey, name string, view *streamView) bool {
	g.steps.Add(1)
	stream, err := g.db.Stream(name)
	if err != nil || !view.met || incarnationOf(stream) != view.info.Incarnation {
		return false
	}
	now, was := topologyOf(stream), view.topology
	if now.id == was.id {
		return true
	}
	view.topology = now
	kept := 0
	for _, sh := range was.shards {
		if kept < len(now.shards) && now.shards[kept] == sh {
			kept++
		} else {
			s.remove(LeaseKey{name, sh.ID()})
		}
	}
	for _, sh := range now.shards[kept:] {
		it := s.addShard(name, shardOf(sh))
		s.relateParents(it)
		s.touchFamily(it.lease.LeaseKey)
	}
	return true
}

// remove removes an expired shard.
func (s *survey) remove(key LeaseKey) {
	it := s.items[key]
	if it == nil {
		return
	}
	s.setStanding(it, nil)
	s.setOrphan(it, false)
	delete(s.items, key)
	s.noteLost(key)
	for _, id := range it.shard.Parents {
		s.disown(LeaseKey{key.Stream, id}, it)
	}
	s.passParentsOf(it)
	s.touchFamily(key)
}

// disown removes a shard from the children of its parent.
func (s *survey) disown(parent LeaseKey, it *item) {
	var rest []*item
	for _, child := range s.children[parent] {
		if child != it {
			rest = append(rest, child)
		}
	}
	if s.touch(parent); rest == nil {
		delete(s.children, parent)
		if view := s.streams[parent.Stream]; view.lost[parent] {
			s.relateOrphans(view)
		}
		return
	}
	s.children[parent] = rest
}

// setRow takes over a written lease; nil means that it was deleted.
func (s *survey) setRow(key LeaseKey, row *Lease) {
	if row == nil {
		delete(s.rows, key)
	} else {
		s.rows[key] = row
	}
	if it := s.items[key]; it != nil {
		s.readLease(it)
		s.passParentsOf(it)
		s.relateParents(it)
		for _, id := range it.shard.Parents {
			s.touch(LeaseKey{key.Stream, id}) // the parent's lease may no longer be needed
		}
	}
	s.noteLost(key)
	s.touchFamily(key)
}

// passParentsOf updates whether parents without a lease count as done.
func (s *survey) passParentsOf(it *item) {
	for _, id := range it.shard.Parents {
		key := LeaseKey{it.lease.Stream, id}
		parent, row := s.items[key], s.rows[key]
		if parent == nil || row != nil && row.isOf(parent.lease.Incarnation) {
			continue
		}
		was := parent.lease.Checkpoint.ShardEnd
		s.readLease(parent)
		s.relateParents(parent)
		if parent.lease.Checkpoint.ShardEnd != was {
			s.touchFamily(key)
			s.passParentsOf(parent)
		}
	}
}

// touchFamily touches a shard and its children, which depend on it.
func (s *survey) touchFamily(key LeaseKey) {
	s.touch(key)
	for _, child := range s.children[key] {
		s.relateParents(child)
		s.touch(child.lease.LeaseKey)
	}
}

// setStanding sets how plan sees an item.
func (s *survey) setStanding(it *item, now *plan.Lease) {
	if was := it.standing; was != nil {
		s.planned--
		if was.Free {
			delete(s.free, it.lease.LeaseKey)
		} else if s.counts[was.Owner]--; s.counts[was.Owner] == 0 {
			delete(s.counts, was.Owner)
		}
	}
	it.standing = now
	if now == nil {
		return
	}
	s.planned++
	if now.Free {
		s.free[it.lease.LeaseKey] = it
	} else {
		s.counts[now.Owner]++
	}
}

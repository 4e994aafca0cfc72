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

// This file keeps the survey of a group up to date, so that a pass costs what has
// changed and not what there is. It can where the leases are in the database: there,
// every write of a lease is told of when it is committed, and every change of a stream
// to those who asked for its name. Elsewhere, and after an error
// or a change of something that concerns all shards of a stream, the survey is made anew.

// changeLog collects what has changed: keys of leases that were written, or names of
// streams.
type changeLog struct {
	mu   sync.Mutex // guards the fields below
	on   bool       // somebody wants to know
	keys map[string]bool
}

// note is called for each lease that is committed, and each stream that has changed. It
// must not wait.
func (l *changeLog) note(key []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.on {
		l.keys[string(key)] = true
	}
}

// begin and end say from when on and until when keys are collected.
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

// updateSurvey returns the survey as it is now, whose touched are what has changed since the
// last pass. Of ended the holds have ended.
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
	g.written.take() // before the survey, which will see them, as below
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

// touch has the pass visit a row or shard.
func (s *survey) touch(key LeaseKey) { s.touched[key] = true }

// touchAll has the pass visit all there are.
func (g *group) touchAll(s *survey) {
	for key := range s.rows {
		s.touch(key)
	}
	for key := range s.items {
		s.touch(key)
	}
	for it := range g.idle { // its row may be gone
		s.touch(it.key)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for key := range g.holds {
		s.touch(key)
	}
}

// refresh brings a survey up to date. It returns false if it cannot.
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
			return false, err // it concerns all shards
		}
	}
	return true, err
}

// hasMet reports whether the row of a stream is the one by which the survey knows the
// stream, as after beginAwaited.
func (s *survey) hasMet(stream string, row *Lease) bool {
	view, known := s.streams[stream], s.rows[LeaseKey{Stream: stream}]
	return view != nil && view.met && known != nil && row != nil && known.Version == row.Version
}

// beginAwaited takes over streams that there were not before, if they are there now: the
// application has met them, so they begin where they do. It returns false if it cannot.
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

// refreshStream takes over which shards a stream has got and lost. It returns false if
// it is not the stream that it was.
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

// remove takes a shard out that has expired.
func (s *survey) remove(key LeaseKey) {
	it := s.items[key]
	if it == nil {
		return
	}
	s.setStanding(it, nil)
	delete(s.items, key)
	for _, id := range it.shard.Parents {
		s.disown(LeaseKey{key.Stream, id}, it)
	}
	s.passParentsOf(it)
	s.touchFamily(key)
}

// disown forgets that a shard is the child of another one.
func (s *survey) disown(parent LeaseKey, it *item) {
	var rest []*item
	for _, child := range s.children[parent] {
		if child != it {
			rest = append(rest, child)
		}
	}
	if s.touch(parent); rest == nil {
		delete(s.children, parent)
		return
	}
	s.children[parent] = rest
}

// setRow takes over a lease that was written, nil if it was deleted.
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
			s.touch(LeaseKey{key.Stream, id}) // which may no longer be needed
		}
	}
	s.touchFamily(key)
}

// passParentsOf reconsiders whether parents without a lease are done.
func (s *survey) passParentsOf(it *item) {
	for _, id := range it.shard.Parents {
		key := LeaseKey{it.lease.Stream, id}
		parent, row := s.items[key], s.rows[key]
		if parent == nil || row != nil && row.isOf(parent.lease.Incarnation) {
			continue
		}
		was := parent.lease.Checkpoint.ShardEnd
		if s.readLease(parent); parent.lease.Checkpoint.ShardEnd != was {
			s.touchFamily(key)
			s.passParentsOf(parent)
		}
	}
}

// touchFamily touches a shard, and the children to which it means something else now.
func (s *survey) touchFamily(key LeaseKey) {
	s.touch(key)
	for _, child := range s.children[key] {
		s.relateParents(child)
		s.touch(child.lease.LeaseKey)
	}
}

// setStanding notes how plan sees an item.
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

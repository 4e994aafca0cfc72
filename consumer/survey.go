package consumer

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer/internal/plan"
)

// survey is what there is to process, and how far it is, at one time. That of a group is
// kept, and brought up to date by each look: see view.go.
type survey struct {
	rows     map[LeaseKey]*Lease // that are stored
	streams  map[string]*streamView
	items    map[LeaseKey]*item
	children map[LeaseKey][]*item // of shards, even of those that have expired

	// What follows belongs to the survey of a group.
	touched map[LeaseKey]bool // what has changed since the last look
	stale   bool              // it is not to be used for another look
	planned int               // items that have a standing
	counts  map[string]int    // of leases that workers have, by their standing
	free    map[LeaseKey]*item
}

// streamView is a stream that the application names.
type streamView struct {
	found bool
	info  Stream
	met   bool  // there is a lease of the stream as it is now
	err   error // why nothing is known of it now

	paused   bool       // the stream, or the application
	topology dbTopology // if it is one of the database
}

// item is a shard that is there.
type item struct {
	shard   Shard
	lease   Lease           // Version 0 if it is not stored yet
	waiting []braid.ShardID // parents that are not done
	paused  bool
	lost    []*braid.TrimmedError // parents that expired before they were done, if it has not begun

	taker *Worker // who is to get it
	taken bool    // and has

	standing *plan.Lease // how plan sees it; nil if there is nothing to be done in it
}

// app returns the lease of the application.
func (s *survey) app() Lease {
	if lease := s.rows[LeaseKey{}]; lease != nil {
		return *lease
	}
	return Lease{}
}

// survey looks at the leases and at the streams of those names; without names, at
// those that the application has met.
func (g *group) survey(ctx context.Context, names []string) (*survey, error) {
	s := &survey{
		rows:     make(map[LeaseKey]*Lease),
		streams:  make(map[string]*streamView),
		items:    make(map[LeaseKey]*item),
		children: make(map[LeaseKey][]*item),
		touched:  make(map[LeaseKey]bool),
		counts:   make(map[string]int),
		free:     make(map[LeaseKey]*item),
	}
	leases, err := g.leases.List(ctx)
	if err != nil {
		return nil, err
	}
	for i := range leases {
		s.rows[leases[i].LeaseKey] = &leases[i]
		if l := &leases[i]; names == nil && l.Stream != "" && l.Shard == "" {
			s.streams[l.Stream] = nil
		}
	}
	for _, name := range names {
		s.streams[name] = nil
	}
	for name := range s.streams {
		view := &streamView{}
		s.streams[name] = view
		if source, is := g.records().(dbSource); is {
			view.info, view.topology, err = source.look(name)
		} else {
			view.info, err = g.records().Stream(ctx, name)
		}
		switch {
		case err == nil:
			view.found = true
			lease := s.rows[LeaseKey{Stream: name}]
			view.met = lease != nil && lease.Incarnation == view.info.Incarnation
		case isFatal(err):
			return nil, err
		case !errors.Is(err, braid.ErrStreamNotFound):
			view.err = err
		}
	}
	s.derive()
	return s, nil
}

// derive works out what is to be done in each shard: from the shards themselves, not
// from which leases there are.
func (s *survey) derive() {
	for name, view := range s.streams {
		if !view.found || !view.met {
			continue
		}
		view.paused = s.app().Paused || s.rows[LeaseKey{Stream: name}].Paused
		for _, shard := range view.info.Shards {
			s.add(name, shard)
		}
	}
	for _, it := range s.items {
		s.relate(it)
	}
}

// add adds a shard of a stream that the application has met.
func (s *survey) add(stream string, shard Shard) *item {
	it := &item{shard: shard, lease: Lease{LeaseKey: LeaseKey{stream, shard.ID}}}
	s.items[it.lease.LeaseKey] = it
	for _, id := range shard.Parents {
		parent := LeaseKey{stream, id}
		s.children[parent] = append(s.children[parent], it)
	}
	s.read(it)
	return it
}

// read sets the lease of an item to the stored one, or to what stands for none.
func (s *survey) read(it *item) {
	key := it.lease.LeaseKey
	view := s.streams[key.Stream]
	it.lease = Lease{LeaseKey: key, Checkpoint: Checkpoint{Start: it.shard.Start}}
	if row := s.rows[key]; row != nil {
		if row.Incarnation == view.info.Incarnation {
			it.lease = *row
		} else { // of a stream that was deleted; its place is taken
			it.lease.Version, it.lease.Epoch = row.Version, row.Epoch
		}
	}
	it.lease.Incarnation = view.info.Incarnation
	it.paused = view.paused || it.lease.Paused
}

// relate works out what the parents of an item mean to it.
func (s *survey) relate(it *item) {
	it.waiting, it.lost = nil, nil
	for _, id := range it.shard.Parents {
		key := LeaseKey{it.lease.Stream, id}
		switch parent := s.items[key]; {
		case parent != nil && !parent.lease.Checkpoint.ShardEnd:
			it.waiting = append(it.waiting, id)
		case parent == nil && it.lease.Epoch == 0: // it has expired, and nobody has begun with this one
			s.noteExpired(it, key)
		}
	}
}

// noteExpired notes what is known of a parent that has expired.
func (s *survey) noteExpired(it *item, parent LeaseKey) {
	row := s.rows[parent]
	switch {
	case row != nil && row.Incarnation == it.lease.Incarnation:
		if !row.Checkpoint.ShardEnd {
			it.lost = append(it.lost, &braid.TrimmedError{Shard: parent.Shard, FirstLost: row.Checkpoint.SequenceNumber})
		}
	case it.lease.Version == 0: // made and gone since somebody looked
		it.lost = append(it.lost, &braid.TrimmedError{Shard: parent.Shard})
	}
}

// isNeeded reports whether a row is that of a parent that has expired, whose children
// have not all begun.
func (s *survey) isNeeded(row *Lease) bool {
	return slices.ContainsFunc(s.children[row.LeaseKey], func(child *item) bool {
		return child.lease.Epoch == 0 && child.lease.Incarnation == row.Incarnation
	})
}

// sorted returns the items by stream and shard.
func (s *survey) sorted() []*item {
	return slices.SortedFunc(maps.Values(s.items), func(a, b *item) int { return compareKeys(a.lease.LeaseKey, b.lease.LeaseKey) })
}

func compareKeys(a, b LeaseKey) int {
	return cmp.Or(strings.Compare(a.Stream, b.Stream), strings.Compare(string(a.Shard), string(b.Shard)))
}

// meet stores where the application begins in streams that it sees for the first
// time. A stream that is there already begins at the application's start, which
// becomes a concrete place in each shard; one that comes later, also under the name
// of one that was deleted, at its beginning.
func (g *group) meet(ctx context.Context, s *survey) error {
	changed := false
	for name, view := range s.streams {
		key := LeaseKey{Stream: name}
		row := s.rows[key]
		if view.met || view.err != nil || !view.found && row != nil {
			continue
		}
		stream := Lease{LeaseKey: key, Incarnation: view.info.Incarnation}
		if row != nil {
			stream.Version, stream.Paused = row.Version, row.Paused
		} else if view.found {
			switch err := g.place(ctx, name, view, s.app().Checkpoint.Start); {
			case isFatal(err):
				return err
			case err != nil:
				view.err = err
				continue
			}
		}
		changed = true
		if _, err := g.leases.CompareAndSet(ctx, stream); err != nil { // the last: it says that the others are there
			return err
		}
	}
	if !changed {
		return nil
	}
	again, err := g.survey(ctx, s.names())
	if err != nil {
		return err
	}
	for name, view := range s.streams {
		again.streams[name].err = cmp.Or(again.streams[name].err, view.err)
	}
	*s = *again
	return nil
}

func (s *survey) names() (names []string) {
	for name := range s.streams {
		names = append(names, name)
	}
	return names
}

// place stores the places in a stream's shards where processing begins.
func (g *group) place(ctx context.Context, name string, view *streamView, start braid.Position) error {
	start = g.fix(start)
	leases := make([]Lease, 0, len(view.info.Shards))
	for _, shard := range view.info.Shards {
		leases = append(leases, Lease{LeaseKey: LeaseKey{name, shard.ID}, Incarnation: view.info.Incarnation})
	}
	if err := g.resolve(ctx, leases, view.info.Shards, start, nil); err != nil {
		return err
	}
	for chunk := range slices.Chunk(leases, batchLeases) {
		if _, err := g.store(ctx, chunk); err != nil { // what is there already was placed by another
			return err
		}
	}
	return nil
}

// resolve sets the checkpoints of leases of a stream to a position, made concrete.
// shards are theirs, parents before children. A shard that has no records there is
// done only if its parents are: or what comes after it would not wait for them. Of
// parents that are not among the leases, done knows.
func (g *group) resolve(ctx context.Context, leases []Lease, shards []Shard, to braid.Position, done func(braid.ShardID) bool) (err error) {
	open := make(map[braid.ShardID]bool) // to be processed
	for i := range leases {
		l, shard := &leases[i], &shards[i]
		l.Checkpoint, err = g.records().Resolve(ctx, l.Stream, l.Shard, to)
		if isGone(err) {
			l.Checkpoint, err = Checkpoint{Start: shard.Start}, nil // it has expired meanwhile
		}
		if err != nil {
			return err
		}
		for _, parent := range shard.Parents {
			if open[parent] || done != nil && !done(parent) {
				l.Checkpoint.ShardEnd = false
			}
		}
		open[shard.ID] = !l.Checkpoint.ShardEnd
	}
	return nil
}

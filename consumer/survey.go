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
// kept, and brought up to date by each pass: see view.go.
type survey struct {
	rows     map[LeaseKey]*Lease // that are stored
	streams  map[string]*streamView
	items    map[LeaseKey]*item
	children map[LeaseKey][]*item // of shards, even of those that have expired

	// What follows belongs to the survey of a group.
	touched map[LeaseKey]bool // what has changed since the last pass
	changed map[string]bool   // streams that have, of a survey that is older than that
	stale   bool              // it is not to be used for another pass
	partial bool              // leases of other workers may be older than this pass
	fleet   bool              // leases may be made by other engines' workers while those here run
	planned int               // items that have a standing
	counts  map[string]int    // of leases that workers have, by their standing
	free    map[LeaseKey]*item
}

// streamView is a stream that the application names.
type streamView struct {
	name  string
	found bool
	info  StreamInfo
	met   bool  // there is a lease of the stream as it is now
	err   error // why nothing is known of it now

	paused   bool       // the stream, or the application
	topology dbTopology // if it is one of the database
}

// item is a shard that is there.
type item struct {
	shard   ShardInfo
	lease   Lease           // Version 0 if it is not stored yet
	waiting []braid.ShardID // parents that are not done
	paused  bool
	lost    []*braid.TrimmedError // parents that expired before they were done, if it has not begun

	assignee string // the worker that is to get it
	taken    bool   // and has

	standing *plan.Lease // how plan sees it; nil if there is nothing to be done in it
}

// app returns the lease of the application.
func (s *survey) app() Lease {
	if lease := s.rows[LeaseKey{}]; lease != nil {
		return *lease
	}
	return Lease{}
}

func newSurvey() *survey {
	return &survey{
		rows:     make(map[LeaseKey]*Lease),
		streams:  make(map[string]*streamView),
		items:    make(map[LeaseKey]*item),
		children: make(map[LeaseKey][]*item),
		touched:  make(map[LeaseKey]bool),
		counts:   make(map[string]int),
		free:     make(map[LeaseKey]*item),
	}
}

// survey looks at the leases and at the streams of those names; without names, at
// those that the application has met.
func (g *group) survey(ctx context.Context, names []string) (*survey, error) {
	leases, err := g.leases.List(ctx)
	if err != nil {
		return nil, err
	}
	return g.surveyLeases(ctx, leases, names)
}

// surveyLeases is survey with the leases that were listed.
func (g *group) surveyLeases(ctx context.Context, leases []Lease, names []string) (*survey, error) {
	s := newSurvey()
	s.fleet = g.fleet != nil
	var err error
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
		if s.streams[name], err = g.viewStream(ctx, name, s.rows[LeaseKey{Stream: name}]); err != nil {
			return nil, err
		}
	}
	s.derive()
	return s, nil
}

// viewStream looks at a stream, of which there is that lease. Its error is fatal.
func (g *group) viewStream(ctx context.Context, name string, lease *Lease) (view *streamView, err error) {
	view = &streamView{name: name}
	if source, is := g.records().(dbSource); is {
		view.info, view.topology, err = source.describe(name)
	} else {
		view.info, err = g.describeStream(ctx, name)
	}
	switch {
	case err == nil:
		view.found = true
		view.met = lease != nil && lease.Incarnation == view.info.Incarnation
	case isPermanent(err):
		view.err = err
	case isFatal(err):
		return nil, err
	case !errors.Is(err, braid.ErrStreamNotFound):
		view.err = err
	}
	return view, nil
}

// surveyStream looks at one stream, its leases and that of the application: other streams
// cost nothing. It returns nil if the application has not met the stream or that cannot be
// looked at, or where leases are not in the database: such a store lists all.
func (g *group) surveyStream(ctx context.Context, name string) (*survey, error) {
	store, is := g.leases.(dbLeases)
	if !is {
		return nil, nil
	}
	leases, err := store.ofStream(ctx, name)
	if err != nil {
		return nil, err
	}
	s := newSurvey()
	for i := range leases {
		s.rows[leases[i].LeaseKey] = &leases[i]
	}
	view, err := g.viewStream(ctx, name, s.rows[LeaseKey{Stream: name}])
	if err != nil {
		return nil, err
	}
	if !view.met {
		return nil, nil
	}
	s.streams[name] = view
	s.derive()
	g.steps.Add(int64(len(s.rows) + len(s.items)))
	return s, nil
}

// surveyShard looks at one shard of the database, its parents, and the leases of its
// stream and application: whatever else there is costs nothing. It returns nil if the
// application has not met the stream or the shard is not there, or of another source,
// which describes a stream as a whole.
func (g *group) surveyShard(ctx context.Context, key LeaseKey) (*survey, error) {
	source, is := g.records().(dbSource)
	if !is {
		return nil, nil
	}
	info, found := source.describeShard(key)
	if !found {
		return nil, nil
	}
	keys := []LeaseKey{{}, {Stream: key.Stream}}
	for _, shard := range info.Shards {
		keys = append(keys, LeaseKey{key.Stream, shard.ID})
	}
	rows, err := g.getLeases(ctx, keys)
	if err != nil {
		return nil, err
	}
	stream := rows[1]
	if rows[0] == nil || stream == nil || stream.Incarnation != info.Incarnation {
		return nil, nil
	}
	for i, shard := range info.Shards {
		if rows[2+i] == nil && source.isClosed(key.Stream, shard.ID) {
			return nil, nil // whether it is done, its children know
		}
	}
	s := newSurvey()
	for i, row := range rows {
		if row != nil {
			s.rows[keys[i]] = row
		}
	}
	s.streams[key.Stream] = &streamView{name: key.Stream, found: true, info: info, met: true}
	s.derive()
	g.steps.Add(int64(len(keys)))
	return s, nil
}

// getLeases reads leases, nil for those that are not there. Of a store that is not the
// database's it lists all unless they are few.
func (g *group) getLeases(ctx context.Context, keys []LeaseKey) ([]*Lease, error) {
	if store, is := g.leases.(dbLeases); is {
		return store.getAll(ctx, keys)
	}
	const few = 8
	leases := make([]*Lease, len(keys))
	if len(keys) <= few {
		for i, key := range keys {
			lease, found, err := g.leases.Get(ctx, key)
			if err != nil {
				return nil, err
			}
			if found {
				leases[i] = &lease
			}
		}
		return leases, nil
	}
	all, err := g.leases.List(ctx)
	if err != nil {
		return nil, err
	}
	rows := make(map[LeaseKey]*Lease, len(all))
	for i := range all {
		rows[all[i].LeaseKey] = &all[i]
	}
	for i, key := range keys {
		leases[i] = rows[key]
	}
	return leases, nil
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
			s.addShard(name, shard)
		}
	}
	for _, view := range s.streams {
		s.passParents(view)
	}
	for _, it := range s.items {
		s.relateParents(it)
	}
}

// passParents has shards without a lease count as done if their children have begun. It
// looks at children before their parents.
func (s *survey) passParents(view *streamView) {
	for i := range view.info.Shards {
		shard := &view.info.Shards[len(view.info.Shards)-1-i]
		if it := s.items[LeaseKey{view.name, shard.ID}]; it != nil && len(s.children[it.lease.LeaseKey]) > 0 {
			s.readLease(it)
		}
	}
}

// addShard adds a shard of a stream that the application has met.
func (s *survey) addShard(stream string, shard ShardInfo) *item {
	it := &item{shard: shard, lease: Lease{LeaseKey: LeaseKey{stream, shard.ID}}}
	s.items[it.lease.LeaseKey] = it
	for _, id := range shard.Parents {
		parent := LeaseKey{stream, id}
		s.children[parent] = append(s.children[parent], it)
	}
	s.readLease(it)
	return it
}

// readLease sets the lease of an item to the stored one, or to what stands for none.
func (s *survey) readLease(it *item) {
	key := it.lease.LeaseKey
	view := s.streams[key.Stream]
	row := s.rows[key]
	if row != nil && row.isOf(view.info.Incarnation) {
		it.lease = *row
	} else {
		it.lease = Lease{LeaseKey: key, Checkpoint: Checkpoint{Start: it.shard.Start, ShardEnd: s.isPassed(key)}}
		if row != nil { // of a stream that was deleted; its place is taken
			it.lease.Version, it.lease.Epoch = row.Version, row.Epoch
		}
	}
	it.lease.Incarnation = view.info.Incarnation
	it.paused = view.paused || it.lease.Paused
}

// isPassed reports whether a shard without a lease is done: a child of it has begun. Shards
// begin when their parents are done, so that is what it shows; the lease was deleted since,
// as the KCL does with those of shards that have ended. Whether the child's lease was
// stored is not enough, as App.Seek stores that of one that has not begun. In a fleet it is:
// no lease of a child is made there before those of its parents, and one that is not done is
// not deleted.
func (s *survey) isPassed(key LeaseKey) bool {
	return slices.ContainsFunc(s.children[key], func(child *item) bool {
		l := &child.lease
		return s.fleet && s.isStored(l.LeaseKey) || l.Owner != "" || l.Checkpoint.ShardEnd || !l.Checkpoint.SequenceNumber.IsZero() || l.Pending != nil
	})
}

// isStored reports whether there is a lease of a shard, and it belongs to the stream as it is.
func (s *survey) isStored(key LeaseKey) bool {
	row := s.rows[key]
	return row != nil && row.isOf(s.streams[key.Stream].info.Incarnation)
}

// relateParents works out what the parents of an item mean to it.
func (s *survey) relateParents(it *item) {
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
	case row != nil && row.isOf(it.lease.Incarnation):
		if !row.Checkpoint.ShardEnd {
			it.lost = append(it.lost, &braid.TrimmedError{Shard: parent.Shard, FirstLost: row.Checkpoint.SequenceNumber})
		}
	case it.lease.Version == 0: // made and gone since somebody looked
		it.lost = append(it.lost, &braid.TrimmedError{Shard: parent.Shard})
	}
}

// sorted returns the items by stream and shard.
func (s *survey) sorted() []*item {
	return slices.SortedFunc(maps.Values(s.items), func(a, b *item) int { return compareKeys(a.lease.LeaseKey, b.lease.LeaseKey) })
}

func compareKeys(a, b LeaseKey) int {
	return cmp.Or(strings.Compare(a.Stream, b.Stream), strings.Compare(string(a.Shard), string(b.Shard)))
}

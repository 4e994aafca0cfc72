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

// survey has the shards of an application and their progress, at one time. A group keeps its
// survey, and each pass updates it: see view.go.
type survey struct {
	rows     map[LeaseKey]*Lease // stored leases
	streams  map[string]*streamView
	items    map[LeaseKey]*item
	children map[LeaseKey][]*item // children of shards, including expired shards

	// The fields below are for the survey of a group.
	touched map[LeaseKey]bool // rows and shards that have changed since the last pass
	changed map[string]bool   // streams that have changed since the survey was made
	stale   bool              // it must not be used for another pass
	partial bool              // leases of other workers may be older than this pass
	fleet   bool              // workers of other engines may create leases while those of this process run
	settled map[LeaseKey]bool // leases and shards without each other, in a fleet: see compareListing
	planned int               // number of items with a standing
	counts  map[string]int    // leases that workers have, by owner, counted by their standing
	free    map[LeaseKey]*item
}

// streamView is a stream that the application names.
type streamView struct {
	name  string
	found bool
	info  StreamInfo
	met   bool  // the current incarnation of the stream has a lease
	err   error // why the stream cannot be looked at now

	paused   bool       // the stream or the application is paused
	topology dbTopology // for a stream of the database

	lost    map[LeaseKey]bool  // shards that have expired and, by their leases, were not done
	orphans map[LeaseKey]*item // shards of which a parent has expired, and whose leases lack its gap
}

// item is a shard that exists.
type item struct {
	shard   ShardInfo
	lease   Lease           // with Version 0 if it is not stored, and with gaps that are not stored yet
	waiting []braid.ShardID // parents that are not done
	paused  bool

	assignee string // the worker that is to get the lease
	taken    bool   // the assignee has it

	standing *plan.Lease // how plan sees the item; nil if nothing can be done in the shard
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

// survey looks at the leases and at the named streams; without names, at the streams that
// the application has seen.
func (g *group) survey(ctx context.Context, names []string) (*survey, error) {
	leases, err := g.leases.List(ctx)
	if err != nil {
		return nil, err
	}
	return g.surveyLeases(ctx, leases, names)
}

// surveyLeases is survey of leases that are already listed.
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

// viewStream looks at a stream with its lease. Only a fatal error is returned; others are
// in the view.
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

// surveyStream looks at one stream, its leases and that of the application, so other
// streams cost nothing. It returns nil if the application has not seen the stream, or it
// cannot be looked at, or the leases are in a store other than the database, which can
// only list all of them.
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
// stream and application, so nothing else costs anything. It returns nil if the
// application has not seen the stream, the shard does not exist, or the source is another
// one, which can only describe a whole stream.
func (g *group) surveyShard(ctx context.Context, key LeaseKey) (*survey, error) {
	source, is := g.records().(dbSource)
	if !is {
		return nil, nil
	}
	info, found := source.describeShard(key)
	if !found {
		return nil, nil
	}
	keys := []LeaseKey{{}, {Stream: key.Stream}, key}
	for _, parent := range info.Shards[len(info.Shards)-1].Parents { // including those that have expired
		keys = append(keys, LeaseKey{key.Stream, parent})
	}
	rows, err := g.getLeases(ctx, keys)
	if err != nil {
		return nil, err
	}
	stream := rows[1]
	if rows[0] == nil || stream == nil || stream.Incarnation != info.Incarnation {
		return nil, nil
	}
	for i, row := range rows {
		switch {
		case row != nil:
		case source.isClosed(keys[i].Stream, keys[i].Shard): // only its children show whether it is done
			return nil, nil
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
	if s.streams[key.Stream].orphans[key] != nil { // older leases may show more gaps
		return nil, nil
	}
	return s, nil
}

// fewLeases is up to how many leases are read one by one from a store other than the
// database. Beyond that, a listing of all takes less time.
const fewLeases = 8

// getLeases reads leases; nil stands for a lease that does not exist. If a store other
// than the database is asked for many leases, it lists all.
func (g *group) getLeases(ctx context.Context, keys []LeaseKey) ([]*Lease, error) {
	if store, is := g.leases.(dbLeases); is {
		return store.getAll(ctx, keys)
	}
	leases := make([]*Lease, len(keys))
	if len(keys) <= fewLeases {
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

// derive works out what is to be done in each shard. It starts from the shards, not from
// the leases.
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
	for key := range s.rows {
		s.noteLost(key)
	}
	for _, it := range s.items {
		s.relateParents(it)
	}
}

// passParents counts shards without a lease as done if their children have begun. It
// visits children before their parents.
func (s *survey) passParents(view *streamView) {
	for i := range view.info.Shards {
		shard := &view.info.Shards[len(view.info.Shards)-1-i]
		if it := s.items[LeaseKey{view.name, shard.ID}]; it != nil && len(s.children[it.lease.LeaseKey]) > 0 {
			s.readLease(it)
		}
	}
}

// addShard adds a shard of a stream that the application has seen.
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

// readLease sets the lease of an item to the stored one, or to a default if none is
// stored.
func (s *survey) readLease(it *item) {
	key := it.lease.LeaseKey
	view := s.streams[key.Stream]
	row := s.rows[key]
	if row != nil && row.isOf(view.info.Incarnation) {
		it.lease = *row
	} else {
		it.lease = Lease{LeaseKey: key, Checkpoint: Checkpoint{Start: it.shard.Start, ShardEnd: s.isPassed(key)}}
		if row != nil { // it is of a deleted stream, and is overwritten
			it.lease.Version, it.lease.Epoch = row.Version, row.Epoch
		}
	}
	it.lease.Incarnation = view.info.Incarnation
	it.paused = view.paused || it.lease.Paused
}

// isPassed reports whether a shard without a lease is done, because a child of it has
// begun. Shards begin only when their parents are done; the lease of this one was deleted
// since, as the KCL does after the end of a shard. It is not enough that the child has a
// lease: App.Seek also stores leases of shards that have not begun. In a fleet it is enough:
// there, no lease of a child is created before those of its parents, and the lease of a shard
// that is not done is not deleted.
func (s *survey) isPassed(key LeaseKey) bool {
	return slices.ContainsFunc(s.children[key], func(child *item) bool {
		l := &child.lease
		return s.fleet && s.isStored(l.LeaseKey) || l.Owner != "" || l.Checkpoint.ShardEnd || !l.Checkpoint.SequenceNumber.IsZero() || l.Pending != nil
	})
}

// isStored reports whether a shard has a lease of the current incarnation of its stream.
func (s *survey) isStored(key LeaseKey) bool {
	row := s.rows[key]
	return row != nil && row.isOf(s.streams[key.Stream].info.Incarnation)
}

// relateParents works out which parents an item waits for, and the gaps that expired
// parents have left. Whatever stores the item's lease then stores the gaps, too.
func (s *survey) relateParents(it *item) {
	it.waiting = nil
	if len(it.lease.Gaps) > 0 { // drop gaps that an earlier look added; those that are stored stay
		it.lease.Gaps = nil
		if key := it.lease.LeaseKey; s.isStored(key) {
			it.lease.Gaps = s.rows[key].Gaps
		}
	}
	orphan := false
	for _, id := range it.shard.Parents {
		key := LeaseKey{it.lease.Stream, id}
		switch parent := s.items[key]; {
		case parent != nil && !parent.lease.Checkpoint.ShardEnd:
			it.waiting = append(it.waiting, id)
		case parent == nil && s.noteExpired(it, key):
			orphan = true
		}
	}
	s.setOrphan(it, orphan && !it.lease.Checkpoint.ShardEnd)
}

// noteExpired notes the gaps that an expired parent has left, and reports whether it has left
// some that the item's lease lacks: its own, those of its ancestors that nobody has accepted,
// and those of ancestors that expired later than the parent's lease was written, or that
// expired while the parent had no lease. If the parent has no lease, the child's lease shows
// that it was done: see deleteStaleLeases and storeAncestors.
func (s *survey) noteExpired(it *item, parent LeaseKey) bool {
	row := s.rows[parent]
	if row != nil && !row.isOf(it.lease.Incarnation) {
		row = nil
	}
	switch {
	case row != nil && row.Checkpoint.ShardEnd, row == nil && s.isStored(it.lease.LeaseKey), it.lease.hasGap(parent.Shard):
		return false
	}
	for _, key := range slices.SortedFunc(maps.Keys(s.streams[parent.Stream].lost), compareKeys) {
		if compareKeys(key, parent) < 0 && s.mayDescend(it, s.rows[key]) {
			it.inheritGaps(s.rows[key])
		}
	}
	if row != nil {
		it.inheritGaps(row)
	} else { // it was created and has expired since the last look
		it.addGap(LeaseGap{Shard: parent.Shard})
	}
	return true
}

// mayDescend reports whether a lost shard may be an ancestor of an item: the two have hash
// keys in common. If the store does not keep hash keys, it is one whose children have all
// expired, so that none of them reports its gap.
func (s *survey) mayDescend(it *item, row *Lease) bool {
	if row.HashKeyRange == (braid.HashKeyRange{}) {
		return len(s.children[row.LeaseKey]) == 0
	}
	return overlap(row.HashKeyRange, it.shard.HashKeyRange)
}

func overlap(a, b braid.HashKeyRange) bool {
	return a.Start.Compare(b.End) <= 0 && b.Start.Compare(a.End) <= 0
}

// noteLost notes whether a row shows that an expired shard was not done.
func (s *survey) noteLost(key LeaseKey) {
	view, row := s.streams[key.Stream], s.rows[key]
	if view == nil || !view.met || key.Shard == "" {
		return
	}
	lost := row != nil && s.items[key] == nil && row.isOf(view.info.Incarnation) && !row.Checkpoint.ShardEnd
	if lost == view.lost[key] {
		return
	}
	if !lost {
		delete(view.lost, key)
	} else if view.lost == nil {
		view.lost = map[LeaseKey]bool{key: true}
	} else {
		view.lost[key] = true
	}
	s.relateOrphans(view)
}

// relateOrphans is relateParents of all orphans, after a change of the lost shards.
func (s *survey) relateOrphans(view *streamView) {
	for key, it := range view.orphans {
		s.relateParents(it)
		s.touch(key)
	}
}

// setOrphan notes whether an item's lease lacks gaps of expired parents. Once it has them,
// the leases of lost shards may no longer be needed.
func (s *survey) setOrphan(it *item, orphan bool) {
	view, key := s.streams[it.lease.Stream], it.lease.LeaseKey
	switch was := view.orphans[key] != nil; {
	case orphan && view.orphans == nil:
		view.orphans = map[LeaseKey]*item{key: it}
	case orphan:
		view.orphans[key] = it
	case was:
		delete(view.orphans, key)
		for key := range view.lost {
			s.touch(key)
		}
	}
}

// inheritGaps adds the gaps that a lost shard before this one has left, according to its lease.
func (it *item) inheritGaps(row *Lease) {
	for _, gap := range row.Gaps {
		if !gap.Accepted {
			it.addGap(gap)
		}
	}
	it.addGap(LeaseGap{Shard: row.Shard, FirstLost: row.Checkpoint.SequenceNumber})
}

// addGap adds a gap, unless the lease has it. It does not change the row that the lease was
// read from.
func (it *item) addGap(gap LeaseGap) {
	if !it.lease.hasGap(gap.Shard) {
		it.lease.Gaps = append(slices.Clip(it.lease.Gaps), gap)
	}
}

// sorted returns the items by stream and shard.
func (s *survey) sorted() []*item {
	return slices.SortedFunc(maps.Values(s.items), func(a, b *item) int { return compareKeys(a.lease.LeaseKey, b.lease.LeaseKey) })
}

func compareKeys(a, b LeaseKey) int {
	return cmp.Or(strings.Compare(a.Stream, b.Stream), strings.Compare(string(a.Shard), string(b.Shard)))
}

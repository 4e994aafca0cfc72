package consumer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer/internal/plan"
)

// family is a survey of a stream whose shard "c" has the parents "a" and "b", of which
// only the given ones exist. Tests add rows.
func family(there ...braid.ShardID) *survey {
	s := &survey{
		rows:     map[LeaseKey]*Lease{{}: {}, {Stream: "s"}: {LeaseKey: LeaseKey{Stream: "s"}, Incarnation: 7, Version: 1}},
		streams:  make(map[string]*streamView),
		items:    make(map[LeaseKey]*item),
		children: make(map[LeaseKey][]*item),
		touched:  make(map[LeaseKey]bool),
		counts:   make(map[string]int),
		free:     make(map[LeaseKey]*item),
	}
	view := &streamView{found: true, met: true, info: StreamInfo{Incarnation: 7}}
	for _, id := range there {
		shard := ShardInfo{ID: id}
		if id == "c" {
			shard.Parents = []braid.ShardID{"a", "b"}
		}
		view.info.Shards = append(view.info.Shards, shard)
	}
	s.streams["s"] = view
	return s
}

func (s *survey) with(leases ...Lease) *survey {
	for _, lease := range leases {
		lease.Stream = "s"
		if lease.Incarnation == 0 {
			lease.Incarnation = 7
		}
		s.rows[lease.LeaseKey] = &lease
	}
	s.derive()
	return s
}

// row is a stored lease of a shard.
func row(shard braid.ShardID, version, epoch uint64, ended bool) Lease {
	return Lease{LeaseKey: LeaseKey{Shard: shard}, Version: version, Epoch: epoch, Checkpoint: Checkpoint{ShardEnd: ended}}
}

// withGaps is a stored lease with gaps.
func withGaps(lease Lease, gaps ...LeaseGap) Lease {
	lease.Gaps = gaps
	return lease
}

// How a shard depends on its parents: for which it waits, and which have left gaps.
func TestShardWaitsForParentsThatAreThereAndHasGapsOfThoseThatExpired(t *testing.T) {
	number := numbered(t, 1, 1)[0].SequenceNumber
	known := func(shard braid.ShardID) LeaseGap { return LeaseGap{Shard: shard, FirstLost: number} }
	accepted := LeaseGap{Shard: "a", FirstLost: number, Accepted: true}
	for _, test := range []struct {
		name    string
		there   []braid.ShardID
		leases  []Lease
		waiting []braid.ShardID
		gaps    []LeaseGap
	}{
		{name: "nobody has begun", there: []braid.ShardID{"a", "b", "c"}, waiting: []braid.ShardID{"a", "b"}},
		{name: "one is done", there: []braid.ShardID{"a", "b", "c"}, leases: []Lease{row("a", 1, 1, true)}, waiting: []braid.ShardID{"b"}},
		{name: "both are done", there: []braid.ShardID{"a", "b", "c"}, leases: []Lease{row("a", 1, 1, true), row("b", 1, 1, true)}},
		{name: "one has expired when it was done", there: []braid.ShardID{"b", "c"}, leases: []Lease{row("a", 1, 1, true)}, waiting: []braid.ShardID{"b"}},
		{name: "one has expired before it was done", there: []braid.ShardID{"b", "c"}, leases: []Lease{row("a", 1, 1, false)}, waiting: []braid.ShardID{"b"}, gaps: []LeaseGap{known("a")}},
		{name: "one was made and has expired since", there: []braid.ShardID{"b", "c"}, waiting: []braid.ShardID{"b"}, gaps: []LeaseGap{{Shard: "a"}}},
		{name: "that was before the application", there: []braid.ShardID{"b", "c"}, leases: []Lease{row("c", 1, 0, false)}, waiting: []braid.ShardID{"b"}},
		{name: "it had begun, and the parent was to be processed again", there: []braid.ShardID{"c"}, leases: []Lease{row("a", 1, 2, false), row("c", 2, 1, false)}, gaps: []LeaseGap{known("a")}},
		{name: "both have expired", there: []braid.ShardID{"c"}, leases: []Lease{row("a", 1, 1, false), row("b", 1, 1, false)}, gaps: []LeaseGap{known("a"), known("b")}},
		{name: "a gap is stored", there: []braid.ShardID{"c"}, leases: []Lease{withGaps(row("c", 2, 1, false), known("a"))}, gaps: []LeaseGap{known("a")}},
		{name: "a gap was accepted", there: []braid.ShardID{"c"}, leases: []Lease{row("a", 1, 1, false), withGaps(row("c", 2, 1, false), accepted)}, gaps: []LeaseGap{accepted}},
		{
			name: "one gap was accepted, and another one follows", there: []braid.ShardID{"c"},
			leases: []Lease{row("a", 1, 1, false), row("b", 1, 1, false), withGaps(row("c", 2, 1, false), accepted)},
			gaps:   []LeaseGap{accepted, known("b")},
		},
		{
			name: "a parent that expired had gaps", there: []braid.ShardID{"c"},
			leases: []Lease{withGaps(row("a", 1, 1, false), known("x"), LeaseGap{Shard: "y", Accepted: true}), row("b", 1, 1, true)},
			gaps:   []LeaseGap{known("x"), known("a")},
		},
		{
			name: "a parent had gaps and was done", there: []braid.ShardID{"c"},
			leases: []Lease{withGaps(row("a", 1, 1, true), LeaseGap{Shard: "y", Accepted: true}), row("b", 1, 1, true)},
		},
		{
			name: "the lease of the shard is of a stream that was deleted", there: []braid.ShardID{"c"},
			leases: []Lease{row("a", 1, 1, true), withGaps(Lease{LeaseKey: LeaseKey{Shard: "c"}, Incarnation: 6, Version: 9, Epoch: 4}, known("z"))},
			gaps:   []LeaseGap{{Shard: "b"}},
		},
		{
			name: "of a stream that was deleted, nothing counts", there: []braid.ShardID{"a", "b", "c"},
			leases:  []Lease{{LeaseKey: LeaseKey{Shard: "a"}, Incarnation: 6, Version: 3, Epoch: 2, Checkpoint: Checkpoint{ShardEnd: true}}},
			waiting: []braid.ShardID{"a", "b"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			for i := range test.leases {
				test.leases[i].Checkpoint.SequenceNumber = number
			}
			s := family(test.there...).with(test.leases...)
			it := s.items[LeaseKey{"s", "c"}]
			require.Equal(t, test.waiting, it.waiting)
			require.Equal(t, test.gaps, it.lease.Gaps)
			for _, parent := range []braid.ShardID{"a", "b"} {
				require.Equal(t, []*item{it}, s.children[LeaseKey{"s", parent}], "even of one that has expired")
			}
		})
	}
}

// The lease of an expired parent is kept for children without a lease, and, if the parent
// was not done, for children whose leases do not have the gap.
func TestLeaseOfAParentIsNeededUntilItsChildrenHaveTheGap(t *testing.T) {
	for _, test := range []struct {
		name   string
		there  []braid.ShardID
		parent Lease
		child  Lease
		needed bool
	}{
		{"the child has a lease", []braid.ShardID{"c"}, row("a", 1, 1, true), row("c", 1, 0, false), false},
		{"the child has a lease without the gap", []braid.ShardID{"c"}, row("a", 1, 1, false), row("c", 2, 1, false), true},
		{"the child has the gap", []braid.ShardID{"c"}, row("a", 1, 1, false), withGaps(row("c", 2, 1, false), LeaseGap{Shard: "a"}), false},
		{"the child has accepted the gap", []braid.ShardID{"c"}, row("a", 1, 1, false), withGaps(row("c", 2, 1, false), LeaseGap{Shard: "a", Accepted: true}), false},
		{"the child is done", []braid.ShardID{"c"}, row("a", 1, 1, false), row("c", 2, 1, true), false},
		{"the lease of the child is of a stream that was deleted", []braid.ShardID{"c"}, row("a", 1, 1, true), Lease{LeaseKey: LeaseKey{Shard: "c"}, Incarnation: 6, Version: 9, Epoch: 4}, true},
		{"the child has no lease", []braid.ShardID{"c"}, row("a", 1, 1, true), Lease{LeaseKey: LeaseKey{Shard: "x"}}, true},
		{"the child has expired", nil, row("a", 1, 1, true), row("c", 1, 0, false), false},
		{"the parent is of a stream that was deleted", []braid.ShardID{"c"}, Lease{LeaseKey: LeaseKey{Shard: "a"}, Incarnation: 6}, row("c", 1, 0, false), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := family(test.there...).with(test.parent, test.child)
			require.Equal(t, test.needed, s.isNeeded(s.rows[LeaseKey{"s", "a"}]))
		})
	}
}

// A written or deleted row changes the state of its shard and of its children, and makes
// the pass visit them.
func TestSurveyFollowsARow(t *testing.T) {
	s := family("a", "b", "c").with(row("b", 1, 1, true))
	child := s.items[LeaseKey{"s", "c"}]
	require.Equal(t, []braid.ShardID{"a"}, child.waiting)
	written := row("a", 1, 4, true)
	written.Stream, written.Incarnation = "s", 7
	s.setRow(written.LeaseKey, &written)
	require.Empty(t, child.waiting)
	require.Equal(t, map[LeaseKey]bool{{"s", "a"}: true, {"s", "c"}: true}, s.touched)
	require.EqualValues(t, 4, s.items[LeaseKey{"s", "a"}].lease.Epoch)

	clear(s.touched)
	s.setRow(written.LeaseKey, nil)
	require.Equal(t, []braid.ShardID{"a"}, child.waiting)
	require.Equal(t, map[LeaseKey]bool{{"s", "a"}: true, {"s", "c"}: true}, s.touched)
	require.Zero(t, s.items[LeaseKey{"s", "a"}].lease.Version)
	require.Nil(t, s.rows[LeaseKey{"s", "a"}])

	clear(s.touched)
	s.remove(LeaseKey{"s", "c"})
	require.Empty(t, s.children)
	require.Equal(t, map[LeaseKey]bool{{"s", "a"}: true, {"s", "b"}: true, {"s", "c"}: true}, s.touched, "the parents may no longer be needed")
	s.remove(LeaseKey{"s", "c"}) // a removed shard stays removed
	require.Len(t, s.items, 2)
}

// The leases of workers are counted as standings change.
func TestSurveyCountsStandings(t *testing.T) {
	s := family("a", "b", "c").with()
	a, b := s.items[LeaseKey{"s", "a"}], s.items[LeaseKey{"s", "b"}]
	check := func(planned int, counts map[string]int, free ...*item) {
		t.Helper()
		require.Equal(t, planned, s.planned)
		require.Equal(t, counts, s.counts)
		require.Len(t, s.free, len(free))
		for _, it := range free {
			require.Same(t, it, s.free[it.lease.LeaseKey])
		}
	}
	check(0, map[string]int{})
	s.setStanding(a, &plan.Lease{Free: true})
	s.setStanding(b, &plan.Lease{Owner: "one"})
	check(2, map[string]int{"one": 1}, a)
	s.setStanding(a, &plan.Lease{Owner: "one"})
	check(2, map[string]int{"one": 2})
	s.setStanding(b, &plan.Lease{Owner: "two", Moving: true})
	check(2, map[string]int{"one": 1, "two": 1})
	s.setStanding(a, nil)
	s.setStanding(a, nil)
	check(1, map[string]int{"two": 1})
	s.remove(b.lease.LeaseKey)
	check(0, map[string]int{})
}

// durationLeases is a store of which only the duration is used.
type durationLeases struct {
	LeaseStore
	duration time.Duration
}

func (s durationLeases) LeaseDuration() time.Duration { return s.duration }

// When workers may take a lease that has no hold in this process, and which workers.
func TestLeaseIsFree(t *testing.T) {
	const timeout, duration = 30 * time.Second, 10 * time.Second
	now := time.Now()
	for _, test := range []struct {
		name              string
		owner, nextOwner  string
		duration          time.Duration
		unchanged, asking time.Duration // durations
		unseen            time.Duration
		free              bool
	}{
		{name: "nobody's", duration: duration, free: true},
		{name: "one of ours, which has ended", owner: "own", duration: duration, free: true},
		{name: "in the database of a dead worker", owner: "other", free: true},
		{name: "elsewhere, just written", owner: "other", duration: duration},
		{name: "elsewhere, nearly expired", owner: "other", duration: duration, unchanged: duration - 1},
		{name: "elsewhere, expired", owner: "other", duration: duration, unchanged: duration, free: true},
		{name: "elsewhere, expired, and not looked at since", owner: "other", duration: duration, unchanged: duration, unseen: 1},
		{name: "elsewhere, asked for", owner: "other", nextOwner: "own", duration: duration, asking: timeout + duration - 1},
		{name: "elsewhere, asked for in vain", owner: "other", nextOwner: "own", duration: duration, asking: timeout + duration, free: true},
		{name: "elsewhere, asked for by a third", owner: "other", nextOwner: "third", duration: duration, asking: time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			key := LeaseKey{"s", "a"}
			g := &group{
				leases:   durationLeases{duration: test.duration},
				ownNames: map[string]bool{"own": true},
				observed: map[LeaseKey]*observation{key: {changed: now.Add(-test.unchanged), seen: now.Add(-test.unseen), nextOwner: test.nextOwner, asked: now.Add(-test.asking)}},
			}
			require.Equal(t, test.free, g.isFree(&Lease{LeaseKey: key, Owner: test.owner}, timeout, now))
		})
	}
}

// A lease has changed if its Version has, and a request is new if its NextOwner is.
// Clocks of other processes are not used.
func TestChangesOfLeasesAreSeen(t *testing.T) {
	g := &group{leases: durationLeases{duration: time.Minute}, observed: make(map[LeaseKey]*observation)}
	key := LeaseKey{"s", "a"}
	lease := &Lease{LeaseKey: key, Version: 1}
	s := &survey{rows: map[LeaseKey]*Lease{key: lease}}
	began := time.Now()
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	check := func(changed, asked int) {
		t.Helper()
		require.Equal(t, at(changed), g.observed[key].changed)
		if asked >= 0 {
			require.Equal(t, at(asked), g.observed[key].asked)
		}
	}
	g.observe(s, at(0))
	check(0, -1)
	g.observe(s, at(1))
	check(0, -1)
	lease.Version, lease.NextOwner = 2, "w"
	g.observe(s, at(2))
	check(2, 2)
	lease.Version = 3
	g.observe(s, at(3))
	check(3, 2)
	lease.NextOwner = "v"
	g.observe(s, at(4))
	check(3, 4)
	delete(s.rows, key)
	g.observe(s, at(5))
	require.Empty(t, g.observed, "of what is gone nothing is kept")
}

// The keys of written rows are returned once, and collected only while the log is on.
func TestChangeLogKeepsWhatIsWrittenWhileItIsOn(t *testing.T) {
	var log changeLog
	log.note([]byte("early"))
	require.Nil(t, log.take())
	log.begin()
	key := []byte("a")
	log.note(key)
	log.note(key)
	key[0] = 'b' // the caller may change its bytes
	log.note(key)
	require.Equal(t, map[string]bool{"a": true, "b": true}, log.take())
	require.Nil(t, log.take())
	log.note(key)
	log.end()
	require.Nil(t, log.take())
	log.note(key)
	log.begin()
	require.Nil(t, log.take())
}

// A row that concerns a whole stream makes the survey anew, unless the survey knows the
// stream by that row. Otherwise a stream whose row another process wrote meanwhile would
// never begin.
func TestRowsOfStreamsAreKnownOrHaveTheSurveyMadeAnew(t *testing.T) {
	s := family("a").with()
	stored := *s.rows[LeaseKey{Stream: "s"}]
	require.True(t, s.hasMet("s", &stored))
	s.streams["s"].met = false
	require.False(t, s.hasMet("s", &stored))
	s.streams["s"].met = true
	stored.Version++
	require.False(t, s.hasMet("s", &stored), "such as a Pause")
	require.False(t, s.hasMet("s", nil), "it was deleted")
	require.False(t, s.hasMet("other", &stored))
	require.False(t, s.hasMet("", &Lease{}), "the application")
}

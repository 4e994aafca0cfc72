package service

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/braidstream/braid"
)

// placement spreads the records of a stream whose record distribution strategy is AUTO:
// each goes to the open shard after that of the record before it, whatever its keys are.
type placement struct {
	records atomic.Uint64 // that were placed

	mu     sync.Mutex      // guards the fields below
	newest *braid.Shard    // when open was made: a reshard brings a newer one
	open   []braid.HashKey // one of each open shard, by the shards' ids; never changed
}

// place gives the entries the hash keys of the shards that they go to. If the stream is
// resharded meanwhile, those of one call may go to fewer shards than there are.
func (p *placement) place(stream *braid.Stream, entries []braid.Entry) {
	open := p.targets(stream)
	first := p.records.Add(uint64(len(entries))) - uint64(len(entries))
	for i := range entries {
		entries[i].ExplicitHashKey = &open[(first+uint64(i))%uint64(len(open))]
	}
}

// targets returns a hash key of each open shard.
func (p *placement) targets(stream *braid.Stream) []braid.HashKey {
	shards := stream.Shards()
	newest := shards[len(shards)-1]
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.newest == newest {
		return p.open
	}
	p.newest, p.open = newest, nil
	d := stream.Describe()
	for i := range d.Shards {
		if !d.Shards[i].Closed {
			p.open = append(p.open, d.Shards[i].HashKeyRange.Start)
		}
	}
	return p.open
}

// placements are those of a database's streams. Rows say which streams are AUTO; every
// put asks, so it is kept in memory too. All services of a database share one.
type placements struct {
	users int // guarded by allPlacements.mu

	mu sync.Mutex                              // held to replace of
	of atomic.Pointer[map[placedStream]placed] // never changed, but replaced
}

// placedStream is a stream, and no other one that has its name later.
type placedStream struct {
	name    string
	created int64
}

// placed is the newest known strategy of a stream that was AUTO at some time.
type placed struct {
	changes   int        // of the strategy so far: the row with more of them is newer
	placement *placement // nil: it is not AUTO
}

// allPlacements are those of the databases that have a service.
var allPlacements struct {
	mu sync.Mutex // guards of, and the users of what is in it
	of map[*braid.DB]*placements
}

// sharePlacements returns the placements of a database, until leavePlacements is called
// as often.
func sharePlacements(db *braid.DB) *placements {
	all := &allPlacements
	all.mu.Lock()
	defer all.mu.Unlock()
	p := all.of[db]
	if p == nil {
		p = &placements{}
		p.of.Store(&map[placedStream]placed{})
		if all.of == nil {
			all.of = make(map[*braid.DB]*placements)
		}
		all.of[db] = p
	}
	p.users++
	return p
}

func leavePlacements(db *braid.DB) {
	all := &allPlacements
	all.mu.Lock()
	defer all.mu.Unlock()
	if p := all.of[db]; p != nil {
		if p.users--; p.users == 0 {
			delete(all.of, db)
		}
	}
}

// get returns the placement of a stream, nil if partition keys place its records.
func (p *placements) get(stream *braid.Stream) *placement {
	of := *p.of.Load()
	if len(of) == 0 {
		return nil
	}
	return of[placedStream{stream.Name(), stream.CreatedAt().UnixNano()}].placement
}

// learn notes the strategy in a stream's row that was read or written.
func (p *placements) learn(stream *braid.Stream, row *streamRow) {
	if row.StrategyChanges == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	of, key := *p.of.Load(), placedStream{stream.Name(), row.Created}
	known, ok := of[key]
	if ok && known.changes >= row.StrategyChanges {
		return
	}
	of = maps.Clone(of)
	now := placed{changes: row.StrategyChanges}
	if row.strategy() == strategyAuto {
		now.placement = &placement{}
	}
	of[key] = now
	p.of.Store(&of)
}

// forget drops a stream that was deleted.
func (p *placements) forget(stream *braid.Stream) {
	key := placedStream{stream.Name(), stream.CreatedAt().UnixNano()}
	p.mu.Lock()
	defer p.mu.Unlock()
	of := *p.of.Load()
	if _, ok := of[key]; !ok {
		return
	}
	of = maps.Clone(of)
	delete(of, key)
	p.of.Store(&of)
}

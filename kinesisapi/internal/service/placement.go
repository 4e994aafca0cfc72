package service

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/braidstream/braid"
)

// placement spreads the records of a stream whose record distribution strategy is AUTO. The
// open shards take turns, whatever the records' keys are.
type placement struct {
	records atomic.Uint64 // number of records placed

	mu     sync.Mutex      // guards the fields below
	newest *braid.Shard    // newest shard when open was computed: after a reshard there is a newer one
	open   []braid.HashKey // one hash key of each open shard, by shard id; never modified
}

// place sets the entries' hash keys to those of their shards. If the stream is resharded
// meanwhile, the entries of a call may not reach all shards.
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

// placements has the placement of each AUTO stream of a database. Rows store which streams
// are AUTO, and placements caches that for puts. All services of a database share one.
type placements struct {
	users int // guarded by allPlacements.mu

	mu sync.Mutex                              // held to replace the map in of
	of atomic.Pointer[map[placedStream]placed] // the map is never modified, only replaced
}

// placedStream identifies a stream, and not a later one of the same name.
type placedStream struct {
	name    string
	created int64
}

// placed is the newest known strategy of a stream that is or was AUTO.
type placed struct {
	changes   int        // number of changes of the strategy: the row with more changes is newer
	placement *placement // nil if the strategy is not AUTO
}

// allPlacements has the placements of every database that has a service.
var allPlacements struct {
	mu sync.Mutex // guards of, and the users field of its values
	of map[*braid.DB]*placements
}

// sharePlacements returns the placements of a database. Each call needs one call of
// leavePlacements.
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

// get returns the placement of a stream, or nil if the strategy is not AUTO.
func (p *placements) get(stream *braid.Stream) *placement {
	of := *p.of.Load()
	if len(of) == 0 {
		return nil
	}
	return of[placedStream{stream.Name(), stream.CreatedAt().UnixNano()}].placement
}

// learn caches the strategy of a stream's row that was read or written.
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

// forget removes a deleted stream.
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

package consumer

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/wake"
)

// group has the workers of an application in this process. If the leases are in a
// database, they are all workers of the application. Otherwise workers elsewhere are
// known only by their leases.
//
// One goroutine assigns leases. It reconciles whenever something may have changed (a
// worker comes or goes, a hold ends, the streams change, a deadline passes), and carries
// out what plan.Assign says. A pass compares states and reacts to no event, so no event
// can be missed, and the outcome of two events does not depend on their order.
type group struct {
	app    string
	db     *braid.DB // nil if neither source nor leases are in a database
	leases LeaseStore
	fleet  Fleet     // of the store; nil if workers here decide for themselves
	bell   wake.Bell // rings when a pass is due

	progress wake.Signal  // raised when Status has changed, except by new records
	failures atomic.Int64 // how often a shard was stopped; incremented before progress is raised

	mu          sync.Mutex // guards the fields below
	made        int        // workers that New returned and whose Run has not ended
	workers     map[string]*Worker
	holds       map[LeaseKey]*hold // changed by the goroutine alone
	leftBehind  map[*hold]bool     // holds whose lease was taken away, but whose goroutine has not ended
	endedHolds  []*hold            // holds whose goroutine has ended since the last pass
	running     bool               // the goroutine runs
	crewChanged bool               // workers came, went or gave up since the last pass
	source      Source             // of the workers
	custom      bool               // source is that of a Config

	// The goroutine alone uses the fields below.
	ownNames     map[string]bool           // WorkerIDs of all workers that were ever in this process
	heirs        map[LeaseKey]string       // the workers that get the leases of ending holds
	departed     map[string]bool           // workers that have left the fleet
	finished     map[LeaseKey]time.Time    // leases in a fleet that nobody needs, since when
	sought       map[LeaseKey]uint64       // leases and shards in a fleet that the source was asked about: see compareListing
	distrusted   map[string]time.Time      // workers of a fleet that have let a lease expire, and when
	observed     map[LeaseKey]*observation // of other workers' leases
	idle         map[idleness]bool         // reasons that were logged and still hold; nil before the first pass
	view         *survey                   // of the last pass; nil if it has to be made anew
	watching     map[string]func()         // functions that end the watch of a stream of the database, by its name
	withDeadline map[*hold]bool            // holds that have a deadline
	lineages     map[LeaseKey]lineage      // of the shards that a custom source has listed

	table table // the leases of a shared store; only outdate may be called by others

	discovery *discovery // streams of a custom source; unused for the database

	written changeLog    // leases
	changed changeLog    // streams of the database that are watched
	steps   atomic.Int64 // rows, shards and streams that passes have visited; for tests
}

// groupOf returns the group of an application. Workers that use the leases of a database
// share one.
func groupOf(db *braid.DB, cfg *Config) *group {
	newGroup := func() any {
		g := &group{
			app:          cfg.App,
			db:           db,
			leases:       cfg.Leases,
			fleet:        fleetOf(cfg.Leases),
			bell:         wake.NewBell(),
			workers:      make(map[string]*Worker),
			holds:        make(map[LeaseKey]*hold),
			leftBehind:   make(map[*hold]bool),
			ownNames:     make(map[string]bool),
			heirs:        make(map[LeaseKey]string),
			departed:     make(map[string]bool),
			finished:     make(map[LeaseKey]time.Time),
			sought:       make(map[LeaseKey]uint64),
			distrusted:   make(map[string]time.Time),
			observed:     make(map[LeaseKey]*observation),
			withDeadline: make(map[*hold]bool),
			lineages:     make(map[LeaseKey]lineage),
			watching:     make(map[string]func()),
			discovery:    newDiscovery(),
		}
		g.setSource(cfg.Source)
		if g.leases == nil {
			g.leases = dbLeases{db, cfg.App}
			companion.DBOf(db).WatchLeases(cfg.App, g.written.note)
		}
		return g
	}
	if cfg.Leases != nil {
		return newGroup().(*group)
	}
	return companion.DBOf(db).Attach("consumer/"+cfg.App, newGroup).(*group)
}

// setSource sets the source of the records; nil means the database.
func (g *group) setSource(given Source) {
	g.source, g.custom = given, given != nil
	if !g.custom {
		g.source = dbSource{g.db}
	}
}

// noteMade counts workers that New has returned (n > 0) or that have ended (n < 0).
func (g *group) noteMade(n int) {
	g.mu.Lock()
	g.made += n
	g.mu.Unlock()
	g.progress.Raise()
}

// hasMade reports whether a worker exists that may still begin with the application.
func (g *group) hasMade() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.made > 0
}

// records returns the source of the records. It does not change while there are workers.
func (g *group) records() Source {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.source
}

// holdOf returns the hold of a shard, or nil if no worker of this process has it.
func (g *group) holdOf(key LeaseKey) *hold {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.holds[key]
}

// join adds a worker, and starts the goroutine for the first one.
func (g *group) join(w *Worker) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.workers[w.cfg.WorkerID] != nil {
		return &braid.InvalidArgumentError{Field: "WorkerID", Value: fmt.Sprintf("%.140q", w.cfg.WorkerID), Rule: "must differ from that of every running worker"}
	}
	for _, other := range g.workers {
		if !sameStreams(other.cfg.Streams, w.cfg.Streams) {
			return &braid.InvalidArgumentError{Field: "Streams", Value: fmt.Sprintf("%q", w.cfg.Streams), Rule: fmt.Sprintf("must be those of the application's other workers, %q", other.cfg.Streams)}
		}
	}
	switch {
	case len(g.workers) == 0:
		g.setSource(w.cfg.Source)
	case g.custom != (w.cfg.Source != nil):
		return &braid.InvalidArgumentError{Field: "Source", Value: fmt.Sprintf("%T", w.cfg.Source), Rule: "must be that of the application's other workers"}
	}
	w.enterLocked(workerRunning)
	g.workers[w.cfg.WorkerID], g.crewChanged = w, true
	if !g.running {
		g.running = true
		g.discovery.start(w.cfg.ShardSyncInterval)
		g.written.begin()
		g.changed.begin()
		go g.run() // the last worker that leaves waits for it
	}
	g.requestReconcile()
	return nil
}

func sameStreams(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// requestReconcile makes the goroutine do another pass.
func (g *group) requestReconcile() { g.bell.Ring() }

// log returns the logger of any worker, for messages that concern all of them. There is
// one as long as the goroutine runs. Callers must not hold a mutex while they use it: its
// handler is the program's own code, which may call back.
func (g *group) log() *slog.Logger {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range g.workers {
		return w.cfg.Logger.With("app", g.app)
	}
	return slog.New(slog.DiscardHandler)
}

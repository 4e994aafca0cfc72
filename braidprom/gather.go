package braidprom

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/queue"
)

// This file and metrics_gen.go are the same in modules braidprom and braidotel. That of
// braidprom is written by hand, and copied.

// other is the stream label for all streams without series of their own. No stream can
// have this name.
const other = "(other)"

// kind is the type of a metric.
type kind int

const (
	counter kind = iota
	gauge
	histogram
)

// row is a row of the table of metrics: how to take one series from a value.
type row[T any] struct {
	name, help, unit string
	kind             kind
	label, value     string   // its own label, in addition to labels; may be empty
	labels           []string // labels of the thing that is measured

	number func(m *T) float64         // nil for a histogram
	times  func(m *T) braid.Histogram // nil for all other kinds
}

// figures are all values at one moment.
type figures struct {
	database braid.Metrics
	streams  []named[braid.StreamMetrics]
	shards   []named[braid.ShardMetrics]
	stored

	omitted map[string]int // by kind: streams, shards, apps, queues
}

// stored are the figures that have to be read from the store.
type stored struct {
	complete bool // no error, and no timeout
	apps     []named[consumer.Status]
	workers  []named[consumer.Metrics]
	queues   []named[queue.Description]

	moreApps, moreQueues int // number left out
}

// named is a value and the values of its labels.
type named[T any] struct {
	names []string
	value *T
}

// gatherer takes figures. Only one goroutine at a time reads the store, and nobody waits
// for it for longer than the timeout. So while the disk is stalled, only one goroutine is
// left behind.
type gatherer struct {
	db    *braid.DB
	opts  Options
	times bool // only histograms are needed

	mu      sync.Mutex // guards the fields below
	listed  map[string]bool
	last    map[string]seen     // for streams that are not listed
	rest    braid.StreamMetrics // counters, summed up over all streams that were ever not listed
	reading chan struct{}       // closed when the reading goroutine is done; nil if there is none
	read    stored              // result of the last reading goroutine
}

// seen is the last state of a stream.
type seen struct {
	created time.Time
	metrics braid.StreamMetrics
}

func newGatherer(db *braid.DB, options *Options) *gatherer {
	return &gatherer{db: db, opts: options.withDefaults(), listed: make(map[string]bool), last: make(map[string]seen)}
}

// gather takes the current figures.
func (g *gatherer) gather() *figures {
	f := &figures{stored: g.readStored(), omitted: map[string]int{"shards": 0}}
	f.database = g.db.Metrics()
	if g.times {
		return f
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gatherStreams(f)
	f.omitted["apps"], f.omitted["queues"] = f.moreApps, f.moreQueues
	return f
}

// gatherStreams takes the figures of streams and shards. A stream with a series of its
// own keeps it as long as it exists, and a stream without one never gets one: otherwise
// the sum of the others could fall.
func (g *gatherer) gatherStreams(f *figures) {
	streams := g.db.Streams()
	exists := make(map[string]bool, len(streams))
	for _, s := range streams {
		exists[s.Name()] = true
	}
	maps.DeleteFunc(g.listed, func(name string, _ bool) bool { return !exists[name] })
	maps.DeleteFunc(g.last, func(name string, _ seen) bool { return !exists[name] })
	var now braid.StreamMetrics // gauges of the streams without series
	for _, s := range streams {
		name, m := s.Name(), s.Metrics()
		last, isOther := g.last[name]
		if !isOther && (g.listed[name] || len(g.listed) < g.opts.MaxStreams) {
			g.listed[name] = true
			f.streams = append(f.streams, named[braid.StreamMetrics]{[]string{name}, &m})
			g.gatherShards(f, s)
			continue
		}
		if !last.created.Equal(s.CreatedAt()) {
			last = seen{created: s.CreatedAt()}
		}
		addRisen(&g.rest, &m, &last.metrics)
		last.metrics = m
		g.last[name] = last
		now.Shards += m.Shards
		now.OpenShards += m.OpenShards
		now.Queues += m.Queues
		now.Records += m.Records
		now.Bytes += m.Bytes
	}
	f.omitted["streams"] = len(g.last)
	if rest := g.rest; len(g.last) > 0 || rest != (braid.StreamMetrics{}) {
		rest.Shards, rest.OpenShards, rest.Queues, rest.Records, rest.Bytes = now.Shards, now.OpenShards, now.Queues, now.Records, now.Bytes
		f.streams = append(f.streams, named[braid.StreamMetrics]{[]string{other}, &rest})
	}
}

func (g *gatherer) gatherShards(f *figures, s *braid.Stream) {
	if g.opts.MaxShards == 0 {
		return
	}
	for _, sh := range s.Shards() {
		if len(f.shards) == g.opts.MaxShards {
			f.omitted["shards"]++
			continue
		}
		m := sh.Metrics()
		f.shards = append(f.shards, named[braid.ShardMetrics]{[]string{s.Name(), string(sh.ID())}, &m})
	}
}

// addRisen adds the increase of a stream's counters since it was last looked at.
func addRisen(sum, now, before *braid.StreamMetrics) {
	sum.RecordsPut += now.RecordsPut - before.RecordsPut
	sum.BytesPut += now.BytesPut - before.BytesPut
	sum.RecordsRead += now.RecordsRead - before.RecordsRead
	sum.BytesRead += now.BytesRead - before.BytesRead
	sum.PutsThrottled += now.PutsThrottled - before.PutsThrottled
	sum.ReadsThrottled += now.ReadsThrottled - before.ReadsThrottled
}

// readStored returns the figures of applications and queues, or none after the timeout.
func (g *gatherer) readStored() stored {
	timeout := time.NewTimer(g.opts.Timeout)
	defer timeout.Stop()
	for {
		done, own := g.startReading()
		select {
		case <-done:
		case <-timeout.C:
			return stored{}
		}
		if own {
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.read
		} // otherwise the read may have begun before this call
	}
}

func (g *gatherer) startReading() (done <-chan struct{}, own bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reading != nil {
		return g.reading, false
	}
	finished := make(chan struct{})
	g.reading = finished
	go func() { // ends when the disk answers, or the database is closed
		read := g.readNow()
		g.mu.Lock()
		g.read, g.reading = read, nil
		g.mu.Unlock()
		close(finished)
	}()
	return finished, true
}

// readNow uses a context that does not end. If callers could abandon a read, each could
// leave a stalled one behind.
func (g *gatherer) readNow() stored {
	ctx := context.Background()
	out := stored{complete: true}
	apps, err := g.opts.Apps(ctx, g.db)
	out.complete = err == nil
	slices.SortFunc(apps, func(a, b *consumer.App) int { return cmp.Compare(a.Name(), b.Name()) })
	for i, app := range apps {
		if i >= g.opts.MaxApps {
			out.moreApps++
			continue
		}
		for id, m := range app.Metrics() {
			out.workers = append(out.workers, named[consumer.Metrics]{[]string{app.Name(), id}, &m})
		}
		if g.times {
			continue
		}
		status, err := app.Status(ctx)
		if err != nil { // an application that has not begun, or was deleted, has no figures
			out.complete = out.complete && errors.Is(err, consumer.ErrAppNotFound)
			continue
		}
		out.apps = append(out.apps, named[consumer.Status]{[]string{app.Name()}, &status})
	}
	if g.times {
		return out
	}
	queues, err := g.opts.Queues(ctx, g.db)
	out.complete = out.complete && err == nil
	slices.SortFunc(queues, func(a, b *queue.Queue) int { return cmp.Compare(a.Name(), b.Name()) })
	for i, q := range queues {
		if i >= g.opts.MaxQueues {
			out.moreQueues++
			continue
		}
		d, err := q.Describe(ctx)
		if err != nil {
			out.complete = out.complete && errors.Is(err, queue.ErrQueueNotFound)
			continue
		}
		out.queues = append(out.queues, named[queue.Description]{[]string{q.Name()}, d})
	}
	return out
}

// inState returns the number of shards in a state.
func inState(shards []consumer.ShardStatus, state consumer.ShardState) (n int) {
	for i := range shards {
		if shards[i].State == state {
			n++
		}
	}
	return n
}

// boolean returns 1 for true and 0 for false.
func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// timestamp returns the Unix time in seconds, or 0 for the zero time.
func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / float64(time.Second)
}

// Options determine what is collected. The zero value and nil are safe defaults.
type Options struct {
	// MaxStreams is how many streams have series of their own. The figures of all others are
	// added up in the series of a stream "(other)", so that sums over all streams are right.
	// The default is 100; with a negative number, all streams are added up in "(other)".
	MaxStreams int

	// MaxShards is how many shards, of the streams with series, have series of their own. The
	// default is 0: the series of a stream are the sums over its shards.
	MaxShards int

	// MaxApps and MaxQueues limit the applications and the queues that have series, in the
	// order of their names. The default of each is 100; a negative number leaves all out.
	MaxApps, MaxQueues int

	// Apps returns the applications whose series are collected. nil means all that have
	// leases in the database. Set it for applications whose leases are elsewhere.
	Apps func(context.Context, *braid.DB) ([]*consumer.App, error)

	// Queues returns the queues whose series are collected. nil means all.
	Queues func(context.Context, *braid.DB) ([]*queue.Queue, error)

	// Timeout is how long a collection waits for applications and queues, whose figures are
	// read from the store. After that they are missing from the result. The default is 2 s.
	Timeout time.Duration
}

// withDefaults returns the options with defaults filled in.
func (o *Options) withDefaults() (opts Options) {
	if o != nil {
		opts = *o
	}
	for _, bound := range []*int{&opts.MaxStreams, &opts.MaxApps, &opts.MaxQueues} {
		if *bound == 0 {
			*bound = 100
		}
	}
	opts.MaxShards = max(0, opts.MaxShards)
	if opts.Timeout <= 0 {
		opts.Timeout = 2 * time.Second
	}
	if opts.Apps == nil {
		opts.Apps = allApps
	}
	if opts.Queues == nil {
		opts.Queues = func(ctx context.Context, db *braid.DB) ([]*queue.Queue, error) { return queue.List(ctx, db, "") }
	}
	return opts
}

func allApps(ctx context.Context, db *braid.DB) (apps []*consumer.App, err error) {
	names, err := consumer.Apps(ctx, db)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		app, err := consumer.OpenApp(db, name)
		if err != nil {
			return nil, err
		}
		apps = append(apps, app)
	}
	return apps, nil
}

package consumer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid"
)

// discovery remembers the streams of a [Source] that is not the database, so that passes
// do not ask it each time. The source is asked again
//
//   - at the shard sync interval, if it cannot announce changes
//   - when it announces a change
//   - when a shard has ended whose last page did not list its children
//   - after an error, after a pause that doubles each time; after a [PermanentError] only
//     by App.Resume
type discovery struct {
	mu       sync.Mutex // guards the fields below
	interval time.Duration
	streams  map[string]*discovered
	changed  bool   // the last survey is outdated
	news     uint64 // how often something was learned that a listing under way may lack
}

// discovered is the remembered state of a stream.
type discovered struct {
	info     StreamInfo
	err      error
	due      time.Time // when the source is to be asked again; zero for never
	failures int       // consecutive
}

func newDiscovery() *discovery { return &discovery{streams: make(map[string]*discovered)} }

// start forgets all streams, and sets the interval.
func (d *discovery) start(interval time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.interval = interval
	clear(d.streams)
}

// describe returns a stream as it was last seen, or asks the source; fresh reports which.
func (d *discovery) describe(ctx context.Context, source Source, name string, now time.Time) (info StreamInfo, fresh bool, err error) {
	d.mu.Lock()
	if known := d.streams[name]; known != nil && (known.due.IsZero() || now.Before(known.due)) {
		defer d.mu.Unlock()
		return known.info, false, known.err
	}
	news := d.news
	d.mu.Unlock()
	info, err = source.Stream(ctx, name)
	d.note(name, info, err, source.Changed() == nil, news, now)
	return info, true, err
}

// note remembers an answer of the source. polled means that the source does not announce
// changes. news is the count from before it was asked: if it has changed, the source is
// asked again at once.
func (d *discovery) note(name string, info StreamInfo, err error, polled bool, news uint64, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.streams[name]
	if known == nil {
		known = &discovered{}
		d.streams[name] = known
	}
	known.info = info
	if err != nil && !errors.Is(err, braid.ErrStreamNotFound) {
		known.fail(err, d.interval, now)
		return
	}
	known.err, known.due, known.failures = err, time.Time{}, 0
	if d.news != news {
		known.due = now
	} else if polled {
		known.due = now.Add(d.interval)
	}
}

// fail remembers an error of a known stream.
func (d *discovery) fail(name string, err error, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.streams[name]; known != nil {
		known.fail(err, d.interval, now)
	}
}

// fail remembers an error, and when to ask again.
func (known *discovered) fail(err error, interval time.Duration, now time.Time) {
	known.err, known.due = err, time.Time{}
	if !isPermanent(err) {
		known.due = now.Add(min(storePause<<min(known.failures, 16), interval))
		known.failures++
	}
}

// forget makes the next pass ask the source for the streams that a key covers. It reports
// whether one of them was stopped.
func (d *discovery) forget(key LeaseKey) (stopped bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.news++
	for name, known := range d.streams {
		if key.covers(LeaseKey{Stream: name}) || key.Stream == name {
			stopped = stopped || isPermanent(known.err)
			delete(d.streams, name)
		}
	}
	d.changed = true
	return stopped
}

// addShards adds the children of a shard that has ended. complete is false if the source
// must be asked instead: the other parent of a merged shard may be younger than the last
// listing, and so unknown here. The child must not be mistaken for one whose parent has
// expired, and which may begin: the parent's records would come after it, or never.
func (d *discovery) addShards(name string, incarnation uint64, shards []ShardInfo) (complete bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.news++
	known := d.streams[name]
	if known == nil || known.err != nil || known.info.Incarnation != incarnation {
		return true // it is asked for anyway
	}
	isKnown := func(id braid.ShardID) bool {
		return slices.ContainsFunc(known.info.Shards, func(s ShardInfo) bool { return s.ID == id })
	}
	for _, shard := range shards {
		if isKnown(shard.ID) {
			continue
		}
		for _, parent := range shard.Parents {
			if !isKnown(parent) {
				return false
			}
		}
		known.info.Shards = append(slices.Clip(known.info.Shards), shard)
		d.changed = true
	}
	return true
}

// isOutdated reports whether a survey has to be made anew, because something has changed
// or the source is due to be asked.
func (d *discovery) isOutdated(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, known := range d.streams {
		if !known.due.IsZero() && !now.Before(known.due) {
			return true
		}
	}
	return d.changed
}

// begin notes that a survey begins, which sees all changes so far.
func (d *discovery) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed = false
}

// next returns the time until the source is due to be asked again, or 0 for never.
func (d *discovery) next(now time.Time) (wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, known := range d.streams {
		if left := known.due.Sub(now); !known.due.IsZero() && (wait == 0 || left < wait) {
			wait = max(left, 1)
		}
	}
	return wait
}

// stopped returns the streams that a permanent error has stopped.
func (d *discovery) stopped() (stopped []ShardError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, known := range d.streams {
		if isPermanent(known.err) {
			stopped = append(stopped, ShardError{LeaseKey{Stream: name}, known.err})
		}
	}
	return stopped
}

// stoppedStreams returns the streams that a permanent error has stopped: those of the
// workers in this process, or, without workers, those that the application has seen.
func (g *group) stoppedStreams(s *survey) (stopped []ShardError) {
	g.mu.Lock()
	running := g.running
	g.mu.Unlock()
	if running {
		stopped = g.discovery.stopped()
	} else {
		for name, view := range s.streams {
			if isPermanent(view.err) {
				stopped = append(stopped, ShardError{LeaseKey{Stream: name}, view.err})
			}
		}
	}
	slices.SortFunc(stopped, func(a, b ShardError) int { return compareKeys(a.LeaseKey, b.LeaseKey) })
	return stopped
}

// describeStream returns a stream of a source that is not the database. While workers
// run, it is the remembered one; otherwise the source is asked.
func (g *group) describeStream(ctx context.Context, name string) (StreamInfo, error) {
	g.mu.Lock()
	source, running := g.source, g.running
	g.mu.Unlock()
	if !running {
		return source.Stream(ctx, name)
	}
	info, fresh, err := g.discovery.describe(ctx, source, name, time.Now())
	if fresh && err != nil && !errors.Is(err, braid.ErrStreamNotFound) && !(isFatal(err) && !isPermanent(err)) {
		g.noteStreamError(name, err)
	}
	return info, err
}

// failStream notes that processing of a stream cannot begin.
func (g *group) failStream(name string, err error) {
	if g.custom { // for the database, the pass does that
		g.discovery.fail(name, err, time.Now())
		g.noteStreamError(name, err)
	}
}

// noteStreamError logs that the state of a stream cannot be read.
func (g *group) noteStreamError(name string, err error) {
	if isPermanent(err) {
		g.log().Error("the stream is stopped", "stream", name, "error", err)
		return
	}
	g.log().Warn("the state of a stream cannot be read; retrying", "stream", name, "error", err)
}

// noteEndOfShard makes the workers see the children of a shard that has ended, or is
// gone, at once: from its last page, or, if that does not list them, from the source.
func (g *group) noteEndOfShard(stream string, incarnation uint64, children []ShardInfo) {
	g.mu.Lock()
	custom := g.custom
	g.mu.Unlock()
	if !custom {
		return // the database announces changes
	}
	if len(children) == 0 || !g.discovery.addShards(stream, incarnation, children) {
		g.discovery.forget(LeaseKey{Stream: stream})
	}
	g.requestReconcile()
}

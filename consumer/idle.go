package consumer

import (
	"cmp"
	"errors"
	"slices"

	"github.com/braidstream/braid"
)

// idleness is a reason why nothing is processed, or nothing will be once a record
// fails, though no worker has an error: it is logged when it begins and when it ends,
// since nothing else would say it.
type idleness struct {
	reason idleReason
	key    LeaseKey
}

type idleReason int

const (
	awaitsStream     idleReason = iota // one of Config.Streams does not exist
	awaitsDeadLetter                   // Config.DeadLetterStream does not
	isPaused                           // by App.Pause
)

// logIdle logs what has begun and ended since the last look. Each look compares
// streams; shards, of which there may be many, only the first one: what happens to
// them later, their holds log.
func (g *group) logIdle(s *survey) {
	first := g.idle == nil
	now := make(map[idleness]bool)
	for name, view := range s.streams {
		if view.err != nil {
			if was := (idleness{awaitsStream, LeaseKey{Stream: name}}); g.idle[was] {
				now[was] = true // nothing new is known
			}
			continue
		}
		if !view.found {
			now[idleness{awaitsStream, LeaseKey{Stream: name}}] = true
		}
		if row := s.rows[LeaseKey{Stream: name}]; row != nil && row.Paused {
			now[idleness{isPaused, row.LeaseKey}] = true
		}
	}
	if s.app().Paused {
		now[idleness{isPaused, LeaseKey{}}] = true
	}
	for _, name := range g.awaitedDeadLetters() {
		now[idleness{awaitsDeadLetter, LeaseKey{Stream: name}}] = true
	}
	for key, row := range s.rows {
		if first && key.Shard != "" && row.Paused {
			now[idleness{isPaused, key}] = true
		}
	}
	for it := range g.idle {
		if it.key.Shard != "" && s.rows[it.key] != nil && s.rows[it.key].Paused {
			now[it] = true
		}
	}
	was := g.idle
	g.idle = now
	for _, it := range missingIn(was, now) {
		log := g.log().With(it.key.attrs()...)
		switch it.reason {
		case awaitsStream:
			log.Warn("a stream does not exist; it is waited for")
		case awaitsDeadLetter:
			log.Warn("the dead-letter stream does not exist; records that fail wait")
		case isPaused:
			log.Warn("processing is paused")
		}
	}
	for _, it := range missingIn(now, was) {
		log := g.log().With(it.key.attrs()...)
		switch it.reason {
		case awaitsStream:
			log.Info("the stream exists now")
		case awaitsDeadLetter:
			log.Info("the dead-letter stream exists now")
		case isPaused:
			log.Info("processing is resumed")
		}
	}
}

// missingIn returns what is in all and not in some, in a fixed order.
func missingIn(some, all map[idleness]bool) (missing []idleness) {
	for it := range all {
		if !some[it] {
			missing = append(missing, it)
		}
	}
	slices.SortFunc(missing, func(a, b idleness) int {
		return cmp.Or(compareKeys(a.key, b.key), cmp.Compare(a.reason, b.reason))
	})
	return missing
}

// attrs names the key in a line of the log.
func (k LeaseKey) attrs() (attrs []any) {
	if k.Stream != "" {
		attrs = append(attrs, "stream", k.Stream)
	}
	if k.Shard != "" {
		attrs = append(attrs, "shard", k.Shard)
	}
	return attrs
}

// awaitedStreams returns those that the application is to process and that do not
// exist: of its workers here, or, if there are none, of those it has met.
func (g *group) awaitedStreams(s *survey) (awaited []string) {
	named := make(map[string]bool)
	g.mu.Lock()
	alone := len(g.workers) == 0
	for _, w := range g.workers {
		for _, name := range w.cfg.Streams {
			named[name] = true
		}
	}
	g.mu.Unlock()
	for name, view := range s.streams {
		if !view.found && (alone || named[name]) {
			awaited = append(awaited, name)
		}
	}
	slices.Sort(awaited)
	return awaited
}

// awaitedDeadLetters returns the dead-letter streams of workers here that do not
// exist.
func (g *group) awaitedDeadLetters() (awaited []string) {
	g.mu.Lock()
	for _, w := range g.workers {
		if name := w.cfg.DeadLetterStream; name != "" && !slices.Contains(awaited, name) {
			awaited = append(awaited, name)
		}
	}
	g.mu.Unlock()
	slices.Sort(awaited)
	return slices.DeleteFunc(awaited, func(name string) bool {
		_, err := g.db.Stream(name)
		return !errors.Is(err, braid.ErrStreamNotFound)
	})
}

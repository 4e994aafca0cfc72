package consumer

import (
	"cmp"
	"errors"
	"slices"

	"github.com/braidstream/braid"
)

// idleness is a reason why nothing is processed, or why nothing will be once a record
// fails, although no worker has an error. It is logged when it begins and when it ends,
// since nothing else would show it.
type idleness struct {
	reason idleReason
	key    LeaseKey
}

type idleReason int

const (
	awaitsStream     idleReason = iota // one of Config.Streams does not exist
	awaitsDeadLetter                   // Config.DeadLetterStream does not exist
	isPaused                           // paused by App.Pause
)

// logIdle logs what has begun and ended since the last pass. Like the pass, it visits
// only shards and streams that have changed, or, if all is true, all streams. Only the
// first pass logs paused shards: later changes are logged by their holds.
func (g *group) logIdle(s *survey, all bool) {
	first := g.idle == nil
	if first {
		g.idle = make(map[idleness]bool)
	}
	var begun, ended []idleness
	note := func(reason idleReason, key LeaseKey, now bool) {
		it := idleness{reason, key}
		switch {
		case now && !g.idle[it]:
			g.idle[it] = true
			begun = append(begun, it)
		case !now && g.idle[it]:
			delete(g.idle, it)
			ended = append(ended, it)
		}
	}
	noteStream := func(name string, view *streamView) {
		if view != nil && view.err == nil { // otherwise the stream could not be looked at
			note(awaitsStream, LeaseKey{Stream: name}, !view.found)
		}
	}
	if all {
		for name, view := range s.streams {
			noteStream(name, view)
		}
	} else {
		for name := range s.changed {
			noteStream(name, s.streams[name])
		}
	}
	if all || len(s.changed) > 0 {
		dead := g.awaitedDeadLetters()
		for it := range g.idle {
			if it.reason == awaitsDeadLetter && !slices.Contains(dead, it.key.Stream) {
				note(awaitsDeadLetter, it.key, false)
			}
		}
		for _, name := range dead {
			note(awaitsDeadLetter, LeaseKey{Stream: name}, true)
		}
	}
	for key := range s.touched {
		if key.Stream != "" && s.streams[key.Stream] == nil {
			continue // no worker processes it
		}
		row := s.rows[key]
		paused := row != nil && row.Paused
		if key.Shard == "" || first || !paused {
			note(isPaused, key, paused)
		}
	}
	sortIdle(begun)
	sortIdle(ended)
	for _, it := range begun {
		log := g.log().With(it.key.attrs()...)
		switch it.reason {
		case awaitsStream:
			log.Warn("a stream does not exist; waiting for it")
		case awaitsDeadLetter:
			log.Warn("the dead-letter stream does not exist; records that fail wait")
		case isPaused:
			log.Warn("processing is paused")
		}
	}
	for _, it := range ended {
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

func sortIdle(all []idleness) {
	slices.SortFunc(all, func(a, b idleness) int {
		return cmp.Or(compareKeys(a.key, b.key), cmp.Compare(a.reason, b.reason))
	})
}

// attrs returns the attributes that name the key in a log message.
func (k LeaseKey) attrs() (attrs []any) {
	if k.Stream != "" {
		attrs = append(attrs, "stream", k.Stream)
	}
	if k.Shard != "" {
		attrs = append(attrs, "shard", k.Shard)
	}
	return attrs
}

// awaitedStreams returns the streams that do not exist among those that the workers of
// this process name, or, without workers, those that the application has seen.
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
		if !view.found && view.err == nil && (alone || named[name]) {
			awaited = append(awaited, name)
		}
	}
	slices.Sort(awaited)
	return awaited
}

// awaitedDeadLetters returns the dead-letter streams that workers of this process name
// and that do not exist.
func (g *group) awaitedDeadLetters() (awaited []string) {
	return slices.DeleteFunc(g.deadLetterStreams(), func(name string) bool {
		_, err := g.db.Stream(name)
		return !errors.Is(err, braid.ErrStreamNotFound)
	})
}

// deadLetterStreams returns the sorted dead-letter streams of the workers in this
// process.
func (g *group) deadLetterStreams() (names []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range g.workers {
		if name := w.cfg.DeadLetterStream; name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

package braid

import (
	"maps"
	"slices"
	"sync"
)

// Changed returns a channel that is closed at the next change of the set of streams and
// shards: when a stream is created or deleted, when shards are split, merged or expire, and
// when the database closes. To miss no change, get the channel first and then look:
//
//	for {
//		changed := db.Changed()
//		... look at db.Streams() and Stream.Describe ...
//		select {
//		case <-changed:
//		case <-ctx.Done():
//			return
//		}
//	}
//
// Changes of settings, puts and trims do not close it.
func (db *DB) Changed() <-chan struct{} { return db.changed.Wait() }

// noteChange announces that a stream was created or deleted, or that its shards changed.
func (db *DB) noteChange(stream string) {
	db.changed.Raise()
	db.onStream.note(stream)
}

// streamWatch calls functions when the stream of a certain name changes, so that a change
// costs the watchers of other streams nothing.
type streamWatch struct {
	mu  sync.Mutex // guards the field below; nothing is called under it
	fns map[string]map[*func()]bool
}

// add calls fn at each change of the stream, until stop is called.
func (w *streamWatch) add(stream string, fn func()) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fns == nil {
		w.fns = make(map[string]map[*func()]bool)
	}
	if w.fns[stream] == nil {
		w.fns[stream] = make(map[*func()]bool)
	}
	w.fns[stream][&fn] = true
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.fns[stream], &fn); len(w.fns[stream]) == 0 {
			delete(w.fns, stream)
		}
	}
}

// note calls the functions that watch a stream.
func (w *streamWatch) note(stream string) {
	w.mu.Lock()
	var told []func()
	for fn := range w.fns[stream] {
		told = append(told, *fn)
	}
	w.mu.Unlock()
	for _, fn := range told {
		fn()
	}
}

// noteAll calls all functions: the database closes.
func (w *streamWatch) noteAll() {
	w.mu.Lock()
	streams := slices.Collect(maps.Keys(w.fns))
	w.mu.Unlock()
	for _, stream := range streams {
		w.note(stream)
	}
}

package braid

import (
	"maps"
	"slices"
	"sync"
)

// Changed returns a channel that is closed at the next change of what streams and
// shards there are: when a stream is created or deleted, when shards are split,
// merged or expire, and when the database closes. A caller that must not miss a
// change takes the channel first, and then looks:
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
// Settings, records and their trimming are no such changes.
func (db *DB) Changed() <-chan struct{} { return db.changed.Wait() }

// noteChange notes that a stream was created or deleted, or has got or lost shards.
func (db *DB) noteChange(stream string) {
	db.changed.Raise()
	db.onStream.note(stream)
}

// streamWatch calls functions when the stream of a name has changed, so that the change
// costs those who watch other streams nothing.
type streamWatch struct {
	mu  sync.Mutex // guards the field below; nothing is called under it
	fns map[string]map[*func()]bool
}

// add has fn called with each change of a stream, until stop is called.
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

// note calls those who watch a stream.
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

// noteAll calls everybody, as when the database closes.
func (w *streamWatch) noteAll() {
	w.mu.Lock()
	streams := slices.Collect(maps.Keys(w.fns))
	w.mu.Unlock()
	for _, stream := range streams {
		w.note(stream)
	}
}

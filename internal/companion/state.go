package companion

import (
	"sync"

	"github.com/braidstream/braid/internal/layout"
)

// Attachments are the values attached to an open database. The zero value has none.
type Attachments struct {
	mu   sync.Mutex // guards the field below
	held map[string]any
}

// Attach implements [DB].
func (a *Attachments) Attach(name string, attach func() any) any {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held[name] == nil {
		if a.held == nil {
			a.held = make(map[string]any)
		}
		a.held[name] = attach()
	}
	return a.held[name]
}

// LeaseWatch calls the functions registered for changes of rows about leases. The zero value
// has none.
type LeaseWatch struct {
	mu   sync.Mutex // guards the fields below
	all  func(key, value []byte)
	apps map[string]func(key []byte)
}

// OnCommit implements [DB].
func (w *LeaseWatch) OnCommit(fn func(key, value []byte)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = fn
}

// WatchLeases implements [DB].
func (w *LeaseWatch) WatchLeases(app string, fn func(key []byte)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if fn == nil {
		delete(w.apps, app)
		return
	}
	if w.apps == nil {
		w.apps = make(map[string]func(key []byte))
	}
	w.apps[app] = fn
}

// Note reports a row that was written, with a nil value for a deleted one.
func (w *LeaseWatch) Note(key, value []byte) {
	w.mu.Lock()
	all, app := w.all, w.apps[string(layout.LeaseApp(key))]
	w.mu.Unlock()
	if all != nil {
		all(key, value)
	}
	if app != nil {
		app(key)
	}
}

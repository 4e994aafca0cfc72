package consumer

import "sync"

// broadcast wakes all who wait for it.
type broadcast struct {
	mu sync.Mutex    // guards the field below
	ch chan struct{} // closed by the next raise; nil while nobody waits
}

func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) raise() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

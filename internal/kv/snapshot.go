package kv

import (
	"context"

	"github.com/cockroachdb/pebble/v2"
)

// Snapshot is a state of the store that later commits do not change. Close it: until then, data
// that was deleted since keeps its disk space. Keys that [Store.Excise] has removed disappear
// from it, too.
type Snapshot struct {
	store    *Store
	snapshot *pebble.Snapshot
	gate     gate // shut by Close
}

// NewSnapshot returns the latest state. Closing the store closes it, if it is still open.
func (s *Store) NewSnapshot() (*Snapshot, error) {
	if err := s.gate.enter(); err != nil {
		return nil, err
	}
	defer s.gate.leave()
	snap := &Snapshot{store: s, snapshot: s.db.NewSnapshot(), gate: newGate()}
	s.snapshots.Lock()
	defer s.snapshots.Unlock()
	s.snapshots.open[snap] = struct{}{}
	return snap, nil
}

// Get returns a copy of the key's value, or ErrNotFound.
func (n *Snapshot) Get(key []byte) ([]byte, error) {
	if err := n.enter(); err != nil {
		return nil, err
	}
	defer n.leave()
	return get(n.snapshot, key)
}

// NewIter returns an iterator. See [Reader]. It outlives the snapshot, but not
// the store.
func (n *Snapshot) NewIter(lower, upper []byte) (*Iter, error) {
	if err := n.enter(); err != nil {
		return nil, err
	}
	defer n.gate.leave()
	iter, err := newIter(n.snapshot, lower, upper)
	if err != nil {
		n.store.gate.leave()
		return nil, err
	}
	iter.gate = &n.store.gate
	return iter, nil
}

// enter passes the gates of the store and of the snapshot, in this order.
func (n *Snapshot) enter() error {
	if err := n.store.gate.enter(); err != nil {
		return err
	}
	if err := n.gate.enter(); err != nil {
		n.store.gate.leave()
		return err
	}
	return nil
}

func (n *Snapshot) leave() {
	n.gate.leave()
	n.store.gate.leave()
}

// Close closes the snapshot, and waits until that is done or the context ends. If a reader is
// still inside, its caller no longer waits for the disk: Close does not wait for it either, and
// the snapshot is closed when the reader leaves. Further calls do nothing.
func (n *Snapshot) Close(ctx context.Context) error {
	if n.store.gate.enter() != nil {
		return nil // the store has closed it, or was abandoned with it
	}
	if !n.gate.shut() {
		n.store.gate.leave()
		return nil
	}
	// Pebble looks for compactions that the end of the snapshot makes possible, and for that
	// waits for its manifest, which may be stuck. No caller needs to wait for it.
	free := n.gate.empty()
	done := make(chan struct{})
	go func() {
		defer n.store.gate.leave()
		defer close(done)
		n.gate.wait()
		n.store.snapshots.Lock()
		delete(n.store.snapshots.open, n)
		n.store.snapshots.Unlock()
		n.release()
	}()
	if !free {
		return nil
	}
	select {
	case <-done:
	case <-ctx.Done():
	case <-n.store.stuck():
	case <-n.store.Failed():
	}
	return nil
}

// release closes Pebble's snapshot, unless the store is stuck.
func (n *Snapshot) release() {
	if !n.store.isBroken() {
		// Pebble's Close of a snapshot has no error to return.
		_ = n.snapshot.Close()
	}
}

// closeSnapshots closes the snapshots that are still open. The store's gate is shut and empty,
// so no snapshot is being made or closed.
func (s *Store) closeSnapshots() {
	for snap := range s.snapshots.open {
		snap.gate.shut()
		snap.release()
	}
	clear(s.snapshots.open)
}

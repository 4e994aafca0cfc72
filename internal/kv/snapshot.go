package kv

import (
	"context"

	"github.com/cockroachdb/pebble/v2"
)

// Snapshot is a state of the store that later commits do not change. Close it,
// for it keeps what was removed since on the disk. It does not show what
// [Store.Excise] has taken away.
type Snapshot struct {
	store    *Store
	snapshot *pebble.Snapshot
	gate     gate // shut by Close
}

// NewSnapshot returns the latest state. Close of the store closes it, if nobody
// else has.
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

// Close ends the snapshot, and waits for that until the context ends. A reader that
// is still inside is one whose caller no longer waits for the disk: then the snapshot
// ends with it, and Close does not wait. Further calls do nothing.
func (n *Snapshot) Close(ctx context.Context) error {
	if n.store.gate.enter() != nil {
		return nil // the store has closed it, or was abandoned with it
	}
	if !n.gate.shut() {
		n.store.gate.leave()
		return nil
	}
	// Pebble looks for work that the end of the snapshot makes possible, and for that
	// waits for its manifest, which may be held. Nobody need wait for it.
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

// release gives Pebble's part back. A store that is stuck keeps it.
func (n *Snapshot) release() {
	if !n.store.isBroken() {
		// Pebble's Close of a snapshot has no error to return.
		_ = n.snapshot.Close()
	}
}

// closeSnapshots closes what was left open. The store's gate is shut and empty,
// so no snapshot is being closed or made.
func (s *Store) closeSnapshots() {
	for snap := range s.snapshots.open {
		snap.gate.shut()
		snap.release()
	}
	clear(s.snapshots.open)
}

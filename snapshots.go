package braid

import (
	"context"
	"sync"

	"github.com/braidstream/braid/internal/kv"
)

// snapshots hands out durable states of the application's keys. Pebble shows a write before
// the write is durable. So while a group that writes keys is on its way to the disk,
// transactions share a snapshot that was taken right before it.
type snapshots struct {
	store *kv.Store

	mu      sync.Mutex // guards the fields below
	version uint64     // the version of the newest durable state
	held    *snapshot  // that state, while a group is on its way; otherwise nil
	failed  error      // why held could not be taken
}

// snapshot is a state that transactions share. The last of them closes it.
type snapshot struct {
	*kv.Snapshot
	version uint64
	users   int // guarded by the mutex of snapshots
}

// take returns the newest durable state; release gives it back.
func (s *snapshots) take() (*snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return nil, s.failed
	}
	if s.held != nil {
		s.held.users++
		return s.held, nil
	}
	return s.newLocked()
}

func (s *snapshots) newLocked() (*snapshot, error) {
	kvSnapshot, err := s.store.NewSnapshot()
	if err != nil {
		return nil, err
	}
	return &snapshot{Snapshot: kvSnapshot, version: s.version, users: 1}, nil
}

func (s *snapshots) release(ctx context.Context, snap *snapshot) {
	s.mu.Lock()
	snap.users--
	last := snap.users == 0
	s.mu.Unlock()
	if last {
		_ = snap.Close(ctx) // its last user has ended, so the error does not matter
	}
}

// hold keeps the current state for transactions that begin from now on. The committer calls
// it before it commits a group that writes keys.
func (s *snapshots) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held, s.failed = s.newLocked()
}

// publish notes that the group, and so the state with that version, is durable.
func (s *snapshots) publish(version uint64) {
	s.mu.Lock()
	held := s.held
	s.version, s.held, s.failed = version, nil, nil
	s.mu.Unlock()
	if held != nil {
		s.release(context.Background(), held)
	}
}

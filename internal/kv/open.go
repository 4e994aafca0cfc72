package kv

import (
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/braidstream/braid/internal/guardfs"
)

const (
	// openPatience is how long Open waits on a full disk.
	openPatience = 10 * time.Second

	// minFreeBytes is the free space without which Open does not even try.
	minFreeBytes = 8 << 20

	// maxAbandoned bounds the stores of this process that could not be closed.
	maxAbandoned = 8
)

// abandoned counts the stores of this process that were left behind.
var abandoned atomic.Int32

// Open opens the database, or creates it in a directory that is absent or empty.
// A database whose creation did not end, in which nothing was ever acknowledged,
// is created again. If Open returns an error it has changed nothing in a
// database that existed, unless that error came from writing.
func Open(cfg Config) (*Store, error) {
	if n := abandoned.Load(); n >= maxAbandoned {
		return nil, fmt.Errorf("%w: this process has left %d databases behind that could not be closed; restart it", ErrFailed, n)
	}
	s := &Store{cfg: cfg, gate: newGate()}
	s.space.stuck = make(chan struct{})
	s.space.moved = make(chan struct{}, 1)
	s.snapshots.open = make(map[*Snapshot]struct{})
	real, err := s.locate()
	if err != nil {
		return nil, diskError(err)
	}
	s.reporter = newReporter(cfg.Logger)
	s.guard = guardfs.New(real, guardfs.Config{
		Dir:          s.dir,
		ReserveBytes: cfg.ReserveBytes,
		OnSpace:      s.onSpace,
	})
	s.damage = newDamage(s.reporter, s.guard)
	if err := s.start(); err != nil {
		return nil, diskError(err)
	}
	return s, nil
}

// locate finds the directory and takes its lock.
func (s *Store) locate() (FS, error) {
	switch {
	case s.cfg.InMemory:
		s.dir = "/braid"
		return vfs.NewMem(), nil
	case s.cfg.FS != nil:
		s.dir = s.cfg.Dir
		return s.cfg.FS, nil
	}
	dir, err := resolveDir(s.cfg.Dir)
	if err != nil {
		return nil, err
	}
	s.dir = dir
	// This comes before a lock file is put into somebody else's directory. It is
	// asked twice, because the owner may be creating the database between the
	// look for an identity and the look for anything else.
	if _, _, err := readIdentity(vfs.Default, dir); errors.Is(err, ErrNotDatabase) {
		if _, _, err := readIdentity(vfs.Default, dir); errors.Is(err, ErrNotDatabase) {
			return nil, err
		}
	}
	s.lock, err = lockDir(dir)
	return vfs.Default, err
}

// start opens the database in the directory that is locked. Whatever Pebble does
// is done in a goroutine that can be left behind: on a full disk it would never
// come back.
func (s *Store) start() error {
	result := make(chan error, 1)
	go func() { result <- s.bringUp() }()
	patience := time.NewTimer(openPatience)
	patience.Stop() // until there is a reason to lose it
	for {
		select {
		case err := <-result:
			if err != nil {
				return joinErrors(err, s.dispose())
			}
			return nil
		case <-s.guard.Broken():
			return s.abandon(s.Err())
		case <-s.space.moved:
			patience.Stop()
			if isClosed(s.stuck()) {
				patience.Reset(openPatience)
			}
		case <-patience.C:
			return s.abandon(fmt.Errorf("%w: opening %s could not go on for %v", ErrDiskFull, s.dir, openPatience))
		}
	}
}

// bringUp is the list of steps from a locked directory to an open database.
func (s *Store) bringUp() error {
	id, found, err := readIdentity(s.guard, s.dir)
	if err != nil {
		return err
	}
	if err := s.checkFree(); err != nil {
		return err
	}
	if s.lock != nil {
		if err := s.lock.announce(); err != nil {
			return err
		}
	}
	if !found || !id.Ready {
		return s.create()
	}
	s.identity = id
	if _, err := s.guard.Stat(s.StoreDir()); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrDataLoss, err) // which Pebble has no class for
	}
	if !s.cfg.InMemory {
		if err := s.verify(); err != nil {
			return err
		}
	}
	// Whoever created the database may have died before the identity's last name
	// was durable. Then a power cut would bring back the one that says that there
	// is nothing to lose.
	if err := syncDir(s.guard, s.dir); err != nil {
		return err
	}
	if err := s.removeBackups(); err != nil {
		return err
	}
	options := s.options()
	options.ErrorIfNotExists = true
	s.db, err = pebble.Open(s.StoreDir(), options)
	return openError(err)
}

// checkFree refuses an open that would only get stuck. File systems that cannot
// tell pass.
func (s *Store) checkFree() error {
	if usage, err := s.guard.GetDiskUsage(s.dir); err == nil && usage.AvailBytes < minFreeBytes {
		return fmt.Errorf("%w: %d bytes are free at %s, and opening needs %d", ErrDiskFull, usage.AvailBytes, s.dir, int64(minFreeBytes))
	}
	return nil
}

// verify opens Pebble without changing a byte, and has its rows checked.
// Opening it for writing deletes what it no longer knows, so damage must be
// found before.
func (s *Store) verify() error {
	options := s.options()
	options.ReadOnly = true
	options.DisableTableStats = true // nothing is compacted, and Close would wait for those of damaged tables
	options.ErrorIfNotExists = true
	db, err := pebble.Open(s.StoreDir(), options)
	if err != nil {
		return openError(err)
	}
	if s.cfg.Verify != nil {
		err = s.cfg.Verify(readOnly{db})
	}
	return joinErrors(err, openError(db.Close()))
}

// readOnly is the Reader that Verify gets.
type readOnly struct{ db *pebble.DB }

// Get implements Reader.
func (r readOnly) Get(key []byte) ([]byte, error) { return get(r.db, key) }

// NewIter implements Reader.
func (r readOnly) NewIter(lower, upper []byte) (*Iter, error) { return newIter(r.db, lower, upper) }

package kv

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/braidstream/braid/internal/layout"
)

// This file opens a database without changing a byte: it makes no directory, writes no lock
// file, and removes nothing that a crash left behind; Pebble replays its log into memory.
// TestReadOnlyChangesNothing verifies that.

// locateReadOnly is locate for reading: it finds the directory and shares its lock.
func (s *Store) locateReadOnly() (FS, error) {
	if s.cfg.FS != nil {
		s.dir = s.cfg.Dir
		return s.cfg.FS, nil
	}
	dir, err := existingDir(s.cfg.Dir)
	if err != nil {
		return nil, err
	}
	s.dir = dir
	s.lock, err = shareDir(dir)
	return vfs.Default, err
}

// existingDir is resolveDir for a directory that must exist.
func existingDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	resolved, err := filepath.EvalSymlinks(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w: %w", ErrNotDatabase, err)
	case err != nil:
		return "", noDirectory(err)
	}
	return resolved, checkDirectory(resolved)
}

// bringUpReadOnly opens an existing database, and checks its rows. It opens Pebble once: there
// is no second open that could do harm.
func (s *Store) bringUpReadOnly(id layout.Identity, found bool) error {
	if !found || !id.Ready {
		return fmt.Errorf("%w: %q has none, or one whose creation was interrupted", ErrNotDatabase, s.dir)
	}
	s.identity = id
	if err := s.checkDescriptors(readOnlyDescriptors); err != nil {
		return err
	}
	db, x, err := s.openVerified(id)
	if err != nil {
		return withAdvice(err)
	}
	x.leaveOut()
	s.guard.Track(s.StoreDir(), x.durable(), nil) // for VerifyFiles
	if err := s.check(db); err != nil {
		return joinErrors(err, openError(db.Close()))
	}
	s.db = db
	return nil
}

// openReadOnly opens Pebble for reading. Damage concerns only its readers: nothing is written
// that it could spread to.
func (s *Store) openReadOnly() (*pebble.DB, error) {
	db, err := pebble.Open(s.StoreDir(), s.readOnlyOptions())
	return db, openError(err)
}

func (s *Store) readOnlyOptions() *pebble.Options {
	options := s.options()
	options.ReadOnly = true
	options.DisableTableStats = true // only compactions need them, and Close would wait for those of damaged tables
	options.ErrorIfNotExists = true
	options.EventListener.DataCorruption = func(pebble.DataCorruptionInfo) {}
	return options
}

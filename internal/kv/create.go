package kv

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/braidstream/braid/internal/layout"
)

// Names in the directory of a database.
const (
	identityName    = "BRAID"
	newIdentityName = "BRAID.new"
	lockName        = "LOCK"
	storeName       = "store"
)

// readIdentity reads the identity of the database in the directory. found is false where a
// database may be created; if the directory holds something else, the error is ErrNotDatabase.
func readIdentity(files FS, dir string) (id layout.Identity, found bool, err error) {
	return readIdentityNamed(files, dir, identityName)
}

func readIdentityNamed(files FS, dir, file string) (id layout.Identity, found bool, err error) {
	name := files.PathJoin(dir, file)
	f, err := files.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return id, false, checkVacant(files, dir)
	}
	if err != nil {
		return id, false, fmt.Errorf("read identity: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, layout.MaxIdentityBytes+1))
	if err != nil {
		return id, false, fmt.Errorf("read identity: %w", err)
	}
	if id, err = layout.DecodeIdentity(data); err != nil {
		return id, false, &FileDamageError{File: identityName, Damage: FileChanged, Offset: -1, Size: int64(len(data)), Want: -1, Cause: err}
	}
	switch {
	case id.TooOld():
		return id, false, fmt.Errorf("%w: %s has format %d, and format %d is the oldest that can be read", ErrFormatTooOld, dir, id.Format, layout.OldestReadable)
	case id.TooNew():
		return id, false, fmt.Errorf("%w: %s has format %d, readable from version %d on", ErrFormatTooNew, dir, id.Format, id.OldestReader)
	}
	return id, true, nil
}

// checkVacant returns nil if the directory is absent, or holds only files that an interrupted
// Open leaves. A ledger in it means that the identity was lost: the identity is written first,
// except where a backup or a salvage has put its mark.
func checkVacant(files FS, dir string) error {
	names, err := files.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	if slices.Contains(names, unfinishedName) {
		return errUnfinished(ErrNotDatabase, dir)
	}
	for _, name := range names {
		if strings.HasPrefix(name, ledgerName+".") {
			return &FileDamageError{File: identityName, Damage: FileMissing, Offset: -1, Size: -1, Want: -1}
		}
	}
	for _, name := range names {
		if name != lockName && name != newIdentityName {
			return fmt.Errorf("%w: %q holds %q", ErrNotDatabase, dir, name)
		}
	}
	return nil
}

// create makes a new database.
//
// Invariant: the identity says "creating" durably before anything else is there, and "ready"
// only when all of it is durable. So after a crash there is either a beginning that the next
// open wipes, or a whole database. TestCreationSurvivesCrashes verifies that. The ledger says
// "ready" too, a moment later: see checkCreating.
func (s *Store) create() error {
	if err := s.announce(); err != nil {
		return err
	}
	id, err := layout.NewIdentity()
	if err != nil {
		return err
	}
	if s.cfg.ID != uuid.Nil {
		id.ID = s.cfg.ID
	}
	if err := makeDirs(s.guard, s.dir); err != nil {
		return err
	}
	// The directory may exist without being durable, if another program made it. A process
	// without permission to read the parent directory cannot sync it, and trusts that program.
	if err := syncDir(s.guard, s.guard.PathDir(s.dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if err := writeIdentity(s.guard, s.dir, id); err != nil {
		return err
	}
	if err := s.guard.RemoveAll(s.StoreDir()); err != nil {
		return fmt.Errorf("wipe a database whose creation was interrupted: %w", err)
	}
	if err := makeDirs(s.guard, s.StoreDir()); err != nil {
		return err
	}
	s.beginLedger(id)
	options := s.options()
	options.ErrorIfExists = true
	if s.db, err = pebble.Open(s.StoreDir(), options); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	s.room.init(s.cfg.MemTableBytes)
	s.identity, s.created = id, true
	s.losses.Marked = true
	s.identity.Ready = true
	err = s.initialize()
	if err == nil {
		err = s.ledger.write()
	}
	if err == nil {
		err = writeIdentity(s.guard, s.dir, s.identity)
	}
	if err == nil {
		err = s.ledger.ready()
	}
	if err != nil {
		return joinErrors(err, s.db.Close())
	}
	return nil
}

// checkCreating refuses an identity that says "creating" if the ledger says "ready": the
// identity is an old one, and the records put since must not be wiped.
func (s *Store) checkCreating(id layout.Identity) error {
	l, _, err := readLedgers(s.guard, s.dir, id)
	if err == nil && l.files.Ready {
		err = &FileDamageError{File: identityName, Damage: FileOld, Offset: -1, Size: -1, Want: -1}
	}
	return err
}

// initialize commits the first rows. Pebble writes the first log of a database
// in its oldest format, in which damage goes unnoticed, so that log is emptied
// into tables at once and never read again.
func (s *Store) initialize() error {
	if s.cfg.Init != nil {
		batch := s.NewBatch()
		defer batch.Close()
		if err := s.cfg.Init(batch); err != nil {
			return err
		}
		if err := batch.Commit(!s.cfg.NoLog); err != nil {
			return err
		}
	}
	return s.writeError(s.db.Flush())
}

// writeIdentity replaces the identity file.
func writeIdentity(files FS, dir string, id layout.Identity) error {
	if err := replaceFile(files, dir, newIdentityName, identityName, id.Encode()); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return nil
}

// replaceFile replaces a file of the directory, durably and all at once.
func replaceFile(files FS, dir, temporary, name string, data []byte) error {
	temporary = files.PathJoin(dir, temporary)
	if err := writeFile(files, temporary, data); err != nil {
		return err
	}
	if err := files.Rename(temporary, files.PathJoin(dir, name)); err != nil {
		return err
	}
	return syncDir(files, dir)
}

// writeFile makes a durable file.
func writeFile(files FS, name string, data []byte) error {
	f, err := files.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return joinErrors(err, f.Close())
}

// makeDirs makes a directory and those above it that are missing, durably.
func makeDirs(files FS, dir string) error {
	var missing []string
	for d := dir; ; d = files.PathDir(d) {
		_, err := files.Stat(d)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		missing = append(missing, d)
		if files.PathDir(d) == d {
			break
		}
	}
	if err := files.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, d := range missing {
		if err := syncDir(files, files.PathDir(d)); err != nil {
			return err
		}
	}
	return nil
}

// syncDir makes the entries of a directory durable.
func syncDir(files FS, dir string) error {
	d, err := files.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	err = d.Sync()
	if err != nil {
		err = fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return joinErrors(err, d.Close())
}

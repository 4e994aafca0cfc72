package kv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/braidstream/braid/internal/layout"
)

// Source is the directory of a database that is read without opening it.
type Source struct {
	FS    FS
	Dir   string // on FS
	Store string // the directory of Pebble's files

	// Identity is what the directory says it is. Err says why it is not known, and then
	// it is the zero value.
	Identity layout.Identity
	Err      error

	lock *dirLock
}

// OpenSource shares the lock of a directory that must be there, on the real file system
// if files is nil, and writes nothing. It refuses one that holds nothing of a database,
// and one whose format this version does not read.
func OpenSource(files FS, dir string) (_ *Source, err error) {
	src := &Source{FS: files, Dir: dir}
	if files == nil {
		src.FS = vfs.Default
		if src.Dir, err = existingDir(dir); err != nil {
			return nil, diskError(err)
		}
		if src.lock, err = shareDir(src.Dir); err != nil {
			return nil, diskError(err)
		}
	}
	src.Store = src.FS.PathJoin(src.Dir, storeName)
	id, found, err := readIdentity(src.FS, src.Dir)
	switch {
	case errors.Is(err, ErrFormatTooNew), errors.Is(err, ErrFormatTooOld):
		return nil, joinErrors(err, src.Close())
	case err == nil && !found:
		err = fmt.Errorf("%w: %s is missing", ErrDataLoss, identityName)
	}
	if _, missing := src.FS.Stat(src.Store); missing != nil {
		if errors.Is(missing, fs.ErrNotExist) && (err == nil || errors.Is(err, ErrCorrupt)) {
			missing = fmt.Errorf("%w: %w", ErrDataLoss, missing)
		} else if errors.Is(missing, fs.ErrNotExist) {
			missing = fmt.Errorf("%w: %q", ErrNotDatabase, dir)
		}
		return nil, joinErrors(missing, src.Close())
	}
	src.Identity, src.Err = id, err
	return src, nil
}

// Owns reports whether a directory, which need not be there, is the source's or lies in
// it.
func (src *Source) Owns(dir string) bool {
	if src.lock != nil {
		name, err := nameOfDir(dir)
		if err != nil {
			return false
		}
		dir = name
	}
	rest, ok := strings.CutPrefix(dir, src.Dir)
	return ok && (rest == "" || os.IsPathSeparator(rest[0]))
}

// Close gives the directory back.
func (src *Source) Close() error { return src.lock.release() }

// Target is a database that is being made of what another one had. Until it is finished
// its directory is not one of a database: Open refuses it.
type Target struct {
	Store   *Store // of the new database
	Scratch *Store // for what has to be sorted first

	files FS
	dir   string
	id    layout.Identity
}

// targetName is the directory that a target is made in.
const targetName = "salvage"

// scratchMemTableBytes is the size of a memtable of the scratch store.
const scratchMemTableBytes = 8 << 20

// NewTarget begins a database in Config.Dir, which must be absent or empty.
func NewTarget(cfg Config) (_ *Target, err error) {
	t := &Target{files: cfg.FS, dir: cfg.Dir}
	if t.files == nil {
		t.files = vfs.Default
		if t.dir, err = nameOfDir(cfg.Dir); err != nil {
			return nil, err
		}
	}
	if err := checkEmpty(t.files, t.dir); err != nil {
		return nil, noDirectory(err)
	}
	cfg.NoLog = true
	work := t.files.PathJoin(t.dir, targetName)
	cfg.Dir = t.files.PathJoin(work, "new")
	if t.Store, err = Open(cfg); err != nil {
		return nil, joinErrors(err, t.Discard())
	}
	t.id = t.Store.identity
	cfg.Dir, cfg.MemTableBytes, cfg.Init = t.files.PathJoin(work, "scratch"), scratchMemTableBytes, nil
	cfg.TableBoundary, cfg.ID = nil, uuid.Nil
	if t.Scratch, err = Open(cfg); err != nil {
		return nil, joinErrors(err, t.Discard())
	}
	return t, nil
}

// ID returns the id of the new database.
func (t *Target) ID() uuid.UUID { return t.id.ID }

// Finish makes the directory a database. Its identity is written last.
func (t *Target) Finish() error {
	if err := t.Store.Flush(); err != nil {
		return err
	}
	if err := t.Store.Close(); err != nil {
		return err
	}
	if err := t.Scratch.Close(); err != nil {
		return err
	}
	work := t.files.PathJoin(t.dir, targetName)
	made := t.files.PathJoin(work, "new")
	names, err := t.files.List(made)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == lockName || name == identityName {
			continue
		}
		if err := t.files.Rename(t.files.PathJoin(made, name), t.files.PathJoin(t.dir, name)); err != nil {
			return err
		}
	}
	if err := syncDir(t.files, t.dir); err != nil {
		return err
	}
	if err := t.files.RemoveAll(work); err != nil {
		return err
	}
	if err := syncDir(t.files, t.dir); err != nil {
		return err
	}
	t.id.Ready = true
	return writeIdentity(t.files, t.dir, t.id)
}

// Discard removes all that was made.
func (t *Target) Discard() error {
	for _, s := range []*Store{t.Store, t.Scratch} {
		if s != nil {
			_ = s.Close() // whatever it says, the files go
		}
	}
	err := t.files.RemoveAll(t.files.PathJoin(t.dir, identityName))
	for _, name := range append(ledgerFiles(), newIdentityName, targetName, storeName) {
		err = joinErrors(err, t.files.RemoveAll(t.files.PathJoin(t.dir, name)))
	}
	return err
}

// CommitWithin is [Batch.Commit], without sync, for a caller that has nothing else to
// wait for a failure of the store or for space: it returns their errors, and the cause of
// a context that ends. The batch is not used again after an error.
func (s *Store) CommitWithin(ctx context.Context, b *Batch) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	go func() { done <- b.Commit(false) }()
	select {
	case err := <-done:
		return err
	case <-s.Failed():
		return s.Err()
	case <-s.stuck():
		return s.Shortage()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

package kv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/braidstream/braid/internal/layout"
)

// Source is the directory of a database that is read without opening it.
type Source struct {
	FS    FS
	Dir   string // on FS
	Store string // the directory of Pebble's files

	// ID is that of the database; zero if neither its identity nor a ledger tells. Err says
	// why the identity could not be read.
	ID  uuid.UUID
	Err error

	// Durable is how many bytes of logs and of the manifest are known to have been durable,
	// by their names: as the newest ledger has it that can be read. Logs that were done with
	// may still be listed. Manifest is the newest that is known to have been durable, empty
	// if none is.
	Durable  map[string]int64
	Manifest string

	ledgers    *ledgers
	unreadable []*FileDamageError // ledgers of which there is none of this database
	lock       *dirLock
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
	case err != nil && !isClassified(err) && !errors.Is(err, syscall.EIO):
		return nil, joinErrors(diskError(err), src.Close()) // it may be there, and readable to others
	case err == nil && !found:
		err = fmt.Errorf("%w: %s is missing", ErrDataLoss, identityName)
	}
	if _, missing := src.FS.Stat(src.Store); missing != nil {
		switch {
		case !errors.Is(missing, fs.ErrNotExist):
		case err == nil, errors.Is(err, ErrCorrupt):
			missing = fmt.Errorf("%w: %w", ErrDataLoss, missing)
		case errors.Is(err, ErrNotDatabase):
			missing = err
		default:
			missing = fmt.Errorf("%w: %q", ErrNotDatabase, dir)
		}
		return nil, joinErrors(diskError(missing), src.Close())
	}
	if src.ID, src.Err = id.ID, err; err != nil {
		src.ID = newestLedger(src.FS, src.Dir).Database
	}
	if err := src.readLedgers(); err != nil {
		return nil, joinErrors(diskError(err), src.Close())
	}
	return src, nil
}

// readLedgers reads the ledgers of this database. A disk that cannot read one has lost it.
func (src *Source) readLedgers() (err error) {
	src.ledgers, src.unreadable, err = readLedgers(src.FS, src.Dir, layout.Identity{ID: src.ID})
	if err != nil {
		if IsPassing(err) {
			return err
		}
		src.ledgers = newLedgers()
		src.unreadable = []*FileDamageError{{File: ledgerName, Damage: FileChanged, Offset: -1, Size: -1, Want: -1, Cause: err}}
	}
	src.Durable = make(map[string]int64)
	src.Manifest = src.ledgers.files.Manifest
	for _, f := range src.ledgers.files.Files {
		src.Durable[f.Name] = f.Size
	}
	return nil
}

// IsPassing reports whether an error of reading is one of this process or its machine and
// not of the file: what it hides must not be taken for lost.
func IsPassing(err error) bool {
	return errors.Is(Classify(err), ErrOutOfResources) || errors.Is(err, fs.ErrPermission)
}

// Compare compares the files of the store with the ledgers, as an open does: all that are
// listed and there, even those that the store had done with. It returns what is wrong with
// them, and with the ledgers themselves if there are none of this database; then the files
// that those list are taken for what they look like. A file that the disk cannot read is
// left to its readers. An error is one that [IsPassing], or the cause of the context.
func (src *Source) Compare(ctx context.Context) ([]*FileDamageError, error) {
	x := &examination{ledgers: src.ledgers, found: slices.Clone(src.unreadable)}
	files := storeFiles{src.FS, src.Store}
	if peeked, err := pebble.Peek(src.Store, src.FS); err == nil && peeked.Exists {
		x.compareMarker(src.FS.PathBase(peeked.ManifestFilename))
	}
	for _, f := range src.ledgers.files.Files {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		number, _ := logNumber(f.Name)
		if err := files.examineFile(x, f, number); err != nil && IsPassing(err) {
			return nil, diskError(err)
		}
	}
	for _, t := range src.ledgers.tables.Tables {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err := files.examineTable(x, t); err != nil && IsPassing(err) {
			return nil, diskError(err)
		}
	}
	return slices.DeleteFunc(x.found, func(d *FileDamageError) bool { // it may have been removed rightly
		return d.Damage == FileMissing && strings.HasPrefix(d.File, storeName+"/")
	}), nil
}

// Lists reports whether a ledger lists a log or a table, or whether that is not known.
func (src *Source) Lists(name string) bool {
	l := src.ledgers
	return l.files.Sequence == 0 || l.tables.Sequence == 0 || src.Durable[name] > 0 ||
		slices.ContainsFunc(l.tables.Tables, func(t layout.LedgerTable) bool { return t.Name == name })
}

// IsTable reports whether a file is a table all checksums of which match.
func (src *Source) IsTable(name string) bool { return storeFiles{src.FS, src.Store}.isSound(name) }

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
// its directory has the mark of an unfinished one, and Open refuses it.
type Target struct {
	Store   *Store // of the new database
	Scratch *Store // for what has to be sorted first

	files FS
	dir   string
	lock  *dirLock // of dir; nil on a file system that needs none
	cfg   Config   // of the new database
	id    layout.Identity
}

// targetName is the directory that a target is made in.
const targetName = "salvage"

// scratchMemTableBytes is the size of a memtable of the scratch store.
const scratchMemTableBytes = 8 << 20

// NewTarget begins a database in Config.Dir, which must be absent or empty.
func NewTarget(cfg Config) (_ *Target, err error) {
	t := &Target{files: cfg.FS, dir: cfg.Dir}
	if err := t.enter(); err != nil {
		return nil, diskError(noDirectory(err))
	}
	if err := markUnfinished(t.files, t.dir); err != nil {
		return nil, diskError(joinErrors(err, t.Discard()))
	}
	cfg.NoLog = true
	work := t.files.PathJoin(t.dir, targetName)
	cfg.Dir = t.files.PathJoin(work, "new")
	t.cfg = cfg
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

// enter takes the directory for this target alone: another one that is made there would
// remove what this one has made.
func (t *Target) enter() (err error) {
	if t.files != nil {
		return checkEmpty(t.files, t.dir)
	}
	t.files = vfs.Default
	if t.dir, err = nameOfDir(t.dir); err != nil {
		return err
	}
	if err := checkEmpty(t.files, t.dir); err != nil {
		return err
	}
	if t.dir, err = resolveDir(t.dir); err != nil {
		return err
	}
	if t.lock, err = lockDir(t.dir); err != nil {
		return err
	}
	names, err := t.files.List(t.dir)
	if err == nil && !slices.Equal(names, []string{lockName}) {
		err = fmt.Errorf("%w: %q", ErrNotEmpty, t.dir) // another one has ended meanwhile
	}
	if err != nil {
		return joinErrors(err, t.lock.release())
	}
	return nil
}

// ID returns the id of the new database.
func (t *Target) ID() uuid.UUID { return t.id.ID }

// Finish makes the directory a database. Its identity is written last, unless the
// context has ended.
func (t *Target) Finish(ctx context.Context) error {
	if err := t.Store.FlushWithin(ctx); err != nil {
		return err
	}
	if err := t.Store.Close(); err != nil {
		return err
	}
	if err := t.Scratch.Close(); err != nil {
		return err
	}
	// A store that had no log gets one, without which it would look damaged.
	t.cfg.NoLog = false
	again, err := Open(t.cfg)
	if err == nil {
		err = again.Close()
	}
	if err == nil {
		err = diskError(t.publish(ctx))
	}
	if err != nil {
		return err
	}
	lock := t.lock
	t.lock = nil
	return lock.release()
}

// publish moves what was made to where Open looks for it.
func (t *Target) publish(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
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
	// As in create: somebody else may have made the directory, and not durably.
	if err := syncDir(t.files, t.files.PathDir(t.dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.id.Ready = true
	if err := writeIdentity(t.files, t.dir, t.id); err != nil {
		return err
	}
	return markFinished(t.files, t.dir)
}

// Discard removes all that was made.
func (t *Target) Discard() error {
	for _, s := range []*Store{t.Store, t.Scratch} {
		if s != nil {
			_ = s.Close() // whatever it says, the files go
		}
	}
	err := discardUnfinished(t.files, t.dir)
	if t.lock != nil {
		err = joinErrors(err, t.lock.release())
		t.lock = nil
		err = joinErrors(err, t.files.RemoveAll(t.files.PathJoin(t.dir, lockName)))
	}
	return err
}

// CommitWithin is [Batch.Commit], without sync, for a caller that has nothing else to
// wait for a failure of the store or for space: it returns their errors, and the cause of
// a context that ends. The batch is only closed after an error.
func (s *Store) CommitWithin(ctx context.Context, b *Batch) (err error) {
	b.lent = true
	left, err := s.within(ctx, func() error { return b.Commit(false) })
	b.lent = left
	return err
}

// FlushWithin is [Store.Flush] for the same caller.
func (s *Store) FlushWithin(ctx context.Context) error {
	_, err := s.within(ctx, s.Flush)
	return err
}

// within makes a call that changes the store. It reports whether it has left the call
// behind, which goes on until the store is closed or abandoned.
func (s *Store) within(ctx context.Context, call func() error) (left bool, err error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return false, err
	case <-s.Failed():
		return true, s.Err()
	case <-s.stuck():
		return true, s.Shortage()
	case <-ctx.Done():
		return true, context.Cause(ctx)
	}
}

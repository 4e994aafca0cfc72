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

	// ID is the database's; zero if neither the identity nor a ledger has it. Err says why the
	// identity could not be read.
	ID  uuid.UUID
	Err error

	// Durable maps the names of logs and of the manifest to the number of bytes that were
	// durable according to the newest readable ledger. It may still list logs that are no
	// longer needed. Manifest is the newest durable manifest in the ledger, empty if there is
	// none.
	Durable  map[string]int64
	Manifest string

	ledgers    *ledgers
	unreadable []*FileDamageError // ledgers with no readable file of this database
	lock       *dirLock
}

// OpenSource takes the shared lock of a directory that must exist, on the real file system if
// files is nil, and writes nothing. It refuses a directory without any file of a database, and
// a format that this version does not read.
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
		return nil, joinErrors(diskError(err), src.Close()) // the file may exist, and be readable to others
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

// readLedgers reads the ledgers of this database. A ledger that the disk cannot read counts as
// lost.
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

// IsPassing reports whether a read failed because of this process or its machine, not because
// of the file. Data behind such an error does not count as lost.
func IsPassing(err error) bool {
	return errors.Is(Classify(err), ErrOutOfResources) || errors.Is(err, fs.ErrPermission)
}

// Compare compares the files of the store with the ledgers, as an open does: all that are
// listed and exist, even those that the store no longer needs. It returns their damage, and
// that of ledgers with no readable file of this database; files that those would list are not
// compared. A file that the disk cannot read is left for its readers to find. The error is one
// that [IsPassing], or the cause of the context.
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
	return slices.DeleteFunc(x.found, func(d *FileDamageError) bool { // the store may have removed it
		return d.Damage == FileMissing && strings.HasPrefix(d.File, storeName+"/")
	}), nil
}

// Lists reports whether a ledger lists a log or a table, or whether that is unknown.
func (src *Source) Lists(name string) bool {
	l := src.ledgers
	return l.files.Sequence == 0 || l.tables.Sequence == 0 || src.Durable[name] > 0 ||
		slices.ContainsFunc(l.tables.Tables, func(t layout.LedgerTable) bool { return t.Name == name })
}

// IsTable reports whether a file is a table and all its checksums match.
func (src *Source) IsTable(name string) bool { return storeFiles{src.FS, src.Store}.isSound(name) }

// Owns reports whether a directory, which need not exist, is the source's or lies in it.
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

// Close unlocks the directory.
func (src *Source) Close() error { return src.lock.release() }

// Target is a new database for the data of a damaged one. Until Finish, its directory has the
// mark of an unfinished database, and Open refuses it.
type Target struct {
	Store   *Store // of the new database
	Scratch *Store // for data that must be sorted first

	files FS
	dir   string
	lock  *dirLock // of dir; nil on a file system that needs none
	cfg   Config   // of the new database
	id    layout.Identity
}

// targetName is the working directory of a target.
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

// enter reserves the directory for this target: another one would remove its files.
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
		err = fmt.Errorf("%w: %q", ErrNotEmpty, t.dir) // another target was finished meanwhile
	}
	if err != nil {
		return joinErrors(err, t.lock.release())
	}
	return nil
}

// ID returns the id of the new database.
func (t *Target) ID() uuid.UUID { return t.id.ID }

// Finish turns the directory into a database. It writes the identity last, and only if the
// context has not ended.
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
	// The store was written without a log; a database without one would look damaged.
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

// publish moves the files to where Open looks for them.
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
	// As in create: another program may have made the directory without making it durable.
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
			_ = s.Close() // the files are removed in any case
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

// CommitWithin is [Batch.Commit] without sync that also returns when the store fails, when it
// waits for space, or when the context ends, with the error of each. After an error the batch
// must only be closed.
func (s *Store) CommitWithin(ctx context.Context, b *Batch) (err error) {
	b.lent = true
	left, err := s.within(ctx, func() error { return b.Commit(false) })
	b.lent = left
	return err
}

// FlushWithin is [Store.Flush] that returns in the same cases.
func (s *Store) FlushWithin(ctx context.Context) error {
	_, err := s.within(ctx, s.Flush)
	return err
}

// within makes a call that changes the store. left reports whether it returned before the call,
// which then goes on until the store is closed or abandoned.
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

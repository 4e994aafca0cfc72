package kv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/braidstream/braid/internal/guardfs"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/wake"
)

const (
	backupPrefix    = "backup-" // begins the names of a backup's working directories in Dir
	backupCopyBytes = 1 << 20   // between two checks of the context

	// backupPatience is how long a cancelled backup may take to remove its files before its
	// caller gets the error.
	backupPatience = 200 * time.Millisecond
)

// A BackupCheck verifies the copy in the directory dir of a file system, nil for the real one.
// It calls progress with the bytes verified and their total, and returns when the context ends.
type BackupCheck func(ctx context.Context, files FS, dir string, progress func(done, total int64)) error

// Backup makes a copy of the database in the directory dir, which must be absent or empty, on
// the real file system (or that of Config.FS), while the database is in use. The copy has all
// commits that returned before the call, and shares no file with the original. progress, if not
// nil, gets the bytes copied and their total. check, if not nil, is called with the whole copy,
// which it opens with Config.Unnamed; its error fails the backup, and the copy is removed.
//
// It returns when the context ends, or the store is closed or fails, and removes its files
// before that. If a file operation hangs, they are removed when it returns, and another Backup
// to the same directory waits until then. A backup that a crash cut short carries the mark of
// an unfinished one and no identity, so it never counts as a database.
func (s *Store) Backup(ctx context.Context, dir string, progress func(done, total int64), check BackupCheck) error {
	if wake.IsClosed(s.closing) {
		return ErrClosed
	}
	if err := s.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b := &backup{store: s, ctx: ctx, target: s.cfg.FS, dir: dir, check: check, result: make(chan error), ended: make(chan struct{})}
	if progress != nil {
		b.copied = make(chan copied)
	}
	go b.run()
	for {
		select {
		case err := <-b.result:
			return err
		case c := <-b.copied:
			progress(c.done, c.total)
		case <-s.Failed():
			cancel(s.Err())
		case <-s.closing:
			cancel(ErrClosed)
		case <-ctx.Done():
			b.tidied()
			return context.Cause(ctx)
		}
	}
}

// tidied waits until a cancelled backup has removed its files, which takes long only if a file
// operation hangs.
func (b *backup) tidied() {
	patience := time.NewTimer(backupPatience)
	defer patience.Stop()
	select {
	case <-b.ended:
	case <-patience.C:
	}
}

// backup is one call of Backup. It runs in a goroutine of its own, since a hanging disk may
// block it for longer than the caller waits.
type backup struct {
	store  *Store
	ctx    context.Context // cancelled when the caller gives up
	target FS
	dir    string        // on target
	check  BackupCheck   // nil for none
	work   string        // the source of the copy, on the store's disk
	copied chan copied   // received by the caller, which reports it; nil without progress
	result chan error    // received by the caller, unless it gave up
	ended  chan struct{} // closed when the goroutine returns
}

// copied is how many bytes are copied, and verified if there is a check, of how many.
type copied struct{ done, total int64 }

// run makes the backup. It ends when it has handed over its result, or, after the caller gave
// up, has removed all its files.
func (b *backup) run() {
	defer close(b.ended)
	err := b.prepare()
	if err == nil {
		var leave func()
		if leave, err = b.store.enterTarget(b.ctx, b.dir); err == nil {
			defer leave()
			err = b.make()
		}
	}
	if err != nil {
		err = diskError(err)
	}
	select {
	case b.result <- err:
	case <-b.ctx.Done():
		if err == nil {
			_ = b.discard() // no caller is left to get the error
		}
	}
}

// prepare finds the directory's one name.
func (b *backup) prepare() (err error) {
	s := b.store
	if b.target == nil {
		b.target = vfs.Default
		if b.dir, err = nameOfDir(b.dir); err != nil {
			return err
		}
	}
	if !s.cfg.InMemory && s.owns(b.dir) {
		return fmt.Errorf("%w: %q", ErrOwnDirectory, b.dir)
	}
	if s.cfg.FS == nil { // not earlier: it makes the directory
		b.dir, err = resolveDir(b.dir)
	}
	return err
}

// make makes the copy, or leaves nothing.
func (b *backup) make() (err error) {
	if err := checkEmpty(b.target, b.dir); err != nil {
		return err
	}
	s := b.store
	if s.cfg.ReadOnly {
		b.work = s.StoreDir() // a read-only store never changes
		return b.finish()
	}
	// Tables are linked into the working directory in an instant, and stay there
	// unchanged for as long as the copying takes.
	b.work = s.guard.PathJoin(s.dir, fmt.Sprintf("%s%d", backupPrefix, s.backups.Add(1)))
	defer func() {
		left := s.await(func() error { return s.guard.RemoveAll(b.work) })
		if !errors.Is(left, ErrClosed) && !errors.Is(left, ErrFailed) { // the next open removes it
			err = joinErrors(err, left)
		}
	}()
	if err := s.checkpoint(b.ctx, b.work); err != nil {
		return err
	}
	return b.finish()
}

// finish copies the working directory, or leaves nothing.
func (b *backup) finish() error {
	if err := b.copy(); err != nil {
		return joinErrors(err, b.discard())
	}
	return nil
}

func (b *backup) copy() error {
	files := b.store.guard
	names, err := files.List(b.work)
	if err != nil {
		return err
	}
	var now copied
	for _, name := range names {
		info, err := files.Stat(files.PathJoin(b.work, name))
		if err != nil {
			return err
		}
		now.total += info.Size()
	}
	all := now.total
	if b.check != nil {
		now.total *= 2
	}
	if err := markUnfinished(b.target, b.dir); err != nil {
		return err
	}
	store := b.target.PathJoin(b.dir, storeName)
	if err := makeDirs(b.target, store); err != nil {
		return err
	}
	report := func(n int64) {
		now.done += n
		if b.copied != nil {
			select {
			case b.copied <- now:
			case <-b.ctx.Done():
			}
		}
	}
	report(0)
	copies := make([]layout.LedgerTable, len(names))
	for i, name := range names {
		copies[i], err = copyFile(b.ctx, files, files.PathJoin(b.work, name), b.target, b.target.PathJoin(store, name), report)
		if err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
		copies[i].Name = name
	}
	if err := syncDir(b.target, store); err != nil {
		return err
	}
	if err := b.writeLedger(copies); err != nil {
		return err
	}
	if err := writeFile(b.target, b.target.PathJoin(b.dir, newIdentityName), b.store.identity.Encode()); err != nil {
		return err
	}
	if b.check != nil {
		err := b.check(b.ctx, b.store.cfg.FS, b.dir, func(done, total int64) {
			if seen := all + int64(float64(all)*float64(done)/float64(max(1, total))); seen > now.done {
				report(seen - now.done)
			}
		})
		if err != nil {
			return err
		}
		report(now.total - now.done)
	}
	if err := context.Cause(b.ctx); err != nil {
		return err
	}
	if err := b.target.Rename(b.target.PathJoin(b.dir, newIdentityName), b.target.PathJoin(b.dir, identityName)); err != nil {
		return err
	}
	if err := syncDir(b.target, b.dir); err != nil {
		return err
	}
	return markFinished(b.target, b.dir)
}

// writeLedger gives the copy a ledger of its own. It lists a table with the sums of the bytes
// written, not of those copied, so that damage that was copied along still shows.
func (b *backup) writeLedger(copies []layout.LedgerTable) error {
	s := b.store
	peeked, err := pebble.Peek(b.work, s.guard)
	if err != nil {
		return err
	}
	l := newLedgers()
	l.files = layout.Ledger{Sequence: 1, Database: s.identity.ID, Ready: true, Manifest: s.guard.PathBase(peeked.ManifestFilename)}
	l.tables = layout.TableLedger{Sequence: 1, Database: s.identity.ID}
	written := make(map[string]layout.LedgerTable)
	for _, t := range s.guard.Durable(0, 0).Tables {
		written[t.Name] = t
	}
	for _, c := range copies {
		switch {
		case guardfs.IsTable(c.Name):
			if t, ok := written[c.Name]; ok && t.Size == c.Size {
				c = t
			}
			l.tables.Tables = append(l.tables.Tables, c)
		case guardfs.IsLog(c.Name), c.Name == l.files.Manifest:
			head, err := headSum(b.target, b.target.PathJoin(b.dir, storeName, c.Name), c.Size)
			if err != nil {
				return err
			}
			c.Head = head
			l.files.Files = append(l.files.Files, c.LedgerFile)
		}
	}
	if err := putSlot(b.target, b.dir, l.tableSlots.file(0), l.tables.Encode()); err != nil {
		return err
	}
	if err := putSlot(b.target, b.dir, l.fileSlots.file(0), l.files.Encode()); err != nil {
		return err
	}
	return syncDir(b.target, b.dir)
}

// discard removes the copy.
func (b *backup) discard() error { return discardUnfinished(b.target, b.dir) }

// enterTarget waits until no other backup uses that directory, such as one whose caller gave
// up. Call leave when this one has ended.
func (s *Store) enterTarget(ctx context.Context, dir string) (leave func(), err error) {
	for {
		s.targets.Lock()
		other := s.targets.busy[dir]
		if other == nil {
			mine := make(chan struct{})
			s.targets.busy[dir] = mine
			s.targets.Unlock()
			return func() {
				s.targets.Lock()
				delete(s.targets.busy, dir)
				s.targets.Unlock()
				close(mine)
			}, nil
		}
		s.targets.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// copyFile makes a durable copy of a file. It returns the copy's ledger entry without the name.
func copyFile(ctx context.Context, from FS, source string, to FS, name string, report func(n int64)) (c layout.LedgerTable, err error) {
	in, err := from.Open(source)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := to.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	buf := make([]byte, backupCopyBytes)
	var sum guardfs.TableSum
	for {
		if err := context.Cause(ctx); err != nil {
			return c, err
		}
		n, err := in.Read(buf)
		if n > 0 {
			sum.Add(buf[:n])
			if _, err := out.Write(buf[:n]); err != nil {
				return c, err
			}
			report(int64(n))
		}
		if err == io.EOF {
			return sum.Table(), out.Sync()
		}
		if err != nil {
			return c, err
		}
	}
}

// checkEmpty returns nil if the directory is absent or has nothing in it.
func checkEmpty(files FS, dir string) error {
	names, err := files.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && slices.Contains(names, unfinishedName) && !slices.Contains(names, identityName) {
		return errUnfinished(ErrNotEmpty, dir)
	}
	if err == nil && len(names) > 0 {
		return fmt.Errorf("%w: %q", ErrNotEmpty, dir)
	}
	return err
}

// removeBackups removes the working directories of backups that a crash cut short. It also
// removes the mark of the backup that made this database, whose identity is durable by now.
func (s *Store) removeBackups() error {
	names, err := s.guard.List(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, backupPrefix) || name == unfinishedName {
			if err := s.guard.RemoveAll(s.guard.PathJoin(s.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

package kv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	backupPrefix    = "backup-" // of the directories in Dir that a backup works in
	backupCopyBytes = 1 << 20   // between two looks at the context
)

// Backup makes a copy of the database in the directory dir, which must be absent
// or empty, on the real file system (or that of Config.FS), while the database
// is in use. The copy has all commits that returned before the call, and shares
// no file with the original. progress, if not nil, is told how many bytes of how
// many are copied.
//
// The copy's identity is written last, so one that was cut short is not taken
// for a database.
func (s *Store) Backup(ctx context.Context, dir string, progress func(done, total int64)) (err error) {
	target := s.cfg.FS
	if target == nil {
		target = vfs.Default
		if dir, err = nameOfDir(dir); err != nil {
			return err
		}
	}
	if !s.cfg.InMemory && s.owns(dir) {
		return fmt.Errorf("%w: %q", ErrOwnDirectory, dir)
	}
	if s.cfg.FS == nil {
		if dir, err = resolveDir(dir); err != nil {
			return err
		}
	}
	if err := checkEmpty(target, dir); err != nil {
		return err
	}
	if s.cfg.ReadOnly {
		return s.backupReadOnly(ctx, target, dir, progress)
	}
	// Tables are linked into the working directory in an instant, and stay there
	// unchanged for as long as the copying takes.
	work := s.guard.PathJoin(s.dir, fmt.Sprintf("%s%d", backupPrefix, s.backups.Add(1)))
	defer func() { err = joinErrors(err, s.await(func() error { return s.guard.RemoveAll(work) })) }()
	if err := s.checkpoint(work); err != nil {
		return err
	}
	if err := s.copyBackup(ctx, work, target, dir, progress); err != nil {
		return errors.Join(err, target.RemoveAll(target.PathJoin(dir, storeName)))
	}
	return nil
}

func (s *Store) copyBackup(ctx context.Context, work string, target FS, dir string, progress func(done, total int64)) error {
	names, err := s.guard.List(work)
	if err != nil {
		return err
	}
	var done, total int64
	for _, name := range names {
		info, err := s.guard.Stat(s.guard.PathJoin(work, name))
		if err != nil {
			return err
		}
		total += info.Size()
	}
	store := target.PathJoin(dir, storeName)
	if err := makeDirs(target, store); err != nil {
		return err
	}
	report := func(n int) {
		if done += int64(n); progress != nil {
			progress(done, total)
		}
	}
	report(0)
	for _, name := range names {
		if err := copyFile(ctx, s.guard, s.guard.PathJoin(work, name), target, target.PathJoin(store, name), report); err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	if err := syncDir(target, store); err != nil {
		return err
	}
	if err := writeFile(target, target.PathJoin(dir, newIdentityName), s.identity.Encode()); err != nil {
		return err
	}
	if err := target.Rename(target.PathJoin(dir, newIdentityName), target.PathJoin(dir, identityName)); err != nil {
		return err
	}
	return syncDir(target, dir)
}

// copyFile makes a durable copy of a file.
func copyFile(ctx context.Context, from FS, source string, to FS, name string, report func(n int)) (err error) {
	in, err := from.Open(source)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := to.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	buf := make([]byte, backupCopyBytes)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := in.Read(buf)
		if n > 0 {
			if _, err := out.Write(buf[:n]); err != nil {
				return err
			}
			report(n)
		}
		if err == io.EOF {
			return out.Sync()
		}
		if err != nil {
			return err
		}
	}
}

// checkEmpty returns nil if the directory is absent or has nothing in it.
func checkEmpty(files FS, dir string) error {
	names, err := files.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(names) > 0 {
		return fmt.Errorf("%w: %q", ErrNotEmpty, dir)
	}
	return err
}

// removeBackups removes what backups that a crash cut short left behind.
func (s *Store) removeBackups() error {
	names, err := s.guard.List(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, backupPrefix) {
			if err := s.guard.RemoveAll(s.guard.PathJoin(s.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package kv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// dirKey identifies a directory under any name: its device and its inode.
type dirKey struct{ device, inode uint64 }

func keyOfDir(dir string) (dirKey, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return dirKey{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return dirKey{}, fmt.Errorf("%s: the file system does not identify it", dir)
	}
	return dirKey{uint64(stat.Dev), stat.Ino}, nil
}

// osLock is a flock on the lock file, and one on the directory itself, which holds even when
// the lock file is deleted. Network file systems may refuse a flock on a directory; then that
// on the file must do.
//
// A flock belongs to the open file, not to the process: it stays even if other code of this
// process opens, reads and closes the file.
//
// Readers share both locks. If there is no lock file yet, they lock only the directory, which
// keeps a writer out as well.
type osLock struct{ file, dir *os.File }

func lockOS(dir, name string) (*osLock, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	directory, err := os.Open(dir)
	if err != nil {
		return nil, joinErrors(err, file.Close())
	}
	lock := &osLock{file: file, dir: directory}
	err = flock(file, syscall.LOCK_EX)
	if err == nil {
		if err = flock(directory, syscall.LOCK_EX); !errors.Is(err, errHeld) {
			return lock, nil
		}
	}
	return nil, joinErrors(err, lock.unlock())
}

// shareOS is lockOS for a reader. It opens files for reading only, so it works without
// permission to write. It takes the locks in the same order, so that a call that only looks for
// the holder keeps no writer out.
func shareOS(dir, name string) (*osLock, error) {
	lock := &osLock{}
	file, err := os.Open(name)
	switch {
	case err == nil:
		lock.file = file
		err = flock(file, syscall.LOCK_SH)
	case errors.Is(err, fs.ErrNotExist): // a copy that was never opened for writing
		err = nil
	}
	if err == nil {
		lock.dir, err = os.Open(dir)
	}
	if err == nil {
		if err = flock(lock.dir, syscall.LOCK_SH); !errors.Is(err, errHeld) {
			return lock, nil
		}
	}
	return nil, joinErrors(err, lock.unlock())
}

// flock takes the lock LOCK_EX or LOCK_SH without waiting, or returns errHeld.
func flock(f *os.File, how int) error {
	for {
		switch err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err {
		case nil:
			return nil
		case syscall.EINTR:
		case syscall.EWOULDBLOCK:
			return errHeld
		default:
			return fmt.Errorf("flock: %w", err)
		}
	}
}

// write replaces the lock file's content.
func (l *osLock) write(text string) error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(text), 0)
	return err
}

// unlock closes the files, which ends their locks.
func (l *osLock) unlock() (err error) {
	for _, f := range []*os.File{l.file, l.dir} {
		if f != nil {
			err = joinErrors(err, f.Close())
		}
	}
	return err
}

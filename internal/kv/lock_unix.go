//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package kv

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// dirKey is what makes a directory the same under any name: its device and its
// number there.
type dirKey struct{ device, inode uint64 }

func keyOfDir(dir string) (dirKey, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return dirKey{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return dirKey{}, fmt.Errorf("%s: the file system does not tell what it is", dir)
	}
	return dirKey{uint64(stat.Dev), stat.Ino}, nil
}

// osLock is a flock on the lock file, and one on the directory itself. The
// latter also holds when the former's file is deleted; network file systems may
// refuse it, and then the former must do.
//
// A flock belongs to the open file, not to the process: opening, reading and
// closing the file again, by whatever code of this process, does not end it.
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
	err = flock(file)
	if err == nil {
		if err = flock(directory); !errors.Is(err, errHeld) {
			return lock, nil
		}
	}
	return nil, joinErrors(err, lock.unlock())
}

// flock takes the lock without waiting, or returns errHeld.
func flock(f *os.File) error {
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err {
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
func (l *osLock) unlock() error { return joinErrors(l.file.Close(), l.dir.Close()) }

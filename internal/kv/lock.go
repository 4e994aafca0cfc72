package kv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// heldHere has the directories that this process has locked, by the operating system's identity
// of each: the number of readers that share it, or exclusive. It matters when the lock file was
// removed; otherwise the operating system's lock would do.
var heldHere struct {
	sync.Mutex // guards the field below
	dirs       map[dirKey]int
}

// exclusive is the value in heldHere of a directory that is locked for writing.
const exclusive = -1

// dirLock is a directory's lock. It is nil on a file system that needs none.
//
// Invariant: either one dirLock of one process has locked a directory for writing, or any
// number have locked it for reading, under whatever name they opened it. Deleting, reading or
// replacing the lock file does not release the lock; the death of the process does. TestLock
// and TestReadersShareTheLock hold it.
type dirLock struct {
	key dirKey
	os  *osLock
}

// resolveDir returns the canonical name of a directory, which it makes if it is missing.
func resolveDir(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("the directory's name is empty")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := makeDirs(vfs.Default, dir); err != nil {
		return "", noDirectory(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", noDirectory(err)
	}
	return dir, checkDirectory(dir)
}

// nameOfDir is resolveDir, but makes nothing.
func nameOfDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	resolved, err := filepath.EvalSymlinks(dir)
	if above := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && above != dir {
		if above, err = nameOfDir(above); err == nil {
			return filepath.Join(above, filepath.Base(dir)), nil
		}
	}
	return resolved, noDirectory(err)
}

// checkDirectory returns nil if the name is that of a directory.
func checkDirectory(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%w: %q", ErrNotDirectory, dir)
	}
	return err
}

// noDirectory classifies an error of a name that leads through a file.
func noDirectory(err error) error {
	if errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%w: %w", ErrNotDirectory, err)
	}
	return err
}

// lockDir locks a directory, or returns an error that wraps ErrLocked and names
// the holder.
func lockDir(dir string) (*dirLock, error) {
	key, err := keyOfDir(dir)
	if err != nil {
		return nil, err
	}
	heldHere.Lock()
	defer heldHere.Unlock()
	switch held := heldHere.dirs[key]; {
	case held == exclusive:
		return nil, fmt.Errorf("%w: this process has %q open", ErrLocked, dir)
	case held > 0:
		return nil, fmt.Errorf("%w: this process has %q open for reading only", ErrLocked, dir)
	}
	name := filepath.Join(dir, lockName)
	lock, err := lockOS(dir, name)
	if errors.Is(err, errHeld) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, describeHolder(dir, name))
	}
	if err != nil {
		return nil, fmt.Errorf("lock %q: %w", dir, err)
	}
	holdHere(key, exclusive)
	return &dirLock{key: key, os: lock}, nil
}

// insteadOfReading is the advice for a program that wants to read a database while another one
// writes to it.
const insteadOfReading = "to read it meanwhile, let that program make a copy with DB.Backup and open the copy, " +
	"or let it answer over HTTP, as package kinesisapi does"

// shareDir locks a directory together with other readers, without writing to it.
func shareDir(dir string) (*dirLock, error) {
	key, err := keyOfDir(dir)
	if err != nil {
		return nil, err
	}
	heldHere.Lock()
	defer heldHere.Unlock()
	held := heldHere.dirs[key]
	if held == exclusive {
		return nil, fmt.Errorf("%w: this process has %q open; read from that DB, or from a copy that its Backup makes", ErrLocked, dir)
	}
	name := filepath.Join(dir, lockName)
	lock, err := shareOS(dir, name)
	if errors.Is(err, errHeld) {
		return nil, fmt.Errorf("%w: %s; %s", ErrLocked, describeWriter(dir, name), insteadOfReading)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %q for reading: %w", dir, err)
	}
	holdHere(key, held+1)
	return &dirLock{key: key, os: lock}, nil
}

// holdHere sets the value of a directory in heldHere, which the caller has locked.
func holdHere(key dirKey, held int) {
	if held == 0 {
		delete(heldHere.dirs, key)
		return
	}
	if heldHere.dirs == nil {
		heldHere.dirs = make(map[dirKey]int)
	}
	heldHere.dirs[key] = held
}

// errHeld is returned by lockOS if another process has the lock.
var errHeld = errors.New("held by another process")

// announce writes the holder's process into the lock file.
func (l *dirLock) announce() error {
	text := fmt.Sprintf("pid %d\nsince %s\n", os.Getpid(), time.Now().UTC().Format(time.RFC3339))
	if err := l.os.write(text); err != nil {
		return fmt.Errorf("write lock file: %w", err)
	}
	return nil
}

// describeHolder describes the holder of the lock that a writer wants. If readers can share the
// lock, no writer has it, and the process in the lock file is long gone.
func describeHolder(dir, name string) string {
	if shared, err := shareOS(dir, name); err == nil {
		_ = shared.unlock()
		return fmt.Sprintf("another process has %q open for reading only", dir)
	}
	return describeWriter(dir, name)
}

// describeWriter describes the process that writes to the database, as far as the lock file
// says.
func describeWriter(dir, name string) string {
	data, err := os.ReadFile(name)
	if err == nil {
		line, since, _ := strings.Cut(string(data), "\n")
		if pid, ok := strings.CutPrefix(line, "pid "); ok {
			if _, err := strconv.Atoi(pid); err == nil {
				return fmt.Sprintf("process %s has %q open, %s", pid, dir, strings.TrimSpace(since))
			}
		}
	}
	return fmt.Sprintf("another process has %q open", dir)
}

// release unlocks the directory.
func (l *dirLock) release() error {
	if l == nil {
		return nil
	}
	heldHere.Lock()
	defer heldHere.Unlock()
	err := l.os.unlock()
	holdHere(l.key, max(0, heldHere.dirs[l.key]-1))
	if err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	return nil
}

package kv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// heldHere holds the directories that this process has locked, by what the
// operating system knows them by. The operating system's lock alone would do
// while the lock file is in its place.
var heldHere struct {
	sync.Mutex // guards the field below
	dirs       map[dirKey]struct{}
}

// dirLock is a directory's lock. A nil one is of a file system that needs none.
//
// Invariant: one process, and in it one dirLock, has a directory, by whatever
// name. Deleting, reading or replacing the lock file does not free it; the death
// of the process does. TestLock holds it.
type dirLock struct {
	key dirKey
	os  *osLock
}

// resolveDir returns the one name of a directory, which it makes if it is
// missing.
func resolveDir(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("the directory's name is empty")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := makeDirs(vfs.Default, dir); err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
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
	if _, held := heldHere.dirs[key]; held {
		return nil, fmt.Errorf("%w: this process has %s open", ErrLocked, dir)
	}
	name := filepath.Join(dir, lockName)
	lock, err := lockOS(dir, name)
	if errors.Is(err, errHeld) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, describeHolder(dir, name))
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if heldHere.dirs == nil {
		heldHere.dirs = make(map[dirKey]struct{})
	}
	heldHere.dirs[key] = struct{}{}
	return &dirLock{key: key, os: lock}, nil
}

// errHeld is returned by lockOS if another process has the lock.
var errHeld = errors.New("held by another process")

// announce writes into the lock file who holds it.
func (l *dirLock) announce() error {
	text := fmt.Sprintf("pid %d\nsince %s\n", os.Getpid(), time.Now().UTC().Format(time.RFC3339))
	if err := l.os.write(text); err != nil {
		return fmt.Errorf("write lock file: %w", err)
	}
	return nil
}

// describeHolder says who holds the lock, as far as its file tells.
func describeHolder(dir, name string) string {
	data, err := os.ReadFile(name)
	if err == nil {
		line, since, _ := strings.Cut(string(data), "\n")
		if pid, ok := strings.CutPrefix(line, "pid "); ok {
			if _, err := strconv.Atoi(pid); err == nil {
				return fmt.Sprintf("process %s has %s open, %s", pid, dir, strings.TrimSpace(since))
			}
		}
	}
	return fmt.Sprintf("another process has %s open", dir)
}

// release gives the directory back.
func (l *dirLock) release() error {
	if l == nil {
		return nil
	}
	heldHere.Lock()
	defer heldHere.Unlock()
	err := l.os.unlock()
	delete(heldHere.dirs, l.key)
	if err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	return nil
}

//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package kv

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// dirKey is the resolved name of a directory, for lack of a better identity.
type dirKey struct{ name string }

func keyOfDir(dir string) (dirKey, error) { return dirKey{dir}, nil }

// osLock is Pebble's lock for this system. Its file cannot be written to.
type osLock struct{ closer io.Closer }

func lockOS(_, name string) (*osLock, error) {
	closer, err := vfs.Default.Lock(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errHeld, err)
	}
	return &osLock{closer}, nil
}

// shareOS opens the lock file for reading. On systems such as Windows, where a writer's lock
// denies all others access to the file, a writer and a reader exclude each other, and readers
// do not.
func shareOS(_, name string) (*osLock, error) {
	file, err := os.Open(name)
	switch {
	case err == nil:
		return &osLock{file}, nil
	case errors.Is(err, fs.ErrNotExist): // a copy that was never opened for writing
		return &osLock{io.NopCloser(nil)}, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, err
	default:
		return nil, fmt.Errorf("%w: %w", errHeld, err)
	}
}

func (*osLock) write(string) error { return nil }

func (l *osLock) unlock() error { return l.closer.Close() }

//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package kv

import (
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// dirKey is the resolved name of a directory, for want of better.
type dirKey struct{ name string }

func keyOfDir(dir string) (dirKey, error) { return dirKey{dir}, nil }

// osLock is the lock that Pebble knows for this system. Its file cannot be
// written to.
type osLock struct{ closer io.Closer }

func lockOS(_, name string) (*osLock, error) {
	closer, err := vfs.Default.Lock(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errHeld, err)
	}
	return &osLock{closer}, nil
}

func (*osLock) write(string) error { return nil }

func (l *osLock) unlock() error { return l.closer.Close() }

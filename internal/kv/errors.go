package kv

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"github.com/braidstream/braid/internal/guardfs"
	"github.com/braidstream/braid/internal/layout"
)

// Errors of opening and closing. Match all errors with errors.Is: they are wrapped together
// with their causes. The root package exports most of them unchanged.
var (
	// ErrLocked reports that another process, or this one, has the database open.
	ErrLocked = errors.New("directory is in use")

	// ErrFormatTooNew reports a database that only a later version can read.
	// Nothing of it was changed.
	ErrFormatTooNew = errors.New("format is newer than this version of braid reads")

	// ErrFormatTooOld reports a database that only an earlier version can read.
	// Nothing of it was changed.
	ErrFormatTooOld = errors.New("format is older than this version of braid reads")

	// ErrNotDatabase reports a directory that holds something else; for a read-only open, also
	// an empty one. Nothing in it was changed.
	ErrNotDatabase = errors.New("directory holds no database")

	// ErrNotEmpty reports that the directory given for a backup is not empty.
	ErrNotEmpty = errors.New("directory is not empty")

	// ErrNotDirectory reports a name that is, or leads through, something that is
	// not a directory.
	ErrNotDirectory = errors.New("not a directory")

	// ErrOwnDirectory reports that the directory given for a backup is that of the
	// database, or lies in it.
	ErrOwnDirectory = errors.New("directory lies in that of the database")

	// ErrReadOnly reports a change to a store that was opened for reading only.
	ErrReadOnly = errors.New("database is open for reading only")

	// ErrClosed reports the use of a store after Close.
	ErrClosed = errors.New("database is closed")
)

// Errors of storage.
var (
	// ErrFailed reports that a write failed that durability depends on. Nothing more is written
	// until the database is opened again.
	ErrFailed = errors.New("storage failed")

	// ErrDiskFull reports that there is no space.
	ErrDiskFull = errors.New("disk is full")

	// ErrOutOfResources reports that the process or the machine is short of descriptors or
	// memory. Waiting operations continue once some are free.
	ErrOutOfResources = errors.New("out of resources")

	// ErrCorrupt reports bytes that differ from those written.
	ErrCorrupt = errors.New("stored data is damaged")

	// ErrDataLoss reports that a file is missing.
	ErrDataLoss = errors.New("stored data is missing")
)

// ErrNotFound reports a key that has no value.
var ErrNotFound = errors.New("no such key")

// pebbleCloser releases a value that belongs to Pebble.
type pebbleCloser = io.Closer

// readError classifies an error of a read by Pebble. An error without a class, such as an I/O
// error of a table, concerns only this call: the next may succeed.
func readError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pebble.ErrNotFound):
		return ErrNotFound
	case isDamage(err):
		return fmt.Errorf("%w: %w", ErrCorrupt, oneLine{err})
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrDataLoss, err)
	case guardfs.IsShortage(err):
		return shortageError(err)
	default:
		return fmt.Errorf("read: %w", err)
	}
}

// DamagedFile returns the damaged table that an error of a read names, relative to the
// database's directory; empty if it names none.
func DamagedFile(err error) string {
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		return storeName + "/" + filepath.Base(info.Path)
	}
	return ""
}

// oneLine shows only the first line of an error of Pebble. The others only say that programs
// can find more in it.
type oneLine struct{ error }

func (e oneLine) Error() string {
	text, _, _ := strings.Cut(e.error.Error(), "\n")
	return text
}

func (e oneLine) Unwrap() error { return e.error }

// isDamage reports whether Pebble or the layout found wrong bytes.
func isDamage(err error) bool {
	return pebble.IsCorruptionError(err) || errors.Is(err, layout.ErrCorrupt)
}

// writeError classifies an error of a call that changes the store. It sees only errors that the
// guard lets through, and none of them concerns durability.
func (s *Store) writeError(err error) error {
	switch {
	case err == nil:
		return nil
	case s.Err() != nil:
		return s.Err()
	case isDamage(err):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	default:
		return shortageError(err)
	}
}

// shortageError classifies an error that may be a lack of space, or of another
// resource.
func shortageError(err error) error {
	switch {
	case isClassified(err):
		return err
	case guardfs.IsNoSpace(err):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	case errors.Is(err, syscall.EMFILE):
		return fmt.Errorf("%w: %w%s", ErrOutOfResources, err, descriptorLimit())
	case errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("%w: %w (a limit of the machine)", ErrOutOfResources, err)
	case guardfs.IsNoResource(err):
		return fmt.Errorf("%w: %w", ErrOutOfResources, err)
	default:
		return err
	}
}

// Shortage returns why writing waits: an error that wraps ErrDiskFull or ErrOutOfResources and
// says what is missing. If the shortage is over by now, it is ErrDiskFull. [Over] returns a
// channel that is closed when writing goes on.
func (s *Store) Shortage() error {
	s.space.Lock()
	over := s.space.over
	s.space.Unlock()
	switch lack := s.guard.Shortage(); {
	case lack == nil:
		return &shortage{ErrDiskFull, over}
	case guardfs.IsNoResource(lack):
		return &shortage{shortageError(lack), over}
	default:
		return &shortage{fmt.Errorf("%w: %w", ErrDiskFull, lack), over}
	}
}

// shortage is the error of a write that was refused because of a shortage.
type shortage struct {
	error
	over <-chan struct{} // closed when writing goes on
}

func (e *shortage) Unwrap() error { return e.error }

// Over returns a channel that is closed once the shortage that the error reports is over; nil
// for any other error.
func Over(err error) <-chan struct{} {
	var e *shortage
	if errors.As(err, &e) {
		return e.over
	}
	return nil
}

// openError classifies an error of opening an existing database. An error that is not the
// operating system's means that Pebble could not decode something, so it is damage.
func openError(err error) error {
	var known syscall.Errno
	switch {
	case err == nil, isClassified(err):
		return err
	case isDamage(err):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case errors.Is(err, pebble.ErrDBDoesNotExist), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrDataLoss, err)
	case errors.As(err, &known), errors.Is(err, fs.ErrPermission):
		return err
	default:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
}

// Classify wraps an error of the file system with its class, ErrDiskFull or ErrOutOfResources.
// It returns any other error unchanged.
func Classify(err error) error { return shortageError(err) }

// diskError classifies an error of opening that may come from the disk.
func diskError(err error) error {
	if !isClassified(err) && errors.Is(err, syscall.EIO) {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return shortageError(err)
}

// joinErrors is errors.Join with a text of one line that repeats nothing.
func joinErrors(err, also error) error {
	switch {
	case err == nil:
		return also
	case also == nil, also.Error() == err.Error():
		return err
	default:
		return fmt.Errorf("%w; also: %w", err, also)
	}
}

// isClassified reports whether the error already is of one of the sentinels.
func isClassified(err error) bool {
	for _, class := range []error{
		ErrLocked, ErrFormatTooNew, ErrFormatTooOld, ErrNotDatabase, ErrNotDirectory, ErrReadOnly, ErrClosed,
		ErrFailed, ErrDiskFull, ErrOutOfResources, ErrCorrupt, ErrDataLoss, ErrNotFound,
	} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

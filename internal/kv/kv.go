// Package kv is braid's store of keys and values: Pebble, made safe to embed in an application.
// Besides internal/guardfs it is the only importer of Pebble.
//
// It opens, locks and closes databases, and abandons them when their storage fails; it provides
// batches, iterators and snapshots. It does not know what the keys mean: callers supply the
// first rows of a new database, and the check of the rows of an existing one. The root package
// and internal/commit call it.
//
// # The directory
//
//	BRAID       what database this is and who may read it (layout.Identity)
//	LOCK        held while a process has the database open
//	UNFINISHED  there until a backup or salvage is whole, instead of BRAID
//	store/      Pebble's files
//
// # Failure
//
// Pebble ends the process when a write to its log fails, and retries without a
// pause when a disk is full. Here neither happens. A [Store] is in one of three
// states:
//
//   - well.
//   - full: no space, or less than the reserve. Commits wait, or still succeed
//     from the reserve; reading goes on; it heals by itself.
//   - failed: nothing more can be written until the database is opened again,
//     which this process may do. Reading goes on. A commit that was on its way
//     may never return, so its caller must wait in another goroutine for Failed
//     as well.
//
// A store fails when writing is no longer safe, in these cases only: a failed write, sync or
// creation of a log, a manifest, a marker or a directory; fifteen failed writes of tables in a
// row; a fatal error of Pebble, or a commit that Pebble refuses; and level 0 at its limit while
// damage prevents its compaction.
//
// Reading never fails a store. A reader that meets a damaged or unreadable table gets
// ErrCorrupt or the disk's error. A compaction that meets one leaves its tables as they are and
// is retried after a pause: see damage.go. To remove a damaged table, excise its range.
//
// Pebble cannot be closed while the disk is full, or when one of its goroutines is stuck after
// a failure. Close abandons such a store: its goroutines stay parked and its memory stays
// allocated until the process ends. After maxAbandoned of them, Open refuses with ErrFailed.
package kv

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/braidstream/braid/internal/guardfs"
	"github.com/braidstream/braid/internal/histogram"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/wake"
)

// FS is a file system: the real one, one in memory, or a faulty one of a test.
type FS = vfs.FS

// Config says how to open a store.
type Config struct {
	// Dir is the directory of the database. Open makes it if it does not exist.
	Dir string

	// InMemory opens a new database in memory that ends with Close. Dir is
	// ignored.
	InMemory bool

	// ReadOnly opens an existing database without changing a byte on disk. Every change is
	// refused with ErrReadOnly. Any number of stores may have a directory open this way at
	// once, but not together with one that writes.
	ReadOnly bool

	// Unnamed, with ReadOnly, opens an unfinished copy of Backup, whose identity does not have
	// its name yet. Backup's check uses it.
	Unnamed bool

	// FS is a file system to use instead of the real one. Nobody else may use
	// Dir on it: no lock of the operating system is taken.
	FS FS

	// ID is the id of a database that is created. The zero value means a new one.
	ID uuid.UUID

	// NoLog opens a store whose commits are durable only once [Store.Flush] has returned. It is
	// for work that starts over after a crash.
	NoLog bool

	// Logger gets the errors that no caller can get. Never nil.
	Logger *slog.Logger

	CacheBytes    int64 // of the cache of table blocks
	MemTableBytes int64 // of one memtable; at most four are in memory

	// TableBlockBytes is the size of a block of a table, 0 for 32 KiB. When a block's checksum
	// is wrong, Pebble tries to flip each of its bits. That takes half a second for a block of
	// 32 KiB, and 64 times less for one of 4 KiB, so tests of damage use small blocks.
	TableBlockBytes int

	// ReserveBytes is the free disk space below which the store counts as full, so that there
	// is room left for removing things. Zero or less means no reserve.
	ReserveBytes int64

	// AcceptLoss opens a damaged database with its remaining data. Without it Open refuses, and
	// changes nothing. See accept.go.
	AcceptLoss bool

	// NoLedger neither writes nor reads a ledger. It is for measuring the cost of the ledger.
	NoLedger bool

	// OnFull is called when the store becomes full, and when it no longer is. It is called from
	// inside file operations and must not block. May be nil.
	OnFull func(full bool)

	// TableBoundary returns, for a key, the end of the region of keys that it
	// lies in, or nil if that has no end. No table crosses such a border.
	// May be nil.
	TableBoundary func(key []byte) []byte

	// Init adds the rows that a new database begins with. They are durable
	// before the database counts as created. May be nil.
	Init func(*Batch) error

	// Verify checks the rows of an existing database before anything in it is
	// changed. Its error refuses the open. May be nil.
	Verify func(Reader) error
}

// Reader reads from one state of a store, or from the latest.
type Reader interface {
	// Get returns a copy of the key's value, or ErrNotFound.
	Get(key []byte) ([]byte, error)

	// NewIter returns an iterator over the keys from lower up to and not
	// including upper. Nil is no bound.
	NewIter(lower, upper []byte) (*Iter, error)
}

var (
	_ Reader = (*Store)(nil)
	_ Reader = (*Snapshot)(nil)
)

// Store is an open database. Its methods may be called from any goroutine.
type Store struct {
	cfg      Config
	dir      string // resolved, on the file system guard
	identity layout.Identity
	created  bool
	lock     *dirLock // nil for a file system that is not the real one
	guard    *guardfs.FS
	reporter *reporter
	damage   *damage
	ledger   *ledger
	losses   layout.Losses // as read by Open; changed by MarkLosses, before Open's caller shares the store
	db       *pebble.DB
	gate     gate
	room     room
	backups  atomic.Int64            // how many were begun
	metrics  atomic.Pointer[Metrics] // the latest

	space struct {
		sync.Mutex               // guards the fields below
		full       bool          // the last argument of OnFull
		stuck      chan struct{} // closed while an operation waits for space
		over       chan struct{} // closed when the store is no longer full; a new one each time that it fills
		moved      wake.Bell     // rings at each change of stuck
	}

	measuring struct {
		sync.Mutex               // guards the field below
		done       chan struct{} // closed when the goroutine that calls measure ends; nil if there is none
	}

	closing chan struct{} // closed when the gate is shut
	turn    chan struct{} // has a token while an excise or a checkpoint runs: never both

	targets struct {
		sync.Mutex                          // guards the field below
		busy       map[string]chan struct{} // closed when the backup to that directory has ended
	}

	snapshots struct {
		sync.Mutex // guards the field below
		open       map[*Snapshot]struct{}
	}
}

// Created reports whether Open has created the database.
func (s *Store) Created() bool { return s.created }

// Identity returns the database's identity.
func (s *Store) Identity() layout.Identity { return s.identity }

// Failed returns a channel that is closed when the store fails.
func (s *Store) Failed() <-chan struct{} { return s.guard.Failed() }

// Err returns nil until the store fails, and then an error that wraps ErrFailed and the first
// cause.
func (s *Store) Err() error {
	if cause := s.guard.Err(); cause != nil {
		return fmt.Errorf("%w: %w", ErrFailed, cause)
	}
	return nil
}

// writable returns why nothing can be written, or nil.
func (s *Store) writable() error {
	if s.cfg.ReadOnly {
		return ErrReadOnly
	}
	return s.Err()
}

// ReadOnly reports whether the store was opened with Config.ReadOnly.
func (s *Store) ReadOnly() bool { return s.cfg.ReadOnly }

// Full reports whether there is no space, or less than the reserve.
func (s *Store) Full() bool { return s.guard.Space() != guardfs.Enough }

// Get returns a copy of the key's value in the latest state, or ErrNotFound.
func (s *Store) Get(key []byte) ([]byte, error) {
	if err := s.gate.enter(); err != nil {
		return nil, err
	}
	defer s.gate.leave()
	return get(s.db, key)
}

// EstimateBytes returns about how many bytes the tables of a range take on disk. Rows that are
// only in memory and in the log do not count.
func (s *Store) EstimateBytes(lower, upper []byte) (int64, error) {
	if err := s.gate.enter(); err != nil {
		return 0, err
	}
	defer s.gate.leave()
	n, err := s.db.EstimateDiskUsage(lower, upper)
	return int64(n), readError(err)
}

// getter is what Pebble's DB and Snapshot have in common.
type getter interface {
	Get(key []byte) ([]byte, pebbleCloser, error)
}

// get copies a value, so that no caller holds memory of Pebble's.
func get(from getter, key []byte) ([]byte, error) {
	value, closer, err := from.Get(key)
	if err != nil {
		return nil, readError(err)
	}
	value = append(make([]byte, 0, len(value)), value...)
	if err := closer.Close(); err != nil {
		return nil, readError(err)
	}
	return value, nil
}

// SyncTime returns how long the last sync of the log took, 0 if there was none.
func (s *Store) SyncTime() time.Duration { return s.guard.SyncTime() }

// SyncTimes returns the durations of the successful syncs of the log.
func (s *Store) SyncTimes() *histogram.Recorder { return s.guard.SyncTimes() }

// Sync makes all commits that have returned durable.
//
// It holds the room's turn until only the disk is left to wait for. While Pebble accepts a
// batch, even an empty one, it counts the bytes of the memtable that other commits have
// reserved, not those that they have used. A commit beside it might find no room.
func (s *Store) Sync() error {
	return s.awaitAside(func() error {
		if s.cfg.InMemory {
			return nil
		}
		b := s.db.NewBatch()
		if err := b.LogData(nil, nil); err != nil {
			return err
		}
		s.room.turn.RLock()
		err := s.db.ApplyNoSyncWait(b, pebble.Sync)
		s.room.turn.RUnlock()
		if err != nil {
			return err
		}
		if err := b.SyncWait(); err != nil {
			return s.failCommit(err)
		}
		return b.Close()
	})
}

// Flush writes the memtable to tables, and returns when that is done.
func (s *Store) Flush() error { return s.await(s.db.Flush) }

// await runs a call that changes the store, and returns when the call does or when the store
// fails. In that case it abandons the call, inside the gate: Close of a failed store does not
// wait for it.
func (s *Store) await(call func() error) error {
	return s.awaitAside(func() error {
		s.room.turn.RLock()
		defer s.room.turn.RUnlock()
		return call()
	})
}

// awaitAside is await for a call that never blocks a concurrent commit without sync.
func (s *Store) awaitAside(call func() error) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	if err := s.writable(); err != nil {
		s.gate.leave()
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer s.gate.leave()
		done <- call()
	}()
	select {
	case err := <-done:
		return s.writeError(err)
	case <-s.Failed():
		return s.Err()
	}
}

package kv

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/braidstream/braid/internal/guardfs"
	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/wake"
)

const (
	// openPatience is how long Open waits while the disk is full.
	openPatience = 10 * time.Second

	// minFreeBytes is the free space that the creation of a database needs, or two memtables if
	// that is less. Opening an existing database needs less: openBytes, and room for its log to
	// be written to tables.
	minFreeBytes = 8 << 20
	openBytes    = 512 << 10

	// openDescriptors is how many free descriptors Open requires. It uses about ten at once,
	// and about six for reading only.
	openDescriptors     = 16
	readOnlyDescriptors = 8

	// maxAbandoned is how many stores of this process may have been abandoned.
	maxAbandoned = 8
)

// abandoned counts the abandoned stores of this process.
var abandoned atomic.Int32

// Open opens the database, or creates it in a directory that is absent or empty. A database
// whose creation was interrupted never acknowledged a commit, so Open creates it again. If Open
// returns an error, it has not changed an existing database, unless the error came from a
// write.
//
// With Config.ReadOnly it opens an existing database, and changes nothing at all.
func Open(cfg Config) (*Store, error) {
	if n := abandoned.Load(); n >= maxAbandoned {
		return nil, fmt.Errorf("%w: this process has abandoned %d databases that could not be closed; restart it", ErrFailed, n)
	}
	s := &Store{cfg: cfg, gate: newGate()}
	s.space.stuck = make(chan struct{})
	s.space.over = make(chan struct{})
	close(s.space.over)
	s.space.moved = wake.NewBell()
	s.closing = make(chan struct{})
	s.turn = make(chan struct{}, 1)
	s.targets.busy = make(map[string]chan struct{})
	s.snapshots.open = make(map[*Snapshot]struct{})
	locate := s.locate
	if cfg.ReadOnly {
		locate = s.locateReadOnly
	}
	located, err := locate()
	if err != nil {
		return nil, diskError(err)
	}
	s.reporter = newReporter(cfg.Logger)
	s.guard = guardfs.New(located, guardfs.Config{
		Dir:          s.dir,
		ReserveBytes: cfg.ReserveBytes,
		OnSpace:      s.onSpace,
	})
	s.damage = newDamage(s.reporter, s.guard)
	s.ledger = newLedger(s.guard, s.reporter, s.dir)
	if err := s.start(); err != nil {
		return nil, diskError(err)
	}
	return s, nil
}

// locate finds the directory and takes its lock.
func (s *Store) locate() (FS, error) {
	switch {
	case s.cfg.InMemory:
		s.dir = "/braid"
		return vfs.NewMem(), nil
	case s.cfg.FS != nil:
		s.dir = s.cfg.Dir
		return s.cfg.FS, nil
	}
	dir, err := resolveDir(s.cfg.Dir)
	if err != nil {
		return nil, err
	}
	s.dir = dir
	// Check before a lock file is put into a foreign directory. Check twice, because another
	// process may create the database between the search for an identity and the search for
	// other files.
	if _, _, err := readIdentity(vfs.Default, dir); errors.Is(err, ErrNotDatabase) {
		if _, _, err := readIdentity(vfs.Default, dir); errors.Is(err, ErrNotDatabase) {
			return nil, err
		}
	}
	s.lock, err = lockDir(dir)
	return vfs.Default, err
}

// start opens the database in the locked directory. Pebble runs in a goroutine that can be
// abandoned: on a full disk it would never return.
func (s *Store) start() error {
	result := make(chan error, 1)
	go func() {
		err := s.bringUp()
		if err != nil {
			s.ledger.end()
		}
		result <- err
	}()
	patience := time.NewTimer(openPatience)
	patience.Stop() // it runs only while an operation is stuck
	for {
		select {
		case err := <-result:
			if err != nil {
				return joinErrors(err, s.dispose())
			}
			return nil
		case <-s.guard.Broken():
			return s.abandon(s.Err())
		case <-s.space.moved.C():
			patience.Stop()
			if wake.IsClosed(s.stuck()) {
				patience.Reset(openPatience)
			}
		case <-patience.C:
			return s.abandon(fmt.Errorf("%w (opening %s was blocked for %v)", s.Shortage(), s.dir, openPatience))
		}
	}
}

// bringUp is the list of steps from a locked directory to an open database.
func (s *Store) bringUp() error {
	name := identityName
	if s.cfg.Unnamed {
		name = newIdentityName
	}
	id, found, err := readIdentityNamed(s.guard, s.dir, name)
	if err == nil && found && !id.Ready {
		err = s.checkCreating(id)
	}
	if s.cfg.AcceptLoss && asFileDamage(err) != nil {
		if id, err = s.acceptIdentity(err); err != nil {
			return err
		}
		found = true
	}
	if err != nil {
		return withAdvice(err)
	}
	if s.cfg.ReadOnly {
		return s.bringUpReadOnly(id, found)
	}
	create := !found || !id.Ready
	need, most := int64(openBytes), min(minFreeBytes, 2*s.cfg.MemTableBytes)
	if create {
		need = most
	}
	if err := s.checkFree(need, create); err != nil {
		return err
	}
	if err := s.checkDescriptors(openDescriptors); err != nil {
		return err
	}
	if create {
		return s.create()
	}
	s.identity = id
	accepted := false
	x, logged, err := s.verify(id)
	switch {
	case err == nil:
	case !s.cfg.AcceptLoss || !s.keepsLedger():
		return withAdvice(err)
	default:
		if x, logged, err = s.accept(id, err); err != nil {
			return err
		}
		accepted = true
	}
	if err := s.checkFree(min(need+logged, most), false); err != nil {
		return err
	}
	if err := s.announce(); err != nil {
		return err
	}
	// The process that created the database may have died before the rename of the identity was
	// durable. A power cut would then bring back the identity that says "creating", which
	// allows the next open to wipe the directory.
	if err := syncDir(s.guard, s.dir); err != nil {
		return err
	}
	if err := s.removeBackups(); err != nil {
		return err
	}
	if accepted || !s.losses.Marked {
		if err := s.keepUnknown(x); err != nil {
			return err
		}
	}
	if err := s.continueLedger(x); err != nil {
		return err
	}
	options := s.options()
	options.ErrorIfNotExists = true
	if s.db, err = pebble.Open(s.StoreDir(), options); err != nil {
		return s.nameDamage(openError(err))
	}
	s.room.init(s.cfg.MemTableBytes)
	return nil
}

// announce writes the holder's process into the lock file. It is the first change to a
// database, after everything was verified.
func (s *Store) announce() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.announce()
}

// checkFree refuses an open that would get stuck without need bytes of free space, and the
// creation of a database that could not accept a record. It accepts a file system that does not
// report its free space.
func (s *Store) checkFree(need int64, create bool) error {
	usage, err := s.guard.GetDiskUsage(s.dir)
	if err != nil {
		return nil
	}
	free := usage.AvailBytes
	switch {
	case free < uint64(need):
		return fmt.Errorf("%w: %d bytes are free at %s, and opening needs %d", ErrDiskFull, free, s.dir, need)
	case create && s.cfg.ReserveBytes > 0 && free < uint64(s.cfg.ReserveBytes):
		return fmt.Errorf("%w: ReserveBytes keeps %d bytes free on the disk of %s, and %d are free", ErrDiskFull, s.cfg.ReserveBytes, s.dir, free)
	default:
		return nil
	}
}

// DiskBytes returns the size of the disk of the directory, which need not exist yet; the file
// system is the real one if files is nil. It returns 0 if the size is unknown.
func DiskBytes(files FS, dir string) int64 {
	if files == nil {
		files = vfs.Default
		if absolute, err := filepath.Abs(dir); err == nil {
			dir = absolute
		}
	}
	for {
		usage, err := files.GetDiskUsage(dir)
		if err == nil {
			return int64(min(usage.TotalBytes, math.MaxInt64))
		}
		above := files.PathDir(dir)
		if !errors.Is(err, fs.ErrNotExist) || above == dir {
			return 0
		}
		dir = above
	}
}

// checkDescriptors refuses an open that would get stuck without n free descriptors.
func (s *Store) checkDescriptors(n int) (err error) {
	if s.cfg.InMemory {
		return nil
	}
	for range n {
		d, failed := s.guard.Unwrap().OpenDir(s.dir)
		if failed != nil {
			if guardfs.IsShortage(failed) {
				return failed
			}
			return nil // Open will make a missing directory
		}
		defer func() { err = joinErrors(err, d.Close()) }()
	}
	return nil
}

// verify compares the files with the ledger, then opens Pebble without changing a byte, and
// checks its rows. This must come before an open for writing, which deletes files that Pebble
// does not know. logged is about how many bytes of the log are not in a table yet.
func (s *Store) verify(id layout.Identity) (x *examination, logged int64, err error) {
	db, x, err := s.openVerified(id)
	if err != nil {
		return nil, 0, err
	}
	logged = int64(db.Metrics().MemTable.Size)
	return x, logged, joinErrors(s.check(db), openError(db.Close()))
}

// openVerified opens Pebble for reading, if the files are those of the ledger.
func (s *Store) openVerified(id layout.Identity) (*pebble.DB, *examination, error) {
	if _, err := s.guard.Stat(s.StoreDir()); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, &FileDamageError{File: storeName, Damage: FileMissing, Offset: -1, Size: -1, Want: -1}
	}
	var err error
	if s.losses, err = s.readLosses(); err != nil {
		return nil, nil, err
	}
	x := &examination{ledgers: newLedgers()}
	if s.keepsLedger() {
		if x, err = s.examine(id); err != nil {
			return nil, nil, err
		}
		if err := damageError(x.found); err != nil {
			return nil, nil, err
		}
	}
	db, err := s.openReadOnly()
	if err != nil {
		return nil, nil, s.diagnose(x, err)
	}
	if s.keepsLedger() {
		x.live, err = s.examineTables(db, x)
		if err = joinErrors(err, damageError(x.found)); err != nil {
			return nil, nil, joinErrors(err, openError(db.Close()))
		}
	}
	return db, x, nil
}

// check calls Config.Verify.
func (s *Store) check(db *pebble.DB) error {
	if s.cfg.Verify == nil {
		return nil
	}
	return s.cfg.Verify(readOnly{db})
}

// readOnly is the Reader that Verify gets.
type readOnly struct{ db *pebble.DB }

// Get implements Reader.
func (r readOnly) Get(key []byte) ([]byte, error) { return get(r.db, key) }

// NewIter implements Reader.
func (r readOnly) NewIter(lower, upper []byte) (*Iter, error) { return newIter(r.db, lower, upper) }

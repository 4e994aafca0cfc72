package kv

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/braidstream/braid/internal/guardfs"
	"github.com/braidstream/braid/internal/layout"
)

// The ledger says how much of Pebble's files is durable. To Pebble, a log that was cut looks
// like one that ended there, and a damaged manifest looks like an older one; the ledger lets an
// open notice (examine.go).
//
// There are two, which are written independently: LEDGER lists logs and the manifest, TABLES
// the tables. Each has two files, which are written in turn, in place, so that one of them
// survives a power cut whole.
//
// Invariant: everything that the newest whole ledger lists is durable, or the durable manifest
// no longer needs it. So a file may be removed or reused without writing a ledger first, and if
// a ledger cannot be written, the older one says less, but nothing wrong.
const (
	ledgerName = "LEDGER"
	tablesName = "TABLES"

	// ledgerPeriod is how far the ledger may be behind. Damage to bytes that were written in
	// that time before a kill or a power cut can go unnoticed.
	ledgerPeriod = time.Second
)

// slots is a file that is kept in two copies, an older and a newer one.
type slots struct {
	name     string // without the number
	next     int    // the slot that is written next, 0 or 1
	sequence uint64 // of the newest that was written

	// linked says which slots have a durable directory entry. A slot that was read has one,
	// since an open syncs the directory before it writes ledgers.
	linked [2]bool
}

func (s *slots) file(i int) string { return fmt.Sprintf("%s.%d", s.name, i+1) }

// ledgerFiles returns the names of all files of ledgers.
func ledgerFiles() (names []string) {
	l := newLedgers()
	for i := range 2 {
		names = append(names, l.fileSlots.file(i), l.tableSlots.file(i))
	}
	return names
}

// ledger writes the ledgers of an open database, on a timer that runs only after changes.
type ledger struct {
	guard    *guardfs.FS
	dir      string
	reporter *reporter

	alarm struct {
		sync.Mutex // guards the fields below; nothing is locked under it
		timer      *time.Timer
		armed      bool
		stopped    bool
	}

	writing turnstile // passed by one at a time, to write a ledger; guards the fields below
	kept    bool      // false before the database exists, without a ledger, and after end
	id      layout.Identity
	files   slots
	tables  slots
	broken  bool // an operation has failed: the content of a slot on disk is unknown

	filesVersion, tablesVersion uint64 // on disk; 0 for none
}

func newLedger(guard *guardfs.FS, reporter *reporter, dir string) *ledger {
	return &ledger{guard: guard, reporter: reporter, dir: dir, writing: make(turnstile, 1)}
}

// turnstile is a mutex that may be held during file operations: in a synctest bubble, a
// goroutine that waits for it is durably blocked.
type turnstile chan struct{}

func (t turnstile) enter() (leave func()) {
	t <- struct{}{}
	return func() { <-t }
}

// keepsLedger reports whether there is a ledger. A database in memory needs none.
func (s *Store) keepsLedger() bool { return !s.cfg.InMemory && !s.cfg.NoLedger }

// beginLedger begins the ledger of a new database.
func (s *Store) beginLedger(id layout.Identity) {
	if s.keepsLedger() {
		s.ledger.keep(id, newLedgers(), 0)
		s.guard.Track(s.StoreDir(), guardfs.Durable{}, s.ledger.wake)
	}
}

// continueLedger continues the ledger of a verified database. It drops tables that the store no
// longer has before Pebble can reuse their numbers.
func (s *Store) continueLedger(x *examination) error {
	if !s.keepsLedger() {
		return nil
	}
	left := x.leaveOut()
	s.ledger.keep(s.identity, x.ledgers, 1)
	s.guard.Track(s.StoreDir(), x.durable(), s.ledger.wake)
	if !left {
		return nil
	}
	return s.ledger.writeAll()
}

// leaveOut removes files from the lists that the store no longer needs: the process may have
// ended after it removed them and before it wrote the ledger. It reports whether there were
// such tables.
func (x *examination) leaveOut() (tables bool) {
	listed := len(x.tables.Tables)
	x.tables.Tables = slices.DeleteFunc(x.tables.Tables, func(t layout.LedgerTable) bool { _, ok := x.live[t.Name]; return !ok })
	x.files.Files = slices.DeleteFunc(x.files.Files, func(f layout.LedgerFile) bool {
		number, ok := logNumber(f.Name)
		return ok && number < x.minLog || !ok && f.Name != x.manifest
	})
	return len(x.tables.Tables) != listed
}

// durable returns what the ledgers list.
func (l *ledgers) durable() guardfs.Durable {
	return guardfs.Durable{Manifest: l.files.Manifest, Files: l.files.Files, Tables: l.tables.Tables}
}

// keep starts from the ledgers that were read. version is that of the guard's lists.
func (l *ledger) keep(id layout.Identity, read *ledgers, version uint64) {
	defer l.writing.enter()()
	l.kept, l.id, l.files, l.tables = true, id, read.fileSlots, read.tableSlots
	l.filesVersion, l.tablesVersion = version, version
}

// wake starts the timer that writes the ledger. The guard calls it from inside file operations.
func (l *ledger) wake() {
	l.alarm.Lock()
	defer l.alarm.Unlock()
	switch {
	case l.alarm.stopped || l.alarm.armed:
		return
	case l.alarm.timer == nil:
		l.alarm.timer = time.AfterFunc(ledgerPeriod, l.ring)
	default:
		l.alarm.timer.Reset(ledgerPeriod)
	}
	l.alarm.armed = true
}

// ring is the function of the timer.
func (l *ledger) ring() {
	l.alarm.Lock()
	stopped := l.alarm.stopped
	l.alarm.armed = false
	l.alarm.Unlock()
	if stopped {
		return
	}
	_ = l.write() // which has reported its error
}

// stop stops the timer, without waiting.
func (l *ledger) stop() {
	l.alarm.Lock()
	defer l.alarm.Unlock()
	l.alarm.stopped = true
	if l.alarm.timer != nil {
		l.alarm.timer.Stop()
	}
}

// close writes the ledgers a last time. No other goroutine changes files by then.
func (l *ledger) close() {
	l.stop()
	_ = l.write() // the older ledgers say less, but nothing wrong
	l.end()
}

// end stops the writing of ledgers, and waits for a write in progress: afterwards another
// process may own the directory. An abandoned store does not need this, since its guard blocks
// all writes.
func (l *ledger) end() {
	l.stop()
	defer l.writing.enter()()
	l.kept = false
}

// ready writes a ledger that says that the database has been created.
func (l *ledger) ready() error {
	leave := l.writing.enter()
	l.id.Ready = true
	leave()
	return l.writeAll()
}

// writeAll writes the ledgers even if nothing has changed.
func (l *ledger) writeAll() error {
	leave := l.writing.enter()
	l.filesVersion, l.tablesVersion = 0, 0
	leave()
	return l.write()
}

// write writes the ledgers that have changed. If the disk is full or descriptors are short, the
// ledgers stay as they are until the next change; after any other error they are never written
// again.
func (l *ledger) write() error {
	defer l.writing.enter()()
	if !l.kept || l.broken {
		return nil
	}
	state := l.guard.Durable(l.filesVersion, l.tablesVersion)
	err := l.writeTables(state)
	if err == nil && state.FilesVersion != l.filesVersion {
		next := layout.Ledger{
			Sequence: l.files.sequence + 1, Database: l.id.ID, Ready: l.id.Ready,
			Manifest: state.Manifest, Files: state.Files,
		}
		if err = l.put(&l.files, next.Encode()); err == nil {
			l.filesVersion = state.FilesVersion
		}
	}
	if err != nil && !guardfs.IsShortage(err) {
		l.broken = true
		l.reporter.report(slog.LevelWarn, "the ledger of durable files cannot be written: until the database is opened again, damage to newer data may go unnoticed",
			"error", err)
	}
	return err
}

func (l *ledger) writeTables(state guardfs.Durable) error {
	if state.TablesVersion == l.tablesVersion {
		return nil
	}
	next := layout.TableLedger{Sequence: l.tables.sequence + 1, Database: l.id.ID, Tables: state.Tables}
	err := l.put(&l.tables, next.Encode())
	if err == nil {
		l.tablesVersion = state.TablesVersion
	}
	return err
}

// put writes one of the two files of a ledger. The other one stays as it is.
func (l *ledger) put(s *slots, data []byte) error {
	err := l.guard.Try(func() error {
		err := putSlot(l.guard.Unwrap(), l.dir, s.file(s.next), data)
		if err == nil && !s.linked[s.next] {
			err = syncDir(l.guard.Unwrap(), l.dir)
		}
		return err
	})
	if err == nil {
		s.linked[s.next] = true
		s.next = 1 - s.next
		s.sequence++
	}
	return err
}

// putSlot writes a file in place, and syncs it but not its directory entry. Old bytes beyond
// the data stay.
func putSlot(files FS, dir, name string, data []byte) error {
	f, err := files.OpenReadWrite(files.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.SyncData()
	}
	return joinErrors(err, f.Close())
}

// ledgers are the ledgers that were read from a directory.
type ledgers struct {
	files      layout.Ledger
	tables     layout.TableLedger
	fileSlots  slots
	tableSlots slots
}

func newLedgers() *ledgers {
	return &ledgers{fileSlots: slots{name: ledgerName}, tableSlots: slots{name: tablesName}}
}

// readLedgers reads the newest whole ledgers of a database. found has an entry for each ledger
// that has none.
func readLedgers(files FS, dir string, id layout.Identity) (l *ledgers, found []*FileDamageError, err error) {
	l = newLedgers()
	damage, err := readSlots(files, dir, &l.fileSlots, func(data []byte) (uint64, bool, error) {
		next, err := layout.DecodeLedger(data)
		if err != nil || next.Database != id.ID {
			return 0, false, err
		}
		if next.Sequence > l.files.Sequence {
			l.files = next
		}
		return next.Sequence, true, nil
	})
	if damage != nil {
		found = append(found, damage)
	}
	if err != nil {
		return nil, nil, err
	}
	damage, err = readSlots(files, dir, &l.tableSlots, func(data []byte) (uint64, bool, error) {
		next, err := layout.DecodeTableLedger(data)
		if err != nil || next.Database != id.ID {
			return 0, false, err
		}
		if next.Sequence > l.tables.Sequence {
			l.tables = next
		}
		return next.Sequence, true, nil
	})
	if damage != nil {
		found = append(found, damage)
	}
	return l, found, err
}

// newestLedger returns the newest ledger of a directory whose identity is lost; its Sequence is
// 0 if none can be read.
func newestLedger(files FS, dir string) (newest layout.Ledger) {
	for i := range 2 {
		data, err := readWhole(files, files.PathJoin(dir, newLedgers().fileSlots.file(i)), layout.MaxLedgerBytes)
		if err != nil {
			continue
		}
		if l, err := layout.DecodeLedger(data); err == nil && l.Ready && l.Sequence > newest.Sequence {
			newest = l
		}
	}
	return newest
}

// readSlots reads both files of a ledger. decode returns the sequence of a file, and whether it
// belongs to this database. A power cut may leave one torn file; if neither is whole, that is
// damage.
func readSlots(files FS, dir string, s *slots, decode func([]byte) (uint64, bool, error)) (*FileDamageError, error) {
	var worst *FileDamageError
	good := false
	for i := range 2 {
		damage := &FileDamageError{File: s.file(i), Offset: -1, Size: -1, Want: -1}
		data, err := readWhole(files, files.PathJoin(dir, s.file(i)), layout.MaxLedgerBytes)
		if errors.Is(err, fs.ErrNotExist) {
			damage.Damage = FileMissing
		} else if err != nil {
			return nil, fmt.Errorf("read ledger: %w", err)
		} else {
			s.linked[i] = true
			sequence, own, err := decode(data)
			switch {
			case err != nil:
				damage.Damage, damage.Cause, damage.Size = FileChanged, err, int64(len(data))
			case !own:
				damage.Damage = FileForeign
			default:
				if !good || sequence > s.sequence {
					s.sequence, s.next = sequence, 1-i
				}
				good = true
				continue
			}
		}
		if worst == nil || worst.Damage == FileMissing {
			worst = damage
		}
	}
	if good {
		return nil, nil
	}
	return worst, nil
}

// headSum returns the checksum of the first bytes of a log or manifest.
func headSum(files FS, name string, size int64) (uint32, error) {
	f, err := files.Open(name)
	if err != nil {
		return 0, err
	}
	head := make([]byte, min(size, layout.LedgerHeadBytes))
	n, err := io.ReadFull(f, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return layout.LedgerSum(0, head[:n]), joinErrors(err, f.Close())
}

// readWhole reads a small file.
func readWhole(files FS, name string, most int64) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	return data, joinErrors(err, f.Close())
}

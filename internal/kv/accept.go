package kv

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/braidstream/braid/internal/guardfs"
	"github.com/braidstream/braid/internal/layout"
)

// This file opens a damaged database with what is left of it, if Config.AcceptLoss
// allows that.
//
// What is done about a file depends on what it is. A log or a manifest keeps its sound
// beginning, and the logs after a damaged one go with what it lost: what is left is a
// state that the database once had, as far as that hangs on them. A table that is missing
// or is another one is replaced by one of the same size that cannot be read, so that its
// readers are told. Markers, ledgers and the identity are made anew from each other.
//
// Invariant: nothing is thrown away. A file that is replaced is moved to lostName first,
// and what was accepted is written to lossesName before that. If it cannot be done, the
// open is refused; a new database is never made.
const (
	lossesName    = "LOSSES"
	newLossesName = "LOSSES.new"
	lostName      = "lost"
)

// errNothingLeft is why a loss cannot be accepted.
var errNothingLeft = errors.New("too little is left to go on without it")

// acceptor accepts the losses of one open.
type acceptor struct {
	s    *Store
	id   layout.Identity
	done map[string]bool // the files that something was done about
}

// accept repairs one file after the other until the database can be verified, or one of
// them cannot be repaired. err is what verifying it has said.
func (s *Store) accept(id layout.Identity, err error) (x *examination, logged int64, _ error) {
	a := &acceptor{s: s, id: id, done: make(map[string]bool)}
	for {
		damage := asFileDamage(err)
		if damage == nil || a.done[damage.File+string(damage.Damage)] {
			return nil, 0, err
		}
		a.done[damage.File+string(damage.Damage)] = true
		if failed := a.repair(damage); failed != nil {
			return nil, 0, fmt.Errorf("%w; the loss cannot be accepted: %w", err, failed)
		}
		if x, logged, err = s.verify(id); err == nil {
			return x, logged, a.removeUnknown(x)
		}
	}
}

// repair does what can be done about one file.
func (a *acceptor) repair(damage *FileDamageError) error {
	if err := a.note(damage); err != nil {
		return err
	}
	dir, name := path.Split(damage.File)
	switch {
	case dir == "" && (strings.HasPrefix(name, ledgerName+".") || strings.HasPrefix(name, tablesName+".")):
		return a.renewLedgers()
	case dir == "" && name == lossesName:
		return nil // there are new ones
	case dir == "":
		return errNothingLeft
	case guardfs.IsLog(name):
		return a.cutLog(name)
	case strings.HasPrefix(name, "MANIFEST-"):
		return a.cutManifest(name)
	case guardfs.IsTable(name):
		return a.blankTable(name, damage.Want)
	case strings.HasPrefix(name, "marker."):
		return a.renewMarker(name)
	case strings.HasPrefix(name, "OPTIONS-"):
		return a.setAside(name)
	default:
		return errNothingLeft
	}
}

// note writes down what is going to be accepted.
func (a *acceptor) note(damage *FileDamageError) error {
	s := a.s
	l, err := s.readLosses()
	if asFileDamage(err) != nil {
		l, err = layout.Losses{}, a.moveAside(s.guard.PathJoin(s.dir, lossesName))
	}
	if err != nil {
		return err
	}
	l.Losses = append(l.Losses, layout.Loss{
		Time: time.Now().Truncate(time.Second), File: damage.File, Damage: string(damage.Damage), Offset: damage.Offset, Text: damage.what(),
	})
	if !guardfs.IsTable(path.Base(damage.File)) {
		l.Marked = false
	}
	s.reporter.report(slog.LevelError, "a loss is accepted", "file", damage.File, "damage", damage.what())
	return s.writeLosses(l)
}

// readLosses returns the losses that were accepted so far. Of none, all are marked.
func (s *Store) readLosses() (layout.Losses, error) {
	data, err := readWhole(s.guard, s.guard.PathJoin(s.dir, lossesName), layout.MaxLossesBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return layout.Losses{Marked: true}, nil
	}
	if err != nil {
		return layout.Losses{}, fmt.Errorf("read losses: %w", err)
	}
	l, err := layout.DecodeLosses(data)
	if err != nil {
		return layout.Losses{}, &FileDamageError{File: lossesName, Damage: FileChanged, Offset: -1, Size: int64(len(data)), Want: -1, Cause: err}
	}
	return l, nil
}

func (s *Store) writeLosses(l layout.Losses) error {
	if err := replaceFile(s.guard, s.dir, newLossesName, lossesName, l.Encode()); err != nil {
		return fmt.Errorf("write losses: %w", err)
	}
	return nil
}

// Losses returns what was accepted as lost, since the database was created.
func (s *Store) Losses() []layout.Loss { return s.losses.Losses }

// LossesUnmarked reports whether the rows do not say yet that what was in a log or a
// manifest may be missing. MarkLosses is called when they do, durably.
func (s *Store) LossesUnmarked() bool { return !s.losses.Marked }

// MarkLosses is described at LossesUnmarked.
func (s *Store) MarkLosses() error {
	return s.await(func() error {
		s.losses.Marked = true
		return s.writeLosses(s.losses)
	})
}

// path returns that of a file of the store.
func (a *acceptor) path(name string) string { return a.s.guard.PathJoin(a.s.StoreDir(), name) }

// setAside moves a file of the store to where what was lost is kept. One that is missing
// is no error.
func (a *acceptor) setAside(name string) error {
	return joinErrors(a.moveAside(a.path(name)), syncDir(a.s.guard, a.s.StoreDir()))
}

// moveAside is setAside for any file.
func (a *acceptor) moveAside(file string) error {
	s := a.s
	lost := s.guard.PathJoin(s.dir, lostName)
	if err := makeDirs(s.guard, lost); err != nil {
		return err
	}
	target := s.guard.PathJoin(lost, s.guard.PathBase(file))
	for n := 2; ; n++ {
		if _, err := s.guard.Stat(target); errors.Is(err, fs.ErrNotExist) {
			break
		}
		target = s.guard.PathJoin(lost, s.guard.PathBase(file)+"."+strconv.Itoa(n))
	}
	if err := s.guard.Rename(file, target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(s.guard, lost)
}

// keepBeginning replaces a file of the store by its first n bytes.
func (a *acceptor) keepBeginning(name string, n int64) error {
	data, err := readWhole(a.s.guard, a.path(name), n-1)
	if err != nil {
		return err
	}
	if err := a.setAside(name); err != nil {
		return err
	}
	return joinErrors(writeFile(a.s.guard, a.path(name), data), syncDir(a.s.guard, a.s.StoreDir()))
}

// cutLog keeps what can be read of a log, and takes the later ones away: what is in them
// followed on what is lost.
func (a *acceptor) cutLog(name string) error {
	number, _ := logNumber(name)
	sound, err := a.ownBytes(name, number)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case sound == 0:
		err = a.setAside(name)
	default:
		err = a.keepBeginning(name, sound)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return joinErrors(a.setAsideLogs(number+1), a.unlist(func(f string) bool {
		n, ok := logNumber(f)
		return ok && n >= number
	}))
}

// ownBytes is soundBytes of a log or manifest that is the one that is listed; 0 of
// another one, or if that cannot be told.
func (a *acceptor) ownBytes(name string, number uint64) (int64, error) {
	sound, _, err := a.s.soundBytes(name, number)
	if err != nil {
		return 0, err
	}
	l, _, err := readLedgers(a.s.guard, a.s.dir, a.id)
	if err != nil {
		return 0, err
	}
	for _, f := range l.files.Files {
		if f.Name == name {
			head, err := headSum(a.s.guard, a.path(name), f.Size)
			if err != nil || head != f.Head {
				return 0, err
			}
			if sound < f.Size {
				continue
			}
			if _, sum, err := a.s.sumOf(name, f.Size); err != nil || sum != f.Sum {
				return 0, err // whole, and another one
			}
		}
	}
	return sound, nil
}

// setAsideLogs takes the logs away from a number on.
func (a *acceptor) setAsideLogs(from uint64) error {
	names, err := a.s.guard.List(a.s.StoreDir())
	for _, name := range names {
		if n, ok := logNumber(name); ok && n >= from {
			err = joinErrors(err, a.setAside(name))
		}
	}
	return err
}

// cutManifest keeps the edits of a manifest that can be read. The store is one of
// before then. If a log that it needs has been used again since, those that are left do
// not follow on from it.
func (a *acceptor) cutManifest(name string) error {
	sound, err := a.ownBytes(name, 0)
	if errors.Is(err, fs.ErrNotExist) || err == nil && sound == 0 {
		return errNothingLeft
	}
	if err == nil {
		err = a.keepBeginning(name, sound)
	}
	if err != nil {
		return err
	}
	first, err := a.s.minLog(name)
	if err != nil {
		return err
	}
	if _, err := a.s.guard.Stat(a.path(fmt.Sprintf("%06d.log", first))); errors.Is(err, fs.ErrNotExist) {
		if err := a.setAsideLogs(0); err != nil {
			return err
		}
		return a.unlist(func(string) bool { return true })
	}
	return a.unlist(func(f string) bool { return f == name })
}

// blankTable puts a table in the place of one that is lost, of the size that Pebble
// expects, in which nothing can be read.
func (a *acceptor) blankTable(name string, size int64) (err error) {
	if size < 0 {
		return fmt.Errorf("how large %s has to be is not known", name)
	}
	if err := a.setAside(name); err != nil {
		return err
	}
	f, err := a.s.guard.Create(a.path(name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	zeros := make([]byte, min(size, 1<<20))
	for left := size; left > 0 && err == nil; left -= int64(len(zeros)) {
		_, err = f.Write(zeros[:min(left, int64(len(zeros)))])
	}
	if err == nil {
		err = f.Sync()
	}
	if err = joinErrors(joinErrors(err, f.Close()), syncDir(a.s.guard, a.s.StoreDir())); err != nil {
		return err
	}
	return a.unlist(func(f string) bool { return f == name })
}

// renewMarker makes a marker that is missing, or names an older manifest.
func (a *acceptor) renewMarker(name string) error {
	s := a.s
	kind := strings.Split(name, ".")[1]
	value := fmt.Sprintf("%03d", uint64(pebbleFormat))
	if kind == "manifest" {
		l, _, err := readLedgers(s.guard, s.dir, a.id)
		if err != nil {
			return err
		}
		value = l.files.Manifest
		if _, err := s.guard.Stat(a.path(value)); value == "" || err != nil {
			return errNothingLeft
		}
	}
	names, err := s.guard.List(s.StoreDir())
	if err != nil {
		return err
	}
	highest := uint64(0)
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, "marker."+kind+"."); ok {
			iteration, _, _ := strings.Cut(rest, ".")
			n, err := strconv.ParseUint(iteration, 10, 64)
			if err != nil { // not one of Pebble's
				if err := a.setAside(name); err != nil {
					return err
				}
			}
			highest = max(highest, n)
		}
	}
	marker := fmt.Sprintf("marker.%s.%06d.%s", kind, highest+1, value)
	return joinErrors(writeFile(s.guard, a.path(marker), nil), syncDir(s.guard, s.StoreDir()))
}

// renewLedgers makes ledgers of what is there.
func (a *acceptor) renewLedgers() error {
	s := a.s
	old, _, err := readLedgers(s.guard, s.dir, a.id)
	if err != nil {
		return err
	}
	peeked, err := pebble.Peek(s.StoreDir(), s.guard)
	if err != nil || !peeked.Exists {
		return joinErrors(errNothingLeft, err)
	}
	l := newLedgers()
	l.files = layout.Ledger{Sequence: old.files.Sequence + 1, Database: a.id.ID, Ready: true, Manifest: s.guard.PathBase(peeked.ManifestFilename)}
	l.tables = layout.TableLedger{Sequence: old.tables.Sequence + 1, Database: a.id.ID, Tables: old.tables.Tables}
	return a.putLedgers(l)
}

// unlist takes what was repaired out of the ledgers: what it holds now is what it is
// going to hold.
func (a *acceptor) unlist(repaired func(name string) bool) error {
	s := a.s
	old, _, err := readLedgers(s.guard, s.dir, a.id)
	if err != nil {
		return err
	}
	l := newLedgers()
	l.files, l.tables = old.files, old.tables
	l.files.Sequence++
	l.tables.Sequence++
	l.files.Files, l.tables.Tables = nil, nil
	for _, f := range old.files.Files {
		if !repaired(f.Name) {
			l.files.Files = append(l.files.Files, f)
		}
	}
	for _, t := range old.tables.Tables {
		if !repaired(t.Name) {
			l.tables.Tables = append(l.tables.Tables, t)
		}
	}
	return a.putLedgers(l)
}

// putLedgers writes both files of both ledgers.
func (a *acceptor) putLedgers(l *ledgers) error {
	s := a.s
	l.files.Ready = true
	for i := range 2 {
		err := joinErrors(putSlot(s.guard, s.dir, l.tableSlots.file(i), l.tables.Encode()),
			putSlot(s.guard, s.dir, l.fileSlots.file(i), l.files.Encode()))
		if err != nil {
			return err
		}
		l.files.Sequence++
		l.tables.Sequence++
	}
	return nil
}

// removeUnknown takes tables away that nothing names: Pebble would delete them, and
// they may hold what was lost.
func (a *acceptor) removeUnknown(x *examination) error {
	names, err := a.s.guard.List(a.s.StoreDir())
	for _, name := range names {
		if _, live := x.live[name]; guardfs.IsTable(name) && !live {
			err = joinErrors(err, a.setAside(name))
		}
	}
	return err
}

// acceptIdentity makes an identity that is lost anew, for the database that the ledger
// names.
func (s *Store) acceptIdentity(err error) (layout.Identity, error) {
	id, fresh := layout.NewIdentity()
	if fresh != nil {
		return id, fresh
	}
	newest := newestLedger(s.guard, s.dir)
	if newest.Sequence == 0 {
		return id, fmt.Errorf("%w; the loss cannot be accepted: %w", err, errNothingLeft)
	}
	id.ID, id.Ready = newest.Database, true
	a := &acceptor{s: s, id: id}
	if failed := a.note(asFileDamage(err)); failed != nil {
		return id, failed
	}
	return id, writeIdentity(s.guard, s.dir, id)
}

package kv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
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
// The repair depends on the kind of file. A log or a manifest keeps its sound beginning, and
// logs that follow a damaged one are removed with it: the result is a state that the database
// once had, as far as logs and manifest decide. A table that is missing or foreign is replaced
// by an unreadable one of the same size, so that its readers get an error. Markers, ledgers and
// the identity are rebuilt from each other.
//
// Invariant: only ledgers are deleted, and they hold nothing that other files do not. The loss
// is written to lossesName before anything is changed; a file gets a second name in lostName
// before it is replaced, in one step. So after a power cut, the next open either refuses, or
// finds the loss recorded; with AcceptLoss it continues the repair. If a repair is impossible,
// the open is refused; it never makes a new database. TestPowerCutWhileALossIsAccepted verifies
// that.
const (
	lossesName    = "LOSSES"
	newLossesName = "LOSSES.new"
	lostName      = "lost"
)

// errNothingLeft is why a loss cannot be accepted.
var errNothingLeft = errors.New("too little is left to go on without it")

// acceptor accepts the losses of one open.
type acceptor struct {
	s       *Store
	id      layout.Identity
	done    map[string]bool // the files that were repaired
	changed bool            // something was written
}

// accept repairs one file after the other until the database can be verified, or one of them
// cannot be repaired. err is the error of verifying it.
func (s *Store) accept(id layout.Identity, err error) (x *examination, logged int64, _ error) {
	a := &acceptor{s: s, id: id, done: make(map[string]bool)}
	for {
		damage := asFileDamage(err)
		if damage == nil || a.done[damage.File+string(damage.Damage)] {
			return nil, 0, a.refuse(err)
		}
		a.done[damage.File+string(damage.Damage)] = true
		if failed := a.repair(damage); failed != nil {
			return nil, 0, a.refuse(fmt.Errorf("%w; the loss cannot be accepted: %w", err, failed))
		}
		if x, logged, err = s.verify(id); err == nil {
			return x, logged, nil
		}
	}
}

// refuse returns an error that says where the files are now.
func (a *acceptor) refuse(err error) error {
	if !a.changed {
		return fmt.Errorf("%w; nothing was changed", err)
	}
	return fmt.Errorf("%w; other losses were accepted before that: %s lists them, and the files that were replaced are in %q",
		err, lossesName, lostName)
}

// repair repairs one file as far as possible.
func (a *acceptor) repair(damage *FileDamageError) error {
	dir, name := path.Split(damage.File)
	switch {
	case dir == "" && (strings.HasPrefix(name, ledgerName+".") || strings.HasPrefix(name, tablesName+".")):
		return a.renewLedgers(damage)
	case dir == "" && name == lossesName:
		return a.note(damage)
	case dir == "":
		return errNothingLeft
	case guardfs.IsLog(name):
		return a.cutLog(damage, name)
	case strings.HasPrefix(name, "MANIFEST-"):
		return a.cutManifest(damage, name)
	case guardfs.IsTable(name):
		return a.blankTable(damage, name)
	case strings.HasPrefix(name, "marker."):
		return a.renewMarker(damage, name)
	case strings.HasPrefix(name, "OPTIONS-"):
		if err := a.note(damage); err != nil {
			return err
		}
		return a.setAside(name)
	default:
		return errNothingLeft
	}
}

// note records the loss before the first change, once it is certain that it can be accepted.
func (a *acceptor) note(damage *FileDamageError) error {
	s := a.s
	l, err := s.readLosses()
	if asFileDamage(err) != nil {
		a.changed = true
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
	a.changed = true
	s.reporter.report(slog.LevelError, "a loss is accepted", "file", damage.File, "damage", damage.what())
	return s.writeLosses(l)
}

// readLosses returns the losses that were accepted so far. If there are none, they count as
// marked.
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

// Losses returns the losses that were accepted since the database was created.
func (s *Store) Losses() []layout.Loss { return s.losses.Losses }

// LossesUnmarked reports whether rows have yet to record that the contents of a log or a
// manifest may be missing. Call MarkLosses once they do, durably.
func (s *Store) LossesUnmarked() bool { return !s.losses.Marked }

// MarkLosses records that the rows show all losses: see LossesUnmarked.
func (s *Store) MarkLosses() error {
	return s.await(func() error {
		s.losses.Marked = true
		return s.writeLosses(s.losses)
	})
}

// path returns the path of a file of the store.
func (a *acceptor) path(name string) string { return a.s.guard.PathJoin(a.s.StoreDir(), name) }

// setAside moves a file of the store to the directory of lost files. A missing file is no
// error.
func (a *acceptor) setAside(name string) error {
	return joinErrors(a.moveAside(a.path(name)), syncDir(a.s.guard, a.s.StoreDir()))
}

// moveAside is setAside for any file.
func (a *acceptor) moveAside(file string) error {
	if _, err := a.s.guard.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	target, err := a.lostName(file)
	if err != nil {
		return err
	}
	if err := a.s.guard.Rename(file, target); err != nil {
		return err
	}
	return a.syncLost()
}

// keepAside gives a file a second name in the directory of lost files, so that it can be
// replaced. A missing file is no error.
func (a *acceptor) keepAside(file string) error {
	files := a.s.guard
	target, err := a.lostName(file)
	if err != nil {
		return err
	}
	err = files.Try(func() error { return files.Unwrap().Link(file, target) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a file system without links
		_, err = copyFile(context.Background(), files, file, files, target, func(int64) {})
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return a.syncLost()
}

// lostName returns a new name for a file in the directory of lost files.
func (a *acceptor) lostName(file string) (string, error) {
	files := a.s.guard
	lost := files.PathJoin(a.s.dir, lostName)
	if err := makeDirs(files, lost); err != nil {
		return "", err
	}
	first := files.PathJoin(lost, files.PathBase(file))
	target := first
	for n := 2; ; n++ {
		if _, err := files.Stat(target); errors.Is(err, fs.ErrNotExist) {
			return target, nil
		} else if err != nil {
			return "", err
		}
		target = first + "." + strconv.Itoa(n)
	}
}

func (a *acceptor) syncLost() error { return syncDir(a.s.guard, a.s.guard.PathJoin(a.s.dir, lostName)) }

// newSuffix ends the name of a file of the store while it is being made. Pebble ignores such
// names.
const newSuffix = ".new"

// replace renames the file with newSuffix to the file of the store that it replaces, in one
// step. The old file must have a second name by then.
func (a *acceptor) replace(name string) error {
	return joinErrors(a.s.guard.Rename(a.path(name+newSuffix), a.path(name)), syncDir(a.s.guard, a.s.StoreDir()))
}

// makeBeginning makes the replacement of a file of the store from its first n bytes. It gives
// the old file a second name, and returns the ledger's entry for the new one.
func (a *acceptor) makeBeginning(name string, n int64) (f layout.LedgerFile, err error) {
	data, err := readWhole(a.s.guard, a.path(name), n-1)
	if err != nil {
		return f, err
	}
	head := data[:min(len(data), layout.LedgerHeadBytes)] // before writing, since a file may change the bytes that it is given
	f = layout.LedgerFile{Name: name, Size: int64(len(data)), Sum: layout.LedgerSum(0, data), Head: layout.LedgerSum(0, head)}
	if err := writeFile(a.s.guard, a.path(name+newSuffix), data); err != nil {
		return f, err
	}
	return f, a.keepAside(a.path(name))
}

// cutLog keeps the readable beginning of a log, and removes the later logs, whose commits built
// on the lost ones. The ledger lists the new file before it replaces the log; otherwise the
// next open would reject it as foreign.
func (a *acceptor) cutLog(damage *FileDamageError, name string) error {
	number, _ := logNumber(name)
	sound, err := a.ownBytes(name, number)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := a.note(damage); err != nil {
		return err
	}
	var left []layout.LedgerFile
	if sound > 0 {
		f, err := a.makeBeginning(name, sound)
		if err != nil {
			return err
		}
		left = append(left, f)
	} else if err := a.setAside(name); err != nil {
		return err
	}
	if err := a.setAsideLogs(number + 1); err != nil {
		return err
	}
	err = a.relist(left, func(f string) bool {
		n, ok := logNumber(f)
		return ok && n >= number
	})
	if err != nil || sound == 0 {
		return err
	}
	return a.replace(name)
}

// ownBytes is soundBytes for a log or manifest that the ledger knows. It returns 0 for a foreign
// one, or if the ledger cannot decide.
func (a *acceptor) ownBytes(name string, number uint64) (int64, error) {
	sound, _, err := a.s.storeFiles().soundBytes(name, number)
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
			if _, sum, err := a.s.storeFiles().sumOf(name, f.Size); err != nil || sum != f.Sum {
				return 0, err // whole, but foreign
			}
		}
	}
	return sound, nil
}

// setAsideLogs sets aside the logs with that number or a higher one.
func (a *acceptor) setAsideLogs(from uint64) error {
	names, err := a.s.guard.List(a.s.StoreDir())
	for _, name := range names {
		if n, ok := logNumber(name); ok && n >= from {
			err = joinErrors(err, a.setAside(name))
		}
	}
	return err
}

// cutManifest keeps the readable edits of a manifest, so the store goes back to the last of
// them. If Pebble has reused a log that this older state needs, the logs that are left do not
// continue it. For the order of ledger and file see cutLog.
func (a *acceptor) cutManifest(damage *FileDamageError, name string) error {
	sound, err := a.ownBytes(name, 0)
	if errors.Is(err, fs.ErrNotExist) || err == nil && sound == 0 {
		return errNothingLeft
	}
	if err != nil {
		return err
	}
	if err := a.note(damage); err != nil {
		return err
	}
	left, err := a.makeBeginning(name, sound)
	if err != nil {
		return err
	}
	first, err := a.s.storeFiles().minLog(name + newSuffix)
	if err != nil {
		return err
	}
	gone := func(f string) bool { return f == name }
	if _, err := a.s.guard.Stat(a.path(fmt.Sprintf("%06d.log", first))); errors.Is(err, fs.ErrNotExist) {
		if err := a.setAsideLogs(0); err != nil {
			return err
		}
		gone = func(string) bool { return true }
	}
	if err := a.relist([]layout.LedgerFile{left}, gone); err != nil {
		return err
	}
	return a.replace(name)
}

// blankTable replaces a lost table by an unreadable one of the size that Pebble expects.
func (a *acceptor) blankTable(damage *FileDamageError, name string) error {
	size := damage.Want
	if size < 0 {
		return fmt.Errorf("the size of %s is unknown", name)
	}
	if err := a.note(damage); err != nil {
		return err
	}
	if err := a.makeBlank(name+newSuffix, size); err != nil {
		return err
	}
	if err := a.keepAside(a.path(name)); err != nil {
		return err
	}
	if err := a.replace(name); err != nil {
		return err
	}
	return a.relist(nil, func(f string) bool { return f == name })
}

func (a *acceptor) makeBlank(name string, size int64) error {
	f, err := a.s.guard.Create(a.path(name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	zeros := make([]byte, min(size, 1<<20))
	for left := size; left > 0 && err == nil; left -= int64(len(zeros)) {
		clear(zeros) // a file may change the bytes that it is given
		_, err = f.Write(zeros[:min(left, int64(len(zeros)))])
	}
	if err == nil {
		err = f.Sync()
	}
	return joinErrors(err, f.Close())
}

// renewMarker remakes a marker that is missing or names an older manifest.
func (a *acceptor) renewMarker(damage *FileDamageError, name string) error {
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
	if err == nil {
		err = a.note(damage)
	}
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

// renewLedgers rebuilds the ledgers from the files, except a ledger that is whole.
func (a *acceptor) renewLedgers(damage *FileDamageError) error {
	s := a.s
	l, _, err := readLedgers(s.guard, s.dir, a.id)
	if err != nil {
		return err
	}
	if l.files.Sequence == 0 {
		peeked, err := pebble.Peek(s.StoreDir(), s.guard)
		if err != nil || !peeked.Exists {
			return joinErrors(errNothingLeft, err)
		}
		l.files.Manifest = s.guard.PathBase(peeked.ManifestFilename)
	}
	if err := a.note(damage); err != nil {
		return err
	}
	return a.putLedgers(l)
}

// relist removes the files that gone accepts from the ledgers, and adds left, the new entries
// of those that were cut.
func (a *acceptor) relist(left []layout.LedgerFile, gone func(name string) bool) error {
	l, _, err := readLedgers(a.s.guard, a.s.dir, a.id)
	if err != nil {
		return err
	}
	l.files.Files = slices.DeleteFunc(l.files.Files, func(f layout.LedgerFile) bool { return gone(f.Name) })
	l.files.Files = append(l.files.Files, left...)
	slices.SortFunc(l.files.Files, func(a, b layout.LedgerFile) int { return strings.Compare(a.Name, b.Name) })
	l.tables.Tables = slices.DeleteFunc(l.tables.Tables, func(t layout.LedgerTable) bool { return gone(t.Name) })
	return a.putLedgers(l)
}

// putLedgers writes both files of both ledgers, the newest of each last.
func (a *acceptor) putLedgers(l *ledgers) error {
	l.files.Database, l.files.Ready, l.tables.Database = a.id.ID, true, a.id.ID
	put := func(slot *slots, encode func() []byte) error {
		if err := putSlot(a.s.guard, a.s.dir, slot.file(slot.next), encode()); err != nil {
			return err
		}
		slot.next = 1 - slot.next
		return syncDir(a.s.guard, a.s.dir)
	}
	for range 2 {
		l.files.Sequence++
		l.tables.Sequence++
		if err := put(&l.tableSlots, l.tables.Encode); err != nil {
			return err
		}
		if err := put(&l.fileSlots, l.files.Encode); err != nil {
			return err
		}
	}
	return nil
}

// keepUnknown sets aside tables that no manifest names: Pebble would delete them, and they may
// hold the records that were lost with a manifest.
func (s *Store) keepUnknown(x *examination) error {
	a := &acceptor{s: s, id: s.identity}
	names, err := s.guard.List(s.StoreDir())
	for _, name := range names {
		if _, live := x.live[name]; guardfs.IsTable(name) && !live {
			err = joinErrors(err, a.setAside(name))
		}
	}
	return err
}

// acceptIdentity remakes a lost identity, for the database that the ledger names.
func (s *Store) acceptIdentity(err error) (layout.Identity, error) {
	id, fresh := layout.NewIdentity()
	if fresh != nil {
		return id, fresh
	}
	newest := newestLedger(s.guard, s.dir)
	if newest.Sequence == 0 {
		return id, fmt.Errorf("%w; the loss cannot be accepted: %w; nothing was changed", err, errNothingLeft)
	}
	id.ID, id.Ready = newest.Database, true
	a := &acceptor{s: s, id: id}
	if failed := a.note(asFileDamage(err)); failed != nil {
		return id, failed
	}
	if failed := a.keepAside(s.guard.PathJoin(s.dir, identityName)); failed != nil {
		return id, failed
	}
	return id, writeIdentity(s.guard, s.dir, id)
}

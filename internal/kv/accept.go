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
// What is done about a file depends on what it is. A log or a manifest keeps its sound
// beginning, and the logs after a damaged one go with what it lost: what is left is a
// state that the database once had, as far as that hangs on them. A table that is missing
// or is another one is replaced by one of the same size that cannot be read, so that its
// readers are told. Markers, ledgers and the identity are made anew from each other.
//
// Invariant: nothing is thrown away but ledgers, which hold only what others say. What is
// going to be accepted is written to lossesName before anything is changed; a file keeps
// a name in lostName before it is replaced, which is done in one step. So a power cut
// leaves what an open refuses, or what opens with the loss written down; and with
// AcceptLoss the next open goes on. If it cannot be done, the open is refused; a new
// database is never made. TestPowerCutWhileALossIsAccepted holds it.
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
	done    map[string]bool // the files that something was done about
	changed bool            // something was written
}

// accept repairs one file after the other until the database can be verified, or one of
// them cannot be repaired. err is what verifying it has said.
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

// refuse says in an error what has become of the files.
func (a *acceptor) refuse(err error) error {
	if !a.changed {
		return fmt.Errorf("%w; nothing was changed", err)
	}
	return fmt.Errorf("%w; other losses were accepted before that: %s lists them, and the files that were replaced are in %q",
		err, lossesName, lostName)
}

// repair does what can be done about one file.
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

// note writes down what is going to be accepted. It comes before the first change, and
// when it is known that the loss can be accepted.
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

// keepAside gives a file a second name among what was lost, so that it can be replaced. One
// that is missing is no error.
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

// lostName returns a new name for a file among what was lost.
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

// newSuffix ends the name of a file of the store that is being made. Pebble knows no such
// names.
const newSuffix = ".new"

// replace puts what was made under the name with newSuffix in the place of a file of the
// store, in one step. The file must have been kept.
func (a *acceptor) replace(name string) error {
	return joinErrors(a.s.guard.Rename(a.path(name+newSuffix), a.path(name)), syncDir(a.s.guard, a.s.StoreDir()))
}

// makeBeginning makes what is to replace a file of the store: its first n bytes. It keeps
// the file, and returns how the ledger is to list it.
func (a *acceptor) makeBeginning(name string, n int64) (f layout.LedgerFile, err error) {
	data, err := readWhole(a.s.guard, a.path(name), n-1)
	if err != nil {
		return f, err
	}
	head := data[:min(len(data), layout.LedgerHeadBytes)] // summed up first, since a file may change what it writes
	f = layout.LedgerFile{Name: name, Size: int64(len(data)), Sum: layout.LedgerSum(0, data), Head: layout.LedgerSum(0, head)}
	if err := writeFile(a.s.guard, a.path(name+newSuffix), data); err != nil {
		return f, err
	}
	return f, a.keepAside(a.path(name))
}

// cutLog keeps what can be read of a log, and takes the later ones away: what is in them
// followed on what is lost. The ledger lists what is left before the log is replaced,
// since it could not tell afterwards that this is the one.
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

// ownBytes is soundBytes of a log or manifest that is the one that is listed; 0 of
// another one, or if that cannot be told.
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
// not follow on from it. As for the ledger, see cutLog.
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

// blankTable puts a table in the place of one that is lost, of the size that Pebble
// expects, in which nothing can be read.
func (a *acceptor) blankTable(damage *FileDamageError, name string) error {
	size := damage.Want
	if size < 0 {
		return fmt.Errorf("how large %s has to be is not known", name)
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
		clear(zeros) // which a file may change
		_, err = f.Write(zeros[:min(left, int64(len(zeros)))])
	}
	if err == nil {
		err = f.Sync()
	}
	return joinErrors(err, f.Close())
}

// renewMarker makes a marker that is missing, or names an older manifest.
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

// renewLedgers makes ledgers of what is there, but for one that is whole.
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

// relist takes files out of the ledgers, since what they hold now is what they are going
// to hold, and adds those of which something is left.
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

// keepUnknown takes tables away that nothing names: Pebble would delete them, and they
// may hold what was lost with a manifest.
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

// acceptIdentity makes an identity that is lost anew, for the database that the ledger
// names.
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

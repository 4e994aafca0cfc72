package kv

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/braidstream/braid/internal/layout"
)

// This file compares the files of a database with its ledger, before anything is changed. It
// checks the bytes that an open relies on and Pebble does not check:
//
//   - the manifest, up to the length that is listed. What comes behind may be torn.
//   - the logs that the manifest says are still needed, in the same way.
//   - of each table that the manifest names, the size and the end, by which it is told
//     from another table. A table's blocks have checksums of their own, which Pebble
//     checks whenever it reads them.
//
// Logs that are no longer needed, and tables that nothing names, concern nobody.

// examination is the result of examining an existing database.
type examination struct {
	*ledgers
	manifest string           // the name of the current one
	minLog   uint64           // the lowest number of a log that is needed
	live     map[string]int64 // the tables that the manifest names: see tablesOf
	found    []*FileDamageError
}

// examine reads the ledger, and compares the manifest and the logs with it. It changes nothing.
// An error means that the disk cannot be read.
func (s *Store) examine(id layout.Identity) (*examination, error) {
	x := &examination{}
	var err error
	if x.ledgers, x.found, err = readLedgers(s.guard, s.dir, id); err != nil {
		return nil, err
	}
	if len(x.found) > 0 && x.files.Sequence == 0 {
		return x, nil // there is nothing to compare with
	}
	if err := s.examineManifest(x); err != nil {
		return nil, err
	}
	if len(x.found) > 0 {
		return x, nil // which logs are needed is unknown
	}
	for _, f := range x.files.Files {
		number, ok := logNumber(f.Name)
		if !ok || number < x.minLog {
			continue
		}
		if err := s.storeFiles().examineFile(x, f, number); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// examineManifest finds and checks the current manifest.
func (s *Store) examineManifest(x *examination) error {
	peeked, err := pebble.Peek(s.StoreDir(), s.guard)
	if err != nil {
		if damage := asFileDamage(s.nameDamage(openError(err))); damage != nil {
			x.found = append(x.found, damage)
			return nil
		}
		return err
	}
	if !peeked.Exists {
		x.add("marker.manifest", FileMissing, nil)
		return nil
	}
	if peeked.FormatMajorVersion < pebble.FormatMinSupported { // 0 without a marker
		x.add("marker.format-version", FileMissing, nil)
		return nil
	}
	x.manifest = s.guard.PathBase(peeked.ManifestFilename)
	if x.compareMarker(x.manifest) {
		return nil
	}
	for _, f := range x.files.Files {
		if f.Name == x.manifest {
			if err := s.storeFiles().examineFile(x, f, 0); err != nil || len(x.found) > 0 {
				return err
			}
		}
	}
	x.minLog, err = s.storeFiles().minLog(x.manifest)
	if errors.Is(err, fs.ErrNotExist) {
		x.add(x.manifest, FileMissing, nil)
		return nil
	}
	return err
}

// compareMarker notes a marker that names an older manifest than the ledger, and reports
// whether it does.
func (x *examination) compareMarker(manifest string) (old bool) {
	old = manifestNumber(manifest) < manifestNumber(x.files.Manifest)
	if old {
		x.add("marker.manifest", FileOld, fmt.Errorf("it names %s, and %s is the newest", manifest, x.files.Manifest))
	}
	return old
}

// add notes damage of a file of the store.
func (x *examination) add(name string, damage FileDamage, cause error) {
	x.found = append(x.found, &FileDamageError{File: storeName + "/" + name, Damage: damage, Offset: -1, Size: -1, Want: -1, Cause: cause})
}

// logNumber returns the number of a log, by its name.
func logNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, ".log")
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, ok && err == nil
}

// manifestNumber returns the number of a manifest, 0 if the name is not a manifest's.
func manifestNumber(name string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimPrefix(name, "MANIFEST-"), 10, 64)
	return n
}

// examineTables compares the tables of an open store with the ledger. It returns the store's
// tables as tablesOf does.
func (s *Store) examineTables(db *pebble.DB, x *examination) (live map[string]int64, err error) {
	live, err = tablesOf(db)
	if err != nil {
		return nil, openError(err)
	}
	for _, want := range x.tables.Tables {
		if _, ok := live[want.Name]; !ok {
			continue
		}
		if err := s.storeFiles().examineTable(x, want); err != nil {
			return nil, err
		}
	}
	return live, nil
}

// tablesOf returns the names of the store's tables, and their sizes, -1 for those of
// which only parts are used.
func tablesOf(db *pebble.DB) (map[string]int64, error) {
	levels, err := db.SSTables()
	if err != nil {
		return nil, err
	}
	live := make(map[string]int64)
	for _, level := range levels {
		for _, table := range level {
			size := int64(table.Size)
			if table.Virtual {
				size = -1
			}
			live[fmt.Sprintf("%06d.sst", uint64(table.BackingSSTNum))] = size
		}
	}
	return live, nil
}

// diagnose finds the tables, or the log, that made opening Pebble fail, and returns an error
// that names them. If it finds none, it names the file that Pebble's error names.
func (s *Store) diagnose(x *examination, err error) error {
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrDataLoss) {
		return err
	}
	if found := s.lostTables(x); len(found) > 0 {
		return damageError(found)
	}
	if named.FindString(err.Error()) == "" {
		if log := s.brokenLog(x, err); log != nil {
			return log
		}
	}
	return s.nameDamage(err)
}

// brokenLog returns the first needed log without a proper end, with Pebble's error, or nil.
// Pebble does not say which log it is. The damage lies beyond the bytes that the ledger lists.
func (s *Store) brokenLog(x *examination, cause error) *FileDamageError {
	names, err := s.guard.List(s.StoreDir())
	if err != nil {
		return nil
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		n, ok := logNumber(name)
		return !ok || n < x.minLog
	})
	slices.SortFunc(names, func(a, b string) int {
		m, _ := logNumber(a)
		n, _ := logNumber(b)
		return cmp.Compare(m, n)
	})
	for _, name := range names {
		number, _ := logNumber(name)
		sound, why, err := s.storeFiles().soundBytes(name, number)
		if err == nil && why != io.EOF {
			return &FileDamageError{File: storeName + "/" + name, Damage: FileChanged, Offset: sound, Size: -1, Want: -1, Cause: cause}
		}
	}
	return nil
}

// lostTables returns the tables of the manifest that are missing or have the wrong size.
func (s *Store) lostTables(x *examination) (found []*FileDamageError) {
	options := s.readOnlyOptions()
	options.DisableConsistencyCheck = true
	db, err := pebble.Open(s.StoreDir(), options)
	if err != nil {
		return nil
	}
	live, err := tablesOf(db)
	if joinErrors(err, db.Close()) != nil {
		return nil
	}
	listed := make(map[string]int64)
	for _, t := range x.tables.Tables {
		listed[t.Name] = t.Size
	}
	for name, size := range live {
		if of, ok := listed[name]; ok && size < 0 {
			size = of
		}
		damage := &FileDamageError{File: storeName + "/" + name, Offset: -1, Size: -1, Want: size}
		info, err := s.guard.Stat(s.guard.PathJoin(s.StoreDir(), name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			damage.Damage = FileMissing
		case err != nil || size < 0 || info.Size() == size:
			continue
		default:
			damage.Size = info.Size()
			s.storeFiles().judgeSize(x, damage)
		}
		found = append(found, damage)
	}
	return sortDamage(found)
}

// named finds the name of a file in an error of Pebble.
var named = regexp.MustCompile(`(MANIFEST-\d{6,}|OPTIONS-\d{6,}|marker\.[a-z-]+\.\d+\.[\w.-]+|\d{6,}\.(?:log|sst|blob)|\b\d{6,}\b)`)

// nameDamage turns an error of Pebble that reports damage into a FileDamageError.
func (s *Store) nameDamage(err error) error {
	if err == nil || asFileDamage(err) != nil || !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrDataLoss) {
		return err
	}
	damage := &FileDamageError{File: storeName, Damage: FileChanged, Offset: -1, Size: -1, Want: -1, Cause: err}
	if errors.Is(err, ErrDataLoss) {
		damage.Damage = FileMissing
	}
	if name := named.FindString(err.Error()); name != "" {
		if _, number := strconv.ParseUint(name, 10, 64); number == nil {
			name += ".sst"
		}
		damage.File += "/" + name
	}
	return damage
}

// sortDamage sorts damage by file and removes repetitions.
func sortDamage(found []*FileDamageError) []*FileDamageError {
	slices.SortStableFunc(found, func(a, b *FileDamageError) int { return strings.Compare(a.File, b.File) })
	return slices.CompactFunc(found, func(a, b *FileDamageError) bool { return a.File == b.File })
}

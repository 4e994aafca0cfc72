package kv

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/braidstream/braid/internal/layout"
)

// This file compares the files of a database with its ledger, before anything is
// changed. Checked are the bytes that an open relies on and Pebble does not check:
//
//   - the manifest, up to the length that is listed. What comes behind may be torn.
//   - the logs that the manifest says are still needed, in the same way.
//   - of each table that the manifest names, the size and the end, by which it is told
//     from another table. A table's blocks have checksums of their own, which Pebble
//     checks whenever it reads them.
//
// Logs that are no longer needed, and tables that nothing names, concern nobody.

// examination is what was found out about a database that exists.
type examination struct {
	*ledgers
	manifest string           // the name of the current one
	minLog   uint64           // the lowest number of a log that is needed
	live     map[string]int64 // the tables that the manifest names: see tablesOf
	found    []*FileDamageError
}

// examine reads the ledger, and compares the manifest and the logs with it. It changes
// nothing. An error is that of a disk that cannot be read.
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
		if err := s.examineFile(x, f, number); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// examineManifest finds the current manifest, and looks at it.
func (s *Store) examineManifest(x *examination) error {
	listed := manifestNumber(x.files.Manifest)
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
	if peeked.FormatMajorVersion < pebble.FormatMinSupported { // of a store without a marker of it
		x.add("marker.format-version", FileMissing, nil)
		return nil
	}
	x.manifest = s.guard.PathBase(peeked.ManifestFilename)
	if manifestNumber(x.manifest) < listed {
		x.add("marker.manifest", FileOld, fmt.Errorf("it names %s, and %s is the newest", x.manifest, x.files.Manifest))
		return nil
	}
	for _, f := range x.files.Files {
		if f.Name == x.manifest {
			if err := s.examineFile(x, f, 0); err != nil || len(x.found) > 0 {
				return err
			}
		}
	}
	x.minLog, err = s.minLog(x.manifest)
	if errors.Is(err, fs.ErrNotExist) {
		x.add(x.manifest, FileMissing, nil)
		return nil
	}
	return err
}

// add notes damage of a file of the store.
func (x *examination) add(name string, damage FileDamage, cause error) {
	x.found = append(x.found, &FileDamageError{File: storeName + "/" + name, Damage: damage, Offset: -1, Size: -1, Want: -1, Cause: cause})
}

// examineFile compares the durable beginning of a log or manifest. number is that of
// the log, or 0.
func (s *Store) examineFile(x *examination, want layout.LedgerFile, number uint64) error {
	damage := &FileDamageError{File: storeName + "/" + want.Name, Offset: -1, Size: -1, Want: want.Size}
	size, sum, err := s.sumOf(want.Name, want.Size)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		damage.Damage = FileMissing
	case err != nil:
		return fmt.Errorf("read %s: %w", want.Name, err)
	case size < want.Size:
		damage.Damage, damage.Size, damage.Offset = FileShort, size, size
	case sum != want.Sum:
		damage.Damage = FileChanged
		offset, _, err := s.soundBytes(want.Name, number)
		if err != nil {
			return err
		}
		if damage.Offset = offset; offset >= want.Size {
			damage.Damage, damage.Offset = FileForeign, -1
		}
	default:
		return nil
	}
	x.found = append(x.found, damage)
	return nil
}

// sumOf returns the checksum of the first n bytes of a file of the store, or of all if
// there are fewer, and how many there were.
func (s *Store) sumOf(name string, n int64) (size int64, sum uint32, err error) {
	return s.sumAtPace(name, n, func(int) error { return nil })
}

// sumAtPace is sumOf, with pace called before each piece is read.
func (s *Store) sumAtPace(name string, n int64, pace func(bytes int) error) (size int64, sum uint32, err error) {
	f, err := s.guard.Open(s.guard.PathJoin(s.StoreDir(), name))
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = joinErrors(err, f.Close()) }()
	buf := make([]byte, min(max(n, 1), 256<<10))
	for size < n {
		piece := buf[:min(int64(len(buf)), n-size)]
		if err := pace(len(piece)); err != nil {
			return 0, 0, err
		}
		m, err := f.Read(piece)
		size += int64(m)
		sum = layout.LedgerSum(sum, buf[:m])
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return size, sum, nil
}

// soundBytes returns how much of a log or manifest can be read, up to the first record
// that cannot, and what Pebble says of that; io.EOF at a proper end. number is that of
// the log, or 0.
func (s *Store) soundBytes(name string, number uint64) (sound int64, why, err error) {
	why, err = s.records(name, number, func(end int64, _ []byte) { sound = end })
	return sound, why, err
}

// records calls each for every record of a log or manifest, with the offset at which it
// ends. It returns with what reading ended.
func (s *Store) records(name string, number uint64, each func(end int64, content []byte)) (why, err error) {
	f, err := s.guard.Open(s.guard.PathJoin(s.StoreDir(), name))
	if err != nil {
		return nil, err
	}
	defer func() { err = joinErrors(err, f.Close()) }()
	source := &sourceReader{r: bufio.NewReaderSize(f, 64<<10)}
	r := recordReader(record.NewReader, source, number)
	for {
		next, err := r.Next()
		if err == nil {
			var content []byte
			if content, err = io.ReadAll(next); err == nil {
				each(r.Offset(), content)
				continue
			}
		}
		if source.err != nil {
			return nil, source.err
		}
		return err, nil
	}
}

// recordReader calls record.NewReader, whose second argument has a type that Pebble
// keeps to itself.
func recordReader[N ~uint64](newReader func(io.Reader, N) *record.Reader, r io.Reader, number uint64) *record.Reader {
	return newReader(r, N(number))
}

// sourceReader remembers the error of the disk, which a reader of records may hide.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// Tags of Pebble's version edits that can stand before all others.
const (
	tagComparer  = 1
	tagLogNumber = 2
)

// minLog returns the lowest number of a log that is needed, as the manifest says. Edits
// that state it begin with it, or with the name of the comparer. Should Pebble change
// that, every log counts as needed, and obsolete ones that are used again as missing:
// TestManifestStatesTheLogs would tell.
func (s *Store) minLog(manifest string) (number uint64, err error) {
	_, err = s.records(manifest, 0, func(_ int64, edit []byte) {
		b := bufio.NewReader(bytes.NewReader(edit))
		tag, err := binary.ReadUvarint(b)
		if err == nil && tag == tagComparer {
			var n uint64
			if n, err = binary.ReadUvarint(b); err == nil {
				if _, err = b.Discard(int(min(n, 1<<20))); err == nil {
					tag, err = binary.ReadUvarint(b)
				}
			}
		}
		if err == nil && tag == tagLogNumber {
			if n, err := binary.ReadUvarint(b); err == nil {
				number = max(number, n)
			}
		}
	})
	return number, err
}

// logNumber returns the number of a log, by its name.
func logNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, ".log")
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, ok && err == nil
}

// manifestNumber returns the number of a manifest, 0 if the name is not one's.
func manifestNumber(name string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimPrefix(name, "MANIFEST-"), 10, 64)
	return n
}

// examineTables compares the tables of an open store with the ledger. It returns the
// files that the store has, with their sizes as far as its manifest states them.
func (s *Store) examineTables(db *pebble.DB, x *examination) (live map[string]int64, err error) {
	live, err = tablesOf(db)
	if err != nil {
		return nil, openError(err)
	}
	for _, want := range x.tables.Tables {
		if _, ok := live[want.Name]; !ok {
			continue
		}
		if err := s.examineTable(x, want); err != nil {
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

// examineTable looks whether a table is the one that is listed. One with a damaged end
// is left to its readers, like one that is damaged elsewhere.
func (s *Store) examineTable(x *examination, want layout.LedgerTable) (err error) {
	damage := &FileDamageError{File: storeName + "/" + want.Name, Offset: -1, Size: -1, Want: want.Size}
	f, err := s.guard.Open(s.guard.PathJoin(s.StoreDir(), want.Name))
	if errors.Is(err, fs.ErrNotExist) {
		damage.Damage = FileMissing
		x.found = append(x.found, damage)
		return nil
	}
	if err != nil {
		return nil // the disk cannot read it now, or never; so its readers are told
	}
	defer func() { err = joinErrors(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if damage.Size = info.Size(); damage.Size != want.Size {
		s.judgeSize(x, damage)
		x.found = append(x.found, damage)
		return nil
	}
	tail, err := tailSum(f, want.Size)
	if err != nil || tail == want.Tail {
		return nil // as above, or it is the one
	}
	if s.isSound(want.Name) {
		damage.Damage, damage.Size, damage.Is = FileForeign, -1, x.tableOf(want.Size, tail)
		x.found = append(x.found, damage)
	}
	return nil
}

// tailSum returns the checksum of the end of a table of that size.
func tailSum(f vfs.File, size int64) (uint32, error) {
	tail := make([]byte, min(size, layout.LedgerTailBytes))
	_, err := f.ReadAt(tail, size-int64(len(tail)))
	if err == io.EOF {
		err = nil
	}
	return layout.LedgerSum(0, tail), err
}

// judgeSize says what is wrong with a table that has another size than it should.
func (s *Store) judgeSize(x *examination, damage *FileDamageError) {
	damage.Damage, damage.Offset = FileShort, damage.Size
	if damage.Size > damage.Want {
		damage.Damage, damage.Offset = FileForeign, -1
	}
	f, err := s.guard.Open(s.guard.PathJoin(s.dir, damage.File))
	if err != nil {
		return
	}
	defer f.Close() // it was only read
	if tail, err := tailSum(f, damage.Size); err == nil && damage.Size > 0 {
		if damage.Is = x.tableOf(damage.Size, tail); damage.Is != "" {
			damage.Damage, damage.Offset = FileForeign, -1
		}
	}
}

// tableOf returns the table that is listed with that size and that end; "" if none is.
func (x *examination) tableOf(size int64, tail uint32) string {
	for _, t := range x.tables.Tables {
		if t.Size == size && t.Tail == tail {
			return storeName + "/" + t.Name
		}
	}
	return ""
}

// isSound reports whether all checksums in a table match, so that it is one, though
// perhaps another one than it should be.
func (s *Store) isSound(name string) bool {
	f, err := s.guard.Open(s.guard.PathJoin(s.StoreDir(), name))
	if err != nil {
		return false
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		_ = f.Close()
		return false
	}
	options := s.options()
	options.EnsureDefaults()
	r, err := sstable.NewReader(context.Background(), readable, options.MakeReaderOptions())
	if err != nil {
		return false // it has closed the file
	}
	err = r.ValidateBlockChecksums()
	return joinErrors(err, r.Close()) == nil
}

// diagnose finds out which tables, or which log, are the reason of an error of opening
// Pebble, and says so; else it names the file that the error does.
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

// brokenLog returns the first log that is needed and does not end as one does, if there is
// one, with the error that Pebble had. Pebble does not say which it is. The damage lies
// behind what the ledger lists.
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
		sound, why, err := s.soundBytes(name, number)
		if err == nil && why != io.EOF {
			return &FileDamageError{File: storeName + "/" + name, Damage: FileChanged, Offset: sound, Size: -1, Want: -1, Cause: cause}
		}
	}
	return nil
}

// lostTables returns the tables that the manifest names and that are missing or of
// another size.
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
			s.judgeSize(x, damage)
		}
		found = append(found, damage)
	}
	return sortDamage(found)
}

// named finds the name of a file in an error of Pebble.
var named = regexp.MustCompile(`(MANIFEST-\d{6,}|OPTIONS-\d{6,}|marker\.[a-z-]+\.\d+\.[\w.-]+|\d{6,}\.(?:log|sst|blob)|\b\d{6,}\b)`)

// nameDamage makes a FileDamageError of an error of Pebble that is of a class of damage.
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

// sortDamage puts what was found in the order of the files, without repetitions.
func sortDamage(found []*FileDamageError) []*FileDamageError {
	slices.SortStableFunc(found, func(a, b *FileDamageError) int { return strings.Compare(a.File, b.File) })
	return slices.CompactFunc(found, func(a, b *FileDamageError) bool { return a.File == b.File })
}

package kv

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/braidstream/braid/internal/layout"
	"github.com/braidstream/braid/internal/wreck"
)

// storeFiles are the files of a store, which need not be open. Both an open and a salvage use
// it to compare files with ledgers.
type storeFiles struct {
	fs  FS
	dir string // of the files
}

// storeFiles returns those of the store.
func (s *Store) storeFiles() storeFiles { return storeFiles{s.guard, s.StoreDir()} }

func (s storeFiles) open(name string) (vfs.File, error) { return s.fs.Open(s.fs.PathJoin(s.dir, name)) }

// examineFile compares the durable beginning of a log or manifest with the ledger. number is
// the log's, 0 for a manifest. A file counts as foreign if it begins as another log does, or if
// its records are whole as far as the ledger's sums reach, but the sums differ.
func (s storeFiles) examineFile(x *examination, want layout.LedgerFile, number uint64) error {
	damage := &FileDamageError{File: storeName + "/" + want.Name, Offset: -1, Size: -1, Want: want.Size}
	size, sum, err := s.sumOf(want.Name, want.Size)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		damage.Damage = FileMissing
		x.found = append(x.found, damage)
		return nil
	case err != nil:
		return fmt.Errorf("read %s: %w", want.Name, err)
	case size == want.Size && sum == want.Sum:
		return nil
	case size < want.Size:
		damage.Damage, damage.Size = FileShort, size
	default:
		damage.Damage = FileChanged
	}
	offset, _, err := s.soundBytes(want.Name, number)
	if err != nil {
		return err
	}
	foreign := offset >= want.Size
	if offset == 0 && number != 0 {
		if foreign, err = wreck.IsOther(s.fs, s.fs.PathJoin(s.dir, want.Name)); err != nil {
			return err
		}
	}
	if !foreign && offset >= min(want.Size, layout.LedgerHeadBytes) {
		head, err := headSum(s.fs, s.fs.PathJoin(s.dir, want.Name), want.Size)
		if err != nil {
			return err
		}
		foreign = head != want.Head
	}
	switch {
	case foreign:
		damage.Damage, damage.Size = FileForeign, -1
	case damage.Damage == FileShort:
		damage.Offset = size
	default:
		damage.Offset = offset
	}
	x.found = append(x.found, damage)
	return nil
}

// sumOf returns the checksum of the first n bytes of a file of the store, or of the whole file
// if it is shorter, and the number of bytes summed.
func (s storeFiles) sumOf(name string, n int64) (size int64, sum uint32, err error) {
	return s.sumAtPace(name, n, func(int) error { return nil })
}

// sumAtPace is sumOf, with pace called before each piece is read.
func (s storeFiles) sumAtPace(name string, n int64, pace func(bytes int) error) (size int64, sum uint32, err error) {
	f, err := s.open(name)
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

// soundBytes returns the length of a log or manifest up to its first unreadable record, and
// Pebble's error there; io.EOF at a proper end. number is the log's, 0 for a manifest.
func (s storeFiles) soundBytes(name string, number uint64) (sound int64, why, err error) {
	why, err = s.records(name, number, func(end int64, _ []byte) { sound = end })
	return sound, why, err
}

// records calls each for every record of a log or manifest, with the offset at which it ends.
// why is the error with which reading ended.
func (s storeFiles) records(name string, number uint64, each func(end int64, content []byte)) (why, err error) {
	f, err := s.open(name)
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

// Tags with which Pebble's version edits can begin.
const (
	tagComparer  = 1
	tagLogNumber = 2
)

// minLog returns the lowest number of a log that is needed, as the manifest says. Edits that
// state it begin with it, or with the name of the comparer. If Pebble changed that, every log
// would count as needed, and obsolete logs that are reused would count as missing:
// TestManifestStatesTheLogs would fail.
func (s storeFiles) minLog(manifest string) (number uint64, err error) {
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

// examineTable checks that a table is the listed one. Damage to its end is left for readers to
// find, like damage elsewhere in a table.
func (s storeFiles) examineTable(x *examination, want layout.LedgerTable) (err error) {
	damage := &FileDamageError{File: storeName + "/" + want.Name, Offset: -1, Size: -1, Want: want.Size}
	f, err := s.open(want.Name)
	if errors.Is(err, fs.ErrNotExist) {
		damage.Damage = FileMissing
		x.found = append(x.found, damage)
		return nil
	}
	if err != nil {
		return nil // an I/O error, which its readers will get, too
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
		return nil // as above, or the sums match
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

// judgeSize classifies a table of the wrong size.
func (s storeFiles) judgeSize(x *examination, damage *FileDamageError) {
	damage.Damage, damage.Offset = FileShort, damage.Size
	if damage.Size > damage.Want {
		damage.Damage, damage.Offset = FileChanged, damage.Want
	}
	if s.isSound(path.Base(damage.File)) { // a table that was cut or extended is not sound
		damage.Damage, damage.Offset = FileForeign, -1
	}
	f, err := s.open(path.Base(damage.File))
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

// isSound reports whether all checksums in a table match. The table may still be a foreign one.
func (s storeFiles) isSound(name string) bool {
	f, err := s.open(name)
	if err != nil {
		return false
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		_ = f.Close()
		return false
	}
	options := &pebble.Options{}
	options.EnsureDefaults()
	r, err := sstable.NewReader(context.Background(), readable, options.MakeReaderOptions())
	if err != nil {
		return false // NewReader has closed the file
	}
	err = r.ValidateBlockChecksums()
	return joinErrors(err, r.Close()) == nil
}

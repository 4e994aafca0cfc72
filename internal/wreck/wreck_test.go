package wreck_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/wreck"
)

// found collects everything that a wreck has passed on.
type found struct {
	values  map[string]string // the newest value of each key
	seqs    map[string]uint64
	removed []wreck.Deletion
	lost    []wreck.Place
	end     wreck.LogEnd // of the last log
}

func (f *found) Change(c wreck.Change) error {
	if key := string(c.Key); c.Seq >= f.seqs[key] {
		f.seqs[key] = c.Seq
		delete(f.values, key)
		if !c.Deleted {
			f.values[key] = string(c.Value)
		}
	}
	return nil
}

func (f *found) DeleteRange(d wreck.Deletion) error {
	f.removed = append(f.removed, wreck.Deletion{Start: bytes.Clone(d.Start), End: bytes.Clone(d.End), Seq: d.Seq})
	return nil
}

func (f *found) Lost(p wreck.Place) error {
	f.lost = append(f.lost, p)
	return nil
}

func read(t *testing.T, mem *vfs.MemFS) (*wreck.Wreck, *found) {
	t.Helper()
	w, err := wreck.Open(mem, "db", wreck.Known{})
	require.NoError(t, err)
	f := &found{values: make(map[string]string), seqs: make(map[string]uint64)}
	for _, file := range w.Tables {
		if file.Stale {
			continue
		}
		table, err := w.OpenTable(file)
		require.NoError(t, err)
		require.NoError(t, table.Read(t.Context(), f))
		require.NoError(t, table.ReadDeletions(f))
		require.NoError(t, table.Close())
	}
	for _, file := range w.Logs {
		if !file.Stale {
			f.end, err = w.ReadLog(t.Context(), file, f)
			require.NoError(t, err)
		}
	}
	return w, f
}

// build makes a store with tables, and with a log whose contents are in no table.
func build(t *testing.T) (mem *vfs.MemFS, want map[string]string) {
	t.Helper()
	mem = vfs.NewCrashableMem()
	db, err := pebble.Open("db", &pebble.Options{FS: mem, FormatMajorVersion: pebble.FormatValueSeparation, Logger: quiet{}, DisableAutomaticCompactions: true})
	require.NoError(t, err)
	require.NoError(t, db.Flush())
	random := rand.NewChaCha8([32]byte{1})
	want = make(map[string]string)
	put := func(from, to int) {
		for i := from; i < to; i++ {
			value := make([]byte, 700)
			_, _ = random.Read(value)
			key := fmt.Sprintf("key-%04d", i)
			require.NoError(t, db.Set([]byte(key), value, pebble.Sync))
			want[key] = string(value)
		}
	}
	put(0, 400)
	require.NoError(t, db.Flush())
	put(200, 600)
	require.NoError(t, db.Delete([]byte("key-0100"), pebble.Sync))
	delete(want, "key-0100")
	require.NoError(t, db.DeleteRange([]byte("none-1"), []byte("none-2"), pebble.Sync))
	require.NoError(t, db.Flush())
	put(500, 700)
	mem = mem.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, db.Close())
	return mem, want
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

// fileOf returns the last file with an ending.
func fileOf(t *testing.T, mem *vfs.MemFS, ending string) (name string, content []byte) {
	t.Helper()
	names, err := mem.List("db")
	require.NoError(t, err)
	for _, n := range names {
		if strings.HasSuffix(n, ending) && n > name {
			name = n
		}
	}
	content, err = mem.UnsafeGetFileDataBuffer("db/" + name)
	require.NoError(t, err)
	return name, content
}

func TestEverythingIsReadWithoutPebble(t *testing.T) {
	mem, want := build(t)
	w, got := read(t, mem)
	require.Equal(t, want, got.values)
	require.Empty(t, got.lost)
	require.Empty(t, w.Unread)
	require.Empty(t, w.Missing)
	require.NotEmpty(t, got.removed)
	require.Equal(t, "none-1", string(got.removed[0].Start))
	require.Equal(t, "none-2", string(got.removed[0].End))
	require.False(t, got.end.Closed)
	require.Equal(t, got.end.First+200-1, got.end.Last)
}

// TestATableWithoutItsEndIsReadFromTheFront: rows before the cut are read, and the lost place
// says after which key.
func TestATableWithoutItsEndIsReadFromTheFront(t *testing.T) {
	mem, want := build(t)
	name, content := fileOf(t, mem, ".sst")
	content = bytes.Clone(content[:len(content)/2])
	writeFile(t, mem, name, content)
	_, got := read(t, mem)
	require.Len(t, got.lost, 2) // rows, and deletions of ranges
	require.ErrorIs(t, got.lost[0].Err, wreck.ErrDamaged)
	last := string(got.lost[0].After)
	require.NotEmpty(t, last)
	for key, value := range want {
		if key <= last || key >= "key-0500" {
			require.True(t, value == got.values[key], key)
		}
	}
	require.Greater(t, last, "key-0250")
}

// TestADamagedBlockLosesItsOwnRows, and the lost place bounds their keys.
func TestADamagedBlockLosesItsOwnRows(t *testing.T) {
	mem, want := build(t)
	_, content := fileOf(t, mem, ".sst")
	content[len(content)/2] ^= 1
	_, got := read(t, mem)
	require.Len(t, got.lost, 1)
	lost := got.lost[0]
	n := 0
	for key, value := range want {
		if got.values[key] != value {
			n++
			require.Greater(t, key, string(lost.After))
			require.LessOrEqual(t, key, string(lost.Through))
		}
	}
	require.Positive(t, n)
	require.LessOrEqual(t, n*700, 8<<10)
}

// TestADamagedLogIsReadBehindTheDamage, and a torn log does not count as damaged.
func TestADamagedLogIsReadBehindTheDamage(t *testing.T) {
	mem, want := build(t)
	name, content := fileOf(t, mem, ".log")
	whole := bytes.Clone(content)
	for at := 100; at < 190*700; at += 997 {
		copy(content, whole)
		content[at] ^= 1
		_, got := read(t, mem)
		require.NotEmpty(t, got.lost)
		missing := 0
		for key, value := range want {
			if got.values[key] != value {
				missing++
			}
		}
		require.LessOrEqual(t, missing, 1, "at %d", at)
	}
	copy(content, whole)
	writeFile(t, mem, name, whole[:100*700])
	_, got := read(t, mem)
	require.Empty(t, got.lost)
	require.False(t, got.end.Closed)
}

// TestALogWhoseBeginningWasNotWritten: Pebble reuses files of logs, so a write that the disk has
// lost leaves chunks of an earlier log there. A file of a later log belongs elsewhere.
func TestALogWhoseBeginningWasNotWritten(t *testing.T) {
	for _, step := range []int32{-1, +1} {
		mem, want := build(t)
		name, content := fileOf(t, mem, ".log")
		length := 19 + int(binary.LittleEndian.Uint16(content[4:]))
		number := binary.LittleEndian.Uint32(content[7:])
		binary.LittleEndian.PutUint32(content[7:], uint32(int32(number)+step))
		crc := crc32.Checksum(content[6:length], crc32.MakeTable(crc32.Castagnoli))
		binary.LittleEndian.PutUint32(content, (crc>>15|crc<<17)+0xa282ead8)
		_, got := read(t, mem)
		require.NotEmpty(t, got.lost)
		other, err := wreck.IsOther(mem, "db/"+name)
		require.NoError(t, err)
		require.Equal(t, step > 0, other)
		missing := 0
		for key, value := range want {
			if got.values[key] != value {
				missing++
			}
		}
		if step < 0 {
			require.Equal(t, 1, missing, "all but the first batch")
		} else {
			require.Equal(t, 200, missing, "all of the log")
		}
	}
}

// TestTheManifestIsNotNeeded: without it everything is read, and nothing is stale.
func TestTheManifestIsNotNeeded(t *testing.T) {
	mem, want := build(t)
	var name string
	names, err := mem.List("db")
	require.NoError(t, err)
	for _, n := range names {
		if strings.HasPrefix(n, "MANIFEST") {
			name = n
		}
	}
	content, err := mem.UnsafeGetFileDataBuffer("db/" + name)
	require.NoError(t, err)
	whole := bytes.Clone(content)
	for at := range content {
		content[at] ^= 0x10
		w, got := read(t, mem)
		require.Equal(t, want, got.values, "at %d", at)
		require.Empty(t, w.Missing)
		content[at] = whole[at]
	}
	require.NoError(t, mem.Remove("db/"+name))
	w, got := read(t, mem)
	require.Equal(t, want, got.values)
	require.Len(t, w.Unread, 1)
	require.True(t, errors.Is(w.Unread[0].Err, wreck.ErrDamaged))
}

func writeFile(t *testing.T, mem *vfs.MemFS, name string, content []byte) {
	t.Helper()
	f, err := mem.Create("db/"+name, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.Write(content)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// TestATableThatWasBegunIsNotLost: a kill may come between the creation of a table and its
// first byte. Without a manifest, such a table must not count as one that has lost everything.
// An empty table that the manifest names was truncated.
func TestATableThatWasBegunIsNotLost(t *testing.T) {
	mem, want := build(t)
	named, _ := fileOf(t, mem, ".sst")
	writeFile(t, mem, "999999.sst", nil)
	w, got := read(t, mem)
	require.Equal(t, want, got.values)
	require.True(t, w.Tables[len(w.Tables)-1].Stale)

	names, err := mem.List("db")
	require.NoError(t, err)
	for _, name := range names {
		if strings.HasPrefix(name, "MANIFEST") {
			require.NoError(t, mem.Remove("db/"+name))
		}
	}
	w, got = read(t, mem)
	require.NotEmpty(t, w.Unread)
	require.Equal(t, want, got.values)
	require.Empty(t, got.lost)

	mem, _ = build(t)
	writeFile(t, mem, named, nil)
	w, err = wreck.Open(mem, "db", wreck.Known{})
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(w.Tables, func(f wreck.File) bool { return f.Name == named && !f.Stale }))
}

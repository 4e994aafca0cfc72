package pebblefacts_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// oldFormat is the last format whose logs do not record how far they were synced.
const oldFormat = pebble.FormatWALSyncChunks - 1

// withLog returns the files of a database after a crash, with its rows in a log of about 150
// KiB. The log is the database's first, or a later one.
func withLog(t *testing.T, format pebble.FormatMajorVersion, first bool) *vfs.MemFS {
	t.Helper()
	mem := vfs.NewCrashableMem()
	o := options(t, mem)
	o.FormatMajorVersion = format
	db := open(t, o)
	if !first {
		require.NoError(t, db.Flush())
	}
	for i := range 150 {
		set(t, db, fmt.Sprintf("%03d", i))
	}
	result := image(mem, true)
	require.NoError(t, db.Close())
	return result
}

// openDamaged opens a database that may be damaged, and returns the rows that it shows.
func openDamaged(t *testing.T, mem *vfs.MemFS, format pebble.FormatMajorVersion) (rows []string, err error) {
	t.Helper()
	o := options(t, mem)
	o.FormatMajorVersion = format
	o.ErrorIfNotExists = true
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil, err
	}
	rows = keys(t, db)
	require.NoError(t, db.Close())
	return rows, nil
}

// Each open, even one after a crash, begins a log right before it writes its options: the
// options have the next number, or the one after it if a manifest was begun in between. So
// Salvage notices that the newest log is missing, which nothing else shows.
func TestOptionsAreNumberedRightAfterALog(t *testing.T) {
	mem := vfs.NewCrashableMem()
	for round := range 12 {
		o := options(t, mem)
		o.MaxManifestFileSize = 1 + int64(round%3)*(1<<20)
		db := open(t, o)
		number := func(part string) (n int) {
			name := strings.TrimSuffix(mem.PathBase(newest(t, mem, part)), ".log")
			_, err := fmt.Sscanf(strings.TrimPrefix(name, part), "%d", &n)
			require.NoError(t, err)
			return n
		}
		log := number("OPTIONS-") - 1
		if number("MANIFEST-") == log {
			log--
		}
		require.Equal(t, number(".log"), log, "in round %d", round)
		for i := range round {
			set(t, db, fmt.Sprintf("%d-%d", round, i))
			if i%3 == 2 {
				require.NoError(t, db.Flush())
			}
		}
		require.GreaterOrEqual(t, number(".log"), log)
		crashed := image(mem, true)
		require.NoError(t, db.Close())
		if round%2 == 0 {
			mem = crashed
		}
	}
}

// Fact 9. In older formats, damage to a log looks like its end. So the format is pinned. A
// flipped bit in the last block goes unnoticed in every format.
func TestDamageOfLogsIsFoundInTheNewestFormat(t *testing.T) {
	for i := range 8 {
		at := 1000 + i*11_000 // up to 78,000, and so not in the last block
		flipped := func(format pebble.FormatMajorVersion) ([]string, error) {
			mem := withLog(t, format, false)
			data := content(t, mem, newest(t, mem, ".log"))
			require.Greater(t, len(data), 150_000)
			data[at] ^= 1
			return openDamaged(t, mem, format)
		}
		_, err := flipped(pebble.FormatNewest)
		require.True(t, pebble.IsCorruptionError(err), "at %d: %v", at, err)

		rows, err := flipped(oldFormat)
		require.NoError(t, err)
		require.Less(t, len(rows), 150, "at %d", at)
	}
}

// Fact 9, continued. The first log of a new database has the old format, whatever the options
// say. So kv flushes after creation.
func TestFirstLogIsOfTheOldFormat(t *testing.T) {
	mem := withLog(t, pebble.FormatNewest, true)
	data := content(t, mem, newest(t, mem, ".log"))
	data[1000] ^= 1
	rows, err := openDamaged(t, mem, pebble.FormatNewest)
	require.NoError(t, err)
	require.Less(t, len(rows), 150)
}

// Fact 9, continued. A log that was cut or removed goes unnoticed.
func TestLossOfLogsIsNotNoticed(t *testing.T) {
	mem := withLog(t, pebble.FormatNewest, false)
	name := newest(t, mem, ".log")
	head := bytes.Clone(content(t, mem, name)[:70_000])
	f, err := mem.Create(name, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.Write(head)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	rows, err := openDamaged(t, mem, pebble.FormatNewest)
	require.NoError(t, err)
	require.Less(t, len(rows), 150)
	require.NotEmpty(t, rows)

	mem = withLog(t, pebble.FormatNewest, false)
	require.NoError(t, mem.Remove(newest(t, mem, ".log")))
	rows, err = openDamaged(t, mem, pebble.FormatNewest)
	require.NoError(t, err)
	require.Empty(t, rows)
}

// withTables returns the files of a closed database with four tables.
func withTables(t *testing.T) *vfs.MemFS {
	t.Helper()
	mem := vfs.NewCrashableMem()
	o := options(t, mem)
	o.DisableAutomaticCompactions = true
	db := open(t, o)
	for _, key := range []string{"a", "b", "c", "d"} {
		set(t, db, key)
		require.NoError(t, db.Flush())
	}
	require.NoError(t, db.Close())
	return image(mem, true)
}

// Fact 10. Damage to a manifest looks like its end: tables that it names after the damage are
// forgotten, and their files deleted. So kv verifies the rows while Pebble is open for reading
// only, which changes nothing.
func TestDamageOfManifestsIsNotNoticed(t *testing.T) {
	undamaged := withTables(t)
	size := len(content(t, undamaged, newest(t, undamaged, "MANIFEST-")))
	silent, deleted := 0, 0
	const flips = 40
	for i := range flips {
		mem := withTables(t)
		data := content(t, mem, newest(t, mem, "MANIFEST-"))
		data[i*(size-1)/(flips-1)] ^= 0x10
		before := files(t, mem)

		o := options(t, mem)
		o.ReadOnly, o.ErrorIfNotExists = true, true
		if db, err := pebble.Open(dir, o); err == nil {
			require.NoError(t, db.Close())
		}
		require.Equal(t, before, files(t, mem), "opening for reading has changed files")

		rows, err := openDamaged(t, mem, pebble.FormatNewest)
		if err != nil || len(rows) == 4 {
			continue
		}
		silent++
		after := files(t, mem)
		for name := range before {
			if _, ok := after[name]; !ok && strings.HasSuffix(name, ".sst") {
				deleted++
				break
			}
		}
	}
	require.Positive(t, silent)
	require.Equal(t, silent, deleted)
}

// files returns the content of each file.
func files(t *testing.T, mem *vfs.MemFS) map[string]string {
	t.Helper()
	names, err := mem.List(dir)
	require.NoError(t, err)
	all := make(map[string]string)
	for _, name := range names {
		all[name] = string(content(t, mem, mem.PathJoin(dir, name)))
	}
	return all
}

// Fact 11. A database without the marker of its manifest looks new, and Pebble makes an empty
// one over it, in which only the rows of old logs are left, unless an option says that it must
// exist. So kv has an identity file, and sets ErrorIfNotExists.
func TestDatabaseWithoutMarkerIsTakenForNew(t *testing.T) {
	mem := withTables(t)
	require.NoError(t, mem.Remove(newest(t, mem, "marker.manifest")))
	o := options(t, mem)
	o.ErrorIfNotExists = true
	_, err := pebble.Open(dir, o)
	require.ErrorIs(t, err, pebble.ErrDBDoesNotExist)

	db := open(t, options(t, mem))
	require.NotContains(t, keys(t, db), "a")
	require.NotContains(t, keys(t, db), "b")
	require.NoError(t, db.Close())
}

// Fact 11, continued. Other files that are missing are errors.
func TestMissingFilesAreErrors(t *testing.T) {
	for _, part := range []string{"MANIFEST-", "marker.format", ".sst"} {
		mem := withTables(t)
		require.NoError(t, mem.Remove(newest(t, mem, part)))
		_, err := openDamaged(t, mem, pebble.FormatNewest)
		require.Error(t, err, part)
	}
}

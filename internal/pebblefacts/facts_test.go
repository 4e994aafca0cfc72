package pebblefacts_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

const dir = "db"

// logger is a Logger for Pebble whose Fatalf, by default, ends the test.
type logger struct {
	t      *testing.T
	fatalf func(format string, args ...any)
}

func (l logger) Infof(string, ...any)  {}
func (l logger) Errorf(string, ...any) {}

func (l logger) Fatalf(format string, args ...any) {
	if l.fatalf == nil {
		panic(fmt.Sprintf(format, args...))
	}
	l.fatalf(format, args...)
}

// options are those of a small database.
func options(t *testing.T, files vfs.FS) *pebble.Options {
	return &pebble.Options{
		FS:                 files,
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             logger{t: t},
	}
}

func open(t *testing.T, o *pebble.Options) *pebble.DB {
	t.Helper()
	db, err := pebble.Open(dir, o)
	require.NoError(t, err)
	return db
}

func set(t *testing.T, db *pebble.DB, key string) {
	t.Helper()
	require.NoError(t, db.Set([]byte(key), value(), pebble.Sync))
}

// value is 1 KiB that does not compress.
func value() []byte {
	data := make([]byte, 1024)
	rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

// keys returns all keys.
func keys(t *testing.T, db *pebble.DB) (all []string) {
	t.Helper()
	iter, err := db.NewIter(nil)
	require.NoError(t, err)
	for ok := iter.First(); ok; ok = iter.Next() {
		all = append(all, string(iter.Key()))
	}
	require.NoError(t, iter.Close())
	return all
}

func has(t *testing.T, db *pebble.DB, key string) bool {
	t.Helper()
	_, closer, err := db.Get([]byte(key))
	if err != nil {
		require.ErrorIs(t, err, pebble.ErrNotFound)
		return false
	}
	require.NoError(t, closer.Close())
	return true
}

// image returns the file system after a crash in which all writes survive, or only the synced
// ones.
func image(mem *vfs.MemFS, all bool) *vfs.MemFS {
	if !all {
		return mem.CrashClone(vfs.CrashCloneCfg{})
	}
	return mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
}

// newest returns the last file whose name begins or ends with kind.
func newest(t *testing.T, mem *vfs.MemFS, part string) string {
	t.Helper()
	names, err := mem.List(dir)
	require.NoError(t, err)
	last := ""
	for _, name := range names {
		if (strings.HasPrefix(name, part) || strings.HasSuffix(name, part)) && name > last {
			last = name
		}
	}
	require.NotEmpty(t, last, "no file %s in %v", part, names)
	return mem.PathJoin(dir, last)
}

func content(t *testing.T, mem *vfs.MemFS, name string) []byte {
	t.Helper()
	data, err := mem.UnsafeGetFileDataBuffer(name)
	require.NoError(t, err)
	return data
}

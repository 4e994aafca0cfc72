package kv_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/testdisk"
)

const memDir = "/data/db" // the database's directory on file systems in memory

// config is a small store in a directory of the real file system.
func config(dir string) kv.Config {
	return kv.Config{
		Dir:           dir,
		Logger:        slog.New(slog.DiscardHandler),
		CacheBytes:    1 << 20,
		MemTableBytes: 1 << 20,
	}
}

// configOn is a small store on a file system of a test.
func configOn(files kv.FS) kv.Config {
	cfg := config(memDir)
	cfg.FS = files
	return cfg
}

func configInMemory() kv.Config {
	cfg := config("")
	cfg.InMemory = true
	return cfg
}

func open(t testing.TB, cfg kv.Config) *kv.Store {
	t.Helper()
	s, err := kv.Open(cfg)
	require.NoError(t, err)
	return s
}

// put commits one pair.
func put(s *kv.Store, key, value string, sync bool) error {
	b := s.NewBatch()
	b.Set([]byte(key), []byte(value))
	err := b.Commit(sync)
	b.Close()
	return err
}

// beginMemTable is put into a new memtable.
func beginMemTable(s *kv.Store, key, value string) error {
	b := s.NewBatch()
	defer b.Close()
	b.BeginMemTable()
	b.Set([]byte(key), []byte(value))
	return b.Commit(false)
}

func mustPut(t testing.TB, s *kv.Store, key, value string) {
	t.Helper()
	require.NoError(t, put(s, key, value, true))
}

func requireValue(t testing.TB, r kv.Reader, key, want string) {
	t.Helper()
	got, err := r.Get([]byte(key))
	require.NoError(t, err, "key %q", key)
	require.Equal(t, want, string(got))
}

// pairs returns the pairs between the bounds, each as "key=value".
func pairs(t testing.TB, r kv.Reader, lower, upper []byte) []string {
	t.Helper()
	iter, err := r.NewIter(lower, upper)
	require.NoError(t, err)
	all := []string{}
	for ok := iter.First(); ok; ok = iter.Next() {
		all = append(all, fmt.Sprintf("%s=%s", iter.Key(), iter.Value()))
	}
	require.NoError(t, iter.Error())
	require.NoError(t, iter.Close())
	return all
}

// noise returns text that does not compress, the same for the same seed.
func noise(seed uint64, n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1}).Read(data)
	return data
}

// setFree changes how many bytes are free on a disk.
func setFree(d *testdisk.Disk, n uint64) {
	d.Mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: n, TotalBytes: 1 << 40, UsedBytes: 1<<40 - n})
}

func TestReadAndWrite(t *testing.T) {
	for name, cfg := range map[string]kv.Config{
		"on disk":             config(t.TempDir()),
		"in memory":           configInMemory(),
		"on a disk of a test": configOn(testdisk.New()),
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, cfg)
			require.True(t, s.Created())
			require.True(t, s.Identity().Ready)

			_, err := s.Get([]byte("a"))
			require.ErrorIs(t, err, kv.ErrNotFound)
			b := s.NewBatch()
			defer b.Close()
			require.True(t, b.Empty())
			b.Set([]byte("a"), []byte("1"))
			k, v := b.SetDeferred(1, 2)
			copy(k, "b")
			copy(v, "22")
			b.Set([]byte("c"), nil)
			b.Set([]byte("d"), []byte("4"))
			b.Set([]byte("e"), []byte("5"))
			b.Delete([]byte("a"))
			b.DeleteRange([]byte("d"), []byte("e"))
			require.Equal(t, 7, b.Count())
			require.False(t, b.Empty())
			require.NoError(t, b.Commit(false))
			require.Equal(t, []string{"b=22", "c=", "e=5"}, pairs(t, s, nil, nil))

			b.Reset()
			require.True(t, b.Empty())
			b.Set([]byte("a"), []byte("again"))
			require.NoError(t, b.Commit(true))
			requireValue(t, s, "a", "again")
			require.NoError(t, s.Close())
		})
	}
}

func TestIteratorMoves(t *testing.T) {
	s := open(t, configInMemory())
	for _, k := range []string{"a", "b", "c", "d", "e"} {
		require.NoError(t, put(s, k, k, false))
	}
	iter, err := s.NewIter([]byte("b"), []byte("e"))
	require.NoError(t, err)
	at := func(ok bool, want string) {
		t.Helper()
		require.True(t, ok)
		require.Equal(t, want, string(iter.Key()))
	}
	at(iter.First(), "b")
	at(iter.Last(), "d")
	at(iter.Prev(), "c")
	at(iter.SeekGE([]byte("a")), "b")
	at(iter.Next(), "c")
	at(iter.Next(), "d")
	require.False(t, iter.Next())
	iter.SetBounds([]byte("d"), nil)
	at(iter.First(), "d")
	at(iter.Last(), "e")

	// It shows the state at its creation.
	require.NoError(t, put(s, "f", "f", false))
	at(iter.Last(), "e")
	require.NoError(t, iter.Error())
	require.NoError(t, iter.Close())
	require.NoError(t, iter.Close())
	require.NoError(t, s.Close())
}

func TestValueIsACopy(t *testing.T) {
	s := open(t, configInMemory())
	mustPut(t, s, "key", "value")
	got, err := s.Get([]byte("key"))
	require.NoError(t, err)
	clear(got)
	requireValue(t, s, "key", "value")
	require.NoError(t, s.Close())
}

func TestBatchHasABound(t *testing.T) {
	s := open(t, configInMemory())
	b := s.NewBatch()
	kv.LimitBatch(b, 1000)
	k, v := b.SetDeferred(1, 1000)
	require.Len(t, k, 1)
	require.Len(t, v, 1000)
	b.Set([]byte("a"), []byte("1")) // it would fit, but would be only a part of the batch
	require.ErrorContains(t, b.Commit(true), "a batch holds at most")
	require.NoError(t, s.Err(), "the store is well")
	b.Reset()
	b.Set([]byte("a"), []byte("2"))
	require.NoError(t, b.Commit(true))
	requireValue(t, s, "a", "2")
	b.Close()
	require.NoError(t, s.Close())
}

// TestLargeBatch commits a batch that fits no memtable.
func TestLargeBatch(t *testing.T) {
	dir := t.TempDir()
	s := open(t, config(dir))
	big := noise(1, 3<<20)
	mustPut(t, s, "before", "1")
	mustPut(t, s, "big", string(big))
	mustPut(t, s, "later", "2")
	require.NoError(t, s.Close())
	s = open(t, config(dir))
	got, err := s.Get([]byte("big"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(big, got))
	requireValue(t, s, "before", "1")
	requireValue(t, s, "later", "2")
	require.NoError(t, s.Close())
}

func TestOpenAgain(t *testing.T) {
	dir := t.TempDir()
	cfg := config(dir)
	cfg.Init = func(b *kv.Batch) error {
		b.Set([]byte("first"), []byte("row"))
		return nil
	}
	s := open(t, cfg)
	id := s.Identity()
	requireValue(t, s, "first", "row")
	mustPut(t, s, "a", "1")
	require.NoError(t, put(s, "b", "2", false))
	require.NoError(t, s.Close())

	verified := 0
	cfg.Init = func(*kv.Batch) error { return fmt.Errorf("there already are rows") }
	cfg.Verify = func(r kv.Reader) error {
		verified++
		require.Equal(t, []string{"a=1", "b=2", "first=row"}, pairs(t, r, nil, nil))
		requireValue(t, r, "a", "1")
		return nil
	}
	s = open(t, cfg)
	require.Equal(t, 1, verified)
	require.False(t, s.Created())
	require.Equal(t, id, s.Identity())
	require.Equal(t, []string{"a=1", "b=2", "first=row"}, pairs(t, s, nil, nil))
	require.NoError(t, s.Close())
}

func TestSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, configInMemory())
		mustPut(t, s, "a", "1")
		snap, err := s.NewSnapshot()
		require.NoError(t, err)
		require.EqualValues(t, 1, s.Metrics().Snapshots)
		mustPut(t, s, "a", "2")
		mustPut(t, s, "b", "2")
		require.NoError(t, s.Flush())
		require.Equal(t, []string{"a=1"}, pairs(t, snap, nil, nil))
		requireValue(t, snap, "a", "1")
		_, err = snap.Get([]byte("b"))
		require.ErrorIs(t, err, kv.ErrNotFound)

		iter, err := snap.NewIter(nil, nil)
		require.NoError(t, err)
		require.NoError(t, snap.Close(t.Context()))
		require.NoError(t, snap.Close(t.Context()))
		require.EqualValues(t, 0, s.Metrics().Snapshots)
		require.True(t, iter.First(), "an iterator outlives its snapshot")
		require.Equal(t, "1", string(iter.Value()))
		require.NoError(t, iter.Close())
		_, err = snap.Get([]byte("a"))
		require.ErrorIs(t, err, kv.ErrClosed)
		_, err = snap.NewIter(nil, nil)
		require.ErrorIs(t, err, kv.ErrClosed)
		require.NoError(t, s.Close())
	})
}

// TestSyncMakesDurable loses everything that was not synced.
func TestSyncMakesDurable(t *testing.T) {
	d := testdisk.New()
	s := open(t, configOn(d))
	require.NoError(t, put(s, "before", "1", false))
	require.NoError(t, s.Sync())
	require.NoError(t, put(s, "after", "2", false))
	image := d.Mem.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, s.Close())
	s = open(t, configOn(image))
	require.Equal(t, []string{"before=1"}, pairs(t, s, nil, nil))
	require.NoError(t, s.Close())
}

func TestBeginMemTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, config(t.TempDir()))
		before := s.Metrics()
		mustPut(t, s, "a", "1")
		require.NoError(t, beginMemTable(s, "b", "2"))
		require.NoError(t, s.Flush()) // of the next one, and so after the first
		m := s.Metrics()
		require.Greater(t, m.FlushedBytes, before.FlushedBytes)
		require.Greater(t, m.Tables, before.Tables)
		require.Greater(t, m.IngestedBytes, before.IngestedBytes)
		require.Positive(t, m.DiskBytes)
		require.Positive(t, m.WALFiles)
		requireValue(t, s, "a", "1")
		require.NoError(t, s.Close())
		require.Equal(t, kv.Metrics{}, s.Metrics())
	})
}

func TestExcise(t *testing.T) {
	dir := t.TempDir()
	s := open(t, config(dir))
	for i := range 100 {
		require.NoError(t, put(s, fmt.Sprintf("k%02d", i), string(noise(uint64(i), 1000)), false))
	}
	require.NoError(t, s.Flush())
	require.NoError(t, put(s, "k30", "in the memtable", false))
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, s.Excise(ctx, []byte("k10"), []byte("k90")))
	require.Len(t, pairs(t, s, nil, nil), 20)
	require.Empty(t, pairs(t, s, []byte("k10"), []byte("k90")))

	require.ErrorContains(t, s.Excise(ctx, []byte("b"), []byte("b")), "not below")
	cancel()
	require.ErrorIs(t, s.Excise(ctx, []byte("a"), []byte("z")), context.Canceled)
	require.Len(t, pairs(t, s, nil, nil), 20)
	require.NoError(t, s.Close())

	s = open(t, config(dir))
	require.Len(t, pairs(t, s, nil, nil), 20, "it is durable")
	require.NoError(t, s.Close())
}

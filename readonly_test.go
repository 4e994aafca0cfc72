package braid_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/errorkind"
)

// stateOfFiles returns a line for each file below a directory, with everything that a reader
// must not change.
func stateOfFiles(t *testing.T, dir string) (states []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		var data []byte
		if !entry.IsDir() {
			if data, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		states = append(states, fmt.Sprintf("%s: %v, %d bytes, %v, %x", path, info.Mode(), len(data), info.ModTime(), sha256.Sum256(data)))
		return nil
	}))
	return states
}

// boxReadOnly opens a directory for reading only. When the test ends, it requires that no file
// in it has changed.
func boxReadOnly(t *testing.T, dir string, options braid.Options) *braid.DB {
	t.Helper()
	before := stateOfFiles(t, dir)
	t.Cleanup(func() { require.Equal(t, before, stateOfFiles(t, dir)) }) // after it was closed
	options.ReadOnly = true
	return boxOpenDir(t, dir, &options)
}

var readOnlyRing = func() *braid.KeyRing {
	ring, err := braid.NewKeyRing(map[string][]byte{"a": make([]byte, 32)})
	if err != nil {
		panic(err)
	}
	return ring
}()

// readOnlySource writes a database with something of everything: closed shards, encrypted
// records, keys, an expired stream, trimmed records, and a deleted stream whose rows are
// still stored. It does not close the database.
func readOnlySource(t require.TestingT, ctx context.Context, dir string) *braid.DB {
	db, err := braid.Open(dir, &braid.Options{KeyProvider: readOnlyRing, MemtableBytes: 1 << 20})
	require.NoError(t, err)
	put := func(s *braid.Stream, n, bytes int) []braid.PutResult {
		entries := make([]braid.Entry, n)
		for i := range entries {
			entries[i] = braid.Entry{PartitionKey: fmt.Sprint("key-", i), Data: make([]byte, bytes)}
		}
		results, err := s.PutRecords(ctx, entries)
		require.NoError(t, err)
		return results
	}
	open := func(name string, options *braid.StreamOptions) *braid.Stream {
		s, err := db.OpenStream(ctx, name, options)
		require.NoError(t, err)
		return s
	}
	s := open("s", &braid.StreamOptions{Shards: 2, Tags: map[string]string{"a": "b"}})
	gone := open("gone", nil)
	for range 5 { // more than a memtable, with epochs that die in part
		put(gone, 50, 4000)
		put(s, 50, 4000)
	}
	_, _, err = s.SplitShard(ctx, "0", nil)
	require.NoError(t, err)
	results := put(s, 50, 100)
	require.NoError(t, s.Trim(ctx, braid.AtSequence(results[0].SequenceNumber)))
	require.NoError(t, db.DeleteStream(ctx, "gone"))
	expired := open("expired", &braid.StreamOptions{Retention: time.Nanosecond})
	put(expired, 10, 10)
	secret := open("secret", nil)
	require.NoError(t, secret.StartEncryption(ctx, "a"))
	put(secret, 10, 10)
	require.NoError(t, db.Update(ctx, func(tx *braid.Tx) error { return tx.Set([]byte("k"), []byte("v")) }))
	return db
}

// requireReadOnly reads everything of readOnlySource, and tries to change it.
func requireReadOnly(t *testing.T, db *braid.DB) {
	t.Helper()
	ctx := t.Context()
	var names []string
	for _, s := range db.Streams() {
		names = append(names, s.Name())
	}
	require.Equal(t, []string{"expired", "s", "secret"}, names)
	s, err := db.Stream("s")
	require.NoError(t, err)
	all := boxAll(t, s.Records(ctx, braid.TrimHorizon()))
	require.Len(t, all, 50)
	require.Equal(t, all, boxAll(t, s.Follow(ctx, braid.TrimHorizon())), "it ends: nothing can come")
	require.Empty(t, boxAll(t, s.Follow(ctx, braid.Latest())))
	d := s.Describe()
	require.Equal(t, int64(50), d.Records)
	require.Equal(t, map[string]string{"a": "b"}, d.Tags)
	require.Len(t, d.Shards, 4)
	n := 0
	for _, sh := range s.Shards() {
		n += len(boxAll(t, sh.Follow(ctx, braid.TrimHorizon())))
		page, err := sh.GetRecords(ctx, braid.TrimHorizon(), &braid.GetRecordsOptions{Limit: 1, Wait: true})
		require.NoError(t, err)
		require.Equal(t, sh.Describe().Records, page.BehindRecords+int64(len(page.Records)), "lag is exact")
		page, err = sh.GetRecords(ctx, braid.Latest(), &braid.GetRecordsOptions{Wait: true})
		require.NoError(t, err)
		require.Empty(t, page.Records, "nor does this wait")
	}
	require.Equal(t, 50, n)
	expired, err := db.Stream("expired")
	require.NoError(t, err)
	require.Empty(t, boxAll(t, expired.Records(ctx, braid.TrimHorizon())))
	secret, err := db.Stream("secret")
	require.NoError(t, err)
	require.Len(t, boxAll(t, secret.Records(ctx, braid.TrimHorizon())), 10)
	require.Equal(t, []string{"k=v"}, boxState(t, db))
	m := db.Metrics()
	require.Equal(t, 3, m.Streams)
	require.NoError(t, m.Failed)
	// Metrics gives up soon on a machine that is busy, and the next call has the sizes.
	require.Eventually(t, func() bool { return db.Metrics().DiskBytes > 0 }, time.Minute, time.Millisecond)

	entries := []braid.Entry{{PartitionKey: "k", Data: []byte("d")}}
	for what, call := range map[string]func() error{
		"CreateStream":         func() error { _, err := db.CreateStream(ctx, "new", nil); return err },
		"OpenStream":           func() error { _, err := db.OpenStream(ctx, "new", nil); return err },
		"DeleteStream":         func() error { return db.DeleteStream(ctx, "s") },
		"Update":               func() error { return db.Update(ctx, func(*braid.Tx) error { return errors.New("it was run") }) },
		"PutRecord":            func() error { _, err := s.PutRecord(ctx, "k", nil); return err },
		"PutRecords":           func() error { _, err := s.PutRecords(ctx, entries); return err },
		"PutRecordWait":        func() error { _, err := s.PutRecordWait(ctx, "k", nil); return err },
		"PutRecordsWait":       func() error { _, err := s.PutRecordsWait(ctx, entries); return err },
		"put, encrypted":       func() error { _, err := secret.PutRecord(ctx, "k", nil); return err },
		"Trim":                 func() error { return s.Trim(ctx, braid.Latest()) },
		"SplitShard":           func() error { _, _, err := s.SplitShard(ctx, "1", nil); return err },
		"MergeShards":          func() error { _, err := s.MergeShards(ctx, "1", "3"); return err },
		"UpdateShardCount":     func() error { return s.UpdateShardCount(ctx, 8) },
		"UpdateMaxRecordBytes": func() error { return s.UpdateMaxRecordBytes(ctx, 1) },
		"AddTags":              func() error { return s.AddTags(ctx, map[string]string{"c": "d"}) },
		"RemoveTags":           func() error { return s.RemoveTags(ctx, "a") },
		"IncreaseRetention":    func() error { return s.IncreaseRetention(ctx, 48*time.Hour) },
		"DecreaseRetention":    func() error { return s.DecreaseRetention(ctx, 24*time.Hour) },
		"UpdateRetentionBytes": func() error { return s.UpdateRetentionBytes(ctx, 1) },
		"UpdateCapacity":       func() error { return s.UpdateCapacity(ctx, braid.Capacity{Mode: braid.Provisioned}) },
		"StartEncryption":      func() error { return s.StartEncryption(ctx, "a") },
		"StopEncryption":       func() error { return secret.StopEncryption(ctx) },
	} {
		err := call()
		require.ErrorIs(t, err, braid.ErrReadOnly, what)
		for _, kind := range errorkind.All {
			require.Equal(t, kind.Err == braid.ErrReadOnly, errors.Is(err, kind.Err), "%s: %s: %v", what, kind.Name, err)
		}
	}
	require.Equal(t, d, s.Describe())
	opened, err := db.OpenStream(ctx, "s", &braid.StreamOptions{Shards: 7})
	require.NoError(t, err)
	require.Same(t, s, opened)
}

func TestReadOnlyReadsEverythingAndChangesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	require.NoError(t, readOnlySource(t, t.Context(), dir).Close())
	options := braid.Options{KeyProvider: readOnlyRing, Durability: braid.Interval, SyncInterval: time.Hour}
	requireReadOnly(t, boxReadOnly(t, dir, options))
	other := boxReadOnly(t, dir, options) // at the same time
	requireReadOnly(t, other)

	backup := filepath.Join(t.TempDir(), "backup")
	require.NoError(t, other.Backup(t.Context(), backup, nil))
	requireReadOnly(t, boxReadOnly(t, backup, options))
	require.ErrorIs(t, other.Backup(t.Context(), filepath.Join(dir, "inside"), nil), braid.ErrInvalidArgument)
}

// A database whose process was killed has a log to replay, and leftover files.
func TestReadOnlyReplaysTheLogOfAKilledProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	childtest.RunWith(t, dir, func(t *testing.T, dir string) { readOnlySource(t, t.Context(), dir) }) // it ends without closing
	require.NoError(t, os.Mkdir(filepath.Join(dir, "backup-1"), 0o755))                               // as an unfinished backup leaves it
	require.NoError(t, os.Remove(filepath.Join(dir, "LOCK")))
	requireReadOnly(t, boxReadOnly(t, dir, braid.Options{KeyProvider: readOnlyRing}))
}

// Nothing may be written, as on a file system that is mounted read-only.
func TestReadOnlyNeedsNoPermissionToWrite(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("root may write anywhere: only what is asked of the system is tested")
	}
	dir := filepath.Join(t.TempDir(), "db")
	require.NoError(t, readOnlySource(t, t.Context(), dir).Close())
	chmod := func(directory, file fs.FileMode) {
		require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() {
				return os.Chmod(path, directory)
			}
			return os.Chmod(path, file)
		}))
	}
	chmod(0o555, 0o444)
	t.Cleanup(func() { chmod(0o755, 0o644) })
	requireReadOnly(t, boxReadOnly(t, dir, braid.Options{KeyProvider: readOnlyRing}))
}

func TestReadOnlyIsRefusedWhereThereIsNothingToRead(t *testing.T) {
	empty := t.TempDir()
	file := filepath.Join(empty, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, dir := range []string{empty, file, filepath.Join(empty, "none")} {
		_, err := braid.Open(dir, &braid.Options{ReadOnly: true})
		boxInvalid(t, err, "dir")
	}
	_, err := braid.Open(braid.InMemory, &braid.Options{ReadOnly: true})
	boxInvalid(t, err, "ReadOnly")
	left, err := os.ReadDir(empty)
	require.NoError(t, err)
	require.Len(t, left, 1)
}

func TestReadersAndAWriterKeepEachOtherOut(t *testing.T) {
	dir := t.TempDir()
	writer := boxOpenDir(t, dir, nil)
	_, err := braid.Open(dir, &braid.Options{ReadOnly: true})
	require.ErrorIs(t, err, braid.ErrLocked)
	require.ErrorContains(t, err, "Backup", "it says how to read")
	boxOpenStream(t, writer, "s", 1)
	require.NoError(t, writer.Close())

	reader := boxOpenDir(t, dir, &braid.Options{ReadOnly: true})
	_, err = braid.Open(dir, nil)
	require.ErrorIs(t, err, braid.ErrLocked)
	require.ErrorContains(t, err, "for reading only")
	require.NoError(t, reader.Close())
	require.ErrorIs(t, reader.View(t.Context(), nil), braid.ErrClosed)
	require.NoError(t, boxOpenDir(t, dir, nil).Close())
}

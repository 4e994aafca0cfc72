package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

// inDirectory runs a verb as the program does, on real directories.
func inDirectory(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs buffer
	code = run(t.Context(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// newDirectory makes a database with 3,000 records of 300 bytes in a directory.
func newDirectory(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	db, err := braid.Open(dir, nil)
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Shards: 2})
	require.NoError(t, err)
	var entries []braid.Entry
	for i := range 3000 {
		entries = append(entries, braid.Entry{PartitionKey: fmt.Sprint(i % 7), Data: bytes.Repeat(fmt.Appendf(nil, "%6d", i), 50)})
	}
	_, err = s.PutRecords(t.Context(), entries)
	require.NoError(t, err)
	consume(t, db, "billing", "orders", 5)
	require.NoError(t, db.Close())
	return dir
}

// fingerprint has the names, times and contents of all files of a directory.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	sum := sha256.New()
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		fmt.Fprintln(sum, path, info.Size(), info.ModTime().UnixNano())
		if !entry.IsDir() {
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			sum.Write(content)
		}
		return nil
	}))
	return hex.EncodeToString(sum.Sum(nil))
}

// Verbs that only read change no byte, even beside another reader.
func TestVerbsThatLookChangeNothing(t *testing.T) {
	dir := newDirectory(t)
	before := fingerprint(t, dir)
	reader, err := braid.Open(dir, &braid.Options{ReadOnly: true})
	require.NoError(t, err)
	for _, args := range [][]string{
		{"ls"},
		{"describe", "orders"},
		{"shards", "orders"},
		{"queues"},
		{"cat", "orders"},
		{"tail", "-f", "orders"},
		{"apps"},
		{"lag"},
		{"retention", "orders"},
		{"export", "orders", filepath.Join(t.TempDir(), "x")},
		{"check"},
		{"backup", filepath.Join(t.TempDir(), "x")},
		{"salvage", filepath.Join(t.TempDir(), "x")},
		{"__complete", "cat", ""},
	} {
		if args[0] == "salvage" { // it must not run beside a process that may write, and a reader may not
			require.NoError(t, reader.Close())
		}
		code, stdout, stderr := inDirectory(t, append([]string{"--dir", dir}, args...)...)
		require.Equal(t, exitOK, code, stderr)
		require.NotEmpty(t, stdout)
		require.Equal(t, before, fingerprint(t, dir), args)
	}
}

func TestADirectoryInUseIsLocked(t *testing.T) {
	dir := newDirectory(t)
	release := holdDirectory(t, dir)
	defer release()
	for _, args := range [][]string{{"ls"}, {"put", "orders", "a"}} {
		code, _, stderr := inDirectory(t, append([]string{"--dir", dir}, args...)...)
		require.Equal(t, exitLocked, code)
		require.Contains(t, stderr, "has \""+dir+"\" open")
		require.Contains(t, stderr, "reach it with --url; otherwise stop it, or use a backup\n")
	}
	release()
	code, _, stderr := inDirectory(t, "--dir", dir, "put", "orders", "a")
	require.Equal(t, exitOK, code, stderr)
}

// A misspelled directory creates no database.
func TestADirectoryIsNotMadeByMistake(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, args := range [][]string{{"ls"}, {"put", "orders", "a"}, {"seek", "a", "--to", "start"}, {"salvage", "x"}} {
		code, _, stderr := inDirectory(t, append([]string{"--dir", missing}, args...)...)
		require.Equal(t, exitNotFound, code)
		require.Equal(t, "braid: --dir "+missing+": there is no such directory: file does not exist\n", stderr)
		require.NoDirExists(t, missing)
	}
	code, _, stderr := inDirectory(t, "--dir", t.TempDir(), "put", "orders", "a")
	require.Equal(t, exitNotFound, code)
	require.Contains(t, stderr, "the directory is empty; it has no database")
	other := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(other, "a.txt"), nil, 0o600))
	code, _, stderr = inDirectory(t, "--dir", other, "ls")
	require.Equal(t, exitFailure, code)
	require.Contains(t, stderr, "must hold a database")
	code, _, stderr = inDirectory(t, "--dir", missing, "create", "orders")
	require.Equal(t, exitOK, code, stderr)
}

func TestBackupAndCheck(t *testing.T) {
	dir := newDirectory(t)
	to := filepath.Join(t.TempDir(), "copy")
	code, stdout, stderr := inDirectory(t, "--dir", dir, "backup", to, "--verify", "--json")
	require.Equal(t, exitOK, code, stderr)
	var did backedUp
	require.NoError(t, json.Unmarshal([]byte(stdout), &did))
	require.True(t, did.Verified)
	require.Positive(t, did.Bytes)
	code, stdout, _ = inDirectory(t, "--dir", to, "check")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "3,000  records, 881.8 KiB")
	require.Contains(t, stdout, "Nothing is damaged.\n")
	code, _, stderr = inDirectory(t, "--dir", dir, "backup", to)
	require.Equal(t, exitFailure, code)
	require.Contains(t, stderr, "must be empty or absent")
}

func TestDamageIsFoundAndSalvaged(t *testing.T) {
	dir := newDirectory(t)
	copied := filepath.Join(t.TempDir(), "copy")
	code, _, stderr := inDirectory(t, "--dir", dir, "backup", copied)
	require.Equal(t, exitOK, code, stderr)
	// The log of the copy also has the records, so open it for writing once.
	db, err := braid.Open(copied, nil)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	damage(t, copied)

	code, stdout, stderr := inDirectory(t, "--dir", copied, "check")
	require.Equal(t, exitDamage, code)
	require.Contains(t, stdout, "damage: records of stream \"orders\"")
	require.Regexp(t, `^braid: \d+ problems were found\n$`, stderr)
	code, stdout, stderr = inDirectory(t, "--dir", copied, "check", "--json")
	require.Equal(t, exitDamage, code, stderr)
	var report braid.VerifyReport
	require.NoError(t, json.Unmarshal([]byte(stdout), &report))
	require.NotEmpty(t, report.Problems)

	code, _, stderr = inDirectory(t, "--dir", copied, "cat", "orders")
	require.Equal(t, exitDamage, code)
	require.Contains(t, stderr, "To continue after it: --shard shardId-")

	saved := filepath.Join(t.TempDir(), "saved")
	code, stdout, stderr = inDirectory(t, "--dir", copied, "salvage", saved)
	require.Equal(t, exitDamage, code)
	require.Contains(t, stdout, "lost: ")
	require.Contains(t, stdout, "damaged: ")
	require.Contains(t, stderr, "braid: not everything could be saved\n")
	code, stdout, stderr = inDirectory(t, "--dir", copied, "salvage", saved+"2", "--json")
	require.Equal(t, exitDamage, code, stderr)
	var salvaged braid.SalvageReport
	require.NoError(t, json.Unmarshal([]byte(stdout), &salvaged))
	require.NotEmpty(t, salvaged.Lost)
	require.Less(t, salvaged.Records, int64(3000))
	code, _, stderr = inDirectory(t, "--dir", saved, "ls")
	require.Equal(t, exitOK, code, stderr)
}

func TestAnEncryptedStreamNeedsItsKeys(t *testing.T) {
	dir, keys := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(keys, []byte("main MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n"), 0o600))
	ring, err := braid.OpenKeyRing(keys)
	require.NoError(t, err)
	db, err := braid.Open(dir, &braid.Options{KeyProvider: ring})
	require.NoError(t, err)
	s, err := db.OpenStream(t.Context(), "orders", nil)
	require.NoError(t, err)
	require.NoError(t, s.StartEncryption(t.Context(), "main"))
	_, err = s.PutRecord(t.Context(), "k", []byte("secret"))
	require.NoError(t, err)
	require.NoError(t, db.Close())

	code, _, stderr := inDirectory(t, "--dir", dir, "cat", "orders")
	require.Equal(t, exitFailure, code)
	require.Contains(t, stderr, "encryption key not available")
	code, stdout, stderr := inDirectory(t, "--dir", dir, "cat", "orders", "--keys", keys, "-o", "data")
	require.Equal(t, exitOK, code, stderr)
	require.Equal(t, "secret\n", stdout)
	code, stdout, _ = inDirectory(t, "--dir", dir, "check")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "1 record was encrypted with a key that is not available")
	code, _, stderr = inDirectory(t, "--dir", dir, "ls", "--keys", keys+"x")
	require.Equal(t, exitNotFound, code)
	require.Contains(t, stderr, "--keys: ")
}

func TestBench(t *testing.T) {
	in := t.TempDir()
	code, stdout, stderr := inDirectory(t, "bench", "--in", in, "--for", "20ms", "--producers", "2", "--json")
	require.Equal(t, exitOK, code, stderr)
	var results []benchResult
	require.NoError(t, json.Unmarshal([]byte(stdout), &results))
	require.Len(t, results, 3)
	require.Equal(t, results[0].Records+results[1].Records, results[2].Records, "all is read back")
	require.Positive(t, results[0].Records)
	left, err := os.ReadDir(in)
	require.NoError(t, err)
	require.Empty(t, left)
	code, stdout, _ = inDirectory(t, "bench", "--in", in, "--for", "20ms", "--durability", "NoSync")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "puts of 100 records, NoSync, 16 producers")
}

// An interrupt ends a verb, and a backup or a salvage leaves nothing behind. Both may return
// before their files are removed, so the next verb begins when that is done.
func TestInterruptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := newDirectory(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		to := filepath.Join(t.TempDir(), "to")
		for _, args := range [][]string{
			{"cat", "orders"},
			{"check"},
			{"backup", to},
			{"salvage", to},
			{"bench", "--in", t.TempDir()},
			{"put", "orders", "a"},
			{"replay", "orders", "--to", "orders2"},
		} {
			var stdout, stderr buffer
			if args[0] == "replay" {
				code, _, stderr := inDirectory(t, "--dir", dir, "create", "orders2")
				require.Equal(t, exitOK, code, stderr)
			}
			code := run(ctx, append([]string{"--dir", dir}, args...), strings.NewReader(""), &stdout, &stderr)
			require.Equal(t, exitInterrupted, code, "%v: %s", args, stderr.String())
			require.Equal(t, "braid: interrupted\n", stderr.String(), args)
			synctest.Wait()
			left, err := os.ReadDir(to) // it may have been created
			require.True(t, err == nil || errors.Is(err, fs.ErrNotExist))
			require.Empty(t, left)
		}
	})
}

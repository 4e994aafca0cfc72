//go:build unix

package kv_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/kv"
)

// spellings returns names of one directory. It changes the working directory to the parent
// directory, and makes symbolic links there.
func spellings(t *testing.T, dir string) []string {
	t.Helper()
	above, base := filepath.Split(dir)
	links := filepath.Join(above, "links")
	require.NoError(t, os.MkdirAll(links, 0o755))
	link := func(target, name string) string {
		name = filepath.Join(links, name)
		require.NoError(t, os.Symlink(target, name))
		return name
	}
	direct := link(dir, "direct")
	parent := link(above, "parent")
	t.Chdir(above)
	return []string{
		dir,
		dir + "/",
		above + "//." + "/" + base,
		dir + "/../" + base,
		base,
		"./" + base,
		"links/../" + base,
		direct,
		"links/direct",
		link("../"+base, "relative"),
		link("direct", "twice"),
		parent + "/" + base,
		link("parent/"+base, "through-parent"),
	}
}

// requireLocked checks that no name opens the directory, and that the error names
// the holder.
func requireLocked(t *testing.T, names []string, holder string) {
	t.Helper()
	for _, name := range names {
		s, err := kv.Open(config(name))
		require.ErrorIs(t, err, kv.ErrLocked, "as %s", name)
		require.ErrorContains(t, err, holder)
		require.Nil(t, s)
	}
}

func TestLock(t *testing.T) {
	given := ""
	if !childtest.InChild(t) {
		dir := filepath.Join(t.TempDir(), "db")
		require.NoError(t, os.Mkdir(dir, 0o755))
		names := spellings(t, dir)
		given = strings.Join(names, "\n")
		for _, first := range names { // any of them may be held
			s := open(t, config(first))
			requireLocked(t, names, "this process")
			require.NoError(t, s.Close())
		}
		s := open(t, config("links/through-parent"))
		mustPut(t, s, "a", "1")
		defer func() {
			mustPut(t, s, "b", "2") // the refused open has done no harm
			require.NoError(t, s.Close())
			s = open(t, config(dir))
			require.Equal(t, []string{"a=1", "b=2"}, pairs(t, s, nil, nil))
			require.NoError(t, s.Close())
		}()
	}
	childtest.RunWith(t, given, func(t *testing.T, given string) {
		requireLocked(t, strings.Split(given, "\n"), fmt.Sprintf("process %d", os.Getppid()))
	})
}

// TestLockSurvivesItsFile reads, replaces and deletes the lock file.
func TestLockSurvivesItsFile(t *testing.T) {
	given := ""
	if !childtest.InChild(t) {
		dir := t.TempDir()
		given = dir
		s := open(t, config(dir))
		defer func() { require.NoError(t, s.Close()) }()
		lock := filepath.Join(dir, "LOCK")
		_, err := os.ReadFile(lock)
		require.NoError(t, err)
		require.NoError(t, os.Remove(lock))
		require.NoError(t, os.WriteFile(lock, []byte("pid none of yours\n"), 0o600))
		requireLocked(t, []string{dir}, "this process")
	}
	childtest.RunWith(t, given, func(t *testing.T, dir string) { requireLocked(t, []string{dir}, "another process") })
}

// TestDeathFreesLock lets a process die with the database open.
func TestDeathFreesLock(t *testing.T) {
	dir := t.TempDir()
	childtest.RunWith(t, dir, func(t *testing.T, dir string) {
		s := open(t, config(dir))
		mustPut(t, s, "last", "words")
	})
	s := open(t, config(dir))
	requireValue(t, s, "last", "words")
	require.NoError(t, s.Close())
}

func TestLockTellsHolder(t *testing.T) {
	dir := t.TempDir()
	s := open(t, config(dir))
	text, err := os.ReadFile(filepath.Join(dir, "LOCK"))
	require.NoError(t, err)
	require.Regexp(t, fmt.Sprintf(`^pid %d\nsince \d{4}-\d\d-\d\dT\S+Z\n$`, os.Getpid()), string(text))
	require.NoError(t, s.Close())
}

// TestLockOfFailedOpen: an open that was refused must not keep the lock.
func TestLockOfFailedOpen(t *testing.T) {
	dir := t.TempDir()
	cfg := config(dir)
	for range 3 {
		cfg.Init = func(*kv.Batch) error { return os.ErrInvalid }
		_, err := kv.Open(cfg)
		require.ErrorIs(t, err, os.ErrInvalid)
	}
	s := open(t, config(dir))
	require.NoError(t, s.Close())
}

package kv_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/kv"
)

func TestBackup(t *testing.T) {
	for name, cfg := range map[string]kv.Config{"on disk": config(t.TempDir()), "in memory": configInMemory()} {
		t.Run(name, func(t *testing.T) {
			s := open(t, cfg)
			for i := range 300 { // fills a few memtables
				require.NoError(t, put(s, fmt.Sprintf("k%03d", i), string(noise(uint64(i), 10_000)), false))
			}
			target := filepath.Join(t.TempDir(), "copy")
			var last, total int64
			require.NoError(t, s.Backup(t.Context(), target, func(done, all int64) {
				require.GreaterOrEqual(t, done, last)
				last, total = done, all
			}, nil))
			require.Equal(t, total, last)
			require.Greater(t, total, int64(3_000_000))
			require.NoError(t, put(s, "k000", "later", true))
			require.ErrorIs(t, s.Backup(t.Context(), target, nil, nil), kv.ErrNotEmpty)

			// The copy is a database of its own, open beside the original.
			c := open(t, config(target))
			require.False(t, c.Created())
			require.Equal(t, s.Identity(), c.Identity())
			requireValue(t, c, "k000", string(noise(0, 10_000)))
			requireValue(t, c, "k299", string(noise(299, 10_000)))
			require.Len(t, pairs(t, c, nil, nil), 300)
			require.NoError(t, c.Excise(t.Context(), []byte("k"), []byte("l")))
			require.NoError(t, c.Close())
			require.Len(t, pairs(t, s, nil, nil), 300)
			require.NoError(t, s.Close())
		})
	}
}

func TestBackupCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, config(dir))
		mustPut(t, s, "a", string(noise(1, 100_000)))
		target := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		err := s.Backup(ctx, target, func(done, _ int64) {
			if done > 0 {
				cancel()
			}
		}, nil)
		require.ErrorIs(t, err, context.Canceled)
		requireEmpty(t, target)

		// Nothing stays in the database's directory.
		left, err := filepath.Glob(filepath.Join(dir, "backup-*"))
		require.NoError(t, err)
		require.Empty(t, left)
		require.NoError(t, s.Backup(t.Context(), target, nil, nil))
		require.NoError(t, s.Close())

		// Files that a crash left are removed.
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "backup-1", "sub"), 0o755))
		s = open(t, config(dir))
		require.NoDirExists(t, filepath.Join(dir, "backup-1"))
		require.NoError(t, s.Close())
	})
}

func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestBackupIntoItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, config(dir))
		synctest.Wait() // until Pebble has removed the log of the creation
		before := tree(t, dir, false)
		for _, target := range []string{dir, filepath.Join(dir, "store")} {
			require.ErrorContains(t, s.Backup(t.Context(), target, nil, nil), "in that of the database")
		}
		require.Equal(t, before, tree(t, dir, false))
		require.NoError(t, s.Close())
	})
}

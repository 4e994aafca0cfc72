//go:build linux

package pebblefacts_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// Fact 16. Pebble's lock knows a directory by its spelling: a process can open a
// database twice. So kv has a lock of its own.
func TestLockKnowsSpellingsOnly(t *testing.T) {
	above := t.TempDir()
	real, link := filepath.Join(above, "real"), filepath.Join(above, "link")
	require.NoError(t, os.Mkdir(real, 0o755))
	require.NoError(t, os.Symlink(real, link))
	db, err := pebble.Open(real, options(t, vfs.Default))
	require.NoError(t, err)
	_, err = pebble.Open(real, options(t, vfs.Default))
	require.ErrorContains(t, err, "lock held by current process")

	// A read-only open takes the lock as well, and changes nothing when it gets it.
	o := options(t, vfs.Default)
	o.ReadOnly = true
	_, err = pebble.Open(real, o)
	require.ErrorContains(t, err, "lock held by current process")
	second, err := vfs.Default.Lock(filepath.Join(link, "LOCK"))
	require.NoError(t, err)
	require.NoError(t, second.Close())
	require.NoError(t, db.Close())
}

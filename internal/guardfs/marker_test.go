package guardfs_test

import (
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/guardfs"
	"github.com/braidstream/braid/internal/testdisk"
)

// Before a marker is created, the manifest that it names is durable. Before the old marker is
// removed, the new one is durable.
func TestTheDirectoryIsSyncedBeforeEachStepOfAMarker(t *testing.T) {
	disk := newDisk(t)
	var changes []string
	disk.Before(func(op testdisk.Op) error {
		names := map[errorfs.OpKind]string{errorfs.OpCreate: "create", errorfs.OpRemove: "remove", errorfs.OpFileSync: "sync"}
		if name, ok := names[op.Kind]; ok {
			what, _, _ := strings.Cut(path.Base(op.Path), ".")
			changes = append(changes, fmt.Sprintf("%s %s", name, what))
		}
		return nil
	})
	g := guardfs.New(disk, guardfs.Config{Dir: dir})
	marker, _, err := atomicfs.LocateMarker(g, dir, "manifest")
	require.NoError(t, err)
	require.NoError(t, marker.Move("MANIFEST-000001"))
	require.NoError(t, marker.Move("MANIFEST-000002"))
	require.NoError(t, marker.Close())

	base := path.Base(dir)
	require.Equal(t, []string{
		"sync " + base, "create marker", "sync " + base,
		"sync " + base, "create marker", "sync " + base, "remove marker", "sync " + base,
	}, changes)
}

package guardfs

import (
	"errors"
	"strings"
)

// Pebble names the current manifest in a marker, a file whose name contains it. To move the
// marker, Pebble creates a new one, removes the old one, and then syncs the directory once. If
// the file system does not write the entries of a directory in order, a power loss right
// before that sync may leave the new marker without the manifest that it names, or no marker.
// Then the store can no longer be opened. The model test found this.
//
// So the guard syncs the directory before each of the two steps. A marker moves only when a
// manifest is full or a store is opened, so the cost does not matter.

// beforeMarker, if the file is a marker, makes everything durable that a step with it relies on.
func (g *FS) beforeMarker(name string) error {
	if !strings.HasPrefix(g.PathBase(name), "marker.") {
		return nil
	}
	dir, err := g.OpenDir(g.PathDir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

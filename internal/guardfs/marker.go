package guardfs

import (
	"errors"
	"strings"
)

// Pebble names the current manifest in a marker: a file whose name says it. To
// move it, it creates a new one, removes the old one, and then syncs the
// directory once. So right before that sync a power cut may leave the new marker
// but not the manifest that it names, or neither of the markers, if the file
// system does not write entries of a directory in the order in which they came.
// Then the store cannot be opened any more.
//
// The guard syncs the directory before each of the two steps. A marker moves when
// a manifest is full, or a store is opened, so that costs nothing to speak of.
// The model test found this.

// beforeMarker makes durable what a step with the file relies on, if the file is
// a marker.
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

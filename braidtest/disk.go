// Package braidtest has a disk for tests that simulate a power loss. A test opens a
// database on the disk, does its work, cuts the power in the middle, and opens what is
// left:
//
//	disk := braidtest.NewDisk()
//	db, err := disk.Open(nil)
//	...
//	db, err = disk.PowerCut().Open(nil) // as after a power loss
//
// The disk is in memory and never waits, so it works in a testing/synctest bubble.
package braidtest

import (
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
)

// dir is the directory of the database on the disk.
const dir = "/braid"

// Disk is a disk in memory that holds one database. Its methods may be called from any
// number of goroutines.
type Disk struct{ files *files }

// NewDisk returns an empty disk.
func NewDisk() *Disk { return &Disk{newFiles(vfs.NewCrashableMem())} }

// Open opens the disk's database, as [braid.Open] does, with the same errors. The
// database must be closed before it is opened again on the same disk.
func (d *Disk) Open(options *braid.Options) (*braid.DB, error) {
	db, err := companion.Open(dir, options, companion.Environment{FS: vfs.FS(d.files), Instant: true})
	if err != nil {
		return nil, err
	}
	return db.(*braid.DB), nil
}

// PowerCut returns the disk as it would be after a power cut now, without anything that
// was not synced. The disk itself keeps working, so that the database that is open on it
// can be closed normally. Nothing that it still writes reaches the returned disk.
//
// A write that is acknowledged while PowerCut runs may or may not be on the returned
// disk. A write that was acknowledged before is on it, as far as the durability of the
// database promises that.
func (d *Disk) PowerCut() *Disk { return &Disk{d.files.powerCut()} }

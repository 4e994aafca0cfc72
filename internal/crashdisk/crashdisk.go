// Package crashdisk keeps databases on a disk in memory whose power can be cut: what
// was not synced by then is gone. It is for tests, of braid and of what is built on
// it.
package crashdisk

import (
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
)

// dir is where on the disk the database is.
const dir = "/braid"

// Disk holds one database.
type Disk struct{ mem *vfs.MemFS }

// New returns an empty disk.
func New() *Disk { return &Disk{vfs.NewCrashableMem()} }

// PowerCut returns the disk as it would be found if the power were cut now. The disk
// itself goes on, so the database that is open on it can be closed in an orderly way;
// nobody finds what it still writes.
//
// A write that is acknowledged while PowerCut runs may or may not be on the disk that
// is returned. One that was acknowledged before is, as far as the database's
// durability promises.
func (d *Disk) PowerCut() *Disk { return &Disk{d.mem.CrashClone(vfs.CrashCloneCfg{})} }

// Open opens the disk's database, as [braid.Open] does. The database must be closed
// before it is opened again on the same disk.
func Open(d *Disk, options *braid.Options) (*braid.DB, error) {
	db, err := companion.Open(dir, options, vfs.FS(d.mem), nil)
	if err != nil {
		return nil, err
	}
	return db.(*braid.DB), nil
}

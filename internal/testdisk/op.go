package testdisk

import (
	"fmt"
	"path"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// Op is an operation of a disk.
type Op struct {
	errorfs.Op
	Index int // the number of earlier operations that changed files; -1 if this one changes none
}

// Changes reports whether the operation changes a file or a directory. A close changes none.
func (op Op) Changes() bool {
	return op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose
}

// Syncs reports whether the operation makes something durable.
func (op Op) Syncs() bool {
	return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
}

// TakesSpace reports whether a full disk may refuse the operation.
func (op Op) TakesSpace() bool {
	switch op.Kind {
	case errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpMkdirAll, errorfs.OpRename, errorfs.OpLink,
		errorfs.OpReuseForWrite, errorfs.OpFilePreallocate:
		return true
	default:
		return false
	}
}

// OnLog reports whether the operation is on a write-ahead log.
func (op Op) OnLog() bool { return strings.HasSuffix(op.Path, ".log") }

// OnTable reports whether the operation is on a table.
func (op Op) OnTable() bool { return strings.HasSuffix(op.Path, ".sst") }

// OnManifest reports whether the operation is on a manifest.
func (op Op) OnManifest() bool { return strings.HasPrefix(path.Base(op.Path), "MANIFEST-") }

// File returns the kind of file that the operation is on.
func (op Op) File() string {
	base := path.Base(op.Path)
	switch {
	case op.OnLog():
		return "log"
	case op.OnTable():
		return "table"
	case op.OnManifest():
		return "manifest"
	case strings.HasPrefix(base, "marker."):
		return "marker"
	case strings.HasPrefix(base, "BRAID"):
		return "identity"
	case path.Ext(base) == "":
		return "directory"
	default:
		return "other"
	}
}

// Change returns the verb of an operation that changes a file.
func (op Op) Change() string {
	names := map[errorfs.OpKind]string{
		errorfs.OpCreate:          "create",
		errorfs.OpLink:            "link",
		errorfs.OpRemove:          "remove",
		errorfs.OpRemoveAll:       "remove-all",
		errorfs.OpRename:          "rename",
		errorfs.OpReuseForWrite:   "reuse",
		errorfs.OpMkdirAll:        "mkdir",
		errorfs.OpFilePreallocate: "preallocate",
		errorfs.OpFileWrite:       "write",
		errorfs.OpFileWriteAt:     "write-at",
		errorfs.OpFileSync:        "sync",
		errorfs.OpFileSyncData:    "sync-data",
		errorfs.OpFileSyncTo:      "sync-to",
		errorfs.OpFileFlush:       "flush",
	}
	if name, ok := names[op.Kind]; ok {
		return name
	}
	return fmt.Sprintf("operation %d", op.Kind)
}

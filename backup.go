package braid

import "context"

// BackupOptions say how to make a copy. The zero value, and a nil pointer, mean
// the defaults.
type BackupOptions struct {
	// Progress, if it is not nil, is called from time to time with how many
	// bytes of how many are copied, on the goroutine that called Backup. The
	// copying waits for it.
	Progress func(doneBytes, totalBytes int64)
}

// Backup copies the database to a directory, which must be absent or empty,
// while it is in use. The copy is a database of its own, as it was at one
// instant after the call began: [Open] opens it, here or in another process. A
// database in memory can be saved this way.
//
// It returns when ctx ends, even while a file operation is held by a stalled disk.
// A backup that ends with an error leaves nothing that could be taken for a
// database, and can be tried again: what was written of it is removed before Backup
// returns or, if an operation is held, when that returns, for which another Backup
// to the same directory waits. After a crash empty the directory first.
//
// Errors: [ErrInvalidArgument] if the directory is not empty, or lies in that of the
// database; the cause of ctx; [ErrDiskFull] if the copy does not fit;
// [ErrOutOfResources]; [ErrFailed], [ErrClosed]. Any other error is the file system's.
func (db *DB) Backup(ctx context.Context, dir string, options *BackupOptions) error {
	if err := validateDir(dir); err != nil {
		return wrapError("back up", dir, err)
	}
	var opts BackupOptions
	if options != nil {
		opts = *options
	}
	return wrapError("back up", dir, db.store.Backup(ctx, dir, opts.Progress))
}

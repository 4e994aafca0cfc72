package braid

import (
	"context"
	"errors"
	"fmt"

	"github.com/braidstream/braid/internal/kv"
)

// BackupOptions say how to make a copy. The zero value, and a nil pointer, mean
// the defaults.
type BackupOptions struct {
	// Progress, if it is not nil, is called from time to time with how many
	// bytes of how many are copied, on the goroutine that called Backup. The
	// copying waits for it. With Verify each byte counts twice: it is read again.
	Progress func(doneBytes, totalBytes int64)

	// Verify reads the copy, as fast as it can, before it counts as a backup: it is
	// opened as with [Options].ReadOnly, and verified whole, as [DB.Verify] does. If
	// something is wrong with it, Backup returns that error, an [ErrCorrupt] or
	// [ErrDataLoss], and leaves nothing. As a copy has the damage of its original, Verify
	// the database then. It takes the time of reading the copy once, and memory for what
	// is in the log and not in tables yet: up to four times [Options].MemtableBytes.
	Verify bool
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
// to the same directory waits. A crash leaves a directory that [Open] and Backup refuse as that
// of an unfinished backup: remove it, and make the backup again.
//
// Errors: [ErrInvalidArgument] if the directory is not empty, or lies in that of the
// database; the cause of ctx; [ErrDiskFull] if the copy does not fit; [ErrCorrupt] and
// [ErrDataLoss] if the options ask for Verify and the copy is damaged;
// [ErrOutOfResources]; [ErrFailed], [ErrClosed]. Any other error is the file system's.
func (db *DB) Backup(ctx context.Context, dir string, options *BackupOptions) error {
	if err := validateDir(dir); err != nil {
		return wrapError("back up", dir, err)
	}
	var opts BackupOptions
	if options != nil {
		opts = *options
	}
	var check kv.BackupCheck
	if opts.Verify {
		check = db.verifyCopy
	}
	return wrapError("back up", dir, db.store.Backup(ctx, dir, opts.Progress, check))
}

// verifyCopy verifies a backup that has no name yet.
func (db *DB) verifyCopy(ctx context.Context, files kv.FS, dir string, progress func(done, total int64)) (err error) {
	options := Options{
		ReadOnly:      true,
		Logger:        db.opts.Logger,
		KeyProvider:   db.opts.KeyProvider,
		CacheBytes:    -1, // everything is read once
		TailBytes:     -1,
		MemtableBytes: db.opts.MemtableBytes, // the log of the original fits
	}
	copied, err := open(dir, &options, environment{fs: files, unnamed: true})
	if err == nil {
		_, err = copied.verify(ctx, &VerifyOptions{BytesPerSecond: -1, MaxProblems: 1, Progress: progress})
		closed := copied.CloseContext(ctx)
		if err == nil {
			err = closed
		}
	}
	var public *opError
	if errors.As(err, &public) { // the backup's is the only one to be named
		err = public.cause
	}
	if err != nil {
		return fmt.Errorf("the copy cannot be verified: %w", err)
	}
	return nil
}

package braid

import (
	"context"
	"errors"
	"fmt"

	"github.com/braidstream/braid/internal/kv"
)

// BackupOptions are the options of [DB.Backup]. The zero value, and a nil pointer, mean the
// defaults.
type BackupOptions struct {
	// Progress, if not nil, is called from time to time with the number of bytes copied so far and
	// the total, on the goroutine that called Backup. Copying waits for it. With Verify each byte
	// counts twice, because it is read again.
	Progress func(doneBytes, totalBytes int64)

	// Verify checks the copy before it counts as a backup: it opens the copy as with
	// [Options].ReadOnly and verifies all of it, as [DB.Verify] does, at full speed. If something
	// is wrong, Backup returns the error, an [ErrCorrupt] or [ErrDataLoss], and leaves no copy. A
	// copy has the damage of its original, so verify the database then. Verify takes the time to
	// read the copy once, and memory for the data that is in the log and not yet in tables: up to
	// four times [Options].MemtableBytes.
	Verify bool
}

// Backup copies the database, while it is in use, to a directory, which must be absent or
// empty. The copy has the state of the database at one instant after the call began. It is a
// database of its own: [Open] opens it, here or in another process. A database in memory can
// be saved this way.
//
// Backup returns when ctx ends, even while a stalled disk holds a file operation. If Backup fails,
// it removes its files before it returns, and can be called again. If a stalled disk holds an
// operation, the files are removed when the operation returns, and another Backup to the same
// directory waits for that. A crash leaves a directory that [Open] and Backup refuse as an
// unfinished backup: remove it, and make the backup again.
//
// Errors: [ErrInvalidArgument] if the directory is not empty, or lies in the database's
// own; the cause of ctx; [ErrDiskFull] if the copy does not fit; [ErrCorrupt] and
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

// verifyCopy verifies a backup that is not finished.
func (db *DB) verifyCopy(ctx context.Context, files kv.FS, dir string, progress func(done, total int64)) (err error) {
	options := Options{
		ReadOnly:      true,
		Logger:        db.opts.Logger,
		KeyProvider:   db.opts.KeyProvider,
		CacheBytes:    -1, // everything is read once
		TailBytes:     -1,
		MemtableBytes: db.opts.MemtableBytes, // so the replayed log of the original fits
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
	if errors.As(err, &public) { // name only the operation "back up"
		err = public.cause
	}
	if err != nil {
		return fmt.Errorf("the copy cannot be verified: %w", err)
	}
	return nil
}

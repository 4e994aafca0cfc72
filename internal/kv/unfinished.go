package kv

import (
	"fmt"
)

// unfinishedName is the file that marks a directory in which [Store.Backup] or a [Target]
// makes a database, until it is one. Only its name counts.
//
// Invariant: the mark is durable before the directory holds anything but the lock file, and is
// removed once the identity is durable or the directory is empty. So in a directory without an
// identity, the mark means that it never was a database; without the mark, the identity was
// lost. TestCrashesOfABackup and TestCrashesOfASalvage hold it.
const unfinishedName = "UNFINISHED"

const unfinishedText = "A backup or salvage writes to this directory, or was cut short. Unless it still runs, remove the directory.\n"

// errUnfinished is the error for a directory with the mark and without an identity.
func errUnfinished(class error, dir string) error {
	return fmt.Errorf("%w: %q holds an unfinished backup or salvage: unless it still runs, remove the directory and make it again", class, dir)
}

// markUnfinished makes the directory, and the mark in it.
func markUnfinished(files FS, dir string) error {
	if err := makeDirs(files, dir); err != nil {
		return err
	}
	if err := writeFile(files, files.PathJoin(dir, unfinishedName), []byte(unfinishedText)); err != nil {
		return err
	}
	return syncDir(files, dir)
}

// markFinished removes the mark from a directory that has a durable identity or is empty.
func markFinished(files FS, dir string) error {
	if err := files.RemoveAll(files.PathJoin(dir, unfinishedName)); err != nil {
		return err
	}
	return syncDir(files, dir)
}

// discardUnfinished removes the files of a backup or salvage, finished or not: the identity
// first, the mark last.
func discardUnfinished(files FS, dir string) error {
	if _, err := files.Stat(dir); err != nil {
		return nil // the directory was never made
	}
	if !isThere(files, dir, unfinishedName) {
		_ = markUnfinished(files, dir) // a full disk must not prevent the removal
	}
	var err error
	for _, name := range append([]string{identityName, newIdentityName, targetName, storeName}, ledgerFiles()...) {
		err = joinErrors(err, files.RemoveAll(files.PathJoin(dir, name)))
	}
	if err == nil {
		err = syncDir(files, dir)
	}
	if err == nil {
		err = markFinished(files, dir)
	}
	return err
}

// isThere reports whether the directory has a file of that name.
func isThere(files FS, dir, name string) bool {
	_, err := files.Stat(files.PathJoin(dir, name))
	return err == nil
}

package kv

import (
	"fmt"
)

// unfinishedName is the file that marks a directory in which [Store.Backup] or a [Target]
// makes a database, until it is one. Only its name counts.
//
// Invariant: it is durable before anything else is in the directory but the lock, and is
// removed when the identity is durable, or when nothing else is left. So without an
// identity, a directory with the mark never was a database, and one without the mark has
// lost it. TestCrashesOfABackup and TestCrashesOfASalvage hold it.
const unfinishedName = "UNFINISHED"

const unfinishedText = "A backup or salvage writes to this directory, or was cut short. Unless it still runs, remove the directory.\n"

// errUnfinished says what a directory with the mark and without an identity is.
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

// markFinished removes the mark from a directory that has a durable identity, or nothing.
func markFinished(files FS, dir string) error {
	if err := files.RemoveAll(files.PathJoin(dir, unfinishedName)); err != nil {
		return err
	}
	return syncDir(files, dir)
}

// discardUnfinished removes what was made in a directory, finished or not: the identity
// first, the mark last.
func discardUnfinished(files FS, dir string) error {
	if _, err := files.Stat(dir); err != nil {
		return nil // it could not be made
	}
	if !isThere(files, dir, unfinishedName) {
		_ = markUnfinished(files, dir) // a full disk must not keep it from being emptied
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

package kv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/braidstream/braid/internal/layout"
)

// DurableBytes returns how many bytes VerifyFiles would read now.
func (s *Store) DurableBytes() (n int64) {
	state := s.guard.Durable(0, 0)
	for _, f := range state.Files {
		n += f.Size
	}
	for _, t := range state.Tables {
		n += t.Size
	}
	return n
}

// VerifyFiles reads every file that the ledger lists, while the store is in use, and compares
// it with the ledger: tables, and the durable beginnings of the manifest and of the logs. It
// calls verified with the name of each file, relative to the database's directory, and nil if
// the file is whole, a FileDamageError if it is not, or the disk's error if it cannot be read.
// pace, if not nil, is called before each piece of at most 256 KiB is read, and its error ends
// the reading.
//
// A file that is removed meanwhile is no damage, and verified is not called with it. Tables
// that were written in the last second before a kill are neither listed nor compared; Pebble
// checks their blocks when they are read. A database in memory has no files to read.
//
// It returns the cause of the context, the error of pace, ErrClosed, or nil.
func (s *Store) VerifyFiles(ctx context.Context, pace func(bytes int) error, verified func(file string, damage error)) error {
	state := s.guard.Durable(0, 0)
	all := state.Files
	for _, t := range state.Tables {
		all = append(all, t.LedgerFile)
	}
	for _, f := range all {
		if err := s.verifyListed(ctx, f, pace, verified); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) verifyListed(ctx context.Context, f layout.LedgerFile, pace func(bytes int) error, verified func(string, error)) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var stopped error
	damage := s.verifyFile(f, func(n int) error {
		if ctx.Err() != nil {
			stopped = context.Cause(ctx)
		} else if pace != nil {
			stopped = pace(n)
		}
		return stopped
	})
	if stopped == nil && s.guard.Lists(f) {
		verified(storeName+"/"+f.Name, damage)
	}
	return stopped
}

// verifyFile compares one file with the ledger.
func (s *Store) verifyFile(want layout.LedgerFile, pace func(bytes int) error) error {
	damage := &FileDamageError{File: storeName + "/" + want.Name, Offset: -1, Size: -1, Want: want.Size}
	size, sum, err := s.storeFiles().sumAtPace(want.Name, want.Size, pace)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		damage.Damage = FileMissing
	case err != nil:
		return fmt.Errorf("read %s: %w", damage.File, Classify(err))
	case size < want.Size:
		damage.Damage, damage.Size, damage.Offset = FileShort, size, size
	case sum != want.Sum:
		damage.Damage = FileChanged
	default:
		return nil
	}
	return damage
}

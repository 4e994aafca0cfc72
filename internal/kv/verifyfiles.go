package kv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/braidstream/braid/internal/layout"
)

// VerifyFiles reads every file that the ledger lists, while the store is in use, and
// compares it with what was written: tables, and the durable beginnings of the manifest
// and of the logs. found is told of each that is not the same, with a FileDamageError,
// and of each that the disk cannot read. pace, if not nil, is called before each piece of
// at most 256 KiB is read, and its error ends the reading.
//
// A file that goes away meanwhile is no damage. Tables that were written in the last
// second before a kill are not listed and not compared; Pebble checks their blocks when
// they are read. Of a database in memory there is nothing to read.
//
// It returns the cause of the context, the error of pace, ErrClosed, or nil.
func (s *Store) VerifyFiles(ctx context.Context, pace func(bytes int) error, found func(error)) error {
	state := s.guard.Durable(0, 0)
	var stopped error
	each := func(n int) error {
		if ctx.Err() != nil {
			stopped = context.Cause(ctx)
		} else if pace != nil {
			stopped = pace(n)
		}
		return stopped
	}
	verify := func(want layout.LedgerFile) error {
		if err := s.gate.enter(); err != nil {
			return err
		}
		defer s.gate.leave()
		if err := each(0); err != nil {
			return err
		}
		damage := s.verifyFile(want, each)
		if stopped != nil {
			return stopped
		}
		if damage != nil && s.guard.Lists(want) {
			found(damage)
		}
		return nil
	}
	for _, f := range state.Files {
		if err := verify(f); err != nil {
			return err
		}
	}
	for _, t := range state.Tables {
		if err := verify(t.LedgerFile); err != nil {
			return err
		}
	}
	return nil
}

// verifyFile compares one file with what was written.
func (s *Store) verifyFile(want layout.LedgerFile, pace func(bytes int) error) error {
	damage := &FileDamageError{File: storeName + "/" + want.Name, Offset: -1, Size: -1, Want: want.Size}
	size, sum, err := s.sumAtPace(want.Name, want.Size, pace)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		damage.Damage = FileMissing
	case err != nil:
		return fmt.Errorf("read %s: %w", damage.File, err)
	case size < want.Size:
		damage.Damage, damage.Size, damage.Offset = FileShort, size, size
	case sum != want.Sum:
		damage.Damage = FileChanged
	default:
		return nil
	}
	return damage
}

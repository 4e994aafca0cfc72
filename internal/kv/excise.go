package kv

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"
)

// Excise removes all keys from lower up to but not including upper, from snapshots as well, and
// frees their space as soon as no iterator reads it: tables that hold nothing else are dropped
// as a whole. When it returns nil, the removal is durable and visible to all.
//
// It waits for another Excise, and while a backup or a checkpoint links Pebble's files. Until
// it begins, it returns when the context ends; from then on it cannot be stopped.
func (s *Store) Excise(ctx context.Context, lower, upper []byte) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if bytes.Compare(lower, upper) >= 0 {
		return fmt.Errorf("excise: lower bound %x is not below upper bound %x", lower, upper)
	}
	span := pebble.KeyRange{Start: bytes.Clone(lower), End: bytes.Clone(upper)}
	return s.await(func() error {
		if err := s.takeTurn(ctx); err != nil {
			return err
		}
		defer s.leaveTurn()
		return s.db.Excise(context.WithoutCancel(ctx), span)
	})
}

// Compact rewrites the tables that hold keys from lower up to but not including upper, and so
// frees the space of deleted keys. It changes nothing that can be read.
//
// When the context ends, running compactions finish in the background.
func (s *Store) Compact(ctx context.Context, lower, upper []byte) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	lower, upper = bytes.Clone(lower), bytes.Clone(upper)
	return s.await(func() error { return s.db.Compact(ctx, lower, upper, false) })
}

// FS returns the store's file system, for reading its files and for writing copies of them
// outside Dir.
func (s *Store) FS() FS { return s.guard }

// ID returns the id of the database, which its copies share.
func (s *Store) ID() uuid.UUID { return s.identity.ID }

// Dir returns the directory of the database on FS.
func (s *Store) Dir() string { return s.dir }

// StoreDir returns the directory of Pebble's files on FS.
func (s *Store) StoreDir() string { return s.guard.PathJoin(s.dir, storeName) }

// checkpoint makes the directory dir, and in it a copy of Pebble's files as they are
// after all commits that have returned. Tables are linked.
//
// Invariant: nothing is excised meanwhile. Pebble copies the set of tables as of the beginning,
// and the log as of the end. An excise changes only the tables. So the copy would still have
// the excised keys, but no longer the row that announced the excise, which is deleted after it.
// In memory there is no log, and Pebble flushes before it copies: there, the copy would have
// the excise, but lack rows that were committed before it. Waiting costs no space: Pebble
// deletes no file while it copies.
func (s *Store) checkpoint(ctx context.Context, dir string) error {
	return s.await(func() error {
		if err := s.takeTurn(ctx); err != nil {
			return err
		}
		defer s.leaveTurn()
		if s.cfg.InMemory {
			if err := s.db.Flush(); err != nil {
				return err
			}
		}
		return s.db.Checkpoint(dir, pebble.WithFlushedWAL())
	})
}

// takeTurn waits until no other excise or checkpoint runs. Call leaveTurn afterwards.
func (s *Store) takeTurn(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Store) leaveTurn() { <-s.turn }

// owns reports whether the directory is the database's or lies in it.
func (s *Store) owns(dir string) bool {
	rest, ok := strings.CutPrefix(dir, s.dir)
	return ok && (rest == "" || os.IsPathSeparator(rest[0]))
}

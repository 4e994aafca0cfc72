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

// Excise removes all keys from lower up to and not including upper, and gives
// their space back as soon as no iterator reads it: tables that hold nothing
// else are dropped as a whole. It takes the keys from snapshots as well. It is
// durable, and seen by all, when it returns nil.
//
// It waits while Pebble's files are copied, as Checkpoint and Backup do at their
// beginning, and for another Excise. The context is looked at until it begins. From then
// on it is not stopped.
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

// Compact rewrites the tables that hold keys from lower up to and not including
// upper without what was deleted in them, and so gives the space of that back.
// Nothing that can be read changes.
//
// When the context ends, what has begun is finished, in the background.
func (s *Store) Compact(ctx context.Context, lower, upper []byte) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	lower, upper = bytes.Clone(lower), bytes.Clone(upper)
	return s.await(func() error { return s.db.Compact(ctx, lower, upper, false) })
}

// FS returns the file system that the store lies on, for reading its files and
// for writing copies of them outside of Dir.
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
// Invariant: nothing is excised meanwhile. An excise changes the set of tables and not
// the log, of which Pebble copies the one as it is at the beginning and the other as it
// is at the end. So a copy would have what was excised, and not the row that said so,
// which is deleted after it; and in memory, where there is no log, and what is in no table
// is flushed before, the copy would not have the rows that were committed before an excise
// that it has. No space is lost by waiting: Pebble deletes no file while it copies.
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

// takeTurn waits until no other excise or checkpoint runs. Call leaveTurn after it.
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

package braid

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/testdisk"
)

// A caller that waits for something other than its own commit gets an error when the store
// fails, and when the database closes.
func TestEveryWaitEndsWithTheDatabase(t *testing.T) {
	waits := map[string]func(ctx context.Context, db *DB, s *Stream) error{
		"for the key provider": func(ctx context.Context, _ *DB, s *Stream) error { return s.StartEncryption(ctx, "a") },
		"for the turn of a transaction": func(ctx context.Context, db *DB, _ *Stream) error {
			return db.Update(ctx, func(tx *Tx) error {
				_, _ = tx.Get([]byte("key"))
				_ = db.Update(ctx, func(tx *Tx) error { return tx.Set([]byte("key"), nil) })
				return tx.Set([]byte("key"), nil)
			})
		},
		"for a record": func(ctx context.Context, _ *DB, s *Stream) error {
			_, err := s.Shards()[0].GetRecords(ctx, Latest(), &GetRecordsOptions{Wait: true, Unmetered: true})
			return err
		},
		"for a record of any shard": func(ctx context.Context, _ *DB, s *Stream) error {
			for _, err := range s.Follow(ctx, Latest()) {
				return err
			}
			return nil
		},
		"for room in a budget": func(ctx context.Context, _ *DB, s *Stream) error {
			_, err := s.PutRecordWait(ctx, "k", make([]byte, 1<<20))
			return err
		},
	}
	ring, err := NewKeyRing(map[string][]byte{"a": make([]byte, 32)})
	require.NoError(t, err)
	run := func(t *testing.T, disk *testdisk.Disk, end func(*DB), class error) {
		db, err := open("/db", &Options{KeyProvider: ring, ReserveBytes: -1}, environment{fs: disk})
		require.NoError(t, err)
		s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Capacity: Capacity{Mode: Provisioned, WriteBytesPerSecond: 1}})
		require.NoError(t, err)
		_, err = s.PutRecord(t.Context(), "k", make([]byte, 1<<20)) // a debt of twelve days
		require.NoError(t, err)
		<-s.keys.turn()
		<-db.turn
		ended := make(chan error)
		for name, wait := range waits {
			go func() {
				err := wait(t.Context(), db, s)
				if errors.Is(err, class) {
					err = nil
				} else {
					err = fmt.Errorf("a wait %s ended with: %w", name, err)
				}
				ended <- err
			}()
		}
		synctest.Wait() // all of them wait
		end(db)
		for range waits {
			require.NoError(t, <-ended)
		}
	}
	t.Run("closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			run(t, testdisk.New(), func(db *DB) { require.NoError(t, db.Close()) }, ErrClosed)
		})
	})
	t.Run("failed", func(t *testing.T) {
		childtest.RunBubble(t, func(t *testing.T) {
			disk := testdisk.New()
			run(t, disk, func(db *DB) {
				disk.FailAlways(testdisk.Op.Changes, syscall.EIO)
				_, err := db.CreateStream(t.Context(), "other", nil)
				require.ErrorIs(t, err, ErrFailed)
			}, ErrFailed)
		})
	})
}

package kv_test

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/kv"
	"github.com/braidstream/braid/internal/testdisk"
)

// requireClosed checks that every method of a closed store returns ErrClosed.
func requireClosed(t *testing.T, s *kv.Store) {
	t.Helper()
	_, err := s.Get([]byte("a"))
	require.ErrorIs(t, err, kv.ErrClosed)
	_, err = s.NewIter(nil, nil)
	require.ErrorIs(t, err, kv.ErrClosed)
	_, err = s.NewSnapshot()
	require.ErrorIs(t, err, kv.ErrClosed)
	b := s.NewBatch()
	b.Set([]byte("a"), []byte("1"))
	require.ErrorIs(t, b.Commit(true), kv.ErrClosed)
	require.ErrorIs(t, b.Commit(false), kv.ErrClosed)
	done, err := b.TryCommit(false)
	require.True(t, done)
	require.ErrorIs(t, err, kv.ErrClosed)
	b.Close()
	require.ErrorIs(t, s.Sync(), kv.ErrClosed)
	require.ErrorIs(t, s.Flush(), kv.ErrClosed)
	require.ErrorIs(t, beginMemTable(s, "a", "1"), kv.ErrClosed)
	require.ErrorIs(t, s.Excise(t.Context(), []byte("a"), []byte("b")), kv.ErrClosed)
	require.ErrorIs(t, s.Backup(t.Context(), t.TempDir(), nil, nil), kv.ErrClosed)
	require.ErrorIs(t, s.Close(), kv.ErrClosed)
	require.Equal(t, kv.Metrics{}, s.Metrics())
}

func TestClosedStoreSaysSo(t *testing.T) {
	for name, cfg := range map[string]kv.Config{"on disk": config(t.TempDir()), "in memory": configInMemory()} {
		t.Run(name, func(t *testing.T) {
			s := open(t, cfg)
			require.NoError(t, s.Close())
			requireClosed(t, s)
			require.NoError(t, s.Err())
		})
	}
}

func TestCloseClosesSnapshots(t *testing.T) {
	s := open(t, configInMemory())
	mustPut(t, s, "a", "1")
	snap, err := s.NewSnapshot()
	require.NoError(t, err)
	closed, err := s.NewSnapshot()
	require.NoError(t, err)
	require.NoError(t, closed.Close(t.Context()))
	require.NoError(t, s.Close())
	_, err = snap.Get([]byte("a"))
	require.ErrorIs(t, err, kv.ErrClosed)
	_, err = snap.NewIter(nil, nil)
	require.ErrorIs(t, err, kv.ErrClosed)
	require.NoError(t, snap.Close(t.Context()))
}

func TestCloseWaitsForIterators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, configInMemory())
		mustPut(t, s, "a", "1")
		iter, err := s.NewIter(nil, nil)
		require.NoError(t, err)
		closed := make(chan error, 1)
		go func() { closed <- s.Close() }()
		<-time.After(24 * time.Hour)
		require.Empty(t, closed)
		require.ErrorIs(t, put(s, "b", "2", true), kv.ErrClosed, "nobody enters meanwhile")
		require.True(t, iter.First())
		require.Equal(t, "1", string(iter.Value()))
		require.NoError(t, iter.Close())
		require.NoError(t, <-closed)
	})
}

// TestCloseDuringUse closes stores while all methods are being called. Every acknowledged row
// must be there afterwards.
func TestCloseDuringUse(t *testing.T) {
	for round := range 12 {
		d := testdisk.New()
		s := open(t, configOn(d))
		var users sync.WaitGroup
		acked := make([]int, 3) // how many commits of each writer were acknowledged
		for w := range acked {
			users.Go(func() {
				for put(s, fmt.Sprintf("w%d-%06d", w, acked[w]), "value", true) == nil {
					acked[w]++
				}
			})
		}
		begun := make(chan struct{})
		for i, use := range usesOfStore(t) {
			users.Go(func() {
				for n := 0; ; n++ {
					if n == round && i == 0 {
						close(begun)
					}
					if err := use(s); errors.Is(err, kv.ErrClosed) {
						return
					} else if err != nil && !errors.Is(err, kv.ErrNotFound) {
						panic(err)
					}
				}
			})
		}
		<-begun
		require.NoError(t, s.Close())
		users.Wait()
		requireClosed(t, s)

		s = open(t, configOn(d))
		for w, n := range acked {
			got := pairs(t, s, fmt.Appendf(nil, "w%d", w), fmt.Appendf(nil, "w%d", w+1))
			require.Len(t, got, n, "all that was acknowledged, and nothing that was refused")
		}
		require.NoError(t, s.Close())
	}
}

// usesOfStore are calls other than plain commits.
func usesOfStore(t *testing.T) []func(*kv.Store) error {
	return []func(*kv.Store) error{
		func(s *kv.Store) error {
			_, err := s.Get([]byte("w0-000000"))
			return err
		},
		func(s *kv.Store) error {
			iter, err := s.NewIter(nil, nil)
			if err != nil {
				return err
			}
			for ok := iter.First(); ok; ok = iter.Next() {
			}
			return errors.Join(iter.Error(), iter.Close())
		},
		func(s *kv.Store) error {
			snap, err := s.NewSnapshot()
			if err != nil {
				return err
			}
			_, err = snap.Get([]byte("w0-000000"))
			if s.Metrics().Snapshots%2 == 0 {
				return errors.Join(err, snap.Close(t.Context()))
			}
			return err // Close of the store must close it
		},
		func(s *kv.Store) error { return errors.Join(beginMemTable(s, "rotated", "1"), s.Flush()) },
		func(s *kv.Store) error {
			return errors.Join(put(s, "x", "1", false), s.Sync(), s.Excise(t.Context(), []byte("x"), []byte("y")))
		},
	}
}

// TestCloseOfFailedStore: a failed store must release the lock of the operating system.
func TestCloseOfFailedStore(t *testing.T) { childtest.Run(t, closeFailed) }

func closeFailed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, config(dir))
	mustPut(t, s, "a", "1")
	kv.Fail(s, fmt.Errorf("the disk: %w", syscall.EIO))
	<-s.Failed()
	for _, err := range []error{s.Err(), put(s, "b", "2", true), s.Sync(), s.Flush(), s.Excise(t.Context(), []byte("a"), []byte("b"))} {
		require.ErrorIs(t, err, kv.ErrFailed)
		require.ErrorIs(t, err, syscall.EIO)
	}
	requireValue(t, s, "a", "1")
	iter, err := s.NewIter(nil, nil) // never closed: Close must not wait for it
	require.NoError(t, err)
	require.True(t, iter.First())
	snap, err := s.NewSnapshot()
	require.NoError(t, err)
	require.NoError(t, snap.Close(t.Context()))

	err = s.Close()
	require.ErrorIs(t, err, kv.ErrFailed)
	require.ErrorIs(t, err, syscall.EIO)
	require.ErrorIs(t, s.Close(), kv.ErrClosed)

	s = open(t, config(dir))
	require.Equal(t, []string{"a=1"}, pairs(t, s, nil, nil))
	require.NoError(t, s.Close())
}

package braid

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/testdisk"
)

// Goroutines that read are used again, few are kept, one that is left behind ends with
// its read, and none outlives the database: else the bubble would not end.
func TestReadersAreKeptAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := Open(InMemory, nil)
		require.NoError(t, err)
		idle := func() int {
			db.readers.mu.Lock()
			defer db.readers.mu.Unlock()
			return len(db.readers.idle)
		}
		read := func(ctx context.Context, hold <-chan struct{}) error {
			_, err := reading(ctx, db, func() (int, error) {
				<-hold
				return 1, nil
			})
			return err
		}
		free := make(chan struct{})
		close(free)
		for range 3 {
			require.NoError(t, read(t.Context(), free))
			require.Equal(t, 1, idle())
		}
		held := make(chan struct{})
		var running sync.WaitGroup
		for range 2 * maxIdleReaders {
			running.Go(func() { _ = read(t.Context(), held) })
		}
		synctest.Wait()
		require.Zero(t, idle())
		close(held)
		running.Wait()
		require.Equal(t, maxIdleReaders, idle())

		cause := errors.New("enough")
		left := make(chan struct{})
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		go func() { result <- read(ctx, left) }()
		synctest.Wait()
		cancel(cause)
		require.ErrorIs(t, <-result, cause)
		require.Equal(t, maxIdleReaders-1, idle(), "the one that was left behind is not used again")
		require.NoError(t, db.Close())
		require.Zero(t, idle())
		require.NoError(t, read(t.Context(), free))
		require.Zero(t, idle(), "none is kept any more")
		close(left)
	})
}

// A follower that has nothing to read learns that the store has failed, as does a page
// that waits, whether it waits already or comes later.
func TestThoseWhoWaitLearnOfAFailure(t *testing.T) {
	childtest.Run(t, func(t *testing.T) { // a store that has failed leaves goroutines behind
		waits := map[string]func(context.Context, *Stream) error{
			"shard": func(ctx context.Context, s *Stream) (err error) {
				for _, err = range s.Shards()[0].Follow(ctx, TrimHorizon()) {
				}
				return err
			},
			"stream": func(ctx context.Context, s *Stream) (err error) {
				for _, err = range s.Follow(ctx, TrimHorizon()) {
				}
				return err
			},
			"page": func(ctx context.Context, s *Stream) error {
				_, err := s.Shards()[0].GetRecords(ctx, Latest(), &GetRecordsOptions{Wait: true})
				return err
			},
		}
		d := testdisk.New()
		db, err := open("/db", &Options{ReserveBytes: -1}, environment{fs: d})
		require.NoError(t, err)
		s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Shards: 1})
		require.NoError(t, err)
		require.NoError(t, putOne(t.Context(), db, s))
		results := make(map[string]chan error)
		for name, wait := range waits {
			result := make(chan error, 1)
			results[name] = result
			go func() { result <- wait(t.Context(), s) }()
		}
		d.FailAlways(testdisk.Op.Changes, syscall.EIO)
		require.Error(t, putOne(t.Context(), db, s))
		for name, wait := range waits {
			require.ErrorIs(t, <-results[name], ErrFailed, name)
			require.ErrorIs(t, wait(t.Context(), s), ErrFailed, name)
		}
		require.ErrorIs(t, db.Close(), ErrFailed)
	})
}

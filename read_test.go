package braid

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/internal/childtest"
	"github.com/braidstream/braid/internal/testdisk"
)

// Reading goroutines are reused, and few are kept. An abandoned one ends with its read, and
// none outlives the database: otherwise the bubble would not end.
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

// A follower and a page that wait for records get the error when the store fails, whether
// they wait already or begin later.
func TestThoseWhoWaitLearnOfAFailure(t *testing.T) {
	childtest.RunBubble(t, func(t *testing.T) { // a failed store leaves goroutines behind
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
		synctest.Wait()
		for name, result := range results {
			require.Empty(t, result, name)
		}
		require.Equal(t, 2, s.Shards()[0].log.Waiting(), "those of the shard wait")
		require.Equal(t, 1, s.latest.Waiting(), "so does that of the stream")
		d.FailAlways(testdisk.Op.Changes, syscall.EIO)
		require.Error(t, putOne(t.Context(), db, s))
		for name, wait := range waits {
			require.ErrorIs(t, <-results[name], ErrFailed, name)
			require.ErrorIs(t, wait(t.Context(), s), ErrFailed, name)
		}
		require.Zero(t, s.Shards()[0].log.Waiting()+s.latest.Waiting())
		require.ErrorIs(t, db.Close(), ErrFailed)
	})
}

// However a loop ends, nothing keeps its waiter.
func TestAFollowerThatEndsLeavesNoWaiter(t *testing.T) {
	type follow = func(context.Context, Position) iter.Seq2[Record, error]
	ends := map[string]func(){
		"break":  nil,
		"panic":  func() { panic("enough") },
		"Goexit": runtime.Goexit,
	}
	for name, end := range ends {
		synctest.Test(t, func(t *testing.T) {
			db, err := Open(InMemory, nil)
			require.NoError(t, err)
			s, err := db.CreateStream(t.Context(), "s", nil)
			require.NoError(t, err)
			sh := s.Shards()[0]
			// The followers end at their second record, although there are more. By then, a
			// shard's waiter is registered again, and a stream's is not.
			var loops sync.WaitGroup
			for _, follow := range []follow{sh.Follow, s.Follow} {
				loops.Add(1)
				go func() {
					defer loops.Done()
					defer func() { _ = recover() }()
					n := 0
					for _, err := range follow(t.Context(), Latest()) {
						if err != nil {
							t.Error(err)
						}
						if n++; n < 2 {
							continue
						}
						if end != nil {
							end()
						}
						break
					}
				}()
			}
			ctx, cancel := context.WithCancel(t.Context())
			for _, follow := range []follow{sh.Follow, s.Follow} { // these end with their context
				loops.Go(func() {
					for range follow(ctx, Latest()) {
					}
				})
			}
			loops.Go(func() {
				_, err := sh.GetRecords(ctx, AtTime(time.Now().Add(time.Hour)), &GetRecordsOptions{Wait: true})
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
			synctest.Wait()
			require.Equal(t, 3, sh.log.Waiting(), name)
			require.Equal(t, 2, s.latest.Waiting(), name)
			for range 2 {
				require.NoError(t, putOne(t.Context(), db, s))
				synctest.Wait()
			}
			cancel()
			loops.Wait()
			require.Zero(t, sh.log.Waiting(), name)
			require.Zero(t, s.latest.Waiting(), name)
			require.NoError(t, db.Close())
		})
	}
}

// An idle reading goroutine keeps nothing of its last read, nor of its caller.
func TestAReaderThatIsKeptHoldsNothing(t *testing.T) {
	db, err := Open(InMemory, nil)
	require.NoError(t, err)
	kept := func() (held weak.Pointer[[1 << 10]byte], caller weak.Pointer[context.Context]) {
		large := new([1 << 10]byte)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		got, err := reading(ctx, db, func() (*[1 << 10]byte, error) { return large, ctx.Err() })
		require.NoError(t, err)
		return weak.Make(got), weak.Make(&ctx)
	}
	held, caller := kept()
	require.Len(t, db.readers.idle, 1)
	runtime.GC()
	require.Nil(t, held.Value())
	require.Nil(t, caller.Value())
	require.NoError(t, db.Close())
}

// A waiting follower keeps no record in memory that the tail has dropped after it was read.
func TestAFollowerThatWaitsKeepsNoRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := Open(InMemory, &Options{TailBytes: 64 << 10})
		require.NoError(t, err)
		s, err := db.CreateStream(t.Context(), "s", nil)
		require.NoError(t, err)
		sh := s.Shards()[0]
		var mu sync.Mutex // guards read
		read := make(map[string][]weak.Pointer[byte])
		ctx, cancel := context.WithCancel(t.Context())
		var loops sync.WaitGroup
		for name, follow := range map[string]func(context.Context, Position) iter.Seq2[Record, error]{"shard": sh.Follow, "stream": s.Follow} {
			loops.Go(func() {
				for rec, err := range follow(ctx, TrimHorizon()) {
					if err == nil {
						mu.Lock()
						read[name] = append(read[name], weak.Make(&rec.Data[0]))
						mu.Unlock()
					}
				}
			})
		}
		put := func(s *Stream, n int) {
			for range n {
				_, err := s.PutRecord(t.Context(), "k", make([]byte, 1<<10))
				require.NoError(t, err)
				synctest.Wait()
			}
		}
		put(s, 5) // the first is read as a page, the others in the tail
		other, err := db.CreateStream(t.Context(), "other", nil)
		require.NoError(t, err)
		put(other, 200) // evicts those from the tail
		runtime.GC()
		for name, records := range read {
			require.Len(t, records, 5)
			for i, record := range records {
				require.Nil(t, record.Value(), "%s, record %d", name, i)
			}
		}
		cancel()
		loops.Wait()
		require.NoError(t, db.Close())
	})
}

package braid

import (
	"context"
	"errors"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A reader that reads in the tail notices when the next record is trimmed or has expired,
// when its stream or database ends, and when its own context ends.
func TestAReaderInTheTailSeesWhatHasHappened(t *testing.T) {
	cause := errors.New("enough")
	events := []struct {
		name string
		do   func(t *testing.T, db *DB, s *Stream, cancel context.CancelCauseFunc) error
		want error
	}{
		{"nothing", func(*testing.T, *DB, *Stream, context.CancelCauseFunc) error { return nil }, nil},
		{"trim", func(t *testing.T, _ *DB, s *Stream, _ context.CancelCauseFunc) error {
			return s.Trim(t.Context(), Latest())
		}, ErrTrimmed},
		{"expiry", func(*testing.T, *DB, *Stream, context.CancelCauseFunc) error {
			time.Sleep(defaultRetention + time.Second)
			return nil
		}, ErrTrimmed},
		{"deletion", func(t *testing.T, db *DB, s *Stream, _ context.CancelCauseFunc) error {
			return db.DeleteStream(t.Context(), s.name)
		}, ErrStreamNotFound},
		{"close", func(_ *testing.T, db *DB, _ *Stream, _ context.CancelCauseFunc) error { return db.Close() }, ErrClosed},
		{"cancel", func(_ *testing.T, _ *DB, _ *Stream, cancel context.CancelCauseFunc) error {
			cancel(cause)
			return nil
		}, cause},
	}
	for _, event := range events {
		for _, ofStream := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				db, err := open(InMemory, nil, environment{byHand: true}) // nobody trims expired records
				require.NoError(t, err)
				s, err := db.CreateStream(t.Context(), "s", nil)
				require.NoError(t, err)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				follow := s.Shards()[0].Follow
				if ofStream {
					follow = s.Follow
				}
				next, stop := iter.Pull2(follow(ctx, TrimHorizon()))
				defer stop()
				for range 2 { // the second one is read in the tail
					require.NoError(t, putOne(t.Context(), db, s))
					_, err, _ := next()
					require.NoError(t, err)
				}
				require.NoError(t, putOne(t.Context(), db, s))
				require.NoError(t, event.do(t, db, s, cancel), event.name)
				_, err, more := next()
				require.True(t, more)
				require.ErrorIs(t, err, event.want, event.name)
				stop()
				if event.want != ErrClosed {
					require.NoError(t, db.Close())
				}
			})
		}
	}
}

// A record that is put to a shard after the loop began is not merged before older ones of
// other shards. A loop that ends at the tip of its beginning does not read it.
func TestTheTailIsReadUpToWhereTheLoopIs(t *testing.T) {
	db, err := Open(InMemory, nil)
	require.NoError(t, err)
	s, err := db.CreateStream(t.Context(), "s", &StreamOptions{Shards: 2})
	require.NoError(t, err)
	put := func(sh *Shard, data string) {
		key := sh.HashKeyRange().Start
		results, err := s.PutRecords(t.Context(), []Entry{{PartitionKey: "k", ExplicitHashKey: &key, Data: []byte(data)}})
		require.NoError(t, err)
		require.Equal(t, sh.ID(), results[0].ShardID)
	}
	a, b := s.Shards()[0], s.Shards()[1]
	put(a, "a0")
	put(b, "b0")
	var got []string
	for rec, err := range s.Records(t.Context(), TrimHorizon()) {
		require.NoError(t, err)
		if got = append(got, string(rec.Data)); len(got) == 1 {
			put(a, "a1")
		}
	}
	require.Equal(t, []string{"a0", "b0"}, got)
	require.NoError(t, db.Close())
}

// A loop that has waited before notices the database's end even if that comes while its body
// works and another record is ready.
func TestTheEndOfTheDatabaseIsNotMissedBetweenRecords(t *testing.T) {
	for _, ofStream := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			db, err := Open(InMemory, nil)
			require.NoError(t, err)
			s, err := db.CreateStream(t.Context(), "s", nil)
			require.NoError(t, err)
			follow := s.Shards()[0].Follow
			if ofStream {
				follow = s.Follow
			}
			in, on, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			go func() {
				n := 0
				for _, err := range follow(t.Context(), TrimHorizon()) {
					if err != nil {
						result <- err
						break
					}
					if n++; n == 2 {
						close(in)
						<-on
					}
				}
				close(result)
			}()
			for range 2 {
				synctest.Wait() // it waits
				require.NoError(t, putOne(t.Context(), db, s))
			}
			<-in
			require.NoError(t, putOne(t.Context(), db, s))
			cause := errors.New("as after a failure")
			db.end(cause)
			synctest.Wait() // its bell has rung
			close(on)
			require.ErrorIs(t, <-result, cause)
			require.NoError(t, db.Close())
		})
	}
}

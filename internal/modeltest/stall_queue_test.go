package modeltest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
	"github.com/braidstream/braid/queue"
)

// stalledQueue is a queue on a disk that stalls: of its 20 records, 4 are in flight, 2 are dead,
// and one of these is in flight.
type stalledQueue struct {
	db       *braid.DB
	q        *queue.Queue
	receipts []queue.Receipt // of the records in flight
	letter   queue.Receipt   // of the dead letter in flight
}

// stalledQueueCalls are all methods of a queue that take a context. Those with changes set change
// the queue.
var stalledQueueCalls = map[string]struct {
	changes bool
	do      func(ctx context.Context, s *stalledQueue) error
}{
	"Create": {false, func(ctx context.Context, s *stalledQueue) error {
		_, err := queue.Create(ctx, s.db, "new", &queue.Options{Stream: "s"})
		return err
	}},
	"Open": {false, func(ctx context.Context, s *stalledQueue) error {
		_, err := queue.Open(ctx, s.db, "new", &queue.Options{Stream: "s"})
		return err
	}},
	"Get":      {false, func(ctx context.Context, s *stalledQueue) error { _, err := queue.Get(ctx, s.db, "q"); return err }},
	"List":     {false, func(ctx context.Context, s *stalledQueue) error { _, err := queue.List(ctx, s.db, ""); return err }},
	"Describe": {false, func(ctx context.Context, s *stalledQueue) error { _, err := s.q.Describe(ctx); return err }},
	"Update": {false, func(ctx context.Context, s *stalledQueue) error {
		return s.q.Update(ctx, func(o *queue.Options) { o.VisibilityTimeout = time.Minute })
	}},
	"Delete":  {true, func(ctx context.Context, s *stalledQueue) error { return s.q.Delete(ctx) }},
	"Receive": {true, func(ctx context.Context, s *stalledQueue) error { _, err := s.q.Receive(ctx, 3, nil); return err }},
	"Follow": {true, func(ctx context.Context, s *stalledQueue) (err error) {
		for _, err = range s.q.Follow(ctx, nil) {
			break
		}
		return err
	}},
	"Work": {true, func(ctx context.Context, s *stalledQueue) error {
		return s.q.Work(ctx, func(context.Context, queue.Record) error { return nil }, &queue.WorkOptions{StopTimeout: -1})
	}},
	"Ack":     {true, func(ctx context.Context, s *stalledQueue) error { return s.q.Ack(ctx, s.receipts...) }},
	"Extend":  {false, func(ctx context.Context, s *stalledQueue) error { return s.q.Extend(ctx, time.Hour, s.receipts...) }},
	"Release": {true, func(ctx context.Context, s *stalledQueue) error { return s.q.Release(ctx, time.Hour, s.receipts...) }},
	"Return":  {true, func(ctx context.Context, s *stalledQueue) error { return s.q.Return(ctx, s.receipts...) }},
	"Reject":  {true, func(ctx context.Context, s *stalledQueue) error { return s.q.Reject(ctx, "", s.receipts...) }},
	"AckTx": {true, func(ctx context.Context, s *stalledQueue) error {
		return s.db.Update(ctx, func(tx *braid.Tx) error { return s.q.AckTx(tx, s.receipts...) })
	}},
	"DeadLetters.Receive": {true, func(ctx context.Context, s *stalledQueue) error {
		_, err := s.q.DeadLetters().Receive(ctx, 1, nil)
		return err
	}},
	"DeadLetters.All": {false, func(ctx context.Context, s *stalledQueue) (err error) {
		for _, err = range s.q.DeadLetters().All(ctx) {
			if err != nil {
				break
			}
		}
		return err
	}},
	"DeadLetters.Discard": {true, func(ctx context.Context, s *stalledQueue) error { return s.q.DeadLetters().Discard(ctx, s.letter) }},
	"DeadLetters.DiscardTx": {true, func(ctx context.Context, s *stalledQueue) error {
		return s.db.Update(ctx, func(tx *braid.Tx) error { return s.q.DeadLetters().DiscardTx(tx, s.letter) })
	}},
	"DeadLetters.Extend": {false, func(ctx context.Context, s *stalledQueue) error {
		return s.q.DeadLetters().Extend(ctx, time.Hour, s.letter)
	}},
	"DeadLetters.Restore": {true, func(ctx context.Context, s *stalledQueue) error { return s.q.DeadLetters().Restore(ctx, s.letter) }},
	"DeadLetters.RestoreAll": {true, func(ctx context.Context, s *stalledQueue) error {
		_, err := s.q.DeadLetters().RestoreAll(ctx)
		return err
	}},
}

// newStalledQueue creates the queue, and reopens it. Unless loaded is set, nothing of it is in
// memory.
func newStalledQueue(t *testing.T, d *testdisk.Disk, loaded bool) *stalledQueue {
	t.Helper()
	opts := &braid.Options{MemtableBytes: 1 << 20, TailBytes: -1, CacheBytes: -1, ReserveBytes: -1}
	db, err := openOn(d, opts)
	require.NoError(t, err)
	stream, err := db.CreateStream(t.Context(), "s", &braid.StreamOptions{Shards: 2})
	require.NoError(t, err)
	for i := range 20 {
		_, err := stream.PutRecord(t.Context(), fmt.Sprint(i), []byte("data"))
		require.NoError(t, err)
	}
	q, err := queue.Open(t.Context(), db, "q", &queue.Options{Stream: "s", VisibilityTimeout: time.Hour})
	require.NoError(t, err)
	s := new(stalledQueue)
	records, err := q.Receive(t.Context(), 6, nil)
	require.NoError(t, err)
	require.NoError(t, q.Reject(t.Context(), "", records[0].Receipt, records[1].Receipt))
	for _, r := range records[2:] {
		s.receipts = append(s.receipts, r.Receipt)
	}
	records, err = q.DeadLetters().Receive(t.Context(), 1, nil)
	require.NoError(t, err)
	s.letter = records[0].Receipt
	require.NoError(t, db.Close())

	s.db, err = open("/db", opts, companion.Environment{FS: d})
	require.NoError(t, err)
	s.q, err = queue.Get(t.Context(), s.db, "q")
	require.NoError(t, err)
	if loaded {
		s.counts(t, s.q)
	}
	return s
}

// counts returns the queue's counts.
func (s *stalledQueue) counts(t *testing.T, q *queue.Queue) []int64 {
	d, err := q.Describe(t.Context())
	require.NoError(t, err)
	return []int64{d.Visible, d.InFlight, d.Delayed, d.Held, d.Dead, d.DeadInFlight}
}

// Every call of a queue ends with its context while the disk holds every operation. One that was
// refused has changed nothing; one that succeeded has.
func TestEveryCallOfAQueueEndsWithItsContextOnAStalledDisk(t *testing.T) {
	before := []int64{14, 4, 0, 0, 2, 1}
	for name, call := range stalledQueueCalls {
		for i := range 4 {
			behind, loaded := i%2 == 1, i/2 == 1
			t.Run(fmt.Sprintf("%s, behind a put %v, loaded %v", name, behind, loaded), func(t *testing.T) {
				d := testdisk.On(vfs.NewMem())
				s := newStalledQueue(t, d, loaded)
				stream := s.q.Stream()
				release := d.Hold(everything)
				put := make(chan error, 1)
				want := before
				if behind {
					go func() { _, err := stream.PutRecord(t.Context(), "k", []byte("held")); put <- err }()
					<-d.Held()
					want = []int64{15, 4, 0, 0, 2, 1}
				}
				err := endWhileWaiting(t, d, func(ctx context.Context) error { return call.do(ctx, s) })
				if err != nil {
					require.ErrorIs(t, err, context.Canceled)
				}
				require.Equal(t, "s", s.q.Options().Stream) // a method without a context never waits
				release()
				if behind {
					require.NoError(t, <-put)
				}
				require.NoError(t, s.db.Close())

				db, openErr := openOn(d, &braid.Options{ReserveBytes: -1})
				require.NoError(t, openErr)
				q, getErr := queue.Get(t.Context(), db, "q")
				switch {
				case name == "Delete" && err == nil:
					require.ErrorIs(t, getErr, queue.ErrQueueNotFound)
				case err == nil && call.changes && name != "Work":
					require.NotEqual(t, want, s.counts(t, q))
				case !errors.Is(err, braid.ErrOutcomeUnknown) && name != "Work":
					require.NoError(t, getErr)
					require.Equal(t, want, s.counts(t, q))
				}
				require.NoError(t, db.Close())
			})
		}
	}
}

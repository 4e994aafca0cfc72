package queue_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/internal/companion"
	"github.com/braidstream/braid/internal/testdisk"
	"github.com/braidstream/braid/queue"
)

// A call on a queue is committed while the database is being closed, when records can no
// longer be read. That does not count as expiry, and none leaves the queue.
func TestACommitWhileTheDatabaseCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := testdisk.New()
		open := func() *braid.DB {
			db, err := companion.Open("/db", &braid.Options{ReserveBytes: -1}, companion.Environment{FS: vfs.FS(disk)})
			require.NoError(t, err)
			return db.(*braid.DB)
		}
		db := open()
		s, err := db.CreateStream(ctx, "s", &braid.StreamOptions{Retention: -1})
		require.NoError(t, err)
		k := &kit{t, db, s}
		q := k.open("q", queue.Options{VisibilityTimeout: time.Hour})
		k.put(5)
		records := k.receive(q, 3)

		release := disk.Hold(func(op testdisk.Op) bool { return op.OnLog() && op.Syncs() })
		put, extended, closed := make(chan error, 1), make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := s.PutRecord(ctx, "k", nil)
			put <- err
		}()
		<-disk.Held()
		go func() { extended <- q.Extend(ctx, 2*time.Hour, records[0].Receipt) }()
		synctest.Wait() // it waits for its turn
		go func() { closed <- db.Close() }()
		synctest.Wait()
		release()
		require.NoError(t, <-closed)
		require.NoError(t, <-put)
		require.NoError(t, <-extended)

		db = open()
		q, err = queue.Get(ctx, db, "q")
		require.NoError(t, err)
		d, err := q.Describe(ctx)
		require.NoError(t, err)
		require.Equal(t, []int64{3, 3, 0}, []int64{d.Visible, d.InFlight, d.ExpiredReceived})
		require.NoError(t, db.Close())
	})
}

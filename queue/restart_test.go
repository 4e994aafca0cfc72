package queue_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/braidtest"
	"github.com/braidstream/braid/queue"
)

// reopened opens a database and its queue again.
func reopened(t *testing.T, disk *braidtest.Disk) (*kit, *queue.Queue) {
	t.Helper()
	db, err := disk.Open(nil)
	require.NoError(t, err)
	s, err := db.Stream("s")
	require.NoError(t, err)
	q, err := queue.Get(ctx, db, "q")
	require.NoError(t, err)
	return &kit{t, db, s}, q
}

// onDisk creates a database with a stream.
func onDisk(t *testing.T) (*kit, *braidtest.Disk) {
	t.Helper()
	disk := braidtest.NewDisk()
	db, err := disk.Open(nil)
	require.NoError(t, err)
	s, err := db.CreateStream(ctx, "s", &braid.StreamOptions{Shards: 2})
	require.NoError(t, err)
	return &kit{t, db, s}, disk
}

// A record whose attempt has failed waits for its backoff, whether or not the database is
// opened again in the meantime.
func TestTheBackoffOfAWorkerOutlastsTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk := onDisk(t)
		q := k.open("q", queue.Options{})
		k.put(1)
		stop := k.work(q, func(context.Context, queue.Record) error { return errors.New("not now") },
			&queue.WorkOptions{Backoff: func(int) time.Duration { return time.Hour }})
		time.Sleep(second)
		require.NoError(t, stop())
		require.EqualValues(t, 1, k.describe(q).Delayed)
		require.NoError(t, k.db.Close())

		k, q = reopened(t, disk)
		require.EqualValues(t, 1, k.describe(q).Delayed)
		require.Empty(t, k.receive(q, 1))
		time.Sleep(time.Hour)
		require.Len(t, k.receive(q, 1), 1)
		require.NoError(t, k.db.Close())
	})
}

// A record that may have ended the process stays alone in its last attempt even when that
// is extended.
func TestALastAttemptStaysAloneWhenItIsExtended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk := onDisk(t)
		q := k.open("q", queue.Options{MaxReceives: 2})
		k.put(1)
		k.receive(q, 1)
		image := disk.PowerCut()
		require.NoError(t, k.db.Close())

		k, q = reopened(t, image)
		time.Sleep(time.Minute)
		k.put(1)
		last := k.receive(q, 10)
		require.Len(t, last, 1)
		require.Equal(t, 2, last[0].Receives)
		require.NoError(t, q.Extend(ctx, time.Minute, last[0].Receipt))
		require.Empty(t, k.receive(q, 10))
		require.NoError(t, q.Ack(ctx, last[0].Receipt))
		require.Len(t, k.receive(q, 10), 1)
		require.NoError(t, k.db.Close())
	})
}

// Deliveries that have lapsed, and records that have died, before the database was opened
// are not counted again.
func TestWhatHasDiedIsNotCountedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk := onDisk(t)
		q := k.open("q", queue.Options{MaxReceives: 1})
		k.put(3)
		k.receive(q, 3)
		time.Sleep(time.Minute)
		d := k.describe(q)
		require.EqualValues(t, 3, d.Died)
		require.NoError(t, k.db.Close())
		k, q = reopened(t, disk)
		d = k.describe(q)
		require.EqualValues(t, 3, d.Dead)
		require.Zero(t, d.Died+d.Lapsed)
		require.NoError(t, k.db.Close())
	})
}

package queue_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/braidtest"
	"github.com/braidstream/braid/queue"
)

// A queue's rows for a shard are removed with the shard, except for the highest counter,
// by which the queue recognizes receipts that it has issued. Its counts of expired
// records stay.
func TestCursorsOfShardsThatAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := braidtest.NewDisk()
		open := func(disk *braidtest.Disk) (*kit, *queue.Queue) {
			db, err := disk.Open(nil)
			require.NoError(t, err)
			s, err := db.Stream("s")
			require.NoError(t, err)
			q, err := queue.Get(ctx, db, "q")
			require.NoError(t, err)
			return &kit{t, db, s}, q
		}
		db, err := disk.Open(nil)
		require.NoError(t, err)
		s, err := db.CreateStream(ctx, "s", &braid.StreamOptions{Shards: 2})
		require.NoError(t, err)
		k := &kit{t, db, s}
		q := k.open("q", queue.Options{VisibilityTimeout: 12 * time.Hour})
		k.put(20)
		records := k.receive(q, 15)
		last := records[14].Receipt
		require.NoError(t, q.Ack(ctx, receipts(records[:14])...))
		rows, memory := queue.Cursors(q)
		require.Equal(t, []int{2, 2}, []int{rows, memory})

		require.NoError(t, s.UpdateShardCount(ctx, 3))
		time.Sleep(48 * time.Hour)
		require.Len(t, s.Shards(), 3)
		known := func(q *queue.Queue) {
			require.NoError(t, q.Ack(ctx, last))
			require.ErrorIs(t, q.Extend(ctx, time.Second, last), queue.ErrRecordSettled)
			d, err := q.Describe(ctx)
			require.NoError(t, err)
			require.Equal(t, []int64{5, 1, 0}, []int64{d.ExpiredUnreceived, d.ExpiredReceived, d.ExpiredDead})
			require.Zero(t, d.Visible+d.InFlight)
		}
		known(q)
		rows, memory = queue.Cursors(q)
		require.Equal(t, []int{1, 0}, []int{rows, memory}, "the one with the highest counter stays")

		crashed, after := open(disk.PowerCut())
		known(after)
		rows, memory = queue.Cursors(after)
		require.Equal(t, []int{1, 0}, []int{rows, memory})
		require.NoError(t, crashed.db.Close())
		require.NoError(t, k.db.Close())
		k, q = open(disk)
		known(q)

		// Another cursor has a higher counter, so the last one is removed, too.
		k.put(1)
		require.NoError(t, q.Ack(ctx, k.receive(q, 1)[0].Receipt))
		rows, memory = queue.Cursors(q)
		require.Equal(t, []int{1, 1}, []int{rows, memory})
		known(q)
		require.NoError(t, k.db.Close())
		k, q = open(disk)
		known(q)
		require.NoError(t, q.Delete(ctx))
		rows, memory = queue.Cursors(q)
		require.Equal(t, []int{0, 0}, []int{rows, memory})
		require.NoError(t, k.db.Close())
	})
}

// However often a stream is resharded, the rows of a queue for shards do not accumulate.
func TestCursorsDoNotGrowWithReshards(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		for i := range 30 {
			require.NoError(t, k.stream.UpdateShardCount(ctx, 1+i%4))
			for j := range 8 {
				_, err := k.stream.PutRecord(ctx, fmt.Sprint(i, j), nil)
				require.NoError(t, err)
			}
			require.NoError(t, q.Ack(ctx, receipts(k.receive(q, 10))...))
			time.Sleep(13 * time.Hour)
			rows, memory := queue.Cursors(q)
			require.LessOrEqual(t, rows, 20)
			require.LessOrEqual(t, memory, 20)
		}
		require.NoError(t, k.stream.Trim(ctx, braid.Latest()))
		time.Sleep(48 * time.Hour)
		k.put(1)
		require.NoError(t, q.Ack(ctx, receipts(k.receive(q, 10))...))
		rows, memory := queue.Cursors(q)
		require.Len(t, k.stream.Shards(), 2)
		require.Equal(t, []int{2, 2}, []int{rows, memory})
	})
}

package queue_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

func TestReceiveHandsOutEachRecordOnce(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		k.put(25)
		seen := make(map[string]bool)
		for _, want := range []int{10, 10, 5} {
			records := k.receive(q, 10)
			require.Len(t, records, want)
			for _, r := range records {
				require.False(t, seen[r.ID])
				seen[r.ID] = true
				require.Equal(t, 1, r.Receives)
				require.Equal(t, time.Now(), r.FirstReceived)
			}
		}
		start := time.Now()
		records, err := q.Receive(ctx, 10, &queue.ReceiveOptions{Wait: 9 * second})
		require.NoError(t, err)
		require.Empty(t, records)
		require.Equal(t, 9*second, time.Since(start))
		d := k.describe(q)
		require.EqualValues(t, 25, d.InFlight)
		require.EqualValues(t, 25, d.Received)
		require.EqualValues(t, 1, d.EmptyReceives)
		require.Zero(t, d.Visible)
	})
}

func TestLapseAndAck(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{VisibilityTimeout: 2 * second})
		k.put(1)
		first := k.receive(q, 1)
		time.Sleep(2*second - time.Millisecond)
		require.Empty(t, k.receive(q, 1))
		time.Sleep(time.Millisecond)
		second := k.receive(q, 1)
		require.Equal(t, 2, second[0].Receives)
		require.Equal(t, first[0].ID, second[0].ID)
		require.Equal(t, first[0].FirstReceived, second[0].FirstReceived)
		require.ErrorIs(t, q.Ack(ctx, first[0].Receipt), queue.ErrReceiptExpired)
		require.NoError(t, q.Ack(ctx, second[0].Receipt))
		require.NoError(t, q.Ack(ctx, second[0].Receipt))
		require.EqualValues(t, 1, k.describe(q).Acknowledged)
		time.Sleep(time.Hour)
		require.Empty(t, k.receive(q, 1))
	})
}

func TestAPutWakesOneReceiver(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		got := make(chan int, 2)
		for range 2 {
			go func() {
				records, err := q.Receive(ctx, 10, &queue.ReceiveOptions{Wait: 20 * second})
				require.NoError(t, err)
				got <- len(records)
			}()
		}
		time.Sleep(second)
		k.put(1)
		require.Equal(t, 1, <-got)
		start := time.Now()
		require.Equal(t, 0, <-got)
		require.Equal(t, 19*second, time.Since(start))
	})
}

// An exchange acknowledges and receives in one commit. What was refused keeps nothing else from
// being done.
func TestExchange(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: 1})
		k.put(6)
		got := k.receive(q, 2)
		before := k.db.Metrics().Commits
		next, err := q.Exchange(ctx, 2, noWait, receipts(got)...)
		require.NoError(t, err)
		require.Equal(t, before+1, k.db.Metrics().Commits)
		require.Equal(t, []string{"2", "3"}, texts(next))
		d := k.describe(q)
		require.Equal(t, []int64{2, 2, 2}, []int64{d.Visible, d.InFlight, d.Acknowledged})

		require.NoError(t, q.Reject(ctx, "", next[0].Receipt))
		letters, err := q.DeadLetters().Receive(ctx, 1, noWait)
		require.NoError(t, err)
		last, err := q.Exchange(ctx, 9, noWait, letters[0].Receipt, next[1].Receipt, next[0].Receipt)
		requireFailed(t, err, map[int]error{0: queue.ErrReceiptInvalid, 2: queue.ErrReceiptExpired})
		require.Equal(t, []string{"4", "5"}, texts(last))
		require.EqualValues(t, 3, k.describe(q).Acknowledged)

		// It acknowledges before it waits, even if the wait fails.
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		none, err := q.Exchange(short, 1, nil, last[0].Receipt)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Empty(t, none)
		require.EqualValues(t, 4, k.describe(q).Acknowledged)
		none, err = q.Exchange(ctx, 1, &queue.ReceiveOptions{Wait: time.Minute}, last[1].Receipt)
		require.NoError(t, err)
		require.Empty(t, none)
		require.EqualValues(t, 5, k.describe(q).Acknowledged)

		k.put(1)
		first, err := q.Exchange(ctx, 1, nil) // without receipts it is a receive
		require.NoError(t, err)
		require.Equal(t, []string{"0"}, texts(first))
	})
}

// An exchange on a full disk changes nothing.
func TestExchangeOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk := onTestDisk(t)
		free := func(n uint64) { disk.Mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: n, TotalBytes: 1 << 40}) }
		free(1 << 30)
		q := k.open("q", queue.Options{})
		k.put(2)
		r := k.receive(q, 1)
		require.NoError(t, k.db.Close())
		free(1 << 20)
		k.db = openOn(t, vfs.FS(disk), &braid.Options{ReserveBytes: 8 << 20})
		q, err := queue.Get(ctx, k.db, "q")
		require.NoError(t, err)
		_, err = q.Exchange(ctx, 1, noWait, r[0].Receipt)
		require.ErrorIs(t, err, braid.ErrDiskFull)
		d := k.describe(q)
		require.Equal(t, []int64{1, 1}, []int64{d.Visible, d.InFlight})
		require.NoError(t, q.Ack(ctx, r[0].Receipt))
		require.NoError(t, k.db.Close())
	})
}

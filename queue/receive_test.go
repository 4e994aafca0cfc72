package queue_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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

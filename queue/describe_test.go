package queue_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// All counts of a description belong to one moment. While many goroutines put, receive
// and settle, each record that was put is in exactly one count, and of a transaction that
// puts to all shards, all records are counted or none.
func TestDescribeIsOfOneMoment(t *testing.T) {
	bubble(t, func(k *kit) {
		const puts, each = 300, 16
		require.NoError(t, k.stream.UpdateShardCount(ctx, 32))
		q := k.open("q", queue.Options{MaxReceives: 2})
		work, stop := context.WithCancel(ctx)
		var workers, putters sync.WaitGroup
		for seed := range uint64(4) {
			workers.Go(func() {
				random := rand.New(rand.NewPCG(seed, 1))
				for work.Err() == nil {
					records, err := q.Receive(work, 1+random.IntN(9), nil)
					if work.Err() != nil {
						return
					}
					require.NoError(t, err)
					done := receipts(records)
					n := random.IntN(len(done) + 1)
					require.NoError(t, q.Ack(ctx, done[:n]...))
					require.NoError(t, q.Release(ctx, 0, done[n:]...))
				}
			})
		}
		for p := range 2 {
			putters.Go(func() {
				for i := range puts {
					require.NoError(t, k.db.Update(ctx, func(tx *braid.Tx) error {
						for j := range each {
							if err := tx.PutRecord("s", fmt.Sprint(p, i, j), []byte("x")); err != nil {
								return err
							}
						}
						return nil
					}))
				}
			})
		}
		ended := make(chan struct{})
		var last int64
		looks := 0
		go func() { putters.Wait(); close(ended) }()
		for over := false; !over; looks++ {
			select {
			case <-ended:
				over = true
			default:
			}
			d := k.describe(q)
			all := d.Visible + d.InFlight + d.Delayed + d.Held + d.Dead + d.Acknowledged
			require.GreaterOrEqual(t, all, last, "%+v", d)
			require.Zero(t, all%each, "%+v", d)
			require.Zero(t, d.ExpiredUnreceived+d.ExpiredReceived+d.ExpiredDead, "%+v", d)
			if last = all; over {
				require.EqualValues(t, 2*puts*each, all)
			}
		}
		require.Greater(t, looks, 10)
		stop()
		workers.Wait()
	})
}

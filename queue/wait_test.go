package queue_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/queue"
)

// A receiver whose context ends in the moment in which it is woken leaves what it was woken
// for to the next one.
func TestAReceiverThatGivesUpWhenItIsWokenWakesTheNext(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: -1})
		k.put(1)
		r := k.receive(q, 1)[0]
		for range 200 {
			require.NoError(t, q.Release(ctx, second, r.Receipt))
			short, cancel := context.WithTimeout(ctx, second)
			got := make(chan []queue.Record, 2)
			for _, ctx := range []context.Context{short, ctx} {
				go func() {
					records, _ := q.Receive(ctx, 1, &queue.ReceiveOptions{VisibilityTimeout: time.Hour})
					got <- records
				}()
				synctest.Wait() // they stand in line in this order
			}
			time.Sleep(second)
			synctest.Wait()
			cancel()
			first := <-got
			if len(first) == 0 {
				select {
				case first = <-got:
				case <-time.After(time.Minute):
					t.Fatal("a receiver waits while a record is visible")
				}
			} else {
				require.NoError(t, q.Release(ctx, 0, first[0].Receipt))
				first = <-got
				if len(first) == 0 { // it was the one whose context has ended
					first = k.receive(q, 1)
				}
			}
			r = first[0]
		}
	})
}

package queue_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
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

// What is trimmed, or expires, makes room for others, and holds back none of its key any
// more: those who wait for them hear of it.
func TestATrimWakesThoseWhoWait(t *testing.T) {
	for name, o := range map[string]queue.Options{
		"in flight": {MaxInFlight: 1, VisibilityTimeout: 12 * time.Hour},
		"dead":      {OrderByKey: true, BlockAtDead: true},
	} {
		for how, trim := range map[string]func(k *kit, next braid.SequenceNumber) error{
			"trim": func(k *kit, next braid.SequenceNumber) error { return k.stream.Trim(ctx, braid.AtSequence(next)) },
			"expiry": func(k *kit, _ braid.SequenceNumber) error {
				return k.stream.DecreaseRetention(ctx, 24*time.Hour)
			},
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				bubble(t, func(k *kit) {
					require.NoError(t, k.stream.IncreaseRetention(ctx, 200*time.Hour))
					k.putKeys("A1")
					time.Sleep(30 * time.Hour)
					put, err := k.stream.PutRecord(ctx, "A", []byte("A2"))
					require.NoError(t, err)
					q := k.open("q", o)
					first := k.receive(q, 1)
					if o.BlockAtDead {
						require.NoError(t, q.Reject(ctx, "", receipts(first)...))
					}
					got := make(chan []string, 1)
					start := time.Now()
					go func() {
						records, err := q.Receive(ctx, 1, &queue.ReceiveOptions{Wait: 11 * time.Hour})
						require.NoError(t, err)
						got <- texts(records)
					}()
					synctest.Wait()
					require.NoError(t, trim(k, put.SequenceNumber))
					require.Equal(t, []string{"A2"}, <-got)
					require.LessOrEqual(t, time.Since(start), 2*time.Minute)
				})
			})
		}
	}
}

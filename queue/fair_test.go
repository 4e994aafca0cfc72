package queue_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/queue"
)

// Waiting receivers get records in the order in which they came, whatever makes a record
// visible: its timeout, an acknowledgement that makes room, a release, a put. A receiver
// that comes at that moment does not overtake them.
func TestReceiversAreServedInTheirOrder(t *testing.T) {
	for name, c := range map[string]struct {
		options queue.Options
		again   func(k *kit, q *queue.Queue, r queue.Record) // makes a record visible at the next second
	}{
		"timeout": {queue.Options{}, func(*kit, *queue.Queue, queue.Record) { time.Sleep(second) }},
		"release": {queue.Options{}, func(k *kit, q *queue.Queue, r queue.Record) {
			time.Sleep(second)
			require.NoError(k, q.Release(ctx, 0, r.Receipt))
		}},
		"extend": {queue.Options{}, func(k *kit, q *queue.Queue, r queue.Record) {
			time.Sleep(second)
			require.NoError(k, q.Extend(ctx, 0, r.Receipt))
		}},
		"room": {queue.Options{MaxInFlight: 1}, func(k *kit, q *queue.Queue, r queue.Record) {
			time.Sleep(second)
			require.NoError(k, q.Ack(ctx, r.Receipt))
		}},
		"put": {queue.Options{}, func(k *kit, q *queue.Queue, r queue.Record) {
			require.NoError(k, q.Ack(ctx, r.Receipt))
			time.Sleep(second)
			k.put(1)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(k *kit) {
				c.options.MaxReceives = -1
				q := k.open("q", c.options)
				const rounds, waiting = 50, 5
				k.put(1)
				if c.options.MaxInFlight == 1 {
					k.put(rounds)
				}
				timeout := &queue.ReceiveOptions{VisibilityTimeout: time.Hour}
				if name == "timeout" {
					timeout.VisibilityTimeout = second
				}
				first, err := q.Receive(ctx, 1, timeout)
				require.NoError(t, err)
				held := first[0]
				wait, stop := context.WithCancel(ctx)
				defer stop()
				type got struct {
					who    int
					record queue.Record
				}
				served := make(chan got, 2*rounds)
				var receivers sync.WaitGroup
				come := func(who int) {
					receivers.Go(func() {
						records, err := q.Receive(wait, 1, timeout)
						if err == nil {
							served <- got{who, records[0]}
						}
					})
					synctest.Wait()
				}
				for who := range waiting {
					come(who)
				}
				for round := range rounds {
					var newcomer sync.WaitGroup
					newcomer.Go(func() {
						time.Sleep(second)
						records, err := q.Receive(ctx, 1, noWait)
						if err != nil || len(records) > 0 {
							t.Errorf("round %d: a newcomer got %q, %v", round, texts(records), err)
						}
					})
					c.again(k, q, held)
					g := <-served
					newcomer.Wait()
					require.Equal(t, round, g.who)
					held = g.record
					come(round + waiting)
				}
				stop()
				receivers.Wait()
			})
		})
	}
}

// If a called receiver leaves, the next one is called.
func TestAReceiverThatGoesWhenItIsCalled(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: -1})
		k.put(1)
		for range 50 {
			records, err := q.Receive(ctx, 1, &queue.ReceiveOptions{VisibilityTimeout: second})
			require.NoError(t, err)
			require.Len(t, records, 1)
			limited, stop := context.WithTimeout(ctx, second) // at that very moment
			var first, other []queue.Record
			var receivers sync.WaitGroup
			receivers.Go(func() { first, _ = q.Receive(limited, 1, nil) })
			synctest.Wait()
			receivers.Go(func() { other, _ = q.Receive(ctx, 1, &queue.ReceiveOptions{Wait: 2 * second}) })
			receivers.Wait()
			stop()
			require.Len(t, append(first, other...), 1)
			require.NoError(t, q.Return(ctx, append(first, other...)[0].Receipt))
			synctest.Wait()
		}
	})
}

// A commit delivers a limited number of records, over all queues together, since a put
// waits for it. The remaining receivers are served by later commits.
func TestOneCommitServesOnlySoManyReceivers(t *testing.T) {
	bubble(t, func(k *kit) {
		const queues, most = 1500, 1000
		all := make([]*queue.Queue, queues)
		var receivers sync.WaitGroup
		for i := range all {
			all[i] = k.open(fmt.Sprint("q", i), queue.Options{})
			receivers.Go(func() {
				if records, err := all[i].Receive(ctx, 1, nil); err != nil || len(records) != 1 {
					t.Errorf("queue %d: %d records, %v", i, len(records), err)
				}
			})
		}
		synctest.Wait()
		given := 0
		k.putAnd("one for all", func() {
			for _, q := range all {
				given += queue.Unseen(q)
			}
		})
		require.Equal(t, most, given)
		receivers.Wait()
	})
}

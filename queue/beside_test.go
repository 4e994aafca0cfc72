package queue_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// How long a put and a receive are held up at most while the queue does something with a million
// records: when their timeouts pass at once, and in each call that concerns all of them.
func BenchmarkBesideAMillion(b *testing.B) {
	const n, hidden = 1_000_000, 15 * time.Second
	all := func(q *queue.Queue) (letters int) {
		for _, err := range q.DeadLetters().All(ctx) {
			require.NoError(b, err)
			if letters++; letters == 20_000 { // by then it has found the rest
				break
			}
		}
		return letters
	}
	for _, one := range []struct {
		name    string
		receive int // the limit
		do      func(q *queue.Queue)
	}{
		{"lapse", -1, func(q *queue.Queue) { time.Sleep(2 * time.Second) }},
		{"die", 1, func(q *queue.Queue) {
			d, err := q.Describe(ctx)
			require.NoError(b, err)
			require.EqualValues(b, n, d.Dead)
		}},
		{"letters", 1, func(q *queue.Queue) { require.Equal(b, 20_000, all(q)) }},
		{"restore", 1, func(q *queue.Queue) {
			restored, err := q.DeadLetters().RestoreAll(ctx)
			require.NoError(b, err)
			require.Equal(b, n, restored)
		}},
		{"lower", -1, func(q *queue.Queue) {
			require.NoError(b, q.Update(ctx, func(o *queue.Options) { o.MaxReceives = 1 }))
			d, err := q.Describe(ctx)
			require.NoError(b, err)
			require.EqualValues(b, n, d.Dead)
		}},
		{"raise", 1, func(q *queue.Queue) {
			require.NoError(b, q.Update(ctx, func(o *queue.Options) { o.MaxReceives = 2 }))
		}},
		{"trim", 1, func(q *queue.Queue) {
			require.NoError(b, q.Stream().Trim(ctx, braid.Latest()))
			d, err := q.Describe(ctx)
			require.NoError(b, err)
			require.EqualValues(b, n, d.ExpiredDead)
		}},
	} {
		b.Run(one.name, func(b *testing.B) {
			var put, receive time.Duration
			for range b.N {
				q, beside := millionInFlight(b, n, hidden, one.receive)
				var stop sync.WaitGroup
				over := make(chan struct{})
				longest := func(of *time.Duration, fn func() error) {
					stop.Go(func() {
						for {
							select {
							case <-over:
								return
							default:
							}
							begun := time.Now()
							if err := fn(); err != nil {
								b.Error(err)
								return
							}
							*of = max(*of, time.Since(begun))
						}
					})
				}
				longest(&put, func() error {
					_, err := beside.PutRecord(ctx, "k", nil)
					return err
				})
				var receives [2]time.Duration // the commit of one waits for what the other does
				for i := range receives {
					longest(&receives[i], func() error {
						_, err := q.Receive(ctx, 1, noWait)
						return err
					})
				}
				one.do(q)
				close(over)
				stop.Wait()
				receive = max(receive, receives[0], receives[1])
			}
			b.ReportMetric(float64(put.Microseconds())/1000, "put-ms")
			b.ReportMetric(float64(receive.Microseconds())/1000, "receive-ms")
		})
	}
}

// millionInFlight returns a queue whose n records have all been received, and whose timeouts have
// passed at the same moment, just now, and another stream of its database.
func millionInFlight(b *testing.B, n int, hidden time.Duration, most int) (*queue.Queue, *braid.Stream) {
	db, err := braid.Open(braid.InMemory, &braid.Options{MemtableBytes: 256 << 20})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	s, err := db.CreateStream(ctx, "s", &braid.StreamOptions{Shards: 4})
	require.NoError(b, err)
	beside, err := db.CreateStream(ctx, "beside", nil)
	require.NoError(b, err)
	entries := make([]braid.Entry, 500)
	for i := 0; i < n; i += len(entries) {
		for j := range entries {
			entries[j].PartitionKey = fmt.Sprint(i + j)
		}
		_, err := s.PutRecords(ctx, entries)
		require.NoError(b, err)
	}
	q, err := queue.Open(ctx, db, "q", &queue.Options{Stream: "s", MaxInFlight: n, MaxReceives: most, VisibilityTimeout: hidden})
	require.NoError(b, err)
	for received := 0; received < n; {
		records, err := q.Receive(ctx, 10_000, noWait)
		require.NoError(b, err)
		received += len(records)
	}
	time.Sleep(hidden)
	return q, beside
}

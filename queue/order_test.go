package queue_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/queue"
)

func (k *kit) putKeys(keys ...string) {
	k.Helper()
	for _, key := range keys {
		_, err := k.stream.PutRecord(ctx, key[:1], []byte(key))
		require.NoError(k, err)
	}
}

func TestRecordsOfAKeyFollowEachOther(t *testing.T) {
	for _, block := range []bool{false, true} {
		t.Run(fmt.Sprint("block=", block), func(t *testing.T) {
			bubble(t, func(k *kit) {
				q := k.open("q", queue.Options{OrderByKey: true, BlockAtDead: block, MaxReceives: 2})
				k.putKeys("A1", "A2", "B1")
				require.Equal(t, []string{"A1"}, texts(k.receive(q, 1)))
				require.Equal(t, []string{"B1"}, texts(k.receive(q, 10)))
				require.EqualValues(t, 1, k.describe(q).Held)
				require.NoError(t, k.stream.UpdateShardCount(ctx, 5))
				k.putKeys("A3")
				require.Empty(t, k.receive(q, 10))
				time.Sleep(q30)
				a1 := k.receive(q, 1)
				require.Equal(t, []string{"A1"}, texts(a1))
				require.Equal(t, 2, a1[0].Receives)
				require.Equal(t, []string{"B1"}, texts(k.receive(q, 10)))
				time.Sleep(q30) // both are dead
				require.EqualValues(t, 2, k.describe(q).Dead)
				if !block {
					a2 := k.receive(q, 10)
					require.Equal(t, []string{"A2"}, texts(a2))
					require.NoError(t, q.Ack(ctx, a2[0].Receipt))
					require.Equal(t, []string{"A3"}, texts(k.receive(q, 10)))
					return
				}
				require.Empty(t, k.receive(q, 10))
				dead, err := q.DeadLetters().Receive(ctx, 1, noWait)
				require.NoError(t, err)
				require.Equal(t, []string{"A1"}, texts(dead))
				require.Empty(t, k.receive(q, 10))
				require.NoError(t, q.DeadLetters().Restore(ctx, dead[0].Receipt))
				a1 = k.receive(q, 10)
				require.Equal(t, []string{"A1"}, texts(a1))
				require.NoError(t, q.Reject(ctx, "", a1[0].Receipt))
				dead, err = q.DeadLetters().Receive(ctx, 2, noWait)
				require.NoError(t, err)
				require.NoError(t, q.DeadLetters().Discard(ctx, receipts(dead)...))
				require.Equal(t, []string{"A2"}, texts(k.receive(q, 10)))
			})
		})
	}
}

func TestARestoredRecordWaitsForItsKey(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{OrderByKey: true})
		k.putKeys("A1", "A2", "A3")
		require.NoError(t, q.Reject(ctx, "", k.receive(q, 1)[0].Receipt))
		a2 := k.receive(q, 1)
		_, err := q.DeadLetters().RestoreAll(ctx)
		require.NoError(t, err)
		require.Empty(t, k.receive(q, 3))
		require.NoError(t, q.Ack(ctx, a2[0].Receipt))
		a1 := k.receive(q, 3)
		require.Equal(t, []string{"A1"}, texts(a1))
		require.NoError(t, q.Ack(ctx, a1[0].Receipt))
		require.Equal(t, []string{"A3"}, texts(k.receive(q, 3)))
	})
}

// A lower limit makes all records of a key dead that were received so often, even those that
// the first one held back.
func TestALowerLimitReachesRecordsThatAreHeldBack(t *testing.T) {
	for range 20 { // the order of a map has a say
		bubble(t, func(k *kit) {
			q := k.open("q", queue.Options{OrderByKey: true})
			k.putKeys("A1", "A2")
			require.NoError(t, q.Reject(ctx, "", receipts(k.receive(q, 1))...))
			for range 2 {
				require.NoError(t, q.Release(ctx, 0, receipts(k.receive(q, 1))...)) // A2
			}
			_, err := q.DeadLetters().RestoreAll(ctx)
			require.NoError(t, err)
			for range 2 {
				require.NoError(t, q.Release(ctx, 0, receipts(k.receive(q, 1))...)) // A1
			}
			require.EqualValues(t, 1, k.describe(q).Held)
			require.NoError(t, q.Update(ctx, func(o *queue.Options) { o.MaxReceives = 2 }))
			require.EqualValues(t, 2, k.describe(q).Dead)
			require.Empty(t, k.receive(q, 9))
		})
	}
}

// Restored letters of a key are put in their places among the records that are held back, at a
// cost that does not depend on how many those are.
func TestManyLettersOfAKeyAreRestored(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{OrderByKey: true})
		const n, letters = 1200, 200
		for i := range n {
			_, err := k.stream.PutRecord(ctx, "A", fmt.Append(nil, i))
			require.NoError(t, err)
		}
		for range letters {
			require.NoError(t, q.Reject(ctx, "", receipts(k.receive(q, 1))...))
		}
		for range 2 { // of which the second is of half of them
			before := queue.Looks(q)
			_, err := q.DeadLetters().RestoreAll(ctx)
			require.NoError(t, err)
			require.LessOrEqual(t, queue.Looks(q)-before, n+2*letters)
			for range letters / 2 {
				require.NoError(t, q.Reject(ctx, "", receipts(k.receive(q, 1))...))
			}
		}
		_, err := q.DeadLetters().RestoreAll(ctx)
		require.NoError(t, err)
		for i := range n {
			r := k.receive(q, 9)
			require.Equal(t, []string{fmt.Sprint(i)}, texts(r))
			require.NoError(t, q.Ack(ctx, receipts(r)...))
		}
	})
}

// A key with a long backlog holds back other keys only beyond the window.
func TestALongBacklogOfAKey(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{OrderByKey: true})
		for range 5000 {
			_, err := k.stream.PutRecord(ctx, "A", nil)
			require.NoError(t, err)
		}
		k.putKeys("B1")
		require.Len(t, k.receive(q, 1), 1)
		b := k.receive(q, 1)
		require.Equal(t, []string{"B1"}, texts(b))
		require.EqualValues(t, 4999, k.describe(q).Held)
	})
}

// Workers fail at random, timeouts pass as after a restart, and shards are resharded: the
// records of each key are still acknowledged in order.
func TestOrderUnderWorkers(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{OrderByKey: true, MaxReceives: -1})
		const keys, each = 20, 50
		var mu sync.Mutex
		done := make(map[string]int)
		running := make(map[string]bool)
		random := rand.New(rand.NewPCG(1, 2))
		stop := k.work(q, func(_ context.Context, r queue.Record) error {
			mu.Lock()
			require.False(t, running[r.PartitionKey])
			running[r.PartitionKey] = true
			fail, pause := random.IntN(4) == 0, time.Duration(random.IntN(100))*time.Millisecond
			mu.Unlock()
			time.Sleep(pause)
			mu.Lock()
			defer mu.Unlock()
			running[r.PartitionKey] = false
			if fail {
				return fmt.Errorf("at random")
			}
			require.Equal(t, fmt.Sprint(done[r.PartitionKey]), string(r.Data))
			done[r.PartitionKey]++
			return nil
		}, &queue.WorkOptions{Concurrency: 8, Backoff: func(int) time.Duration { return 50 * time.Millisecond }})
		for i := range each {
			for key := range keys {
				_, err := k.stream.PutRecord(ctx, fmt.Sprint("k", key), fmt.Append(nil, i))
				require.NoError(t, err)
			}
			if i%10 == 5 {
				require.NoError(t, k.stream.UpdateShardCount(ctx, 1+i%7))
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Hour)
		require.NoError(t, stop())
		require.Len(t, done, keys)
		for _, n := range done {
			require.Equal(t, each, n)
		}
		require.Zero(t, k.describe(q).Held)
	})
}

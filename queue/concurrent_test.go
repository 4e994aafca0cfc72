package queue_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// Many goroutines receive, acknowledge, extend and release at once. No record has two
// holders at a time, none comes back after it was acknowledged, and deliveries count up
// one by one.
func TestManyAtOnce(t *testing.T) {
	bubble(t, func(k *kit) {
		const records, timeout = 200, 10 * time.Second
		type history struct {
			hidden   time.Time // until then nobody else may have it
			receives int
			settled  bool
		}
		q := k.open("q", queue.Options{MaxReceives: -1, MaxInFlight: 20, VisibilityTimeout: timeout})
		k.put(records)
		var mu sync.Mutex
		all := make(map[string]*history)
		settled := 0
		var workers sync.WaitGroup
		for seed := range uint64(16) {
			workers.Go(func() {
				random := rand.New(rand.NewPCG(seed, 1))
				for {
					called := time.Now()
					got, err := q.Receive(ctx, 1+random.IntN(5), &queue.ReceiveOptions{Wait: time.Minute})
					require.NoError(t, err)
					if len(got) == 0 {
						return
					}
					mu.Lock()
					for _, r := range got {
						h := all[r.ID]
						if h == nil {
							h = new(history)
							all[r.ID] = h
						}
						require.False(t, h.settled, "it was acknowledged")
						require.False(t, time.Now().Before(h.hidden), "somebody else holds it")
						h.receives++
						require.Equal(t, h.receives, r.Receives)
						h.hidden = called.Add(timeout)
					}
					mu.Unlock()
					for _, r := range got {
						time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
						mu.Lock()
						h := all[r.ID]
						mine := h.receives == r.Receives
						mu.Unlock()
						switch random.IntN(4) {
						case 0:
							if !mine {
								require.Error(t, q.Release(ctx, 0, r.Receipt))
								continue
							}
							mu.Lock()
							h.hidden = time.Time{}
							mu.Unlock()
							_ = q.Release(ctx, time.Duration(random.IntN(2))*second, r.Receipt)
						case 1:
							now := time.Now()
							if q.Extend(ctx, 2*timeout, r.Receipt) == nil {
								mu.Lock()
								h.hidden = now.Add(2 * timeout)
								mu.Unlock()
							}
						case 2: // its timeout passes
						default:
							if q.Ack(ctx, r.Receipt) == nil {
								mu.Lock()
								if !h.settled {
									settled++
								}
								h.settled = true
								mu.Unlock()
							}
						}
					}
				}
			})
		}
		workers.Wait()
		require.Equal(t, records, settled)
		d := k.describe(q)
		require.Zero(t, d.Visible+d.InFlight+d.Delayed+d.Dead)
		require.EqualValues(t, records, d.Acknowledged)
	})
}

// A call that gives up while its commit is on the way keeps what it was to do, and may do it
// once more: the commit works on a copy.
func TestACallThatGivesUpKeepsItsSteps(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{VisibilityTimeout: second})
		k.put(1)
		old := k.receive(q, 1)
		time.Sleep(second)
		require.Len(t, k.receive(q, 1), 1)
		call, refused := queue.Extending(q, old[0].Receipt)
		short, cancel := context.WithCancel(ctx)
		goOn, ended := make(chan struct{}), make(chan error, 2)
		k.putAnd("other", func() { // what comes meanwhile is one group
			go func() {
				ended <- k.db.Update(ctx, func(tx *braid.Tx) error {
					return queue.JoinApply(tx, func() { <-goOn })
				})
			}()
			synctest.Wait()
			go func() { ended <- call(short) }()
			synctest.Wait()
		})
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-ended, braid.ErrOutcomeUnknown)
		close(goOn)
		require.NoError(t, <-ended)
		synctest.Wait()
		require.NoError(t, refused())
		require.NoError(t, call(ctx))
		require.ErrorIs(t, refused(), queue.ErrReceiptExpired)
	})
}

package consumer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/internal/companion"
)

const takeovers = 600 // of a Processor, and as many of a TxProcessor

// A processor that lives on after its lease was taken away commits nothing, however
// it tries: takeovers times each.
func TestZombiesCommitNothing(t *testing.T) {
	zombieCfg := consumer.Config{HandOverTimeout: time.Second, MaxAttempts: -1}
	// takeOver has the lease taken from a processor that hangs, by pausing.
	takeOver := func(f *fixture, app *consumer.App) {
		require.NoError(f, app.Pause(f.Context(), consumer.LeaseKey{}))
		time.Sleep(2 * time.Second)
		require.NoError(f, app.Resume(f.Context(), consumer.LeaseKey{}))
		synctest.Wait()
	}
	t.Run("by checkpoints", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			f.put("a", "b", "c")
			batches := make(chan *consumer.Batch, 1)
			release := make(chan struct{})
			w := f.worker(zombieCfg, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
				batches <- batch
				<-release
				return nil // which checkpoints, if it may
			}))
			stop := f.start(w)
			for range takeovers {
				zombie := <-batches
				takeOver(f, w.App())
				ctx := context.Background()
				for _, r := range zombie.Records {
					require.ErrorIs(f, zombie.CheckpointAt(ctx, r), consumer.ErrLeaseLost)
				}
				_, err := zombie.Prepare(ctx, zombie.Records[0], []byte("state"))
				require.ErrorIs(f, err, consumer.ErrLeaseLost)
				release <- struct{}{}
				synctest.Wait()
				require.EqualValues(f, 3, f.status(shard0).BehindRecords)
			}
			close(release)
			require.NoError(f, stop())
			require.Zero(f, f.status(shard0).BehindRecords)
		})
	})
	t.Run("by transactions", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			f.put("a")
			hanging := make(chan struct{}, 1)
			release := make(chan struct{})
			w := f.txWorker(zombieCfg, func(_ context.Context, tx *braid.Tx, batch *consumer.Batch) error {
				if err := tx.Set(fmt.Appendf(nil, "effect/%d", batch.Lease().Epoch), []byte("x")); err != nil {
					return err
				}
				hanging <- struct{}{}
				<-release
				return nil
			})
			stop := f.start(w)
			for range takeovers {
				<-hanging
				takeOver(f, w.App())
				release <- struct{}{}
				synctest.Wait()
			}
			effects := func() (n int) {
				require.NoError(f, f.db.View(f.Context(), func(tx *braid.Tx) error {
					for _, err := range tx.Scan([]byte("effect/"), []byte("effect0")) {
						require.NoError(f, err)
						n++
					}
					return nil
				}))
				return n
			}
			require.Zero(f, effects())
			close(release)
			synctest.Wait()
			require.Equal(f, 1, effects(), "that of who has the lease at last")
			require.NoError(f, stop())
		})
	})
}

// Hundreds of workers and shards: every lease is owned, the shares are even, and no
// more leases move than must, whatever comes and goes.
func TestManyWorkersShareManyShards(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		const shards, most = 500, 200
		_, err := f.db.CreateStream(f.Context(), "many", &braid.StreamOptions{Shards: shards})
		require.NoError(f, err)
		var mu sync.Mutex
		moves := 0
		owners := make(map[string]uint64)
		companion.DBOf(f.db).OnCommit(func(key, value []byte) {
			lease, err := consumer.DecodeLease(key, value)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || lease.Shard == "" {
				return
			}
			if id := string(lease.Shard); lease.Epoch > owners[id] {
				owners[id] = lease.Epoch
				moves++
			}
		})
		random := rand.New(rand.NewPCG(7, 7))
		nop := consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil })
		var stops []func() error
		names := 0
		join := func() {
			names++
			stops = append(stops, f.start(f.worker(consumer.Config{App: "many", Streams: []string{"many"}, WorkerID: fmt.Sprint("w", names)}, nop)))
		}
		leave := func() {
			i := random.IntN(len(stops))
			require.NoError(f, stops[i]())
			stops = slices.Delete(stops, i, i+1)
			synctest.Wait()
		}
		app, err := consumer.OpenApp(f.db, "many")
		require.NoError(f, err)
		count := func() map[string]int {
			status, err := app.Status(f.Context())
			require.NoError(f, err)
			require.Len(f, status.Workers, len(stops))
			count := make(map[string]int)
			for _, shard := range status.Shards {
				require.Equal(f, "running", shard.State)
				count[shard.Owner]++
			}
			return count
		}
		began := time.Now()
		join()
		before := count()
		for step := range 120 {
			mu.Lock()
			moves = 0
			mu.Unlock()
			if len(stops) < most && (len(stops) == 1 || random.IntN(3) > 0) {
				join()
			} else {
				leave()
			}
			after := count()
			low, high := shards, 0
			for _, n := range after {
				low, high = min(low, n), max(high, n)
			}
			require.LessOrEqual(f, high-low, 1, "step %d", step)
			needed := 0 // leases that workers have now and had not before
			for name, n := range after {
				needed += max(0, n-before[name])
			}
			mu.Lock()
			require.Equal(f, needed, moves, "step %d", step)
			mu.Unlock()
			before = after
		}
		require.Zero(f, time.Since(began), "nothing has waited for a time")
		for _, stop := range stops {
			require.NoError(f, stop())
		}
	})
}

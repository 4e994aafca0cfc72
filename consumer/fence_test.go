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

// A processor that goes on after its lease was taken away commits nothing, in 600
// attempts by checkpoints and as many by transactions.
func TestZombiesCommitNothing(t *testing.T) {
	takeovers := 600
	if testing.Short() {
		takeovers = 60
	}
	zombieCfg := consumer.Config{HandOverTimeout: time.Second, MaxAttempts: -1}
	// takeOver takes the lease from a processor that hangs, by pausing the shard.
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
				return nil // the checkpoint follows, if it is allowed
			}))
			stop := f.start(w)
			for range takeovers {
				zombie := <-batches
				takeOver(f, w.App())
				ctx := context.Background()
				for _, r := range zombie.Records {
					require.ErrorIs(f, zombie.CheckpointAt(ctx, r), consumer.ErrLeaseLost)
				}
				require.ErrorIs(f, zombie.Prepare(ctx, zombie.Records[0], []byte("state")), consumer.ErrLeaseLost)
				require.ErrorIs(f, zombie.CommitPrepared(ctx), consumer.ErrLeaseLost)
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
			w := f.txWorker(zombieCfg, func(_ context.Context, tx *braid.Tx, batch *consumer.TxBatch) error {
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

// A checkpoint beyond the records that the processor was given, or in another shard, is
// refused, whichever worker makes it.
func TestWrongCheckpointsAreRefused(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		var mu sync.Mutex
		batches := make(map[braid.ShardID]*consumer.Batch)
		stop := f.start(f.worker(consumer.Config{Checkpoints: consumer.Manual}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			batches[batch.Lease().Shard] = batch
			return nil
		})))
		for n := range 20 {
			f.put(fmt.Sprint(n))
		}
		synctest.Wait()
		require.Len(f, batches, 2)
		random := rand.New(rand.NewPCG(1, 1))
		for n := range 1000 {
			batch, other := batches[shard0], batches[shard1]
			record := batch.Records[len(batch.Records)-1]
			switch n % 3 {
			case 0: // a record that does not exist yet
				later, err := f.orders.Shards()[0].GetRecords(f.Context(), braid.Latest(), nil)
				require.NoError(f, err)
				require.Empty(f, later.Records)
				record.SequenceNumber = mustNumber(f.T, laterNumber(record.SequenceNumber, random))
			case 1: // a record of another shard
				record = other.Records[random.IntN(len(other.Records))]
			case 2: // a place inside a record that is not an aggregate
				record.SubSequenceNumber = 1 + random.IntN(100)
			}
			require.ErrorIs(f, batch.CheckpointAt(f.Context(), record), braid.ErrInvalidArgument)
			require.ErrorIs(f, batch.Prepare(f.Context(), record, nil), braid.ErrInvalidArgument)
		}
		require.True(f, f.status(shard0).Checkpoint.SequenceNumber.IsZero())
		require.NoError(f, stop())
	})
}

// laterNumber returns a later sequence number of the same shard, as text.
func laterNumber(n braid.SequenceNumber, random *rand.Rand) string {
	text := []byte(n.String())
	for at := 20 + random.IntN(15); ; at++ { // among the digits that count up
		if text[at] < '9' {
			text[at]++
			return string(text)
		}
	}
}

// Shards are split and merged faster than they are processed: each key stays in
// order, and no record is missing or comes twice.
func TestReshardsFasterThanConsumption(t *testing.T) {
	seeds, pairs := 60, 0
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		bubble(t, 2, func(f *fixture) {
			random := rand.New(rand.NewPCG(uint64(seed), 9))
			var mu sync.Mutex
			last := make(map[string]int)
			seen := 0
			p := consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
				time.Sleep(time.Duration(len(batch.Records)) * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				for _, r := range batch.Records {
					n := 0
					if _, err := fmt.Sscan(string(r.Data), &n); err != nil || n <= last[r.PartitionKey] {
						f.Errorf("seed %d: %s came after %d", seed, r.Data, last[r.PartitionKey])
					}
					last[r.PartitionKey] = n
					seen++
				}
				return nil
			})
			stopOne := f.start(f.worker(consumer.Config{WorkerID: "one"}, p))
			stopTwo := f.start(f.worker(consumer.Config{WorkerID: "two"}, p))
			records := 0
			for range 90 {
				for range random.IntN(6) {
					records++
					_, err := f.orders.PutRecord(f.Context(), fmt.Sprint("key", random.IntN(20)), fmt.Append(nil, records))
					require.NoError(f, err)
				}
				reshard(f, random)
				pairs += 2
				if random.IntN(3) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			require.Equal(f, records, seen)
			require.NoError(f, stopOne())
			require.NoError(f, stopTwo())
		})
	}
	t.Logf("%d pairs of a parent and a child", pairs)
}

// reshard splits an open shard, or merges two.
func reshard(f *fixture, random *rand.Rand) {
	var open []*braid.Shard
	for _, sd := range f.orders.Describe().Shards {
		if !sd.Closed {
			sh, err := f.orders.Shard(sd.ID)
			require.NoError(f, err)
			open = append(open, sh)
		}
	}
	slices.SortFunc(open, func(a, b *braid.Shard) int { return a.HashKeyRange().Start.Compare(b.HashKeyRange().Start) })
	i := random.IntN(len(open))
	if i > 0 && (random.IntN(2) == 0 || len(open) > 6) {
		_, err := f.orders.MergeShards(f.Context(), open[i-1].ID(), open[i].ID())
		require.NoError(f, err)
		return
	}
	_, _, err := f.orders.SplitShard(f.Context(), open[i].ID(), nil)
	require.NoError(f, err)
}

// Hundreds of workers and shards: whatever comes and goes, every lease is owned, the
// shares are even, and no more leases move than necessary.
func TestManyWorkersShareManyShards(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		shards, most, steps := 500, 200, 120
		if testing.Short() {
			shards, most, steps = 100, 20, 40
		}
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
				require.Equal(f, consumer.StateRunning, shard.State)
				count[shard.Owner]++
			}
			return count
		}
		began := time.Now()
		for range 1 + most*3/4 {
			join()
		}
		before := count()
		for step := range steps {
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
			needed := 0 // leases that workers have now but did not have before
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

// A lease that another process takes between the read of a page and its delivery is lost:
// whatever the processor does with the page moves no checkpoint, and the records come
// again under the next epoch.
func TestLeaseStolenBetweenReadAndDeliver(t *testing.T) {
	for _, cfg := range []consumer.Config{{}, {Lanes: 3}, {Checkpoints: consumer.Manual}, {Checkpoints: consumer.Acks}, {Checkpoints: consumer.Acks, Lanes: 3}} {
		t.Run(fmt.Sprint(cfg.Checkpoints, " ", cfg.Lanes), func(t *testing.T) {
			expiry(t, 1, func(c *cluster) {
				var epochs journal
				p := consumer.ProcessorFunc(func(ctx context.Context, b *consumer.Batch) error {
					epochs.add("%d", b.Lease().Epoch)
					switch cfg.Checkpoints {
					case consumer.Manual:
						return b.CheckpointAt(ctx, b.Records[len(b.Records)-1])
					case consumer.Acks:
						return b.Ack(b.Records...)
					default:
						return nil
					}
				})
				steal := func() {}
				source := &wrappedSource{consumer.NewDBSource(c.db), func(_ context.Context, _ braid.ShardID, next func() (consumer.Page, error)) (consumer.Page, error) {
					page, err := next()
					if len(page.Records) > 0 {
						steal()
					}
					return page, err
				}}
				cfg.App, cfg.Streams, cfg.WorkerID, cfg.Source, cfg.Leases = "billing", []string{"orders"}, "one", source, c.store
				w, err := consumer.New(nil, &cfg, p)
				require.NoError(c, err)
				stop := c.start(w)
				before := c.lease()
				steal = func() {
					steal = func() {}
					lease := c.leaseNow()
					lease.Owner, lease.Epoch = "thief", lease.Epoch+1
					stored, err := c.store.CompareAndSet(c.Context(), lease)
					require.NoError(c, err)
					require.True(c, stored)
				}
				c.put("a")
				time.Sleep(leaseDuration / 2)
				lease := c.lease()
				require.Equal(c, "thief", lease.Owner)
				require.True(c, lease.Checkpoint.Equal(before.Checkpoint), "%v", lease.Checkpoint)
				require.Equal(c, []string{fmt.Sprint(before.Epoch)}, epochs.take())
				time.Sleep(2 * leaseDuration) // the thief does not renew the lease
				lease = c.lease()
				require.Equal(c, "one", lease.Owner)
				require.Equal(c, before.Epoch+2, lease.Epoch)
				require.Equal(c, []string{fmt.Sprint(before.Epoch + 2)}, epochs.take())
				require.False(c, lease.Checkpoint.Equal(before.Checkpoint))
				require.NoError(c, stop())
			})
		})
	}
}

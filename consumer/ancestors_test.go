package consumer_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
)

// A child expires while its parent's gap is refused. Its own children report both.
func TestRefusedGapOfAShardThatExpiresIsReportedByItsChildren(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var gate gate
		var seen journal
		cfg := consumer.Config{OnGap: gate.onGap}
		run := func() error { return f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))() }
		f.loseParent(cfg)
		require.Error(f, run())
		require.Equal(f, []string{"0", "0"}, gate.take())
		f.split(shard1) // into 3 and 4
		time.Sleep(longerThanRetention)
		f.putIn(f.orders.Shards()[1], "k", []byte("z"))
		require.Error(f, run())
		require.Equal(f, []string{"0", "0", "0"}, gate.take(), "shards 2, 3 and 4")
		gate.accept(shard0)
		require.Error(f, run())
		require.Equal(f, []string{"0", "0", "0", "1", "1", "2"}, gate.take())
		gate.accept(shard1, shard2)
		require.NoError(f, run())
		require.Equal(f, []string{"1", "1", "2"}, gate.take())
		require.Equal(f, []string{"z"}, seen.take())
	})
}

// A shard and its children expire while no worker runs, or while the stream is paused.
// What the shard has lost is reported by its grandchildren, even those that begin last.
func TestGapOfAShardWhoseChildrenExpiredAsWell(t *testing.T) {
	for name, newStore := range map[string]func() consumer.LeaseStore{
		"database": func() consumer.LeaseStore { return nil },
		"memory":   func() consumer.LeaseStore { return leasetest.NewMemory(leaseDuration) },
		"fleet":    func() consumer.LeaseStore { return leasetest.NewMemoryFleet(leaseDuration) },
	} {
		for _, test := range []struct{ paused, sought bool }{{}, {paused: true}, {sought: true}} { // before the shards expire
			paused := test.paused
			t.Run(fmt.Sprintf("%s, %+v", name, test), func(t *testing.T) {
				bubble(t, 1, func(f *fixture) {
					var gate gate
					var seen journal
					cfg := consumer.Config{Leases: newStore(), OnGap: gate.onGap}
					store := cfg.Leases
					if store == nil {
						store = consumer.NewDBLeases(f.db, "billing")
					}
					var app *consumer.App
					run := func() func() error {
						w := f.worker(cfg, consumer.ProcessorFunc(seen.collect))
						app = w.App()
						stop := f.start(w)
						time.Sleep(10 * time.Minute)
						return stop
					}
					f.put("processed")
					stop := run()
					require.Equal(f, []string{"processed"}, seen.take())
					last := f.lease(store, shard0).Checkpoint.SequenceNumber
					if paused {
						require.NoError(f, app.Pause(f.Context(), consumer.LeaseKey{Stream: "orders"}))
						time.Sleep(time.Minute)
					} else {
						require.NoError(f, stop())
					}
					f.put("lost")
					f.split(shard0)  // into 1 and 2
					f.split(shard1)  // into 3 and 4
					f.split(shard2)  // into 5 and 6
					if test.sought { // all shards have leases
						require.NoError(f, app.Seek(f.Context(), consumer.LeaseKey{Stream: "orders"}, braid.TrimHorizon()))
						last = braid.SequenceNumber{}
					}
					for range 40 {
						time.Sleep(time.Hour)
					}
					if paused {
						synctest.Wait()
						require.NoError(f, consumer.CheckView(f.Context(), f.db, "billing"))
						require.NoError(f, stop())
					}
					shards := f.orders.Shards()
					require.Len(f, shards, 4)
					f.putIn(shards[3], "k", []byte("z"))
					late := orderKey(shards[0].ID())
					stop = run()
					require.NoError(f, app.Pause(f.Context(), late))
					require.NoError(f, app.Resume(f.Context(), consumer.LeaseKey{Stream: "orders"}))
					time.Sleep(10 * time.Minute)
					gate.take()
					_ = stop()
					gate.accept(shard0, shard1, shard2)
					stop = run()
					require.Equal(f, []string{"0", "0", "0", "1", "2", "2"}, gate.take())
					require.NoError(f, app.Resume(f.Context(), late))
					time.Sleep(10 * time.Minute)
					require.Equal(f, []string{"0", "1"}, gate.take())
					require.Equal(f, []string{"z"}, seen.take())
					for _, shard := range shards {
						require.Equal(f, []consumer.LeaseGap{
							{Shard: shard0, FirstLost: last, Accepted: true},
							{Shard: shard.Parents()[0], Accepted: true},
						}, f.lease(store, shard.ID()).Gaps)
					}
					_, found, err := store.Get(f.Context(), orderKey(shard0))
					require.NoError(f, err)
					require.False(f, found, "the lease is no longer needed")
					require.NoError(f, stop())
				})
			})
		}
	}
}

// Hash keys show from which lost shards a shard descends, if the store keeps them. Otherwise
// all lost shards without children count as its ancestors.
func TestGapsOfAncestorsHaveTheSameHashKeys(t *testing.T) {
	for name, test := range map[string]struct {
		store consumer.LeaseStore
		asked []string
	}{
		"database": {nil, []string{"0", "1", "2", "2", "4", "4"}},
		"memory":   {leasetest.NewMemory(leaseDuration), []string{"0", "0", "0", "1", "1", "1", "2", "2", "4", "4"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 2, func(f *fixture) {
				var gate gate
				cfg := consumer.Config{Leases: test.store, OnGap: gate.onGap}
				run := func() error {
					stop := f.start(f.worker(cfg, nothing))
					time.Sleep(10 * time.Minute)
					return stop()
				}
				require.NoError(f, run())
				f.split(shard0) // into 2 and 3
				f.split(shard1) // into 4 and 5
				f.split(shard2) // into 6 and 7
				f.split("shardId-000000000004")
				time.Sleep(longerThanRetention)
				gate.accept(shard0, shard1, shard2, "shardId-000000000004")
				require.NoError(f, run())
				require.Equal(f, test.asked, gate.take())
			})
		})
	}
}

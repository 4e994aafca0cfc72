package consumer_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
	"github.com/braidstream/braid/internal/companion"
)

// A gap that OnGap refuses is reported again, whatever happens in between, until OnGap has
// accepted it: the gaps of parents that expired, and those inside a shard.

var errRefused = errors.New("refused")

// gate is an OnGap that accepts the gaps of the shards that were opened.
type gate struct {
	mu    sync.Mutex // guards the fields below
	open  map[braid.ShardID]bool
	asked []string
}

func (g *gate) onGap(_ context.Context, _ string, gap *braid.TrimmedError) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, string(gap.Shard[len(gap.Shard)-1:]))
	if g.open[gap.Shard] {
		return nil
	}
	return errRefused
}

func (g *gate) accept(shards ...braid.ShardID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		g.open = make(map[braid.ShardID]bool)
	}
	for _, shard := range shards {
		g.open[shard] = true
	}
}

// take returns for which shards OnGap was called since the last call, sorted.
func (g *gate) take() []string {
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	asked := g.asked
	g.asked = nil
	slices.Sort(asked)
	return asked
}

const longerThanRetention = 30 * time.Hour

// loseParent makes the only shard expire after the application has processed its first
// record and stopped. Its children, shards 1 and 2, have a record each.
func (f *fixture) loseParent(cfg consumer.Config) {
	f.Helper()
	f.put("processed")
	var seen journal
	require.NoError(f, f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))())
	require.Equal(f, []string{"processed"}, seen.take())
	f.put("lost")
	f.split(shard0)
	time.Sleep(longerThanRetention)
	f.putIn(f.orders.Shards()[0], "one", []byte("one"))
	f.putIn(f.orders.Shards()[1], "two", []byte("two"))
	require.Len(f, f.orders.Shards(), 2)
}

func (f *fixture) lease(store consumer.LeaseStore, shard braid.ShardID) consumer.Lease {
	f.Helper()
	lease, found, err := store.Get(f.Context(), consumer.LeaseKey{Stream: "orders", Shard: shard})
	require.NoError(f, err)
	require.True(f, found)
	return lease
}

func orderKey(shard braid.ShardID) consumer.LeaseKey {
	return consumer.LeaseKey{Stream: "orders", Shard: shard}
}

// listedByOwner is a store with an index of owners.
type listedByOwner struct{ *leasetest.Memory }

func (s listedByOwner) ListOwned(ctx context.Context, owner string) (keys []consumer.LeaseKey, err error) {
	leases, err := s.List(ctx)
	for _, l := range leases {
		if l.Owner != "" && cmp.Or(l.NextOwner, l.Owner) == owner {
			keys = append(keys, l.LeaseKey)
		}
	}
	return keys, err
}

func TestGapOfAParentIsReportedUntilItIsAccepted(t *testing.T) {
	for name, newStore := range map[string]func() consumer.LeaseStore{
		"database": func() consumer.LeaseStore { return nil },
		"memory":   func() consumer.LeaseStore { return leasetest.NewMemory(leaseDuration) },
		"index":    func() consumer.LeaseStore { return listedByOwner{leasetest.NewMemory(leaseDuration)} },
		"fleet":    func() consumer.LeaseStore { return leasetest.NewMemoryFleet(leaseDuration) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				var seen journal
				var gate gate
				cfg := consumer.Config{Leases: newStore(), OnGap: gate.onGap}
				store := cfg.Leases
				if store == nil {
					store = consumer.NewDBLeases(f.db, "billing")
				}
				f.loseParent(cfg)
				parent := f.lease(store, shard0).Checkpoint.SequenceNumber
				for restart := range 2 {
					w := f.worker(cfg, consumer.ProcessorFunc(seen.collect))
					stop := f.start(w)
					time.Sleep(time.Minute)
					for range 3 {
						require.Equal(f, []string{"0", "0"}, gate.take(), "both children report it")
						require.NoError(f, consumer.CheckView(f.Context(), f.db, "billing"))
						require.Empty(f, seen.take())
						status, err := w.App().Status(f.Context())
						require.NoError(f, err)
						for _, shard := range status.Shards {
							require.Equal(f, consumer.StateFailed, shard.State)
							require.ErrorIs(f, shard.Err, errRefused)
							require.Equal(f, []consumer.LeaseGap{{Shard: shard0, FirstLost: parent}}, f.lease(store, shard.Shard).Gaps)
						}
						require.NoError(f, w.App().Resume(f.Context(), consumer.LeaseKey{}))
						time.Sleep(time.Minute)
					}
					require.Equal(f, []string{"0", "0"}, gate.take())
					require.ErrorIs(f, f.stopped(stop(), shard1, shard2), errRefused)
					if name == "database" { // another process sees it as well
						status, err := mustApp(f, "billing").Status(f.Context())
						require.NoError(f, err)
						require.False(f, status.CaughtUp())
						require.ErrorIs(f, status.Shards[0].Err, braid.ErrTrimmed, "restart %d", restart)
					}
				}
				_, found, err := store.Get(f.Context(), orderKey(shard0))
				require.NoError(f, err)
				require.False(f, found, "the children's leases have what it showed")

				gate.accept(shard0)
				w := f.worker(cfg, consumer.ProcessorFunc(seen.collect))
				stop := f.start(w)
				time.Sleep(time.Minute)
				require.Equal(f, []string{"0", "0"}, gate.take())
				require.ElementsMatch(f, []string{"one", "two"}, seen.take())
				require.Equal(f, []consumer.LeaseGap{{Shard: shard0, FirstLost: parent, Accepted: true}}, f.lease(store, shard1).Gaps)
				status, err := w.App().Status(f.Context())
				require.NoError(f, err)
				require.True(f, status.CaughtUp())
				require.NoError(f, stop())
				f.put("three", "four")
				require.NoError(f, func() error {
					stop := f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))
					time.Sleep(time.Minute)
					return stop()
				}())
				require.Empty(f, gate.take(), "once is enough")
				require.ElementsMatch(f, []string{"three", "four"}, seen.take())
			})
		})
	}
}

// A worker dies before OnGap has returned. Another one takes its leases, by itself or
// because a leader assigns them.
func TestGapOfAParentIsReportedAfterATakeover(t *testing.T) {
	for name, with := range map[string]func(t *testing.T, shards int, test func(c *cluster)){"expiry": expiry, "fleet": led} {
		t.Run(name, func(t *testing.T) {
			with(t, 1, func(c *cluster) {
				var gate gate
				c.put("processed")
				first := c.join("first", nil)
				time.Sleep(time.Minute)
				require.NoError(c, first.stop())
				c.put("lost")
				c.split(shard0)
				time.Sleep(longerThanRetention)
				c.putIn(c.orders.Shards()[0], "one", []byte("one"))
				c.putIn(c.orders.Shards()[1], "two", []byte("two"))

				hanging := make(chan struct{})
				one := c.join("one", func(_ *member, cfg *consumer.Config) {
					cfg.OnGap = func(context.Context, string, *braid.TrimmedError) error {
						<-hanging
						return nil
					}
				})
				time.Sleep(time.Minute)
				mend := one.cut()
				two := c.join("two", func(_ *member, cfg *consumer.Config) { cfg.OnGap = gate.onGap })
				time.Sleep(10 * time.Minute)
				close(hanging) // too late: the lease is lost
				time.Sleep(time.Minute)
				require.Equal(c, []string{"0", "0"}, gate.take())
				require.Empty(c, two.take())
				gate.accept(shard0)
				require.Error(c, two.stop())
				three := c.join("three", func(_ *member, cfg *consumer.Config) { cfg.OnGap = gate.onGap })
				time.Sleep(10 * time.Minute)
				require.Equal(c, []string{"0", "0"}, gate.take())
				require.ElementsMatch(c, []string{"one", "two"}, three.take())
				require.Empty(c, one.take())
				mend()
				require.NoError(c, three.stop())
				require.NoError(c, one.stop())
			})
		})
	}
}

// The power fails while OnGap decides, and after it has refused. With what is left, the
// gap is reported.
func TestGapOfAParentIsReportedAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrashableMem()
		open := func() *fixture {
			db, err := companion.Open("/db", &braid.Options{ReserveBytes: -1}, companion.Environment{FS: vfs.FS(disk)})
			require.NoError(t, err)
			orders, err := db.(*braid.DB).OpenStream(t.Context(), "orders", &braid.StreamOptions{Shards: 1})
			require.NoError(t, err)
			return &fixture{t, db.(*braid.DB), orders}
		}
		f := open()
		f.loseParent(consumer.Config{})
		for _, answer := range []error{nil, errRefused} {
			var asked journal
			var seen journal
			release := make(chan struct{})
			cfg := consumer.Config{OnGap: func(_ context.Context, _ string, gap *braid.TrimmedError) error {
				asked.add("%s", gap.Shard)
				if answer == nil {
					<-release
				}
				return answer
			}}
			stop := f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))
			require.Equal(t, []string{string(shard0), string(shard0)}, asked.take())
			image := disk.CrashClone(vfs.CrashCloneCfg{})
			close(release)
			synctest.Wait()
			if answer != nil {
				require.Empty(t, seen.take())
			}
			_ = stop()
			require.NoError(t, f.db.Close())
			disk = image
			f = open()
		}
		var gate gate
		var seen journal
		gate.accept(shard0)
		stop := f.start(f.worker(consumer.Config{OnGap: gate.onGap}, consumer.ProcessorFunc(seen.collect)))
		require.Equal(t, []string{"0", "0"}, gate.take())
		require.ElementsMatch(t, []string{"one", "two"}, seen.take())
		disk = disk.CrashClone(vfs.CrashCloneCfg{})
		require.NoError(t, stop())
		require.NoError(t, f.db.Close())
		f = open()
		require.NoError(t, f.start(f.worker(consumer.Config{OnGap: gate.onGap}, nothing))())
		require.Empty(t, gate.take(), "it was accepted before the power failed")
		require.NoError(t, f.db.Close())
	})
}

// Of the two parents of a merged shard, each is accepted on its own, for any kind of
// processor.
func TestGapsOfTwoParentsAreAcceptedOneByOne(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		var gate gate
		var seen journal
		run := func() func() error {
			return f.start(f.txWorker(consumer.Config{OnGap: gate.onGap}, func(_ context.Context, _ *braid.Tx, batch *consumer.TxBatch) error {
				for _, r := range batch.Records {
					seen.add("%s", r.Data)
				}
				return nil
			}))
		}
		require.NoError(f, run()())
		f.putIn(f.orders.Shards()[0], "a", []byte("a"))
		f.putIn(f.orders.Shards()[1], "b", []byte("b"))
		_, err := f.orders.MergeShards(f.Context(), shard0, shard1)
		require.NoError(f, err)
		time.Sleep(longerThanRetention)
		f.put("z")
		gate.accept(shard0)
		stop := run()
		require.Equal(f, []string{"0", "1"}, gate.take())
		require.NoError(f, mustApp(f, "billing").Resume(f.Context(), orderKey(shard2)))
		require.Equal(f, []string{"1"}, gate.take(), "0 was accepted")
		require.ErrorIs(f, f.stopped(stop(), shard2), errRefused)
		stop = run()
		require.Equal(f, []string{"1"}, gate.take())
		require.Empty(f, seen.take())
		gate.accept(shard1)
		require.NoError(f, mustApp(f, "billing").Resume(f.Context(), consumer.LeaseKey{}))
		require.Equal(f, []string{"1"}, gate.take())
		require.Equal(f, []string{"z"}, seen.take())
		require.NoError(f, stop())
	})
}

// An OnGap that panics or ends its goroutine has not accepted the gap.
func TestOnGapThatDoesNotReturnHasNotAccepted(t *testing.T) {
	for name, fail := range map[string]func(){"panic": func() { panic("no") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				f.loseParent(consumer.Config{})
				var asked, seen journal
				stop := f.start(f.worker(consumer.Config{OnGap: func(_ context.Context, _ string, gap *braid.TrimmedError) error {
					asked.add("%s", gap.Shard)
					fail()
					return nil
				}}, consumer.ProcessorFunc(seen.collect)))
				for range 3 {
					require.Len(f, asked.take(), 2)
					require.NoError(f, mustApp(f, "billing").Resume(f.Context(), consumer.LeaseKey{}))
					synctest.Wait()
				}
				require.Error(f, stop())
				require.Empty(f, seen.take())
			})
		})
	}
}

// A parent of which nothing was ever stored was created, and has expired, while no worker
// ran. A worker that pauses or assigns the child before it begins does not change that.
func TestGapOfAParentWithoutALeaseIsReportedUntilItIsAccepted(t *testing.T) {
	for name, meddle := range map[string]func(f *fixture, app *consumer.App, child braid.ShardID){
		"nothing": func(*fixture, *consumer.App, braid.ShardID) {},
		"pause before the parent expires": func(f *fixture, app *consumer.App, child braid.ShardID) {
			require.NoError(f, app.Pause(f.Context(), orderKey(child)))
			require.NoError(f, app.Resume(f.Context(), orderKey(child)))
		},
		"seek before the parent expires": func(f *fixture, app *consumer.App, child braid.ShardID) {
			require.NoError(f, app.Seek(f.Context(), orderKey(child), braid.TrimHorizon()))
		},
		"seek of all shards before the parent expires": func(f *fixture, app *consumer.App, _ braid.ShardID) {
			require.NoError(f, app.Seek(f.Context(), consumer.LeaseKey{}, braid.TrimHorizon()))
		},
	} {
		for _, inDatabase := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, database=%v", name, inDatabase), func(t *testing.T) {
				bubble(t, 1, func(f *fixture) {
					var gate gate
					var seen journal
					cfg := consumer.Config{OnGap: gate.onGap}
					app := mustApp(f, "billing")
					if !inDatabase {
						var err error
						cfg.Leases = leasetest.NewMemory(leaseDuration)
						app, err = consumer.OpenRemoteApp(f.db, "billing", nil, cfg.Leases)
						require.NoError(f, err)
					}
					run := func() (stop func() error) {
						stop = f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))
						time.Sleep(time.Minute)
						return stop
					}
					require.NoError(f, run()())
					f.put("lost")
					f.split(shard0) // into 1 and 2
					f.putIn(f.orders.Shards()[1], "lost", []byte("lost"))
					f.split(shard1) // into 3 and 4
					child := f.orders.Shards()[3]
					require.Equal(f, []braid.ShardID{shard1}, child.Parents())
					meddle(f, app, child.ID())
					time.Sleep(longerThanRetention)
					f.putIn(child, "child", []byte("child"))
					stop := run()
					asked := gate.take()
					require.GreaterOrEqual(f, len(asked), 3, "shards 2, 3 and 4 have lost their parents: %v", asked)
					require.Error(f, stop())
					stop = run()
					require.Equal(f, asked, gate.take())
					require.Empty(f, seen.take())
					require.Error(f, stop())
					gate.accept(shard0, shard1)
					stop = run()
					require.Subset(f, gate.take(), append(asked, "1"))
					require.Equal(f, []string{"child"}, seen.take())
					require.NoError(f, app.WaitCaughtUp(f.Context()))
					require.NoError(f, stop())
					require.NoError(f, run()())
					require.Empty(f, gate.take())
				})
			})
		}
	}
}

// Pause of a child, and of one that has lost its parent, keeps the gap.
func TestPauseKeepsTheGapOfAParent(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var gate gate
		require.NoError(f, f.start(f.worker(consumer.Config{}, nothing))())
		f.split(shard0)
		f.split(shard1)
		time.Sleep(longerThanRetention)
		last := f.orders.Shards()[1].ID()
		app := mustApp(f, "billing")
		require.NoError(f, app.Pause(f.Context(), orderKey(last)))
		require.NoError(f, app.Resume(f.Context(), orderKey(last)))
		require.Equal(f, []consumer.LeaseGap{{Shard: shard1}}, f.lease(consumer.NewDBLeases(f.db, "billing"), last).Gaps)
		require.Error(f, f.start(f.worker(consumer.Config{OnGap: gate.onGap}, nothing))())
		require.Equal(f, []string{"0", "1", "1"}, gate.take())
	})
}

// Seek decides where a shard begins, so it settles what is lost before. It does not settle
// it for other shards.
func TestSeekSettlesTheGapOfAParent(t *testing.T) {
	for name, seek := range map[string]struct {
		key   consumer.LeaseKey
		to    braid.Position
		seen  []string
		asked []string
	}{
		"one shard":      {orderKey(shard1), braid.TrimHorizon(), []string{"one"}, []string{"0"}},
		"all":            {consumer.LeaseKey{}, braid.TrimHorizon(), []string{"one", "two"}, nil},
		"all, to LATEST": {consumer.LeaseKey{Stream: "orders"}, braid.Latest(), nil, nil},
	} {
		for _, refused := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, refused=%v", name, refused), func(t *testing.T) {
				bubble(t, 1, func(f *fixture) {
					var gate gate
					var seen journal
					cfg := consumer.Config{OnGap: gate.onGap}
					f.loseParent(cfg)
					run := func() error { return f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))() }
					if refused {
						require.Error(f, run())
						require.Equal(f, []string{"0", "0"}, gate.take())
					}
					require.NoError(f, mustApp(f, "billing").Seek(f.Context(), seek.key, seek.to))
					err := run()
					require.Equal(f, seek.asked, gate.take())
					require.ElementsMatch(f, seek.seen, seen.take())
					if seek.asked != nil {
						require.ErrorIs(f, f.stopped(err, shard2), errRefused)
					} else {
						require.NoError(f, err)
					}
				})
			})
		}
	}
}

// A parent is sought back after its child had begun, and expires before it is processed
// again.
func TestParentThatExpiresBeforeItIsProcessedAgainLeavesAGap(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var gate gate
		var seen journal
		cfg := consumer.Config{OnGap: gate.onGap}
		run := func() error { return f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))() }
		f.put("a")
		f.split(shard0)
		require.NoError(f, run())
		require.NoError(f, mustApp(f, "billing").Seek(f.Context(), orderKey(shard0), braid.TrimHorizon()))
		time.Sleep(longerThanRetention)
		f.put("z")
		for range 2 {
			require.Error(f, run())
			require.Equal(f, []string{"0", "0"}, gate.take())
		}
		gate.accept(shard0)
		require.NoError(f, run())
		require.Equal(f, []string{"0", "0"}, gate.take())
		require.Equal(f, []string{"a", "z"}, seen.take())
	})
}

// OnGap is not asked again because the store fails to store its answer.
func TestAcceptanceOfAGapIsStoredDespiteErrors(t *testing.T) {
	for name, failure := range map[string]error{"before": errUnplugged, "after": fmt.Errorf("%w: %w", leasetest.ErrAfter, errUnplugged)} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				var seen journal
				store := leasetest.NewMemory(time.Hour)
				f.loseParent(consumer.Config{Leases: store})
				var asked, calls atomic.Int64
				stop := f.start(f.worker(consumer.Config{Leases: store, OnGap: func(context.Context, string, *braid.TrimmedError) error {
					if asked.Add(1) == 1 {
						store.Fail(func(op string, key consumer.LeaseKey) error {
							if op != "CompareAndSet" || calls.Add(1) > 4 {
								return nil
							}
							return failure
						})
					}
					return nil
				}}, consumer.ProcessorFunc(seen.collect)))
				time.Sleep(2 * time.Hour)
				require.EqualValues(f, 2, asked.Load(), "once by each child")
				require.ElementsMatch(f, []string{"one", "two"}, seen.take())
				require.NoError(f, stop())
			})
		})
	}
}

// A gap inside a shard is reported until it is accepted, however checkpoints are made.
func TestGapInsideAShardIsReportedUntilItIsAccepted(t *testing.T) {
	for name, cfg := range map[string]consumer.Config{
		"automatic": {},
		"manual":    {Checkpoints: consumer.Manual},
		"acks":      {Checkpoints: consumer.Acks},
		"lanes":     {Lanes: 3},
		"interval":  {CheckpointInterval: time.Minute},
		"linger":    {Linger: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				var gate gate
				var seen journal
				cfg.OnGap = gate.onGap
				run := func() (w *consumer.Worker, stop func() error) {
					w = f.worker(cfg, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
						for _, r := range batch.Records {
							seen.add("%s", r.Data)
						}
						switch cfg.Checkpoints {
						case consumer.Manual:
							return batch.CheckpointAt(ctx, batch.Records[len(batch.Records)-1])
						case consumer.Acks:
							return batch.Ack(batch.Records...)
						}
						return nil
					}))
					stop = f.start(w)
					time.Sleep(5 * time.Second)
					return w, stop
				}
				f.put("a")
				_, stop := run()
				require.NoError(f, stop())
				require.Equal(f, []string{"a"}, seen.take())
				f.put("lost")
				require.NoError(f, f.orders.Trim(f.Context(), braid.Latest()))
				f.put("b")
				for range 2 {
					w, stop := run()
					for range 3 {
						require.Equal(f, []string{"0"}, gate.take())
						require.Empty(f, seen.take())
						require.NoError(f, w.App().Resume(f.Context(), consumer.LeaseKey{}))
						time.Sleep(5 * time.Second)
					}
					require.ErrorIs(f, f.stopped(stop(), shard0), errRefused)
					gate.take()
				}
				gate.accept(shard0)
				_, stop = run()
				require.Equal(f, []string{"0"}, gate.take())
				require.Equal(f, []string{"b"}, seen.take())
				require.NoError(f, stop())
				_, stop = run()
				require.Empty(f, gate.take())
				require.NoError(f, stop())
			})
		})
	}
}

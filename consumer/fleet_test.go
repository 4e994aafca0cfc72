package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

func (c *cluster) leader(members ...*member) (leader string) {
	c.Helper()
	for _, m := range members {
		leads, _, err := c.fleet.Report(c.Context(), m.name)
		require.NoError(c, err)
		if leads {
			leader = m.name
		}
	}
	return leader
}

// open returns the shards that are not closed.
func (c *cluster) open() (open []braid.ShardID) {
	for _, shard := range c.orders.Shards() {
		if !shard.Describe().Closed {
			open = append(open, shard.ID())
		}
	}
	return open
}

func (c *cluster) merge(shard, adjacent braid.ShardID) {
	c.Helper()
	_, err := c.orders.MergeShards(c.Context(), shard, adjacent)
	require.NoError(c, err)
}

func TestLeaderSharesTheShardsOut(t *testing.T) {
	led(t, 6, func(c *cluster) {
		one := c.join("one", nil)
		require.Equal(c, map[string]int{"one": 6}, c.owners())
		two := c.join("two", nil)
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"one": 3, "two": 3}, c.owners())
		three := c.join("three", nil)
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"one": 2, "two": 2, "three": 2}, c.owners())
		require.Equal(c, "one", c.leader(one, two, three))
		epochs := c.epochs()
		time.Sleep(time.Hour)
		require.Equal(c, epochs, c.epochs(), "what is even stays where it is")
		require.NoError(c, one.stop()) // the leader
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"two": 3, "three": 3}, c.owners())
		require.NoError(c, two.stop())
		require.NoError(c, three.stop())
		require.Equal(c, map[string]int{"": 6}, c.owners())
	})
}

// Nobody takes what the leader has not assigned, and what it assigned is taken even by a worker
// that has a share already.
func TestWorkersTakeWhatTheyAreAssigned(t *testing.T) {
	led(t, 4, func(c *cluster) {
		_, _, err := c.fleet.Report(c.Context(), "foreign") // leads
		require.NoError(c, err)
		lead := func() {
			leads, _, err := c.fleet.Report(c.Context(), "foreign")
			require.NoError(c, err)
			require.True(c, leads)
		}
		one, two := c.join("one", nil), c.join("two", nil)
		for range 4 {
			time.Sleep(20 * time.Second)
			lead()
		}
		require.Equal(c, map[string]int{"": 4}, c.owners(), "the leases are there, and free")
		for _, lease := range c.leases() {
			lease.Owner = "two"
			if lease.Shard == "shardId-000000000003" {
				lease.Owner = "foreign"
			}
			lease.Epoch++
			stored, err := c.store.CompareAndSet(c.Context(), lease)
			require.NoError(c, err)
			require.True(c, stored)
		}
		c.put(numbered("record", 40)...)
		time.Sleep(20 * time.Second)
		lead()
		require.NotEmpty(c, two.take())
		require.Empty(c, one.take())
		first := c.lease()
		require.Equal(c, "two", first.Owner)
		stored, err := c.fleet.RequestHandOver(c.Context(), first, "one")
		require.NoError(c, err)
		require.True(c, stored)
		time.Sleep(20 * time.Second)
		lead()
		require.Equal(c, map[string]int{"one": 1, "two": 2, "foreign": 1}, c.owners())
		c.put(numbered("another", 40)...)
		time.Sleep(time.Second)
		require.NotEmpty(c, one.take())
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
		require.Equal(c, map[string]int{"": 3, "foreign": 1}, c.owners())
	})
}

// A lease that waits for its parents, or is paused, or has ended stays with the worker that was
// assigned it.
func TestAssignedLeasesAreKept(t *testing.T) {
	led(t, 2, func(c *cluster) {
		_, _, err := c.fleet.Report(c.Context(), "foreign") // leads
		require.NoError(c, err)
		one := c.join("one", nil)
		wait := func() {
			versions := make(map[braid.ShardID]uint64)
			for range 6 {
				time.Sleep(10 * time.Second)
				_, _, err := c.fleet.Report(c.Context(), "foreign")
				require.NoError(c, err)
				for _, lease := range c.leases() {
					if lease.Owner == "one" {
						require.Greater(c, lease.Version, versions[lease.Shard], "%s is renewed", lease.Shard)
						versions[lease.Shard] = lease.Version
					}
				}
			}
		}
		assign := func(shard braid.ShardID, to string) {
			lease, found, err := c.store.Get(c.Context(), consumer.LeaseKey{Stream: "orders", Shard: shard})
			require.NoError(c, err)
			require.True(c, found, "%s", shard)
			lease.Owner = to
			lease.Epoch++
			stored, err := c.store.CompareAndSet(c.Context(), lease)
			require.NoError(c, err)
			require.True(c, stored)
		}
		assign("shardId-000000000000", "one")
		assign("shardId-000000000001", "foreign")
		c.merge("shardId-000000000000", "shardId-000000000001") // into 2
		wait()
		require.Len(c, c.leases(), 2, "the child waits for a parent elsewhere")
		_, err = c.store.CompareAndSet(c.Context(), consumer.Lease{ // as the KCL makes it
			LeaseKey: consumer.LeaseKey{Stream: "orders", Shard: "shardId-000000000002"}, Owner: "one",
			Parents: []braid.ShardID{"shardId-000000000000", "shardId-000000000001"},
		})
		require.NoError(c, err)
		wait()
		require.Equal(c, map[string]int{"one": 2, "foreign": 1}, c.owners())
		c.put(numbered("record", 10)...)
		assign("shardId-000000000001", "one")
		wait()
		require.Len(c, one.take(), 10)
		require.Len(c, c.leases(), 3)
		for range 6 {
			wait()
		}
		require.Len(c, c.leases(), 1, "the child says that its parents are done")
		c.put("record 10")
		wait()
		require.Equal(c, []string{"record 10"}, one.take())
		require.NoError(c, one.stop())
	})
}

// Workers come and go, hang and cannot reach the store: whatever happens, no record is lost, no two
// workers process a shard at once, and in the end the shares are even.
func TestFleetWithABadStore(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			led(t, 3, func(c *cluster) {
				random := rand.New(rand.NewPCG(seed, 7))
				seen := make(map[string]bool)
				members := make(map[string]*member)
				join := func(name string) {
					members[name] = c.join(name, func(m *member, cfg *consumer.Config) {
						m.process = func(ctx context.Context, _ *consumer.Batch) error {
							if random := time.Duration(len(m.name)) * time.Second; strings.HasSuffix(m.name, "slow") {
								time.Sleep(random)
							}
							return ctx.Err()
						}
					})
				}
				collect := func() {
					for _, m := range members {
						for _, data := range m.take() {
							seen[data] = true
						}
					}
				}
				join("one")
				var want []string
				for round := range 30 {
					data := fmt.Sprint("record ", round)
					want = append(want, data)
					c.put(data)
					names := make([]string, 0, len(members))
					for name := range members {
						names = append(names, name)
					}
					slices.Sort(names)
					some := members[names[random.IntN(len(names))]]
					switch random.IntN(8) {
					case 0:
						join(fmt.Sprint("worker ", round))
					case 1:
						join(fmt.Sprint("worker ", round, " slow"))
					case 2:
						if len(members) > 1 {
							require.NoError(c, some.stop())
							collect()
							delete(members, some.name)
						}
					case 3:
						mend := some.cut()
						time.AfterFunc(time.Duration(random.IntN(100))*time.Second, mend)
					case 4:
						if shards := c.open(); len(shards) < 8 {
							c.split(shards[random.IntN(len(shards))])
						}
					}
					time.Sleep(time.Duration(random.IntN(30)) * time.Second)
				}
				time.Sleep(10 * time.Minute)
				collect()
				for _, data := range want {
					require.True(c, seen[data], "%s is lost", data)
				}
				working := make(map[string]int)
				for _, lease := range c.leases() {
					require.Empty(c, lease.NextOwner)
					if !lease.Checkpoint.ShardEnd {
						working[lease.Owner]++
					}
				}
				for name := range members {
					require.InDelta(c, float64(len(c.open()))/float64(len(members)), working[name], 1, "%v", working)
				}
				for _, m := range members {
					require.NoError(c, m.stop())
				}
			})
		})
	}
}

// What is paused stays with its worker and goes on there, and so does a shard that has failed and is
// resumed.
func TestPausedAndFailedLeasesStayWhereTheyWereAssigned(t *testing.T) {
	led(t, 2, func(c *cluster) {
		var failing atomic.Bool
		failing.Store(true)
		one := c.join("one", func(m *member, cfg *consumer.Config) {
			cfg.MaxAttempts = 1
			m.process = func(context.Context, *consumer.Batch) error {
				if failing.Load() {
					return errors.New("not now")
				}
				return nil
			}
		})
		two := c.join("two", nil)
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"one": 1, "two": 1}, c.owners())
		app, err := consumer.OpenRemoteApp(nil, "billing", consumer.NewDBSource(c.db), c.store)
		require.NoError(c, err)
		require.NoError(c, app.Pause(c.Context(), consumer.LeaseKey{Stream: "orders"}))
		time.Sleep(5 * time.Minute)
		c.put(numbered("record", 40)...)
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"one": 1, "two": 1}, c.owners())
		require.Empty(c, two.take())
		epochs := c.epochs()

		require.NoError(c, app.Resume(c.Context(), consumer.LeaseKey{Stream: "orders"}))
		time.Sleep(time.Minute)
		require.Equal(c, epochs+2, c.epochs(), "each is taken once")
		fromTwo := two.take()
		require.NotEmpty(c, fromTwo)
		require.Empty(c, one.take(), "it has failed")
		failing.Store(false)
		require.NoError(c, app.Resume(c.Context(), consumer.LeaseKey{Stream: "orders"}))
		time.Sleep(time.Minute)
		require.ElementsMatch(c, numbered("record", 40), append(one.take(), fromTwo...))
		require.Equal(c, map[string]int{"one": 1, "two": 1}, c.owners())
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
	})
}

// A worker that is assigned a shard which its source has not shown yet asks for it at once. Until the
// source shows it, nobody deletes the lease, which another engine has made.
func TestAssignedShardIsLookedFor(t *testing.T) {
	for _, lag := range []time.Duration{0, 40 * time.Second} {
		t.Run(lag.String(), func(t *testing.T) {
			led(t, 1, func(c *cluster) {
				source := consumer.NewDBSource(c.db)
				was, err := source.Stream(c.Context(), "orders")
				require.NoError(c, err)
				_, _, err = c.fleet.Report(c.Context(), "foreign") // leads
				require.NoError(c, err)
				lagging := &laggingSource{Source: source, was: was}
				one := c.join("one", func(_ *member, cfg *consumer.Config) { cfg.Source = lagging })
				parent := c.lease()
				parent.Owner = "foreign"
				parent.Checkpoint.ShardEnd = true
				stored, err := c.store.CompareAndSet(c.Context(), parent)
				require.NoError(c, err)
				require.True(c, stored)
				time.Sleep(5 * time.Second)
				lagging.until = time.Now().Add(lag)
				c.split(parent.Shard)
				for i, shard := range []braid.ShardID{"shardId-000000000001", "shardId-000000000002"} {
					_, err = c.store.CompareAndSet(c.Context(), consumer.Lease{ // as the KCL makes it
						LeaseKey: consumer.LeaseKey{Stream: "orders", Shard: shard}, Owner: []string{"foreign", "one"}[i], Parents: []braid.ShardID{parent.Shard},
					})
					require.NoError(c, err)
				}
				c.put(numbered("record", 40)...)
				wait := func(d time.Duration) { // while somebody else leads
					for ; d > 0; d -= 5 * time.Second {
						_, _, err := c.fleet.Report(c.Context(), "foreign")
						require.NoError(c, err)
						time.Sleep(5 * time.Second)
					}
				}
				wait(lag + 5*time.Second)
				if lag == 0 {
					require.NotEmpty(c, one.take())
				}
				require.Equal(c, map[string]int{"foreign": 2, "one": 1}, c.owners())
				wait(time.Minute)
				require.Equal(c, map[string]int{"foreign": 2, "one": 1}, c.owners())
				if lag > 0 {
					require.NotEmpty(c, one.take())
				}
				require.NoError(c, one.stop())
			})
		})
	}
}

// The KCL deletes the lease of a parent that has ended once its children have leases that do not
// say TRIM_HORIZON, even if nobody has begun with them: the parent is done all the same.
func TestParentWhoseLeaseIsGoneIsDone(t *testing.T) {
	led(t, 1, func(c *cluster) {
		lead := func(d time.Duration) {
			for ; d > 0; d -= 5 * time.Second {
				_, _, err := c.fleet.Report(c.Context(), "foreign")
				require.NoError(c, err)
				time.Sleep(5 * time.Second)
			}
		}
		lead(5 * time.Second)
		one := c.join("one", nil)
		lead(5 * time.Second)
		parent := c.lease()
		parent.Owner = "one"
		stored, err := c.store.CompareAndSet(c.Context(), parent)
		require.NoError(c, err)
		require.True(c, stored)
		c.put(numbered("before", 20)...)
		c.split(parent.Shard)
		lead(time.Minute)
		require.ElementsMatch(c, numbered("before", 20), one.take())
		require.Len(c, c.leases(), 3, "those of the children are offered")
		parent = c.lease()
		require.True(c, parent.Checkpoint.ShardEnd)
		deleted, err := c.store.Delete(c.Context(), parent)
		require.NoError(c, err)
		require.True(c, deleted)
		lead(time.Minute)
		require.Equal(c, map[string]int{"": 2}, c.owners())
		c.put(numbered("after", 20)...)
		time.Sleep(2 * time.Minute) // one leads
		require.ElementsMatch(c, numbered("after", 20), one.take())
		require.NoError(c, one.stop())
	})
}

// A worker of another engine may find out late what it was assigned, and renews it later still.
func TestLeaderWaitsForTheFirstRenewal(t *testing.T) {
	led(t, 2, func(c *cluster) {
		one := c.join("one", nil)
		assigned := func() (lease consumer.Lease) {
			_, _, err := c.fleet.Report(c.Context(), "foreign")
			require.NoError(c, err)
			time.Sleep(time.Second)
			for _, l := range c.leases() {
				if l.Owner == "foreign" {
					lease = l
				}
			}
			return lease
		}
		for assigned().Owner == "" {
		}
		lease := assigned()
		for range 17 {
			require.Equal(c, lease.Version, assigned().Version)
		}
		for range 10 {
			assigned()
		}
		for _, l := range c.leases() {
			require.Equal(c, "one", l.Owner, "it never came")
		}
		require.NoError(c, one.stop())
	})
}

// When nobody could reach the store for a while, no lease was renewed: that says nothing about the
// workers, who go on with what they had.
func TestOutageOfTheStoreMovesNothing(t *testing.T) {
	for _, outage := range []time.Duration{15 * time.Second, 25 * time.Second, 35 * time.Second, 50 * time.Second} {
		t.Run(outage.String(), func(t *testing.T) {
			led(t, 6, func(c *cluster) {
				members := []*member{c.join("one", nil), c.join("two", nil), c.join("three", nil)}
				time.Sleep(2 * time.Minute)
				require.Equal(c, map[string]int{"one": 2, "two": 2, "three": 2}, c.owners())
				owners := make(map[braid.ShardID]string)
				for _, lease := range c.leases() {
					owners[lease.Shard] = lease.Owner
				}
				var mends []func()
				for _, m := range members {
					mends = append(mends, m.cut())
				}
				time.Sleep(outage)
				for _, mend := range mends {
					mend()
				}
				for range 60 {
					time.Sleep(time.Second)
					for _, lease := range c.leases() {
						require.Equal(c, owners[lease.Shard], lease.Owner, "%s", lease.Shard)
					}
				}
				for _, m := range members {
					require.NoError(c, m.stop())
				}
			})
		})
	}
}

// A leader that leaves says so again if the store has failed, while it finishes its batches.
func TestLeaderLeavesAfterAnError(t *testing.T) {
	led(t, 2, func(c *cluster) {
		release := make(chan struct{})
		one := c.join("one", func(m *member, cfg *consumer.Config) {
			cfg.HandOverTimeout = time.Hour
			m.process = func(context.Context, *consumer.Batch) error {
				<-release
				return nil
			}
		})
		two := c.join("two", nil)
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"one": 1, "two": 1}, c.owners())
		c.put(numbered("record", 20)...)
		time.Sleep(time.Second)
		one.set(func(_ context.Context, op string, _ consumer.Lease) error {
			if op == "Leave" {
				return errUnplugged
			}
			return nil
		})
		stopped := make(chan error)
		go func() { stopped <- one.stop() }()
		time.Sleep(time.Second)
		require.Empty(c, c.leader(two))
		one.set(nil)
		time.Sleep(5 * time.Second)
		require.Equal(c, "two", c.leader(two))
		close(release)
		require.NoError(c, <-stopped)
		require.NoError(c, two.stop())
	})
}

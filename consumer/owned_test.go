package consumer_test

import (
	"cmp"
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// indexedLink is a link to a store with an index of owners. It counts the listed leases.
type indexedLink struct {
	*link
	all, owned *atomic.Int64
}

func (l indexedLink) List(ctx context.Context) ([]consumer.Lease, error) {
	l.all.Add(1)
	return l.link.List(ctx)
}

func (l indexedLink) ListOwned(ctx context.Context, owner string) (keys []consumer.LeaseKey, err error) {
	l.owned.Add(1)
	leases, err := l.link.List(ctx)
	for _, lease := range leases {
		if lease.Owner != "" && cmp.Or(lease.NextOwner, lease.Owner) == owner {
			keys = append(keys, lease.LeaseKey)
		}
	}
	return keys, err
}

// indexedMember joins a worker that reaches the store by an indexed link.
func (c *cluster) indexedMember(name string) (m *member, l indexedLink) {
	m = c.join(name, func(m *member, cfg *consumer.Config) {
		l = indexedLink{m.link, new(atomic.Int64), new(atomic.Int64)}
		cfg.Leases = l
	})
	return m, l
}

// A worker of a store with an index of owners lists all leases once in a LeaseDuration,
// and otherwise behaves like any worker.
func TestIndexOfOwnersSparesScans(t *testing.T) {
	expiry(t, 4, func(c *cluster) {
		one, links := c.indexedMember("one")
		two, _ := c.indexedMember("two")
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"one": 2, "two": 2}, c.owners(), "leases are handed over")
		before := numbered("before", 20)
		c.put(before...)
		synctest.Wait()
		require.ElementsMatch(c, before, append(one.take(), two.take()...))

		links.all.Store(0)
		links.owned.Store(0)
		time.Sleep(100 * leaseDuration)
		require.LessOrEqual(c, links.all.Load(), int64(101))
		require.Positive(c, links.all.Load())
		require.Zero(c, links.owned.Load(), "only a leader assigns leases")

		one.cut()
		died := time.Now()
		for c.owners()["two"] < 4 {
			time.Sleep(100 * time.Millisecond)
			require.Less(c, time.Since(died), 3*leaseDuration)
		}
		require.GreaterOrEqual(c, time.Since(died), leaseDuration/2, "nobody has a lease that its owner may still hold")
		after := numbered("after", 20)
		c.put(after...)
		synctest.Wait()
		require.ElementsMatch(c, after, two.take())
		require.NoError(c, two.stop())
		one.set(nil)
		require.NoError(c, one.stop())
	})
}

// What others write into a lease that a worker has is seen before all leases are listed again,
// and an assignment to it when they are.
func TestIndexOfOwnersShowsWhatOthersWrite(t *testing.T) {
	expiry(t, 2, func(c *cluster) {
		one, _ := c.indexedMember("one")
		time.Sleep(leaseDuration + leaseDuration/10) // after all were listed
		c.change(func(l *consumer.Lease) { l.NextOwner = "elsewhere" })
		time.Sleep(leaseDuration / 2)
		require.Equal(c, "elsewhere", c.lease().Owner)
		c.change(func(l *consumer.Lease) { l.Owner, l.Epoch = "one", l.Epoch+1 })
		time.Sleep(leaseDuration)
		c.put("a", "b", "c", "d")
		synctest.Wait()
		require.Len(c, one.take(), 4, "it was assigned, and processes both shards")
		epoch := c.lease().Epoch
		c.change(func(l *consumer.Lease) { l.Paused = true })
		time.Sleep(leaseDuration / 2)
		require.Empty(c, c.lease().Owner)
		require.Equal(c, epoch, c.lease().Epoch)
		require.NoError(c, one.stop())
	})
}

// change writes the lease as a tool or another engine does.
func (c *cluster) change(change func(*consumer.Lease)) {
	c.Helper()
	for {
		lease := c.leaseNow()
		change(&lease)
		stored, err := c.store.CompareAndSet(c.Context(), lease)
		require.NoError(c, err)
		if stored {
			return
		}
	}
}

// A worker of a fleet looks once in a LeaseDuration, between two listings, for leases that it was
// assigned.
func TestIndexOfOwnersShowsAssignments(t *testing.T) {
	led(t, 2, func(c *cluster) {
		one, links := c.indexedMember("one")
		time.Sleep(time.Minute)
		links.all.Store(0)
		links.owned.Store(0)
		time.Sleep(100 * leaseDuration)
		require.InDelta(c, 100, links.all.Load(), 1)
		require.InDelta(c, 100, links.owned.Load(), 1)

		awaitListing := func() (listings int64) {
			for was := links.all.Load(); links.all.Load() == was; {
				time.Sleep(leaseDuration / 100)
			}
			return links.all.Load()
		}
		listed := awaitListing()
		c.change(func(l *consumer.Lease) { l.Owner, l.Epoch = "elsewhere", l.Epoch+1 })
		time.Sleep(leaseDuration * 3 / 4)
		require.Equal(c, "elsewhere", c.lease().Owner)
		require.Equal(c, listed, links.all.Load(), "a lease that is lost is read alone")

		listed = awaitListing()
		c.change(func(l *consumer.Lease) { l.Owner = "one" })
		epoch := c.lease().Epoch
		time.Sleep(leaseDuration * 3 / 4)
		require.Equal(c, epoch+1, c.lease().Epoch, "it is taken")
		require.Equal(c, listed, links.all.Load())
		require.NoError(c, one.stop())
	})
}

// A worker that requests a lease has it within a LeaseDuration: the owner sees the request when it
// next renews the lease, and the requester looks for it in each pass.
func TestHandOverWithAnIndexOfOwners(t *testing.T) {
	expiry(t, 2, func(c *cluster) {
		one, _ := c.indexedMember("one")
		time.Sleep(leaseDuration / 4)
		var requested, taken time.Time
		c.store.OnWrite(func(before, after consumer.Lease) {
			switch {
			case requested.IsZero() && after.NextOwner == "two":
				requested = time.Now()
			case taken.IsZero() && before.Owner == "two" && after.Owner == "two":
				taken = time.Now()
			}
		})
		two, links := c.indexedMember("two")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Less(c, taken.Sub(requested), leaseDuration*3/4, "before all are listed again")
		require.Zero(c, links.owned.Load())
		require.NoError(c, two.stop())
		require.NoError(c, one.stop())
	})
}

// The leases of a shared store contain the relations and the throughput of their shards.
func TestLeasesOfASharedStoreDescribeTheirShards(t *testing.T) {
	expiry(t, 1, func(c *cluster) {
		one := c.join("one", nil)
		for range 60 {
			c.putIn(c.orders.Shards()[0], "k", make([]byte, 2000))
			time.Sleep(time.Second)
		}
		leases := c.leases()
		require.Equal(c, braid.HashKeyRange{End: braid.MaxHashKey()}, leases[0].HashKeyRange)
		require.Empty(c, leases[0].Parents)
		require.InDelta(c, 2000, leases[0].Throughput, 200)
		c.split(shard0)
		time.Sleep(time.Minute)
		children := []braid.ShardID{shard1, shard2}
		require.Equal(c, children, c.lease().Children)
		for _, lease := range c.leases() {
			if lease.Shard != shard0 {
				require.Equal(c, []braid.ShardID{shard0}, lease.Parents)
				require.NotEqual(c, leases[0].HashKeyRange, lease.HashKeyRange)
				require.Zero(c, lease.Throughput)
			}
		}
		require.NoError(c, one.stop())
	})
}

// An application whose leases are elsewhere can be inspected and controlled without a
// worker.
func TestRemoteAppNeedsNoWorker(t *testing.T) {
	for _, indexed := range []bool{false, true} {
		expiry(t, 2, func(c *cluster) {
			app, err := consumer.OpenRemoteApp(c.db, "billing", nil, c.store)
			require.NoError(c, err)
			_, err = app.Status(c.Context())
			require.ErrorIs(c, err, consumer.ErrAppNotFound)
			var one *member
			if indexed {
				one, _ = c.indexedMember("one")
			} else {
				one = c.join("one", nil)
			}
			c.put("a", "b", "c", "d")
			require.NoError(c, app.WaitCaughtUp(c.Context()))
			one.take()
			status, err := app.Status(c.Context())
			require.NoError(c, err)
			require.Equal(c, consumer.StateRunning, status.Shards[0].State)
			require.Equal(c, "one", status.Shards[0].Owner)
			require.NoError(c, app.Pause(c.Context(), consumer.LeaseKey{}))
			time.Sleep(2 * leaseDuration)
			c.put("e")
			synctest.Wait()
			require.Empty(c, one.take())
			require.NoError(c, app.Seek(c.Context(), consumer.LeaseKey{Stream: "orders"}, braid.TrimHorizon()))
			require.NoError(c, app.Resume(c.Context(), consumer.LeaseKey{}))
			time.Sleep(2 * leaseDuration)
			require.Len(c, one.take(), 5)
			require.NoError(c, one.stop())
			require.NoError(c, app.Delete(c.Context()))
			require.Empty(c, c.leases())
		})
	}
}

package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
)

func TestWorkersElsewhereShareTheShards(t *testing.T) {
	expiry(t, 6, func(c *cluster) {
		one := c.join("one", nil)
		require.Equal(c, map[string]int{"one": 6}, c.owners())
		two := c.join("two", nil)
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"one": 3, "two": 3}, c.owners())
		three := c.join("three", nil)
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"one": 2, "two": 2, "three": 2}, c.owners())
		epochs := c.epochs()
		time.Sleep(time.Hour)
		require.Equal(c, epochs, c.epochs(), "what is even stays where it is")
		require.NoError(c, one.stop())
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"two": 3, "three": 3}, c.owners())
		require.NoError(c, two.stop())
		require.NoError(c, three.stop())
		require.Equal(c, map[string]int{"": 6}, c.owners())
	})
}

func TestWorkersElsewhereThatStartTogetherShareTheShards(t *testing.T) {
	expiry(t, 5, func(c *cluster) {
		var all []*member
		for i := range 3 {
			all = append(all, c.join(fmt.Sprint("worker ", i), nil))
		}
		time.Sleep(time.Minute)
		owners := c.owners()
		require.Len(c, owners, 3, "%v", owners)
		for name, n := range owners {
			require.LessOrEqual(c, n, 2, "%s: %v", name, owners)
		}
		epochs := c.epochs()
		time.Sleep(10 * time.Minute)
		require.Equal(c, epochs, c.epochs())
		for _, m := range all {
			require.NoError(c, m.stop())
		}
	})
}

func TestRecordsOfASharedStreamAreProcessedOnce(t *testing.T) {
	expiry(t, 4, func(c *cluster) {
		var all []*member
		var want []string
		for i := range 40 { // workers come and go, without failures
			data := fmt.Sprint("record ", i)
			want = append(want, data)
			c.put(data)
			switch i % 10 {
			case 0:
				all = append(all, c.join(fmt.Sprint("worker ", i), nil))
			case 5:
				if i > 10 {
					require.NoError(c, all[i/10-1].stop())
				}
			}
			time.Sleep(7 * time.Second)
		}
		time.Sleep(time.Minute)
		var seen []string
		for _, m := range all {
			seen = append(seen, m.take()...)
		}
		require.ElementsMatch(c, want, seen)
		require.NoError(c, all[3].stop())
	})
}

func numbered(what string, n int) (data []string) {
	for i := range n {
		data = append(data, fmt.Sprint(what, " ", i))
	}
	return data
}

// A processor that does not return keeps its lease for HandOverTimeout.
func TestStuckProcessorElsewhereIsTakenFrom(t *testing.T) {
	expiry(t, 2, func(c *cluster) {
		wake := make(chan struct{})
		one := c.join("one", func(m *member, _ *consumer.Config) {
			m.process = func(context.Context, *consumer.Batch) error { <-wake; return nil }
		})
		c.put(numbered("record", 10)...)
		synctest.Wait()
		two := c.join("two", nil)
		time.Sleep(2 * time.Minute)
		require.Equal(c, map[string]int{"one": 1, "two": 1}, c.owners())
		require.NotEmpty(c, two.take())
		close(wake)
		time.Sleep(time.Minute)
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
	})
}

func TestWorkersElsewhereWaitForParents(t *testing.T) {
	expiry(t, 2, func(c *cluster) {
		one := c.join("one", nil)
		two := c.join("two", nil)
		time.Sleep(time.Minute)
		c.put(numbered("before", 20)...)
		for _, shard := range []braid.ShardID{"shardId-000000000000", "shardId-000000000001"} {
			c.split(shard)
		}
		c.put(numbered("after", 20)...)
		time.Sleep(time.Minute)
		require.ElementsMatch(c, append(numbered("before", 20), numbered("after", 20)...), append(one.take(), two.take()...))
		working := make(map[string]int)
		for _, lease := range c.leases() {
			if !lease.Checkpoint.ShardEnd {
				working[lease.Owner]++
			}
		}
		require.Equal(c, map[string]int{"one": 2, "two": 2}, working)
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
	})
}

func TestWorkersElsewhereEndWithTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		_, err = db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Shards: 2})
		require.NoError(t, err)
		c := newCluster(&fixture{T: t, db: db})
		one := c.join("one", nil)
		two := c.join("two", nil)
		time.Sleep(time.Minute)
		closed := time.Now()
		require.NoError(t, db.Close())
		synctest.Wait()
		require.ErrorIs(t, one.stop(), braid.ErrClosed)
		require.ErrorIs(t, two.stop(), braid.ErrClosed)
		require.Equal(t, closed, time.Now(), "nothing is waited for")
	})
}

// Workers whose links are cut, mended and lose answers at random, and that come and go,
// never move a checkpoint back. In the end they have processed every record and share the
// shards evenly.
func TestWorkersElsewhereSurviveWhatMayHappen(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			expiry(t, 3, func(c *cluster) { c.surviveAll(rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func (c *cluster) surviveAll(chance *rand.Rand) {
	var broken []string
	c.store.OnWrite(func(before, after consumer.Lease) {
		done, to := before.Checkpoint, after.Checkpoint
		back := to.SequenceNumber.Compare(done.SequenceNumber) < 0 && !to.ShardEnd || done.ShardEnd && !to.ShardEnd
		if back && before.Version > 0 || after.Epoch < before.Epoch || before.Owner != "" && after.Owner != "" && before.Owner != after.Owner && after.Epoch == before.Epoch {
			broken = append(broken, fmt.Sprintf("%+v -> %+v", before, after))
		}
	})
	var mu sync.Mutex // guards answers
	answers := rand.New(rand.NewPCG(chance.Uint64(), 1))
	lossy := func(_ context.Context, op string, lease consumer.Lease) error {
		mu.Lock()
		n := answers.IntN(8)
		mu.Unlock()
		switch {
		case lease.LeaseKey == (consumer.LeaseKey{}):
		case n == 0 && op == "CompareAndSet":
			return fmt.Errorf("%w: %w", leasetest.ErrAfter, errUnplugged)
		case n == 1:
			return errUnplugged
		}
		return nil
	}
	var all, alive []*member
	mends := make(map[*member]func())
	mend := func(m *member) {
		if mends[m] != nil {
			mends[m]()
			delete(mends, m)
		}
		m.link.set(nil)
	}
	join := func() {
		m := c.join(fmt.Sprint("worker ", len(all)), func(_ *member, cfg *consumer.Config) {
			cfg.CheckpointInterval = time.Duration(chance.IntN(3)) * 5 * time.Second
		})
		all, alive = append(all, m), append(alive, m)
	}
	var want []string
	for range 60 {
		var some *member
		if len(alive) > 0 {
			some = alive[chance.IntN(len(alive))]
		}
		switch action := chance.IntN(10); {
		case action == 0 && len(alive) < 4 || some == nil:
			join()
		case action == 1:
			mend(some)
			require.NoError(c, some.stop())
			alive = slices.DeleteFunc(alive, func(m *member) bool { return m == some })
		case action <= 3:
			mend(some)
			mends[some] = some.cut()
		case action <= 5:
			mend(some)
			some.link.set(lossy)
		case action <= 7:
			mend(some)
		case action == 8:
			shards := c.orders.Shards()
			if shard := shards[chance.IntN(len(shards))]; len(shards) < 15 && !shard.Describe().Closed {
				c.split(shard.ID())
			}
		}
		for range chance.IntN(5) {
			data := fmt.Sprint("record ", len(want))
			want = append(want, data)
			c.put(data)
		}
		time.Sleep(time.Duration(chance.IntN(9000)) * time.Millisecond)
	}
	for _, m := range alive {
		mend(m)
	}
	join()
	time.Sleep(5 * time.Minute)
	synctest.Wait()
	var seen []string
	for _, m := range all {
		seen = append(seen, m.take()...)
	}
	require.Subset(c, seen, want)
	working := make(map[string]int)
	for _, lease := range c.leases() {
		if !lease.Checkpoint.ShardEnd {
			working[lease.Owner]++
		}
	}
	least, most := 100, 0
	for _, m := range alive {
		least, most = min(least, working[m.name]), max(most, working[m.name])
		delete(working, m.name)
	}
	require.Empty(c, working, "only those that live have leases")
	require.LessOrEqual(c, most-least, 1)
	for _, m := range alive {
		require.NoError(c, m.stop())
	}
	require.Empty(c, broken)
}

// A shard that is stopped at a worker in another process continues after a Resume of it,
// of its stream or of the application, but not because the store fails for a while.
func TestResumeReachesWorkersElsewhere(t *testing.T) {
	for _, key := range []consumer.LeaseKey{{}, {Stream: "orders"}, {Stream: "orders", Shard: shard0}} {
		t.Run(strings.ReplaceAll(key.String(), " ", "-"), func(t *testing.T) {
			expiry(t, 1, func(c *cluster) {
				calls, broken := 0, true
				one := c.join("one", func(m *member, cfg *consumer.Config) {
					cfg.MaxAttempts = 1
					m.process = func(context.Context, *consumer.Batch) error {
						if calls++; broken {
							return errors.New("no")
						}
						return nil
					}
				})
				c.put("a")
				synctest.Wait()
				require.Equal(c, 1, calls)
				other, err := consumer.New(nil, &consumer.Config{App: "billing", Streams: []string{"orders"}, Source: consumer.NewDBSource(c.db), Leases: c.store}, one)
				require.NoError(c, err)

				// Renewals of unknown outcome do not count as a Resume, and neither does one of another
				// key.
				one.link.set(func(_ context.Context, op string, _ consumer.Lease) error {
					if op == "CompareAndSet" {
						return leasetest.ErrAfter
					}
					return nil
				})
				time.Sleep(leaseDuration / 2)
				one.link.set(nil)
				time.Sleep(time.Minute)
				require.ErrorIs(c, other.App().Resume(c.Context(), consumer.LeaseKey{Stream: "others"}), braid.ErrStreamNotFound)
				time.Sleep(time.Minute)
				require.Equal(c, 1, calls)

				require.NoError(c, other.App().Resume(c.Context(), key))
				time.Sleep(leaseDuration / 3)
				synctest.Wait()
				require.Equal(c, 2, calls, "it has tried again, and is stopped again")
				broken = false
				require.NoError(c, other.App().Resume(c.Context(), key))
				time.Sleep(leaseDuration / 3)
				synctest.Wait()
				require.Equal(c, 3, calls)
				require.Equal(c, []string{"a"}, one.take())
				require.NoError(c, other.App().Resume(c.Context(), key), "nothing is stopped")
				c.put("b")
				time.Sleep(time.Minute)
				require.Equal(c, []string{"b"}, one.take())
				require.EqualValues(c, 3, c.lease().Epoch, "a shard that works is left alone")
				require.NoError(c, one.stop())
			})
		})
	}
}

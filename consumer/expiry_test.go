package consumer_test

import (
	"context"
	"errors"
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
	"github.com/braidstream/braid/consumer/leasetest"
)

// The tests in this file are about workers that know of each other by a store of
// leases alone, as if they were in processes of their own. No time of day is compared
// or stored anywhere: leases expire by differences of the monotonic clock, which a
// change of the wall clock does not touch. A bubble cannot set one without the other,
// so there is no test of that.

const leaseDuration = 10 * time.Second

// cluster is a set of workers that share nothing but a store of leases and the
// streams.
type cluster struct {
	*fixture
	store *leasetest.Memory

	mu       sync.Mutex
	contexts map[string]context.Context // of the processors, by shard and epoch
	overlaps []string                   // when two had a shard at once
}

func newCluster(f *fixture) *cluster {
	return &cluster{fixture: f, store: leasetest.NewMemory(leaseDuration), contexts: make(map[string]context.Context)}
}

func expiry(t *testing.T, shards int, test func(c *cluster)) {
	bubble(t, shards, func(f *fixture) {
		c := newCluster(f)
		test(c)
		c.mu.Lock()
		defer c.mu.Unlock()
		require.Empty(f, c.overlaps)
	})
}

// link is a worker's way to the store. It can be cut, while others have theirs.
type link struct {
	*leasetest.Memory

	mu     sync.Mutex
	before func(ctx context.Context, op string, lease consumer.Lease) error // as for Memory.Fail
}

func (l *link) set(before func(ctx context.Context, op string, lease consumer.Lease) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = before
}

var errUnplugged = errors.New("unplugged")

// cut makes every call wait until its context ends or the link is mended.
func (l *link) cut() (mend func()) {
	mended := make(chan struct{})
	l.set(func(ctx context.Context, _ string, _ consumer.Lease) error {
		select {
		case <-mended:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	return func() {
		l.set(nil)
		close(mended)
	}
}

// pass returns the error of a call, and whether the call is to be done.
func (l *link) pass(ctx context.Context, op string, lease consumer.Lease) (do bool, err error) {
	l.mu.Lock()
	before := l.before
	l.mu.Unlock()
	if before != nil {
		err = before(ctx, op, lease)
	}
	return err == nil || errors.Is(err, leasetest.ErrAfter), err
}

func (l *link) List(ctx context.Context) ([]consumer.Lease, error) {
	if _, err := l.pass(ctx, "List", consumer.Lease{}); err != nil {
		return nil, err
	}
	return l.Memory.List(ctx)
}

func (l *link) Get(ctx context.Context, key consumer.LeaseKey) (consumer.Lease, bool, error) {
	if _, err := l.pass(ctx, "Get", consumer.Lease{LeaseKey: key}); err != nil {
		return consumer.Lease{}, false, err
	}
	return l.Memory.Get(ctx, key)
}

func (l *link) CompareAndSet(ctx context.Context, lease consumer.Lease) (stored bool, err error) {
	do, lost := l.pass(ctx, "CompareAndSet", lease)
	if do {
		stored, err = l.Memory.CompareAndSet(context.WithoutCancel(ctx), lease) // it is on its way
	}
	if lost != nil {
		return false, lost
	}
	return stored, err
}

func (l *link) Delete(ctx context.Context, lease consumer.Lease) (deleted bool, err error) {
	do, lost := l.pass(ctx, "Delete", lease)
	if do {
		deleted, err = l.Memory.Delete(context.WithoutCancel(ctx), lease)
	}
	if lost != nil {
		return false, lost
	}
	return deleted, err
}

// member is a worker of a cluster, and its processor.
type member struct {
	*link
	journal
	c    *cluster
	name string
	stop func() error

	// process, if it is not nil, is called before the records of a batch are logged.
	process func(ctx context.Context, batch *consumer.Batch) error
}

// join starts a worker.
func (c *cluster) join(name string, change func(m *member, cfg *consumer.Config)) *member {
	c.Helper()
	m := &member{link: &link{Memory: c.store}, c: c, name: name}
	cfg := consumer.Config{
		App:      "billing",
		Streams:  []string{"orders"},
		WorkerID: name,
		Source:   consumer.NewDBSource(c.db),
		Leases:   m.link,
	}
	if change != nil {
		change(m, &cfg)
	}
	w, err := consumer.New(nil, &cfg, m)
	require.NoError(c, err)
	m.stop = c.start(w)
	time.Sleep(time.Millisecond) // see Initialize
	synctest.Wait()
	return m
}

func (m *member) ProcessRecords(ctx context.Context, batch *consumer.Batch) error {
	if m.process != nil {
		if err := m.process(ctx, batch); err != nil {
			return err
		}
	}
	return m.collect(ctx, batch)
}

// Initialize notes it if the processor before has not been told yet that its lease is
// lost.
func (m *member) Initialize(ctx context.Context, c *consumer.Checkpointer) error {
	lease := c.Lease()
	// Clocks of processes are not in step to the nanosecond, as they are in a bubble:
	// there an owner loses a lease at the instant at which another one may take it.
	time.Sleep(time.Nanosecond)
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	for epoch := range lease.Epoch {
		if other := m.c.contexts[fmt.Sprint(lease.Shard, epoch)]; other != nil && other.Err() == nil {
			m.c.overlaps = append(m.c.overlaps, fmt.Sprintf("somebody has %s under epoch %d, and %s begins under %d", lease.Shard, epoch, m.name, lease.Epoch))
		}
	}
	m.c.contexts[fmt.Sprint(lease.Shard, lease.Epoch)] = ctx
	return nil
}

// leases returns the leases of the shards.
func (c *cluster) leases() (leases []consumer.Lease) {
	c.Helper()
	synctest.Wait()
	list, err := c.store.List(c.Context())
	require.NoError(c, err)
	for _, lease := range list {
		if lease.Shard != "" {
			leases = append(leases, lease)
		}
	}
	return leases
}

// lease returns the lease of the first shard.
func (c *cluster) lease() consumer.Lease {
	c.Helper()
	synctest.Wait()
	return c.leaseNow()
}

// leaseNow does not wait, so that functions that workers call can use it.
func (c *cluster) leaseNow() consumer.Lease {
	c.Helper()
	lease, found, err := c.store.Get(c.Context(), consumer.LeaseKey{Stream: "orders", Shard: "shardId-000000000000"})
	require.NoError(c, err)
	require.True(c, found)
	return lease
}

// owners counts the leases that each worker has.
func (c *cluster) owners() map[string]int {
	c.Helper()
	owners := make(map[string]int)
	for _, lease := range c.leases() {
		owners[lease.Owner]++
	}
	return owners
}

// epochs adds up the epochs of the leases: it grows with each change of owner.
func (c *cluster) epochs() (sum uint64) {
	c.Helper()
	for _, lease := range c.leases() {
		sum += lease.Epoch
	}
	return sum
}

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
		for i := range 40 { // workers come and go, in peace
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

func TestLeasesOfADeadWorkerExpire(t *testing.T) {
	expiry(t, 4, func(c *cluster) {
		dead := false
		one := c.join("one", func(m *member, _ *consumer.Config) {
			m.process = func(ctx context.Context, _ *consumer.Batch) error {
				if dead {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
		})
		two := c.join("two", nil)
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"one": 2, "two": 2}, c.owners())
		before := numbered("before", 20)
		c.put(before...)
		synctest.Wait()
		require.ElementsMatch(c, before, append(one.take(), two.take()...))
		dead = true
		bury := one.cut()
		died := time.Now()
		after := numbered("after", 20)
		c.put(after...)
		time.Sleep(leaseDuration / 2)
		require.Equal(c, map[string]int{"one": 2, "two": 2}, c.owners(), "not yet")
		for c.owners()["two"] < 4 {
			time.Sleep(100 * time.Millisecond)
			require.Less(c, time.Since(died), 2*leaseDuration)
		}
		time.Sleep(time.Second)
		require.ElementsMatch(c, after, two.take(), "it goes on from the checkpoints")
		require.Empty(c, one.take())
		bury()
		require.NoError(c, one.stop())
		require.Equal(c, map[string]int{"two": 4}, c.owners())
		require.NoError(c, two.stop())
	})
}

func numbered(what string, n int) (data []string) {
	for i := range n {
		data = append(data, fmt.Sprint(what, " ", i))
	}
	return data
}

func TestOwnerThatDoesNotReachTheStoreGivesUpInTime(t *testing.T) {
	for name, freeze := range map[string]func(l *link) (mend func()){
		"calls end with their context": (*link).cut,
		"calls do not return": func(l *link) func() {
			mended := make(chan struct{})
			l.set(func(context.Context, string, consumer.Lease) error { <-mended; return nil })
			return func() { close(mended); l.set(nil) }
		},
		"calls have errors": func(l *link) func() {
			l.set(func(context.Context, string, consumer.Lease) error { return errUnplugged })
			return func() { l.set(nil) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			expiry(t, 1, func(c *cluster) {
				one := c.join("one", nil)
				two := c.join("two", nil)
				time.Sleep(time.Minute)
				require.Equal(c, "one", c.lease().Owner)
				epoch := c.lease().Epoch
				mend := freeze(one.link)
				time.Sleep(2 * leaseDuration)
				require.Equal(c, "two", c.lease().Owner)
				require.Equal(c, epoch+1, c.lease().Epoch)
				c.put("a")
				synctest.Wait()
				require.Equal(c, []string{"a"}, two.take())
				require.Empty(c, one.take())
				mend()
				time.Sleep(time.Minute)
				require.Equal(c, "two", c.lease().Owner, "who comes back has to wait its turn")
				require.NoError(c, one.stop())
				require.NoError(c, two.stop())
			})
		})
	}
}

func TestWorkerThatWasAsleepCannotCheckpoint(t *testing.T) {
	expiry(t, 1, func(c *cluster) {
		wake := make(chan struct{})
		result := make(chan error, 1)
		one := c.join("one", func(m *member, cfg *consumer.Config) {
			cfg.Checkpoints = consumer.Manual
			m.process = func(_ context.Context, batch *consumer.Batch) error {
				<-wake // whatever becomes of ctx
				result <- batch.CheckpointAt(context.Background(), batch.Records[0])
				return nil
			}
		})
		two := c.join("two", nil)
		c.put("a", "b")
		synctest.Wait()
		mend := one.cut()
		time.Sleep(2 * leaseDuration)
		require.Equal(c, []string{"a", "b"}, two.take())
		lease := c.lease()
		require.Equal(c, "two", lease.Owner)
		mend()
		close(wake)
		require.ErrorIs(c, <-result, consumer.ErrLeaseLost)
		synctest.Wait()
		require.Equal(c, lease.Checkpoint, c.lease().Checkpoint)
		require.Equal(c, lease.Epoch, c.lease().Epoch)
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
	})
}

// The owner does not know yet that it has lost the lease: only the store can tell.
func TestCheckpointThatArrivesLateIsRefused(t *testing.T) {
	expiry(t, 1, func(c *cluster) {
		var result error
		one := c.join("one", func(m *member, cfg *consumer.Config) {
			cfg.Checkpoints = consumer.Manual
			m.process = func(ctx context.Context, batch *consumer.Batch) error {
				result = batch.CheckpointAt(ctx, batch.Records[0])
				return result
			}
		})
		lease := c.lease()
		var taken consumer.Lease
		one.set(func(_ context.Context, op string, next consumer.Lease) error {
			if op == "CompareAndSet" && !next.Checkpoint.SequenceNumber.IsZero() && taken.Version == 0 {
				taken = c.leaseNow() // just before it arrives
				taken.Owner, taken.Epoch = "two", taken.Epoch+1
				stored, err := c.store.CompareAndSet(context.Background(), taken)
				if err != nil || !stored {
					panic("the lease could not be taken")
				}
				taken.Version++
			}
			return nil
		})
		c.put("a")
		synctest.Wait()
		require.ErrorIs(c, result, consumer.ErrLeaseLost)
		require.Equal(c, taken, c.lease())
		require.Equal(c, lease.Checkpoint, c.lease().Checkpoint)
		require.Empty(c, one.take())
		require.NoError(c, one.stop())
	})
}

func TestLostAnswersDoNotLoseTheLease(t *testing.T) {
	expiry(t, 1, func(c *cluster) {
		one := c.join("one", nil)
		two := c.join("two", nil)
		epoch := c.lease().Epoch
		version := c.lease().Version
		calls := 0
		one.set(func(_ context.Context, op string, _ consumer.Lease) error {
			if op != "CompareAndSet" {
				return nil
			}
			// What follows a write whose answer is lost is one that is refused, and
			// one that counts.
			if calls++; calls%3 == 1 {
				return fmt.Errorf("%w: %w", leasetest.ErrAfter, errUnplugged)
			}
			return nil
		})
		time.Sleep(5 * time.Minute) // renewals
		require.Equal(c, epoch, c.lease().Epoch)
		require.Greater(c, c.lease().Version, version+30)
		for i := range 10 { // checkpoints
			c.put(fmt.Sprint("record ", i))
			time.Sleep(5 * time.Second)
		}
		require.Equal(c, numbered("record", 10), one.take(), "and nothing comes twice")
		require.Empty(c, two.take())
		lease := c.lease()
		require.Equal(c, epoch, lease.Epoch)
		require.Equal(c, "one", lease.Owner)
		require.False(c, lease.Checkpoint.SequenceNumber.IsZero())
		one.set(nil)
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
	})
}

// Whoever takes or hands over a lease and does not learn that it has worked comes to
// the same in the end.
func TestLostAnswersDoNotLoseHandOvers(t *testing.T) {
	expiry(t, 4, func(c *cluster) {
		var mu sync.Mutex
		chance := rand.New(rand.NewPCG(1, 2))
		lossy := func(m *member, _ *consumer.Config) {
			m.set(func(_ context.Context, op string, lease consumer.Lease) error {
				mu.Lock()
				defer mu.Unlock()
				// Run does not begin without the lease of the application.
				if op == "CompareAndSet" && lease.Stream != "" && chance.IntN(4) == 0 {
					return fmt.Errorf("%w: %w", leasetest.ErrAfter, errUnplugged)
				}
				return nil
			})
		}
		one := c.join("one", lossy)
		two := c.join("two", lossy)
		time.Sleep(5 * time.Minute)
		require.Equal(c, map[string]int{"one": 2, "two": 2}, c.owners())
		data := numbered("record", 40)
		c.put(data...)
		time.Sleep(time.Minute)
		require.ElementsMatch(c, data, append(one.take(), two.take()...))
		require.NoError(c, one.stop())
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"two": 4}, c.owners())
		require.NoError(c, two.stop())
	})
}

func TestOwnerThatDiesInAHandOverIsWaitedFor(t *testing.T) {
	expiry(t, 2, func(c *cluster) {
		one := c.join("one", nil)
		require.Equal(c, map[string]int{"one": 2}, c.owners())
		var mend func()
		var asked time.Time
		c.store.OnWrite(func(_, after consumer.Lease) {
			if after.NextOwner == "two" && mend == nil {
				asked = time.Now()
				mend = one.cut()
			}
		})
		two := c.join("two", nil)
		time.Sleep(leaseDuration)
		synctest.Wait()
		require.NotNil(c, mend, "it is asked for a lease")
		for c.owners()["two"] < 2 {
			time.Sleep(100 * time.Millisecond)
			require.Less(c, time.Since(asked), 2*leaseDuration)
		}
		for _, lease := range c.leases() {
			require.Empty(c, lease.NextOwner)
		}
		data := numbered("record", 10)
		c.put(data...)
		synctest.Wait()
		require.ElementsMatch(c, data, two.take())
		mend()
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
	})
}

func TestWorkerThatDiesAfterItHasAskedIsForgotten(t *testing.T) {
	expiry(t, 2, func(c *cluster) {
		one := c.join("one", nil)
		var mend func()
		two := c.join("two", func(m *member, _ *consumer.Config) {
			c.store.OnWrite(func(_, after consumer.Lease) {
				if after.NextOwner == "two" && mend == nil {
					mend = m.cut()
				}
			})
		})
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.NotNil(c, mend, "it has asked for a lease")
		require.Equal(c, map[string]int{"one": 2}, c.owners())
		data := numbered("record", 10)
		c.put(data...)
		synctest.Wait()
		require.ElementsMatch(c, data, one.take())
		mend()
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"one": 1, "two": 1}, c.owners())
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
	})
}

// The owner writes the lease on and on, and does not hear that it is asked for it.
func TestOwnerThatDoesNotHandOverIsTakenFrom(t *testing.T) {
	expiry(t, 2, func(c *cluster) {
		one := c.join("one", nil)
		mended := make(chan struct{})
		one.set(func(_ context.Context, op string, _ consumer.Lease) error {
			if op == "List" {
				<-mended
			}
			return nil
		})
		two := c.join("two", nil)
		time.Sleep(30 * time.Second)
		require.Equal(c, map[string]int{"one": 2}, c.owners())
		time.Sleep(30 * time.Second)
		require.Equal(c, map[string]int{"one": 1, "two": 1}, c.owners())
		close(mended)
		time.Sleep(time.Minute)
		require.Equal(c, map[string]int{"one": 1, "two": 1}, c.owners())
		require.NoError(c, one.stop())
		require.NoError(c, two.stop())
		require.Len(c, c.overlaps, 1) // the owner learns of it when it writes next
		c.overlaps = nil
	})
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

// Workers whose links are cut, mended and lose answers at random, and that come and
// go, never move a checkpoint back, and in the end have processed every record and
// share the shards evenly.
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

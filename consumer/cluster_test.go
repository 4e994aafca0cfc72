package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
)

// A cluster is for tests of workers that know each other only by a store of leases, as if
// they were in separate processes. No time of day is compared or stored anywhere: leases
// expire by differences of the monotonic clock, which a change of the wall clock does not
// affect. A bubble cannot set one clock without the other, so there is no test of that.

const leaseDuration = 10 * time.Second

// cluster is a set of workers that share only a store of leases and the streams.
type cluster struct {
	*fixture
	store *leasetest.Memory
	fleet *leasetest.MemoryFleet // whose store it is; nil for none

	mu       sync.Mutex
	contexts map[string]context.Context // of the processors, by shard and epoch
	overlaps []string                   // times at which two processors had a shard at once
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

// led is expiry with a store whose leases a leader assigns.
func led(t *testing.T, shards int, test func(c *cluster)) {
	bubble(t, shards, func(f *fixture) {
		c := newCluster(f)
		c.fleet = leasetest.NewMemoryFleet(leaseDuration)
		c.store = c.fleet.Memory
		test(c)
		c.mu.Lock()
		defer c.mu.Unlock()
		require.Empty(f, c.overlaps)
	})
}

// link is one worker's connection to the store. It can be cut without affecting the
// others.
type link struct {
	*leasetest.Memory
	fleet *leasetest.MemoryFleet

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
		stored, err = l.Memory.CompareAndSet(context.WithoutCancel(ctx), lease) // the request still arrives
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

// Fleet is that of the store, over the link.
func (l *link) Fleet() consumer.Fleet {
	if l.fleet == nil {
		return nil
	}
	return l
}

func (l *link) Report(ctx context.Context, worker string) (leads bool, workers []string, err error) {
	if _, err := l.pass(ctx, "Report", consumer.Lease{}); err != nil {
		return false, nil, err
	}
	return l.fleet.Report(ctx, worker)
}

func (l *link) RequestHandOver(ctx context.Context, lease consumer.Lease, to string) (stored bool, err error) {
	do, lost := l.pass(ctx, "RequestHandOver", lease)
	if do {
		stored, err = l.fleet.RequestHandOver(context.WithoutCancel(ctx), lease, to)
	}
	if lost != nil {
		return false, lost
	}
	return stored, err
}

func (l *link) Leave(ctx context.Context, worker string) error {
	if _, err := l.pass(ctx, "Leave", consumer.Lease{}); err != nil {
		return err
	}
	return l.fleet.Leave(ctx, worker)
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
	m := &member{link: &link{Memory: c.store, fleet: c.fleet}, c: c, name: name}
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

// Initialize notes an overlap if the previous processor does not know yet that its lease
// is lost.
func (m *member) Initialize(ctx context.Context, c *consumer.Checkpointer) error {
	lease := c.Lease()
	// In real processes, clocks are not in step to the nanosecond. In a bubble they are, and
	// an owner loses a lease at the same instant at which another worker may take it.
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

// leaseNow does not wait, so functions that workers call can use it.
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

// epochs returns the sum of the leases' epochs, which grows with each change of owner.
func (c *cluster) epochs() (sum uint64) {
	c.Helper()
	for _, lease := range c.leases() {
		sum += lease.Epoch
	}
	return sum
}

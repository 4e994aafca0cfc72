package leasetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/consumer"
)

// ErrAfter, wrapped by what a function given to [Memory.Fail] returns, says that
// the write is done and the error returned all the same: as if the answer of a
// remote store was lost on its way.
var ErrAfter = errors.New("the answer is lost")

// Memory is a [consumer.LeaseStore] in memory. It is for tests, and a model of one
// that stands for a remote store: it lets leases expire, if it is made with a
// duration, and it can be made to fail before and after a write. Nothing of it
// lasts longer than the process, so it is not for production.
//
// Workers that are given the same Memory, and a [consumer.Config].Source, share the
// work as if they were in processes of their own. Its methods may be called from
// any number of goroutines.
type Memory struct {
	duration time.Duration

	mu      sync.Mutex // guards the fields below
	leases  map[consumer.LeaseKey]consumer.Lease
	onWrite func(before, after consumer.Lease)
	fail    func(op string, key consumer.LeaseKey) error
	asks    bool // owners have to know of requests: see MemoryFleet
}

// NewMemory returns an empty store whose LeaseDuration is the given one.
func NewMemory(leaseDuration time.Duration) *Memory {
	return &Memory{duration: leaseDuration, leases: make(map[consumer.LeaseKey]consumer.Lease)}
}

// OnWrite has a function called with each lease that is written, in the order of
// the writes: as it was, and as it is. A lease that is not there has a Version of 0.
// The function must not call the store. nil takes it away.
func (m *Memory) OnWrite(hook func(before, after consumer.Lease)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onWrite = hook
}

// Fail has a function called at the beginning of every call of the methods List,
// Get, CompareAndSet and Delete, and of those of a [MemoryFleet], whose name it is given, with the key of the lease,
// the zero key for List. An error that it returns is returned by the method, which
// does nothing; but if it wraps [ErrAfter], a write is done before. The function may
// wait: then the call has not reached the store yet. Workers use the store at the same
// time, so the function is called by any number of goroutines at once: what it keeps
// needs a lock, or has to be atomic. It may still run for a while after it was taken
// away, which nil does.
func (m *Memory) Fail(fail func(op string, key consumer.LeaseKey) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = fail
}

// enter returns the error with which an operation is to end, and whether it is to
// be done before that.
func (m *Memory) enter(ctx context.Context, op string, key consumer.LeaseKey) (do bool, err error) {
	m.mu.Lock()
	fail := m.fail
	m.mu.Unlock()
	if fail != nil {
		err = fail(op, key) // without the lock, so that it may wait
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return err == nil || errors.Is(err, ErrAfter), err
}

// List returns all leases, in no order.
func (m *Memory) List(ctx context.Context) ([]consumer.Lease, error) {
	if _, err := m.enter(ctx, "List", consumer.LeaseKey{}); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	leases := make([]consumer.Lease, 0, len(m.leases))
	for _, lease := range m.leases {
		leases = append(leases, clone(lease))
	}
	return leases, nil
}

// Get returns the lease of that key.
func (m *Memory) Get(ctx context.Context, key consumer.LeaseKey) (consumer.Lease, bool, error) {
	if _, err := m.enter(ctx, "Get", key); err != nil {
		return consumer.Lease{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	lease, found := m.leases[key]
	return clone(lease), found, nil
}

// CompareAndSet stores the lease if the stored one has its Version.
func (m *Memory) CompareAndSet(ctx context.Context, lease consumer.Lease) (bool, error) {
	do, err := m.enter(ctx, "CompareAndSet", lease.LeaseKey)
	if !do {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.leases[lease.LeaseKey]
	if before.Version != lease.Version || m.asks && before.NextOwner != "" && before.Owner == lease.Owner && lease.NextOwner == "" {
		return false, err
	}
	before.LeaseKey = lease.LeaseKey
	after := clone(lease)
	after.Version++
	m.leases[lease.LeaseKey] = after
	m.wrote(before, after)
	return err == nil, err
}

// Delete removes the lease if the stored one has its Version.
func (m *Memory) Delete(ctx context.Context, lease consumer.Lease) (bool, error) {
	do, err := m.enter(ctx, "Delete", lease.LeaseKey)
	if !do {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before, found := m.leases[lease.LeaseKey]
	if !found || before.Version != lease.Version {
		return false, err
	}
	delete(m.leases, lease.LeaseKey)
	m.wrote(before, consumer.Lease{LeaseKey: lease.LeaseKey})
	return err == nil, err
}

// LeaseDuration is what the store was made with.
func (m *Memory) LeaseDuration() time.Duration { return m.duration }

// wrote tells of a write. It is called with the lock, which keeps the order.
func (m *Memory) wrote(before, after consumer.Lease) {
	if m.onWrite != nil {
		m.onWrite(clone(before), clone(after))
	}
}

// clone returns a lease that shares no memory with the given one.
func clone(lease consumer.Lease) consumer.Lease {
	if lease.Pending != nil {
		pending := *lease.Pending
		lease.Pending = &pending
	}
	lease.PendingState = slices.Clone(lease.PendingState)
	lease.Parents, lease.Children = slices.Clone(lease.Parents), slices.Clone(lease.Children)
	return lease
}

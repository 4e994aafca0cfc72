package leasetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/consumer"
)

// ErrAfter, wrapped by the error of a function passed to [Memory.Fail], means that the
// write is done before the error is returned, as if the response of a remote store was
// lost.
var ErrAfter = errors.New("response is lost")

// Memory is a [consumer.LeaseStore] in memory. It is for tests, and can stand for a
// remote store: its leases expire if it is made with a duration, and its calls can be
// made to fail before and after a write. It is lost with the process, so it is not for
// production.
//
// Workers with the same Memory and a [consumer.Config].Source share the shards as if each
// was in its own process. The methods of Memory may be called from any number of
// goroutines.
type Memory struct {
	duration time.Duration

	mu      sync.Mutex // guards the fields below
	leases  map[consumer.LeaseKey]consumer.Lease
	onWrite func(before, after consumer.Lease)
	fail    func(op string, key consumer.LeaseKey) error
	asks    bool // owners have to know of requests: see MemoryFleet
}

// NewMemory returns an empty store with that LeaseDuration.
func NewMemory(leaseDuration time.Duration) *Memory {
	return &Memory{duration: leaseDuration, leases: make(map[consumer.LeaseKey]consumer.Lease)}
}

// OnWrite sets a function that is called with the old and new state of each lease that is
// written, in the order of the writes. A lease that does not exist has Version 0. The
// function must not call the store. nil removes it.
func (m *Memory) OnWrite(hook func(before, after consumer.Lease)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onWrite = hook
}

// Fail sets a function that is called at the beginning of every call of List, Get,
// CompareAndSet and Delete, and of the methods of a [MemoryFleet], with the name of the method
// and the key of the lease (the zero key for List). If it returns an error, so does the method,
// without doing anything; but if the error wraps [ErrAfter], the write is done first. The
// function may wait, to hold up the call before it reaches the store. It is called by several
// goroutines at once, so its state needs a lock or has to be atomic. nil removes it; calls in
// progress may still use it for a while.
func (m *Memory) Fail(fail func(op string, key consumer.LeaseKey) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = fail
}

// enter returns the error of an operation, and whether to do the operation nevertheless.
func (m *Memory) enter(ctx context.Context, op string, key consumer.LeaseKey) (do bool, err error) {
	m.mu.Lock()
	fail := m.fail
	m.mu.Unlock()
	if fail != nil {
		err = fail(op, key) // without the lock, so that fail may wait
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return err == nil || errors.Is(err, ErrAfter), err
}

// List returns all leases, in no particular order.
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

// Get returns the lease with that key.
func (m *Memory) Get(ctx context.Context, key consumer.LeaseKey) (consumer.Lease, bool, error) {
	if _, err := m.enter(ctx, "Get", key); err != nil {
		return consumer.Lease{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	lease, found := m.leases[key]
	return clone(lease), found, nil
}

// CompareAndSet stores the lease if the stored one has the same Version.
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

// Delete removes the lease if the stored one has the same Version.
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

// LeaseDuration returns the duration that was passed to NewMemory.
func (m *Memory) LeaseDuration() time.Duration { return m.duration }

// wrote calls the function of OnWrite. The caller holds the lock, which keeps the order
// of writes.
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
	lease.Gaps = slices.Clone(lease.Gaps)
	lease.Parents, lease.Children = slices.Clone(lease.Parents), slices.Clone(lease.Children)
	return lease
}

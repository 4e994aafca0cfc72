package leasetest

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/braidstream/braid/consumer"
)

// MemoryFleet is a [Memory] whose leases are assigned by a leader. It is its own
// [consumer.Fleet].
type MemoryFleet struct {
	*Memory

	// What follows is guarded by the mutex of the Memory.
	reports map[string]time.Time // when each worker last reported
	leader  string
}

// NewMemoryFleet returns an empty store whose LeaseDuration is the given one. It must not
// be 0.
func NewMemoryFleet(leaseDuration time.Duration) *MemoryFleet {
	m := NewMemory(leaseDuration)
	m.asks = true
	return &MemoryFleet{Memory: m, reports: make(map[string]time.Time)}
}

// Fleet returns the store itself.
func (m *MemoryFleet) Fleet() consumer.Fleet { return m }

const (
	leaderLasts = 4 // LeaseDurations
	workerLasts = 6
)

// Report notes that a worker lives. The first one that reports leads, and another one after it
// has not reported for four LeaseDurations. After six, a worker that does not report is dead.
func (m *MemoryFleet) Report(ctx context.Context, worker string) (leads bool, workers []string, err error) {
	if do, err := m.enter(ctx, "Report", consumer.LeaseKey{}); !do {
		return false, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reports[worker] = time.Now()
	if time.Since(m.reports[m.leader]) >= leaderLasts*m.duration {
		m.leader = worker
	}
	maps.DeleteFunc(m.reports, func(_ string, at time.Time) bool { return time.Since(at) >= workerLasts*m.duration })
	return m.leader == worker, slices.Sorted(maps.Keys(m.reports)), nil
}

// RequestHandOver sets the NextOwner of a lease, if the Owner is the given one and there is none.
func (m *MemoryFleet) RequestHandOver(ctx context.Context, lease consumer.Lease, to string) (bool, error) {
	do, err := m.enter(ctx, "RequestHandOver", lease.LeaseKey)
	if !do {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before, found := m.leases[lease.LeaseKey]
	if !found || before.Owner != lease.Owner || before.Owner == "" || before.NextOwner != "" {
		return false, err
	}
	after := before
	after.NextOwner = to
	m.leases[lease.LeaseKey] = after
	m.wrote(before, after)
	return err == nil, err
}

// Leave notes that a worker takes no more leases. If it leads, the next one that reports does.
func (m *MemoryFleet) Leave(ctx context.Context, worker string) error {
	do, err := m.enter(ctx, "Leave", consumer.LeaseKey{})
	if !do {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.reports, worker)
	return err
}

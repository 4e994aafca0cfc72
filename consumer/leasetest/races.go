package leasetest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// What a store does for many callers at once, and under contexts that end.

// race calls fn from many goroutines at once, and returns the writers that have won.
func (k *kit) race(fn func(writer int) (won bool, err error)) (winners []int) {
	k.Helper()
	var group sync.WaitGroup
	var mu sync.Mutex
	start := make(chan struct{})
	for writer := range writers {
		group.Go(func() {
			<-start
			won, err := fn(writer)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				k.Errorf("writer %d: %v", writer, err)
			} else if won {
				winners = append(winners, writer)
			}
		})
	}
	close(start)
	group.Wait()
	if k.Failed() {
		k.FailNow()
	}
	return winners
}

// raceForOne is race that must have exactly one winner.
func (k *kit) raceForOne(fn func(writer int) (won bool, err error)) int {
	k.Helper()
	winners := k.race(fn)
	if len(winners) != 1 {
		k.Fatalf("%d of %d have won: %v", len(winners), writers, winners)
	}
	return winners[0]
}

// ownedBy returns the lease that a writer of a race writes. Owner and Epoch name the
// writer, to expose a mixture of two writes.
func ownedBy(writer int, lease consumer.Lease) consumer.Lease {
	lease.Owner = fmt.Sprint("writer ", writer)
	lease.Epoch = uint64(writer)
	lease.PendingState = []byte(lease.Owner)
	lease.Pending = &consumer.Checkpoint{SubSequenceNumber: writer}
	return lease
}

func (k *kit) hasOneWinner() {
	lease := k.set(consumer.Lease{LeaseKey: shardKey})
	for range rounds {
		winner := k.raceForOne(func(writer int) (bool, error) {
			return k.store.CompareAndSet(k.Context(), ownedBy(writer, lease))
		})
		lease = ownedBy(winner, lease)
		lease.Version++
		k.expect(lease)
	}
}

func (k *kit) hasOneCreator() {
	var all []consumer.Lease
	for round := range rounds {
		lease := consumer.Lease{LeaseKey: consumer.LeaseKey{Stream: "orders", Shard: braid.ShardID(fmt.Sprintf("shardId-%012d", round))}}
		winner := k.raceForOne(func(writer int) (bool, error) {
			return k.store.CompareAndSet(k.Context(), ownedBy(writer, lease))
		})
		lease = ownedBy(winner, lease)
		lease.Version++
		all = append(all, lease)
	}
	k.expect(all...)
}

func (k *kit) hasOneDeleter() {
	for range rounds {
		lease := k.set(consumer.Lease{LeaseKey: shardKey})
		k.raceForOne(func(int) (bool, error) { return k.store.Delete(k.Context(), lease) })
		k.expect()
	}
}

func (k *kit) hasOneWriterOrDeleter() {
	lease := k.set(consumer.Lease{LeaseKey: shardKey})
	for range rounds {
		winner := k.raceForOne(func(writer int) (bool, error) {
			if writer%2 == 0 {
				return k.store.Delete(k.Context(), lease)
			}
			return k.store.CompareAndSet(k.Context(), ownedBy(writer, lease))
		})
		if winner%2 == 0 {
			k.expect()
			lease = k.set(consumer.Lease{LeaseKey: shardKey})
			continue
		}
		lease = ownedBy(winner, lease)
		lease.Version++
		k.expect(lease)
	}
}

func (k *kit) keepsAllWrites() {
	all := make([]consumer.Lease, writers)
	winners := k.race(func(writer int) (bool, error) {
		lease := consumer.Lease{LeaseKey: consumer.LeaseKey{Stream: "orders", Shard: braid.ShardID(fmt.Sprintf("shardId-%012d", writer))}}
		for range rounds {
			lease = ownedBy(writer, lease)
			if stored, err := k.store.CompareAndSet(k.Context(), lease); err != nil || !stored {
				return false, err
			}
			lease.Version++
		}
		all[writer] = lease
		return true, nil
	})
	if len(winners) != writers {
		k.Fatalf("only %[2]d of %[1]d writers of different leases succeeded", writers, len(winners))
	}
	k.expect(all...)
}

func (k *kit) hasOneDuration() {
	duration := k.store.LeaseDuration()
	if duration < 0 {
		k.Fatalf("LeaseDuration() = %v; want 0 or more", duration)
	}
	lease := k.set(consumer.Lease{LeaseKey: shardKey})
	k.race(func(int) (bool, error) {
		if again := k.store.LeaseDuration(); again != duration {
			return false, fmt.Errorf("LeaseDuration() = %v; it was %v", again, duration)
		}
		return true, nil
	})
	k.set(lease)
	if again := k.store.LeaseDuration(); again != duration {
		k.Fatalf("LeaseDuration() = %v; it was %v", again, duration)
	}
}

// isWholeAfterTheContext does not require an error: a store that does not wait may ignore
// the context. But its result must be true.
func (k *kit) isWholeAfterTheContext() {
	ended, cancel := context.WithCancel(k.Context())
	cancel()
	lease := k.settle(ended, full(shardKey), consumer.Lease{LeaseKey: shardKey})
	next := full(shardKey)
	next.Version = lease.Version
	lease = k.settle(ended, next, lease)
	deleted, err := k.store.Delete(ended, lease)
	if deleted != (err == nil) {
		k.Fatalf("Delete() = %v, %v, although nobody else has written", deleted, err)
	}
	if !deleted {
		again, err := k.store.Delete(k.Context(), lease) // false if the delete was done, but its response lost
		if err != nil {
			k.Fatalf("Delete() = %v, %v, after an earlier one had failed", again, err)
		}
	}
	k.expect()
}

// settle writes a lease under a context that may end, and returns what is stored then. A
// write that has failed may still be in progress, for example on its way to a remote
// store. So the old lease is written again with the same Version. If that succeeds, the
// first write will never be done; if it is refused, the first write was done.
func (k *kit) settle(ctx context.Context, next, was consumer.Lease) consumer.Lease {
	k.Helper()
	stored, err := k.store.CompareAndSet(ctx, next)
	if stored != (err == nil) {
		k.Fatalf("CompareAndSet(%s) = %v, %v, although nobody else has written", show(next), stored, err)
	}
	if !stored {
		if stored, err = k.store.CompareAndSet(k.Context(), was); err != nil {
			k.Fatalf("CompareAndSet(%s): %v, after an earlier one had failed", show(was), err)
		} else if stored {
			next = was
		}
	}
	next.Version++
	k.expect(next)
	return next
}

func (k *kit) isWholeAtTheEndOfAContext() {
	lease := consumer.Lease{LeaseKey: shardKey}
	for round := range rounds {
		ctx, cancel := context.WithCancel(k.Context())
		var ender sync.WaitGroup
		ender.Go(func() {
			time.Sleep(time.Duration(round) * 2 * time.Microsecond)
			cancel()
		})
		next := ownedBy(round, lease)
		lease = k.settle(ctx, next, lease)
		ender.Wait()
	}
}

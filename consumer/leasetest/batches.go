package leasetest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/consumer"
)

// A BatchLeaseStore writes several leases in one step.

// three returns leases to be written in one step; the second one exists.
func (k *kit) three() []consumer.Lease {
	k.Helper()
	two := k.set(full(shardKey))
	return []consumer.Lease{
		{LeaseKey: consumer.LeaseKey{Stream: "orders", Shard: "shardId-000000000001"}},
		two,
		{LeaseKey: consumer.LeaseKey{Stream: "refunds"}},
	}
}

func (k *kit) storesAll() {
	store := k.batch()
	leases := k.three()
	for range 3 {
		for i := range leases {
			leases[i] = ownedBy(i, leases[i])
		}
		stored, err := store.CompareAndSetAll(k.Context(), leases)
		if err != nil || !stored {
			k.Fatalf("CompareAndSetAll() = %v, %v; want true", stored, err)
		}
		for i := range leases {
			leases[i].Version++
		}
		k.expect(leases...)
	}
	one := leases[0]
	if stored, err := store.CompareAndSetAll(k.Context(), []consumer.Lease{one}); err != nil || !stored {
		k.Fatalf("CompareAndSetAll() of one lease = %v, %v; want true", stored, err)
	}
	leases[0].Version++
	k.expect(leases...)
}

func (k *kit) storesNone() {
	store := k.batch()
	leases := k.three()
	was := leases[1]
	for refused := range leases {
		for _, wrong := range []uint64{0, 1, 2, 7} {
			try := slices.Clone(leases)
			for i := range try {
				try[i] = ownedBy(i, try[i])
			}
			if try[refused].Version == wrong {
				continue
			}
			try[refused].Version = wrong
			stored, err := store.CompareAndSetAll(k.Context(), try)
			if err != nil || stored {
				k.Fatalf("CompareAndSetAll() with a wrong Version of lease %d = %v, %v; want false", refused, stored, err)
			}
			k.expect(was)
		}
	}
}

func (k *kit) hasOneWinnerOfAll() {
	store := k.batch()
	leases := k.three()
	for range rounds {
		winner := k.raceForOne(func(writer int) (bool, error) {
			mine := slices.Clone(leases)
			for i := range mine {
				mine[i] = ownedBy(writer, mine[i])
			}
			if writer%2 == 0 {
				slices.Reverse(mine) // stores that lock row by row must not deadlock
			}
			return store.CompareAndSetAll(k.Context(), mine)
		})
		for i := range leases {
			leases[i] = ownedBy(winner, leases[i])
			leases[i].Version++
		}
		k.expect(leases...)
	}
}

func (k *kit) storesAllOrNone() {
	store := k.batch()
	leases := k.three()
	if stored, err := store.CompareAndSetAll(k.Context(), leases); err != nil || !stored {
		k.Fatalf("CompareAndSetAll() = %v, %v; want true", stored, err)
	}
	for i := range leases {
		leases[i].Version++
	}
	for round := range rounds {
		ctx, cancel := context.WithCancel(k.Context())
		var ender sync.WaitGroup
		ender.Go(func() {
			time.Sleep(time.Duration(round) * 2 * time.Microsecond)
			cancel()
		})
		next := slices.Clone(leases)
		for i := range next {
			next[i] = ownedBy(round, next[i])
		}
		stored, err := store.CompareAndSetAll(ctx, next)
		ender.Wait()
		if stored != (err == nil) {
			k.Fatalf("CompareAndSetAll() = %v, %v, although nobody else has written", stored, err)
		}
		if !stored { // as in settle
			if stored, err = store.CompareAndSetAll(k.Context(), leases); err != nil {
				k.Fatalf("CompareAndSetAll: %v, after an earlier one had failed", err)
			} else if stored {
				next = leases
			}
		}
		leases = next
		for i := range leases {
			leases[i].Version++
		}
		k.expect(leases...)
	}
}

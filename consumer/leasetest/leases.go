package leasetest

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// What a store does for one caller at a time.

func (k *kit) isEmpty() {
	k.absent(shardKey)
	k.absent(consumer.LeaseKey{Stream: "orders"})
	k.absent(consumer.LeaseKey{})
	k.expect()
}

func (k *kit) creates() {
	k.expect(k.set(full(shardKey)))
}

func (k *kit) refusesSecondCreate() {
	first := k.set(consumer.Lease{LeaseKey: shardKey, Owner: "one"})
	k.refuse(consumer.Lease{LeaseKey: shardKey, Owner: "two"})
	k.expect(first)
}

func (k *kit) countsVersions() {
	lease := consumer.Lease{LeaseKey: shardKey}
	for version := uint64(1); version <= 10; version++ {
		k.set(lease) // writing the same content again is a write, too: it renews a lease
		lease = k.get(shardKey)
		if lease.Version != version {
			k.Fatalf("after %d writes the Version is %d", version, lease.Version)
		}
	}
}

func (k *kit) refusesOtherVersions() {
	lease := consumer.Lease{LeaseKey: shardKey}
	for range 5 {
		lease = k.set(lease)
	}
	for version := range uint64(10) {
		if version != lease.Version {
			other := full(shardKey)
			other.Version = version
			k.refuse(other)
		}
	}
	k.expect(lease)
}

func (k *kit) refusesVersionOfNothing() {
	k.refuse(consumer.Lease{LeaseKey: shardKey, Version: 1})
	k.refuse(consumer.Lease{LeaseKey: shardKey, Version: 1 << 40})
	k.expect()
}

func (k *kit) keepsFields() {
	var all []consumer.Lease
	for name, lease := range variants(shardKey) {
		lease.Shard = braid.ShardID(fmt.Sprintf("shardId-%012d", len(all)))
		lease = k.set(lease)
		if got := k.get(lease.LeaseKey); !k.equal(lease, got) {
			k.Errorf("%s:\nstored %s\n   got %s", name, show(lease), show(got))
		}
		all = append(all, lease)
	}
	if !k.Failed() {
		k.expect(all...)
	}
}

func (k *kit) replacesFields() {
	lease := k.set(full(shardKey))
	for _, next := range variants(shardKey) {
		next.Version = lease.Version
		lease = k.set(next)
		k.expect(lease)
		again := full(shardKey)
		again.Version = lease.Version
		lease = k.set(again)
		k.expect(lease)
	}
}

func (k *kit) leavesOthersAlone() {
	var all []consumer.Lease
	for i := range 4 {
		lease := full(consumer.LeaseKey{Stream: "orders", Shard: braid.ShardID(fmt.Sprintf("shardId-%012d", i))})
		lease.Epoch = uint64(i)
		all = append(all, k.set(lease))
	}
	all[1].Owner = "two"
	all[1] = k.set(all[1])
	k.expect(all...)
	k.delete(all[2], true)
	k.absent(all[2].LeaseKey)
	k.expect(slices.Delete(all, 2, 3)...)
}

func (k *kit) listsAll() {
	app := k.set(consumer.Lease{Checkpoint: consumer.Checkpoint{Start: braid.Latest()}})
	k.expect(app)
	stream := k.set(consumer.Lease{LeaseKey: consumer.LeaseKey{Stream: "orders"}, Incarnation: 7})
	k.expect(app, stream)
	one := k.set(full(shardKey))
	two := k.set(full(consumer.LeaseKey{Stream: "refunds", Shard: shardKey.Shard}))
	k.expect(app, stream, one, two)
	app.Paused = true
	app = k.set(app)
	k.expect(app, stream, one, two)
	k.delete(stream, true)
	k.expect(app, one, two)
	k.delete(one, true)
	k.delete(two, true)
	k.delete(app, true)
	k.expect()
}

func (k *kit) listsOwned() {
	store, can := k.store.(consumer.OwnerLeaseStore)
	if !can {
		k.Skip("the store is not an OwnerLeaseStore")
	}
	expect := func(owner string, want ...consumer.Lease) {
		k.Helper()
		time.Sleep(k.Lag)
		keys, err := store.ListOwned(k.Context(), owner)
		if err != nil {
			k.Fatalf("ListOwned: %v", err)
		}
		if len(keys) != len(want) {
			k.Fatalf("ListOwned(%q) has %d leases; want %d", owner, len(keys), len(want))
		}
		for _, lease := range want {
			if !slices.Contains(keys, lease.LeaseKey) {
				k.Fatalf("ListOwned(%q) lacks %s", owner, show(lease))
			}
		}
	}
	expect("one")
	var leases []consumer.Lease
	for i := range 4 {
		lease := full(consumer.LeaseKey{Stream: "orders", Shard: braid.ShardID(fmt.Sprintf("shardId-%012d", i))})
		lease.Owner = []string{"one", "two", "one", ""}[i]
		lease.NextOwner = []string{"", "", "two", "one"}[i]
		leases = append(leases, k.set(lease))
	}
	k.set(consumer.Lease{LeaseKey: consumer.LeaseKey{Stream: "orders"}})
	expect("one", leases[0])
	expect("two", leases[1], leases[2])
	expect("three")
	leases[1].Owner, leases[2].Owner, leases[2].NextOwner = "one", "two", ""
	for i := range leases {
		leases[i] = k.set(leases[i])
	}
	expect("one", leases[0], leases[1])
	expect("two", leases[2])
	k.delete(leases[0], true)
	leases[1].Owner = ""
	k.set(leases[1])
	expect("one")
	expect("two", leases[2])
}

// listsMany is for stores that return their rows in pages.
func (k *kit) listsMany() {
	const many = 1000
	state := bytes.Repeat([]byte("0123456789abcdef"), 128) // 2 MiB in total
	for i := range many {
		k.set(consumer.Lease{
			LeaseKey:     consumer.LeaseKey{Stream: "orders", Shard: braid.ShardID(fmt.Sprintf("shardId-%012d", i))},
			Pending:      &consumer.Checkpoint{},
			PendingState: state,
		})
	}
	time.Sleep(k.Lag)
	list, err := k.store.List(k.Context())
	if err != nil {
		k.Fatalf("List: %v", err)
	}
	keys := make(map[consumer.LeaseKey]bool)
	for _, lease := range list {
		keys[lease.LeaseKey] = true
	}
	if len(list) != many || len(keys) != many {
		k.Fatalf("List has %d leases with %d different keys; want %d", len(list), len(keys), many)
	}
}

func (k *kit) tellsKeysApart() {
	keys := []consumer.LeaseKey{
		{},
		{Stream: "a"},
		{Stream: "a", Shard: "b"},
		{Stream: "a", Shard: "bc"},
		{Stream: "a", Shard: "bcd"},
		{Stream: "ab"},
		{Stream: "ab", Shard: "c"},
		{Stream: "ab", Shard: "cd"},
		{Stream: "abc"},
		{Stream: "abc", Shard: "d"},
		{Stream: "abcd"},
		{Stream: "A"},
		{Stream: "A", Shard: "b"},
		{Stream: "a", Shard: "B"},
	}
	for _, separator := range []string{".", "-", "_"} { // which names may contain
		keys = append(keys,
			consumer.LeaseKey{Stream: separator},
			consumer.LeaseKey{Stream: "a" + separator},
			consumer.LeaseKey{Stream: "a" + separator + "b"},
			consumer.LeaseKey{Stream: "a" + separator, Shard: "b"},
			consumer.LeaseKey{Stream: "a", Shard: braid.ShardID(separator + "b")},
			consumer.LeaseKey{Stream: "a", Shard: braid.ShardID("b" + separator + "c")},
			consumer.LeaseKey{Stream: "a" + separator + "b", Shard: "c"},
		)
	}
	var all []consumer.Lease
	for i, key := range keys {
		k.absent(key)
		all = append(all, k.set(consumer.Lease{LeaseKey: key, Epoch: uint64(i)}))
	}
	k.expect(all...)
	for len(all) > 0 {
		k.delete(all[0], true)
		all = all[1:]
		k.expect(all...)
	}
}

func (k *kit) deletes() {
	lease := k.set(k.set(full(shardKey)))
	k.delete(consumer.Lease{LeaseKey: shardKey, Version: lease.Version}, true) // only the Version counts
	k.absent(shardKey)
	k.expect()
	k.delete(lease, false)
}

func (k *kit) refusesToDelete() {
	lease := k.set(k.set(full(shardKey)))
	for version := range uint64(5) {
		if version != lease.Version {
			other := lease
			other.Version = version
			k.delete(other, false)
		}
	}
	k.expect(lease)
}

func (k *kit) deletesNothing() {
	k.delete(consumer.Lease{LeaseKey: shardKey}, false)
	k.delete(consumer.Lease{LeaseKey: shardKey, Version: 1}, false)
	k.expect()
}

func (k *kit) createsAgain() {
	lease := k.set(k.set(full(shardKey)))
	k.delete(lease, true)
	k.refuse(lease)
	again := k.set(consumer.Lease{LeaseKey: shardKey, Owner: "two"})
	k.expect(again)
	k.refuse(lease)
	k.expect(again)
}

// scribble overwrites all memory that a lease points to.
func scribble(lease consumer.Lease) {
	if lease.Pending != nil {
		*lease.Pending = consumer.Checkpoint{SubSequenceNumber: 99}
	}
	for i := range lease.PendingState {
		lease.PendingState[i] = 'x'
	}
	for i := range lease.Gaps {
		lease.Gaps[i] = consumer.LeaseGap{Shard: "x"}
	}
	for _, ids := range [][]braid.ShardID{lease.Parents, lease.Children} {
		for i := range ids {
			ids[i] = "x"
		}
	}
}

func (k *kit) givesCopies() {
	k.set(full(shardKey))
	want := full(shardKey) // it shares no memory with the lease that was written
	want.Version = 1
	scribble(k.get(shardKey))
	k.expect(want)
	time.Sleep(k.Lag)
	list, err := k.store.List(k.Context())
	if err != nil {
		k.Fatalf("List: %v", err)
	}
	for i := range list {
		scribble(list[i])
		list[i] = consumer.Lease{}
	}
	k.expect(want)
}

func (k *kit) takesCopies() {
	lease := k.set(full(shardKey))
	scribble(lease)
	want := full(shardKey)
	want.Version = 1
	k.expect(want)
}

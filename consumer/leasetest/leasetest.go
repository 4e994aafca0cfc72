// Package leasetest has the tests that a [consumer.LeaseStore] must pass, and one in
// memory to test with.
package leasetest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// Run checks every promise of [consumer.LeaseStore], one in each subtest. newStore
// returns a store without a lease; what it opens, it closes by t.Cleanup.
//
// A store that has a method CompareAndSetAll, which writes several leases in one
// step, is checked for that, too.
func Run(t *testing.T, newStore func(t *testing.T) consumer.LeaseStore) {
	t.Helper()
	for _, test := range []struct {
		sentence string
		run      func(k *kit)
	}{
		{"a new store is empty", (*kit).isEmpty},
		{"Version 0 creates a lease", (*kit).creates},
		{"a second create is refused and changes nothing", (*kit).refusesSecondCreate},
		{"the stored Version is one higher", (*kit).countsVersions},
		{"another Version is refused and changes nothing", (*kit).refusesOtherVersions},
		{"a Version of a lease that is not there is refused", (*kit).refusesVersionOfNothing},
		{"every field comes back", (*kit).keepsFields},
		{"a write replaces every field", (*kit).replacesFields},
		{"a write changes no other lease", (*kit).leavesOthersAlone},
		{"List returns all that is stored and only that", (*kit).listsAll},
		{"List returns a thousand leases", (*kit).listsMany},
		{"keys that look alike are different", (*kit).tellsKeysApart},
		{"Delete removes the lease of its Version", (*kit).deletes},
		{"Delete with another Version removes nothing", (*kit).refusesToDelete},
		{"Delete of nothing removes nothing", (*kit).deletesNothing},
		{"a lease that was deleted can be created again", (*kit).createsAgain},
		{"what is returned belongs to the caller", (*kit).givesCopies},
		{"what is given stays the caller's", (*kit).takesCopies},
		{"of all who write one Version exactly one wins", (*kit).hasOneWinner},
		{"of all who create a lease exactly one wins", (*kit).hasOneCreator},
		{"of all who delete one Version exactly one wins", (*kit).hasOneDeleter},
		{"of a write and a delete of one Version exactly one wins", (*kit).hasOneWriterOrDeleter},
		{"writes that do not meet all succeed", (*kit).keepsAllWrites},
		{"LeaseDuration is always the same", (*kit).hasOneDuration},
		{"under a context that has ended a write is done or not", (*kit).isWholeAfterTheContext},
		{"under a context that ends meanwhile a write is done or not", (*kit).isWholeAtTheEndOfAContext},
		{"CompareAndSetAll stores all", (*kit).storesAll},
		{"CompareAndSetAll stores none if one is refused", (*kit).storesNone},
		{"of all who write the same leases at once exactly one wins them all", (*kit).hasOneWinnerOfAll},
		{"CompareAndSetAll under a context that ends stores all or none", (*kit).storesAllOrNone},
	} {
		t.Run(test.sentence, func(t *testing.T) {
			test.run(&kit{t, newStore(t)})
		})
	}
}

// kit is a subtest with its store. Its methods end the subtest when the store does
// not do what they say.
type kit struct {
	*testing.T
	store consumer.LeaseStore
}

// batchStore is what a store can have besides.
type batchStore interface {
	CompareAndSetAll(ctx context.Context, leases []consumer.Lease) (stored bool, err error)
}

// batch returns the store as one that can write several leases in one step.
func (k *kit) batch() batchStore {
	k.Helper()
	store, can := k.store.(batchStore)
	if !can {
		k.Skip("the store has no method CompareAndSetAll")
	}
	return store
}

const (
	writers = 16 // goroutines that write the same lease
	rounds  = 50 // of what depends on chance
)

var shardKey = consumer.LeaseKey{Stream: "orders", Shard: "shardId-000000000007"}

// set stores a lease, and returns it as it is then.
func (k *kit) set(lease consumer.Lease) consumer.Lease {
	k.Helper()
	stored, err := k.store.CompareAndSet(k.Context(), lease)
	if err != nil || !stored {
		k.Fatalf("CompareAndSet(%s) = %v, %v; want true", show(lease), stored, err)
	}
	lease.Version++
	return lease
}

// refuse has a lease refused.
func (k *kit) refuse(lease consumer.Lease) {
	k.Helper()
	stored, err := k.store.CompareAndSet(k.Context(), lease)
	if err != nil || stored {
		k.Fatalf("CompareAndSet(%s) = %v, %v; want false", show(lease), stored, err)
	}
}

// delete has a lease deleted, or not.
func (k *kit) delete(lease consumer.Lease, want bool) {
	k.Helper()
	deleted, err := k.store.Delete(k.Context(), lease)
	if err != nil || deleted != want {
		k.Fatalf("Delete(%s) = %v, %v; want %v", show(lease), deleted, err, want)
	}
}

// get returns a stored lease.
func (k *kit) get(key consumer.LeaseKey) consumer.Lease {
	k.Helper()
	lease, found, err := k.store.Get(k.Context(), key)
	if err != nil || !found {
		k.Fatalf("Get(%s) = %v, %v; want a lease", key, found, err)
	}
	return lease
}

// expect checks what is stored: by Get, and that List returns nothing else.
func (k *kit) expect(leases ...consumer.Lease) {
	k.Helper()
	want := make(map[consumer.LeaseKey]consumer.Lease, len(leases))
	for _, lease := range leases {
		want[lease.LeaseKey] = lease
		k.same(lease, k.get(lease.LeaseKey))
	}
	list, err := k.store.List(k.Context())
	if err != nil {
		k.Fatalf("List: %v", err)
	}
	for _, lease := range list {
		expected, is := want[lease.LeaseKey]
		if !is {
			k.Fatalf("List has %s, twice or without need", show(lease))
		}
		k.same(expected, lease)
		delete(want, lease.LeaseKey)
	}
	if len(want) > 0 {
		k.Fatalf("List does not have %v", slices.Collect(maps.Keys(want)))
	}
}

// absent checks that there is no lease of a key.
func (k *kit) absent(key consumer.LeaseKey) {
	k.Helper()
	lease, found, err := k.store.Get(k.Context(), key)
	if err != nil || found {
		k.Fatalf("Get(%s) = %s, %v, %v; want nothing", key, show(lease), found, err)
	}
}

func (k *kit) same(want, got consumer.Lease) {
	k.Helper()
	if !equal(want, got) {
		k.Fatalf("the lease is not what was stored:\nwant %s\n got %s", show(want), show(got))
	}
}

// equal compares two leases. An empty PendingState is the same as none.
func equal(a, b consumer.Lease) bool {
	if (a.Pending == nil) != (b.Pending == nil) || !bytes.Equal(a.PendingState, b.PendingState) {
		return false
	}
	if a.Pending != nil && !equalPlaces(*a.Pending, *b.Pending) {
		return false
	}
	return a.LeaseKey == b.LeaseKey && a.Incarnation == b.Incarnation && a.Owner == b.Owner && a.NextOwner == b.NextOwner &&
		a.Epoch == b.Epoch && a.Version == b.Version && a.Paused == b.Paused && equalPlaces(a.Checkpoint, b.Checkpoint)
}

// equalPlaces compares checkpoints. The text of a position is all there is to it:
// values of the same time can be different.
func equalPlaces(a, b consumer.Checkpoint) bool {
	return a.Start.String() == b.Start.String() && a.SequenceNumber == b.SequenceNumber &&
		a.SubSequenceNumber == b.SubSequenceNumber && a.Partial == b.Partial && a.ShardEnd == b.ShardEnd
}

func show(l consumer.Lease) string {
	pending := "nil"
	if l.Pending != nil {
		pending = showPlace(*l.Pending)
	}
	return fmt.Sprintf("{%q %q incarnation=%d owner=%q next=%q epoch=%d version=%d paused=%v checkpoint=%s pending=%s state=%q}",
		l.Stream, l.Shard, l.Incarnation, l.Owner, l.NextOwner, l.Epoch, l.Version, l.Paused, showPlace(l.Checkpoint), pending, l.PendingState)
}

func showPlace(c consumer.Checkpoint) string {
	return fmt.Sprintf("{start=%s number=%s sub=%d partial=%v end=%v}", c.Start, c.SequenceNumber, c.SubSequenceNumber, c.Partial, c.ShardEnd)
}

// number is a sequence number as streams have them.
func number(text string) braid.SequenceNumber {
	n, err := braid.ParseSequenceNumber(text)
	if err != nil {
		panic(err)
	}
	return n
}

var (
	firstNumber  = number("49590338271490256608559692538361571095921575989136588898")
	secondNumber = number("49590338271490256608559692540925702759324208523137515618")
)

// full is a lease that has a value in every field. The numbers are above 2^53, so
// that one which was a floating-point number on its way is found out; the names have
// what a WorkerID may have.
func full(key consumer.LeaseKey) consumer.Lease {
	return consumer.Lease{
		LeaseKey:    key,
		Incarnation: 1<<62 + 1,
		Owner:       "host-1/worker 1: näme \"quoted\" 世界",
		NextOwner:   "host-2\\worker\t2,'x'",
		Epoch:       1<<53 + 3,
		Paused:      true,
		Checkpoint: consumer.Checkpoint{
			Start:             braid.AtSequence(firstNumber),
			SequenceNumber:    firstNumber,
			SubSequenceNumber: 41,
			Partial:           true,
		},
		Pending: &consumer.Checkpoint{
			Start:             braid.AfterSequence(firstNumber),
			SequenceNumber:    secondNumber,
			SubSequenceNumber: 7,
			Partial:           true,
			ShardEnd:          true,
		},
		PendingState: everyByte(),
	}
}

func everyByte() []byte {
	state := make([]byte, 256)
	for i := range state {
		state[i] = byte(i)
	}
	return state
}

// variants are leases of a key that differ in what is easily lost.
func variants(key consumer.LeaseKey) map[string]consumer.Lease {
	all := map[string]consumer.Lease{"nothing": {}, "everything": full(key)}
	for name, start := range map[string]braid.Position{
		"TRIM_HORIZON":          braid.TrimHorizon(),
		"LATEST":                braid.Latest(),
		"AT_SEQUENCE_NUMBER":    braid.AtSequence(secondNumber),
		"AFTER_SEQUENCE_NUMBER": braid.AfterSequence(secondNumber),
		"AFTER the number 0":    braid.AfterSequence(braid.SequenceNumber{}),
		"AT_TIMESTAMP":          braid.AtTime(time.Date(2024, 2, 29, 23, 59, 59, 123456789, time.UTC)),
	} {
		all["it starts at "+name] = consumer.Lease{Checkpoint: consumer.Checkpoint{Start: start}}
		all["it is pending at "+name] = consumer.Lease{Pending: &consumer.Checkpoint{Start: start}}
	}
	for name, place := range map[string]consumer.Checkpoint{
		"a number":                 {SequenceNumber: firstNumber},
		"a whole aggregate":        {SequenceNumber: firstNumber, SubSequenceNumber: 12},
		"the first of many":        {SequenceNumber: firstNumber, Partial: true},
		"the end of the shard":     {ShardEnd: true},
		"the end, with its number": {Start: braid.AtSequence(firstNumber), SequenceNumber: secondNumber, ShardEnd: true},
	} {
		all["it is at "+name] = consumer.Lease{Checkpoint: place}
		all["it is pending at "+name] = consumer.Lease{Pending: &place, PendingState: []byte("state")}
	}
	all["it is pending at nothing, without state"] = consumer.Lease{Pending: &consumer.Checkpoint{}}
	all["it is pending with an empty state"] = consumer.Lease{Pending: &consumer.Checkpoint{SequenceNumber: firstNumber}, PendingState: []byte{}}
	all["it is pending with a large state"] = consumer.Lease{Pending: &consumer.Checkpoint{}, PendingState: bytes.Repeat(everyByte(), 64)}
	all["it has an owner"] = consumer.Lease{Owner: "one"}
	all["it is asked for"] = consumer.Lease{NextOwner: "two"}
	all["it is paused"] = consumer.Lease{Paused: true}
	all["it has an epoch"] = consumer.Lease{Epoch: 3}
	all["it has an incarnation"] = consumer.Lease{Incarnation: 5}
	for name, lease := range all {
		lease.LeaseKey = key
		all[name] = lease
	}
	return all
}

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
		k.set(lease) // the same content again is a write, too: that is how a lease is renewed
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
		if got := k.get(lease.LeaseKey); !equal(lease, got) {
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

// listsMany is for stores that return their rows in pages.
func (k *kit) listsMany() {
	const many = 1000
	state := bytes.Repeat([]byte("0123456789abcdef"), 128) // 2 MiB in all
	for i := range many {
		k.set(consumer.Lease{
			LeaseKey:     consumer.LeaseKey{Stream: "orders", Shard: braid.ShardID(fmt.Sprintf("shardId-%012d", i))},
			Pending:      &consumer.Checkpoint{},
			PendingState: state,
		})
	}
	list, err := k.store.List(k.Context())
	if err != nil {
		k.Fatalf("List: %v", err)
	}
	keys := make(map[consumer.LeaseKey]bool)
	for _, lease := range list {
		keys[lease.LeaseKey] = true
	}
	if len(list) != many || len(keys) != many {
		k.Fatalf("List has %d leases with %d keys; want %d", len(list), len(keys), many)
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
	for _, separator := range []string{".", "-", "_"} { // that names may have in them
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
	k.delete(consumer.Lease{LeaseKey: shardKey, Version: lease.Version}, true) // the Version counts, and nothing else
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

// scribble changes all memory that a lease points to.
func scribble(lease consumer.Lease) {
	if lease.Pending != nil {
		*lease.Pending = consumer.Checkpoint{SubSequenceNumber: 99}
	}
	for i := range lease.PendingState {
		lease.PendingState[i] = 'x'
	}
}

func (k *kit) givesCopies() {
	k.set(full(shardKey))
	want := full(shardKey) // which shares nothing with what was given
	want.Version = 1
	scribble(k.get(shardKey))
	k.expect(want)
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

// race calls fn from many goroutines at once, and returns which of them it told that
// they had won.
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

// raceForOne is race with exactly one winner.
func (k *kit) raceForOne(fn func(writer int) (won bool, err error)) int {
	k.Helper()
	winners := k.race(fn)
	if len(winners) != 1 {
		k.Fatalf("%d of %d have won: %v", len(winners), writers, winners)
	}
	return winners[0]
}

// ownedBy is the lease that a writer of a race writes: Owner and Epoch say who it
// was, so that a mixture is found out.
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
		k.Fatalf("of %d writers with a lease of their own only %d could write it", writers, len(winners))
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

// isWholeAfterTheContext does not ask for an error: a store need not look at the
// context if it does not wait. But it must tell the truth.
func (k *kit) isWholeAfterTheContext() {
	ended, cancel := context.WithCancel(k.Context())
	cancel()
	lease := k.settle(ended, full(shardKey), consumer.Lease{LeaseKey: shardKey})
	next := full(shardKey)
	next.Version = lease.Version
	lease = k.settle(ended, next, lease)
	deleted, err := k.store.Delete(ended, lease)
	if deleted != (err == nil) {
		k.Fatalf("Delete() = %v, %v; nobody else has written", deleted, err)
	}
	if !deleted {
		again, err := k.store.Delete(k.Context(), lease) // false if it was done, and the answer lost
		if err != nil {
			k.Fatalf("Delete() = %v, %v, after another one had failed", again, err)
		}
	}
	k.expect()
}

// settle writes a lease under a context that may end, and returns what is stored
// then. A write that has failed may still be under way, as one may that was sent to
// a remote store. So the lease is written again as it was, with the same Version:
// either that succeeds, and the first write never will, or the first one has.
func (k *kit) settle(ctx context.Context, next, was consumer.Lease) consumer.Lease {
	k.Helper()
	stored, err := k.store.CompareAndSet(ctx, next)
	if stored != (err == nil) {
		k.Fatalf("CompareAndSet(%s) = %v, %v; nobody else has written", show(next), stored, err)
	}
	if !stored {
		if stored, err = k.store.CompareAndSet(k.Context(), was); err != nil {
			k.Fatalf("CompareAndSet(%s): %v, after another one had failed", show(was), err)
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

// three are leases to be written in one step; the second exists.
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
				k.Fatalf("CompareAndSetAll() with a wrong Version of number %d = %v, %v; want false", refused, stored, err)
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
				slices.Reverse(mine) // who locks row by row must not lock up
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
			k.Fatalf("CompareAndSetAll() = %v, %v; nobody else has written", stored, err)
		}
		if !stored { // as in settle
			if stored, err = store.CompareAndSetAll(k.Context(), leases); err != nil {
				k.Fatalf("CompareAndSetAll: %v, after another one had failed", err)
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

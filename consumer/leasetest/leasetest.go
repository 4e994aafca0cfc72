// Package leasetest has the tests that a [consumer.LeaseStore] must pass, and a store in
// memory for tests.
package leasetest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// Options are promises of [consumer.LeaseStore] that a store may leave out. The zero
// value tests every promise.
type Options struct {
	// NoShape is for a store that does not store Parents, Children, HashKeyRange and
	// Throughput of a lease. Workers do without: only the leases of shards that have expired
	// while no worker ran then stay until App.Delete.
	NoShape bool

	// Lag is how far List and, for a [consumer.OwnerLeaseStore], ListOwned may lag behind
	// writes, as eventually consistent reads of an index or a scan do. Get must not. A worker
	// then learns that much later that a lease is free or was given to it.
	Lag time.Duration

	// Bubble runs each subtest in a bubble of testing/synctest, whose clock does not wait. The
	// store must not wait for anything outside, such as the network. Without it, the tests of a
	// [consumer.Fleet] take about ten LeaseDurations.
	Bubble bool
}

// Run checks every promise of [consumer.LeaseStore], one in each subtest, except those that options
// relax; nil relaxes none. newStore returns a store without leases. It should register its cleanup
// with t.Cleanup.
//
// The promises of a [consumer.BatchLeaseStore], of a [consumer.OwnerLeaseStore] and of a
// [consumer.Fleet] are checked if the store has them; otherwise those subtests are skipped.
func Run(t *testing.T, newStore func(t *testing.T) consumer.LeaseStore, options *Options) {
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
		{"a Version of a lease that does not exist is refused", (*kit).refusesVersionOfNothing},
		{"every field comes back", (*kit).keepsFields},
		{"a write replaces every field", (*kit).replacesFields},
		{"a write changes no other lease", (*kit).leavesOthersAlone},
		{"List returns all that is stored and only that", (*kit).listsAll},
		{"List returns a thousand leases", (*kit).listsMany},
		{"ListOwned returns the leases of an owner and only those", (*kit).listsOwned},
		{"keys that look alike are different", (*kit).tellsKeysApart},
		{"Delete removes the lease of its Version", (*kit).deletes},
		{"Delete with another Version removes nothing", (*kit).refusesToDelete},
		{"Delete of nothing removes nothing", (*kit).deletesNothing},
		{"a lease that was deleted can be created again", (*kit).createsAgain},
		{"a returned lease shares no memory with the store", (*kit).givesCopies},
		{"a written lease shares no memory with the store", (*kit).takesCopies},
		{"of all writers of one Version exactly one wins", (*kit).hasOneWinner},
		{"of all creators of a lease exactly one wins", (*kit).hasOneCreator},
		{"of all deleters of one Version exactly one wins", (*kit).hasOneDeleter},
		{"of a write and a delete of one Version exactly one wins", (*kit).hasOneWriterOrDeleter},
		{"writes of different leases all succeed", (*kit).keepsAllWrites},
		{"LeaseDuration is always the same", (*kit).hasOneDuration},
		{"under a context that has ended a write is done or not", (*kit).isWholeAfterTheContext},
		{"under a context that ends meanwhile a write is done or not", (*kit).isWholeAtTheEndOfAContext},
		{"CompareAndSetAll stores all", (*kit).storesAll},
		{"CompareAndSetAll stores none if one is refused", (*kit).storesNone},
		{"of all writers of the same leases exactly one wins them all", (*kit).hasOneWinnerOfAll},
		{"CompareAndSetAll under a context that ends stores all or none", (*kit).storesAllOrNone},
		{"RequestHandOver sets the NextOwner and nothing else", (*kit).requestsHandOver},
		{"RequestHandOver of another owner's lease, or a second one, is refused", (*kit).refusesRequest},
		{"an owner that does not know of a request does not erase it", (*kit).keepsRequest},
		{"of the workers that report one leads, and all live", (*kit).hasOneLeader},
		{"a worker that has left does not lead, and another one does", (*kit).hasNextLeader},
	} {
		t.Run(test.sentence, func(t *testing.T) {
			var opts Options
			if options != nil {
				opts = *options
			}
			run := func(t *testing.T) { test.run(&kit{T: t, Options: opts, store: newStore(t)}) }
			if opts.Bubble {
				synctest.Test(t, run)
			} else {
				run(t)
			}
		})
	}
}

// kit is a subtest with its store. Its methods end the subtest if the store fails.
type kit struct {
	*testing.T
	Options
	store consumer.LeaseStore
}

// batch returns the store as a BatchLeaseStore, or skips the subtest.
func (k *kit) batch() consumer.BatchLeaseStore {
	k.Helper()
	store, can := k.store.(consumer.BatchLeaseStore)
	if !can {
		k.Skip("the store is not a BatchLeaseStore")
	}
	return store
}

const (
	writers = 16 // goroutines that write the same lease
	rounds  = 50 // repetitions of tests that depend on chance
)

var shardKey = consumer.LeaseKey{Stream: "orders", Shard: "shardId-000000000007"}

// set stores a lease, and returns it with its new Version.
func (k *kit) set(lease consumer.Lease) consumer.Lease {
	k.Helper()
	stored, err := k.store.CompareAndSet(k.Context(), lease)
	if err != nil || !stored {
		k.Fatalf("CompareAndSet(%s) = %v, %v; want true", show(lease), stored, err)
	}
	lease.Version++
	return lease
}

// refuse checks that a write of a lease is refused.
func (k *kit) refuse(lease consumer.Lease) {
	k.Helper()
	stored, err := k.store.CompareAndSet(k.Context(), lease)
	if err != nil || stored {
		k.Fatalf("CompareAndSet(%s) = %v, %v; want false", show(lease), stored, err)
	}
}

// delete deletes a lease, and checks the result.
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

// expect checks with Get and List that exactly these leases are stored.
func (k *kit) expect(leases ...consumer.Lease) {
	k.Helper()
	want := make(map[consumer.LeaseKey]consumer.Lease, len(leases))
	for _, lease := range leases {
		want[lease.LeaseKey] = lease
		k.same(lease, k.get(lease.LeaseKey))
	}
	time.Sleep(k.Lag)
	list, err := k.store.List(k.Context())
	if err != nil {
		k.Fatalf("List: %v", err)
	}
	for _, lease := range list {
		expected, is := want[lease.LeaseKey]
		if !is {
			k.Fatalf("List has %s, twice or although it does not exist", show(lease))
		}
		k.same(expected, lease)
		delete(want, lease.LeaseKey)
	}
	if len(want) > 0 {
		k.Fatalf("List does not have %v", slices.Collect(maps.Keys(want)))
	}
}

// absent checks that no lease has the key.
func (k *kit) absent(key consumer.LeaseKey) {
	k.Helper()
	lease, found, err := k.store.Get(k.Context(), key)
	if err != nil || found {
		k.Fatalf("Get(%s) = %s, %v, %v; want nothing", key, show(lease), found, err)
	}
}

func (k *kit) same(want, got consumer.Lease) {
	k.Helper()
	if !k.equal(want, got) {
		k.Fatalf("the lease differs from what was stored:\nwant %s\n got %s", show(want), show(got))
	}
}

// equal compares two leases. Empty slices equal nil.
func (k *kit) equal(a, b consumer.Lease) bool {
	if !k.NoShape && (!slices.Equal(a.Parents, b.Parents) || !slices.Equal(a.Children, b.Children) || a.HashKeyRange != b.HashKeyRange || a.Throughput != b.Throughput) {
		return false
	}
	if (a.Pending == nil) != (b.Pending == nil) || !bytes.Equal(a.PendingState, b.PendingState) {
		return false
	}
	if a.Pending != nil && !equalPlaces(*a.Pending, *b.Pending) {
		return false
	}
	return slices.Equal(a.Gaps, b.Gaps) && a.LeaseKey == b.LeaseKey && a.Incarnation == b.Incarnation && a.Owner == b.Owner && a.NextOwner == b.NextOwner &&
		a.Epoch == b.Epoch && a.Version == b.Version && a.Paused == b.Paused && equalPlaces(a.Checkpoint, b.Checkpoint)
}

func equalPlaces(a, b consumer.Checkpoint) bool {
	return a.Start.Equal(b.Start) && a.SequenceNumber == b.SequenceNumber &&
		a.SubSequenceNumber == b.SubSequenceNumber && a.Partial == b.Partial && a.ShardEnd == b.ShardEnd
}

func show(l consumer.Lease) string {
	pending := "nil"
	if l.Pending != nil {
		pending = showPlace(*l.Pending)
	}
	return fmt.Sprintf("{%q %q incarnation=%d owner=%q next=%q epoch=%d version=%d paused=%v checkpoint=%s pending=%s state=%q gaps=%v parents=%q children=%q keys=%v throughput=%v}",
		l.Stream, l.Shard, l.Incarnation, l.Owner, l.NextOwner, l.Epoch, l.Version, l.Paused, showPlace(l.Checkpoint), pending, l.PendingState, l.Gaps,
		l.Parents, l.Children, l.HashKeyRange, l.Throughput)
}

func showPlace(c consumer.Checkpoint) string {
	return fmt.Sprintf("{start=%s number=%s sub=%d partial=%v end=%v}", c.Start, c.SequenceNumber, c.SubSequenceNumber, c.Partial, c.ShardEnd)
}

// number returns a sequence number of the form that streams use.
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

// full returns a lease with a value in every field. Numbers are above 2^53, to expose a
// store that converts them to floating point. Names contain every character that a
// WorkerID may have.
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
		Gaps: []consumer.LeaseGap{
			{Shard: "shardId-000000000003", FirstLost: firstNumber, Accepted: true},
			{Shard: "shardId-000000000004", FirstLost: secondNumber},
		},
		Parents:      []braid.ShardID{"shardId-000000000003", "shardId-000000000004"},
		Children:     []braid.ShardID{"shardId-000000000011"},
		HashKeyRange: braid.HashKeyRange{Start: braid.HashKeyOf("key"), End: braid.MaxHashKey()},
		Throughput:   1234.5678901,
	}
}

func everyByte() []byte {
	state := make([]byte, 256)
	for i := range state {
		state[i] = byte(i)
	}
	return state
}

// variants returns leases of a key that differ in details that a store easily loses.
func variants(key consumer.LeaseKey) map[string]consumer.Lease {
	all := map[string]consumer.Lease{"nothing": {}, "everything": full(key)}
	for name, start := range map[string]braid.Position{
		"TRIM_HORIZON":          braid.TrimHorizon(),
		"LATEST":                braid.Latest(),
		"AT_SEQUENCE_NUMBER":    braid.AtSequence(secondNumber),
		"AFTER_SEQUENCE_NUMBER": braid.AfterSequence(secondNumber),
		"AFTER the number 0":    braid.AfterSequence(braid.SequenceNumber{}),
		"AT_TOKEN":              braid.AtToken("since 2024-02-29, \"quoted\" 世界"),
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
	all["it has a gap"] = consumer.Lease{Gaps: []consumer.LeaseGap{{Shard: "shardId-000000000003"}}}
	all["it has a gap with a number"] = consumer.Lease{Gaps: []consumer.LeaseGap{{Shard: "shardId-000000000003", FirstLost: firstNumber}}}
	all["it has a gap that was accepted"] = consumer.Lease{Gaps: []consumer.LeaseGap{{Shard: "shardId-000000000003", Accepted: true}}}
	all["it has an owner"] = consumer.Lease{Owner: "one"}
	all["it is requested"] = consumer.Lease{NextOwner: "two"}
	all["it is paused"] = consumer.Lease{Paused: true}
	all["it has parents"] = consumer.Lease{Parents: []braid.ShardID{"shardId-000000000003"}}
	all["it has children"] = consumer.Lease{Children: []braid.ShardID{"shardId-000000000011", "shardId-000000000012"}}
	all["it has hash keys"] = consumer.Lease{HashKeyRange: braid.HashKeyRange{End: braid.MaxHashKey()}}
	all["it has a throughput"] = consumer.Lease{Throughput: 1e9 + 0.25}
	all["it has an epoch"] = consumer.Lease{Epoch: 3}
	all["it has an incarnation"] = consumer.Lease{Incarnation: 5}
	for name, lease := range all {
		lease.LeaseKey = key
		all[name] = lease
	}
	return all
}

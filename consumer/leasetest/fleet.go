package leasetest

import (
	"slices"
	"time"

	"github.com/braidstream/braid/consumer"
)

// fleet returns the fleet of the store.
func (k *kit) fleet() consumer.Fleet {
	k.Helper()
	if store, can := k.store.(interface{ Fleet() consumer.Fleet }); can && store.Fleet() != nil {
		return store.Fleet()
	}
	k.Skip("the store has no Fleet")
	return nil
}

func (k *kit) request(lease consumer.Lease, to string, want bool) {
	k.Helper()
	stored, err := k.fleet().RequestHandOver(k.Context(), lease, to)
	if err != nil || stored != want {
		k.Fatalf("RequestHandOver(%s, %q) = %v, %v; want %v", show(lease), to, stored, err, want)
	}
}

func (k *kit) requestsHandOver() {
	f := k.fleet()
	lease := full(shardKey)
	lease.NextOwner = ""
	lease = k.set(lease)
	k.request(lease, "two", true)
	lease.NextOwner = "two"
	k.expect(lease)
	lease.Checkpoint.SequenceNumber = secondNumber // the owner goes on
	lease = k.set(lease)
	lease.Owner, lease.NextOwner, lease.Epoch = "two", "", lease.Epoch+1 // and hands it over
	lease = k.set(lease)
	k.expect(lease)
	if f != k.fleet() {
		k.Fatal("Fleet does not always return the same")
	}
}

func (k *kit) refusesRequest() {
	k.fleet()
	k.request(consumer.Lease{LeaseKey: shardKey, Version: 1, Owner: "one"}, "two", false)
	k.absent(shardKey)
	lease := k.set(consumer.Lease{LeaseKey: shardKey, Owner: "one"})
	other := lease
	other.Owner = "three"
	k.request(other, "two", false)
	k.expect(lease)
	k.request(lease, "two", true)
	k.request(lease, "three", false)
	lease.NextOwner = "two"
	k.expect(lease)
}

func (k *kit) keepsRequest() {
	k.fleet()
	lease := k.set(consumer.Lease{LeaseKey: shardKey, Owner: "one"})
	k.request(lease, "two", true)
	renewed := lease
	renewed.Throughput = 1
	k.refuse(renewed)
	k.get(shardKey) // even if somebody else has seen it meanwhile
	k.refuse(renewed)
	lease.NextOwner = "two"
	k.expect(lease)
}

// report has workers report until one of them leads, which is returned.
func (k *kit) report(workers ...string) (leader string) {
	k.Helper()
	const passes = 1000 // no lock lasts for so many
	for range passes {
		if _, err := k.store.List(k.Context()); err != nil {
			k.Fatalf("List: %v", err)
		}
		for _, worker := range workers {
			leads, others, err := k.fleet().Report(k.Context(), worker)
			if err != nil {
				k.Fatalf("Report(%q): %v", worker, err)
			}
			if leads {
				if leader != "" && leader != worker {
					k.Fatalf("%q and %q lead", leader, worker)
				}
				leader = worker
			}
			for _, other := range others {
				if !slices.Contains(workers, other) {
					k.Fatalf("%q lives, it is said, and does not report", other)
				}
			}
			if leader == worker && len(others) == len(workers) {
				return leader
			}
		}
		time.Sleep(k.store.LeaseDuration() / 3)
	}
	k.Fatalf("none of %q leads and knows all", workers)
	return ""
}

func (k *kit) hasOneLeader() {
	k.fleet()
	k.report("one", "two", "three")
}

func (k *kit) hasNextLeader() {
	f := k.fleet()
	workers := []string{"one", "two", "three"}
	for len(workers) > 1 {
		leader := k.report(workers...)
		if err := f.Leave(k.Context(), leader); err != nil {
			k.Fatalf("Leave: %v", err)
		}
		workers = slices.DeleteFunc(workers, func(worker string) bool { return worker == leader })
	}
	k.report(workers...)
}

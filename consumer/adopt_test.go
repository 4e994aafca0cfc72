package consumer_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
)

// foreign stores a lease as another engine does that knows no incarnations.
func foreign(f *fixture, store consumer.LeaseStore, shard braid.ShardID, lease consumer.Lease) {
	f.Helper()
	lease.LeaseKey = consumer.LeaseKey{Stream: "orders", Shard: shard}
	stored, err := store.CompareAndSet(f.Context(), lease)
	require.NoError(f, err)
	require.True(f, stored)
}

// putOne puts a record into a shard.
func putOne(f *fixture, shard *braid.Shard, data string) braid.PutResult {
	f.Helper()
	hash := shard.HashKeyRange().Start
	results, err := f.orders.PutRecords(f.Context(), []braid.Entry{{PartitionKey: "k", ExplicitHashKey: &hash, Data: []byte(data)}})
	require.NoError(f, err)
	return results[0]
}

// A worker goes on where another engine has stopped, in the middle of a reshard: it
// processes nothing twice, and skips nothing. The other engine has deleted the lease of a
// parent, has created no leases for shards whose parent is not done, and has left LATEST
// in the lease of a shard whose records it has not seen.
func TestWorkersGoOnWhereAnotherEngineHasStopped(t *testing.T) {
	for _, start := range []braid.Position{braid.TrimHorizon(), braid.Latest()} {
		t.Run(start.String(), func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				store := leasetest.NewMemory(10 * time.Second)
				f.put("first")
				f.split(shard0) // into 1 and 2
				second := putOne(f, f.orders.Shards()[1], "second")
				f.putIn(f.orders.Shards()[1], "k", []byte("third"))
				f.putIn(f.orders.Shards()[2], "k", []byte("before"))
				f.split(shard1) // into 3 and 4
				f.putIn(f.orders.Shards()[3], "k", []byte("fourth"))
				foreign(f, store, shard1, consumer.Lease{Owner: "java", Epoch: 1, Checkpoint: consumer.Checkpoint{SequenceNumber: second.SequenceNumber, Partial: true}})
				foreign(f, store, shard2, consumer.Lease{Checkpoint: consumer.Checkpoint{Start: braid.Latest()}})

				var seen journal
				cfg := consumer.Config{Leases: store, Start: start}
				stop := f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))
				time.Sleep(time.Minute)
				require.Equal(f, []string{"third", "fourth"}, seen.take())
				require.NoError(f, stop())
				f.putIn(f.orders.Shards()[2], "k", []byte("while nobody reads"))
				stop = f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))
				time.Sleep(time.Minute)
				require.Equal(f, []string{"while nobody reads"}, seen.take(), "LATEST has become a place")
				require.NoError(f, stop())
				lease, found, err := store.Get(f.Context(), consumer.LeaseKey{Stream: "orders", Shard: shard0})
				require.NoError(f, err)
				require.True(f, found)
				require.True(f, lease.Checkpoint.ShardEnd)
			})
		})
	}
}

// A worker that dies while it adopts an application leaves everything that the next one
// needs.
func TestTakingOverMayBeInterrupted(t *testing.T) {
	for writes := range 4 {
		t.Run(fmt.Sprint("after ", writes), func(t *testing.T) {
			bubble(t, 2, func(f *fixture) {
				store := leasetest.NewMemory(10 * time.Second)
				f.putIn(f.orders.Shards()[0], "k", []byte("before"))
				f.putIn(f.orders.Shards()[1], "k", []byte("before"))
				foreign(f, store, shard0, consumer.Lease{Checkpoint: consumer.Checkpoint{Start: braid.Latest()}})
				foreign(f, store, shard1, consumer.Lease{Checkpoint: consumer.Checkpoint{Start: braid.Latest()}})
				left := writes
				store.Fail(func(op string, _ consumer.LeaseKey) error {
					if op == "CompareAndSet" {
						if left == 0 {
							return &consumer.PermanentError{Err: context.Canceled}
						}
						left--
					}
					return nil
				})
				var seen journal
				cfg := consumer.Config{Leases: store, Start: braid.Latest()}
				stop := f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))
				synctest.Wait()
				require.Error(f, stop())
				store.Fail(nil)
				stop = f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))
				time.Sleep(time.Minute)
				require.Empty(f, seen.take())
				f.putIn(f.orders.Shards()[0], "k", []byte("after"))
				require.Equal(f, []string{"after"}, seen.take())
				require.NoError(f, stop())
			})
		})
	}
}

// A checkpoint of the KCL does not say whether its record is an aggregate. The rest of an
// aggregate is processed, and a single record does not come again.
func TestCheckpointThatMayBeInsideOfAnAggregate(t *testing.T) {
	for _, apart := range []bool{false, true} {
		t.Run(fmt.Sprint("apart=", apart), func(t *testing.T) {
			bubble(t, 2, func(f *fixture) {
				store := leasetest.NewMemory(10 * time.Second)
				users := []braid.Entry{}
				for n := range 3 {
					users = append(users, braid.Entry{PartitionKey: "k", ExplicitHashKey: new(braid.HashKey), Data: []byte(fmt.Sprint("user", n))})
				}
				carrier := join(t, users)
				whole, plain := putOne(f, f.orders.Shards()[0], string(carrier)), putOne(f, f.orders.Shards()[1], "plain")
				foreign(f, store, shard0, consumer.Lease{Checkpoint: consumer.Checkpoint{SequenceNumber: whole.SequenceNumber, Partial: true}})
				foreign(f, store, shard1, consumer.Lease{Checkpoint: consumer.Checkpoint{SequenceNumber: plain.SequenceNumber, Partial: true}})
				var seen journal
				stop := f.start(f.worker(consumer.Config{Leases: store, Deaggregate: apart}, consumer.ProcessorFunc(seen.collect)))
				time.Sleep(time.Minute)
				if apart {
					require.Equal(f, []string{"user1", "user2"}, seen.take())
				} else {
					require.Equal(f, []string{string(carrier)}, seen.take())
				}
				require.NoError(f, stop())
			})
		})
	}
}

// An application moves from the KCL to braid, back to the KCL, and to braid again. A
// lease that was created at LATEST in between becomes a place as well, so that no restart
// skips records.
func TestLatestOfAnotherEngineBecomesAPlaceWheneverItComes(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		store := leasetest.NewMemory(10 * time.Second)
		f.putIn(f.orders.Shards()[0], "k", []byte("first"))
		var seen journal
		cfg := consumer.Config{Leases: store}
		stop := f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))
		time.Sleep(time.Minute)
		require.Equal(f, []string{"first"}, seen.take())
		require.NoError(f, stop())

		lease, found, err := store.Get(f.Context(), consumer.LeaseKey{Stream: "orders", Shard: shard0})
		require.NoError(f, err)
		require.True(f, found)
		deleted, err := store.Delete(f.Context(), lease)
		require.NoError(f, err)
		require.True(f, deleted)
		foreign(f, store, shard0, consumer.Lease{Checkpoint: consumer.Checkpoint{Start: braid.Latest()}})

		stop = f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))
		time.Sleep(time.Minute)
		require.Empty(f, seen.take())
		require.NoError(f, stop())
		f.putIn(f.orders.Shards()[0], "k", []byte("while nobody reads"))
		stop = f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))
		time.Sleep(time.Minute)
		require.Equal(f, []string{"while nobody reads"}, seen.take())
		require.NoError(f, stop())
	})
}

// The shard in which another engine has stopped has expired, and its lease is the only
// trace of that engine. The shard's children are processed from their beginning.
func TestTakingOverAfterAShardHasExpired(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		store := leasetest.NewMemory(10 * time.Second)
		first := putOne(f, f.orders.Shards()[0], "first")
		foreign(f, store, shard0, consumer.Lease{Owner: "java", Epoch: 1, Checkpoint: consumer.Checkpoint{SequenceNumber: first.SequenceNumber}})
		f.split(shard0) // into 1 and 2
		f.putIn(f.orders.Shards()[1], "k", []byte("second"))
		f.putIn(f.orders.Shards()[2], "k", []byte("third"))
		time.Sleep(time.Second)
		source := &expiredSource{newPollingSource(f.db), shard0}
		var seen journal
		stop := f.start(f.worker(consumer.Config{Leases: store, Source: source, Start: braid.Latest()}, consumer.ProcessorFunc(seen.collect)))
		time.Sleep(time.Minute)
		require.ElementsMatch(f, []string{"second", "third"}, seen.take())
		require.NoError(f, stop())
	})
}

// expiredSource is a source in which a shard has expired.
type expiredSource struct {
	*pollingSource
	gone braid.ShardID
}

func (s *expiredSource) Stream(ctx context.Context, name string) (consumer.StreamInfo, error) {
	info, err := s.pollingSource.Stream(ctx, name)
	info.Shards = slices.DeleteFunc(info.Shards, func(shard consumer.ShardInfo) bool { return shard.ID == s.gone })
	return info, err
}

// Leases of another engine do not name the stream that they belong to. When the stream is
// made anew under its name, they must not pass for progress in the new one.
func TestLeasesOfAnotherEngineEndWithTheirStream(t *testing.T) {
	for _, running := range []bool{true, false} { // while the stream is made anew
		bubble(t, 1, func(f *fixture) {
			store := leasetest.NewMemory(10 * time.Second)
			f.put("first")
			f.split(shard0) // into 1 and 2
			second := putOne(f, f.orders.Shards()[1], "second")
			foreign(f, store, shard0, consumer.Lease{Epoch: 1, Checkpoint: consumer.Checkpoint{ShardEnd: true}})
			foreign(f, store, shard1, consumer.Lease{Owner: "java", Epoch: 1, Checkpoint: consumer.Checkpoint{SequenceNumber: second.SequenceNumber}})
			foreign(f, store, shard2, consumer.Lease{Owner: "java", Epoch: 1, Checkpoint: consumer.Checkpoint{Start: braid.TrimHorizon()}})
			var seen journal
			cfg := consumer.Config{Leases: store}
			stop := f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))
			time.Sleep(time.Minute)
			require.Empty(f, seen.take())
			if !running {
				require.NoError(f, stop())
			}
			require.NoError(f, f.db.DeleteStream(f.Context(), "orders"))
			var err error
			f.orders, err = f.db.CreateStream(f.Context(), "orders", nil)
			require.NoError(f, err)
			f.put("third")
			if !running {
				stop = f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))
			}
			time.Sleep(time.Minute)
			require.Equal(f, []string{"third"}, seen.take())
			require.NoError(f, stop())
		})
	}
}

// The other engine had deleted the lease of a parent before the stream was made anew. In the
// new stream, the parent of the same name is not done: its records come first, and if it has
// expired, OnGap is called.
func TestParentsOfANewStreamBesideLeasesOfAnotherEngine(t *testing.T) {
	for name, newStore := range map[string]func() consumer.LeaseStore{
		"memory": func() consumer.LeaseStore { return leasetest.NewMemory(leaseDuration) },
		"fleet":  func() consumer.LeaseStore { return leasetest.NewMemoryFleet(leaseDuration) },
	} {
		for _, parentLease := range []string{"none", "done", "open"} { // of the other engine
			for _, expired := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, parent=%s, expired=%v", name, parentLease, expired), func(t *testing.T) {
					bubble(t, 1, func(f *fixture) {
						var gate gate
						var seen journal
						cfg := consumer.Config{Leases: newStore(), OnGap: gate.onGap}
						run := func() func() error {
							stop := f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))
							time.Sleep(10 * time.Minute)
							return stop
						}
						first := putOne(f, f.orders.Shards()[0], "first")
						f.split(shard0) // into 1 and 2
						second := putOne(f, f.orders.Shards()[1], "second")
						switch parentLease {
						case "done":
							foreign(f, cfg.Leases, shard0, consumer.Lease{Checkpoint: consumer.Checkpoint{ShardEnd: true}})
						case "open":
							foreign(f, cfg.Leases, shard0, consumer.Lease{Checkpoint: consumer.Checkpoint{SequenceNumber: first.SequenceNumber}})
						}
						foreign(f, cfg.Leases, shard1, consumer.Lease{Checkpoint: consumer.Checkpoint{SequenceNumber: second.SequenceNumber}})
						foreign(f, cfg.Leases, shard2, consumer.Lease{Checkpoint: consumer.Checkpoint{Start: braid.TrimHorizon()}})
						stop := run()
						seen.take()
						require.NoError(f, stop())
						for _, shard := range []braid.ShardID{shard0, shard1, shard2} { // and the other engine has them again
							lease, found, err := cfg.Leases.Get(f.Context(), orderKey(shard))
							require.NoError(f, err)
							if found && parentLease == "none" && shard == shard0 {
								_, err := cfg.Leases.Delete(f.Context(), lease)
								require.NoError(f, err)
							} else if found {
								lease.Incarnation = 0
								foreign(f, cfg.Leases, shard, lease)
							}
						}
						require.NoError(f, f.db.DeleteStream(f.Context(), "orders"))
						var err error
						f.orders, err = f.db.CreateStream(f.Context(), "orders", &braid.StreamOptions{Shards: 1})
						require.NoError(f, err)
						f.put("of the parent")
						f.split(shard0)
						if expired {
							time.Sleep(longerThanRetention)
						}
						f.putIn(f.orders.Shards()[len(f.orders.Shards())-1], "k", []byte("of a child"))
						gate.accept(shard0)
						stop = run()
						if expired {
							require.Equal(f, []string{"0", "0"}, gate.take())
							require.Equal(f, []string{"of a child"}, seen.take())
							for _, lease := range []consumer.Lease{f.lease(cfg.Leases, shard1), f.lease(cfg.Leases, shard2)} {
								require.Equal(f, []consumer.LeaseGap{{Shard: shard0, Accepted: true}}, lease.Gaps)
							}
						} else {
							require.Empty(f, gate.take())
							require.Equal(f, []string{"of the parent", "of a child"}, seen.take())
						}
						require.NoError(f, stop())
					})
				})
			}
		}
	}
}

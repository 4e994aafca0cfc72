package consumer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/internal/companion"
)

const (
	shard0 = braid.ShardID("shardId-000000000000")
	shard1 = braid.ShardID("shardId-000000000001")
	shard2 = braid.ShardID("shardId-000000000002")
	shard3 = braid.ShardID("shardId-000000000003")
)

// The scenarios that any implementation of leased consumers has to get right.

func TestApplicationBeginsWhereItsStartSays(t *testing.T) {
	for _, row := range []struct {
		name  string
		start func(middle time.Time) braid.Position
		want  []string
	}{
		{"trim horizon", func(time.Time) braid.Position { return braid.TrimHorizon() }, []string{"old", "middle", "new", "later"}},
		{"a time in the closed shard", func(middle time.Time) braid.Position { return braid.AtTime(middle) }, []string{"middle", "new", "later"}},
		{"a time after it", func(middle time.Time) braid.Position { return braid.AtTime(middle.Add(time.Second)) }, []string{"new", "later"}},
		{"a time to come", func(middle time.Time) braid.Position { return braid.AtTime(middle.Add(48 * time.Hour)) }, nil},
		{"latest", func(time.Time) braid.Position { return braid.Latest() }, []string{"later"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				var seen journal
				f.put("old")
				time.Sleep(time.Hour)
				middle := time.Now()
				f.put("middle")
				f.split(shard0)
				time.Sleep(time.Hour)
				f.put("new")
				stop := f.start(f.worker(consumer.Config{Start: row.start(middle)}, consumer.ProcessorFunc(seen.collect)))
				f.put("later")
				synctest.Wait()
				require.Equal(f, row.want, seen.take())
				require.NoError(f, stop())
			})
		})
	}
}

func TestLatestIsWhereItWasWhenTheApplicationBegan(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		var seen journal
		f.put("before")
		require.NoError(f, f.start(f.worker(consumer.Config{Start: braid.Latest()}, consumer.ProcessorFunc(seen.collect)))())
		f.put("between")
		f.split(shard0)
		f.put("between, too")
		stop := f.start(f.worker(consumer.Config{Start: braid.Latest()}, consumer.ProcessorFunc(seen.collect)))
		require.ElementsMatch(f, []string{"between", "between, too"}, seen.take())
		require.NoError(f, stop())
	})
}

func TestAnotherStartIsAnErrorAndNotIgnored(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen journal
		require.NoError(f, f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))())
		err := f.worker(consumer.Config{Start: braid.Latest()}, consumer.ProcessorFunc(seen.collect)).Run(f.Context())
		require.ErrorIs(f, err, braid.ErrInvalidArgument)
		require.ErrorContains(f, err, "TRIM_HORIZON")
	})
}

func TestStreamsAreProcessedFromTheMomentThatTheyAre(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen journal
		p := consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			for _, r := range batch.Records {
				seen.add("%s %s", batch.Lease().Stream, r.Data)
			}
			return nil
		})
		cfg := consumer.Config{Streams: []string{"orders", "payments"}, Start: braid.Latest()}
		stop := f.start(f.worker(cfg, p))
		payments, err := f.db.CreateStream(f.Context(), "payments", nil)
		require.NoError(f, err)
		_, err = payments.PutRecord(f.Context(), "k", []byte("first"))
		require.NoError(f, err)
		synctest.Wait()
		require.Equal(f, []string{"payments first"}, seen.take())

		require.NoError(f, f.db.DeleteStream(f.Context(), "payments"))
		synctest.Wait()
		payments, err = f.db.CreateStream(f.Context(), "payments", nil)
		require.NoError(f, err)
		_, err = payments.PutRecord(f.Context(), "k", []byte("again"))
		require.NoError(f, err)
		synctest.Wait()
		require.Equal(f, []string{"payments again"}, seen.take(), "it shares nothing with the deleted one")
		require.NoError(f, stop())

		require.NoError(f, f.db.DeleteStream(f.Context(), "payments"))
		payments, err = f.db.CreateStream(f.Context(), "payments", nil)
		require.NoError(f, err)
		_, err = payments.PutRecord(f.Context(), "k", []byte("while nobody was there"))
		require.NoError(f, err)
		stop = f.start(f.worker(cfg, p))
		require.Equal(f, []string{"payments while nobody was there"}, seen.take())
		require.NoError(f, stop())
	})
}

func TestMergedShardWaitsForTheSlowerParent(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		var seen journal
		f.put("a", "b", "c", "d", "e", "f")
		release := make(chan struct{})
		p := consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
			if batch.Lease().Shard == shard1 {
				<-release
			}
			for range batch.Records {
				seen.add("%s", batch.Lease().Shard)
			}
			return nil
		})
		stop := f.start(f.worker(consumer.Config{}, p))
		_, err := f.orders.MergeShards(f.Context(), shard0, shard1)
		require.NoError(f, err)
		f.put("g", "h")
		synctest.Wait()
		require.NotContains(f, seen.take(), string(shard2))
		require.Equal(f, consumer.StateWaiting, f.status(shard2).State)
		require.Equal(f, []braid.ShardID{shard1}, f.status(shard2).WaitingFor)
		close(release)
		synctest.Wait()
		lines := seen.take()
		require.Equal(f, []string{string(shard2), string(shard2)}, lines[len(lines)-2:])
		require.NoError(f, stop())
	})
}

func TestParentsOfAMergeEndAtDifferentWorkers(t *testing.T) {
	for _, first := range []braid.ShardID{shard0, shard1, ""} {
		t.Run("first "+string(first), func(t *testing.T) {
			bubble(t, 2, func(f *fixture) {
				var seen journal
				gates := map[braid.ShardID]chan struct{}{shard0: make(chan struct{}), shard1: make(chan struct{})}
				make := func(lease consumer.Lease) consumer.Processor {
					return &gated{lifecycle{log: &seen, name: string(lease.Shard[len(lease.Shard)-1:])}, gates[lease.Shard]}
				}
				stopOne := f.start(f.worker(consumer.Config{WorkerID: "one"}, consumer.PerLease(make)))
				stopTwo := f.start(f.worker(consumer.Config{WorkerID: "two"}, consumer.PerLease(make)))
				require.NotEqual(f, f.status(shard0).Owner, f.status(shard1).Owner)
				_, err := f.orders.MergeShards(f.Context(), shard0, shard1)
				require.NoError(f, err)
				synctest.Wait()
				seen.take()
				if first != "" {
					close(gates[first])
					synctest.Wait()
					require.Empty(f, seen.take(), "the other parent is not done")
					delete(gates, first)
				}
				for _, gate := range gates {
					close(gate)
				}
				synctest.Wait()
				require.Equal(f, []string{"2 initialize"}, seen.take(), "it begins once")
				require.NoError(f, stopOne())
				require.NoError(f, stopTwo())
			})
		})
	}
}

// gated ends a shard when its gate is open.
type gated struct {
	lifecycle
	gate chan struct{}
}

func (p *gated) ShardEnded(context.Context, *consumer.Checkpointer) error {
	<-p.gate
	return nil
}

func TestLeaseIsTakenFromAProcessorThatDoesNotReturn(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var one, two journal
		f.put("a")
		release, zombie := make(chan struct{}), make(chan error, 2)
		var hung atomic.Bool
		stopOne := f.start(f.worker(consumer.Config{WorkerID: "one", HandOverTimeout: 10 * time.Second}, consumer.PerLease(func(consumer.Lease) consumer.Processor {
			return &hanging{lifecycle{log: &one, name: "one"}, func(ctx context.Context, batch *consumer.Batch) {
				if !hung.Swap(true) {
					<-release
					zombie <- context.Cause(ctx)
					zombie <- batch.CheckpointAt(context.Background(), batch.Records[0])
				}
			}}
		})))
		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		require.NoError(f, app.Pause(f.Context(), consumer.LeaseKey{})) // it has to hand over
		stopTwo := f.start(f.worker(consumer.Config{WorkerID: "two"}, consumer.PerLease(func(consumer.Lease) consumer.Processor { return &lifecycle{log: &two, name: "two"} })))
		require.NoError(f, app.Resume(f.Context(), consumer.LeaseKey{}))
		time.Sleep(9 * time.Second)
		synctest.Wait()
		require.Empty(f, two.take(), "its owner still has time")
		require.Equal(f, consumer.StateHandingOver, f.status(shard0).State)
		time.Sleep(2 * time.Second)
		require.Empty(f, zombie)
		require.NotEmpty(f, f.status(shard0).Owner)
		close(release)
		require.ErrorIs(f, <-zombie, consumer.ErrLeaseLost)
		require.ErrorIs(f, <-zombie, consumer.ErrLeaseLost)
		synctest.Wait()
		require.Contains(f, one.take(), "one lease lost")
		require.NoError(f, stopOne())
		require.NoError(f, stopTwo())
		require.Zero(f, f.status(shard0).BehindRecords, "the record came again, to whoever got the lease")
	})
}

// hanging processes in a way that it is given, the first time.
type hanging struct {
	lifecycle
	process func(context.Context, *consumer.Batch)
}

func (p *hanging) ProcessRecords(ctx context.Context, batch *consumer.Batch) error {
	p.process(ctx, batch)
	return nil
}

func TestRecordThatAlwaysFails(t *testing.T) {
	poison := func(seen *journal) consumer.ProcessorFunc {
		return func(_ context.Context, batch *consumer.Batch) error {
			for _, r := range batch.Records {
				if strings.HasPrefix(string(r.Data), "poison") {
					panic("cannot swallow this")
				}
				seen.add("%s", r.Data)
			}
			return nil
		}
	}
	unique := func(lines []string) map[string]bool {
		set := make(map[string]bool)
		for _, line := range lines {
			set[line] = true
		}
		return set
	}
	all := map[string]bool{"a": true, "b": true, "c": true, "d": true}

	t.Run("stops its shard and no other", func(t *testing.T) {
		bubble(t, 2, func(f *fixture) {
			var seen journal
			f.put("a", "b", "poison", "c", "d") // a, b in one, c, d in the other, or some such
			poisoned := f.shardOf("poison")
			stop := f.start(f.worker(consumer.Config{MaxAttempts: 3}, poison(&seen)))
			time.Sleep(time.Hour)
			s := f.status(poisoned)
			require.Equal(f, consumer.StateFailed, s.State)
			require.ErrorContains(f, s.Err, "cannot swallow this")
			var record *consumer.RecordError
			require.ErrorAs(f, s.Err, &record)
			require.Equal(f, "poison", string(record.Record.Data))
			var panicked *consumer.PanicError
			require.ErrorAs(f, s.Err, &panicked)
			require.Contains(f, string(panicked.Stack), "scenario_test.go")
			for _, other := range []braid.ShardID{shard0, shard1} {
				if other != poisoned {
					require.Equal(f, consumer.StateRunning, f.status(other).State)
					require.Zero(f, f.status(other).BehindRecords)
				}
			}
			require.Positive(f, s.BehindRecords)
			seen.take()
			app, err := consumer.OpenApp(f.db, "billing")
			require.NoError(f, err)
			require.NoError(f, app.Resume(f.Context(), consumer.LeaseKey{Stream: "orders", Shard: poisoned}))
			synctest.Wait()
			require.Equal(f, consumer.StateRetrying, f.status(poisoned).State, "it tries again")
			require.NoError(f, stop())
		})
	})
	t.Run("is skipped, and nothing else is", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			var seen journal
			f.put("a", "b", "poison", "c", "poison too", "d")
			w := f.worker(consumer.Config{MaxAttempts: 2, SkipFailed: true}, poison(&seen))
			stop := f.start(w)
			time.Sleep(time.Hour)
			require.Equal(f, all, unique(seen.take()))
			require.Zero(f, f.status(shard0).BehindRecords)
			require.EqualValues(f, 2, w.Metrics().Skipped)
			require.NoError(f, stop())
		})
	})
	t.Run("goes to the dead-letter stream with its checkpoint", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			var seen journal
			f.put("a", "b", "poison", "c", "d")
			dead, err := f.db.CreateStream(f.Context(), "dead", nil)
			require.NoError(f, err)
			w := f.worker(consumer.Config{MaxAttempts: 2, DeadLetterStream: "dead"}, poison(&seen))
			stop := f.start(w)
			time.Sleep(time.Hour)
			require.Equal(f, all, unique(seen.take()))
			require.NoError(f, stop())
			require.EqualValues(f, 1, w.Metrics().DeadLettered)
			var letters []consumer.DeadLetter
			for r, err := range dead.Records(f.Context(), braid.TrimHorizon()) {
				require.NoError(f, err)
				var letter consumer.DeadLetter
				require.NoError(f, json.Unmarshal(r.Data, &letter))
				letters = append(letters, letter)
			}
			require.Len(f, letters, 1)
			require.Equal(f, "poison", string(letters[0].Data))
			require.Equal(f, "orders", letters[0].Stream)
			require.Equal(f, shard0, letters[0].ShardID)
			require.Contains(f, letters[0].Error, "cannot swallow this")
			require.Equal(f, 2, letters[0].Attempts)
		})
	})
	t.Run("is named by the processor, so that those before it do not come again", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			var seen journal
			f.put("a", "b", "poison", "c")
			stop := f.start(f.worker(consumer.Config{MaxAttempts: 2, SkipFailed: true}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
				for _, r := range batch.Records {
					seen.add("%s", r.Data)
					if string(r.Data) == "poison" {
						return &consumer.RecordError{Record: r, Err: errors.New("no")}
					}
				}
				return nil
			})))
			time.Sleep(time.Hour)
			require.Equal(f, []string{"a", "b", "poison", "poison", "poison", "poison", "c"}, seen.take())
			require.NoError(f, stop())
		})
	})
}

func TestShardEndedIsCalledUntilItSucceeds(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen journal
		stop := f.start(f.worker(consumer.Config{}, seen.each(map[string]int{"shard ended": 2})))
		f.split(shard0)
		synctest.Wait()
		require.Equal(f, []string{"0 initialize", "0 shard ended"}, seen.take())
		require.Equal(f, consumer.StateRetrying, f.status(shard0).State)
		time.Sleep(time.Minute)
		lines := seen.take()
		require.Equal(f, []string{"0 shard ended", "0 shard ended"}, lines[:2])
		require.ElementsMatch(f, []string{"1 initialize", "2 initialize"}, lines[2:], "the children begin once")
		require.NoError(f, stop())
	})
}

func TestStopDoesNotWaitForAnInitializeThatFails(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen journal
		w := f.worker(consumer.Config{}, seen.each(map[string]int{"initialize": 1 << 30}))
		f.start(w)
		time.Sleep(time.Hour)
		began := time.Now()
		ctx, cancel := context.WithTimeout(f.Context(), time.Second)
		defer cancel()
		require.NoError(f, w.Stop(ctx))
		require.Zero(f, time.Since(began))
		require.NotContains(f, seen.take(), "0 lease lost", "it was never initialized")
	})
}

func TestSlowApplicationIsToldWhatRetentionHasRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()); synctest.Wait() }()
		orders, err := db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Shards: 1, Retention: time.Hour})
		require.NoError(t, err)
		f := &fixture{t, db, orders}
		var seen journal
		require.NoError(t, f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))())
		f.put("lost", "lost, too")
		time.Sleep(2 * time.Hour)
		f.put("there")
		var gaps []*braid.TrimmedError
		stop := f.start(f.worker(consumer.Config{OnGap: func(_ context.Context, stream string, gap *braid.TrimmedError) error {
			gaps = append(gaps, gap)
			return nil
		}}, consumer.ProcessorFunc(seen.collect)))
		require.Equal(t, []string{"there"}, seen.take())
		require.Len(t, gaps, 1)
		require.Equal(t, shard0, gaps[0].Shard)
		require.NoError(t, stop())

		f.put("lost again")
		time.Sleep(2 * time.Hour)
		stop = f.start(f.worker(consumer.Config{OnGap: func(context.Context, string, *braid.TrimmedError) error {
			return errors.New("this must not happen")
		}}, consumer.ProcessorFunc(seen.collect)))
		require.Equal(t, consumer.StateFailed, f.status(shard0).State)
		require.ErrorContains(t, f.stopped(stop(), shard0), "this must not happen")
	})
}

func TestSecondWorkerTakesOverAtOnceWithoutDuplicates(t *testing.T) {
	bubble(t, 4, func(f *fixture) {
		var seen journal
		want := 0
		putSome := func() {
			for range 50 {
				f.put(fmt.Sprint("r", want))
				want++
			}
		}
		putSome()
		stopOne := f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))
		began := time.Now()
		for range 10 {
			stopTwo := f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))
			putSome()
			require.NoError(f, stopOne())
			stopOne = stopTwo
			putSome()
		}
		synctest.Wait()
		require.NoError(f, stopOne())
		require.Zero(f, time.Since(began), "nothing has waited")
		lines := seen.take()
		require.Len(f, lines, want)
		set := make(map[string]bool)
		for _, line := range lines {
			set[line] = true
		}
		require.Len(f, set, want)
	})
}

func TestIdleShardsCostNoWrites(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		shards := 10_000
		if testing.Short() {
			shards = 1000
		}
		many, err := f.db.CreateStream(f.Context(), "many", &braid.StreamOptions{Shards: shards})
		require.NoError(f, err)
		var seen journal
		stop := f.start(f.worker(consumer.Config{Streams: []string{"many"}}, consumer.ProcessorFunc(seen.collect)))
		before := f.db.Metrics()
		time.Sleep(24 * time.Hour)
		after := f.db.Metrics()
		require.Equal(f, before.Groups, after.Groups)
		_, err = many.PutRecord(f.Context(), "k", []byte("and yet it wakes"))
		require.NoError(f, err)
		synctest.Wait()
		require.Equal(f, []string{"and yet it wakes"}, seen.take())
		require.NoError(f, stop())
	})
}

func TestStepsOfTheClockDoNotTouchOwnership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var offset atomic.Int64
		opened, err := companion.Open("/db", &braid.Options{ReserveBytes: -1}, companion.Environment{
			FS:    vfs.FS(vfs.NewMem()),
			Clock: func() time.Time { return time.Now().Add(time.Duration(offset.Load())) },
		})
		require.NoError(t, err)
		db := opened.(*braid.DB)
		defer func() { require.NoError(t, db.Close()); synctest.Wait() }()
		orders, err := db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Shards: 4})
		require.NoError(t, err)
		f := &fixture{t, db, orders}
		var seen journal
		stopOne := f.start(f.worker(consumer.Config{WorkerID: "one"}, consumer.ProcessorFunc(seen.collect)))
		stopTwo := f.start(f.worker(consumer.Config{WorkerID: "two"}, consumer.ProcessorFunc(seen.collect)))
		owners := func() (all []string) {
			for _, shard := range []braid.ShardID{shard0, shard1, shard2, shard3} {
				s := f.status(shard)
				all = append(all, fmt.Sprint(s.Owner, s.Epoch, s.State))
			}
			return all
		}
		before := owners()
		for n, step := range []time.Duration{time.Hour, -2 * time.Hour, time.Hour} {
			offset.Add(int64(step))
			f.put(fmt.Sprint("record ", n))
			time.Sleep(time.Minute)
			require.Equal(t, []string{fmt.Sprint("record ", n)}, seen.take())
			require.Equal(t, before, owners())
		}
		require.NoError(t, stopOne())
		require.NoError(t, stopTwo())
	})
}

// shardOf returns the shard that a partition key goes to.
func (f *fixture) shardOf(key string) braid.ShardID {
	for _, sh := range f.orders.Shards() {
		if sh.HashKeyRange().Contains(braid.HashKeyOf(key)) {
			return sh.ID()
		}
	}
	return ""
}

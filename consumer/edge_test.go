package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/internal/kpl"
	"github.com/braidstream/braid/consumer/leasetest"
	"github.com/braidstream/braid/internal/companion"
)

// Where two features meet, and what each of them alone does not show.

func TestSkippedRecordPassesNothingThatIsNotCheckpointed(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a", "b", "bad", "d")
		stop := f.start(f.worker(consumer.Config{Checkpoints: consumer.Manual, SkipFailed: true, MaxAttempts: 1, BatchRecords: 1},
			consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
				if string(batch.Records[0].Data) == "bad" {
					return errors.New("no")
				}
				return nil
			})))
		require.EqualValues(f, 4, f.status(shard0).BehindRecords)
		require.NoError(f, stop())
	})
}

// gatherer acknowledges what it has gathered when it is enough, or told to.
type gatherer struct {
	*journal
	held []consumer.Record
	most int
}

func (p *gatherer) ProcessRecords(_ context.Context, batch *consumer.Batch) error {
	p.add("got %d", len(batch.Records))
	if p.held = append(p.held, batch.Records...); len(p.held) < p.most {
		return nil
	}
	return p.flush(batch.Checkpointer)
}

func (p *gatherer) flush(c *consumer.Checkpointer) error {
	held := p.held
	p.held = nil
	return c.Ack(held...)
}

func (p *gatherer) ShutdownRequested(_ context.Context, c *consumer.Checkpointer) error {
	p.add("shutdown requested")
	return p.flush(c)
}

func (p *gatherer) ShardEnded(_ context.Context, c *consumer.Checkpointer) error {
	p.add("shard ended")
	return p.flush(c)
}

func TestAcksThatAreDueAreAskedFor(t *testing.T) {
	each := func(seen *journal, most int) consumer.Processor {
		return consumer.PerLease(func(consumer.Lease) consumer.Processor { return &gatherer{journal: seen, most: most} })
	}
	t.Run("when the worker stops", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			var seen journal
			f.put("a")
			stop := f.start(f.worker(consumer.Config{Checkpoints: consumer.Acks}, each(&seen, 1000)))
			began := time.Now()
			require.NoError(f, stop())
			require.Zero(f, time.Since(began))
			require.Equal(f, []string{"got 1", "shutdown requested"}, seen.take())
			require.Zero(f, f.status(shard0).BehindRecords)
		})
	})
	t.Run("when the shard ends", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			var seen journal
			f.put("a")
			stop := f.start(f.worker(consumer.Config{Checkpoints: consumer.Acks}, each(&seen, 1000)))
			f.split(shard0)
			synctest.Wait()
			require.Equal(f, []string{"got 1", "shard ended"}, seen.take())
			require.Equal(f, consumer.StateDone, f.status(shard0).State)
			require.NoError(f, stop())
		})
	})
	t.Run("and not before a hundred are gathered that came one by one", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			var seen journal
			stop := f.start(f.worker(consumer.Config{Checkpoints: consumer.Acks}, each(&seen, 100)))
			for range 200 {
				f.put("r")
				synctest.Wait()
			}
			require.Len(f, seen.take(), 200)
			require.Zero(f, f.status(shard0).BehindRecords)
			require.NoError(f, stop())
		})
	})
}

func TestPreparedCheckpointIsSettledByWhatReachesIt(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a", "b", "c", "d")
		var batch *consumer.Batch
		stop := f.start(f.worker(consumer.Config{Checkpoints: consumer.Manual}, consumer.ProcessorFunc(func(_ context.Context, b *consumer.Batch) error {
			batch = b
			return nil
		})))
		third, err := batch.Prepare(f.Context(), batch.Records[2], []byte("s"))
		require.NoError(f, err)
		require.NoError(f, batch.CheckpointAt(f.Context(), batch.Records[0]))
		require.Equal(f, third.Checkpoint(), batch.Pending().Checkpoint(), "that was before it")
		second, err := batch.Prepare(f.Context(), batch.Records[1], nil)
		require.NoError(f, err)
		fourth, err := batch.Prepare(f.Context(), batch.Records[3], nil)
		require.NoError(f, err)
		require.NoError(f, second.Commit(f.Context()))
		require.Equal(f, fourth.Checkpoint(), batch.Pending().Checkpoint(), "another one had taken its place")
		require.NoError(f, fourth.Commit(f.Context()))
		require.Nil(f, batch.Pending())
		require.NoError(f, stop())
	})
}

func TestNextOwnerCanCommitWhatWasPrepared(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a", "b", "c")
		stop := f.start(f.worker(consumer.Config{Checkpoints: consumer.Manual}, consumer.ProcessorFunc(func(ctx context.Context, b *consumer.Batch) error {
			_, err := b.Prepare(ctx, b.Records[1], []byte("sent"))
			return err
		})))
		require.NoError(f, stop())
		var seen journal
		stop = f.start(f.worker(consumer.Config{}, &finisher{&seen}))
		require.Equal(f, []string{"finish sent", "c"}, seen.take())
		require.NoError(f, stop())
	})
}

// finisher commits what was prepared before it.
type finisher struct{ *journal }

func (p *finisher) Initialize(ctx context.Context, c *consumer.Checkpointer) error {
	p.add("finish %s", c.Lease().PendingState)
	return c.Pending().Commit(ctx)
}

func (p *finisher) ProcessRecords(ctx context.Context, batch *consumer.Batch) error {
	return p.collect(ctx, batch)
}

func TestErrorsOfAProcessorAreNotTakenForThoseOfTheDatabase(t *testing.T) {
	for _, cause := range []error{braid.ErrStreamNotFound, braid.ErrClosed, braid.ErrFailed, consumer.ErrLeaseLost} {
		t.Run(cause.Error(), func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				f.put("a")
				var calls atomic.Int64
				stop := f.start(f.worker(consumer.Config{MaxAttempts: 3}, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error {
					calls.Add(1)
					return fmt.Errorf("somewhere else: %w", cause)
				})))
				time.Sleep(time.Hour)
				require.EqualValues(f, 3, calls.Load())
				s := f.status(shard0)
				require.Equal(f, consumer.StateFailed, s.State)
				require.ErrorIs(f, s.Err, cause)
				require.ErrorIs(f, f.stopped(stop(), shard0), cause)
			})
		})
	}
}

func TestEndOfAPageThatIsNotForTheProcessorIsDone(t *testing.T) {
	for _, lanes := range []int{1, 4} {
		bubble(t, 2, func(f *fixture) {
			low, high := f.orders.Shards()[0].HashKeyRange().Start, f.orders.Shards()[1].HashKeyRange().Start
			foreign := kpl.Join([]kpl.UserRecord{{PartitionKey: "x", ExplicitHashKey: high.String(), Data: []byte("x")}})
			_, err := f.orders.PutRecords(f.Context(), []braid.Entry{
				{PartitionKey: "a", ExplicitHashKey: &low, Data: []byte("own")},
				{PartitionKey: "a", ExplicitHashKey: &low, Data: foreign},
			})
			require.NoError(f, err)
			var seen journal
			w := f.worker(consumer.Config{Deaggregate: true, Lanes: lanes}, consumer.ProcessorFunc(seen.collect))
			stop := f.start(w)
			require.NoError(f, w.App().WaitFor(f.Context(), consumer.Status.CaughtUp))
			require.Equal(f, []string{"own"}, seen.take())
			require.NoError(f, stop())
		})
	}
}

func TestAggregateComesAgainWholeIfItIsNotTakenApartAnyMore(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var users []kpl.UserRecord
		for i := range 5 {
			users = append(users, kpl.UserRecord{PartitionKey: "x", Data: []byte(fmt.Sprint(i))})
		}
		carrier := kpl.Join(users)
		_, err := f.orders.PutRecord(f.Context(), "a", carrier)
		require.NoError(f, err)
		stop := f.start(f.worker(consumer.Config{Deaggregate: true, Checkpoints: consumer.Manual}, consumer.ProcessorFunc(func(ctx context.Context, b *consumer.Batch) error {
			r := b.Records[1] // put together from what is exported of it
			return b.CheckpointAt(ctx, consumer.Record{Record: r.Record, SubSequenceNumber: r.SubSequenceNumber, Aggregated: r.Aggregated, Partial: r.Partial})
		})))
		require.NoError(f, stop())
		require.EqualValues(f, 1, f.status(shard0).BehindRecords)
		var seen journal
		stop = f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))
		require.Equal(f, []string{string(carrier)}, seen.take())
		require.NoError(f, stop())
	})
}

func TestCheckpointerOfADeletedLeaseIsOfNoUse(t *testing.T) {
	t.Run("of an application", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			f.put("a", "b", "c")
			var batch *consumer.Batch
			w := f.worker(consumer.Config{WorkerID: "w", Checkpoints: consumer.Manual}, consumer.ProcessorFunc(func(_ context.Context, b *consumer.Batch) error {
				batch = b
				return nil
			}))
			require.NoError(f, f.start(w)())
			require.NoError(f, w.App().Delete(f.Context()))
			stop := f.start(f.worker(consumer.Config{WorkerID: "w", MaxAttempts: -1}, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error {
				return errors.New("not yet")
			})))
			require.ErrorIs(f, batch.CheckpointAt(f.Context(), batch.Records[2]), consumer.ErrLeaseLost)
			require.EqualValues(f, 3, f.status(shard0).BehindRecords)
			require.NoError(f, stop())
		})
	})
	t.Run("of a stream", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			f.put("a", "b", "c")
			var batch atomic.Pointer[consumer.Batch]
			stop := f.start(f.worker(consumer.Config{WorkerID: "w", Checkpoints: consumer.Manual}, consumer.ProcessorFunc(func(_ context.Context, b *consumer.Batch) error {
				batch.CompareAndSwap(nil, b)
				return nil
			})))
			require.NoError(f, f.db.DeleteStream(f.Context(), "orders"))
			time.Sleep(5 * time.Second)
			_, err := f.db.CreateStream(f.Context(), "orders", nil)
			require.NoError(f, err)
			synctest.Wait()
			b := batch.Load()
			require.ErrorIs(f, b.CheckpointAt(f.Context(), b.Records[2]), consumer.ErrLeaseLost)
			require.Equal(f, consumer.StateRunning, f.status(shard0).State)
			require.NoError(f, stop())
		})
	})
}

func TestRunWaitsForProcessorsWhoseLeaseWasTakenAway(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a")
		var seen journal
		release := make(chan struct{})
		w := f.worker(consumer.Config{}, consumer.PerLease(func(consumer.Lease) consumer.Processor {
			return &hanging{lifecycle{log: &seen, name: "0"}, func(context.Context, *consumer.Batch) { <-release }}
		}))
		stop := f.start(w)
		require.NoError(f, w.App().Pause(f.Context(), consumer.LeaseKey{}))
		time.Sleep(time.Minute)
		var stuck *consumer.StopError
		require.ErrorAs(f, stop(), &stuck)
		require.Equal(f, []consumer.LeaseKey{{Stream: "orders", Shard: shard0}}, stuck.Shards)
		seen.take()
		close(release)
		synctest.Wait()
		require.Empty(f, seen.take(), "nothing is called after Run has returned")
	})
}

func TestEarliestStopCounts(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a")
		release := make(chan struct{})
		defer close(release)
		w := f.worker(consumer.Config{}, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { <-release; return nil }))
		f.start(w)
		began := time.Now()
		go func() { _ = w.Stop(context.Background()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(f.Context(), time.Second)
		defer cancel()
		var stuck *consumer.StopError
		require.ErrorAs(f, w.Stop(ctx), &stuck)
		require.LessOrEqual(f, time.Since(began), 1100*time.Millisecond)
	})
}

func TestGapIsToldOnce(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var gaps atomic.Int64
		cfg := consumer.Config{OnGap: func(context.Context, string, *braid.TrimmedError) error { gaps.Add(1); return nil }}
		var seen journal
		f.put("a")
		require.NoError(f, f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))())
		f.put("b", "c")
		require.NoError(f, f.orders.Trim(f.Context(), braid.Latest()))
		for range 3 {
			w := f.worker(cfg, consumer.ProcessorFunc(seen.collect))
			stop := f.start(w)
			require.NoError(f, w.App().WaitFor(f.Context(), consumer.Status.CaughtUp))
			require.EqualValues(f, 1, gaps.Load())
			require.NoError(f, stop())
		}
	})
}

func TestShardsThatExpireUnprocessedAreTold(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen, gaps journal
		cfg := consumer.Config{OnGap: func(_ context.Context, stream string, gap *braid.TrimmedError) error {
			gaps.add("%s %v", gap.Shard, gap.FirstLost.IsZero())
			return nil
		}}
		f.put("a")
		require.NoError(f, f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))())
		f.put("b")
		f.split(shard0)
		f.put("c", "d")
		f.split(shard1)
		f.split(shard2)
		time.Sleep(30 * time.Hour)
		f.put("z")
		w := f.worker(cfg, consumer.ProcessorFunc(seen.collect))
		stop := f.start(w)
		require.Equal(f, []string{"a", "z"}, seen.take())
		require.Subset(f, []string{string(shard1) + " true", string(shard2) + " true"}, gaps.take())
		require.EqualValues(f, 4, w.Metrics().Gaps)
		require.NoError(f, stop())
		require.NoError(f, f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))())
		require.Empty(f, gaps.take(), "once is enough")
	})
	bubble(t, 1, func(f *fixture) { // it had begun
		var seen, gaps journal
		cfg := consumer.Config{OnGap: func(_ context.Context, stream string, gap *braid.TrimmedError) error {
			gaps.add("%s %v", gap.Shard, gap.FirstLost.IsZero())
			return nil
		}}
		f.put("a")
		require.NoError(f, f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))())
		f.put("b")
		f.split(shard0)
		time.Sleep(30 * time.Hour)
		stop := f.start(f.worker(cfg, consumer.ProcessorFunc(seen.collect)))
		require.Equal(f, []string{string(shard0) + " false", string(shard0) + " false"}, gaps.take(), "both children tell")
		require.NoError(f, stop())
	})
}

func TestLanesLeaveCheckpointsToTheWorker(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a", "b", "c", "d")
		var errs journal
		stop := f.start(f.worker(consumer.Config{Lanes: 2}, consumer.ProcessorFunc(func(ctx context.Context, b *consumer.Batch) error {
			if err := b.CheckpointAt(ctx, b.Records[0]); !errors.Is(err, braid.ErrInvalidArgument) {
				errs.add("%v", err)
			}
			return b.Checkpoint(ctx)
		})))
		require.Empty(f, errs.take())
		require.Zero(f, f.status(shard0).BehindRecords)
		require.NoError(f, stop())
	})
}

func TestTransactionThatIsRefusedIsNoFailureOfItsProcessor(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		out, err := f.db.CreateStream(f.Context(), "out", &braid.StreamOptions{Shards: 1, Capacity: braid.Capacity{Mode: braid.Provisioned}})
		require.NoError(f, err)
		f.put("a", "b")
		w := f.txWorker(consumer.Config{SkipFailed: true, MaxAttempts: 2}, func(_ context.Context, tx *braid.Tx, batch *consumer.TxBatch) error {
			for _, r := range batch.Records {
				if err := tx.PutRecord("out", "k", append(make([]byte, 300<<10), r.Data...)); err != nil {
					return err
				}
			}
			return nil
		})
		var free atomic.Bool
		go func() { // somebody else uses up what the shard takes
			for !free.Load() {
				_, _ = out.PutRecord(context.Background(), "k", make([]byte, 200<<10))
				time.Sleep(49 * time.Millisecond)
			}
		}()
		time.Sleep(10 * time.Second)
		stop := f.start(w)
		time.Sleep(time.Minute)
		require.EqualValues(f, 2, f.status(shard0).BehindRecords)
		free.Store(true)
		require.NoError(f, w.App().WaitFor(f.Context(), consumer.Status.CaughtUp))
		require.Zero(f, w.Metrics().Skipped)
		require.Zero(f, w.Metrics().Failures)
		require.NoError(f, stop())
	})
}

// rewinder seeks its shard back while it ends.
type rewinder struct {
	*journal
	app *consumer.App
}

func (p *rewinder) ProcessRecords(context.Context, *consumer.Batch) error { return nil }

func (p *rewinder) ShardEnded(ctx context.Context, c *consumer.Checkpointer) error {
	p.add("ended")
	if c.Lease().Epoch == 1 {
		return p.app.Seek(context.WithoutCancel(ctx), c.Lease().LeaseKey, braid.TrimHorizon())
	}
	return nil
}

func (p *rewinder) LeaseLost(context.Context, error) { p.add("lost") }

func TestTerminalHookIsOne(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a")
		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		var seen journal
		first := true
		stop := f.start(f.worker(consumer.Config{}, consumer.PerLease(func(lease consumer.Lease) consumer.Processor {
			if lease.Shard == shard0 && first {
				first = false
				return &rewinder{&seen, app}
			}
			return consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil })
		})))
		f.split(shard0)
		synctest.Wait()
		require.Equal(f, []string{"ended"}, seen.take())
		require.Equal(f, consumer.StateDone, f.status(shard0).State)
		require.NoError(f, stop())
	})
}

func TestProcessorsThatCannotBeMadeAreTriedAgain(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a")
		var seen journal
		calls := 0
		stop := f.start(f.worker(consumer.Config{}, consumer.PerLease(func(consumer.Lease) consumer.Processor {
			if calls++; calls < 3 {
				panic("not yet")
			}
			return consumer.ProcessorFunc(seen.collect)
		})))
		require.ErrorContains(f, f.status(shard0).Err, "not yet")
		time.Sleep(time.Minute)
		require.Equal(f, []string{"a"}, seen.take())
		require.NoError(f, stop())
	})
}

func TestProcessorThatEndsItsGoroutineStopsTheShard(t *testing.T) {
	for _, cfg := range []consumer.Config{{}, {Lanes: 3}, {CheckpointInterval: time.Minute}} {
		bubble(t, 1, func(f *fixture) {
			f.put("a")
			var calls atomic.Int64
			stop := f.start(f.worker(cfg, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error {
				calls.Add(1)
				runtime.Goexit()
				return nil
			})))
			time.Sleep(time.Hour)
			require.EqualValues(f, 1, calls.Load())
			require.Equal(f, consumer.StateFailed, f.status(shard0).State)
			require.ErrorContains(f, f.stopped(stop(), shard0), "Goexit")
		})
	}
}

func TestPausesBetweenAttemptsDoNotOverflow(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a")
		var calls atomic.Int64
		stop := f.start(f.worker(consumer.Config{RetryPause: 10 * time.Second, MaxRetryPause: time.Minute, MaxAttempts: -1}, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error {
			calls.Add(1)
			return errors.New("no")
		})))
		time.Sleep(10 * time.Hour)
		require.InDelta(f, 603, calls.Load(), 2)
		require.NoError(f, stop())
	})
}

// halfBlind is a source that cannot look at one of its streams now.
type halfBlind struct {
	consumer.Source
	blind *atomic.Bool
}

func (s halfBlind) Stream(ctx context.Context, name string) (consumer.StreamInfo, error) {
	if name == "refunds" && s.blind.Load() {
		return consumer.StreamInfo{}, errors.New("not now")
	}
	return s.Source.Stream(ctx, name)
}

func TestStreamThatCannotBeLookedAtHoldsUpNoOther(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		refunds, err := f.db.CreateStream(f.Context(), "refunds", nil)
		require.NoError(f, err)
		_, err = refunds.PutRecord(f.Context(), "k", []byte("refund"))
		require.NoError(f, err)
		source := halfBlind{consumer.NewDBSource(f.db), new(atomic.Bool)}
		source.blind.Store(true)
		var seen journal
		w := f.worker(consumer.Config{Streams: []string{"orders", "refunds"}, Source: source}, consumer.ProcessorFunc(seen.collect))
		stop := f.start(w)
		f.put("order")
		synctest.Wait()
		require.Equal(f, []string{"order"}, seen.take())
		source.blind.Store(false)
		time.Sleep(time.Minute)
		require.Equal(f, []string{"refund"}, seen.take())
		source.blind.Store(true)
		f.split(shard0) // so that somebody looks
		f.put("another")
		_, err = refunds.PutRecord(f.Context(), "k", []byte("another refund"))
		require.NoError(f, err)
		synctest.Wait()
		require.ElementsMatch(f, []string{"another", "another refund"}, seen.take(), "what is under way goes on")
		_, err = w.App().Status(f.Context())
		require.ErrorContains(f, err, "not now")
		require.NoError(f, stop())
	})
}

func TestLeasesElsewhereMustExpire(t *testing.T) {
	_, err := consumer.New(nil, &consumer.Config{
		App: "a", Streams: []string{"s"}, Leases: leasetest.NewMemory(0), Source: consumer.NewDBSource(nil),
	}, consumer.ProcessorFunc(nil))
	require.ErrorContains(t, err, "LeaseDuration")
}

// This one waits for real time, of a disk that fails: a store that has failed never
// returns from it, so no bubble would end.
func TestWorkerEndsWhenTheStoreFails(t *testing.T) {
	var broken atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.EIO
		}
		return nil
	}))
	opened, err := companion.Open("/db", &braid.Options{MemtableBytes: 1 << 20, ReserveBytes: -1}, companion.Environment{FS: vfs.FS(fs)})
	require.NoError(t, err)
	db := opened.(*braid.DB)
	orders, err := db.CreateStream(t.Context(), "orders", nil)
	require.NoError(t, err)
	started, release := make(chan struct{}), make(chan struct{})
	w, err := consumer.New(db, &consumer.Config{App: "billing", Streams: []string{"orders"}}, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error {
		close(started)
		<-release
		return nil
	}))
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(context.Background()) }()
	_, err = orders.PutRecord(t.Context(), "k", nil)
	require.NoError(t, err)
	<-started
	broken.Store(true)
	close(release) // and now it cannot checkpoint
	require.ErrorIs(t, <-ended, braid.ErrFailed)
	_ = db.Close()
}

package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
)

func TestApplicationThatNeverWasIsNotFound(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		app, err := consumer.OpenApp(f.db, "nobody")
		require.NoError(f, err)
		shard := consumer.LeaseKey{Stream: "orders", Shard: shard0}
		calls := map[string]func() error{
			"Status":       func() error { _, err := app.Status(f.Context()); return err },
			"WaitFor":      func() error { return app.WaitFor(f.Context(), consumer.Status.CaughtUp) },
			"WaitCaughtUp": func() error { return app.WaitCaughtUp(f.Context()) },
			"Seek":         func() error { return app.Seek(f.Context(), consumer.LeaseKey{}, braid.Latest()) },
			"Seek a shard": func() error { return app.Seek(f.Context(), shard, braid.Latest()) },
			"Pause":        func() error { return app.Pause(f.Context(), consumer.LeaseKey{}) },
			"Pause one":    func() error { return app.Pause(f.Context(), shard) },
			"Resume":       func() error { return app.Resume(f.Context(), consumer.LeaseKey{Stream: "orders"}) },
			"Delete":       func() error { return app.Delete(f.Context()) },
		}
		check := func() {
			f.Helper()
			for name, call := range calls {
				err := call()
				require.ErrorIs(f, err, consumer.ErrAppNotFound, name)
				require.ErrorContains(f, err, `"nobody"`, name)
			}
			apps, err := consumer.Apps(f.Context(), f.db)
			require.NoError(f, err)
			require.Empty(f, apps, "nothing was made")
		}
		check()

		// A new worker is about to begin, so it makes sense to wait.
		w := f.worker(consumer.Config{App: "nobody"}, nothing)
		caughtUp := make(chan error, 1)
		go func() { caughtUp <- app.WaitCaughtUp(f.Context()) }()
		synctest.Wait()
		require.Empty(f, caughtUp)
		_, err = app.Status(f.Context())
		require.ErrorIs(f, err, consumer.ErrAppNotFound)
		stop := f.start(w)
		require.NoError(f, <-caughtUp)
		_, err = app.Status(f.Context())
		require.NoError(f, err)
		require.ErrorIs(f, app.Delete(f.Context()), braid.ErrInvalidArgument)
		require.NoError(f, stop())
		_, err = app.Status(f.Context())
		require.NoError(f, err, "it is stored")

		require.NoError(f, app.Delete(f.Context()))
		check()
	})
}

// A worker that cannot begin does not keep others waiting.
func TestWaitingEndsWithTheLastWorker(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		w := f.worker(consumer.Config{App: "nobody"}, nothing)
		waited := make(chan error, 1)
		go func() { waited <- w.App().WaitCaughtUp(f.Context()) }()
		synctest.Wait()
		ctx, cancel := context.WithCancel(f.Context())
		cancel()
		require.NoError(f, w.Run(ctx))
		require.ErrorIs(f, <-waited, consumer.ErrAppNotFound)
	})
}

func TestAppsLists(t *testing.T) {
	bubble(t, 3, func(f *fixture) {
		apps, err := consumer.Apps(f.Context(), f.db)
		require.NoError(f, err)
		require.Empty(f, apps)
		want := []string{"-", ".a", "A", "a", "a-b", "a.b", "a0", "aB", "a_b", "ab", "b"} // in the order of their bytes
		for _, i := range []int{4, 0, 9, 10, 2, 3, 8, 7, 6, 5, 1} {
			require.NoError(f, f.start(f.worker(consumer.Config{App: want[i]}, nothing))())
		}
		apps, err = consumer.Apps(f.Context(), f.db)
		require.NoError(f, err)
		require.Equal(f, want, apps)

		app, err := consumer.OpenApp(f.db, "a.b")
		require.NoError(f, err)
		require.NoError(f, app.Delete(f.Context()))
		apps, err = consumer.Apps(f.Context(), f.db)
		require.NoError(f, err)
		require.NotContains(f, apps, "a.b")
		require.Len(f, apps, len(want)-1)

		_, err = consumer.Apps(f.Context(), nil)
		require.ErrorIs(f, err, braid.ErrInvalidArgument)
		ctx, cancel := context.WithCancelCause(f.Context())
		cancel(errors.New("enough"))
		_, err = consumer.Apps(ctx, f.db)
		require.ErrorContains(f, err, "enough")
	})
}

// A tool may ask often, and an application may have ten thousand leases: Apps does not
// read them.
func TestAppsCostAsMuchAsThereAreApplications(t *testing.T) {
	cost := func(leases int) float64 {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		defer db.Close()
		for _, app := range []string{"a", "b", "c"} {
			store := consumer.NewDBLeases(db, app)
			for i := range leases {
				_, err := store.CompareAndSet(t.Context(), consumer.Lease{LeaseKey: consumer.LeaseKey{Stream: "orders", Shard: braid.ShardID(fmt.Sprint(i))}})
				require.NoError(t, err)
			}
		}
		return testing.AllocsPerRun(10, func() {
			apps, err := consumer.Apps(t.Context(), db)
			require.NoError(t, err)
			require.Len(t, apps, 3)
		})
	}
	require.Less(t, cost(1000), cost(1)+300, "allocations")
}

func TestWaitCaughtUpEndsAtAStoppedShard(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		errBad := errors.New("bad")
		f.put("a")
		w := f.worker(consumer.Config{MaxAttempts: 3}, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return errBad }))
		stop := f.start(w)
		waited := make(chan error, 1)
		go func() { waited <- w.App().WaitCaughtUp(f.Context()) }()
		synctest.Wait()
		require.Empty(f, waited, "it is tried again")
		time.Sleep(time.Minute)
		require.ErrorIs(f, f.stopped(<-waited, shard0), errBad)
		f.stopped(stop(), shard0)

		ctx, cancel := context.WithTimeout(f.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(f, w.App().WaitCaughtUp(ctx), context.DeadlineExceeded, "no worker, no progress")
	})
}

// tipper notes records, and each time that its shard is at the tip.
type tipper struct {
	journal
	process  consumer.ProcessorFunc
	failures int // of the hook
}

func (p *tipper) ProcessRecords(ctx context.Context, batch *consumer.Batch) error {
	if p.process != nil {
		if err := p.process(ctx, batch); err != nil {
			return err
		}
	}
	return p.collect(ctx, batch)
}

func (p *tipper) TipReached(_ context.Context, c *consumer.Checkpointer) error {
	if p.failures > 0 {
		p.failures--
		p.add("fails at the tip")
		return errors.New("not now")
	}
	p.add("tip of %s", c.Lease().Shard[len(c.Lease().Shard)-1:])
	return nil
}

func TestTipIsSaidToTheProcessor(t *testing.T) {
	for _, cfg := range []consumer.Config{{}, {Lanes: 3}, {BatchRecords: 1}} {
		bubble(t, 1, func(f *fixture) {
			p := &tipper{}
			stop := f.start(f.worker(cfg, p))
			require.Equal(f, []string{"tip of 0"}, p.take(), "there was nothing to begin with")
			f.put("a")
			synctest.Wait()
			require.Equal(f, []string{"a", "tip of 0"}, p.take())
			p.failures = 2
			f.put("b")
			synctest.Wait()
			f.put("c")
			synctest.Wait()
			require.Equal(f, []string{"b", "fails at the tip"}, p.take(), "what follows waits for the hook")
			time.Sleep(time.Minute)
			require.Equal(f, []string{"fails at the tip", "tip of 0", "c", "tip of 0"}, p.take())
			f.split(shard0)
			synctest.Wait()
			lines := p.take()
			require.Len(f, lines, 2, "a shard that ends has no tip")
			require.ElementsMatch(f, []string{"tip of 1", "tip of 2"}, lines)
			time.Sleep(time.Hour)
			require.Empty(f, p.take(), "it is said once")
			require.NoError(f, stop())
			require.Empty(f, p.take())
		})
	}
}

// The tip is reached when the records are done, not while they are being processed.
func TestTipComesAfterWhatIsAcknowledged(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var last *consumer.Batch
		p := &tipper{process: func(_ context.Context, batch *consumer.Batch) error { last = batch; return nil }}
		stop := f.start(f.worker(consumer.Config{Checkpoints: consumer.Acks}, p))
		require.Equal(f, []string{"tip of 0"}, p.take())
		f.put("a")
		synctest.Wait()
		require.Equal(f, []string{"a"}, p.take())
		a := last
		f.put("b")
		synctest.Wait()
		require.NoError(f, a.Ack(a.Records...))
		synctest.Wait()
		require.Equal(f, []string{"b"}, p.take(), "b is not done")
		require.NoError(f, last.Ack(last.Records...))
		synctest.Wait()
		require.Equal(f, []string{"tip of 0"}, p.take())
		f.put("c")
		synctest.Wait()
		require.Equal(f, []string{"c"}, p.take())
		go func() {
			time.Sleep(time.Second)
			_ = last.Ack(last.Records...)
		}()
		require.NoError(f, stop())
		require.Empty(f, p.take(), "the end is not the tip")
	})
}

func TestTipHookThatEndsItsGoroutineStopsTheShard(t *testing.T) {
	for _, lanes := range []int{1, 3} {
		bubble(t, 1, func(f *fixture) {
			stop := f.start(f.worker(consumer.Config{Lanes: lanes}, exiting{}))
			time.Sleep(time.Hour)
			require.Equal(f, consumer.StateFailed, f.status(shard0).State)
			require.ErrorContains(f, f.stopped(stop(), shard0), "Goexit")
		})
	}
}

// exiting is a processor whose hook ends its goroutine, like testing's FailNow.
type exiting struct{}

func (exiting) ProcessRecords(context.Context, *consumer.Batch) error { return nil }

func (exiting) TipReached(context.Context, *consumer.Checkpointer) error {
	runtime.Goexit()
	return nil
}

// Names come from callers, and a line break in an error would make two log lines.
func TestErrorsQuoteNames(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		const bad = "a\nb\x1b[31m"
		require.NoError(f, f.start(f.worker(consumer.Config{}, nothing))())
		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		stream, shard := consumer.LeaseKey{Stream: bad}, consumer.LeaseKey{Stream: "orders", Shard: bad}
		source := consumer.NewDBSource(f.db)
		stop := f.start(f.worker(consumer.Config{App: "other", WorkerID: bad, Source: source, Streams: []string{bad}}, nothing))
		made := func(config *consumer.Config) error {
			_, err := consumer.New(f.db, config, nothing)
			return err
		}
		opened := func(name string) error {
			_, err := consumer.OpenApp(f.db, name)
			return err
		}
		other := func(config consumer.Config) error {
			config.App, config.Source = "other", source
			return f.worker(config, nothing).Run(f.Context())
		}
		for i, err := range []error{
			opened(bad),
			made(&consumer.Config{App: bad, Streams: []string{"orders"}}),
			made(&consumer.Config{App: "a", Streams: []string{bad}}),
			made(&consumer.Config{App: "a", Streams: []string{"orders"}, DeadLetterStream: bad}),
			made(&consumer.Config{App: "a", Source: source, Streams: []string{bad, bad}}),
			app.Seek(f.Context(), stream, braid.Latest()),
			app.Seek(f.Context(), shard, braid.Latest()),
			app.Pause(f.Context(), stream),
			app.Resume(f.Context(), shard),
			other(consumer.Config{WorkerID: bad, Streams: []string{bad}}),
			other(consumer.Config{Streams: []string{bad, "orders"}}),
			&consumer.HungShardsError{Shards: []consumer.LeaseKey{stream, shard}},
			&consumer.StoppedShardsError{Shards: []consumer.ShardError{{LeaseKey: stream, Err: errors.New("no")}}},
		} {
			require.Error(f, err, i)
			require.NotContains(f, err.Error(), "\n", i)
			require.NotContains(f, err.Error(), "\x1b", i)
			require.Contains(f, err.Error(), `a\nb\x1b[31m`, i)
		}
		require.NoError(f, stop())
	})
}

// flusher is a processor that flushes what it has gathered when it reaches the tip.
type flusher struct {
	journal
	gathered []string
}

func (p *flusher) ProcessRecords(_ context.Context, batch *consumer.Batch) error {
	for _, r := range batch.Records {
		p.gathered = append(p.gathered, string(r.Data))
	}
	return nil
}

func (p *flusher) TipReached(ctx context.Context, c *consumer.Checkpointer) error {
	p.add("%v", p.gathered)
	p.gathered = nil
	return c.Checkpoint(ctx)
}

func TestProcessorCanFlushAtTheTip(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		p := &flusher{}
		f.put("a", "b", "c")
		stop := f.start(f.worker(consumer.Config{Checkpoints: consumer.Manual, BatchRecords: 1}, p))
		require.Equal(f, []string{"[a b c]"}, p.take())
		require.Zero(f, f.status(shard0).BehindRecords)
		f.put("d")
		synctest.Wait()
		require.Equal(f, []string{"[d]"}, p.take())
		require.NoError(f, stop())
		require.Zero(f, f.status(shard0).BehindRecords)
	})
}

// initializer is a processor whose first hook fails once.
type initializer struct{ failed bool }

func (p *initializer) ProcessRecords(context.Context, *consumer.Batch) error { return nil }

func (p *initializer) Initialize(context.Context, *consumer.Checkpointer) error {
	if p.failed {
		return nil
	}
	p.failed = true
	return errors.New("not yet")
}

// Every change of a status wakes its waiters.
func TestWaitForHearsOfEveryChange(t *testing.T) {
	wait := func(f *fixture, app *consumer.App, reached func(consumer.Status) bool) (ended chan error) {
		ended = make(chan error, 1)
		go func() { ended <- app.WaitFor(f.Context(), reached) }()
		synctest.Wait()
		require.Empty(f, ended, "not yet")
		return ended
	}
	t.Run("that a retry has succeeded", func(t *testing.T) {
		for name, p := range map[string]consumer.Processor{"Initialize": &initializer{}, "TipReached": &tipper{failures: 1}} {
			bubble(t, 1, func(f *fixture) {
				w := f.worker(consumer.Config{}, p)
				stop := f.start(w)
				require.Equal(f, consumer.StateRetrying, f.status(shard0).State, name)
				require.NoError(f, <-wait(f, w.App(), consumer.Status.CaughtUp), name)
				require.NoError(f, stop())
			})
		}
	})
	t.Run("what an App does without workers", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			require.NoError(f, f.start(f.worker(consumer.Config{}, nothing))())
			app, err := consumer.OpenApp(f.db, "billing")
			require.NoError(f, err)
			f.put("a")
			behind := wait(f, app, consumer.Status.CaughtUp)
			require.NoError(f, app.Seek(f.Context(), consumer.LeaseKey{}, braid.Latest()))
			require.NoError(f, <-behind)
			paused := wait(f, app, func(s consumer.Status) bool { return s.Paused })
			require.NoError(f, app.Pause(f.Context(), consumer.LeaseKey{}))
			require.NoError(f, <-paused)
			resumed := wait(f, app, func(s consumer.Status) bool { return !s.Paused })
			require.NoError(f, app.Resume(f.Context(), consumer.LeaseKey{}))
			require.NoError(f, <-resumed)
			never := wait(f, app, func(consumer.Status) bool { return false })
			require.NoError(f, app.Delete(f.Context()))
			require.ErrorIs(f, <-never, consumer.ErrAppNotFound)
		})
	})
}

// batchingLeases is a BatchLeaseStore that notes the number of leases of each
// CompareAndSetAll.
type batchingLeases struct {
	*leasetest.Memory
	batches *[]int
}

func (s batchingLeases) CompareAndSetAll(ctx context.Context, leases []consumer.Lease) (bool, error) {
	*s.batches = append(*s.batches, len(leases))
	for _, lease := range leases { // nobody else writes
		if stored, err := s.CompareAndSet(ctx, lease); err != nil || !stored {
			return stored, err
		}
	}
	return true, nil
}

// A Seek of several shards is one commit if the store can write several leases in one
// step, and not otherwise, as documented.
func TestSeekMovesAllShardsAtOnceInABatchLeaseStore(t *testing.T) {
	for _, batches := range []bool{true, false} {
		bubble(t, 3, func(f *fixture) {
			memory, sizes := leasetest.NewMemory(time.Hour), []int(nil)
			var store consumer.LeaseStore = memory
			if batches {
				store = batchingLeases{memory, &sizes}
			}
			w := f.worker(consumer.Config{Leases: store}, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil }))
			require.NoError(f, f.start(w)())
			moved := func() (n int) {
				leases, err := memory.List(f.Context())
				require.NoError(f, err)
				for _, lease := range leases {
					if lease.Shard != "" && lease.Epoch == 2 {
						n++
					}
				}
				return n
			}
			require.Zero(f, moved())
			sizes = nil
			lastShard := f.orders.Shards()[2].ID()
			unplugged := errors.New("unplugged")
			if !batches {
				memory.Fail(func(op string, key consumer.LeaseKey) error {
					if op == "CompareAndSet" && key.Shard == lastShard {
						return unplugged
					}
					return nil
				})
				require.ErrorIs(f, w.App().Seek(f.Context(), consumer.LeaseKey{}, braid.Latest()), unplugged)
				require.Equal(f, 2, moved(), "one after the other")
				memory.Fail(nil)
			}
			require.NoError(f, w.App().Seek(f.Context(), consumer.LeaseKey{}, braid.TrimHorizon()))
			if batches {
				require.Equal(f, []int{3}, sizes)
				require.Equal(f, 3, moved())
			}
			status, err := w.App().Status(f.Context())
			require.NoError(f, err)
			for _, shard := range status.Shards {
				require.GreaterOrEqual(f, shard.Epoch, uint64(2), "the same Seek again moves all")
			}
		})
	}
}

// busyLeases is a store in which workers elsewhere write a lease just before each of the
// first writes of a Seek.
type busyLeases struct {
	batchingLeases
	write func()
	seeks func(consumer.Lease) bool
}

func (s *busyLeases) CompareAndSet(ctx context.Context, lease consumer.Lease) (bool, error) {
	if s.seeks(lease) {
		s.write()
	}
	return s.Memory.CompareAndSet(ctx, lease)
}

// busyBatchLeases is busyLeases that is a BatchLeaseStore.
type busyBatchLeases struct{ *busyLeases }

func (s busyBatchLeases) CompareAndSetAll(ctx context.Context, leases []consumer.Lease) (bool, error) {
	if s.seeks(leases[0]) {
		s.write()
	}
	for _, lease := range leases { // the workers write before, not in between
		if now, _, err := s.Get(ctx, lease.LeaseKey); err != nil || now.Version != lease.Version {
			return false, err
		}
	}
	return s.batchingLeases.CompareAndSetAll(ctx, leases)
}

// plainLeases hides the CompareAndSetAll of a store.
type plainLeases struct{ consumer.LeaseStore }

// However often workers write their leases, a Seek ends, and moves each shard once; with
// a BatchLeaseStore it moves all of them in one step.
func TestSeekOfBusyShardsMovesEachOnce(t *testing.T) {
	for _, batches := range []bool{true, false} {
		bubble(t, 4, func(f *fixture) {
			var sizes []int
			memory := leasetest.NewMemory(time.Hour)
			busy := &busyLeases{batchingLeases: batchingLeases{memory, &sizes}, seeks: func(consumer.Lease) bool { return false }}
			var store consumer.LeaseStore = plainLeases{busy}
			if batches {
				store = busyBatchLeases{busy}
			}
			f.put("a", "b", "c", "d", "e", "f")
			w := f.worker(consumer.Config{Leases: store}, consumer.ProcessorFunc(nop))
			require.NoError(f, f.start(w)())
			leases := func() (shards []consumer.Lease) {
				all, err := memory.List(f.Context())
				require.NoError(f, err)
				for _, lease := range all {
					if lease.Shard != "" {
						shards = append(shards, lease)
					}
				}
				require.Len(f, shards, 4)
				return shards
			}
			before := make(map[braid.ShardID]consumer.Lease)
			for _, lease := range leases() {
				before[lease.Shard] = lease
			}
			busy.seeks = func(lease consumer.Lease) bool { return lease.Shard != "" && lease.Epoch > before[lease.Shard].Epoch }
			writes := 20
			busy.write = func() { // a worker renews a lease that is not moved yet
				for _, lease := range leases() {
					if writes > 0 && lease.Epoch == before[lease.Shard].Epoch {
						writes--
						stored, err := memory.CompareAndSet(f.Context(), lease)
						require.NoError(f, err)
						require.True(f, stored)
						return
					}
				}
			}
			sizes = nil
			single := 0
			memory.OnWrite(func(was, is consumer.Lease) {
				if is.Epoch > was.Epoch {
					single++
				}
			})
			require.NoError(f, w.App().Seek(f.Context(), consumer.LeaseKey{}, braid.Latest()))
			require.Zero(f, writes)
			require.Equal(f, 4, single, "each is moved once")
			if batches {
				require.Equal(f, []int{4}, sizes, "in one step")
			}
			status, err := w.App().Status(f.Context())
			require.NoError(f, err)
			require.Zero(f, status.BehindRecords)
			for _, lease := range leases() {
				require.Equal(f, before[lease.Shard].Epoch+1, lease.Epoch)
			}
		})
	}
}

// A Pause does not overwrite what a worker has written since the Pause read the lease.
func TestPauseKeepsWhatWasWrittenMeanwhile(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var sizes []int
		memory := leasetest.NewMemory(time.Hour)
		busy := &busyLeases{batchingLeases: batchingLeases{memory, &sizes}, seeks: func(consumer.Lease) bool { return false }}
		f.put("a")
		w := f.worker(consumer.Config{Leases: plainLeases{busy}, Start: braid.Latest()}, consumer.ProcessorFunc(nop))
		require.NoError(f, f.start(w)())
		key := consumer.LeaseKey{Stream: "orders", Shard: shard0}
		end := consumer.Checkpoint{ShardEnd: true}
		busy.seeks = func(lease consumer.Lease) bool { return lease.Paused }
		busy.write = func() {
			busy.write = func() {}
			lease, _, err := memory.Get(f.Context(), key)
			require.NoError(f, err)
			lease.Checkpoint = end
			stored, err := memory.CompareAndSet(f.Context(), lease)
			require.NoError(f, err)
			require.True(f, stored)
		}
		require.NoError(f, w.App().Pause(f.Context(), key))
		lease, _, err := memory.Get(f.Context(), key)
		require.NoError(f, err)
		require.True(f, lease.Paused)
		require.True(f, lease.Checkpoint.Equal(end), "%v", lease.Checkpoint)
	})
}

package consumer_test

import (
	"cmp"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
)

// hangsIn is a processor whose method of the given name hangs until its context ends.
type hangsIn struct{ method string }

func (p hangsIn) call(ctx context.Context, method string) error {
	if p.method != method {
		return nil
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (p hangsIn) Initialize(ctx context.Context, _ *consumer.Checkpointer) error {
	return p.call(ctx, "Initialize")
}

func (p hangsIn) ProcessRecords(ctx context.Context, _ *consumer.Batch) error {
	return p.call(ctx, "ProcessRecords")
}

func (p hangsIn) TipReached(ctx context.Context, _ *consumer.Checkpointer) error {
	return p.call(ctx, "TipReached")
}

func (p hangsIn) ShardEnded(ctx context.Context, _ *consumer.Checkpointer) error {
	return p.call(ctx, "ShardEnded")
}

func (p hangsIn) ShutdownRequested(ctx context.Context, _ *consumer.Checkpointer) error {
	return p.call(ctx, "ShutdownRequested")
}

func TestStatusShowsACallThatHangs(t *testing.T) {
	for _, method := range []string{"Initialize", "ProcessRecords", "TipReached", "ShardEnded", "ShutdownRequested", "PerLease"} {
		t.Run(method, func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				f.put("a", "b", "c")
				switch method {
				case "ShardEnded":
					f.split(shard0)
				case "ShutdownRequested":
					time.AfterFunc(time.Minute, func() {
						app, err := consumer.OpenApp(f.db, "billing")
						if err == nil {
							err = app.Pause(context.Background(), consumer.LeaseKey{Stream: "orders", Shard: shard0})
						}
						if err != nil {
							f.Error(err)
						}
					})
				}
				release := make(chan struct{})
				p := consumer.PerLease(func(consumer.Lease) consumer.Processor {
					if method == "PerLease" {
						<-release
					}
					return hangsIn{method}
				})
				began := time.Now()
				stop := f.start(f.worker(consumer.Config{HandOverTimeout: time.Hour}, p))
				if method == "ShutdownRequested" {
					time.Sleep(time.Minute)
					synctest.Wait()
					began = time.Now()
				}
				time.Sleep(time.Minute)
				status := f.status(shard0)
				require.Empty(f, status.Wait, "the Call says it")
				require.NotNil(f, status.Call)
				require.Equal(f, method, status.Call.Method)
				require.Equal(f, 1, status.Call.Attempt)
				require.True(f, began.Equal(status.Call.Since), "%v, and not %v", status.Call.Since, began)
				if method == "ProcessRecords" {
					first, last := f.orders.Shards()[0].Describe().First, f.orders.Shards()[0].Describe().Last
					require.Equal(f, []any{3, first, last}, []any{status.Call.Records, status.Call.First, status.Call.Last})
				} else {
					require.Zero(f, status.Call.Records)
				}
				close(release)
				require.NoError(f, stop())
			})
		})
	}
}

func TestStatusShowsTheOldestCallOfLanes(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var w *consumer.Worker
		p := consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
			if batch.Records[0].PartitionKey == "stuck" && batch.Attempt == 2 {
				<-ctx.Done()
			}
			return errors.New("not now")
		})
		w = f.worker(consumer.Config{Lanes: 4, MaxAttempts: -1, RetryPause: time.Second, MaxRetryPause: time.Second}, p)
		f.put("stuck")
		began := time.Now()
		stop := f.start(w)
		time.Sleep(time.Minute)
		f.put("a", "b", "c", "d", "e", "f", "g", "h")
		synctest.Wait()
		call := f.status(shard0).Call
		require.NotNil(f, call)
		first := f.orders.Shards()[0].Describe().First
		require.Equal(f, consumer.Call{Method: "ProcessRecords", Since: call.Since, Attempt: 2, Records: 1, First: first, Last: first}, *call)
		require.Equal(f, time.Second, call.Since.Sub(began))
		require.NoError(f, stop())
	})
}

func TestStatusSaysWhatAShardWaitsFor(t *testing.T) {
	records := func(_ context.Context, batch *consumer.Batch) error { return nil }
	fails := func(context.Context, *consumer.Batch) error { return errors.New("not now") }
	for _, row := range []struct {
		wait    consumer.ShardWait
		state   consumer.ShardState // empty means StateRunning
		cfg     consumer.Config
		process consumer.ProcessorFunc
		prepare func(f *fixture)
	}{
		{wait: consumer.WaitRecords, process: records},
		{wait: consumer.WaitRecords, process: records, cfg: consumer.Config{Linger: time.Hour}},
		{state: consumer.StateRetrying, process: fails, cfg: consumer.Config{MaxAttempts: -1, RetryPause: time.Hour, MaxRetryPause: time.Hour}},
		{state: consumer.StateFailed, process: fails, cfg: consumer.Config{MaxAttempts: 1}},
		{wait: consumer.WaitAcknowledgements, process: records, cfg: consumer.Config{Checkpoints: consumer.Acks, BatchBytes: 1}, prepare: func(f *fixture) { f.put("more") }},
		{wait: consumer.WaitAcknowledgements, process: records, cfg: consumer.Config{Checkpoints: consumer.Manual}, prepare: func(f *fixture) { f.split(shard0) }},
		{state: consumer.StateDone, process: records, prepare: func(f *fixture) { f.split(shard0) }},
	} {
		bubble(t, 1, func(f *fixture) {
			f.put("a")
			if row.prepare != nil {
				row.prepare(f)
			}
			stop := f.start(f.worker(row.cfg, row.process))
			status := f.status(shard0)
			require.Equal(f, row.wait, status.Wait)
			require.Equal(f, cmp.Or(row.state, consumer.StateRunning), status.State)
			require.Nil(f, status.Call)
			if row.wait == consumer.WaitAcknowledgements && row.cfg.Checkpoints == consumer.Manual {
				require.Equal(f, consumer.StateWaiting, f.status(shard1).State)
				require.Empty(f, f.status(shard1).Wait)
			}
			err := stop()
			if status.State == consumer.StateFailed {
				f.stopped(err, shard0)
			} else {
				require.NoError(f, err)
			}
			if status.State != consumer.StateDone {
				require.Equal(f, consumer.StateUnowned, f.status(shard0).State)
				app, err := consumer.OpenApp(f.db, "billing")
				require.NoError(f, err)
				require.NoError(f, app.Pause(f.Context(), consumer.LeaseKey{}))
				require.Equal(f, consumer.StatePaused, f.status(shard0).State)
				require.Empty(f, f.status(shard0).Wait)
			}
		})
	}
}

// A store that does not answer, and a source that does not.
func TestStatusSaysThatAShardWaitsForStoreAndSource(t *testing.T) {
	for _, wait := range []consumer.ShardWait{consumer.WaitCheckpoint, consumer.WaitSource} {
		bubble(t, 1, func(f *fixture) {
			f.put("a")
			release := make(chan struct{})
			leases := leasetest.NewMemory(time.Hour)
			cfg := consumer.Config{Leases: leases}
			if wait == consumer.WaitSource {
				cfg.Source = &wrappedSource{consumer.NewDBSource(f.db), func(ctx context.Context, _ braid.ShardID, next func() (consumer.Page, error)) (consumer.Page, error) {
					select {
					case <-release:
						return next()
					case <-ctx.Done():
						return consumer.Page{}, context.Cause(ctx)
					}
				}}
			}
			w := f.worker(cfg, consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error {
				leases.Fail(func(op string, key consumer.LeaseKey) error {
					if op == "CompareAndSet" && key.Shard != "" {
						<-release
					}
					return nil
				})
				return nil
			}))
			stop := f.start(w)
			status, err := w.App().Status(f.Context())
			require.NoError(f, err)
			require.Equal(f, wait, status.Shards[0].Wait)
			close(release)
			require.NoError(f, stop())
		})
	}
}

package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/leasetest"
)

const interval = 10 * time.Second

// checkpoints counts the writes that move the checkpoint of a shard.
func (f *fixture) checkpoints(store *leasetest.Memory) (moments func() []time.Time) {
	var mu sync.Mutex
	var times []time.Time
	store.OnWrite(func(before, after consumer.Lease) {
		if after.Shard == shard0 && before.Version > 0 && !after.Checkpoint.Equal(before.Checkpoint) {
			mu.Lock()
			defer mu.Unlock()
			times = append(times, time.Now())
		}
	})
	return func() []time.Time {
		mu.Lock()
		defer mu.Unlock()
		return times
	}
}

// forWaysToBeDone runs a test with and without lanes and acknowledgements.
func forWaysToBeDone(t *testing.T, test func(f *fixture, cfg consumer.Config, done func(*consumer.Batch) error)) {
	for _, cfg := range []consumer.Config{{}, {Lanes: 4}, {Checkpoints: consumer.Acks}, {Checkpoints: consumer.Acks, Lanes: 2}} {
		t.Run(fmt.Sprintf("lanes=%d %s", cfg.Lanes, cfg.Checkpoints), func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				cfg.CheckpointInterval = interval
				test(f, cfg, func(batch *consumer.Batch) error {
					if cfg.Checkpoints == consumer.Acks {
						return batch.Ack(batch.Records...)
					}
					return nil
				})
			})
		})
	}
}

func TestCheckpointIntervalSparesTheStore(t *testing.T) {
	forWaysToBeDone(t, func(f *fixture, cfg consumer.Config, done func(*consumer.Batch) error) {
		store := leasetest.NewMemory(time.Hour)
		cfg.Leases = store
		moments := f.checkpoints(store)
		w := f.worker(cfg, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error { return done(batch) }))
		began := time.Now()
		stop := f.start(w)
		for n := range 55 { // a batch each second
			f.put(fmt.Sprint(n))
			time.Sleep(time.Second)
			status, err := w.App().Status(f.Context())
			require.NoError(f, err)
			require.LessOrEqual(f, status.BehindRecords, int64(interval/time.Second), "a crash repeats an interval at most")
		}
		require.Len(f, moments(), 6)
		for i, moment := range moments() {
			require.Equal(f, time.Duration(i)*interval, moment.Sub(began))
		}
		time.Sleep(time.Hour) // the rest is stored at the end of its interval, and then nothing
		require.Len(f, moments(), 7)
		f.put("a", "b")
		synctest.Wait()
		require.Len(f, moments(), 8)
		f.put("c")
		synctest.Wait()
		require.Len(f, moments(), 8)
		require.NoError(f, stop())
		require.Len(f, moments(), 9, "what is due is stored when it stops")
		status, err := w.App().Status(f.Context())
		require.NoError(f, err)
		require.Zero(f, status.BehindRecords)
	})
}

func TestCheckpointIntervalEndsWhileTheProcessorHangs(t *testing.T) {
	forWaysToBeDone(t, func(f *fixture, cfg consumer.Config, done func(*consumer.Batch) error) {
		stop := f.start(f.worker(cfg, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
			if batch.Records[0].PartitionKey == "hangs" {
				<-ctx.Done()
				return ctx.Err()
			}
			return done(batch)
		})))
		f.put("a")
		synctest.Wait()
		f.put("b")
		synctest.Wait()
		f.put("hangs")
		synctest.Wait()
		require.EqualValues(f, 2, f.status(shard0).BehindRecords)
		time.Sleep(interval)
		synctest.Wait()
		require.EqualValues(f, 1, f.status(shard0).BehindRecords)
		require.NoError(f, stop())
	})
}

// When the work of a shard ends, for whatever reason, a due checkpoint is stored at once.
func TestCheckpointIntervalDoesNotOutlastTheWork(t *testing.T) {
	for name, end := range map[string]func(f *fixture){
		"pause":       func(f *fixture) { f.pause() },
		"failure":     func(f *fixture) { f.put("fails") },
		"end":         func(f *fixture) { f.split(shard0) },
		"dead letter": func(f *fixture) { f.put("fails") },
	} {
		t.Run(name, func(t *testing.T) {
			forWaysToBeDone(t, func(f *fixture, cfg consumer.Config, done func(*consumer.Batch) error) {
				cfg.MaxAttempts = 1
				if name == "dead letter" {
					_, err := f.db.CreateStream(f.Context(), "dead", nil)
					require.NoError(f, err)
					cfg.DeadLetterStream = "dead"
				}
				stop := f.start(f.worker(cfg, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
					if batch.Records[0].PartitionKey == "fails" {
						return errors.New("fails")
					}
					return done(batch)
				})))
				f.put("a")
				synctest.Wait()
				f.put("b")
				synctest.Wait()
				require.EqualValues(f, 1, f.status(shard0).BehindRecords)
				began := time.Now()
				end(f)
				synctest.Wait()
				status := f.status(shard0)
				want := 0
				if status.State == consumer.StateFailed {
					want = 1
				}
				require.EqualValues(f, want, status.BehindRecords, "%+v", status)
				require.Equal(f, began, time.Now())
				if err := stop(); status.State == consumer.StateFailed {
					f.stopped(err, shard0)
				} else {
					require.NoError(f, err)
				}
			})
		})
	}
}

func (f *fixture) pause() {
	f.Helper()
	app, err := consumer.OpenApp(f.db, "billing")
	require.NoError(f, err)
	require.NoError(f, app.Pause(f.Context(), consumer.LeaseKey{Stream: "orders"}))
}

// A checkpoint prepared for a record includes all records before it.
func TestCheckpointIntervalDoesNotDelayWhatIsPrepared(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		stop := f.start(f.worker(consumer.Config{CheckpointInterval: interval}, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
			if batch.Records[0].PartitionKey != "c" {
				return nil
			}
			if err := batch.Prepare(ctx, batch.Records[0], nil); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		})))
		for _, key := range []string{"a", "b", "c"} {
			f.put(key)
			synctest.Wait()
		}
		require.EqualValues(f, 1, f.status(shard0).BehindRecords)
		require.NoError(f, stop())
	})
}

// While the store fails, no batch is given out whose repetition would exceed the
// interval.
func TestCheckpointIntervalHoldsBatchesBackWhileTheStoreFails(t *testing.T) {
	forWaysToBeDone(t, func(f *fixture, cfg consumer.Config, done func(*consumer.Batch) error) {
		store := leasetest.NewMemory(time.Hour)
		cfg.Leases = store
		var seen journal
		stop := f.start(f.worker(cfg, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
			_ = seen.collect(ctx, batch)
			return done(batch)
		})))
		f.put("a")
		synctest.Wait()
		f.put("b")
		synctest.Wait()
		store.Fail(func(op string, _ consumer.LeaseKey) error {
			if op == "CompareAndSet" {
				return errors.New("the store fails")
			}
			return nil
		})
		f.put("c")
		synctest.Wait()
		require.Equal(f, []string{"a", "b", "c"}, seen.take(), "the interval is not over")
		time.Sleep(interval)
		synctest.Wait()
		f.put("d")
		synctest.Wait()
		require.Empty(f, seen.take())
		store.Fail(nil)
		time.Sleep(time.Minute)
		require.Equal(f, []string{"d"}, seen.take())
		require.NoError(f, stop())
	})
}

func TestCheckpointIntervalIsRefused(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		nop := consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil })
		tx := consumer.TxProcessorFunc(func(context.Context, *braid.Tx, *consumer.TxBatch) error { return nil })
		for _, cfg := range []consumer.Config{
			{CheckpointInterval: -1},
			{CheckpointInterval: 1, Checkpoints: consumer.Manual},
		} {
			cfg.App, cfg.Streams = "billing", []string{"orders"}
			_, err := consumer.New(f.db, &cfg, nop)
			var invalid *braid.InvalidArgumentError
			require.ErrorAs(f, err, &invalid)
			require.Equal(f, "CheckpointInterval", invalid.Field)
		}
		_, err := consumer.NewTx(f.db, &consumer.Config{App: "billing", Streams: []string{"orders"}, CheckpointInterval: 1}, tx)
		var invalid *braid.InvalidArgumentError
		require.ErrorAs(f, err, &invalid)
		require.Equal(f, "CheckpointInterval", invalid.Field)
	})
}

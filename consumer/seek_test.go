package consumer_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

func TestSeek(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var seen journal
		f.put("a", "b")
		second, err := f.orders.PutRecord(f.Context(), "c", []byte("c"))
		require.NoError(f, err)
		stop := f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))
		require.Equal(f, []string{"a", "b", "c"}, seen.take())
		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		key := consumer.LeaseKey{Stream: "orders", Shard: shard0}

		require.NoError(f, app.Seek(f.Context(), key, braid.AtSequence(second.SequenceNumber)))
		synctest.Wait()
		require.Equal(f, []string{"c"}, seen.take())
		require.NoError(f, app.Seek(f.Context(), consumer.LeaseKey{}, braid.TrimHorizon()))
		synctest.Wait()
		require.Equal(f, []string{"a", "b", "c"}, seen.take())
		require.NoError(f, app.Seek(f.Context(), consumer.LeaseKey{Stream: "orders"}, braid.Latest()))
		f.put("d")
		synctest.Wait()
		require.Equal(f, []string{"d"}, seen.take())

		f.split(shard0)
		f.put("e")
		synctest.Wait()
		require.Equal(f, []string{"e"}, seen.take())
		require.NoError(f, app.Seek(f.Context(), key, braid.AtSequence(second.SequenceNumber)), "even in a shard that is done")
		synctest.Wait()
		require.Equal(f, []string{"c", "d"}, seen.take())
		require.NoError(f, stop())

		require.ErrorIs(f, app.Seek(f.Context(), consumer.LeaseKey{}, braid.AtSequence(second.SequenceNumber)), braid.ErrInvalidArgument)
		require.ErrorIs(f, app.Seek(f.Context(), consumer.LeaseKey{Stream: "nowhere"}, braid.Latest()), braid.ErrStreamNotFound)
		require.ErrorIs(f, app.Seek(f.Context(), consumer.LeaseKey{Stream: "orders", Shard: "shardId-000000000009"}, braid.Latest()), braid.ErrShardNotFound)

		require.NoError(f, app.Seek(f.Context(), consumer.LeaseKey{}, braid.Latest()))
		f.put("f")
		stop = f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))
		require.Equal(f, []string{"f"}, seen.take(), "what it was made with stays what it is")
		require.NoError(f, stop())
	})
}

func TestSeekFencesWhoeverIsAtWork(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a", "b")
		release := make(chan struct{})
		var mu sync.Mutex
		var errs []error
		first := true
		stop := f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
			mu.Lock()
			wait := first
			first = false
			mu.Unlock()
			if wait {
				<-release
				errs = append(errs, batch.CheckpointAt(context.Background(), batch.Records[1]), context.Cause(ctx))
			}
			return nil
		})))
		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		require.NoError(f, app.Seek(f.Context(), consumer.LeaseKey{}, braid.TrimHorizon()))
		synctest.Wait()
		require.EqualValues(f, 2, f.status(shard0).BehindRecords)
		close(release)
		synctest.Wait()
		require.Len(f, errs, 2)
		require.ErrorIs(f, errs[0], consumer.ErrLeaseLost)
		require.ErrorIs(f, errs[1], consumer.ErrLeaseLost)
		require.Zero(f, f.status(shard0).BehindRecords, "it has begun again")
		require.NoError(f, stop())
	})
}

func TestPauseLastsUntilResume(t *testing.T) {
	for _, key := range []consumer.LeaseKey{{}, {Stream: "orders"}, {Stream: "orders", Shard: shard0}} {
		t.Run(strings.ReplaceAll(key.String(), " ", "-"), func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				var seen journal
				w := f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect))
				stop := f.start(w)
				require.NoError(f, w.App().Pause(f.Context(), key))
				synctest.Wait()
				f.put("a")
				synctest.Wait()
				require.Empty(f, seen.take())
				require.Equal(f, consumer.StatePaused, f.status(shard0).State)
				require.EqualValues(f, 1, f.status(shard0).BehindRecords)
				require.NoError(f, stop())
				stop = f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))
				require.Empty(f, seen.take(), "it is stored")
				require.NoError(f, w.App().Resume(f.Context(), key))
				synctest.Wait()
				require.Equal(f, []string{"a"}, seen.take())
				require.NoError(f, stop())
			})
		})
	}
}

// A Seek ends whatever the shard is doing, and the shard continues at the new place at
// once.
func TestSeekEndsWhateverTheShardDoes(t *testing.T) {
	fails := func(context.Context, *consumer.Batch) error { return errors.New("no") }
	hangs := func(ctx context.Context, _ *consumer.Batch) error { <-ctx.Done(); return context.Cause(ctx) }
	for _, row := range []struct {
		name    string
		cfg     consumer.Config
		process consumer.ProcessorFunc // for the first lease
	}{
		{"a pause between attempts", consumer.Config{MaxAttempts: -1, RetryPause: 24 * time.Hour, MaxRetryPause: 24 * time.Hour}, fails},
		{"a pause between attempts in a lane", consumer.Config{Lanes: 2, MaxAttempts: -1, RetryPause: 24 * time.Hour, MaxRetryPause: 24 * time.Hour}, fails},
		{"being stopped", consumer.Config{MaxAttempts: 1}, fails},
		{"a call", consumer.Config{}, hangs},
		{"waiting for acknowledgements", consumer.Config{Checkpoints: consumer.Acks}, nop},
		{"waiting for a checkpoint", consumer.Config{Checkpoints: consumer.Manual}, nop},
		{"gathering what is due", consumer.Config{CheckpointInterval: 24 * time.Hour}, nop},
		{"lingering", consumer.Config{Linger: 24 * time.Hour}, nop},
	} {
		t.Run(strings.ReplaceAll(row.name, " ", "-"), func(t *testing.T) {
			bubble(t, 1, func(f *fixture) {
				var seen journal
				f.put("a", "b")
				p := consumer.PerLease(func(lease consumer.Lease) consumer.Processor {
					if lease.Epoch == 1 {
						return row.process
					}
					return consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
						if err := seen.collect(ctx, batch); err != nil {
							return err
						}
						_ = batch.Ack(batch.Records...) // only Acks allows it
						return nil
					})
				})
				w := f.worker(row.cfg, p)
				stop := f.start(w)
				began := time.Now()
				require.NoError(f, w.App().Seek(f.Context(), consumer.LeaseKey{}, braid.Latest()))
				synctest.Wait()
				require.EqualValues(f, 3, f.status(shard0).Epoch)
				require.Zero(f, f.status(shard0).BehindRecords)
				require.NoError(f, f.status(shard0).Err)
				require.Zero(f, time.Since(began))
				f.put("c")
				time.Sleep(row.cfg.Linger)
				require.Equal(f, []string{"c"}, seen.take(), "and nothing before it")
				require.NoError(f, stop())
			})
		})
	}
}

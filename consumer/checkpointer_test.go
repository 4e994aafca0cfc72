package consumer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// gatherer acknowledges what it has gathered when it has enough, or when the test says
// so.
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

func TestManualCheckpoints(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var batches []*consumer.Batch
		cfg := consumer.Config{Checkpoints: consumer.Manual, BatchRecords: 2}
		f.put("a", "b", "c", "d")
		stop := f.start(f.worker(cfg, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
			batches = append(batches, batch)
			if len(batches) == 2 {
				return batch.Checkpoint(ctx) // for the records before this batch
			}
			return nil
		})))
		require.EqualValues(f, 2, f.status(shard0).BehindRecords)
		require.NoError(f, batches[1].CheckpointAt(f.Context(), batches[1].Records[0]))
		require.EqualValues(f, 1, f.status(shard0).BehindRecords)
		require.NoError(f, batches[0].CheckpointAt(f.Context(), batches[0].Records[0]), "it does not go back")
		require.EqualValues(f, 1, f.status(shard0).BehindRecords)
		foreign := batches[0].Records[0]
		foreign.ShardID = shard1
		require.ErrorIs(f, batches[0].CheckpointAt(f.Context(), foreign), braid.ErrInvalidArgument)
		require.NoError(f, stop())
		require.EqualValues(f, 1, f.status(shard0).BehindRecords, "stopping checkpoints nothing")
		require.ErrorIs(f, batches[1].CheckpointAt(f.Context(), batches[1].Records[1]), consumer.ErrLeaseLost)
		ahead, err := f.orders.PutRecord(f.Context(), "k", nil)
		require.NoError(f, err)
		early := batches[0].Records[0]
		early.SequenceNumber = ahead.SequenceNumber // no processor was given it yet
		require.ErrorIs(f, batches[0].CheckpointAt(f.Context(), early), braid.ErrInvalidArgument)
	})
}

func TestPreparedCheckpointComesToWhoeverGoesOn(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a", "b")
		var leases []consumer.Lease
		var batches []*consumer.Batch
		p := consumer.PerLease(func(lease consumer.Lease) consumer.Processor {
			leases = append(leases, lease)
			return consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
				batches = append(batches, batch)
				return batch.Prepare(ctx, batch.Records[0], []byte("halfway"))
			})
		})
		require.NoError(f, f.start(f.worker(consumer.Config{Checkpoints: consumer.Manual}, p))())
		stop := f.start(f.worker(consumer.Config{Checkpoints: consumer.Manual}, p))
		require.Nil(f, leases[0].Pending)
		require.Equal(f, "halfway", string(leases[1].PendingState))
		require.Equal(f, batches[0].Records[0].SequenceNumber, leases[1].Pending.SequenceNumber)
		require.ErrorIs(f, batches[0].CommitPrepared(f.Context()), consumer.ErrLeaseLost)
		require.EqualValues(f, 2, f.status(shard0).BehindRecords)
		require.NoError(f, batches[1].CommitPrepared(f.Context()))
		require.EqualValues(f, 1, f.status(shard0).BehindRecords)
		require.NoError(f, stop())
		require.NoError(f, f.start(f.worker(consumer.Config{Checkpoints: consumer.Manual}, p))())
		require.Nil(f, leases[2].Pending, "it was settled")
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
		pending := func(n int) {
			f.Helper()
			require.NotNil(f, batch.Lease().Pending)
			require.Equal(f, batch.Records[n].SequenceNumber, batch.Lease().Pending.SequenceNumber)
		}
		require.NoError(f, batch.CommitPrepared(f.Context()), "nothing is prepared")
		require.EqualValues(f, 4, f.status(shard0).BehindRecords)
		require.NoError(f, batch.Prepare(f.Context(), batch.Records[2], []byte("s")))
		require.NoError(f, batch.CheckpointAt(f.Context(), batch.Records[0]))
		pending(2) // the record before it
		require.NoError(f, batch.Prepare(f.Context(), batch.Records[1], nil))
		require.NoError(f, batch.Prepare(f.Context(), batch.Records[3], nil))
		require.NoError(f, batch.CheckpointAt(f.Context(), batch.Records[1]))
		pending(3) // it has replaced the other one
		require.NoError(f, batch.CommitPrepared(f.Context()))
		require.NoError(f, batch.CommitPrepared(f.Context()), "it may be tried again")
		require.Nil(f, batch.Lease().Pending)
		require.Zero(f, f.status(shard0).BehindRecords)

		// A checkpoint prepared before the current one does not move that back.
		require.NoError(f, batch.Prepare(f.Context(), batch.Records[0], []byte("late")))
		require.NoError(f, batch.CommitPrepared(f.Context()))
		require.Nil(f, batch.Lease().Pending)
		require.Empty(f, batch.Lease().PendingState)
		require.Zero(f, f.status(shard0).BehindRecords)
		require.NoError(f, stop())
	})
}

func TestNextOwnerCanCommitWhatWasPrepared(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a", "b", "c")
		stop := f.start(f.worker(consumer.Config{Checkpoints: consumer.Manual}, consumer.ProcessorFunc(func(ctx context.Context, b *consumer.Batch) error {
			return b.Prepare(ctx, b.Records[1], []byte("sent"))
		})))
		require.NoError(f, stop())
		var seen journal
		stop = f.start(f.worker(consumer.Config{}, &finisher{&seen}))
		require.Equal(f, []string{"finish sent", "c"}, seen.take())
		require.NoError(f, stop())
	})
}

// finisher commits what its predecessor has prepared.
type finisher struct{ *journal }

func (p *finisher) Initialize(ctx context.Context, c *consumer.Checkpointer) error {
	p.add("finish %s", c.Lease().PendingState)
	return c.CommitPrepared(ctx)
}

func (p *finisher) ProcessRecords(ctx context.Context, batch *consumer.Batch) error {
	return p.collect(ctx, batch)
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

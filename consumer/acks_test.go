package consumer_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

func TestAcksInAnyOrderMoveTheCheckpointToTheFirstThatIsMissing(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var batches []*consumer.Batch
		cfg := consumer.Config{Checkpoints: consumer.Acks}
		p := consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			batches = append(batches, batch)
			return nil
		})
		f.put("a", "b", "c", "d")
		w := f.worker(cfg, p)
		stop := f.start(w)
		require.EqualValues(f, 4, f.status(shard0).BehindRecords, "returning acknowledges nothing")
		records := batches[0].Records
		require.NoError(f, batches[0].Ack(records[2]))
		synctest.Wait()
		require.EqualValues(f, 4, f.status(shard0).BehindRecords)
		require.NoError(f, batches[0].Ack(records[0]))
		synctest.Wait()
		require.EqualValues(f, 3, f.status(shard0).BehindRecords)
		require.NoError(f, batches[0].Ack(records[1], records[0]))
		synctest.Wait()
		require.EqualValues(f, 1, f.status(shard0).BehindRecords)
		f.put("e")
		synctest.Wait()
		require.ErrorIs(f, batches[0].Ack(consumer.Record{}), braid.ErrInvalidArgument)

		go func() { // it waits for records that are not acknowledged
			time.Sleep(time.Second)
			_ = batches[0].Ack(records[3])
			_ = batches[1].Ack(batches[1].Records...)
		}()
		began := time.Now()
		require.NoError(f, stop())
		require.Equal(f, time.Second, time.Since(began))
		require.Zero(f, f.status(shard0).BehindRecords)
		require.ErrorIs(f, batches[0].Ack(records[3]), consumer.ErrLeaseLost)
	})
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

// A call that has acknowledged its records, but has not returned, is still a call: no
// hook overlaps it.
func TestNoHookOverlapsACallThatHasAcknowledged(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		p := &lateReturner{}
		f.put("a", "b")
		stop := f.start(f.worker(consumer.Config{Checkpoints: consumer.Acks}, p))
		require.Equal(f, []string{"call"}, p.take())
		require.Zero(f, f.status(shard0).BehindRecords, "it is acknowledged")
		time.Sleep(time.Minute)
		require.Equal(f, []string{"return", "tip"}, p.take())
		f.put("c")
		f.split(shard0)
		require.Equal(f, []string{"call"}, p.take())
		time.Sleep(time.Minute)
		require.Equal(f, []string{"return", "end"}, p.take()[:2])
		require.NoError(f, stop())
	})
}

// lateReturner acknowledges at once, and returns later.
type lateReturner struct{ journal }

func (p *lateReturner) ProcessRecords(_ context.Context, batch *consumer.Batch) error {
	p.add("call")
	err := batch.Ack(batch.Records...)
	time.Sleep(30 * time.Second)
	p.add("return")
	return err
}

func (p *lateReturner) TipReached(context.Context, *consumer.Checkpointer) error {
	p.add("tip")
	return nil
}

func (p *lateReturner) ShardEnded(context.Context, *consumer.Checkpointer) error {
	p.add("end")
	return nil
}

// A worker that stops in the middle of a page waits for the records that its processor
// has, but not for records that the processor never got or has refused.
func TestOnlyRecordsThatWereGivenOutAreWaitedFor(t *testing.T) {
	ackAfter := func(d time.Duration, batch *consumer.Batch) {
		time.Sleep(d)
		_ = batch.Ack(batch.Records...)
	}
	for _, row := range []struct {
		name    string
		process consumer.ProcessorFunc
		takes   time.Duration
		behind  int64 // with one lane
	}{
		{"a call acknowledges", func(_ context.Context, batch *consumer.Batch) error { ackAfter(time.Second, batch); return nil }, time.Second, 5},
		{"another goroutine does, later", func(_ context.Context, batch *consumer.Batch) error {
			go ackAfter(time.Minute, batch)
			time.Sleep(time.Second)
			return nil
		}, time.Minute, 5},
		{"nobody does, as the call fails", func(context.Context, *consumer.Batch) error { return errors.New("no") }, 0, 6},
		{"the call fails in the end", func(context.Context, *consumer.Batch) error { time.Sleep(time.Second); return errors.New("no") }, time.Second, 6},
		{"the call does not return", func(context.Context, *consumer.Batch) error {
			time.Sleep(time.Second)
			runtime.Goexit()
			return nil
		}, time.Second, 6},
	} {
		for _, lanes := range []int{1, 3} {
			t.Run(row.name, func(t *testing.T) {
				bubble(t, 1, func(f *fixture) {
					f.put("a", "b", "c", "d", "e", "f")
					stop := f.start(f.worker(consumer.Config{Checkpoints: consumer.Acks, BatchRecords: 1, Lanes: lanes, MaxAttempts: -1, HandOverTimeout: time.Hour}, row.process))
					began := time.Now()
					require.NoError(f, stop())
					require.Equal(f, row.takes, time.Since(began))
					if lanes == 1 {
						require.Equal(f, row.behind, f.status(shard0).BehindRecords, "what was not given out comes to the next owner")
					}
				})
			})
		}
	}
}

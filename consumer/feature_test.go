package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/consumer/internal/kpl"
)

func TestConfigSaysWhatIsWrong(t *testing.T) {
	db, err := braid.Open(braid.InMemory, nil)
	require.NoError(t, err)
	defer db.Close()
	nop := consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil })
	ok := consumer.Config{App: "a", Streams: []string{"s"}}
	for _, row := range []struct {
		field string
		spoil func(*consumer.Config)
	}{
		{"App", func(c *consumer.Config) { c.App = "no spaces" }},
		{"App", func(c *consumer.Config) { c.App = "" }},
		{"Streams", func(c *consumer.Config) { c.Streams = nil }},
		{"Streams[1]", func(c *consumer.Config) { c.Streams = []string{"s", "s"} }},
		{"Start", func(c *consumer.Config) {
			c.Start = braid.AfterSequence(mustNumber(t, "49568749374218235080373793662021150003767486140978823170"))
		}},
		{"BatchRecords", func(c *consumer.Config) { c.BatchRecords = 10_001 }},
		{"BatchBytes", func(c *consumer.Config) { c.BatchBytes = -1 }},
		{"MaxBytes", func(c *consumer.Config) { c.MaxBytes = 1 }},
		{"Linger", func(c *consumer.Config) { c.Linger = -1 }},
		{"Lanes", func(c *consumer.Config) { c.Lanes = -1 }},
		{"Checkpoints", func(c *consumer.Config) { c.Checkpoints = 3 }},
		{"Checkpoints", func(c *consumer.Config) { c.Checkpoints = -1 }},
		{"Checkpoints", func(c *consumer.Config) { c.Checkpoints, c.Lanes = consumer.Manual, 2 }},
		{"DeadLetterStream", func(c *consumer.Config) { c.Checkpoints, c.DeadLetterStream = consumer.Manual, "d" }},
		{"RetryPause", func(c *consumer.Config) { c.RetryPause, c.MaxRetryPause = time.Hour, time.Minute }},
		{"SkipFailed", func(c *consumer.Config) { c.SkipFailed, c.DeadLetterStream = true, "d" }},
		{"DeadLetterStream", func(c *consumer.Config) { c.DeadLetterStream = "s" }},
		{"HandOverTimeout", func(c *consumer.Config) { c.HandOverTimeout = -1 }},
	} {
		cfg := ok
		row.spoil(&cfg)
		_, err := consumer.New(db, &cfg, nop)
		var invalid *braid.InvalidArgumentError
		require.ErrorAs(t, err, &invalid, row.field)
		require.Equal(t, row.field, invalid.Field)
	}
	_, err = consumer.New(db, &ok, nil)
	require.ErrorIs(t, err, braid.ErrInvalidArgument)
	_, err = consumer.New(nil, &ok, nop)
	require.ErrorIs(t, err, braid.ErrInvalidArgument)
	for field, spoil := range map[string]func(*consumer.Config){
		"Lanes":              func(c *consumer.Config) { c.Lanes = 2 },
		"Checkpoints":        func(c *consumer.Config) { c.Checkpoints = consumer.Manual },
		"CheckpointInterval": func(c *consumer.Config) { c.CheckpointInterval = 1 },
	} {
		tx := ok
		spoil(&tx)
		_, err = consumer.NewTx(db, &tx, consumer.TxProcessorFunc(nil))
		var invalid *braid.InvalidArgumentError
		require.ErrorAs(t, err, &invalid, field)
		require.Equal(t, field, invalid.Field)
	}
}

func mustNumber(t *testing.T, text string) braid.SequenceNumber {
	n, err := braid.ParseSequenceNumber(text)
	require.NoError(t, err)
	return n
}

func TestWorkersOfAnApplicationMustAgree(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		nop := consumer.ProcessorFunc(func(context.Context, *consumer.Batch) error { return nil })
		w := f.worker(consumer.Config{WorkerID: "w"}, nop)
		stop := f.start(w)
		require.ErrorIs(f, w.Run(f.Context()), braid.ErrInvalidArgument, "it runs already")
		require.ErrorContains(f, f.worker(consumer.Config{WorkerID: "w"}, nop).Run(f.Context()), "WorkerID")
		require.ErrorContains(f, f.worker(consumer.Config{Streams: []string{"others"}}, nop).Run(f.Context()), "Streams")
		require.ErrorContains(f, f.worker(consumer.Config{Source: consumer.NewDBSource(f.db)}, nop).Run(f.Context()), "Source")
		require.NoError(f, stop())
		require.NoError(f, f.start(f.worker(consumer.Config{Source: consumer.NewDBSource(f.db)}, nop))(), "now it is alone")
	})
}

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

		go func() { // it waits for what is not acknowledged
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

func TestManualCheckpoints(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var batches []*consumer.Batch
		cfg := consumer.Config{Checkpoints: consumer.Manual, BatchRecords: 2}
		f.put("a", "b", "c", "d")
		stop := f.start(f.worker(cfg, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
			batches = append(batches, batch)
			if len(batches) == 2 {
				return batch.Checkpoint(ctx) // of what came before this batch
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
		early.SequenceNumber = ahead.SequenceNumber // which nobody was given yet
		require.ErrorIs(f, batches[0].CheckpointAt(f.Context(), early), braid.ErrInvalidArgument)
	})
}

func TestPreparedCheckpointComesToWhoeverGoesOn(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a", "b")
		var leases []consumer.Lease
		var prepared []*consumer.PreparedCheckpoint
		p := consumer.PerLease(func(lease consumer.Lease) consumer.Processor {
			leases = append(leases, lease)
			return consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
				pc, err := batch.Prepare(ctx, batch.Records[0], []byte("halfway"))
				prepared = append(prepared, pc)
				return err
			})
		})
		require.NoError(f, f.start(f.worker(consumer.Config{Checkpoints: consumer.Manual}, p))())
		stop := f.start(f.worker(consumer.Config{Checkpoints: consumer.Manual}, p))
		require.Nil(f, leases[0].Pending)
		require.Equal(f, "halfway", string(leases[1].PendingState))
		require.Equal(f, prepared[0].Checkpoint(), *leases[1].Pending)
		require.ErrorIs(f, prepared[0].Commit(f.Context()), consumer.ErrLeaseLost)
		require.EqualValues(f, 2, f.status(shard0).BehindRecords)
		require.NoError(f, prepared[1].Commit(f.Context()))
		require.EqualValues(f, 1, f.status(shard0).BehindRecords)
		require.NoError(f, stop())
		require.NoError(f, f.start(f.worker(consumer.Config{Checkpoints: consumer.Manual}, p))())
		require.Nil(f, leases[2].Pending, "it was settled")
	})
}

func TestLanesKeepTheOrderOfEachKey(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var mu sync.Mutex
		at := make(map[string]int)
		running, most := 0, 0
		p := consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(time.Duration(len(batch.Records)) * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			running--
			for _, r := range batch.Records {
				n, _ := strconv.Atoi(string(r.Data))
				if n != at[r.PartitionKey] {
					f.Errorf("%s of %s came after %d", r.Data, r.PartitionKey, at[r.PartitionKey])
				}
				at[r.PartitionKey] = n + 1
			}
			return nil
		})
		stop := f.start(f.worker(consumer.Config{Lanes: 8, BatchRecords: 64}, p))
		for n := range 100 {
			for key := range 20 {
				_, err := f.orders.PutRecord(f.Context(), fmt.Sprint("key", key), []byte(strconv.Itoa(n)))
				require.NoError(f, err)
			}
		}
		f.split(shard0)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(f, at, 20)
		for key, n := range at {
			require.Equal(f, 100, n, key)
		}
		require.Greater(f, most, 3)
		require.Equal(f, consumer.StateDone, f.status(shard0).State)
		require.NoError(f, stop())
	})
}

func TestLaneThatFailsStopsTheShardBeforeTheRecord(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		f.put("a", "b", "c", "poison", "d", "e")
		stop := f.start(f.worker(consumer.Config{Lanes: 4, MaxAttempts: 2}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			if slices.ContainsFunc(batch.Records, func(r consumer.Record) bool { return r.PartitionKey == "poison" }) {
				return errors.New("no")
			}
			return nil
		})))
		time.Sleep(time.Minute)
		require.Equal(f, consumer.StateFailed, f.status(shard0).State)
		require.EqualValues(f, 3, f.status(shard0).BehindRecords)
		f.stopped(stop(), shard0)
	})
}

// txHooked is a TxProcessor whose hook tries to checkpoint beside the transactions.
type txHooked struct {
	consumer.TxProcessorFunc
	hook func(c *consumer.Checkpointer)
}

func (p txHooked) Initialize(_ context.Context, c *consumer.Checkpointer) error {
	p.hook(c)
	return nil
}

// The batch of a TxProcessor has no Checkpointer; that of its hooks only knows the lease.
func TestTxProcessorCheckpointsByItsTransactionAlone(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		_, has := any(&consumer.TxBatch{}).(interface{ Checkpoint(context.Context) error })
		require.False(f, has)
		require.Zero(f, (&consumer.TxBatch{}).Lease(), "of a test of a processor")
		f.put("a", "b")
		var fromHook, fromBatch consumer.Lease
		p := txHooked{
			TxProcessorFunc: func(_ context.Context, _ *braid.Tx, batch *consumer.TxBatch) error {
				fromBatch = batch.Lease()
				return nil
			},
			hook: func(c *consumer.Checkpointer) {
				fromHook = c.Lease()
				require.ErrorIs(f, c.Checkpoint(f.Context()), braid.ErrInvalidArgument)
				require.ErrorIs(f, c.CheckpointAt(f.Context(), consumer.Record{}), braid.ErrInvalidArgument)
				_, err := c.Prepare(f.Context(), consumer.Record{}, nil)
				require.ErrorIs(f, err, braid.ErrInvalidArgument)
			},
		}
		w, err := consumer.NewTx(f.db, &consumer.Config{App: "billing", Streams: []string{"orders"}}, p)
		require.NoError(f, err)
		stop := f.start(w)
		require.Equal(f, consumer.LeaseKey{Stream: "orders", Shard: shard0}, fromHook.LeaseKey)
		require.Equal(f, fromHook, fromBatch)
		require.Zero(f, f.status(shard0).BehindRecords)
		require.NoError(f, stop())
	})
}

func TestTransactionsCountEveryRecordOnce(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		out, err := f.db.CreateStream(f.Context(), "out", nil)
		require.NoError(f, err)
		var calls atomic.Int64
		count := func(_ context.Context, tx *braid.Tx, batch *consumer.TxBatch) error {
			for _, r := range batch.Records {
				n := 0
				value, err := tx.Get([]byte("total"))
				if err == nil {
					n, _ = strconv.Atoi(string(value))
				} else if !errors.Is(err, braid.ErrKeyNotFound) {
					return err
				}
				if err := tx.Set([]byte("total"), []byte(strconv.Itoa(n+1))); err != nil {
					return err
				}
				if err := tx.PutRecord("out", r.PartitionKey, r.Data); err != nil {
					return err
				}
			}
			if calls.Add(1)%3 == 0 {
				return errors.New("now and then")
			}
			return nil
		}
		stopOne := f.start(f.txWorker(consumer.Config{BatchRecords: 7}, count))
		for n := range 200 {
			f.put(fmt.Sprint(n))
		}
		stopTwo := f.start(f.txWorker(consumer.Config{BatchRecords: 7}, count))
		time.Sleep(time.Hour)
		require.NoError(f, stopOne())
		require.NoError(f, stopTwo())
		require.NoError(f, f.db.View(f.Context(), func(tx *braid.Tx) error {
			total, err := tx.Get([]byte("total"))
			require.Equal(f, "200", string(total))
			for kv, err := range tx.Scan(nil, nil) {
				require.NoError(f, err)
				require.Equal(f, "total", string(kv.Key), "leases are none of the application's keys")
			}
			return err
		}))
		require.EqualValues(f, 200, out.Describe().Records)
	})
}

func TestTransactionThatIsTooLargeIsDivided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := braid.Open(braid.InMemory, &braid.Options{MaxTxBytes: 64 << 10})
		require.NoError(t, err)
		defer func() { require.NoError(t, db.Close()); synctest.Wait() }()
		orders, err := db.CreateStream(t.Context(), "orders", &braid.StreamOptions{Shards: 1})
		require.NoError(t, err)
		f := &fixture{t, db, orders}
		for n := range 100 {
			f.put(fmt.Sprint(n))
		}
		stop := f.start(f.txWorker(consumer.Config{}, func(_ context.Context, tx *braid.Tx, batch *consumer.TxBatch) error {
			for _, r := range batch.Records {
				if err := tx.Set(append([]byte("copy/"), r.Data...), make([]byte, 4<<10)); err != nil {
					return err
				}
			}
			return nil
		}))
		require.Zero(t, f.status(shard0).BehindRecords)
		require.NoError(t, stop())
	})
}

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
		require.NoError(f, app.Seek(f.Context(), key, braid.AtSequence(second.SequenceNumber)), "also in a shard that is done")
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

// interruptedSource calls a function before it resolves a position.
type interruptedSource struct {
	consumer.DBSource
	before func(braid.ShardID)
}

func (s *interruptedSource) Resolve(ctx context.Context, stream string, shard braid.ShardID, from braid.Position) (consumer.Checkpoint, error) {
	s.before(shard)
	return s.DBSource.Resolve(ctx, stream, shard, from)
}

// Latest is one place in all shards, fixed when the call begins: a record that is put
// while one shard after the other is looked at is processed, whatever shard it is in.
func TestLatestIsOnePlaceInAllShards(t *testing.T) {
	bubble(t, 4, func(f *fixture) {
		f.put("before")
		shards := f.orders.Shards()
		puts := 0
		looked := make(map[braid.ShardID]bool)
		put := func(shard braid.ShardID) { // into all of them, before each is looked at first
			if looked[shard] {
				return
			}
			looked[shard] = true
			for _, sh := range shards {
				key := sh.HashKeyRange().Start
				_, err := f.orders.PutRecords(f.Context(), []braid.Entry{{PartitionKey: "k", ExplicitHashKey: &key, Data: []byte("during")}})
				require.NoError(f, err)
				puts++
			}
		}
		source := &interruptedSource{consumer.NewDBSource(f.db).(consumer.DBSource), put}
		var seen journal
		stop := f.start(f.worker(consumer.Config{Source: source, Start: braid.Latest()}, consumer.ProcessorFunc(seen.collect)))
		require.Equal(f, 16, puts)
		require.Len(f, seen.take(), puts, "where it begins")

		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		puts = 0
		clear(looked)
		require.NoError(f, app.Seek(f.Context(), consumer.LeaseKey{}, braid.Latest()))
		synctest.Wait()
		require.Equal(f, 16, puts)
		require.GreaterOrEqual(f, len(seen.take()), puts, "where it is moved to")
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

func TestStopNamesWhoDidNotStop(t *testing.T) {
	bubble(t, 2, func(f *fixture) {
		var seen journal
		release := make(chan struct{})
		w := f.worker(consumer.Config{}, consumer.PerLease(func(lease consumer.Lease) consumer.Processor {
			return &hanging{lifecycle{log: &seen, name: string(lease.Shard)}, func(ctx context.Context, batch *consumer.Batch) {
				if lease.Shard == shard1 {
					<-release
				} else {
					<-ctx.Done()
				}
			}}
		}))
		f.put("a", "b", "c", "d", "e", "f", "g")
		f.start(w)
		began := time.Now()
		ctx, cancel := context.WithTimeout(f.Context(), time.Second)
		defer cancel()
		err := w.Stop(ctx)
		var stuck *consumer.StopError
		require.ErrorAs(f, err, &stuck)
		require.Equal(f, []consumer.LeaseKey{{Stream: "orders", Shard: shard1}}, stuck.Shards)
		require.LessOrEqual(f, time.Since(began), 1100*time.Millisecond)
		seen.take()
		close(release)
		synctest.Wait()
		require.Empty(f, seen.take(), "nothing is called any more")
		require.Equal(f, consumer.StateUnowned, f.status(shard1).State)
		require.Positive(f, f.status(shard1).BehindRecords, "what it did afterwards does not count")
	})
}

func TestStatusWithoutWorkers(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		app, err := consumer.OpenApp(f.db, "billing")
		require.NoError(f, err)
		var seen journal
		f.put("a")
		w := f.worker(consumer.Config{WorkerID: "w"}, consumer.ProcessorFunc(seen.collect))
		stop := f.start(w)
		status, err := app.Status(f.Context())
		require.NoError(f, err)
		require.Equal(f, []string{"w"}, status.Workers)
		require.Equal(f, "w", status.Shards[0].Owner)
		require.NoError(f, stop())
		f.put("12345")
		time.Sleep(time.Hour)
		f.put("b")
		status, err = app.Status(f.Context())
		require.NoError(f, err)
		require.EqualValues(f, 2, status.BehindRecords)
		require.EqualValues(f, 12, status.BehindBytes)
		require.InDelta(f, time.Hour, status.BehindLatest, float64(time.Millisecond))
		require.Equal(f, consumer.StateUnowned, status.Shards[0].State)
		require.EqualValues(f, 1, w.Metrics().Records)
		require.NoError(f, app.Delete(f.Context()))
		stop = f.start(f.worker(consumer.Config{}, consumer.ProcessorFunc(seen.collect)))
		require.ErrorIs(f, app.Delete(f.Context()), braid.ErrInvalidArgument, "a worker runs")
		require.NoError(f, stop())
		require.Equal(f, []string{"a", "a", "12345", "b"}, seen.take(), "it began anew")
	})
}

func TestLingerGathersBatches(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		var sizes []int
		stop := f.start(f.worker(consumer.Config{Linger: time.Second}, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			sizes = append(sizes, len(batch.Records))
			return nil
		})))
		for range 20 {
			f.put("r")
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		require.Len(f, sizes, 2)
		require.NoError(f, stop())
	})
}

func TestWorkerHoldsNoMoreBytesThanItMay(t *testing.T) {
	bubble(t, 16, func(f *fixture) {
		const most = 64 << 10
		var mu sync.Mutex
		held, peak, seen := 0, 0, 0
		p := consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
			bytes := 0
			for _, r := range batch.Records {
				bytes += len(r.PartitionKey) + len(r.Data)
			}
			mu.Lock()
			held += bytes
			peak = max(peak, held)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			held -= bytes
			seen += len(batch.Records)
			mu.Unlock()
			return nil
		})
		for n := range 2000 {
			_, err := f.orders.PutRecord(f.Context(), fmt.Sprint(n), make([]byte, 1000))
			require.NoError(f, err)
		}
		stop := f.start(f.worker(consumer.Config{MaxBytes: most, BatchBytes: 16 << 10}, p))
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(f, 2000, seen)
		require.LessOrEqual(f, peak, most)
		require.Greater(f, peak, most/2)
		require.NoError(f, stop())
	})
}

func TestAggregatedRecords(t *testing.T) {
	// The shards of the two halves get records of both; a half drops what is the
	// other's, since its producer sends that again.
	users := []kpl.UserRecord{}
	for n := range 10 {
		users = append(users, kpl.UserRecord{PartitionKey: fmt.Sprint("user", n), Data: []byte(fmt.Sprint("data", n))})
	}
	collect := func(seen *journal) consumer.ProcessorFunc {
		return func(_ context.Context, batch *consumer.Batch) error {
			for _, r := range batch.Records {
				seen.add("%s %s %d %v", r.PartitionKey, r.Data, r.SubSequenceNumber, r.Aggregated)
			}
			return nil
		}
	}
	t.Run("are taken apart", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			var seen journal
			_, err := f.orders.PutRecord(f.Context(), "a", kpl.Join(users))
			require.NoError(f, err)
			f.put("plain")
			stop := f.start(f.worker(consumer.Config{Deaggregate: true}, collect(&seen)))
			lines := seen.take()
			require.Len(f, lines, 11)
			require.Equal(f, "user3 data3 3 true", lines[3])
			require.Equal(f, "plain plain 0 false", lines[10])
			require.Zero(f, f.status(shard0).BehindRecords)
			require.NoError(f, stop())
		})
	})
	t.Run("are given out to the shard that they belong to", func(t *testing.T) {
		bubble(t, 2, func(f *fixture) {
			var seen, all journal
			low, high := f.orders.Shards()[0].HashKeyRange().Start, f.orders.Shards()[1].HashKeyRange().Start
			_, err := f.orders.PutRecords(f.Context(), []braid.Entry{
				{PartitionKey: "a", ExplicitHashKey: &low, Data: kpl.Join(users)},
				{PartitionKey: "a", ExplicitHashKey: &high, Data: kpl.Join(users)},
			})
			require.NoError(f, err)
			stop := f.start(f.worker(consumer.Config{Deaggregate: true}, collect(&seen)))
			lines := seen.take()
			require.Len(f, lines, 10)
			slices.Sort(lines)
			require.Len(f, slices.Compact(lines), 10)
			require.NoError(f, stop())
			stop = f.start(f.worker(consumer.Config{App: "keeper", Deaggregate: true, KeepForeign: true}, collect(&all)))
			require.Len(f, all.take(), 20)
			require.NoError(f, stop())
		})
	})
	t.Run("are checkpointed one by one", func(t *testing.T) {
		bubble(t, 1, func(f *fixture) {
			_, err := f.orders.PutRecord(f.Context(), "a", kpl.Join(users))
			require.NoError(f, err)
			f.put("plain")
			var seen journal
			cfg := consumer.Config{Deaggregate: true, Checkpoints: consumer.Manual}
			for _, at := range []int{0, 3, 4} {
				stop := f.start(f.worker(cfg, consumer.ProcessorFunc(func(ctx context.Context, batch *consumer.Batch) error {
					seen.add("%s", batch.Records[0].Data)
					return batch.CheckpointAt(ctx, batch.Records[at])
				})))
				require.NoError(f, stop())
			}
			require.Equal(f, []string{"data0", "data1", "data5"}, seen.take())
			stop := f.start(f.worker(cfg, collect(&seen)))
			require.Equal(f, []string{"plain plain 0 false"}, seen.take())
			require.NoError(f, stop())
		})
	})
}

func TestWorkerEndsWithItsDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		orders, err := db.CreateStream(t.Context(), "orders", nil)
		require.NoError(t, err)
		f := &fixture{t, db, orders}
		var seen journal
		w := f.worker(consumer.Config{}, seen.each(nil))
		var result error
		done := make(chan struct{})
		go func() { defer close(done); result = w.Run(t.Context()) }()
		synctest.Wait()
		require.NoError(t, db.Close())
		<-done
		require.ErrorIs(t, result, braid.ErrClosed)
		require.Equal(t, []string{"0 initialize", "0 lease lost"}, seen.take())
	})
}

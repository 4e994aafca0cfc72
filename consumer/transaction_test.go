package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// txHooked is a TxProcessor whose hook tries to checkpoint besides the transactions.
type txHooked struct {
	consumer.TxProcessorFunc
	hook func(lease consumer.Lease)
}

func (p txHooked) Initialize(_ context.Context, lease consumer.Lease) error {
	p.hook(lease)
	return nil
}

// A TxProcessor gets no Checkpointer, but its batches and its hooks know the lease.
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
			hook: func(lease consumer.Lease) { fromHook = lease },
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
		go func() { // another producer uses up the shard's capacity
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

package queue_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// requireFailed requires that a call has refused these receipts, for these reasons.
func requireFailed(t require.TestingT, err error, want map[int]error) {
	var failed *queue.ReceiptsError
	require.ErrorAs(t, err, &failed)
	got := make(map[int]error)
	for _, f := range failed.Failed {
		got[f.Index] = f.Err
	}
	require.Equal(t, want, got)
}

func TestAcknowledgedRecordsStayInTheStreamAndInOtherQueues(t *testing.T) {
	bubble(t, func(k *kit) {
		a, b := k.open("a", queue.Options{}), k.open("b", queue.Options{})
		k.put(1)
		first := k.receive(a, 1)
		require.NoError(t, a.Ack(ctx, first[0].Receipt))
		time.Sleep(time.Hour)
		require.Empty(t, k.receive(a, 1))
		second := k.receive(b, 1)
		require.Equal(t, first[0].ID, second[0].ID)
		n := 0
		for _, err := range k.stream.Records(ctx, braid.TrimHorizon()) {
			require.NoError(t, err)
			n++
		}
		require.Equal(t, 1, n)
	})
}

func TestEachReceiptIsJudgedByItself(t *testing.T) {
	bubble(t, func(k *kit) {
		q, other := k.open("q", queue.Options{VisibilityTimeout: 2 * second}), k.open("other", queue.Options{})
		k.put(2)
		old := k.receive(q, 1)
		time.Sleep(2 * second)
		records := k.receive(q, 2)
		require.Len(t, records, 2)
		foreign := k.receive(other, 1)[0].Receipt
		valid := records[0].Receipt
		if records[0].ID == old[0].ID {
			valid = records[1].Receipt
		}
		err := q.Ack(ctx, valid, "garbage", foreign, old[0].Receipt, valid, "")
		requireFailed(t, err, map[int]error{
			1: queue.ErrReceiptInvalid, 2: queue.ErrReceiptInvalid, 3: queue.ErrReceiptExpired, 5: queue.ErrReceiptInvalid,
		})
		require.EqualValues(t, 1, k.describe(q).Acknowledged)
		require.NoError(t, q.Ack(ctx, valid))
		require.EqualValues(t, 1, k.describe(q).Acknowledged)
		requireFailed(t, q.Extend(ctx, second, valid), map[int]error{0: queue.ErrRecordSettled})
		for i := range len(valid) { // each character counts
			changed := []byte(valid)
			changed[i] ^= 1
			require.ErrorIs(t, q.Ack(ctx, queue.Receipt(changed)), queue.ErrReceiptInvalid)
		}
	})
}

func TestTheNewestReceiptAcknowledgesHoweverLate(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{VisibilityTimeout: 2 * second})
		k.put(1)
		records := k.receive(q, 1)
		time.Sleep(time.Minute)
		for _, err := range []error{
			q.Extend(ctx, second, records[0].Receipt), q.Release(ctx, 0, records[0].Receipt),
			q.Return(ctx, records[0].Receipt), q.Reject(ctx, "no", records[0].Receipt),
		} {
			require.ErrorIs(t, err, queue.ErrReceiptExpired)
		}
		require.NoError(t, q.Ack(ctx, records[0].Receipt))
		require.Empty(t, k.receive(q, 1))
		require.Zero(t, k.describe(q).Visible)
	})
}

func TestExtend(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		k.put(1)
		records := k.receive(q, 1)
		start := time.Now()
		time.Sleep(25 * second)
		require.NoError(t, q.Extend(ctx, 60*second, records[0].Receipt))
		again, err := q.Receive(ctx, 1, nil)
		require.NoError(t, err)
		require.Equal(t, 85*second, time.Since(start))
		require.Equal(t, 2, again[0].Receives)
		require.NoError(t, q.Extend(ctx, 0, again[0].Receipt))
		require.Equal(t, 3, k.receive(q, 1)[0].Receives)
		for _, d := range []time.Duration{-1, 12*time.Hour + 1} {
			require.ErrorIs(t, q.Extend(ctx, d, again[0].Receipt), braid.ErrInvalidArgument)
		}
	})
}

func TestReleaseCountsAndReturnDoesNot(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: 3})
		k.put(1)
		for range 10 {
			records := k.receive(q, 1)
			require.Equal(t, 1, records[0].Receives)
			require.NoError(t, q.Return(ctx, records[0].Receipt))
		}
		require.NoError(t, q.Release(ctx, 10*second, k.receive(q, 1)[0].Receipt))
		d := k.describe(q)
		require.EqualValues(t, []int64{0, 0, 1}, []int64{d.Visible, d.InFlight, d.Delayed})
		start := time.Now()
		records, err := q.Receive(ctx, 1, nil)
		require.NoError(t, err)
		require.Equal(t, 10*second, time.Since(start))
		require.NoError(t, q.Release(ctx, 0, records[0].Receipt))
		records = k.receive(q, 1)
		require.Equal(t, 3, records[0].Receives)
		require.NoError(t, q.Release(ctx, time.Hour, records[0].Receipt)) // the last attempt has failed
		require.EqualValues(t, 1, k.describe(q).Dead)
		require.EqualValues(t, 0, k.describe(q).Delayed)
	})
}

func TestWithoutATimeoutARecordIsVisibleAtOnce(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{VisibilityTimeout: -1, MaxReceives: 2})
		k.put(1)
		first := k.receive(q, 1)
		require.Equal(t, 1, first[0].Receives)
		second := k.receive(q, 1)
		require.Equal(t, 2, second[0].Receives)
		require.Empty(t, k.receive(q, 1))
		require.EqualValues(t, 1, k.describe(q).Dead)
		require.NoError(t, q.Ack(ctx, second[0].Receipt)) // late, but still the newest
		require.EqualValues(t, 0, k.describe(q).Dead)
	})
}

func TestAckTxHappensWithTheTransactionOrNotAtAll(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{VisibilityTimeout: 10 * second})
		k.put(1)
		r := k.receive(q, 1)[0]
		write := func(value string, receipts ...queue.Receipt) error {
			return k.db.Update(ctx, func(tx *braid.Tx) error {
				if err := tx.Set([]byte("balance"), []byte(value)); err != nil {
					return err
				}
				return q.AckTx(tx, receipts...)
			})
		}
		refusal := errors.New("no")
		require.ErrorIs(t, k.db.Update(ctx, func(tx *braid.Tx) error {
			require.NoError(t, q.AckTx(tx, r.Receipt))
			return refusal
		}), refusal)
		require.EqualValues(t, 1, k.describe(q).InFlight)

		// Another receiver gets the record between the check of AckTx and the commit.
		var second queue.Record
		require.ErrorIs(t, k.db.Update(ctx, func(tx *braid.Tx) error {
			require.NoError(t, tx.Set([]byte("balance"), []byte("twice")))
			require.NoError(t, q.AckTx(tx, r.Receipt))
			time.Sleep(10 * time.Second)
			second = k.receive(q, 1)[0]
			return nil
		}), queue.ErrReceiptExpired)
		require.ErrorIs(t, write("late", r.Receipt), queue.ErrReceiptExpired)
		require.NoError(t, write("1", second.Receipt))
		require.ErrorIs(t, write("again", second.Receipt), queue.ErrRecordSettled)
		require.ErrorIs(t, write("garbage", "x"), queue.ErrReceiptInvalid)
		require.NoError(t, k.db.View(ctx, func(tx *braid.Tx) error {
			value, err := tx.Get([]byte("balance"))
			require.Equal(t, "1", string(value))
			require.Error(t, q.AckTx(tx, second.Receipt)) // the transaction cannot write
			return err
		}))
		require.EqualValues(t, 1, k.describe(q).Acknowledged)
		require.Zero(t, k.describe(q).InFlight)

		// Without writes of its own, and with the same receipt twice.
		k.put(1)
		third := k.receive(q, 1)[0]
		require.NoError(t, k.db.Update(ctx, func(tx *braid.Tx) error { return q.AckTx(tx, third.Receipt, third.Receipt) }))
		require.EqualValues(t, 2, k.describe(q).Acknowledged)

		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		require.ErrorIs(t, db.Update(ctx, func(tx *braid.Tx) error { return q.AckTx(tx, third.Receipt) }), braid.ErrInvalidArgument)
		require.NoError(t, db.Close())
	})
}

// A transaction that acknowledges is not held up by a queue that is being loaded for longer than
// its context lasts.
func TestAckTxEndsWithTheContextOfItsTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk := onTestDisk(t)
		k.put(1)
		r := k.receive(k.open("q", queue.Options{}), 1)[0]
		require.NoError(t, k.db.Close())
		k.db = openOn(t, vfs.FS(disk), &braid.Options{ReserveBytes: -1})
		q, err := queue.Get(ctx, k.db, "q")
		require.NoError(t, err)
		release := queue.HoldLoading(q)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		err = k.db.Update(short, func(tx *braid.Tx) error { return q.AckTx(tx, r.Receipt) })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, q.Work(short, func(context.Context, queue.Record) error { return nil }, nil))
		release()
		require.EqualValues(t, 1, k.describe(q).InFlight)
		require.NoError(t, k.db.Close())
	})
}

package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// work runs Work until the returned function is called, which returns the result of Work.
func (k *kit) work(q *queue.Queue, fn func(context.Context, queue.Record) error, o *queue.WorkOptions) (stop func() error) {
	work, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- q.Work(work, fn, o) }()
	return func() error {
		cancel()
		return <-done
	}
}

func TestWorkRetriesWithBackoffAndSetsAside(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: 3})
		k.put(5)
		start := time.Now()
		var mu sync.Mutex
		calls := make(map[string][]time.Duration)
		stop := k.work(q, func(_ context.Context, r queue.Record) error {
			mu.Lock()
			calls[string(r.Data)] = append(calls[string(r.Data)], time.Since(start))
			mu.Unlock()
			switch string(r.Data) {
			case "1":
				return errors.New("never")
			case "2":
				panic("no")
			case "3":
				return fmt.Errorf("pointless: %w", queue.ErrReject)
			case "4": // its method Error panics
				var none *fs.PathError
				return none
			}
			return nil
		}, &queue.WorkOptions{Concurrency: 2, Backoff: func(receives int) time.Duration { return time.Duration(receives) * time.Minute }})
		time.Sleep(time.Hour)
		require.NoError(t, stop())
		twice := []time.Duration{0, time.Minute, 3 * time.Minute}
		require.Equal(t, map[string][]time.Duration{"0": {0}, "1": twice, "2": twice, "3": {0}, "4": twice}, calls)
		reasons := make(map[string]string)
		for r, err := range q.DeadLetters().All(ctx) {
			require.NoError(t, err)
			reasons[string(r.Data)] = r.Reason
		}
		require.Len(t, reasons, 4)
		require.Equal(t, "never", reasons["1"])
		require.Contains(t, reasons["2"], "panic: no")
		require.Len(t, reasons["2"], 256)
		require.Contains(t, reasons["3"], "pointless")
		require.Contains(t, reasons["4"], "panic: runtime error")
		require.EqualValues(t, 1, k.describe(q).Acknowledged)
	})
}

func TestWorkSurvivesGoexit(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		k.put(1)
		stop := k.work(q, func(_ context.Context, r queue.Record) error {
			if r.Receives == 1 {
				runtime.Goexit()
			}
			require.Contains(t, r.Reason, "Goexit")
			return nil
		}, nil)
		time.Sleep(time.Minute)
		require.NoError(t, stop())
		require.EqualValues(t, 1, k.describe(q).Acknowledged)
	})
}

func TestWorkKeepsRecordsHiddenWhileACallRuns(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{VisibilityTimeout: 3 * second})
		k.put(3)
		stop := k.work(q, func(_ context.Context, r queue.Record) error {
			require.Equal(t, 1, r.Receives)
			time.Sleep(time.Hour)
			return nil
		}, &queue.WorkOptions{Batch: 3})
		for range 3 {
			time.Sleep(50 * time.Minute)
			require.Empty(t, k.receive(q, 3))
		}
		time.Sleep(time.Hour)
		require.NoError(t, stop())
		d := k.describe(q)
		require.EqualValues(t, 3, d.Acknowledged)
		require.EqualValues(t, 3, d.Received)
	})
}

func TestWorkStops(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		k.put(5)
		call := func(c context.Context, r queue.Record) error {
			select {
			case <-c.Done():
				return context.Cause(c)
			case <-time.After(10 * second):
				return nil
			}
		}
		stop := k.work(q, call, &queue.WorkOptions{Batch: 5})
		time.Sleep(15 * second)
		start := time.Now()
		require.NoError(t, stop())
		require.Equal(t, 5*second, time.Since(start)) // the running call was finished
		d := k.describe(q)
		require.EqualValues(t, 2, d.Acknowledged)
		require.EqualValues(t, 3, d.Visible)
		for _, r := range k.receive(q, 5) {
			require.Equal(t, 1, r.Receives)
			require.NoError(t, q.Return(ctx, r.Receipt))
		}

		for _, timeout := range []time.Duration{3 * second, -1} {
			stop = k.work(q, call, &queue.WorkOptions{Batch: 5, StopTimeout: timeout})
			time.Sleep(second)
			start = time.Now()
			require.NoError(t, stop())
			require.Equal(t, max(0, timeout), time.Since(start)) // it was cut off, which is no failed attempt
			again := k.receive(q, 5)
			require.Len(t, again, 3)
			for _, r := range again {
				require.Equal(t, 1, r.Receives)
			}
			require.NoError(t, q.Return(ctx, receipts(again)...))
		}
	})
}

// What a call has done is acknowledged even if its context had ended before it returned.
func TestACallThatIsCutOffAndSucceedsIsAcknowledged(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{VisibilityTimeout: second})
		k.put(3)
		stop := k.work(q, func(c context.Context, _ queue.Record) error {
			<-c.Done()
			time.Sleep(second)
			return nil
		}, &queue.WorkOptions{Batch: 2, StopTimeout: -1})
		time.Sleep(time.Minute)
		require.NoError(t, stop())
		d := k.describe(q)
		require.Equal(t, []int64{1, 2, 0}, []int64{d.Acknowledged, d.Visible, d.InFlight})
	})
}

func TestWorkEndsWithTheQueueAndTheDatabase(t *testing.T) {
	bubble(t, func(k *kit) {
		ok := func(context.Context, queue.Record) error { return nil }
		q := k.open("q", queue.Options{})
		done := make(chan error, 2)
		go func() { done <- q.Work(ctx, ok, &queue.WorkOptions{Concurrency: 3}) }()
		synctest.Wait()
		require.NoError(t, q.Delete(ctx))
		require.ErrorIs(t, <-done, queue.ErrQueueNotFound)
		q = k.open("q", queue.Options{})
		for _, o := range []queue.WorkOptions{{Concurrency: -1}, {Batch: -1}, {Batch: 10_001}, {VisibilityTimeout: 1}, {VisibilityTimeout: -1}} {
			require.ErrorIs(t, q.Work(ctx, ok, &o), braid.ErrInvalidArgument)
		}
		require.ErrorIs(t, q.Work(ctx, nil, nil), braid.ErrInvalidArgument)
		require.ErrorIs(t, q.WorkTx(ctx, nil, nil), braid.ErrInvalidArgument)
		go func() { done <- q.Work(ctx, ok, &queue.WorkOptions{Concurrency: 3}) }()
		synctest.Wait()
		require.NoError(t, k.db.Close())
		require.ErrorIs(t, <-done, braid.ErrClosed)
	})
}

// Each record takes effect once, although calls fail, hang beyond their timeouts, and run
// concurrently.
func TestWorkTxHasEffectsOnce(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{VisibilityTimeout: second, MaxReceives: -1})
		const n = 100
		k.put(n)
		var calls atomic.Int64
		work, stop := context.WithCancel(ctx)
		done := make(chan error, 2)
		for range 2 {
			go func() {
				done <- q.WorkTx(work, func(_ context.Context, tx *braid.Tx, r queue.Record) error {
					c := calls.Add(1)
					if c%7 == 0 {
						return errors.New("now and then")
					}
					value, err := tx.Get([]byte("sum"))
					if err != nil && !errors.Is(err, braid.ErrKeyNotFound) {
						return err
					}
					sum := 0
					if value != nil {
						_, _ = fmt.Sscan(string(value), &sum)
					}
					if err := tx.Set([]byte("sum"), fmt.Append(nil, sum+1)); err != nil {
						return err
					}
					return tx.Set([]byte("seen/"+r.ID), nil)
				}, &queue.WorkOptions{Concurrency: 4, Backoff: func(int) time.Duration { return 0 }})
			}()
		}
		time.Sleep(time.Minute)
		stop()
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		require.NoError(t, k.db.View(ctx, func(tx *braid.Tx) error {
			value, err := tx.Get([]byte("sum"))
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(n), string(value))
			seen := 0
			for _, err := range tx.Scan([]byte("seen/"), []byte("seen0")) {
				require.NoError(t, err)
				seen++
			}
			require.Equal(t, n, seen)
			return nil
		}))
		require.EqualValues(t, n, k.describe(q).Acknowledged)
	})
}

func TestFollow(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		k.put(3)
		n := 0
		for r, err := range q.Follow(ctx, nil) {
			require.NoError(t, err)
			require.NoError(t, q.Ack(ctx, r.Receipt))
			if n++; n == 3 {
				break
			}
		}
		short, cancel := context.WithTimeout(ctx, second)
		defer cancel()
		for _, err := range q.Follow(short, nil) {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		require.EqualValues(t, 3, k.describe(q).Acknowledged)
	})
}

// A receive whose context ends while its commit is in progress gives back its records.
func TestAnAbandonedReceiveGivesBack(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		var wg sync.WaitGroup
		for i := range 200 {
			short, cancel := context.WithTimeout(ctx, time.Duration(i)*time.Microsecond)
			wg.Go(func() {
				defer cancel()
				records, err := q.Receive(short, 1, nil)
				if err == nil {
					require.NoError(t, q.Ack(ctx, records[0].Receipt))
				}
			})
		}
		k.put(50)
		wg.Wait()
		synctest.Wait()
		d := k.describe(q)
		require.Zero(t, d.InFlight)
		require.EqualValues(t, 50, d.Acknowledged+d.Visible)
	})
}

// A function may return an error of another queue: its own record has then failed, and
// comes again after the backoff, with the reason.
func TestAnErrorOfReceiptsIsOneAsOthers(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{VisibilityTimeout: time.Hour})
		k.put(1)
		refused := &queue.ReceiptsError{Failed: []queue.ReceiptError{{Err: queue.ErrReceiptExpired}}}
		backoff := &queue.WorkOptions{Backoff: func(int) time.Duration { return time.Minute }}
		for n := 1; n <= 4; n += 2 {
			stop := k.work(q, func(context.Context, queue.Record) error { return refused }, backoff)
			synctest.Wait()
			require.NoError(t, stop())
			require.EqualValues(t, 1, k.describe(q).Delayed)
			time.Sleep(time.Minute)
			work, cancel := context.WithCancel(ctx)
			done := make(chan error, 1)
			go func() {
				done <- q.WorkTx(work, func(_ context.Context, _ *braid.Tx, r queue.Record) error {
					require.Equal(t, n+1, r.Receives)
					require.Equal(t, refused.Error(), r.Reason)
					return refused
				}, backoff)
			}()
			synctest.Wait()
			cancel()
			require.NoError(t, <-done)
			require.EqualValues(t, 1, k.describe(q).Delayed)
			time.Sleep(time.Minute)
		}
	})
}

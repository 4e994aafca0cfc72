package queue_test

import (
	"cmp"
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

// If a receiver's context ends at the moment when it is woken, the next one is woken
// instead.
func TestAReceiverThatGivesUpWhenItIsWokenWakesTheNext(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: -1})
		k.put(1)
		r := k.receive(q, 1)[0]
		for range 200 {
			require.NoError(t, q.Release(ctx, second, r.Receipt))
			short, cancel := context.WithTimeout(ctx, second)
			got := make(chan []queue.Record, 2)
			for _, ctx := range []context.Context{short, ctx} {
				go func() {
					records, _ := q.Receive(ctx, 1, &queue.ReceiveOptions{VisibilityTimeout: time.Hour})
					got <- records
				}()
				synctest.Wait() // they wait in line in this order
			}
			time.Sleep(second)
			synctest.Wait()
			cancel()
			first := <-got
			if len(first) == 0 {
				select {
				case first = <-got:
				case <-time.After(time.Minute):
					t.Fatal("a receiver waits while a record is visible")
				}
			} else {
				require.NoError(t, q.Release(ctx, 0, first[0].Receipt))
				first = <-got
				if len(first) == 0 { // it was the one whose context has ended
					first = k.receive(q, 1)
				}
			}
			r = first[0]
		}
	})
}

// A record that is trimmed or expires makes room for others, and no longer holds back its
// key: receivers that wait for these are woken.
func TestATrimWakesThoseWhoWait(t *testing.T) {
	for name, o := range map[string]queue.Options{
		"in flight": {MaxInFlight: 1, VisibilityTimeout: 12 * time.Hour},
		"dead":      {OrderByKey: true, BlockAtDead: true},
	} {
		for how, trim := range map[string]func(k *kit, next braid.SequenceNumber) error{
			"trim": func(k *kit, next braid.SequenceNumber) error { return k.stream.Trim(ctx, braid.AtSequence(next)) },
			"expiry": func(k *kit, _ braid.SequenceNumber) error {
				return k.stream.DecreaseRetention(ctx, 24*time.Hour)
			},
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				bubble(t, func(k *kit) {
					require.NoError(t, k.stream.IncreaseRetention(ctx, 200*time.Hour))
					k.putKeys("A1")
					time.Sleep(30 * time.Hour)
					put, err := k.stream.PutRecord(ctx, "A", []byte("A2"))
					require.NoError(t, err)
					q := k.open("q", o)
					first := k.receive(q, 1)
					if o.BlockAtDead {
						require.NoError(t, q.Reject(ctx, "", receipts(first)...))
					}
					got := make(chan []string, 1)
					start := time.Now()
					go func() {
						records, err := q.Receive(ctx, 1, &queue.ReceiveOptions{Wait: 11 * time.Hour})
						require.NoError(t, err)
						got <- texts(records)
					}()
					synctest.Wait()
					require.NoError(t, trim(k, put.SequenceNumber))
					require.Equal(t, []string{"A2"}, <-got)
					require.LessOrEqual(t, time.Since(start), 2*time.Minute)
				})
			})
		}
	}
}

// waits starts a receive that waits for up to an hour, and returns when it is in line.
func waits(q *queue.Queue, ctx context.Context, n int, o queue.ReceiveOptions) (got chan []queue.Record) {
	got = make(chan []queue.Record, 1)
	o.Wait = cmp.Or(o.Wait, time.Hour)
	go func() {
		records, _ := q.Receive(ctx, n, &o)
		got <- records
	}()
	synctest.Wait()
	return got
}

// A put and its deliveries to receivers in the line are one commit, in the order in which
// the receivers came, and older records come first.
func TestAPutAndItsDeliveriesAreOneCommit(t *testing.T) {
	bubble(t, func(k *kit) {
		q, other := k.open("q", queue.Options{}), k.open("other", queue.Options{})
		first, second, third := waits(q, ctx, 2, queue.ReceiveOptions{}), waits(q, ctx, 2, queue.ReceiveOptions{}), waits(q, ctx, 9, queue.ReceiveOptions{})
		too := waits(other, ctx, 3, queue.ReceiveOptions{})
		before := k.db.Metrics().Commits
		var entries []braid.Entry
		for i := range 5 {
			entries = append(entries, braid.Entry{PartitionKey: fmt.Sprint(i), Data: []byte(fmt.Sprint(i))})
		}
		_, err := k.stream.PutRecords(ctx, entries)
		require.NoError(t, err)
		require.Equal(t, []string{"0", "1"}, texts(<-first))
		require.Equal(t, []string{"2", "3"}, texts(<-second))
		last := <-third
		require.Equal(t, []string{"4"}, texts(last))
		require.Equal(t, 1, last[0].Receives)
		require.Equal(t, time.Now(), last[0].FirstReceived)
		require.Equal(t, []string{"0", "1", "2"}, texts(<-too))
		require.EqualValues(t, 1, k.db.Metrics().Commits-before)
		d := k.describe(q)
		require.EqualValues(t, 5, d.InFlight)
		require.EqualValues(t, 5, d.Received)
		require.Equal(t, []string{"3", "4"}, texts(k.receive(other, 9)), "nobody has waited for these")
		require.NoError(t, q.Ack(ctx, last[0].Receipt))
	})
}

// A record that is released, or that another one of its key has held back, is delivered
// to a waiting receiver by the commit that makes it visible.
func TestAReleaseAndItsDeliveryAreOneCommit(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{OrderByKey: true})
		k.putKeys("A1", "A2")
		held := k.receive(q, 9)
		require.Equal(t, []string{"A1"}, texts(held))
		got := waits(q, ctx, 9, queue.ReceiveOptions{})
		before := k.db.Metrics().Commits
		require.NoError(t, q.Release(ctx, 0, receipts(held)...))
		again := <-got
		require.Equal(t, []string{"A1"}, texts(again))
		require.Equal(t, 2, again[0].Receives)
		got = waits(q, ctx, 9, queue.ReceiveOptions{})
		require.NoError(t, q.Ack(ctx, receipts(again)...))
		require.Equal(t, []string{"A2"}, texts(<-got))
		require.EqualValues(t, 2, k.db.Metrics().Commits-before)
	})
}

// Records that were not read ahead come before one that arrives with the commit that
// makes room for them.
func TestARecordThatArrivesDoesNotComeBeforeOlderOnes(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxInFlight: 1})
		k.put(1)
		r := k.receive(q, 1)
		got := waits(q, ctx, 1, queue.ReceiveOptions{})
		done := make(chan error, 2)
		k.putAnd("older", func() { // puts meanwhile form one group
			go func() { done <- q.Ack(ctx, receipts(r)...) }()
			synctest.Wait()
			go func() { done <- k.putOne("newer", braid.HashKey{}) }()
			synctest.Wait()
			require.Empty(t, got, "there is no room")
		})
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		r = <-got
		require.Equal(t, []string{"older"}, texts(r))
		got = waits(q, ctx, 1, queue.ReceiveOptions{})
		require.NoError(t, q.Ack(ctx, receipts(r)...))
		require.Equal(t, []string{"newer"}, texts(<-got))
	})
}

// A record is found even if it is put after a receiver has looked for records and before
// it listens for new ones.
func TestARecordThatIsPutBetweenALookAndAWait(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		queue.BeforeListening(q, func() { k.put(1) })
		start := time.Now()
		records, err := q.Receive(ctx, 9, &queue.ReceiveOptions{Wait: time.Hour})
		require.NoError(t, err)
		require.Equal(t, []string{"0"}, texts(records))
		require.Zero(t, time.Since(start))
	})
}

// A receiver that comes while a record is being made durable is woken when the record can
// be read.
func TestAReceiverThatComesBetweenACommitAndItsEnd(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		var got chan []queue.Record
		k.putAnd("late", func() { got = waits(q, ctx, 9, queue.ReceiveOptions{}) })
		start := time.Now()
		require.Equal(t, []string{"late"}, texts(<-got))
		require.Zero(t, time.Since(start))
	})
}

// A receiver whose context ends while its delivery is being made durable gives it back. It
// has returned by then, and cannot know the outcome.
func TestAReceiverThatEndsWhileItIsServedGivesBack(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{MaxReceives: 1})
		short, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() {
			_, err := q.Receive(short, 9, nil)
			ended <- err
		}()
		synctest.Wait()
		k.putAnd("0", func() {
			cancel()
			err := <-ended
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, braid.ErrOutcomeUnknown)
		})
		synctest.Wait()
		records := k.receive(q, 9)
		require.Equal(t, []string{"0"}, texts(records))
		require.Equal(t, 1, records[0].Receives, "the delivery that nobody saw does not count")

		// A receiver whose time has passed takes its delivery.
		got := waits(q, ctx, 9, queue.ReceiveOptions{Wait: time.Minute})
		k.putAnd("1", func() { time.Sleep(time.Hour) })
		require.Equal(t, []string{"1"}, texts(<-got))
	})
}

// The first record of a shard that the same commit creates waits until others see the
// shard.
func TestARecordOfAShardThatIsMadeByTheSameCommit(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		got := waits(q, ctx, 9, queue.ReceiveOptions{})
		again := waits(q, ctx, 9, queue.ReceiveOptions{})
		done := make(chan error, 3)
		k.putAnd("0", func() { // puts meanwhile form one group
			for _, fn := range []func() error{
				func() error {
					_, _, err := k.stream.SplitShard(ctx, k.stream.Shards()[0].ID(), nil)
					return err
				},
				func() error { return k.putOne("1", braid.HashKey{}) },
				func() error { return k.putOne("2", braid.MaxHashKey()) },
			} {
				go func() { done <- fn() }()
				synctest.Wait()
			}
		})
		for range 3 {
			require.NoError(t, <-done)
		}
		require.Equal(t, []string{"0"}, texts(<-got))
		require.Equal(t, []string{"1", "2"}, texts(<-again))
	})
}

// A receiver that takes whole batches does not wait for earlier receivers that cannot
// have the same records: while a record that may end the process is alone in flight, only
// it gets others.
func TestAReceiverOfWholeBatchesWaitsForNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, disk := onDisk(t)
		q := k.open("q", queue.Options{MaxReceives: 2})
		k.put(1)
		k.receive(q, 1)
		image := disk.PowerCut()
		require.NoError(t, k.db.Close())

		k, q = reopened(t, image)
		time.Sleep(time.Minute)
		last := k.receive(q, 10)
		require.Equal(t, 2, last[0].Receives)
		careful := waits(q, ctx, 1, queue.ReceiveOptions{})
		whole := waits(q, ctx, 1, queue.ReceiveOptions{Whole: true})
		k.put(2)
		require.Equal(t, []string{"0"}, texts(<-whole))
		synctest.Wait()
		require.Empty(t, careful)
		whole = waits(q, ctx, 1, queue.ReceiveOptions{Whole: true, VisibilityTimeout: time.Minute})
		require.Equal(t, []string{"1"}, texts(<-whole))
		require.NoError(t, q.Ack(ctx, last[0].Receipt))
		time.Sleep(time.Minute)
		require.Equal(t, []string{"0"}, texts(<-careful))
		require.NoError(t, k.db.Close())
	})
}

// Among receivers that can get the same records, the one that has waited longest gets
// them, whether it takes whole batches or not.
func TestReceiversOfWholeBatchesTakeTurnsWithOthers(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		var all []chan []queue.Record
		for i := range 6 {
			all = append(all, waits(q, ctx, 1, queue.ReceiveOptions{Whole: i%3 == 1}))
		}
		for i := range 3 {
			k.put(1)
			require.Len(t, <-all[i], 1, i)
		}
		gone := k.receive(q, 1)
		require.Empty(t, gone)
		time.Sleep(30 * second) // now only the passing of time makes them visible
		for i := range 3 {
			require.Len(t, <-all[3+i], 1, i)
		}
	})
}

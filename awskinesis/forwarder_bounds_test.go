package awskinesis_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/consumer"
)

// ten is the data of a record that has 10 bytes with its partition key of one character.
const ten = "123456789"

func (o *outbox) tryPut(n int) (put int, err error) {
	for range n {
		if _, err = o.forwarder.PutRecord(context.Background(), "a", []byte(ten)); err != nil {
			return put, err
		}
		put++
	}
	return put, nil
}

func TestForwarderRejectsBeyondMaxBytes(t *testing.T) {
	inBoth(t, 2, 1, awskinesis.ForwarderOptions{MaxBytes: 1000}, func(o *outbox) {
		o.make() // the bound holds even before it runs
		put, err := o.tryPut(150)
		require.Equal(o, 100, put)
		var full *awskinesis.OutboxFullError
		require.ErrorAs(o, err, &full)
		require.ErrorIs(o, err, awskinesis.ErrOutboxFull)
		require.Equal(o, awskinesis.OutboxFullError{Outbox: "out", Bytes: 1000, MaxBytes: 1000}, *full)

		o.link.set(true, 0)
		o.start()
		time.Sleep(time.Hour)
		put, err = o.tryPut(1)
		require.Zero(o, put)
		require.ErrorIs(o, err, awskinesis.ErrOutboxFull)
		require.Equal(o, int64(2), o.status().Rejected)

		o.link.set(false, 0)
		o.caughtUp()
		time.Sleep(time.Second)
		put, _ = o.tryPut(100)
		require.Equal(o, 100, put)
		o.caughtUp()
		require.NoError(o, o.stop())
		require.Len(o, o.stored()["a"], 200)
	})
}

// Records put without the forwarder are counted, and so is room that was admitted for later.
func TestForwarderCountsAllThatWaits(t *testing.T) {
	inBubble(t, 2, 1, awskinesis.ForwarderOptions{MaxBytes: 1000}, func(o *outbox) {
		o.make()
		require.NoError(o, o.forwarder.Admit(o.Context(), 0))
		for range 50 {
			_, err := o.stream().PutRecord(o.Context(), "a", []byte(ten))
			require.NoError(o, err)
		}
		time.Sleep(time.Second)
		require.NoError(o, o.forwarder.Admit(o.Context(), 500))
		require.ErrorIs(o, o.forwarder.Admit(o.Context(), 1), awskinesis.ErrOutboxFull)
		require.ErrorIs(o, o.forwarder.Admit(o.Context(), -1), braid.ErrInvalidArgument)
		_, err := o.forwarder.PutRecords(o.Context(), []braid.Entry{{PartitionKey: "a"}, {PartitionKey: "b"}})
		require.ErrorIs(o, err, awskinesis.ErrOutboxFull)
		time.Sleep(time.Second) // nothing was put meanwhile
		results, err := o.forwarder.PutRecords(o.Context(), []braid.Entry{{PartitionKey: "a", Data: make([]byte, 249)}, {PartitionKey: "b", Data: make([]byte, 249)}})
		requireStored(o, results, err)
		require.ErrorIs(o, o.forwarder.Admit(o.Context(), 1), awskinesis.ErrOutboxFull)
	})
}

// However many goroutines put at once, never more waits than the bound allows.
func TestForwarderNeverWaitsForMoreThanMaxBytes(t *testing.T) {
	inBubble(t, 2, 1, awskinesis.ForwarderOptions{MaxBytes: 1000}, func(o *outbox) {
		o.link.set(false, 50*time.Millisecond)
		o.start()
		synctest.Wait()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				for range 100 {
					if _, err := o.tryPut(1); err != nil && !errors.Is(err, awskinesis.ErrOutboxFull) {
						o.Error(err)
					}
					time.Sleep(7 * time.Millisecond)
				}
			})
		}
		most := int64(0)
		for range 100 {
			most = max(most, o.status().Outbox.BehindBytes)
			time.Sleep(5 * time.Millisecond)
		}
		all.Wait()
		require.LessOrEqual(o, most, int64(1000))
		require.Greater(o, most, int64(500))
		require.Positive(o, o.status().Rejected)
		o.caughtUp()
		require.NoError(o, o.stop())
	})
}

func TestForwarderRejectsBeyondMaxAge(t *testing.T) {
	inBubble(t, 2, 1, awskinesis.ForwarderOptions{MaxAge: time.Minute}, func(o *outbox) {
		o.link.set(true, 0)
		o.start()
		put, err := o.tryPut(10)
		require.NoError(o, err)
		require.Equal(o, 10, put)
		time.Sleep(time.Minute)
		put, err = o.tryPut(10)
		require.NoError(o, err, "a minute, and no more")
		require.Equal(o, 10, put)
		time.Sleep(time.Millisecond)
		_, err = o.tryPut(1)
		var full *awskinesis.OutboxFullError
		require.ErrorAs(o, err, &full)
		require.Equal(o, time.Minute+time.Millisecond, full.Age.Round(time.Millisecond))
		require.ErrorContains(o, err, "has waited for")
		o.link.set(false, 0)
		o.caughtUp()
		put, _ = o.tryPut(1)
		require.Equal(o, 1, put)
		o.caughtUp()
		require.NoError(o, o.stop())
		require.Len(o, o.stored()["a"], 21)
	})
}

// The oldest waiting records are dropped, no more than necessary, and each is counted. Records in
// flight are not dropped.
func TestForwarderDropsTheOldestBeyondMaxBytes(t *testing.T) {
	inBubble(t, 3, 2, awskinesis.ForwarderOptions{MaxBytes: 1000, DropOldest: true}, func(o *outbox) {
		o.link.set(true, 0)
		o.start()
		synctest.Wait()
		var way []string // in flight: one batch of each outbox shard
		for i := range keys[:6] {
			o.putTen(i, i+1)
			synctest.Wait()
			if int(o.status().InFlight) > len(way) {
				way = append(way, tenth(i))
			}
		}
		o.putTen(6, 106+len(way))
		time.Sleep(2 * time.Second)
		require.Equal(o, int64(6), o.status().Dropped)
		o.putTen(106+len(way), 306+len(way))
		time.Sleep(2 * time.Second)
		status := o.status()
		require.Equal(o, int64(206), status.Dropped)
		require.Equal(o, int64(2060), status.DroppedBytes)
		require.Equal(o, int64(len(way)), status.InFlight)

		o.link.set(false, 0)
		o.caughtUp()
		require.NoError(o, o.stop())
		var stored []string
		for key, data := range o.stored() {
			for _, d := range data {
				stored = append(stored, key+d)
			}
		}
		want := way
		for i := 206 + len(way); i < 306+len(way); i++ {
			want = append(want, tenth(i))
		}
		require.ElementsMatch(o, want, stored)
	})
}

// With Fast, several batches may be in flight, up to 1 MiB.
func TestForwarderDropsWithFastOrder(t *testing.T) {
	inBubble(t, 1, 1, awskinesis.ForwarderOptions{MaxBytes: 1000, DropOldest: true, Fast: true}, func(o *outbox) {
		o.link.set(true, 0)
		o.start()
		synctest.Wait()
		large := strings.Repeat("x", 1<<20-1)
		for range 4 {
			_, err := o.stream().PutRecord(o.Context(), "x", []byte(large))
			require.NoError(o, err)
			synctest.Wait()
		}
		way := o.status().InFlight
		require.Greater(o, way, int64(1))
		require.Less(o, way, int64(4))
		o.putTen(0, 150)
		time.Sleep(2 * time.Second)
		status := o.status()
		require.Equal(o, 4-way+50, status.Dropped)
		require.Equal(o, (4-way)<<20+500, status.DroppedBytes)
		o.link.set(false, 0)
		o.caughtUp()
		require.Equal(o, way+100, o.status().Forwarded)
		require.NoError(o, o.stop())
	})
}

// tenth returns the key and data of the i-th record of 10 bytes.
func tenth(i int) string { return fmt.Sprintf("%s%09d", keys[i%6], i) }

// putTen puts the records of 10 bytes with these numbers, one after the other.
func (o *outbox) putTen(from, to int) {
	for i := from; i < to; i++ {
		_, err := o.stream().PutRecord(context.Background(), tenth(i)[:1], []byte(tenth(i)[1:]))
		require.NoError(o, err)
	}
}

func TestForwarderDropsTheOldestBeyondMaxAge(t *testing.T) {
	inBubble(t, 3, 2, awskinesis.ForwarderOptions{MaxAge: time.Minute, DropOldest: true}, func(o *outbox) {
		o.putTen(0, 100)
		o.make()
		time.Sleep(45 * time.Second)
		o.putTen(100, 150)
		time.Sleep(30 * time.Second)
		o.start() // the first hundred have now waited for too long
		synctest.Wait()
		o.caughtUp()
		status := o.status()
		require.Equal(o, int64(100), status.Dropped)
		require.Equal(o, int64(1000), status.DroppedBytes)
		require.Equal(o, int64(50), status.Forwarded)
		require.NoError(o, o.stop())
	})
}

// Records in flight that the process gives up and that are then dropped are counted as well.
func TestForwarderCountsWhatIsDroppedOnItsWay(t *testing.T) {
	inBubble(t, 1, 1, awskinesis.ForwarderOptions{MaxBytes: 100, DropOldest: true, StopTimeout: time.Second}, func(o *outbox) {
		o.link.set(true, 0)
		o.putTen(0, 5)
		o.start()
		synctest.Wait()
		require.Equal(o, int64(5), o.status().InFlight)
		o.putTen(5, 25)
		time.Sleep(2 * time.Second)
		require.Equal(o, int64(10), o.status().Dropped)
		require.NoError(o, o.forwarder.App().Pause(o.Context(), consumer.LeaseKey{}))
		time.Sleep(time.Minute)
		o.link.set(false, 0)
		require.NoError(o, o.forwarder.App().Resume(o.Context(), consumer.LeaseKey{}))
		o.caughtUp()
		status := o.status()
		require.Equal(o, int64(15), status.Dropped)
		require.Equal(o, int64(150), status.DroppedBytes)
		require.Equal(o, int64(10), status.Forwarded)
		require.NoError(o, o.stop())
	})
}

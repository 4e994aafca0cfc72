package awskinesis_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/consumer"
)

// inBoth runs the test with strict and with fast order.
func inBoth(t *testing.T, from, to int, opts awskinesis.ForwarderOptions, test func(o *outbox)) {
	for _, fast := range []bool{false, true} {
		t.Run(fmt.Sprint("fast=", fast), func(t *testing.T) {
			opts.Fast = fast
			inBubble(t, from, to, opts, test)
		})
	}
}

func TestForwarderPutsEachRecordOnceAndInOrder(t *testing.T) {
	inBoth(t, 3, 4, awskinesis.ForwarderOptions{}, func(o *outbox) {
		o.link.set(false, 20*time.Millisecond)
		o.put(100, keys...)
		o.start()
		for range 20 {
			o.put(50, keys...)
			time.Sleep(15 * time.Millisecond)
		}
		o.caughtUp()
		status := o.status()
		require.Equal(o, int64(1100), status.Forwarded)
		require.Zero(o, status.InFlight)
		require.NoError(o, status.Err)
		require.True(o, status.Outbox.CaughtUp())
		calls := len(o.kit.Calls(""))
		time.Sleep(12 * time.Hour)
		require.Len(o, o.kit.Calls(""), calls, "an idle forwarder makes no calls")
		require.NoError(o, o.stop())
		o.requireOnce()
	})
}

// A program that stops in the middle has stored its records in flight, and its checkpoints.
func TestForwarderStopsInTheMiddle(t *testing.T) {
	inBoth(t, 2, 2, awskinesis.ForwarderOptions{}, func(o *outbox) {
		o.link.set(false, 50*time.Millisecond)
		for range 5 {
			o.put(300, keys...)
			o.start()
			time.Sleep(120 * time.Millisecond)
			require.NoError(o, o.stop())
		}
		o.start()
		o.caughtUp()
		require.NoError(o, o.stop())
		o.requireOnce()
	})
}

func TestForwarderOutlastsALinkThatIsCutForAnHour(t *testing.T) {
	inBoth(t, 2, 3, awskinesis.ForwarderOptions{}, func(o *outbox) {
		o.start()
		o.put(70, keys...)
		o.caughtUp()
		cutAt := time.Now()
		o.link.set(true, 0)
		for range 60 {
			o.put(35, keys...)
			time.Sleep(time.Minute)
		}
		status := o.status()
		require.ErrorIs(o, status.Err, errBroken)
		require.WithinDuration(o, cutAt, status.Since, time.Second)
		require.Equal(o, int64(60*35), status.Outbox.BehindRecords)
		require.InDelta(o, time.Hour, status.Outbox.BehindLatest, float64(time.Second))
		require.Equal(o, int64(70), status.Forwarded)
		text, err := json.Marshal(status)
		require.NoError(o, err)
		require.Contains(o, string(text), errBroken.Error())
		var back awskinesis.ForwarderStatus
		require.NoError(o, json.Unmarshal(text, &back))
		require.EqualError(o, back.Err, status.Err.Error())

		o.link.set(false, 0)
		o.put(35, keys...)
		o.caughtUp()
		require.NoError(o, o.status().Err)
		require.NoError(o, o.stop())
		o.requireOnce()
	})
}

// A stop waits for StopTimeout; the next forwarder puts what is given up then.
func TestForwarderStopsWhileTheLinkIsCut(t *testing.T) {
	inBoth(t, 2, 2, awskinesis.ForwarderOptions{StopTimeout: 5 * time.Second}, func(o *outbox) {
		o.link.set(true, 0)
		o.put(70, keys...)
		o.make()
		ctx, cancel := context.WithTimeout(o.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		require.NoError(o, o.forwarder.Run(ctx))
		require.Equal(o, time.Hour+5*time.Second, time.Since(began))
		require.NoError(o, o.producer.Close(o.Context()), "the outbox is empty")
		o.producer, o.forwarder = nil, nil
		o.link.set(false, 0)
		o.connect(nil)
		o.start()
		o.caughtUp()
		require.NoError(o, o.stop())
		o.requireOnce()
	})
}

// Throttling and failures of single entries duplicate nothing.
func TestForwarderOutlastsThrottlingAndPartialFailures(t *testing.T) {
	inBoth(t, 1, 2, awskinesis.ForwarderOptions{}, func(o *outbox) {
		o.kit.FailEntries("ProvisionedThroughputExceededException", 0, 2, 4)
		o.kit.FailEntries("InternalFailure", 1)
		o.kit.Fail("PutRecords", 3, "ProvisionedThroughputExceededException")
		o.kit.FailEntries("ProvisionedThroughputExceededException", 0)
		o.put(210, keys...)
		o.start()
		o.caughtUp()
		require.NoError(o, o.stop())
		o.requireOnce()
	})
}

// Whatever breaks, and however both sides are resharded, nothing is lost and each key is in order;
// duplicates come only from attempts whose response was lost.
func TestForwarderOrderPerKeyThroughChaos(t *testing.T) {
	for seed := range uint64(max(1, *seeds/4)) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			inBubble(t, 2, 2, awskinesis.ForwarderOptions{Fast: seed%2 == 1}, func(o *outbox) {
				o.connect(&awskinesis.ProducerOptions{AggregateBytes: []int{0, 1 << 10}[seed/2%2]})
				o.link.random = rand.New(rand.NewPCG(seed, 1))
				o.start()
				stop := make(chan struct{})
				var resharding sync.WaitGroup
				resharding.Go(func() { (&fixture{T: o.T, kit: o.kit}).reshard(rand.New(rand.NewPCG(seed, 2)), stop) })
				resharding.Go(func() { reshard(o.T, o.stream(), rand.New(rand.NewPCG(seed, 3)), stop) })
				for range 30 {
					o.put(40, keys...)
					time.Sleep(40 * time.Millisecond)
				}
				close(stop)
				resharding.Wait()
				o.caughtUp()
				require.NoError(o, o.stop())
				o.requireAll()
			})
		})
	}
}

// A power cut at any time loses no record of the outbox.
func TestForwarderGoesOnAfterACrash(t *testing.T) {
	inBoth(t, 2, 2, awskinesis.ForwarderOptions{}, func(o *outbox) {
		o.link.set(false, 30*time.Millisecond)
		for range 6 {
			o.start()
			o.put(200, keys...)
			time.Sleep(75 * time.Millisecond)
			o.disk = o.disk.PowerCut()
			require.NoError(o, o.db.Close()) // with records in flight
			require.Error(o, <-o.ended)
			o.ended, o.forwarder = nil, nil
			o.open()
		}
		o.start()
		o.caughtUp()
		require.NoError(o, o.stop())
		o.requireAll()
	})
}

func TestForwarderPauses(t *testing.T) {
	inBoth(t, 2, 2, awskinesis.ForwarderOptions{}, func(o *outbox) {
		o.put(70, keys...)
		o.start()
		o.caughtUp()
		require.NoError(o, o.forwarder.App().Pause(o.Context(), consumer.LeaseKey{}))
		synctest.Wait()
		o.put(70, keys...)
		time.Sleep(time.Hour)
		status := o.status()
		require.True(o, status.Outbox.Paused)
		require.Equal(o, int64(70), status.Outbox.BehindRecords)
		require.Equal(o, int64(70), status.Forwarded)
		require.NoError(o, o.forwarder.App().Resume(o.Context(), consumer.LeaseKey{}))
		o.caughtUp()
		require.NoError(o, o.stop())
		o.requireOnce()
	})
}

// If the forwarder is paused while a Kinesis shard accepts nothing, it gives up after StopTimeout,
// in the middle of a batch. The stored part is not put again.
func TestForwarderDoublesNothingAfterAPauseWasForced(t *testing.T) {
	inBoth(t, 1, 2, awskinesis.ForwarderOptions{StopTimeout: 5 * time.Second}, func(o *outbox) {
		o.link.set(false, 10*time.Millisecond)
		lame := &lame{link: o.link}
		o.connectTo(lame, nil)
		o.put(70, keys...)
		o.start()
		time.Sleep(time.Minute)
		o.put(70, keys...)
		time.Sleep(time.Minute)
		before := o.status()
		require.ErrorIs(o, before.Err, braid.ErrThroughputExceeded)
		require.Positive(o, before.InFlight)
		require.NotEmpty(o, o.stored())
		require.NoError(o, o.forwarder.App().Pause(o.Context(), consumer.LeaseKey{}))
		time.Sleep(time.Minute)
		require.Zero(o, o.status().InFlight)
		lame.off.Store(true)
		require.NoError(o, o.forwarder.App().Resume(o.Context(), consumer.LeaseKey{}))
		o.caughtUp()
		require.NoError(o, o.stop())
		o.requireOnce()
	})
}

// With strict order, records of a throttled Kinesis shard hold back all others of their outbox
// shard, from the next batch on. With Fast the others continue.
func TestForwarderFastOrderHoldsBackNoOtherKey(t *testing.T) {
	most := make(map[bool]int) // how many of the minute's records are stored, by Fast
	for _, fast := range []bool{false, true} {
		inBubble(t, 1, 2, awskinesis.ForwarderOptions{Fast: fast}, func(o *outbox) {
			lame := &lame{link: o.link}
			o.connectTo(lame, nil)
			o.start()
			for range 60 {
				o.put(len(keys), keys...)
				time.Sleep(time.Second)
			}
			for _, data := range o.stored() {
				most[fast] += len(data)
			}
			lame.off.Store(true)
			o.caughtUp()
			require.NoError(o, o.stop())
			o.requireOnce()
		})
	}
	require.Equal(t, 60*lowerKeys(), most[true], "no key waits for another one")
	require.Equal(t, lowerKeys(), most[false], "the second batch waits for the first")
}

// lowerKeys returns the number of keys in the lower half.
func lowerKeys() (n int) {
	for _, key := range keys {
		if !isUpper(types.PutRecordsRequestEntry{PartitionKey: aws.String(key)}) {
			n++
		}
	}
	return n
}

func TestForwarderRunsOnce(t *testing.T) {
	inBubble(t, 1, 1, awskinesis.ForwarderOptions{}, func(o *outbox) {
		o.link.set(true, 0)
		o.put(7, keys...)
		o.start()
		synctest.Wait()
		err := o.forwarder.Run(o.Context())
		require.ErrorIs(o, err, braid.ErrInvalidArgument)
		require.ErrorContains(o, err, `awskinesis: forward "out": `)
		require.ErrorContains(o, err, "can be called only once")
		o.link.set(false, 0)
		o.caughtUp()
		f := o.forwarder
		require.NoError(o, o.stop())
		require.ErrorIs(o, f.Run(o.Context()), braid.ErrInvalidArgument, "a stop does not create it again")
		o.requireOnce()
	})
}

// After App.Seek the records are put again.
func TestForwarderPutsAgainWhatIsSought(t *testing.T) {
	inBubble(t, 1, 1, awskinesis.ForwarderOptions{}, func(o *outbox) {
		o.put(10, "a")
		o.start()
		o.caughtUp()
		require.NoError(o, o.forwarder.App().Seek(o.Context(), consumer.LeaseKey{}, braid.TrimHorizon()))
		o.caughtUp()
		require.NoError(o, o.stop())
		require.Equal(o, 10, o.requireAll())
	})
}

// A failure that affects all records, such as missing permissions, permanently refuses none.
func TestForwarderWaitsForPermissions(t *testing.T) {
	inBubble(t, 1, 2, awskinesis.ForwarderOptions{OnRefused: func(context.Context, braid.Record, error) error {
		return errors.New("was called")
	}}, func(o *outbox) {
		o.kit.Fail("PutRecords", 20, "AccessDeniedException")
		o.put(70, keys...)
		o.start()
		time.Sleep(time.Minute)
		require.ErrorContains(o, o.status().Err, "AccessDeniedException")
		o.caughtUp()
		require.NoError(o, o.stop())
		o.requireOnce()
	})
}

func TestForwarderHandsOnWhatKinesisRefuses(t *testing.T) {
	large := strings.Repeat("x", 2000)
	for name, maxRecordBytes := range map[string]int{"by the producer": 1000, "by the service": 0} {
		t.Run(name, func(t *testing.T) {
			var refused []string // written by the forwarder's goroutines; read after it stopped
			var mu sync.Mutex
			fails := 3
			opts := awskinesis.ForwarderOptions{OnRefused: func(_ context.Context, rec braid.Record, err error) error {
				mu.Lock()
				defer mu.Unlock()
				if fails--; fails == 1 {
					panic("by the hook")
				} else if fails >= 0 {
					return errors.New("not now")
				}
				refused = append(refused, fmt.Sprintln(rec.PartitionKey, len(rec.Data), errors.Is(err, braid.ErrInvalidArgument)))
				return nil
			}}
			inBoth(t, 2, 2, opts, func(o *outbox) {
				mu.Lock()
				refused, fails = nil, 3
				mu.Unlock()
				o.connect(&awskinesis.ProducerOptions{MaxRecordBytes: maxRecordBytes})
				orders, err := o.kit.DB().Stream("orders")
				require.NoError(o, err)
				require.NoError(o, orders.UpdateMaxRecordBytes(o.Context(), 1000))
				o.put(35, keys...)
				_, err = o.stream().PutRecord(o.Context(), "b", []byte(large))
				require.NoError(o, err)
				o.put(35, keys...)
				o.start()
				o.caughtUp()
				require.Equal(o, int64(1), o.status().Refused)
				require.NoError(o, o.stop())
				require.Equal(o, []string{"b 2000 true\n"}, refused)
				o.requireOnce()
			})
		})
	}
}

func TestForwarderPutsDeadLetters(t *testing.T) {
	inBoth(t, 1, 1, awskinesis.ForwarderOptions{DeadLetterStream: "dead"}, func(o *outbox) {
		o.connect(&awskinesis.ProducerOptions{MaxRecordBytes: 100})
		o.put(7, keys...)
		poison, err := o.stream().PutRecord(o.Context(), "b", []byte(strings.Repeat("x", 100)))
		require.NoError(o, err)
		o.put(7, keys...)
		o.start()
		time.Sleep(time.Minute)
		require.ErrorIs(o, o.status().Err, braid.ErrStreamNotFound, "the dead letter has to wait")
		dead, err := o.db.CreateStream(o.Context(), "dead", nil)
		require.NoError(o, err)
		o.caughtUp()
		require.NoError(o, o.stop())
		o.requireOnce()
		letters := 0
		for rec, err := range dead.Records(o.Context(), braid.TrimHorizon()) {
			require.NoError(o, err)
			var letter consumer.DeadLetter
			require.NoError(o, json.Unmarshal(rec.Data, &letter))
			require.Equal(o, poison.SequenceNumber, letter.SequenceNumber)
			require.Equal(o, "out", letter.Stream)
			require.Len(o, letter.Data, 100)
			require.Contains(o, letter.Error, "must be at most 100 bytes")
			letters++
		}
		require.Equal(o, 1, letters)
	})
}

// A refused record that nobody takes waits, with the later ones of its key, and the status reports
// it.
func TestForwarderHoldsWhatNobodyTakes(t *testing.T) {
	inBubble(t, 2, 1, awskinesis.ForwarderOptions{}, func(o *outbox) {
		o.connect(&awskinesis.ProducerOptions{MaxRecordBytes: 100})
		o.put(7, keys...)
		_, err := o.stream().PutRecord(o.Context(), "b", []byte(strings.Repeat("x", 100)))
		require.NoError(o, err)
		o.put(7, keys...)
		o.start()
		time.Sleep(time.Hour)
		status := o.status()
		require.ErrorIs(o, status.Err, braid.ErrInvalidArgument)
		require.Equal(o, int64(2), status.InFlight, "it and the next one")
		require.Equal(o, []string{"1"}, o.stored()["b"])
		require.Equal(o, []string{"1", "2"}, o.stored()["a"])
		require.NoError(o, o.stop())

		// The stream accepts it now, and this producer sends it.
		o.connect(nil)
		o.start()
		o.caughtUp()
		require.NoError(o, o.stop())
		require.Equal(o, []string{"1", strings.Repeat("x", 100), "2"}, o.stored()["b"])
		require.Equal(o, []string{"1", "2"}, o.stored()["a"])
	})
}

func TestForwarderEndsWithItsProducer(t *testing.T) {
	inBoth(t, 1, 1, awskinesis.ForwarderOptions{}, func(o *outbox) {
		o.start()
		o.put(1, "a")
		o.caughtUp()
		require.NoError(o, o.producer.Close(o.Context()))
		o.put(1, "a")
		began := time.Now()
		require.ErrorIs(o, <-o.ended, braid.ErrClosed)
		require.Less(o, time.Since(began), time.Second)
		o.ended = nil
	})
}

func TestForwarderOptionsAreChecked(t *testing.T) {
	inBubble(t, 1, 1, awskinesis.ForwarderOptions{}, func(o *outbox) {
		hook := func(context.Context, braid.Record, error) error { return nil }
		for _, row := range []struct {
			field string
			opts  awskinesis.ForwarderOptions
		}{
			{"App", awskinesis.ForwarderOptions{App: "a b"}},
			{"MaxBytes", awskinesis.ForwarderOptions{MaxBytes: -1}},
			{"MaxAge", awskinesis.ForwarderOptions{MaxAge: -1}},
			{"DropOldest", awskinesis.ForwarderOptions{DropOldest: true}},
			{"DeadLetterStream", awskinesis.ForwarderOptions{DeadLetterStream: "dead", OnRefused: hook}},
			{"DeadLetterStream", awskinesis.ForwarderOptions{DeadLetterStream: "out"}},
			{"DeadLetterStream", awskinesis.ForwarderOptions{DeadLetterStream: "a b"}},
			{"StopTimeout", awskinesis.ForwarderOptions{StopTimeout: -1}},
		} {
			_, err := awskinesis.NewForwarder(o.db, "out", o.producer, &row.opts)
			require.ErrorIs(o, err, braid.ErrInvalidArgument, row.field)
			require.ErrorContains(o, err, row.field)
		}
		_, err := awskinesis.NewForwarder(nil, "out", o.producer, nil)
		require.ErrorIs(o, err, braid.ErrInvalidArgument)
		_, err = awskinesis.NewForwarder(o.db, "out", nil, nil)
		require.ErrorIs(o, err, braid.ErrInvalidArgument)
		_, err = awskinesis.NewForwarder(o.db, "a b", o.producer, nil)
		require.ErrorIs(o, err, braid.ErrInvalidArgument)
		o.make()
		_, err = o.forwarder.Status(o.Context())
		require.ErrorIs(o, err, consumer.ErrAppNotFound)
	})
}

package sdktest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
)

// subscribeTo is the request of a subscription.
func subscribeTo(consumer, shard string, kind types.ShardIteratorType, change ...func(*types.StartingPosition)) *kinesis.SubscribeToShardInput {
	in := &kinesis.SubscribeToShardInput{ConsumerARN: &consumer, ShardId: &shard, StartingPosition: &types.StartingPosition{Type: kind}}
	for _, c := range change {
		c(in.StartingPosition)
	}
	return in
}

func startNumber(number *string) func(*types.StartingPosition) {
	return func(p *types.StartingPosition) { p.SequenceNumber = number }
}

func startTime(at time.Time) func(*types.StartingPosition) {
	return func(p *types.StartingPosition) { p.Timestamp = &at }
}

// feed is a subscription.
type feed struct {
	t      *testing.T
	stream *kinesis.SubscribeToShardEventStream
}

func (k *sdk) subscribe(consumer, shard string, kind types.ShardIteratorType, change ...func(*types.StartingPosition)) *feed {
	k.t.Helper()
	out, err := k.SubscribeToShard(k.ctx, subscribeTo(consumer, shard, kind, change...))
	require.NoError(k.t, err)
	f := &feed{k.t, out.GetStream()}
	k.t.Cleanup(func() { _ = f.stream.Close() })
	return f
}

// next waits for an event.
func (f *feed) next() types.SubscribeToShardEvent {
	f.t.Helper()
	event, ok := <-f.stream.Events()
	require.True(f.t, ok, "the subscription has ended: %v", f.stream.Err())
	return event.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent).Value
}

// end waits for the end, and returns its error.
func (f *feed) end() error {
	f.t.Helper()
	for range f.stream.Events() {
	}
	return f.stream.Err()
}

// close closes the subscription, and waits until the server knows.
func (f *feed) close(k *sdk) {
	_ = f.stream.Close()
	k.sleep(0)
}

func TestSDKSubscribeToShard(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		k.create("orders", 1)
		consumer := k.register("orders", "c")
		started := time.Now()
		f := k.subscribe(consumer, shard0, types.ShardIteratorTypeLatest)
		first := f.next()
		require.Zero(t, time.Since(started), "an event comes at once")
		require.Empty(t, first.Records)
		require.Empty(t, first.ChildShards)
		require.EqualValues(t, 0, *first.MillisBehindLatest)
		require.NotEmpty(t, *first.ContinuationSequenceNumber)

		k.sleep(2 * time.Second)
		put := k.put("orders", "a", "hello")
		event := f.next()
		require.Equal(t, 2*time.Second, time.Since(started), "a record is pushed at once")
		require.Equal(t, []string{"hello"}, texts(event.Records))
		require.Equal(t, "a", *event.Records[0].PartitionKey)
		require.Equal(t, *put.SequenceNumber, *event.Records[0].SequenceNumber)
		require.Equal(t, *put.SequenceNumber, *event.ContinuationSequenceNumber)
		require.Empty(t, event.Records[0].EncryptionType)

		idle := time.Now()
		event = f.next()
		require.Equal(t, 5*time.Second, time.Since(idle), "silence has its events")
		require.Empty(t, event.Records)
		require.Equal(t, *put.SequenceNumber, *event.ContinuationSequenceNumber)

		require.NoError(t, f.end())
		require.Equal(t, 5*time.Minute, time.Since(started))
	})
}

func TestSDKSubscribePositions(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 1)
		k.create("other", 2)
		consumer := k.register("orders", "c")
		created := time.Now()
		k.sleep(time.Second)
		var numbers []*string
		var times []time.Time
		for i := range 5 {
			numbers = append(numbers, k.put("orders", "a", fmt.Sprint(i)).SequenceNumber)
			times = append(times, time.Now())
			k.sleep(time.Second)
		}
		all := []string{"0", "1", "2", "3", "4"}
		for _, test := range []struct {
			want   []string
			kind   types.ShardIteratorType
			change func(*types.StartingPosition)
		}{
			{all, types.ShardIteratorTypeTrimHorizon, startNumber(nil)},
			{[]string{}, types.ShardIteratorTypeLatest, startNumber(nil)},
			{all[2:], types.ShardIteratorTypeAtSequenceNumber, startNumber(numbers[2])},
			{all[3:], types.ShardIteratorTypeAfterSequenceNumber, startNumber(numbers[2])},
			{all, types.ShardIteratorTypeAtSequenceNumber, startNumber(k.shards("orders")[0].SequenceNumberRange.StartingSequenceNumber)},
			{all[2:], types.ShardIteratorTypeAtTimestamp, startTime(times[2])},
			{all, types.ShardIteratorTypeAtTimestamp, startTime(created.Add(-1000 * time.Hour))},
			{[]string{}, types.ShardIteratorTypeAtTimestamp, startTime(time.Now())},
		} {
			f := k.subscribe(consumer, shard0, test.kind, test.change)
			event := f.next()
			require.Equal(t, test.want, texts(event.Records), "%v", test)
			f.close(k)

			// Whatever the first event was, its number is where to go on.
			f = k.subscribe(consumer, shard0, types.ShardIteratorTypeAfterSequenceNumber, startNumber(event.ContinuationSequenceNumber))
			require.Empty(t, f.next().Records, "%v", test)
			f.close(k)
		}
		fails := func(change func(*kinesis.SubscribeToShardInput)) error {
			in := subscribeTo(consumer, shard0, types.ShardIteratorTypeLatest)
			change(in)
			_, err := k.SubscribeToShard(k.ctx, in)
			return err
		}
		failsWith[errNotFound](t, fails(func(in *kinesis.SubscribeToShardInput) { in.ConsumerARN = aws.String(arn + "/consumer/absent:1") }), "Consumer absent")
		failsWith[errNotFound](t, fails(func(in *kinesis.SubscribeToShardInput) { in.ShardId = aws.String("first") }), "Could not find shard first")
		failsWith[errNotFound](t, fails(func(in *kinesis.SubscribeToShardInput) { in.ShardId = aws.String(shard1) }), "does not exist")
		failsWith[errArgument](t, fails(func(in *kinesis.SubscribeToShardInput) {
			in.StartingPosition = &types.StartingPosition{Type: types.ShardIteratorTypeAtSequenceNumber, SequenceNumber: k.shards("other")[1].SequenceNumberRange.StartingSequenceNumber}
		}), "It encodes shardId-000000000001, while it was used in a call to a shard with shardId-000000000000")
		failsWith[errArgument](t, fails(func(in *kinesis.SubscribeToShardInput) {
			in.StartingPosition = &types.StartingPosition{Type: types.ShardIteratorTypeAtSequenceNumber}
		}), "and no StartingSequenceNumber.")
		failsWith[errArgument](t, fails(func(in *kinesis.SubscribeToShardInput) {
			in.StartingPosition = &types.StartingPosition{Type: types.ShardIteratorTypeAtTimestamp, Timestamp: aws.Time(time.Now().Add(time.Hour))}
		}), "cannot be greater than the currentTimestampInMillis")
	})
}

// TestSDKSubscribeResume repeatedly stops a subscriber at any point and resumes after its
// last number, while records arrive.
func TestSDKSubscribeResume(t *testing.T) {
	for seed := range uint64(10) {
		inBubble(t, nil, func(t *testing.T, k *sdk) {
			random := rand.New(rand.NewPCG(seed, 1))
			k.create("orders", 1)
			consumer := k.register("orders", "c")
			begin := time.Now()
			k.sleep(time.Duration(random.IntN(2000)) * time.Millisecond)
			kinds := []types.ShardIteratorType{types.ShardIteratorTypeTrimHorizon, types.ShardIteratorTypeLatest, types.ShardIteratorTypeAtTimestamp}
			kind := kinds[random.IntN(len(kinds))]
			const total = 200
			delays := make([]time.Duration, total)
			for i := range delays {
				switch random.IntN(4) {
				case 0:
					delays[i] = time.Duration(random.IntN(7000)) * time.Millisecond
				case 1:
					delays[i] = time.Duration(random.IntN(1000)) * time.Microsecond
				}
			}
			var producer sync.WaitGroup
			defer producer.Wait()
			f := k.subscribe(consumer, shard0, kind, func(p *types.StartingPosition) {
				if kind == types.ShardIteratorTypeAtTimestamp {
					p.Timestamp = &begin
				}
			})
			producer.Go(func() {
				for i, d := range delays {
					time.Sleep(d)
					k.put("orders", "a", fmt.Sprint(i))
				}
			})
			got := 0
			var last *string
			for got < total {
				for range random.IntN(5) {
					event, ok := <-f.stream.Events()
					if !ok { // after 5 minutes
						require.NoError(t, f.stream.Err())
						break
					}
					value := event.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent).Value
					for _, r := range value.Records {
						require.Equal(t, fmt.Sprint(got), string(r.Data), "seed %d", seed)
						got++
					}
					if last != nil {
						require.GreaterOrEqual(t, number(value.ContinuationSequenceNumber).Cmp(number(last)), 0)
					}
					last = value.ContinuationSequenceNumber
				}
				if last == nil {
					continue
				}
				f.close(k)
				k.sleep(time.Duration(random.IntN(3)) * time.Second)
				f = k.subscribe(consumer, shard0, types.ShardIteratorTypeAfterSequenceNumber, startNumber(last))
			}
			f.close(k)
		})
	}
}

// TestSDKSubscribeShardEnd: the last event of a closed shard has its children and no
// ContinuationSequenceNumber.
func TestSDKSubscribeShardEnd(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 1)
		one, two := k.register("orders", "one"), k.register("orders", "two")
		put := k.put("orders", "a", "last")
		f := k.subscribe(one, shard0, types.ShardIteratorTypeTrimHorizon)
		require.Equal(t, []string{"last"}, texts(f.next().Records))
		_, err := k.SplitShard(k.ctx, &kinesis.SplitShardInput{StreamARN: &arn, ShardToSplit: aws.String(shard0), NewStartingHashKey: aws.String("1000")})
		require.NoError(t, err)

		ends := func(f *feed) {
			t.Helper()
			event := f.next()
			require.Nil(t, event.ContinuationSequenceNumber)
			require.Len(t, event.ChildShards, 2)
			require.NoError(t, tileRanges([]*types.HashKeyRange{event.ChildShards[0].HashKeyRange, event.ChildShards[1].HashKeyRange}))
			for _, child := range event.ChildShards {
				require.Equal(t, []string{shard0}, child.ParentShards)
			}
			require.NoError(t, f.end())
		}
		ends(f)
		ends(k.subscribe(two, shard0, types.ShardIteratorTypeLatest))
		k.sleep(0)
		ends(k.subscribe(two, shard0, types.ShardIteratorTypeAfterSequenceNumber, startNumber(put.SequenceNumber)))
		k.sleep(0)

		// Both parents of a merge lead to the child.
		third, fourth := "shardId-000000000001", "shardId-000000000002"
		_, err = k.MergeShards(k.ctx, &kinesis.MergeShardsInput{StreamARN: &arn, ShardToMerge: &third, AdjacentShardToMerge: &fourth})
		require.NoError(t, err)
		for _, parent := range []string{third, fourth} {
			event := k.subscribe(one, parent, types.ShardIteratorTypeLatest).next()
			require.Nil(t, event.ContinuationSequenceNumber)
			require.Len(t, event.ChildShards, 1)
			require.Equal(t, []string{third, fourth}, event.ChildShards[0].ParentShards)
		}
	})
}

// A stream that is UPDATING can be subscribed to, and a subscription continues through the change.
func TestSDKSubscribeWhileUpdating(t *testing.T) {
	inBubble(t, &kinesisapi.Options{UpdateDelay: 8 * time.Second}, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 1)
		one, two := k.register("orders", "one"), k.register("orders", "two")
		before := k.subscribe(one, shard0, types.ShardIteratorTypeLatest)
		before.next()
		started := time.Now()
		_, err := k.SplitShard(k.ctx, &kinesis.SplitShardInput{StreamARN: &arn, ShardToSplit: aws.String(shard0), NewStartingHashKey: aws.String("1000")})
		require.NoError(t, err)
		during := k.subscribe(two, shard0, types.ShardIteratorTypeLatest)
		during.next()
		k.put("orders", "a", "meanwhile")
		for _, f := range []*feed{before, during} {
			require.Equal(t, []string{"meanwhile"}, texts(f.next().Records))
		}
		for _, f := range []*feed{before, during} {
			event := f.next()
			for event.ContinuationSequenceNumber != nil {
				require.Empty(t, event.Records)
				event = f.next()
			}
			require.Len(t, event.ChildShards, 2)
			require.NoError(t, f.end())
		}
		require.Equal(t, 8*time.Second, time.Since(started))
	})
}

// TestSDKSubscribeTakeover: a subscription keeps its place for 5 seconds.
func TestSDKSubscribeTakeover(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		k.create("orders", 2)
		consumer, other := k.register("orders", "c"), k.register("orders", "d")
		old := k.subscribe(consumer, shard0, types.ShardIteratorTypeLatest)
		old.next()
		again := func() error {
			_, err := k.SubscribeToShard(k.ctx, subscribeTo(consumer, shard0, types.ShardIteratorTypeLatest))
			return err
		}
		const text = "Another active subscription exists for this consumer: 000000000000:orders:shardId-000000000000:c"
		failsWith[errInUse](t, again(), text)
		k.sleep(5*time.Second - 1)
		failsWith[errInUse](t, again(), text)

		// This does not affect other consumers and other shards.
		for _, f := range []*feed{k.subscribe(other, shard0, types.ShardIteratorTypeLatest), k.subscribe(consumer, shard1, types.ShardIteratorTypeLatest)} {
			f.next()
		}
		k.sleep(1)
		young := k.subscribe(consumer, shard0, types.ShardIteratorTypeLatest)
		failsWith[errInUse](t, old.end(), text)
		young.next()
		put, err := k.PutRecord(k.ctx, &kinesis.PutRecordInput{StreamName: aws.String("orders"), PartitionKey: aws.String("a"), Data: []byte("x"), ExplicitHashKey: aws.String("0")})
		require.NoError(t, err)
		require.Equal(t, *put.SequenceNumber, *young.next().ContinuationSequenceNumber)

		// A subscription that has ended keeps no place.
		young.close(k)
		k.subscribe(consumer, shard0, types.ShardIteratorTypeLatest).next()
	})
}

// TestSDKSubscribeGone: the consumer or stream of an open subscription may be deleted.
func TestSDKSubscribeGone(t *testing.T) {
	inBubble(t, &kinesisapi.Options{DeleteDelay: time.Minute}, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 2)
		one, two := k.register("orders", "one"), k.register("orders", "two")
		ofOne, ofTwo := k.subscribe(one, shard0, types.ShardIteratorTypeLatest), k.subscribe(two, shard0, types.ShardIteratorTypeLatest)
		ofOne.next()
		ofTwo.next()
		_, err := k.DeregisterStreamConsumer(k.ctx, &kinesis.DeregisterStreamConsumerInput{ConsumerARN: &one})
		require.NoError(t, err)
		started := time.Now()
		failsWith[errNotFound](t, ofOne.end(), "Consumer one, account 000000000000 not found.")
		require.Equal(t, time.Minute, time.Since(started), "when it is gone")

		_, err = k.DeleteStream(k.ctx, &kinesis.DeleteStreamInput{StreamARN: &arn, EnforceConsumerDeletion: aws.Bool(true)})
		require.NoError(t, err)
		failsWith[errNotFound](t, ofTwo.end(), "Stream orders under account 000000000000 not found.")
	})
}

// Close ends all subscriptions, even if a subscriber does not read. A subscriber that disconnects
// leaves nothing behind.
func TestSDKSubscribeClose(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		k.create("orders", 2)
		consumer := k.register("orders", "c")
		reading := k.subscribe(consumer, shard0, types.ShardIteratorTypeLatest)
		reading.next()
		k.subscribe(consumer, shard1, types.ShardIteratorTypeLatest) // and nobody reads
		k.sleep(time.Minute)
		started := time.Now()
		k.server.Close()
		require.Zero(t, time.Since(started))
		require.NoError(t, reading.end())
		k.put("orders", "a", "requests are answered as before")

		in := subscribeTo(consumer, shard0, types.ShardIteratorTypeLatest)
		out, err := k.SubscribeToShard(k.ctx, in)
		if err == nil { // then it ends as soon as it has begun
			require.NoError(t, (&feed{t, out.GetStream()}).end())
		}
		require.Zero(t, time.Since(started))
	})
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		k.create("orders", 1)
		consumer := k.register("orders", "c")
		ctx, cancel := context.WithCancel(k.ctx)
		out, err := k.SubscribeToShard(ctx, subscribeTo(consumer, shard0, types.ShardIteratorTypeLatest))
		require.NoError(t, err)
		f := &feed{t, out.GetStream()}
		f.next()
		cancel()
		k.sleep(0)
		k.subscribe(consumer, shard0, types.ShardIteratorTypeLatest).next() // the place is free
		require.ErrorIs(t, f.end(), context.Canceled)
	})
}

// TestSDKSubscribeRate: with exact limits, a subscriber gets 2 MiB a second.
func TestSDKSubscribeRate(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		k.create("orders", 1)
		consumer := k.register("orders", "c")
		for range 20 {
			k.put("orders", "a", string(make([]byte, 1<<20-1)))
		}
		read := func(server *kinesisapi.Server) time.Duration {
			client := *k
			client.Client = sdkClient(server.Client(), "AKIA", "us-east-1")
			started := time.Now()
			f := client.subscribe(consumer, shard0, types.ShardIteratorTypeTrimHorizon)
			defer f.close(k)
			for n := 0; n < 20; {
				n += len(f.next().Records)
			}
			return time.Since(started)
		}
		require.Zero(t, read(k.server), "as fast as it can")
		exact, err := kinesisapi.New(k.db, &kinesisapi.Options{ExactLimits: true})
		require.NoError(t, err)
		defer exact.Close()
		require.InDelta(t, 9500, read(exact).Milliseconds(), 600)
	})
}

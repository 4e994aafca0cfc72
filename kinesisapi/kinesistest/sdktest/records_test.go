package sdktest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

const shard0, shard1 = "shardId-000000000000", "shardId-000000000001"

func TestSDKPutRecord(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 2)
		first := k.put("orders", "a", "hello")
		require.Empty(t, first.EncryptionType)
		second, err := k.PutRecord(k.ctx, &kinesis.PutRecordInput{
			StreamARN: &arn, PartitionKey: aws.String("a"), Data: []byte{}, SequenceNumberForOrdering: first.SequenceNumber,
		})
		require.NoError(t, err)
		require.Equal(t, *first.ShardId, *second.ShardId)
		require.Positive(t, number(second.SequenceNumber).Cmp(number(first.SequenceNumber)))
		out := k.get(k.iterator("orders", *first.ShardId, types.ShardIteratorTypeTrimHorizon))
		require.Len(t, out.Records, 2, "a put can be read at once")
		r := out.Records[0]
		require.Equal(t, "hello", string(r.Data))
		require.Equal(t, "a", *r.PartitionKey)
		require.Equal(t, *first.SequenceNumber, *r.SequenceNumber)
		require.Empty(t, r.EncryptionType)
		require.WithinDuration(t, time.Now(), *r.ApproximateArrivalTimestamp, time.Second)
		require.Empty(t, out.Records[1].Data)

		// The shard is that of the key's hash, or of the explicit hash key.
		for i := range 20 {
			key := fmt.Sprint("key ", i)
			hash := braid.HashKeyOf(key).String()
			requireOwns(t, k.shards("orders"), *k.put("orders", key, "x").ShardId, hash)
			other := braid.HashKeyOf(key + " other").String()
			placed, err := k.PutRecord(k.ctx, &kinesis.PutRecordInput{StreamARN: &arn, PartitionKey: &key, Data: []byte("x"), ExplicitHashKey: &other})
			require.NoError(t, err)
			requireOwns(t, k.shards("orders"), *placed.ShardId, other)
		}

		put := func(change func(*kinesis.PutRecordInput)) error {
			in := &kinesis.PutRecordInput{StreamARN: &arn, PartitionKey: aws.String("a"), Data: []byte("x")}
			change(in)
			_, err := k.PutRecord(k.ctx, in)
			return err
		}
		failsWith[errArgument](t, put(func(in *kinesis.PutRecordInput) {
			in.ExplicitHashKey = aws.String("340282366920938463463374607431768211456")
		}), "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was 340282366920938463463374607431768211456")
		failsWith[errArgument](t, put(func(in *kinesis.PutRecordInput) {
			in.SequenceNumberForOrdering = aws.String("123456789012345678901234567890123456789012345678")
		}), "ExclusiveMinimumSequenceNumber")
		failsWith[errValidation](t, put(func(in *kinesis.PutRecordInput) { in.PartitionKey = aws.String(string(make([]byte, 257))) }), "")
		failsWith[errValidation](t, put(func(in *kinesis.PutRecordInput) { in.PartitionKey = nil }), "partitionKey")
		failsWith[errValidation](t, put(func(in *kinesis.PutRecordInput) { in.ExplicitHashKey = aws.String("-1") }), "")
		failsWith[errNotFound](t, put(func(in *kinesis.PutRecordInput) { in.StreamARN = aws.String(arnOf("absent")) }), "Stream absent under account 000000000000 not found.")
	})
}

// requireOwns checks that a shard's range holds a hash key.
func requireOwns(t *testing.T, shards []types.Shard, id, hash string) {
	t.Helper()
	for _, sh := range shards {
		if *sh.ShardId == id {
			require.GreaterOrEqual(t, number(&hash).Cmp(number(sh.HashKeyRange.StartingHashKey)), 0)
			require.LessOrEqual(t, number(&hash).Cmp(number(sh.HashKeyRange.EndingHashKey)), 0)
			return
		}
	}
	t.Fatalf("no shard %s", id)
}

func TestSDKPutRecords(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 2)
		entries := func(n, bytes int) []types.PutRecordsRequestEntry {
			list := make([]types.PutRecordsRequestEntry, n)
			for i := range list {
				list[i] = types.PutRecordsRequestEntry{PartitionKey: aws.String(fmt.Sprint("key ", i)), Data: append(make([]byte, bytes), fmt.Sprint(i)...)}
			}
			return list
		}
		put := func(list []types.PutRecordsRequestEntry) (*kinesis.PutRecordsOutput, error) {
			return k.PutRecords(k.ctx, &kinesis.PutRecordsInput{StreamARN: &arn, Records: list})
		}
		list := entries(500, 0)
		out, err := put(list)
		require.NoError(t, err)
		require.EqualValues(t, 0, *out.FailedRecordCount)
		require.Empty(t, out.EncryptionType)
		require.Len(t, out.Records, 500)
		place := make(map[string]string)
		for i, r := range out.Records {
			require.Nil(t, r.ErrorCode)
			require.Nil(t, r.ErrorMessage)
			requireOwns(t, k.describe("orders").Shards, *r.ShardId, braid.HashKeyOf(*list[i].PartitionKey).String())
			place[*r.SequenceNumber] = string(list[i].Data)
		}
		read := 0
		for _, shard := range []string{shard0, shard1} {
			last := -1
			for _, r := range k.get(k.iterator("orders", shard, types.ShardIteratorTypeTrimHorizon)).Records {
				require.Equal(t, place[*r.SequenceNumber], string(r.Data))
				var index int
				_, err := fmt.Sscan(string(r.Data), &index)
				require.NoError(t, err)
				require.Greater(t, index, last, "a shard keeps their order")
				last = index
				read++
			}
		}
		require.Equal(t, 500, read)

		// A fault of one entry is a fault of the request.
		bad := entries(3, 0)
		bad[1].ExplicitHashKey = aws.String("340282366920938463463374607431768211456")
		_, err = put(bad)
		failsWith[errArgument](t, err, "Invalid ExplicitHashKey.")
		bad = entries(3, 0)
		bad[1].Data = make([]byte, 1<<20)
		_, err = put(bad)
		failsWith[errValidation](t, err, "at 'records.2.member.data' failed to satisfy constraint: Member must have length less than or equal to 1048576")
		bad = entries(3, 0)
		bad[2].PartitionKey = nil
		_, err = put(bad)
		failsWith[errValidation](t, err, "records.3.member.partitionKey")
		_, err = put(entries(11, 1<<20-100))
		failsWith[errArgument](t, err, "Records size exceeds 10 MB limit")
		_, err = put(entries(501, 0))
		failsWith[errValidation](t, err, "Member must have length less than or equal to 500")
		_, err = put([]types.PutRecordsRequestEntry{})
		failsWith[errValidation](t, err, "Member must have length greater than or equal to 1")
		total := 0
		for _, shard := range []string{shard0, shard1} {
			total += len(k.get(k.iterator("orders", shard, types.ShardIteratorTypeTrimHorizon)).Records)
		}
		require.Equal(t, 500, total, "nothing of a refused request is put")
		_, err = put(entries(9, 1<<20-100))
		require.NoError(t, err)
	})
}

func TestSDKGetShardIterator(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		k.create("orders", 1)
		k.create("other", 2)
		empty := k.iterator("orders", shard0, types.ShardIteratorTypeLatest)
		created := time.Now()
		k.sleep(time.Second)
		var numbers []*string
		var times []time.Time
		for i := range 5 {
			numbers = append(numbers, k.put("orders", "a", fmt.Sprint(i)).SequenceNumber)
			times = append(times, time.Now())
			k.sleep(time.Second)
		}
		from := func(kind types.ShardIteratorType, change ...func(*kinesis.GetShardIteratorInput)) []string {
			t.Helper()
			return texts(k.get(k.iterator("orders", shard0, kind, change...)).Records)
		}
		all := []string{"0", "1", "2", "3", "4"}
		require.Equal(t, all, texts(k.get(empty).Records))
		require.Equal(t, all, from(types.ShardIteratorTypeTrimHorizon))
		require.Equal(t, all[2:], from(types.ShardIteratorTypeAtSequenceNumber, atNumber(numbers[2])))
		require.Equal(t, all[3:], from(types.ShardIteratorTypeAfterSequenceNumber, atNumber(numbers[2])))
		require.Equal(t, all[2:], from(types.ShardIteratorTypeAtTimestamp, atTime(times[2])))
		require.Equal(t, all[3:], from(types.ShardIteratorTypeAtTimestamp, atTime(times[2].Add(time.Millisecond))))
		require.Equal(t, all, from(types.ShardIteratorTypeAtTimestamp, atTime(created.Add(-1000*time.Hour))))
		require.Empty(t, from(types.ShardIteratorTypeAtTimestamp, atTime(time.Now())))

		// The shard's own first number belongs to no record.
		starting := k.shards("orders")[0].SequenceNumberRange.StartingSequenceNumber
		require.Equal(t, all, from(types.ShardIteratorTypeAtSequenceNumber, atNumber(starting)))
		require.Equal(t, all, from(types.ShardIteratorTypeAfterSequenceNumber, atNumber(starting)))

		// LATEST is the tip at the time of the call, and AT_TIMESTAMP waits for later records.
		latest := k.iterator("orders", shard0, types.ShardIteratorTypeLatest)
		soon := k.iterator("orders", shard0, types.ShardIteratorTypeAtTimestamp, atTime(time.Now()))
		k.put("orders", "a", "new")
		require.Equal(t, []string{"new"}, texts(k.get(latest).Records))
		require.Equal(t, []string{"new"}, texts(k.get(soon).Records))
		require.Equal(t, []string{"new"}, texts(k.get(latest).Records), "it can be used again")
		require.NotEqual(t, *k.iterator("orders", shard0, types.ShardIteratorTypeLatest), *k.iterator("orders", shard0, types.ShardIteratorTypeLatest))
		require.Equal(t, []string{"new"}, texts(k.get(k.iterator("orders", "shardId-0", types.ShardIteratorTypeAtSequenceNumber, atNumber(k.get(latest).Records[0].SequenceNumber))).Records))

		fails := func(change func(*kinesis.GetShardIteratorInput)) error {
			in := &kinesis.GetShardIteratorInput{StreamName: aws.String("orders"), ShardId: aws.String(shard0), ShardIteratorType: types.ShardIteratorTypeLatest}
			change(in)
			_, err := k.GetShardIterator(k.ctx, in)
			return err
		}
		failsWith[errNotFound](t, fails(func(in *kinesis.GetShardIteratorInput) { in.ShardId = aws.String("first") }),
			"Could not find shard first in stream orders under account 000000000000.")
		failsWith[errNotFound](t, fails(func(in *kinesis.GetShardIteratorInput) { in.ShardId = aws.String(shard1) }),
			"Shard shardId-000000000001 in stream orders under account 000000000000 does not exist")
		failsWith[errNotFound](t, fails(func(in *kinesis.GetShardIteratorInput) { in.StreamName = aws.String("absent") }),
			"Shard shardId-000000000000 in stream absent under account 000000000000 does not exist")
		failsWith[errArgument](t, fails(func(in *kinesis.GetShardIteratorInput) { in.StartingSequenceNumber = numbers[0] }),
			"Request specified LATEST and also a StartingSequenceNumber.")
		failsWith[errArgument](t, fails(func(in *kinesis.GetShardIteratorInput) {
			in.ShardIteratorType = types.ShardIteratorTypeAtSequenceNumber
		}),
			"Request specified AT_SEQUENCE_NUMBER and no StartingSequenceNumber.")
		failsWith[errArgument](t, fails(func(in *kinesis.GetShardIteratorInput) { in.ShardIteratorType = types.ShardIteratorTypeAtTimestamp }),
			"Must specify timestampInMillis parameter")
		failsWith[errArgument](t, fails(func(in *kinesis.GetShardIteratorInput) {
			in.ShardIteratorType, in.Timestamp = types.ShardIteratorTypeAtTimestamp, aws.Time(time.Now().Add(time.Second))
		}), "cannot be greater than the currentTimestampInMillis")
		failsWith[errValidation](t, fails(func(in *kinesis.GetShardIteratorInput) { in.ShardIteratorType = "SOMEWHERE" }),
			"Member must satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]")
		at := func(n *string) func(*kinesis.GetShardIteratorInput) {
			return func(in *kinesis.GetShardIteratorInput) {
				in.ShardIteratorType, in.StartingSequenceNumber = types.ShardIteratorTypeAtSequenceNumber, n
			}
		}
		others := k.shards("other")
		failsWith[errArgument](t, fails(at(others[1].SequenceNumberRange.StartingSequenceNumber)),
			"Invalid StartingSequenceNumber. It encodes shardId-000000000001, while it was used in a call to a shard with shardId-000000000000")
		k.sleep(2 * time.Second)
		k.create("later", 1)
		failsWith[errArgument](t, fails(at(k.shards("later")[0].SequenceNumberRange.StartingSequenceNumber)),
			"is invalid because it did not come from this stream.")
		failsWith[errArgument](t, fails(at(aws.String("99999999999999999999999999999999999999999999999999999999999999"))), "is invalid.")
	})
}

func TestSDKGetRecords(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 1)
		var all []string
		for i := range 25 {
			all = append(all, fmt.Sprint(i))
			k.put("orders", "a", all[i])
			k.sleep(time.Second)
		}
		start := k.iterator("orders", shard0, types.ShardIteratorTypeTrimHorizon)
		var read []string
		for it := start; ; {
			out, err := k.GetRecords(k.ctx, &kinesis.GetRecordsInput{ShardIterator: it, Limit: aws.Int32(10), StreamARN: &arn})
			require.NoError(t, err)
			read = append(read, texts(out.Records)...)
			require.NotNil(t, out.NextShardIterator)
			require.Empty(t, out.ChildShards)
			if len(read) < len(all) {
				require.Len(t, out.Records, 10)
				require.EqualValues(t, (25-len(read))*1000, *out.MillisBehindLatest, "the age of the next record")
			} else {
				require.EqualValues(t, 0, *out.MillisBehindLatest)
			}
			it = out.NextShardIterator
			if len(out.Records) == 0 {
				break
			}
		}
		require.Equal(t, all, read)

		// An answer has 10 MiB at most.
		big := make([]byte, 1<<20-1)
		for range 12 {
			k.put("orders", "a", string(big))
		}
		out := k.get(start)
		bytes := 0
		for _, r := range out.Records {
			bytes += len(r.Data) + len(*r.PartitionKey)
		}
		require.LessOrEqual(t, bytes, 10<<20)
		require.Greater(t, bytes, 9<<20)
		require.Len(t, k.get(out.NextShardIterator).Records, 25+12-len(out.Records))

		get := func(change func(*kinesis.GetRecordsInput)) error {
			in := &kinesis.GetRecordsInput{ShardIterator: start}
			change(in)
			_, err := k.GetRecords(k.ctx, in)
			return err
		}
		failsWith[errArgument](t, get(func(in *kinesis.GetRecordsInput) { in.ShardIterator = aws.String("made up") }), "Invalid ShardIterator.")
		failsWith[errArgument](t, get(func(in *kinesis.GetRecordsInput) { in.StreamARN = aws.String(arnOf("other")) }), "")
		failsWith[errValidation](t, get(func(in *kinesis.GetRecordsInput) { in.Limit = aws.Int32(10001) }),
			"Value '10001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000")
		fresh := k.iterator("orders", shard0, types.ShardIteratorTypeTrimHorizon)
		k.sleep(299 * time.Second)
		k.get(fresh)
		k.sleep(time.Second)
		_, err := k.GetRecords(k.ctx, &kinesis.GetRecordsInput{ShardIterator: fresh})
		failsWith[*types.ExpiredIteratorException](t, err, "which is further in the future than the tolerated delay of 300000 milliseconds.")
	})
}

// TestSDKClosedShard reads shards to their end, where the answer names the children.
func TestSDKClosedShard(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 2)
		zero, err := k.PutRecord(k.ctx, &kinesis.PutRecordInput{StreamARN: &arn, PartitionKey: aws.String("a"), Data: []byte("x"), ExplicitHashKey: aws.String("0")})
		require.NoError(t, err)
		before := k.iterator("orders", shard0, types.ShardIteratorTypeLatest)
		_, err = k.SplitShard(k.ctx, &kinesis.SplitShardInput{StreamARN: &arn, ShardToSplit: aws.String(shard0), NewStartingHashKey: aws.String("1000")})
		require.NoError(t, err)
		require.Equal(t, shard0, *zero.ShardId)
		ending := k.shards("orders")[0].SequenceNumberRange.EndingSequenceNumber
		require.NotNil(t, ending)
		end := func(it *string, children int, parents ...string) {
			t.Helper()
			out := k.get(it)
			for out.NextShardIterator != nil {
				out = k.get(out.NextShardIterator)
			}
			require.Len(t, out.ChildShards, children)
			for _, child := range out.ChildShards {
				require.Equal(t, parents, child.ParentShards)
			}
		}
		end(before, 2, shard0)
		end(k.iterator("orders", shard0, types.ShardIteratorTypeTrimHorizon), 2, shard0)
		end(k.iterator("orders", shard0, types.ShardIteratorTypeAfterSequenceNumber, atNumber(zero.SequenceNumber)), 2, shard0)
		end(k.iterator("orders", shard0, types.ShardIteratorTypeAtSequenceNumber, atNumber(ending)), 2, shard0)

		// LATEST of a closed shard is its end, and the first answer says so.
		out := k.get(k.iterator("orders", shard0, types.ShardIteratorTypeLatest))
		require.Nil(t, out.NextShardIterator)
		require.Empty(t, out.Records)
		require.EqualValues(t, 0, *out.MillisBehindLatest)
		require.Equal(t, "shardId-000000000002", *out.ChildShards[0].ShardId)
		require.Equal(t, "0", *out.ChildShards[0].HashKeyRange.StartingHashKey)
		require.Equal(t, "999", *out.ChildShards[0].HashKeyRange.EndingHashKey)
		require.Equal(t, "shardId-000000000003", *out.ChildShards[1].ShardId)

		// Both parents of a merge lead to the one child.
		_, err = k.MergeShards(k.ctx, &kinesis.MergeShardsInput{StreamARN: &arn, ShardToMerge: aws.String("shardId-000000000003"), AdjacentShardToMerge: aws.String(shard1)})
		require.NoError(t, err)
		for _, parent := range []string{"shardId-000000000003", shard1} {
			end(k.iterator("orders", parent, types.ShardIteratorTypeTrimHorizon), 1, "shardId-000000000003", shard1)
		}

		// When its records have expired, so has the shard.
		k.sleep(25 * time.Hour)
		require.Equal(t, []string{"shardId-000000000002", "shardId-000000000004"}, shardIDs(k.shards("orders")))
		_, err = k.GetShardIterator(k.ctx, &kinesis.GetShardIteratorInput{StreamARN: &arn, ShardId: aws.String(shard0), ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
		failsWith[errNotFound](t, err, "")
		require.Equal(t, shard1, *k.shards("orders")[1].AdjacentParentShardId, "the links stay")
	})
}

// TestSDKDryRun: the five operations check as they always do, and do nothing.
func TestSDKDryRun(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		k.create("orders", 1)
		consumer := k.register("orders", "c")
		it := k.iterator("orders", shard0, types.ShardIteratorTypeTrimHorizon)
		yes := aws.Bool(true)
		putOne := func(name string) error {
			_, err := k.PutRecord(k.ctx, &kinesis.PutRecordInput{StreamName: &name, PartitionKey: aws.String("a"), Data: []byte("x"), DryRun: yes})
			return err
		}
		putMany := func(name string) error {
			_, err := k.PutRecords(k.ctx, &kinesis.PutRecordsInput{StreamName: &name, DryRun: yes, Records: []types.PutRecordsRequestEntry{{PartitionKey: aws.String("a"), Data: []byte("x")}}})
			return err
		}
		iterator := func(name string) error {
			_, err := k.GetShardIterator(k.ctx, &kinesis.GetShardIteratorInput{StreamName: &name, ShardId: aws.String(shard0), ShardIteratorType: types.ShardIteratorTypeLatest, DryRun: yes})
			return err
		}
		for _, call := range []func(string) error{putOne, putMany, iterator} {
			failsWith[errDryRun](t, call("orders"), "The request would have succeeded")
			failsWith[errNotFound](t, call("absent"), "")
		}
		_, err := k.GetRecords(k.ctx, &kinesis.GetRecordsInput{ShardIterator: it, DryRun: yes})
		failsWith[errDryRun](t, err, "")
		_, err = k.GetRecords(k.ctx, &kinesis.GetRecordsInput{ShardIterator: aws.String("made up"), DryRun: yes})
		failsWith[errArgument](t, err, "")
		subscribe := &kinesis.SubscribeToShardInput{
			ConsumerARN: &consumer, ShardId: aws.String(shard0), DryRun: yes, StartingPosition: &types.StartingPosition{Type: types.ShardIteratorTypeLatest},
		}
		_, err = k.SubscribeToShard(k.ctx, subscribe)
		failsWith[errDryRun](t, err, "")
		subscribe.ShardId = aws.String(shard1)
		_, err = k.SubscribeToShard(k.ctx, subscribe)
		failsWith[errNotFound](t, err, "")
		require.Empty(t, k.get(it).Records, "nothing was put")
	})
}

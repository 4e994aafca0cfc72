package kinesisapi_test

import (
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
)

// refusal is a refused request and the text of its error.
type refusal struct{ errorType, message, operation, body string }

func (r *rig) refuses(refusals ...refusal) {
	r.t.Helper()
	for _, f := range refusals {
		a := r.call(f.operation, f.body)
		r.isError(a, f.errorType, f.message)
	}
}

const (
	notFound     = "ResourceNotFoundException"
	inUse        = "ResourceInUseException"
	invalid      = "InvalidArgumentException"
	limit        = "LimitExceededException"
	validation   = "ValidationException"
	throughput   = "ProvisionedThroughputExceededException"
	in           = " in stream s under account " + account
	streamsUnder = "Stream s under account " + account
	noStream     = "Stream x under account " + account + " not found."
)

// create makes a stream and returns the starting sequence numbers of its shards.
func (r *rig) create(name string, shards int) (numbers []string) {
	r.t.Helper()
	r.doesf("CreateStream", `{"StreamName":%q,"ShardCount":%d}`, name, shards)
	for _, sh := range r.doesf("ListShards", `{"StreamName":%q}`, name)["Shards"].([]any) {
		numbers = append(numbers, sh.(map[string]any)["SequenceNumberRange"].(map[string]any)["StartingSequenceNumber"].(string))
	}
	return numbers
}

func (r *rig) iterator(stream, shard, more string) string {
	r.t.Helper()
	return r.doesf("GetShardIterator", `{"StreamName":%q,"ShardId":%q,%s}`, stream, shard, more)["ShardIterator"].(string)
}

// plus adds to a sequence number.
func plus(number string, summand *big.Int) string {
	n, _ := new(big.Int).SetString(number, 10)
	return n.Add(n, summand).String()
}

// Each row also has all faults of the rows after it, so this also tests the order.
func TestRawGetShardIteratorErrors(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		numbers := r.create("s", 6)
		pass(10 * time.Second)
		other := r.create("other", 1)[0]
		const must = "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified "
		ask := func(stream, shard, rest string) string {
			return fmt.Sprintf(`{"StreamName":%q,"ShardId":%q,%s}`, stream, shard, rest)
		}
		at := func(kind, number string) string {
			return fmt.Sprintf(`"ShardIteratorType":%q,"StartingSequenceNumber":%q`, kind, number)
		}
		used := func(number, end string) string {
			return "StartingSequenceNumber " + number + " used in GetShardIterator on shard " + shard0 + in + " is invalid" + end
		}
		encodes := func(encoded string) string {
			return "Invalid StartingSequenceNumber. It encodes " + encoded + ", while it was used in a call to a shard with " + shard0
		}
		const op = "GetShardIterator"
		r.refuses(
			// 1: an id that cannot be read, before the stream is looked up
			refusal{notFound, "Could not find shard abc in stream x under account " + account + ".", op, ask("x", "abc", `"ShardIteratorType":"LATEST","StartingSequenceNumber":"5"`)},
			refusal{notFound, "Could not find shard shardId-2147483648 in stream x under account " + account + ".", op, ask("x", "shardId-2147483648", `"ShardIteratorType":"LATEST"`)},
			refusal{notFound, "Could not find shard 2.14E4 in stream x under account " + account + ".", op, ask("x", "2.14E4", `"ShardIteratorType":"LATEST"`)},
			refusal{notFound, "Could not find shard shardId- in stream x under account " + account + ".", op, ask("x", "shardId-", `"ShardIteratorType":"LATEST"`)},
			refusal{notFound, "Could not find shard a--1 in stream x under account " + account + ".", op, ask("x", "a--1", `"ShardIteratorType":"LATEST"`)},
			// 2: no such stream, or no such shard, with the id in full
			refusal{notFound, "Shard shardId-000000000005 in stream x under account " + account + " does not exist", op, ask("x", "5", `"ShardIteratorType":"LATEST","StartingSequenceNumber":"5"`)},
			refusal{notFound, "Shard shardId-000000000006" + in + " does not exist", op, ask("s", "abc-6", `"ShardIteratorType":"LATEST","StartingSequenceNumber":"5"`)},
			refusal{notFound, "Shard shardId-002147483647" + in + " does not exist", op, ask("s", "-00000002147483647", `"ShardIteratorType":"LATEST"`)},
			// 3 and 4: type and number do not go together
			refusal{invalid, must + "LATEST and also a StartingSequenceNumber.", op, ask("s", "0", at("LATEST", "5"))},
			refusal{invalid, must + "TRIM_HORIZON and also a StartingSequenceNumber.", op, ask("s", "0", at("TRIM_HORIZON", numbers[0]))},
			refusal{invalid, must + "AT_SEQUENCE_NUMBER and no StartingSequenceNumber.", op, ask("s", "0", `"ShardIteratorType":"AT_SEQUENCE_NUMBER"`)},
			refusal{invalid, must + "AFTER_SEQUENCE_NUMBER and no StartingSequenceNumber.", op, ask("s", "0", `"ShardIteratorType":"AFTER_SEQUENCE_NUMBER"`)},
			// 5: not a sequence number
			refusal{invalid, used("1"+strings.Repeat("0", 60), "."), op, ask("s", "0", at("AT_SEQUENCE_NUMBER", "1"+strings.Repeat("0", 60)))},
			refusal{invalid, used(plus(numbers[0], big.NewInt(1)), "."), op, ask("s", "0", at("AFTER_SEQUENCE_NUMBER", plus(numbers[0], big.NewInt(1))))},
			refusal{invalid, used(plus(numbers[0], new(big.Int).Lsh(big.NewInt(1), 143)), "."), op, ask("s", "0", at("AFTER_SEQUENCE_NUMBER", plus(numbers[0], new(big.Int).Lsh(big.NewInt(1), 143))))},
			// 6: a number of another shard
			refusal{invalid, encodes("shardId-000000000005"), op, ask("s", "0", at("AT_SEQUENCE_NUMBER", numbers[5]))},
			refusal{invalid, encodes("shardId-000000000005"), op, ask("s", "0", at("AT_SEQUENCE_NUMBER", "5"))},
			refusal{invalid, encodes("shardId--02147483648"), op, ask("s", "0", at("AT_SEQUENCE_NUMBER", plus(numbers[0], new(big.Int).Lsh(big.NewInt(1), 35))))},
			// 7: a number of another stream. The service fails over version 0.
			refusal{invalid, used(other, " because it did not come from this stream."), op, ask("s", "0", at("AT_SEQUENCE_NUMBER", other))},
			refusal{invalid, used(plus(numbers[0], new(big.Int).Lsh(big.NewInt(1), 80)), " because it did not come from this stream."), op, ask("s", "0", at("AT_SEQUENCE_NUMBER", plus(numbers[0], new(big.Int).Lsh(big.NewInt(1), 80))))},
			refusal{invalid, used("0", " because it did not come from this stream."), op, ask("s", "0", at("AT_SEQUENCE_NUMBER", "0"))},
			// 8 and 9: the timestamp
			refusal{invalid, "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.", op, ask("s", "0", `"ShardIteratorType":"AT_TIMESTAMP"`)},
			refusal{
				invalid,
				fmt.Sprintf("The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: %d, currentTimestampInMillis: %d", time.Now().UnixMilli()+1, time.Now().UnixMilli()),
				op,
				ask("s", "0", fmt.Sprintf(`"ShardIteratorType":"AT_TIMESTAMP","Timestamp":%.3f`, float64(time.Now().UnixMilli()+1)/1000)),
			},
		)
		// None of these is an error, and neither is reading from there.
		late := plus(numbers[0], new(big.Int).Lsh(big.NewInt(1), 142))
		for _, rest := range []string{
			at("AT_SEQUENCE_NUMBER", numbers[0]), at("AFTER_SEQUENCE_NUMBER", numbers[0]),
			at("AT_SEQUENCE_NUMBER", late), at("AFTER_SEQUENCE_NUMBER", late),
			`"ShardIteratorType":"LATEST"`, `"ShardIteratorType":"TRIM_HORIZON"`,
			`"ShardIteratorType":"TRIM_HORIZON","Timestamp":4102444800`,
			`"ShardIteratorType":"AT_TIMESTAMP","Timestamp":0`,
			`"ShardIteratorType":"AT_TIMESTAMP","Timestamp":-1e300`,
			fmt.Sprintf(`"ShardIteratorType":"AT_TIMESTAMP","Timestamp":%d`, time.Now().Unix()),
		} {
			for _, shard := range []string{"0", "shardId-0", "x-00", shard0} {
				it := r.iterator("s", shard, rest)
				require.LessOrEqual(t, len(it), 512)
				require.Empty(t, r.doesf("GetRecords", `{"ShardIterator":%q}`, it)["Records"])
			}
		}
	})
}

func TestRawPutErrors(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		numbers := r.create("s", 1)
		const path = "records.2.member."
		null := func(path string) string {
			return "1 validation error detected: Value null at '" + path + "' failed to satisfy constraint: Member must not be null"
		}
		long := func(path string) string {
			return "1 validation error detected: Value at '" + path + "' failed to satisfy constraint: Member must have length less than or equal to 1048576"
		}
		const beyond = "340282366920938463463374607431768211456" // 2^128
		const noKey = "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was " + beyond
		future := plus(numbers[0], new(big.Int).Lsh(big.NewInt(1000), 36))
		ordering := func(number string) string {
			return "ExclusiveMinimumSequenceNumber " + number + " used in PutRecord on stream s under account " + account + " is invalid."
		}
		big1 := base64.StdEncoding.EncodeToString(make([]byte, 1<<20+1))
		most := base64.StdEncoding.EncodeToString(make([]byte, 1<<20))
		r.refuses(
			refusal{notFound, noStream, "PutRecord", `{"StreamName":"x","PartitionKey":"a","Data":"","ExplicitHashKey":"` + beyond + `"}`},
			refusal{notFound, noStream, "PutRecord", `{"StreamARN":"` + streamARN + `x","PartitionKey":"a","Data":""}`},
			refusal{validation, null("partitionKey"), "PutRecord", `{"StreamName":"s","Data":"","ExplicitHashKey":"` + beyond + `"}`},
			refusal{validation, null("data"), "PutRecord", `{"StreamName":"s","PartitionKey":"a"}`},
			refusal{invalid, noKey, "PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":"","ExplicitHashKey":"` + beyond + `","SequenceNumberForOrdering":"` + future + `"}`},
			refusal{invalid, ordering(future), "PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":"` + big1 + `","SequenceNumberForOrdering":"` + future + `"}`},
			refusal{invalid, ordering(plus(numbers[0], big.NewInt(1))), "PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":"","SequenceNumberForOrdering":"` + plus(numbers[0], big.NewInt(1)) + `"}`},
			refusal{validation, long("data"), "PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":"` + big1 + `"}`},
			refusal{validation, long("data"), "PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":"` + most + `"}`},

			refusal{notFound, noStream, "PutRecords", `{"StreamName":"x","Records":[{"PartitionKey":"a","Data":"","ExplicitHashKey":"` + beyond + `"}]}`},
			refusal{validation, null(path + "partitionKey"), "PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"a","Data":""},{"Data":""}]}`},
			refusal{validation, null(path + "data"), "PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"a","Data":""},{"PartitionKey":"a"}]}`},
			refusal{invalid, noKey, "PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"a","Data":""},{"PartitionKey":"a","Data":"","ExplicitHashKey":"` + beyond + `"}]}`},
			refusal{validation, long(path + "data"), "PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"a","Data":""},{"PartitionKey":"a","Data":"` + big1 + `"}]}`},
			refusal{validation, "1 validation error detected: Value '[]' at 'records' failed to satisfy constraint: Member must have length greater than or equal to 1", "PutRecords", `{"StreamName":"s","Records":[]}`},
			refusal{validation, "1 validation error detected: Value '0123' at 'records.1.member.explicitHashKey' failed to satisfy constraint: Member must satisfy regular expression pattern: 0|([1-9]\\d{0,38})", "PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"a","Data":"","ExplicitHashKey":"0123"}]}`},
			refusal{invalid, "Records size exceeds 10 MB limit", "PutRecords", `{"StreamName":"s","Records":[` + strings.Repeat(`{"PartitionKey":"ab","Data":"`+base64.StdEncoding.EncodeToString(make([]byte, 1<<20-2))+`"},`, 10) + `{"PartitionKey":"a","Data":""}]}`},
		)
		a := r.call("PutRecords", `{"StreamName":"s","Records":[`+strings.Repeat(`{"PartitionKey":"a","Data":""},`, 500)+`{"PartitionKey":"a","Data":""}]}`)
		require.Equal(t, 400, a.status)
		require.Contains(t, a.body, "1 validation error detected: Value '[com.amazonaws.kinesis.v20131202.PutRecordsRequestEntry@")
		require.Contains(t, a.body, "]' at 'records' failed to satisfy constraint: Member must have length less than or equal to 500")

		it := r.iterator("s", "0", `"ShardIteratorType":"TRIM_HORIZON"`)
		require.Empty(t, r.doesf("GetRecords", `{"ShardIterator":%q}`, it)["Records"], "a refused batch is refused as a whole")

		// Values just within all limits.
		r.doesf("PutRecords", `{"StreamName":"s","Records":[%s{"PartitionKey":"a","Data":""}]}`, strings.Repeat(`{"PartitionKey":"a","Data":""},`, 499))
		out := r.doesf("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":"%s","ExplicitHashKey":"%s","SequenceNumberForOrdering":"%s"}`, most[:len(most)-4], maxHash, numbers[0])
		require.Equal(t, map[string]any{"ShardId": shard0, "SequenceNumber": out["SequenceNumber"]}, out, "no EncryptionType")
	})
}

func TestRawReshardErrors(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{UpdateDelay: time.Second, CreateDelay: time.Second}, func(r *rig) {
		r.does("CreateStream", `{"StreamName":"s","ShardCount":3}`)
		notActive := func(state string) string { return streamsUnder + " not ACTIVE, instead in state " + state }
		r.refuses(
			refusal{inUse, notActive("CREATING"), "SplitShard", `{"StreamName":"s","ShardToSplit":"9","NewStartingHashKey":"0"}`},
			refusal{inUse, notActive("CREATING"), "MergeShards", `{"StreamName":"s","ShardToMerge":"9","AdjacentShardToMerge":"9"}`},
			refusal{inUse, notActive("CREATING"), "UpdateShardCount", `{"StreamName":"s","TargetShardCount":3,"ScalingType":"UNIFORM_SCALING"}`},
			refusal{inUse, notActive("CREATING"), "ListShards", `{"StreamName":"s"}`},
			refusal{notFound, streamsUnder + " not found.", "PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":""}`},
			refusal{notFound, streamsUnder + " not found.", "PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"a","Data":""}]}`},
			refusal{notFound, "Shard " + shard0 + in + " does not exist", "GetShardIterator", `{"StreamName":"s","ShardId":"0","ShardIteratorType":"LATEST"}`},
			refusal{inUse, streamsUnder + " already exists.", "CreateStream", `{"StreamName":"s","ShardCount":3}`},
		)
		description := r.does("DescribeStream", `{"StreamName":"s"}`)["StreamDescription"].(map[string]any)
		require.Equal(t, "CREATING", description["StreamStatus"])
		require.Equal(t, []any{}, description["Shards"])
		require.Equal(t, false, description["HasMoreShards"])
		pass(time.Second)

		const end = "113427455640312821154458202477256070484"
		bounds := func(key string) string {
			return "NewStartingHashKey " + key + " used in SplitShard() on shard " + shard0 + in + " is not both greater than one plus the shard's StartingHashKey 0 and less than the shard's EndingHashKey " + end + "."
		}
		split := func(stream, shard, key string) string {
			return fmt.Sprintf(`{"StreamName":%q,"ShardToSplit":%q,"NewStartingHashKey":%q}`, stream, shard, key)
		}
		merge := func(stream, one, other string) string {
			return fmt.Sprintf(`{"StreamName":%q,"ShardToMerge":%q,"AdjacentShardToMerge":%q}`, stream, one, other)
		}
		adjacent := func(one, other int) string {
			return fmt.Sprintf("Shards shardId-%012d and shardId-%012d%s are not an adjacent pair of shards eligible for merging", one, other, in)
		}
		r.refuses(
			refusal{notFound, "Could not find shard abc in stream x under account " + account + ".", "SplitShard", split("x", "abc", "0")},
			refusal{notFound, noStream, "SplitShard", split("x", "9", "0")},
			refusal{notFound, "Could not find shard shardId-000000000009" + in + ".", "SplitShard", split("s", "9", "0")},
			refusal{invalid, bounds("0"), "SplitShard", split("s", "0", "0")},
			refusal{invalid, bounds("1"), "SplitShard", split("s", "0", "1")},
			refusal{invalid, bounds(end), "SplitShard", split("s", "0", end)},
			refusal{invalid, bounds(strings.Repeat("9", 39)), "SplitShard", split("s", "0", strings.Repeat("9", 39))},

			refusal{notFound, "Could not find shard abc in stream x under account " + account + ".", "MergeShards", merge("x", "abc", "def")},
			refusal{notFound, "Could not find shard def in stream x under account " + account + ".", "MergeShards", merge("x", "0", "def")},
			refusal{notFound, noStream, "MergeShards", merge("x", "8", "9")},
			refusal{notFound, "Could not find shard shardId-000000000008" + in + ".", "MergeShards", merge("s", "8", "9")},
			refusal{notFound, "Could not find shard shardId-000000000009" + in + ".", "MergeShards", merge("s", "0", "9")},
			refusal{invalid, adjacent(1, 0), "MergeShards", merge("s", "1", "0")},
			refusal{invalid, adjacent(0, 0), "MergeShards", merge("s", "0", "0")},
			refusal{invalid, adjacent(0, 2), "MergeShards", merge("s", "0", "2")},

			refusal{notFound, noStream, "UpdateShardCount", `{"StreamName":"x","TargetShardCount":3,"ScalingType":"UNIFORM_SCALING"}`},
			refusal{limit, streamsUnder + " cannot have more than 10000 shards; TargetShardCount was 10001.", "UpdateShardCount", `{"StreamName":"s","TargetShardCount":10001,"ScalingType":"UNIFORM_SCALING"}`},
			refusal{validation, "2 validation errors detected: Value 'X' at 'scalingType' failed to satisfy constraint: Member must satisfy enum value set: [UNIFORM_SCALING]; Value '0' at 'targetShardCount' failed to satisfy constraint: Member must have value greater than or equal to 1", "UpdateShardCount", `{"StreamName":"s","TargetShardCount":0,"ScalingType":"X"}`},
		)

		// The smallest valid key. The list of shards changes at the end of UPDATING.
		r.does("SplitShard", `{"StreamName":"s","ShardToSplit":"shardId-0","NewStartingHashKey":"2"}`)
		r.refuses(
			refusal{inUse, notActive("UPDATING"), "SplitShard", split("s", "0", "2")},
			refusal{inUse, notActive("UPDATING"), "IncreaseStreamRetentionPeriod", `{"StreamName":"s","RetentionPeriodHours":25}`},
			refusal{inUse, notActive("UPDATING"), "RegisterStreamConsumer", `{"StreamARN":"` + streamARN + `s","ConsumerName":"c"}`},
		)
		require.Len(t, r.does("ListShards", `{"StreamName":"s"}`)["Shards"], 3)
		r.does("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":""}`)
		pass(time.Second)
		shards := r.does("ListShards", `{"StreamName":"s"}`)["Shards"].([]any)
		require.Len(t, shards, 5)
		require.Contains(t, shards[0].(map[string]any)["SequenceNumberRange"], "EndingSequenceNumber")
		for i, keys := range []map[string]any{{"StartingHashKey": "0", "EndingHashKey": "1"}, {"StartingHashKey": "2", "EndingHashKey": end}} {
			child := shards[3+i].(map[string]any)
			require.Equal(t, keys, child["HashKeyRange"])
			require.Equal(t, shard0, child["ParentShardId"])
			require.NotContains(t, child, "AdjacentParentShardId")
		}
		const done = " has already been merged or split, and thus is not eligible for merging or splitting."
		r.refuses(
			refusal{invalid, "Shard " + shard0 + in + done, "SplitShard", split("s", "0", "2")},
			refusal{invalid, "Shard " + shard0 + in + done, "MergeShards", merge("s", "0", "1")},
		)
		r.does("MergeShards", merge("s", "3", "4"))
		pass(time.Second)
		child := r.does("ListShards", `{"StreamName":"s"}`)["Shards"].([]any)[5].(map[string]any)
		require.Equal(t, "shardId-000000000003", child["ParentShardId"])
		require.Equal(t, "shardId-000000000004", child["AdjacentParentShardId"])
		require.Equal(t, map[string]any{"StartingHashKey": "0", "EndingHashKey": end}, child["HashKeyRange"])

		// The same count is no change.
		require.Equal(t, map[string]any{"CurrentShardCount": 3., "TargetShardCount": 3., "StreamName": "s", "StreamARN": streamARN + "s"},
			r.doesf("UpdateShardCount", `{"StreamARN":"%ss","TargetShardCount":3,"ScalingType":"UNIFORM_SCALING"}`, streamARN))

		r.does("CreateStream", `{"StreamName":"d"}`)
		pass(time.Second)
		const onDemand = "Request is invalid. Stream d under account " + account + " is in On-Demand mode."
		r.refuses(
			refusal{validation, onDemand, "SplitShard", split("d", "0", "5")},
			refusal{validation, onDemand, "MergeShards", merge("d", "0", "1")},
			refusal{validation, onDemand, "UpdateShardCount", `{"StreamName":"d","TargetShardCount":3,"ScalingType":"UNIFORM_SCALING"}`},
		)
	})
}

// The total number of shards after changes of the count.
func TestRawShardCounts(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		for _, row := range [][3]int{{2, 4, 6}, {4, 5, 15}, {10, 13, 37}, {4, 2, 6}, {5, 3, 7}, {10, 3, 17}} {
			name := fmt.Sprintf("s%d-%d", row[0], row[1])
			r.create(name, row[0])
			r.doesf("UpdateShardCount", `{"StreamName":%q,"TargetShardCount":%d,"ScalingType":"UNIFORM_SCALING"}`, name, row[1])
			require.Len(t, r.doesf("ListShards", `{"StreamName":%q}`, name)["Shards"], row[2], name)
			require.Len(t, r.doesf("ListShards", `{"StreamName":%q,"ShardFilter":{"Type":"AT_LATEST"}}`, name)["Shards"], row[1], name)
		}
	})
}

func TestRawRetentionErrors(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 1)
		ask := func(stream string, hours int) string {
			return fmt.Sprintf(`{"StreamName":%q,"RetentionPeriodHours":%d}`, stream, hours)
		}
		r.does("IncreaseStreamRetentionPeriod", ask("s", 48))
		for _, op := range []string{"IncreaseStreamRetentionPeriod", "DecreaseStreamRetentionPeriod"} {
			r.refuses(
				refusal{notFound, noStream, op, ask("x", 23)},
				refusal{invalid, "Minimum allowed retention period is 24 hours. Requested retention period (23 hours) is too short.", op, ask("s", 23)},
				refusal{invalid, "Minimum allowed retention period is 24 hours. Requested retention period (-1 hours) is too short.", op, ask("s", -1)},
				refusal{invalid, "Maximum allowed retention period is 8760 hours. Requested retention period (8761 hours) is too long.", op, ask("s", 8761)},
			)
			require.Nil(t, r.does(op, ask("s", 48)), "what it is already is no error")
		}
		r.refuses(
			refusal{invalid, "Requested retention period (25 hours) for stream s can not be shorter than existing retention period (48 hours). Use DecreaseRetentionPeriod API.", "IncreaseStreamRetentionPeriod", ask("s", 25)},
			refusal{invalid, "Requested retention period (49 hours) for stream s can not be longer than existing retention period (48 hours). Use IncreaseRetentionPeriod API.", "DecreaseStreamRetentionPeriod", ask("s", 49)},
		)
		r.does("IncreaseStreamRetentionPeriod", ask("s", 8760))
		r.does("DecreaseStreamRetentionPeriod", ask("s", 24))
	})
}

func TestRawTagErrors(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 1)
		add := func(stream, tags string) string { return fmt.Sprintf(`{"StreamName":%q,"Tags":%s}`, stream, tags) }
		remove := func(stream, keys string) string {
			return fmt.Sprintf(`{"StreamName":%q,"TagKeys":%s}`, stream, keys)
		}
		const first = "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - % @."
		second := func(what string) string {
			return "Failed to " + what + " stream s under account " + account + " because some tags contained illegal characters. The allowed characters are Unicode letters, white-spaces, '_',',','/','=','+','-','@'."
		}
		var fifty []string
		for i := range 50 {
			fifty = append(fifty, fmt.Sprintf(`"k%02d":"v"`, i))
		}
		r.refuses(
			refusal{notFound, noStream, "AddTagsToStream", add("x", `{"a;":"b"}`)},
			refusal{notFound, noStream, "RemoveTagsFromStream", remove("x", `["a;"]`)},
			refusal{notFound, noStream, "ListTagsForStream", `{"StreamName":"x"}`},
			refusal{invalid, first, "AddTagsToStream", add("s", `{"a;":"b%"}`)},
			refusal{invalid, first, "AddTagsToStream", add("s", `{"a":"b;"}`)},
			refusal{invalid, first, "RemoveTagsFromStream", remove("s", `["a%","b;"]`)},
			refusal{invalid, second("add tags to"), "AddTagsToStream", add("s", `{"a":"b%"}`)},
			refusal{invalid, second("remove tags from"), "RemoveTagsFromStream", remove("s", `["a%"]`)},
			refusal{invalid, "Failed to add tags to stream s under account " + account + " because tag keys that start with aws: are reserved.", "AddTagsToStream", add("s", `{"aws:a":"b"}`)},
			refusal{validation, "1 validation error detected: Value '{}' at 'tags' failed to satisfy constraint: Member must have length greater than or equal to 1", "AddTagsToStream", add("s", `{}`)},
			refusal{validation, "1 validation error detected: Value '{=a}' at 'tags' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 1]", "AddTagsToStream", add("s", `{"":"a"}`)},
		)
		// White space means word separators: no tab and no line break.
		for _, c := range []string{`\t`, `\n`, `\u000b`, `\f`, `\r`, `\u0085`, `\u200b`, `\ufeff`, `\u0000`} {
			r.refuses(
				refusal{invalid, first, "AddTagsToStream", add("s", `{"a`+c+`":"b"}`)},
				refusal{invalid, first, "AddTagsToStream", add("s", `{"a":"`+c+`"}`)},
				refusal{invalid, first, "RemoveTagsFromStream", remove("s", `["`+c+`"]`)},
				refusal{invalid, first, "TagResource", `{"ResourceARN":"` + streamARN + `s","Tags":{"a":"b` + c + `"}}`},
				refusal{invalid, first, "UntagResource", `{"ResourceARN":"` + streamARN + `s","TagKeys":["` + c + `"]}`},
				refusal{invalid, first, "CreateStream", `{"StreamName":"t","ShardCount":1,"Tags":{"` + c + `":"b"}}`},
				refusal{invalid, first, "RegisterStreamConsumer", `{"StreamARN":"` + streamARN + `s","ConsumerName":"t","Tags":{"a":"` + c + `"}}`},
			)
		}
		for _, c := range []string{" ", `\u00a0`, `\u1680`, `\u2003`, `\u2028`, `\u2029`, `\u3000`, "٣", "Ⅷ", "²", "e\u0301"} {
			r.does("AddTagsToStream", add("s", `{"space":"a`+c+`b"}`))
		}
		r.does("RemoveTagsFromStream", remove("s", `["space"]`))
		r.does("AddTagsToStream", add("s", "{"+strings.Join(fifty, ",")+"}"))
		r.does("AddTagsToStream", add("s", `{"k00":"again"}`))
		// The service's text still has 10, its former limit.
		r.refuses(refusal{
			invalid, "Failed to add tags to stream s under account " + account + " because a given stream cannot have more than 10 tags associated with it.",
			"AddTagsToStream", add("s", `{"k00":"v","more":"v"}`),
		})
		r.does("RemoveTagsFromStream", remove("s", `["k01","never"]`))
		r.does("AddTagsToStream", add("s", `{"more":"ключ _./=+-@:"}`))
		page := r.does("ListTagsForStream", `{"StreamName":"s","Limit":1,"ExclusiveStartTagKey":"k00"}`)
		require.Equal(t, map[string]any{"HasMoreTags": true, "Tags": []any{map[string]any{"Key": "k02", "Value": "v"}}}, page)
		page = r.does("ListTagsForStream", `{"StreamName":"s","ExclusiveStartTagKey":"k49"}`)
		require.Equal(t, map[string]any{"HasMoreTags": false, "Tags": []any{map[string]any{"Key": "more", "Value": "ключ _./=+-@:"}}}, page)
	})
}

func TestRawListShardsErrors(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 3)
		together := func(member string) string { return "NextToken and " + member + " cannot be provided together." }
		const either = "Either NextToken or StreamName should be provided."
		token := func() string {
			return r.does("ListShards", `{"StreamName":"s","MaxResults":1}`)["NextToken"].(string)
		}
		next := token()
		r.refuses(
			refusal{invalid, either, "ListShards", `{}`},
			refusal{invalid, either, "ListShards", `{"MaxResults":1,"ExclusiveStartShardId":"a"}`},
			refusal{invalid, together("StreamName"), "ListShards", `{"NextToken":"x","StreamName":"s","ShardFilter":{"Type":"AT_LATEST"},"ExclusiveStartShardId":"a","StreamCreationTimestamp":1}`},
			refusal{invalid, together("StreamARN"), "ListShards", `{"NextToken":"x","StreamARN":"` + streamARN + `s"}`},
			refusal{invalid, together("ShardFilter"), "ListShards", `{"NextToken":"` + next + `","ShardFilter":{"Type":"AT_LATEST"},"ExclusiveStartShardId":"a","StreamCreationTimestamp":1}`},
			refusal{invalid, together("ExclusiveStartShardId"), "ListShards", `{"NextToken":"x","ExclusiveStartShardId":"a","StreamCreationTimestamp":1}`},
			refusal{invalid, together("StreamCreationTimestamp"), "ListShards", `{"NextToken":"x","StreamCreationTimestamp":1}`},
			refusal{notFound, noStream, "ListShards", `{"StreamName":"x"}`},
			refusal{notFound, streamsUnder + " not found.", "ListShards", `{"StreamName":"s","StreamCreationTimestamp":1}`},
		)
		for range 20 { // the error always names the same one
			r.refuses(refusal{invalid, together("StreamName"), "ListShards", `{"NextToken":"x","StreamName":"s","ShardFilter":{"Type":"AT_LATEST"},"ExclusiveStartShardId":"a"}`})
		}
		// A token is valid for 300 seconds, any number of times.
		pass(300*time.Second - time.Millisecond)
		for range 2 {
			page := r.doesf("ListShards", `{"NextToken":%q,"MaxResults":1000}`, next)
			require.Len(t, page["Shards"], 2)
			require.NotContains(t, page, "NextToken")
		}
		pass(time.Millisecond)
		a := r.call("ListShards", `{"NextToken":"`+next+`"}`)
		require.Equal(t, 400, a.status)
		require.Contains(t, a.body, `"__type":"ExpiredNextTokenException"`)
		// A token belongs to one stream, not to its name.
		next = token()
		r.does("DeleteStream", `{"StreamName":"s"}`)
		r.create("s", 3)
		r.refuses(refusal{notFound, streamsUnder + " not found.", "ListShards", `{"NextToken":"` + next + `"}`})
	})
}

func TestRawConsumerErrors(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{CreateDelay: time.Second, DeleteDelay: time.Second}, func(r *rig) {
		r.does("CreateStream", `{"StreamName":"s","ShardCount":1}`)
		pass(time.Second)
		const arn = streamARN + "s"
		registered := r.doesf("RegisterStreamConsumer", `{"StreamARN":%q,"ConsumerName":"c"}`, arn)["Consumer"].(map[string]any)
		require.Equal(t, "CREATING", registered["ConsumerStatus"])
		require.NotContains(t, registered, "StreamARN")
		consumer := registered["ConsumerARN"].(string)
		require.Equal(t, fmt.Sprintf("%s/consumer/c:%d", arn, time.Now().Unix()), consumer)
		noConsumer := "Consumer d, account " + account + " not found."
		subscribe := func(arn, shard, position string) string {
			return fmt.Sprintf(`{"ConsumerARN":%q,"ShardId":%q,"StartingPosition":{%s}}`, arn, shard, position)
		}
		notThere := strings.Replace(consumer, "/c:", "/d:", 1)
		r.refuses(
			refusal{inUse, "Consumer c of stream s under account " + account + " already exists.", "RegisterStreamConsumer", `{"StreamARN":"` + arn + `","ConsumerName":"c"}`},
			refusal{notFound, noStream, "RegisterStreamConsumer", `{"StreamARN":"` + streamARN + `x","ConsumerName":"c"}`},
			refusal{notFound, noConsumer, "DescribeStreamConsumer", `{"StreamARN":"` + arn + `","ConsumerName":"d"}`},
			refusal{notFound, noConsumer, "DescribeStreamConsumer", `{"ConsumerARN":"` + notThere + `"}`},
			refusal{notFound, noConsumer, "DeregisterStreamConsumer", `{"StreamARN":"` + arn + `","ConsumerName":"d"}`},
			refusal{notFound, noStream, "ListStreamConsumers", `{"StreamARN":"` + streamARN + `x"}`},
			refusal{notFound, noConsumer, "SubscribeToShard", subscribe(notThere, "0", `"Type":"LATEST"`)},
			refusal{inUse, fmt.Sprintf("Consumer c with creation timestamp %d under stream: s , account %s is not in ACTIVE status.", time.Now().Unix(), account), "SubscribeToShard", subscribe(consumer, "0", `"Type":"LATEST"`)},
			refusal{inUse, "DeleteStream can't delete " + account + ":s because there are consumers associated with this data stream. To delete this data stream anyway, set the EnforceConsumerDeletion parameter to true in the request.", "DeleteStream", `{"StreamName":"s"}`},
		)
		pass(time.Second)
		for _, ask := range []string{`{"ConsumerARN":%[1]q}`, `{"StreamARN":%[2]q,"ConsumerName":"c"}`, `{"ConsumerARN":%[1]q,"StreamARN":%[2]q,"ConsumerName":"c"}`} {
			d := r.doesf("DescribeStreamConsumer", ask, consumer, arn)["ConsumerDescription"].(map[string]any)
			require.Equal(t, map[string]any{
				"ConsumerARN": consumer, "ConsumerCreationTimestamp": registered["ConsumerCreationTimestamp"],
				"ConsumerName": "c", "ConsumerStatus": "ACTIVE", "StreamARN": arn,
			}, d)
		}
		const identify = "Both streamARN and consumer name must be provided if consumerARN is not provied."
		for _, operation := range []string{"DeregisterStreamConsumer", "DescribeStreamConsumer"} {
			for _, ask := range []string{`{}`, `{"ConsumerName":"c"}`, `{"StreamARN":"` + arn + `"}`} {
				r.refuses(refusal{invalid, identify, operation, ask})
			}
		}
		for _, ask := range []string{`{"ConsumerARN":%[1]q,"ConsumerName":"d"}`, `{"ConsumerARN":%[1]q,"StreamARN":"` + streamARN + `x"}`} {
			ask = strings.NewReplacer("%[1]q", `"`+consumer+`"`, "%[2]q", `"`+arn+`"`).Replace(ask)
			a := r.call("DescribeStreamConsumer", ask)
			require.Equal(t, 400, a.status)
			require.Contains(t, a.body, `"__type":"`+invalid+`"`, ask)
		}
		r.refuses(
			refusal{notFound, "Could not find shard abc" + in + ".", "SubscribeToShard", subscribe(consumer, "abc", `"Type":"LATEST"`)},
			refusal{notFound, "Shard shardId-000000000009" + in + " does not exist", "SubscribeToShard", subscribe(consumer, "9", `"Type":"LATEST"`)},
			refusal{invalid, "Invalid StartingSequenceNumber. It encodes shardId-000000000005, while it was used in a call to a shard with " + shard0, "SubscribeToShard", subscribe(consumer, "0", `"Type":"AT_SEQUENCE_NUMBER","SequenceNumber":"5"`)},
			refusal{invalid, "StartingSequenceNumber 0 used in SubscribeToShard on shard " + shard0 + in + " is invalid because it did not come from this stream.", "SubscribeToShard", subscribe(consumer, "0", `"Type":"AT_SEQUENCE_NUMBER","SequenceNumber":"0"`)},
			refusal{validation, "1 validation error detected: Value 'NOW' at 'startingPosition.type' failed to satisfy constraint: Member must satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]", "SubscribeToShard", subscribe(consumer, "0", `"Type":"NOW"`)},
			refusal{validation, "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null", "SubscribeToShard", `{"ConsumerARN":"` + consumer + `","ShardId":"0"}`},
			refusal{"DryRunOperationException", "The request would have succeeded, but the DryRun parameter is set.", "SubscribeToShard", `{"DryRun":true,"ConsumerARN":"` + consumer + `","ShardId":"0","StartingPosition":{"Type":"LATEST"}}`},
		)
		// A later consumer of the same name is a different consumer.
		require.Nil(t, r.doesf("DeregisterStreamConsumer", `{"ConsumerARN":%q}`, consumer))
		require.Nil(t, r.doesf("DeregisterStreamConsumer", `{"ConsumerARN":%q}`, consumer))
		d := r.doesf("DescribeStreamConsumer", `{"ConsumerARN":%q}`, consumer)["ConsumerDescription"].(map[string]any)
		require.Equal(t, "DELETING", d["ConsumerStatus"])
		pass(time.Second)
		again := r.doesf("RegisterStreamConsumer", `{"StreamARN":%q,"ConsumerName":"c"}`, arn)["Consumer"].(map[string]any)
		require.NotEqual(t, consumer, again["ConsumerARN"])
		r.refuses(refusal{notFound, "Consumer c, account " + account + " not found.", "DescribeStreamConsumer", `{"ConsumerARN":"` + consumer + `"}`})
	})
}

// The texts of constraints and of types, through the whole server.
func TestRawMemberTexts(t *testing.T) {
	r := newRig(t, nil)
	r.create("s", 1)
	detected := func(faults ...string) string {
		if len(faults) == 1 {
			return "1 validation error detected: " + faults[0]
		}
		return fmt.Sprintf("%d validation errors detected: %s", len(faults), strings.Join(faults, "; "))
	}
	r.refuses(
		refusal{validation, detected("Value null at 'streamName' failed to satisfy constraint: Member must not be null"), "CreateStream", `{"StreamName":null}`},
		refusal{validation, detected(
			"Value '' at 'streamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+",
			"Value '' at 'streamName' failed to satisfy constraint: Member must have length greater than or equal to 1",
		), "DeleteStream", `{"StreamName":""}`},
		refusal{validation, detected("Value '10001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000"), "GetRecords", `{"ShardIterator":"a","Limit":10001}`},
		refusal{validation, detected("Value '2147483647' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000"), "DescribeStream", `{"StreamName":"s","Limit":2147483648}`},
		refusal{validation, detected("Value '" + strings.Repeat("a", 513) + "' at 'shardIterator' failed to satisfy constraint: Member must have length less than or equal to 512"), "GetRecords", `{"ShardIterator":"` + strings.Repeat("a", 513) + `"}`},
		refusal{validation, detected("Value 'x' at 'streamARN' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"), "DescribeStream", `{"StreamARN":"x"}`},
		refusal{validation, detected("Value '[X, ALL]' at 'shardLevelMetrics' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [IncomingBytes, IncomingRecords, OutgoingBytes, OutgoingRecords, WriteProvisionedThroughputExceeded, ReadProvisionedThroughputExceeded, IteratorAgeMilliseconds, ALL]]"), "EnableEnhancedMonitoring", `{"StreamName":"s","ShardLevelMetrics":["X","ALL"]}`},
		refusal{validation, detected("Value '[]' at 'tagKeys' failed to satisfy constraint: Member must have length greater than or equal to 1"), "RemoveTagsFromStream", `{"StreamName":"s","TagKeys":[]}`},
		refusal{validation, detected("Value '1023' at 'maxRecordSizeInKiB' failed to satisfy constraint: Member must have value greater than or equal to 1024"), "UpdateMaxRecordSize", `{"StreamARN":"` + streamARN + `s","MaxRecordSizeInKiB":1023}`},
		refusal{validation, detected("Value 'B' at 'streamModeDetails.streamMode' failed to satisfy constraint: Member must satisfy enum value set: [PROVISIONED, ON_DEMAND]"), "CreateStream", `{"StreamName":"a","StreamModeDetails":{"StreamMode":"B"}}`},
		refusal{invalid, "Either StreamName or StreamARN must be given.", "DescribeStream", `{}`},
		refusal{invalid, "StreamName a and StreamARN " + streamARN + "s do not name the same stream.", "DescribeStream", `{"StreamName":"a","StreamARN":"` + streamARN + `s"}`},
	)
	for _, row := range []struct{ operation, body, message string }{
		{"DescribeStream", `{"Limit":"a"}`, "class java.lang.String can not be converted to an Integer"},
		{"DescribeStream", `{"Limit":true}`, "class java.lang.Boolean can not be converted to an Integer"},
		{"DescribeStream", `{"StreamName":true}`, "class java.lang.Boolean can not be converted to an String"},
		{"DescribeStream", `{"StreamName":1.5}`, "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an String"},
		{"DescribeStream", `{"StreamName":[]}`, "Start of list found where not expected"},
		{"DescribeStream", `{"StreamName":{}}`, "Start of structure or map found where not expected."},
		{"PutRecord", `{"Data":1}`, "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to a Blob"},
		{"PutRecord", `{"Data":"a"}`, "'a' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 1"},
		{"PutRecord", `{"Data":"AA*="}`, "'AA*=' can not be converted to a Blob: Invalid Base64 character: '*'"},
		{"PutRecord", `{"Data":"AAB="}`, "'AAB=' can not be converted to a Blob: Invalid last non-pad Base64 character dectected"},
		{"PutRecords", `{"Records":"a"}`, "Expected list or null"},
		{"PutRecords", `{"Records":{}}`, "Start of structure or map found where not expected."},
		{"PutRecords", `{"Records":["a"]}`, "Expected null"},
		{"AddTagsToStream", `{"Tags":"a"}`, "Expected map or null"},
		{"AddTagsToStream", `{"Tags":[]}`, "Start of list found where not expected"},
		{"RemoveTagsFromStream", `{"TagKeys":1}`, "Expected list or null"},
		{"GetShardIterator", `{"Timestamp":"a"}`, "class java.lang.String can not be converted to milliseconds since epoch"},
		{"GetShardIterator", `{"Timestamp":false}`, "class java.lang.Boolean can not be converted to milliseconds since epoch"},
		{"DeleteStream", `{"EnforceConsumerDeletion":"hello"}`, "'HELLO' can not be converted to an Boolean"},
		{"CreateStream", `{"StreamModeDetails":"a"}`, "Expected null"},
		{"CreateStream", `{"StreamModeDetails":[]}`, "Start of list found where not expected"},
	} {
		a := r.call(row.operation, row.body)
		require.Equal(t, 400, a.status)
		require.JSONEq(t, fmt.Sprintf(`{"__type":"SerializationException","Message":%q}`, row.message), a.body, row.body)
	}
}

package sdktest_test

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
)

var exactly = &kinesisapi.Options{ExactLimits: true}

const rateText = "Rate exceeded for shard shardId-000000000000 in stream orders under account 000000000000."

// TestSDKWriteLimits: a shard takes 1,000 records and 1 MiB a second.
func TestSDKWriteLimits(t *testing.T) {
	inBubble(t, exactly, func(t *testing.T, k *sdk) {
		k.create("orders", 1)
		put := func(bytes int) error {
			_, err := k.PutRecord(k.ctx, &kinesis.PutRecordInput{StreamName: aws.String("orders"), PartitionKey: aws.String("a"), Data: make([]byte, bytes)})
			return err
		}
		require.NoError(t, put(1<<20-100))
		failsWith[errThroughput](t, put(1000), rateText)
		k.sleep(2 * time.Second)
		for range 1000 {
			require.NoError(t, put(1))
		}
		failsWith[errThroughput](t, put(1), rateText)

		// PutRecords has room for some of its entries.
		k.sleep(2 * time.Second)
		entries := make([]types.PutRecordsRequestEntry, 4)
		for i := range entries {
			entries[i] = types.PutRecordsRequestEntry{PartitionKey: aws.String("a"), Data: make([]byte, 400<<10)}
		}
		out, err := k.PutRecords(k.ctx, &kinesis.PutRecordsInput{StreamName: aws.String("orders"), Records: entries})
		require.NoError(t, err)
		require.EqualValues(t, 2, *out.FailedRecordCount)
		for i, r := range out.Records {
			if i < 2 {
				require.NotEmpty(t, *r.SequenceNumber)
				require.Equal(t, shard0, *r.ShardId)
				require.Nil(t, r.ErrorCode)
				continue
			}
			require.Nil(t, r.SequenceNumber)
			require.Equal(t, "ProvisionedThroughputExceededException", *r.ErrorCode)
			require.Equal(t, rateText, *r.ErrorMessage)
		}

		// The SDK tries again on the clock of the bubble, until there is room.
		k.sleep(2 * time.Second)
		k.Client = sdkClient(k.server.Client(), "AKIA", "us-east-1", retrying)
		require.NoError(t, put(1<<20-100))
		started := time.Now()
		require.NoError(t, put(100_000))
		require.Positive(t, time.Since(started))
	})
}

// TestSDKReadLimits: a shard takes 5 reads and 2 MiB a second, and 5 requests for
// an iterator.
func TestSDKReadLimits(t *testing.T) {
	inBubble(t, exactly, func(t *testing.T, k *sdk) {
		k.create("orders", 2)
		for range 4 {
			_, err := k.PutRecord(k.ctx, &kinesis.PutRecordInput{StreamName: aws.String("orders"), PartitionKey: aws.String("a"), ExplicitHashKey: aws.String("0"), Data: make([]byte, 1<<20-100)})
			require.NoError(t, err)
			k.sleep(2 * time.Second)
		}
		iterator := func(shard string) (*string, error) {
			out, err := k.GetShardIterator(k.ctx, &kinesis.GetShardIteratorInput{StreamName: aws.String("orders"), ShardId: &shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
			if err != nil {
				return nil, err
			}
			return out.ShardIterator, nil
		}
		var it *string
		for range 5 {
			var err error
			it, err = iterator(shard0)
			require.NoError(t, err)
		}
		_, err := iterator(shard0)
		failsWith[errThroughput](t, err, rateText)
		_, err = iterator(shard1)
		require.NoError(t, err, "each shard has its own")
		get := func(limit int32) error {
			_, err := k.GetRecords(k.ctx, &kinesis.GetRecordsInput{ShardIterator: it, Limit: &limit})
			return err
		}
		for range 5 { // of the end
			k.sleep(time.Second)
			require.NoError(t, get(1))
		}
		k.sleep(2 * time.Second)
		require.NoError(t, get(4)) // 4 MiB are worth two seconds
		k.sleep(time.Second)
		failsWith[errThroughput](t, get(1), rateText)
		k.sleep(2 * time.Second)
		require.NoError(t, get(1))

		k.sleep(5 * time.Second)
		it = k.iterator("orders", shard0, types.ShardIteratorTypeLatest)
		for range 5 {
			require.NoError(t, get(1))
		}
		failsWith[errThroughput](t, get(1), rateText)
		k.sleep(time.Second)
		require.NoError(t, get(1))
	})
}

// TestSDKCallRates: how often each operation can be called in a second.
func TestSDKCallRates(t *testing.T) {
	inBubble(t, exactly, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 1)
		for _, test := range []struct {
			operation string
			rate      int
			call      func() error
		}{
			{"DescribeLimits", 1, func() error { _, err := k.DescribeLimits(k.ctx, nil); return err }},
			{"ListStreams", 5, func() error { _, err := k.ListStreams(k.ctx, nil); return err }},
			{"ListTagsForStream", 5, func() error {
				_, err := k.ListTagsForStream(k.ctx, &kinesis.ListTagsForStreamInput{StreamARN: &arn})
				return err
			}},
			{"DescribeStream", 10, func() error {
				_, err := k.DescribeStream(k.ctx, &kinesis.DescribeStreamInput{StreamARN: &arn})
				return err
			}},
			{"DescribeStreamSummary", 20, func() error {
				_, err := k.DescribeStreamSummary(k.ctx, &kinesis.DescribeStreamSummaryInput{StreamARN: &arn})
				return err
			}},
			{"ListShards", 1000, func() error {
				_, err := k.ListShards(k.ctx, &kinesis.ListShardsInput{StreamARN: &arn})
				return err
			}},
		} {
			k.sleep(time.Second)
			for range test.rate {
				require.NoError(t, test.call(), test.operation)
			}
			failsWith[errLimit](t, test.call(), "Rate exceeded")
			k.sleep(time.Second)
			require.NoError(t, test.call(), test.operation)
		}

		// The SDK recognises the error as throttling, and retries.
		k.Client = sdkClient(k.server.Client(), "AKIA", "us-east-1", retrying)
		k.sleep(time.Second)
		for range 30 {
			k.describe("orders")
		}
	})
}

// Some operations are limited to a few calls per stream in 24 hours.
func TestSDKDailyLimits(t *testing.T) {
	keys, err := braid.NewKeyRing(map[string][]byte{"one": make([]byte, 32)})
	require.NoError(t, err)
	inBubbleWithKeys(t, exactly, keys, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 4)
		modes := 0
		for _, test := range []struct {
			operation string
			times     int
			call      func(i int) error
		}{
			{"UpdateStreamMode", 2, func(int) error {
				mode := onDemand
				if modes%2 == 1 {
					mode = provisioned
				}
				_, err := k.UpdateStreamMode(k.ctx, &kinesis.UpdateStreamModeInput{StreamARN: &arn, StreamModeDetails: mode})
				if err == nil {
					modes++
				}
				return err
			}},
			{"UpdateShardCount", 10, func(i int) error {
				_, err := k.UpdateShardCount(k.ctx, &kinesis.UpdateShardCountInput{StreamARN: &arn, TargetShardCount: aws.Int32(int32(4 + (i+1)%2)), ScalingType: types.ScalingTypeUniformScaling})
				return err
			}},
			{"StartStreamEncryption and StopStreamEncryption", 25, func(int) error {
				_, err := k.StartStreamEncryption(k.ctx, &kinesis.StartStreamEncryptionInput{StreamARN: &arn, EncryptionType: types.EncryptionTypeKms, KeyId: aws.String("one")})
				if err != nil {
					return err
				}
				_, err = k.StopStreamEncryption(k.ctx, &kinesis.StopStreamEncryptionInput{StreamARN: &arn, EncryptionType: types.EncryptionTypeKms, KeyId: aws.String("one")})
				return err
			}},
		} {
			for i := range test.times {
				require.NoError(t, test.call(i), "%s %d", test.operation, i)
				k.sleep(time.Second)
			}
			failsWith[errLimit](t, test.call(test.times), "in 24 hours")
			k.sleep(24*time.Hour - time.Duration(test.times)*time.Second)
			require.NoError(t, test.call(test.times), test.operation)
			if test.operation == "UpdateStreamMode" { // back, for the next change
				k.sleep(24 * time.Hour)
				require.NoError(t, test.call(0))
			}
			k.sleep(25 * time.Hour)
		}
		for _, target := range []int32{1, 11} {
			_, err := k.UpdateShardCount(k.ctx, &kinesis.UpdateShardCountInput{StreamARN: &arn, TargetShardCount: &target, ScalingType: types.ScalingTypeUniformScaling})
			failsWith[errLimit](t, err, fmt.Sprintf("TargetShardCount %d", target))
		}
	})
}

// TestSDKFailedStart: a failed start of encryption does not count as one of the 25.
func TestSDKFailedStart(t *testing.T) {
	keys, err := braid.NewKeyRing(map[string][]byte{"one": make([]byte, 32)})
	require.NoError(t, err)
	inBubbleWithKeys(t, exactly, keys, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 1)
		start := func(key string) error {
			_, err := k.StartStreamEncryption(k.ctx, &kinesis.StartStreamEncryptionInput{StreamARN: &arn, EncryptionType: types.EncryptionTypeKms, KeyId: &key})
			return err
		}
		for range 30 {
			failsWith[*types.KMSNotFoundException](t, start("two"), "")
			k.sleep(time.Second)
		}
		require.NoError(t, start("one"))
	})
}

// TestSDKQuotas: the quotas of an account.
func TestSDKQuotas(t *testing.T) {
	options := &kinesisapi.Options{ExactLimits: true, Region: "eu-central-1", CreateDelay: 10 * time.Second}
	inBubble(t, options, func(t *testing.T, k *sdk) {
		create := func(name string, shards int32) error {
			k.sleep(time.Second) // because of the rate
			_, err := k.CreateStream(k.ctx, &kinesis.CreateStreamInput{StreamName: &name, ShardCount: &shards})
			return err
		}
		failsWith[errLimit](t, create("big", 1001), "This request would exceed the shard limit for the account 000000000000 in eu-central-1. Current shard count for the account: 0. Limit: 1000. Number of additional shards that would have resulted from this request: 1001.")
		require.NoError(t, create("orders", 998))
		arn := k.active("orders")
		failsWith[errLimit](t, create("more", 3), "Current shard count for the account: 998. Limit: 1000. Number of additional shards that would have resulted from this request: 3.")
		_, err := k.SplitShard(k.ctx, &kinesis.SplitShardInput{StreamARN: &arn, ShardToSplit: aws.String(shard0), NewStartingHashKey: aws.String("1000")})
		require.NoError(t, err)
		require.NoError(t, create("last", 1))
		k.active("last")
		_, err = k.SplitShard(k.ctx, &kinesis.SplitShardInput{StreamARN: &arn, ShardToSplit: aws.String(shard1), NewStartingHashKey: middle(k, shard1)})
		failsWith[errLimit](t, err, "Number of additional shards that would have resulted from this request: 1.")
		_, err = k.UpdateShardCount(k.ctx, &kinesis.UpdateShardCountInput{StreamARN: &arn, TargetShardCount: aws.Int32(1500), ScalingType: types.ScalingTypeUniformScaling})
		failsWith[errLimit](t, err, "Number of additional shards that would have resulted from this request: 501.")

		// Five can be CREATING at once.
		_, err = k.DeleteStream(k.ctx, &kinesis.DeleteStreamInput{StreamName: aws.String("orders")})
		require.NoError(t, err)
		for i := range 5 {
			require.NoError(t, create(fmt.Sprint("quick-", i), 1))
		}
		failsWith[errLimit](t, create("quick-5", 1), "CREATING")
		k.sleep(10 * time.Second)
		require.NoError(t, create("quick-5", 1))

		// On-demand streams have a quota of their own.
		for i := range 51 {
			k.sleep(10 * time.Second)
			_, err = k.CreateStream(k.ctx, &kinesis.CreateStreamInput{StreamName: aws.String(fmt.Sprint("demand-", i)), StreamModeDetails: onDemand})
			if i < 50 {
				require.NoError(t, err)
			}
		}
		failsWith[errLimit](t, err, "Limit: 50")
		limits, err := k.DescribeLimits(k.ctx, nil)
		require.NoError(t, err)
		require.EqualValues(t, 1000, *limits.ShardLimit)
		require.EqualValues(t, 50, *limits.OnDemandStreamCount)
	})
}

// TestSDKConsumerQuota: a stream has 20 consumers, and 5 that are being created.
func TestSDKConsumerQuota(t *testing.T) {
	inBubble(t, &kinesisapi.Options{ExactLimits: true, CreateDelay: 10 * time.Second}, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 1)
		k.createOnDemand("other")
		register := func(i int) error {
			_, err := k.RegisterStreamConsumer(k.ctx, &kinesis.RegisterStreamConsumerInput{StreamARN: &arn, ConsumerName: aws.String(fmt.Sprint("c", i))})
			return err
		}
		for i := range 5 {
			require.NoError(t, register(i))
		}
		k.sleep(time.Second)
		failsWith[errLimit](t, register(5), "CREATING")
		for i := range 15 {
			k.sleep(10 * time.Second)
			require.NoError(t, register(5+i))
		}
		k.sleep(10 * time.Second)
		failsWith[errLimit](t, register(20), "20 consumers")
		_, err := k.UpdateAccountSettings(k.ctx, &kinesis.UpdateAccountSettingsInput{
			MinimumThroughputBillingCommitment: &types.MinimumThroughputBillingCommitmentInput{Status: types.MinimumThroughputBillingCommitmentInputStatusEnabled},
		})
		require.NoError(t, err)
		require.NoError(t, register(20), "with a commitment there may be 50")
	})
}

// TestSDKWithoutLimits: by default only the sizes of requests are limited.
func TestSDKWithoutLimits(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		k.create("orders", 1)
		for range 2000 {
			k.put("orders", "a", "x")
		}
		it := k.iterator("orders", shard0, types.ShardIteratorTypeTrimHorizon)
		for range 100 {
			k.get(it)
			_, err := k.DescribeLimits(k.ctx, nil)
			require.NoError(t, err)
		}
		for i := range 30 {
			k.register("orders", fmt.Sprint("c", i))
		}
	})
}

// TestSDKSubscribeCalls: a consumer can subscribe to a shard once a second, even if its
// last subscription has ended.
func TestSDKSubscribeCalls(t *testing.T) {
	inBubble(t, exactly, func(t *testing.T, k *sdk) {
		k.create("orders", 2)
		one, two := k.register("orders", "one"), k.register("orders", "two")
		k.subscribe(one, shard0, types.ShardIteratorTypeLatest).close(k)
		_, err := k.SubscribeToShard(k.ctx, subscribeTo(one, shard0, types.ShardIteratorTypeLatest))
		failsWith[errLimit](t, err, "Rate exceeded for consumer one on shard shardId-000000000000 in stream orders under account 000000000000.")
		k.subscribe(one, shard1, types.ShardIteratorTypeLatest)
		k.subscribe(two, shard0, types.ShardIteratorTypeLatest)
		k.sleep(time.Second)
		k.subscribe(one, shard0, types.ShardIteratorTypeLatest)
	})
}

// TestSDKOnDemand: with exact limits, the shards of an on-demand stream follow the load;
// otherwise they do not change.
func TestSDKOnDemand(t *testing.T) {
	for _, exact := range []bool{false, true} {
		inBubble(t, &kinesisapi.Options{ExactLimits: exact}, func(t *testing.T, k *sdk) {
			k.createOnDemand("orders")
			entries := make([]types.PutRecordsRequestEntry, 450)
			for i := range entries { // in two places of the lowest quarter
				hash := new(big.Int).Lsh(big.NewInt(int64(i%2)), 125).String()
				entries[i] = types.PutRecordsRequestEntry{PartitionKey: aws.String("a"), ExplicitHashKey: &hash, Data: []byte{1}}
			}
			for range 2 * 130 { // more than two minutes near the budget of a shard
				out, err := k.PutRecords(k.ctx, &kinesis.PutRecordsInput{StreamName: aws.String("orders"), Records: entries})
				require.NoError(t, err)
				require.EqualValues(t, 0, *out.FailedRecordCount)
				k.sleep(time.Second / 2)
			}
			if !exact {
				require.EqualValues(t, 4, *k.summary("orders").OpenShardCount)
				return
			}
			require.Greater(t, *k.summary("orders").OpenShardCount, int32(4))
		})
	}
}

// TestSDKAccounts keeps accounts and regions apart.
func TestSDKAccounts(t *testing.T) {
	inBubble(t, &kinesisapi.Options{SeparateAccounts: true}, func(t *testing.T, k *sdk) {
		const one, two = "111111111111", "222222222222"
		as := func(accessKey, region string) *sdk {
			other := *k
			other.Client = sdkClient(k.server.Client(), accessKey, region)
			return &other
		}
		clients := map[string]*sdk{
			"arn:aws:kinesis:us-east-1:" + one + ":stream/orders":      as(one, "us-east-1"),
			"arn:aws:kinesis:eu-west-1:" + one + ":stream/orders":      as(one, "eu-west-1"),
			"arn:aws:kinesis:us-east-1:" + two + ":stream/orders":      as(two, "us-east-1"),
			"arn:aws:kinesis:us-east-1:000000000000:stream/orders":     as("AKIAIOSFODNN7EXAMPLE", "us-east-1"),
			"arn:aws:kinesis:ap-south-1:000000000000:stream/orders":    as("AKIAIOSFODNN7EXAMPLE", "ap-south-1"),
			"arn:aws:kinesis:ap-southeast-3:" + two + ":stream/orders": as(two, "ap-southeast-3"),
		}
		for arn, c := range clients {
			require.Equal(t, arn, c.create("orders", 1))
			c.put("orders", "a", arn)
		}
		for arn, c := range clients {
			it := c.iterator("orders", shard0, types.ShardIteratorTypeTrimHorizon)
			require.Equal(t, []string{arn}, texts(c.get(it).Records))
			list, err := c.ListStreams(k.ctx, nil)
			require.NoError(t, err)
			require.Equal(t, []string{"orders"}, list.StreamNames)
			require.Equal(t, arn, *list.StreamSummaries[0].StreamARN)
			limits, err := c.DescribeLimits(k.ctx, nil)
			require.NoError(t, err)
			require.EqualValues(t, 1, *limits.OpenShardCount)
			for other := range clients {
				_, err := c.DescribeStreamSummary(k.ctx, &kinesis.DescribeStreamSummaryInput{StreamARN: &other})
				if other == arn {
					require.NoError(t, err)
				} else {
					failsWith[errNotFound](t, err, "Stream orders under account")
				}
			}
			// An iterator is not bound to who asked for it.
			require.Equal(t, []string{arn}, texts(k.get(it).Records))
		}
		first := clients["arn:aws:kinesis:us-east-1:"+one+":stream/orders"]
		_, err := first.DeleteStream(k.ctx, &kinesis.DeleteStreamInput{StreamName: aws.String("orders")})
		require.NoError(t, err)
		require.Equal(t, types.StreamStatusActive, clients["arn:aws:kinesis:us-east-1:"+two+":stream/orders"].describe("orders").StreamStatus)

		// A name can be as long as the service allows.
		long := fmt.Sprintf("%0128d", 7)
		arn := first.create(long, 1)
		require.Equal(t, "arn:aws:kinesis:us-east-1:"+one+":stream/"+long, arn)
		list, err := first.ListStreams(k.ctx, nil)
		require.NoError(t, err)
		require.Equal(t, []string{long}, list.StreamNames)
		first.put(long, "a", "x")
	})
}

// TestSDKOneAccount: unless accounts are separate, there is one account, whatever requests
// call it.
func TestSDKOneAccount(t *testing.T) {
	inBubble(t, &kinesisapi.Options{Account: "123456789012", Region: "eu-west-1"}, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 1)
		require.Equal(t, "arn:aws:kinesis:eu-west-1:123456789012:stream/orders", arn)
		k.Client = sdkClient(k.server.Client(), "999999999999", "ap-south-1")
		require.Equal(t, arn, *k.describe("orders").StreamARN)
		out, err := k.DescribeStream(k.ctx, &kinesis.DescribeStreamInput{StreamARN: aws.String(arnOf("orders"))})
		require.NoError(t, err)
		require.Equal(t, arn, *out.StreamDescription.StreamARN)
		var api smithy.APIError
		_, err = k.DescribeStream(k.ctx, &kinesis.DescribeStreamInput{StreamName: aws.String("absent")})
		require.ErrorAs(t, err, &api)
		require.Equal(t, "Stream absent under account 123456789012 not found.", api.ErrorMessage())
	})
}

package sdktest_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
)

func TestSDKRetention(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		name := aws.String("orders")
		k.create("orders", 1)
		increase := func(hours int32) error {
			_, err := k.IncreaseStreamRetentionPeriod(k.ctx, &kinesis.IncreaseStreamRetentionPeriodInput{StreamName: name, RetentionPeriodHours: &hours})
			return err
		}
		decrease := func(hours int32) error {
			_, err := k.DecreaseStreamRetentionPeriod(k.ctx, &kinesis.DecreaseStreamRetentionPeriodInput{StreamName: name, RetentionPeriodHours: &hours})
			return err
		}
		failsWith[errArgument](t, increase(23), "Minimum allowed retention period is 24 hours. Requested retention period (23 hours) is too short.")
		failsWith[errArgument](t, increase(8761), "Maximum allowed retention period is 8760 hours.")
		failsWith[errArgument](t, decrease(25), "can not be longer than existing retention period (24 hours). Use IncreaseRetentionPeriod API.")
		require.NoError(t, increase(24), "the same is no error")
		require.NoError(t, decrease(24))
		require.NoError(t, increase(48))
		require.EqualValues(t, 48, *k.describe("orders").RetentionPeriodHours)
		failsWith[errArgument](t, increase(30), "can not be shorter than existing retention period (48 hours). Use DecreaseRetentionPeriod API.")

		// A record can be read for exactly that long; expired records stay expired.
		put := k.put("orders", "a", "old")
		oldest := func() []string {
			return texts(k.get(k.iterator("orders", *put.ShardId, types.ShardIteratorTypeTrimHorizon)).Records)
		}
		k.sleep(30 * time.Hour)
		k.put("orders", "a", "new")
		require.Equal(t, []string{"old", "new"}, oldest())
		require.NoError(t, decrease(24))
		require.Equal(t, []string{"new"}, oldest())
		require.NoError(t, increase(100))
		require.Equal(t, []string{"new"}, oldest())
		k.sleep(100*time.Hour + time.Second)
		require.Empty(t, oldest())

		// A reader whose place has expired is moved to the oldest record.
		k.put("orders", "a", "newest")
		after := k.iterator("orders", *put.ShardId, types.ShardIteratorTypeAfterSequenceNumber, atNumber(put.SequenceNumber))
		require.Equal(t, []string{"newest"}, texts(k.get(after).Records))
		_, err := k.IncreaseStreamRetentionPeriod(k.ctx, &kinesis.IncreaseStreamRetentionPeriodInput{StreamName: aws.String("absent"), RetentionPeriodHours: aws.Int32(48)})
		failsWith[errNotFound](t, err, "")
	})
}

func TestSDKUpdateStreamMode(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 2)
		change := func(mode *types.StreamModeDetails) {
			t.Helper()
			_, err := k.UpdateStreamMode(k.ctx, &kinesis.UpdateStreamModeInput{StreamARN: &arn, StreamModeDetails: mode})
			require.NoError(t, err)
			require.Equal(t, mode.StreamMode, k.summary("orders").StreamModeDetails.StreamMode)
			require.EqualValues(t, 2, *k.summary("orders").OpenShardCount, "the shards stay")
		}
		change(provisioned) // which it is
		change(onDemand)
		reshard := []func() error{
			func() error {
				_, err := k.SplitShard(k.ctx, &kinesis.SplitShardInput{StreamARN: &arn, ShardToSplit: aws.String("shardId-000000000000"), NewStartingHashKey: aws.String("9")})
				return err
			},
			func() error {
				_, err := k.MergeShards(k.ctx, &kinesis.MergeShardsInput{StreamARN: &arn, ShardToMerge: aws.String("shardId-000000000000"), AdjacentShardToMerge: aws.String("shardId-000000000001")})
				return err
			},
			func() error {
				_, err := k.UpdateShardCount(k.ctx, &kinesis.UpdateShardCountInput{StreamARN: &arn, TargetShardCount: aws.Int32(4), ScalingType: types.ScalingTypeUniformScaling})
				return err
			},
		}
		for _, call := range reshard {
			failsWith[errValidation](t, call(), "Request is invalid. Stream orders under account 000000000000 is in On-Demand mode.")
		}
		change(onDemand)
		change(provisioned)
		_, err := k.UpdateStreamMode(k.ctx, &kinesis.UpdateStreamModeInput{StreamARN: aws.String(arnOf("absent")), StreamModeDetails: onDemand})
		failsWith[errNotFound](t, err, "")
	})
}

func TestSDKAccountSettings(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		settings := func() *types.MinimumThroughputBillingCommitmentOutput {
			t.Helper()
			out, err := k.DescribeAccountSettings(k.ctx, nil)
			require.NoError(t, err)
			return out.MinimumThroughputBillingCommitment
		}
		update := func(status types.MinimumThroughputBillingCommitmentInputStatus) *types.MinimumThroughputBillingCommitmentOutput {
			t.Helper()
			out, err := k.UpdateAccountSettings(k.ctx, &kinesis.UpdateAccountSettingsInput{
				MinimumThroughputBillingCommitment: &types.MinimumThroughputBillingCommitmentInput{Status: status},
			})
			require.NoError(t, err)
			require.Equal(t, out.MinimumThroughputBillingCommitment, settings())
			return out.MinimumThroughputBillingCommitment
		}
		const (
			enable  = types.MinimumThroughputBillingCommitmentInputStatusEnabled
			disable = types.MinimumThroughputBillingCommitmentInputStatusDisabled
			ending  = types.MinimumThroughputBillingCommitmentOutputStatusEnabledUntilEarliestAllowedEnd
			enabled = types.MinimumThroughputBillingCommitmentOutputStatusEnabled
			not     = types.MinimumThroughputBillingCommitmentOutputStatusDisabled
		)
		require.Equal(t, not, settings().Status)
		require.Equal(t, not, update(disable).Status)
		started := time.Now()
		s := update(enable)
		require.Equal(t, enabled, s.Status)
		require.WithinDuration(t, started, *s.StartedAt, time.Second)
		require.Equal(t, 24*time.Hour, s.EarliestAllowedEndAt.Sub(*s.StartedAt))
		k.sleep(time.Hour)
		require.Equal(t, ending, update(disable).Status, "24 hours is the least")
		require.Equal(t, enabled, update(enable).Status, "the end is called off")
		require.Equal(t, ending, update(disable).Status)
		k.sleep(23 * time.Hour)
		require.Equal(t, not, settings().Status)
		require.Equal(t, enabled, update(enable).Status)
		k.sleep(25 * time.Hour)
		require.Equal(t, not, update(disable).Status, "after 24 hours it ends at once")
	})
}

func TestSDKWarmThroughput(t *testing.T) {
	inBubble(t, &kinesisapi.Options{UpdateDelay: time.Minute}, func(t *testing.T, k *sdk) {
		arn := k.createOnDemand("orders")
		k.create("fixed", 1)
		warm := func(name string, mib int32) (*kinesis.UpdateStreamWarmThroughputOutput, error) {
			return k.UpdateStreamWarmThroughput(k.ctx, &kinesis.UpdateStreamWarmThroughputInput{StreamName: &name, WarmThroughputMiBps: &mib})
		}
		_, err := warm("orders", 100)
		failsWith[errArgument](t, err, "MinimumThroughputBillingCommitment")
		_, err = k.CreateStream(k.ctx, &kinesis.CreateStreamInput{StreamName: aws.String("w"), StreamModeDetails: onDemand, WarmThroughputMiBps: aws.Int32(10)})
		failsWith[errArgument](t, err, "MinimumThroughputBillingCommitment")
		_, err = k.UpdateAccountSettings(k.ctx, &kinesis.UpdateAccountSettingsInput{
			MinimumThroughputBillingCommitment: &types.MinimumThroughputBillingCommitmentInput{Status: types.MinimumThroughputBillingCommitmentInputStatusEnabled},
		})
		require.NoError(t, err)
		_, err = warm("fixed", 100)
		failsWith[errArgument](t, err, "not in On-Demand mode")
		_, err = warm("orders", 10241)
		require.Error(t, err)

		out, err := warm("orders", 100)
		require.NoError(t, err)
		require.Equal(t, arn, *out.StreamARN)
		require.Equal(t, "orders", *out.StreamName)
		require.EqualValues(t, 0, *out.WarmThroughput.CurrentMiBps)
		require.EqualValues(t, 100, *out.WarmThroughput.TargetMiBps)
		require.Equal(t, types.StreamStatusUpdating, k.summary("orders").StreamStatus)
		k.sleep(time.Minute)
		require.EqualValues(t, 100, *k.summary("orders").WarmThroughput.CurrentMiBps)

		// A stream created with warm throughput has the shards for it.
		_, err = k.CreateStream(k.ctx, &kinesis.CreateStreamInput{StreamName: aws.String("w"), StreamModeDetails: onDemand, WarmThroughputMiBps: aws.Int32(10)})
		require.NoError(t, err)
		s := k.summary("w")
		require.EqualValues(t, 10, *s.OpenShardCount)
		require.EqualValues(t, 10, *s.WarmThroughput.CurrentMiBps)

		// It ends with the mode.
		_, err = k.UpdateStreamMode(k.ctx, &kinesis.UpdateStreamModeInput{StreamARN: &arn, StreamModeDetails: provisioned})
		require.NoError(t, err)
		k.sleep(time.Minute)
		require.Nil(t, k.summary("orders").WarmThroughput)
		_, err = k.UpdateStreamMode(k.ctx, &kinesis.UpdateStreamModeInput{StreamARN: &arn, StreamModeDetails: provisioned, WarmThroughputMiBps: aws.Int32(5)})
		failsWith[errArgument](t, err, "not in On-Demand mode")
		_, err = k.UpdateStreamMode(k.ctx, &kinesis.UpdateStreamModeInput{StreamARN: &arn, StreamModeDetails: onDemand, WarmThroughputMiBps: aws.Int32(10_241)})
		failsWith[errArgument](t, err, "at most 10240")
		_, err = k.CreateStream(k.ctx, &kinesis.CreateStreamInput{StreamName: aws.String("hot"), StreamModeDetails: onDemand, WarmThroughputMiBps: aws.Int32(10_241)})
		failsWith[errArgument](t, err, "at most 10240")
		_, err = k.UpdateStreamMode(k.ctx, &kinesis.UpdateStreamModeInput{StreamARN: &arn, StreamModeDetails: onDemand, WarmThroughputMiBps: aws.Int32(5)})
		require.NoError(t, err)
		k.sleep(time.Minute)
		require.EqualValues(t, 5, *k.summary("orders").WarmThroughput.TargetMiBps)
	})
}

func TestSDKUpdateMaxRecordSize(t *testing.T) {
	inBubble(t, &kinesisapi.Options{UpdateDelay: time.Minute}, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 1)
		update := func(kib int32) error {
			_, err := k.UpdateMaxRecordSize(k.ctx, &kinesis.UpdateMaxRecordSizeInput{StreamARN: &arn, MaxRecordSizeInKiB: &kib})
			return err
		}
		put := func(bytes int) error {
			_, err := k.PutRecord(k.ctx, &kinesis.PutRecordInput{StreamName: aws.String("orders"), PartitionKey: aws.String("a"), Data: make([]byte, bytes)})
			return err
		}
		failsWith[errValidation](t, update(1023), "")
		failsWith[errValidation](t, update(10241), "")
		require.NoError(t, put(1<<20-1), "with its key, the most by default")
		failsWith[errValidation](t, put(1<<20), "at 'data' failed to satisfy constraint: Member must have length less than or equal to 1048576")
		require.NoError(t, update(2048))
		require.EqualValues(t, 1024, *k.summary("orders").MaxRecordSizeInKiB, "not yet")
		failsWith[errValidation](t, put(1<<20), "")
		k.sleep(time.Minute)
		require.EqualValues(t, 2048, *k.summary("orders").MaxRecordSizeInKiB)
		require.NoError(t, put(2<<20-1))
		failsWith[errValidation](t, put(2<<20), "less than or equal to 2097152")

		// Existing larger records can still be read after the size is reduced.
		require.NoError(t, update(1024))
		k.sleep(time.Minute)
		failsWith[errValidation](t, put(2<<20-1), "")
		records := k.get(k.iterator("orders", "shardId-000000000000", types.ShardIteratorTypeTrimHorizon)).Records
		require.Len(t, records, 2)
		require.Len(t, records[1].Data, 2<<20-1)
	})
}

// TestSDKRecordDistributionStrategy: with AUTO the service places records itself,
// and a producer need not give a partition key.
func TestSDKRecordDistributionStrategy(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		arn := k.createOnDemand("orders")
		fixed := k.create("fixed", 1)
		strategy := func(arn string, s types.RecordDistributionStrategy) error {
			_, err := k.UpdateStreamRecordDistributionStrategy(k.ctx, &kinesis.UpdateStreamRecordDistributionStrategyInput{StreamARN: &arn, RecordDistributionStrategy: s})
			return err
		}
		put := func() (*kinesis.PutRecordOutput, error) {
			return k.PutRecord(k.ctx, &kinesis.PutRecordInput{StreamName: aws.String("orders"), Data: []byte("x")})
		}
		_, err := put()
		failsWith[errValidation](t, err, "Value null at 'partitionKey' failed to satisfy constraint: Member must not be null")
		failsWith[errArgument](t, strategy(fixed, types.RecordDistributionStrategyAuto), "not in On-Demand mode")
		require.NoError(t, strategy(arn, types.RecordDistributionStrategyAuto))
		require.Equal(t, types.RecordDistributionStrategyAuto, k.summary("orders").RecordDistributionStrategy)

		shards := make(map[string]int)
		for range 50 {
			out, err := put()
			require.NoError(t, err)
			shards[*out.ShardId]++
		}
		var entries []types.PutRecordsRequestEntry
		for range 50 {
			entries = append(entries, types.PutRecordsRequestEntry{Data: []byte("x")})
		}
		entries[0].PartitionKey = aws.String("mine")
		many, err := k.PutRecords(k.ctx, &kinesis.PutRecordsInput{StreamName: aws.String("orders"), Records: entries})
		require.NoError(t, err)
		require.EqualValues(t, 0, *many.FailedRecordCount)
		for _, r := range many.Records {
			shards[*r.ShardId]++
		}
		require.Len(t, shards, 4, "they go everywhere")

		keys := 0
		for shard, n := range shards {
			records := k.get(k.iterator("orders", shard, types.ShardIteratorTypeTrimHorizon)).Records
			require.Len(t, records, n)
			for _, r := range records {
				if r.PartitionKey != nil {
					require.Equal(t, "mine", *r.PartitionKey)
					keys++
				}
			}
		}
		require.Equal(t, 1, keys)
		require.NoError(t, strategy(arn, types.RecordDistributionStrategyUserPartitionKey))
		_, err = put()
		failsWith[errValidation](t, err, "partitionKey")

		_, err = k.CreateStream(k.ctx, &kinesis.CreateStreamInput{
			StreamName: aws.String("auto"), StreamModeDetails: onDemand, RecordDistributionStrategy: types.RecordDistributionStrategyAuto,
		})
		require.NoError(t, err)
		_, err = k.PutRecord(k.ctx, &kinesis.PutRecordInput{StreamName: aws.String("auto"), Data: []byte("x")})
		require.NoError(t, err)
	})
}

func TestSDKDescribeLimits(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		k.create("a", 3)
		arn := k.create("b", 2)
		k.createOnDemand("c")
		_, err := k.UpdateShardCount(k.ctx, &kinesis.UpdateShardCountInput{StreamARN: &arn, TargetShardCount: aws.Int32(1), ScalingType: types.ScalingTypeUniformScaling})
		require.NoError(t, err)
		out, err := k.DescribeLimits(k.ctx, nil)
		require.NoError(t, err)
		require.EqualValues(t, 3+1+4, *out.OpenShardCount)
		require.EqualValues(t, 20000, *out.ShardLimit)
		require.EqualValues(t, 1, *out.OnDemandStreamCount)
		require.EqualValues(t, 50, *out.OnDemandStreamCountLimit)
		require.EqualValues(t, 0, *out.ChannelCount)
	})
}

func TestSDKEnhancedMonitoring(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		k.create("orders", 1)
		name := aws.String("orders")
		in, out := types.MetricsNameIncomingBytes, types.MetricsNameOutgoingBytes
		enabled, err := k.EnableEnhancedMonitoring(k.ctx, &kinesis.EnableEnhancedMonitoringInput{StreamName: name, ShardLevelMetrics: []types.MetricsName{out, in}})
		require.NoError(t, err)
		require.Empty(t, enabled.CurrentShardLevelMetrics)
		require.ElementsMatch(t, []types.MetricsName{in, out}, enabled.DesiredShardLevelMetrics)
		require.Equal(t, "orders", *enabled.StreamName)
		require.Equal(t, arnOf("orders"), *enabled.StreamARN)
		require.ElementsMatch(t, []types.MetricsName{in, out}, k.describe("orders").EnhancedMonitoring[0].ShardLevelMetrics)
		disabled, err := k.DisableEnhancedMonitoring(k.ctx, &kinesis.DisableEnhancedMonitoringInput{StreamName: name, ShardLevelMetrics: []types.MetricsName{in}})
		require.NoError(t, err)
		require.ElementsMatch(t, []types.MetricsName{in, out}, disabled.CurrentShardLevelMetrics)
		require.Equal(t, []types.MetricsName{out}, disabled.DesiredShardLevelMetrics)
		all, err := k.EnableEnhancedMonitoring(k.ctx, &kinesis.EnableEnhancedMonitoringInput{StreamName: name, ShardLevelMetrics: []types.MetricsName{types.MetricsNameAll}})
		require.NoError(t, err)
		require.Len(t, all.DesiredShardLevelMetrics, 7)
		require.NotContains(t, all.DesiredShardLevelMetrics, types.MetricsNameAll)
		_, err = k.DisableEnhancedMonitoring(k.ctx, &kinesis.DisableEnhancedMonitoringInput{StreamName: name, ShardLevelMetrics: []types.MetricsName{types.MetricsNameAll}})
		require.NoError(t, err)
		require.Empty(t, k.summary("orders").EnhancedMonitoring[0].ShardLevelMetrics)
		_, err = k.EnableEnhancedMonitoring(k.ctx, &kinesis.EnableEnhancedMonitoringInput{StreamName: name, ShardLevelMetrics: []types.MetricsName{"Weather"}})
		failsWith[errValidation](t, err, "")
		_, err = k.EnableEnhancedMonitoring(k.ctx, &kinesis.EnableEnhancedMonitoringInput{StreamName: aws.String("absent"), ShardLevelMetrics: []types.MetricsName{in}})
		failsWith[errNotFound](t, err, "")
	})
}

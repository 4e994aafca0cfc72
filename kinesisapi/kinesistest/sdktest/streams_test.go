package sdktest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
)

func TestSDKCreateStream(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		started := time.Now()
		_, err := k.CreateStream(k.ctx, &kinesis.CreateStreamInput{
			StreamName: aws.String("orders"), ShardCount: aws.Int32(3),
			Tags: map[string]string{"team": "a"}, MaxRecordSizeInKiB: aws.Int32(2048),
		})
		require.NoError(t, err)
		d := k.describe("orders")
		require.Equal(t, "orders", *d.StreamName)
		require.Equal(t, arnOf("orders"), *d.StreamARN)
		require.Equal(t, types.StreamStatusActive, d.StreamStatus)
		require.Equal(t, types.StreamModeProvisioned, d.StreamModeDetails.StreamMode)
		require.EqualValues(t, 24, *d.RetentionPeriodHours)
		require.Equal(t, types.EncryptionTypeNone, d.EncryptionType)
		require.Nil(t, d.KeyId)
		require.Len(t, d.EnhancedMonitoring, 1)
		require.Empty(t, d.EnhancedMonitoring[0].ShardLevelMetrics)
		require.WithinDuration(t, started, *d.StreamCreationTimestamp, time.Second)
		require.False(t, *d.HasMoreShards)
		require.Equal(t, []string{"shardId-000000000000", "shardId-000000000001", "shardId-000000000002"}, shardIDs(d.Shards))
		requireTiles(t, d.Shards)
		for _, sh := range d.Shards {
			require.Nil(t, sh.ParentShardId)
			require.Nil(t, sh.AdjacentParentShardId)
			require.NotEmpty(t, *sh.SequenceNumberRange.StartingSequenceNumber)
			require.Nil(t, sh.SequenceNumberRange.EndingSequenceNumber)
		}
		s := k.summary("orders")
		require.EqualValues(t, 3, *s.OpenShardCount)
		require.EqualValues(t, 0, *s.ConsumerCount)
		require.EqualValues(t, 2048, *s.MaxRecordSizeInKiB)
		tags, err := k.ListTagsForStream(k.ctx, &kinesis.ListTagsForStreamInput{StreamName: aws.String("orders")})
		require.NoError(t, err)
		require.Equal(t, []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}}, tags.Tags)

		// A stream of the service is one of the database.
		stream, err := k.db.Stream("orders")
		require.NoError(t, err)
		require.Len(t, stream.Shards(), 3)

		// It is not idempotent.
		_, err = k.CreateStream(k.ctx, &kinesis.CreateStreamInput{StreamName: aws.String("orders"), ShardCount: aws.Int32(3)})
		failsWith[errInUse](t, err, "Stream orders under account 000000000000 already exists.")

		for name, in := range map[string]*kinesis.CreateStreamInput{
			"a name with a space":           {StreamName: aws.String("a b"), ShardCount: aws.Int32(1)},
			"no shards":                     {StreamName: aws.String("a"), ShardCount: aws.Int32(0)},
			"too small a record":            {StreamName: aws.String("a"), ShardCount: aws.Int32(1), MaxRecordSizeInKiB: aws.Int32(1023)},
			"too large a record":            {StreamName: aws.String("a"), ShardCount: aws.Int32(1), MaxRecordSizeInKiB: aws.Int32(10241)},
			"provisioned without its count": {StreamName: aws.String("a"), StreamModeDetails: provisioned},
		} {
			_, err := k.CreateStream(k.ctx, in)
			require.Error(t, err, name)
			failsWith[errValidation](t, err, "")
		}
		_, err = k.CreateStream(k.ctx, &kinesis.CreateStreamInput{StreamName: aws.String("a"), ShardCount: aws.Int32(1), StreamModeDetails: onDemand})
		failsWith[errArgument](t, err, "ShardCount")
		_, err = k.CreateStream(k.ctx, &kinesis.CreateStreamInput{
			StreamName: aws.String("a"), ShardCount: aws.Int32(1), RecordDistributionStrategy: types.RecordDistributionStrategyAuto,
		})
		failsWith[errArgument](t, err, "On-Demand")

		// Without a mode, a stream is on-demand.
		_, err = k.CreateStream(k.ctx, &kinesis.CreateStreamInput{StreamName: aws.String("b")})
		require.NoError(t, err)
		s = k.summary("b")
		require.Equal(t, types.StreamModeOnDemand, s.StreamModeDetails.StreamMode)
		require.EqualValues(t, 4, *s.OpenShardCount)
		require.Equal(t, types.RecordDistributionStrategyUserPartitionKey, s.RecordDistributionStrategy)
	})
}

// TestSDKStatuses follows a stream through all statuses.
func TestSDKStatuses(t *testing.T) {
	options := &kinesisapi.Options{CreateDelay: 30 * time.Second, UpdateDelay: 20 * time.Second, DeleteDelay: 40 * time.Second}
	inBubble(t, options, func(t *testing.T, k *sdk) {
		started := time.Now()
		name := aws.String("orders")
		_, err := k.CreateStream(k.ctx, &kinesis.CreateStreamInput{StreamName: name, ShardCount: aws.Int32(2)})
		require.NoError(t, err)

		// CREATING: it can be described, and has no shards.
		d := k.describe("orders")
		require.Equal(t, types.StreamStatusCreating, d.StreamStatus)
		require.Empty(t, d.Shards)
		require.False(t, *d.HasMoreShards)
		require.EqualValues(t, 0, *k.summary("orders").OpenShardCount)
		k.refusesAll("CREATING")
		_, err = k.CreateStream(k.ctx, &kinesis.CreateStreamInput{StreamName: name, ShardCount: aws.Int32(2)})
		failsWith[errInUse](t, err, "already exists")
		listed, err := k.ListStreams(k.ctx, nil)
		require.NoError(t, err)
		require.Equal(t, types.StreamStatusCreating, listed.StreamSummaries[0].StreamStatus)

		require.NoError(t, kinesis.NewStreamExistsWaiter(k.Client).Wait(k.ctx, &kinesis.DescribeStreamInput{StreamName: name}, time.Minute))
		require.GreaterOrEqual(t, time.Since(started), 30*time.Second)
		require.Len(t, k.describe("orders").Shards, 2)

		// UPDATING: it works as before, and shows the change at the end.
		put := k.put("orders", "a", "before")
		iterator := k.iterator("orders", *put.ShardId, types.ShardIteratorTypeTrimHorizon)
		_, err = k.SplitShard(k.ctx, &kinesis.SplitShardInput{StreamName: name, ShardToSplit: put.ShardId, NewStartingHashKey: middle(k, *put.ShardId)})
		require.NoError(t, err)
		d = k.describe("orders")
		require.Equal(t, types.StreamStatusUpdating, d.StreamStatus)
		require.Len(t, d.Shards, 2)
		for _, sh := range d.Shards {
			require.Nil(t, sh.SequenceNumberRange.EndingSequenceNumber)
		}
		require.Equal(t, *put.ShardId, *k.put("orders", "a", "meanwhile").ShardId)
		require.Equal(t, []string{"before", "meanwhile"}, texts(k.get(iterator).Records))
		require.Len(t, k.shards("orders"), 2)
		k.refusesControl("UPDATING")
		k.sleep(20 * time.Second)
		d = k.describe("orders")
		require.Equal(t, types.StreamStatusActive, d.StreamStatus)
		require.Len(t, d.Shards, 4)
		require.NotEqual(t, *put.ShardId, *k.put("orders", "a", "after").ShardId)

		// DELETING: it can be described, and has no shards.
		_, err = k.DeleteStream(k.ctx, &kinesis.DeleteStreamInput{StreamName: name})
		require.NoError(t, err)
		d = k.describe("orders")
		require.Equal(t, types.StreamStatusDeleting, d.StreamStatus)
		require.Empty(t, d.Shards)
		k.refusesAll("DELETING")
		_, err = k.DeleteStream(k.ctx, &kinesis.DeleteStreamInput{StreamName: name})
		require.NoError(t, err, "a second time")
		_, err = k.CreateStream(k.ctx, &kinesis.CreateStreamInput{StreamName: name, ShardCount: aws.Int32(1)})
		failsWith[errInUse](t, err, "already exists")
		deleting := time.Now()
		require.NoError(t, kinesis.NewStreamNotExistsWaiter(k.Client).Wait(k.ctx, &kinesis.DescribeStreamInput{StreamName: name}, time.Minute))
		require.GreaterOrEqual(t, time.Since(deleting), 40*time.Second)

		// A stream that is CREATING can be deleted, and then the name is free.
		_, err = k.CreateStream(k.ctx, &kinesis.CreateStreamInput{StreamName: name, ShardCount: aws.Int32(1)})
		require.NoError(t, err)
		_, err = k.DeleteStream(k.ctx, &kinesis.DeleteStreamInput{StreamName: name})
		require.NoError(t, err)
		require.Equal(t, types.StreamStatusDeleting, k.describe("orders").StreamStatus)
		k.sleep(40 * time.Second)
		_, err = k.DescribeStream(k.ctx, &kinesis.DescribeStreamInput{StreamName: name})
		failsWith[errNotFound](t, err, "Stream orders under account 000000000000 not found.")
	})
}

// middle is a hash key in the middle of a shard of the stream "orders".
func middle(k *sdk, shard string) *string {
	for _, sh := range k.shards("orders") {
		if *sh.ShardId == shard {
			return aws.String(between(sh.HashKeyRange))
		}
	}
	k.t.Fatalf("no shard %s", shard)
	return nil
}

// refusesAll checks that the stream "orders" can be neither read nor put to.
func (k *sdk) refusesAll(status string) {
	k.t.Helper()
	name, shard := aws.String("orders"), aws.String("shardId-000000000000")
	_, err := k.PutRecord(k.ctx, &kinesis.PutRecordInput{StreamName: name, PartitionKey: aws.String("a"), Data: []byte("x")})
	failsWith[errNotFound](k.t, err, "Stream orders under account 000000000000 not found.")
	_, err = k.PutRecords(k.ctx, &kinesis.PutRecordsInput{StreamName: name, Records: []types.PutRecordsRequestEntry{{PartitionKey: aws.String("a"), Data: []byte("x")}}})
	failsWith[errNotFound](k.t, err, "Stream orders under account 000000000000 not found.")
	_, err = k.GetShardIterator(k.ctx, &kinesis.GetShardIteratorInput{StreamName: name, ShardId: shard, ShardIteratorType: types.ShardIteratorTypeLatest})
	failsWith[errNotFound](k.t, err, "Shard shardId-000000000000 in stream orders under account 000000000000 does not exist")
	_, err = k.ListShards(k.ctx, &kinesis.ListShardsInput{StreamName: name})
	failsWith[errInUse](k.t, err, "not ACTIVE, instead in state "+status)
	k.refusesControl(status)
}

// refusesControl checks that the stream "orders" refuses all changes that need an ACTIVE
// stream.
func (k *sdk) refusesControl(status string) {
	k.t.Helper()
	name, arn, shard := aws.String("orders"), aws.String(arnOf("orders")), aws.String("shardId-000000000000")
	calls := map[string]func() error{
		"SplitShard": func() error {
			_, err := k.SplitShard(k.ctx, &kinesis.SplitShardInput{StreamName: name, ShardToSplit: shard, NewStartingHashKey: aws.String("9")})
			return err
		},
		"MergeShards": func() error {
			_, err := k.MergeShards(k.ctx, &kinesis.MergeShardsInput{StreamName: name, ShardToMerge: shard, AdjacentShardToMerge: aws.String("shardId-000000000001")})
			return err
		},
		"UpdateShardCount": func() error {
			_, err := k.UpdateShardCount(k.ctx, &kinesis.UpdateShardCountInput{StreamName: name, TargetShardCount: aws.Int32(4), ScalingType: types.ScalingTypeUniformScaling})
			return err
		},
		"UpdateStreamMode": func() error {
			_, err := k.UpdateStreamMode(k.ctx, &kinesis.UpdateStreamModeInput{StreamARN: arn, StreamModeDetails: onDemand})
			return err
		},
		"UpdateMaxRecordSize": func() error {
			_, err := k.UpdateMaxRecordSize(k.ctx, &kinesis.UpdateMaxRecordSizeInput{StreamARN: arn, MaxRecordSizeInKiB: aws.Int32(2048)})
			return err
		},
		"StartStreamEncryption": func() error {
			_, err := k.StartStreamEncryption(k.ctx, &kinesis.StartStreamEncryptionInput{StreamName: name, EncryptionType: types.EncryptionTypeKms, KeyId: aws.String("k")})
			return err
		},
		"StopStreamEncryption": func() error {
			_, err := k.StopStreamEncryption(k.ctx, &kinesis.StopStreamEncryptionInput{StreamName: name, EncryptionType: types.EncryptionTypeKms, KeyId: aws.String("k")})
			return err
		},
		"IncreaseStreamRetentionPeriod": func() error {
			_, err := k.IncreaseStreamRetentionPeriod(k.ctx, &kinesis.IncreaseStreamRetentionPeriodInput{StreamName: name, RetentionPeriodHours: aws.Int32(48)})
			return err
		},
		"UpdateStreamWarmThroughput": func() error {
			_, err := k.UpdateStreamWarmThroughput(k.ctx, &kinesis.UpdateStreamWarmThroughputInput{StreamName: name, WarmThroughputMiBps: aws.Int32(10)})
			return err
		},
		"RegisterStreamConsumer": func() error {
			_, err := k.RegisterStreamConsumer(k.ctx, &kinesis.RegisterStreamConsumerInput{StreamARN: arn, ConsumerName: aws.String("c")})
			return err
		},
	}
	for operation, call := range calls {
		err := call()
		require.Error(k.t, err, operation)
		failsWith[errInUse](k.t, err, "Stream orders under account 000000000000 not ACTIVE, instead in state "+status)
	}
}

func TestSDKDeleteStream(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 1)
		put := k.put("orders", "a", "x")
		iterator := k.iterator("orders", *put.ShardId, types.ShardIteratorTypeTrimHorizon)
		consumer := k.register("orders", "c")

		_, err := k.DeleteStream(k.ctx, &kinesis.DeleteStreamInput{StreamName: aws.String("orders")})
		failsWith[errInUse](t, err, "consumers")
		_, err = k.DeleteStream(k.ctx, &kinesis.DeleteStreamInput{StreamARN: &arn, EnforceConsumerDeletion: aws.Bool(true)})
		require.NoError(t, err)
		_, err = k.DescribeStream(k.ctx, &kinesis.DescribeStreamInput{StreamARN: &arn})
		failsWith[errNotFound](t, err, "Stream orders under account 000000000000 not found.")
		_, err = k.DeleteStream(k.ctx, &kinesis.DeleteStreamInput{StreamName: aws.String("orders")})
		failsWith[errNotFound](t, err, "")
		_, err = k.GetRecords(k.ctx, &kinesis.GetRecordsInput{ShardIterator: iterator})
		failsWith[errNotFound](t, err, "Shard shardId-000000000000 in stream orders under account 000000000000 does not exist")

		// A new stream of that name has nothing of the old one.
		k.sleep(time.Second)
		k.create("orders", 1)
		_, err = k.GetRecords(k.ctx, &kinesis.GetRecordsInput{ShardIterator: iterator})
		failsWith[errNotFound](t, err, "does not exist")
		require.EqualValues(t, 0, *k.summary("orders").ConsumerCount)
		_, err = k.DescribeStreamConsumer(k.ctx, &kinesis.DescribeStreamConsumerInput{ConsumerARN: &consumer})
		failsWith[errNotFound](t, err, "")
		require.Empty(t, k.get(k.iterator("orders", "shardId-000000000000", types.ShardIteratorTypeTrimHorizon)).Records)
	})
}

func TestSDKDescribeStream(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 205)
		pages := kinesis.NewDescribeStreamPaginator(k.Client, &kinesis.DescribeStreamInput{StreamName: aws.String("orders"), Limit: aws.Int32(100)})
		var all []types.Shard
		var sizes []int
		for pages.HasMorePages() {
			page, err := pages.NextPage(k.ctx)
			require.NoError(t, err)
			sizes = append(sizes, len(page.StreamDescription.Shards))
			all = append(all, page.StreamDescription.Shards...)
		}
		require.Equal(t, []int{100, 100, 5}, sizes)
		requireTiles(t, all)
		require.Equal(t, all, k.shards("orders"))

		// A limit beyond a page is capped, and the shard to start after need not exist.
		page, err := k.DescribeStream(k.ctx, &kinesis.DescribeStreamInput{StreamName: aws.String("orders"), Limit: aws.Int32(10000)})
		require.NoError(t, err)
		require.Len(t, page.StreamDescription.Shards, 100)
		require.True(t, *page.StreamDescription.HasMoreShards)
		page, err = k.DescribeStream(k.ctx, &kinesis.DescribeStreamInput{
			StreamName: aws.String("orders"), Limit: aws.Int32(3), ExclusiveStartShardId: aws.String("shardId-000000000201"),
		})
		require.NoError(t, err)
		require.Equal(t, shardIDs(all)[202:], shardIDs(page.StreamDescription.Shards))
		require.False(t, *page.StreamDescription.HasMoreShards)
		page, err = k.DescribeStream(k.ctx, &kinesis.DescribeStreamInput{StreamName: aws.String("orders"), ExclusiveStartShardId: aws.String("shardId-000000009999")})
		require.NoError(t, err)
		require.Empty(t, page.StreamDescription.Shards)

		_, err = k.DescribeStream(k.ctx, &kinesis.DescribeStreamInput{StreamName: aws.String("absent")})
		failsWith[errNotFound](t, err, "Stream absent under account 000000000000 not found.")
		_, err = k.DescribeStream(k.ctx, &kinesis.DescribeStreamInput{StreamName: aws.String("orders"), Limit: aws.Int32(10001)})
		failsWith[errValidation](t, err, "less than or equal to 10000")
		_, err = k.DescribeStream(k.ctx, nil)
		failsWith[errArgument](t, err, "Either StreamName or StreamARN")
		_, err = k.DescribeStream(k.ctx, &kinesis.DescribeStreamInput{StreamName: aws.String("other"), StreamARN: &arn})
		failsWith[errArgument](t, err, "")
	})
}

func TestSDKDescribeStreamSummary(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		arn := k.create("orders", 2)
		k.register("orders", "c")
		_, err := k.UpdateShardCount(k.ctx, &kinesis.UpdateShardCountInput{StreamARN: &arn, TargetShardCount: aws.Int32(1), ScalingType: types.ScalingTypeUniformScaling})
		require.NoError(t, err)
		s := k.summary("orders")
		require.Equal(t, "orders", *s.StreamName)
		require.Equal(t, arn, *s.StreamARN)
		require.Equal(t, types.StreamStatusActive, s.StreamStatus)
		require.EqualValues(t, 1, *s.OpenShardCount, "only open shards count")
		require.EqualValues(t, 1, *s.ConsumerCount)
		require.EqualValues(t, 0, *s.ChannelCount)
		require.EqualValues(t, 1024, *s.MaxRecordSizeInKiB)
		require.EqualValues(t, 24, *s.RetentionPeriodHours)
		require.Equal(t, types.EncryptionTypeNone, s.EncryptionType)
		require.Nil(t, s.WarmThroughput)
		require.Empty(t, s.RecordDistributionStrategy)
		_, err = k.DescribeStreamSummary(k.ctx, &kinesis.DescribeStreamSummaryInput{StreamName: aws.String("absent")})
		failsWith[errNotFound](t, err, "")
	})
}

func TestSDKListStreams(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		out, err := k.ListStreams(k.ctx, nil)
		require.NoError(t, err)
		require.Empty(t, out.StreamNames)
		require.False(t, *out.HasMoreStreams)

		var names []string
		for i := range 120 {
			names = append(names, fmt.Sprintf("stream-%03d", i))
			k.create(names[i], 1)
		}
		out, err = k.ListStreams(k.ctx, nil)
		require.NoError(t, err)
		require.Equal(t, names[:100], out.StreamNames)
		require.True(t, *out.HasMoreStreams)
		require.Len(t, out.StreamSummaries, 100)
		for i, s := range out.StreamSummaries {
			require.Equal(t, names[i], *s.StreamName)
			require.Equal(t, arnOf(names[i]), *s.StreamARN)
			require.Equal(t, types.StreamStatusActive, s.StreamStatus)
			require.Equal(t, types.StreamModeProvisioned, s.StreamModeDetails.StreamMode)
			require.NotZero(t, *s.StreamCreationTimestamp)
		}
		var listed []string
		pages := kinesis.NewListStreamsPaginator(k.Client, &kinesis.ListStreamsInput{Limit: aws.Int32(50)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(k.ctx)
			require.NoError(t, err)
			listed = append(listed, page.StreamNames...)
		}
		require.Equal(t, names, listed)

		// The older way: after a name, which need not exist.
		out, err = k.ListStreams(k.ctx, &kinesis.ListStreamsInput{ExclusiveStartStreamName: aws.String("stream-117x")})
		require.NoError(t, err)
		require.Equal(t, names[118:], out.StreamNames)
		require.Nil(t, out.NextToken)
		_, err = k.ListStreams(k.ctx, &kinesis.ListStreamsInput{NextToken: aws.String("made up")})
		failsWith[errArgument](t, err, "")
		page, err := k.ListStreams(k.ctx, &kinesis.ListStreamsInput{Limit: aws.Int32(1)})
		require.NoError(t, err)
		k.sleep(301 * time.Second)
		_, err = k.ListStreams(k.ctx, &kinesis.ListStreamsInput{NextToken: page.NextToken})
		failsWith[*types.ExpiredNextTokenException](t, err, "")
	})
}

func TestSDKChannels(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		out, err := k.ListChannels(k.ctx, &kinesis.ListChannelsInput{})
		require.NoError(t, err)
		require.Empty(t, out.ChannelSummaries)
		require.Nil(t, out.NextToken)
	})
}

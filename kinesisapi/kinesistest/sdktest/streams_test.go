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

		// Without a word about its mode, a stream is on demand.
		_, err = k.CreateStream(k.ctx, &kinesis.CreateStreamInput{StreamName: aws.String("b")})
		require.NoError(t, err)
		s = k.summary("b")
		require.Equal(t, types.StreamModeOnDemand, s.StreamModeDetails.StreamMode)
		require.EqualValues(t, 4, *s.OpenShardCount)
		require.Equal(t, types.RecordDistributionStrategyUserPartitionKey, s.RecordDistributionStrategy)
	})
}

// TestSDKStatuses follows a stream through all that it can be.
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

		// A stream that is being created can be deleted, and the name is free.
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

// refusesControl checks that nothing about the stream "orders" can be changed that
// needs it to be ACTIVE.
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

		// More than a page is capped, and the shard to begin after need not exist.
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

		// The older way, by name, which need not be there.
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

		// A record can be read for as long, and not longer; what has expired stays so.
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

		// One that begins so has the shards for it.
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

		// What is there already can be read when the size gets smaller.
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

func TestSDKChannels(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		out, err := k.ListChannels(k.ctx, &kinesis.ListChannelsInput{})
		require.NoError(t, err)
		require.Empty(t, out.ChannelSummaries)
		require.Nil(t, out.NextToken)
	})
}

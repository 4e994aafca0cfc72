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

// TestSDKConsumers follows a consumer from its registration to its end.
func TestSDKConsumers(t *testing.T) {
	inBubble(t, &kinesisapi.Options{CreateDelay: time.Minute, DeleteDelay: time.Minute}, func(t *testing.T, k *sdk) {
		stream := k.create("orders", 1)
		registered := time.Now()
		out, err := k.RegisterStreamConsumer(k.ctx, &kinesis.RegisterStreamConsumerInput{StreamARN: &stream, ConsumerName: aws.String("c")})
		require.NoError(t, err)
		require.Equal(t, "c", *out.Consumer.ConsumerName)
		require.Equal(t, types.ConsumerStatusCreating, out.Consumer.ConsumerStatus)
		require.WithinDuration(t, registered, *out.Consumer.ConsumerCreationTimestamp, time.Second)
		arn := *out.Consumer.ConsumerARN
		require.Equal(t, fmt.Sprintf("%s/consumer/c:%d", stream, out.Consumer.ConsumerCreationTimestamp.Unix()), arn)
		_, err = k.RegisterStreamConsumer(k.ctx, &kinesis.RegisterStreamConsumerInput{StreamARN: &stream, ConsumerName: aws.String("c")})
		failsWith[errInUse](t, err, "already exists")
		_, err = k.SubscribeToShard(k.ctx, subscribeTo(arn, shard0, types.ShardIteratorTypeLatest))
		failsWith[errInUse](t, err, fmt.Sprintf("Consumer c with creation timestamp %d under stream: orders , account 000000000000 is not in ACTIVE status.", registered.Unix()))

		status := func() types.ConsumerStatus {
			t.Helper()
			d, err := k.DescribeStreamConsumer(k.ctx, &kinesis.DescribeStreamConsumerInput{ConsumerARN: &arn})
			require.NoError(t, err)
			require.Equal(t, stream, *d.ConsumerDescription.StreamARN)
			require.Equal(t, arn, *d.ConsumerDescription.ConsumerARN)
			byName, err := k.DescribeStreamConsumer(k.ctx, &kinesis.DescribeStreamConsumerInput{StreamARN: &stream, ConsumerName: aws.String("c")})
			require.NoError(t, err)
			require.Equal(t, d.ConsumerDescription, byName.ConsumerDescription)
			return d.ConsumerDescription.ConsumerStatus
		}
		require.Equal(t, types.ConsumerStatusCreating, status())
		k.sleep(time.Minute)
		require.Equal(t, types.ConsumerStatusActive, status())

		_, err = k.DescribeStreamConsumer(k.ctx, &kinesis.DescribeStreamConsumerInput{ConsumerName: aws.String("c")})
		failsWith[errArgument](t, err, "")
		_, err = k.DescribeStreamConsumer(k.ctx, &kinesis.DescribeStreamConsumerInput{StreamARN: &stream, ConsumerName: aws.String("absent")})
		failsWith[errNotFound](t, err, "Consumer absent, account 000000000000 not found.")
		_, err = k.DescribeStreamConsumer(k.ctx, &kinesis.DescribeStreamConsumerInput{ConsumerARN: &arn, ConsumerName: aws.String("other")})
		failsWith[errArgument](t, err, "")

		_, err = k.DeregisterStreamConsumer(k.ctx, &kinesis.DeregisterStreamConsumerInput{StreamARN: &stream, ConsumerName: aws.String("c"), ConsumerARN: &arn})
		require.NoError(t, err)
		require.Equal(t, types.ConsumerStatusDeleting, status())
		_, err = k.DeregisterStreamConsumer(k.ctx, &kinesis.DeregisterStreamConsumerInput{ConsumerARN: &arn})
		require.NoError(t, err, "a second time")
		_, err = k.SubscribeToShard(k.ctx, subscribeTo(arn, shard0, types.ShardIteratorTypeLatest))
		failsWith[errInUse](t, err, "is not in ACTIVE status.")
		k.sleep(time.Minute)
		_, err = k.DescribeStreamConsumer(k.ctx, &kinesis.DescribeStreamConsumerInput{ConsumerARN: &arn})
		failsWith[errNotFound](t, err, "")
		_, err = k.DeregisterStreamConsumer(k.ctx, &kinesis.DeregisterStreamConsumerInput{ConsumerARN: &arn})
		failsWith[errNotFound](t, err, "")

		// The same name again is another consumer.
		again := k.register("orders", "c")
		require.NotEqual(t, arn, again)
		_, err = k.SubscribeToShard(k.ctx, subscribeTo(arn, shard0, types.ShardIteratorTypeLatest))
		failsWith[errNotFound](t, err, "Consumer c, account 000000000000 not found.")
		_, err = k.RegisterStreamConsumer(k.ctx, &kinesis.RegisterStreamConsumerInput{StreamARN: aws.String(arnOf("absent")), ConsumerName: aws.String("c")})
		failsWith[errNotFound](t, err, "")
	})
}

func TestSDKListStreamConsumers(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		stream := k.create("orders", 1)
		var arns []string
		for i := range 7 {
			arns = append(arns, k.register("orders", fmt.Sprint("c", i)))
		}
		var listed []string
		pages := kinesis.NewListStreamConsumersPaginator(k.Client, &kinesis.ListStreamConsumersInput{StreamARN: &stream, MaxResults: aws.Int32(3)})
		n := 0
		for pages.HasMorePages() {
			page, err := pages.NextPage(k.ctx)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page.Consumers), 3)
			for _, c := range page.Consumers {
				require.Equal(t, types.ConsumerStatusActive, c.ConsumerStatus)
				listed = append(listed, *c.ConsumerARN)
			}
			n++
		}
		require.Equal(t, 3, n)
		require.ElementsMatch(t, arns, listed)
		require.EqualValues(t, 7, *k.summary("orders").ConsumerCount)

		created := k.describe("orders").StreamCreationTimestamp
		all, err := k.ListStreamConsumers(k.ctx, &kinesis.ListStreamConsumersInput{StreamARN: &stream, StreamCreationTimestamp: created})
		require.NoError(t, err)
		require.Len(t, all.Consumers, 7)
		_, err = k.ListStreamConsumers(k.ctx, &kinesis.ListStreamConsumersInput{StreamARN: &stream, StreamCreationTimestamp: aws.Time(created.Add(-time.Hour))})
		failsWith[errNotFound](t, err, "")
		page, err := k.ListStreamConsumers(k.ctx, &kinesis.ListStreamConsumersInput{StreamARN: &stream, MaxResults: aws.Int32(1)})
		require.NoError(t, err)
		_, err = k.ListStreamConsumers(k.ctx, &kinesis.ListStreamConsumersInput{StreamARN: &stream, NextToken: page.NextToken, StreamCreationTimestamp: created})
		failsWith[errArgument](t, err, "")
		_, err = k.ListStreamConsumers(k.ctx, &kinesis.ListStreamConsumersInput{StreamARN: &stream, NextToken: aws.String("made up")})
		failsWith[errArgument](t, err, "")
		k.sleep(300 * time.Second)
		_, err = k.ListStreamConsumers(k.ctx, &kinesis.ListStreamConsumersInput{StreamARN: &stream, NextToken: page.NextToken})
		failsWith[*types.ExpiredNextTokenException](t, err, "")
		_, err = k.ListStreamConsumers(k.ctx, &kinesis.ListStreamConsumersInput{StreamARN: aws.String(arnOf("absent"))})
		failsWith[errNotFound](t, err, "")
	})
}

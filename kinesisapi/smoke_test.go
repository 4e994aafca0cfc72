package kinesisapi_test

import (
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"
	"time"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
)

func TestSmoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		defer db.Close()
		s, err := kinesisapi.New(db, nil)
		require.NoError(t, err)
		defer s.Close()
		k := kinesis.New(kinesis.Options{Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""), HTTPClient: s.Client()})
		ctx := t.Context()
		_, err = k.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: aws.String("orders"), ShardCount: aws.Int32(2)})
		require.NoError(t, err)
		put, err := k.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String("orders"), PartitionKey: aws.String("a"), Data: []byte("hello")})
		require.NoError(t, err)
		it, err := k.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: aws.String("orders"), ShardId: put.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
		require.NoError(t, err)
		got, err := k.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
		require.NoError(t, err)
		require.Len(t, got.Records, 1)
		t.Log(len(*it.ShardIterator), *got.Records[0].SequenceNumber, got.Records[0].ApproximateArrivalTimestamp)
		time.Sleep(6 * time.Minute)
		_, err = k.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
		t.Log(err)
		d, err := k.DescribeStream(ctx, &kinesis.DescribeStreamInput{StreamName: aws.String("orders")})
		require.NoError(t, err)
		t.Logf("%+v", d.StreamDescription)
		c, err := k.RegisterStreamConsumer(ctx, &kinesis.RegisterStreamConsumerInput{ConsumerName: aws.String("c"), StreamARN: d.StreamDescription.StreamARN})
		require.NoError(t, err)
		sub, err := k.SubscribeToShard(ctx, &kinesis.SubscribeToShardInput{ConsumerARN: c.Consumer.ConsumerARN, ShardId: put.ShardId, StartingPosition: &types.StartingPosition{Type: types.ShardIteratorTypeTrimHorizon}})
		require.NoError(t, err)
		n := 0
		start := time.Now()
		for e := range sub.GetStream().Events() {
			n++
			if n < 3 {
				t.Logf("%+v", e.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent).Value)
			}
		}
		require.NoError(t, sub.GetStream().Err())
		t.Log(n, time.Since(start))
	})
}

package awskinesis_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
)

// instant is a service of one shard that answers at once.
type instant struct{}

func (instant) ListShards(context.Context, *kinesis.ListShardsInput, ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	return &kinesis.ListShardsOutput{Shards: []types.Shard{{
		ShardId:             aws.String("shardId-000000000000"),
		HashKeyRange:        &types.HashKeyRange{StartingHashKey: aws.String("0"), EndingHashKey: aws.String(braid.MaxHashKey().String())},
		SequenceNumberRange: &types.SequenceNumberRange{},
	}}}, nil
}

func (instant) PutRecords(_ context.Context, in *kinesis.PutRecordsInput, _ ...func(*kinesis.Options)) (*kinesis.PutRecordsOutput, error) {
	out := &kinesis.PutRecordsOutput{Records: make([]types.PutRecordsResultEntry, len(in.Records))}
	shard, number := aws.String("shardId-000000000000"), aws.String("49545115243490985018280067714973144582180062593244200961")
	for i := range out.Records {
		out.Records[i] = types.PutRecordsResultEntry{ShardId: shard, SequenceNumber: number}
	}
	return out, nil
}

// What the producer itself costs for each record: 500 of 100 bytes in a call.
func BenchmarkProducer(b *testing.B) {
	for _, aggregate := range []int{0, 51_200} {
		b.Run(fmt.Sprint("aggregate=", aggregate), func(b *testing.B) {
			p, err := awskinesis.NewProducer(b.Context(), instant{}, "orders", &awskinesis.ProducerOptions{AggregateBytes: aggregate, ShardRate: -1})
			require.NoError(b, err)
			entries := scattered(500, 100)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.PutRecordsWait(b.Context(), entries); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(entries)), "ns/record")
			require.NoError(b, p.Close(context.Background()))
		})
	}
}

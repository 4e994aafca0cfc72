package awskinesis_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/awskinesis"
	"github.com/braidstream/braid/braidtest"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/kinesisapi/kinesistest"
)

// instant is a service with one shard that responds at once.
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

// The producer's own cost per record: calls of 500 records of 100 bytes.
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

// The cost of forwarding per record of 100 bytes, with many keys and the outbox in memory: alone,
// with a service that responds at once, and with Kinesis in this process.
func BenchmarkForwarder(b *testing.B) {
	for _, row := range []struct {
		name      string
		aggregate int
		fast      bool
		service   bool
	}{
		{"strict", 0, false, false},
		{"fast", 0, true, false},
		{"strict,aggregated", 51_200, false, false},
		{"fast,aggregated", 51_200, true, false},
		{"strict,kinesis", 0, false, true},
		{"strict,aggregated,kinesis", 51_200, false, true},
	} {
		b.Run(row.name, func(b *testing.B) {
			var client awskinesis.KinesisClient = instant{}
			if row.service {
				client = kinesistest.New(b, kinesistest.Stream("orders", 4)).Kinesis()
			}
			db, err := braidtest.NewDisk().Open(&braid.Options{Logger: quiet()})
			require.NoError(b, err)
			stream, err := db.CreateStream(b.Context(), "out", nil)
			require.NoError(b, err)
			entries := scattered(500, 100)
			put := 0
			for ; put < b.N; put += len(entries) {
				_, err := stream.PutRecords(b.Context(), entries)
				require.NoError(b, err)
			}
			p, err := awskinesis.NewProducer(b.Context(), client, "orders", &awskinesis.ProducerOptions{AggregateBytes: row.aggregate, ShardRate: -1})
			require.NoError(b, err)
			f, err := awskinesis.NewForwarder(db, "out", p, &awskinesis.ForwarderOptions{Fast: row.fast})
			require.NoError(b, err)
			b.ReportAllocs()
			b.ResetTimer()
			ended := make(chan error, 1)
			go func() { ended <- f.Run(context.Background()) }()
			for err = consumer.ErrAppNotFound; errors.Is(err, consumer.ErrAppNotFound); { // until Run has begun
				err = f.App().WaitCaughtUp(b.Context())
			}
			require.NoError(b, err)
			b.StopTimer()
			b.ReportMetric(float64(put)/b.Elapsed().Seconds(), "records/s")
			require.NoError(b, f.Stop(b.Context()))
			require.NoError(b, <-ended)
			require.NoError(b, p.Close(context.Background()))
			require.NoError(b, db.Close())
		})
	}
}

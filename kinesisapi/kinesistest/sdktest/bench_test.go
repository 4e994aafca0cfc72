package sdktest_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
)

// nothing is an HTTP client that only returns the answer to a PutRecord.
type nothing struct{}

func (nothing) Do(r *http.Request) (*http.Response, error) {
	const answer = `{"SequenceNumber":"49377645731839538711366783390441209101282143731772817410","ShardId":"shardId-000000000000"}`
	return &http.Response{
		StatusCode: http.StatusOK,
		Header:     http.Header{"Content-Type": {"application/x-amz-json-1.1"}, "X-Amzn-Requestid": {"af5f15e3-ffd2-4c43-a5ba-ea6f0e1f8d5a"}},
		Body:       io.NopCloser(bytes.NewReader([]byte(answer))),
		Request:    r,
	}, nil
}

// BenchmarkPutRecordSDK puts records through the AWS SDK in the same process, alternating
// with the SDK alone, and reports the ratio of the times.
func BenchmarkPutRecordSDK(b *testing.B) {
	put := func(client *kinesis.Client, times int) time.Duration {
		began := time.Now()
		for range times {
			_, err := client.PutRecord(b.Context(), &kinesis.PutRecordInput{
				StreamName: aws.String("bench"), PartitionKey: aws.String("a"), Data: make([]byte, 100),
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(began)
	}
	db, err := braid.Open(braid.InMemory, &braid.Options{Durability: braid.NoSync})
	require.NoError(b, err)
	b.Cleanup(func() { _ = db.Close() })
	_, err = db.CreateStream(b.Context(), "bench", &braid.StreamOptions{RetentionBytes: 256 << 20})
	require.NoError(b, err)
	server, err := kinesisapi.New(db, nil)
	require.NoError(b, err)
	b.Cleanup(server.Close)
	with, alone := sdkClient(server.Client(), "AKIA", "us-east-1"), sdkClient(nothing{}, "AKIA", "us-east-1")
	const turn = 50
	var puts, rest time.Duration
	for b.Loop() {
		rest += put(alone, turn)
		puts += put(with, turn)
	}
	n := float64(turn * b.N)
	b.ReportMetric(float64(puts.Nanoseconds())/n, "ns/put")
	b.ReportMetric(float64(rest.Nanoseconds())/n, "ns/put-alone")
	b.ReportMetric(float64(puts)/float64(rest), "ratio")
}

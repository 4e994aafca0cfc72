package kinesisapi_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
)

// benchServer returns a server of a stream in memory.
func benchServer(b *testing.B, shards int) *kinesisapi.Server {
	b.Helper()
	db, err := braid.Open(braid.InMemory, &braid.Options{Durability: braid.NoSync})
	require.NoError(b, err)
	b.Cleanup(func() { _ = db.Close() })
	_, err = db.CreateStream(b.Context(), "bench", &braid.StreamOptions{Shards: shards, RetentionBytes: 256 << 20})
	require.NoError(b, err)
	server, err := kinesisapi.New(db, nil)
	require.NoError(b, err)
	b.Cleanup(server.Close)
	return server
}

// benchCall sends a request, and returns the answer, which must be a success. It
// is read into memory, if that is large enough.
func benchCall(b *testing.B, client *kinesisapi.Client, operation string, body, memory []byte) []byte {
	r, err := http.NewRequest(http.MethodPost, "http://kinesis/", bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	r.Header["X-Amz-Target"] = []string{"Kinesis_20131202." + operation}
	r.Header["Content-Type"] = []string{"application/x-amz-json-1.1"}
	response, err := client.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	answer := bytes.NewBuffer(memory[:0])
	if _, err := answer.ReadFrom(response.Body); err != nil || response.StatusCode != http.StatusOK {
		b.Fatal(response.StatusCode, err, answer)
	}
	_ = response.Body.Close()
	return answer.Bytes()
}

func BenchmarkPutRecord(b *testing.B) {
	client := benchServer(b, 4).Client()
	data := base64.StdEncoding.EncodeToString(make([]byte, 1024))
	var n atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		key := n.Add(1)
		body := fmt.Appendf(nil, `{"StreamName":"bench","PartitionKey":"key-%d","Data":%q}`, key, data)
		var memory []byte
		for pb.Next() {
			memory = benchCall(b, client, "PutRecord", body, memory)
		}
	})
}

func BenchmarkPutRecords(b *testing.B) {
	client := benchServer(b, 4).Client()
	body := putRecordsBody(500, 1024)
	b.SetBytes(500 * 1024)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var memory []byte
		for pb.Next() {
			memory = benchCall(b, client, "PutRecords", body, memory)
		}
	})
	b.ReportMetric(float64(500*b.N)/b.Elapsed().Seconds(), "records/s")
}

func putRecordsBody(records, bytes int) []byte {
	data := base64.StdEncoding.EncodeToString(make([]byte, bytes))
	var body strings.Builder
	body.WriteString(`{"StreamName":"bench","Records":[`)
	for i := range records {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"PartitionKey":"key-%d","Data":%q}`, i, data)
	}
	body.WriteString(`]}`)
	return []byte(body.String())
}

func BenchmarkGetRecords(b *testing.B) {
	client := benchServer(b, 1).Client()
	for range 10 {
		benchCall(b, client, "PutRecords", putRecordsBody(500, 1024), nil)
	}
	answer := string(benchCall(b, client, "GetShardIterator", []byte(`{"StreamName":"bench","ShardId":"0","ShardIteratorType":"TRIM_HORIZON"}`), nil))
	iterator := strings.Split(answer, `"`)[3]
	body := fmt.Appendf(nil, `{"ShardIterator":%q}`, iterator)
	b.SetBytes(5000 * 1024)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var memory []byte
		for pb.Next() {
			memory = benchCall(b, client, "GetRecords", body, memory)
		}
	})
	b.ReportMetric(float64(5000*b.N)/b.Elapsed().Seconds(), "records/s")
}

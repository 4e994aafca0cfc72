package kinesistest

import (
	"bytes"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/stretchr/testify/require"
)

// BenchmarkNew creates a kit, puts the first record, and closes the kit.
func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		(&fakeTB{TB: b}).run(func(tb testing.TB) {
			k := New(tb, Stream("orders", 2))
			k.Put("orders", "a", "one")
		})
	}
}

// BenchmarkHeld creates kits that stay open, and reports the memory of each.
func BenchmarkHeld(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n := 0
	for b.Loop() {
		k := New(b, Stream("orders", 2))
		k.Put("orders", "a", "one")
		n++
	}
	b.StopTimer()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapInuse-before.HeapInuse)/float64(n)/(1<<20), "MiB/kit")
}

// nothing is an HTTP client whose server does nothing: it reads the request, and
// returns the answer that a PutRecord has.
type nothing struct{ answer []byte }

func (n nothing) Do(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {r.Header.Get("Content-Type")}},
		ContentLength: int64(len(n.answer)),
		Body:          io.NopCloser(bytes.NewReader(n.answer)),
		Request:       r,
	}, nil
}

// tee keeps the last answer.
type tee struct {
	inner  kinesis.HTTPClient
	answer []byte
}

func (t *tee) Do(r *http.Request) (*http.Response, error) {
	response, err := t.inner.Do(r)
	if err != nil {
		return nil, err
	}
	t.answer, err = io.ReadAll(response.Body)
	response.Body = io.NopCloser(bytes.NewReader(t.answer))
	return response, err
}

// BenchmarkPutRecordSDK puts records through the SDK, and reports the ratio to the time of
// the SDK alone. The two alternate, so that both run under the same conditions.
func BenchmarkPutRecordSDK(b *testing.B) {
	k := New(b, Stream("orders", 1))
	client := k.Kinesis()
	in := &kinesis.PutRecordInput{
		StreamName: aws.String("orders"), PartitionKey: aws.String("a"), Data: []byte(strings.Repeat("x", 100)),
	}
	put := func(client *kinesis.Client, times int) time.Duration {
		began := time.Now()
		for range times {
			if _, err := client.PutRecord(b.Context(), in); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(began)
	}
	var last tee
	put(k.Kinesis(func(o *kinesis.Options) { last.inner = o.HTTPClient; o.HTTPClient = &last }), 1)
	require.NotEmpty(b, last.answer)
	alone := k.Kinesis(func(o *kinesis.Options) { o.HTTPClient = nothing{last.answer} })

	const turn = 50
	var with, without time.Duration
	n := 0
	for b.Loop() {
		b.StopTimer()
		without += put(alone, turn)
		b.StartTimer()
		with += put(client, turn)
		n += turn
	}
	b.ReportMetric(float64(with.Nanoseconds())/float64(n), "ns/put")
	b.ReportMetric(float64(without.Nanoseconds())/float64(n), "ns/put-alone")
	b.ReportMetric(float64(with)/float64(without), "ratio")
}

package sdktest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
)

var protocols = []string{"HTTP/1.1", "h2c", "h2"}

// TestSDKHTTP: the service is the same over the network.
func TestSDKHTTP(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(strings.ReplaceAll(protocol, "/", " "), func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex // guards seen
			var seen []kinesisapi.Access
			subscribed := make(chan string, 10) // the errors of subscriptions that have ended
			k := newSDK(t, &kinesisapi.Options{CheckAuthorization: true, Access: func(a kinesisapi.Access) {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, a)
				if a.Operation == "SubscribeToShard" && a.Status == http.StatusOK {
					subscribed <- a.Error
				}
			}}, nil)
			k.serveHTTP(protocol)
			k.create("orders", 1)
			consumer := k.register("orders", "c")

			// Many calls at once, small and large.
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() {
					out, err := k.PutRecord(k.ctx, &kinesis.PutRecordInput{StreamName: aws.String("orders"), PartitionKey: aws.String(fmt.Sprint(i)), Data: make([]byte, i*10_000)})
					if err != nil || out.SequenceNumber == nil {
						t.Errorf("%v %v", out, err)
					}
				})
			}
			all.Wait()
			require.Len(t, k.get(k.iterator("orders", shard0, types.ShardIteratorTypeTrimHorizon)).Records, 20)
			_, err := k.DescribeStream(k.ctx, &kinesis.DescribeStreamInput{StreamName: aws.String("absent")})
			failsWith[errNotFound](t, err, "Stream absent under account 000000000000 not found.")

			// A subscription: the first event is sent before there are records, and then each
			// record as it arrives.
			f := k.subscribe(consumer, shard0, types.ShardIteratorTypeLatest)
			require.Empty(t, f.next().Records)
			for i := range 10 {
				k.put("orders", "a", fmt.Sprint(i))
				require.Equal(t, []string{fmt.Sprint(i)}, texts(f.next().Records))
			}
			_, err = k.SubscribeToShard(k.ctx, subscribeTo(consumer, shard0, types.ShardIteratorTypeLatest))
			failsWith[errInUse](t, err, "Another active subscription exists")

			// It ends with the shard,
			_, err = k.SplitShard(k.ctx, &kinesis.SplitShardInput{StreamName: aws.String("orders"), ShardToSplit: aws.String(shard0), NewStartingHashKey: aws.String("1000")})
			require.NoError(t, err)
			event := f.next()
			require.Nil(t, event.ContinuationSequenceNumber)
			require.Len(t, event.ChildShards, 2)
			require.NoError(t, f.end())

			// with an error in the stream,
			f = k.subscribe(consumer, "shardId-000000000001", types.ShardIteratorTypeLatest)
			f.next()
			_, err = k.DeregisterStreamConsumer(k.ctx, &kinesis.DeregisterStreamConsumerInput{ConsumerARN: &consumer})
			require.NoError(t, err)
			failsWith[errNotFound](t, f.end(), "Consumer c, account 000000000000 not found.")

			// with the context,
			consumer = k.register("orders", "d")
			ctx, cancel := context.WithCancel(k.ctx)
			out, err := k.SubscribeToShard(ctx, subscribeTo(consumer, "shardId-000000000001", types.ShardIteratorTypeLatest))
			require.NoError(t, err)
			f = &feed{t, out.GetStream()}
			f.next()
			cancel()
			require.Error(t, f.end()) // which one depends on the transport

			// and with the server.
			f = k.subscribe(consumer, "shardId-000000000002", types.ShardIteratorTypeLatest)
			f.next()
			k.server.Close()
			require.NoError(t, f.end())

			// HTTP/2 ends a connection while a request whose context ended is still being handled.
			var ends []string
			for range 4 {
				ends = append(ends, <-subscribed)
			}
			require.Empty(t, subscribed)
			mu.Lock()
			defer mu.Unlock()
			failed := make(map[string]string)
			for _, a := range seen {
				subscription := a.Operation == "SubscribeToShard" && a.Status == http.StatusOK
				if a.Error != "" && !subscription {
					failed[a.Operation] = a.Error
					require.Equal(t, http.StatusBadRequest, a.Status)
				}
				if a.Operation != "DeregisterStreamConsumer" && a.Operation != "CreateStream" && a.Operation != "SplitShard" {
					require.Positive(t, a.ResponseBytes, a.Operation)
				}
				require.True(t, strings.HasPrefix(a.Remote, "127.0.0.1:"), a.Remote)
			}
			require.Equal(t, map[string]string{"DescribeStream": "ResourceNotFoundException", "SubscribeToShard": "ResourceInUseException"}, failed)
			require.ElementsMatch(t, []string{"", "ResourceNotFoundException", "", ""}, ends)
		})
	}
}

// TestSDKHTTPStuck: a subscriber that does not read cannot prevent the server from closing.
func TestSDKHTTPStuck(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(strings.ReplaceAll(protocol, "/", " "), func(t *testing.T) {
			t.Parallel()
			k := newSDK(t, nil, nil)
			k.serveHTTP(protocol)
			k.create("orders", 1)
			consumer := k.register("orders", "c")
			big := make([]types.PutRecordsRequestEntry, 9)
			for i := range big {
				big[i] = types.PutRecordsRequestEntry{PartitionKey: aws.String("a"), Data: make([]byte, 1<<20-1)}
			}
			for range 4 { // more than sockets can buffer
				_, err := k.PutRecords(k.ctx, &kinesis.PutRecordsInput{StreamName: aws.String("orders"), Records: big})
				require.NoError(t, err)
			}
			k.subscribe(consumer, shard0, types.ShardIteratorTypeTrimHorizon).next()
			closed := make(chan struct{})
			go func() {
				k.server.Close()
				close(closed)
			}()
			select {
			case <-closed:
			case <-time.After(30 * time.Second):
				t.Error("the server does not close")
			}
		})
	}
}

// TestSDKHTTPDeadlines: the deadlines that an HTTP server has for its requests are
// lifted from a subscription.
func TestSDKHTTPDeadlines(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		k.create("orders", 1)
		consumer := k.register("orders", "c")
		request := subscribeRequest(k, consumer)
		w := &deadlineWriter{read: time.Now().Add(time.Minute), write: time.Now().Add(time.Minute)}
		started := time.Now()
		k.server.ServeHTTP(w, request)
		require.Equal(t, http.StatusOK, w.status)
		require.Zero(t, w.read)
		require.Zero(t, w.write)
		require.Equal(t, 5*time.Minute, time.Since(started))
		require.GreaterOrEqual(t, w.flushed, 1+1+59, "the response, an event at once, and one every 5 seconds")
	})
}

// TestSDKHTTPNeverReads: a subscriber that does not read is disconnected soon after the end
// of its subscription.
func TestSDKHTTPNeverReads(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *sdk) {
		k.create("orders", 1)
		request := subscribeRequest(k, k.register("orders", "c"))
		started := time.Now()
		k.server.ServeHTTP(&stuckWriter{}, request)
		require.Equal(t, 6*time.Minute, time.Since(started))
	})
}

// subscribeRequest is a request for a subscription.
func subscribeRequest(k *sdk, consumer string) *http.Request {
	k.t.Helper()
	body := fmt.Sprintf(`{"ConsumerARN":%q,"ShardId":%q,"StartingPosition":{"Type":"LATEST"}}`, consumer, shard0)
	request, err := http.NewRequestWithContext(k.ctx, http.MethodPost, "http://localhost/", strings.NewReader(body))
	require.NoError(k.t, err)
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "Kinesis_20131202.SubscribeToShard")
	return request
}

// stuckWriter is a response that nobody reads: a write takes until the deadline.
type stuckWriter struct{ deadlineWriter }

func (w *stuckWriter) Write([]byte) (int, error) {
	if w.write.IsZero() {
		return 0, errors.New("a write that never ends")
	}
	time.Sleep(time.Until(w.write))
	return 0, os.ErrDeadlineExceeded
}

// deadlineWriter is a response whose deadlines can be seen.
type deadlineWriter struct {
	header          http.Header
	status, flushed int
	read, write     time.Time
}

func (w *deadlineWriter) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

func (w *deadlineWriter) WriteHeader(status int)      { w.status = status }
func (w *deadlineWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *deadlineWriter) Flush()                      { w.flushed++ }

func (w *deadlineWriter) SetReadDeadline(at time.Time) error {
	w.read = at
	return nil
}

func (w *deadlineWriter) SetWriteDeadline(at time.Time) error {
	w.write = at
	return nil
}

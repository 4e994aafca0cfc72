package kinesisapi_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/kinesisapi/internal/eventstream"
)

// frame builds a frame of an event stream, byte for byte.
func frame(payload string, headers ...string) string {
	var h []byte
	for i := 0; i < len(headers); i += 2 {
		h = append(h, byte(len(headers[i])))
		h = append(h, headers[i]...)
		h = append(h, 7)
		h = binary.BigEndian.AppendUint16(h, uint16(len(headers[i+1])))
		h = append(h, headers[i+1]...)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(16+len(h)+len(payload)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(h)))
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	b = append(append(b, h...), payload...)
	return string(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b)))
}

func initialResponse() string {
	return frame("{}", ":message-type", "event", ":event-type", "initial-response", ":content-type", "application/json")
}

// subscription is an open subscription, as a client reads it.
type subscription struct {
	r    *rig
	body io.ReadCloser
}

// subscribe opens a subscription in JSON, and reads the first frame.
func (r *rig) subscribe(consumer, shard, position string) *subscription {
	r.t.Helper()
	response := r.trySubscribe(consumer, shard, position)
	require.Equal(r.t, 200, response.StatusCode)
	require.Equal(r.t, "application/vnd.amazon.eventstream", response.Header.Get("Content-Type"))
	require.EqualValues(r.t, -1, response.ContentLength)
	r.t.Cleanup(func() { response.Body.Close() })
	first := make([]byte, len(initialResponse()))
	_, err := io.ReadFull(response.Body, first)
	require.NoError(r.t, err)
	require.Equal(r.t, initialResponse(), string(first))
	return &subscription{r, response.Body}
}

func (r *rig) trySubscribe(consumer, shard, position string) *http.Response {
	r.t.Helper()
	body := fmt.Sprintf(`{"ConsumerARN":%q,"ShardId":%q,"StartingPosition":{%s}}`, consumer, shard, position)
	request, err := http.NewRequestWithContext(r.t.Context(), "POST", r.url, strings.NewReader(body))
	require.NoError(r.t, err)
	request.Header.Set("Content-Type", typeJSON)
	request.Header.Set("X-Amz-Target", "Kinesis_20131202.SubscribeToShard")
	response, err := r.client.Do(request)
	require.NoError(r.t, err)
	return response
}

// event reads the next frame, which is an event.
func (s *subscription) event() map[string]any {
	s.r.t.Helper()
	m, err := eventstream.Read(s.body)
	require.NoError(s.r.t, err)
	require.Equal(s.r.t, map[string]string{":message-type": "event", ":event-type": "SubscribeToShardEvent", ":content-type": "application/json"}, m.Headers)
	var event map[string]any
	require.NoError(s.r.t, json.Unmarshal(m.Payload, &event))
	return event
}

// ends reads to the end and returns the number of events before it. If the type is not
// empty, the end must be an exception of that type.
func (s *subscription) ends(exception, message string) (events int) {
	s.r.t.Helper()
	for {
		m, err := eventstream.Read(s.body)
		if err != nil {
			require.Equal(s.r.t, io.EOF, err)
			require.Empty(s.r.t, exception)
			return events
		}
		if m.Headers[":message-type"] == "event" {
			events++
			continue
		}
		require.Equal(s.r.t, map[string]string{":message-type": "exception", ":exception-type": exception, ":content-type": "application/json"}, m.Headers)
		want := "{}"
		if message != "" {
			want = fmt.Sprintf(`{"message":%q}`, message)
		}
		require.JSONEq(s.r.t, want, string(m.Payload))
		_, err = s.body.Read(make([]byte, 1))
		require.Equal(s.r.t, io.EOF, err)
		return events
	}
}

func (r *rig) register(stream, name string) string {
	r.t.Helper()
	return r.doesf("RegisterStreamConsumer", `{"StreamARN":"%s%s","ConsumerName":%q}`, streamARN, stream, name)["Consumer"].(map[string]any)["ConsumerARN"].(string)
}

func TestRawSubscriptionBytes(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 1)
		consumer := r.register("s", "c")
		number := r.does("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":"AQI="}`)["SequenceNumber"]
		at := float64(time.Now().UnixMilli()) / 1000
		pass(1500 * time.Millisecond)
		for cbor, contentType := range map[bool]string{false: "application/json", true: typeCBOR} {
			s := newSpeaker(r, cbor)
			request, err := http.NewRequest("POST", r.url, bytes.NewReader(s.encode(map[string]any{
				"ConsumerARN": consumer, "ShardId": "0", "StartingPosition": map[string]any{"Type": "TRIM_HORIZON"},
			})))
			require.NoError(t, err)
			request.Header.Set("Content-Type", map[bool]string{false: typeJSON, true: typeCBOR}[cbor])
			request.Header.Set("X-Amz-Target", "Kinesis_20131202.SubscribeToShard")
			response, err := r.client.Do(request)
			require.NoError(t, err)
			require.Equal(t, 200, response.StatusCode)
			requireIDs(t, response.Header)
			payload := fmt.Sprintf(`{"ContinuationSequenceNumber":%q,"MillisBehindLatest":0,"Records":[{"ApproximateArrivalTimestamp":%.3f,"Data":"AQI=","PartitionKey":"a","SequenceNumber":%q}]}`, number, at, number)
			if !cbor {
				want := initialResponse() + frame(payload, ":message-type", "event", ":event-type", "SubscribeToShardEvent", ":content-type", contentType)
				got := make([]byte, len(want))
				n, err := io.ReadFull(response.Body, got)
				require.NoError(t, err)
				require.Equal(t, want, string(got[:n]))
			} else {
				first := make([]byte, len(initialResponse()))
				_, err = io.ReadFull(response.Body, first)
				require.NoError(t, err)
				require.Equal(t, initialResponse(), string(first))
				m, err := eventstream.Read(response.Body)
				require.NoError(t, err)
				require.Equal(t, contentType, m.Headers[":content-type"])
				event := s.hear(m.Payload).(map[string]any)
				require.Equal(t, number, event["ContinuationSequenceNumber"])
			}
			require.NoError(t, response.Body.Close())
			synctest.Wait() // its place is free
		}
	})
}

// A subscription sends an event at once, then for new records, and at least every 5
// seconds. It ends after 5 minutes, without an error, and a new one can continue where it
// ended.
func TestRawSubscriptionLife(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		start := r.create("s", 1)[0]
		consumer := r.register("s", "c")
		s := r.subscribe(consumer, "0", `"Type":"LATEST"`)
		began := time.Now()
		event := s.event()
		require.Equal(t, map[string]any{"ContinuationSequenceNumber": event["ContinuationSequenceNumber"], "MillisBehindLatest": 0., "Records": []any{}}, event)
		require.GreaterOrEqual(t, event["ContinuationSequenceNumber"], start)
		require.Equal(t, began, time.Now())
		s.event()
		require.Equal(t, 5*time.Second, time.Since(began))
		number := r.does("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":""}`)["SequenceNumber"]
		event = s.event()
		require.Equal(t, 5*time.Second, time.Since(began), "at once")
		require.Equal(t, number, event["ContinuationSequenceNumber"])
		events := s.ends("", "")
		require.Equal(t, 5*time.Minute, time.Since(began))
		require.InDelta(t, 59, events, 1)

		r.does("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":"AAAA"}`)
		synctest.Wait()
		s = r.subscribe(consumer, "0", fmt.Sprintf(`"Type":"AFTER_SEQUENCE_NUMBER","SequenceNumber":%q`, number))
		require.Equal(t, "AAAA", s.event()["Records"].([]any)[0].(map[string]any)["Data"])
	})
}

// A subscription keeps its place for 5 seconds. A later one takes it over, and the older
// one gets an error with the reason.
func TestRawSubscriptionIsTakenOver(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 2)
		consumer := r.register("s", "c")
		taken := "Another active subscription exists for this consumer: " + account + ":s:" + shard0 + ":c"
		older := r.subscribe(consumer, "0", `"Type":"LATEST"`)
		pass(5*time.Second - time.Millisecond)
		r.refuses(refusal{inUse, taken, "SubscribeToShard", fmt.Sprintf(`{"ConsumerARN":%q,"ShardId":"0","StartingPosition":{"Type":"LATEST"}}`, consumer)})
		other := r.subscribe(consumer, "1", `"Type":"LATEST"`)
		pass(time.Millisecond)
		younger := r.subscribe(consumer, "0", `"Type":"LATEST"`)
		older.ends(inUse, taken)
		younger.event()
		other.event()
	})
}

// A subscriber that waits for its share of the throughput also gets the reason for the end.
func TestRawSubscriptionEndsInAPause(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{ExactLimits: true}, func(r *rig) {
		r.create("s", 1)
		consumer := r.register("s", "c")
		r.doesf("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":%q}`, strings.Repeat("AAAA", 300_000))
		s := r.subscribe(consumer, "0", `"Type":"TRIM_HORIZON"`)
		s.event()
		pass(100 * time.Millisecond) // of some 430
		r.doesf("DeregisterStreamConsumer", `{"ConsumerARN":%q}`, consumer)
		s.ends(notFound, "Consumer c, account "+account+" not found.")
	})
}

// If the stream or consumer of a subscription is deleted, the subscription gets an error.
func TestRawSubscriptionEndsWithItsStream(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 1)
		c, d := r.register("s", "c"), r.register("s", "d")
		one, other := r.subscribe(c, "0", `"Type":"LATEST"`), r.subscribe(d, "0", `"Type":"LATEST"`)
		one.event()
		other.event()
		r.doesf("DeregisterStreamConsumer", `{"ConsumerARN":%q}`, c)
		one.ends(notFound, "Consumer c, account "+account+" not found.")
		r.does("DeleteStream", `{"StreamName":"s","EnforceConsumerDeletion":true}`)
		other.ends(notFound, streamsUnder+" not found.")
	})
}

// At the end of a shard there is an event with the children and without a
// ContinuationSequenceNumber; then the stream ends.
func TestRawSubscriptionAtTheEndOfAShard(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 2)
		consumer := r.register("s", "c")
		s := r.subscribe(consumer, "0", `"Type":"TRIM_HORIZON"`)
		s.event()
		r.does("MergeShards", `{"StreamName":"s","ShardToMerge":"0","AdjacentShardToMerge":"1"}`)
		want := map[string]any{"MillisBehindLatest": 0., "Records": []any{}, "ChildShards": []any{map[string]any{
			"ShardId": "shardId-000000000002", "ParentShards": []any{shard0, "shardId-000000000001"},
			"HashKeyRange": map[string]any{"StartingHashKey": "0", "EndingHashKey": maxHash},
		}}}
		require.Equal(t, want, s.event())
		s.ends("", "")
		synctest.Wait()
		s = r.subscribe(consumer, "0", `"Type":"LATEST"`)
		require.Equal(t, want, s.event(), "that is all that the latest of a closed shard is")
		s.ends("", "")
	})
}

// Over a connection, frames arrive as they are made, in chunks, and end when the server
// closes.
func TestRawSubscriptionOverHTTP(t *testing.T) {
	r := newRig(t, nil)
	listener := httptest.NewServer(r.server)
	t.Cleanup(listener.Close)
	r.create("s", 1)
	consumer := r.register("s", "c")
	over := *r
	over.client, over.url = listener.Client(), listener.URL+"/"
	response := over.trySubscribe(consumer, "0", `"Type":"TRIM_HORIZON"`)
	defer response.Body.Close()
	require.Equal(t, []string{"chunked"}, response.TransferEncoding)
	requireIDs(t, response.Header)
	reader := bufio.NewReader(response.Body)
	for i := range 3 {
		m, err := eventstream.Read(reader)
		require.NoError(t, err)
		if i == 0 {
			require.Equal(t, "initial-response", m.Headers[":event-type"])
			continue
		}
		require.Equal(t, "SubscribeToShardEvent", m.Headers[":event-type"])
		r.does("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":""}`)
	}
	r.server.Close()
	_, err := io.Copy(io.Discard, reader)
	require.NoError(t, err)
}

// Close waits for all subscriptions, and a closed server refuses new ones.
func TestRawSubscribeWhileClosing(t *testing.T) {
	for range 20 {
		r := newRig(t, &kinesisapi.Options{})
		r.create("s", 1)
		consumers := make([]string, 4)
		for i := range consumers {
			consumers[i] = r.register("s", fmt.Sprint(i))
		}
		listener := httptest.NewServer(r.server)
		done := make(chan error)
		for i, consumer := range consumers {
			r := *r
			if i%2 == 0 {
				r.client, r.url = listener.Client(), listener.URL+"/"
			}
			go func() {
				request, _ := http.NewRequest("POST", r.url, strings.NewReader(fmt.Sprintf(`{"ConsumerARN":%q,"ShardId":"0","StartingPosition":{"Type":"LATEST"}}`, consumer)))
				request.Header.Set("Content-Type", typeJSON)
				request.Header.Set("X-Amz-Target", "Kinesis_20131202.SubscribeToShard")
				response, err := r.client.Do(request)
				if err == nil {
					_, err = io.Copy(io.Discard, response.Body)
					response.Body.Close()
				}
				done <- err
			}()
		}
		r.server.Close()
		for range consumers {
			<-done // with an error, or the end of the body
		}
		listener.Close()
	}
}

// A caller that closes a subscription in process can have the next one at once.
func TestRawSubscribeAgain(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 1)
		consumer := r.register("s", "c")
		for range 20 {
			require.NoError(t, r.subscribe(consumer, "0", `"Type":"LATEST"`).body.Close())
		}
	})
}

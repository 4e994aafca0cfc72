package kinesisapi_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/kinesisapi/internal/nettest"
)

// TestRawAccess: the values that Access gets for a request match what the client saw, also
// for subscriptions.
func TestRawAccess(t *testing.T) {
	var seen []kinesisapi.Access
	rigInBubble(t, &kinesisapi.Options{Access: func(a kinesisapi.Access) { seen = append(seen, a) }}, func(r *rig) {
		r.does("CreateStream", `{"StreamName":"s","ShardCount":1}`)
		consumer := r.doesf("RegisterStreamConsumer", `{"StreamARN":%q,"ConsumerName":"c"}`, streamARN+"s")["Consumer"].(map[string]any)["ConsumerARN"]
		network := nettest.New()
		network.Serve(r.t.(*testing.T), &http.Server{Handler: r.server}, nil)
		client := network.Client(r.t.(*testing.T), "HTTP/1.1")
		begin := func(operation, body string) *http.Response {
			request, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, "http://kinesis", strings.NewReader(body))
			require.NoError(r.t, err)
			request.Header.Set("Content-Type", typeJSON)
			request.Header.Set("X-Amz-Target", "Kinesis_20131202."+operation)
			response, err := client.Do(request)
			require.NoError(r.t, err)
			return response
		}
		subscribe := fmt.Sprintf(`{"ConsumerARN":%q,"ShardId":"0","StartingPosition":{"Type":"TRIM_HORIZON"}}`, consumer)
		for _, c := range []struct {
			operation, body string
			meanwhile       func()
			want            kinesisapi.Access
		}{
			{"ListStreams", `{}`, nil, kinesisapi.Access{Operation: "ListStreams", Status: 200}},
			{"PutRecord", `{"StreamName":"x","PartitionKey":"a","Data":""}`, nil, kinesisapi.Access{Operation: "PutRecord", Status: 400, Error: "ResourceNotFoundException"}},
			{"Nothing", `{}`, nil, kinesisapi.Access{Status: 400, Error: "UnknownOperationException"}},
			{"PutRecord", ``, nil, kinesisapi.Access{Operation: "PutRecord", Status: 400, Error: "SerializationException"}},
			{"PutRecord", `{`, nil, kinesisapi.Access{Operation: "PutRecord", Status: 400, Error: "SerializationException"}},
			{"SubscribeToShard", subscribe, func() {
				r.does("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":"QUJD"}`)
			}, kinesisapi.Access{Operation: "SubscribeToShard", Status: 200, Duration: 5 * time.Minute}},
			{"SubscribeToShard", subscribe, func() {
				pass(time.Minute)
				r.doesf("DeregisterStreamConsumer", `{"ConsumerARN":%q}`, consumer)
			}, kinesisapi.Access{Operation: "SubscribeToShard", Status: 200, Error: "ResourceNotFoundException", Duration: time.Minute}},
		} {
			seen = nil
			response := begin(c.operation, c.body)
			if c.meanwhile != nil {
				c.meanwhile()
			}
			body, err := io.ReadAll(response.Body)
			require.NoError(r.t, err)
			require.NoError(r.t, response.Body.Close())
			synctest.Wait()
			c.want.Remote, c.want.ResponseBytes = "memory", int64(len(body))
			require.Equal(r.t, []kinesisapi.Access{c.want}, seen)
		}
	})
}

package kinesisapi_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/queue"
)

// Queues of package queue are queues of the service, and vice versa.
func TestRawEmbeddedQueue(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 1)
		embedded, err := queue.Create(r.t.Context(), r.db, "embedded", &queue.Options{Stream: "s", VisibilityTimeout: 1500 * time.Millisecond, MaxReceives: -1})
		require.NoError(t, err)
		listed := objects(r.does("ListQueues", `{}`)["QueueSummaries"])
		require.Len(t, listed, 1)
		require.Equal(t, "embedded", listed[0]["QueueName"])
		q := &queueRig{r, listed[0]["QueueARN"].(string)}
		d := q.describe()
		require.Equal(t, map[string]any{"VisibilityTimeoutSeconds": 2., "DeadLetterConfiguration": map[string]any{"TargetType": "NONE"}}, d["QueueAttributes"])
		position := objects(d["StreamConfigurationList"])[0]["StartingPosition"].(map[string]any)
		require.Equal(t, "AT_TIMESTAMP", position["Type"])
		require.Contains(t, position, "Timestamp")
		require.Equal(t, 1., r.does("DescribeStreamSummary", `{"StreamName":"s"}`)["StreamDescriptionSummary"].(map[string]any)["QueueCount"])
		r.put("a")
		got := q.one("")
		require.NoError(t, embedded.Ack(r.t.Context(), queue.Receipt(got.handle)))
		r.doesf("TagResource", `{"ResourceARN":%q,"Tags":{"a":"b"}}`, q.arn)
		require.NoError(t, embedded.Delete(r.t.Context()))
		r.isError(q.send("ReceiveQueueRecords", ""), notFound, queueNotFound(q.arn))

		r.onDemand("d")
		r.queue("q", "d", "")
		found, err := queue.Get(r.t.Context(), r.db, "q")
		require.NoError(t, err)
		require.Equal(t, "d", found.Stream().Name())
		require.NoError(t, found.Delete(r.t.Context()))
		r.does("DeleteStream", `{"StreamName":"d"}`)
	})
}

// A queue whose creation was interrupted by a crash has no name that a caller could give. A new
// queue can still have that name.
func TestRawAQueueThatWasHalfCreated(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{SeparateAccounts: true}, func(r *rig) {
		r.onDemand("s")
		streams := r.db.Streams()
		require.Len(t, streams, 1)
		namespace := strings.TrimSuffix(streams[0].Name(), "s")
		name := strings.Repeat("x", 128)
		sum := sha256.Sum256([]byte(namespace + name))
		_, err := queue.Create(r.t.Context(), r.db, fmt.Sprintf("long.%x", sum), &queue.Options{Stream: streams[0].Name()})
		require.NoError(t, err)
		require.Empty(t, r.does("ListQueues", `{}`)["QueueSummaries"])
		require.Equal(t, 200, r.createQueue(name, "s", "", "").status)
		require.Len(t, r.does("ListQueues", `{}`)["QueueSummaries"], 1)
		r.isError(r.createQueue(name, "s", "", ""), inUse, "Queue "+name+" under account "+account+" already exists.")
	})
}

// Each account and region has its own queues, whose names may be as long as those of
// streams.
func TestRawQueuesOfAccounts(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{SeparateAccounts: true}, func(r *rig) {
		long := strings.Repeat("x", 128)
		callers := map[string]string{
			"111111111111": "AWS4-HMAC-SHA256 Credential=111111111111/20260101/eu-west-1/kinesis/aws4_request",
			"222222222222": "AWS4-HMAC-SHA256 Credential=222222222222/20260101/eu-west-1/kinesis/aws4_request",
		}
		call := func(account, operation, body string) answer {
			t.Helper()
			return r.send("POST", "/", body, "Content-Type", typeJSON, "X-Amz-Target", "Kinesis_20131202."+operation, "Authorization", callers[account])
		}
		arns := make(map[string]string)
		for account := range callers {
			for _, name := range []string{"s", long} {
				require.Equal(t, 200, call(account, "CreateStream", fmt.Sprintf(`{"StreamName":%q}`, name)).status)
				stream := "arn:aws:kinesis:eu-west-1:" + account + ":stream/" + name
				a := call(account, "CreateQueue", fmt.Sprintf(`{"QueueName":%q,"StreamConfigurationList":[{"StreamARN":%q}]}`, name, stream))
				require.Equal(t, 200, a.status, a.body)
				d := description(t, a)
				require.Equal(t, name, d["QueueName"])
				require.Equal(t, stream, objects(d["StreamConfigurationList"])[0]["StreamARN"])
				require.Contains(t, d["QueueARN"], "arn:aws:kinesis:eu-west-1:"+account+":queue/")
				arns[account+name] = d["QueueARN"].(string)
			}
			var out map[string]any
			require.NoError(t, json.Unmarshal([]byte(call(account, "ListQueues", `{}`).body), &out))
			require.Len(t, out["QueueSummaries"], 2, "those of one account")
		}
		for account := range callers {
			for of, arn := range arns {
				a := call(account, "DescribeQueue", fmt.Sprintf(`{"QueueARN":%q}`, arn))
				if strings.HasPrefix(of, account) {
					require.Equal(t, 200, a.status)
				} else {
					require.Contains(t, a.body, notFound)
				}
			}
		}
		foreign := "arn:aws:kinesis:eu-west-1:222222222222:stream/s"
		a := call("111111111111", "CreateQueue", fmt.Sprintf(`{"QueueName":"q","StreamConfigurationList":[{"StreamARN":%q}]}`, foreign))
		require.Contains(t, a.body, notFound)
	})
}

// Lists have pages, are ordered by time of creation, and can be filtered by stream.
func TestRawListQueues(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		names := func(document string) (names []string, next string) {
			t.Helper()
			out := r.does("ListQueues", document)
			for _, s := range objects(out["QueueSummaries"]) {
				names = append(names, s["QueueName"].(string))
			}
			next, _ = out["NextToken"].(string)
			return names, next
		}
		require.JSONEq(t, `{"QueueSummaries":[]}`, r.call("ListQueues", `{}`).body)
		r.onDemand("s")
		created := seconds(time.Now())
		pass(time.Minute)
		r.onDemand("other")
		z := r.queue("z", "s", "")
		want := map[string]any{
			"QueueName": "z", "QueueARN": z.arn, "QueueStatus": "ACTIVE", "QueueCreationTimestamp": seconds(time.Now()),
			"Streams": []any{map[string]any{"StreamARN": streamARN + "s", "StreamCreationTimestamp": created}},
		}
		require.Equal(t, []any{want}, r.does("ListQueues", `{}`)["QueueSummaries"])
		pass(time.Second)
		r.queue("b", "other", "")
		pass(time.Second)
		r.queue("a", "s", "")
		got, next := names(`{}`)
		require.Equal(t, []string{"z", "b", "a"}, got)
		require.Empty(t, next)

		got, next = names(`{"MaxResults":1}`)
		require.Equal(t, []string{"z"}, got)
		first := next
		got, next = names(fmt.Sprintf(`{"MaxResults":1,"NextToken":%q}`, next))
		require.Equal(t, []string{"b"}, got)
		got, next = names(fmt.Sprintf(`{"MaxResults":1,"NextToken":%q}`, next))
		require.Equal(t, []string{"a"}, got)
		require.Empty(t, next, "the last page says that it is")

		filter := func(stream string, at float64) string {
			if at == 0 {
				return fmt.Sprintf(`{"StreamARN":"%s%s"}`, streamARN, stream)
			}
			return fmt.Sprintf(`{"StreamARN":"%s%s","StreamCreationTimestamp":%.3f}`, streamARN, stream, at)
		}
		for _, row := range []struct {
			filters []string
			want    []string
		}{
			{[]string{filter("s", 0)}, []string{"z", "a"}},
			{[]string{filter("s", created)}, []string{"z", "a"}},
			{[]string{filter("s", created-1)}, nil},
			{[]string{filter("other", 0)}, []string{"b"}},
			{[]string{filter("x", 0)}, nil},
			{[]string{filter("x", 0), filter("other", 0), filter("s", 0), filter("s", 0)}, []string{"z", "b", "a"}},
		} {
			got, next = names(`{"StreamFilter":[` + strings.Join(row.filters, ",") + `]}`)
			require.Equal(t, row.want, got, "%v", row.filters)
			require.Empty(t, next)
		}
		_, next = names(`{"MaxResults":1,"StreamFilter":[` + filter("s", 0) + `]}`)
		got, _ = names(fmt.Sprintf(`{"NextToken":%q,"StreamFilter":[%s]}`, next, filter("s", 0)))
		require.Equal(t, []string{"a"}, got)
		got, _ = names(fmt.Sprintf(`{"NextToken":%q}`, next))
		require.Equal(t, []string{"b", "a"}, got, "a token is a place in the list of all")

		r.isError(r.call("ListQueues", `{"NextToken":"x"}`), invalid, "The NextToken is not one that this service issued.")
		pass(301 * time.Second)
		a := r.call("ListQueues", fmt.Sprintf(`{"NextToken":%q}`, first))
		require.Equal(t, 400, a.status)
		require.Contains(t, a.body, "ExpiredNextTokenException")
	})
}

// Queues have their own tags and policies.
func TestRawQueueResources(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.onDemand("s")
		a := r.createQueue("q", "s", "", `"Tags":{"a":"1"}`)
		require.Equal(t, 200, a.status, a.body)
		arn := description(t, a)["QueueARN"].(string)
		tags := func() any {
			t.Helper()
			return r.doesf("ListTagsForResource", `{"ResourceARN":%q}`, arn)["Tags"]
		}
		require.Equal(t, []any{map[string]any{"Key": "a", "Value": "1"}}, tags())
		r.doesf("TagResource", `{"ResourceARN":%q,"Tags":{"b":"2","a":"3"}}`, arn)
		require.Equal(t, []any{map[string]any{"Key": "a", "Value": "3"}, map[string]any{"Key": "b", "Value": "2"}}, tags())
		r.doesf("UntagResource", `{"ResourceARN":%q,"TagKeys":["a"]}`, arn)
		require.Equal(t, []any{map[string]any{"Key": "b", "Value": "2"}}, tags())
		require.Empty(t, r.doesf("ListTagsForResource", `{"ResourceARN":"%ss"}`, streamARN)["Tags"], "not those of the stream")
		var many []string
		for i := range 50 {
			many = append(many, fmt.Sprintf(`"t%d":""`, i))
		}
		refused := r.call("TagResource", fmt.Sprintf(`{"ResourceARN":%q,"Tags":{%s}}`, arn, strings.Join(many, ",")))
		require.Equal(t, 400, refused.status)
		require.Contains(t, refused.body, invalid)

		require.Equal(t, map[string]any{"Policy": "{}"}, r.doesf("GetResourcePolicy", `{"ResourceARN":%q}`, arn))
		none := refusal{notFound, "No resource policy found for resource ARN " + arn, "DeleteResourcePolicy", fmt.Sprintf(`{"ResourceARN":%q}`, arn)}
		r.refuses(none)
		require.Nil(t, r.doesf("PutResourcePolicy", `{"ResourceARN":%q,"Policy":"{ \"a\": 1 }"}`, arn))
		require.Equal(t, map[string]any{"Policy": `{ "a": 1 }`}, r.doesf("GetResourcePolicy", `{"ResourceARN":%q}`, arn))
		require.Equal(t, map[string]any{"Policy": "{}"}, r.doesf("GetResourcePolicy", `{"ResourceARN":"%ss"}`, streamARN))
		require.Nil(t, r.doesf("DeleteResourcePolicy", `{"ResourceARN":%q}`, arn))
		r.refuses(none)

		channel := strings.Replace(missingQueue, "queue/", "channel/", 1)
		for operation, more := range map[string]string{
			"TagResource": `,"Tags":{"a":"b"}`, "UntagResource": `,"TagKeys":["a"]`, "ListTagsForResource": ``,
			"PutResourcePolicy": `,"Policy":"{}"`, "GetResourcePolicy": ``, "DeleteResourcePolicy": ``,
		} {
			r.refuses(
				refusal{notFound, queueNotFound(missingQueue), operation, fmt.Sprintf(`{"ResourceARN":%q%s}`, missingQueue, more)},
				refusal{notFound, "Channel " + channel + " under account " + account + " not found.", operation, fmt.Sprintf(`{"ResourceARN":%q%s}`, channel, more)},
			)
		}
	})
}

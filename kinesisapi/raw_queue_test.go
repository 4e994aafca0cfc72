package kinesisapi_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/queue"
)

// queueRig is a queue and how a test speaks to it.
type queueRig struct {
	*rig
	arn string
}

// onDemand creates a stream that can have queues.
func (r *rig) onDemand(name string) {
	r.t.Helper()
	r.doesf("CreateStream", `{"StreamName":%q}`, name)
}

// createQueue sends CreateQueue; more is members of the request, or nothing.
func (r *rig) createQueue(name, stream, position, more string) answer {
	r.t.Helper()
	if position != "" {
		position = `,"StartingPosition":{` + position + `}`
	}
	if more != "" {
		more = "," + more
	}
	return r.call("CreateQueue", fmt.Sprintf(`{"QueueName":%q,"StreamConfigurationList":[{"StreamARN":"%s%s"%s}]%s}`, name, streamARN, stream, position, more))
}

// queue creates a queue that begins with the oldest record. attributes are its
// QueueAttributes, or nothing.
func (r *rig) queue(name, stream, attributes string) *queueRig {
	r.t.Helper()
	if attributes != "" {
		attributes = `"QueueAttributes":{` + attributes + `}`
	}
	a := r.createQueue(name, stream, `"Type":"TRIM_HORIZON"`, attributes)
	require.Equal(r.t, 200, a.status, a.body)
	return &queueRig{r, description(r.t, a)["QueueARN"].(string)}
}

// description is the QueueDescription of an answer.
func description(t testing.TB, a answer) map[string]any {
	t.Helper()
	var out struct{ QueueDescription map[string]any }
	require.NoError(t, json.Unmarshal([]byte(a.body), &out), a.body)
	require.NotNil(t, out.QueueDescription, a.body)
	return out.QueueDescription
}

func (q *queueRig) describe() map[string]any {
	q.t.Helper()
	return q.doesf("DescribeQueue", `{"QueueARN":%q}`, q.arn)["QueueDescription"].(map[string]any)
}

// put puts records to stream s, with the partition keys "k".
func (r *rig) put(data ...string) {
	r.t.Helper()
	for _, d := range data {
		r.doesf("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":%q}`, base64Of(d))
	}
}

// send names the queue in a request with more members.
func (q *queueRig) send(operation, more string) answer {
	q.t.Helper()
	if more != "" {
		more = "," + more
	}
	return q.call(operation, fmt.Sprintf(`{"QueueARN":%q%s}`, q.arn, more))
}

// delivery is a record that was received.
type delivery struct {
	data, key, handle, id string
	count                 int
	first, arrival        float64
}

func (q *queueRig) deliveries(operation, more string) []delivery {
	q.t.Helper()
	a := q.send(operation, more)
	require.Equal(q.t, 200, a.status, a.body)
	var out map[string]any
	require.NoError(q.t, json.Unmarshal([]byte(a.body), &out))
	list := []delivery{}
	for _, rec := range objects(out["QueueRecords"]) {
		data, err := base64.StdEncoding.DecodeString(rec["Data"].(string))
		require.NoError(q.t, err)
		key, _ := rec["PartitionKey"].(string)
		list = append(list, delivery{
			string(data), key, rec["ReceiptHandle"].(string), rec["RecordId"].(string),
			int(rec["ReceiveCount"].(float64)), rec["FirstReceiveTimestamp"].(float64), rec["ApproximateArrivalTimestamp"].(float64),
		})
	}
	return list
}

func (q *queueRig) receive(more string) []delivery {
	q.t.Helper()
	return q.deliveries("ReceiveQueueRecords", more)
}

func (q *queueRig) receiveDead(more string) []delivery {
	q.t.Helper()
	return q.deliveries("ReceiveDeadLetterQueueRecords", more)
}

func base64Of(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// one receives exactly one record.
func (q *queueRig) one(more string) delivery {
	q.t.Helper()
	got := q.receive(more)
	require.Len(q.t, got, 1)
	return got[0]
}

// nothing is received for the shortest wait.
func (q *queueRig) nothing() {
	q.t.Helper()
	require.Empty(q.t, q.receive(`"WaitTimeSeconds":1`))
}

// settle sends an operation on handles, and requires that it fails for those in failed,
// with these codes, and succeeds for the others.
func (q *queueRig) settle(operation, more string, handles []string, failed map[string]string) {
	q.t.Helper()
	if more != "" {
		more = "," + more
	}
	entries := make([]string, len(handles))
	for i, h := range handles {
		entries[i] = fmt.Sprintf(`{"ReceiptHandle":%q%s}`, h, more)
	}
	a := q.send(operation, `"Entries":[`+strings.Join(entries, ",")+`]`)
	require.Equal(q.t, 200, a.status, a.body)
	var out struct {
		Successful []struct{ ReceiptHandle string }
		Failed     []struct{ ReceiptHandle, ErrorCode, ErrorMessage string }
	}
	require.NoError(q.t, json.Unmarshal([]byte(a.body), &out))
	require.NotNil(q.t, out.Successful, "the list is always there")
	require.NotNil(q.t, out.Failed, "the list is always there")
	var good []string
	for _, e := range out.Successful {
		good = append(good, e.ReceiptHandle)
	}
	bad := make(map[string]string)
	for _, e := range out.Failed {
		bad[e.ReceiptHandle] = e.ErrorCode
		require.NotEmpty(q.t, e.ErrorMessage)
	}
	var want []string
	for _, h := range handles {
		if failed[h] == "" {
			want = append(want, h)
		}
	}
	require.Equal(q.t, want, good, a.body)
	if failed == nil {
		failed = map[string]string{}
	}
	require.Equal(q.t, failed, bad, a.body)
}

func (q *queueRig) acknowledge(handles ...string) {
	q.t.Helper()
	q.settle("AcknowledgeQueueRecords", "", handles, nil)
}

func (q *queueRig) extend(handle string, seconds int) {
	q.t.Helper()
	q.settle("UpdateQueueRecordsVisibility", fmt.Sprintf(`"VisibilityTimeoutSeconds":%d`, seconds), []string{handle}, nil)
}

const missingQueue = "arn:aws:kinesis:us-east-1:" + account + ":queue/00000000000000000000000000"

var delays = &kinesisapi.Options{CreateDelay: 10 * time.Second, UpdateDelay: 10 * time.Second, DeleteDelay: 10 * time.Second}

// seconds is a time as JSON has it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// A queue that is being created echoes the request; an active one tells where it began.
func TestRawCreateQueue(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{CreateDelay: 10 * time.Second}, func(r *rig) {
		r.onDemand("s")
		pass(10 * time.Second)
		r.put("a")
		arrived := seconds(time.Now())
		pass(time.Minute)
		created := seconds(time.Now())
		stream := r.does("DescribeStreamSummary", `{"StreamName":"s"}`)["StreamDescriptionSummary"].(map[string]any)
		rows := []struct {
			position string
			echo     map[string]any
			began    float64
		}{
			{``, map[string]any{"Type": "LATEST"}, created},
			{`"Type":"LATEST"`, map[string]any{"Type": "LATEST"}, created},
			{`"Type":"TRIM_HORIZON"`, map[string]any{"Type": "TRIM_HORIZON"}, arrived},
			{fmt.Sprintf(`"Type":"AT_TIMESTAMP","Timestamp":%.3f`, created-30), map[string]any{"Type": "AT_TIMESTAMP", "Timestamp": created - 30}, created - 30},
			{`"Type":"AT_TIMESTAMP","Timestamp":1000`, map[string]any{"Type": "AT_TIMESTAMP", "Timestamp": 1000.}, 0},
		}
		var arns []string
		for i, row := range rows {
			a := r.createQueue(fmt.Sprint("q", i), "s", row.position, "")
			require.Equal(t, 200, a.status, a.body)
			d := description(t, a)
			arns = append(arns, d["QueueARN"].(string))
			require.Regexp(t, `^arn:aws:kinesis:us-east-1:`+account+`:queue/[a-z0-9]{26}$`, d["QueueARN"])
			require.Equal(t, map[string]any{
				"QueueName": fmt.Sprint("q", i), "QueueARN": d["QueueARN"], "QueueStatus": "CREATING", "QueueCreationTimestamp": created,
				"StreamConfigurationList": []any{map[string]any{"StreamARN": streamARN + "s", "StartingPosition": row.echo}},
				"QueueAttributes": map[string]any{
					"VisibilityTimeoutSeconds": 30.,
					"DeadLetterConfiguration":  map[string]any{"TargetType": "BUILT_IN", "MaxReceiveCount": 6.},
				},
			}, d)
			d["QueueStatus"] = "CREATING"
			require.Equal(t, d, (&queueRig{r, arns[i]}).describe())
			r.refuses(refusal{notFound, queueNotFound(arns[i]), "ReceiveQueueRecords", fmt.Sprintf(`{"QueueARN":%q}`, arns[i])})
		}
		pass(10 * time.Second)
		for i, row := range rows {
			d := (&queueRig{r, arns[i]}).describe()
			require.Equal(t, "ACTIVE", d["QueueStatus"])
			position := objects(d["StreamConfigurationList"])[0]["StartingPosition"].(map[string]any)
			if row.began == 0 { // the earliest time that can be read from
				require.GreaterOrEqual(t, position["Timestamp"], stream["StreamCreationTimestamp"])
				require.LessOrEqual(t, position["Timestamp"], arrived)
				row.began = position["Timestamp"].(float64)
			}
			row.echo["Timestamp"] = row.began
			require.Equal(t, row.echo, position)
		}
		after := r.does("DescribeStreamSummary", `{"StreamName":"s"}`)["StreamDescriptionSummary"].(map[string]any)
		require.Equal(t, 0., stream["QueueCount"])
		stream["QueueCount"] = 5.
		require.Equal(t, stream, after, "queues are not consumers")
		require.Empty(t, r.doesf("ListStreamConsumers", `{"StreamARN":"%ss"}`, streamARN)["Consumers"])
	})
}

func queueNotFound(arn string) string {
	return "Queue " + arn + " under account " + account + " not found."
}

func TestRawCreateQueueErrors(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.onDemand("s")
		r.create("p", 1)
		r.queue("taken", "s", "")
		config := func(stream, position string) string {
			return fmt.Sprintf(`[{"StreamARN":"%s%s","StartingPosition":{%s}}]`, streamARN, stream, position)
		}
		request := func(name, configs, more string) string {
			return fmt.Sprintf(`{"QueueName":%q,"StreamConfigurationList":%s%s}`, name, configs, more)
		}
		latest := config("s", `"Type":"LATEST"`)
		two := "[" + strings.Trim(latest, "[]") + "," + strings.Trim(latest, "[]") + "]"
		const op = "CreateQueue"
		for _, f := range []refusal{
			{validation, "", op, `{}`},
			{validation, "", op, request("", latest, "")},
			{validation, "", op, request("a/b", latest, "")},
			{validation, "", op, request(strings.Repeat("a", 129), latest, "")},
			{validation, "", op, request("q", "[]", "")},
			{validation, "", op, request("q", two, "")},
			{validation, "", op, request("q", config("s", ""), "")},
			{validation, "", op, request("q", config("s", `"Type":"X"`), "")},
			{validation, "", op, request("q", config("s", `"Type":"LATEST","Timestamp":1`), "")},
			{validation, "", op, request("q", config("s", `"Type":"TRIM_HORIZON","Timestamp":1`), "")},
			{validation, "", op, request("q", config("s", `"Type":"AT_TIMESTAMP"`), "")},
			{validation, "", op, request("q", config("p", `"Type":"LATEST"`), "")},
			{validation, "", op, request("q", latest, `,"QueueAttributes":{"VisibilityTimeoutSeconds":43201}`)},
			{validation, "", op, request("q", latest, `,"QueueAttributes":{"VisibilityTimeoutSeconds":-1}`)},
			{validation, "", op, request("q", latest, `,"QueueAttributes":{"DeadLetterConfiguration":{}}`)},
			{validation, "", op, request("q", latest, `,"QueueAttributes":{"DeadLetterConfiguration":{"TargetType":"BUILT_IN"}}`)},
			{validation, "", op, request("q", latest, `,"QueueAttributes":{"DeadLetterConfiguration":{"TargetType":"BUILT_IN","MaxReceiveCount":0}}`)},
			{validation, "", op, request("q", latest, `,"QueueAttributes":{"DeadLetterConfiguration":{"TargetType":"BUILT_IN","MaxReceiveCount":1001}}`)},
			{validation, "", op, request("q", latest, `,"Tags":{}`)},
			{invalid, "", op, request("q", latest, `,"Tags":{"aws:a":"b"}`)},
			{notFound, noStream, op, request("q", config("x", `"Type":"LATEST"`), "")},
			{inUse, "Queue taken under account " + account + " already exists.", op, request("taken", latest, "")},
		} {
			a := r.call(f.operation, f.body)
			if f.message != "" {
				r.isError(a, f.errorType, f.message)
				continue
			}
			require.Equal(t, 400, a.status, f.body)
			require.Contains(t, a.body, `"__type":"`+f.errorType+`"`, f.body)
			require.Contains(t, a.body, `"message":`, f.body)
		}
		require.Len(t, r.does("ListQueues", `{}`)["QueueSummaries"], 1, "what is refused leaves nothing")
		require.Equal(t, 1., r.does("DescribeStreamSummary", `{"StreamName":"s"}`)["StreamDescriptionSummary"].(map[string]any)["QueueCount"])
	})
}

// Data operations are refused as a whole for a queue that is not there, and for members
// out of range; nothing is received then.
func TestRawQueueRequestErrors(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.onDemand("s")
		q := r.queue("q", "s", "")
		r.put("a")
		for operation, more := range map[string]string{
			"DescribeQueue": ``, "DeleteQueue": ``, "UpdateQueue": `,"QueueAttributes":{}`,
			"ReceiveQueueRecords": ``, "ReceiveDeadLetterQueueRecords": ``,
			"AcknowledgeQueueRecords":                `,"Entries":[{"ReceiptHandle":"x"}]`,
			"AcknowledgeDeadLetterQueueRecords":      `,"Entries":[{"ReceiptHandle":"x"}]`,
			"RestoreDeadLetterQueueRecords":          `,"Entries":[{"ReceiptHandle":"x"}]`,
			"UpdateQueueRecordsVisibility":           `,"Entries":[{"ReceiptHandle":"x","VisibilityTimeoutSeconds":1}]`,
			"UpdateDeadLetterQueueRecordsVisibility": `,"Entries":[{"ReceiptHandle":"x","VisibilityTimeoutSeconds":1}]`,
		} {
			for _, arn := range []string{missingQueue, missingQueue + "/x", "arn:aws:kinesis:us-east-1:" + account + ":queue/q"} {
				r.refuses(refusal{notFound, queueNotFound(arn), operation, fmt.Sprintf(`{"QueueARN":%q%s}`, arn, more)})
			}
			a := r.call(operation, fmt.Sprintf(`{"QueueARN":"%ss"%s}`, streamARN, more))
			require.Contains(t, a.body, validation, "the ARN of a stream")
		}
		eleven := strings.TrimSuffix(strings.Repeat(`{"ReceiptHandle":"x","VisibilityTimeoutSeconds":1},`, 11), ",")
		for _, row := range []struct{ operation, more string }{
			{"ReceiveQueueRecords", `"WaitTimeSeconds":0`},
			{"ReceiveQueueRecords", `"WaitTimeSeconds":21`},
			{"ReceiveQueueRecords", `"Limit":0`},
			{"ReceiveQueueRecords", `"Limit":11`},
			{"ReceiveQueueRecords", `"VisibilityTimeoutSeconds":43201`},
			{"ReceiveDeadLetterQueueRecords", `"WaitTimeSeconds":0`},
			{"ReceiveDeadLetterQueueRecords", `"Limit":11`},
			{"AcknowledgeQueueRecords", `"Entries":[]`},
			{"AcknowledgeQueueRecords", `"Entries":[` + eleven + `]`},
			{"AcknowledgeQueueRecords", `"Entries":[{}]`},
			{"AcknowledgeQueueRecords", `"Entries":[{"ReceiptHandle":""}]`},
			{"AcknowledgeQueueRecords", `"Entries":[{"ReceiptHandle":"` + strings.Repeat("x", 1025) + `"}]`},
			{"UpdateQueueRecordsVisibility", `"Entries":[{"ReceiptHandle":"x"}]`},
			{"UpdateQueueRecordsVisibility", `"Entries":[{"ReceiptHandle":"x","VisibilityTimeoutSeconds":43201}]`},
			{"UpdateQueueRecordsVisibility", `"Entries":[` + eleven + `]`},
			{"RestoreDeadLetterQueueRecords", `"Entries":[]`},
			{"UpdateQueue", `"QueueAttributes":{"VisibilityTimeoutSeconds":43201}`},
			{"UpdateQueue", `"QueueAttributes":{"DeadLetterConfiguration":{"TargetType":"BUILT_IN"}}`},
		} {
			a := q.send(row.operation, row.more)
			require.Equal(t, 400, a.status, "%s %s", row.operation, row.more)
			require.Contains(t, a.body, validation, "%s %s", row.operation, row.more)
		}
		require.Equal(t, 1, q.one("").count, "nothing was received before")
	})
}

// Attributes change when UPDATING is over; until then the queue works with the old ones.
func TestRawUpdateQueue(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{UpdateDelay: 3 * time.Second}, func(r *rig) {
		r.onDemand("s")
		q := r.queue("q", "s", "")
		r.put("a", "b", "c")
		first := q.one(`"Limit":1`)
		d := description(t, q.send("UpdateQueue", `"QueueAttributes":{"VisibilityTimeoutSeconds":5}`))
		require.Equal(t, "UPDATING", d["QueueStatus"])
		want := map[string]any{
			"VisibilityTimeoutSeconds": 5.,
			"DeadLetterConfiguration":  map[string]any{"TargetType": "BUILT_IN", "MaxReceiveCount": 6.},
		}
		require.Equal(t, want, d["QueueAttributes"], "what is to come, with what is left out unchanged")
		require.Equal(t, "UPDATING", q.describe()["QueueStatus"])
		require.Equal(t, 30., q.describe()["QueueAttributes"].(map[string]any)["VisibilityTimeoutSeconds"])
		busy := "Queue q under account " + account + " not ACTIVE, instead in state UPDATING"
		r.refuses(refusal{inUse, busy, "UpdateQueue", fmt.Sprintf(`{"QueueARN":%q,"QueueAttributes":{}}`, q.arn)})
		second := q.one(`"Limit":1`)
		pass(3 * time.Second)
		require.Equal(t, "ACTIVE", q.describe()["QueueStatus"])
		require.Equal(t, want, q.describe()["QueueAttributes"])
		third := q.one(`"Limit":1`)
		pass(4*time.Second - time.Millisecond)
		q.nothing()
		pass(time.Millisecond)
		require.Equal(t, third.id, q.one("").id, "new deliveries have the new timeout")
		q.settle("UpdateQueueRecordsVisibility", `"VisibilityTimeoutSeconds":600`, []string{first.handle, second.handle}, nil)
		require.Equal(t, 200, q.send("UpdateQueue", `"QueueAttributes":{}`).status, "to change nothing is allowed")
		require.Equal(t, "UPDATING", q.describe()["QueueStatus"])
		pass(3 * time.Second)
		d = description(t, q.send("UpdateQueue", `"QueueAttributes":{"DeadLetterConfiguration":{"TargetType":"NONE","MaxReceiveCount":3}}`))
		require.Equal(t, map[string]any{"VisibilityTimeoutSeconds": 5., "DeadLetterConfiguration": map[string]any{"TargetType": "NONE"}}, d["QueueAttributes"])
	})
}

// A queue that is deleted is gone after a while, with its handles, and its name is free.
func TestRawDeleteQueue(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{DeleteDelay: 5 * time.Second}, func(r *rig) {
		r.onDemand("s")
		q := r.queue("q", "s", "")
		r.put("a")
		d := q.one("")
		waiting := make(chan answer, 1)
		go func() { waiting <- q.send("ReceiveQueueRecords", `"WaitTimeSeconds":20`) }()
		pass(time.Second)
		began := time.Now()
		require.Empty(t, q.send("DeleteQueue", "").body)
		r.isError(<-waiting, notFound, queueNotFound(q.arn))
		require.Equal(t, began, time.Now(), "a waiting receiver does not wait any longer")
		require.Equal(t, "DELETING", q.describe()["QueueStatus"])
		require.Equal(t, 200, q.send("DeleteQueue", "").status, "again")
		entries := fmt.Sprintf(`"Entries":[{"ReceiptHandle":%q}]`, d.handle)
		r.isError(q.send("AcknowledgeQueueRecords", entries), notFound, queueNotFound(q.arn))
		r.isError(q.send("ReceiveQueueRecords", ""), notFound, queueNotFound(q.arn))
		r.isError(q.send("UpdateQueue", `"QueueAttributes":{}`), inUse, "Queue q under account "+account+" not ACTIVE, instead in state DELETING")
		r.isError(r.createQueue("q", "s", "", ""), inUse, "Queue q under account "+account+" already exists.")
		pass(5 * time.Second)
		r.isError(q.send("DescribeQueue", ""), notFound, queueNotFound(q.arn))
		r.isError(q.send("DeleteQueue", ""), notFound, queueNotFound(q.arn))
		require.Empty(t, r.does("ListQueues", `{}`)["QueueSummaries"])

		again := r.queue("q", "s", "")
		require.NotEqual(t, q.arn, again.arn)
		again.settle("AcknowledgeQueueRecords", "", []string{d.handle}, map[string]string{d.handle: invalid})
		require.Equal(t, 1, again.one("").count)
		require.Len(t, r.doesf("GetRecords", `{"ShardIterator":%q}`, r.iteratorOf("k"))["Records"], 2, "the stream is untouched")
	})
}

// iteratorOf puts a record, and returns an iterator at the beginning of its shard.
func (r *rig) iteratorOf(key string) string {
	r.t.Helper()
	shard := r.doesf("PutRecord", `{"StreamName":"s","PartitionKey":%q,"Data":""}`, key)["ShardId"].(string)
	return r.iterator("s", shard, `"ShardIteratorType":"TRIM_HORIZON"`)
}

// An ARN has an id, and not a name, even if a queue is called like the id of another one.
func TestRawQueueNamedLikeAnother(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.onDemand("s")
		q := r.queue("q", "s", "")
		other := r.queue(q.arn[strings.LastIndex(q.arn, "/")+1:], "s", "")
		require.Equal(t, "q", q.describe()["QueueName"])
		require.NotEqual(t, "q", other.describe()["QueueName"])
		require.Equal(t, 200, q.send("DeleteQueue", "").status)
		r.isError(q.send("DescribeQueue", ""), notFound, queueNotFound(q.arn))
		require.Equal(t, 200, other.send("DescribeQueue", "").status)
	})
}

// A queue can be deleted while it is being created or updated.
func TestRawDeleteQueueEarly(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{CreateDelay: time.Minute, UpdateDelay: time.Minute, DeleteDelay: time.Second}, func(r *rig) {
		r.onDemand("s")
		pass(time.Minute)
		q := r.queue("q", "s", "")
		require.Equal(t, 200, q.send("DeleteQueue", "").status)
		require.Equal(t, "DELETING", q.describe()["QueueStatus"])
		pass(time.Second)
		r.isError(q.send("DescribeQueue", ""), notFound, queueNotFound(q.arn))
		q = r.queue("q", "s", "")
		pass(time.Minute)
		require.Equal(t, 200, q.send("UpdateQueue", `"QueueAttributes":{}`).status)
		require.Equal(t, 200, q.send("DeleteQueue", "").status)
		pass(time.Second)
		r.isError(q.send("DescribeQueue", ""), notFound, queueNotFound(q.arn))
	})
}

// A stream with queues stays, and stays on demand.
func TestRawQueueHoldsStream(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{DeleteDelay: time.Second}, func(r *rig) {
		r.onDemand("s")
		q := r.queue("q", "s", "")
		holds := func() {
			t.Helper()
			for _, body := range []string{`{"StreamName":"s"}`, `{"StreamName":"s","EnforceConsumerDeletion":true}`} {
				a := r.call("DeleteStream", body)
				require.Equal(t, 400, a.status)
				require.Contains(t, a.body, inUse)
			}
			a := r.call("UpdateStreamMode", `{"StreamARN":"`+streamARN+`s","StreamModeDetails":{"StreamMode":"PROVISIONED"}}`)
			require.Equal(t, 400, a.status)
			require.Contains(t, a.body, inUse)
		}
		holds()
		r.doesf("UpdateStreamMode", `{"StreamARN":"%ss","StreamModeDetails":{"StreamMode":"ON_DEMAND"}}`, streamARN)
		require.Equal(t, 200, q.send("DeleteQueue", "").status)
		holds()
		pass(time.Second)
		r.doesf("UpdateStreamMode", `{"StreamARN":"%ss","StreamModeDetails":{"StreamMode":"PROVISIONED"}}`, streamARN)
		r.does("DeleteStream", `{"StreamName":"s"}`)
		a := r.createQueue("q", "s", "", "")
		require.Equal(t, 400, a.status, "the stream is DELETING")
		pass(time.Second)
		r.isError(r.createQueue("q", "s", "", ""), notFound, "Stream s under account "+account+" not found.")
	})
}

// A stream that is UPDATING can get a queue, unless it is about to become provisioned.
func TestRawQueueOfUpdatingStream(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{UpdateDelay: time.Second}, func(r *rig) {
		r.onDemand("s")
		r.doesf("UpdateMaxRecordSize", `{"StreamARN":"%ss","MaxRecordSizeInKiB":2048}`, streamARN)
		q := r.queue("q", "s", "")
		pass(time.Second)
		require.Equal(t, 200, q.send("DeleteQueue", "").status)
		r.doesf("UpdateStreamMode", `{"StreamARN":"%ss","StreamModeDetails":{"StreamMode":"PROVISIONED"}}`, streamARN)
		const refused = "Stream s under account " + account + " is not in On-Demand mode, and others cannot have queues."
		r.isError(r.createQueue("q", "s", "", ""), validation, refused)
		pass(time.Second)
		r.isError(r.createQueue("q", "s", "", ""), validation, refused)
		r.doesf("UpdateStreamMode", `{"StreamARN":"%ss","StreamModeDetails":{"StreamMode":"ON_DEMAND"}}`, streamARN)
		pass(time.Second)
		r.queue("q", "s", "")
	})
}

// Queues and consumers share a stream's places, and five queues can be on their way.
func TestRawQueueLimits(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{ExactLimits: true, CreateDelay: time.Second, DeleteDelay: time.Second}, func(r *rig) {
		for _, name := range []string{"s", "s2"} {
			r.onDemand(name)
			pass(5 * time.Second)
		}
		for i := range 19 {
			r.register("s", fmt.Sprint("c", i))
			pass(2 * time.Second)
		}
		q := r.queue("q", "s", "")
		pass(2 * time.Second)
		full := func() {
			t.Helper()
			a := r.createQueue("more", "s", "", "")
			require.Equal(t, 400, a.status)
			require.Contains(t, a.body, limit)
			a = r.call("RegisterStreamConsumer", `{"StreamARN":"`+streamARN+`s","ConsumerName":"more"}`)
			require.Equal(t, 400, a.status)
			require.Contains(t, a.body, limit)
		}
		full()
		d := r.does("DescribeStreamSummary", `{"StreamName":"s"}`)["StreamDescriptionSummary"].(map[string]any)
		require.Equal(t, []any{19., 1.}, []any{d["ConsumerCount"], d["QueueCount"]})
		require.Equal(t, 200, q.send("DeleteQueue", "").status)
		full()
		pass(2 * time.Second)
		r.register("s", "c19")
		full()
		r.does("UpdateAccountSettings", `{"MinimumThroughputBillingCommitment":{"Status":"ENABLED"}}`)
		pass(2 * time.Second)
		r.queue("q", "s", "")
		pass(2 * time.Second)

		var queues []*queueRig
		for i := range 5 {
			queues = append(queues, r.queue(fmt.Sprint("a", i), "s2", ""))
			pass(100 * time.Millisecond)
		}
		a := r.createQueue("a5", "s2", "", "")
		require.Equal(t, 400, a.status)
		require.Contains(t, a.body, limit)
		pass(2 * time.Second)
		for i := range 5 {
			require.Equal(t, 200, queues[i].send("DeleteQueue", "").status)
			pass(100 * time.Millisecond)
		}
		a = r.createQueue("a5", "s2", "", "")
		require.Equal(t, 400, a.status)
		require.Contains(t, a.body, limit)
		pass(2 * time.Second)
		r.queue("a5", "s2", "")
	})
}

// Operations on queues have the rate of most operations; those on records have none.
func TestRawQueueRates(t *testing.T) {
	rigInBubble(t, &kinesisapi.Options{ExactLimits: true}, func(r *rig) {
		r.onDemand("s")
		q := r.queue("q", "s", "")
		for range 20 {
			q.settle("AcknowledgeQueueRecords", "", []string{"x"}, map[string]string{"x": invalid})
		}
		for range 5 {
			q.describe()
		}
		a := q.send("DescribeQueue", "")
		require.Equal(t, 400, a.status)
		require.Contains(t, a.body, limit)
	})
}

// Queues of package queue are queues of the service, and the other way round.
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

// Each account and region has queues of its own, whose names may be as long as streams'.
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

// Lists come in pages, by the time of creation, and can be of certain streams.
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

// Queues have tags and policies of their own.
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

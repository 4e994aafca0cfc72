package kinesisapi_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
)

// A queue that is CREATING echoes the request; an ACTIVE one shows where it began.
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
			if row.began == 0 { // the time of the oldest readable record
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

// If the queue does not exist or members are out of range, data operations are refused as a
// whole, and nothing is received.
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

// Attributes change at the end of UPDATING; until then the queue works with the old ones.
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

// A deleted queue is gone after DeleteDelay, with its handles, and its name is free.
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

// An ARN contains an id, not a name, even if another queue's name equals the id.
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

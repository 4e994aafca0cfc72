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
)

// queueRig is a queue, with helpers for its operations.
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

// nothing requires that a receive with the shortest wait gets no record.
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

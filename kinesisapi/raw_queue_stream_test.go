package kinesisapi_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi"
)

// A stream with queues cannot be deleted, and cannot become provisioned.
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
		const refused = "Stream s under account " + account + " is not in On-Demand mode, which queues require."
		r.isError(r.createQueue("q", "s", "", ""), validation, refused)
		pass(time.Second)
		r.isError(r.createQueue("q", "s", "", ""), validation, refused)
		r.doesf("UpdateStreamMode", `{"StreamARN":"%ss","StreamModeDetails":{"StreamMode":"ON_DEMAND"}}`, streamARN)
		pass(time.Second)
		r.queue("q", "s", "")
	})
}

// Queues and consumers share a stream's places, and at most five queues can be CREATING or
// DELETING.
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

// Operations on queues have the same rate limit as most operations; operations on records
// have none.
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

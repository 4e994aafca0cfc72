package kinesistest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi/internal/calltest"
	"github.com/braidstream/braid/queue"
)

// consumer is a program that receives from a queue. The SDK cannot.
type consumer struct {
	calls *calltest.Client
	arn   string
}

type queueRecord struct {
	Data                    []byte
	RecordId, ReceiptHandle string
	ReceiveCount            int
}

func (k *Kit) consumer(arn string) *consumer {
	return &consumer{&calltest.Client{HTTP: k.Client(), URL: "http://kinesis/", AccessKey: "any", Region: "us-east-1"}, arn}
}

func (c *consumer) receive(ctx context.Context) ([]queueRecord, error) {
	var out struct{ QueueRecords []queueRecord }
	err := c.calls.Call(ctx, "ReceiveQueueRecords", calltest.Object{"QueueARN": c.arn, "WaitTimeSeconds": 20}, &out)
	return out.QueueRecords, err
}

func (c *consumer) acknowledge(ctx context.Context, records ...queueRecord) (failed int, err error) {
	var entries []calltest.Object
	for _, r := range records {
		entries = append(entries, calltest.Object{"ReceiptHandle": r.ReceiptHandle})
	}
	var out struct{ Failed []any }
	err = c.calls.Call(ctx, "AcknowledgeQueueRecords", calltest.Object{"QueueARN": c.arn, "Entries": entries}, &out)
	return len(out.Failed), err
}

func queueInBubble(t *testing.T, test func(t *testing.T, k *Kit, c *consumer)) {
	synctest.Test(t, func(t *testing.T) {
		k := New(t, OnDemand("orders"))
		test(t, k, k.consumer(k.Queue("mail", "orders", func(o *queue.Options) { o.MaxReceives = 3 })))
	})
}

func TestQueue(t *testing.T) {
	queueInBubble(t, func(t *testing.T, k *Kit, c *consumer) {
		k.RequireDrained("mail")
		k.Put("orders", "ann", "a", "b")
		require.Contains(t, failure(t, func(tb testing.TB) { k.as(tb).RequireDrained("mail") }), "2 records not received, or to be received again")
		got, err := c.receive(t.Context())
		require.NoError(t, err)
		require.Len(t, got, 2)
		require.Contains(t, failure(t, func(tb testing.TB) { k.as(tb).RequireDrained("mail") }), "2 records received and not acknowledged")
		failed, err := c.acknowledge(t.Context(), got...)
		require.NoError(t, err)
		require.Zero(t, failed)
		k.RequireDrained("mail")

		calls := k.Calls("AcknowledgeQueueRecords")
		require.Len(t, calls, 1)
		require.Equal(t, map[string]any{"QueueARN": c.arn, "Entries": []any{
			map[string]any{"ReceiptHandle": got[0].ReceiptHandle}, map[string]any{"ReceiptHandle": got[1].ReceiptHandle},
		}}, calls[0].Input)

		k.Put("orders", "ann", "bad")
		for range 3 {
			_, err = c.receive(t.Context())
			require.NoError(t, err)
			time.Sleep(30 * time.Second)
		}
		require.Contains(t, failure(t, func(tb testing.TB) { k.as(tb).RequireDrained("mail") }), `dead letter "bad" of key "ann", received 3 times`)
	})
}

// An acknowledged record is delivered once more, and then not again.
func TestRedeliver(t *testing.T) {
	queueInBubble(t, func(t *testing.T, k *Kit, c *consumer) {
		k.Put("orders", "ann", "a")
		k.Redeliver(1)
		var ids []string
		for i := range 2 {
			got, err := c.receive(t.Context())
			require.NoError(t, err)
			require.Len(t, got, 1)
			require.Equal(t, i+1, got[0].ReceiveCount)
			ids = append(ids, got[0].RecordId)
			failed, err := c.acknowledge(t.Context(), got[0], queueRecord{ReceiptHandle: "invented"})
			require.NoError(t, err)
			require.Equal(t, 1, failed, "only the invented one")
		}
		require.Equal(t, ids[0], ids[1], "by which a consumer knows it again")
		time.Sleep(time.Hour)
		k.RequireDrained("mail")
	})
	require.Contains(t, failure(t, func(tb testing.TB) { New(tb).Redeliver(2) }), "before 2 calls of AcknowledgeQueueRecords met a fault: another delivery of its records")
}

// If the answer to a receive is lost, the record stays hidden. If the answer to an
// acknowledgement is lost, the record stays acknowledged.
func TestLostAnswersOfQueues(t *testing.T) {
	queueInBubble(t, func(t *testing.T, k *Kit, c *consumer) {
		k.Put("orders", "ann", "a")
		k.DropAfter("ReceiveQueueRecords", 1)
		_, err := c.receive(t.Context())
		require.Error(t, err)
		began := time.Now()
		got, err := c.receive(t.Context())
		require.NoError(t, err)
		require.Empty(t, got)
		got, err = c.receive(t.Context())
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.Equal(t, 2, got[0].ReceiveCount)
		require.Equal(t, 30*time.Second, time.Since(began))

		k.DropAfter("AcknowledgeQueueRecords", 1)
		_, err = c.acknowledge(t.Context(), got...)
		require.Error(t, err)
		failed, err := c.acknowledge(t.Context(), got...)
		require.NoError(t, err)
		require.Zero(t, failed, "to do it again is right")
		k.RequireDrained("mail")
	})
}

// A power loss ends waits, and loses no acknowledged write.
func TestQueueCrash(t *testing.T) {
	queueInBubble(t, func(t *testing.T, k *Kit, c *consumer) {
		k.Put("orders", "ann", "a", "b")
		got, err := c.receive(t.Context())
		require.NoError(t, err)
		_, err = c.acknowledge(t.Context(), got[0])
		require.NoError(t, err)
		waiting := make(chan error, 1)
		go func() {
			_, err := c.receive(t.Context())
			waiting <- err
		}()
		time.Sleep(time.Second)
		k.Crash()
		require.Error(t, <-waiting)
		time.Sleep(30 * time.Second)
		again, err := c.receive(t.Context())
		require.NoError(t, err)
		require.Len(t, again, 1)
		require.Equal(t, got[1].RecordId, again[0].RecordId)
		_, err = c.acknowledge(t.Context(), again...)
		require.NoError(t, err)
		k.RequireDrained("mail")
	})
}

func TestQueueMistakes(t *testing.T) {
	t.Parallel()
	for message, mistake := range map[string]func(*Kit){
		`make queue "mail": ValidationException: Stream orders under account`: func(k *Kit) { k.Queue("mail", "orders") },
		`make queue "mail": ResourceNotFoundException: `:                      func(k *Kit) { k.Queue("mail", "bills") },
		`queue "mail": `: func(k *Kit) { k.RequireDrained("mail") },
	} {
		require.Contains(t, failure(t, func(tb testing.TB) { mistake(New(tb, Stream("orders", 1))) }), "kinesistest: "+message)
	}
}

// The delays of statuses do not apply to the kit's own methods.
func TestQueueIsActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := NewWith(t, &Options{CreateDelay: time.Hour, ExactLimits: true}, OnDemand("orders"))
		c := k.consumer(k.Queue("mail", "orders"))
		k.Put("orders", "ann", "a")
		got, err := c.receive(t.Context())
		require.NoError(t, err)
		require.Len(t, got, 1)
	})
}

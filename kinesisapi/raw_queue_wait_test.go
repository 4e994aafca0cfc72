package kinesisapi_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/braidtest"
	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/kinesisapi/internal/nettest"
)

// ways are the ways in which a client can call a server.
var ways = []string{"in process", "HTTP/1.1", "h2c"}

// overWay runs a test with a queue and a client that calls the server in one of the ways.
func overWay(t *testing.T, test func(q *queueRig)) {
	for _, way := range ways {
		t.Run(strings.ReplaceAll(way, "/", " "), func(t *testing.T) {
			queueInBubble(t, "", func(q *queueRig) {
				if way != "in process" {
					network := nettest.New()
					network.Serve(q.t.(*testing.T), &http.Server{Handler: q.server}, nil)
					q.client, q.url = network.Client(q.t.(*testing.T), way), "http://kinesis/"
				}
				test(q)
			})
		})
	}
}

// A receiver that gives up while it waits takes no record.
func TestRawReceiverGone(t *testing.T) {
	overWay(t, func(q *queueRig) {
		ctx, hangUp := context.WithCancel(q.t.Context())
		request, err := http.NewRequestWithContext(ctx, "POST", q.url, strings.NewReader(fmt.Sprintf(`{"QueueARN":%q,"WaitTimeSeconds":20}`, q.arn)))
		require.NoError(q.t, err)
		request.Header.Set("Content-Type", typeJSON)
		request.Header.Set("X-Amz-Target", "Kinesis_20131202.ReceiveQueueRecords")
		failed := make(chan error, 1)
		go func() {
			response, err := q.client.Do(request)
			if err == nil {
				response.Body.Close()
			}
			failed <- err
		}()
		pass(5 * time.Second)
		hangUp()
		require.ErrorIs(q.t, <-failed, context.Canceled)
		synctest.Wait()
		q.put("a")
		synctest.Wait()
		require.Equal(q.t, 1, q.one("").count, "the first to receive it")
	})
}

// Close answers waiting receivers; later receivers do not wait.
func TestRawReceiverAtClose(t *testing.T) {
	overWay(t, func(q *queueRig) {
		began := time.Now()
		answered := make(chan answer, 2)
		for _, operation := range []string{"ReceiveQueueRecords", "ReceiveDeadLetterQueueRecords"} {
			go func() { answered <- q.send(operation, `"WaitTimeSeconds":20`) }()
		}
		pass(5 * time.Second)
		q.server.Close()
		for range 2 {
			a := <-answered
			require.Equal(q.t, 200, a.status)
			require.JSONEq(q.t, `{"QueueRecords":[]}`, a.body)
		}
		require.Equal(q.t, 5*time.Second, time.Since(began))
		require.Empty(q.t, q.receive(""))
		require.Equal(q.t, 5*time.Second, time.Since(began))
	})
}

// Deleting a queue ends the waits of its receivers, in each way of calling.
func TestRawReceiverOfDeleted(t *testing.T) {
	overWay(t, func(q *queueRig) {
		began := time.Now()
		answered := make(chan answer, 2)
		for _, operation := range []string{"ReceiveQueueRecords", "ReceiveDeadLetterQueueRecords"} {
			go func() { answered <- q.send(operation, `"WaitTimeSeconds":20`) }()
		}
		pass(5 * time.Second)
		require.Equal(q.t, 200, q.send("DeleteQueue", "").status)
		for range 2 {
			q.isError(<-answered, notFound, queueNotFound(q.arn))
		}
		require.Equal(q.t, 5*time.Second, time.Since(began))
	})
}

// Queues, deliveries and handles survive a restart and a power loss.
func TestRawQueueRestart(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash %t", crash), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := braidtest.NewDisk()
				start := func() (*rig, func()) {
					db, err := disk.Open(&braid.Options{ReserveBytes: -1})
					require.NoError(t, err)
					server, err := kinesisapi.New(db, nil)
					require.NoError(t, err)
					return &rig{t: t, db: db, server: server, client: server.Client(), url: "http://kinesis/"}, func() {
						server.Close()
						require.NoError(t, db.Close())
					}
				}
				r, stop := start()
				r.onDemand("s")
				r.put("acknowledged", "in flight", "waiting", "dead")
				a := r.createQueue("q", "s", `"Type":"TRIM_HORIZON"`, `"Tags":{"a":"1"},"QueueAttributes":{"DeadLetterConfiguration":{"TargetType":"BUILT_IN","MaxReceiveCount":2}}`)
				q := &queueRig{r, description(t, a)["QueueARN"].(string)}
				before := q.describe()
				got := make(map[string]delivery)
				for _, d := range q.receive("") {
					got[d.data] = d
				}
				require.Len(t, got, 4)
				q.acknowledge(got["acknowledged"].handle)
				q.extend(got["in flight"].handle, 600)
				q.extend(got["dead"].handle, 0)
				q.one(`"VisibilityTimeoutSeconds":0`)
				pass(40 * time.Second)
				if crash {
					disk = disk.PowerCut()
				}
				stop()
				pass(time.Second)
				r, stop = start()
				defer stop()
				q = &queueRig{r, q.arn}
				require.Equal(t, before, q.describe())
				require.Len(t, r.doesf("ListTagsForResource", `{"ResourceARN":%q}`, q.arn)["Tags"], 1)
				again := q.one("")
				require.Equal(t, "waiting", again.data)
				require.Equal(t, 2, again.count)
				require.Equal(t, got["waiting"].first, again.first)
				dead := q.receiveDead("")
				require.Len(t, dead, 1)
				require.Equal(t, "dead", dead[0].data)
				q.acknowledge(got["acknowledged"].handle, got["in flight"].handle, again.handle)
				pass(time.Hour)
				q.nothing()
			})
		})
	}
}

package queue_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/queue"
)

var jsonTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// The values that tools show are marshaled in a form for people, and can be read back.
// WorkOptions has a function, and Queue and DeadLetters are handles.
func TestJSONIsAsPeopleWriteIt(t *testing.T) {
	const options = `{"Stream":"s","Start":"LATEST","MaxReceives":6,"MaxInFlight":5,"MaxWaiting":4,"OrderByKey":true,"BlockAtDead":false,"VisibilityTimeout":"30s"}`
	o := queue.Options{Stream: "s", Start: braid.Latest(), VisibilityTimeout: 30 * time.Second, MaxReceives: 6, MaxInFlight: 5, MaxWaiting: 4, OrderByKey: true}
	for _, row := range []struct {
		value any
		text  string
	}{
		{o, options},
		{queue.ReceiveOptions{Wait: -1, VisibilityTimeout: time.Minute, Bytes: 7}, `{"Bytes":7,"Whole":false,"Wait":"-1ns","VisibilityTimeout":"1m0s"}`},
		{
			queue.Description{Name: "q", ID: "a", CreatedAt: jsonTime, StartedAt: jsonTime, Options: o, Visible: 1, OldestAge: time.Hour},
			`{"Name":"q","ID":"a","CreatedAt":"2026-01-02T03:04:05Z","StartedAt":"2026-01-02T03:04:05Z","Options":` + options + `,` +
				`"Visible":1,"InFlight":0,"Delayed":0,"Held":0,"Dead":0,"DeadInFlight":0,` +
				`"ExpiredUnreceived":0,"ExpiredReceived":0,"ExpiredDead":0,` +
				`"Received":0,"EmptyReceives":0,"Acknowledged":0,"Lapsed":0,"Died":0,"Restored":0,"OldestAge":"1h0m0s","OldestDeadAge":"0s"}`,
		},
		{
			queue.Record{Record: braid.Record{PartitionKey: "k", Data: []byte("secret"), ShardID: "shardId-000000000000", ArrivalTime: jsonTime}, ID: "a", Receipt: "b", Receives: 2, FirstReceived: jsonTime, Reason: "no"},
			`{"PartitionKey":"k","ExplicitHashKey":null,"Data":"c2VjcmV0","ShardID":"shardId-000000000000","SequenceNumber":"0","ArrivalTime":"2026-01-02T03:04:05Z","Encrypted":false,` +
				`"ID":"a","Receipt":"b","Receives":2,"FirstReceived":"2026-01-02T03:04:05Z","Reason":"no"}`,
		},
		{
			queue.ReceiptsError{Failed: []queue.ReceiptError{{Index: 1, Receipt: "r", Err: queue.ErrReceiptExpired}}},
			`{"Failed":[{"Index":1,"Receipt":"r","Err":"receipt has expired"}]}`,
		},
	} {
		text, err := json.Marshal(row.value)
		require.NoError(t, err)
		require.Equal(t, row.text, string(text))
		back := reflect.New(reflect.TypeOf(row.value))
		require.NoError(t, json.Unmarshal(text, back.Interface()))
		again, err := json.Marshal(back.Elem().Interface())
		require.NoError(t, err)
		require.Equal(t, row.text, string(again))
	}
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	bubble(t, func(k *kit) {
		q := k.open("q", queue.Options{})
		require.EqualError(t, q.Ack(ctx, "x", "y"),
			`queue: acknowledge "q": receipt 0, "x": receipt is not valid for this queue and call (and 1 more)`)
		_, err := queue.Get(ctx, k.db, "none")
		require.EqualError(t, err, `queue: get "none": no such queue`)
		_, err = q.Receive(ctx, 0, nil)
		require.EqualError(t, err, `queue: receive "q": invalid argument: n must be 1 to 10000; it is 0`)
	})
}

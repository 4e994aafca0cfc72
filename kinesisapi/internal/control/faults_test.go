package control_test

import (
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi/internal/calltest"
)

func (k *kit) faults() []map[string]any {
	k.t.Helper()
	var out struct{ Faults []map[string]any }
	k.do("GET", "faults", "", http.StatusOK, &out)
	return out.Faults
}

func TestFaultError(t *testing.T) {
	k := newKit(t, nil)
	k.create(k.kinesis, "orders", 1)
	k.do("POST", "faults", `{"operation":"PutRecord","times":2,"error":"ProvisionedThroughputExceededException","message":"slow down"}`, http.StatusOK, nil)
	k.do("POST", "faults", `{"operation":"PutRecord","error":"InternalFailure"}`, http.StatusOK, nil)
	for left := 2; left > 0; left-- {
		require.EqualValues(t, left, k.faults()[0]["times"])
		require.Equal(t, &calltest.Error{Code: "ProvisionedThroughputExceededException", Message: "slow down"}, k.put("orders", "a", "x"))
	}
	var failure *calltest.Error
	require.ErrorAs(t, k.put("orders", "a", "x"), &failure)
	require.Equal(t, "InternalFailure", failure.Code)
	require.Empty(t, k.faults())
	require.NoError(t, k.put("orders", "a", "x"))
	_, texts := k.peek("")
	require.Equal(t, []string{"x"}, texts)
}

func TestFaultEntries(t *testing.T) {
	k := newKit(t, nil)
	k.create(k.kinesis, "orders", 1)
	k.do("POST", "faults", `{"operation":"PutRecords","entries":[0,2]}`, http.StatusOK, nil)
	out := k.putAll("a", "b", "c", "d")
	require.Equal(t, 2, out.FailedRecordCount)
	require.Equal(t, "ProvisionedThroughputExceededException", *out.Records[0].ErrorCode)
	require.Nil(t, out.Records[1].ErrorCode)
	_, texts := k.peek("")
	require.Equal(t, []string{"b", "d"}, texts)
}

func TestFaultDrop(t *testing.T) {
	k := newKit(t, nil)
	k.create(k.kinesis, "orders", 1)
	k.do("POST", "faults", `{"operation":"PutRecord","drop":"before"}`, http.StatusOK, nil)
	k.do("POST", "faults", `{"operation":"PutRecord","drop":"after"}`, http.StatusOK, nil)
	require.ErrorIs(t, k.put("orders", "a", "before"), io.ErrUnexpectedEOF)
	require.ErrorIs(t, k.put("orders", "a", "after"), io.ErrUnexpectedEOF)
	_, texts := k.peek("")
	require.Equal(t, []string{"after"}, texts)
}

func TestFaultDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, nil)
		k.create(k.kinesis, "orders", 1)
		k.do("POST", "faults", `{"delay":"250ms"}`, http.StatusOK, nil)
		started := time.Now()
		require.NoError(t, k.put("orders", "a", "x"))
		require.Equal(t, 250*time.Millisecond, time.Since(started))
	})
}

func TestFaultRedeliver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, nil)
		k.call("CreateStream", calltest.Object{"StreamName": "orders"}, nil)
		var made struct{ QueueDescription struct{ QueueARN string } }
		k.call("CreateQueue", calltest.Object{
			"QueueName":               "mail",
			"StreamConfigurationList": []any{calltest.Object{"StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/orders"}},
		}, &made)
		require.NoError(t, k.put("orders", "a", "x"))
		var held struct{ Queues []map[string]any }
		k.do("GET", "queues", "", http.StatusOK, &held)
		require.Len(t, held.Queues, 1)
		delete(held.Queues[0], "created")
		require.Equal(t, map[string]any{
			"name": "mail", "arn": made.QueueDescription.QueueARN, "stream": "orders", "status": "ACTIVE",
			"visible": 1., "inFlight": 0., "delayed": 0., "dead": 0.,
		}, held.Queues[0])
		k.do("POST", "faults", `{"operation":"AcknowledgeQueueRecords","redeliver":true}`, http.StatusOK, nil)
		require.Equal(t, true, k.faults()[0]["redeliver"])
		for count := range 2 {
			var got struct {
				QueueRecords []struct {
					ReceiptHandle string
					ReceiveCount  int
				}
			}
			k.call("ReceiveQueueRecords", calltest.Object{"QueueARN": made.QueueDescription.QueueARN}, &got)
			require.Len(t, got.QueueRecords, 1)
			require.Equal(t, count+1, got.QueueRecords[0].ReceiveCount)
			var out struct{ Successful []any }
			k.call("AcknowledgeQueueRecords", calltest.Object{
				"QueueARN": made.QueueDescription.QueueARN,
				"Entries":  []any{calltest.Object{"ReceiptHandle": got.QueueRecords[0].ReceiptHandle}},
			}, &out)
			require.Len(t, out.Successful, 1)
		}
		require.Empty(t, k.faults())
		k.do("GET", "queues", "", http.StatusOK, &held)
		require.Equal(t, 0., held.Queues[0]["visible"])
		k.do("POST", "streams/orders/reset", "", http.StatusOK, nil)
		require.Error(t, k.kinesis.Call(t.Context(), "DescribeQueue", calltest.Object{"QueueARN": made.QueueDescription.QueueARN}, nil), "queues go with their stream")
		k.call("CreateQueue", calltest.Object{
			"QueueName":               "mail",
			"StreamConfigurationList": []any{calltest.Object{"StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/orders"}},
		}, nil)
		k.do("POST", "reset", "", http.StatusOK, nil)
		require.Empty(t, k.streams(""))
	})
}

func TestFaultList(t *testing.T) {
	k := newKit(t, nil)
	k.do("POST", "faults", `{"operation":"PutRecords","times":3,"delay":"1s","entries":[1],"error":"InternalFailure","message":"no","drop":"after"}`, http.StatusOK, nil)
	k.do("POST", "faults", `{"drop":"before"}`, http.StatusOK, nil)
	require.Equal(t, []map[string]any{
		{"operation": "PutRecords", "times": 3.0, "delay": "1s", "entries": []any{1.0}, "error": "InternalFailure", "message": "no", "drop": "after"},
		{"times": 1.0, "drop": "before"},
	}, k.faults())
	k.do("DELETE", "faults", "", http.StatusOK, nil)
	require.Empty(t, k.faults())
}

func TestFaultRefused(t *testing.T) {
	k := newKit(t, nil)
	for body, contains := range map[string]string{
		`{}`: "no effect",
		`{"operation":"Put","error":"InternalFailure"}`:            "operation",
		`{"times":0,"error":"InternalFailure"}`:                    "times",
		`{"delay":"soon"}`:                                         "delay",
		`{"delay":"-1s"}`:                                          "delay",
		`{"delay":"2h"}`:                                           "delay",
		`{"drop":"maybe"}`:                                         "drop",
		`{"drop":"before","error":"InternalFailure"}`:              "dropped",
		`{"entries":[1]}`:                                          "PutRecords",
		`{"operation":"PutRecords","entries":[500]}`:               "500",
		`{"operation":"PutRecords","entries":[-1]}`:                "-1",
		`{"operation":"PutRecords","entries":[1],"drop":"before"}`: "dropped",
		`{"redeliver":true}`:                                       "AcknowledgeQueueRecords",
		`{"operation":"PutRecord","redeliver":true}`:               "AcknowledgeQueueRecords",
		`{"operation":"AcknowledgeQueueRecords","redeliver":true,"drop":"before"}`: "AcknowledgeQueueRecords",
		`{"message":"why"}`: "message",
		`{"operation":"PutRecord","eror":"ProvisionedThroughputExceededException"}`: "eror",
	} {
		k.refused("POST", "faults", body, http.StatusBadRequest, contains)
	}
	require.Empty(t, k.faults())
}

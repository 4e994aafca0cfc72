package consumer_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
)

// The JSON of every exported struct, or the reason why it has none.
var jsonOf = map[string]struct {
	value    any
	text     string
	oneWay   bool   // it cannot be read back
	unlisted string // why nobody marshals it
}{
	"App":          {unlisted: "is a handle"},
	"Checkpointer": {unlisted: "is a handle"},
	"Worker":       {unlisted: "is a handle"},
	"Config":       {unlisted: "has functions and stores"},
	"Call":         {value: jsonCall, text: jsonCallText},
	"LeaseKey":     {value: jsonKey, text: `{"Stream":"orders","Shard":"shardId-000000000000"}`},
	"Checkpoint":   {value: jsonCheckpoint, text: jsonCheckpointText},
	"Lease": {
		value: consumer.Lease{LeaseKey: jsonKey, Owner: "w", Epoch: 3, Checkpoint: consumer.Checkpoint{Start: braid.Latest(), ShardEnd: true}},
		text:  `{"Stream":"orders","Shard":"shardId-000000000000","Incarnation":0,"Owner":"w","NextOwner":"","Epoch":3,"Version":0,"Paused":false,"Checkpoint":{"Start":"LATEST","ShardEnd":true},"Pending":null,"PendingState":null}`,
	},
	"LeaseGap": {
		value: consumer.LeaseGap{Shard: "shardId-000000000000", FirstLost: jsonNumber, Accepted: true},
		text:  `{"Shard":"shardId-000000000000","FirstLost":"` + jsonNumberText + `","Accepted":true}`,
	},
	"ShardStatus": {value: jsonShard, text: jsonShardText},
	"Status": {
		value: consumer.Status{App: "billing", Workers: []string{"w"}, Shards: []consumer.ShardStatus{jsonShard}, AwaitedStreams: []string{"ordres"}, BehindRecords: 2, BehindLatest: 90 * time.Second},
		text: `{"App":"billing","Start":"TRIM_HORIZON","Paused":false,"Workers":["w"],"Shards":[` + jsonShardText + `],"AwaitedStreams":["ordres"],` +
			`"AwaitedDeadLetterStreams":null,"DeadLetterStreams":null,"PausedStreams":null,"BehindRecords":2,"BehindBytes":0,"BehindLatest":"1m30s"}`,
	},
	"Metrics": {
		value: consumer.Metrics{Records: 5, Processing: 1500 * time.Millisecond},
		text: `{"Records":5,"Bytes":0,"Batches":0,"Checkpoints":0,"Failures":0,"Skipped":0,"DeadLettered":0,"Gaps":0,"LeasesTaken":0,"Stops":0,` +
			`"ProcessTimes":` + jsonHistogramText + `,"Latencies":` + jsonHistogramText + `,"Processing":"1.5s"}`,
	},
	"ShardError":         {value: jsonShardError, text: jsonShardErrorText},
	"StoppedShardsError": {value: consumer.StoppedShardsError{Shards: []consumer.ShardError{jsonShardError}}, text: `{"Shards":[` + jsonShardErrorText + `]}`},
	"HungShardsError":    {value: consumer.HungShardsError{Shards: []consumer.LeaseKey{jsonKey}}, text: `{"Shards":[{"Stream":"orders","Shard":"shardId-000000000000"}]}`},
	"RecordError":        {value: *jsonRecordError, text: `"` + jsonRecordErrorText + `"`, oneWay: true},
	"PanicError":         {value: consumer.PanicError{Value: func() {}, Stack: []byte("main.go:7")}, text: `"panic: 0x`, oneWay: true},
	"Record": {
		value: jsonRecord,
		text: `{"PartitionKey":"k","ExplicitHashKey":null,"Data":"c2VjcmV0","ShardID":"shardId-000000000000","SequenceNumber":"` + jsonNumberText + `",` +
			`"ArrivalTime":"2026-01-02T03:04:05Z","Encrypted":false,"SubSequenceNumber":0,"Aggregated":false,"Partial":false}`,
	},
	"Batch": {
		value:  consumer.Batch{Attempt: 1, BehindLatest: time.Second},
		text:   `{"Records":null,"Attempt":1,"BehindRecords":0,"BehindBytes":0,"BehindLatest":"1s"}`,
		oneWay: true,
	},
	"TxBatch": {
		value:  consumer.TxBatch{Attempt: 1, BehindLatest: time.Second},
		text:   `{"Records":null,"Attempt":1,"BehindRecords":0,"BehindBytes":0,"BehindLatest":"1s"}`,
		oneWay: true,
	},
	"DeadLetter": {
		value: consumer.DeadLetter{App: "billing", Stream: "orders", ShardID: "shardId-000000000000", SequenceNumber: jsonNumber, PartitionKey: "k", ArrivalTime: jsonTime, Data: []byte("secret"), Error: "no", Attempts: 1},
		text: `{"App":"billing","Stream":"orders","ShardID":"shardId-000000000000","SequenceNumber":"` + jsonNumberText + `","PartitionKey":"k",` +
			`"ArrivalTime":"2026-01-02T03:04:05Z","Data":"c2VjcmV0","Error":"no","Attempts":1}`,
	},
	"StreamInfo": {value: consumer.StreamInfo{Incarnation: 7}, text: `{"Incarnation":7,"Shards":null}`},
	"ShardInfo": {
		value: consumer.ShardInfo{ID: "shardId-000000000000", Start: braid.AfterSequence(jsonNumber)},
		text:  `{"ID":"shardId-000000000000","Parents":null,"HashKeyRange":{"Start":"0","End":"0"},"Start":"AFTER_SEQUENCE_NUMBER ` + jsonNumberText + `"}`,
	},
	"Limits":         {value: consumer.Limits{Records: 500, Bytes: 1 << 20}, text: `{"Records":500,"Bytes":1048576}`},
	"PermanentError": {value: consumer.PermanentError{Err: errors.New("access denied")}, text: `{"Err":"access denied"}`},
	"Page": {
		value: consumer.Page{BehindLatest: time.Minute, AtTip: true},
		text:  `{"Records":null,"Next":"TRIM_HORIZON","BehindRecords":0,"BehindBytes":0,"AtTip":true,"EndOfShard":false,"BehindLatest":"1m0s"}`,
	},
}

const (
	jsonHistogramText   = `{"Count":0,"Buckets":null,"Sum":"0s"}`
	jsonNumberText      = "49568749374218235080373793662021150003767486140978823170"
	jsonCheckpointText  = `{"Start":"TRIM_HORIZON","SequenceNumber":"` + jsonNumberText + `","SubSequenceNumber":4,"Partial":true}`
	jsonRecordErrorText = `record ` + jsonNumberText + ` of shardId-000000000000: no such customer`
	jsonShardErrorText  = `{"Stream":"orders","Shard":"shardId-000000000000","Err":"` + jsonRecordErrorText + `"}`
	jsonCallText        = `{"Method":"ProcessRecords","Since":"2026-01-02T03:04:05Z","Attempt":2,"Records":1,"First":"` + jsonNumberText + `","Last":"` + jsonNumberText + `"}`
	jsonShardText       = `{"Stream":"orders","Shard":"shardId-000000000000","State":"failed","Wait":"source","Call":` + jsonCallText + `,"Owner":"w","Epoch":3,"Checkpoint":` + jsonCheckpointText + `,` +
		`"Paused":false,"WaitingFor":["shardId-000000000000"],"Attempt":2,"BehindRecords":2,"BehindBytes":0,"Err":"` + jsonRecordErrorText + `","BehindLatest":"1m30s"}`
)

var (
	jsonTime        = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	jsonKey         = consumer.LeaseKey{Stream: "orders", Shard: "shardId-000000000000"}
	jsonNumber, _   = braid.ParseSequenceNumber(jsonNumberText)
	jsonCheckpoint  = consumer.Checkpoint{SequenceNumber: jsonNumber, SubSequenceNumber: 4, Partial: true}
	jsonRecord      = consumer.Record{Record: braid.Record{PartitionKey: "k", Data: []byte("secret"), ShardID: "shardId-000000000000", SequenceNumber: jsonNumber, ArrivalTime: jsonTime}}
	jsonRecordError = &consumer.RecordError{Record: jsonRecord, Err: errors.New("no such customer")}
	jsonCall        = consumer.Call{Method: "ProcessRecords", Since: jsonTime, Attempt: 2, Records: 1, First: jsonNumber, Last: jsonNumber}
	jsonShardError  = consumer.ShardError{LeaseKey: jsonKey, Err: jsonRecordError}
	jsonShard       = consumer.ShardStatus{
		LeaseKey: jsonKey, State: consumer.StateFailed, Wait: consumer.WaitSource, Call: &jsonCall, Owner: "w", Epoch: 3, Checkpoint: jsonCheckpoint, WaitingFor: []braid.ShardID{"shardId-000000000000"},
		Attempt: 2, Err: jsonRecordError, BehindRecords: 2, BehindLatest: 90 * time.Second,
	}
)

// The values that tools show are marshaled in a form for people, and can be read back.
func TestJSONIsAsPeopleWriteIt(t *testing.T) {
	for _, name := range exportedStructs(t) {
		t.Run(name, func(t *testing.T) {
			want, known := jsonOf[name]
			require.True(t, known, "say how %s marshals, or why it does not", name)
			if want.unlisted != "" {
				return
			}
			require.Equal(t, name, reflect.TypeOf(want.value).Name())
			text, err := json.Marshal(want.value)
			require.NoError(t, err)
			if name == "PanicError" {
				require.True(t, strings.HasPrefix(string(text), want.text), text)
				require.Contains(t, string(text), "main.go:7")
				return
			}
			require.Equal(t, want.text, string(text))
			if want.oneWay {
				return
			}
			read := reflect.New(reflect.TypeOf(want.value))
			require.NoError(t, json.Unmarshal(text, read.Interface()))
			again, err := json.Marshal(read.Elem().Interface())
			require.NoError(t, err)
			require.Equal(t, want.text, string(again))
		})
	}
}

// exportedStructs returns the names of the exported struct types of this package.
func exportedStructs(t *testing.T) (names []string) {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if ts, is := n.(*ast.TypeSpec); is && ts.Name.IsExported() {
				if _, is := ts.Type.(*ast.StructType); is {
					names = append(names, ts.Name.Name)
				}
			}
			return true
		})
	}
	require.Len(t, names, len(jsonOf))
	return names
}

// The status and the errors of a shard that is stopped at a record reveal nothing of its
// content, in whatever form a tool shows them.
func TestContentOfRecordsIsNeitherInStatusNorInErrors(t *testing.T) {
	bubble(t, 1, func(f *fixture) {
		const secret = "4111-1111-1111-1111"
		_, err := f.orders.PutRecord(f.Context(), "k", []byte(secret))
		require.NoError(f, err)
		var text, lines bytes.Buffer
		w := f.worker(consumer.Config{MaxAttempts: 2, Logger: slog.New(slog.NewJSONHandler(&lines, nil))},
			consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
				return &consumer.RecordError{Record: batch.Records[0], Err: errors.New("no such customer")}
			}))
		stop := f.start(w)
		time.Sleep(time.Minute)
		status, err := w.App().Status(f.Context())
		require.NoError(f, err)
		stopped := stop()

		plain := slog.New(slog.NewTextHandler(&text, nil))
		asJSON := slog.New(slog.NewJSONHandler(&text, nil))
		var record *consumer.RecordError
		require.ErrorAs(f, stopped, &record)
		require.Equal(f, secret, string(record.Record.Data), "the program itself has it")
		for _, v := range []any{status, &status, status.Shards[0], stopped, record, *record, status.Shards[0].Err} {
			marshalled, err := json.Marshal(v)
			require.NoError(f, err)
			require.Contains(f, string(marshalled), "no such customer")
			text.Write(marshalled)
			plain.Info("it is", "v", v)
			asJSON.Info("it is", "v", v)
			if _, is := v.(consumer.RecordError); !is { // its methods have pointer receivers
				fmt.Fprintf(&text, "%v %+v %s\n", v, v, v)
			}
		}
		text.Write(lines.Bytes())
		require.Contains(f, lines.String(), "no such customer")
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), fmt.Sprint([]byte(secret)), fmt.Sprintf("%x", secret)} {
			require.NotContains(f, text.String(), form)
		}
	})
}

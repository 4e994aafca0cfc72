package braid_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
)

var jsonLost = braid.LostRecords{Stream: "s", Shard: "shardId-000000000000", FirstAvailable: jsonNumber, Records: 7, Exact: true}

const (
	jsonDamagedText  = `{"Name":"000004.sst","Offset":5,"Bytes":6,"Problem":"bad"}`
	jsonLostKeysText = `{"After":"aw==","Through":null}`
	jsonLostText     = `{"Stream":"s","Shard":"shardId-000000000000","FirstLost":"0","FirstAvailable":"` + jsonNumberText + `","Records":7,"Exact":true}`
)

// jsonOf has the JSON of every exported struct, or the reason why it has none.
var jsonOf = map[string]struct {
	value any
	text  string
	none  string // why it is not marshaled
}{
	"BackupOptions":  {none: "has a function"},
	"SalvageOptions": {none: "has a function"},
	"DamagedFile":    {value: braid.DamagedFile{Name: "000004.sst", Offset: 5, Bytes: 6, Problem: "bad"}, text: jsonDamagedText},
	"LostKeys":       {value: braid.LostKeys{After: []byte("k")}, text: jsonLostKeysText},
	"LostRecords":    {value: jsonLost, text: jsonLostText},
	"SalvageReport": {
		value: braid.SalvageReport{
			Records: 1, Bytes: 2, Keys: 3, Queues: 7, Leases: 4, Lost: []braid.LostRecords{jsonLost}, LostKeys: []braid.LostKeys{{After: []byte("k")}},
			Damaged: []braid.DamagedFile{{Name: "000004.sst", Offset: 5, Bytes: 6, Problem: "bad"}}, Notes: []string{"a"}, Closed: true,
		},
		text: `{"Records":1,"Bytes":2,"Keys":3,"Queues":7,"Leases":4,"Lost":[` + jsonLostText + `],"LostKeys":[` + jsonLostKeysText + `],` +
			`"Damaged":[` + jsonDamagedText + `],"Notes":["a"],"Closed":true,"NewID":false}`,
	},
	"DB":            {none: "is a handle"},
	"KeyRing":       {none: "has keys"},
	"Options":       {none: "has a logger and a provider of keys"},
	"Shard":         {none: "is a handle"},
	"Stream":        {none: "is a handle"},
	"Tx":            {none: "is a handle"},
	"VerifyOptions": {none: "has a function"},
	"VerifyError":   {value: jsonProblem, text: jsonProblemText},
	"VerifyReport": {
		value: braid.VerifyReport{Streams: 1, Records: 2, Unopened: 1, UnopenedErr: braid.ErrKeyUnavailable, Problems: []*braid.VerifyError{&jsonProblem}},
		text: `{"Files":0,"FileBytes":0,"Streams":1,"Shards":0,"Epochs":0,"Records":2,"Bytes":0,"Leases":0,"Queues":0,"Keys":0,"Unopened":1,"Problems":[` + jsonProblemText + `],` +
			`"MoreProblems":0,"UnopenedErr":"encryption key not available"}`,
	},
	"HashKey":           {value: braid.MaxHashKey(), text: `"340282366920938463463374607431768211455"`},
	"SequenceNumber":    {value: jsonNumber, text: `"` + jsonNumberText + `"`},
	"Position":          {value: braid.AfterSequence(jsonNumber), text: `"AFTER_SEQUENCE_NUMBER ` + jsonNumberText + `"`},
	"Capacity":          {value: braid.Capacity{Mode: braid.OnDemand, MaxShards: 7}, text: `{"Mode":"OnDemand","WriteRecordsPerSecond":0,"WriteBytesPerSecond":0,"ReadsPerSecond":0,"ReadBytesPerSecond":0,"MaxShards":7}`},
	"CapacityDecision":  {value: braid.CapacityDecision{Time: jsonTime, Stream: "s", Action: "split", Reason: "busy"}, text: `{"Time":"2026-01-02T03:04:05Z","Stream":"s","Action":"split","Reason":"busy"}`},
	"GetRecordsOptions": {value: braid.GetRecordsOptions{Limit: 3, Wait: true}, text: `{"Limit":3,"LimitBytes":0,"Wait":true,"Unmetered":false}`},
	"KeyValue":          {value: braid.KeyValue{Key: []byte("k"), Value: []byte("v")}, text: `{"Key":"aw==","Value":"dg=="}`},
	"CorruptError":      {value: braid.CorruptError{Shard: "shardId-000000000000", FirstAvailable: jsonNumber, Err: braid.ErrCorrupt}, text: `{"Shard":"shardId-000000000000","FirstLost":"0","FirstAvailable":"` + jsonNumberText + `","Err":"stored data is damaged"}`},
	"Entry":             {value: braid.Entry{PartitionKey: "k", Data: []byte("v")}, text: `{"PartitionKey":"k","ExplicitHashKey":null,"Data":"dg=="}`},
	"Record":            {value: jsonRecord, text: jsonRecordText},
	"HashKeyRange":      {value: braid.HashKeyRange{End: braid.MaxHashKey()}, text: `{"Start":"0","End":"340282366920938463463374607431768211455"}`},
	"FileDamageError": {
		value: braid.FileDamageError{
			File: "BRAID", Damage: "missing", Offset: -1, Lost: "much", Missing: []braid.LostRecords{jsonLost}, Doubt: "b", Err: braid.ErrDataLoss,
		},
		text: `{"File":"BRAID","Damage":"missing","Offset":-1,"Lost":"much","Missing":[` + jsonLostText + `],` +
			`"GivenUp":null,"Complete":false,"Doubt":"b","Err":"stored data is missing"}`,
	},
	"Loss":                    {value: braid.Loss{File: "BRAID", Damage: "missing", Offset: -1, Text: "gone"}, text: `{"Time":"0001-01-01T00:00:00Z","File":"BRAID","Damage":"missing","Offset":-1,"Text":"gone"}`},
	"InvalidArgumentError":    {value: braid.InvalidArgumentError{Field: "Retention", Value: "1s", Rule: "must be longer"}, text: `{"Field":"Retention","Value":"1s","Rule":"must be longer"}`},
	"TrimmedError":            {value: braid.TrimmedError{Shard: "shardId-000000000000", LastLost: jsonNumber}, text: `{"Shard":"shardId-000000000000","FirstLost":"0","LastLost":"` + jsonNumberText + `","FirstAvailable":"0"}`},
	"BeyondTipError":          {value: braid.BeyondTipError{Shard: "shardId-000000000000", Number: jsonNumber}, text: `{"Shard":"shardId-000000000000","Number":"` + jsonNumberText + `","Last":"0"}`},
	"StreamMismatchError":     {value: braid.StreamMismatchError{Stream: "s", Differences: []string{"Shards is 2, not 8"}}, text: `{"Stream":"s","Differences":["Shards is 2, not 8"]}`},
	"ThroughputExceededError": {value: braid.ThroughputExceededError{Shard: "shardId-000000000000", Budget: "ReadsPerSecond", RetryAfter: 200 * time.Millisecond}, text: `{"Shard":"shardId-000000000000","Budget":"ReadsPerSecond","RetryAfter":"200ms"}`},
	"PutResult":               {value: braid.PutResult{ShardID: "shardId-000000000000", Err: braid.ErrThroughputExceeded}, text: `{"ShardID":"shardId-000000000000","SequenceNumber":"0","Encrypted":false,"Err":"throughput exceeded"}`},
	"StreamOptions":           {value: braid.StreamOptions{Shards: 2, Retention: 90 * time.Second, Capacity: braid.Capacity{Mode: braid.Provisioned}}, text: `{"Shards":2,"MaxRecordBytes":0,"RetentionBytes":0,"Capacity":{"Mode":"Provisioned","WriteRecordsPerSecond":0,"WriteBytesPerSecond":0,"ReadsPerSecond":0,"ReadBytesPerSecond":0,"MaxShards":0},"Tags":null,"MustMatch":false,"Retention":"1m30s"}`},
	"ShardDescription":        {value: jsonShard, text: jsonShardText},
	"StreamDescription": {
		value: braid.StreamDescription{Name: "s", CreatedAt: jsonTime, Retention: 24 * time.Hour, Shards: []braid.ShardDescription{jsonShard}},
		text: `{"Name":"s","CreatedAt":"2026-01-02T03:04:05Z","MaxRecordBytes":0,"RetentionBytes":0,` +
			`"Capacity":{"Mode":"Unlimited","WriteRecordsPerSecond":0,"WriteBytesPerSecond":0,"ReadsPerSecond":0,"ReadBytesPerSecond":0,"MaxShards":0},` +
			`"EncryptionKey":"","Tags":null,"Records":0,"Bytes":0,"Queues":0,"Shards":[` + jsonShardText + `],"Retention":"24h0m0s"}`,
	},
	"RecordsPage": {
		value: braid.RecordsPage{Records: []braid.Record{jsonRecord}, Next: braid.AfterSequence(jsonNumber), BehindLatest: 1500 * time.Millisecond, BehindRecords: 2},
		text: `{"Records":[` + jsonRecordText + `],"Next":"AFTER_SEQUENCE_NUMBER ` + jsonNumberText + `",` +
			`"BehindRecords":2,"BehindBytes":0,"EndOfShard":false,"ChildShards":null,"BehindLatest":"1.5s"}`,
	},
	"Histogram":       {value: jsonHistogram, text: jsonHistogramText},
	"HistogramBucket": {value: jsonHistogram.Buckets[0], text: `{"UpTo":"1µs","Count":3}`},
	"ShardMetrics":    {value: jsonShardMetrics, text: `{` + jsonShardMetricsText + `}`},
	"StreamMetrics":   {value: braid.StreamMetrics{Shards: 3, OpenShards: 2, ShardMetrics: jsonShardMetrics}, text: `{"Shards":3,"OpenShards":2,"Queues":0,` + jsonShardMetricsText + `}`},
	"Metrics": {
		value: braid.Metrics{Streams: 1, SyncTime: 123 * time.Microsecond, PutTimes: jsonHistogram, DiskFull: true, Failed: errors.New("fsync: I/O error")},
		text: `{"Streams":1,"Shards":0,"Queues":0,"Epochs":0,"RecordsPut":0,"BytesPut":0,"Commits":0,"PutTimes":` + jsonHistogramText + `,"CommitTimes":{"Count":0,"Buckets":null,"Sum":"0s"},"SyncTimes":{"Count":0,"Buckets":null,"Sum":"0s"},"PutsThrottled":0,"ReadsThrottled":0,"TailReads":0,"StoreReads":0,` +
			`"TailBytes":0,"DiskBytes":0,"WALBytes":0,"MemtableBytes":0,"Tables":0,"BytesFlushed":0,"BytesCompacted":0,"Compactions":0,"CacheBytes":0,"CacheHits":0,` +
			`"CacheMisses":0,"OpenSnapshots":0,"OpenIterators":0,"WriteErrors":0,"CapacityDecisions":null,"DiskFull":true,"SyncTime":"123µs","Failed":"fsync: I/O error"}`,
	},
}

const jsonNumberText = "49568749374218235080373793662021150003767486140978823170"

var (
	jsonTime         = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	jsonNumber, _    = braid.ParseSequenceNumber(jsonNumberText)
	jsonRecord       = braid.Record{PartitionKey: "k", Data: []byte("v"), ShardID: "shardId-000000000000", SequenceNumber: jsonNumber, ArrivalTime: jsonTime}
	jsonHistogram    = braid.Histogram{Count: 4, Sum: 75 * time.Second, Buckets: []braid.HistogramBucket{{UpTo: time.Microsecond, Count: 3}}}
	jsonProblem      = braid.VerifyError{Kind: "records", Stream: "s", Shard: "shardId-000000000000", Err: braid.ErrCorrupt}
	jsonShardMetrics = braid.ShardMetrics{Records: 1, Bytes: 2, RecordsPut: 3, BytesPut: 4, RecordsRead: 5, BytesRead: 6, PutsThrottled: 7, ReadsThrottled: 8}
	jsonShard        = braid.ShardDescription{ID: "shardId-000000000001", Parents: []braid.ShardID{"shardId-000000000000"}, StartingSequenceNumber: jsonNumber}
)

const (
	jsonHistogramText    = `{"Count":4,"Buckets":[{"UpTo":"1µs","Count":3}],"Sum":"1m15s"}`
	jsonShardMetricsText = `"Records":1,"Bytes":2,"RecordsPut":3,"BytesPut":4,"RecordsRead":5,"BytesRead":6,"PutsThrottled":7,"ReadsThrottled":8`

	jsonProblemText = `{"Kind":"records","Stream":"s","Shard":"shardId-000000000000","App":"","Queue":"","AfterKey":null,"BeforeKey":null,"File":"","Err":"stored data is damaged"}`
	jsonRecordText  = `{"PartitionKey":"k","ExplicitHashKey":null,"Data":"dg==","ShardID":"shardId-000000000000","SequenceNumber":"` + jsonNumberText + `","ArrivalTime":"2026-01-02T03:04:05Z","Encrypted":false}`
	jsonShardText   = `{"ID":"shardId-000000000001","HashKeyRange":{"Start":"0","End":"0"},"Parents":["shardId-000000000000"],"Children":null,"Closed":false,"CreatedAt":"0001-01-01T00:00:00Z",` +
		`"StartingSequenceNumber":"` + jsonNumberText + `","EndingSequenceNumber":"0","First":"0","Last":"0","Records":0,"Bytes":0,"RecordsPut":0,"BytesPut":0}`
)

// Values marshal in a form that people can read, and can be read back.
func TestJSONIsAsPeopleWriteIt(t *testing.T) {
	for _, name := range exportedStructs(t) {
		t.Run(name, func(t *testing.T) {
			want, known := jsonOf[name]
			require.True(t, known, "say how %s marshals, or why it does not", name)
			if want.none != "" {
				return
			}
			require.Equal(t, name, reflect.TypeOf(want.value).Name())
			text, err := json.Marshal(want.value)
			require.NoError(t, err)
			require.Equal(t, want.text, string(text))
			read := reflect.New(reflect.TypeOf(want.value))
			require.NoError(t, json.Unmarshal(text, read.Interface()))
			again, err := json.Marshal(read.Elem().Interface())
			require.NoError(t, err)
			require.Equal(t, want.text, string(again))
		})
	}
}

// exportedStructs returns the names of the exported struct types of this directory.
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
		for _, decl := range file.Decls {
			gen, _ := decl.(*ast.GenDecl)
			if gen == nil {
				continue
			}
			for _, spec := range gen.Specs {
				ts, _ := spec.(*ast.TypeSpec)
				if ts == nil || !ts.Name.IsExported() {
					continue
				}
				if _, is := ts.Type.(*ast.StructType); is {
					names = append(names, ts.Name.Name)
				}
			}
		}
	}
	require.Len(t, names, len(jsonOf))
	return names
}

func TestModesAreReadByName(t *testing.T) {
	var c braid.Capacity
	require.NoError(t, json.Unmarshal([]byte(`{"Mode":"Provisioned"}`), &c))
	require.Equal(t, braid.Provisioned, c.Mode)
	require.ErrorIs(t, json.Unmarshal([]byte(`{"Mode":"PROVISIONED!"}`), &c), braid.ErrInvalidArgument)
	_, err := json.Marshal(braid.Capacity{Mode: 9})
	require.ErrorIs(t, err, braid.ErrInvalidArgument)

	modes := map[braid.Durability]int{braid.Sync: 1, braid.Interval: 2, braid.NoSync: 3}
	text, err := json.Marshal(modes)
	require.NoError(t, err)
	require.Equal(t, `{"Interval":2,"NoSync":3,"Sync":1}`, string(text))
	var read map[braid.Durability]int
	require.NoError(t, json.Unmarshal(text, &read))
	require.Equal(t, modes, read)
	var d braid.Durability
	require.ErrorIs(t, d.UnmarshalText([]byte("sync")), braid.ErrInvalidArgument)
	_, err = braid.Durability(-1).MarshalText()
	require.ErrorIs(t, err, braid.ErrInvalidArgument)
}

func TestOptionsOfAStreamCanBeAFile(t *testing.T) {
	options := braid.StreamOptions{Shards: 4, Retention: time.Hour}
	require.NoError(t, json.Unmarshal([]byte(`{"Shards": 2, "Capacity": {"Mode": "OnDemand"}}`), &options))
	require.Equal(t, braid.StreamOptions{Shards: 2, Retention: time.Hour, Capacity: braid.Capacity{Mode: braid.OnDemand}}, options, "what is missing stays")
	require.Error(t, json.Unmarshal([]byte(`{"Retention": "a day"}`), &options))
}

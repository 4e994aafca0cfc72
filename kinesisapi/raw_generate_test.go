package kinesisapi_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/kinesisapi/internal/eventstream"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// chooser makes choices from bytes, so that a fuzzer's bytes generate a request. When the
// bytes are used up, it always makes the first choice.
type chooser struct{ bytes []byte }

func (c *chooser) n(n int) int {
	if len(c.bytes) == 0 {
		return 0
	}
	b := c.bytes[0]
	c.bytes = c.bytes[1:]
	return int(b) % n
}

// choose favours the first alternatives, which make valid requests.
func choose[T any](c *chooser, from ...T) T {
	return from[min(c.n(len(from)), c.n(len(from)), c.n(len(from)))]
}

// operations are the names of all operations, in order.
var operations = slices.Sorted(maps.Keys(service.Operations))

// known is a value that comes from a server: each of two servers has its own.
type known struct {
	kind  string
	index int
}

// The values of members, by the shape that the tag of their field names.
var enums = map[string][]string{
	"ShardIteratorType":          {"TRIM_HORIZON", "LATEST", "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "AT_TIMESTAMP", "X"},
	"ShardFilterType":            {"AT_LATEST", "AFTER_SHARD_ID", "AT_TRIM_HORIZON", "FROM_TRIM_HORIZON", "AT_TIMESTAMP", "FROM_TIMESTAMP", "X"},
	"StreamMode":                 {"PROVISIONED", "PROVISIONED", "ON_DEMAND", "X"},
	"EncryptionType":             {"KMS", "KMS", "KMS", "NONE", "X"},
	"ScalingType":                {"UNIFORM_SCALING", "UNIFORM_SCALING", "X"},
	"RecordDistributionStrategy": {"USER_PARTITION_KEY", "AUTO", "X"},
	"CommitmentStatus":           {"ENABLED", "DISABLED", "X"},
	"StreamName":                 {"a", "b", "c", "A.b_c-0", "not there", ""},
	"ConsumerName":               {"one", "two", "three", "é"},
	"ShardId":                    {shard0, "shardId-000000000001", "shardId-000000000002", "shardId-000000000003", "x-4", "5", "abc", "shardId-000000000099"},
	"StreamARN":                  {streamARN + "a", streamARN + "b", streamARN + "c", "arn:aws:kinesis:x:111111111111:stream/a", "arn:aws:kinesis:::stream/a", streamARN + "/"},
	"ResourceARN":                {streamARN + "a", streamARN + "b", streamARN + "c", "arn:aws:kinesis:x:111111111111:nostream/a"},
	"PartitionKey":               {"a", "b", "c", "ключ", "\"\\\n\x00\x7f", strings.Repeat("k", 256), strings.Repeat("😀", 129), ""},
	"HashKey":                    {"0", "1", "2", "170141183460469231731687303715884105728", maxHash, strings.Repeat("9", 39), "01"},
	"SequenceNumber":             {"0", "1", "340282366920938463463374607431768211455", "x"},
	"KeyId":                      {"alias/one", "alias/two", "alias/none"},
	"ShardIterator":              {"AAAAAAAAAAE=", "x", ""},
	"NextToken":                  {"AAAAAAAAAAE=", "x", ""},
	"ConsumerARN":                {streamARN + "a/consumer/one:1", streamARN + "a/consumer/one", "x"},
	"StreamId":                   {"abc"},
	"QueueName":                  {"q", "r", "s", "é"},
	"QueueARN":                   {missingQueue, "x"},
	"ReceiptHandle":              {"x", ""},
	"QueueStartingPositionType":  {"TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "X"},
	"TargetType":                 {"BUILT_IN", "NONE", "X"},
	"TagKey":                     {"k1", "", "zzz"},
	"":                           {"{}", `{"Version":"2012-10-17"}`, "x", ""},
}

var numbers = map[string][]int64{
	"ShardCount":           {1, 2, 3, 0, -1},
	"TargetShardCount":     {2, 1, 3, 4, 0},
	"RetentionPeriodHours": {24, 48, 25, 8760, 8761, 23},
	"MaxRecordSizeInKiB":   {1024, 2048, 10240, 1, math.MaxInt32},
	"WarmThroughputMiBps":  {5, 1, 0, -1},
	"MaxReceiveCount":      {2, 1, 1000, 0},
	"WaitTimeSeconds":      {1, 2, 20, 0},
	"":                     {1, 2, 100, 10000, 0, math.MaxInt32 + 1},
}

// generate makes a request of a struct's type: a document of strings, numbers,
// bools, blobs, times, lists, maps and known values.
func generate(c *chooser, t reflect.Type) map[string]any {
	document := make(map[string]any)
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("kinesis")
		_, shape, _ := strings.Cut(tag, "required,")
		if !strings.HasPrefix(tag, "required") {
			shape = tag
		}
		absent := c.n(6) > 0
		switch {
		case strings.HasPrefix(tag, "required"), f.Name == "StreamName", f.Name == "PartitionKey":
			absent = c.n(32) == 31
		case f.Name == "StreamARN":
			absent = c.n(16) > 0
		case strings.HasSuffix(f.Name, "SequenceNumber") && t.Name() != "PutRecordInput":
			absent = c.n(2) == 0
		}
		if !absent {
			document[f.Name] = generateMember(c, f, shape)
		}
	}
	if t == reflect.TypeFor[service.QueueStreamConfiguration]() && c.n(4) > 0 {
		document["StreamARN"] = streamARN + "c" // the one on demand
	}
	return document
}

func generateMember(c *chooser, f reflect.StructField, shape string) any {
	t := f.Type
	switch {
	case t == reflect.TypeFor[*string]():
		learnt := map[string]string{
			"ShardIterator": "iterator", "NextToken": "token", "ConsumerARN": "consumer",
			"SequenceNumber": "number", "ResourceARN": "consumer", "QueueARN": "queue", "ReceiptHandle": "receipt",
		}[shape]
		if shape == "ResourceARN" && c.n(4) == 0 {
			learnt = "queue"
		}
		if learnt != "" && c.n(8) < 6 && (shape != "ResourceARN" || c.n(2) == 0) {
			return known{learnt, min(c.n(8), c.n(8))}
		}
		return choose(c, enums[shape]...)
	case t == reflect.TypeFor[*int32]():
		list, ok := numbers[f.Name]
		if !ok {
			list = numbers[""]
		}
		return choose(c, list...)
	case t == reflect.TypeFor[*bool]():
		return c.n(4) == 0
	case t == reflect.TypeFor[*time.Time]():
		return choose(c, time.Now(), time.Now().Add(-time.Minute), time.UnixMilli(0), time.Now().Add(-time.Hour), time.Now().Add(time.Hour), time.UnixMilli(-1<<60)).Truncate(time.Millisecond)
	case t == reflect.TypeFor[[]byte]():
		return bytes.Repeat([]byte{byte(c.n(256))}, choose(c, 3, 0, 1, 2, 100, 5000))
	case t == reflect.TypeFor[[]string]():
		var list []any
		for range c.n(4) {
			if f.Name == "ShardLevelMetrics" {
				list = append(list, choose(c, "IncomingBytes", "OutgoingRecords", "ALL", "IteratorAgeMilliseconds", "X"))
			} else {
				list = append(list, choose(c, "k1", "k2", "k3", "bad%", ""))
			}
		}
		return list
	case t == reflect.TypeFor[map[string]string]():
		tags := make(map[string]any)
		for range c.n(4) {
			tags[choose(c, "k1", "k2", "k3", "aws:k", "a;", "")] = choose(c, "v", "", "w", "%", "é")
		}
		return tags
	case t.Kind() == reflect.Slice:
		var list []any
		count := 1 + c.n(5)
		if f.Name == "StreamConfigurationList" {
			count = 1 + c.n(8)/7
		}
		for range count {
			list = append(list, generate(c, t.Elem()))
		}
		return list
	case t.Kind() == reflect.Pointer:
		return generate(c, t.Elem())
	}
	panic(fmt.Sprint("a member of type ", t))
}

// speaker sends requests to a server in one of the two encodings, and learns known values
// from the answers.
type speaker struct {
	*rig
	cbor   bool
	learnt map[string][]string
}

func newSpeaker(r *rig, cbor bool) *speaker {
	return &speaker{rig: r, cbor: cbor, learnt: make(map[string][]string)}
}

// encode writes a document.
func (s *speaker) encode(document map[string]any) []byte {
	var data []byte
	var err error
	if s.cbor {
		data, err = cbor.Marshal(s.concrete(document))
	} else {
		data, err = json.Marshal(s.concrete(document))
	}
	require.NoError(s.t, err)
	return data
}

func (s *speaker) concrete(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, member := range v {
			out[name] = s.concrete(member)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = s.concrete(v[i])
		}
		return out
	case known:
		if list := s.learnt[v.kind]; len(list) > 0 {
			return list[len(list)-1-v.index%len(list)]
		}
		return "unknown"
	case []byte:
		if s.cbor {
			return v
		}
		return base64.StdEncoding.EncodeToString(v)
	case time.Time:
		if s.cbor {
			return instant(v)
		}
		ms := v.UnixMilli()
		sign := ""
		if ms < 0 {
			sign, ms = "-", -ms
		}
		return json.Number(fmt.Sprintf("%s%d.%03d", sign, ms/1000, ms%1000))
	}
	return v
}

// heard is an answer in a form that does not depend on the encoding.
type heard struct {
	status   int
	document any
	events   []any // of a subscription, the first few
}

// say sends a request and returns the answer. It replaces names and numbers that differ
// between servers.
func (s *speaker) say(operation string, document map[string]any) heard {
	s.t.Helper()
	contentType := typeJSON
	if s.cbor {
		contentType = typeCBOR
	}
	body := s.encode(document)
	request, err := http.NewRequestWithContext(s.t.Context(), "POST", s.url, bytes.NewReader(body))
	require.NoError(s.t, err)
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("X-Amz-Target", "Kinesis_20131202."+operation)
	response, err := s.client.Do(request)
	require.NoError(s.t, err)
	defer response.Body.Close()
	h := heard{status: response.StatusCode}
	if response.Header.Get("Content-Type") == "application/vnd.amazon.eventstream" {
		for i := range 2 {
			m, err := eventstream.Read(response.Body)
			require.NoError(s.t, err)
			if i > 0 {
				h.events = append(h.events, m.Headers[":event-type"], s.hear(m.Payload))
			}
		}
		return h
	}
	require.Equal(s.t, contentType, response.Header.Get("Content-Type"))
	answer, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	require.EqualValues(s.t, len(answer), response.ContentLength)
	if len(answer) > 0 {
		h.document = s.hear(answer)
	}
	require.NotEqual(s.t, 500, h.status, "%s %s: %v", operation, s.encode(document), h.document)
	return h
}

// both sends a request to two servers at the same time, because some requests wait.
func both(one, other *speaker, operation string, document map[string]any) (a, b heard) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		a = one.say(operation, document)
	}()
	b = other.say(operation, document)
	<-done
	return a, b
}

// hear reads a document.
func (s *speaker) hear(data []byte) any {
	s.t.Helper()
	var document any
	if s.cbor {
		require.NoError(s.t, cborMode.Unmarshal(data, &document))
	} else {
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		require.NoError(s.t, d.Decode(&document))
		require.False(s.t, d.More())
	}
	return s.canonical("", document)
}

// kinds lists the members whose values the server generates.
var kinds = map[string]string{
	"ShardIterator": "iterator", "NextShardIterator": "iterator", "NextToken": "token", "ConsumerARN": "consumer",
	"QueueARN": "queue", "ReceiptHandle": "receipt",
	"SequenceNumber": "number", "StartingSequenceNumber": "number", "EndingSequenceNumber": "number", "ContinuationSequenceNumber": "number",
}

// queueInText is the ARN of a queue in the text of an error.
var queueInText = regexp.MustCompile(`queue/[a-z2-7]{26}`)

func (s *speaker) canonical(member string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			v[name] = s.canonical(name, v[name])
		}
		return v
	case []any:
		for i := range v {
			v[i] = s.canonical(member, v[i])
		}
		return v
	case string:
		if kind := kinds[member]; kind != "" {
			if list := s.learnt[kind]; !slices.Contains(list, v) {
				list = append(list, v)
				s.learnt[kind] = list[max(0, len(list)-16):]
			}
		}
		switch kinds[member] {
		case "iterator", "token":
			require.LessOrEqual(s.t, len(v), 512)
			return "*"
		case "queue", "receipt": // random
			return "*"
		}
		return queueInText.ReplaceAllString(v, "queue/*")
	case []byte: // as in JSON
		require.Equal(s.t, "Data", member)
		return base64.StdEncoding.EncodeToString(v)
	case time.Time: // its seconds are milliseconds
		require.Zero(s.t, v.Nanosecond())
		require.True(s.t, isTime(member), member)
		return v.Unix()
	case json.Number:
		if isTime(member) {
			f, err := v.Float64()
			require.NoError(s.t, err)
			return int64(math.Round(f * 1000))
		}
		n, err := v.Int64()
		require.NoError(s.t, err, member)
		return n
	case int64:
		require.False(s.t, isTime(member), member)
		return v
	}
	return v
}

func isTime(member string) bool {
	return strings.HasSuffix(member, "Timestamp") || strings.HasSuffix(member, "At")
}

package kinesisapi_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/kinesisapi/internal/eventstream"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// renewed replaces a value after a number of uses, so that data of a fuzzer does not
// accumulate in a database.
type renewed[T any] struct {
	uses  int
	make  func(testing.TB) (T, func())
	left  int
	value T
	close func()
}

func (r *renewed[T]) get(tb testing.TB) T {
	if r.left == 0 {
		r.end()
		r.value, r.close = r.make(tb)
		r.left = r.uses
	}
	r.left--
	return r.value
}

func (r *renewed[T]) end() {
	if r.close != nil {
		r.close()
		r.close = nil
	}
}

// fuzzServer is a server with a stream, a consumer and a few records.
type fuzzServer struct {
	db     *braid.DB
	server *kinesisapi.Server
	serial int
}

func (s *fuzzServer) next() int {
	s.serial++
	return s.serial
}

func newFuzzServer(tb testing.TB) (*fuzzServer, func()) {
	keys, err := braid.NewKeyRing(map[string][]byte{"alias/one": make([]byte, 32), "alias/two": append(make([]byte, 31), 1)})
	require.NoError(tb, err)
	db, err := braid.Open(braid.InMemory, &braid.Options{KeyProvider: keys})
	require.NoError(tb, err)
	server, err := kinesisapi.New(db, nil)
	require.NoError(tb, err)
	s := &fuzzServer{db: db, server: server}
	r := s.rig(tb)
	r.does("CreateStream", `{"StreamName":"a","ShardCount":2}`)
	r.does("CreateStream", `{"StreamName":"b"}`)
	r.does("PutRecord", `{"StreamName":"a","PartitionKey":"a","Data":"AAAA"}`)
	return s, func() {
		server.Close()
		if err := db.Close(); err != nil {
			panic(err)
		}
	}
}

func (s *fuzzServer) rig(tb testing.TB) *rig {
	return &rig{t: tb, db: s.db, server: s.server, client: s.server.Client(), url: "http://kinesis/"}
}

// Any operation gives a well-formed answer to any body.
func FuzzJSONRequest(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	scribe := &speaker{rig: &rig{t: f}, learnt: map[string][]string{"consumer": {streamARN + "a/consumer/one:1"}}}
	for i, operation := range operations {
		for range 4 {
			choices := &chooser{make([]byte, 100)}
			for i := range choices.bytes {
				choices.bytes[i] = byte(random.Uint32())
			}
			f.Add(uint8(i), scribe.encode(generate(choices, reflect.TypeOf(service.Operations[operation].NewInput()).Elem())))
		}
	}
	for _, body := range []string{"", "{", "[]", "null", `{"a":{}}`, `{"StreamName":1e999}`, strings.Repeat("[", 1000), `{"Timestamp":-9e18}`, "{}\x00"} {
		f.Add(uint8(0), []byte(body))
	}
	servers := renewed[*fuzzServer]{uses: 300, make: newFuzzServer}
	f.Cleanup(func() { servers.end() })
	f.Fuzz(func(t *testing.T, index uint8, body []byte) {
		operation := operations[int(index)%len(operations)]
		s := servers.get(t)
		request, err := http.NewRequestWithContext(t.Context(), "POST", "http://kinesis/", bytes.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Content-Type", typeJSON)
		request.Header.Set("X-Amz-Target", "Kinesis_20131202."+operation)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		response, err := s.server.Client().Do(request)
		require.NoError(t, err)
		runtime.ReadMemStats(&after)
		defer response.Body.Close()
		require.Contains(t, []int{200, 400, 403, 404, 413}, response.StatusCode)
		if operation != "CreateStream" && operation != "UpdateShardCount" { // shards take memory
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20+1000*len(body)), "what one request takes is bounded")
		}
		if response.Header.Get("Content-Type") == "application/vnd.amazon.eventstream" {
			m, err := eventstream.Read(response.Body)
			require.NoError(t, err)
			require.Equal(t, "initial-response", m.Headers[":event-type"])
			return
		}
		require.Equal(t, typeJSON, response.Header.Get("Content-Type"))
		answer := new(bytes.Buffer)
		_, err = answer.ReadFrom(response.Body)
		require.NoError(t, err)
		if answer.Len() == 0 {
			require.Equal(t, 200, response.StatusCode)
			return
		}
		var document map[string]any
		require.NoError(t, json.Unmarshal(answer.Bytes(), &document))
		if response.StatusCode != 200 {
			require.NotEmpty(t, document["__type"])
		}
	})
}

// A request has the same effect in either encoding. The bytes are choices that generate one
// or more requests.
func FuzzCBORRequest(f *testing.F) {
	random := rand.New(rand.NewPCG(3, 4))
	for i := range operations {
		for range 4 {
			choices := make([]byte, 1, 100)
			choices[0] = byte(i)
			for len(choices) < cap(choices) {
				choices = append(choices, byte(random.Uint32()))
			}
			f.Add(choices)
		}
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		// In a bubble both servers have the same time, which some answers contain.
		synctest.Test(t, func(t *testing.T) {
			c := &chooser{choices}
			var speakers [2]*speaker
			for i := range speakers {
				server, closeServer := newFuzzServer(t)
				defer closeServer()
				speakers[i] = newSpeaker(server.rig(t), i == 1)
			}
			for range 4 {
				operation := operations[c.n(len(operations))]
				document := generate(c, reflect.TypeOf(service.Operations[operation].NewInput()).Elem())
				a, b := both(speakers[0], speakers[1], operation, document)
				require.Equal(t, timeless(a), timeless(b), "%s %s", operation, speakers[0].encode(document))
			}
		})
	})
}

// timeless returns an answer without the parts that depend on its time.
func timeless(h heard) heard {
	var strip func(member string, v any) any
	strip = func(member string, v any) any {
		switch v := v.(type) {
		case map[string]any:
			for name := range v {
				v[name] = strip(name, v[name])
			}
		case []any:
			for i := range v {
				v[i] = strip(member, v[i])
			}
		case string:
			if kinds[member] != "" || member == "message" {
				return "*"
			}
		case int64:
			if isTime(member) || member == "MillisBehindLatest" {
				return "*"
			}
		}
		return v
	}
	h.document = strip("", h.document)
	h.events = strip("", h.events).([]any)
	return h
}

// The server accepts only iterators that it has issued. If flip is not 0, it changes a byte
// of an issued iterator, which makes it invalid.
func FuzzIterator(f *testing.F) {
	for _, text := range []string{"", "x", "AAAAAAAAAAE=", `""`, `"`, strings.Repeat("A", 512), strings.Repeat("A", 513), "\x00", "é"} {
		f.Add(text, uint16(0), byte(0))
	}
	for i := range uint16(40) {
		f.Add("", i*10, byte(1))
	}
	servers := renewed[*fuzzServer]{uses: 1000, make: newFuzzServer}
	f.Cleanup(func() { servers.end() })
	f.Fuzz(func(t *testing.T, text string, at uint16, flip byte) {
		r := servers.get(t).rig(t)
		ask := func(text string) answer {
			body, err := json.Marshal(map[string]string{"ShardIterator": text})
			require.NoError(t, err)
			return r.call("GetRecords", string(body))
		}
		issued := r.iterator("a", "0", `"ShardIteratorType":"TRIM_HORIZON"`)
		require.Equal(t, 200, ask(issued).status)
		require.Equal(t, 200, ask(`"`+issued+`"`).status, "in double quotes")
		texts := []string{text, issued + text, text + issued}
		if flip != 0 {
			changed := []byte(issued)
			changed[int(at)%len(changed)] ^= flip
			texts = append(texts, string(changed), issued[:int(at)%len(issued)])
		}
		for _, text := range texts {
			if text == issued {
				continue
			}
			a := ask(text)
			require.Equal(t, 400, a.status, text)
			var e struct {
				Type    string `json:"__type"`
				Message string `json:"message"`
			}
			require.NoError(t, json.Unmarshal([]byte(a.body), &e))
			if e.Type == "InvalidArgumentException" {
				require.Equal(t, "Invalid ShardIterator.", e.Message)
			} else {
				require.Equal(t, "ValidationException", e.Type, "too short or too long")
			}
		}
	})
}

// The frames of a subscription have the records that were put, in either encoding.
func FuzzEventStream(f *testing.F) {
	f.Add([]byte("hello"), "a", uint8(1))
	f.Add([]byte{}, "\"\\\x00\u2028", uint8(3))
	f.Add(bytes.Repeat([]byte{0xff}, 3000), strings.Repeat("😀", 128), uint8(20))
	servers := renewed[*fuzzServer]{uses: 100, make: newFuzzServer}
	f.Cleanup(func() { servers.end() })
	f.Fuzz(func(t *testing.T, data []byte, key string, count uint8) {
		s := servers.get(t)
		key = strings.ToValidUTF8(key, "?")
		entries := make([]braid.Entry, 1+count%30)
		for i := range entries {
			entries[i] = braid.Entry{PartitionKey: key, Data: data[:len(data)*i/len(entries)]}
		}
		stream, err := s.db.Stream("a")
		require.NoError(t, err)
		results, err := stream.PutRecords(t.Context(), entries)
		if err != nil {
			t.Skip("the database does not take it")
		}
		r := s.rig(t)
		for _, form := range []bool{false, true} {
			speaker := newSpeaker(r, form)
			name := fmt.Sprintf("c%d-%t", s.next(), form)
			consumer := r.doesf("RegisterStreamConsumer", `{"StreamARN":"%sa","ConsumerName":%q}`, streamARN, name)["Consumer"].(map[string]any)
			h := speaker.say("SubscribeToShard", map[string]any{
				"ConsumerARN": consumer["ConsumerARN"], "ShardId": string(results[0].ShardID),
				"StartingPosition": map[string]any{"Type": "AT_SEQUENCE_NUMBER", "SequenceNumber": results[0].SequenceNumber.String()},
			})
			require.Equal(t, 200, h.status)
			require.Equal(t, "SubscribeToShardEvent", h.events[0])
			event := h.events[1].(map[string]any)
			records := event["Records"].([]any)
			require.Len(t, records, len(entries))
			for i, record := range records {
				record := record.(map[string]any)
				require.Equal(t, base64.StdEncoding.EncodeToString(entries[i].Data), record["Data"])
				require.Equal(t, key, record["PartitionKey"])
				require.Equal(t, results[i].SequenceNumber.String(), record["SequenceNumber"])
				require.NotContains(t, record, "EncryptionType")
			}
			require.Equal(t, results[len(results)-1].SequenceNumber.String(), event["ContinuationSequenceNumber"])
			require.NotContains(t, event, "ChildShards")
		}
	})
}

package control_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/kinesisapi/internal/calltest"
	"github.com/braidstream/braid/kinesisapi/internal/control"
)

// kit is a server with the control API, and a client of both.
type kit struct {
	t       *testing.T
	db      *braid.DB
	server  *kinesisapi.Server
	kinesis *calltest.Client
}

func newKit(t *testing.T, options *kinesisapi.Options) *kit {
	ring, err := braid.NewKeyRing(map[string][]byte{"key": make([]byte, 32)})
	require.NoError(t, err)
	db, err := braid.Open(braid.InMemory, &braid.Options{KeyProvider: ring})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	if options == nil {
		options = &kinesisapi.Options{}
	}
	options.Control = true
	server, err := kinesisapi.New(db, options)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	k := &kit{t: t, db: db, server: server}
	k.kinesis = k.client("any", "us-east-1")
	return k
}

func (k *kit) client(accessKey, region string) *calltest.Client {
	return &calltest.Client{HTTP: k.server.Client(), URL: "http://kinesis/", AccessKey: accessKey, Region: region}
}

// do sends a request to the control API. Its answer must have the status, and is
// decoded into out.
func (k *kit) do(method, path, body string, status int, out any) http.Header {
	k.t.Helper()
	w := httptest.NewRecorder()
	k.server.ServeHTTP(w, httptest.NewRequest(method, "http://localhost:4567/_braid/"+path, strings.NewReader(body)))
	require.Equal(k.t, status, w.Code, w.Body.String())
	require.Equal(k.t, "application/json", w.Header().Get("Content-Type"))
	if out == nil {
		out = new(any)
	}
	require.NoError(k.t, json.Unmarshal(w.Body.Bytes(), out), w.Body.String())
	return w.Header()
}

// refused sends a request that must fail with the status and a text.
func (k *kit) refused(method, path, body string, status int, contains string) {
	k.t.Helper()
	var out map[string]string
	k.do(method, path, body, status, &out)
	require.Len(k.t, out, 1)
	require.Contains(k.t, out["error"], contains)
}

func (k *kit) create(client *calltest.Client, name string, shards int) {
	k.t.Helper()
	require.NoError(k.t, client.Call(k.t.Context(), "CreateStream", calltest.Object{"StreamName": name, "ShardCount": shards}, nil))
}

// call calls an operation that succeeds.
func (k *kit) call(operation string, in calltest.Object, out any) {
	k.t.Helper()
	require.NoError(k.t, k.kinesis.Call(k.t.Context(), operation, in, out))
}

func (k *kit) put(name, key, data string) error {
	return k.kinesis.Put(k.t.Context(), name, key, data)
}

// putAll puts records, of which some may be refused.
func (k *kit) putAll(texts ...string) (out struct {
	FailedRecordCount int
	Records           []struct{ ErrorCode *string }
},
) {
	k.t.Helper()
	var records []calltest.Object
	for _, text := range texts {
		records = append(records, calltest.Object{"PartitionKey": "k", "Data": []byte(text)})
	}
	k.call("PutRecords", calltest.Object{"StreamName": "orders", "Records": records}, &out)
	return out
}

// iterator returns a shard iterator that begins with the first record.
func (k *kit) iterator() string {
	k.t.Helper()
	var out struct{ ShardIterator string }
	k.call("GetShardIterator", calltest.Object{"StreamName": "orders", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"}, &out)
	return out.ShardIterator
}

type stream struct {
	Name, ARN, Status, Mode string
	EncryptionKey           string
	Records, Bytes          int64
	Shards                  []struct {
		ID      string
		Closed  bool
		Records int64
	}
}

func (k *kit) streams(query string) (names []string) {
	k.t.Helper()
	var out struct{ Streams []stream }
	k.do("GET", "streams"+query, "", http.StatusOK, &out)
	for _, s := range out.Streams {
		names = append(names, s.Name)
	}
	return names
}

func TestHealth(t *testing.T) {
	k := newKit(t, nil)
	k.do("GET", "health", "", http.StatusOK, nil)
	k.do("GET", "ready", "", http.StatusOK, nil)
	require.Contains(t, k.do("POST", "health", "", http.StatusMethodNotAllowed, nil), "Allow")

	w := httptest.NewRecorder()
	k.server.ServeHTTP(w, httptest.NewRequest("HEAD", "/_braid/health", nil))
	require.Equal(t, http.StatusOK, w.Code)

	alone := control.Health(k.db)
	for path, status := range map[string]int{"health": http.StatusOK, "ready": http.StatusOK, "reset": http.StatusNotFound, "": http.StatusNotFound} {
		w := httptest.NewRecorder()
		alone.ServeHTTP(w, httptest.NewRequest("GET", "/_braid/"+path, nil))
		require.Equal(t, status, w.Code, path)
	}
}

func TestPage(t *testing.T) {
	k := newKit(t, nil)
	w := httptest.NewRecorder()
	k.server.ServeHTTP(w, httptest.NewRequest("GET", "http://192.0.2.7:4567/_braid/", nil))
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), "curl -X POST http://192.0.2.7:4567/_braid/streams/orders/truncate\n")
	require.Contains(t, w.Body.String(), "curl 'http://192.0.2.7:4567/_braid/streams/orders/records?limit=10&order=newest'\n")
}

func TestStreams(t *testing.T) {
	k := newKit(t, nil)
	require.Empty(t, k.streams(""))
	k.create(k.kinesis, "orders", 2)
	k.create(k.kinesis, "events", 1)
	require.NoError(t, k.put("orders", "a", "hello"))
	require.Equal(t, []string{"events", "orders"}, k.streams(""))

	var s stream
	k.do("GET", "streams/orders", "", http.StatusOK, &s)
	require.Equal(t, "arn:aws:kinesis:us-east-1:000000000000:stream/orders", s.ARN)
	require.Equal(t, "ACTIVE", s.Status)
	require.Equal(t, "PROVISIONED", s.Mode)
	require.EqualValues(t, 1, s.Records)
	require.EqualValues(t, 6, s.Bytes)
	require.Len(t, s.Shards, 2)
	k.refused("GET", "streams/none", "", http.StatusNotFound, "Stream none")
}

func TestTruncate(t *testing.T) {
	k := newKit(t, nil)
	k.create(k.kinesis, "orders", 2)
	for range 10 {
		require.NoError(t, k.put("orders", "a", "hello"))
	}
	var s stream
	k.do("POST", "streams/orders/truncate", "", http.StatusOK, &s)
	require.Zero(t, s.Records)
	require.Len(t, s.Shards, 2)
	k.refused("POST", "streams/none/truncate", "", http.StatusNotFound, "Stream none")
}

func TestResetStream(t *testing.T) {
	k := newKit(t, &kinesisapi.Options{CreateDelay: time.Hour})
	ctx := t.Context()
	_, err := k.db.CreateStream(ctx, "orders", &braid.StreamOptions{Shards: 3, Retention: -1, MaxRecordBytes: 2 << 20, RetentionBytes: 1 << 30, Tags: map[string]string{"team": "red"}})
	require.NoError(t, err)
	k.call("UpdateShardCount", calltest.Object{"StreamName": "orders", "TargetShardCount": 6, "ScalingType": "UNIFORM_SCALING"}, nil)
	k.call("StartStreamEncryption", calltest.Object{"StreamName": "orders", "KeyId": "key", "EncryptionType": "KMS"}, nil)
	k.call("EnableEnhancedMonitoring", calltest.Object{"StreamName": "orders", "ShardLevelMetrics": []string{"IncomingBytes"}}, nil)
	k.call("RegisterStreamConsumer", calltest.Object{"StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/orders", "ConsumerName": "c"}, nil)
	require.NoError(t, k.put("orders", "a", "hello"))
	before, err := k.db.Stream("orders")
	require.NoError(t, err)

	var s stream
	k.do("POST", "streams/orders/reset", "", http.StatusOK, &s)
	require.Equal(t, "ACTIVE", s.Status, "a reset does not wait for statuses")
	require.Zero(t, s.Records)
	require.Len(t, s.Shards, 3)
	require.Equal(t, "key", s.EncryptionKey)
	after, err := k.db.Stream("orders")
	require.NoError(t, err)
	old, d := before.Describe(), after.Describe()
	require.NotEqual(t, old.CreatedAt, d.CreatedAt)
	require.Equal(t, old.MaxRecordBytes, d.MaxRecordBytes)
	require.Equal(t, old.Retention, d.Retention)
	require.Equal(t, old.RetentionBytes, d.RetentionBytes)
	require.Equal(t, old.Capacity, d.Capacity)
	require.Equal(t, old.Tags, d.Tags)
	var summary struct {
		StreamDescriptionSummary struct {
			ConsumerCount      *int
			EnhancedMonitoring []struct{ ShardLevelMetrics []string }
		}
	}
	k.call("DescribeStreamSummary", calltest.Object{"StreamName": "orders"}, &summary)
	require.Zero(t, *summary.StreamDescriptionSummary.ConsumerCount)
	require.Equal(t, []string{"IncomingBytes"}, summary.StreamDescriptionSummary.EnhancedMonitoring[0].ShardLevelMetrics)
	k.refused("POST", "streams/none/reset", "", http.StatusNotFound, "Stream none")
}

// A stream remembers its original shards even after they have expired.
func TestResetAfterExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, nil)
		k.create(k.kinesis, "orders", 2)
		for _, target := range []int{4, 8, 4} {
			k.call("UpdateShardCount", calltest.Object{"StreamName": "orders", "TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"}, nil)
			time.Sleep(49 * time.Hour)
		}
		var s stream
		k.do("GET", "streams/orders", "", http.StatusOK, &s)
		require.NotEqual(t, "shardId-000000000000", s.Shards[0].ID)
		k.do("POST", "streams/orders/reset", "", http.StatusOK, &s)
		require.Len(t, s.Shards, 2)
	})
}

func TestResetAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, &kinesisapi.Options{CreateDelay: time.Minute, DeleteDelay: time.Minute})
		k.create(k.kinesis, "active", 1)
		k.create(k.kinesis, "deleting", 1)
		time.Sleep(2 * time.Minute)
		k.create(k.kinesis, "creating", 1)
		k.call("DeleteStream", calltest.Object{"StreamName": "deleting"}, nil)
		k.do("POST", "faults", `{"error":"InternalFailure"}`, http.StatusOK, nil)

		k.do("POST", "reset", "", http.StatusOK, nil)
		require.Empty(t, k.streams(""))
		require.Empty(t, k.faults())
		k.create(k.kinesis, "deleting", 1)
		time.Sleep(2 * time.Minute)
		require.Equal(t, []string{"deleting"}, k.streams(""), "the old deletion does not meet the new stream")
	})
}

func TestAccounts(t *testing.T) {
	k := newKit(t, &kinesisapi.Options{SeparateAccounts: true})
	other := k.client("111122223333", "eu-west-1")
	k.create(k.kinesis, "mine", 1)
	k.create(other, "theirs", 1)
	long := strings.Repeat("x", 128)
	k.create(other, long, 1)
	require.Equal(t, []string{"mine"}, k.streams(""))
	require.Empty(t, k.streams("?account=111122223333"))
	require.Equal(t, []string{"theirs", long}, k.streams("?account=111122223333&region=eu-west-1"))
	k.refused("GET", "streams/mine?account=111122223333&region=eu-west-1", "", http.StatusNotFound, "Stream mine")
	k.do("POST", "streams/"+long+"/reset?account=111122223333&region=eu-west-1", "", http.StatusOK, nil)
	k.refused("GET", "streams?account=1", "", http.StatusBadRequest, "12 digits")
	k.refused("GET", "streams?region=%20", "", http.StatusBadRequest, "region")

	k.do("POST", "reset?account=111122223333&region=eu-west-1", "", http.StatusOK, nil)
	require.Empty(t, k.streams("?account=111122223333&region=eu-west-1"))
	require.Equal(t, []string{"mine"}, k.streams(""))
	k.create(other, "theirs", 1)
	k.do("POST", "reset", "", http.StatusOK, nil)
	require.Empty(t, k.db.Streams())
}

func TestIterators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, nil)
		k.create(k.kinesis, "orders", 1)
		iterator := k.iterator()
		k.do("POST", "iterators/expire", "", http.StatusOK, nil)
		err := k.kinesis.Call(t.Context(), "GetRecords", calltest.Object{"ShardIterator": iterator}, nil)
		var refused *calltest.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "ExpiredIteratorException", refused.Code)
		k.call("GetRecords", calltest.Object{"ShardIterator": k.iterator()}, nil)
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, nil)
		k.create(k.kinesis, "orders", 1)
		texts := make([]string, 500)
		putAll := func() (refused bool) {
			for range 3 { // one shard accepts 1,000 a second
				refused = refused || k.putAll(texts...).FailedRecordCount > 0
			}
			return refused
		}
		require.False(t, putAll())
		var out map[string]bool
		k.do("PUT", "limits", `{"exact":true}`, http.StatusOK, &out)
		require.Equal(t, map[string]bool{"exact": true}, out)
		require.True(t, putAll())
		k.do("PUT", "limits", `{"exact":false}`, http.StatusOK, nil)
		require.False(t, putAll())
		k.refused("PUT", "limits", `{}`, http.StatusBadRequest, `{"exact": true}`)
	})
}

func TestBodies(t *testing.T) {
	k := newKit(t, nil)
	for _, c := range []struct {
		name, body string
		status     int
	}{
		{"none", "", http.StatusBadRequest},
		{"broken", `{"exact":`, http.StatusBadRequest},
		{"list", `[]`, http.StatusBadRequest},
		{"unknown member", `{"exactly":true}`, http.StatusBadRequest},
		{"two values", `{"exact":true} {"exact":false}`, http.StatusBadRequest},
		{"too large", fmt.Sprintf(`{"exact":%s true}`, strings.Repeat(" ", 64<<10)), http.StatusRequestEntityTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			k.refused("PUT", "limits", c.body, c.status, "")
		})
	}
}

func TestPaths(t *testing.T) {
	k := newKit(t, nil)
	k.refused("GET", "nothing", "", http.StatusNotFound, "/_braid/nothing")
	k.refused("GET", "streams/a/b/c", "", http.StatusNotFound, "/_braid/")
	h := k.do("PATCH", "faults", "", http.StatusMethodNotAllowed, nil)
	require.Equal(t, "GET, POST, DELETE", h.Get("Allow"))
}

// A web page of another site cannot reset a server on the reader's machine.
func TestOrigins(t *testing.T) {
	k := newKit(t, nil)
	k.create(k.kinesis, "orders", 1)
	r := httptest.NewRequest("POST", "http://localhost:4567/_braid/reset", nil)
	r.Header.Set("Origin", "https://example.org")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	k.server.ServeHTTP(w, r)
	require.Equal(t, http.StatusForbidden, w.Code)
	require.Equal(t, []string{"orders"}, k.streams(""))
}

// A web site whose name resolves to the reader's machine is refused, because its requests
// come under that name.
func TestNamesOfHosts(t *testing.T) {
	k := newKit(t, &kinesisapi.Options{Control: true, ControlHosts: []string{"kinesis.test"}})
	for host, status := range map[string]int{
		"localhost:4567": http.StatusOK, "127.0.0.1:4567": http.StatusOK, "[::1]:4567": http.StatusOK, "kinesis.test:4567": http.StatusOK,
		"evil.example:4567": http.StatusForbidden,
	} {
		for _, path := range []string{"", "streams", "ui/", "ui/api/streams"} {
			r := httptest.NewRequest("GET", "http://"+host+"/_braid/"+path, nil)
			w := httptest.NewRecorder()
			k.server.ServeHTTP(w, r)
			require.Equal(t, status, w.Code, "%s at %s", path, host)
		}
		for _, path := range []string{"health", "ready", "ui/healthz"} {
			w := httptest.NewRecorder()
			k.server.ServeHTTP(w, httptest.NewRequest("GET", "http://"+host+"/_braid/"+path, nil))
			require.Equal(t, http.StatusOK, w.Code, "%s at %s", path, host)
		}
	}
}

// The page's live connections end with the server, so that they do not delay its shutdown.
func TestThePageEndsWithTheServer(t *testing.T) {
	k := newKit(t, nil)
	started := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r := httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost:4567/_braid/ui/api/events", nil)
		k.server.ServeHTTP(&noticing{httptest.NewRecorder(), sync.OnceFunc(func() { close(started) })}, r)
	}()
	<-started
	k.server.Close()
	<-ended
}

// noticing calls a function on each write.
type noticing struct {
	http.ResponseWriter
	written func()
}

func (w *noticing) Write(text []byte) (int, error) {
	w.written()
	return w.ResponseWriter.Write(text)
}

// TestSettings: settings shows every option.
func TestSettings(t *testing.T) {
	k := newKit(t, &kinesisapi.Options{SeparateAccounts: true, ShardLimit: 7, CreateDelay: time.Second, AnswerTimeout: -1})
	var out map[string]any
	k.do("GET", "settings", "", http.StatusOK, &out)
	require.Equal(t, map[string]any{
		"account": "000000000000", "region": "us-east-1", "separateAccounts": true, "checkAuthorization": false,
		"exactLimits": false, "shardLimit": 7., "onDemandStreamLimit": 50.,
		"createDelay": "1s", "updateDelay": "0s", "deleteDelay": "0s", "bodyTimeout": "30s", "answerTimeout": "none", "controlHosts": []any{},
	}, out)
	k.do("PUT", "limits", `{"exact":true}`, http.StatusOK, nil)
	k.do("GET", "settings?region=eu-west-1", "", http.StatusOK, &out)
	require.Equal(t, true, out["exactLimits"])
	require.Equal(t, "eu-west-1", out["region"])

	// All options are shown, except functions and interfaces, and Control, which is always on
	// here.
	for field := range reflect.TypeFor[kinesisapi.Options]().Fields() {
		switch field.Name {
		case "Logger", "Access", "Control":
		default:
			require.Contains(t, out, strings.ToLower(field.Name[:1])+field.Name[1:])
		}
	}
}

package kinesisapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
)

const (
	typeJSON = "application/x-amz-json-1.1"
	typeCBOR = "application/x-amz-cbor-1.1"

	account   = "000000000000"
	streamARN = "arn:aws:kinesis:us-east-1:" + account + ":stream/"
	shard0    = "shardId-000000000000"
	shard1    = "shardId-000000000001"
	maxHash   = "340282366920938463463374607431768211455"
)

// doer sends a request: the client in the same process, or one with a socket.
type doer interface {
	Do(*http.Request) (*http.Response, error)
}

// rig is a server over a new database, with helpers to call it.
type rig struct {
	t      testing.TB
	db     *braid.DB
	server *kinesisapi.Server
	client doer
	url    string
}

func newRig(t testing.TB, options *kinesisapi.Options) *rig {
	keys, err := braid.NewKeyRing(map[string][]byte{"alias/one": make([]byte, 32), "alias/two": append(make([]byte, 31), 1)})
	require.NoError(t, err)
	db, err := braid.Open(braid.InMemory, &braid.Options{KeyProvider: keys})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	server, err := kinesisapi.New(db, options)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	return &rig{t: t, db: db, server: server, client: server.Client(), url: "http://kinesis/"}
}

// rigInBubble runs a test with a rig in a bubble.
func rigInBubble(t *testing.T, options *kinesisapi.Options, test func(r *rig)) {
	synctest.Test(t, func(t *testing.T) { test(newRig(t, options)) })
}

// pass lets time pass in a bubble, and waits until all that was due has happened.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// answer is a response with its body.
type answer struct {
	status int
	header http.Header
	body   string
}

// send sends any request. Headers come as names and values in turn.
func (r *rig) send(method, path, body string, headers ...string) answer {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, r.url+strings.TrimPrefix(path, "/"), strings.NewReader(body))
	require.NoError(r.t, err)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := r.client.Do(request)
	require.NoError(r.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(r.t, err)
	return answer{response.StatusCode, response.Header, string(text)}
}

// call sends an operation in JSON.
func (r *rig) call(operation, body string) answer {
	r.t.Helper()
	return r.send("POST", "/", body, "Content-Type", typeJSON, "X-Amz-Target", "Kinesis_20131202."+operation)
}

// does calls an operation that succeeds, and returns its answer.
func (r *rig) does(operation, body string) map[string]any {
	r.t.Helper()
	a := r.call(operation, body)
	require.Equal(r.t, 200, a.status, "%s: %s", operation, a.body)
	if a.body == "" {
		return nil
	}
	var out map[string]any
	require.NoError(r.t, json.Unmarshal([]byte(a.body), &out), a.body)
	return out
}

func (r *rig) doesf(operation, format string, args ...any) map[string]any {
	r.t.Helper()
	return r.does(operation, fmt.Sprintf(format, args...))
}

// isError checks that an answer in JSON is a refusal with exactly this text.
func (r *rig) isError(a answer, errorType, message string) {
	r.t.Helper()
	want := map[string]any{"__type": errorType}
	if message != "" {
		want["message"] = message
	}
	var got map[string]any
	require.NoError(r.t, json.Unmarshal([]byte(a.body), &got), a.body)
	require.Equal(r.t, want, got)
	require.Equal(r.t, 400, a.status)
	require.Equal(r.t, typeJSON, a.header.Get("Content-Type"))
}

// callCBOR sends an operation in CBOR and returns the answer's document, nil if
// there is none.
func (r *rig) callCBOR(operation string, body any) (status int, document any) {
	r.t.Helper()
	data, err := cbor.Marshal(body)
	require.NoError(r.t, err)
	a := r.send("POST", "/", string(data), "Content-Type", typeCBOR, "X-Amz-Target", "Kinesis_20131202."+operation)
	require.Equal(r.t, typeCBOR, a.header.Get("Content-Type"))
	if a.body == "" {
		return a.status, nil
	}
	require.NoError(r.t, cborMode.Unmarshal([]byte(a.body), &document))
	return a.status, document
}

// cborMode decodes CBOR to the same types as JSON. A value with tag 1 becomes a time whose
// seconds are the encoded milliseconds.
var cborMode = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DefaultMapType: reflect.TypeFor[map[string]any](),
		IntDec:         cbor.IntDecConvertSignedOrFail,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

// instant is a time in a CBOR request.
func instant(t time.Time) cbor.Tag { return cbor.Tag{Number: 1, Content: t.UnixMilli()} }

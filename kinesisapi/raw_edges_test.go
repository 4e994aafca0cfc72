package kinesisapi_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/kinesisapi"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// A server with a closed database answers with a well-formed failure that does not contain
// the cause.
func TestRawClosedDatabase(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		server, err := kinesisapi.New(db, &kinesisapi.Options{Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		r = &rig{t: r.t, db: db, server: server, client: server.Client(), url: r.url}
		r.create("a", 2)
		consumer := r.register("a", "one")
		it := r.iterator("a", "0", `"ShardIteratorType":"TRIM_HORIZON"`)
		s := r.subscribe(consumer, "0", `"Type":"LATEST"`)
		s.event()
		require.NoError(t, db.Close())
		s.ends("InternalFailureException", "")

		scribe := newSpeaker(r, false)
		scribe.learnt["iterator"], scribe.learnt["consumer"] = []string{it}, []string{consumer}
		failed := 0
		for _, operation := range operations {
			for seed := range byte(40) {
				choices := &chooser{bytes.Repeat([]byte{0, seed, 255 - seed, seed * 7}, 50)}
				a := r.call(operation, string(scribe.encode(generate(choices, reflect.TypeOf(service.Operations[operation].NewInput()).Elem()))))
				if a.status == 500 {
					failed++
					require.JSONEq(t, `{"__type":"InternalFailure"}`, a.body)
				}
			}
		}
		require.Positive(t, failed)
		_, err = kinesisapi.New(db, nil)
		require.ErrorIs(t, err, braid.ErrClosed)
		server.Close()
		server.Close()
	})
}

// The cause that an answer omits goes to the log, even without Options.Logger.
func TestRawFailureIsLogged(t *testing.T) {
	var lines bytes.Buffer
	logger, out, flags := slog.Default(), log.Writer(), log.Flags()
	t.Cleanup(func() {
		slog.SetDefault(logger)
		log.SetOutput(out)
		log.SetFlags(flags)
	})
	slog.SetDefault(slog.New(slog.NewTextHandler(&lines, nil)))
	for _, given := range []*slog.Logger{nil, slog.New(slog.DiscardHandler)} {
		lines.Reset()
		db, err := braid.Open(braid.InMemory, nil)
		require.NoError(t, err)
		server, err := kinesisapi.New(db, &kinesisapi.Options{Logger: given})
		require.NoError(t, err)
		r := &rig{t: t, db: db, server: server, client: server.Client(), url: "http://kinesis/"}
		require.NoError(t, db.Close())
		require.Equal(t, 500, r.call("CreateStream", `{"StreamName":"s","ShardCount":1}`).status)
		server.Close()
		if given == nil {
			require.Contains(t, lines.String(), `level=ERROR msg="an operation failed" operation=CreateStream answer=InternalFailure error=`)
			require.Contains(t, lines.String(), "database is closed")
		} else {
			require.Empty(t, lines.String(), "a logger that discards is silence")
		}
	}
}

// The request of a client that does not wait for the answer does nothing or everything.
func TestRawCancelled(t *testing.T) {
	rigInBubble(t, nil, func(r *rig) {
		r.create("s", 1)
		consumer := r.register("s", "c")
		reason := errors.New("no time")
		ctx, cancel := context.WithCancelCause(r.t.Context())
		open := func(operation, body string) (*http.Response, error) {
			request, err := http.NewRequestWithContext(ctx, "POST", r.url, bytes.NewReader([]byte(body)))
			require.NoError(t, err)
			request.Header.Set("Content-Type", typeJSON)
			request.Header.Set("X-Amz-Target", "Kinesis_20131202."+operation)
			return r.client.Do(request)
		}
		response, err := open("SubscribeToShard", fmt.Sprintf(`{"ConsumerARN":%q,"ShardId":"0","StartingPosition":{"Type":"LATEST"}}`, consumer))
		require.NoError(t, err)
		cancel(reason)
		_, err = io.Copy(io.Discard, response.Body)
		require.ErrorIs(t, err, reason)
		for _, operation := range operations {
			_, err = open(operation, `{"StreamName":"s"}`)
			require.ErrorIs(t, err, reason)
		}
		synctest.Wait()
		r.subscribe(consumer, "0", `"Type":"LATEST"`).event()
	})
}

// The memory of requests and answers is reused.
func TestRawMemoryIsNotShared(t *testing.T) {
	r := newRig(t, nil)
	listener := httptest.NewServer(r.server)
	t.Cleanup(listener.Close)
	var all sync.WaitGroup
	for i := range 8 {
		r := *r
		if i%2 == 0 {
			r.client, r.url = listener.Client(), listener.URL+"/"
		}
		stream := fmt.Sprint("s", i)
		r.create(stream, 1)
		all.Go(func() {
			var want []string
			for n := range 20 {
				data := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(16*i + n)}, 10+1000*n))
				want = append(want, data, data)
				r.doesf("PutRecords", `{"StreamName":%q,"Records":[{"PartitionKey":"a","Data":%q},{"PartitionKey":"a","Data":%q}]}`, stream, data, data)
			}
			var got []string
			for _, record := range objects(r.doesf("GetRecords", `{"ShardIterator":%q}`, r.iterator(stream, "0", `"ShardIteratorType":"TRIM_HORIZON"`))["Records"]) {
				got = append(got, record["Data"].(string))
			}
			if !reflect.DeepEqual(want, got) {
				t.Errorf("%s reads other data than it has put", stream)
			}
		})
	}
	all.Wait()
}

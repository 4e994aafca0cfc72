package inspect_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/inspect"
	"github.com/braidstream/braid/queue"
)

// actions are all changes, with bodies that are accepted.
var actions = map[string]any{
	"/api/streams":                    map[string]any{"Name": "new"},
	"/api/streams/s/delete":           map[string]any{"Name": "s"},
	"/api/streams/s/records":          map[string]any{"Records": []braid.Entry{{PartitionKey: "k"}}},
	"/api/streams/s/split":            map[string]any{"Shard": "0"},
	"/api/streams/s/merge":            map[string]any{"Shard": "0", "Adjacent": "1"},
	"/api/streams/s/scale":            map[string]any{"Shards": 3},
	"/api/streams/s/retention":        map[string]any{"Retention": "48h"},
	"/api/streams/s/trim":             map[string]any{"Before": "LATEST"},
	"/api/apps/a/pause":               map[string]any{},
	"/api/apps/a/resume":              map[string]any{},
	"/api/apps/a/seek":                map[string]any{"To": "LATEST"},
	"/api/apps/a/deadletters/putback": map[string]any{"Stream": "dead", "SequenceNumber": "0"},
	"/api/queues/q/restore":           map[string]any{"All": true},
	"/api/queues/q/discard":           map[string]any{"Receipts": []string{"r"}},
}

func TestNothingChangesUnlessAllowed(t *testing.T) {
	k := newKit(t, nil)
	s := k.stream("s", 2)
	k.put(s, "k", "data")
	before := s.Describe()
	for path, body := range actions {
		k.refused(k.do(k.request("POST", path, body)), http.StatusForbidden, "NotWritable", "Writable")
	}
	require.Equal(t, before, s.Describe())
}

func TestNothingChangesUnlessMeant(t *testing.T) {
	k := newKit(t, &inspect.Options{Writable: true})
	s := k.stream("s", 2)
	k.put(s, "k", "data")
	before := s.Describe()
	for path, body := range actions {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"} {
			reads := path == "/api/streams" || path == "/api/streams/s/records"
			if reads && (method == "GET" || method == "HEAD") {
				continue
			}
			w := k.do(k.request(method, path, body))
			require.Equal(t, http.StatusMethodNotAllowed, w.Code, "%s %s", method, path)
			require.Contains(t, w.Header().Get("Allow"), "POST")
		}
		r := k.request("POST", path, body)
		r.Header.Del("Braid-Inspect")
		k.refused(k.do(r), http.StatusForbidden, "HeaderMissing", "Braid-Inspect")
		for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"} {
			r = k.request("POST", path, body)
			r.Header.Set("Content-Type", kind)
			k.refused(k.do(r), http.StatusUnsupportedMediaType, "MediaType", "application/json")
		}
		r = k.request("POST", path, body)
		r.Body = http.NoBody
		k.refused(k.do(r), http.StatusBadRequest, "InvalidArgument", "JSON")
		k.refused(k.do(k.request("POST", path, map[string]any{"Shrad": "0"})), http.StatusBadRequest, "InvalidArgument", "Shrad")
		k.refused(k.do(k.request("POST", path+"?force=true", body)), http.StatusBadRequest, "InvalidArgument", "force")
	}
	large := k.request("POST", "/api/streams/s/records", map[string]any{"Records": []braid.Entry{{PartitionKey: "k", Data: make([]byte, 20<<20)}}})
	k.refused(k.do(large), http.StatusRequestEntityTooLarge, "TooLarge", "24 MiB")
	require.Equal(t, before, s.Describe())
}

func TestStreamsAreCreatedAndDeleted(t *testing.T) {
	k := newKit(t, &inspect.Options{Writable: true})
	k.post("/api/streams", map[string]any{"Name": "plain"}, &struct{}{})
	s, err := k.db.Stream("plain")
	require.NoError(t, err)
	require.Equal(t, 24*time.Hour, s.Describe().Retention)

	want := braid.StreamOptions{
		Shards: 3, MaxRecordBytes: 1000, Retention: 48 * time.Hour, RetentionBytes: 1 << 30,
		Capacity: braid.Capacity{Mode: braid.Provisioned}, Tags: map[string]string{"team": "shop"},
	}
	k.post("/api/streams", map[string]any{"Name": "orders", "Options": want}, &struct{}{})
	s, err = k.db.OpenStream(t.Context(), "orders", &braid.StreamOptions{
		Shards: 3, MaxRecordBytes: 1000, Retention: 48 * time.Hour, RetentionBytes: 1 << 30,
		Capacity: braid.Capacity{Mode: braid.Provisioned}, Tags: map[string]string{"team": "shop"}, MustMatch: true,
	})
	require.NoError(t, err)
	create := func(body map[string]any) *httptest.ResponseRecorder {
		return k.do(k.request("POST", "/api/streams", body))
	}
	k.refused(create(map[string]any{"Name": "orders"}), http.StatusConflict, "StreamExists", "orders")
	k.refused(create(map[string]any{"Name": "no name"}), http.StatusBadRequest, "InvalidArgument", "no name")
	k.refused(create(map[string]any{}), http.StatusBadRequest, "InvalidArgument", "Name must be")
	k.refused(create(map[string]any{"Name": "new", "Options": map[string]any{"Shrads": 3}}), http.StatusBadRequest, "InvalidArgument", "Shrads")
	k.refused(create(map[string]any{"Name": "new", "Options": map[string]any{"Capacity": map[string]any{"Mod": "OnDemand"}}}), http.StatusBadRequest, "InvalidArgument", "Mod")
	k.refused(create(map[string]any{"Name": "new", "Options": map[string]any{"Shards": -3}}), http.StatusBadRequest, "InvalidArgument", "Shards")
	require.Len(t, k.db.Streams(), 2)

	k.put(s, "k", "data")
	remove := func(stream, name string) *httptest.ResponseRecorder {
		return k.do(k.request("POST", "/api/streams/"+stream+"/delete", map[string]any{"Name": name}))
	}
	k.refused(remove("orders", ""), http.StatusBadRequest, "InvalidArgument", `must be "orders"`)
	k.refused(remove("orders", "plain"), http.StatusBadRequest, "InvalidArgument", `must be "orders"`)
	k.refused(remove("none", "none"), http.StatusNotFound, "StreamNotFound", "none")
	q, err := queue.Create(t.Context(), k.db, "mails", &queue.Options{Stream: "orders"})
	require.NoError(t, err)
	k.refused(remove("orders", "orders"), http.StatusConflict, "StreamInUse", "deleted first")
	require.EqualValues(t, 1, s.Describe().Records)
	require.NoError(t, q.Delete(t.Context()))
	require.Equal(t, http.StatusOK, remove("orders", "orders").Code)
	_, err = k.db.Stream("orders")
	require.ErrorIs(t, err, braid.ErrStreamNotFound)
}

func TestShardsAreChanged(t *testing.T) {
	k := newKit(t, &inspect.Options{Writable: true})
	s := k.stream("s", 1)
	var split struct{ Lower, Upper braid.ShardID }
	at := braid.HashKeyOf("k")
	k.post("/api/streams/s/split", map[string]any{"Shard": "shardId-000000000000", "At": at}, &split)
	upper, err := s.Shard(split.Upper)
	require.NoError(t, err)
	require.Equal(t, at, upper.HashKeyRange().Start)

	var merged struct{ Shard braid.ShardID }
	k.post("/api/streams/s/merge", map[string]any{"Shard": split.Lower, "Adjacent": split.Upper}, &merged)
	k.post("/api/streams/s/scale", map[string]any{"Shards": 4}, &struct{}{})
	open := 0
	for _, sh := range s.Describe().Shards {
		if !sh.Closed {
			open++
		}
	}
	require.Equal(t, 4, open)
	k.refused(k.do(k.request("POST", "/api/streams/s/split", map[string]any{"Shard": "0"})), http.StatusBadRequest, "InvalidArgument", "was already split or merged")
	k.refused(k.do(k.request("POST", "/api/streams/s/split", map[string]any{"Shard": "99"})), http.StatusNotFound, "ShardNotFound", "99")
	k.refused(k.do(k.request("POST", "/api/streams/t/scale", map[string]any{"Shards": 4})), http.StatusNotFound, "StreamNotFound", "t")
}

func TestRetentionIsChangedAndRecordsAreTrimmed(t *testing.T) {
	k := newKit(t, &inspect.Options{Writable: true})
	s := k.stream("s", 1)
	k.put(s, "k", "1")
	second := k.put(s, "k", "2")
	for _, text := range []string{"48h0m0s", "24h0m0s", "-1ns", "30h0m0s"} {
		want, err := time.ParseDuration(text)
		require.NoError(t, err)
		k.post("/api/streams/s/retention", map[string]any{"Retention": text}, &struct{}{})
		require.Equal(t, want, s.Describe().Retention)
	}
	k.post("/api/streams/s/retention", map[string]any{"RetentionBytes": 1 << 30}, &struct{}{})
	require.EqualValues(t, 1<<30, s.Describe().RetentionBytes)
	k.refused(k.do(k.request("POST", "/api/streams/s/retention", map[string]any{})), http.StatusBadRequest, "InvalidArgument", "missing")

	k.post("/api/streams/s/trim", map[string]any{"Before": braid.AtSequence(second)}, &struct{}{})
	require.EqualValues(t, 1, s.Describe().Records)
	k.refused(k.do(k.request("POST", "/api/streams/s/trim", map[string]any{})), http.StatusBadRequest, "InvalidArgument", "Before")
	k.refused(k.do(k.request("POST", "/api/streams/s/trim", map[string]any{"Before": "YESTERDAY"})), http.StatusBadRequest, "InvalidArgument", "TRIM_HORIZON")
}

func TestRecordsArePut(t *testing.T) {
	k := newKit(t, &inspect.Options{Writable: true})
	s := k.stream("s", 2)
	var answer struct{ Results []braid.PutResult }
	high := braid.MaxHashKey()
	k.post("/api/streams/s/records", map[string]any{"Wait": true, "Records": []braid.Entry{
		{PartitionKey: "a", Data: []byte("1")}, {PartitionKey: "b", ExplicitHashKey: &high, Data: []byte("2")},
	}}, &answer)
	require.Len(t, answer.Results, 2)
	require.EqualValues(t, "shardId-000000000001", answer.Results[1].ShardID)
	require.EqualValues(t, 2, s.Describe().Records)
	k.refused(k.do(k.request("POST", "/api/streams/s/records", map[string]any{"Records": []braid.Entry{{PartitionKey: strings.Repeat("k", 257)}}})),
		http.StatusBadRequest, "InvalidArgument", "PartitionKey")
}

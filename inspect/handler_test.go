package inspect_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/inspect"
)

// kit is a database and its handler under a prefix, as an application mounts it.
type kit struct {
	t       *testing.T
	db      *braid.DB
	handler http.Handler
}

const prefix = "/debug/braid"

func newKit(t *testing.T, options *inspect.Options) *kit {
	t.Helper()
	db, err := braid.Open(braid.InMemory, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return &kit{t, db, http.StripPrefix(prefix, inspect.Handler(db, options))}
}

func (k *kit) stream(name string, shards int) *braid.Stream {
	k.t.Helper()
	s, err := k.db.OpenStream(k.t.Context(), name, &braid.StreamOptions{Shards: shards})
	require.NoError(k.t, err)
	return s
}

func (k *kit) put(s *braid.Stream, key, data string) braid.SequenceNumber {
	k.t.Helper()
	result, err := s.PutRecord(k.t.Context(), key, []byte(data))
	require.NoError(k.t, err)
	return result.SequenceNumber
}

// request makes a request; with a body it is a change.
func (k *kit) request(method, path string, body any) *http.Request {
	var text bytes.Buffer
	if body != nil {
		require.NoError(k.t, json.NewEncoder(&text).Encode(body))
	}
	r := httptest.NewRequestWithContext(k.t.Context(), method, "http://localhost:8080"+prefix+path, &text)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Braid-Inspect", "1")
	}
	return r
}

func (k *kit) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	k.handler.ServeHTTP(w, r)
	return w
}

// get decodes the answer into out.
func (k *kit) get(path string, out any) {
	k.t.Helper()
	k.into(k.do(k.request("GET", path, nil)), out)
}

func (k *kit) post(path string, body, out any) {
	k.t.Helper()
	k.into(k.do(k.request("POST", path, body)), out)
}

func (k *kit) into(w *httptest.ResponseRecorder, out any) {
	k.t.Helper()
	require.Equal(k.t, http.StatusOK, w.Code, "%s", w.Body)
	require.Equal(k.t, "application/json; charset=utf-8", w.Header().Get("Content-Type"))
	require.NoError(k.t, json.Unmarshal(w.Body.Bytes(), out))
}

// refused requires that a request is refused with this status, kind and text.
func (k *kit) refused(w *httptest.ResponseRecorder, status int, kind, text string) {
	k.t.Helper()
	require.Equal(k.t, status, w.Code, "%s", w.Body)
	var f struct{ Error, Kind string }
	require.NoError(k.t, json.Unmarshal(w.Body.Bytes(), &f))
	require.Equal(k.t, kind, f.Kind)
	require.Contains(k.t, f.Error, text)
}

type shown struct {
	braid.Record
	DataBytes int
	Withheld  bool
}

type recordsAnswer struct {
	Records                    []shown
	Next                       braid.Position
	LookedAt                   int
	AtTip                      bool
	BehindRecords, BehindBytes int64
	BehindLatest               string
	EndOfShard                 bool
	ChildShards                []braid.ShardID
}

func (a *recordsAnswer) texts() (texts []string) {
	for _, rec := range a.Records {
		texts = append(texts, string(rec.Data))
	}
	return texts
}

func TestStreamsAreListedInParts(t *testing.T) {
	k := newKit(t, nil)
	for _, name := range []string{"a", "b", "c"} {
		k.put(k.stream(name, 2), "k", "data")
	}
	var list struct {
		Streams []struct {
			Name                 string
			OpenShards           int
			Records, Bytes       int64
			RecordsPut, BytesPut int64
		}
		More bool
	}
	k.get("/api/streams?limit=2", &list)
	require.True(t, list.More)
	require.Len(t, list.Streams, 2)
	require.Equal(t, "b", list.Streams[1].Name)
	require.Equal(t, 2, list.Streams[1].OpenShards)
	require.EqualValues(t, 1, list.Streams[1].RecordsPut)
	require.EqualValues(t, 5, list.Streams[1].Bytes)
	k.get("/api/streams?limit=2&after=b", &list)
	require.False(t, list.More)
	require.Len(t, list.Streams, 1)
}

func TestAStreamIsDescribedInParts(t *testing.T) {
	k := newKit(t, nil)
	s := k.stream("s", 3)
	_, _, err := s.SplitShard(t.Context(), s.Shards()[1].ID(), nil)
	require.NoError(t, err)
	var answer struct {
		Stream             braid.StreamDescription
		Shards, OpenShards int
		MoreShards         bool
	}
	k.get("/api/streams/s?limit=2&open=true", &answer)
	require.Equal(t, 5, answer.Shards)
	require.Equal(t, 4, answer.OpenShards)
	require.True(t, answer.MoreShards)
	require.Equal(t, "s", answer.Stream.Name)
	require.Len(t, answer.Stream.Shards, 2)
	require.EqualValues(t, "shardId-000000000002", answer.Stream.Shards[1].ID, "1 is closed")
	k.get("/api/streams/s?limit=2&open=true&after=2", &answer)
	require.False(t, answer.MoreShards)
	require.EqualValues(t, "shardId-000000000003", answer.Stream.Shards[0].ID)
}

func TestRecordsOfAShardAreReadInParts(t *testing.T) {
	k := newKit(t, nil)
	s := k.stream("s", 1)
	for _, data := range []string{"1", "2", "3", "4", "5"} {
		k.put(s, "k", data)
	}
	var page recordsAnswer
	path := "/api/streams/s/shards/0/records?limit=2"
	k.get(path, &page)
	require.Equal(t, []string{"1", "2"}, page.texts())
	require.EqualValues(t, 3, page.BehindRecords)
	require.EqualValues(t, 6, page.BehindBytes)
	require.False(t, page.AtTip)
	k.get(path+"&from="+query(page.Next), &page)
	require.Equal(t, []string{"3", "4"}, page.texts())
	k.get(path+"&from="+query(page.Next), &page)
	require.Equal(t, []string{"5"}, page.texts())
	require.True(t, page.AtTip)
	require.Zero(t, page.BehindRecords)

	k.get("/api/streams/s/records?limit=2&from="+query(braid.AfterSequence(page.Records[0].SequenceNumber)), &page)
	require.Empty(t, page.Records)
	require.True(t, page.AtTip)

	_, _, err := s.SplitShard(t.Context(), "0", nil)
	require.NoError(t, err)
	k.get("/api/streams/s/shards/0/records", &page)
	require.True(t, page.EndOfShard)
	require.Len(t, page.ChildShards, 2)
}

func query(p braid.Position) string { return strings.ReplaceAll(p.String(), " ", "%20") }

func TestTheLastRecordsAreFound(t *testing.T) {
	k := newKit(t, nil)
	s := k.stream("s", 4)
	var all []string
	for i := range 50 {
		data := strings.Repeat("x", i)
		k.put(s, "k"+data, data)
		all = append(all, data)
	}
	var page recordsAnswer
	for _, path := range []string{"/api/streams/s/records?limit=1000&last=7", "/api/streams/s/records?limit=1000&last=70"} {
		k.get(path, &page)
		want := all
		if strings.HasSuffix(path, "=7") {
			want = all[43:]
		}
		require.Equal(t, want, page.texts(), path)
	}
	// Of the records that are looked at, the newest are shown.
	k.get("/api/streams/s/records?limit=3&last=20", &page)
	require.Equal(t, all[47:], page.texts())
	k.get("/api/streams/s/records?limit=2&last=20&match=kx", &page)
	require.Equal(t, all[48:], page.texts())
	require.Equal(t, 20, page.LookedAt)
	k.get("/api/streams/s/shards/1/records?last=2", &page)
	require.Len(t, page.Records, 2)
	require.True(t, page.AtTip)
	k.refused(k.do(k.request("GET", "/api/streams/s/records?last=2&from=LATEST", nil)), 400, "InvalidArgument", "from and last")
}

func TestRecordsAreFilteredAndCut(t *testing.T) {
	k := newKit(t, nil)
	s := k.stream("s", 2)
	k.put(s, "anna", "1 apple")
	k.put(s, "ben", "2 pears")
	n := k.put(s, "anna", "3 pears and much more")
	var page recordsAnswer
	k.get("/api/streams/s/records?key=anna", &page)
	require.Equal(t, []string{"1 apple", "3 pears and much more"}, page.texts())
	require.Equal(t, 3, page.LookedAt)
	k.get("/api/streams/s/records?match=pears&data=7", &page)
	require.Equal(t, []string{"2 pears", "3 pears"}, page.texts())
	require.Equal(t, len("3 pears and much more"), page.Records[1].DataBytes)

	var one shown
	k.get("/api/streams/s/shards/"+string(n.ShardID())+"/records/"+n.String(), &one)
	require.Equal(t, "3 pears and much more", string(one.Data))
	k.refused(k.do(k.request("GET", "/api/streams/s/shards/0/records/"+s.Shards()[0].Describe().StartingSequenceNumber.String(), nil)), 404, "RecordNotFound", "no record")
}

package inspect_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/inspect"
)

// eventWriter is a client of live events. It reads at once, or never.
type eventWriter struct {
	header http.Header
	status int
	stuck  chan struct{} // if it is not nil, writes of events wait until it is closed

	mu     sync.Mutex // guards events
	text   string
	events []event
}

type event struct {
	name, id string
	data     string
	at       time.Time
}

func (w *eventWriter) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

func (w *eventWriter) WriteHeader(status int) { w.status = status }

func (w *eventWriter) Write(text []byte) (int, error) {
	if w.stuck != nil && strings.HasPrefix(string(text), "event") {
		<-w.stuck
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text += string(text)
	for {
		one, rest, found := strings.Cut(w.text, "\n\n")
		if !found {
			return len(text), nil
		}
		w.text = rest
		e := event{at: time.Now()}
		for line := range strings.SplitSeq(one, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			switch name {
			case "event":
				e.name = value
			case "id":
				e.id = value
			case "data":
				e.data = value
			}
		}
		w.events = append(w.events, e)
	}
}

// of returns the events with a name.
func (w *eventWriter) of(name string) (events []event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.name == name {
			events = append(events, e)
		}
	}
	return events
}

// follow requests live events until the returned function is called, which waits until
// the handler has returned.
func (k *kit) follow(path string, header ...string) (w *eventWriter, stop func()) {
	w = &eventWriter{}
	return w, k.followInto(w, path, header...)
}

func (k *kit) followInto(w *eventWriter, path string, header ...string) (stop func()) {
	ctx, cancel := context.WithCancel(k.t.Context())
	r := k.request("GET", path, nil).WithContext(ctx)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.handler.ServeHTTP(w, r)
	}()
	synctest.Wait()
	return func() {
		cancel()
		<-done
	}
}

// inBubble runs a test in a bubble, and closes its database at the end.
func inBubble(t *testing.T, options *inspect.Options, test func(t *testing.T, k *kit)) {
	synctest.Test(t, func(t *testing.T) { test(t, newKit(t, options)) })
}

func TestATailSendsWhatIsPut(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *kit) {
		s := k.stream("s", 2)
		k.put(s, "k", "before")
		w, stop := k.follow("/api/tail?stream=s")
		defer stop()
		require.Equal(t, http.StatusOK, w.status)
		require.Equal(t, "text/event-stream; charset=utf-8", w.Header().Get("Content-Type"))
		n := k.put(s, "anna", "after")
		synctest.Wait()
		records := w.of("record")
		require.Len(t, records, 1)
		require.Equal(t, n.String(), records[0].id)
		var rec shown
		require.NoError(t, json.Unmarshal([]byte(records[0].data), &rec))
		require.Equal(t, "after", string(rec.Data))
		require.Equal(t, "anna", rec.PartitionKey)

		<-time.After(time.Minute)
		synctest.Wait()
		require.Len(t, w.of(""), 1+4, "a quiet connection is written to")
	})
}

// Whatever is put, each window has at most its quota, and the records sent and left out
// add up to all records.
func TestATailHasARateAndSaysWhatItLeavesOut(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *kit) {
		s := k.stream("s", 2)
		w, stop := k.follow("/api/tail?stream=s&rate=8")
		defer stop()
		put := 0
		for range 40 {
			entries := make([]braid.Entry, 25)
			for i := range entries {
				entries[i] = braid.Entry{PartitionKey: fmt.Sprint(i), Data: []byte("data")}
			}
			_, err := s.PutRecords(t.Context(), entries)
			require.NoError(t, err)
			put += len(entries)
			<-time.After(100 * time.Millisecond)
		}
		<-time.After(time.Second)
		sent := w.of("record")
		left := int64(0)
		for _, e := range w.of("left-out") {
			var out struct{ Records, Bytes int64 }
			require.NoError(t, json.Unmarshal([]byte(e.data), &out))
			require.Positive(t, out.Records)
			require.GreaterOrEqual(t, out.Bytes, 5*out.Records)
			left += out.Records
		}
		require.EqualValues(t, put, int64(len(sent))+left)
		require.InDelta(t, 4*8, len(sent), 4, "8 a second for 4 seconds")
		for i := 2; i < len(sent); i++ {
			require.GreaterOrEqual(t, sent[i].at.Sub(sent[i-2].at), 250*time.Millisecond, "two in a window")
		}
	})
}

func TestATailOfAllLeavesNothingOut(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *kit) {
		s := k.stream("s", 4)
		for i := range 3000 {
			k.put(s, fmt.Sprint("k", i%7), fmt.Sprint(i))
		}
		w, stop := k.follow("/api/tail?stream=s&rate=all&from=TRIM_HORIZON")
		defer stop()
		records := w.of("record")
		require.Len(t, records, 3000)
		require.Empty(t, w.of("left-out"))

		// A client that reconnects continues where it was.
		again, stop := k.follow("/api/tail?stream=s&rate=all", "Last-Event-ID", records[2989].id)
		defer stop()
		require.Len(t, again.of("record"), 10)
	})
}

// A client that reads nothing holds up no producer, and its records do not accumulate.
func TestATailOfAClientThatDoesNotReadHoldsNobodyUp(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *kit) {
		s := k.stream("s", 1)
		w := &eventWriter{stuck: make(chan struct{})}
		stop := k.followInto(w, "/api/tail?stream=s&rate=4")
		for i := range 1000 {
			k.put(s, "k", fmt.Sprint(i))
		}
		close(w.stuck)
		<-time.After(time.Second)
		left := w.of("left-out")
		require.NotEmpty(t, left)
		stop()
	})
}

func TestATailFilters(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *kit) {
		s := k.stream("s", 2)
		w, stop := k.follow("/api/tail?stream=s&key=anna&match=pear&data=6")
		defer stop()
		k.put(s, "anna", "apples")
		k.put(s, "ben", "pears")
		k.put(s, "anna", "2 pears and more")
		synctest.Wait()
		records := w.of("record")
		require.Len(t, records, 1)
		var rec shown
		require.NoError(t, json.Unmarshal([]byte(records[0].data), &rec))
		require.Equal(t, "2 pear", string(rec.Data))
		require.Equal(t, 16, rec.DataBytes)
	})
}

func TestATailEndsWithItsShardAndItsDatabase(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *kit) {
		s := k.stream("s", 2)
		shard, stop := k.follow("/api/tail?stream=s&shard=0")
		defer stop()
		whole, stop := k.follow("/api/tail?stream=s")
		defer stop()
		events, stop := k.follow("/api/events")
		defer stop()
		require.Len(t, events.of("changed"), 1)
		<-time.After(time.Second)

		_, _, err := s.SplitShard(t.Context(), "0", nil)
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, "{}", shard.of("end")[0].data)
		require.Empty(t, whole.of("end"))
		require.Len(t, events.of("changed"), 2)

		// Many changes at once are announced once, and none is missed.
		for range 5 {
			require.NoError(t, s.UpdateShardCount(t.Context(), 8))
			require.NoError(t, s.UpdateShardCount(t.Context(), 4))
		}
		<-time.After(time.Second)
		require.Len(t, events.of("changed"), 3)

		require.NoError(t, k.db.Close())
		synctest.Wait()
		require.Contains(t, whole.of("end")[0].data, `"Kind":"Closed"`)
		require.Contains(t, events.of("end")[0].data, `"Kind":"Closed"`)
	})
}

func TestLiveConnectionsAreCounted(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *kit) {
		k.stream("s", 1)
		var stops []func()
		for range 64 {
			_, stop := k.follow("/api/tail?stream=s")
			stops = append(stops, stop)
		}
		k.refused(k.do(k.request("GET", "/api/events", nil)), http.StatusServiceUnavailable, "TooManyConnections", "64")
		stops[0]()
		_, stop := k.follow("/api/events")
		stop()
		for _, stop := range stops[1:] {
			stop()
		}
	})
}

func TestATailRefusesWhatItCannotDo(t *testing.T) {
	k := newKit(t, nil)
	k.stream("s", 1)
	require.Equal(t, http.StatusOK, k.do(k.request("HEAD", "/api/tail?stream=s", nil)).Code, "and it returns")
	for path, kind := range map[string]string{
		"?stream=t": "StreamNotFound", "": "StreamNotFound", "?stream=s&shard=7": "ShardNotFound",
		"?stream=s&rate=0": "InvalidArgument", "?stream=s&rate=1001": "InvalidArgument", "?stream=s&rate=fast": "InvalidArgument",
		"?stream=s&from=NOW": "InvalidArgument", "?stream=s&data=65537": "InvalidArgument", "?stream=s&encrypted=yes": "InvalidArgument", "?stream=s&filter=x": "InvalidArgument",
	} {
		w := k.do(k.request("GET", "/api/tail"+path, nil))
		status := http.StatusBadRequest
		if kind != "InvalidArgument" {
			status = http.StatusNotFound
		}
		k.refused(w, status, kind, "")
	}
	r := k.request("GET", "/api/tail?stream=s", nil)
	r.Header.Set("Last-Event-ID", "yesterday")
	k.refused(k.do(r), http.StatusBadRequest, "InvalidArgument", "")
}

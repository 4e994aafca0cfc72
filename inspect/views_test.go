package inspect_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/inspect"
	"github.com/braidstream/braid/queue"
)

// run runs a worker until the test ends.
func (k *kit) run(t *testing.T, cfg *consumer.Config, fail func(rec consumer.Record) error) *consumer.App {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	worker, err := consumer.New(k.db, cfg, consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
		for _, rec := range batch.Records {
			if err := fail(rec); err != nil {
				return &consumer.RecordError{Record: rec, Err: err}
			}
		}
		return nil
	}))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = worker.Run(ctx) // its error names the failed shards
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	synctest.Wait()
	return worker.App()
}

func TestApplicationsAreShownAndSteered(t *testing.T) {
	inBubble(t, &inspect.Options{Writable: true}, func(t *testing.T, k *kit) {
		orders := k.stream("orders", 2)
		k.stream("dead", 1)
		for i := range 10 {
			k.put(orders, fmt.Sprint(i), "order")
		}
		k.put(orders, "poison", "bad order")
		bad := func(rec consumer.Record) error {
			if string(rec.Data) == "bad order" {
				return errors.New("no such account")
			}
			return nil
		}
		billing := k.run(t, &consumer.Config{App: "billing", Streams: []string{"orders"}, WorkerID: "w", MaxAttempts: 1, DeadLetterStream: "dead"}, bad)
		k.run(t, &consumer.Config{App: "fraud", Streams: []string{"orders"}, MaxAttempts: 1}, func(rec consumer.Record) error {
			if bad(rec) != nil {
				panic(strings.Repeat("long ", 10_000))
			}
			return nil
		})

		var list struct {
			Apps []struct {
				Name          string
				CaughtUp      bool
				Workers       int
				States        map[string]int
				BehindRecords int64
			}
			More bool
		}
		k.get("/api/apps", &list)
		require.Len(t, list.Apps, 2)
		require.Equal(t, "billing", list.Apps[0].Name)
		require.True(t, list.Apps[0].CaughtUp)
		require.Equal(t, map[string]int{"running": 2}, list.Apps[0].States)
		require.Equal(t, map[string]int{"failed": 1, "running": 1}, list.Apps[1].States)
		require.Positive(t, list.Apps[1].BehindRecords)
		k.get("/api/apps?limit=1", &list)
		require.True(t, list.More)
		k.get("/api/apps?after=billing", &list)
		require.Len(t, list.Apps, 1)

		var one struct {
			Status     consumer.Status
			Shards     int
			MoreShards bool
			CaughtUp   bool
		}
		k.get("/api/apps/fraud?limit=1", &one)
		require.Equal(t, 2, one.Shards)
		require.True(t, one.MoreShards)
		first := one.Status.Shards[0]
		k.get("/api/apps/fraud?after="+first.Stream+"/"+string(first.Shard), &one)
		require.Len(t, one.Status.Shards, 1)
		for _, sh := range append(one.Status.Shards, first) {
			if sh.Err != nil {
				require.Contains(t, sh.Err.Error(), "panic: long")
				require.Less(t, len(sh.Err.Error()), 9<<10)
			}
		}
		k.refused(k.do(k.request("GET", "/api/apps/none", nil)), http.StatusNotFound, "AppNotFound", "none")

		// The dead letter is found without naming a stream, and is put back: it dies again.
		var letters struct {
			Stream  string
			Letters []struct {
				SequenceNumber braid.SequenceNumber
				Letter         *consumer.DeadLetter
			}
			AtTip bool
		}
		k.put(mustStream(k, "dead"), "k", `{"App":"shipping","Stream":"orders"}`)
		k.get("/api/apps/billing/deadletters", &letters)
		require.Equal(t, "dead", letters.Stream)
		require.Len(t, letters.Letters, 1, "one is of another application")
		require.Equal(t, "bad order", string(letters.Letters[0].Letter.Data))
		require.True(t, letters.AtTip)
		back := map[string]any{"Stream": "dead", "SequenceNumber": letters.Letters[0].SequenceNumber}
		k.refused(k.do(k.request("POST", "/api/apps/fraud/deadletters/putback", back)), http.StatusConflict, "NoDeadLetter", "fraud")
		var put braid.PutResult
		k.post("/api/apps/billing/deadletters/putback", back, &put)
		synctest.Wait()
		k.get("/api/apps/billing/deadletters?stream=dead", &letters)
		require.Len(t, letters.Letters, 2)
		require.Equal(t, put.SequenceNumber, letters.Letters[1].Letter.SequenceNumber)
		k.refused(k.do(k.request("GET", "/api/apps/fraud/deadletters", nil)), http.StatusBadRequest, "InvalidArgument", "stream is missing")

		status := func() consumer.Status {
			st, err := billing.Status(t.Context())
			require.NoError(t, err)
			return st
		}
		k.post("/api/apps/billing/pause", map[string]any{"Stream": "orders", "Shard": "shardId-000000000001"}, &struct{}{})
		require.True(t, status().Shards[1].Paused)
		k.post("/api/apps/billing/resume", map[string]any{"Stream": "orders", "Shard": "shardId-000000000001"}, &struct{}{})
		k.post("/api/apps/billing/pause", map[string]any{}, &struct{}{})
		require.True(t, status().Paused)
		k.post("/api/apps/billing/seek", map[string]any{"To": "TRIM_HORIZON"}, &struct{}{})
		require.EqualValues(t, 12, status().BehindRecords)
		k.refused(k.do(k.request("POST", "/api/apps/billing/seek", map[string]any{})), http.StatusBadRequest, "InvalidArgument", "To is missing")
	})
}

func mustStream(k *kit, name string) *braid.Stream {
	s, err := k.db.Stream(name)
	require.NoError(k.t, err)
	return s
}

func TestQueuesAreShownAndRestored(t *testing.T) {
	inBubble(t, &inspect.Options{Writable: true}, func(t *testing.T, k *kit) {
		orders := k.stream("orders", 1)
		for i := range 5 {
			k.put(orders, "k", fmt.Sprint("order ", i))
		}
		for _, name := range []string{"mails", "bills"} {
			_, err := queue.Open(t.Context(), k.db, name, &queue.Options{Stream: "orders", MaxReceives: 1})
			require.NoError(t, err)
			<-time.After(time.Second) // queues are listed in the order of their creation
		}
		mails, err := queue.Get(t.Context(), k.db, "mails")
		require.NoError(t, err)
		got, err := mails.Receive(t.Context(), 2, nil)
		require.NoError(t, err)
		require.NoError(t, mails.Reject(t.Context(), "no mailbox", got[0].Receipt))

		var list struct {
			Queues []queue.Description
			More   bool
		}
		k.get("/api/queues?limit=1", &list)
		require.True(t, list.More)
		require.Equal(t, "mails", list.Queues[0].Name)
		require.EqualValues(t, 3, list.Queues[0].Visible)
		require.EqualValues(t, 1, list.Queues[0].InFlight)
		require.EqualValues(t, 1, list.Queues[0].Dead)
		k.get("/api/queues?after=mails", &list)
		require.Equal(t, "bills", list.Queues[0].Name)
		k.refused(k.do(k.request("GET", "/api/queues?after=none", nil)), http.StatusNotFound, "QueueNotFound", "no such queue")

		var dead struct {
			Records []struct {
				shown
				Receipt  queue.Receipt
				Receives int
				Reason   string
			}
			More bool
		}
		k.get("/api/queues/mails/deadletters", &dead)
		require.Len(t, dead.Records, 1)
		require.Equal(t, "order 0", string(dead.Records[0].Data))
		require.Equal(t, "no mailbox", dead.Records[0].Reason)

		var restored struct{ Restored int }
		k.post("/api/queues/mails/restore", map[string]any{"All": true}, &restored)
		require.Equal(t, 1, restored.Restored)
		var one struct{ Queue queue.Description }
		k.get("/api/queues/mails", &one)
		require.Zero(t, one.Queue.Dead)
		require.EqualValues(t, 4, one.Queue.Visible)
	})
}

func TestDeadLettersAreRestoredAndDiscarded(t *testing.T) {
	inBubble(t, &inspect.Options{Writable: true}, func(t *testing.T, k *kit) {
		orders := k.stream("orders", 1)
		for i := range 4 {
			k.put(orders, "k", fmt.Sprint("order ", i))
		}
		mails, err := queue.Open(t.Context(), k.db, "mails", &queue.Options{Stream: "orders"})
		require.NoError(t, err)
		got, err := mails.Receive(t.Context(), 4, nil)
		require.NoError(t, err)
		for i := range got {
			require.NoError(t, mails.Reject(t.Context(), "", got[i].Receipt))
		}
		dead := func(path string) (receipts []queue.Receipt, more bool) {
			t.Helper()
			var answer struct {
				Records []struct{ Receipt queue.Receipt }
				More    bool
			}
			k.get(path, &answer)
			for _, rec := range answer.Records {
				receipts = append(receipts, rec.Receipt)
			}
			return receipts, answer.More
		}
		all, more := dead("/api/queues/mails/deadletters")
		require.Len(t, all, 4)
		require.False(t, more)
		oldest, more := dead("/api/queues/mails/deadletters?limit=2")
		require.Equal(t, all[:2], oldest)
		require.True(t, more)

		var restored struct{ Restored int }
		k.post("/api/queues/mails/restore", map[string]any{"Receipts": all[:1]}, &restored)
		require.Equal(t, 1, restored.Restored)
		again, err := mails.Receive(t.Context(), 4, &queue.ReceiveOptions{Wait: -1})
		require.NoError(t, err)
		require.Len(t, again, 1)
		require.Equal(t, got[0].ID, again[0].ID)

		var discarded struct{ Discarded int }
		k.post("/api/queues/mails/discard", map[string]any{"Receipts": all[1:3]}, &discarded)
		require.Equal(t, 2, discarded.Discarded)
		left, _ := dead("/api/queues/mails/deadletters")
		require.Equal(t, all[3:], left)

		for _, action := range []string{"restore", "discard"} {
			do := func(body map[string]any) *httptest.ResponseRecorder {
				return k.do(k.request("POST", "/api/queues/mails/"+action, body))
			}
			k.refused(do(map[string]any{}), http.StatusBadRequest, "InvalidArgument", "Receipts")
			k.refused(do(map[string]any{"Receipts": make([]string, 1001)}), http.StatusBadRequest, "InvalidArgument", "1000")
			k.refused(do(map[string]any{"Receipts": []string{"made up"}}), http.StatusBadRequest, "ReceiptInvalid", "made up")
			k.refused(do(map[string]any{"Receipts": all[:1]}), http.StatusConflict, "ReceiptExpired", "expired")
			k.refused(k.do(k.request("POST", "/api/queues/none/"+action, map[string]any{"Receipts": all})), http.StatusNotFound, "QueueNotFound", "none")
		}
		k.refused(k.do(k.request("POST", "/api/queues/mails/restore", map[string]any{"Receipts": all[1:2]})), http.StatusConflict, "RecordSettled", "left the queue")
		k.refused(k.do(k.request("POST", "/api/queues/mails/restore", map[string]any{"Receipts": all, "All": true})), http.StatusBadRequest, "InvalidArgument", "All")
		left, _ = dead("/api/queues/mails/deadletters")
		require.Equal(t, all[3:], left)

		_, err = mails.DeadLetters().Receive(t.Context(), 1, nil)
		require.NoError(t, err)
		left, _ = dead("/api/queues/mails/deadletters")
		require.Equal(t, []queue.Receipt{""}, left, "somebody has it")
	})
}

func TestStorageIsShown(t *testing.T) {
	k := newKit(t, nil)
	s := k.stream("s", 1)
	for range 200 { // for a database in memory, one in 64 is measured
		k.put(s, "k", "data")
	}
	var answer struct {
		Time      time.Time
		Metrics   braid.Metrics
		Losses    []braid.Loss
		Latencies map[string]struct {
			Count                     int64
			Mean, P50, P95, P99, P999 string
		}
	}
	k.get("/api/storage", &answer)
	want := k.db.Metrics()
	require.Equal(t, want.RecordsPut, answer.Metrics.RecordsPut)
	require.Equal(t, want.Commits, answer.Metrics.Commits)
	require.Empty(t, answer.Losses)
	for name, h := range map[string]braid.Histogram{"Put": want.PutTimes, "Commit": want.CommitTimes, "Sync": want.SyncTimes} {
		l := answer.Latencies[name]
		require.Equal(t, h.Count, l.Count, name)
		require.Equal(t, h.Quantile(0.5).String(), l.P50, name)
		require.Equal(t, h.Quantile(0.99).String(), l.P99, name)
		require.Equal(t, h.Quantile(0.999).String(), l.P999, name)
		require.Equal(t, (h.Sum / time.Duration(max(1, h.Count))).String(), l.Mean, name)
	}
	require.Positive(t, answer.Latencies["Put"].Count)
	require.Positive(t, answer.Latencies["Commit"].Count)
}

// Arrivals are counted from the log, even if nobody has watched at the time.
func TestHistoryCountsArrivals(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, k *kit) {
		s := k.stream("s", 2)
		want := []int64{3, 0, 5, 1}
		for step, n := range want {
			if step == 2 {
				_, _, err := s.SplitShard(t.Context(), "0", nil)
				require.NoError(t, err)
			}
			for i := range n {
				k.put(s, fmt.Sprintf("%d%d", step, i), "12345678")
			}
			<-time.After(time.Minute)
		}
		var answer struct {
			Step   string
			Points []struct {
				Time           time.Time
				Records, Bytes int64
			}
		}
		k.get("/api/streams/s/history?step=1m&points=4", &answer)
		require.Equal(t, "1m0s", answer.Step)
		for i, p := range answer.Points {
			require.Equal(t, want[i], p.Records, i)
			require.Equal(t, want[i]*10, p.Bytes)
		}
		k.get("/api/streams/s/history?step=1m&points=2", &answer)
		require.EqualValues(t, 5, answer.Points[0].Records)
		for _, bad := range []string{"step=1", "step=0s", "step=48h", "points=0", "points=241", "from=LATEST"} {
			k.refused(k.do(k.request("GET", "/api/streams/s/history?"+bad, nil)), http.StatusBadRequest, "InvalidArgument", "")
		}
	})
}

// No answer grows with the stored data, or with the size of the request.
func TestAnswersAreBounded(t *testing.T) {
	k := newKit(t, nil)
	s := k.stream("s", 1)
	entries := make([]braid.Entry, 12_000)
	for i := range entries {
		entries[i] = braid.Entry{PartitionKey: "k", Data: []byte("x")}
	}
	_, err := s.PutRecords(t.Context(), entries)
	require.NoError(t, err)
	for _, path := range []string{"/api/streams/s/records", "/api/streams/s/shards/0/records"} {
		var page recordsAnswer
		k.get(path+"?limit=1000", &page)
		require.Len(t, page.Records, 1000)
		require.False(t, page.AtTip)

		// A search gives up, and returns where to continue.
		k.get(path+"?match=needle", &page)
		require.Empty(t, page.Records)
		require.Equal(t, 10_000, page.LookedAt)
		require.False(t, page.AtTip)
		require.Equal(t, page.BehindRecords, int64(2000)*int64(strings.Count(path, "shards")))
		k.get(path+"?match=needle&from="+query(page.Next), &page)
		require.Equal(t, 2000, page.LookedAt)
		require.True(t, page.AtTip)
		for _, bad := range []string{"limit=0", "limit=1001", "limit=many", "last=10001", "data=-1", "data=10485761", "from=HERE", "encrypted=1", "offset=2"} {
			k.refused(k.do(k.request("GET", path+"?"+bad, nil)), http.StatusBadRequest, "InvalidArgument", "")
		}
	}

	large := k.stream("large", 1)
	for range 12 {
		k.put(large, "k", strings.Repeat("x", 1<<20))
	}
	for _, path := range []string{"/api/streams/large/records", "/api/streams/large/shards/0/records"} {
		var page recordsAnswer
		k.get(path, &page)
		require.Len(t, page.Records, 12)
		require.Len(t, page.Records[0].Data, 4096)
		require.Equal(t, 1<<20, page.Records[0].DataBytes)
		k.get(path+"?data=10485760", &page)
		require.Len(t, page.Records, 8, "8 MiB of data")
	}
	for _, path := range []string{"/api/streams?limit=1001", "/api/streams/s?limit=1001", "/api/apps?limit=101", "/api/queues?limit=1001", "/api/info?x=1", "/api/storage?x=1"} {
		w := k.do(k.request("GET", path, nil))
		if path != "/api/info?x=1" {
			k.refused(w, http.StatusBadRequest, "InvalidArgument", "")
		}
	}
}

func TestEncryptedRecordsAreWithheld(t *testing.T) {
	ring, err := braid.NewKeyRing(map[string][]byte{"main": make([]byte, 32)})
	require.NoError(t, err)
	db, err := braid.Open(braid.InMemory, &braid.Options{KeyProvider: ring})
	require.NoError(t, err)
	defer db.Close()
	k := &kit{t, db, http.StripPrefix(prefix, inspect.Handler(db, nil))}
	s := k.stream("s", 1)
	require.NoError(t, s.StartEncryption(t.Context(), "main"))
	n := k.put(s, "secret-key", "secret data")
	paths := []string{"/api/streams/s/records", "/api/streams/s/shards/0/records", "/api/streams/s/shards/0/records/" + n.String()}
	for _, path := range paths {
		w := k.do(k.request("GET", path, nil))
		require.Equal(t, http.StatusOK, w.Code)
		require.NotContains(t, w.Body.String(), "secret")
		require.NotContains(t, w.Body.String(), "c2VjcmV0", "base64 of secret")
		require.Contains(t, w.Body.String(), `"Withheld":true`)
		require.Contains(t, w.Body.String(), `"DataBytes":11`)
		w = k.do(k.request("GET", path+"?encrypted=show", nil))
		require.Contains(t, w.Body.String(), "secret-key")
		require.Contains(t, w.Body.String(), "c2VjcmV0")
	}
	// Searches do not reveal withheld data.
	for _, filter := range []string{"key=secret-key", "match=secret"} {
		var page recordsAnswer
		k.get(paths[0]+"?"+filter, &page)
		require.Empty(t, page.Records)
		k.get(paths[0]+"?encrypted=show&"+filter, &page)
		require.Len(t, page.Records, 1)
	}
}

func TestErrorsHaveTheirStatusAndKind(t *testing.T) {
	k := newKit(t, nil)
	s := k.stream("s", 1)
	first := k.put(s, "k", "1")
	k.put(s, "k", "2")
	require.NoError(t, s.Trim(t.Context(), braid.Latest()))
	w := k.do(k.request("GET", "/api/streams/s/shards/0/records?from="+query(braid.AfterSequence(first)), nil))
	k.refused(w, http.StatusGone, "Trimmed", "trimmed")
	require.Contains(t, w.Body.String(), `"Detail":{"Shard":"shardId-000000000000","FirstLost":`)
	k.refused(k.do(k.request("GET", "/api/streams/t", nil)), http.StatusNotFound, "StreamNotFound", "t")
	k.refused(k.do(k.request("GET", "/api/streams/s/shards/9/records", nil)), http.StatusNotFound, "ShardNotFound", "9")
	k.refused(k.do(k.request("GET", "/api/streams/s/shards/0/records/7", nil)), http.StatusBadRequest, "InvalidArgument", "")
	k.refused(k.do(k.request("GET", "/api/nothing", nil)), http.StatusNotFound, "NotFound", "StripPrefix")
	k.refused(k.do(k.request("GET", "/static/none.js", nil)), http.StatusNotFound, "NotFound", "none.js")
	k.refused(k.do(k.request("DELETE", "/api/streams/s", nil)), http.StatusMethodNotAllowed, "MethodNotAllowed", "GET")
	require.NoError(t, k.db.Close())
	for _, path := range []string{"/api/streams", "/api/streams/s", "/api/apps", "/api/queues", "/api/tail?stream=s"} {
		k.refused(k.do(k.request("GET", path, nil)), http.StatusServiceUnavailable, "Closed", "closed")
	}
}

// The page has every file that it names, and names nothing that is elsewhere.
func TestThePageIsWhole(t *testing.T) {
	k := newKit(t, nil)
	page := k.do(k.request("GET", "/", nil)).Body.String()
	seen := map[string]bool{}
	for _, name := range []string{"app.js", "style.css", "icon.svg"} {
		require.Contains(t, page, `static/`+name)
		k.visit(seen, name)
	}
	require.Contains(t, seen, "lineage.js")
	require.NotContains(t, page, "<style")
	require.NotContains(t, page, "style=")
	require.NotContains(t, page, "onclick")
}

// visit requires a file and its imports.
func (k *kit) visit(seen map[string]bool, name string) {
	if seen[name] {
		return
	}
	seen[name] = true
	w := k.do(k.request("GET", "/static/"+name, nil))
	require.Equal(k.t, http.StatusOK, w.Code, name)
	for part := range strings.SplitSeq(w.Body.String(), "from \"./") {
		if imported, _, found := strings.Cut(part, "\";"); found && strings.HasSuffix(imported, ".js") {
			k.visit(seen, imported)
		}
	}
	require.NotContains(k.t, strings.ReplaceAll(w.Body.String(), "http://www.w3.org/", ""), "http", "%s fetches nothing from elsewhere", name)
}

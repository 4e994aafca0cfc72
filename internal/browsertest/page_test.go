package browsertest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/consumer"
	"github.com/braidstream/braid/inspect"
	"github.com/braidstream/braid/queue"
)

// fill makes data for every view, and returns when the page can show it.
func fill(s *site) {
	t := s.t
	orders, dead := s.stream("orders", 4), s.stream("dead", 1)
	for i := range 300 {
		s.put(orders, fmt.Sprintf("customer-%d", i), fmt.Sprintf(`{"order":%d}`, i))
	}
	_, _, err := orders.SplitShard(t.Context(), "1", nil)
	require.NoError(t, err)
	_, err = orders.MergeShards(t.Context(), "2", "3")
	require.NoError(t, err)
	s.put(orders, "poison", "bad order")

	work := func(app string, fail func(rec consumer.Record) error, dead string) {
		worker, err := consumer.New(s.db, &consumer.Config{App: app, Streams: []string{"orders"}, WorkerID: app + "-1", MaxAttempts: 1, DeadLetterStream: dead, Logger: slog.New(slog.DiscardHandler)},
			consumer.ProcessorFunc(func(_ context.Context, batch *consumer.Batch) error {
				for _, rec := range batch.Records {
					if err := fail(rec); err != nil {
						return &consumer.RecordError{Record: rec, Err: err}
					}
				}
				return nil
			}))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- worker.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if stopped := new(consumer.StoppedShardsError); !errors.As(<-ended, &stopped) && app == "fraud" {
				t.Error("fraud was not stopped")
			}
		})
		if app == "fraud" {
			require.NoError(t, worker.App().WaitFor(t.Context(), func(st consumer.Status) bool {
				for _, sh := range st.Shards {
					if sh.State == consumer.StateFailed {
						return true
					}
				}
				return false
			}))
			return
		}
		require.NoError(t, worker.App().WaitCaughtUp(t.Context()))
	}
	isBad := func(rec consumer.Record) bool { return string(rec.Data) == "bad order" }
	work("billing", func(rec consumer.Record) error {
		if isBad(rec) {
			return errors.New("no such account")
		}
		return nil
	}, dead.Name())
	work("fraud", func(rec consumer.Record) error {
		if isBad(rec) {
			panic("no rule for this order")
		}
		return nil
	}, "")

	mails, err := queue.Open(t.Context(), s.db, "mails", &queue.Options{Stream: "orders", MaxReceives: 1})
	require.NoError(t, err)
	got, err := mails.Receive(t.Context(), 3, nil)
	require.NoError(t, err)
	require.NoError(t, mails.Reject(t.Context(), "550 mailbox unavailable", got[0].Receipt))
}

// views are all views, each with a text that it shows once it has its figures.
var views = map[string][]string{
	"#/":               {"Streams", "orders", "dead", "Put now"},
	"#/streams/orders": {"orders", "Hash keys", "an even share", "Splits and merges", "shard 0", "Retention", "peak"},
	"#/streams/orders?shard=shardId-000000000001": {"Shard 1", "closed", "Became"},
	"#/streams/orders/records":                    {"Records of orders", "100 records shown", "customer-"},
	"#/streams/orders/tail":                       {"Live tail of orders", "Waiting for a record"},
	"#/apps":                                      {"billing", "fraud", "failed", "running"},
	"#/apps/billing":                              {"billing-1", "caught up", "no such account"},
	"#/apps/fraud":                                {"Failures", "no rule for this order"},
	"#/queues":                                    {"mails", "orders"},
	"#/queues/mails":                              {"In flight", "550 mailbox", "Acknowledged"},
	"#/storage":                                   {"Records a commit", "Epochs", "Capacity decisions"},
	"#/nothing":                                   {"No such page"},
}

func TestEveryViewShowsWhatThereIs(t *testing.T) {
	s := newSite(t, &inspect.Options{Writable: true})
	fill(s)
	for route, texts := range views {
		s.open(route)
		for _, text := range texts {
			if route == "#/queues/mails" && strings.HasPrefix(text, "550") {
				s.until(`document.querySelectorAll("ol.records > li").length === 1`)
				s.run(chromedp.Click(chromedp.CSS("ol.records > li > button")))
			}
			s.shows(text)
		}
		require.Contains(t, value[string](s, "document.title"), "braid", route)
	}
	s.quiet()
}

// On a phone only elements that scroll by themselves are wider than the page; and a dark page
// is dark.
func TestEveryViewFitsPhonesAndTheDark(t *testing.T) {
	s := newSite(t, &inspect.Options{Writable: true})
	fill(s)
	s.run(chromedp.EmulateViewport(360, 740))
	for _, scheme := range []string{"light", "dark"} {
		s.run(inScheme(scheme))
		for route, texts := range views {
			s.open(route)
			s.shows(texts[0])
			s.shows(texts[len(texts)-1:][0][:1])
			require.LessOrEqual(t, value[float64](s, "document.documentElement.scrollWidth"), 360.0, "%s is wider than the window", route)
			brightness := value[float64](s, `getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0) / 3`)
			require.Equal(t, scheme == "dark", brightness < 128, "%s in %s", route, scheme)
		}
	}
}

func TestASplitAppearsWithoutReload(t *testing.T) {
	s := newSite(t, nil)
	orders := s.stream("orders", 2)
	s.open("#/streams/orders")
	s.until(`!!document.getElementById("lineage-shardId-000000000001")`)
	s.run(js(`window.sameDocument = true`))
	_, _, err := orders.SplitShard(t.Context(), "0", nil)
	require.NoError(t, err)
	s.until(`!!document.getElementById("lineage-shardId-000000000003")`)
	s.until(`document.querySelectorAll(".hashbar g.shard").length === 3`)
	s.shows("3 open")
	require.True(t, value[bool](s, "window.sameDocument === true"))

	s.open("#/")
	s.shows("orders")
	s.run(js(`window.sameDocument = true`))
	s.stream("clicks", 1)
	s.shows("clicks")
	require.True(t, value[bool](s, "window.sameDocument === true"))
	s.quiet()
}

func TestALiveTailFollowsAndSaysWhatItLeavesOut(t *testing.T) {
	s := newSite(t, nil)
	orders := s.stream("orders", 2)
	s.open("#/streams/orders/tail")
	s.until(`document.querySelector("main .badge")?.innerText.includes("live")`)
	s.put(orders, "anna", `{"order": "the first"}`)
	s.shows(`the first`)

	// Put more than the rate allows, in one commit.
	entries := make([]braid.Entry, 5000)
	for i := range entries {
		entries[i] = braid.Entry{PartitionKey: "ben", Data: fmt.Appendf(nil, "order %d", i)}
	}
	_, err := orders.PutRecords(t.Context(), entries)
	require.NoError(t, err)
	s.shows("left out here")
	s.until(`(() => { const m = document.body.innerText.match(/([\d,]+) records? shown, ([\d,]+) left out/); return m && Number(m[1].replaceAll(",", "")) + Number(m[2].replaceAll(",", "")) === 5001 })()`)

	// A filter passes and counts only matching records.
	s.open("#/streams/orders/tail?match=needle")
	s.until(`document.querySelector("main .badge")?.innerText.includes("live")`)
	_, err = orders.PutRecords(t.Context(), entries)
	require.NoError(t, err)
	s.put(orders, "carl", "a needle in a haystack")
	s.shows("a needle in a haystack")
	s.shows("1 record shown.")
	s.press("Pause")
	s.shows("paused")
	s.quiet()
}

func TestRecordsAreFoundAndDecoded(t *testing.T) {
	s := newSite(t, nil)
	orders := s.stream("orders", 2)
	s.put(orders, "json", `{"customer":"anna","items":[1,2]}`)
	s.put(orders, "text", "just ünicode text")
	s.put(orders, "bytes", "\xde\xad\xbe\xef")
	large := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	s.put(orders, "large", large)
	s.open("#/streams/orders/records")
	s.shows("4 records shown")

	open := func(key string) string {
		row := fmt.Sprintf(`[...document.querySelectorAll("li.record")].find((e) => e.querySelector(".key").innerText === %q)`, key)
		s.run(js(row + `.querySelector("button").click()`))
		s.until("!!" + row + `.querySelector("pre")`)
		return row + `.querySelector("pre").innerText`
	}
	require.Equal(t, "{\n  \"customer\": \"anna\",\n  \"items\": [\n    1,\n    2\n  ]\n}", value[string](s, open("json")))
	require.Equal(t, "just ünicode text", value[string](s, open("text")))
	require.Equal(t, "000000  de ad be ef                                      ····", value[string](s, open("bytes")))
	text := open("large")
	require.Equal(t, 4096.0, value[float64](s, text+".length"), "no more than is asked for")
	s.press("Show all")
	s.until(text + ".length === 1048576")

	s.open("#/streams/orders/records?start=oldest&match=" + "anna")
	s.shows("1 record shown")
	s.quiet()
}

func TestEncryptedRecordsAreShownOnDemand(t *testing.T) {
	key := make([]byte, 32)
	rand.Read(key)
	ring, err := braid.NewKeyRing(map[string][]byte{"main": key})
	require.NoError(t, err)
	s := newSiteOf(t, nil, &braid.Options{KeyProvider: ring})
	orders := s.stream("orders", 1)
	require.NoError(t, orders.StartEncryption(t.Context(), "main"))
	s.put(orders, "secret-key", "secret data")
	s.open("#/streams/orders/records")
	s.shows("1 record shown")
	require.NotContains(t, value[string](s, "document.documentElement.outerHTML"), "secret")
	s.run(chromedp.Click(chromedp.CSS("li.record > button")))
	s.press("Show them")
	s.shows("secret data")
	s.shows("secret-key")
	s.quiet()
}

func TestChangesAreConfirmed(t *testing.T) {
	s := newSite(t, &inspect.Options{Writable: true})
	orders := s.stream("orders", 2)
	for range 10 {
		s.put(orders, "k", "data")
	}
	open := func() (n int) {
		for _, sh := range orders.Describe().Shards {
			if !sh.Closed {
				n++
			}
		}
		return n
	}
	s.open("#/streams/orders?shard=shardId-000000000000")
	s.press("Split …")
	s.shows("Shard 0 is closed: it keeps its")
	s.press("Cancel")
	s.until(`!document.querySelector("dialog")`)
	require.Equal(t, 2, open())
	s.press("Split …")
	s.press("Split")
	s.shows("have taken over")
	s.press("Close")
	require.Equal(t, 3, open())
	s.until(`!!document.getElementById("lineage-shardId-000000000003")`)

	s.press("Trim …")
	s.shows("is removed, for good")
	s.run(js(`(() => { const e = document.querySelector("dialog select"); e.value = "all"; e.dispatchEvent(new Event("change")) })()`))
	s.shows("All 10 records of orders")
	require.EqualValues(t, 10, orders.Describe().Records)
	s.press("Remove these records")
	s.shows("The records are removed.")
	require.Zero(t, orders.Describe().Records)
	s.press("Close")

	s.press("Change the number of shards …")
	s.run(js(`(() => { const e = document.querySelector("dialog input"); e.value = "20000"; e.dispatchEvent(new Event("input")) })()`))
	s.press("Change")
	s.shows("Error. braid:") // the database's error is shown, and the dialog stays
	s.press("Cancel")
	require.Equal(t, 3, open())
}

func TestNothingCanBeChangedUnlessAllowed(t *testing.T) {
	s := newSite(t, nil)
	s.stream("orders", 2)
	s.open("#/streams/orders?shard=shardId-000000000000")
	s.shows("Shard 0")
	s.shows("read only")
	require.Zero(t, value[float64](s, `[...document.querySelectorAll("button")].filter((e) => e.innerText.includes("…")).length`))
}

func TestApplicationsAreSteered(t *testing.T) {
	s := newSite(t, &inspect.Options{Writable: true})
	fill(s)
	app, err := consumer.OpenApp(s.db, "billing")
	require.NoError(t, err)
	paused := func(want bool) {
		require.NoError(t, app.WaitFor(t.Context(), func(st consumer.Status) bool { return st.Paused == want }))
	}
	s.open("#/apps/billing")
	s.press("Pause …")
	s.shows("processes no more records of the whole application billing")
	s.press("Pause")
	paused(true)
	s.press("Close")
	s.shows("The whole application is paused.")
	s.press("Resume …")
	s.press("Resume")
	paused(false)
	s.press("Close")

	// Restore a dead letter, which dies again.
	before := s.letters()
	s.until(`document.querySelectorAll("ol.records > li").length === 1`)
	s.run(chromedp.Click(chromedp.CSS("ol.records > li > button")))
	s.press("Put back …")
	s.shows("as a new record: every application that reads the stream gets it")
	s.press("Put back")
	s.shows("The record is now in shard")
	require.NoError(t, app.WaitCaughtUp(t.Context()))
	require.Equal(t, before+1, s.letters())

	s.open("#/queues/mails")
	s.press("Put all back …")
	s.press("Put back")
	s.shows("can be received again")
	s.quiet()
}

func TestStreamsAreCreatedAndDeleted(t *testing.T) {
	s := newSite(t, &inspect.Options{Writable: true})
	enter := func(label, text string) {
		s.run(js(fmt.Sprintf(`{
			const field = [...document.querySelectorAll("dialog .field")].find((e) => e.innerText.startsWith(%q)).querySelector("input");
			field.value = %q;
			field.dispatchEvent(new Event("input"));
		}`, label, text)))
	}
	s.open("#/")
	s.shows("There are no streams yet.")
	s.press("Create a stream …")
	enter("Name", "no name")
	s.press("Create")
	s.shows("Name must be 1 to 128 characters")
	enter("Name", "orders")
	enter("Open shards", "3")
	enter("Records are kept for", "48")
	s.shows("A stream orders is created, with 3 shards, and keeps records for 2 d.")
	s.press("Create")
	s.shows("Stream orders was created.")
	stream, err := s.db.Stream("orders")
	require.NoError(t, err)
	require.Len(t, stream.Describe().Shards, 3)
	require.Equal(t, 48*time.Hour, stream.Describe().Retention)
	s.put(stream, "k", "data")

	s.press("Close")
	s.press("orders")
	s.press("Delete …")
	s.shows("The stream is deleted with all its 1 record (5 B) in 3 shards, for good.")
	enter("To delete orders", "order")
	s.press("Delete the stream")
	s.shows(`it must be "orders"`)
	_, err = s.db.Stream("orders")
	require.NoError(t, err)
	enter("To delete orders", "orders")
	s.press("Delete the stream")
	s.shows("Stream orders was deleted.")
	_, err = s.db.Stream("orders")
	require.ErrorIs(t, err, braid.ErrStreamNotFound)
	s.press("Close")
	s.shows("There are no streams yet.")
}

func TestDeadLettersOfAQueueAreSettled(t *testing.T) {
	s := newSite(t, &inspect.Options{Writable: true})
	orders := s.stream("orders", 1)
	mails, err := queue.Open(t.Context(), s.db, "mails", &queue.Options{Stream: "orders"})
	require.NoError(t, err)
	for _, data := range []string{"first", "second", "third"} {
		s.put(orders, "k", data)
	}
	records, err := mails.Receive(t.Context(), 3, nil)
	require.NoError(t, err)
	for _, rec := range records {
		require.NoError(t, mails.Reject(t.Context(), "no mailbox", rec.Receipt))
	}
	dead := func() (left []string) {
		for rec, err := range mails.DeadLetters().All(t.Context()) {
			require.NoError(t, err)
			left = append(left, string(rec.Data))
		}
		return left
	}
	open := func(at int) {
		s.run(chromedp.Click(chromedp.CSS(fmt.Sprintf("ol.records > li:nth-child(%d) > button", at))))
	}
	s.open("#/queues/mails")
	s.until(`document.querySelectorAll("ol.records > li").length === 3`)
	open(1)
	s.shows("no mailbox")
	s.press("Put back …")
	s.shows("It is visible at once, with 6 attempts left.")
	s.press("Put back")
	s.shows("The record can be received again.")
	require.Equal(t, []string{"second", "third"}, dead())
	s.press("Close")
	s.until(`document.querySelectorAll("ol.records > li").length === 2`)
	open(2)
	s.press("Discard …")
	s.shows("is never received from it again. The stream orders keeps it")
	s.press("Discard")
	s.shows("The record has left the queue.")
	require.Equal(t, []string{"second"}, dead())
	s.press("Close")

	// A record that another receiver holds cannot be settled.
	_, err = mails.DeadLetters().Receive(t.Context(), 1, nil)
	require.NoError(t, err)
	s.until(`document.querySelectorAll("ol.records > li").length === 1`)
	open(1)
	s.shows("A receiver of dead letters has it")
	s.quiet()
}

// The table shows the durations of puts, of all and of the last minute.
func TestLatenciesAreShown(t *testing.T) {
	s := newSite(t, nil)
	orders := s.stream("orders", 1)
	put := func(n int) {
		for range n {
			s.put(orders, "k", "data")
		}
	}
	put(2000) // in memory about one of 64 is measured
	first := s.db.Metrics().PutTimes.Count
	require.Positive(t, first)
	counted := func(title string) string {
		return fmt.Sprintf(`Number([...document.querySelectorAll("tbody tr")].find((e) => e.innerText.startsWith(%q))?.lastChild.innerText)`, title)
	}
	s.open("#/storage")
	s.shows("until its records can be read")
	s.until(counted("Put") + " === 0") // they came before the page was open
	s.press("since the database was opened")
	s.until(fmt.Sprint(counted("Put"), " === ", first))
	require.Equal(t, float64(s.db.Metrics().CommitTimes.Count), value[float64](s, counted("Commit")))
	require.Regexp(t, `^\d+(\.\d)? (µs|ms|s)$`, value[string](s, `[...document.querySelectorAll("tbody tr")].find((e) => e.innerText.startsWith("Put")).children[3].innerText`))
	s.press("last minute")
	put(2000)
	s.until(fmt.Sprint(counted("Put"), " === ", s.db.Metrics().PutTimes.Count-first))
	s.quiet()
}

// The page computes the same quantiles as Go.
func TestQuantilesAreThoseOfGo(t *testing.T) {
	s := newSite(t, nil)
	bucket := func(upTo time.Duration, n int64) braid.HistogramBucket {
		return braid.HistogramBucket{UpTo: upTo, Count: n}
	}
	h := braid.Histogram{Count: 1000, Sum: 9 * time.Second, Buckets: []braid.HistogramBucket{
		bucket(time.Microsecond, 1), bucket(2*time.Microsecond, 499), bucket(5*time.Microsecond, 400), bucket(10*time.Millisecond, 99), bucket(50*time.Second, 0),
	}}
	text, err := json.Marshal(h)
	require.NoError(t, err)
	s.open("#/storage")
	got := value[[]string](s, fmt.Sprintf(`import(new URL("static/histogram.js", location.href)).then(({quantile, since}) => {
		const all = since(%s, null);
		return [0, 0.001, 0.0011, 0.5, 0.51, 0.9, 0.91, 0.999, 1].map((q) => quantile(all, q));
	})`, text))
	require.Equal(t, []string{"1 µs", "1 µs", "2 µs", "2 µs", "5 µs", "5 µs", "10 ms", "10 ms", "over 50 s"}, got)
}

func (s *site) letters() int64 {
	dead, err := s.db.Stream("dead")
	require.NoError(s.t, err)
	return dead.Describe().Records
}

func TestTheKeyboardIsEnough(t *testing.T) {
	s := newSite(t, &inspect.Options{Writable: true})
	orders := s.stream("orders", 4)
	_, _, err := orders.SplitShard(t.Context(), "1", nil)
	require.NoError(t, err)
	s.open("#/streams/orders")
	s.until(`document.querySelectorAll(".hashbar g.shard").length === 5`)
	focused := func() string {
		return value[string](s, `document.activeElement.getAttribute("aria-label") ?? document.activeElement.innerText`)
	}

	// The first Tab skips the sections.
	s.run(chromedp.KeyEvent(kb.Tab))
	require.Equal(t, "Skip to content", focused())
	s.run(chromedp.KeyEvent(kb.Enter))
	require.Equal(t, "MAIN", value[string](s, "document.activeElement.tagName"))

	// Tab reaches the shards; arrows move between them; Enter chooses one.
	for range 40 {
		s.run(chromedp.KeyEvent(kb.Tab))
		if strings.HasPrefix(focused(), "shard 0") {
			break
		}
	}
	require.Contains(t, focused(), "shard 0")
	require.NotEqual(t, "none", value[string](s, `getComputedStyle(document.activeElement.querySelector(".back")).stroke`), "focus can be seen")
	s.run(chromedp.KeyEvent(kb.ArrowRight))
	require.Contains(t, focused(), "shard 4")
	s.run(chromedp.KeyEvent(kb.Enter))
	s.shows("Shard 4")

	// In the lineage arrows go to parents and children.
	s.run(js(`document.getElementById("lineage-shardId-000000000004").focus()`))
	s.run(chromedp.KeyEvent(kb.ArrowLeft))
	require.Contains(t, focused(), "shard 1, closed")
	s.run(chromedp.KeyEvent(kb.ArrowRight))
	require.Contains(t, focused(), "shard 4, open")

	// Escape leaves a dialog, and the button that opened it has the focus again.
	s.run(js(`[...document.querySelectorAll("button")].find((e) => e.innerText === "Trim …").focus()`))
	s.run(chromedp.KeyEvent(kb.Enter))
	s.until(`!!document.querySelector("dialog[open]")`)
	s.run(chromedp.KeyEvent(kb.Escape))
	s.until(`!document.querySelector("dialog")`)
	require.Equal(t, "Trim …", focused())
}

// Focus and typed text survive the updates of each second.
func TestUpdatesDisturbNobody(t *testing.T) {
	s := newSite(t, nil)
	for i := range 12 {
		s.stream(fmt.Sprintf("stream-%02d", i), 1)
	}
	s.open("#/")
	s.until(`!!document.querySelector("input[type=search]")`)
	s.run(chromedp.Focus(chromedp.CSS("input[type=search]")), chromedp.KeyEvent("07"))
	s.until(`document.querySelectorAll("tbody tr").length === 1`)
	stream, err := s.db.Stream("stream-07")
	require.NoError(t, err)
	s.put(stream, "k", "data")
	s.until(`document.querySelector("tbody tr").innerText.includes("1")`)
	require.Equal(t, "07", value[string](s, "document.activeElement.value"))
}

// A page of another origin can read and change nothing.
func TestAForeignOriginIsRefused(t *testing.T) {
	s := newSite(t, &inspect.Options{Writable: true})
	orders := s.stream("orders", 2)
	s.put(orders, "k", "data")
	before := orders.Describe()

	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><title>evil</title><body>"))
	}))
	defer evil.Close()
	s.run(chromedp.Navigate(evil.URL))
	target := s.url
	tries := map[string]string{
		"a look":                `fetch(%q + "api/streams").then((r) => r.text(), () => "refused")`,
		"a look without CORS":   `fetch(%q + "api/streams", {mode: "no-cors"}).then(async (r) => r.type === "opaque" ? (await r.text()) || "refused" : "got it", () => "refused")`,
		"a change":              `fetch(%q + "api/streams/orders/trim", {method: "POST", headers: {"Content-Type": "application/json", "Braid-Inspect": "1"}, body: '{"Before":"LATEST"}'}).then((r) => r.text(), () => "refused")`,
		"a change without CORS": `fetch(%q + "api/streams/orders/trim", {method: "POST", mode: "no-cors", headers: {"Content-Type": "text/plain"}, body: '{"Before":"LATEST"}'}).then(async (r) => (await r.text()) || "refused", () => "refused")`,
		"events":                `new Promise((done) => { const e = new EventSource(%q + "api/events"); e.onerror = () => { e.close(); done("refused") }; e.addEventListener("changed", () => done("got it")) })`,
		"a script":              `new Promise((done) => { const e = document.createElement("script"); e.src = %q + "static/dom.js"; e.onload = () => done("got it"); e.onerror = () => done("refused"); document.body.append(e) })`,
	}
	for name, try := range tries {
		require.Equal(t, "refused", value[string](s, fmt.Sprintf(try, target)), name)
	}
	// A frame of it stays empty.
	value[bool](s, fmt.Sprintf(`new Promise((done) => { const e = document.createElement("iframe"); e.src = %q; e.onload = () => done(true); document.body.append(e) })`, target))
	require.True(t, value[bool](s, `(() => { try { return document.querySelector("iframe").contentDocument === null } catch { return true } })()`))
	require.Equal(t, before.Records, orders.Describe().Records)

	// A name that resolves to this machine, as after DNS rebinding.
	s.run(chromedp.Navigate("http://evil.example:" + s.portOf() + prefix + "/"))
	s.shows(`evil.example`)
	s.shows("is not allowed here")
	require.NotContains(t, value[string](s, `fetch("api/streams").then((r) => r.text())`), "orders")
}

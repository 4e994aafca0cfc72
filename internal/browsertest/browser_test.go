package browsertest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/inspect"
)

// patience is how long a browser may take for an action, on a busy machine.
const patience = 60 * time.Second

// browserPath finds a browser, or skips the test.
func browserPath(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes seconds for each test")
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless-shell"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("there is no Chromium and no Chrome on this machine")
	return ""
}

// site is a database, its page on a port, and a browser.
type site struct {
	t   *testing.T
	db  *braid.DB
	url string // of the page, with a slash at the end
	ctx context.Context

	mu       sync.Mutex // guards what follows
	problems []string   // that the browser has reported
}

const prefix = "/tools/braid"

func newSite(t *testing.T, options *inspect.Options) *site {
	t.Helper()
	return newSiteOf(t, options, nil)
}

func newSiteOf(t *testing.T, options *inspect.Options, dbOptions *braid.Options) *site {
	t.Helper()
	path := browserPath(t)
	db, err := braid.Open(braid.InMemory, dbOptions)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle(prefix+"/", http.StripPrefix(prefix, inspect.Handler(db, options)))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(func() { require.NoError(t, db.Close()) }) // before the server, whose connections end with it

	s := &site{t: t, db: db, url: server.URL + prefix + "/"}
	s.ctx = newBrowser(t, path, map[string]any{
		"host-resolver-rules": "MAP evil.example 127.0.0.1",
	})
	require.NoError(t, chromedp.Do(s.ctx, chromedp.EmulateViewport(1280, 900)))
	note(s, runtime.ExceptionThrown, func(e runtime.EventExceptionThrown) string {
		return fmt.Sprintf("%s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception)
	})
	note(s, runtime.ConsoleAPICalled, func(e runtime.EventConsoleAPICalled) string {
		if e.Type != runtime.ConsoleAPICalledTypeError {
			return ""
		}
		return "console.error: " + e.Args[0].Description
	})
	note(s, log.EntryAdded, func(e log.EventEntryAdded) string {
		if e.Entry.Level != log.EntryLevelError {
			return ""
		}
		return e.Entry.Text + " " + e.Entry.URL
	})
	return s
}

// newBrowser starts a browser, which ends with the test.
func newBrowser(t *testing.T, path string, flags map[string]any) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox)
	for name, value := range flags {
		options = append(options, chromedp.Flag(name, value))
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return ctx
}

// note collects the messages of the browser's console: exceptions, failed requests, violations
// of the content security policy. It ends with the browser.
func note[E any](s *site, event cdp.Event[E], text func(E) string) {
	events := chromedp.Events(s.ctx, event)
	go func() {
		for e, err := range events {
			if err != nil {
				return
			}
			if text := text(e); text != "" {
				s.mu.Lock()
				s.problems = append(s.problems, text)
				s.mu.Unlock()
			}
		}
	}()
}

// quiet requires that the browser has reported no problem.
func (s *site) quiet() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Empty(s.t, s.problems)
}

// run runs actions in the browser.
func (s *site) run(actions ...chromedp.Action[chromedp.Void]) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	err := chromedp.Do(ctx, actions...)
	if err != nil {
		text, _ := chromedp.Run(s.ctx, chromedp.Evaluate[string](`document.body?.innerText ?? ""`))
		s.mu.Lock()
		defer s.mu.Unlock()
		require.NoError(s.t, err, "problems: %q\nthe page:\n%s", s.problems, text)
	}
}

// open opens a view.
func (s *site) open(route string) {
	s.t.Helper()
	// Load a new document each time, even if only the part after # differs.
	s.run(chromedp.Navigate("about:blank"), chromedp.Navigate(s.url+route))
}

// until waits until a JavaScript expression is true.
func (s *site) until(expression string) {
	s.t.Helper()
	s.run(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		for {
			_, err := chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingTimeout(0))(ctx, t)
			// A document of another site has another process, which may replace the one that
			// was asked.
			if err == nil || !strings.Contains(err.Error(), "Cannot find context") {
				return err
			}
		}
	}))
}

// shows waits until the page shows a text.
func (s *site) shows(text string) {
	s.t.Helper()
	s.until(fmt.Sprintf("document.body.innerText.includes(%q)", text))
}

// value returns the value of an expression, or of the promise that it returns.
func value[T any](s *site, expression string) T {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(s.t, err, expression)
	return v
}

// js runs a statement in the page.
func js(statement string) chromedp.Action[chromedp.Void] {
	return chromedp.Evaluate[chromedp.Void](statement)
}

// press clicks the first visible button, link or choice with a text.
func (s *site) press(text string) {
	s.t.Helper()
	const find = `[...document.querySelectorAll("dialog[open] button, button, a, summary")].find((e) => e.checkVisibility() && !e.disabled && e.innerText.trim() === %q)`
	found := fmt.Sprintf(find, text)
	s.until("!!" + found)
	s.run(js(found + ".click()"))
}

func (s *site) stream(name string, shards int) *braid.Stream {
	s.t.Helper()
	stream, err := s.db.OpenStream(s.t.Context(), name, &braid.StreamOptions{Shards: shards})
	require.NoError(s.t, err)
	return stream
}

func (s *site) put(stream *braid.Stream, key, data string) braid.PutResult {
	s.t.Helper()
	result, err := stream.PutRecord(s.t.Context(), key, []byte(data))
	require.NoError(s.t, err)
	return result
}

// portOf returns the port of the site.
func (s *site) portOf() string {
	host := strings.Split(s.url, "/")[2]
	_, port, err := net.SplitHostPort(host)
	require.NoError(s.t, err)
	return port
}

// inScheme sets the browser's preference of a dark or light scheme.
func inScheme(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	})
}

package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/braidstream/braid"
)

const (
	defaultTailRate = 20
	maxTailRate     = 1000
	tailWindow      = 250 * time.Millisecond // in which a quarter of the rate is sent
	maxTailData     = 64 << 10               // of each record that waits to be sent

	heartbeat    = 15 * time.Second // the pause after which a quiet connection gets a comment
	writeTimeout = 15 * time.Second // for a client to accept what is written
	eventPause   = 100 * time.Millisecond
)

// eventStream writes server-sent events. It is used by one goroutine.
type eventStream struct {
	w          http.ResponseWriter
	controller *http.ResponseController
}

// whileLive counts a live connection while fn serves it, and refuses it if there are too
// many.
func (h *handler) whileLive(fn func(e *eventStream, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			return // HEAD has no body, so fn would never end
		}
		select {
		case h.live <- struct{}{}:
			defer func() { <-h.live }()
		default:
			writeError(w, r, &statusError{
				http.StatusServiceUnavailable, "TooManyConnections",
				fmt.Sprintf("%d live connections are open, which is the maximum", maxLive),
			})
			return
		}
		if err := fn(&eventStream{w, http.NewResponseController(w)}, r); err != nil {
			writeError(w, r, err)
		}
	}
}

// begin sends the header. A later error can only be sent as an event.
func (e *eventStream) begin() error {
	header := e.w.Header()
	header.Set("Content-Type", "text/event-stream; charset=utf-8")
	header.Set("X-Accel-Buffering", "no") // proxies must not buffer events
	_ = e.controller.SetReadDeadline(time.Time{})
	e.w.WriteHeader(http.StatusOK)
	return e.comment("braid")
}

// comment writes a line that clients ignore.
func (e *eventStream) comment(text string) error { return e.write([]byte(": " + text + "\n\n")) }

// event writes an event, with an id unless id is empty.
func (e *eventStream) event(name, id string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	return e.write(fmt.Appendf(nil, "event: %s\n%sdata: %s\n\n", name, id, data))
}

// write sends bytes at once. A client that does not accept them in time is disconnected.
// If a ResponseWriter does not support deadlines or flushing, write does without.
func (e *eventStream) write(text []byte) error {
	_ = e.controller.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := e.w.Write(text); err != nil {
		return err
	}
	if err := e.controller.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// events sends an event at once, and then whenever streams or shards have changed. Many
// changes in a row share one event. It ends with the database.
func (h *handler) events(e *eventStream, r *http.Request) error {
	if err := onlyParameters(r); err != nil {
		return err
	}
	if err := e.begin(); err != nil {
		return nil
	}
	alive := time.NewTicker(heartbeat)
	defer alive.Stop()
	for {
		changed := h.db.Changed()
		if _, err := h.db.Stream("-"); isClosed(err) {
			_ = e.event("end", "", failure{Error: err.Error(), Kind: "Closed"})
			return nil
		}
		if e.event("changed", "", struct{ Time time.Time }{time.Now()}) != nil || !pause(r.Context(), eventPause) {
			return nil
		}
		for waiting := true; waiting; {
			select {
			case <-changed:
				waiting = false
			case <-alive.C:
				if e.comment("still here") != nil {
					return nil
				}
			case <-r.Context().Done():
				return nil
			}
		}
	}
}

// pause reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// tail follows a stream or a shard for one client. A separate goroutine reads, so that
// for a slow client, or a low rate, records are left out instead of sent late. That
// goroutine ends with the context that send cancels, and send waits for it.
type tail struct {
	view  view
	log   log
	from  braid.Position
	all   bool
	quota int // records per window

	records iter.Seq2[braid.Record, error] // of log, from the time of the answer on

	waiting chan record // records to be sent; with all, the reader waits for room

	mu   sync.Mutex // guards the fields below
	left leftOut    // since the last left-out event
	err  error      // why the reader has ended
}

func (h *handler) tail(e *eventStream, r *http.Request) error {
	t, err := h.newTail(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	t.records = t.log.Follow(ctx, t.from) // before the answer, so that records put after the answer are shown
	if e.begin() == nil {
		t.send(ctx, cancel, e)
	}
	return nil
}

func (h *handler) newTail(r *http.Request) (*tail, error) {
	if err := onlyParameters(r, append([]string{"stream", "shard", "from", "rate"}, viewParameters...)...); err != nil {
		return nil, err
	}
	query := r.URL.Query()
	t := &tail{from: braid.Latest(), all: query.Get("rate") == "all"}
	s, err := h.db.Stream(query.Get("stream"))
	if err != nil {
		return nil, err
	}
	t.log = s
	if sh, err := shardOf(s, query.Get("shard")); err != nil {
		return nil, err
	} else if sh != nil {
		t.log = sh
	}
	rate, maxData := defaultTailRate, maxTailData
	if t.all {
		maxData = maxDataBytes
	} else if rate, err = number(r, "rate", defaultTailRate, 1, maxTailRate); err != nil {
		return nil, err
	}
	if t.view, err = viewOf(r, maxData); err != nil {
		return nil, err
	}
	if text := query.Get("from"); text != "" {
		if t.from, err = braid.ParsePosition(text); err != nil {
			return nil, err
		}
	}
	if text := r.Header.Get("Last-Event-ID"); text != "" {
		n, err := braid.ParseSequenceNumber(text)
		if err != nil {
			return nil, err
		}
		t.from = braid.AfterSequence(n)
	}
	t.quota = max(1, rate*int(tailWindow/time.Millisecond)/1000)
	if t.all {
		t.waiting = make(chan record)
	} else {
		t.waiting = make(chan record, t.quota)
	}
	return t, nil
}

// read follows the log and closes waiting when it ends.
func (t *tail) read(ctx context.Context) {
	defer close(t.waiting)
	for rec, err := range t.records {
		switch {
		case err != nil:
			t.mu.Lock()
			t.err = err
			t.mu.Unlock()
			return
		case !t.view.wants(&rec):
			continue
		case t.all:
			select {
			case t.waiting <- t.view.show(&rec):
			case <-ctx.Done():
				return
			}
			continue
		}
		if len(t.waiting) < cap(t.waiting) { // only this goroutine adds records
			t.waiting <- t.view.show(&rec)
			continue
		}
		t.mu.Lock()
		t.left.Records++
		t.left.Bytes += int64(rec.Size())
		t.mu.Unlock()
	}
}

// leftOut is an event with the number of records and bytes that were not sent.
type leftOut struct{ Records, Bytes int64 }

// takeLeftOut returns what was left out since the last call.
func (t *tail) takeLeftOut() leftOut {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.left
	t.left = leftOut{}
	return out
}

// send writes records as they come, until ctx or the log ends. When it has written a
// window's quota, it waits for the end of the window. Records are left out only while a
// whole quota waits, so another window always follows, at whose end they are reported.
func (t *tail) send(ctx context.Context, cancel context.CancelFunc, e *eventStream) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.read(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()
	alive := time.NewTicker(heartbeat)
	defer alive.Stop()
	var began time.Time // the window
	sent := 0
	for {
		select {
		case rec, ok := <-t.waiting:
			if !ok {
				t.end(e)
				return
			}
			if now := time.Now(); now.Sub(began) >= tailWindow {
				began, sent = now, 0
			}
			if e.event("record", rec.SequenceNumber.String(), rec) != nil {
				return
			}
			if sent++; t.all || sent < t.quota {
				continue
			}
			if !pause(ctx, time.Until(began.Add(tailWindow))) {
				return
			}
			if left := t.takeLeftOut(); left.Records > 0 && e.event("left-out", "", left) != nil {
				return
			}
		case <-alive.C:
			if e.comment("still here") != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// end tells the client why no more records follow.
func (t *tail) end(e *eventStream) {
	if left := t.takeLeftOut(); left.Records > 0 {
		_ = e.event("left-out", "", left)
	}
	t.mu.Lock()
	err := t.err
	t.mu.Unlock()
	if err == nil {
		_ = e.event("end", "", struct{}{})
		return
	}
	_, f := failureOf(err)
	_ = e.event("end", "", f)
}

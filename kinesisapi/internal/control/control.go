// Package control serves the control API under /_braid/. With it, tests and people outside
// the server's process look at streams, empty them, and make operations fail. None of it is
// part of Kinesis.
//
// Answers and the bodies of requests are JSON. An error is {"error": "..."} with a status
// of 4xx or 5xx. The endpoints:
//
//	GET    /_braid/                            a page of text about the API
//	GET    /_braid/ui/                         a page to view and change the data
//	GET    /_braid/health                      200 while the database works
//	GET    /_braid/ready                       200 while it accepts writes
//	GET    /_braid/streams                     the streams, their shards, records and bytes
//	GET    /_braid/streams/{name}              one of them
//	GET    /_braid/streams/{name}/records      reads some of its records
//	POST   /_braid/streams/{name}/truncate     removes its records
//	POST   /_braid/streams/{name}/reset        creates it again
//	POST   /_braid/reset                       deletes all streams, removes all faults
//	GET    /_braid/queues                      the queues, and the numbers of their records
//	GET    /_braid/faults                      the pending faults
//	POST   /_braid/faults                      adds one
//	DELETE /_braid/faults                      removes them
//	POST   /_braid/iterators/expire            expires all iterators
//	GET    /_braid/settings                    the settings of the server, and the limits of an account
//	PUT    /_braid/limits                      enforces the limits of Kinesis, or lifts them
//
// If accounts are separate, the parameters account and region select the streams; the
// defaults are the server's own. Only /_braid/reset without both means the streams of all
// accounts and regions.
//
// # Records
//
// GET /_braid/streams/{name}/records has these optional parameters:
//
//	shard    one shard; without it all shards, in the order of arrival
//	limit    the most records, 1 to 1000; 100 without it
//	order    oldest, the default, or newest: the last records, which also
//	         come in the order of arrival
//	after    a sequence number: only later records, from the oldest on
//
// The answer is {"records": [...], "more": true}. A record has its data in base64,
// and as text if it is UTF-8. An answer holds 4 MiB of data, or one record if that
// is larger; "more" says that records were left out. To go on, give the last
// sequence number as after.
//
// # Faults
//
// A fault is a JSON object. One of delay, error, entries, drop and redeliver is required:
//
//	operation   such as "PutRecords"; empty: any
//	times       how many calls take it; 1 by default
//	delay       such as "250ms": how long the call waits first, up to an hour
//	error       the name of the error that is answered in place of running the
//	            operation, such as "ProvisionedThroughputExceededException"
//	message     its text
//	entries     of PutRecords: the entries that fail, counted from 0; the others
//	            are put. Without error they exceed the throughput
//	drop        "before" or "after": the connection breaks before the operation
//	            runs, or when it has run
//	redeliver   of AcknowledgeQueueRecords: true makes the records come again, although
//	            the call succeeds
//
// Each call takes at most one fault, in the order in which they were added.
//
// # Safety
//
// Anyone who reaches these paths can use all of them. Web pages of other origins cannot;
// see CheckSite of package inspect. Requests that a browser marks as coming from another
// origin are refused. So are requests under a host name that is neither loopback nor one of
// ControlHosts, because a web site could make its own name resolve to this machine. Health
// and ready answer anyone.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/braidstream/braid"
	"github.com/braidstream/braid/inspect"
	"github.com/braidstream/braid/kinesisapi/internal/fault"
	"github.com/braidstream/braid/kinesisapi/internal/service"
)

// Prefix is the prefix of all paths.
const Prefix = "/_braid/"

// maxBodyBytes is the largest body of a request.
const maxBodyBytes = 64 << 10

// handler serves the control API of a database and its service.
type handler struct {
	db     *braid.DB
	svc    *service.Service
	script *fault.Script
	caller service.Caller // the default account and region

	settings Settings
}

// endpoint is a method and path of the API. Its answer is marshaled to JSON.
type endpoint struct {
	method, path, about string
	example             string // arguments for curl, before the URL
	query               string // of the example's URL
	answer              func(h *handler, r *http.Request) (any, error)
}

var endpoints = []endpoint{
	{"GET", "health", "200 while the database works, 503 when its storage has failed", "", "", (*handler).health},
	{"GET", "ready", "200 while the database accepts writes, else 503", "", "", (*handler).ready},
	{"GET", "streams", "the streams with their shards, records and bytes", "", "", (*handler).streams},
	{"GET", "streams/{name}", "one stream", "", "", (*handler).stream},
	{"GET", "streams/{name}/records", "reads records without removing them. Parameters: shard, limit, order, after", "", "?limit=10&order=newest", (*handler).records},
	{"POST", "streams/{name}/truncate", "removes the stream's records; its shards stay", "-X POST", "", (*handler).truncate},
	{"POST", "streams/{name}/reset", "creates the stream again, with the same settings and its original shards", "-X POST", "", (*handler).resetStream},
	{"POST", "reset", "deletes all streams, and removes all faults", "-X POST", "", (*handler).reset},
	{"GET", "queues", "the queues, and the numbers of their records", "", "", (*handler).queues},
	{"GET", "faults", "the pending faults", "", "", (*handler).faults},
	{"POST", "faults", "makes the next calls of an operation fail. Members: operation, times, error,\n  message, entries (of PutRecords, from 0), delay, drop (before or after), redeliver", `-d '{"operation":"PutRecord","times":2,"error":"ProvisionedThroughputExceededException"}'`, "", (*handler).addFault},
	{"DELETE", "faults", "removes the faults", "-X DELETE", "", (*handler).clearFaults},
	{"POST", "iterators/expire", "expires all shard iterators", "-X POST", "", (*handler).expire},
	{"GET", "settings", "the server's settings, and the limits of an account", "", "", (*handler).showSettings},
	{"PUT", "limits", "enforces the limits of Kinesis for all streams, or lifts them", `-X PUT -d '{"exact":true}'`, "", (*handler).limits},
}

// New returns the handler of all paths under [Prefix]. caller is the default account and
// region.
//
// Requests under host names that are neither loopback nor one of ControlHosts are refused.
// Live connections of the page end with ctx.
func New(ctx context.Context, db *braid.DB, svc *service.Service, script *fault.Script, caller service.Caller, settings Settings) http.Handler {
	h := &handler{db, svc, script, caller, settings}
	mux := http.NewServeMux()
	rest := h.serve(endpoints, h.page, "see GET "+Prefix)
	mux.HandleFunc(Prefix, func(w http.ResponseWriter, r *http.Request) {
		if err := inspect.CheckSite(r, settings.ControlHosts...); err != nil {
			writeError(w, r, &statusError{http.StatusForbidden, err.Error()})
			return
		}
		rest.ServeHTTP(w, r)
	})
	page := http.StripPrefix(Prefix+"ui", inspect.Handler(db, &inspect.Options{Writable: true, Hosts: settings.ControlHosts}))
	mux.HandleFunc(Prefix+"ui/", func(w http.ResponseWriter, r *http.Request) {
		live, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		page.ServeHTTP(w, r.WithContext(live))
	})
	probes := Health(db)
	mux.Handle(Prefix+"health", probes)
	mux.Handle(Prefix+"ready", probes)
	return mux
}

// Health returns a handler that serves only health and ready.
func Health(db *braid.DB) http.Handler {
	h := &handler{db: db}
	return h.serve(endpoints[:2], nil, "the control API is off here, except health and ready")
}

// serve returns the handler of some endpoints, and of a page that lists them.
func (h *handler) serve(endpoints []endpoint, page http.HandlerFunc, hint string) http.Handler {
	paths := make(map[string]map[string]http.HandlerFunc)
	add := func(path, method string, fn http.HandlerFunc) {
		if paths[path] == nil {
			paths[path] = make(map[string]http.HandlerFunc)
		}
		paths[path][method] = fn
	}
	for _, e := range endpoints {
		add(Prefix+e.path, e.method, func(w http.ResponseWriter, r *http.Request) {
			out, err := e.answer(h, r)
			if err != nil {
				writeError(w, r, err)
				return
			}
			writeJSON(w, http.StatusOK, out)
		})
	}
	if page != nil {
		add(Prefix+"{$}", http.MethodGet, page)
	}
	mux := http.NewServeMux()
	for path, methods := range paths {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			fn := methods[r.Method]
			if r.Method == http.MethodHead {
				fn = methods[http.MethodGet]
			}
			if fn == nil {
				allow := allowed(methods)
				w.Header().Set("Allow", allow)
				writeError(w, r, &statusError{http.StatusMethodNotAllowed, fmt.Sprintf("%s takes %s, not %s", r.URL.Path, allow, r.Method)})
				return
			}
			fn(w, r)
		})
	}
	mux.HandleFunc(Prefix, func(w http.ResponseWriter, r *http.Request) {
		writeError(w, r, &statusError{http.StatusNotFound, "there is no " + r.URL.Path + "; " + hint})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		mux.ServeHTTP(w, r)
	})
}

func allowed(methods map[string]http.HandlerFunc) string {
	var names []string
	for _, name := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if methods[name] != nil {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// page lists the endpoints, with examples for the address of the request.
func (h *handler) page(w http.ResponseWriter, r *http.Request) {
	base := "http://" + r.Host
	if r.TLS != nil {
		base = "https://" + r.Host
	}
	var text strings.Builder
	text.WriteString("The control API of braid-kinesis. Answers are JSON; an error is {\"error\": \"...\"}.\n" +
		"For a page in the browser, open " + base + Prefix + "ui/\n" +
		"If accounts are separate, ?account=...&region=... selects the streams.\n")
	for _, e := range endpoints {
		url := base + Prefix + strings.ReplaceAll(e.path, "{name}", "orders") + e.query
		if e.query != "" {
			url = "'" + url + "'"
		}
		arguments := e.example
		if arguments != "" {
			arguments += " "
		}
		fmt.Fprintf(&text, "\n%s %s%s\n  %s\n  curl %s%s\n", e.method, Prefix, e.path, e.about, arguments, url)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = io.WriteString(w, text.String())
}

// statusError is an error with its HTTP status.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

func badRequest(format string, args ...any) error {
	return &statusError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if r.Context().Err() != nil && status == http.StatusInternalServerError {
		return // the client is gone
	}
	writeJSON(w, status, map[string]string{"error": err.Error()})
}

// statusOf returns the HTTP status of an error.
func statusOf(err error) int {
	var own *statusError
	var e *service.Error
	switch {
	case errors.As(err, &own):
		return own.status
	case errors.As(err, new(*http.MaxBytesError)):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &e) && e.Type == "ResourceNotFoundException",
		errors.Is(err, braid.ErrStreamNotFound), errors.Is(err, braid.ErrShardNotFound):
		return http.StatusNotFound
	case errors.As(err, &e):
		return e.Status
	case errors.Is(err, braid.ErrTrimmed):
		return http.StatusGone
	case errors.Is(err, braid.ErrInvalidArgument), errors.Is(err, braid.ErrBeyondTip):
		return http.StatusBadRequest
	case errors.Is(err, braid.ErrReadOnly):
		return http.StatusForbidden
	case errors.Is(err, braid.ErrClosed), errors.Is(err, braid.ErrFailed), errors.Is(err, braid.ErrDiskFull), errors.Is(err, braid.ErrOutOfResources):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err) // the answers are structs of this package
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // an error means that the client hung up
}

// readJSON reads the body of a request. An unknown member is an error, because it is
// probably misspelt.
func readJSON(r *http.Request, value any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(value)
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errors.New("more than one JSON value")
		}
	}
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return err
	case errors.Is(err, io.EOF):
		return badRequest("the request has no body; it must be a JSON object")
	default:
		return badRequest("invalid body: %v", err)
	}
}

var (
	accountRule = regexp.MustCompile(`^\d{12}$`)
	regionRule  = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
)

// who returns the account and region that a request is about, and whether it names either.
func (h *handler) who(r *http.Request) (c service.Caller, said bool, err error) {
	c = h.caller
	query := r.URL.Query()
	if account := query.Get("account"); account != "" {
		if !accountRule.MatchString(account) {
			return c, false, badRequest("account %q is not 12 digits", account)
		}
		c.Account, said = account, true
	}
	if region := query.Get("region"); region != "" {
		if !regionRule.MatchString(region) {
			return c, false, badRequest("region %q is not 1 to 32 characters of a-z, 0-9 and '-'", region)
		}
		c.Region, said = region, true
	}
	return c, said, nil
}

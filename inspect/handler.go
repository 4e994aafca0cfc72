package inspect

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/braidstream/braid"
)

// Options are options of a [Handler]. The zero value, and a nil pointer, mean the
// defaults.
type Options struct {
	// Writable allows changes: to create and delete streams, to put records, to split and
	// merge shards, to change their number and the retention, to trim, to pause, resume and
	// seek applications, and to put back or discard dead letters. The default is read-only.
	Writable bool

	// Hosts are the host names, without ports, under which the handler is reached, such as
	// "braid.example.com". Loopback names and IP addresses are always allowed. Other names
	// are refused, since they may belong to a site that resolves its own name to this
	// machine.
	Hosts []string

	// Authorize, if it is not nil, decides on each request except those for healthz and
	// readyz. An error refuses the request with status 403 and the error's text; a
	// [Challenge] does so with status 401. A request that changes something has the method
	// POST; all others are GET. The path is relative to the handler, as in the package
	// documentation, and begins with a slash. Authorize is called from several goroutines at
	// once. For a live connection it is called once, at the beginning.
	Authorize func(r *http.Request) error
}

// Challenge is an error of [Options].Authorize that asks the client to authenticate. Its
// text is the WWW-Authenticate header, such as `Basic realm="braid"`.
type Challenge string

// Error names the challenge.
func (c Challenge) Error() string { return "authentication is required: " + string(c) }

// handler serves one database.
type handler struct {
	db   *braid.DB
	opts Options
	live chan struct{} // has one element for each live connection
}

// maxLive is the maximum number of live connections at the same time; each has a
// goroutine that reads.
const maxLive = 64

// Handler returns an HTTP handler with the page and the JSON API of a database. The
// caller still has to close the database. See the package documentation for where to
// mount the handler, and who can use it. Requests after the database was closed are
// answered with status 503; live connections end with the database.
func Handler(db *braid.DB, options *Options) http.Handler {
	h := &handler{db: db, live: make(chan struct{}, maxLive)}
	if options != nil {
		h.opts = *options
	}
	all := http.NewServeMux()
	h.routes(all)
	mux := http.NewServeMux()
	mux.Handle("/", h.guarded(all))
	// Probes may use any host name. Their answer is a single word.
	mux.Handle("/healthz", byMethod(map[string]http.HandlerFunc{"GET": h.endpoint((*handler).health)}))
	mux.Handle("/readyz", byMethod(map[string]http.HandlerFunc{"GET": h.endpoint((*handler).ready)}))
	return withHeaders(mux)
}

// routes registers all paths except those of probes.
func (h *handler) routes(mux *http.ServeMux) {
	for _, route := range []struct {
		path      string
		get, post answer
	}{
		{path: "info", get: (*handler).info},
		{path: "streams", get: (*handler).listStreams, post: (*handler).create},
		{path: "streams/{stream}", get: (*handler).describeStream},
		{path: "streams/{stream}/history", get: (*handler).history},
		{path: "streams/{stream}/records", get: (*handler).listRecords, post: (*handler).put},
		{path: "streams/{stream}/shards/{shard}/records", get: (*handler).listRecords},
		{path: "streams/{stream}/shards/{shard}/records/{sequence}", get: (*handler).oneRecord},
		{path: "streams/{stream}/split", post: (*handler).split},
		{path: "streams/{stream}/merge", post: (*handler).merge},
		{path: "streams/{stream}/scale", post: (*handler).scale},
		{path: "streams/{stream}/retention", post: (*handler).retention},
		{path: "streams/{stream}/trim", post: (*handler).trim},
		{path: "streams/{stream}/delete", post: (*handler).deleteStream},
		{path: "apps", get: (*handler).listApps},
		{path: "apps/{app}", get: (*handler).describeApp},
		{path: "apps/{app}/deadletters", get: (*handler).deadLetters},
		{path: "apps/{app}/deadletters/putback", post: (*handler).putBack},
		{path: "apps/{app}/pause", post: (*handler).pause},
		{path: "apps/{app}/resume", post: (*handler).resume},
		{path: "apps/{app}/seek", post: (*handler).seek},
		{path: "queues", get: (*handler).listQueues},
		{path: "queues/{queue}", get: (*handler).describeQueue},
		{path: "queues/{queue}/deadletters", get: (*handler).queueDeadLetters},
		{path: "queues/{queue}/restore", post: (*handler).restore},
		{path: "queues/{queue}/discard", post: (*handler).discard},
		{path: "storage", get: (*handler).storage},
	} {
		methods := make(map[string]http.HandlerFunc)
		if route.get != nil {
			methods["GET"] = h.endpoint(route.get)
		}
		if route.post != nil {
			methods["POST"] = h.endpoint(changing(route.post))
		}
		mux.Handle("/api/"+route.path, byMethod(methods))
	}
	mux.Handle("/api/tail", byMethod(map[string]http.HandlerFunc{"GET": h.whileLive(h.tail)}))
	mux.Handle("/api/events", byMethod(map[string]http.HandlerFunc{"GET": h.whileLive(h.events)}))
	mux.Handle("/{$}", byMethod(map[string]http.HandlerFunc{"GET": page}))
	mux.Handle("/static/", byMethod(map[string]http.HandlerFunc{"GET": static}))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, r, &statusError{
			http.StatusNotFound, "NotFound",
			"there is no " + r.URL.Path + " here; the handler must be mounted with http.StripPrefix",
		})
	})
}

// answer returns the answer to a request, which is marshaled to JSON.
type answer func(h *handler, r *http.Request) (any, error)

// endpoint turns an answer into an HTTP handler.
func (h *handler) endpoint(fn answer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		out, err := fn(h, r)
		if err != nil {
			writeError(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, out)
	}
}

// byMethod calls the handler for the request's method. HEAD counts as GET.
func byMethod(methods map[string]http.HandlerFunc) http.HandlerFunc {
	allow := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		fn := methods[method]
		if fn == nil {
			w.Header().Set("Allow", allow)
			writeError(w, r, &statusError{http.StatusMethodNotAllowed, "MethodNotAllowed", r.URL.Path + " takes " + allow + ", not " + r.Method})
			return
		}
		fn(w, r)
	}
}

// guarded refuses requests of other sites, and requests that the application refuses.
func (h *handler) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := CheckSite(r, h.opts.Hosts...); err != nil {
			writeError(w, r, err)
			return
		}
		if h.opts.Authorize != nil {
			if err := h.opts.Authorize(r); err != nil {
				writeError(w, r, refusal(w, err))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// withHeaders restricts what browsers may do with the answers: the page runs only scripts
// of this handler, connects only to it, and cannot be shown in a frame of another site,
// which could misdirect clicks.
func withHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "+
			"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func (h *handler) health(*http.Request) (any, error) {
	if _, err := h.db.Stream("-"); isClosed(err) {
		return nil, err
	}
	if err := h.db.Metrics().Failed; err != nil {
		return nil, err
	}
	return map[string]string{"Status": "ok"}, nil
}

func (h *handler) ready(r *http.Request) (any, error) {
	if h.db.Metrics().DiskFull {
		return nil, braid.ErrDiskFull
	}
	return h.health(r)
}

// info is what a client needs to know first.
type info struct {
	Time     time.Time
	Writable bool
	Limits   limits
}

type limits struct{ Records, Shards, Streams, Apps, Queues, LookedAt, DataBytes, TailRate, Live int }

func (h *handler) info(*http.Request) (any, error) {
	return info{time.Now(), h.opts.Writable, limits{
		Records: maxRecords, Shards: maxShards, Streams: maxStreams, Apps: maxApps, Queues: maxQueues,
		LookedAt: maxLookedAt, DataBytes: maxDataBytes, TailRate: maxTailRate, Live: maxLive,
	}}, nil
}

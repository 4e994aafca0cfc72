package inspect_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/braidstream/braid/inspect"
)

func TestOtherSitesAreRefused(t *testing.T) {
	k := newKit(t, &inspect.Options{Writable: true, Hosts: []string{"Braid.Example.com"}})
	k.stream("s", 1)
	for _, row := range []struct {
		name, host string
		header     map[string]string
		kind       string // the kind of the refusal; empty if allowed
	}{
		{"a program", "localhost:8080", nil, ""},
		{"without a port", "localhost", nil, ""},
		{"a name below localhost", "app.localhost:8080", nil, ""},
		{"an address", "192.0.2.7:8080", nil, ""},
		{"an address of IPv6", "[::1]:8080", nil, ""},
		{"an address of IPv6 without a port", "[2001:db8::1]", nil, ""},
		{"a listed name", "braid.example.com:8080", nil, ""},
		{"a listed name with its dot", "BRAID.example.com.", nil, ""},
		{"a rebound name", "evil.example.com:8080", nil, "Host"},
		{"a name that begins like a listed one", "braid.example.com.evil.example", nil, "Host"},
		{"a name that ends like localhost", "notlocalhost", nil, "Host"},
		{"no name", "", nil, "Host"},
		{"an address with a suffix", "127.0.0.1.evil.example", nil, "Host"},

		{"the page itself", "localhost:8080", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:8080"}, ""},
		{"typed by a user", "localhost:8080", map[string]string{"Sec-Fetch-Site": "none"}, ""},
		{"another site", "localhost:8080", map[string]string{"Sec-Fetch-Site": "cross-site"}, "Origin"},
		{"another port", "localhost:8080", map[string]string{"Sec-Fetch-Site": "same-site"}, "Origin"},
		{"another origin", "localhost:8080", map[string]string{"Origin": "https://evil.example"}, "Origin"},
		{"the origin of another port", "localhost:8080", map[string]string{"Origin": "http://localhost:3000"}, "Origin"},
		{"an opaque origin", "localhost:8080", map[string]string{"Origin": "null"}, "Origin"},
		{"an origin that is none", "localhost:8080", map[string]string{"Origin": "http://%zz"}, "Origin"},
		{"behind a proxy that changes the host", "localhost:8080", map[string]string{"Origin": "https://braid.example.com"}, ""},
		{"an image of another site", "localhost:8080", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, "Origin"},
		{"a frame of another site", "localhost:8080", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, "Origin"},
		{"a link of another site", "localhost:8080", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, path := range []string{"/", "/api/streams", "/static/app.js"} {
				r := k.request("GET", path, nil)
				r.Host = row.host
				for name, value := range row.header {
					r.Header.Set(name, value)
				}
				w := k.do(r)
				if row.kind == "" {
					require.Equal(t, http.StatusOK, w.Code, "%s %s", path, w.Body)
				} else {
					k.refused(w, http.StatusForbidden, row.kind, row.header["Origin"])
				}
			}
			r := k.request("POST", "/api/streams/s/trim", map[string]string{"Before": "LATEST"})
			r.Host = row.host
			for name, value := range row.header {
				r.Header.Set(name, value)
			}
			if w := k.do(r); row.kind == "" && row.header["Sec-Fetch-Mode"] == "" {
				require.Equal(t, http.StatusOK, w.Code, "%s", w.Body)
			} else {
				require.Equal(t, http.StatusForbidden, w.Code, "a form of another site")
			}
		})
	}
}

func TestProbesAnswerUnderAnyName(t *testing.T) {
	k := newKit(t, &inspect.Options{Authorize: func(*http.Request) error { return inspect.Challenge("Basic") }})
	probe := func(path string) *httptest.ResponseRecorder {
		r := k.request("GET", path, nil)
		r.Host = "pod-7.cluster"
		return k.do(r)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		require.Equal(t, `{"Status":"ok"}`+"\n", probe(path).Body.String())
	}
	k.refused(k.do(k.request("POST", "/healthz", nil)), http.StatusMethodNotAllowed, "MethodNotAllowed", "GET")
	require.NoError(t, k.db.Close())
	for _, path := range []string{"/healthz", "/readyz"} {
		k.refused(probe(path), http.StatusServiceUnavailable, "Closed", "closed")
	}
}

// No other site may show the page in a frame, run a script on it, or guess a type.
func TestBrowsersAreToldWhatIsAllowed(t *testing.T) {
	k := newKit(t, nil)
	for _, path := range []string{"/", "/static/app.js", "/api/streams", "/api/none", "/healthz"} {
		header := k.do(k.request("GET", path, nil)).Header()
		csp := header.Get("Content-Security-Policy")
		require.Contains(t, csp, "default-src 'none'; script-src 'self'", path)
		require.Contains(t, csp, "frame-ancestors 'none'")
		require.NotContains(t, csp, "unsafe")
		require.Equal(t, "nosniff", header.Get("X-Content-Type-Options"))
		require.Equal(t, "same-origin", header.Get("Cross-Origin-Resource-Policy"))
		require.Empty(t, header.Get("Access-Control-Allow-Origin"))
	}
}

func TestTheApplicationDecides(t *testing.T) {
	k := newKit(t, &inspect.Options{Writable: true, Authorize: func(r *http.Request) error {
		user, password, ok := r.BasicAuth()
		switch {
		case !ok || password != "secret":
			return inspect.Challenge(`Basic realm="braid"`)
		case user != "admin" && r.Method == http.MethodPost:
			return http.ErrNotSupported
		}
		return nil
	}})
	k.stream("s", 1)
	trim := func() *http.Request {
		return k.request("POST", "/api/streams/s/trim", map[string]string{"Before": "LATEST"})
	}
	as := func(r *http.Request, user string) *http.Request {
		r.SetBasicAuth(user, "secret")
		return r
	}
	for _, path := range []string{"/", "/api/info", "/api/tail?stream=s", "/static/app.js", "/nothing"} {
		w := k.do(k.request("GET", path, nil))
		k.refused(w, http.StatusUnauthorized, "Unauthorized", "Basic")
		require.Equal(t, `Basic realm="braid"`, w.Header().Get("WWW-Authenticate"))
	}
	require.Equal(t, http.StatusOK, k.do(as(k.request("GET", "/api/info", nil), "guest")).Code)
	k.refused(k.do(as(trim(), "guest")), http.StatusForbidden, "Forbidden", "not supported")
	require.Equal(t, http.StatusOK, k.do(as(trim(), "admin")).Code)
}

package inspect

import (
	"embed"
	"net/http"
	"path"
	"strings"
)

// web has the page: HTML, style and JavaScript modules, which browsers load without a
// build step.
//
//go:embed web
var web embed.FS

// page serves the page itself, at the handler's root.
func page(w http.ResponseWriter, r *http.Request) { serveFile(w, r, "index.html") }

// static serves the files that the page loads.
func static(w http.ResponseWriter, r *http.Request) {
	serveFile(w, r, strings.TrimPrefix(r.URL.Path, "/static/"))
}

var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// serveFile serves a file. Its type does not depend on the types that the machine knows.
// Browsers request it again each time, since it may differ in the next build.
func serveFile(w http.ResponseWriter, r *http.Request, name string) {
	text, err := web.ReadFile("web/" + name)
	kind := contentTypes[path.Ext(name)]
	if err != nil || kind == "" {
		writeError(w, r, &statusError{http.StatusNotFound, "NotFound", "there is no " + r.URL.Path})
		return
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(text)
}

package server

import (
	"io"
	"net/http"
	"time"
)

// Bounds are how long a client may take to send the body of a request, from the end of
// its headers on, and to read the answer, from its first byte on. Zero or less is for
// ever. Where the HTTP server has a ReadTimeout or WriteTimeout, that one holds.
type Bounds struct{ Body, Answer time.Duration }

// Wrap returns a handler that does what another one does, within the bounds.
func (b Bounds) Wrap(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.receive(w, r)
		handler.ServeHTTP(&boundedWriter{ResponseWriter: w, request: r, bounds: b}, r)
	})
}

// receive bounds how long the request's body may take. What is left of a body that is
// not read to its end stays bounded: the HTTP server reads some of that itself.
func (b Bounds) receive(w http.ResponseWriter, r *http.Request) {
	if b.Body <= 0 || r.Body == nil || r.Body == http.NoBody {
		return
	}
	if server := serverOf(r); server != nil && server.ReadTimeout > 0 {
		return
	}
	// Of what cannot do it, such as a recorder, nobody is slow.
	controller := http.NewResponseController(w)
	if controller.SetReadDeadline(time.Now().Add(b.Body)) == nil {
		r.Body = &boundedBody{r.Body, controller}
	}
}

// answering bounds how long the client may take to read the answer. It is called just
// before the first byte: what comes before takes as long as it takes. The HTTP server
// lifts the bound when the answer is out.
func (b Bounds) answering(w http.ResponseWriter, r *http.Request) {
	if b.Answer <= 0 {
		return
	}
	if server := serverOf(r); server != nil && server.WriteTimeout > 0 {
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(b.Answer))
}

func serverOf(r *http.Request) *http.Server {
	server, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	return server
}

// boundedBody is a body that is to arrive within a bound.
type boundedBody struct {
	io.ReadCloser
	controller *http.ResponseController
}

// Read is part of io.Reader. At the end it lifts the bound: over HTTP/1.1 the server
// goes on reading, to see whether the client hangs up, and takes a deadline for that.
func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF { //nolint:errorlint // as io.Reader has it
		_ = b.controller.SetReadDeadline(time.Time{})
	}
	return n, err
}

// boundedWriter is an answer that is to be read within a bound.
type boundedWriter struct {
	http.ResponseWriter
	request *http.Request
	bounds  Bounds
	begun   bool
}

func (w *boundedWriter) begin() {
	if !w.begun {
		w.begun = true
		w.bounds.answering(w.ResponseWriter, w.request)
	}
}

func (w *boundedWriter) WriteHeader(status int) {
	w.begin()
	w.ResponseWriter.WriteHeader(status)
}

func (w *boundedWriter) Write(p []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(p)
}

// Unwrap lets [http.ResponseController] find what it controls.
func (w *boundedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

package server

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// Bounds limits how long a client may take to send the body of a request, counted from the
// end of its headers, and to read the answer, counted from its first byte. Zero or less
// means no limit. A ReadTimeout or WriteTimeout of the HTTP server takes precedence.
type Bounds struct{ Body, Answer time.Duration }

// Wrap returns a handler that calls another one within the bounds.
func (b Bounds) Wrap(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if bounded := b.receive(w, r); bounded != nil {
			// Use a copy of r. The HTTP server looks at the body in its own request to decide whether
			// it may leave the body unread.
			own := *r
			own.Body = &boundedBody{r.Body, bounded}
			r = &own
		}
		handler.ServeHTTP(&boundedWriter{ResponseWriter: w, request: r, bounds: b}, r)
	})
}

// receive limits how long the request's body may take. The caller passes the result to
// received once it has read the body; nil means that there is no limit. If the caller does
// not read the body to its end, the limit still applies to the rest: the HTTP server reads
// some of it itself.
func (b Bounds) receive(w http.ResponseWriter, r *http.Request) *http.ResponseController {
	if b.Body <= 0 || r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	if server := serverOf(r); server != nil && server.ReadTimeout > 0 {
		return nil
	}
	bounded := http.NewResponseController(w)
	if bounded.SetReadDeadline(time.Now().Add(b.Body)) != nil {
		return nil // this ResponseWriter has no deadlines: a recorder, or a wrapper without Unwrap
	}
	return bounded
}

// received lifts the limit after the body was read to its end. Over HTTP/1.1 the server
// keeps reading to see whether the client hangs up, and would take an expired deadline for
// a hang-up.
func received(bounded *http.ResponseController) {
	if bounded != nil {
		_ = bounded.SetReadDeadline(time.Time{})
	}
}

// answering limits how long the client may take to read the answer. It is called just
// before the first byte, because the operation itself has no limit. The HTTP server lifts
// the limit when the answer is sent.
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

// boundedBody is a request body with a time limit.
type boundedBody struct {
	io.ReadCloser
	bounded *http.ResponseController
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		received(b.bounded)
	}
	return n, err
}

// boundedWriter writes an answer that the client must read within a time limit.
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
